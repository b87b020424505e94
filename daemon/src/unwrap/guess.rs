//! One guess per layer: what encoding this is, cheap tests first. A guess that does not prove itself is no layer.
#![forbid(unsafe_code)]

use crate::wire;

use super::{
    Content, Value,
    compress::{self, Inflated},
    json,
    limits::Budget,
    msgpack, protobuf,
    text::{self, Chars},
    xml,
};

/// A layer that was found, not yet in the tree.
#[derive(Debug, PartialEq)]
pub(super) struct Layer {
    pub(super) step: &'static str,
    pub(super) content: Content,
    pub(super) why: &'static str,
    pub(super) cut: Option<&'static str>,
    /// Whether the new layer says all that the old one said.
    pub(super) covers: bool,
}

impl Layer {
    pub(super) fn new(step: &'static str, content: Content, why: &'static str) -> Layer {
        Layer { step, content, why, cut: None, covers: true }
    }

    pub(super) fn inflated(step: &'static str, out: Inflated, why: &'static str) -> Layer {
        Layer { step, content: Content::Bytes(out.bytes), why, cut: out.cut, covers: true }
    }
}

/// Fewest characters that are taken for base64 or hex on their looks: shorter words decode to text by chance.
const LEAST_ENCODED: usize = 16;
/// Fewest bytes that are believed to be text when they came out of a guess.
const LEAST_TEXT: usize = 12;

/// What these bytes hold, if anything.
pub(super) fn bytes(data: &[u8], budget: &mut Budget) -> Option<Layer> {
    if data.len() < 2 || !budget.work(data.len()) {
        return None;
    }
    if let Some(layer) = magic(data, budget) {
        return Some(layer);
    }
    // 16-bit text of a Western alphabet is valid UTF-8, full of zeros.
    if matches!(data, [0, _, ..] | [_, 0, ..])
        && let Some(layer) = utf16(data)
    {
        return Some(layer);
    }
    match simdutf8::basic::from_utf8(data) {
        Ok(text) => self::text(text, budget),
        Err(_) => binary(data, budget),
    }
}

/// Formats that announce themselves.
fn magic(data: &[u8], budget: &mut Budget) -> Option<Layer> {
    if compress::is_gzip(data) {
        return Some(Layer::inflated(
            "gzip",
            compress::gunzip(data, budget)?,
            "begins with the gzip magic 1f 8b",
        ));
    }
    if compress::is_zstd(data) {
        return Some(Layer::inflated("zstd", compress::unzstd(data, budget)?, "begins with the zstd magic"));
    }
    if compress::is_zlib(data) {
        // Two bytes announce little: the stream must also be whole.
        let out = compress::unzlib(data, budget).filter(|out| out.cut.is_none())?;
        return Some(Layer::inflated("zlib", out, "begins with a zlib header and inflates to its end"));
    }
    None
}

/// Bytes that are not UTF-8 text.
fn binary(data: &[u8], budget: &mut Budget) -> Option<Layer> {
    if let Some(layer) = utf16(data) {
        return Some(layer);
    }
    if is_media(data) {
        return None;
    }
    if let Some(value) = msgpack::parse(data, budget) {
        return Some(Layer::new(
            "msgpack",
            Content::Value(value),
            "one MessagePack value with texts, to the last byte",
        ));
    }
    if let Some(layer) = protobuf(data, false, budget) {
        return Some(layer);
    }
    if let Some(out) = compress::inflate_unannounced(data, budget) {
        return Some(Layer::inflated("deflate", out, "inflates to its last byte and gives text"));
    }
    if let Some(out) = compress::unbrotli_unannounced(data, budget) {
        return Some(Layer::inflated("brotli", out, "unpacks to its last byte and gives text"));
    }
    let text = text::utf16_runs(data)?;
    let layer =
        Layer::new("utf-16", Content::Bytes(text.into_bytes()), "runs of 16-bit text between other bytes");
    Some(Layer { covers: false, ..layer })
}

/// Text of 16-bit units.
pub(super) fn utf16(data: &[u8]) -> Option<Layer> {
    let (text, name) = text::unutf16(data)?;
    let why = "every second byte is zero, or it has the byte order mark";
    Some(Layer::new(name, Content::Bytes(text.into_bytes()), why))
}

/// Protocol Buffers; `declared` when the message says so.
pub(super) fn protobuf(data: &[u8], declared: bool, budget: &mut Budget) -> Option<Layer> {
    let why = if declared {
        "the message names protobuf"
    } else {
        "parses as protobuf fields to the last byte, a third of it text"
    };
    let value = protobuf::parse(data, declared, budget)?;
    // A digest now and then reads as a message of its own: the bytes are searched as well.
    Some(Layer { covers: false, ..Layer::new("protobuf", Content::Value(value), why) })
}

