//! Takes secrets, and what people wrote, out of a request before it is kept. Pure: bytes in, spans out.
//!
//! Two nets, because a secret can be wrapped as often as telemetry is. The first looks at the bytes as they are: headers, pairs in
//! addresses and forms, JSON members, userinfo, bearer tokens. The second takes what is left apart with the same peeler that found the
//! leak: if any layer still holds a secret, the whole body goes.

use std::ops::Range;

use crate::alert::secrets;
use crate::unwrap::{Content, Limits, Protocols, Tree, Value, peel};
use crate::wire::Message;

/// What stands where something was taken out.
pub const MARK: &[u8] = b"***";

/// What opens something in a message kept whole, beyond what an alert's own value could hold.
const MORE_SECRETS: &[&str] = &["passphrase", "api-key", "assertion", "verifier", "cvv", "cvc", "iban"];
/// Names of fields that hold what the owner or others wrote.
const WRITTEN_NAMES: &[&str] = &[
    "message",
    "msg",
    "text",
    "body",
    "comment",
    "comments",
    "content",
    "subject",
    "note",
    "notes",
    "caption",
    "draft",
    "reply",
    "clipboard",
    "input",
    "input_text",
    "bio",
    "post",
    "chat",
    "sms",
    "mail",
];
/// What an OAuth request has (RFC 6749 sections 4.1.3 and 6): nothing of its body is kept.
const OAUTH_NAMES: &[&str] = &["grant_type", "client_secret", "refresh_token", "code_verifier", "id_token"];

/// Whether what stands under this name must not be kept.
pub fn is_secret(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    secrets::is_secret(&lower)
        || WRITTEN_NAMES.contains(&lower.as_str())
        || MORE_SECRETS.iter().any(|part| lower.contains(part))
}

/// Names that programs also use for what opens nothing and nobody wrote: `"state":"open"`, `"key":"home"`, `"text":"button_ok"`.
const OFTEN_PLAIN: &[&str] =
    &["state", "key", "code", "text", "content", "body", "input", "note", "subject", "post"];
/// The longest word a program calls something by.
const LONGEST_WORD: usize = 32;

/// Whether a value under such a name is a program's word, or a structure that is looked into by itself.
fn says_little(name: &str, value: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    if !OFTEN_PLAIN.contains(&name.as_str()) {
        return false;
    }
    let value = value.trim_ascii();
    if matches!(value.first(), Some(b'{' | b'[')) {
        return true;
    }
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    let parts = text.split(['_', '.', '-']);
    let is_word = text.len() <= LONGEST_WORD && parts.clone().all(word);
    match name.as_str() {
        // Four digits and more may be one that was sent to be typed in.
        "code" if text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit()) => true,
        "state" | "key" | "code" => is_word,
        // One word alone may be somebody's.
        _ => is_word && parts.count() > 1,
    }
}

/// A request as text: what an HTTP/1 client would have written, whatever carried it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The bytes that may be kept.
    pub bytes: Vec<u8>,
    /// What was taken out of the request as captured: offset, length.
    pub removed: Vec<Range<usize>>,
}

/// The request in one piece, before anything is taken out.
pub fn whole(message: &Message) -> Vec<u8> {
    keep_parts(message, |_, _| Vec::new(), |_| Vec::new()).bytes
}

/// The request without secrets, by both nets.
pub fn redacted(message: &Message, protocols: &Protocols, limits: &Limits) -> Kept {
    let head = |name: Option<&str>, bytes: &[u8]| match name {
        Some(name) if is_secret(name) => all_of(bytes),
        _ => spans(bytes),
    };
    let kept = keep_parts(message, head, body_spans);
    let mut again = message.clone();
    again.target =
        String::from_utf8_lossy(&apply(message.target.as_bytes(), &spans(message.target.as_bytes())))
            .into_owned();
    for (name, value) in &mut again.headers {
        *value = apply(value, &head(Some(name), value));
    }
    again.body = apply(&message.body, &body_spans(&message.body));
    if holds_secret(&peel(&again, protocols, limits)) {
        return keep_parts(message, head, all_of);
    }
    kept
}

