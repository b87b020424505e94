//! How fast a message is peeled and examined, beside inflate, base64, a UTF-8 check and JSON alone on the same bodies. All in
//! bytes of inflated body per second, so that rows of one body compare; ordinary traffic in bytes of body as sent.
//!
//! Inflate alone is miniz_oxide, the inflater that peeling uses. The budget asks for half of its speed and is not met: inflate
//! copies what repeats, while peeling and examining look at every key and value of every event. Best of many rounds on a busy
//! x86-64 machine (November 2026, release profile without LTO), MB/s of inflated body:
//!
//! | body | gzip | inflate | JSON | before | now | share of inflate |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | Sensors, 50 events | 9.3:1 | 2,150 | 233 | 58 | 102 | 5 % |
//! | Sensors, 10 events | 5.8:1 | 1,130 | 204 | 59 | 91 | 8 % |
//! | Sensors, 1 event | 1.7:1 | 236 | 290 | 33 | 38 | 16 % |
//! | OneTrack, 40 events | 8.7:1 | 1,740 | 186 | 52 | 90 | 5 % |
//! | unknown, 60 events | 4.2:1 | 976 | 171 | 56 | 156 | 16 % |
//! | one event 50 times | 19.8:1 | 3,120 | 204 | 70 | 104 | 3 % |
//! | JSON of an app | - | - | - | 34 | 252 | - |
//! | HTML | - | - | - | 672 | 1,370 | - |
//! | protobuf | - | - | - | 56 | 87 | - |
//! | photo | - | - | - | 709 | 1,550 | - |
//!
//! What gave how much of it:
//! - first of all, for one event 50 times: a sieve before the automaton, paths of rows walked without a trie of their own, filters
//!   on keys, findings settled by place, foldhash, plain keys rendered at a glance: from 20 to 70;
//! - nothing set up for a guess that the first bits rule out (deflate, brotli), and words not taken for base64: 50 Sensors events
//!   from 58 to 83, the unknown collector from 56 to 146, JSON of an app from 34 to 247;
//! - the automaton replaced by the sieve's own index of windows: HTML from 890 to 1,370; OneTrack, with what is noticed borrowed
//!   until it becomes a finding, from 58 to 75;
//! - a memo of properties that repeat, fewer comparisons in settling, gzip's own length for its output: Sensors from 85 to 96;
//! - a look at UTF-16 that gives up early: photos from 1,000 to 1,550.
//!
//! A second round, counted by callgrind for one message of 50 Sensors events (50,840 bytes of JSON), in millions of instructions:
//!
//! | tried | gave |
//! | --- | --- |
//! | a body decoded once, where rows of protocols share a checksum and a recipe: each had inflated and read it anew | 8.2 → 6.4 |
//! | what the next event says again at the same place is left out before it is put into words; places without the formatter | 6.4 → 4.9 |
//! | texts that held nothing are looked into once in a message; numbers that cannot be degrees are not parsed | 4.9 → 4.5 |
//! | members that stand, byte for byte, where they stood in the object before are not read again | 4.5 → 4.8: not kept |
//!
//! Old and new in turns on a busy machine, with what was added meanwhile (gzip's checksum is compared, numbers in groups are found; 4.5
//! became 5.1): 50 Sensors events 94 → 134 MB/s or 4.3 → 6.1 % of inflate, 40 OneTrack events 80 → 128 MB/s or 4.6 → 7.2 %. Where nothing
//! repeats it costs more than before: an unknown collector 137 → 112 MB/s, JSON of an app 225 → 200. By samples 6 % of the time of that
//! collector's message go to remembering texts in vain and 2 % to the checksum; the rest of the loss is not explained yet (5 % more
//! instructions, no LTO in this build).
//!
//! A third round, counted in the same way for one message of each body, in thousands of instructions without LTO. On a busy machine
//! only these repeat; findings and trees were compared and are the same to the letter.
//!
//! | body | before | now | ratio |
//! | --- | --- | --- | --- |
//! | Sensors, 50 events | 4,767 | 4,430 | 0.929 |
//! | Sensors, 10 events | 1,188 | 1,116 | 0.939 |
//! | OneTrack, 40 events | 2,337 | 2,238 | 0.958 |
//! | unknown, 60 events | 2,172 | 1,924 | 0.886 |
//! | JSON of an app | 1,040 | 929 | 0.893 |
//! | HTML | 402 | 349 | 0.868 |
//! | protobuf | 4,238 | 3,734 | 0.881 |
//! | photo | 3,850 | 3,268 | 0.849 |
//!
//! | tried | gave |
//! | --- | --- |
//! | the sieve's loop by itself, so that its constants stay in registers, and its two bits tested one after the other | HTML 0.87, photo 0.85 |
//! | versions, which have two points, are not tried as positions | Sensors 0.97 |
//! | the way to a leaf taken only where something is in it; what characters a text has tells base64's alphabet, and words | unknown 0.96, JSON of an app 0.97 |
//! | members read straight to their place, numbers in one pass | Sensors 0.99, unknown 0.98 |
//! | names of events by comparison | unknown 0.97, JSON of an app 0.97 |
//! | memos that rest while nothing repeats, and try again later | JSON of an app 1.02, Sensors 1.02: not kept |
//! | the two bits tested one after the other, in the loop as it was | HTML 1.02: not kept |
//! | the first digit tells that a number is nowhere near the phone | Sensors 0.997: not kept |
//! | `crc32fast` with its `std` feature | nothing: other crates of the daemon switch it on already |
//!
//! What is left is flat: of Sensors' 4.4 millions, reading JSON has a fifth, inflating 8 %, allocating 7 %. A tree
//! that borrows its texts from the body would save most of the allocating and some of the reading; it changes the type that every room
//! after `unwrap` reads, and was not tried.
//!
//! What was left of the 4.5 after the second round: reading JSON into a tree 1.0, looking for the phone's values and shapes 1.3, the dictionary 0.6, looking
//! for inner layers 0.5, inflating 0.4, base64, checksum and form 0.3, dropping the tree 0.1.
//!
//! Half of inflate's speed is out of reach for bodies that shrink to a ninth: inflating them and then only skipping over the JSON, with
//! nothing kept and nothing looked at (`skip_alone`, serde_json's `IgnoredAny`, 1,700 MB/s), is 44 % of inflate alone.

