//! Reads the sample requests of `daemon/tests/samples`: what a phone sends, and what Telltale must say about it.

use std::path::Path;

use serde_json::Value;

use crate::context::read_text;
use crate::error::{Error, Result};

/// One sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its name, also that of its file.
    pub name: String,
    /// The app that sends it.
    pub app: String,
    /// The host it is sent to.
    pub host: String,
    /// The request as HTTP/1.1 bytes.
    pub request: Vec<u8>,
    /// What must be found.
    pub findings: Vec<Expected>,
    /// The loudest severity an alert about it may have, if the sample limits it.
    pub loudest: Option<char>,
}

/// One finding that must be reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its kind, and another one that fits as well.
    pub kinds: Vec<String>,
    /// The value in plain words.
    pub value: String,
    /// How it travels, when not plain.
    pub form: Option<String>,
}

impl Sample {
    /// Reads the sample called `name` from `dir`.
    ///
    /// # Errors
    /// [`Error::File`], or [`Error::Check`] naming the field that is missing.
    pub fn read(dir: &Path, name: &str) -> Result<Self> {
        let path = dir.join(format!("{name}.json"));
        Self::parse(&read_text(&path)?).map_err(|what| Error::Check(format!("{}: {what}", path.display())))
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        let json: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let request = json.get("request").ok_or("no `request`")?;
        let expect = json.get("expect").ok_or("no `expect`")?;
        if request.get("body_base64").and_then(Value::as_bool) == Some(true) {
            return Err("its body is in base64, which this reader does not take".into());
        }
        let findings = expect.get("findings").and_then(Value::as_array).ok_or("no `findings`")?;
        Ok(Self {
            name: text_of(&json, "name")?,
            app: text_of(&json, "app")?,
            host: text_of(request, "host")?,
            request: http1(request)?,
            findings: findings.iter().map(Expected::parse).collect::<std::result::Result<_, _>>()?,
            loudest: expect.get("loudest").and_then(Value::as_str).and_then(|word| word.chars().next()),
        })
    }
}

impl Expected {
    fn parse(json: &Value) -> std::result::Result<Self, String> {
        let kinds = ["kind", "or_kind"].into_iter().filter_map(|field| text_of(json, field).ok()).collect();
        let form = json.get("form").and_then(Value::as_str).map(str::to_owned);
        Ok(Self { kinds, value: text_of(json, "value")?, form })
    }

    /// Whether `alert`, one line of `telltale run --json`, reports this.
    pub fn is_met_by(&self, alert: &Value) -> bool {
        let field = |name| alert.get(name).and_then(Value::as_str);
        field("kind").is_some_and(|kind| self.kinds.iter().any(|wanted| wanted == kind))
            && alert.get("value").is_some_and(|value| plain(value) == self.value)
            && (self.form.is_none() || field("form") == self.form.as_deref())
    }
}

/// A JSON value as a person would write it: strings without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn text_of(json: &Value, field: &str) -> std::result::Result<String, String> {
    json.get(field).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("no text in `{field}`"))
}

/// The request as an HTTP/1.1 client writes it (RFC 9112).
fn http1(request: &Value) -> std::result::Result<Vec<u8>, String> {
    let (method, path, host) =
        (text_of(request, "method")?, text_of(request, "path")?, text_of(request, "host")?);
    let body = text_of(request, "body")?;
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in request.get("headers").and_then(Value::as_object).into_iter().flatten() {
        text.push_str(&format!("{name}: {}\r\n", plain(value)));
    }
    if method != "GET" {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(&body);
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"{"name": "n", "app": "a.b", "request": {"method": "POST", "host": "h.example", "path": "/p?x=1",
        "headers": {"B": "2", "A": "1"}, "body": "k=v", "body_base64": false},
        "expect": {"findings": [{"kind": "imei", "or_kind": "device_ids", "value": "1", "form": "md5"}], "loudest": "I"}}"#;

    #[test]
    fn a_sample_becomes_the_bytes_a_client_writes() {
        let sample = Sample::parse(SAMPLE).unwrap();
        let wanted =
            "POST /p?x=1 HTTP/1.1\r\nHost: h.example\r\nB: 2\r\nA: 1\r\nContent-Length: 3\r\n\r\nk=v";
        assert_eq!(String::from_utf8(sample.request).unwrap(), wanted);
        assert_eq!((sample.app.as_str(), sample.loudest), ("a.b", Some('I')));
    }

    #[test]
    fn an_alert_must_match_in_kind_value_and_form() {
        let expected = &Sample::parse(SAMPLE).unwrap().findings[0];
        let met = |text: &str| expected.is_met_by(&serde_json::from_str(text).unwrap());
        assert!(met(r#"{"kind": "imei", "value": "1", "form": "md5"}"#));
        assert!(met(r#"{"kind": "device_ids", "value": 1, "form": "md5"}"#));
        assert!(!met(r#"{"kind": "imei", "value": "1"}"#), "form");
        assert!(!met(r#"{"kind": "imei", "value": "2", "form": "md5"}"#), "value");
        assert!(!met(r#"{"kind": "mac", "value": "1", "form": "md5"}"#), "kind");
    }

    #[test]
    fn a_missing_field_is_named() {
        assert_eq!(Sample::parse("{}").unwrap_err(), "no `request`");
        let without_app = SAMPLE.replace("\"app\"", "\"other\"");
        assert_eq!(Sample::parse(&without_app).unwrap_err(), "no text in `app`");
    }
}
