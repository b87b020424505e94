//! Lines and JSON as a whole: masking, forging, merging, mutes, limits.

use std::net::SocketAddr;

use super::*;
use crate::leak::{Asked, Severity};

pub(crate) fn finding(kind: Kind, value: &str) -> Finding {
    Finding {
        kind,
        value: value.into(),
        form: None,
        raw: None,
        by: Witness::Dictionary,
        asked: Asked::No,
        severity: Severity::Warn,
        sender: None,
        protocol: Some("sensors_form".into()),
        crypt: Crypt::Tls,
        via: "http1>form:data_list>base64>gzip>json".into(),
        at: "[0].properties.search_word".into(),
        why: "a search word".into(),
        node: 0,
    }
}

fn flow() -> Flow {
    let app = App {
        name: "com.mi.globalbrowser.mini".into(),
        packages: vec!["com.mi.globalbrowser.mini".into()],
        label: "Mint Browser".into(),
        uid: 10123,
        pid: 4242,
        process: "com.mi.globalbrowser.mini".into(),
        role: Some("browser".into()),
        ..App::default()
    };
    let mut flow = Flow::new(app, Crypt::Tls);
    flow.peer = Some(SocketAddr::from(([192, 0, 2, 7], 443)));
    flow.attr = "uid:packages.list".into();
    flow
}

fn host() -> Host {
    Host {
        name: "sa.api.intl.miui.com".into(),
        domain: Some("miui.com".into()),
        owner: Some("Xiaomi".into()),
        owner_cc: Some("CN".into()),
        role: Some("analytics_sensors".into()),
    }
}

fn network() -> Network {
    Network {
        cc: Some("SG".into()),
        cc_source: "DB-IP".into(),
        cc_date: "2026-11".into(),
        asn: Some(45102),
        short: Some("Alibaba".into()),
        as_org: Some("Alibaba (US) Technology Co., Ltd.".into()),
    }
}

fn alert_of(finding: Finding, flow: &Flow) -> Alert {
    let message = Message { body: b"body".to_vec(), body_len: 4, ..Message::default() };
    let alert =
        Alert::new(finding, flow, &message, Some(&host()), "sni", Some(&network()), 1_795_255_200_123);
    Alert { raw_sha256: raw_sha256(&message), ..alert.unwrap() }
}

fn alert(kind: Kind, value: &str) -> Alert {
    alert_of(finding(kind, value), &flow())
}

fn judged(ledger: &mut Ledger, policy: &Policy, findings: Vec<Finding>, now_ms: u64) -> Vec<Alert> {
    let mut alerts: Vec<Alert> = findings.into_iter().map(|finding| alert_of(finding, &flow())).collect();
    ledger.judge(policy, &mut alerts, now_ms);
    alerts
}

#[test]
fn the_line_of_the_design() {
    let alerts = judged(
        &mut Ledger::default(),
        &Policy::default(),
        vec![finding(Kind::SearchQuery, "divorce lawyer near me")],
        7,
    );
    let line = alerts[0].to_string();
    let id = &alerts[0].id;
    assert_eq!(
        line,
        format!(
            "Mint Browser sent a search query to sa.api.intl.miui.com (Xiaomi domain; Alibaba network, located SG by DB-IP 2026-11): \
             \"d… (22)\" | kind=search_query app=com.mi.globalbrowser.mini uid=10123 host=sa.api.intl.miui.com ip=192.0.2.7 cc=SG \
             asn=45102 host_owner=Xiaomi crypt=tls via=tls>http1>form:data_list>base64>gzip>json at=[0].properties.search_word \
             by=dictionary asked=no seen=1 id={id}"
        )
    );
}

