//! host → owner and role, by the longest suffix that ends at a label boundary; and the registrable domain.

use std::{borrow::Cow, collections::HashMap, net::IpAddr};

use serde::Deserialize;

use super::Host;

const BUILT_IN: &str = include_str!("../../data/domains.toml");
/// RFC 1035 section 2.3.4: the longest name.
const MAX_NAME: usize = 255;
/// The most rows a file of the owner may add.
const MAX_ROWS: usize = 100_000;

/// Why a host list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not TOML, or a field is missing, unknown or of another type.
    #[error("host list: {0}")]
    Toml(String),
    /// A suffix that no host can have.
    #[error("host list, [[host]] number {row}: suffix {suffix:?} is no host name in lower case")]
    Suffix {
        /// Which of them, from 1.
        row: usize,
        /// As written.
        suffix: String,
    },
    /// More than can be meant.
    #[error("host list: {0} rows, at most {MAX_ROWS} are taken")]
    TooMany(usize),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    host: Vec<FileRow>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRow {
    suffix: String,
    owner: String,
    cc: Option<String>,
    role: Option<String>,
    #[serde(rename = "region")]
    _region: Option<String>,
    #[serde(rename = "decodable")]
    _decodable: Option<String>,
    #[serde(rename = "source")]
    _source: Option<String>,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Who owns the names.
    pub owner: Box<str>,
    /// The owner's country.
    pub cc: Option<Box<str>>,
    /// What the hosts are for.
    pub role: Option<Box<str>>,
}

/// Who owns which host names.
#[derive(Debug, Clone, Default)]
pub struct Domains {
    rows: HashMap<Box<str>, Row>,
}

impl Domains {
    /// The rows that are part of the program.
    pub fn built_in() -> Domains {
        let mut domains = Domains::default();
        // A test reads the same file and fails when it is wrong.
        let read = domains.add(BUILT_IN);
        debug_assert!(read.is_ok(), "{read:?}");
        domains
    }

    /// Adds the rows of a file in the format of `data/domains.toml`; a row replaces the one of the same suffix. Returns how
    /// many there were.
    ///
    /// # Errors
    /// [`Error`]; nothing was added then.
    pub fn add(&mut self, text: &str) -> Result<usize, Error> {
        let file: File = toml::from_str(text).map_err(|error| Error::Toml(error.to_string()))?;
        if file.host.len() > MAX_ROWS {
            return Err(Error::TooMany(file.host.len()));
        }
        for (index, row) in file.host.iter().enumerate() {
            let suffix = row.suffix.as_str();
            let label =
                |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase());
            if suffix.len() > MAX_NAME || !suffix.split('.').all(label) {
                return Err(Error::Suffix { row: index.saturating_add(1), suffix: suffix.to_owned() });
            }
        }
        let count = file.host.len();
        for row in file.host {
            let role = row.role.map(String::into_boxed_str);
            let cc = row.cc.map(String::into_boxed_str);
            self.rows
                .insert(row.suffix.into_boxed_str(), Row { owner: row.owner.into_boxed_str(), cc, role });
        }
        Ok(count)
    }

    /// The row that speaks for a name: the longest suffix. Allocates nothing. The name must be in lower case.
    pub fn row(&self, name: &str) -> Option<&Row> {
        if name.len() > MAX_NAME {
            return None;
        }
        let mut rest = name;
        loop {
            if let Some(row) = self.rows.get(rest) {
                return Some(row);
            }
            rest = rest.split_once('.')?.1;
        }
    }

    /// Everything that is known of a name. An address literal has neither domain nor owner.
    pub fn host(&self, name: &str) -> Host {
        let name = normal(name);
        if address(&name).is_some() {
            return Host { name: name.into_owned(), ..Host::default() };
        }
        let row = self.row(&name);
        // A row for a whole domain says who owns it, a row for one host also what it is for; owner and role may stand in two.
        Host {
            domain: registrable(&name).map(str::to_owned),
            owner: row.map(|row| row.owner.to_string()),
            owner_cc: row.and_then(|row| row.cc.as_deref()).map(str::to_owned),
            role: row.and_then(|row| row.role.as_deref()).map(str::to_owned),
            name: name.into_owned(),
        }
    }
}

