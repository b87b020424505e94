//! How fast a message is peeled and examined, in bytes of inflated body per second, beside inflate, base64 and JSON alone on the
//! same bodies; and ordinary traffic, in bytes of body as sent.
//!
//! Inflate alone is miniz_oxide, the inflater that peeling uses. The budget asks for half of its speed and is not met: a batch
//! of 50 events shrinks to a twentieth, inflates at 2.8 GB/s, and reading its JSON with `serde_json` alone takes fourteen times
//! as long. Figures of one run on a busy x86-64 machine, best of 300, without LTO, 44,571 bytes of JSON, MiB/s: inflate 2,680,
//! `serde_json::Value` 188, peel 170, examine 118, both 67; both take 217,000 instructions per KiB of JSON (callgrind).
//!
//! What was tried, and what it gave for examine in that batch (its first figure, 20 MiB/s, is from a run of its own):
//! - a sieve before the automaton, paths of rows walked without a trie of their own, filters on keys, findings settled by
//!   place: 93 MiB/s together;
//! - foldhash in place of SipHash, plain keys rendered at a glance: 118 MiB/s.
//!
//! For peel: texts of JSON objects put straight to their place, white space told by one byte: from 147 to 170 MiB/s.
//! What is left is spread thin: at least a sixth of the instructions allocate, free and copy texts of values and findings.

use std::{fmt::Write as _, hint::black_box, io::Write as _};

use base64::Engine as _;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use telltale::{
    app::App,
    leak::{Context, Crypt, Data, Detector, Truth},
    place::Host,
    unwrap::{Limits, Protocols, peel},
    wire::{Message, Protocol},
};

/// A Sensors batch as the Android SDK 3.2.10 writes it, `events` events long.
fn sensors_json(events: usize) -> String {
    let mut json = String::from("[");
    for event in 0..events {
        let id = event * 7_919 + 1_493_387_348;
        let _ = write!(
            json,
            r#"{}{{"_track_id":{id},"time":{},"type":"track","distinct_id":"a5edad80-d9d1-4c54-aa77-739dc3d2bee8","lib":{{"$lib":"Android","$lib_version":"3.2.10","$app_version":"3.4.0","$lib_method":"code","$lib_detail":"a.b.C##d##C.java##{event}"}},"event":"page_load_event_start","properties":{{"$lib":"Android","$lib_version":"3.2.10","$os":"Android","$os_version":"9","$manufacturer":"Xiaomi","$brand":"xiaomi","$model":"Redmi Note 8","$screen_width":1080,"$screen_height":2130,"$carrier":"Vodafone","$device_id":"9f3c2b7a1d4e5f60","$wifi":true,"$network_type":"WIFI","$is_first_day":false,"uuid":"a5edad80-d9d1-4c54-aa77-739dc3d2bee8","internet_status":"wifi","platform":"AndroidApp","miui_version":"V11.0.6.0","miui_region":"PT","system_language":"en_GB","url":"https:\/\/site{id}.example.org\/read\/{}?id={event}","title":"Article number {event} of the day"}},"_flush_time":1588291200999}}"#,
            if event == 0 { "" } else { "," },
            1_588_291_200_000_u64 + event as u64 * 1_337,
            id * 31,
        );
    }
    json.push(']');
    json
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let _ = encoder.write_all(data);
    encoder.finish().unwrap_or_default()
}

fn java_hash(text: &str) -> i32 {
    text.bytes().fold(0, |hash: i32, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)))
}

fn post(host: &str, target: &str, content_type: &str, body: Vec<u8>) -> Message {
    Message {
        protocol: Protocol::Http1,
        method: "POST".to_owned(),
        target: target.to_owned(),
        host: Some(host.to_owned()),
        headers: vec![
            ("content-type".to_owned(), content_type.into()),
            ("user-agent".to_owned(), b"Dalvik/2.1.0 (Linux; U; Android 9; Redmi Note 8)".to_vec()),
            ("host".to_owned(), host.into()),
            ("connection".to_owned(), b"Keep-Alive".to_vec()),
            ("accept-encoding".to_owned(), b"gzip".to_vec()),
        ],
        body_len: body.len() as u64,
        body,
        ..Message::default()
    }
}

/// A detector that knows every identifier of the samples' phone, as on a real one.
fn detector() -> Option<Detector> {
    let truth = Truth::from_json(include_str!("../tests/samples/device_truth.json")).ok()?;
    Detector::new(&truth, Data::built_in().ok()?).ok()
}