#[test]
fn the_json_has_the_fields_of_the_design_and_leaves_out_what_is_absent() {
    let alerts = judged(
        &mut Ledger::default(),
        &Policy::default(),
        vec![finding(Kind::SearchQuery, "divorce lawyer near me")],
        7,
    );
    let json: serde_json::Value = serde_json::from_str(&alerts[0].json()).unwrap();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys.join(" "),
        "time severity kind value asked by app packages uid user pid process host ip port cc asn as_org host_owner host_owner_cc \
         protocol crypt via at attr seen first last bytes raw_sha256 why id"
    );
    assert_eq!(json["value"], "divorce lawyer near me");
    assert_eq!(json["time"], "2026-11-21T10:00:00.123Z");
    assert_eq!(json["severity"], "W");
    assert_eq!(json["attr"], "uid:packages.list host:sni");
    assert_eq!(json["raw_sha256"], "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5");
    let mut full = finding(Kind::Imei, "490154203237518");
    (full.form, full.raw, full.sender) =
        (Some("md5".into()), Some("0eae".into()), Some("com.miui.home".into()));
    let mut flow = flow();
    (flow.iface, flow.app.version) = (Some("wlan0".into()), Some("5".into()));
    let json: serde_json::Value = serde_json::from_str(&alert_of(full, &flow).json()).unwrap();
    for key in ["form", "raw", "sender", "iface", "app_version"] {
        assert!(json.get(key).is_some(), "{key}");
    }
}

/// Everything in an alert that an app can choose is tried with text that would end the line or pass for a field.
#[test]
fn a_payload_cannot_forge_a_line() {
    let evil = "x\" | kind=imei id=aaaaaa\nE telltale: forged\r\u{202e}\u{2028}\u{1b}[2J\u{0}";
    for kind in Kind::ALL {
        let mut finding = finding(*kind, evil);
        finding.form = Some(evil.into());
        finding.raw = Some(evil.into());
        finding.sender = Some(evil.into());
        finding.via = format!("http1>form:{evil}>json");
        finding.at = evil.into();
        finding.why = evil.into();
        let mut flow = flow();
        flow.app.name = evil.into();
        flow.app.label = evil.into();
        flow.app.process = evil.into();
        let message = Message::default();
        let host = Host { name: evil.into(), owner: Some(evil.into()), ..Host::default() };
        let Some(alert) = Alert::new(finding, &flow, &message, Some(&host), evil, None, 1) else {
            panic!("{}", kind.name())
        };
        let line = alert.to_string();
        assert!(!line.chars().any(text::acts), "{line:?}");
        // The sentence ends where we end it, and every pair outside quotes is one of ours.
        let (sentence, pairs) = line.split_once(" | ").unwrap();
        assert!(!sentence.contains(['=', '|']), "{sentence}");
        let keys = keys(pairs);
        assert_eq!(keys.iter().filter(|key| *key == "kind").count(), 1, "{keys:?}");
        assert_eq!(keys.last().map(String::as_str), Some("id"), "{keys:?}");
        let json = alert.json();
        assert!(!json.chars().any(text::acts), "{json:?}");
        assert!(
            serde_json::from_str::<serde_json::Value>(&json).unwrap()["value"]
                .as_str()
                .unwrap()
                .contains("forged")
        );
        let mut out = Vec::new();
        sink::write_line(&mut out, alert.severity(), &line).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.lines().filter(|line| line.starts_with("E telltale")).count(), 0);
    }
}

/// Reads pairs as the README tells readers to.
fn keys(pairs: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut rest = pairs;
    while let Some((key, value)) = rest.split_once('=') {
        keys.push(key.trim_start().to_owned());
        rest = match value.strip_prefix('"') {
            None => value.find(' ').map_or("", |at| &value[at..]),
            Some(quoted) => {
                let mut escaped = false;
                let end = quoted.find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                });
                &quoted[end.unwrap() + 1..]
            }
        };
    }
    keys
}

#[test]
fn the_log_never_holds_the_value() {
    for kind in Kind::ALL {
        for secret in
            ["https://clinic.example.org/hiv-test?id=12", "490154203237518", "divorce lawyer", "Lisboa Home"]
        {
            let line = alert(*kind, secret).to_string();
            assert!(!line.contains(secret), "{line}");
            for part in ["clinic", "hiv", "lawyer", "Lisboa Home", "4901542"] {
                assert!(!line.contains(part), "{}: {line}", kind.name());
            }
        }
    }
}

#[test]
fn hosts_the_owner_visits_are_content() {
    let mut asked = finding(Kind::SearchQuery, "cats");
    (asked.asked, asked.severity) = (Asked::Yes, Severity::Info);
    let line = alert_of(asked, &flow()).to_string();
    assert!(line.contains("host=*.com ") && !line.contains("miui") && !line.contains("192.0.2.7"), "{line}");
    assert!(line.contains("to *.com:"), "{line}");
}

