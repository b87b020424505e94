//! Known telemetry protocols as data: the rows of `data/protocols.toml`, checked while they are read.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use regex_lite::Regex;
use serde::Deserialize;

const BUILTIN: &str = include_str!("../../data/protocols.toml");

/// The telemetry protocols that can be recognised, built in and added.
#[derive(Debug, Clone, Default)]
pub struct Protocols {
    pub(super) rows: Vec<Row>,
    by_host: HashMap<String, Vec<usize>>,
    any_host: Vec<usize>,
}

/// What is wrong with a file of protocols.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not TOML, or no list of `[[protocol]]`.
    #[error("protocols: not a list of [[protocol]] rows: {0}")]
    File(String),
    /// One row is wrong.
    #[error(
        "protocol row `{row}`, field `{field}`: {reason}; see the head of data/protocols.toml for the format"
    )]
    Row {
        /// The row's id, or its number when it has none.
        row: String,
        /// The field at fault.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// One step of a decode recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Form(String),
    Query(String),
    Header(String),
    Body,
    Base64,
    Hex,
    Gunzip,
    Json,
    AesEcb(String),
    AesCbc(String, String),
    Before(u8),
}

impl Step {
    /// Whether what the step gives depends on a key, and with it on the row.
    pub(super) fn needs_key(&self) -> bool {
        matches!(self, Step::AesEcb(_) | Step::AesCbc(..))
    }
}

/// Where a key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// The first characters of an MD5 in hex, over a text with `{field}`s.
    Md5 { text: String, first: usize },
    /// Known bytes.
    Fixed(Vec<u8>),
    /// Taken out of the message.
    Steps(Vec<Step>),
}

/// A condition on a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct When {
    pub(super) field: Step,
    pub(super) value: String,
}

/// A checksum that proves the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Crc {
    pub(super) value: Step,
    pub(super) of: Step,
    pub(super) prefix: String,
}

/// The envelope of sealed events.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sealed {
    pub(super) keys: Vec<String>,
    pub(super) count: String,
    #[serde(default)]
    pub(super) show: Vec<String>,
}

/// One protocol, ready to be matched.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) methods: Vec<String>,
    pub(super) hosts: Vec<String>,
    pub(super) host_regex: Option<Regex>,
    pub(super) path_regex: Option<Regex>,
    pub(super) needs_one_of: Vec<String>,
    pub(super) fields: Vec<String>,
    pub(super) headers: Vec<String>,
    pub(super) when: Vec<When>,
    pub(super) recipes: Vec<Vec<Step>>,
    pub(super) keys: Vec<(String, Key)>,
    pub(super) crc: Vec<Crc>,
    pub(super) sealed: Option<Sealed>,
    pub(super) readable_if: Option<When>,
    pub(super) unreadable: Option<String>,
    pub(super) no_content: bool,
    pub(super) sender: Option<Step>,
}

/// A row as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRow {
    id: String,
    name: String,
    source: String,
    owner: Option<String>,
    note: Option<String>,
    #[serde(default)]
    methods: Vec<String>,
    #[serde(default)]
    hosts: Vec<String>,
    host_regex: Option<String>,
    path_regex: Option<String>,
    #[serde(default)]
    needs_one_of: Vec<String>,
    #[serde(default)]
    fields: Vec<String>,
    #[serde(default)]
    headers: Vec<String>,
    #[serde(default)]
    when: Vec<String>,
    #[serde(default)]
    decode: Vec<String>,
    #[serde(default)]
    decode_alt: Vec<String>,
    #[serde(default)]
    keys: Vec<RawKey>,
    #[serde(default)]
    crc: Vec<RawCrc>,
    sealed: Option<Sealed>,
    readable_if: Option<String>,
    unreadable: Option<String>,
    #[serde(default)]
    no_content: bool,
    sender: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    name: String,
    md5: Option<String>,
    first: Option<usize>,
    hex: Option<String>,
    ascii: Option<String>,
    steps: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCrc {
    value: String,
    of: String,
    #[serde(default)]
    prefix: String,
}

impl Protocols {
    /// The rows that come with the program.
    pub fn builtin() -> Protocols {
        // A test holds that the file parses; without it recognition would be poorer, not wrong.
        Protocols::parse(BUILTIN).unwrap_or_default()
    }

