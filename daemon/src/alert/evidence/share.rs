//! Records to show to others: the owner's own identifiers give way to names such as `<imei 1>`, the same everywhere, so that what
//! belongs together still does. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::leak::Kind;

/// Fields that hold bytes of requests, or hashes that could be tried out against a guess.
const LEFT_OUT: &[&str] = &["request", "around", "captured", "layers", "range", "prev"];
/// Shorter values would be replaced where they mean something else.
const SHORTEST: usize = 4;

/// Names given so far.
#[derive(Debug, Default)]
pub struct Names {
    /// What was sent, in every form it was sent in, and what stands for it; the longest first when it is used.
    known: BTreeMap<String, String>,
    counts: BTreeMap<&'static str, usize>,
}

impl Names {
    /// Learns what a finding says; all of them first, then [`Names::share`].
    pub fn learn(&mut self, record: &Map<String, Value>) {
        let text = |key: &str| record.get(key).and_then(Value::as_str).unwrap_or_default();
        if let Some(kind) = Kind::from_name(text("kind")).filter(|kind| is_own(*kind)) {
            let name = self.name(kind.name(), text("value"));
            let raw = text("raw");
            if raw.len() >= SHORTEST && !self.known.contains_key(raw) {
                self.known.insert(raw.to_owned(), name);
            }
        }
        self.name("message", text("raw_sha256"));
    }

    fn name(&mut self, kind: &'static str, value: &str) -> String {
        if let Some(name) = self.known.get(value) {
            return name.clone();
        }
        let count = self.counts.entry(kind).or_default();
        *count = count.saturating_add(1);
        let name = format!("<{kind} {count}>");
        if value.len() >= SHORTEST {
            self.known.insert(value.to_owned(), name.clone());
        }
        name
    }

    /// A record as others may see it.
    pub fn share(&self, record: &Map<String, Value>) -> Map<String, Value> {
        let mut known: Vec<(&String, &String)> = self.known.iter().collect();
        known.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
        let kept = record.iter().filter(|(key, _)| !LEFT_OUT.contains(&key.as_str()));
        kept.map(|(key, value)| (key.clone(), replaced(value, &known))).collect()
    }
}

fn replaced(value: &Value, known: &[(&String, &String)]) -> Value {
    match value {
        Value::String(text) => {
            let mut text = text.clone();
            for (value, name) in known {
                if text.contains(value.as_str()) {
                    text = text.replace(value.as_str(), name);
                }
            }
            text.into()
        }
        Value::Array(list) => list.iter().map(|value| replaced(value, known)).collect(),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), replaced(value, known))).collect())
        }
        other => other.clone(),
    }
}

/// Kinds whose values are about this owner or this phone alone, or say where he is.
fn is_own(kind: Kind) -> bool {
    use Kind::{
        Account, AdId, AndroidId, Clipboard, Contacts, DeviceIds, Iccid, Imei, Imsi, Location, Mac, Meid,
        PersistentId, PhoneNumber, Serial, WifiBssid, WifiName, WifiScan,
    };
    matches!(
        kind,
        Account
            | AdId
            | AndroidId
            | Clipboard
            | Contacts
            | DeviceIds
            | Iccid
            | Imei
            | Imsi
            | Location
            | Mac
            | Meid
            | PersistentId
            | PhoneNumber
            | Serial
            | WifiBssid
            | WifiName
            | WifiScan
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_identifier_has_one_name_everywhere_and_stands_nowhere() {
        let record = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let records = [
            record(
                r#"{"seq":1,"prev":"ab","type":"message","raw_sha256":"cafe01","request":{"text":"imei=490154203237518"}}"#,
            ),
            record(
                r#"{"type":"finding","kind":"imei","value":"490154203237518","raw":"0eaed834","why":"md5 of 490154203237518","around":"x490154203237518x","raw_sha256":"cafe01"}"#,
            ),
            record(
                r#"{"type":"finding","kind":"visited_url","value":"https://a.example/?id=0eaed834","raw_sha256":"cafe02"}"#,
            ),
            record(r#"{"type":"finding","kind":"imei","value":"356938035643809","raw_sha256":"cafe02"}"#),
        ];
        let mut names = Names::default();
        records.iter().for_each(|record| names.learn(record));
        let shared: String =
            records.iter().map(|record| Value::Object(names.share(record)).to_string()).collect();
        for never in ["490154203237518", "356938035643809", "0eaed834", "cafe01", "request", "around", "prev"]
        {
            assert!(!shared.contains(never), "{never}: {shared}");
        }
        assert!(
            shared.contains("\"why\":\"md5 of <imei 1>\"") && shared.contains("?id=<imei 1>"),
            "{shared}"
        );
        assert!(
            shared.contains("\"value\":\"<imei 2>\"") && shared.matches("<message 1>").count() == 2,
            "{shared}"
        );
    }
}
