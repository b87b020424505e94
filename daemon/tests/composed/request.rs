//! Requests as a client writes them, and the encodings their values travel in.

use std::io::Write as _;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};

pub(crate) const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");
pub(crate) const BYTES: (&str, &str) = ("Content-Type", "application/octet-stream");
pub(crate) const TEXT: (&str, &str) = ("Content-Type", "text/plain");

/// One HTTP/1.1 request (RFC 9112).
pub(crate) fn http(method: &str, target: &str, host: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut out = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    if method != "GET" {
        out.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    out.push_str("\r\n");
    [out.as_bytes(), body].concat()
}

pub(crate) fn post(target: &str, host: &str, kind: (&str, &str), body: impl AsRef<[u8]>) -> Vec<u8> {
    http("POST", target, host, &[kind], body.as_ref())
}

pub(crate) fn get(target: &str, host: &str) -> Vec<u8> {
    http("GET", target, host, &[], b"")
}

/// Every byte but letters and digits as `%XX`.
pub(crate) fn percent(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    fields.iter().map(|(name, value)| format!("{name}={}", percent(value))).collect::<Vec<_>>().join("&")
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(data).unwrap();
    out.finish().unwrap()
}

pub(crate) fn zlib(data: &[u8]) -> Vec<u8> {
    miniz_oxide::deflate::compress_to_vec_zlib(data, 6)
}

pub(crate) fn deflate(data: &[u8]) -> Vec<u8> {
    miniz_oxide::deflate::compress_to_vec(data, 6)
}

pub(crate) fn zstd(data: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
}

/// One stored meta-block and an empty last one (RFC 7932 section 9.2): no encoder is among our dependencies.
pub(crate) fn brotli(data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len() - 1).unwrap();
    assert!(length < 1 << 16);
    // WBITS 16 (one zero bit), ISLAST 0, MNIBBLES 4, MLEN - 1, ISUNCOMPRESSED 1.
    let header = (length << 4) | 1 << 20;
    [&header.to_le_bytes()[..3], data, &[3]].concat()
}

pub(crate) fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn separated(data: &[u8], separator: &str) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(separator)
}

pub(crate) fn base64(data: &[u8]) -> String {
    STANDARD.encode(data)
}

pub(crate) fn base64_bare(data: &[u8]) -> String {
    STANDARD_NO_PAD.encode(data)
}

pub(crate) fn base64_url(data: &[u8]) -> String {
    URL_SAFE.encode(data)
}

pub(crate) fn base64_url_bare(data: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(data)
}

/// Lines of 76 characters (RFC 2045 section 6.8).
pub(crate) fn base64_mime(data: &[u8], end: &str) -> String {
    let text = base64(data);
    text.as_bytes().chunks(76).map(|line| format!("{}{end}", String::from_utf8_lossy(line))).collect()
}

pub(crate) fn utf16(text: &str, little: bool) -> Vec<u8> {
    text.encode_utf16()
        .flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() })
        .collect()
}

/// A length-delimited protobuf field.
pub(crate) fn field(number: u8, data: &[u8]) -> Vec<u8> {
    assert!(data.len() < 128 && number < 16);
    [&[number << 3 | 2, u8::try_from(data.len()).unwrap()], data].concat()
}

/// Java's `String.hashCode` of ASCII text.
pub(crate) fn java_hash(text: &str) -> i32 {
    text.bytes().fold(0, |hash: i32, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)))
}

/// The `data_list` form of the Sensors SDK.
pub(crate) fn sensors(events: &serde_json::Value, zipped: bool, name: &str) -> String {
    let json = events.to_string();
    let text = base64(&if zipped { gzip(json.as_bytes()) } else { json.into_bytes() });
    let (crc, flag) = (java_hash(&text).to_string(), if zipped { "1" } else { "0" });
    form(&[("crc", &crc), ("gzip", flag), (name, &text)])
}