    /// Reads rows in the format of `data/protocols.toml`.
    ///
    /// # Errors
    /// [`Error`] names the row and the field that is wrong; then nothing of the file is taken.
    pub fn parse(text: &str) -> Result<Protocols, Error> {
        let mut table: toml::Table =
            text.parse().map_err(|e: toml::de::Error| Error::File(e.message().to_owned()))?;
        let rows = match table.remove("protocol") {
            Some(toml::Value::Array(rows)) => rows,
            None => Vec::new(),
            Some(_) => return Err(Error::File("`protocol` is not a list".to_owned())),
        };
        if let Some(key) = table.keys().next() {
            return Err(Error::File(format!("unknown table `{key}`")));
        }
        let rows = rows
            .into_iter()
            .enumerate()
            .map(|(number, row)| Row::from_toml(number, row))
            .collect::<Result<Vec<_>, _>>()?;
        let mut protocols = Protocols { rows, ..Protocols::default() };
        protocols.index();
        Ok(protocols)
    }

    /// Adds rows; a row of an id already there replaces it, new ones are asked first.
    pub fn merge(&mut self, other: Protocols) {
        let mut new = Vec::new();
        for row in other.rows {
            match self.rows.iter_mut().find(|r| r.id == row.id) {
                Some(old) => *old = row,
                None => new.push(row),
            }
        }
        new.append(&mut self.rows);
        self.rows = new;
        self.index();
    }

    /// The ids of all rows, in the order they are asked.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(|row| row.id.as_str())
    }

    fn index(&mut self) {
        self.by_host.clear();
        self.any_host.clear();
        for (number, row) in self.rows.iter().enumerate() {
            for host in &row.hosts {
                self.by_host.entry(host.clone()).or_default().push(number);
            }
            if row.hosts.is_empty() {
                self.any_host.push(number);
            }
        }
    }

    /// The rows that could be meant by a message to `host`, in the order they are asked.
    pub(super) fn for_host(&self, host: &str) -> impl Iterator<Item = &Row> {
        let named = self.by_host.get(host).map(Vec::as_slice).unwrap_or_default();
        let regex = self.any_host.iter().filter(move |number| {
            self.rows.get(**number).is_some_and(|r| r.host_regex.as_ref().is_none_or(|h| h.is_match(host)))
        });
        named.iter().chain(regex).filter_map(|number| self.rows.get(*number))
    }
}

