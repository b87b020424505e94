//! The sample requests as an HTTP/1.1 client writes them, for every test that sends one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test's helpers may fail")]
#![allow(dead_code, reason = "each test takes what it needs")]

use std::{fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

/// One sample.
pub(crate) struct Sample {
    /// `01_visited_url`.
    pub(crate) name: String,
    /// The app that sends it.
    pub(crate) app: String,
    /// The host it goes to.
    pub(crate) host: String,
    /// Whether it goes without TLS.
    pub(crate) plain: bool,
    /// Request line and header fields without `Content-Length` and the blank line.
    pub(crate) head: String,
    /// The body.
    pub(crate) body: Vec<u8>,
    /// What must be found: `findings`, `sender`, `loudest`.
    pub(crate) expect: Value,
}

impl Sample {
    /// Every sample request, in the order of their numbers.
    pub(crate) fn all() -> Vec<Sample> {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let json = paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        json.filter_map(|path| {
            Sample::read(&serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
        })
        .collect()
    }

    /// The sample of that name.
    pub(crate) fn named(name: &str) -> Sample {
        Sample::all()
            .into_iter()
            .find(|sample| sample.name == name)
            .unwrap_or_else(|| panic!("no sample {name}"))
    }

    fn read(json: &Value) -> Option<Sample> {
        let request = json.get("request")?;
        let text = |value: &Value, key: &str| {
            value[key].as_str().unwrap_or_else(|| panic!("{key} in {value}")).to_owned()
        };
        let host = text(request, "host");
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", text(request, "method"), text(request, "path"));
        for (name, value) in request["headers"].as_object().unwrap() {
            head.push_str(&format!("{name}: {}\r\n", value.as_str().unwrap()));
        }
        let body = text(request, "body");
        Some(Sample {
            name: text(json, "name"),
            app: text(json, "app"),
            host,
            plain: text(json, "layer").starts_with("plain"),
            head,
            body: if request["body_base64"] == true {
                STANDARD.decode(body).unwrap()
            } else {
                body.into_bytes()
            },
            expect: json["expect"].clone(),
        })
    }

    /// The bytes a client sends (RFC 9112).
    pub(crate) fn request(&self) -> Vec<u8> {
        self.request_with(&self.body)
    }

    /// The same with another body.
    pub(crate) fn request_with(&self, body: &[u8]) -> Vec<u8> {
        let length = match self.head.starts_with("GET ") {
            true => String::new(),
            false => format!("Content-Length: {}\r\n", body.len()),
        };
        let mut request = format!("{}{length}\r\n", self.head).into_bytes();
        request.extend_from_slice(body);
        request
    }
}

/// Where the samples lie.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/samples")
}

/// The imagined phone's own identifiers.
pub(crate) fn truth_file() -> PathBuf {
    folder().join("device_truth.json")
}
