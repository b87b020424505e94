//! Every sample request through the whole of decoding: message, layers, findings. What each must say is in the sample.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test's helpers may fail"
)]

use std::{fs, path::Path};

use serde_json::Value;
use telltale::{
    app::AppTable,
    leak::{Context, Crypt, Data, Detector, Finding, Kind, Severity, Truth, Witness},
    place::Domains,
    unwrap::{Limits, Protocols, peel},
    wire::{Message, Protocol},
};

fn message(request: &Value) -> Message {
    let text = |key: &str| request[key].as_str().unwrap_or_default().to_owned();
    let body = if request["body_base64"] == true { base64(&text("body")) } else { text("body").into_bytes() };
    Message {
        protocol: Protocol::Http1,
        method: text("method"),
        target: text("path"),
        host: Some(text("host")),
        headers: request["headers"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| {
                (name.to_ascii_lowercase(), value.as_str().unwrap_or_default().as_bytes().to_vec())
            })
            .collect(),
        body_len: body.len() as u64,
        body,
        ..Message::default()
    }
}

fn base64(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

fn examine(detector: &Detector, protocols: &Protocols, sample: &Value) -> Vec<Finding> {
    let request = &sample["request"];
    let message = message(request);
    let tree = peel(&message, protocols, &Limits::default());
    let app = AppTable::new().named(sample["app"].as_str().unwrap(), 10_123);
    let host = Domains::built_in().host(request["host"].as_str().unwrap());
    let crypt = if sample["layer"].as_str().unwrap().starts_with("plain") { Crypt::None } else { Crypt::Tls };
    let context = Context { app: &app, host: Some(&host), crypt, now_ms: 1_588_291_200_000 };
    detector.examine(&context, &message, &tree)
}

#[test]
fn every_sample_says_what_it_must_and_nothing_louder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    let truth = Truth::from_json(&fs::read_to_string(folder.join("device_truth.json")).unwrap()).unwrap();
    let detector = Detector::new(&truth, Data::built_in().unwrap());
    let protocols = Protocols::builtin();
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let mut wrong = Vec::new();
    let mut run = 0;
    for path in names.iter().filter(|path| path.extension().is_some_and(|e| e == "json")) {
        let sample: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        if sample["request"].is_null() {
            continue;
        }
        run += 1;
        let name = sample["name"].as_str().unwrap();
        let findings = examine(&detector, &protocols, &sample);
        let expected = sample["expect"]["findings"].as_array().unwrap();
        let sender = sample["expect"]["sender"].as_str();
        let mut kinds = Vec::new();
        for wanted in expected {
            let kind = Kind::from_name(wanted["kind"].as_str().unwrap()).unwrap();
            let or_kind = wanted["or_kind"].as_str().map(|name| Kind::from_name(name).unwrap());
            kinds.extend([Some(kind), or_kind].into_iter().flatten());
            let found = findings.iter().any(|finding| {
                (finding.kind == kind || Some(finding.kind) == or_kind)
                    && finding.value == wanted["value"].as_str().unwrap()
                    && wanted["form"].as_str().is_none_or(|form| finding.form.as_deref() == Some(form))
                    && sender.is_none_or(|sender| finding.sender.as_deref() == Some(sender))
            });
            if !found {
                wrong.push(format!("{name}: missing {wanted} (sender {sender:?})"));
            }
        }
        let loudest = match sample["expect"]["loudest"].as_str() {
            Some("I") => Severity::Info,
            Some("W") => Severity::Warn,
            _ => Severity::Error,
        };
        for finding in &findings {
            if finding.severity > loudest
                || (finding.severity >= Severity::Warn && !kinds.contains(&finding.kind))
            {
                wrong.push(format!("{name}: too loud {finding:?}"));
            }
            // A sign-in's password hash must not be in anything that is said.
            let said = format!("{finding:?}");
            if said.contains("8FE4C11451281C094A6578E6DDBF5EED") {
                wrong.push(format!("{name}: the password hash is in {said}"));
            }
        }
        if std::env::var_os("SHOW").is_some() {
            println!("{name}");
            for f in &findings {
                println!(
                    "  {:?} {} {:?} {:?} {:?} {:?} {:?} at {} via {} | {}",
                    f.severity,
                    f.kind.name(),
                    f.value,
                    f.form,
                    f.by,
                    f.asked,
                    f.sender,
                    f.at,
                    f.via,
                    f.why
                );
            }
        }
    }
    assert_eq!(run, 17);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is cut short or damaged may say less, or the beginning of the same, but nothing else.
#[test]
fn cut_and_damaged_samples_invent_nothing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    let truth = Truth::from_json(&fs::read_to_string(folder.join("device_truth.json")).unwrap()).unwrap();
    let detector = Detector::new(&truth, Data::built_in().unwrap());
    let protocols = Protocols::builtin();
    let mut tried = 0;
    for name in ["01_visited_url", "10_launcher_folder_swipe", "14_mistat_v4_ecb", "19_onetrack_open"] {
        let text = fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let sample: Value = serde_json::from_str(&text).unwrap();
        let whole = examine(&detector, &protocols, &sample);
        let body = sample["request"]["body"].as_str().unwrap().to_owned();
        let mut check = |changed: String| {
            let mut sample = sample.clone();
            sample["request"]["body"] = changed.into();
            tried += 1;
            for finding in examine(&detector, &protocols, &sample) {
                if finding.by != Witness::Truth || finding.severity < Severity::Warn {
                    continue;
                }
                let known = whole.iter().any(|f| f.kind == finding.kind && f.value == finding.value);
                assert!(known, "{name}: {finding:?}");
            }
        };
        for end in (0..body.len()).step_by(29) {
            check(body[..end].to_owned());
            check(format!(
                "{}{}{}",
                &body[..end],
                if body[end..].starts_with('A') { 'B' } else { 'A' },
                &body[end + 1..]
            ));
        }
    }
    assert!(tried > 200, "{tried}");
}
