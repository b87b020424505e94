//! Peeling's promises: no panic, every limit holds, and the tree can be told and walked, whatever was sent.

use telltale::unwrap::{Content, Limits, Protocols, Tree, Value, peel};
use telltale::wire::{Message, Protocol};

/// Small, so that the fuzzer reaches every limit.
const LIMITS: Limits = Limits {
    depth: 8,
    layer_bytes: 64 << 10,
    total_bytes: 128 << 10,
    ratio: 64,
    nodes: 64,
    items: 2048,
    nesting: 16,
    work: 4 << 20,
};

thread_local! {
    static PROTOCOLS: Protocols = Protocols::builtin();
}

/// A body with one header said about it.
fn body(header: &str, value: &str, data: &[u8]) {
    check(&Message {
        protocol: Protocol::Http1,
        method: "POST".to_owned(),
        target: "/x?a=b".to_owned(),
        host: Some("api.example.com".to_owned()),
        headers: vec![(header.to_owned(), value.into())],
        body: data.to_vec(),
        body_len: data.len() as u64,
        ..Message::default()
    });
}

fn check(message: &Message) {
    let tree: Tree = PROTOCOLS.with(|protocols| peel(message, protocols, &LIMITS));
    assert!(tree.nodes.len() <= LIMITS.nodes);
    let mut out = 0;
    let mut items = 0;
    for (index, node) in tree.nodes.iter().enumerate() {
        assert!(node.parent.is_none_or(|parent| parent < index));
        assert!(!tree.via(index).is_empty());
        match &node.content {
            Content::Bytes(bytes)
                if matches!(&*node.step, "gzip" | "zlib" | "deflate" | "brotli" | "zstd") =>
            {
                assert!(bytes.len() <= LIMITS.layer_bytes);
                out += bytes.len();
            }
            Content::Bytes(_) => {}
            Content::Value(value) => items += leaves(value),
        }
    }
    assert!(out <= LIMITS.total_bytes);
    // Cookies come on top of what the budget counts: as many as a header of 4 KiB and its like can hold.
    assert!(items <= LIMITS.items + message.headers.iter().map(|(_, value)| value.len()).sum::<usize>());
    assert!(!tree.explain().chars().any(|c| c.is_control() && c != '\n'));
}

fn leaves(value: &Value) -> usize {
    match value {
        Value::List(list) => list.iter().map(leaves).sum(),
        Value::Map(map) => map.iter().map(|(_, member)| leaves(member)).sum(),
        _ => 1,
    }
}

/// Anything at all, to a telemetry host: known recipes, forms and every guess.
pub fn any(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    let (host, target) = [
        ("data.mistat.xiaomi.com", "/mistats/v2"),
        ("data.mistat.xiaomi.com", "/mistats/v3"),
        ("sa.api.intl.miui.com", "/sa?project=x"),
        ("tracking.intl.miui.com", "/track/v4/o"),
    ][usize::from(choice % 4)];
    let protocol =
        [Protocol::Http1, Protocol::H2, Protocol::Grpc, Protocol::Raw][usize::from(choice >> 2 & 3)];
    let form = "application/x-www-form-urlencoded";
    let content_type =
        [form, "multipart/form-data; boundary=b", "application/json", ""][usize::from(choice >> 4 & 3)];
    let half = if choice & 0x40 == 0 { 0 } else { data.len() / 2 };
    let (head, body) = data.split_at(half);
    check(&Message {
        protocol,
        method: "POST".to_owned(),
        target: format!("{target}&{}", String::from_utf8_lossy(head)),
        host: Some(host.to_owned()),
        headers: vec![("content-type".to_owned(), content_type.into()), ("cookie".to_owned(), head.to_vec())],
        body: body.to_vec(),
        body_len: body.len() as u64,
        ..Message::default()
    });
}

/// Text: JSON, JSON lines, JSONP, XML, base64, hex, percent, pairs, 16-bit text.
pub fn text(data: &[u8]) {
    body("content-type", "application/json", data);
}

/// gzip, zlib and raw deflate.
pub fn deflate(data: &[u8]) {
    body("content-encoding", "deflate", data);
    body("content-encoding", "gzip", data);
}

/// Brotli.
pub fn brotli(data: &[u8]) {
    body("content-encoding", "br", data);
}

/// zstd, the magic given.
pub fn zstd(data: &[u8]) {
    body("content-encoding", "zstd", &[&[0x28, 0xb5, 0x2f, 0xfd], data].concat());
}

/// Protocol Buffers, declared and guessed, and MessagePack.
pub fn records(data: &[u8]) {
    body("content-type", "application/x-protobuf", data);
    body("content-type", "application/octet-stream", data);
}

/// The file format of protocols: an error names its row, what is accepted can be used.
pub fn protocols(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Protocols::parse(text) {
        Ok(added) => {
            let mut all = Protocols::builtin();
            let (before, more) = (all.ids().count(), added.ids().count());
            all.merge(added);
            assert!((before..=before + more).contains(&all.ids().count()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
