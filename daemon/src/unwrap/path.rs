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

#[derive(Debug, Clone, Copy)]
enum Segment<'v> {
    Index(usize),
    Key(&'v str),
}

impl<'v> Path<'v> {
    /// Goes down to a list member.
    pub fn push_index(&mut self, index: usize) {
        self.segments.push(Segment::Index(index));
    }

    /// Goes down to a map member.
    pub fn push_key(&mut self, key: &'v str) {
        self.segments.push(Segment::Key(key));
    }

    /// Goes back up.
    pub fn pop(&mut self) {
        self.segments.pop();
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