/// Bytes of a layer with the spans taken out that the first net finds.
pub fn spans_of_layer(bytes: &[u8]) -> Vec<Range<usize>> {
    body_spans(bytes)
}

fn all_of(bytes: &[u8]) -> Vec<Range<usize>> {
    std::iter::once(0..bytes.len()).filter(|span| !span.is_empty()).collect()
}

/// `bytes` with `spans` (sorted, apart) replaced by [`MARK`].
pub fn apply(bytes: &[u8], spans: &[Range<usize>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    for span in spans {
        out.extend_from_slice(bytes.get(at..span.start).unwrap_or_default());
        out.extend_from_slice(MARK);
        at = span.end;
    }
    out.extend_from_slice(bytes.get(at..).unwrap_or_default());
    out
}

fn keep_parts(
    message: &Message,
    head: impl Fn(Option<&str>, &[u8]) -> Vec<Range<usize>>,
    body: impl Fn(&[u8]) -> Vec<Range<usize>>,
) -> Kept {
    let mut parts: Vec<(&[u8], Vec<Range<usize>>)> = Vec::new();
    if !message.method.is_empty() {
        parts.push((message.method.as_bytes(), Vec::new()));
        parts.push((b" ", Vec::new()));
        parts.push((message.target.as_bytes(), head(None, message.target.as_bytes())));
        parts.push((b" HTTP/1.1\r\n", Vec::new()));
        // HTTP/2 has its host in a pseudo-header.
        if let (Some(host), None) = (&message.host, message.header("host")) {
            parts.push((b"host: ", Vec::new()));
            parts.push((host.as_bytes(), Vec::new()));
            parts.push((b"\r\n", Vec::new()));
        }
        for (name, value) in &message.headers {
            parts.push((name.as_bytes(), Vec::new()));
            parts.push((b": ", Vec::new()));
            parts.push((value, head(Some(name), value)));
            parts.push((b"\r\n", Vec::new()));
        }
        parts.push((b"\r\n", Vec::new()));
    }
    parts.push((&message.body, body(&message.body)));
    let mut kept = Kept { bytes: Vec::new(), removed: Vec::new() };
    let mut offset = 0_usize;
    for (part, spans) in parts {
        kept.bytes.extend(apply(part, &spans));
        kept.removed.extend(
            spans.into_iter().map(|span| offset.saturating_add(span.start)..offset.saturating_add(span.end)),
        );
        offset = offset.saturating_add(part.len());
    }
    kept
}

/// Whether any layer holds something under a secret's name, or an OAuth request.
fn holds_secret(tree: &Tree) -> bool {
    tree.nodes.iter().any(|node| {
        let name = node.step.split_once(':').map_or("", |(_, name)| name);
        let last = node.at.rsplit(['.', '[', ']', '"']).find(|part| !part.is_empty()).unwrap_or_default();
        let opens = |name: &str| is_secret(name) && !content_says_little(name, &node.content);
        let named = (opens(name) || opens(last)) && !is_mark(&node.content);
        named
            || match &node.content {
                Content::Bytes(bytes) => !body_spans(bytes).is_empty(),
                Content::Value(value) => value_holds_secret(value),
            }
    })
}

fn content_says_little(name: &str, content: &Content) -> bool {
    match content {
        Content::Bytes(bytes) => says_little(name, bytes),
        Content::Value(value) => value_says_little(name, value),
    }
}

fn value_says_little(name: &str, value: &Value) -> bool {
    match value {
        Value::Text(text) => says_little(name, text.as_bytes()),
        Value::Number(text) => says_little(name, text.as_bytes()),
        Value::List(_) | Value::Map(_) => says_little(name, b"{"),
        Value::Bytes(_) | Value::Null | Value::Bool(_) => false,
    }
}

fn is_mark(content: &Content) -> bool {
    match content {
        Content::Bytes(bytes) => bytes.is_empty() || bytes == MARK,
        Content::Value(value) => is_marked(value),
    }
}

fn is_marked(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => true,
        Value::Text(text) => text.is_empty() || text.as_bytes() == MARK,
        Value::Bytes(bytes) => bytes.is_empty() || &**bytes == MARK,
        Value::Number(_) => false,
        Value::List(list) => list.iter().all(is_marked),
        Value::Map(map) => map.iter().all(|(_, value)| is_marked(value)),
    }
}

