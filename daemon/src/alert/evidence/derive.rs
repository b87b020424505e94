//! Derives findings again from the bytes that were kept: layer by layer with the same peeler, value by value with the same
//! detector. Pure; a PC can do it with nothing but the records.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::{Map, Value};

use super::chain::sha256;
use crate::app::{AppTable, NO_UID};
use crate::leak::{Canary, Context, Crypt, Data, Detector, Kind, Truth};
use crate::place::Domains;
use crate::unwrap::{Content, Limits, Protocols, Tree, peel};
use crate::wire::{Message, Protocol};

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Derived {
    /// Findings that the detector makes again of the kept bytes.
    pub again: usize,
    /// Findings whose value stands where it is said to, by a witness that needs more than the message: memory, or values of
    /// the phone that are not in the records.
    pub in_place: usize,
    /// Findings of which only the bytes around the value were kept, and it stands there.
    pub around: usize,
    /// Findings of which nothing but a hash was kept: their bytes were taken out as a secret, or the app had sealed them.
    pub hash_only: usize,
    /// What differs, by the record's number.
    pub problems: Vec<(u64, String)>,
}

/// A message that was kept, and what comes of it now.
struct Rebuilt {
    /// Nothing was taken out of it.
    whole: bool,
    tree: Tree,
    /// Kind, value, route, place.
    found: Vec<(String, String, String, String)>,
}

/// Derives every finding of these records, which are in their order.
pub fn derive(records: &[Map<String, Value>]) -> Derived {
    let mut derived = Derived::default();
    // Data that is part of the program is right, and an automaton over a few values can be built.
    let Some(detector) = Data::built_in().ok().map(|data| Detector::new(&truth(records, &data), data)) else {
        derived.problems.push((0, "this Telltale cannot build its detector".to_owned()));
        return derived;
    };
    let (protocols, domains, apps) = (Protocols::builtin(), Domains::built_in(), AppTable::new());
    let mut messages: BTreeMap<&str, Option<Rebuilt>> = BTreeMap::new();
    for (at, record) in records.iter().enumerate() {
        let number = record.get("seq").and_then(Value::as_u64).unwrap_or(0);
        match text(record, "type") {
            "message" => {
                // Who sent it stands in its findings, which follow.
                let app = records.get(at.saturating_add(1)..).unwrap_or_default();
                let app = app.iter().find(|next| text(next, "type") == "finding");
                let app = apps.named(app.map_or("", |finding| text(finding, "app")), NO_UID);
                let rebuilt = message(record).map(|(message, whole)| {
                    let tree = peel(&message, &protocols, &Limits::default());
                    let host = text(record, "host");
                    let host = message.host.as_deref().unwrap_or(host);
                    let host = (!host.is_empty()).then(|| domains.host(host));
                    let context = Context { app: &app, host: host.as_ref(), crypt: Crypt::Tls, now_ms: 0 };
                    let found = detector.examine(&context, &message, &tree).into_iter();
                    let found = found.map(|one| (one.kind.name().to_owned(), one.value, one.via, one.at));
                    Rebuilt { whole, found: found.collect(), tree }
                });
                if let Some(rebuilt) = &rebuilt {
                    derived.problems.extend(layers(record, rebuilt).map(|what| (number, what)));
                }
                messages.insert(text(record, "raw_sha256"), rebuilt);
            }
            "finding" => match messages.get(text(record, "raw_sha256")) {
                Some(Some(rebuilt)) => finding(record, number, rebuilt, &mut derived),
                _ => surroundings(record, number, &mut derived),
            },
            _ => {}
        }
    }
    derived
}

fn text<'r>(record: &'r Map<String, Value>, key: &str) -> &'r str {
    record.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The phone's own values as far as the findings tell them.
fn truth(records: &[Map<String, Value>], data: &Data) -> Truth {
    let mut truth = Truth::default();
    for record in records.iter().filter(|record| text(record, "by") == "truth") {
        let (Some(kind), value) = (Kind::from_name(text(record, "kind")), text(record, "value")) else {
            continue;
        };
        match kind {
            Kind::InstalledApps => truth.add_package(value),
            Kind::Location => {
                let pair = value.split_once(',');
                let pair =
                    pair.and_then(|(lat, lon)| Some((lat.trim().parse().ok()?, lon.trim().parse().ok()?)));
                truth.position = truth.position.or(pair);
            }
            Kind::VisitedUrl | Kind::SearchQuery | Kind::FolderOpen | Kind::Music => {
                truth.canaries.push(Canary { kind, text: value.to_owned() });
            }
            _ => {
                for key in data.truth_keys(kind) {
                    truth.add(key, value);
                }
            }
        }
    }
    truth
}

