//! What a judge outside asked, who composed requests from the protocol facts without looking at the rows: who asked for what,
//! messages that name no host, numbers as people write them, key exchanges, and ordinary traffic that had once been too loud.

use serde_json::json;
use telltale::leak::{Asked, Severity};

use crate::{Bench, own, request::*, want, want_as};

const HERE: &str = r#"{"lat":38.722252,"lon":-9.139337}"#;
const TRACKING: &str = "tracking.intl.miui.com";
const COLLECTOR: &str = "metrics.data.hicloud.com";

/// Kind, whether it was asked for, and how loud exactly that finding is.
#[test]
fn who_asked_for_it() {
    use Asked::{Likely, No, Unknown, Yes};
    use Severity::{Error, Info, Warn};
    let (imei, aid, phone, bssid) = (own("imei1"), own("android_id"), own("phone"), own("bssid"));
    let networks = json!({"wifiAccessPoints": [{"macAddress": bssid}]}).to_string();
    let page = json!({"page_url": "https://clinic.example.org/x", "id": aid}).to_string();
    let mut bench = Bench::new();
    for (app, host, path, body, kind, asked, severity) in [
        (
            "com.google.android.gms",
            "www.googleapis.com",
            "/geolocation/v1/geolocate?key=x",
            networks,
            "wifi_bssid",
            Likely,
            Info,
        ),
        ("com.example.weather", "api.example.com", "/now", HERE.to_owned(), "location", Likely, Info),
        ("org.mozilla.firefox", "www.shop.example", "/near", HERE.to_owned(), "location", Yes, Info),
        ("com.example.game", "api.game.example", "/x", HERE.to_owned(), "location", Unknown, Warn),
        ("com.example.game", COLLECTOR, "/x", HERE.to_owned(), "location", No, Warn),
        ("com.example.game", COLLECTOR, "/x", page.clone(), "visited_url", No, Error),
        ("com.example.game", "api.game.example", "/x", page, "visited_url", Unknown, Info),
        (
            "com.example.bank",
            "login.bank.example",
            "/otp",
            json!({"phone": phone}).to_string(),
            "phone_number",
            Yes,
            Info,
        ),
        (
            "com.example.tool",
            "fota5.vendor.example",
            "/check",
            json!({"d": md5_hex(&imei)}).to_string(),
            "imei",
            Likely,
            Info,
        ),
        (
            "com.example.shop",
            "o1.ingest.sentry.io",
            "/api/42/store/",
            json!({"request": {"url": "https://api.shop.example/v1"}}).to_string(),
            "visited_url",
            Unknown,
            Info,
        ),
    ] {
        let found = bench.findings(app, host, &[&post(path, host, JSON, &body)]);
        let one = found.iter().find(|finding| finding.kind.name() == kind);
        assert_eq!(
            one.map(|finding| (finding.asked, finding.severity)),
            Some((asked, severity)),
            "{app} to {host}{path}: {body}: {found:?}"
        );
    }
}

fn md5_hex(text: &str) -> String {
    hex(&<md5::Md5 as md5::Digest>::digest(text))
}