fn telemetry(criterion: &mut Criterion) {
    let protocols = Protocols::builtin();
    let Some(detector) = detector() else { return };
    let (app, host) = (App::default(), Host { name: "sa.api.intl.miui.com".to_owned(), ..Host::default() });
    let context = Context { app: &app, host: Some(&host), crypt: Crypt::Tls, now_ms: 0 };
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("telemetry");
    for events in [1, 10, 50] {
        let json = sensors_json(events);
        let packed = gzip(json.as_bytes());
        let base64 = base64::engine::general_purpose::STANDARD.encode(&packed);
        let escaped = base64.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let body = format!("crc={}&gzip=1&data_list={escaped}", java_hash(&base64)).into_bytes();
        let message = post(
            "sa.api.intl.miui.com",
            "/sa?project=global_browser_mini&r=PT",
            "application/x-www-form-urlencoded",
            body,
        );
        group.throughput(Throughput::Bytes(json.len() as u64));
        let raw = packed.get(10..).unwrap_or_default();
        group.bench_function(format!("inflate_alone/{events}_events"), |bencher| {
            bencher.iter(|| miniz_oxide::inflate::decompress_to_vec(black_box(raw)));
        });
        group.bench_function(format!("base64_alone/{events}_events"), |bencher| {
            bencher.iter(|| base64::engine::general_purpose::STANDARD.decode(black_box(&base64)));
        });
        group.bench_function(format!("json_alone/{events}_events"), |bencher| {
            bencher.iter(|| serde_json::from_str::<serde_json::Value>(black_box(&json)));
        });
        group.bench_function(format!("decode_and_detect/{events}_events"), |bencher| {
            bencher.iter(|| {
                let tree = peel(black_box(&message), &protocols, &limits);
                detector.examine(&context, &message, &tree)
            });
        });
        group.bench_function(format!("peel/{events}_events"), |bencher| {
            bencher.iter(|| peel(black_box(&message), &protocols, &limits));
        });
        let tree = peel(&message, &protocols, &limits);
        group.bench_function(format!("examine/{events}_events"), |bencher| {
            bencher.iter(|| detector.examine(&context, black_box(&message), black_box(&tree)));
        });
    }
    group.finish();
}

fn ordinary(criterion: &mut Criterion) {
    let protocols = Protocols::builtin();
    let Some(detector) = detector() else { return };
    let (app, host) = (App::default(), Host { name: "api.shop.example".to_owned(), ..Host::default() });
    let context = Context { app: &app, host: Some(&host), crypt: Crypt::Tls, now_ms: 0 };
    let limits = Limits::default();
    let noise: Vec<u8> = (0..48 * 1024_u64)
        .scan(0x9e37_79b9_7f4a_7c15_u64, |state, _| {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            Some((*state >> 32) as u8)
        })
        .collect();
    let mut jpeg = b"\xff\xd8\xff\xe0".to_vec();
    jpeg.extend(&noise);
    let image = base64::engine::general_purpose::STANDARD.encode(&jpeg);
    let shop = format!(
        r#"{{"cart":[{}],"currency":"EUR","token":"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJlLW9mLXRoaXMtdG9rZW4"}}"#,
        vec![r#"{"sku":"8712345678906","name":"Wool socks, grey, 39-42","price":12.95,"count":2}"#; 60]
            .join(",")
    );
    let cases = [
        ("shop_json", post("api.shop.example", "/v2/cart", "application/json", shop.into_bytes())),
        ("photo", post("upload.example.com", "/img", "image/jpeg", jpeg)),
        (
            "photo_in_json",
            post(
                "upload.example.com",
                "/img",
                "application/json",
                format!(r#"{{"img":"{image}"}}"#).into_bytes(),
            ),
        ),
        ("noise", post("upload.example.com", "/blob", "application/octet-stream", noise)),
    ];
    let mut group = criterion.benchmark_group("ordinary");
    for (name, message) in cases {
        group.throughput(Throughput::Bytes(message.body_len));
        group.bench_function(name, |bencher| bencher.iter(|| peel(black_box(&message), &protocols, &limits)));
        group.bench_function(format!("{name}/decode_and_detect"), |bencher| {
            bencher.iter(|| {
                let tree = peel(black_box(&message), &protocols, &limits);
                detector.examine(&context, &message, &tree)
            });
        });
        let tree = peel(&message, &protocols, &limits);
        group.bench_function(format!("{name}/examine"), |bencher| {
            bencher.iter(|| detector.examine(&context, black_box(&message), black_box(&tree)));
        });
    }
    group.finish();
}

criterion_group!(benches, telemetry, ordinary);
criterion_main!(benches);
