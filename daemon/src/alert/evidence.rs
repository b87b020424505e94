//! What is kept of a message with findings: enough to check each finding later, nothing that would harm the owner.
//!
//! Two kinds of record besides the store's own (`start`, `forgotten`), one JSON object per line, each with its number (`seq`) and the
//! SHA-256 of the record before it (`prev`):
//!
//! - `message`: `time` and `boot_ms` (since the phone was started, sleep included) with `clock` (whether the clock on the wall was set
//!   since Telltale started), `wire` (its protocol), `host`, `seen_of_it` (whether bytes are missing), `raw_sha256` (joins it to its findings), `captured` (bytes and SHA-256 of the whole request before
//!   anything was taken out; HTTP/2 is written as HTTP/1 would be), `layers` (each layer on the way to a finding: `n`, `parent`, `at`, `step`,
//!   `bytes`, `sha256`) and, only when the request is of a recognised telemetry protocol, `request`: `text` or `base64`, `kept_bytes`,
//!   `kept_sha256`, `removed` (pairs of offset and end in the captured bytes). Otherwise `withheld` says why it is not there.
//! - `finding`: the fields of `--json`, `label` (the app's name for people), `layer` (where in `layers`), `range` (offset and end of the value in the nearest layer of
//!   bytes above it) and, without a kept request, `around`: at most 64 bytes beside the value.
//!
//! The watch itself adds `library` (`path`, `build_id`, `functions` of a TLS library, once it is hooked), and `try`.
//!
//! Building records is pure; [`Evidence`] hands them to the store.

pub mod case;
pub mod chain;
mod clock;
pub mod derive;
pub mod redact;
pub mod share;
pub mod store;
#[cfg(test)]
mod tests;
pub mod verify;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use self::chain::sha256;
use self::clock::Clock;
use self::redact::{Kept, MARK, redacted, spans_of_layer, whole};
use self::store::{Limits, Store, StoreError};
use super::{Alert, json::time};
use crate::pipeline::{Flow, Observer};
use crate::unwrap::{self, Content, Protocols, Tree};
use crate::wire::{End, Message};

/// A longer request is not kept, only its hash.
const LONGEST_REQUEST: usize = 64 << 10;
/// Bytes beside the value, on each side (DESIGN: at most 64 in all).
const BESIDE: usize = 32;
/// A longer value is cut in `around`.
const LONGEST_VALUE: usize = 512;

/// Keeps evidence of every message with findings. Cloned handles share one store.
#[derive(Debug, Clone)]
pub struct Evidence(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    store: Store,
    protocols: Protocols,
    limits: unwrap::Limits,
    clock: Clock,
    error: Option<StoreError>,
}

impl Evidence {
    /// Opens the store at `dir`. `start` is said in the first record of this run: version, boot, kernel, whatever is known.
    ///
    /// # Errors
    /// [`StoreError`] with the file and the system's reason.
    pub fn open(
        dir: &Path,
        limits: Limits,
        mut start: Map<String, Value>,
        now_ms: u64,
    ) -> Result<Self, StoreError> {
        start.insert("type".into(), "start".into());
        start.insert("time".into(), time(now_ms).into());
        let clock = Clock::new(now_ms);
        start.extend(clock.fields(now_ms));
        start.insert("telltale".into(), env!("CARGO_PKG_VERSION").into());
        let store = Store::open(dir, limits, start)?;
        let (protocols, limits) = (Protocols::builtin(), unwrap::Limits::default());
        Ok(Self(Arc::new(Mutex::new(Inner { store, protocols, limits, clock, error: None }))))
    }

    /// Whether something waits for [`Evidence::sync`].
    pub fn is_pending(&self) -> bool {
        self.with(|inner| inner.store.is_pending())
    }

    /// Brings everything to the disk; due within a second of a record.
    ///
    /// # Errors
    /// [`StoreError`] with the system's reason.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.with(|inner| inner.store.sync())
    }

    /// The first failure since the last call: evidence was lost then, and the owner should hear of it.
    pub fn take_error(&self) -> Option<StoreError> {
        self.with(|inner| inner.error.take())
    }

    /// Keeps a record of another kind: coverage, an experiment. `fields` has its `type`.
    ///
    /// # Errors
    /// [`StoreError`] with the system's reason.
    pub fn append(&self, fields: Map<String, Value>) -> Result<(), StoreError> {
        self.with(|inner| inner.store.append(fields))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for Evidence {
    fn message(&mut self, _flow: &Flow, message: &Message, tree: &Tree, alerts: &[Alert]) {
        if alerts.is_empty() {
            return;
        }
        self.with(|inner| {
            let clock = alerts.first().map(|first| inner.clock.fields(first.time_ms)).unwrap_or_default();
            for mut record in records(message, tree, alerts, &inner.protocols, &inner.limits) {
                if record.get("type").is_some_and(|kind| kind == "message") {
                    record.extend(clock.clone());
                }
                if let Err(error) = inner.store.append(record) {
                    inner.error.get_or_insert(error);
                }
            }
        });
    }
}

/// The records of one message: itself, then its findings.
pub fn records(
    message: &Message,
    tree: &Tree,
    alerts: &[Alert],
    protocols: &Protocols,
    limits: &unwrap::Limits,
) -> Vec<Map<String, Value>> {
    let Some(first) = alerts.first() else { return Vec::new() };
    let captured = whole(message);
    let mut record = Map::new();
    record.insert("type".into(), "message".into());
    record.insert("time".into(), time(first.time_ms).into());
    record.insert("raw_sha256".into(), first.raw_sha256.clone().into());
    record.insert("wire".into(), message.protocol.token().into());
    if let Some(host) = &message.host {
        record.insert("host".into(), host.clone().into());
    }
    let seen = match message.end {
        End::Complete => "all of it",
        End::Cut => "not all: bytes were lost, or the connection ended",
        End::Limit => "not all: longer than what is kept of one message",
    };
    record.insert("seen_of_it".into(), seen.into());
    record.insert("captured".into(), json!({"bytes": captured.len(), "sha256": sha256(&captured)}));
    let kept = keep(message, tree, &captured, protocols, limits);
    match &kept {
        Ok(kept) => record.insert("request".into(), request(kept)),
        Err(why) => record.insert("withheld".into(), (*why).into()),
    };
    record.insert("layers".into(), layers(tree, alerts));
    let mut records = vec![record];
    records.extend(alerts.iter().map(|alert| finding(alert, tree, kept.is_err())));
    records
}

/// The request as it may be kept, or why it may not.
fn keep(
    message: &Message,
    tree: &Tree,
    captured: &[u8],
    protocols: &Protocols,
    limits: &unwrap::Limits,
) -> Result<Kept, &'static str> {
    if tree.protocol.is_none() {
        return Err("no telemetry protocol was recognised");
    }
    if captured.len() > LONGEST_REQUEST {
        return Err("longer than 64 KiB");
    }
    Ok(redacted(message, protocols, limits))
}