/// Pictures, sound, films, fonts, archives and programs: nothing to peel, and their density means nothing.
pub(super) fn is_media(data: &[u8]) -> bool {
    const FIRST: [bool; 256] = {
        let mut first = [false; 256];
        let mut at = 0;
        while at < MAGICS.len() {
            #[allow(clippy::indexing_slicing)] // evaluated at compile time
            {
                first[MAGICS[at][0] as usize] = true;
            }
            at += 1;
        }
        first
    };
    const MAGICS: &[&[u8]] = &[
        b"\xff\xd8\xff",
        b"\x89PNG",
        b"GIF8",
        b"RIFF",
        b"PK\x03\x04",
        b"PK\x05\x06",
        b"OggS",
        b"ID3",
        b"fLaC",
        b"\x1aE\xdf\xa3",
        b"wOFF",
        b"wOF2",
        b"\0asm",
        b"\x7fELF",
        b"dex\n",
        b"7z\xbc\xaf",
        b"Rar!",
        b"%PDF",
        b"II*\0",
        b"MM\0*",
        b"FLV\x01",
        b"\xfd7zXZ",
        b"BZh",
        b"#!AMR",
        b"\xff\xf1",
        b"\xff\xfb",
        b"\0\0\x01\0",
    ];
    // Asked of everything that some text may decode to: one look is enough for most.
    data.first().and_then(|first| FIRST.get(usize::from(*first))) == Some(&true)
        && MAGICS.iter().any(|magic| data.starts_with(magic))
        || data.get(4..8) == Some(b"ftyp")
}

/// What this text holds, if anything. Looks at each character at most once before it decides.
pub(super) fn text(text: &str, budget: &mut Budget) -> Option<Layer> {
    // Nearly every text begins with what is not white space: one byte tells, below the first of a byte order mark.
    let trimmed = match text.as_bytes().first() {
        Some(b'!'..0x80) => text,
        _ => text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']),
    };
    if trimmed.len() < 3 {
        return None;
    }
    match trimmed.as_bytes().first()? {
        b'{' | b'[' => return json_text(trimmed, "begins like JSON and parses", budget),
        b'"' => return quoted_json(trimmed, budget),
        b'<' => return xml(trimmed, budget),
        _ => {}
    }
    let bytes = trimmed.as_bytes();
    if let Some(layer) = announced(trimmed, budget) {
        return Some(layer);
    }
    let chars = Chars::of(bytes);
    // A number of a few digits is a number; text of digits and marks in hex has no letters either.
    if chars.hex() || (chars.digits() && bytes.len() >= 2 * LEAST_TEXT) {
        return hex(bytes, budget);
    }
    if chars.base64() {
        return base64(bytes, chars, budget);
    }
    if chars.form()
        && let Some(layer) = form(bytes, budget)
    {
        return Some(layer);
    }
    if let Some(layer) = unpercent(trimmed) {
        return Some(layer);
    }
    pairs(trimmed, budget).or_else(|| jsonp(trimmed, budget))
}

fn xml(text: &str, budget: &mut Budget) -> Option<Layer> {
    if text.len() < 8 || !budget.work(text.len()) {
        return None;
    }
    let parsed = xml::parse(text, budget)?;
    let step = if text.get(..512).unwrap_or(text).contains("<plist") { "plist" } else { "xml" };
    let covers = parsed.cut.is_none();
    let why = "begins like XML and parses";
    Some(Layer { step, content: Content::Value(parsed.value), why, cut: parsed.cut, covers })
}

/// `a=b##c=d`, as Sensors' install event joins its identifiers.
fn pairs(text: &str, budget: &mut Budget) -> Option<Layer> {
    let hash = memchr::memchr(b'#', text.as_bytes())?;
    // The name of the first pair ends before the first ##: `Main.java##onClick##12` is given up at once.
    let first = text.get(..hash).unwrap_or_default();
    if text.as_bytes().get(hash + 1) != Some(&b'#') || !first.contains('=') {
        return None;
    }
    let mut members = Vec::new();
    for part in text.split("##") {
        let (name, value) = part.split_once('=')?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'$');
        if name.is_empty() || !name.bytes().all(plain) || !budget.take_item() {
            return None;
        }
        members.push((name.into(), Value::Text(value.into())));
    }
    let why = "names and values joined by = and ##";
    Some(Layer::new("pairs", Content::Value(Value::Map(members)), why))
}

fn json_text(text: &str, why: &'static str, budget: &mut Budget) -> Option<Layer> {
    if text.len() < 5 || !budget.work(text.len()) {
        return None;
    }
    let parsed = json::parse(text, budget)?;
    let step = if parsed.count > 1 { "jsonl" } else { "json" };
    let covers = parsed.cut.is_none();
    Some(Layer { step, content: Content::Value(parsed.value), why, cut: parsed.cut, covers })
}

/// A JSON string that holds JSON: encoded twice.
fn quoted_json(text: &str, budget: &mut Budget) -> Option<Layer> {
    let inside = text.get(1..)?.trim_start();
    if !inside.starts_with(['{', '[']) || !budget.work(text.len()) {
        return None;
    }
    let inner = json::parse_string(text, budget)?;
    json::parse(&inner, budget).filter(|parsed| parsed.cut.is_none())?;
    let why = "a JSON string that holds JSON again";
    Some(Layer::new("json", Content::Value(Value::Text(inner)), why))
}

