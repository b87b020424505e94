//! Places inside a structured value: how a place is written down, and how rows of the dictionary find theirs in one
//! walk over the value however many rows there are.

use std::{
    collections::HashMap,
    fmt::Write,
    hash::{Hash, Hasher},
};

use foldhash::fast::RandomState;

use crate::unwrap::Value;

/// Deepest value that is walked; what lies below is left alone.
pub(crate) const MAX_DEPTH: usize = 96;

/// One step on the way to a place, borrowed from the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'v> {
    /// The value of a key.
    Key(&'v str),
    /// An element of a list.
    Index(usize),
}

/// Writes a place as `[0].properties.url`. Keys that would read as something else stand in quotes.
pub(crate) fn render(steps: &[Step<'_>]) -> String {
    let mut out = String::with_capacity(steps.len() * 12);
    for step in steps {
        match step {
            Step::Index(index) => push_index(&mut out, *index),
            Step::Key(key) if !is_plain(key) && (key.is_empty() || key.contains(odd)) => {
                let _ = write!(out, "[{key:?}]");
            }
            Step::Key(key) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(key);
            }
        }
    }
    out
}

/// `[7]`; the formatter of the standard library takes ten times as long for it.
fn push_index(out: &mut String, index: usize) {
    out.push('[');
    match u8::try_from(index) {
        Ok(digit @ 0..10) => out.push(char::from(b'0' + digit)),
        Ok(number @ 10..100) => {
            out.push(char::from(b'0' + number / 10));
            out.push(char::from(b'0' + number % 10));
        }
        _ => {
            let _ = write!(out, "{index}");
        }
    }
    out.push(']');
}

/// Whether two ways lead to the same place, whatever the numbers of list elements: [`AnyEvent`] before it is written.
pub(crate) fn same_in_any_event(one: &[Step<'_>], other: &[Step<'_>]) -> bool {
    let same = |(one, other): (&Step<'_>, &Step<'_>)| match (one, other) {
        (Step::Key(one), Step::Key(other)) => one == other,
        (Step::Index(_), Step::Index(_)) => true,
        _ => false,
    };
    one.len() == other.len() && one.iter().rev().zip(other.iter().rev()).all(same)
}

/// Characters that would make a place ambiguous or forge a line.
fn odd(c: char) -> bool {
    matches!(c, '.' | '[' | ']' | '>' | '"') || c.is_control()
}

/// Whether a key is plain at a glance: most are, and a look at each character takes longer than writing them.
fn is_plain(key: &str) -> bool {
    !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'-'))
}

/// A place without the numbers of list elements, so that the same field of every event counts as one place.
pub(crate) fn without_indices(at: &str) -> String {
    pieces(at).collect()
}

/// A place that equals the same place of every other event, as [`without_indices`] writes both, without writing them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnyEvent<'p>(pub(crate) &'p str);

impl PartialEq for AnyEvent<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
            || pieces(self.0).eq(pieces(other.0))
            || pieces(self.0).flat_map(str::bytes).eq(pieces(other.0).flat_map(str::bytes))
    }
}

impl Eq for AnyEvent<'_> {}

impl Hash for AnyEvent<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // What stands before the first bracket and behind the last one is the same in equal places, and tells most others.
        let at = self.0.as_bytes();
        let first = at.iter().position(|byte| *byte == b'[').unwrap_or(at.len());
        let last = memchr::memrchr(b']', at).map_or(0, |last| last + 1);
        state.write(at.get(..first).unwrap_or_default());
        state.write(at.get(last..).unwrap_or_default());
    }
}

/// What [`without_indices`] is made of.
fn pieces(at: &str) -> impl Iterator<Item = &str> {
    let mut rest = at;
    let mut bracket = None;
    std::iter::from_fn(move || {
        if let Some(bracket) = bracket.take() {
            return Some(bracket);
        }
        if rest.is_empty() {
            return None;
        }
        let Some(open) = rest.bytes().position(|byte| byte == b'[') else {
            return Some(std::mem::take(&mut rest));
        };
        let (before, after) = rest.split_at(open);
        let digits = after.bytes().skip(1).take_while(u8::is_ascii_digit).count();
        let end = digits + 1;
        if digits > 0 && after.as_bytes().get(end) == Some(&b']') {
            bracket = Some("[]");
            rest = after.get(end + 1..).unwrap_or("");
        } else {
            bracket = Some("[");
            rest = after.get(1..).unwrap_or("");
        }
        Some(before)
    })
}

