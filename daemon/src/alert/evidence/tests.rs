//! Evidence as a whole: secrets planted in every place of a request are looked for in everything that was kept.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use serde_json::{Map, Value};

use super::store::{files, read};
use super::*;
use crate::alert::sink::{self, Sink as _};
use crate::app::AppTable;
use crate::leak::{Crypt, Data, Detector, Truth};
use crate::pipeline::{Pipeline, Settings};
use crate::report::{self, input::Input};
use crate::stream::Chunk;
use crate::wire::Connection;

/// What every planted secret begins with; a number follows.
const PLANTED: &str = "S3CR3T";
const IMEI: &str = "490154203237518";

fn truth() -> Truth {
    Truth::from_json(include_str!("../../../tests/samples/device_truth.json")).unwrap()
}

/// Sends each request on its own connection through the pipeline into evidence at `dir`; gives the log's lines and the JSON.
fn keep(dir: &Path, limits: Limits, requests: &[Vec<u8>]) -> String {
    let mut said = Vec::new();
    let evidence = Evidence::open(dir, limits, Map::new(), 1_795_255_200_123).unwrap();
    let mut settings = Settings::new(Detector::new(&truth(), Data::built_in().unwrap()));
    settings.observer = Some(Box::new(evidence.clone()));
    let mut pipeline = Pipeline::new(settings);
    for request in requests {
        let mut flow = Flow::new(AppTable::new().named("com.example.app", 10_123), Crypt::Tls);
        flow.host = Some("sa.api.intl.miui.com".into());
        let id = pipeline.open(flow);
        let mut alerts = pipeline.push(id, Chunk::Bytes(request), 1_795_255_200_123);
        alerts.extend(pipeline.close(id, 1_795_255_200_123));
        for alert in &alerts {
            sink::Lines(&mut said).alert(alert).unwrap();
            sink::Json(&mut said).alert(alert).unwrap();
        }
    }
    evidence.sync().unwrap();
    assert!(evidence.take_error().is_none() && !evidence.is_pending());
    String::from_utf8(said).unwrap()
}

fn kept(dir: &Path) -> Vec<Map<String, Value>> {
    let mut records = Vec::new();
    for file in files(dir).unwrap() {
        for line in read(&file).unwrap().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            records.push(serde_json::from_slice(line).unwrap());
        }
    }
    records
}

/// The first record with that text under that name.
fn find<'r>(records: &'r [Map<String, Value>], name: &str, text: &str) -> &'r Map<String, Value> {
    records.iter().find(|record| record.get(name).is_some_and(|value| value == text)).unwrap()
}

