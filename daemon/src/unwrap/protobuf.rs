//! Protocol Buffers without their schema: field numbers for keys, and a strict idea of what is plausible.
//!
//! Own reader: crates that decode protobuf want the schema, and what matters here is saying no to bytes that are
//! something else (wire format: protobuf.dev/programming-guides/encoding).
#![forbid(unsafe_code)]

use compact_str::ToCompactString as _;

use super::{Value, limits::Budget, text};

/// Largest field number (2^29 − 1) and the largest that is believed of bytes nobody called protobuf.
const FIELD_MAX: u64 = (1 << 29) - 1;
const FIELD_PLAUSIBLE: u64 = 2047;

/// Reads one message; `declared` when the sender says that it is one.
///
/// Bytes nobody declared must be used up exactly and a third of them must be text.
pub(super) fn parse(data: &[u8], declared: bool, budget: &mut Budget) -> Option<Value> {
    if data.len() < 2 || (!declared && data.len() < 8) || !plausible_start(data, declared) {
        return None;
    }
    let items = budget.items();
    let mut text_bytes = 0;
    let field_max = if declared { FIELD_MAX } else { FIELD_PLAUSIBLE };
    let read = message(data, field_max, 0, &mut text_bytes, budget);
    match read {
        Some(value) if declared || (text_bytes >= 4 && text_bytes * 3 >= data.len()) => Some(value),
        _ => {
            budget.restore_items(items);
            None
        }
    }
}

/// The first key names a field and a wire type that exist: settles most other bytes at once.
fn plausible_start(data: &[u8], declared: bool) -> bool {
    let Some((key, _)) = varint(data) else { return false };
    let field_max = if declared { FIELD_MAX } else { FIELD_PLAUSIBLE };
    matches!(key & 7, 0 | 1 | 2 | 5) && (1..=field_max).contains(&(key >> 3))
}

fn message(
    mut data: &[u8],
    field_max: u64,
    depth: usize,
    text_bytes: &mut usize,
    budget: &mut Budget,
) -> Option<Value> {
    if depth >= budget.limits().nesting || !budget.work(data.len()) {
        return None;
    }
    let mut fields = Vec::new();
    while !data.is_empty() {
        let (key, rest) = varint(data)?;
        let field = key >> 3;
        if field == 0 || field > field_max || !budget.take_item() {
            return None;
        }
        let value;
        (value, data) = match key & 7 {
            0 => {
                let (number, rest) = varint(rest)?;
                (Value::Number(whole(number)), rest)
            }
            1 => {
                let (bytes, rest) = rest.split_first_chunk::<8>()?;
                (Value::Number(wide(u64::from_le_bytes(*bytes))), rest)
            }
            2 => {
                let (len, rest) = varint(rest)?;
                let (bytes, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
                (delimited(bytes, field_max, depth, text_bytes, budget), rest)
            }
            5 => {
                let (bytes, rest) = rest.split_first_chunk::<4>()?;
                (Value::Number(narrow(u32::from_le_bytes(*bytes))), rest)
            }
            // 3 and 4 are groups, given up in 2008; 6 and 7 never were.
            _ => return None,
        };
        fields.push((field.to_compact_string(), value));
    }
    Some(Value::Map(fields))
}

/// Text, a message inside, or bytes.
fn delimited(
    bytes: &[u8],
    field_max: u64,
    depth: usize,
    text_bytes: &mut usize,
    budget: &mut Budget,
) -> Value {
    // A message may read as text too, "\n " being field 1 of length 32: such a beginning is asked first.
    let starts_low = bytes.first().is_some_and(|byte| *byte < b' ');
    let readable = || match simdutf8::basic::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| c.is_control() && !c.is_ascii_whitespace()) => Some(text),
        _ => None,
    };
    if !starts_low && let Some(text) = readable() {
        *text_bytes += bytes.len();
        return Value::Text(text.into());
    }
    if bytes.len() >= 2 && plausible_start(bytes, false) {
        let items = budget.items();
        let mut inner_text = 0;
        if let Some(value) =
            message(bytes, field_max.min(FIELD_PLAUSIBLE), depth + 1, &mut inner_text, budget)
        {
            // What frames text is counted with it.
            *text_bytes += if inner_text > 0 { bytes.len().min(inner_text * 2) } else { 0 };
            return value;
        }
        budget.restore_items(items);
    }
    match readable() {
        Some(text) => {
            *text_bytes += bytes.len();
            Value::Text(text.into())
        }
        None => Value::Bytes(bytes.into()),
    }
}

/// A base-128 number and what comes after it; ten bytes at the most.
fn varint(data: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (index, byte) in data.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(index).ok()? * 7)?;
        if byte & 0x80 == 0 {
            return Some((value, data.get(index + 1..)?));
        }
    }
    None
}

/// An int64 is sent as its 64 bits.
fn whole(number: u64) -> super::Str {
    let signed = number.cast_signed();
    if signed < 0 { signed.to_compact_string() } else { number.to_compact_string() }
}

/// Eight bytes are a double where that gives a number of human size, as coordinates are; else an integer.
fn wide(bits: u64) -> super::Str {
    let double = f64::from_bits(bits);
    if text::human_size(double) { format!("{double}").into() } else { whole(bits) }
}

/// Four bytes likewise; signed, as coordinates in ten-millionths of a degree are.
fn narrow(bits: u32) -> super::Str {
    let float = f32::from_bits(bits);
    if text::human_size(f64::from(float)) {
        format!("{float}").into()
    } else {
        bits.cast_signed().to_compact_string()
    }
}