/// One segment of a path as rows write it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Key(String),
    /// A key that begins with this; empty for any key.
    Prefix(String),
    /// Every element of a list; a value that is no list stands for its only element.
    Each,
    /// The elements whose key has this text.
    Find(String, String),
}

/// A path as rows write it: `properties.url`, `values[key=imei_md5].value`, `[].content[]`, `identities.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path(Vec<Segment>);

impl Path {
    /// Reads a path; the error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Path, &'static str> {
        let mut segments = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                let (inside, after) = inner.split_once(']').ok_or("a [ without its ]")?;
                segments.push(match inside.split_once('=') {
                    None if inside.is_empty() => Segment::Each,
                    None => return Err("inside [ ] stands nothing or key=text"),
                    Some((key, value)) if !key.is_empty() => Segment::Find(key.into(), value.into()),
                    Some(_) => return Err("a [=text] without its key"),
                });
                rest = after;
                if let Some(after) = rest.strip_prefix('.') {
                    if after.is_empty() {
                        return Err("a dot at the end");
                    }
                    rest = after;
                } else if !rest.is_empty() && !rest.starts_with('[') {
                    return Err("after ] comes a dot or another [");
                }
            } else {
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                let (key, after) = rest.split_at(end);
                segments.push(match key.strip_suffix('*') {
                    _ if key.is_empty() => return Err("an empty key"),
                    Some(prefix) => Segment::Prefix(prefix.into()),
                    None => Segment::Key(key.into()),
                });
                rest = match after.strip_prefix('.') {
                    Some("") => return Err("a dot at the end"),
                    Some(after) => after,
                    None => after,
                };
            }
        }
        Ok(Path(segments))
    }

    /// The first value at this path.
    pub(crate) fn first<'v>(&self, root: &'v Value) -> Option<&'v Value> {
        let mut first = None;
        walk_one(&self.0, root, &mut Vec::new(), &mut |_, value| {
            first = Some(value);
            true
        });
        first
    }

    /// Calls `found(place, value)` for every place of this path until it says that this is enough; true when it did.
    pub(crate) fn find<'v>(
        &self,
        root: &'v Value,
        steps: &mut Vec<Step<'v>>,
        found: &mut impl FnMut(&[Step<'v>], &'v Value) -> bool,
    ) -> bool {
        walk_one(&self.0, root, steps, found)
    }

    /// This path below another.
    pub(crate) fn under(&self, parent: &Path) -> Path {
        Path(parent.0.iter().chain(&self.0).cloned().collect())
    }
}

#[cfg(test)]
impl Path {
    /// The smallest JSON that has `leaf` at this path.
    pub(crate) fn compose(&self, leaf: serde_json::Value) -> serde_json::Value {
        use serde_json::json;
        self.0.iter().rev().fold(leaf, |inner, segment| match segment {
            Segment::Key(key) => json!({ key: inner }),
            Segment::Prefix(prefix) => json!({ format!("{prefix}x"): inner }),
            Segment::Each => json!([inner]),
            Segment::Find(key, value) => {
                let mut element = json!({ key: value });
                if let (Some(element), Some(inner)) = (element.as_object_mut(), inner.as_object()) {
                    element.extend(inner.clone());
                }
                json!([element])
            }
        })
    }
}

fn walk_one<'v>(
    segments: &[Segment],
    value: &'v Value,
    steps: &mut Vec<Step<'v>>,
    found: &mut impl FnMut(&[Step<'v>], &'v Value) -> bool,
) -> bool {
    let Some((first, rest)) = segments.split_first() else { return found(steps, value) };
    let mut into = |step, inner, steps: &mut Vec<Step<'v>>| {
        steps.push(step);
        let enough = walk_one(rest, inner, steps, found);
        steps.pop();
        enough
    };
    match (first, value) {
        (Segment::Key(wanted), Value::Map(entries)) => entries
            .iter()
            .filter(|(key, _)| **key == **wanted)
            .any(|(key, inner)| into(Step::Key(key), inner, steps)),
        (Segment::Prefix(prefix), Value::Map(entries)) => entries
            .iter()
            .filter(|(key, _)| key.starts_with(prefix.as_str()))
            .any(|(key, inner)| into(Step::Key(key), inner, steps)),
        (Segment::Each, Value::List(items)) => {
            items.iter().enumerate().any(|(index, item)| into(Step::Index(index), item, steps))
        }
        (Segment::Find(key, text), Value::List(items)) => items
            .iter()
            .enumerate()
            .filter(|(_, item)| has(item, key, text))
            .any(|(index, item)| into(Step::Index(index), item, steps)),
        // A value that is no list stands for its only element.
        (Segment::Each, _) => walk_one(rest, value, steps, found),
        (Segment::Find(key, text), _) => has(value, key, text) && walk_one(rest, value, steps, found),
        (Segment::Key(_) | Segment::Prefix(_), _) => false,
    }
}

