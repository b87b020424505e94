//! Telling keys outside known protocols: a key that says `latitude` counts only with a value that is one.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{
    Kind, Witness,
    candidate::{Candidate, Place, Reason},
    data::{Data, ShapeRow},
    needles::is_nothing,
    path::{KeyFilter, get, text_of},
    position, take,
};
use crate::unwrap::Value;

/// Longer texts are documents, not names or searches.
const MAX_TEXT: usize = 300;

/// Keys of rows are at most this long.
const LONGEST_KEY: usize = 32;

/// The check a value must pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    WifiName,
    Mac,
    NetworkList,
    Position,
    SearchText,
    ForeignUrl,
    Text,
    Number,
    PackageList,
    Identifier,
    Phone,
    Flag,
}

impl Check {
    /// The check that data files call so.
    pub(crate) fn from_name(name: &str) -> Option<Check> {
        Some(match name {
            "wifi_name" => Check::WifiName,
            "mac" => Check::Mac,
            "network_list" => Check::NetworkList,
            "position" => Check::Position,
            "search_text" => Check::SearchText,
            "foreign_url" => Check::ForeignUrl,
            "text" => Check::Text,
            "number" => Check::Number,
            "package_list" => Check::PackageList,
            "identifier" => Check::Identifier,
            "phone" => Check::Phone,
            "flag" => Check::Flag,
            _ => return None,
        })
    }
}

/// The rows by key.
#[derive(Debug)]
pub(crate) struct Shapes {
    rows: Vec<ShapeRow>,
    by_key: HashMap<Box<[u8]>, usize, RandomState>,
    /// (latitude key, longitude key, row)
    pairs: HashMap<Box<[u8]>, Vec<(String, usize)>, RandomState>,
    known: KeyFilter,
    longest: usize,
}

impl Shapes {
    /// Compiles the rows.
    pub(crate) fn new(data: &Data) -> Shapes {
        let mut by_key = HashMap::default();
        let mut pairs: HashMap<Box<[u8]>, Vec<(String, usize)>, RandomState> = HashMap::default();
        let (mut known, mut longest) = (KeyFilter::default(), 0);
        for (index, row) in data.shapes.iter().enumerate() {
            for key in &row.keys {
                longest = longest.max(key.len());
                known.insert(key.split_once('+').map_or(key.as_str(), |(lat, _)| lat).as_bytes());
                match key.split_once('+') {
                    Some((lat, lon)) => {
                        pairs.entry(lat.as_bytes().into()).or_default().push((lon.into(), index))
                    }
                    None => {
                        by_key.insert(key.as_bytes().into(), index);
                        // The same in camel case: pageUrl, searchTerm, androidId.
                        if key.contains('_') {
                            let joined = key.replace('_', "");
                            known.insert(joined.as_bytes());
                            by_key.entry(joined.into_bytes().into()).or_insert(index);
                        }
                    }
                }
            }
        }
        Shapes { rows: data.shapes.clone(), by_key, pairs, known, longest }
    }

    /// True when a row speaks of this key, so that the rest of the work is worth doing.
    pub(crate) fn knows(&self, key: &str) -> bool {
        let mut buffer = [0; LONGEST_KEY];
        self.known.may_have(key.as_bytes())
            && self
                .lower(key, &mut buffer)
                .is_some_and(|key| self.by_key.contains_key(key) || self.pairs.contains_key(key))
    }

