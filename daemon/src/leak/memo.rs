//! What was looked at in this message already, and said nothing: telemetry repeats the same thirty properties in every event.
#![forbid(unsafe_code)]

use super::path::{Step, same_in_any_event};
use crate::unwrap::{Slots, mixed};

/// Slots, a power of two: a few times what events have in common.
const SLOTS: usize = 256;

/// Keys with their values.
#[derive(Debug, Default)]
pub(crate) struct Memo<'a>(Slots<(&'a str, &'a str), SLOTS>);

impl<'a> Memo<'a> {
    /// Whether the pair was noted.
    pub(crate) fn has(&mut self, key: &str, value: &str) -> bool {
        self.0.has(|| hash(key, value), |(k, v)| *v == value && *k == key)
    }

    /// Notes a pair.
    pub(crate) fn note(&mut self, key: &'a str, value: &'a str) {
        self.0.note(|| hash(key, value), (key, value));
    }
}

/// Texts with the place they stood at, of which everything was said: at the same place of another event it would be said again, and
/// be taken for a repetition after it was put into words.
#[derive(Debug, Default)]
pub(crate) struct Told<'a> {
    slots: Vec<Option<Telling<'a>>>,
}

#[derive(Debug, Clone)]
struct Telling<'a> {
    who: usize,
    text: &'a str,
    place: Box<[Step<'a>]>,
}

impl<'a> Told<'a> {
    /// Whether `who` has told of this text at this place of some event.
    pub(crate) fn has(&self, who: usize, text: &str, steps: &[Step<'a>]) -> bool {
        if self.slots.is_empty() {
            return false;
        }
        let told = self.slots.get(slot(last_key(steps), text)).and_then(Option::as_ref);
        told.is_some_and(|told| told.who == who && told.text == text && same_in_any_event(&told.place, steps))
    }

    /// Notes that it has.
    pub(crate) fn note(&mut self, who: usize, text: &'a str, steps: &[Step<'a>]) {
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, None);
        }
        if let Some(known) = self.slots.get_mut(slot(last_key(steps), text)) {
            *known = Some(Telling { who, text, place: steps.into() });
        }
    }
}

fn last_key<'a>(steps: &[Step<'a>]) -> &'a str {
    match steps.last() {
        Some(Step::Key(key)) => key,
        _ => "",
    }
}

fn slot(key: &str, value: &str) -> usize {
    hash(key, value) as usize & (SLOTS - 1)
}

fn hash(key: &str, value: &str) -> u32 {
    mixed(key).rotate_left(5).wrapping_add(mixed(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_of_a_place_was_told_of_every_event() {
        let mut told = Told::default();
        let at = |index, key| [Step::Index(index), Step::Key("properties"), Step::Key(key)];
        told.note(3, "text", &at(0, "a"));
        assert!(told.has(3, "text", &at(0, "a")) && told.has(3, "text", &at(17, "a")));
        assert!(!told.has(4, "text", &at(0, "a")) && !told.has(3, "other", &at(0, "a")));
        assert!(!told.has(3, "text", &at(0, "b")) && !told.has(3, "text", &at(0, "a")[1..]));
        assert!(!told.has(3, "text", &[Step::Key("0"), Step::Key("properties"), Step::Key("a")]));
    }

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
        }
        assert!(keys.iter().filter(|key| memo.has(key, "value")).count() <= SLOTS);
    }
}
