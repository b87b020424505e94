//! The data files of this room: what known telemetry says where, which identifiers there are, what an owner asks for.
//! The formats are described at the head of each file in `daemon/data/`.

use toml::{Table, Value};

use super::{
    Asked, Error, Kind,
    fields::{Fields, Weight},
    path::Path,
    shape::Check,
};

/// The files that are part of the program.
const BUILT_IN: &[(&str, &str)] = &[
    ("dictionary.toml", include_str!("../../data/dictionary.toml")),
    ("identifiers.toml", include_str!("../../data/identifiers.toml")),
    ("asked.toml", include_str!("../../data/asked.toml")),
];

/// Everything the data files say.
#[derive(Debug, Clone, Default)]
pub struct Data {
    pub(crate) families: Vec<Family>,
    pub(crate) rows: Vec<Row>,
    pub(crate) shapes: Vec<ShapeRow>,
    pub(crate) identifiers: Vec<Identifier>,
    pub(crate) composites: Vec<Composite>,
    pub(crate) algorithms: Vec<String>,
    pub(crate) encodings: Vec<String>,
    pub(crate) nothing: Vec<String>,
    pub(crate) common_names: Vec<String>,
    pub(crate) country_codes: Vec<String>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) report_roles: Vec<String>,
    pub(crate) report_packages: Vec<String>,
    pub(crate) own_apps: Vec<String>,
    pub(crate) own_keys: Vec<String>,
    pub(crate) form_keys: Vec<String>,
    pub(crate) own_paths: Vec<String>,
    pub(crate) not_tokens: Vec<String>,
    pub(crate) not_token_ends: Vec<String>,
}

/// A family of protocols with the same payload.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    pub(crate) id: String,
    pub(crate) protocols: Vec<String>,
    pub(crate) events: Vec<EventSpec>,
    pub(crate) params: Option<Path>,
    pub(crate) senders: Vec<At>,
}

/// Where a family keeps its events.
#[derive(Debug, Clone)]
pub(crate) struct EventSpec {
    pub(crate) each: Path,
    pub(crate) name: Path,
    pub(crate) sender: Option<Path>,
}

/// Where a row's field is.
#[derive(Debug, Clone)]
pub(crate) enum At {
    /// The event's name itself.
    Event,
    /// From the event.
    Inside(Path),
    /// From the payload's root.
    Root(Path),
    /// A form field of the request.
    Form(String),
    /// A header of the request.
    Header(String),
    /// The query, all of it.
    Query,
    /// The body, all of it.
    Body,
}

/// How a row's value is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Take {
    Text,
    Parts(String),
    Position(String, String),
    Opened,
    UsageTime,
    Span,
    Leaves,
    Packages,
    DeviceQuery,
}

/// One field of a known protocol.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) family: String,
    pub(crate) events: Vec<String>,
    pub(crate) at: Vec<At>,
    pub(crate) host: Option<String>,
    pub(crate) kind: Kind,
    pub(crate) weight: Weight,
    pub(crate) equals: Option<String>,
    pub(crate) take: Take,
    pub(crate) show: Vec<Path>,
    pub(crate) others: bool,
    pub(crate) form: Option<String>,
    pub(crate) shows: String,
    #[allow(dead_code, reason = "read by the test that composes a request for every row")]
    pub(crate) source: String,
}

/// A telling key outside known protocols.
#[derive(Debug, Clone)]
pub(crate) struct ShapeRow {
    pub(crate) keys: Vec<String>,
    pub(crate) check: Check,
    pub(crate) kind: Kind,
    pub(crate) weight: Weight,
    pub(crate) shows: String,
}

/// One of this phone's identifiers.
#[derive(Debug, Clone)]
pub(crate) struct Identifier {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) weight: Weight,
    pub(crate) truth: Vec<String>,
    pub(crate) plain: Vec<String>,
    pub(crate) hashed: Vec<String>,
    pub(crate) read: Vec<String>,
}

/// Several identifiers joined and hashed.
#[derive(Debug, Clone)]
pub(crate) struct Composite {
    pub(crate) form: String,
    pub(crate) kind: Kind,
    pub(crate) weight: Weight,
    pub(crate) parts: Vec<String>,
    pub(crate) algorithms: Vec<String>,
}

