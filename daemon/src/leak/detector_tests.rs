//! The detector on messages whose layers are built by hand; whole requests are in `tests/samples.rs`.

use super::{
    Asked, Finding, Kind, Severity, Witness,
    testing::{Case, detector},
};
use crate::unwrap::Content;

fn one<'f>(findings: &'f [Finding], kind: Kind, value: &str) -> &'f Finding {
    let mut found = findings.iter().filter(|f| f.kind == kind && f.value == value);
    let first = found.next();
    first.unwrap_or_else(|| panic!("no {kind:?} {value:?} in {findings:#?}"))
}

const SENSORS: &str = r#"[{"event":"search","distinct_id":"24f46b13-821d-429e-a541-d5f56b6d7b31","properties":
    {"$device_id":"9f3c2b7a1d4e5f60","$carrier":"Example Mobile","used_searchengine":"google",
     "$latitude":38722252,"$longitude":-9139337,"search_word":"divorce lawyer near me"}}]"#;

#[test]
fn sensors_events_say_who_and_what() {
    let findings = Case::new().json(SENSORS).telemetry("sensors_form").examine(&detector());
    let query = one(&findings, Kind::SearchQuery, "divorce lawyer near me");
    assert_eq!((query.by, query.asked, query.severity), (Witness::Dictionary, Asked::No, Severity::Error));
    assert_eq!((query.at.as_str(), query.via.as_str()), ("[0].properties.search_word", "http1>json"));
    let id = one(&findings, Kind::AndroidId, "9f3c2b7a1d4e5f60");
    assert_eq!((id.by, id.severity, id.form.as_deref()), (Witness::Truth, Severity::Warn, None));
    assert_eq!(one(&findings, Kind::SearchEngine, "google").severity, Severity::Info);
    assert_eq!(one(&findings, Kind::Carrier, "Example Mobile").severity, Severity::Info);
    let place = one(&findings, Kind::Location, "38.722252,-9.139337");
    assert_eq!((place.by, place.severity), (Witness::Truth, Severity::Error));
    assert_eq!(place.raw.as_deref(), Some("38722252,-9139337"));
    assert_eq!(findings.len(), 6, "{findings:#?}");
}

#[test]
fn a_hash_is_told_as_the_phones_own_value() {
    let findings = Case::new().json(r#"{"d":"0EAED834A1E6F4B2BF0C024E0013DEA1"}"#).examine(&detector());
    let imei = one(&findings, Kind::Imei, "490154203237518");
    assert_eq!(imei.form.as_deref(), Some("md5"));
    assert_eq!(imei.raw.as_deref(), Some("0EAED834A1E6F4B2BF0C024E0013DEA1"));
    assert_eq!((imei.asked, imei.severity), (Asked::Unknown, Severity::Warn));
    assert_eq!(findings.len(), 1);
}

#[test]
fn an_inner_layer_does_not_repeat_an_outer_one() {
    let mut case = Case::new().json(r#"{"d":"imei=490154203237518"}"#);
    let json = case.tree.nodes.len() - 1;
    let inner = case.layer(json, "form", Content::Bytes(b"imei=490154203237518".to_vec()));
    case.tree.nodes[inner].at = "d".into();
    assert_eq!(case.examine(&detector()).len(), 1);
    // A raw body that was taken apart into fields says the same as its fields.
    let mut case = Case::new();
    let body = case.layer(0, "body", Content::Bytes(b"a=1&d=490154203237518".to_vec()));
    case.layer(body, "form:d", Content::Bytes(b"490154203237518".to_vec()));
    let findings = case.examine(&detector());
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0].via, "http1>form:d");
}

#[test]
fn placeholders_are_nothing() {
    let json = r#"{"gaid":"00000000-0000-0000-0000-000000000000","mac":"02:00:00:00:00:00","imei":"000000000000000","ssid":"<unknown ssid>"}"#;
    assert!(Case::new().json(json).examine(&detector()).is_empty());
    let sensors = r#"[{"event":"x","distinct_id":"","properties":{"$device_id":"unknown","$gaid":"00000000-0000-0000-0000-000000000000"}}]"#;
    assert!(Case::new().json(sensors).telemetry("sensors_form").examine(&detector()).is_empty());
}

#[test]
fn what_the_owner_wrote_is_at_most_info() {
    for json in [
        r#"{"text":"call me: +351912345678"}"#,
        r#"{"a":"my new phone has the imei 490154203237518 it says"}"#,
        r#"{"email":"a@b.example","password":"x","phone":"+351912345678"}"#,
    ] {
        let findings = Case::new().json(json).examine(&detector());
        assert!(findings.iter().all(|f| f.severity == Severity::Info), "{json}: {findings:#?}");
    }
    // The same text in telemetry is telemetry.
    let json = r#"[{"event":"x","properties":{"text":"my number is +351912345678 you know"}}]"#;
    let findings = Case::new().json(json).telemetry("sensors_form").examine(&detector());
    assert_eq!(one(&findings, Kind::PhoneNumber, "+351912345678").severity, Severity::Warn);
}