use std::{fmt::Write as _, hint::black_box};

use base64::Engine as _;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use telltale::{
    app::App,
    leak::{Context, Crypt, Data, Detector, Truth},
    place::Host,
    unwrap::{Limits, Protocols, peel},
    wire::{Message, Protocol},
};

mod bodies;

/// A Sensors batch of one event over and over: what gzip likes best, and no phone sends.
fn repeated(events: usize) -> String {
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
    let truth = Truth::from_json(include_str!("../../tests/samples/device_truth.json")).ok()?;
    Some(Detector::new(&truth, Data::built_in().ok()?))
}

/// A body as it travels, and what comes out of it.
struct Case {
    name: &'static str,
    host: &'static str,
    message: Message,
    json: String,
    packed: Vec<u8>,
}

const STANDARD: base64::engine::GeneralPurpose = base64::engine::general_purpose::STANDARD;

/// JSON in gzip in base64 in a form, as Sensors sends it.
fn in_form(name: &'static str, json: String) -> Case {
    let host = "sa.api.intl.miui.com";
    let packed = bodies::gzip(json.as_bytes());
    let base64 = STANDARD.encode(&packed);
    let escaped = base64.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let body = format!("crc={}&gzip=1&data_list={escaped}", java_hash(&base64)).into_bytes();
    let target = "/sa?project=global_browser_mini&r=PT";
    let message = post(host, target, "application/x-www-form-urlencoded", body);
    Case { name, host, message, json, packed }
}

/// JSON in a gzipped body.
fn in_gzip(name: &'static str, host: &'static str, target: &str, json: String) -> Case {
    let packed = bodies::gzip(json.as_bytes());
    let mut message = post(host, target, "application/json", packed.clone());
    message.headers.push(("content-encoding".to_owned(), b"gzip".to_vec()));
    Case { name, host, message, json, packed }
}