    fn lower<'b>(&self, key: &str, buffer: &'b mut [u8; LONGEST_KEY]) -> Option<&'b [u8]> {
        let lower = buffer.get_mut(..key.len()).filter(|_| key.len() <= self.longest)?;
        lower.copy_from_slice(key.as_bytes());
        lower.make_ascii_lowercase();
        Some(lower)
    }

    /// What a key and its value say. `other` gives the value of another key beside it.
    pub(crate) fn examine<'s, 'o>(
        &'s self,
        key: &str,
        value: &Value,
        other: impl Fn(&str) -> Option<&'o str>,
        site: &Site<'_>,
        place: impl Fn() -> Place,
        out: &mut Vec<Candidate<'s>>,
    ) {
        let mut buffer = [0; LONGEST_KEY];
        let Some(lower) = self.lower(key, &mut buffer) else { return };
        if let Some(row) = self.by_key.get(lower).and_then(|index| self.rows.get(*index)) {
            for (kind, value, form) in check(row, lower, value, site) {
                out.push(candidate(row, kind, value, form, place()));
            }
        }
        for (lon, index) in self.pairs.get(lower).into_iter().flatten() {
            let found = text_of(value)
                .zip(other(lon))
                .and_then(|(lat, lon)| Some((position::pair(lat, lon)?, lat, lon)));
            if let (Some(((position, scaled), lat, lon)), Some(row)) = (found, self.rows.get(*index)) {
                let mut candidate = candidate(row, row.kind, position.to_string(), None, place());
                candidate.raw = scaled.then(|| format!("{lat},{lon}").into());
                candidate.position = Some(position);
                out.push(candidate);
                break;
            }
        }
    }
}

/// What the checks must know of the message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) host: Option<&'a str>,
    pub(crate) domain: Option<&'a str>,
    pub(crate) data: &'a Data,
    /// The body is a sign-in or a form that the owner filled in.
    pub(crate) form: bool,
}

fn candidate<'s>(
    row: &'s ShapeRow,
    kind: Kind,
    value: String,
    form: Option<&'static str>,
    place: Place,
) -> Candidate<'s> {
    Candidate {
        kind,
        value: value.into(),
        form,
        raw: None,
        by: Witness::Shape,
        weight: row.weight,
        place,
        why: Reason::Shape(&row.shows).into(),
        sender: None,
        others: kind == Kind::InstalledApps,
        own_words: false,
        position: None,
    }
}