#[test]
fn three_of_the_phones_apps_are_a_list_and_two_are_not() {
    let three = r#"{"l":["com.whatsapp","org.mozilla.firefox","com.example.bank"]}"#;
    let findings = Case::new().json(three).examine(&detector());
    assert_eq!(findings.iter().filter(|f| f.kind == Kind::InstalledApps).count(), 3, "{findings:#?}");
    assert!(findings.iter().all(|f| f.severity == Severity::Warn));
    let two = r#"{"l":["com.whatsapp","org.mozilla.firefox","com.unknown.app"]}"#;
    assert!(Case::new().json(two).examine(&detector()).is_empty());
    // An app that names itself beside two others has no list.
    let findings = Case::new().from("com.example.bank", None).json(three).examine(&detector());
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn positions_near_the_last_fix_need_no_key() {
    for json in [
        r#"{"p":[38.7229,-9.1391]}"#,
        r#"{"coordinates":[-9.1391,38.7229]}"#,
        r#"{"a":387222520,"b":-91393370}"#,
        r#"{"near":"38.7229,-9.1391"}"#,
    ] {
        let findings = Case::new().json(json).examine(&detector());
        assert_eq!(findings.len(), 1, "{json}: {findings:#?}");
        assert_eq!((findings[0].kind, findings[0].by), (Kind::Location, Witness::Truth));
        assert!(
            findings[0].why.contains(" m from") || findings[0].why.contains("km from"),
            "{}",
            findings[0].why
        );
    }
    assert!(Case::new().json(r#"{"p":[48.8566,2.3522]}"#).examine(&detector()).is_empty());
    let elsewhere = Case::new().json(r#"{"lat":48.8566,"lon":2.3522}"#).examine(&detector());
    assert_eq!(one(&elsewhere, Kind::Location, "48.8566,2.3522").by, Witness::Shape);
    let query =
        Case::new().field("query", "lat", "48.8566").field("query", "lng", "2.3522").examine(&detector());
    assert_eq!(one(&query, Kind::Location, "48.8566,2.3522").severity, Severity::Info);
}

#[test]
fn shapes_are_quiet_unless_the_host_collects() {
    let json = r#"{"keyword":"red shoes","ssid":"Cafe Lisboa"}"#;
    let shop = Case::new().json(json).examine(&detector());
    assert!(
        shop.len() == 2 && shop.iter().all(|f| f.severity == Severity::Info && f.by == Witness::Shape),
        "{shop:#?}"
    );
    let ads = Case::new().to("ads.example", Some("ads")).json(json).examine(&detector());
    assert!(ads.iter().all(|f| f.severity >= Severity::Warn && f.asked == Asked::No), "{ads:#?}");
}

#[test]
fn an_apps_report_on_itself_is_quiet_and_the_launchers_is_not() {
    let event = |name: &str| format!(r#"[{{"event":"{name}","properties":{{"$screen_name":"Main"}}}}]"#);
    for (package, severity) in [("com.example.game", Severity::Info), ("com.miui.home", Severity::Warn)] {
        let case = Case::new().from(package, None).json(&event("$AppViewScreen")).telemetry("sensors_form");
        assert_eq!(one(&case.examine(&detector()), Kind::ScreenView, "Main").severity, severity, "{package}");
    }
}

#[test]
fn events_of_any_protocol_are_known_by_name() {
    let json = r#"{"event":"launcher_folder_click","properties":{"folder_title":"Secret"}}"#;
    let findings = Case::new().from("com.miui.home", None).json(json).examine(&detector());
    assert_eq!(one(&findings, Kind::FolderOpen, "Secret").at, "properties.folder_title");
    assert_eq!(findings.len(), 1, "{findings:#?}");
    let json = r#"{"list":[{"event_name":"desktop_swipe_left_or_right"}]}"#;
    let findings = Case::new().from("com.miui.home", None).json(json).examine(&detector());
    assert_eq!(one(&findings, Kind::ScreenSwipe, "desktop_swipe_left_or_right").at, "list[0].event_name");
}

#[test]
fn the_true_sender_is_named() {
    let json = r#"{"H":{"sender":"com.miui.home","imei":"x"},"B":[{"H":{"key":"gesture_pull_down","pk":"a.b"},"B":{}}]}"#;
    let findings = Case::new()
        .from("com.miui.analytics", None)
        .json(json)
        .telemetry("miui_track_v1")
        .examine(&detector());
    let shade = one(&findings, Kind::StatusBar, "gesture_pull_down");
    assert_eq!(shade.sender.as_deref(), Some("com.miui.home"));
    assert_eq!(shade.severity, Severity::Warn);
}

#[test]
fn what_is_no_package_is_no_sender() {
    for other in ["490154203237518", "my search words", "https://clinic.example.org/", "com..example", ""] {
        let json = format!(
            r#"{{"H":{{"sender":"{other}","imei":"x"}},"B":[{{"H":{{"key":"gesture_pull_down","pk":"{other}"}},"B":{{}}}}]}}"#
        );
        let findings = Case::new()
            .from("com.miui.analytics", None)
            .json(&json)
            .telemetry("miui_track_v1")
            .examine(&detector());
        assert_eq!(one(&findings, Kind::StatusBar, "gesture_pull_down").sender, None, "{other}");
    }
}

#[test]
fn an_address_whose_octets_lost_their_zeros_is_recognised() {
    let detector = detector();
    for (sent, form) in [
        ("34:ce:0:12:34:56", None),
        ("34:CE:0:12:34:56", None),
        ("bb47a9cef73eda9ce0e1d8c6cfcb8d3b", Some("md5")),
    ] {
        let findings = Case::new().json(&format!(r#"{{"x":"{sent}"}}"#)).examine(&detector);
        assert_eq!(one(&findings, Kind::Mac, "34:ce:00:12:34:56").form.as_deref(), form);
    }
}