fn request(kept: &Kept) -> Value {
    let removed: Vec<[usize; 2]> = kept.removed.iter().map(|span| [span.start, span.end]).collect();
    let mut request = Map::new();
    match std::str::from_utf8(&kept.bytes) {
        Ok(text) => request.insert("text".into(), text.into()),
        Err(_) => request.insert("base64".into(), STANDARD.encode(&kept.bytes).into()),
    };
    request.insert("kept_bytes".into(), kept.bytes.len().into());
    request.insert("kept_sha256".into(), sha256(&kept.bytes).into());
    request.insert("removed".into(), json!(removed));
    Value::Object(request)
}

/// The layers from the message to each finding, with the hash of their bytes.
fn layers(tree: &Tree, alerts: &[Alert]) -> Value {
    let mut wanted = BTreeSet::new();
    for alert in alerts {
        let mut node = Some(alert.finding.node);
        // A child comes after its parent, so this ends.
        while let Some(at) = node.filter(|at| wanted.insert(*at)) {
            node = tree.nodes.get(at).and_then(|found| found.parent);
        }
    }
    let layers = wanted.into_iter().filter_map(|at| {
        let node = tree.nodes.get(at)?;
        let mut layer = Map::new();
        layer.insert("n".into(), at.into());
        layer.insert("parent".into(), json!(node.parent));
        layer.insert("step".into(), node.step.clone().into());
        if !node.at.is_empty() {
            layer.insert("at".into(), node.at.clone().into());
        }
        if let Content::Bytes(bytes) = &node.content {
            layer.insert("bytes".into(), bytes.len().into());
            layer.insert("sha256".into(), sha256(bytes).into());
        }
        Some(Value::Object(layer))
    });
    Value::Array(layers.collect())
}

fn finding(alert: &Alert, tree: &Tree, with_surroundings: bool) -> Map<String, Value> {
    let mut record = Map::new();
    record.insert("type".into(), "finding".into());
    if let Ok(Value::Object(fields)) = serde_json::from_str(&alert.json()) {
        record.extend(fields);
    }
    record.insert("label".into(), alert.app.label.clone().into());
    record.insert("layer".into(), alert.finding.node.into());
    if let Some((bytes, range)) = position(alert, tree) {
        record.insert("range".into(), json!([range.start, range.end]));
        if with_surroundings {
            record.insert("around".into(), around(bytes, &range).into());
        }
    }
    record
}

/// The nearest layer of bytes at or above the finding's, and where the value stands in it.
fn position<'t>(alert: &Alert, tree: &'t Tree) -> Option<(&'t [u8], Range<usize>)> {
    let mut at = Some(alert.finding.node);
    while let Some(node) = at.and_then(|at| tree.nodes.get(at)) {
        if let Content::Bytes(bytes) = &node.content {
            let sent = alert.finding.raw.as_ref().unwrap_or(&alert.finding.value);
            let start = memchr::memmem::find(bytes, sent.as_bytes()).filter(|_| !sent.is_empty())?;
            return Some((bytes, start..start.checked_add(sent.len())?));
        }
        at = node.parent;
    }
    None
}

/// The value with at most 64 bytes beside it, secrets taken out.
fn around(bytes: &[u8], value: &Range<usize>) -> String {
    let end = value.end.min(value.start.saturating_add(LONGEST_VALUE));
    let window = value.start.saturating_sub(BESIDE)..end.saturating_add(BESIDE).min(bytes.len());
    let mut text = Vec::new();
    let mut at = window.start;
    for span in spans_of_layer(bytes).iter().filter(|span| span.end > window.start && span.start < window.end)
    {
        text.extend_from_slice(bytes.get(at..span.start.max(at)).unwrap_or_default());
        text.extend_from_slice(MARK);
        at = span.end.max(at);
    }
    text.extend_from_slice(bytes.get(at..window.end).unwrap_or_default());
    String::from_utf8_lossy(&text).into_owned()
}
