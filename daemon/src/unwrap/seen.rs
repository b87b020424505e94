//! Texts that were looked at in this message already, and gave nothing: telemetry repeats the same thirty values in every event.
#![forbid(unsafe_code)]

/// Slots of texts, a power of two: a few times what events have in common.
const SLOTS: usize = 512;

/// A slot holds one thing. One that came again stays when another falls into its slot, once: what is new in every event would
/// drive out what repeats. Nothing is allocated for a message that has nothing to note.
#[derive(Debug, Default)]
pub(crate) struct Slots<T, const COUNT: usize>(Vec<Option<(T, bool)>>);

impl<T: Clone, const COUNT: usize> Slots<T, COUNT> {
    /// Whether the thing that `is` tells was noted under this hash.
    #[inline]
    pub(crate) fn has(&mut self, hash: impl FnOnce() -> u32, is: impl Fn(&T) -> bool) -> bool {
        if self.0.is_empty() {
            return false;
        }
        match self.0.get_mut(hash() as usize & (COUNT - 1)) {
            Some(Some((known, again))) if is(known) => {
                *again = true;
                true
            }
            _ => false,
        }
    }

    /// Notes a thing.
    #[inline]
    pub(crate) fn note(&mut self, hash: impl FnOnce() -> u32, thing: T) {
        if self.0.is_empty() {
            self.0.resize(COUNT, None);
        }
        match self.0.get_mut(hash() as usize & (COUNT - 1)) {
            Some(Some((_, again))) if *again => *again = false,
            Some(slot) => *slot = Some((thing, false)),
            None => {}
        }
    }
}

/// Texts.
#[derive(Debug, Default)]
pub(crate) struct Seen<'t>(Slots<&'t str, SLOTS>);

impl<'t> Seen<'t> {
    /// Whether the text was noted.
    pub(crate) fn has(&mut self, text: &str) -> bool {
        self.0.has(|| mixed(text), |known| *known == text)
    }

    /// Notes a text.
    pub(crate) fn note(&mut self, text: &'t str) {
        self.0.note(|| mixed(text), text);
    }
}

/// From the length and the ends: a hash of all of it would cost as much as looking.
pub(crate) fn mixed(text: &str) -> u32 {
    let bytes = text.as_bytes();
    let ends = match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last).rotate_left(29),
        _ => match (bytes.first_chunk(), bytes.last_chunk()) {
            (Some(first), Some(last)) => {
                u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
            }
            _ => bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        },
    };
    // 2^64 divided by the golden ratio (Knuth, section 6.4).
    ((ends ^ bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_noted_is_there() {
        let mut seen = Seen::default();
        assert!(!seen.has("") && !seen.has("a"));
        seen.note("a");
        assert!(seen.has("a"));
        for text in ["b", "aa", "\0", "\0a", "a\0"] {
            assert!(!seen.has(text), "{text:?}");
        }
    }

    #[test]
    fn what_comes_again_outlives_what_does_not() {
        let new: Vec<String> = (0..100_000).map(|number| format!("value number {number}")).collect();
        let mut seen = Seen::default();
        let common = ["Android", "3.2.10", "a5edad80-d9d1-4c54-aa77-739dc3d2bee8", "x"];
        common.iter().for_each(|text| seen.note(text));
        let mut kept = 0;
        for event in new.chunks(10) {
            kept += common.iter().filter(|text| seen.has(text)).count();
            common.iter().for_each(|text| seen.note(text));
            for text in event {
                assert!(!seen.has(text));
                seen.note(text);
            }
        }
        assert!(kept > 39_000, "{kept}");
    }
}
