//! What was looked at in this message already, and said nothing: telemetry repeats the same thirty properties in every event.
#![forbid(unsafe_code)]

/// Slots, a power of two: a few times what events have in common.
const SLOTS: usize = 256;

/// Keys with their values. A slot holds the last pair that fell into it; nothing is allocated for a message that has none.
#[derive(Debug, Default)]
pub(crate) struct Memo<'a> {
    slots: Vec<(&'a str, &'a str)>,
}

impl<'a> Memo<'a> {
    /// Whether the pair was noted.
    pub(crate) fn has(&self, key: &str, value: &str) -> bool {
        self.slots.get(slot(key, value)).is_some_and(|(k, v)| *k == key && *v == value)
    }

    /// Notes a pair.
    pub(crate) fn note(&mut self, key: &'a str, value: &'a str) {
        if self.slots.is_empty() {
            // A free slot looks like a pair of two zero bytes, and there is nothing to be said of that.
            self.slots.resize(SLOTS, ("\u{0}", "\u{0}"));
        }
        if let Some(known) = self.slots.get_mut(slot(key, value)) {
            *known = (key, value);
        }
    }
}

/// From the lengths and the ends of both: a hash of all of it would cost as much as looking.
fn slot(key: &str, value: &str) -> usize {
    let ends = |text: &str| {
        let bytes = text.as_bytes();
        let at = |byte: Option<&u8>| u32::from(byte.copied().unwrap_or(0));
        at(bytes.first()) | at(bytes.get(bytes.len() / 2)) << 8 | at(bytes.last()) << 16
    };
    let mixed = ends(key)
        .wrapping_mul(0x9e37_79b1)
        .wrapping_add(ends(value))
        .wrapping_add((key.len() as u32) << 24 ^ (value.len() as u32) << 20);
    (mixed.wrapping_mul(0x85eb_ca6b) >> 24) as usize & (SLOTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_noted_is_there() {
        let mut memo = Memo::default();
        assert!(!memo.has("", "") && !memo.has("a", "b"));
        memo.note("a", "b");
        assert!(memo.has("a", "b"));
        for (key, value) in [("a", "c"), ("b", "b"), ("", "ab"), ("ab", ""), ("", ""), ("a", "bb")] {
            assert!(!memo.has(key, value), "{key} {value}");
        }
        let keys: Vec<String> = (0..2000).map(|number| format!("key_{number}")).collect();
        for key in &keys {
            memo.note(key, "value");
            assert!(memo.has(key, "value"));
        }
        assert!(keys.iter().filter(|key| memo.has(key, "value")).count() <= SLOTS);
    }
}