fn request(target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: sa.api.intl.miui.com\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A telemetry request as the samples have it: JSON in gzip in base64 in a form.
fn telemetry(target: &str, headers: &str, event: &Value, more: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(Value::Array(vec![event.clone()]).to_string().as_bytes()).unwrap();
    let coded = STANDARD.encode(encoder.finish().unwrap());
    let coded = coded.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let headers = format!("Content-Type: application/x-www-form-urlencoded\r\n{headers}");
    request(target, &headers, format!("crc=-510468515&gzip=1&data_list={coded}{more}").as_bytes())
}

fn event(more: &[(&str, Value)]) -> Value {
    let mut properties = Map::from_iter([
        ("url".to_owned(), "https://clinic.example.org/hiv-test?id=12".into()),
        ("imei".to_owned(), IMEI.into()),
    ]);
    properties.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    json!({"type": "track", "event": "visit_page", "distinct_id": "a5edad80-d9d1-4c54-aa77-739dc3d2bee8", "lib": {"$lib": "Android"}, "properties": properties})
}

const FORM: &str = "/sa?project=global_browser_mini&r=PT";

#[test]
fn no_planted_secret_is_kept_in_any_form() {
    let json = "Content-Type: application/json\r\n";
    let mut number = 0;
    let mut plant = || {
        number += 1;
        format!("{PLANTED}{number:02}x")
    };
    let requests = [
        telemetry(
            FORM,
            &format!("Cookie: sid={}; a=b\r\nAuthorization: Bearer {}\r\n", plant(), plant()),
            &event(&[]),
            "",
        ),
        telemetry(
            FORM,
            &format!("X-Auth-Token: {}\r\nX-Api-Key: {}\r\nX-Session: {}\r\n", plant(), plant(), plant()),
            &event(&[]),
            "",
        ),
        telemetry(
            FORM,
            &format!("Referer: https://ana:{}@a.example/?token={}\r\n", plant(), plant()),
            &event(&[]),
            "",
        ),
        telemetry(
            &format!("{FORM}&access_token={}", plant()),
            "",
            &event(&[]),
            &format!("&password={}", plant()),
        ),
        telemetry(FORM, "", &event(&[("access_token", plant().into())]), ""),
        telemetry(
            FORM,
            "",
            &event(&[("back", format!("https://ana:{}@a.example/in?code={}", plant(), plant()).into())]),
            "",
        ),
        telemetry(FORM, "", &event(&[("message", format!("dear ana, {}", plant()).into())]), ""),
        telemetry(FORM, "", &event(&[("inner", json!({"passwd": plant()}).to_string().into())]), ""),
        request(
            "/log",
            json,
            format!(r#"{{"imei":"{IMEI}","token":"{}","pin":"{}"}}"#, plant(), plant()).as_bytes(),
        ),
        request(
            "/log",
            json,
            format!(r#"{{"message":"{}","imei":"{IMEI}","auth":{{"deep":["{}"]}}}}"#, plant(), plant())
                .as_bytes(),
        ),
        request(
            "/token",
            "Content-Type: application/x-www-form-urlencoded\r\n",
            format!("grant_type=refresh&device={IMEI}&x={}", plant()).as_bytes(),
        ),
        request(&format!("/p?imei={IMEI}&session={}", plant()), "", b""),
    ];
    let dir = tempfile::tempdir().unwrap();
    // Small segments: what was rotated is looked through as well.
    let said = keep(dir.path(), Limits { segment: 6000, ..Limits::default() }, &requests);
    assert!(said.lines().count() > 6 && !said.contains(PLANTED), "{said}");
    assert!(files(dir.path()).unwrap().len() > 1);

    let records = kept(dir.path());
    let of_type = |name: &str| records.iter().filter(|record| record["type"] == name).count();
    assert_eq!(of_type("message"), requests.len());
    assert!(of_type("finding") >= requests.len());
    assert!(records.iter().filter(|record| record.contains_key("request")).count() >= 8);
    for record in &records {
        let text = Value::Object(record.clone()).to_string();
        assert!(!text.contains(PLANTED), "{text}");
        // And nothing that the peeler could bring to light again.
        let Some(text) = record.get("request").and_then(|request| request["text"].as_str()) else { continue };
        let mut messages = Vec::new();
        let mut connection = Connection::new(crate::wire::Limits::default());
        connection.push(Chunk::Bytes(text.as_bytes()), &mut messages);
        connection.push(Chunk::End, &mut messages);
        for message in messages {
            let tree = crate::unwrap::peel(&message, &Protocols::builtin(), &unwrap::Limits::default());
            assert!(!format!("{tree:?}").contains(PLANTED));
            for node in &tree.nodes {
                if let Content::Bytes(bytes) = &node.content {
                    assert!(!String::from_utf8_lossy(bytes).contains(PLANTED), "{text}");
                }
            }
        }
    }
    assert!(verify::verify(dir.path()).unwrap().problems.is_empty());

    // Nor does the page have it, nor what is made for others, and nobody else may read the files.
    let mut input = Input::default();
    records.iter().for_each(|record| input.record(record));
    let page = report::page(&input, &report::Sources::default(), true);
    assert!(page.contains("clinic.example.org") && !page.contains(PLANTED));
    let title = page.split("<title>").nth(1).and_then(|rest| rest.split('<').next()).unwrap();
    assert!(!title.contains("clinic") && !title.contains(IMEI), "{title}");
    let mut names = share::Names::default();
    records.iter().for_each(|record| names.learn(record));
    let shared: String =
        records.iter().map(|record| Value::Object(names.share(record)).to_string()).collect();
    assert!(!shared.contains(PLANTED) && !shared.contains(IMEI));
    for file in files(dir.path()).unwrap() {
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o077, 0, "{}", file.display());
    }
}

#[test]
fn a_clean_telemetry_request_is_kept_whole_and_every_value_is_where_it_is_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let sent = telemetry(FORM, "User-Agent: Dalvik/2.1.0\r\n", &event(&[]), "");
    keep(dir.path(), Limits::default(), std::slice::from_ref(&sent));
    let records = kept(dir.path());
    let message = find(&records, "type", "message");
    assert_eq!(message["request"]["removed"], json!([]));
    assert_eq!(message["request"]["kept_sha256"], message["captured"]["sha256"]);
    let text = message["request"]["text"].as_str().unwrap();
    let body = &sent[sent.windows(4).position(|four| four == b"\r\n\r\n").unwrap()..];
    assert!(text.as_bytes().ends_with(body));
    let url = find(&records, "kind", "visited_url");
    assert_eq!(url["label"].as_str(), Some("com.example.app"));
    let layers = message["layers"].as_array().unwrap();
    assert!(layers.iter().any(
        |layer| layer["step"] == "gzip" && layer["sha256"].as_str().is_some_and(|hash| hash.len() == 64)
    ));
    assert!(layers.iter().any(|layer| layer["n"] == url["layer"]));
    let range = url["range"].as_array().unwrap();
    assert_eq!(range[1].as_u64().unwrap() - range[0].as_u64().unwrap(), 41);
    assert!(url.get("around").is_none());
}

#[test]
fn of_anything_else_only_the_surroundings_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let long = "w".repeat(500);
    let body = format!(r#"{{"left":"{long}","imei":"{IMEI}","right":"{long}"}}"#);
    keep(
        dir.path(),
        Limits::default(),
        &[request("/log", "Content-Type: application/json\r\n", body.as_bytes())],
    );
    let records = kept(dir.path());
    let message = find(&records, "type", "message");
    assert_eq!(message["withheld"], "no telemetry protocol was recognised");
    let finding = find(&records, "kind", "imei");
    let around = finding["around"].as_str().unwrap();
    assert_eq!(around.len(), IMEI.len() + 64);
    assert!(around.contains(IMEI));
}

/// The lines of everything that was kept, and the records in them.
fn lines(dir: &Path) -> Vec<Vec<u8>> {
    kept(dir).into_iter().map(|record| Value::Object(record).to_string().into_bytes()).collect()
}

fn parts() -> Map<String, Value> {
    Map::from_iter([
        ("note".to_owned(), "seen on the bus".into()),
        ("telltale".to_owned(), json!({"version": "1"})),
    ])
}

/// Telemetry of three sorts, and a request that is not kept.
fn case() -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let secret = [("access_token", Value::from("s3cr3t"))];
    let hashed = Value::from("0eaed834a1e6f4b2bf0c024e0013dea1");
    let requests = [
        telemetry(FORM, "User-Agent: Dalvik/2.1.0\r\n", &event(&[]), ""),
        telemetry(FORM, "", &event(&[("imei_md5", hashed)]), ""),
        telemetry(FORM, "", &event(&secret), ""),
        request("/log", "Content-Type: application/json\r\n", format!(r#"{{"imei":"{IMEI}"}}"#).as_bytes()),
    ];
    keep(dir.path(), Limits::default(), &requests);
    lines(dir.path())
}

fn derived(lines: &[Vec<u8>]) -> derive::Derived {
    let records: Vec<Map<String, Value>> =
        lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
    derive::derive(&records)
}

#[test]
fn every_finding_of_a_case_is_derived_again_from_its_bytes() {
    let lines = case();
    let opened = case::open(&case::seal(&parts(), &lines));
    assert_eq!(opened.problems, Vec::<String>::new());
    assert_eq!((opened.records.len(), &opened.parts["note"]), (lines.len(), &"seen on the bus".into()));
    let derived = derive::derive(&opened.records);
    assert_eq!(derived.problems, []);
    assert!(derived.again >= 6, "{derived:?}");
    assert!(derived.around >= 1 && derived.hash_only >= 1, "{derived:?}");
    let findings = opened.records.iter().filter(|record| record["type"] == "finding").count();
    assert_eq!(derived.again + derived.in_place + derived.around + derived.hash_only, findings);
}

#[test]
fn a_changed_byte_of_a_case_is_named_with_its_line() {
    let lines = case();
    let sealed = case::seal(&parts(), &lines);
    let ends: Vec<usize> = (0..sealed.len()).filter(|at| sealed[*at] == b'\n').collect();
    for at in (0..sealed.len()).step_by(53).chain(ends.iter().copied()).chain([sealed.len() - 2]) {
        let mut bad = sealed.clone();
        bad[at] ^= 1;
        let line = ends.iter().filter(|end| **end < at).count() + 1;
        let problems = case::open(&bad).problems;
        let last = ends.len();
        let named = |problem: &String| {
            problem.contains(&format!("line {line}"))
                // A line's end that is none: two lines are one, and the last may no longer be seen as such.
                || (bad[at] == b'\n' || sealed[at] == b'\n')
                || (line == last && problem.contains("line"))
        };
        assert!(problems.iter().any(named), "byte {at} in line {line}: {problems:?}");
    }
    assert!(!case::open(&sealed[..sealed.len() / 2]).problems.is_empty());
    assert!(case::is_case(&sealed) && !case::is_case(&lines[0]));
}

#[test]
fn a_case_forged_as_a_whole_does_not_derive() {
    let forge = |from: &str, to: &str, kind: &str| {
        let mut chain = chain::Chain::default();
        let lines: Vec<Vec<u8>> = case()
            .iter()
            .map(|line| {
                let mut text = String::from_utf8(line.clone()).unwrap();
                if text.contains(&format!("\"type\":\"{kind}\"")) {
                    text = text.replacen(from, to, 1);
                }
                let mut fields: Map<String, Value> = serde_json::from_str(&text).unwrap();
                fields.retain(|key, _| key != "seq" && key != "prev");
                let (mut line, after) = chain.seal(fields);
                chain = after;
                line.pop();
                line
            })
            .collect();
        let opened = case::open(&case::seal(&parts(), &lines));
        assert_eq!(opened.problems, Vec::<String>::new(), "the chain itself is whole");
        derived(&lines).problems
    };
    assert_eq!(forge("nothing", "nothing", "finding"), []);
    let said = forge("clinic.example.org/hiv-test?id=12", "clinic.example.org/hiv-test?id=13", "finding");
    assert!(said.iter().any(|(_, what)| what.contains("visited_url")), "{said:?}");
    let said = forge("\"step\":\"gzip\"", "\"step\":\"zlib\"", "message");
    assert!(said.iter().any(|(_, what)| what.contains("(zlib) is gzip now")), "{said:?}");
}

#[test]
fn what_is_left_out_of_a_case_leaves_the_chain_whole() {
    let lines = case();
    let some: Vec<Vec<u8>> = lines
        .iter()
        .enumerate()
        .map(|(at, line)| if at % 2 == 0 { line.clone() } else { case::stand_in(line).unwrap() })
        .collect();
    assert_eq!(case::open(&case::seal(&parts(), &some)).problems, Vec::<String>::new());
}

#[test]
fn a_message_says_when_and_whether_all_of_it_was_seen() {
    let dir = tempfile::tempdir().unwrap();
    keep(dir.path(), Limits::default(), &[telemetry(FORM, "", &event(&[]), "")]);
    let records = kept(dir.path());
    let message = find(&records, "type", "message");
    assert!(message["boot_ms"].as_u64().is_some() && message["clock"].as_str().is_some());
    assert_eq!((&message["wire"], &message["host"]), (&"http1".into(), &"sa.api.intl.miui.com".into()));
    assert_eq!(message["seen_of_it"], "all of it");
}