/// A kept request as a message, and whether nothing was taken out of it.
fn message(record: &Map<String, Value>) -> Option<(Message, bool)> {
    let request = record.get("request")?.as_object()?;
    let bytes = match request.get("text") {
        Some(text) => text.as_str()?.as_bytes().to_vec(),
        None => base64::engine::general_purpose::STANDARD.decode(request.get("base64")?.as_str()?).ok()?,
    };
    let whole = request.get("removed").and_then(Value::as_array).is_some_and(Vec::is_empty);
    let protocol = [Protocol::H2, Protocol::WebSocket, Protocol::Grpc, Protocol::Raw]
        .into_iter()
        .find(|protocol| protocol.token() == text(record, "wire"))
        .unwrap_or(Protocol::Http1);
    let mut message = Message { protocol, ..Message::default() };
    // As `redact::whole` writes it: no framing of a transfer is left, so that no HTTP reader may look at it.
    let body = match memchr::memmem::find(&bytes, b"\r\n\r\n") {
        Some(end) if !matches!(protocol, Protocol::WebSocket | Protocol::Raw) => {
            let head = String::from_utf8_lossy(bytes.get(..end)?).into_owned();
            let mut lines = head.split("\r\n");
            let mut first = lines.next()?.split(' ');
            message.method = first.next()?.to_owned();
            message.target = first.next()?.to_owned();
            for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
                message.headers.push((name.to_owned(), value.as_bytes().to_vec()));
            }
            let host = message.header("host").map(|host| String::from_utf8_lossy(host).into_owned());
            message.host = host.map(|host| host.split(':').next().unwrap_or_default().to_ascii_lowercase());
            bytes.get(end.checked_add(4)?..)?.to_vec()
        }
        _ => bytes,
    };
    message.body_len = u64::try_from(body.len()).ok()?;
    message.body = body;
    Some((message, whole))
}

/// Whether a step of a route opened what an app had sealed with a cipher of its own.
fn is_sealed(step: &str) -> bool {
    step == "sealed" || step.starts_with("sealed:")
}

/// Layers that are not what comes out now.
fn layers<'r>(record: &'r Map<String, Value>, rebuilt: &'r Rebuilt) -> impl Iterator<Item = String> + 'r {
    let told = record.get("layers").and_then(Value::as_array).into_iter().flatten();
    // What the app sealed itself was read while it was sent. From the kept bytes it cannot be opened, and layers that came after
    // it have other numbers without it.
    let first_sealed = told
        .clone()
        .filter(|layer| layer.get("step").and_then(Value::as_str).is_some_and(is_sealed))
        .filter_map(|layer| layer.get("n")?.as_u64())
        .min();
    told.filter(|_| rebuilt.whole).filter_map(move |layer| {
        let number = layer.get("n")?.as_u64()?;
        if first_sealed.is_some_and(|first| number >= first) {
            return None;
        }
        let step = layer.get("step")?.as_str()?;
        let differs = |what: &str| Some(format!("layer {number} ({step}) {what}"));
        let Some(node) = usize::try_from(number).ok().and_then(|number| rebuilt.tree.nodes.get(number))
        else {
            return differs("does not come out of the kept bytes");
        };
        if node.step != step {
            return differs(&format!("is {} now", node.step));
        }
        let hash = layer.get("sha256").and_then(Value::as_str);
        match (&node.content, hash) {
            (Content::Bytes(bytes), Some(hash)) if sha256(bytes) != hash => {
                differs("has another SHA-256 than it says")
            }
            _ => None,
        }
    })
}

fn finding(record: &Map<String, Value>, number: u64, rebuilt: &Rebuilt, derived: &mut Derived) {
    let (kind, value, at) = (text(record, "kind"), text(record, "value"), text(record, "at"));
    let via = text(record, "via");
    let via = via.strip_prefix("tls>").unwrap_or(via);
    let is_same = |one: &&(String, String, String, String)| {
        one.0 == kind && one.1 == value && one.2 == via && one.3 == at
    };
    if rebuilt.found.iter().any(|one| is_same(&one)) {
        derived.again = derived.again.saturating_add(1);
        return;
    }
    if !rebuilt.whole || via.split('>').any(is_sealed) {
        derived.hash_only = derived.hash_only.saturating_add(1);
        return;
    }
    // By memory or by the phone's own values: then it must at least stand where it is said to.
    let sent = match text(record, "raw") {
        "" => value,
        raw => raw,
    };
    if matches!(text(record, "by"), "persistence" | "truth") && stands(record, rebuilt, sent) {
        derived.in_place = derived.in_place.saturating_add(1);
        return;
    }
    derived.problems.push((number, format!("says {kind}, which the kept bytes do not give at {via} {at}")));
}

/// Whether the value stands at its range in the nearest layer of bytes.
fn stands(record: &Map<String, Value>, rebuilt: &Rebuilt, sent: &str) -> bool {
    let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
    let range = record.get("range").and_then(Value::as_array);
    let range = range.and_then(|range| Some(number(range.first()?)?..number(range.get(1)?)?));
    let mut at = record.get("layer").and_then(number);
    while let Some(node) = at.and_then(|at| rebuilt.tree.nodes.get(at)) {
        match (&node.content, &range) {
            (Content::Bytes(bytes), Some(range)) => return bytes.get(range.clone()) == Some(sent.as_bytes()),
            // Written otherwise than it is read, as escapes in JSON: the layer is all that can be compared.
            (Content::Bytes(_), None) => return true,
            _ => at = node.parent,
        }
    }
    false
}

/// Of a message that was not kept there are at most the bytes beside the value.
fn surroundings(record: &Map<String, Value>, number: u64, derived: &mut Derived) {
    let sent = match text(record, "raw") {
        "" => text(record, "value"),
        raw => raw,
    };
    match record.get("around").and_then(Value::as_str) {
        None => derived.hash_only = derived.hash_only.saturating_add(1),
        // A long value is cut there, and secrets beside it are taken out.
        Some(around)
            if around.contains(sent) || sent.len() > super::LONGEST_VALUE || around.contains("***") =>
        {
            derived.around = derived.around.saturating_add(1);
        }
        Some(_) => {
            derived.problems.push((number, "has a value that is not in the bytes beside it".to_owned()))
        }
    }
}