fn telemetry(criterion: &mut Criterion) {
    let protocols = Protocols::builtin();
    let Some(detector) = detector() else { return };
    let limits = Limits::default();
    let app = App::default();
    let cases = [
        in_form("sensors_50", bodies::sensors(50, 1)),
        in_form("sensors_10", bodies::sensors(10, 2)),
        in_form("sensors_1", bodies::sensors(1, 3)),
        in_gzip("onetrack_40", "tracking.intl.miui.com", "/track/v4/o", bodies::onetrack(40, 4)),
        in_gzip("unknown_60", "collect.shop.example", "/v1/batch", bodies::unknown(60, 5)),
        in_form("repeated_50", repeated(50)),
    ];
    for case in cases {
        let Case { name, host, message, json, packed } = case;
        let host = Host { name: host.to_owned(), ..Host::default() };
        let context = Context { app: &app, host: Some(&host), crypt: Crypt::Tls, now_ms: 0 };
        let found = detector.examine(&context, &message, &peel(&message, &protocols, &limits)).len();
        let ratio = json.len() as f64 / packed.len().max(1) as f64;
        eprintln!("{name}: {} bytes of JSON, {ratio:.1}:1 in gzip, {found} findings", json.len());
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(json.len() as u64));
        let raw = packed.get(10..).unwrap_or_default();
        group.bench_function("inflate_alone", |bencher| {
            bencher.iter(|| miniz_oxide::inflate::decompress_to_vec(black_box(raw)));
        });
        let base64 = STANDARD.encode(&packed);
        group.bench_function("base64_alone", |bencher| {
            bencher.iter(|| STANDARD.decode(black_box(&base64)));
        });
        group.bench_function("utf8_alone", |bencher| {
            bencher.iter(|| simdutf8::basic::from_utf8(black_box(json.as_bytes())).is_ok());
        });
        group.bench_function("json_alone", |bencher| {
            bencher.iter(|| serde_json::from_str::<serde_json::Value>(black_box(&json)));
        });
        group.bench_function("skip_alone", |bencher| {
            bencher.iter(|| serde_json::from_str::<serde::de::IgnoredAny>(black_box(&json)).is_ok());
        });
        group.bench_function("decode_and_detect", |bencher| {
            bencher.iter(|| {
                let tree = peel(black_box(&message), &protocols, &limits);
                detector.examine(&context, &message, &tree)
            });
        });
        group.bench_function("peel", |bencher| {
            bencher.iter(|| peel(black_box(&message), &protocols, &limits));
        });
        let tree = peel(&message, &protocols, &limits);
        group.bench_function("examine", |bencher| {
            bencher.iter(|| detector.examine(&context, black_box(&message), black_box(&tree)));
        });
        group.finish();
    }
}

fn ordinary(criterion: &mut Criterion) {
    let protocols = Protocols::builtin();
    let Some(detector) = detector() else { return };
    let (app, host) = (App::default(), Host { name: "api.shop.example".to_owned(), ..Host::default() });
    let context = Context { app: &app, host: Some(&host), crypt: Crypt::Tls, now_ms: 0 };
    let limits = Limits::default();
    let photo = bodies::photo(256 << 10, 11);
    let image = format!(r#"{{"title":"Sunday","img":"{}"}}"#, STANDARD.encode(&photo));
    let form = bodies::multipart("b0undary", &photo);
    let api = bodies::api_json(60, 12).into_bytes();
    let cases = [
        ("json_api", post("api.shop.example", "/v2/cart", "application/json", api)),
        ("html", post("cms.example.com", "/save", "text/html", bodies::html(60, 13).into_bytes())),
        (
            "protobuf",
            post("api.game.example", "/v1/sync", "application/x-protobuf", bodies::protobuf(300, 14)),
        ),
        ("photo", post("upload.example.com", "/img", "image/jpeg", photo)),
        ("photo_in_form", post("upload.example.com", "/img", "multipart/form-data; boundary=b0undary", form)),
        ("photo_in_json", post("upload.example.com", "/img", "application/json", image.into_bytes())),
        (
            "noise",
            post(
                "upload.example.com",
                "/b",
                "application/octet-stream",
                bodies::Noise::new(15).bytes(256 << 10),
            ),
        ),
    ];
    for (name, message) in cases {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(message.body_len));
        group.bench_function("copy_alone", |bencher| bencher.iter(|| black_box(&message.body).clone()));
        group.bench_function("decode_and_detect", |bencher| {
            bencher.iter(|| {
                let tree = peel(black_box(&message), &protocols, &limits);
                detector.examine(&context, &message, &tree)
            });
        });
        group.bench_function("peel", |bencher| {
            bencher.iter(|| peel(black_box(&message), &protocols, &limits))
        });
        let tree = peel(&message, &protocols, &limits);
        group.bench_function("examine", |bencher| {
            bencher.iter(|| detector.examine(&context, black_box(&message), black_box(&tree)));
        });
        group.finish();
    }
}

criterion_group!(benches, telemetry, ordinary);
criterion_main!(benches);
