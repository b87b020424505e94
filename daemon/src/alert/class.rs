//! What makes two findings the same: app, host owner, kind, protocol and place in the message. The value is left out.

use std::hash::{Hash as _, Hasher as _};

use siphasher::sip::SipHasher13;

use super::Alert;
use crate::leak::Kind;

/// Letters and digits that are not mistaken for one another; 32, so that five bits choose one.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// The class of a finding, as a number that only this phone's key can make.
pub(super) fn class(key: &[u8; 16], alert: &Alert) -> u64 {
    let mut hasher = SipHasher13::new_with_key(key);
    for part in [
        alert.app.name.as_str(),
        alert.recipient().as_str(),
        alert.finding.kind.name(),
        alert.finding.protocol.as_deref().unwrap_or_default(),
        &without_indices(&alert.finding.via),
        &without_indices(&alert.finding.at),
        alert.finding.sender.as_deref().unwrap_or_default(),
    ] {
        part.hash(&mut hasher);
    }
    hasher.finish()
}

/// A class and one value of it.
pub(super) fn with_value(key: &[u8; 16], class: u64, value: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_key(key);
    class.hash(&mut hasher);
    value.hash(&mut hasher);
    hasher.finish()
}

/// An app and a kind of finding; all apps when it has no name.
pub(super) fn of_app(key: &[u8; 16], app: &str, kind: Kind) -> u64 {
    let mut hasher = SipHasher13::new_with_key(key);
    app.hash(&mut hasher);
    kind.name().hash(&mut hasher);
    hasher.finish()
}

/// Six characters for a class.
pub(super) fn id(class: u64) -> String {
    (0..6)
        .filter_map(|place| ALPHABET.get((class >> (place * 5) & 31) as usize))
        .map(|byte| char::from(*byte))
        .collect()
}

/// `[3].url` and `[0].url` are the same place: what position a batch gives an event says nothing.
fn without_indices(place: &str) -> String {
    let mut out = String::with_capacity(place.len());
    let mut inside = false;
    for c in place.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            c if inside && c.is_ascii_digit() => continue,
            _ => {}
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_six_plain_characters() {
        for class in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let id = id(class);
            assert_eq!(id.len(), 6);
            assert!(id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
        }
        assert_eq!(without_indices("[12].a.b[3][\"x1\"].c4"), "[].a.b[][\"x\"].c4");
    }
}
