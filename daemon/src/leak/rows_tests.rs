//! Every row of the dictionary and every shape, each through a message composed for it; and one table of how much is found,
//! per kind.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::{
    Finding, Kind, Severity, Witness,
    data::{At, Data, Row, Take},
    testing::{Case, detector},
};

/// What a field of a kind holds on the samples' phone, and how that is then told.
fn example(row: &Row) -> (String, String) {
    let same = |text: &str| (text.to_owned(), text.to_owned());
    let hashed = |value: &str| match row.form.as_deref() {
        Some("md5") => (super::needles::hex(&<md5::Md5 as md5::Digest>::digest(value)), value.to_owned()),
        Some("sha256") => {
            (super::needles::hex(&<sha2::Sha256 as sha2::Digest>::digest(value)), value.to_owned())
        }
        _ => same(value),
    };
    match row.kind {
        Kind::Imei => hashed("490154203237518"),
        Kind::Meid => hashed("A00000112B3C4D"),
        Kind::Imsi => same("268011234567890"),
        Kind::Mac => hashed("34:ce:00:12:34:56"),
        Kind::Serial => hashed("f1a2b3c4"),
        Kind::AndroidId => hashed("9f3c2b7a1d4e5f60"),
        Kind::AdId => same("3b6d7f2a-91c4-4e0b-8a57-6c1d2e3f4a5b"),
        Kind::Account => same("6012345678"),
        Kind::DeviceIds => same("D3D06E6B995F4281C00B188104533BBC3813A5DF"),
        Kind::PersistentId => same("54db829f-0942-4caa-a69f-7fb9350fa48d"),
        Kind::VisitedUrl | Kind::Download => same("https://clinic.example.org/x"),
        Kind::InstalledApps | Kind::AppOpen => same("com.example.bank"),
        _ => row.equals.as_deref().map_or_else(|| same("some words"), same),
    }
}

/// The message a row speaks of, and the value it must give; none where the place is in no payload.
fn compose(data: &Data, row: &Row, at: &At) -> Option<(Case, String)> {
    let family_id = if row.family == "any" { "sensors" } else { row.family.as_str() };
    let family = data.families.iter().find(|family| family.id == family_id)?;
    let (sent, mut told) = example(row);
    let event = row.events.first().map_or("some_event", String::as_str);
    let leaf = match &row.take {
        Take::Text => json!(sent),
        Take::Leaves => json!({ "song": sent }),
        Take::Parts(name) => json!(format!("x=1##{}={sent}##y=", name.trim_end_matches('*'))),
        Take::Position(lat, lon) => {
            told = "38.722252,-9.139337".into();
            json!({ lat.as_str(): 38_722_252, lon.as_str(): -9_139_337 })
        }
        Take::Opened | Take::UsageTime => {
            if row.take == Take::UsageTime {
                told = "85".into();
            }
            json!({"es": [{"p": 2, "e": 1, "t": 10}, {"p": 2, "e": 2, "t": 95}], "pim": [{"com.example.bank": 2}]})
        }
        Take::Span => {
            told = "60 s".into();
            json!({"start": 1000, "end": 61000})
        }
        Take::Packages | Take::DeviceQuery => json!(sent),
    };
    let to_scope = |scope: usize, inner: Json| -> Option<Json> {
        let spec = family.events.get(scope)?;
        let mut inner = inner;
        merge(&mut inner, spec.name.compose(json!(event)));
        Some(spec.each.compose(inner))
    };
    let protocol = family.protocols.first()?.as_str();
    // MiStat 2 names an event by its category or, one level down, by its key.
    let scope = usize::from(family.events.len() > 1 && row.kind == Kind::SearchQuery);
    let case = match at {
        At::Event => {
            let below =
                |path: &super::path::Path| match family.params.as_ref().filter(|_| row.family == "any") {
                    Some(params) => path.under(params),
                    None => path.clone(),
                };
            let inner = row.show.first().map_or(json!({}), |path| below(path).compose(json!(sent)));
            if row.show.is_empty() {
                told = event.to_owned();
            }
            Case::new().json(&to_scope(scope, inner)?.to_string())
        }
        At::Inside(path) => {
            let path = match family.params.as_ref().filter(|_| row.family == "any") {
                Some(params) => path.under(params),
                None => path.clone(),
            };
            Case::new().json(&to_scope(scope, path.compose(leaf))?.to_string())
        }
        At::Root(path) => Case::new().json(&path.compose(leaf).to_string()),
        At::Form(name) => Case::new().field("form", name, &sent),
        At::Header(name) => Case::new().field("header", name, &sent),
        At::Query if row.take == Take::DeviceQuery => Case::new().field("query", "oaid", &sent),
        At::Query => Case::new().field("query", "list", &sent),
        At::Body => Case::new().field("form", "list", &sent),
    };
    let case = match &row.host {
        Some(host) => case.to(host, None),
        None => case.telemetry(protocol),
    };
    Some((case, told))
}