/// Whether the owner asked for it.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) asked: Asked,
    /// Empty: every kind.
    pub(crate) kinds: Vec<Kind>,
    pub(crate) app_roles: Vec<String>,
    /// Parts of package names, for apps that no row knows.
    pub(crate) app_words: Vec<String>,
    pub(crate) host_roles: Vec<String>,
    /// Labels of host names, for hosts that no row knows.
    pub(crate) host_words: Vec<String>,
    pub(crate) hosts: Vec<String>,
    pub(crate) paths: Vec<String>,
    pub(crate) telemetry: bool,
    pub(crate) same_owner: bool,
    pub(crate) reason: String,
}

impl Data {
    /// The keys of a truth file that hold values of a kind.
    pub(crate) fn truth_keys(&self, kind: Kind) -> impl Iterator<Item = &str> {
        let named = self.identifiers.iter().filter(move |identifier| identifier.kind == kind);
        named.filter_map(|identifier| identifier.truth.first()).map(String::as_str)
    }

    /// What is part of the program.
    ///
    /// # Errors
    /// Never in a build whose tests pass; [`Error`] names the row otherwise.
    pub fn built_in() -> Result<Data, Error> {
        let mut data = Data::default();
        for (file, text) in BUILT_IN {
            data.add(file, text)?;
        }
        Ok(data)
    }

    /// Adds the tables of one more file. Its rules come before those already there; nothing is added when it has an error.
    ///
    /// # Errors
    /// [`Error::NotToml`], or [`Error::Row`] with the row and the field.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), Error> {
        let root: Table = text.parse().map_err(|error: toml::de::Error| Error::NotToml {
            file: file.into(),
            problem: error.to_string(),
        })?;
        let mut new = Data::default();
        for (table, value) in &root {
            let rows: Vec<&Table> = match value {
                Value::Array(items) => items.iter().filter_map(Value::as_table).collect(),
                Value::Table(one) => vec![one],
                _ => Vec::new(),
            };
            if rows.is_empty() {
                return Err(Fields::new(file, table, 0, &root).error(table, "is no table"));
            }
            for (index, row) in rows.into_iter().enumerate() {
                new.read(Fields::new(file, table, index + 1, row), table)?;
            }
        }
        new.rules.append(&mut self.rules);
        self.rules = new.rules;
        self.families.append(&mut new.families);
        self.rows.append(&mut new.rows);
        self.shapes.append(&mut new.shapes);
        self.identifiers.append(&mut new.identifiers);
        self.composites.append(&mut new.composites);
        for (mine, theirs) in [
            (&mut self.algorithms, new.algorithms),
            (&mut self.encodings, new.encodings),
            (&mut self.nothing, new.nothing),
            (&mut self.common_names, new.common_names),
            (&mut self.country_codes, new.country_codes),
            (&mut self.report_roles, new.report_roles),
            (&mut self.report_packages, new.report_packages),
            (&mut self.own_apps, new.own_apps),
            (&mut self.own_keys, new.own_keys),
            (&mut self.form_keys, new.form_keys),
            (&mut self.own_paths, new.own_paths),
            (&mut self.not_tokens, new.not_tokens),
            (&mut self.not_token_ends, new.not_token_ends),
        ] {
            mine.extend(theirs);
        }
        Ok(())
    }

    fn read(&mut self, row: Fields<'_>, table: &str) -> Result<(), Error> {
        row.text("source")?;
        match table {
            "family" => self.families.push(family(&row)?),
            "row" => self.rows.push(field_row(&row)?),
            "shape" => self.shapes.push(shape_row(&row)?),
            "identifier" => self.identifiers.push(identifier(&row)?),
            "composite" => self.composites.push(composite(&row)?),
            "rule" => self.rules.push(rule(&row)?),
            "hashes" => {
                self.algorithms = known(&row, "algorithms", &["md5", "sha1", "sha256"])?;
                let encodings = ["hex", "base64", "base64url", "middle16", "base64url16", "raw"];
                self.encodings = known(&row, "encodings", &encodings)?;
            }
            "nothing" => self.nothing = row.some_texts("values")?,
            "wifi" => self.common_names = row.some_texts("common")?,
            "phone" => self.country_codes = row.some_texts("country_codes")?,
            "reports" => {
                self.report_roles = row.texts("roles")?;
                self.report_packages = row.texts("packages")?;
            }
            "own_words" => {
                self.own_apps = row.texts("apps")?;
                self.own_keys = row.texts("keys")?;
                self.form_keys = row.texts("form_keys")?;
                self.own_paths = row.texts("paths")?;
            }
            "not_tokens" => {
                self.not_tokens = row.texts("keys")?;
                self.not_token_ends = row.texts("ends")?;
            }
            _ => return Err(row.error(table, "is no table of this format")),
        }
        row.finish()
    }
}

