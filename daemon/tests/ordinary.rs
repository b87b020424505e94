//! Ordinary traffic: what apps send because their owner asks for it must give no line at warning or above, on a phone whose
//! every identifier is known. The table says how many messages there were and what was said of them at info.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test's helpers may fail")]

mod traffic;

use std::collections::BTreeMap;

use telltale::{
    app::App,
    leak::{Context, Crypt, Data, Detector, Finding, Severity, Truth},
    place::Host,
    unwrap::{Limits, Protocols, peel},
};
use traffic::{Random, Sent, ordinary};

fn examine(detector: &Detector, protocols: &Protocols, sent: &Sent) -> Vec<Finding> {
    let role = |role: &str| (!role.is_empty()).then(|| role.to_owned());
    let app = App {
        name: sent.app.0.into(),
        packages: vec![sent.app.0.into()],
        role: role(sent.app.1),
        vendor: sent.app.0.contains("miui").then(|| "Xiaomi".into()),
        ..App::default()
    };
    let host = Host { name: sent.host.0.into(), role: role(sent.host.1), ..Host::default() };
    let context = Context { app: &app, host: Some(&host), crypt: Crypt::Tls, now_ms: 1_588_291_200_000 };
    let tree = peel(&sent.message, protocols, &Limits::default());
    detector.examine(&context, &sent.message, &tree)
}

#[test]
fn ordinary_traffic_stays_quiet() {
    let truth = Truth::from_json(include_str!("samples/device_truth.json")).unwrap();
    let detector = Detector::new(&truth, Data::built_in().unwrap());
    let protocols = Protocols::builtin();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut loud = Vec::new();
    let mut table: BTreeMap<&str, (usize, BTreeMap<&str, usize>)> = BTreeMap::new();
    let mut messages = 0;
    for _ in 0..20 {
        for sent in ordinary(&mut random) {
            messages += 1;
            let row = table.entry(sent.what).or_default();
            row.0 += 1;
            for finding in examine(&detector, &protocols, &sent) {
                *row.1.entry(finding.kind.name()).or_default() += 1;
                if finding.severity > Severity::Info {
                    loud.push(format!("{}: {finding:?}", sent.what));
                }
                let said = format!("{finding:?}");
                assert!(!said.contains("secret"), "{said}");
            }
        }
    }
    println!("ordinary traffic          messages  said at info");
    for (what, (count, kinds)) in &table {
        let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        println!("{what:<25} {count:>8}  {}", kinds.join(", "));
    }
    println!("{messages} messages, {} lines at warning or above", loud.len());
    loud.dedup();
    assert!(loud.is_empty(), "{}", loud.join("\n"));
}