/// The kinds and values of what passes.
fn check(
    row: &ShapeRow,
    key: &[u8],
    value: &Value,
    site: &Site<'_>,
) -> Vec<(Kind, String, Option<&'static str>)> {
    let text =
        text_of(value).map(str::trim).filter(|text| text.len() <= MAX_TEXT && !is_nothing(text, site.data));
    let flag = matches!(text_of(value), Some("true" | "1"));
    let one = |text: &str| vec![(row.kind, text.to_owned(), None)];
    match (row.check, text) {
        (Check::Flag, _) if flag => one("true"),
        (Check::PackageList, _) => {
            let found = packages(value);
            if found.len() < 3 {
                return Vec::new();
            }
            found.into_iter().map(|package| (row.kind, package, None)).collect()
        }
        (Check::NetworkList, _) => networks(value).map(|list| one(&list)).unwrap_or_default(),
        (Check::WifiName, Some(text)) if is_name(text) => one(text),
        (Check::Mac, Some(text)) if is_mac(text) => one(text),
        (Check::SearchText, Some(text)) if is_search(text) => one(text),
        (Check::ForeignUrl, Some(text)) if is_foreign(text, site) => one(&take::without_userinfo(text)),
        (Check::Text, Some(text)) if is_prose(text) => one(text),
        (Check::Number, Some(text)) if text.parse::<f64>().is_ok() => one(text),
        (Check::Phone, Some(text)) if !site.form && is_phone(text) => one(text),
        (Check::Identifier, Some(text)) => {
            let key = std::str::from_utf8(key).unwrap_or("");
            identifier(key, text).map(|(kind, form)| vec![(kind, text.to_owned(), form)]).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

fn packages(value: &Value) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut add = |text: &str| {
        for package in take::packages(text) {
            if found.len() < 256 && !found.iter().any(|known| known == package) {
                found.push(package.to_owned());
            }
        }
    };
    match value {
        Value::List(items) => {
            for item in items {
                match item {
                    Value::Map(entries) => entries.iter().filter_map(|(_, v)| text_of(v)).for_each(&mut add),
                    _ => text_of(item).into_iter().for_each(&mut add),
                }
            }
        }
        _ => text_of(value).into_iter().for_each(&mut add),
    }
    found
}

/// A list of two or more networks, as `a, b, c`.
fn networks(value: &Value) -> Option<String> {
    let name = |item: &Value| -> Option<String> {
        let named = |key| get(item, key).and_then(text_of);
        let text = text_of(item)
            .or_else(|| ["ssid", "SSID", "bssid", "BSSID", "mac", "name"].into_iter().find_map(named));
        text.filter(|text| is_mac(text) || is_name(text)).map(str::to_owned)
    };
    let names: Vec<String> = match value {
        Value::List(items) => items.iter().take(64).filter_map(name).collect(),
        _ => text_of(value)?
            .split([',', ';', '|', ' '])
            .filter(|part| is_mac(part))
            .map(str::to_owned)
            .collect(),
    };
    (names.len() >= 2).then(|| names.join(", "))
}

fn is_name(text: &str) -> bool {
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let word = ["true", "false", "yes", "no", "on", "off", "wifi", "mobile", "connected", "disconnected"];
    letters > 0
        && text.chars().count() <= 32
        && !text.contains(['{', '[', '<'])
        && !text.contains("://")
        && !word.contains(&text.to_ascii_lowercase().as_str())
}

/// Six octets with separators, not one of the placeholders.
pub(crate) fn is_mac(text: &str) -> bool {
    let bytes = text.as_bytes();
    let separator = bytes.get(2).copied();
    bytes.len() == 17
        && matches!(separator, Some(b':' | b'-'))
        && bytes.iter().enumerate().all(|(index, byte)| {
            if index % 3 == 2 { Some(*byte) == separator } else { byte.is_ascii_hexdigit() }
        })
        && !["02:00:00:00:00:00", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"]
            .contains(&text.replace('-', ":").to_ascii_lowercase().as_str())
}

fn is_search(text: &str) -> bool {
    let one_line = !text.contains(['\n', '\r', '{', '}', '<', '>', '\0']);
    one_line && text.chars().any(char::is_alphabetic) && !text.contains("://") && !is_opaque(text)
}

fn is_prose(text: &str) -> bool {
    text.chars().any(char::is_alphabetic)
        && !text.contains(['{', '}', '<', '>'])
        && !text.contains("://")
        && !is_opaque(text)
}

/// One long word of letters and digits mixed: a token, not words.
fn is_opaque(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    text.len() >= 16 && !text.contains(' ') && digits * 6 >= text.len()
}

fn is_foreign(text: &str, site: &Site<'_>) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host =
        authority.rsplit('@').next().unwrap_or("").split(':').next().unwrap_or("").to_ascii_lowercase();
    let domain = site.domain.or_else(|| site.host.map(last_two)).unwrap_or("");
    host.contains('.') && (domain.is_empty() || !super::judge::is_host(&host, domain))
}

fn last_two(host: &str) -> &str {
    let mut dots = host.rmatch_indices('.');
    match dots.nth(1) {
        Some((at, _)) => host.get(at + 1..).unwrap_or(host),
        None => host,
    }
}

fn is_phone(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    (text.starts_with('+') || text.starts_with("00"))
        && (8..=15).contains(&digits.len())
        && text.chars().all(|c| c.is_ascii_digit() || "+ -()".contains(c))
}

/// The identifier a key names, when the value has its shape; beside it the hash it travels as.
fn identifier(key: &str, text: &str) -> Option<(Kind, Option<&'static str>)> {
    let all = |test: fn(&u8) -> bool| text.bytes().all(|byte| test(&byte));
    let hex = all(u8::is_ascii_hexdigit);
    let digits = all(u8::is_ascii_digit);
    let varied = text.bytes().any(|byte| Some(byte) != text.bytes().next());
    let kind = match key {
        "imei" | "imei1" | "imei2" => Kind::Imei,
        "meid" => Kind::Meid,
        "imsi" => Kind::Imsi,
        "iccid" => Kind::Iccid,
        "serial" => Kind::Serial,
        "mac" => Kind::Mac,
        "android_id" | "androidid" => Kind::AndroidId,
        _ => Kind::AdId,
    };
    let plain = match kind {
        Kind::Imei => digits && ((text.len() == 15 && luhn(text)) || text.len() == 14 || text.len() == 16),
        Kind::Meid => hex && text.len() == 14,
        Kind::Imsi => digits && matches!(text.len(), 14 | 15),
        Kind::Iccid => text.starts_with("89") && matches!(text.len(), 19 | 20) && digits,
        Kind::Serial => {
            matches!(text.len(), 8..=16)
                && all(u8::is_ascii_alphanumeric)
                && text.bytes().any(|b| b.is_ascii_digit())
        }
        Kind::Mac => is_mac(text),
        Kind::AndroidId => hex && matches!(text.len(), 13..=16),
        _ => is_uuid(text) || (hex && text.len() == 16),
    };
    if !varied {
        return None;
    }
    if plain {
        return Some((kind, None));
    }
    let form = match text.len() {
        32 if hex => "md5",
        40 if hex => "sha1",
        64 if hex => "sha256",
        _ => return None,
    };
    Some((kind, Some(form)))
}

/// 8-4-4-4-12 hexadecimal digits.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// ISO/IEC 7812-1 annex B.
pub(crate) fn luhn(digits: &str) -> bool {
    let sum = digits.bytes().rev().enumerate().try_fold(0_u32, |sum, (index, byte)| {
        let digit = u32::from(byte.checked_sub(b'0').filter(|digit| *digit < 10)?);
        let doubled = if index % 2 == 1 { digit * 2 } else { digit };
        Some(sum + doubled / 10 + doubled % 10)
    });
    sum.is_some_and(|sum| sum % 10 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_by_key_and_shape() {
        for (key, text, kind) in [
            ("imei", "490154203237518", Kind::Imei),
            ("imei2", "0eaed834a1e6f4b2bf0c024e0013dea1", Kind::Imei),
            ("meid", "A00000112B3C4D", Kind::Meid),
            ("iccid", "8935101234567890124", Kind::Iccid),
            ("mac", "34:CE:00:12:34:56", Kind::Mac),
            ("gaid", "3b6d7f2a-91c4-4e0b-8a57-6c1d2e3f4a5b", Kind::AdId),
            ("android_id", "9f3c2b7a1d4e5f60", Kind::AndroidId),
        ] {
            assert_eq!(identifier(key, text).map(|(kind, _)| kind), Some(kind), "{key}");
        }
        for (key, text) in [
            ("imei", "490154203237519"),
            ("imei", "000000000000000"),
            ("mac", "02:00:00:00:00:00"),
            ("gaid", "not-an-id"),
            ("serial", "episode"),
            ("iccid", "1234"),
            ("mac", "macintosh"),
        ] {
            assert_eq!(identifier(key, text), None, "{key} {text}");
        }
    }

    #[test]
    fn luhn_digits() {
        assert!(luhn("490154203237518") && luhn("356938035643809") && !luhn("490154203237519") && !luhn("x"));
    }

    #[test]
    fn another_site_only() {
        let data = Data::built_in().unwrap();
        let site = Site { host: Some("api.shop.example"), domain: None, data: &data, form: false };
        assert!(is_foreign("https://clinic.example.org/x", &site));
        assert!(!is_foreign("https://img.shop.example/x", &site));
        assert!(!is_foreign("ftp://clinic.example.org", &site));
        assert!(!is_foreign("https://localhost/", &site));
    }
}