/// Adds the keys of one object to another, all the way down.
fn merge(into: &mut Json, from: Json) {
    match (into, from) {
        (Json::Object(into), Json::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Json::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn tells(findings: &[Finding], row: &Row, told: &str) -> bool {
    // A device id that is this phone's serial or Android ID is told as what it is.
    findings.iter().any(|f| (f.kind == row.kind || f.by == Witness::Truth) && f.value == told)
}

#[test]
fn every_row_of_the_dictionary_is_found_in_a_message_made_for_it() {
    let data = Data::built_in().unwrap();
    let detector = detector();
    let mut table: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut missed = Vec::new();
    for row in &data.rows {
        for at in &row.at {
            let Some((case, told)) = compose(&data, row, at) else { continue };
            let findings = case.examine(&detector);
            let (made, found) = table.entry(row.kind.name()).or_default();
            *made += 1;
            if tells(&findings, row, &told) {
                *found += 1;
            } else {
                missed.push(format!(
                    "{} {:?} {at:?} {}: {told:?} not in {findings:?}",
                    row.family,
                    row.events,
                    row.kind.name()
                ));
            }
            let quiet = findings
                .iter()
                .filter(|f| f.value != told && f.severity >= Severity::Warn && f.by == Witness::Dictionary);
            let extra: Vec<_> = quiet.map(|f| (f.kind, &f.value)).collect();
            assert!(extra.len() <= 1, "{} {:?}: {extra:?}", row.family, row.events);
        }
    }
    println!("kind                  messages  found  recall");
    for (kind, (made, found)) in &table {
        println!("{kind:<21} {made:>8}  {found:>5}  {:>5.1} %", 100.0 * *found as f64 / *made as f64);
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    assert!(table.len() >= 25, "{}", table.len());
}

#[test]
fn every_shape_is_told_by_its_key_and_not_by_its_key_alone() {
    let data = Data::built_in().unwrap();
    let detector = super::Detector::new(&super::Truth::default(), data.clone());
    for row in &data.shapes {
        for key in &row.keys {
            let yes = match row.kind {
                Kind::WifiName => json!({ key: "Cafe Lisboa" }),
                Kind::WifiBssid => json!({ key: "a4:2b:b0:11:22:33" }),
                Kind::WifiScan => json!({ key: ["Cafe Lisboa", "Hotel Porto"] }),
                Kind::Location => {
                    let (lat, lon) = key.split_once('+').unwrap();
                    json!({ lat: 41.157_944, lon: -8.629_105 })
                }
                Kind::VisitedUrl => json!({ key: "https://clinic.example.org/x" }),
                Kind::UiAction => json!({ key: 1200 }),
                Kind::InstalledApps => json!({ key: ["com.a.b", "com.c.d", "org.e.f"] }),
                Kind::PhoneNumber => json!({ key: "+351912345678" }),
                Kind::IncognitoMarker => json!({ key: true }),
                Kind::DeviceIds => json!({ key: match key.as_str() {
                    "imei" | "imei1" | "imei2" => "490154203237518",
                    "meid" => "A00000112B3C4D",
                    "imsi" => "268011234567890",
                    "iccid" => "8935101234567890124",
                    "serial" => "f1a2b3c4",
                    "mac" => "34:ce:00:12:34:56",
                    "android_id" => "9f3c2b7a1d4e5f60",
                    _ => "3b6d7f2a-91c4-4e0b-8a57-6c1d2e3f4a5b",
                } }),
                _ => json!({ key: "red shoes" }),
            };
            let found = Case::new().json(&yes.to_string()).examine(&detector);
            assert!(found.iter().any(|f| f.by == Witness::Shape), "{key}: {yes} {found:?}");
            for no in [
                json!(""),
                json!(null),
                json!("0"),
                json!("{\"a\":1}"),
                json!("unknown"),
                json!({}),
                json!([]),
            ] {
                let single = key.split('+').next().unwrap();
                let found = Case::new().json(&json!({ single: no }).to_string()).examine(&detector);
                let number = row.kind == Kind::UiAction && no == json!("0");
                assert!(found.is_empty() || number, "{key}: {no} {found:?}");
            }
        }
    }
}
