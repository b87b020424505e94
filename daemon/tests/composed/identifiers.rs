//! Every identifier of this phone, in every spelling and hash, in every place and encoding.

use md5::Digest as _;
use serde_json::json;

use crate::{Bench, Wanted, own, request::*, want, want_as};

const HOST: &str = "api.example.com";
const APP: &str = "com.example.app";

/// The keys of the truth with the kind each is, and whether its spellings are hashed too.
const KEYS: &[(&str, &str)] = &[
    ("imei1", "imei"),
    ("imei2", "imei"),
    ("meid", "meid"),
    ("android_id", "android_id"),
    ("gaid", "ad_id"),
    ("oaid", "ad_id"),
    ("aaid", "ad_id"),
    ("mac", "mac"),
    ("mac_bt", "mac"),
    ("serial", "serial"),
    ("imsi", "imsi"),
    ("iccid", "iccid"),
    ("mi_account", "account"),
    ("phone", "phone_number"),
    ("ssid", "wifi_name"),
    ("bssid", "wifi_bssid"),
];

/// The ways a value is written before it travels or is hashed.
fn spellings(key: &str, value: &str) -> Vec<String> {
    let both = |text: String| [text.to_lowercase(), text.to_uppercase()];
    match key {
        "imei1" | "imei2" => vec![value.into(), value[..14].into()],
        "mac" | "mac_bt" | "bssid" => {
            let (dashes, bare) = (value.replace(':', "-"), value.replace(':', ""));
            [both(value.into()), both(bare), both(dashes)].concat()
        }
        "android_id" | "serial" | "meid" | "oaid" => both(value.into()).to_vec(),
        "gaid" | "aaid" => [both(value.into()), both(value.replace('-', ""))].concat(),
        "phone" => vec![value.into(), value[1..].into(), value[4..].into()],
        _ => vec![value.into()],
    }
}