fn value_holds_secret(value: &Value) -> bool {
    match value {
        Value::List(list) => list.iter().any(value_holds_secret),
        Value::Map(map) => map.iter().any(|(name, value)| {
            let opens = is_secret(name) && !is_marked(value) && !value_says_little(name, value);
            opens || value_holds_secret(value)
        }),
        Value::Text(text) => !spans(text.as_bytes()).is_empty(),
        Value::Bytes(bytes) => !spans(bytes).is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The first net for a body: all of it when it is an OAuth request.
fn body_spans(body: &[u8]) -> Vec<Range<usize>> {
    if body == MARK {
        return Vec::new();
    }
    if OAUTH_NAMES.iter().any(|name| has_member(body, name.as_bytes())) {
        return all_of(body);
    }
    spans(body)
}

/// Whether a pair or member of that name stands in the bytes, with a value that was not taken out.
fn has_member(bytes: &[u8], name: &[u8]) -> bool {
    memchr::memmem::find_iter(bytes, name).any(|at| {
        let end = at.saturating_add(name.len());
        let starts =
            at.checked_sub(1).and_then(|before| bytes.get(before)).is_none_or(|byte| !is_name_byte(*byte));
        starts && value_after(bytes, end).is_some()
    })
}

/// The first net: pairs, members, userinfo, bearer tokens. Sorted and apart.
fn spans(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for separator in memchr::memchr3_iter(b'=', b':', b'"', bytes) {
        match bytes.get(separator) {
            Some(b'=' | b'"') => pair(bytes, separator, &mut found),
            _ => userinfo(bytes, separator, &mut found),
        }
    }
    for scheme in [b"earer ".as_slice(), b"asic "] {
        for at in memchr::memmem::find_iter(bytes, scheme) {
            let start = at.saturating_add(scheme.len());
            let length = run(bytes, start, |byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte));
            if length >= 8 {
                found.push(start..start.saturating_add(length));
            }
        }
    }
    // A JSON Web Token: three base64url parts, the first of which begins with `{"`.
    for at in memchr::memmem::find_iter(bytes, b"eyJ") {
        let length = run(bytes, at, |byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let token = bytes.get(at..at.saturating_add(length)).unwrap_or_default();
        if token.iter().filter(|byte| **byte == b'.').count() == 2 && length > 20 {
            found.push(at..at.saturating_add(length));
        }
    }
    apart(found)
}

fn apart(mut found: Vec<Range<usize>>) -> Vec<Range<usize>> {
    found.sort_by_key(|span| span.start);
    let mut spans: Vec<Range<usize>> = Vec::new();
    for span in found {
        match spans.last_mut() {
            Some(last) if span.start < last.end => last.end = last.end.max(span.end),
            _ => spans.push(span),
        }
    }
    spans
}

fn run(bytes: &[u8], start: usize, fits: impl Fn(u8) -> bool) -> usize {
    bytes.get(start..).unwrap_or_default().iter().take_while(|byte| fits(**byte)).count()
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.$".contains(&byte)
}

/// `name=value`, or a JSON string that turns out to be a member's name: `end` is the byte after the name.
fn pair(bytes: &[u8], end: usize, found: &mut Vec<Range<usize>>) {
    let before = bytes.get(..end).unwrap_or_default();
    // `\"name\"`: JSON inside a JSON string.
    let before = trim_end(before, b'\\');
    let length = before.iter().rev().take_while(|byte| is_name_byte(**byte)).take(64).count();
    let name = before.get(before.len().saturating_sub(length)..).unwrap_or_default();
    if name.is_empty() || !std::str::from_utf8(name).is_ok_and(is_secret) {
        return;
    }
    let name = std::str::from_utf8(name).unwrap_or_default();
    if let Some(value) = value_after(bytes, before.len())
        && !says_little(name, bytes.get(value.clone()).unwrap_or_default())
    {
        found.push(value);
    }
}

fn trim_end(mut bytes: &[u8], byte: u8) -> &[u8] {
    while let Some(rest) = bytes.strip_suffix(&[byte]) {
        bytes = rest;
    }
    bytes
}

/// The value that belongs to a name that ends at `end`: after `=`, or after the closing quote and a colon. None when there is
/// none, or when it was taken out already.
fn value_after(bytes: &[u8], end: usize) -> Option<Range<usize>> {
    let escapes = run(bytes, end, |byte| byte == b'\\');
    let mut at = end.checked_add(escapes)?;
    let span = match bytes.get(at)? {
        b'=' if escapes == 0 => {
            at = at.checked_add(1)?;
            let length = run(bytes, at, |byte| {
                !matches!(byte, b'&' | b';' | b'"' | b'\'' | b'<' | b'>') && !byte.is_ascii_whitespace()
            });
            at..at.checked_add(length)?
        }
        b'"' => {
            at = at.checked_add(1)?;
            at = at.checked_add(run(bytes, at, |byte| byte.is_ascii_whitespace()))?;
            if bytes.get(at) != Some(&b':') {
                return None;
            }
            at = at.checked_add(1)?;
            at = at.checked_add(run(bytes, at, |byte| byte.is_ascii_whitespace()))?;
            json_value(bytes, at, escapes)?
        }
        _ => return None,
    };
    let value = bytes.get(span.clone())?;
    (!value.is_empty() && value != MARK).then_some(span)
}

/// A JSON value that begins at `at`; of a string what stands between the quotes, `escapes` backslashes before each.
fn json_value(bytes: &[u8], at: usize, escapes: usize) -> Option<Range<usize>> {
    let quote = at.checked_add(run(bytes, at, |byte| byte == b'\\'))?;
    match bytes.get(quote)? {
        b'"' => {
            let start = quote.checked_add(1)?;
            let mut behind = 0_usize;
            for (offset, byte) in bytes.get(start..)?.iter().enumerate() {
                match byte {
                    b'\\' => behind = behind.saturating_add(1),
                    b'"' if behind <= escapes => {
                        return Some(start..start.checked_add(offset)?.checked_sub(behind)?);
                    }
                    _ => behind = 0,
                }
            }
            Some(start..bytes.len())
        }
        b'{' | b'[' => {
            let mut depth = 0_usize;
            for (offset, byte) in bytes.get(at..)?.iter().enumerate() {
                match byte {
                    b'{' | b'[' => depth = depth.saturating_add(1),
                    b'}' | b']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                if depth == 0 {
                    return Some(at..at.checked_add(offset)?.checked_add(1)?);
                }
            }
            Some(at..bytes.len())
        }
        _ => {
            let length =
                run(bytes, at, |byte| !matches!(byte, b',' | b'}' | b']') && !byte.is_ascii_whitespace());
            let word = bytes.get(at..at.checked_add(length)?)?;
            let says_nothing = matches!(word, b"null" | b"true" | b"false" | b"0" | b"");
            (!says_nothing).then(|| at..at.saturating_add(length))
        }
    }
}

/// `scheme://user:password@host`: everything between the slashes and the last `@` before the path.
fn userinfo(bytes: &[u8], colon: usize, found: &mut Vec<Range<usize>>) {
    let start = colon.saturating_add(3);
    if bytes.get(colon..start) != Some(b"://") {
        return;
    }
    let length = run(bytes, start, |byte| {
        !matches!(byte, b'/' | b'?' | b'#' | b'\\' | b'"' | b'\'' | b'<' | b'>' | b'&')
            && !byte.is_ascii_whitespace()
    });
    let authority = bytes.get(start..start.saturating_add(length)).unwrap_or_default();
    if let Some(at) = memchr::memrchr(b'@', authority)
        && authority.get(..at) != Some(MARK)
        && at > 0
    {
        found.push(start..start.saturating_add(at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(text: &str) -> String {
        String::from_utf8(apply(text.as_bytes(), &body_spans(text.as_bytes()))).unwrap()
    }

    #[test]
    fn pairs_members_userinfo_and_tokens_go() {
        for (sent, kept) in [
            ("/in?token=abc&q=cats", "/in?token=***&q=cats"),
            ("user=ana&password=hunter2&x=1", "user=ana&password=***&x=1"),
            (r#"{"q":"cats","accessToken" : "a\"b","n":1}"#, r#"{"q":"cats","accessToken" : "***","n":1}"#),
            (r#"{"pin":1234,"n":1}"#, r#"{"pin":***,"n":1}"#),
            (r#"{"auth":{"user":"ana","deep":["x"]},"n":1}"#, r#"{"auth":***,"n":1}"#),
            (
                r#"{"inner":"{\"session_id\":\"s3cr\",\"n\":1}"}"#,
                r#"{"inner":"{\"session_id\":\"***\",\"n\":1}"}"#,
            ),
            ("see https://ana:hunter2@mail.example/in", "see https://***@mail.example/in"),
            ("x Bearer abcdefghij y", "x Bearer *** y"),
            ("t eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln t", "t *** t"),
            (r#"{"message":"dear ana","n":1}"#, r#"{"message":"***","n":1}"#),
            ("grant_type=authorization_code&x=1", "***"),
            (
                r#"{"url":"https://clinic.example.org/hiv-test?id=12"}"#,
                r#"{"url":"https://clinic.example.org/hiv-test?id=12"}"#,
            ),
            (r#"{"token":null,"auth":false}"#, r#"{"token":null,"auth":false}"#),
            (r#"{"state":"open","key":"home","code":200}"#, r#"{"state":"open","key":"home","code":200}"#),
            (
                r#"{"state":"a8f3c9d2e1","key":"k3yK3Y","code":482913}"#,
                r#"{"state":"***","key":"***","code":***}"#,
            ),
            (r#"{"text":"button_ok","n":1}"#, r#"{"text":"button_ok","n":1}"#),
            (r#"{"text":"pregnant","content":"hello ana"}"#, r#"{"text":"***","content":"***"}"#),
            (r#"{"content":{"id":"x1","token":"t0"}}"#, r#"{"content":{"id":"x1","token":"***"}}"#),
            ("hash=abc&state=list.end", "hash=***&state=list.end"),
            ("", ""),
        ] {
            assert_eq!(clean(sent), kept, "{sent}");
            assert_eq!(clean(kept), kept, "twice: {kept}");
        }
    }

    #[test]
    fn a_secret_in_a_layer_takes_the_body_with_it() {
        use base64::Engine as _;
        let hidden = base64::engine::general_purpose::STANDARD
            .encode(r#"{"properties":{"url":"https://a.example/","access_token":"s3cr3t-in-a-layer"}}"#);
        let message = Message {
            method: "POST".into(),
            target: "/sa".into(),
            headers: vec![
                ("content-type".into(), b"application/x-www-form-urlencoded".to_vec()),
                ("cookie".into(), b"a=s3cr3t-cookie".to_vec()),
            ],
            body: format!("crc=1&data={}", hidden.replace('+', "%2B").replace('=', "%3D")).into_bytes(),
            ..Message::default()
        };
        let kept = redacted(&message, &Protocols::builtin(), &Limits::default());
        let text = String::from_utf8_lossy(&kept.bytes).into_owned();
        assert!(text.ends_with("cookie: ***\r\n\r\n***"), "{text}");
        let captured = whole(&message);
        assert_eq!(&captured[kept.removed[0].clone()], b"a=s3cr3t-cookie");
        assert_eq!(captured[kept.removed[1].clone()], message.body);
    }

    #[test]
    fn torn_text_is_no_trouble() {
        let text = br#"{"password":"a\"b","auth":{"x":[1]},"u":"https://a:b@c/?token=x","pin":12} Bearer abcdefghijkl"#;
        for end in 0..=text.len() {
            for start in [0, end / 2] {
                let part = &text[start..end];
                let spans = body_spans(part);
                assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start));
                assert!(apply(part, &spans).len() <= part.len() + MARK.len() * spans.len());
            }
        }
    }
}
