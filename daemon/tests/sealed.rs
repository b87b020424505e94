//! What an app sealed itself, from the records of its cipher to alerts and evidence, without a kernel.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{cell::RefCell, rc::Rc};

use serde_json::{Map, Value};
use telltale::{
    alert::{
        Alert,
        evidence::{derive::derive, records},
    },
    app::AppTable,
    leak::{Crypt, Data, Detector, Truth},
    pipeline::{Flow, Observer, Pipeline, Settings},
    record::{Body, Cipher, CipherPiece, ConnectionId, Event, Secret},
    sealed::{Policy, Sealed, State},
    stream::Chunk,
    unwrap::{Limits, Protocols, Tree},
    wire::Message,
};

const REPORT: &[u8] = br#"[{"H":{"event":"onetrack_pa","android_id":"9f3c2b7a1d4e5f60","pkg":"com.miui.player"},"B":{"type":1,"class":"com.miui.player.ui.SearchActivity"}}]"#;
const HOST: &str = "tracking.intl.miui.com";

#[derive(Default, Clone)]
struct Kept(Rc<RefCell<Vec<Map<String, Value>>>>);

impl Observer for Kept {
    fn message(&mut self, _flow: &Flow, message: &Message, tree: &Tree, alerts: &[Alert]) {
        let made = records(message, tree, alerts, &Protocols::builtin(), &Limits::default());
        self.0.borrow_mut().extend(made);
    }
}

/// The records of one encryption: its text, and the head of what came out.
fn encrypted(tgid: u32, text: &[u8], output: &[u8]) -> [Event; 2] {
    let connection = ConnectionId { tgid, object: 0x7000, born: 5 };
    let cipher = Cipher { nid: 418, key_len: 16, block: 16 };
    let piece = |bytes: &[u8], total: usize, ended| CipherPiece {
        cipher,
        start: 0,
        total: total as u64,
        offset: 0,
        ended,
        bytes: Secret::new(bytes),
    };
    let bodies = [
        Body::CipherText(piece(text, text.len(), false)),
        Body::CipherOutput(piece(&output[..64], output.len(), true)),
    ];
    bodies.map(|body| Event { connection, sequence: 0, ktime: 6, attempt: 1, tid: tgid, uid: 10_123, body })
}

fn pipeline(kept: &Kept) -> Pipeline {
    let mut settings = Settings::new(Detector::new(&Truth::default(), Data::built_in().unwrap()));
    settings.sealed = Sealed::new(Policy::built_in());
    settings.observer = Some(Box::new(kept.clone()));
    Pipeline::new(settings)
}

/// What is said of a OneTrack request with this body, sent by process 77 of `app`.
fn sent(pipeline: &mut Pipeline, app: &str, body: &[u8]) -> Vec<Alert> {
    let mut app = AppTable::new().named(app, 10_123);
    app.pid = 77;
    let mut flow = Flow::new(app, Crypt::Tls);
    flow.host = Some(HOST.to_owned());
    let flow = pipeline.open(flow);
    let head = format!(
        "POST /track/v4 HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut alerts = pipeline.push(flow, Chunk::Bytes(head.as_bytes()), 1);
    alerts.extend(pipeline.push(flow, Chunk::Bytes(body), 2));
    alerts.extend(pipeline.close(flow, 3));
    alerts
}

/// Bytes that look encrypted.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn kinds(alerts: &[Alert]) -> Vec<&'static str> {
    alerts.iter().map(|alert| alert.kind().name()).collect()
}

#[test]
fn sealed_telemetry_is_read_where_its_cipher_text_left_and_says_why_where_not() {
    let output = noise(160);
    let kept = Kept::default();
    let mut pipeline = pipeline(&kept);
    let app = AppTable::new().named("com.miui.home", 10_123);
    pipeline.settings().sealed.set(77, &app, State::Watched);

    // Before it is known what was encrypted.
    let found = sent(&mut pipeline, "com.miui.home", &output);
    assert_eq!(kinds(&found), ["encrypted_telemetry"]);
    assert!(found[0].finding.why.contains("none made this"), "{}", found[0].finding.why);

    for event in encrypted(77, REPORT, &output) {
        pipeline.settings().sealed.held.take(event, 0);
    }
    let found = sent(&mut pipeline, "com.miui.home", &output);
    assert!(kinds(&found).contains(&"screen_view") && kinds(&found).contains(&"android_id"), "{found:?}");
    assert!(!kinds(&found).contains(&"encrypted_telemetry"));
    for alert in &found {
        assert_eq!(
            (alert.via.as_str(), alert.finding.crypt),
            ("tls>http1>sealed:aes-128-ecb>json", Crypt::Sealed)
        );
        assert_eq!(alert.finding.sender.as_deref(), Some("com.miui.player"));
    }
    // What the same bytes say when another process sends them: nothing.
    pipeline.settings().sealed.gone(77);
    assert_eq!(kinds(&sent(&mut pipeline, "com.miui.home", &output)), ["encrypted_telemetry"]);
    // A relay may send what another process encrypted.
    assert!(kinds(&sent(&mut pipeline, "com.miui.analytics", &output)).contains(&"screen_view"));
    // Forgotten, it is sealed for everybody.
    pipeline.settings().sealed.held.forget(60_000);
    assert_eq!(kinds(&sent(&mut pipeline, "com.miui.analytics", &output)), ["encrypted_telemetry"]);

    // The evidence is whole, and says of what it cannot derive that only the hash was kept.
    let records = kept.0.borrow();
    let derived = derive(&records);
    assert_eq!(derived.problems, []);
    assert!(derived.hash_only >= 4 && derived.again >= 3, "{derived:?}");
}