/// Which keys are surely not in a set: most keys of telemetry are in none, and a hash of each costs more than the walk.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyFilter([u64; 16]);

impl KeyFilter {
    /// Adds a key; upper and lower case are alike.
    pub(crate) fn insert(&mut self, key: &[u8]) {
        let (word, bit) = Self::place(key);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    /// False when the key is surely not in the set.
    #[inline]
    pub(crate) fn may_have(&self, key: &[u8]) -> bool {
        let (word, bit) = Self::place(key);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    #[inline]
    fn place(key: &[u8]) -> (usize, u64) {
        let (first, middle, last) = (key.first(), key.get(key.len() / 2), key.last());
        let at = |byte: Option<&u8>| usize::from(byte.copied().unwrap_or(0) | 0x20);
        let mixed =
            key.len().wrapping_mul(31) ^ at(first) ^ at(middle).wrapping_mul(5) ^ at(last).wrapping_mul(17);
        (mixed >> 6 & 15, 1 << (mixed & 63))
    }
}

/// Many paths joined, so that one walk over a value finds the places of them all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trie {
    here: Vec<usize>,
    keys: HashMap<String, Trie, RandomState>,
    known: KeyFilter,
    prefixes: Vec<(String, Trie)>,
    each: Option<Box<Trie>>,
    finds: Vec<(String, String, Trie)>,
}

impl Trie {
    /// Adds a path that stands for `id`.
    pub(crate) fn insert(&mut self, path: &Path, id: usize) {
        self.insert_segments(&path.0, id);
    }

    fn insert_segments(&mut self, segments: &[Segment], id: usize) {
        let Some((first, rest)) = segments.split_first() else {
            self.here.push(id);
            return;
        };
        let next = match first {
            Segment::Key(key) => {
                self.known.insert(key.as_bytes());
                self.keys.entry(key.clone()).or_default()
            }
            Segment::Each => self.each.get_or_insert_default(),
            Segment::Prefix(prefix) => {
                entry(&mut self.prefixes, |(p, _)| p == prefix, || (prefix.clone(), Trie::default()))
            }
            Segment::Find(key, value) => {
                let make = || (key.clone(), value.clone(), Trie::default());
                match self.finds.iter().position(|(k, v, _)| k == key && v == value) {
                    Some(_) => {}
                    None => self.finds.push(make()),
                }
                match self.finds.iter_mut().find(|(k, v, _)| k == key && v == value) {
                    Some((_, _, trie)) => trie,
                    None => return,
                }
            }
        };
        next.insert_segments(rest, id);
    }

    /// Calls `found(id, place, value)` for every place of every path. `steps` is the way to `value` and is left as it was.
    pub(crate) fn walk<'v>(
        &self,
        value: &'v Value,
        steps: &mut Vec<Step<'v>>,
        found: &mut impl FnMut(usize, &[Step<'v>], &'v Value),
    ) {
        for &id in &self.here {
            found(id, steps, value);
        }
        match value {
            Value::Map(entries) => {
                if !self.keys.is_empty() || !self.prefixes.is_empty() {
                    for (key, inner) in entries {
                        let key: &str = key;
                        if self.known.may_have(key.as_bytes())
                            && let Some(trie) = self.keys.get(key)
                        {
                            step_into(trie, Step::Key(key), inner, steps, found);
                        }
                        for (prefix, trie) in &self.prefixes {
                            if key.starts_with(prefix.as_str()) {
                                step_into(trie, Step::Key(key), inner, steps, found);
                            }
                        }
                    }
                }
                if let Some(trie) = &self.each {
                    trie.walk(value, steps, found);
                }
                for (key, text, trie) in &self.finds {
                    if has(value, key, text) {
                        trie.walk(value, steps, found);
                    }
                }
            }
            Value::List(items) => {
                if self.each.is_none() && self.finds.is_empty() {
                    return;
                }
                for (index, item) in items.iter().enumerate() {
                    if let Some(trie) = &self.each {
                        step_into(trie, Step::Index(index), item, steps, found);
                    }
                    for (key, text, trie) in &self.finds {
                        if has(item, key, text) {
                            step_into(trie, Step::Index(index), item, steps, found);
                        }
                    }
                }
            }
            _ => {
                if let Some(trie) = &self.each {
                    trie.walk(value, steps, found);
                }
            }
        }
    }
}

fn step_into<'v>(
    trie: &Trie,
    step: Step<'v>,
    value: &'v Value,
    steps: &mut Vec<Step<'v>>,
    found: &mut impl FnMut(usize, &[Step<'v>], &'v Value),
) {
    steps.push(step);
    trie.walk(value, steps, found);
    steps.pop();
}

fn entry(
    list: &mut Vec<(String, Trie)>,
    is: impl Fn(&(String, Trie)) -> bool,
    make: impl FnOnce() -> (String, Trie),
) -> &mut Trie {
    let index = list.iter().position(is).unwrap_or_else(|| {
        list.push(make());
        list.len() - 1
    });
    #[expect(clippy::indexing_slicing, reason = "position() or the push above gave the index")]
    &mut list[index].1
}

fn has(value: &Value, key: &str, text: &str) -> bool {
    get(value, key).and_then(text_of).is_some_and(|found| found == text)
}

/// The value of a map's key.
pub(crate) fn get<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    match value {
        Value::Map(entries) => entries.iter().find(|(k, _)| **k == *key).map(|(_, v)| v),
        _ => None,
    }
}

