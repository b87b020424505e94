//! The requests of a HAR file (HTTP Archive 1.2), as browsers' developer tools and intercepting proxies save them, in the form a
//! client writes: what `telltale decode` reads.
#![forbid(unsafe_code)]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::wire::host_of;

/// One request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The host of its address.
    pub(super) host: Option<String>,
    /// Its address begins with `http:`.
    pub(super) plain: bool,
    /// HTTP/1.1.
    pub(super) bytes: Vec<u8>,
}

/// Whether these first bytes may begin a HAR: a JSON object with a member `log` near its start.
pub(super) fn may_begin(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    bytes.strip_prefix(b"{").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"\"log\""))
}

/// The requests in order; none when it is no HAR.
pub(super) fn requests(bytes: &[u8]) -> Option<Vec<Request>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let har: Value = serde_json::from_slice(bytes).ok()?;
    let entries = har.get("log")?.get("entries")?.as_array()?;
    Some(entries.iter().filter_map(|entry| request(entry.get("request")?)).collect())
}

fn request(request: &Value) -> Option<Request> {
    let text = |key: &str| request.get(key).and_then(Value::as_str);
    let (scheme, rest) = text("url")?.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at_checked(end)?;
    let target = target.split('#').next().unwrap_or_default();
    let slash = if target.starts_with('/') { "" } else { "/" };
    let mut head = format!("{} {slash}{target} HTTP/1.1\r\nHost: {authority}\r\n", text("method")?);
    for header in request.get("headers").and_then(Value::as_array).into_iter().flatten() {
        let field = |key: &str| header.get(key).and_then(Value::as_str);
        let (Some(name), Some(value)) = (field("name"), field("value")) else { continue };
        // HTTP/2's pseudo fields, and framing that is not the saved body's.
        let framing = ["host", "content-length", "transfer-encoding", "connection", "upgrade", "expect"];
        if name.starts_with(':') || framing.iter().any(|other| name.eq_ignore_ascii_case(other)) {
            continue;
        }
        if !format!("{name}{value}").contains(['\r', '\n']) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    let body = body(request.get("postData"));
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let bytes = [head.into_bytes(), body].concat();
    Some(Request { host: host_of(authority.as_bytes()), plain: scheme.eq_ignore_ascii_case("http"), bytes })
}

fn body(data: Option<&Value>) -> Vec<u8> {
    let Some(data) = data else { return Vec::new() };
    match data.get("text").and_then(Value::as_str) {
        // Not in HAR 1.2, but how proxies save what is not text.
        Some(text) if data.get("encoding").and_then(Value::as_str) == Some("base64") => {
            STANDARD.decode(text).unwrap_or_default()
        }
        Some(text) => text.as_bytes().to_vec(),
        // A form may be saved as its fields alone.
        None => {
            let fields = data.get("params").and_then(Value::as_array).into_iter().flatten();
            let pair = |field: &Value| {
                let text = |key: &str| field.get(key).and_then(Value::as_str);
                Some(format!("{}={}", escaped(text("name")?), escaped(text("value").unwrap_or_default())))
            };
            fields.filter_map(pair).collect::<Vec<_>>().join("&").into_bytes()
        }
    }
}

/// Percent-encoded where a form would misread it.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'$' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn har(request: Value) -> Vec<u8> {
        json!({"log": {"version": "1.2", "entries": [{"request": request}, {}]}}).to_string().into_bytes()
    }

    #[test]
    fn a_request_as_a_client_writes_it() {
        let file = har(json!({"method": "POST", "url": "http://A.example:8080/x?y=1#z", "headers": [
            {"name": ":authority", "value": "a.example"}, {"name": "Content-Type", "value": "text/plain"},
            {"name": "Content-Length", "value": "99"}, {"name": "X", "value": "a\r\nb"}], "postData": {"text": "hi"}}));
        assert!(may_begin(&file));
        let all = requests(&file).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].host.as_deref(), all[0].plain), (Some("a.example"), true));
        let sent = "POST /x?y=1 HTTP/1.1\r\nHost: A.example:8080\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(String::from_utf8_lossy(&all[0].bytes), sent);
    }

    #[test]
    fn bodies_in_base64_and_as_fields() {
        let body_of = |data: Value| {
            let file = har(json!({"method": "POST", "url": "https://a.example", "postData": data}));
            let bytes = requests(&file).unwrap().remove(0).bytes;
            String::from_utf8_lossy(&bytes).split_once("\r\n\r\n").unwrap().1.to_owned()
        };
        assert_eq!(body_of(json!({"text": "aGk=", "encoding": "base64"})), "hi");
        assert_eq!(body_of(json!({"params": [{"name": "a", "value": "1&2"}, {"name": "b"}]})), "a=1%262&b=");
    }

    #[test]
    fn what_is_no_har_is_said_so() {
        let file = har(json!({"method": "GET", "url": "https://a.example/"}));
        for end in 0..file.len() {
            assert_eq!(requests(&file[..end]), None);
        }
        for text in [&b"{}"[..], b"POST / HTTP/1.1", b"{\"event\":1}", b""] {
            assert!(!may_begin(text) && requests(text).is_none());
        }
    }
}
