//! MessagePack (github.com/msgpack/msgpack/blob/master/spec.md), whole maps and lists only.
//!
//! Own reader: rmp reads types the caller expects and rmpv has no bound on items.
#![forbid(unsafe_code)]

use super::{Str, Value, limits::Budget};

/// Reads one map or list that uses up the bytes and has at least one text in it.
pub(super) fn parse(data: &[u8], budget: &mut Budget) -> Option<Value> {
    if !matches!(data.first()?, 0x81..=0x8f | 0x91..=0x9f | 0xdc..=0xdf) || data.len() < 4 {
        return None;
    }
    let items = budget.items();
    let mut reader = Reader { data, texts: 0, budget };
    let value = reader.value(0);
    let whole = reader.data.is_empty() && reader.texts > 0;
    let value = value.filter(|_| whole);
    if value.is_none() {
        budget.restore_items(items);
    }
    value
}

struct Reader<'d, 'b> {
    data: &'d [u8],
    texts: usize,
    budget: &'b mut Budget,
}

impl<'d> Reader<'d, '_> {
    fn value(&mut self, depth: usize) -> Option<Value> {
        if !self.budget.take_item() {
            return None;
        }
        let [kind] = self.take_array::<1>()?;
        Some(match kind {
            0x00..=0x7f => number(kind),
            0x80..=0x8f => self.map(usize::from(kind & 0x0f), depth)?,
            0x90..=0x9f => self.list(usize::from(kind & 0x0f), depth)?,
            0xa0..=0xbf => self.text(usize::from(kind & 0x1f))?,
            0xc0 => Value::Null,
            0xc1 => return None,
            0xc2 | 0xc3 => Value::Bool(kind == 0xc3),
            0xc4..=0xc6 => {
                let len = self.length(kind - 0xc4)?;
                Value::Bytes(self.take(len)?.into())
            }
            0xc7..=0xc9 => {
                let len = self.length(kind - 0xc7)?;
                self.extension(len)?
            }
            0xca => number(f32::from_be_bytes(self.take_array()?)),
            0xcb => number(f64::from_be_bytes(self.take_array()?)),
            0xcc => number(u8::from_be_bytes(self.take_array()?)),
            0xcd => number(u16::from_be_bytes(self.take_array()?)),
            0xce => number(u32::from_be_bytes(self.take_array()?)),
            0xcf => number(u64::from_be_bytes(self.take_array()?)),
            0xd0 => number(i8::from_be_bytes(self.take_array()?)),
            0xd1 => number(i16::from_be_bytes(self.take_array()?)),
            0xd2 => number(i32::from_be_bytes(self.take_array()?)),
            0xd3 => number(i64::from_be_bytes(self.take_array()?)),
            0xd4..=0xd8 => self.extension(1 << (kind - 0xd4))?,
            0xd9..=0xdb => {
                let len = self.length(kind - 0xd9)?;
                self.text(len)?
            }
            0xdc | 0xdd => {
                let len = self.length(kind - 0xdc + 1)?;
                self.list(len, depth)?
            }
            0xde | 0xdf => {
                let len = self.length(kind - 0xde + 1)?;
                self.map(len, depth)?
            }
            0xe0..=0xff => number(kind.cast_signed()),
        })
    }

    /// A length of 1, 2 or 4 bytes.
    fn length(&mut self, size: u8) -> Option<usize> {
        match size {
            0 => Some(usize::from(u8::from_be_bytes(self.take_array()?))),
            1 => Some(usize::from(u16::from_be_bytes(self.take_array()?))),
            _ => usize::try_from(u32::from_be_bytes(self.take_array()?)).ok(),
        }
    }

    /// `len` is only believed member by member: nothing is set aside for it.
    fn list(&mut self, len: usize, depth: usize) -> Option<Value> {
        if depth >= self.budget.limits().nesting || len > self.data.len() {
            return None;
        }
        let mut members = Vec::new();
        for _ in 0..len {
            members.push(self.value(depth + 1)?);
        }
        Some(Value::List(members))
    }

    fn map(&mut self, len: usize, depth: usize) -> Option<Value> {
        if depth >= self.budget.limits().nesting || len > self.data.len() {
            return None;
        }
        let mut members: Vec<(Str, Value)> = Vec::new();
        for _ in 0..len {
            let key = match self.value(depth + 1)? {
                Value::Text(text) | Value::Number(text) => text,
                _ => return None,
            };
            members.push((key, self.value(depth + 1)?));
        }
        Some(Value::Map(members))
    }

    fn text(&mut self, len: usize) -> Option<Value> {
        let text = simdutf8::basic::from_utf8(self.take(len)?).ok()?;
        if text.chars().any(|c| c.is_control() && !c.is_ascii_whitespace()) {
            return None;
        }
        self.texts += usize::from(!text.is_empty());
        Some(Value::Text(text.into()))
    }

    /// A type byte and data.
    fn extension(&mut self, len: usize) -> Option<Value> {
        self.take(1)?;
        Some(Value::Bytes(self.take(len)?.into()))
    }

    fn take(&mut self, len: usize) -> Option<&'d [u8]> {
        let (taken, rest) = self.data.split_at_checked(len)?;
        self.data = rest;
        Some(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.data.split_first_chunk::<N>()?;
        self.data = rest;
        Some(*taken)
    }
}

fn number(number: impl ToString) -> Value {
    Value::Number(number.to_string().into())
}