/// The domain its owner registered: one label more than the public suffix. Allocates nothing.
pub fn registrable(name: &str) -> Option<&str> {
    if name.len() > MAX_NAME || !name.contains('.') || address(name).is_some() {
        return None;
    }
    psl::domain_str(name)
}

/// The public suffix of a name, `co.uk`; none of an address literal or where none is known.
pub fn public_suffix(name: &str) -> Option<&str> {
    if name.len() > MAX_NAME || address(name).is_some() {
        return None;
    }
    let suffix = psl::suffix(name.as_bytes()).filter(psl::Suffix::is_known)?;
    str::from_utf8(suffix.as_bytes()).ok()
}

/// The address a host that is no name stands for, with or without the brackets of RFC 3986 section 3.2.2.
pub fn address(name: &str) -> Option<IpAddr> {
    name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name).parse().ok()
}

/// Lower case, without the root's dot.
fn normal(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_rows_are_read_and_each_has_a_source() {
        let mut domains = Domains::default();
        let count = domains.add(BUILT_IN).unwrap();
        assert_eq!(count, domains.rows.len(), "a suffix stands twice");
        assert!(count > 200, "{count}");
        assert_eq!(BUILT_IN.lines().filter(|line| line.starts_with("source = \"")).count(), count);
    }

    #[test]
    fn the_longest_suffix_at_a_label_boundary_decides() {
        let domains = Domains::built_in();
        let host = domains.host("SA.api.intl.miui.com.");
        assert_eq!(host.name, "sa.api.intl.miui.com");
        assert_eq!(host.domain.as_deref(), Some("miui.com"));
        assert_eq!((host.owner.as_deref(), host.owner_cc.as_deref()), (Some("Xiaomi"), Some("CN")));
        assert_eq!(host.role.as_deref(), Some("analytics_sensors"));
        let other = domains.host("update2.miui.com");
        assert_eq!((other.owner.as_deref(), other.role.as_deref()), (Some("Xiaomi"), None));
        assert_eq!(domains.host("amiui.com").owner, None);
        assert_eq!(domains.host("miui.com.example.org").owner, None);
        assert_eq!(domains.host("www.google.com").role.as_deref(), Some("search"));
    }

    #[test]
    fn public_suffixes_and_addresses() {
        let domains = Domains::built_in();
        for (name, domain) in [
            ("a.b.example.co.uk", Some("example.co.uk")),
            ("me.github.io", Some("me.github.io")),
            ("co.uk", None),
            ("localhost", None),
            ("", None),
            ("192.0.2.7", None),
            ("[2001:db8::1]", None),
            ("2001:db8::1", None),
        ] {
            assert_eq!(domains.host(name).domain.as_deref(), domain, "{name}");
        }
        assert_eq!(public_suffix("clinic.example.org"), Some("org"));
        let long = format!("{}.miui.com", "a".repeat(300));
        assert_eq!((domains.host(&long).owner, domains.host(&long).domain), (None, None));
    }

    #[test]
    fn the_owners_rows_come_first_and_a_bad_row_is_named() {
        let mut domains = Domains::built_in();
        domains.add("[[host]]\nsuffix='sa.api.intl.miui.com'\nowner='Somebody'\n").unwrap();
        assert_eq!(domains.host("sa.api.intl.miui.com").owner.as_deref(), Some("Somebody"));
        let before = domains.rows.len();
        let error = domains
            .add("[[host]]\nsuffix='ok.org'\nowner='a'\n[[host]]\nsuffix='.Bad'\nowner='b'\n")
            .unwrap_err();
        assert_eq!(error, Error::Suffix { row: 2, suffix: ".Bad".into() });
        let error =
            domains.add("[[host]]\nsuffix='ok.org'\nowner='a'\ncolour='red'\n").unwrap_err().to_string();
        assert!(error.contains("colour"), "{error}");
        assert_eq!(domains.rows.len(), before);
    }
}