impl Row {
    fn from_toml(number: usize, row: toml::Value) -> Result<Row, Error> {
        let id = match row.get("id") {
            Some(toml::Value::String(id)) => id.clone(),
            _ => format!("#{}", number + 1),
        };
        let wrong =
            |field: &str, reason: String| Error::Row { row: id.clone(), field: field.to_owned(), reason };
        let raw: RawRow = row.try_into().map_err(|e: toml::de::Error| {
            let reason = e.message().to_owned();
            let field = reason.split('`').nth(1).unwrap_or("?").to_owned();
            Error::Row { row: id.clone(), field, reason }
        })?;
        let regex = |field: &str, text: Option<String>| {
            text.map(|t| Regex::new(&t).map_err(|e| wrong(field, e.to_string()))).transpose()
        };
        let step = |field: &str, text: &str| Step::parse(text).map_err(|reason| wrong(field, reason));
        let steps = |field: &str, texts: &[String]| {
            texts.iter().map(|text| step(field, text)).collect::<Result<Vec<_>, _>>()
        };
        let when = |field: &str, text: &str| {
            let (place, value) =
                text.split_once('=').ok_or_else(|| wrong(field, format!("`{text}` has no `=`")))?;
            Ok(When { field: step(field, place)?, value: value.to_owned() })
        };
        for (field, text) in [("id", &raw.id), ("name", &raw.name), ("source", &raw.source)] {
            if text.trim().is_empty() {
                return Err(wrong(field, "is empty".to_owned()));
            }
        }
        // Read for the error they give when they are not text; people read them in the file.
        let _ = (raw.owner, raw.note);
        let keys = raw
            .keys
            .into_iter()
            .map(|key| {
                let name = key.name.clone();
                let made = match (key.md5, key.first, key.hex, key.ascii, key.steps) {
                    (Some(text), first, None, None, None) => {
                        Key::Md5 { text, first: first.unwrap_or(32).min(32) }
                    }
                    (None, None, Some(hex), None, None) => Key::Fixed(
                        super::text::unhex(hex.as_bytes())
                            .ok_or_else(|| wrong("keys", format!("`{name}`: not hex")))?,
                    ),
                    (None, None, None, Some(ascii), None) => Key::Fixed(ascii.into_bytes()),
                    (None, None, None, None, Some(texts)) => Key::Steps(steps("keys", &texts)?),
                    _ => {
                        return Err(wrong(
                            "keys",
                            format!("`{name}` needs exactly one of md5, hex, ascii, steps"),
                        ));
                    }
                };
                Ok((name, made))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let crc = raw
            .crc
            .into_iter()
            .map(|crc| {
                Ok(Crc { value: step("crc", &crc.value)?, of: step("crc", &crc.of)?, prefix: crc.prefix })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let mut recipes = Vec::new();
        for (field, texts) in [("decode", &raw.decode), ("decode_alt", &raw.decode_alt)] {
            if !texts.is_empty() {
                recipes.push(steps(field, texts)?);
            }
        }
        let declared = |name: &String| keys.iter().any(|(known, _)| known == name);
        for used in recipes.iter().flatten().flat_map(Step::keys) {
            if !declared(used) {
                return Err(wrong("decode", format!("key `{used}` is not among its keys")));
            }
        }
        Ok(Row {
            methods: raw.methods,
            hosts: raw.hosts.iter().map(|h| h.to_ascii_lowercase()).collect(),
            host_regex: regex("host_regex", raw.host_regex)?,
            path_regex: regex("path_regex", raw.path_regex)?,
            needs_one_of: raw.needs_one_of,
            fields: raw.fields,
            headers: raw.headers.iter().map(|h| h.to_ascii_lowercase()).collect(),
            when: raw.when.iter().map(|w| when("when", w)).collect::<Result<_, _>>()?,
            recipes,
            keys,
            crc,
            sealed: raw.sealed,
            readable_if: raw.readable_if.map(|w| when("readable_if", &w)).transpose()?,
            unreadable: raw.unreadable,
            no_content: raw.no_content,
            sender: raw.sender.map(|s| step("sender", &s)).transpose()?,
            name: raw.name,
            id: raw.id,
        })
    }
}

impl Step {
    /// Reads `name` or `name(argument)`.
    fn parse(text: &str) -> Result<Step, String> {
        let (name, argument) = match text.split_once('(') {
            Some((name, rest)) => {
                (name, rest.strip_suffix(')').ok_or_else(|| format!("`{text}` has no closing bracket"))?)
            }
            None => (text, ""),
        };
        let owned = || argument.to_owned();
        Ok(match (name, argument) {
            ("form", a) if !a.is_empty() => Step::Form(owned()),
            ("query", a) if !a.is_empty() => Step::Query(owned()),
            ("header", a) if !a.is_empty() => Step::Header(a.to_ascii_lowercase()),
            ("body", "") => Step::Body,
            ("b64" | "b64url", "") => Step::Base64,
            ("hex", "") => Step::Hex,
            ("gunzip", "auto") => Step::Gunzip,
            ("json", "") => Step::Json,
            ("aes_ecb", a) if !a.is_empty() => Step::AesEcb(owned()),
            ("aes_cbc", a) => {
                let (key, iv) =
                    a.split_once(',').ok_or_else(|| format!("`{text}` needs a key and a vector"))?;
                Step::AesCbc(key.trim().to_owned(), iv.trim().to_owned())
            }
            ("before", a) => match a.as_bytes() {
                [byte] if byte.is_ascii() => Step::Before(*byte),
                _ => return Err(format!("`{text}` needs one ASCII character")),
            },
            _ => return Err(format!("unknown step `{text}`")),
        })
    }

    /// The names of the keys it uses.
    fn keys(&self) -> impl Iterator<Item = &String> {
        match self {
            Step::AesEcb(key) => [Some(key), None],
            Step::AesCbc(key, iv) => [Some(key), Some(iv)],
            _ => [None, None],
        }
        .into_iter()
        .flatten()
    }
}