/// The value alone in every place of a request, and inside every encoding of a body.
fn requests(value: &str) -> Vec<(&'static str, Vec<u8>)> {
    let escaped: String = value.chars().map(|c| format!("\\u{:04x}", c as u32)).collect();
    let json = json!({"ab": "cdefghij", "xq": value, "zz": [1, 2, 3]}).to_string();
    let text = value.as_bytes();
    let data = json.as_bytes();
    let in_json = |text: &str| post("/a", HOST, JSON, json!({"d": text}).to_string());
    let in_form = |text: &str| post("/a", HOST, FORM, form(&[("a", "1"), ("xq", text)]));
    let inner = [field(1, b"com.example.app"), field(2, text)].concat();
    let proto = [field(1, b"session-start"), field(3, &inner), vec![0x20, 5]].concat();
    let length = u8::try_from(text.len()).unwrap();
    let mut all = vec![
        ("json", post("/a", HOST, JSON, json!({"a": {"xq": [value]}}).to_string())),
        ("json, escaped", post("/a", HOST, JSON, format!(r#"{{"a":"{escaped}"}}"#))),
        ("json in json", post("/a", HOST, JSON, json!({"a": json!({"b": value}).to_string()}).to_string())),
        ("json lines", post("/a", HOST, TEXT, format!("{{\"a\":1}}\n{{\"xq\":\"{value}\"}}\n"))),
        ("jsonp", post("/a", HOST, TEXT, format!("cb({json});"))),
        ("query", get(&format!("/a?xq={}", percent(value)), HOST)),
        ("json in query", get(&format!("/a?j={}", percent(&json)), HOST)),
        ("path", get(&format!("/a/{}/b", percent(value)), HOST)),
        ("address in json", in_json(&format!("https://{HOST}/p?x=1&xq={}", percent(value)))),
        ("cookie", http("GET", "/a", HOST, &[("Cookie", &format!("a=b; xq={}", percent(value)))], b"")),
        ("header", http("GET", "/a", HOST, &[("X-Device", value)], b"")),
        (
            "referer",
            http("GET", "/a", HOST, &[("Referer", &format!("https://{HOST}/z?xq={}", percent(value)))], b""),
        ),
        ("form", in_form(value)),
        ("form, percent twice", in_form(&percent(value))),
        (
            "multipart",
            post(
                "/a",
                HOST,
                ("Content-Type", "multipart/form-data; boundary=XX"),
                format!(
                    "--XX\r\nContent-Disposition: form-data; name=\"xq\"\r\n\r\n{value}\r\n--XX\r\nContent-Disposition: \
                     form-data; name=\"f\"; filename=\"f\"\r\nContent-Type: application/octet-stream\r\n\r\n1\r\n--XX--\r\n"
                ),
            ),
        ),
        ("text", post("/a", HOST, TEXT, format!("k1|{value}|k2"))),
        ("xml", post("/a", HOST, ("Content-Type", "text/xml"), format!("<a><b x=\"1\">{value}</b></a>"))),
        ("hex", in_json(&hex(data))),
        ("hex, upper", in_json(&hex(data).to_uppercase())),
        ("hex, spaces", in_json(&separated(data, " "))),
        ("hex, colons", in_json(&separated(data, ":"))),
        ("hex, dashes", in_json(&separated(data, "-"))),
        ("hex, 0x", in_json(&format!("0x{}", hex(data)))),
        ("base64", in_json(&base64(data))),
        ("base64, bare", in_json(&base64_bare(data))),
        ("base64url", in_json(&base64_url(data))),
        ("base64url, bare", get(&format!("/a?d={}", base64_url_bare(data)), HOST)),
        ("base64, lines", post("/a", HOST, TEXT, base64_mime(json.repeat(2).as_bytes(), "\n"))),
        ("base64, MIME", post("/a", HOST, TEXT, base64_mime(json.repeat(2).as_bytes(), "\r\n"))),
        ("base64, twice", in_form(&base64(base64(data).as_bytes()))),
        ("data address", in_json(&format!("data:application/json;base64,{}", base64(data)))),
        ("utf-16le", post("/a", HOST, TEXT, utf16(&json, true))),
        ("utf-16be", post("/a", HOST, TEXT, utf16(&json, false))),
        ("utf-16, mark", post("/a", HOST, TEXT, [vec![0xff, 0xfe], utf16(&json, true)].concat())),
        ("protobuf, declared", post("/a", HOST, ("Content-Type", "application/x-protobuf"), &proto)),
        ("protobuf", post("/a", HOST, BYTES, &proto)),
        (
            "messagepack",
            post(
                "/a",
                HOST,
                ("Content-Type", "application/x-msgpack"),
                [b"\x82\xa1a\xa3xyz\xa2xq\xd9", &[length][..], text].concat(),
            ),
        ),
        ("between bytes", post("/a", HOST, BYTES, [b"\0\x01\xff\xfe\x80", text, b"\0\0\x80"].concat())),
    ];
    if text.len() >= 8 {
        let wide = |little| [b"\0\x01\xff\xfe\x80", &utf16(value, little)[..], b"\0\0\x80"].concat();
        all.push(("16 bit between bytes", post("/a", HOST, BYTES, wide(true))));
        all.push(("16 bit between bytes, big", post("/a", HOST, BYTES, wide(false))));
    }
    if text.len() >= 12 {
        all.push(("base64 of the value", in_json(&base64(text))));
        all.push(("base64url of the value", in_json(&base64_url_bare(text))));
        all.push(("hex of the value", in_json(&hex(text))));
        all.push(("hex of the value, upper", in_json(&hex(text).to_uppercase())));
    }
    type Packing = (&'static str, &'static str, fn(&[u8]) -> Vec<u8>, [&'static str; 4]);
    let packings: [Packing; 5] = [
        ("gzip", "gzip", gzip, ["gzip, declared", "gzip", "gzip in base64", "gzip in hex"]),
        ("zlib", "deflate", zlib, ["zlib, declared", "zlib", "zlib in base64", "zlib in hex"]),
        (
            "deflate",
            "deflate",
            deflate,
            ["deflate, declared", "deflate", "deflate in base64", "deflate in hex"],
        ),
        ("brotli", "br", brotli, ["brotli, declared", "brotli", "brotli in base64", "brotli in hex"]),
        ("zstd", "zstd", zstd, ["zstd, declared", "zstd", "zstd in base64", "zstd in hex"]),
    ];
    for (step, coding, pack, names) in packings {
        // Short text is stored rather than packed.
        let packed = pack(format!("{json}\n{json}\n{json}\n").as_bytes());
        all.push((names[0], http("POST", "/a", HOST, &[JSON, ("Content-Encoding", coding)], &packed)));
        // A stored brotli block is not shorter than its text and so is not guessed at.
        if step != "brotli" {
            all.push((names[1], post("/a", HOST, BYTES, &packed)));
            all.push((names[2], in_form(&base64(&packed))));
            all.push((names[3], in_form(&hex(&packed))));
        }
    }
    all
}

#[test]
fn every_spelling_in_every_place_and_encoding() {
    let mut bench = Bench::new();
    for (key, kind) in KEYS {
        let value = own(key);
        for spelling in spellings(key, &value) {
            for (place, sent) in requests(&spelling) {
                let wanted = [want(kind, &value)];
                bench.check(&format!("{key} {spelling} in {place}"), (APP, HOST), &sent, &wanted, None);
            }
        }
    }
    assert!(bench.cases > 2_000, "{}", bench.cases);
    bench.finish("identifiers in clear");
}

fn digest(algorithm: &str, text: &str) -> Vec<u8> {
    match algorithm {
        "md5" => md5::Md5::digest(text).to_vec(),
        "sha1" => sha1::Sha1::digest(text).to_vec(),
        _ => sha2::Sha256::digest(text).to_vec(),
    }
}

/// The texts a digest is written as.
fn written(algorithm: &str, digest: &[u8]) -> Vec<String> {
    let mut all = vec![
        hex(digest),
        hex(digest).to_uppercase(),
        base64(digest),
        base64_bare(digest),
        base64_url(digest),
        base64_url_bare(digest),
    ];
    if algorithm == "md5" {
        all.extend([hex(digest)[8..24].to_owned(), hex(digest)[8..24].to_uppercase()]);
    }
    if algorithm == "sha1" {
        all.push(base64_url(digest)[..16].to_owned());
    }
    all
}

#[test]
fn every_hash_in_every_case_and_encoding() {
    let mut bench = Bench::new();
    for (key, kind) in KEYS {
        let value = own(key);
        for spelling in spellings(key, &value) {
            for algorithm in ["md5", "sha1", "sha256"] {
                let digest = digest(algorithm, &spelling);
                let wanted: [Wanted; 1] = [want_as(kind, &value, algorithm)];
                let name = format!("{algorithm} of {key} {spelling}");
                for text in written(algorithm, &digest) {
                    for sent in [
                        post("/a", HOST, JSON, json!({"d": text}).to_string()),
                        get(&format!("/a?xq={}", percent(&text)), HOST),
                    ] {
                        bench.check(&format!("{name}: {text}"), (APP, HOST), &sent, &wanted, None);
                    }
                }
                let between = [b"\x01\x02\xff\x80", &digest[..], b"\x81\0"].concat();
                bench.check(&name, (APP, HOST), &post("/a", HOST, BYTES, between), &wanted, None);
                let proto = [field(1, b"hello"), field(2, &digest), vec![0x18, 5]].concat();
                let sent = post("/a", HOST, ("Content-Type", "application/x-protobuf"), proto);
                bench.check(&name, (APP, HOST), &sent, &wanted, None);
            }
        }
    }
    assert!(bench.cases > 1_500, "{}", bench.cases);
    bench.finish("identifiers hashed");
}

/// One hash of each kind of identifier in every place.
#[test]
fn hashes_in_every_place() {
    let mut bench = Bench::new();
    for (key, kind) in [("imei1", "imei"), ("mac", "mac"), ("android_id", "android_id"), ("serial", "serial")]
    {
        let value = own(key);
        for (algorithm, upper) in [("md5", true), ("sha1", false), ("sha256", true)] {
            let text = hex(&digest(algorithm, &value));
            let text = if upper { text.to_uppercase() } else { text };
            for (place, sent) in requests(&text) {
                let wanted = [want_as(kind, &value, algorithm)];
                bench.check(&format!("{algorithm} of {key} in {place}"), (APP, HOST), &sent, &wanted, None);
            }
        }
    }
    bench.finish("hashes in every place");
}

#[test]
fn composites_joined_hashes_and_short_sha1() {
    let mut bench = Bench::new();
    let (first, second, android, serial) = (own("imei1"), own("imei2"), own("android_id"), own("serial"));
    for imei in [&first, &second] {
        let text = hex(&digest("sha1", &format!("{imei}{android}{serial}")));
        for text in [text.clone(), text.to_uppercase()] {
            let wanted = [want_as("device_ids", &text, "sha1 of imei+android_id+serial")];
            let sent = post("/a", HOST, JSON, json!({"d": text}).to_string());
            bench.check("composite", (APP, HOST), &sent, &wanted, None);
        }
    }
    let both = [&first, &second].map(|imei| hex(&digest("md5", imei))).join(",");
    let wanted = [want_as("imei", &first, "md5"), want_as("imei", &second, "md5")];
    for sent in [
        post("/a", HOST, JSON, json!({"imei": both}).to_string()),
        post("/a", HOST, FORM, form(&[("imei", &both), ("a", "1")])),
    ] {
        bench.check("two hashes joined", (APP, HOST), &sent, &wanted, None);
    }
    bench.finish("composites");
}

#[test]
fn positions_networks_and_packages() {
    let mut bench = Bench::new();
    let here = [want("location", "38.722252,-9.139337")];
    for (name, body) in [
        ("degrees", r#"{"lat":38.722252,"lon":-9.139337}"#.to_owned()),
        ("other keys", r#"{"y":38.722252,"x":-9.139337}"#.to_owned()),
        ("texts", r#"{"latitude":"38.722252","longitude":"-9.139337"}"#.to_owned()),
        ("micro-degrees", r#"{"a":38722252,"b":-9139337}"#.to_owned()),
        ("ten-millionths", r#"{"latitudeE7":387222520,"longitudeE7":-91393370}"#.to_owned()),
        ("a list", r#"{"p":[38.722252,-9.139337]}"#.to_owned()),
        ("longitude first", r#"{"coordinates":[-9.139337,38.722252]}"#.to_owned()),
        ("a text", r#"{"p":"38.722252,-9.139337"}"#.to_owned()),
    ] {
        bench.check(name, (APP, HOST), &post("/a", HOST, JSON, body), &here, None);
    }
    for (name, body) in [
        (
            "protobuf doubles",
            [&[0x09][..], &38.722252f64.to_le_bytes(), &[0x11], &(-9.139337f64).to_le_bytes()].concat(),
        ),
        (
            "protobuf sfixed32",
            [&[0x0d][..], &387_222_520i32.to_le_bytes(), &[0x15], &(-91_393_370i32).to_le_bytes()].concat(),
        ),
    ] {
        let body = [field(3, b"fix"), body].concat();
        let sent = post("/a", HOST, ("Content-Type", "application/x-protobuf"), body);
        bench.check(name, (APP, HOST), &sent, &here, None);
    }
    for target in
        ["/a?ll=38.722252,-9.139337", "/a?q1=38.722252&q2=-9.139337", "/a?lat=38.722252&lng=-9.139337"]
    {
        bench.check(target, (APP, HOST), &get(target, HOST), &here, None);
    }
    let apps =
        ["com.whatsapp", "org.mozilla.firefox", "com.example.bank"].map(|name| want("installed_apps", name));
    for body in [
        json!({"x": ["com.whatsapp", "org.mozilla.firefox", "com.example.bank"]}),
        json!({"x": "com.whatsapp;org.mozilla.firefox;com.example.bank"}),
        json!({"a": "com.whatsapp", "b": [{"n": "org.mozilla.firefox"}], "com.example.bank": 1}),
    ] {
        bench.check("packages", (APP, HOST), &post("/a", HOST, JSON, body.to_string()), &apps, None);
    }
    bench.finish("positions and packages");
}
