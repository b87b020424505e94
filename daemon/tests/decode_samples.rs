//! `telltale decode` as users and scripts call it, on every sample request; and what damaged input does to it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test's helpers may fail")]

mod common;

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    process::{Command, Output, Stdio},
};

use common::Sample;
use serde_json::Value;
use telltale::{
    alert::{Alert, Policy},
    app::AppTable,
    leak::{Crypt, Data, Detector, Severity, Truth},
    pipeline::{Flow, Pipeline, Settings},
    stream::Chunk,
};

/// Runs the program with `input` on its standard input.
fn telltale(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_telltale"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn decode(sample: &Sample, more: &[&str]) -> Output {
    let truth = common::truth_file();
    let mut args =
        vec!["decode", "--truth", truth.to_str().unwrap(), "--app", &sample.app, "--host", &sample.host, "-"];
    if sample.plain {
        args.push("--plain");
    }
    args.extend(more);
    telltale(&args, &sample.request())
}

fn findings(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone())
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_sample_says_what_it_must_and_nothing_louder() {
    let samples = Sample::all();
    assert_eq!(samples.len(), 17);
    let mut wrong = Vec::new();
    for sample in &samples {
        let found = findings(&decode(sample, &["--json"]));
        let expected = sample.expect["findings"].as_array().unwrap();
        for wanted in expected {
            let met = found.iter().any(|finding| {
                (finding["kind"] == wanted["kind"]
                    || (!wanted["or_kind"].is_null() && finding["kind"] == wanted["or_kind"]))
                    && finding["value"] == wanted["value"]
                    && (wanted["form"].is_null() || finding["form"] == wanted["form"])
                    && (sample.expect["sender"].is_null() || finding["sender"] == sample.expect["sender"])
            });
            if !met {
                wrong.push(format!("{}: missing {wanted}", sample.name));
            }
        }
        for finding in &found {
            let loud = matches!(finding["severity"].as_str().unwrap(), "W" | "E");
            let is_expected = expected
                .iter()
                .any(|wanted| finding["kind"] == wanted["kind"] || finding["kind"] == wanted["or_kind"]);
            if loud && (sample.expect["loudest"] == "I" || !is_expected) {
                wrong.push(format!("{}: too loud {finding}", sample.name));
            }
            let crypt = if sample.plain { "none" } else { "tls" };
            let own = matches!(finding["crypt"].as_str().unwrap(), "sealed" | "key-in-message");
            if !own && finding["crypt"] != crypt {
                wrong.push(format!("{}: crypt is not {crypt}: {finding}", sample.name));
            }
            assert_eq!(finding["via"].as_str().unwrap().starts_with("tls>http1"), !sample.plain, "{finding}");
            assert_eq!(
                (&finding["app"], &finding["host"]),
                (&sample.app.as_str().into(), &sample.host.as_str().into())
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn lines_for_people_never_hold_a_value() {
    for sample in Sample::all() {
        let output = decode(&sample, &[]);
        let lines = String::from_utf8(output.stdout).unwrap();
        for wanted in sample.expect["findings"].as_array().unwrap() {
            let value = wanted["value"].as_str().unwrap();
            // What programs call things stays readable: see the masks in data/kinds.toml.
            let plain = matches!(
                wanted["kind"].as_str().unwrap(),
                "search_engine" | "screen_swipe" | "status_bar" | "encrypted_telemetry"
            );
            if value.len() > 3 && !plain {
                assert!(!lines.contains(value), "{}: {value} in {lines}", sample.name);
            }
        }
        for line in lines.lines() {
            let (sentence, pairs) = line.split_once(" | ").unwrap();
            assert!(
                sentence.contains(" sent ") && pairs.starts_with("kind=") && pairs.contains(" id="),
                "{line}"
            );
        }
    }
}

/// Credentials of a sign-in are in no line, no JSON and no explanation.
#[test]
fn secrets_appear_nowhere() {
    let secret = "8FE4C11451281C094A6578E6DDBF5EED";
    let mut sample = Sample::named("26_neg_sign_in");
    sample.head.push_str(
        "Cookie: passToken=V1-c0ffee-token; userId=6012345678\r\nAuthorization: Bearer b3arer-t0ken\r\n",
    );
    for more in [&["--json"][..], &["--explain"], &["--json", "--explain"]] {
        let output = decode(&sample, more);
        let all =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        for part in [secret, &secret.to_lowercase(), "V1-c0ffee-token", "b3arer-t0ken"] {
            assert!(!all.contains(part), "{part} in {all}");
        }
        assert!(all.contains("account"), "{all}");
    }
}

/// The samples as one HAR file, as an intercepting proxy saves them.
#[test]
fn a_har_file_says_what_its_requests_say() {
    let names = ["01_visited_url", "19_onetrack_open", "22_imsi_clear"];
    let mut entries = Vec::new();
    for name in names {
        let text = fs::read_to_string(common::folder().join(format!("{name}.json"))).unwrap();
        let request = serde_json::from_str::<Value>(&text).unwrap()["request"].clone();
        let headers: Vec<Value> = request["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| serde_json::json!({"name": name, "value": value}))
            .collect();
        let scheme = if name == "22_imsi_clear" { "http" } else { "https" };
        let url =
            format!("{scheme}://{}{}", request["host"].as_str().unwrap(), request["path"].as_str().unwrap());
        entries.push(
            serde_json::json!({"request": {"method": request["method"], "url": url, "headers": headers,
            "postData": {"text": request["body"]}}}),
        );
    }
    let har = serde_json::json!({"log": {"version": "1.2", "entries": entries}}).to_string();
    let truth = common::truth_file();
    let found =
        findings(&telltale(&["decode", "--json", "--truth", truth.to_str().unwrap(), "-"], har.as_bytes()));
    for name in names {
        let sample = Sample::named(name);
        for wanted in sample.expect["findings"].as_array().unwrap() {
            let same = |finding: &&Value| {
                finding["kind"] == wanted["kind"]
                    && finding["value"] == wanted["value"]
                    && finding["host"] == sample.host.as_str()
            };
            let met = found.iter().find(same).unwrap_or_else(|| panic!("{name}: missing {wanted}"));
            assert_eq!(met["crypt"], if sample.plain { "none" } else { "tls" }, "{met}");
        }
    }
}

struct Decoder(Pipeline);

impl Decoder {
    fn new() -> Decoder {
        let truth = Truth::from_json(&fs::read_to_string(common::truth_file()).unwrap()).unwrap();
        let mut settings = Settings::new(Detector::new(&truth, Data::built_in().unwrap()));
        settings.alerts = Policy { merge: false, ..Policy::default() };
        Decoder(Pipeline::new(settings))
    }

    fn decode(&mut self, sample: &Sample, bytes: &[u8], piece: usize) -> Vec<Alert> {
        let mut flow = Flow::new(AppTable::new().named(&sample.app, 10123), Crypt::Tls);
        flow.host = Some(sample.host.clone());
        let id = self.0.open(flow);
        let mut alerts = Vec::new();
        for chunk in bytes.chunks(piece) {
            alerts.extend(self.0.push(id, Chunk::Bytes(chunk), 1));
        }
        alerts.extend(self.0.close(id, 1));
        assert_eq!(self.0.flows(), 0);
        alerts
    }
}

/// Kind and value of what is worth a look.
fn loud(alerts: &[Alert]) -> BTreeSet<(&'static str, String)> {
    let loud = alerts.iter().filter(|alert| alert.severity() >= Severity::Warn);
    loud.map(|alert| (alert.kind().name(), alert.finding.value.clone())).collect()
}

#[test]
fn a_truncated_body_invents_nothing() {
    let sample = Sample::named("01_visited_url");
    let mut decoder = Decoder::new();
    let whole = loud(&decoder.decode(&sample, &sample.request(), usize::MAX));
    assert_eq!(whole.len(), 3);
    for end in 0..sample.body.len() {
        // Shorter as sent, and cut on the way.
        let short = decoder.decode(&sample, &sample.request_with(&sample.body[..end]), usize::MAX);
        assert!(loud(&short).is_subset(&whole), "{end}: {short:?}");
        let request = sample.request();
        let cut = decoder.decode(&sample, &request[..request.len() - sample.body.len() + end], usize::MAX);
        assert!(loud(&cut).is_subset(&whole), "{end}: {cut:?}");
    }
}

#[test]
fn a_corrupt_body_invents_nothing() {
    let sample = Sample::named("01_visited_url");
    let mut decoder = Decoder::new();
    let whole = loud(&decoder.decode(&sample, &sample.request(), usize::MAX));
    for at in 0..sample.body.len() {
        for flip in [0x01, 0x80] {
            let mut body = sample.body.clone();
            body[at] ^= flip;
            let found = decoder.decode(&sample, &sample.request_with(&body), usize::MAX);
            assert!(
                loud(&found).is_subset(&whole),
                "{at} ^ {flip:#x}: {:?}",
                loud(&found).difference(&whole)
            );
        }
    }
}

#[test]
fn it_does_not_matter_how_the_bytes_come() {
    let mut decoder = Decoder::new();
    for sample in Sample::all() {
        let request = sample.request();
        let whole = loud(&decoder.decode(&sample, &request, usize::MAX));
        for piece in [1, 7, 100, 1460] {
            assert_eq!(
                loud(&decoder.decode(&sample, &request, piece)),
                whole,
                "{} in pieces of {piece}",
                sample.name
            );
        }
    }
}

#[test]
fn exit_codes_and_one_clear_line() {
    for (args, code, part) in [
        (&["decode"][..], 2, "needs a file"),
        (&["decode", "--nonsense", "-"], 2, "--nonsense"),
        (&["fly"], 2, "no command"),
        (&[], 2, "--help"),
        (&["decode", "/nonexistent/request"], 1, "/nonexistent/request"),
        (&["decode", "--truth", "/nonexistent/truth", "-"], 1, "/nonexistent/truth"),
        (&["config", "check", "/nonexistent/config"], 1, "/nonexistent/config"),
    ] {
        let output = telltale(args, b"");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(part), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty());
    }
    for (args, part) in [
        (&["--help"][..], "telltale run"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
        (&["config", "default"], "log_level"),
        (&["explain", "visited_url"], "Innocent"),
    ] {
        let output = telltale(args, b"");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(String::from_utf8(output.stdout).unwrap().contains(part), "{args:?}");
    }
    // Bytes of no protocol are no failure.
    let output = telltale(&["decode", "--json", "-"], b"\x00\x01\x02 nothing of note");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let sample = Sample::named("11_app_opens");
    let truth = common::truth_file();
    let mut child = Command::new(env!("CARGO_BIN_EXE_telltale"))
        .args(["decode", "--json", "--truth", truth.to_str().unwrap(), "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all(&sample.request()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}

#[test]
fn with_a_store_tokens_are_remembered_from_one_run_to_the_next() {
    let store = tempfile::tempdir().unwrap();
    let folder = store.path().to_str().unwrap();
    let body = r#"{"install":"9f86d081884c7d659a2feaa0c55ad015"}"#;
    let request = format!(
        "POST /collect HTTP/1.1\r\nHost: t.example.com\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let run = || {
        let output = telltale(
            &["decode", "--json", "--store", folder, "--app", "org.example", "-"],
            request.as_bytes(),
        );
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(!run().contains("unchanged for"));
    let second = run();
    assert!(second.contains("unchanged for 0 days, 2 starts"), "{second}");
    fs::write(store.path().join("tokens"), "torn").unwrap();
    let third = run();
    assert!(!third.contains("unchanged for"), "{third}");
    assert!(run().contains("unchanged for 0 days, 2 starts"));
}

/// `--more` names a folder as `more/` beside the configuration is one.
#[test]
fn additions_of_the_owner_count_in_decode() {
    let more = tempfile::tempdir().unwrap();
    let row = "[[row]]\nprotocol = \"sensors\"\nevent = \"nap\"\nat = \"properties.pillow\"\nkind = \"item_view\"\nseverity = \"high\"\nshows = \"pillow\"\nsource = \"this test\"\n";
    fs::write(more.path().join("dictionary.toml"), row).unwrap();
    fs::write(more.path().join("protocols.toml"), "[[protocol]]\nid = 7\n").unwrap();
    let event = r#"[{"event":"nap","properties":{"pillow":"a soft one"}}]"#;
    let body =
        format!("data_list={}", base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE, event));
    let request = format!(
        "POST /sa?project=x HTTP/1.1\r\nHost: t.example.com\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let plain = telltale(&["decode", "--json", "-"], request.as_bytes());
    assert!(findings(&plain).iter().all(|finding| finding["value"] != "a soft one"));
    let folder = more.path().to_str().unwrap();
    let output = telltale(&["decode", "--json", "--more", folder, "-"], request.as_bytes());
    assert!(findings(&output).iter().any(|f| f["kind"] == "item_view" && f["value"] == "a soft one"));
    let notes = String::from_utf8(output.stderr).unwrap();
    assert!(
        notes.contains("dictionary.toml is used") && notes.contains("protocols.toml is not used"),
        "{notes}"
    );
}