/// A leaf's text as it was sent; none for maps, lists, null and bytes.
pub(crate) fn text_of(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) | Value::Number(text) => Some(text),
        Value::Bool(true) => Some("true"),
        Value::Bool(false) => Some("false"),
        _ => None,
    }
}

/// Calls `leaf(place, value)` for everything below `value` that is neither a map nor a list.
pub(crate) fn leaves<'v>(
    value: &'v Value,
    steps: &mut Vec<Step<'v>>,
    leaf: &mut impl FnMut(&[Step<'v>], &'v Value),
) {
    if steps.len() > MAX_DEPTH {
        return;
    }
    match value {
        Value::Map(entries) => {
            for (key, inner) in entries {
                steps.push(Step::Key(key));
                leaves(inner, steps, leaf);
                steps.pop();
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                steps.push(Step::Index(index));
                leaves(item, steps, leaf);
                steps.pop();
            }
        }
        _ => leaf(steps, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leak::testing::value;

    fn places(path: &str, json: &str) -> Vec<String> {
        let mut trie = Trie::default();
        trie.insert(&Path::parse(path).unwrap(), 7);
        let root = value(json);
        let mut out = Vec::new();
        trie.walk(&root, &mut Vec::new(), &mut |id, steps, value| {
            assert_eq!(id, 7);
            out.push(format!("{}={}", render(steps), text_of(value).unwrap_or("…")));
        });
        out
    }

    #[test]
    fn a_path_finds_its_places() {
        assert_eq!(places("properties.url", r#"{"properties":{"url":"u","x":1}}"#), ["properties.url=u"]);
        assert_eq!(places("[].a", r#"[{"a":1},{"b":2},{"a":3}]"#), ["[0].a=1", "[2].a=3"]);
        assert_eq!(places("[].a", r#"{"a":1}"#), ["a=1"]);
        assert_eq!(
            places("values[key=m].value", r#"{"values":[{"key":"x","value":1},{"key":"m","value":2}]}"#),
            ["values[1].value=2"]
        );
        assert_eq!(
            places("identities.*", r#"{"identities":{"$a":1,"$b":2}}"#),
            ["identities.$a=1", "identities.$b=2"]
        );
        assert_eq!(places("imei*", r#"{"imei":1,"imei_old":2,"x":3}"#), ["imei=1", "imei_old=2"]);
        assert_eq!(
            places("a[].b[].c", r#"{"a":[{"b":[{"c":1},{"c":2}]}]}"#),
            ["a[0].b[0].c=1", "a[0].b[1].c=2"]
        );
        assert!(places("a.b", r#"{"a":[{"b":1}]}"#).is_empty());
    }

    #[test]
    fn a_bad_path_says_what_is_wrong() {
        for path in ["a..b", "a.", "a[", "a[x]", "a[=x]", "[]a", ".a"] {
            assert!(Path::parse(path).is_err(), "{path}");
        }
    }

    #[test]
    fn places_lose_only_their_numbers() {
        assert_eq!(without_indices("[0].a[12].b"), "[].a[].b");
        assert_eq!(without_indices("[\"x.1\"].a[b"), "[\"x.1\"].a[b");
    }
}
