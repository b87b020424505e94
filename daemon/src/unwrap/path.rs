//! Places inside a structured value, written as `[0].properties.search_word`.
#![forbid(unsafe_code)]

use std::fmt;

/// A place inside a [`super::Value`], built while walking down and written only when it is needed.
///
/// List members are `[0]`, map members `.key` (without the dot at the very beginning); a key that holds one of
/// `.[]>"` or a control character is written `["key"]`.
#[derive(Debug, Clone, Default)]
pub struct Path<'v> {
    segments: Vec<Segment<'v>>,
}

/// One step down.
#[derive(Debug, Clone, Copy)]
pub enum Segment<'v> {
    /// To a list member.
    Index(usize),
    /// To a map member.
    Key(&'v str),
}

impl<'v> Path<'v> {
    /// Goes down.
    pub fn push(&mut self, segment: Segment<'v>) {
        self.segments.push(segment);
    }

    /// Goes back up.
    pub fn pop(&mut self) {
        self.segments.pop();
    }

    /// The place one step further down, written.
    pub fn with(&mut self, segment: Option<Segment<'v>>) -> String {
        let here = self.segments.len();
        self.segments.extend(segment);
        let place = self.to_string();
        self.segments.truncate(here);
        place
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, segment) in self.segments.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if key.is_empty() || key.contains(odd) => write!(f, "[{key:?}]")?,
                Segment::Key(key) if number == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

/// Characters that would make a path ambiguous or forge a line.
fn odd(c: char) -> bool {
    matches!(c, '.' | '[' | ']' | '>' | '"') || c.is_control()
}