fn path(row: &Fields<'_>, field: &str, text: &str) -> Result<Path, Error> {
    Path::parse(text).map_err(|problem| row.error(field, format!("{text}: {problem}")))
}

fn known(row: &Fields<'_>, field: &'static str, words: &[&str]) -> Result<Vec<String>, Error> {
    let texts = row.texts(field)?;
    match texts.iter().find(|text| !words.contains(&text.as_str())) {
        None => Ok(texts),
        Some(text) => Err(row.error(field, format!("{text} is none of {}", words.join(", ")))),
    }
}

fn family(row: &Fields<'_>) -> Result<Family, Error> {
    let events = row
        .tables("events")?
        .into_iter()
        .map(|table| {
            let inner = |key: &str| table.get(key).and_then(Value::as_str);
            let needed =
                |key: &str| inner(key).ok_or_else(|| row.error("events", format!("{key} is missing")));
            Ok(EventSpec {
                each: path(row, "events", needed("each")?)?,
                name: path(row, "events", needed("name")?)?,
                sender: inner("sender").map(|text| path(row, "events", text)).transpose()?,
            })
        })
        .collect::<Result<_, Error>>()?;
    Ok(Family {
        id: row.text("id")?.into(),
        protocols: row.some_texts("protocols")?,
        events,
        params: row.optional("params")?.map(|text| path(row, "params", text)).transpose()?,
        senders: row
            .texts("sender")?
            .iter()
            .map(|text| match at(row, "sender", text)? {
                At::Inside(path) => Ok(At::Root(path)),
                other => Ok(other),
            })
            .collect::<Result<_, Error>>()?,
    })
}

fn at(row: &Fields<'_>, field: &str, text: &str) -> Result<At, Error> {
    Ok(match text {
        "event" => At::Event,
        "query" => At::Query,
        "body" => At::Body,
        _ => match (text.strip_prefix('/'), text.strip_prefix("form:"), text.strip_prefix("header:")) {
            (Some(root), _, _) => At::Root(path(row, field, root)?),
            (_, Some(name), _) => At::Form(name.into()),
            (_, _, Some(name)) => At::Header(name.into()),
            _ => At::Inside(path(row, field, text)?),
        },
    })
}

fn take(row: &Fields<'_>) -> Result<Take, Error> {
    let Some(text) = row.optional("take")? else { return Ok(Take::Text) };
    let (word, argument) = text.split_once(':').unwrap_or((text, ""));
    Ok(match word {
        "parts" if !argument.is_empty() => Take::Parts(argument.into()),
        "position" => match argument.split_once(',') {
            Some((lat, lon)) => Take::Position(lat.into(), lon.into()),
            None => return Err(row.error("take", "position needs its two keys, as in position:lat,lon")),
        },
        "opened" => Take::Opened,
        "usage_time" => Take::UsageTime,
        "span" => Take::Span,
        "leaves" => Take::Leaves,
        "packages" => Take::Packages,
        "device_query" => Take::DeviceQuery,
        _ => return Err(row.error("take", format!("{text} is no way to take a value"))),
    })
}

fn field_row(row: &Fields<'_>) -> Result<Row, Error> {
    Ok(Row {
        family: row.text("protocol")?.into(),
        events: row.texts("event")?,
        at: row.some_texts("at")?.iter().map(|text| at(row, "at", text)).collect::<Result<_, _>>()?,
        host: row.optional("host")?.map(str::to_owned),
        kind: row.kind()?,
        weight: row.weight()?,
        equals: row.optional("equals")?.map(str::to_owned),
        take: take(row)?,
        show: row.texts("show")?.iter().map(|text| path(row, "show", text)).collect::<Result<_, _>>()?,
        others: row.flag("others")?.unwrap_or(false),
        form: row.optional("form")?.map(str::to_owned),
        shows: row.text("shows")?.into(),
        source: row.text("source")?.into(),
    })
}

fn shape_row(row: &Fields<'_>) -> Result<ShapeRow, Error> {
    let name = row.text("shape")?;
    Ok(ShapeRow {
        keys: row.some_texts("keys")?.iter().map(|key| key.to_ascii_lowercase()).collect(),
        check: Check::from_name(name).ok_or_else(|| row.error("shape", format!("{name} is no shape")))?,
        kind: row.kind()?,
        weight: row.weight()?,
        shows: row.text("shows")?.into(),
    })
}