/// HTTP/1.0 may leave the host out; the connection knows it.
#[test]
fn a_message_without_a_host_is_still_its_protocols() {
    let mut bench = Bench::new();
    let events = json!([{"H": {"event": "onetrack_pa", "imei": md5_hex(&own("imei1")), "pkg": "com.miui.home"}, "B": {"class": "a.B"}}]);
    let wanted = [want("screen_view", "a.B"), want_as("imei", own("imei1"), "md5")];
    let body = events.to_string();
    let sent = format!("POST /track/v4/o HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let to = ("com.miui.analytics", TRACKING);
    bench.check("HTTP/1.0", to, sent.as_bytes(), &wanted, Some("com.miui.home"));
    for (path, kind) in [("/track/v4", "sealed"), ("/track/key_get", "key exchange")] {
        let headers = [BYTES, ("OT_sender", "com.miui.player")];
        let sent = http("POST", path, TRACKING, &headers, &[0x5a; 256]);
        bench.check(kind, to, &sent, &[want("encrypted_telemetry", "")], Some("com.miui.player"));
    }
    let found = bench.findings(
        "com.miui.gallery",
        "data.mistat.xiaomi.com",
        &[&post("/key_get", "data.mistat.xiaomi.com", FORM, "skey_rsa=AAAA")],
    );
    let said: Vec<_> = found.iter().map(|finding| (finding.kind.name(), finding.severity)).collect();
    assert_eq!(said, [("encrypted_telemetry", Severity::Info)]);
    bench.finish("without a host, and sealed");
}

/// Spellings of this phone's values, and camel case of the keys that count where a host collects.
#[test]
fn as_people_and_other_languages_write_it() {
    let mut bench = Bench::new();
    let (gaid, ssid) = (own("gaid"), own("ssid"));
    let uuid: Vec<u8> = gaid
        .replace('-', "")
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let quoted = hex(&<sha1::Sha1 as sha1::Digest>::digest(format!("\"{ssid}\"")));
    let app = "com.example.game";
    for (value, wanted) in [
        ("+351 912 345 678", want("phone_number", own("phone"))),
        ("(+351) 912-345-678", want("phone_number", own("phone"))),
        ("912 345 678", want("phone_number", own("phone"))),
        ("49-015420-323751-8", want("imei", own("imei1"))),
        ("34CE.0012.3456", want("mac", own("mac"))),
        (&base64(&uuid), want_as("ad_id", &*gaid, "base64")),
        (&quoted, want_as("wifi_name", &*ssid, "sha1")),
        ("+38.7223-009.1393/", want("location", "38.7223,-9.1393")),
    ] {
        for (host, sent) in [
            ("a.example", post("/", "a.example", JSON, json!({"v": {"w": value}}).to_string())),
            ("a.example", get(&format!("/?{}", form(&[("w", value)])), "a.example")),
            ("a.example", post("/", "a.example", FORM, form(&[("n", "1"), ("w", value)]))),
        ] {
            bench.check(value, (app, host), &sent, std::slice::from_ref(&wanted), None);
        }
    }
    let record = [field(1, &uuid), field(2, b"some words")].concat();
    bench.check(
        "16 bytes",
        (app, "a.example"),
        &post("/", "a.example", BYTES, record),
        &[want_as("ad_id", &*gaid, "raw bytes")],
        None,
    );
    let head = http("GET", "/", "a.example", &[("X-Lat", "38.722252"), ("X-Lon", "-9.139337")], b"");
    bench.check("head", (app, "a.example"), &head, &[want("location", "38.722252,-9.139337")], None);
    for (key, value, kind) in [
        ("searchTerm", "red shoes", "search_query"),
        ("trackName", "Grandola", "music"),
        ("pageUrl", "https://clinic.example.org/x", "visited_url"),
        ("wifiSsid", "Cafe Lisboa", "wifi_name"),
        ("androidId", "0011223344556677", "android_id"),
    ] {
        let sent = post("/", COLLECTOR, JSON, json!({key: value}).to_string());
        bench.check(key, (app, COLLECTOR), &sent, &[want(kind, value)], None);
    }
    let place = json!({"lat": "41,157944", "lon": "-8,629105"}).to_string();
    let porto = [want("location", "41.157944,-8.629105")];
    bench.check("decimal comma", (app, COLLECTOR), &post("/", COLLECTOR, JSON, place), &porto, None);
    bench.finish("other spellings");
}

/// What apps send every day, as the makers of these interfaces document it.
#[test]
fn ordinary_traffic_of_a_day() {
    let mut bench = Bench::new();
    let noise: Vec<u8> = (0..700u32).map(|n| (n.wrapping_mul(2_246_822_519) >> 19) as u8).collect();
    let token = base64_url_bare(&noise[..64]);
    let dns = [b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x06clinic\x07example\x03org\0\0\x01\0\x01".as_slice()].concat();
    let sentry = [
        json!({"event_id": hex(&noise[..16])}),
        json!({"type": "event"}),
        json!({"exception": {}, "request": {"url": "https://api.shop.example/v1"}}),
    ];
    let sentry: String = sentry.iter().map(|line| format!("{line}\n")).collect();
    for (app, host, sent) in [
        ("org.mozilla.firefox", "dns.example", post("/dns-query", "dns.example", ("Content-Type", "application/dns-message"), &dns)),
        ("org.mozilla.firefox", "dns.example", get(&format!("/dns-query?dns={}", base64_url_bare(&dns)), "dns.example")),
        ("android", "connectivitycheck.gstatic.com", get("/generate_204", "connectivitycheck.gstatic.com")),
        ("com.example.shop", "o1.ingest.sentry.io", post("/api/42/envelope/", "o1.ingest.sentry.io", ("Content-Type", "application/x-sentry-envelope"), sentry)),
        ("com.example.shop", "api.shop.example", post("/graphql", "api.shop.example", JSON, json!({"query": "query S($q:String!){search(query:$q){id url}}", "variables": {"q": "shoes"}}).to_string())),
        ("com.example.shop", "cdn.example", get(&format!("/a.webp?Expires=1795000000&Signature={token}"), "cdn.example")),
        ("com.example.photos", "s3.eu-west-1.amazonaws.com", http("PUT", &format!("/b/a.jpg?X-Amz-Signature={}", hex(&noise[..32])), "s3.eu-west-1.amazonaws.com", &[("Content-Type", "image/jpeg")], &[&[0xff, 0xd8, 0xff, 0xe0], &noise[..]].concat())),
        ("com.owncloud.android", "cloud.example.org", http("PROPFIND", "/dav/files/", "cloud.example.org", &[("Content-Type", "text/xml")], br#"<?xml version="1.0"?><d:propfind xmlns:d="DAV:"><d:prop><d:getetag/></d:prop></d:propfind>"#)),
        ("com.example.video", "v.example", get(&format!("/videoplayback?expire=1795000000&sig={token}&range=0-65535"), "v.example")),
        ("com.example.game", "api.game.example", post("/move", "api.game.example", JSON, json!({"position": [41.157944, -8.629105, 3.2], "seed": hex(&noise[..8])}).to_string())),
        ("com.example.taxi", "maps.googleapis.com", get("/maps/api/geocode/json?latlng=38.722252,-9.139337&key=x", "maps.googleapis.com")),
        ("com.example.app", "fcm.example", post("/register", "fcm.example", FORM, form(&[("X-appid", &token), ("sender", "123456789012"), ("device", "4312345678901234567")]))),
        ("com.example.store", "api.store.example", post("/perms", "api.store.example", JSON, json!({"perms": ["android.permission.INTERNET", "android.permission.CAMERA", "android.permission.NFC"]}).to_string())),
        ("com.deepl.mobiletranslator", "www2.deepl.com", post("/jsonrpc", "www2.deepl.com", JSON, json!({"params": {"texts": [{"text": "meet at 38.722252,-9.139337"}]}}).to_string())),
        ("com.example.shop", "api.shop.example", post("/track/v1", "api.shop.example", FORM, form(&[("value", "12.50"), ("ts", "1"), ("nonce", "a"), ("sign", &hex(&noise[..16]))]))),
    ] {
        bench.check(host, (app, host), &sent, &[], None);
    }
    bench.finish("ordinary traffic of a day");
}
