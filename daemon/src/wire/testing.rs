//! What every parser's tests do: cut the same bytes at every place and compare.

use super::{Connection, Limits, Message};
use crate::stream::Chunk;

/// The messages of one connection that sent `pieces`, one write each, and then ended.
pub(super) fn messages(pieces: &[&[u8]]) -> Vec<Message> {
    messages_within(Limits::default(), pieces)
}

/// The same within other limits.
pub(super) fn messages_within(limits: Limits, pieces: &[&[u8]]) -> Vec<Message> {
    let mut out = Vec::new();
    let mut connection = Connection::new(limits);
    for piece in pieces {
        connection.push(Chunk::Bytes(piece), &mut out);
    }
    connection.push(Chunk::End, &mut out);
    out
}

/// Asserts that the bytes give the same messages whole, in two writes cut at every place, and byte by byte.
pub(super) fn same_at_every_split(bytes: &[u8]) -> Vec<Message> {
    let whole = messages(&[bytes]);
    for at in 0..=bytes.len() {
        let (a, b) = bytes.split_at(at);
        assert_eq!(messages(&[a, b]), whole, "cut at {at}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(messages(&single), whole, "byte by byte");
    whole
}

/// Pushes every prefix; the parser must neither panic nor lose the bytes it was given without a message saying so.
pub(super) fn survives_truncation(bytes: &[u8]) {
    for end in 0..bytes.len() {
        let _ = messages(&[&bytes[..end]]);
        let mut out = Vec::new();
        let mut connection = Connection::new(Limits::default());
        connection.push(Chunk::Bytes(&bytes[..end]), &mut out);
        connection.push(Chunk::Gap(0), &mut out);
        connection.push(Chunk::Bytes(&bytes[end..]), &mut out);
        connection.push(Chunk::End, &mut out);
    }
}

/// Bytes from hexadecimal text as RFCs print it; blanks are skipped.
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |b: u8| char::from(b).to_digit(16).unwrap() as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