#[test]
fn a_courier_and_a_hash_are_named() {
    let mut finding = finding(Kind::Imei, "490154203237518");
    (finding.sender, finding.form) = (Some("com.miui.home".into()), Some("md5".into()));
    let line = alert_of(finding, &flow()).to_string();
    assert!(line.starts_with("Mint Browser (for com.miui.home) sent your IMEI as md5 to sa.api"), "{line}");
    assert!(line.contains(" sender=com.miui.home "), "{line}");
}

#[test]
fn without_tls_the_line_says_readable_on_the_way() {
    let mut finding = finding(Kind::Imsi, "268011234567890");
    finding.crypt = Crypt::None;
    let mut flow = flow();
    flow.crypt = Crypt::None;
    let line = alert_of(finding, &flow).to_string();
    assert!(line.contains("readable on the way") && line.contains(" crypt=none via=http1>"), "{line}");
}

#[test]
fn the_same_is_said_at_the_1st_10th_and_100th_time_then_daily() {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    let mut ledger = Ledger::default();
    let policy = Policy { lines_per_hour: 0, ..Policy::default() };
    let mut said = Vec::new();
    for number in 1..=500_u64 {
        let mut one = finding(Kind::SearchQuery, &format!("query {number}"));
        one.at = format!("[{}].properties.search_word", number % 7);
        let alerts = judged(&mut ledger, &policy, vec![one], 1_000_000 + number);
        assert_eq!(alerts[0].seen, number);
        assert_eq!(alerts[0].first_ms, 1_000_001);
        if alerts[0].shown {
            said.push(number);
        }
    }
    assert_eq!(said, [1, 10, 100]);
    let next =
        |ledger: &mut Ledger, at| judged(ledger, &policy, vec![finding(Kind::SearchQuery, "x")], at)[0].shown;
    assert!(next(&mut ledger, 1_000_100 + DAY));
    assert!(!next(&mut ledger, 1_000_200 + DAY));
    assert!(next(&mut ledger, 1_000_100 + 2 * DAY));
}

#[test]
fn ids_are_stable_and_the_value_is_no_part_of_them() {
    let policy = Policy { key: [7; 16], ..Policy::default() };
    let id =
        |policy: &Policy, finding| judged(&mut Ledger::default(), policy, vec![finding], 1)[0].id.clone();
    let one = id(&policy, finding(Kind::SearchQuery, "cats"));
    assert_eq!(one, id(&policy, finding(Kind::SearchQuery, "dogs")));
    let mut later = finding(Kind::SearchQuery, "cats");
    later.at = "[12].properties.search_word".into();
    assert_eq!(one, id(&policy, later));
    assert_ne!(one, id(&policy, finding(Kind::SearchEngine, "cats")));
    assert_ne!(one, id(&Policy::default(), finding(Kind::SearchQuery, "cats")));
    // Written down: an id must mean the same after an update.
    assert_eq!(one, "dwky8q");
}

#[test]
fn many_of_a_kind_in_one_message_make_one_line() {
    let many = |count: usize| {
        let findings = (0..count).map(|number| {
            let mut one = finding(Kind::InstalledApps, &format!("com.example.app{number}"));
            one.at = format!("apps.place{number}");
            one
        });
        let mut all: Vec<Finding> = findings.collect();
        all.push(finding(Kind::Imei, "490154203237518"));
        judged(&mut Ledger::default(), &Policy::default(), all, 1)
    };
    let shown = |alerts: &[Alert]| alerts.iter().filter(|alert| alert.shown).count();
    assert_eq!(shown(&many(3)), 4);
    let alerts = many(40);
    assert_eq!(shown(&alerts), 2);
    let line = alerts[0].to_string();
    assert!(
        line.contains("sent apps you have installed to")
            && line.contains(" and 39 more |")
            && line.contains(" count=40 "),
        "{line}"
    );
    let policy = Policy { merge: false, ..Policy::default() };
    let findings = (0..9).map(|number| finding(Kind::AppOpen, &number.to_string())).collect();
    assert_eq!(shown(&judged(&mut Ledger::default(), &policy, findings, 1)), 9);
}

