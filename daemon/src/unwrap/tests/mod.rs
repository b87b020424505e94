//! Whole messages through `peel`; the steps' own corners are tested beside them.

use super::{Content, Limits, Protocols, Tree, Value, peel};
use crate::wire::{Message, Protocol};

mod encodings;
mod hostile;
mod protocols;
mod samples;
mod wrong_guesses;

/// A POST over HTTP/1.
fn post(host: &str, target: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Message {
    let body = body.into();
    Message {
        protocol: Protocol::Http1,
        method: "POST".to_owned(),
        target: target.to_owned(),
        host: Some(host.to_owned()),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect(),
        body_len: body.len() as u64,
        body,
        ..Message::default()
    }
}

fn open(message: &Message) -> Tree {
    peel(message, &Protocols::builtin(), &Limits::default())
}

/// The tree of a body that nothing is said about.
fn open_body(body: impl Into<Vec<u8>>) -> Tree {
    open(&post("api.example.com", "/x", &[], body))
}

fn value(tree: &Tree, node: usize) -> &Value {
    match &tree.nodes[node].content {
        Content::Value(value) => value,
        Content::Bytes(bytes) => panic!("no value: {:?}", String::from_utf8_lossy(bytes)),
    }
}

/// The value at a path like `0.properties.url`.
fn at<'v>(mut value: &'v Value, path: &str) -> &'v Value {
    for step in path.split('.') {
        value = match value {
            Value::List(list) => &list[step.parse::<usize>().unwrap()],
            Value::Map(map) => {
                &map.iter().find(|(key, _)| *key == *step).unwrap_or_else(|| panic!("{step} in {map:?}")).1
            }
            other => panic!("{step} in {other:?}"),
        };
    }
    value
}

/// The routes of all layers below the parts of the message.
fn routes(tree: &Tree) -> Vec<String> {
    (0..tree.nodes.len()).map(|node| tree.via(node)).collect()
}

/// The node with that route.
fn find(tree: &Tree, via: &str) -> usize {
    let routes = routes(tree);
    routes
        .iter()
        .position(|r| r == via)
        .unwrap_or_else(|| panic!("no {via} in {routes:#?}\n{}", tree.explain()))
}

fn base64(data: &[u8]) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.encode(data)
}

fn gzip(data: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Everything but letters and digits percent-encoded, as Java's `URLEncoder` nearly does.
fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'*');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The same noise in every run (xorshift64).
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}