/// `callback({…});`
fn jsonp(text: &str, budget: &mut Budget) -> Option<Layer> {
    let body = text.trim_end().trim_end_matches(';').strip_suffix(')')?;
    let (name, json) = body.split_once('(')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_name) {
        return None;
    }
    let parsed = json::parse(json.trim_start(), budget).filter(|p| p.cut.is_none())?;
    Some(Layer::new("jsonp", Content::Value(parsed.value), "a call with one JSON argument"))
}

fn hex(text: &[u8], budget: &mut Budget) -> Option<Layer> {
    // Hashes and identifiers are hex too: only what reads as text or unpacks afterwards is a layer.
    if text.len() < 2 * LEAST_TEXT || !budget.work(text.len()) {
        return None;
    }
    let bytes = text::unhex(text).filter(|bytes| promising(bytes, budget))?;
    Some(Layer::new("hex", Content::Bytes(bytes), "hex digits that decode to something readable"))
}

/// Hex digits in groups of two, `0x` before hex digits, base64 in a `data:` address (RFC 2397): told by their first bytes.
fn announced(text: &str, budget: &mut Budget) -> Option<Layer> {
    let bytes = text.as_bytes();
    match bytes {
        [b'0', b'x' | b'X', digits @ ..] => hex(digits, budget),
        [_, _, separator @ (b' ' | b':' | b'-'), _, _, next, ..] if next == separator => {
            let mut groups = bytes.split(|byte| byte == separator);
            if bytes.len() < 3 * LEAST_TEXT - 1 || !groups.all(|group| group.len() == 2) {
                return None;
            }
            let digits: Vec<u8> = bytes.iter().copied().filter(|byte| byte != separator).collect();
            hex(&digits, budget)
        }
        [b'd', b'a', b't', b'a', b':', ..] => {
            let comma = memchr::memchr(b',', bytes.get(..128).unwrap_or(bytes))?;
            let (head, data) = bytes.split_at_checked(comma + 1)?;
            if head.ends_with(b";base64,") { base64(data, Chars::of(data), budget) } else { None }
        }
        _ => None,
    }
}

fn base64(text: &[u8], chars: Chars, budget: &mut Budget) -> Option<Layer> {
    if text.len() < LEAST_ENCODED || is_uuid(text) || text::is_words(text, chars) || !budget.work(text.len())
    {
        return None;
    }
    let bytes = text::unbase64_of(text, chars).filter(|bytes| promising(bytes, budget))?;
    Some(Layer::new("base64", Content::Bytes(bytes), "base64 characters that decode to something readable"))
}

/// 8-4-4-4-12.
fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36 && [8, 13, 18, 23].iter().all(|at| text.get(*at) == Some(&b'-'))
}

/// Whether what came out of a guess makes sense: the guess is right only if it does.
fn promising(bytes: &[u8], budget: &mut Budget) -> bool {
    compress::is_gzip(bytes)
        || compress::is_zstd(bytes)
        || text::reads_as_text(bytes, LEAST_TEXT)
        || frames_json(bytes)
        || magic(bytes, budget).is_some()
        || binary(bytes, budget).is_some()
}

/// Begins and ends as JSON does. Short values make more marks than letters, so that it need not read as text.
pub(super) fn frames_json(bytes: &[u8]) -> bool {
    let framed = matches!(
        (bytes, bytes.trim_ascii_end().last()),
        ([b'{', b'"', ..] | [b'{', b' ' | b'\n', ..], Some(b'}'))
            | ([b'[', b'{' | b'[' | b'"', ..], Some(b']'))
    );
    framed && bytes.len() >= LEAST_TEXT && simdutf8::basic::from_utf8(bytes).is_ok()
}

/// `a=b&c=d`: two pairs or more, each with a plain name.
fn form(text: &[u8], budget: &mut Budget) -> Option<Layer> {
    let plain = |name: &[u8]| {
        !name.is_empty()
            && name.len() <= 64
            && name
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'$' | b'[' | b']'))
    };
    if !budget.work(text.len()) {
        return None;
    }
    let text_of = |raw: &[u8]| String::from_utf8_lossy(&wire::form::decode(raw)).into_owned();
    let mut members = Vec::new();
    for (name, value) in wire::form::pairs(text) {
        if !plain(name) || !budget.take_item() {
            return None;
        }
        members.push((text_of(name).into(), Value::Text(text_of(value).into())));
    }
    (members.len() >= 2).then(|| {
        Layer::new("form", Content::Value(Value::Map(members)), "names and values joined by = and &")
    })
}

fn unpercent(text: &str) -> Option<Layer> {
    let decoded = text::unpercent(text)?;
    Some(Layer::new(
        "percent",
        Content::Bytes(decoded.into_bytes()),
        "percent signs with two hex digits each",
    ))
}