fn identifier(row: &Fields<'_>) -> Result<Identifier, Error> {
    let spellings = [
        "as_is",
        "lower",
        "upper",
        "digits14",
        "colons",
        "dashes",
        "bare",
        "unpadded",
        "no_dashes",
        "no_leading_zeros",
        "decimal",
        "meid_decimal",
        "quoted",
        "e164",
        "digits",
        "national",
        "national_zero",
        "zero_zero",
    ];
    row.optional("shape")?;
    Ok(Identifier {
        name: row.text("name")?.into(),
        kind: row.kind()?,
        weight: row.weight()?,
        truth: known(row, "truth", super::truth::KEYS)?,
        plain: known(row, "plain", &spellings)?,
        hashed: known(row, "hashed", &spellings)?,
        read: row.texts("read")?,
    })
}

fn composite(row: &Fields<'_>) -> Result<Composite, Error> {
    Ok(Composite {
        form: row.text("form")?.into(),
        kind: row.kind()?,
        weight: row.weight()?,
        parts: row.some_texts("parts")?,
        algorithms: known(row, "algorithms", &["md5", "sha1", "sha256"])?,
    })
}

fn rule(row: &Fields<'_>) -> Result<Rule, Error> {
    let mut kinds = Vec::new();
    for name in row.some_texts("kind")? {
        if name != "*" {
            kinds
                .push(Kind::from_name(&name).ok_or_else(|| row.error("kind", format!("{name} is no kind")))?);
        }
    }
    Ok(Rule {
        asked: match row.text("asked")? {
            "yes" => Asked::Yes,
            "likely" => Asked::Likely,
            "no" => Asked::No,
            "unknown" => Asked::Unknown,
            other => return Err(row.error("asked", format!("{other} is none of yes, likely, no, unknown"))),
        },
        kinds,
        app_roles: row.texts("app_role")?,
        app_words: row.texts("app_word")?,
        host_roles: row.texts("host_role")?,
        host_words: row.texts("host_word")?,
        hosts: row.texts("host")?,
        paths: row.texts("path")?,
        telemetry: row.flag("telemetry")?.unwrap_or(false),
        same_owner: row.flag("same_owner")?.unwrap_or(false),
        reason: row.text("reason")?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_row_parses_and_speaks_of_a_family_that_exists() {
        let data = Data::built_in().unwrap();
        assert!(
            data.rows.len() > 140 && data.shapes.len() >= 13,
            "{} {}",
            data.rows.len(),
            data.shapes.len()
        );
        for row in &data.rows {
            assert!(
                row.family == "any" || data.families.iter().any(|f| f.id == row.family),
                "{}",
                row.family
            );
        }
        for composite in &data.composites {
            for part in &composite.parts {
                assert!(data.identifiers.iter().any(|i| i.truth.contains(part)), "{part}");
            }
        }
        let truth_keys: Vec<_> = data.identifiers.iter().flat_map(|i| &i.truth).collect();
        for key in super::super::truth::KEYS {
            assert!(truth_keys.iter().any(|k| k == key), "no identifier row reads the truth key {key}");
        }
    }

    #[test]
    fn an_error_names_file_row_and_field_and_adds_nothing() {
        let mut data = Data::built_in().unwrap();
        let before = data.rows.len();
        let good = "[[row]]\nprotocol = \"sensors\"\nat = \"a.b\"\nkind = \"music\"\nseverity = \"low\"\nshows = \"x\"\nsource = \"y\"\n";
        for (bad, field) in [
            (good.replace("a.b", "a..b"), "at"),
            (good.replace("music", "musik"), "kind"),
            (good.replace("low", "loud"), "severity"),
            (good.replace("shows", "showz"), "shows"),
            (good.replace("source = \"y\"", ""), "source"),
            (format!("{good}take = \"guess\"\n"), "take"),
            (format!("{good}colour = \"red\"\n"), "colour"),
            (good.replace("\"x\"", "3"), "shows"),
        ] {
            let error = data.add("mine.toml", &format!("{good}{bad}")).unwrap_err().to_string();
            assert!(error.contains("mine.toml") && error.contains('2') && error.contains(field), "{error}");
        }
        assert_eq!(data.rows.len(), before);
        data.add("mine.toml", good).unwrap();
        assert_eq!(data.rows.len(), before + 1);
        assert!(matches!(data.add("m", "[[row"), Err(Error::NotToml { .. })));
        assert!(matches!(data.add("m", "[[colour]]\nsource = \"x\"\n"), Err(Error::Row { .. })));
    }
}