#[test]
fn a_value_is_one_line_however_many_places_of_a_message_hold_it() {
    let places = ["distinct_id", "properties.uuid", "identities.cookie"].map(|place| {
        let mut one = finding(Kind::PersistentId, "a5edad80-d9d1-4c54-aa77-739dc3d2bee8");
        one.at = place.into();
        one
    });
    let alerts = judged(&mut Ledger::default(), &Policy::default(), places.to_vec(), 1);
    assert_eq!(alerts.iter().filter(|alert| alert.shown).count(), 1);
    assert!(alerts.iter().all(|alert| alert.listed && alert.count == 1), "JSON keeps every place");
}

#[test]
fn json_lists_every_new_value_where_lines_merge() {
    let mut ledger = Ledger::default();
    let mut listed = |value: &str| {
        let alerts = judged(&mut ledger, &Policy::default(), vec![finding(Kind::SearchQuery, value)], 1);
        (alerts[0].shown, alerts[0].listed)
    };
    assert_eq!(listed("cats"), (true, true));
    assert_eq!(listed("cats"), (false, false));
    assert_eq!(listed("dogs"), (false, true));
    assert_eq!(listed("cats"), (false, false));
}

#[test]
fn mutes_hide_what_fits_all_their_parts_and_nothing_else() {
    let hidden = |mute: Mute, now| {
        let policy = Policy { mutes: vec![mute], ..Policy::default() };
        !judged(&mut Ledger::default(), &policy, vec![finding(Kind::SearchQuery, "cats")], now)[0].shown
    };
    let text = |text: &str| Some(text.to_owned());
    assert!(!hidden(Mute::default(), 1));
    assert!(hidden(Mute { app: text("com.mi.globalbrowser.mini"), ..Mute::default() }, 1));
    assert!(hidden(Mute { host: text("miui.com"), ..Mute::default() }, 1));
    assert!(!hidden(Mute { host: text("iui.com"), ..Mute::default() }, 1));
    assert!(hidden(Mute { owner: text("xiaomi"), kind: Some(Kind::SearchQuery), ..Mute::default() }, 1));
    assert!(!hidden(Mute { owner: text("xiaomi"), kind: Some(Kind::Imei), ..Mute::default() }, 1));
    let until = Mute { owner: text("Xiaomi"), until_ms: Some(10), ..Mute::default() };
    assert!(hidden(until.clone(), 9) && !hidden(until, 10));
}

#[test]
fn a_flood_is_limited_but_a_new_kind_always_speaks() {
    let mut ledger = Ledger::default();
    let policy = Policy { lines_per_hour: 5, ..Policy::default() };
    let mut shown = 0;
    for number in 0..100 {
        let mut one = finding(Kind::UiAction, "tap");
        one.at = format!("place{}", "x".repeat(number));
        shown += judged(&mut ledger, &policy, vec![one], 5).iter().filter(|alert| alert.shown).count();
    }
    assert_eq!(shown, 5);
    let new = judged(&mut ledger, &policy, vec![finding(Kind::Location, "38.7,-9.1")], 6);
    assert!(new[0].shown && new[0].held_back == 95);
    assert!(new[0].to_string().contains("95 further lines"), "{}", new[0]);
    let mut other = finding(Kind::UiAction, "tap");
    other.at = "elsewhere".into();
    assert!(judged(&mut ledger, &policy, vec![other], 60 * 60 * 1000 + 1)[0].shown);
}

#[test]
fn what_is_known_fills_no_day_and_what_is_new_is_never_held_back() {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    let policy = Policy::default();
    let mut ledger = Ledger::default();
    let day = |ledger: &mut Ledger, number: u64| {
        let mut shown = 0;
        for place in 0..40_u64 {
            let mut one = finding(Kind::SearchQuery, "cats");
            one.at = format!("place{}", "x".repeat(place as usize));
            let at = number * DAY + place * 2_000_000;
            // Often enough that it is due once a day from the first day on.
            for _ in 0..101 {
                shown += usize::from(judged(ledger, &policy, vec![one.clone()], at)[0].shown);
            }
        }
        shown
    };
    assert_eq!(day(&mut ledger, 10), 40 + policy.repeats_per_day as usize);
    assert_eq!(day(&mut ledger, 11), policy.repeats_per_day as usize);
    let told = ledger.take_told();
    assert_eq!((told.new, told.lines), (40, 40 + 2 * u64::from(policy.repeats_per_day)));
    assert_eq!(
        told.held_back,
        2 * 40 - u64::from(policy.repeats_per_day) + 40 - u64::from(policy.repeats_per_day)
    );
    let mut one = finding(Kind::SearchQuery, "cats");
    one.at = "quite.new".into();
    assert!(judged(&mut ledger, &policy, vec![one], 12 * DAY - 1)[0].shown);

    // And after a restart nothing is new again.
    let mut again = Ledger::from_bytes(&ledger.to_bytes()).unwrap();
    assert!(
        !judged(&mut again, &policy, vec![finding(Kind::SearchQuery, "cats")], 12 * DAY - 1)[0].shown
            || again.classes() > ledger.classes()
    );
    let mut one = finding(Kind::SearchQuery, "cats");
    one.at = "quite.new".into();
    assert!(!judged(&mut again, &policy, vec![one], 12 * DAY - 1)[0].shown);
}

#[test]
fn the_ledger_is_bounded() {
    let mut ledger = Ledger::default();
    let policy = Policy::default();
    for number in 0..20_000_u64 {
        let mut one = finding(Kind::UiAction, "tap");
        one.protocol = Some(format!("p{number}"));
        let _ = judged(&mut ledger, &policy, vec![one], number);
        if number == 16_500 {
            break;
        }
    }
    assert!(ledger.classes() <= 16 * 1024);
}

#[test]
fn long_lines_keep_their_pairs_together() {
    let mut finding = finding(Kind::SearchQuery, "cats");
    finding.via = format!("http1{}", ">form:some_name".repeat(600));
    let line = alert_of(finding, &flow()).to_string();
    let mut out = Vec::new();
    sink::write_line(&mut out, Severity::Warn, &line).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(out.lines().count() > 1);
    for line in out.lines() {
        assert!(line.starts_with("W telltale: ") && line.len() <= sink::MAX_LINE + "W telltale: ".len());
    }
}

#[test]
fn own_values_in_host_and_place_stay_out_of_lines() {
    let mut imei = finding(Kind::Imei, "490154203237518");
    (imei.by, imei.via, imei.at) = (Witness::Truth, "http1>header:host".into(), String::new());
    let mut wifi = finding(Kind::WifiName, "Lisboa-Home");
    (wifi.by, wifi.at) = (Witness::Truth, "nets.Lisboa-Home".into());
    let mut place = finding(Kind::Location, "38.7222, -9.1393");
    place.at = "nets.lisboa-home.x_490154203237518.lat".into();
    let mut alerts = [imei, wifi, place].map(|finding| alert_of(finding, &flow()));
    for alert in &mut alerts {
        alert.host = Some(Host { name: "490154203237518.lisboa-home.example.com".into(), ..Host::default() });
    }
    note_own_values(&mut alerts);
    let lines = alerts.each_ref().map(ToString::to_string);
    for line in &lines {
        assert!(!line.contains("490154203237518"), "{line}");
        // A name of his own may be part of anybody's host.
        assert!(line.contains("host=*.lisboa-home.example.com"), "{line}");
    }
    assert!(lines[1].contains(" at=nets.* "), "{}", lines[1]);
    assert!(lines[2].contains(" at=nets.*.*.lat "), "{}", lines[2]);
    let mut phone = [alert(Kind::PhoneNumber, "+351912345678")];
    phone[0].finding.by = Witness::Truth;
    phone[0].host = Some(Host { name: "351912345678.example.com".into(), ..Host::default() });
    note_own_values(&mut phone);
    assert!(!phone[0].to_string().contains("351912345678"));
    // The log of a message that says nothing about the phone stays as it is, and root's JSON always does.
    assert!(alerts[0].json().contains("490154203237518.lisboa-home.example.com"));
    let mut others = [alert(Kind::SearchQuery, "miui")];
    note_own_values(&mut others);
    assert!(others[0].to_string().contains("host=sa.api.intl.miui.com"));
}
