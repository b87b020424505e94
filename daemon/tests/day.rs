//! A whole day of a phone, and the next one: 10,000 requests of 40 apps with 30 leaks of 12 kinds among them. Each leak must be
//! told, once, and nothing else loudly; the second day must be quiet. The lines of each hour are printed.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test's helpers may fail"
)]

mod traffic;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use telltale::{
    app::App,
    leak::{Crypt, Data, Detector, Severity, Truth, persist},
    pipeline::{Flow, Pipeline, Settings},
    stream::Chunk,
};
use traffic::{Random, ordinary};

const REQUESTS: usize = 10_000;
const APPS: usize = 40;
const LEAKS: usize = 30;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// The first millisecond of a day, so that hours are those of the table.
const MORNING: u64 = 20_000 * DAY_MS;

/// Kind, and the value as it is sent: this phone's own, and what only a known protocol's field makes telling.
const KINDS: [(&str, &str); 12] = [
    ("imei", "490154203237518"),
    ("android_id", "9f3c2b7a1d4e5f60"),
    ("mac", "34:ce:00:12:34:56"),
    ("serial", "f1a2b3c4"),
    ("ad_id", "3b6d7f2a-91c4-4e0b-8a57-6c1d2e3f4a5b"),
    ("imsi", "268011234567890"),
    ("phone_number", "+351912345678"),
    ("account", "6012345678"),
    ("wifi_name", "Lisboa-Home-5G"),
    ("location", "38.722252,-9.139337"),
    ("visited_url", "https://clinic.example.org/hiv-test?id=12"),
    ("search_query", "divorce lawyer near me"),
];

/// A request with who sends it where.
struct Request {
    app: App,
    host: String,
    bytes: Vec<u8>,
}

fn request(app: App, host: &str, head: &str, body: &[u8]) -> Request {
    let sort = match body.first() {
        Some(b'{' | b'[') => "application/json",
        Some(0x1f) => "application/gzip",
        _ => "application/x-www-form-urlencoded",
    };
    let fields = match body.len() {
        0 => String::new(),
        length => format!("Content-Type: {sort}\r\nContent-Length: {length}\r\n"),
    };
    let mut bytes = format!("{head} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    Request { app, host: host.to_owned(), bytes }
}

fn app(name: &str, role: &str) -> App {
    let role = (!role.is_empty()).then(|| role.to_owned());
    App { name: name.into(), label: name.into(), packages: vec![name.into()], role, ..App::default() }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Leak `number`: a kind, a way to wrap it, an app and a host.
fn leak(number: usize) -> (&'static str, Request) {
    let (kind, value) = KINDS[number % KINDS.len()];
    // Twelve apps; those of a known vendor's protocol each their own, because what one tells the same owner is one finding.
    let sender = if number % 12 < 10 { number % 12 } else { number };
    let sender = app(&format!("com.leaky.app{sender}"), "");
    if let "visited_url" | "search_query" = kind {
        let (event, key) = match kind {
            "search_query" => ("search", "search_word"),
            _ => ("page_load_event_start", "url"),
        };
        let json = format!(r#"[{{"type":"track","event":"{event}","properties":{{"{key}":"{value}"}}}}]"#);
        let data = STANDARD
            .encode(gzip(json.as_bytes()))
            .replace('+', "%2B")
            .replace('/', "%2F")
            .replace('=', "%3D");
        let host = format!("sa{number}.api.intl.miui.com");
        let body = format!("gzip=1&data_list={data}");
        return (kind, request(sender, &host, "POST /sa?project=global_browser", body.as_bytes()));
    }
    let host = format!("in.tracker{number}.example");
    let json = format!(r#"{{"v":1,"event":"start","u":"{value}"}}"#);
    let (head, body) = match number % 5 {
        0 => ("POST /j".to_owned(), json.into_bytes()),
        1 => ("POST /f".to_owned(), format!("v=1&u={}", value.replace('+', "%2B")).into_bytes()),
        2 => (
            "POST /b".to_owned(),
            format!("d={}", STANDARD.encode(&json).replace('+', "%2B").replace('=', "%3D")).into_bytes(),
        ),
        3 => ("POST /z".to_owned(), gzip(json.as_bytes())),
        _ => (format!("GET /g?v=1&u={}", value.replace('+', "%2B")), Vec::new()),
    };
    (kind, request(sender, &host, &head, &body))
}

/// The day's requests in their order: ordinary ones of many apps, the leaks spread over the hours.
fn day(random: &mut Random, count: usize) -> Vec<Request> {
    let mut requests = Vec::with_capacity(count);
    let mut round = 0;
    while requests.len() < count - LEAKS {
        for sent in ordinary(random) {
            // Of every other app there are two: another by the same maker.
            let name = if round % 2 == 0 { sent.app.0.to_owned() } else { format!("{}.go", sent.app.0) };
            let message = sent.message;
            let head = format!("{} {}", message.method, message.target);
            requests.push(request(app(&name, sent.app.1), sent.host.0, &head, &message.body));
        }
        round += 1;
    }
    requests.truncate(count - LEAKS);
    for number in 0..LEAKS {
        let at = (number * 2 + 1) * count / (LEAKS * 2);
        requests.insert(at, leak(number).1);
    }
    requests
}

/// What a day's lines say: how many in each hour by severity, and what was told at W and above.
#[derive(Default)]
struct Told {
    hours: BTreeMap<u64, BTreeMap<Severity, usize>>,
    loud: Vec<(String, String, String)>,
    held_back: u64,
}

fn send(pipeline: &mut Pipeline, requests: &[Request], morning: u64) -> Told {
    let mut told = Told::default();
    let step = DAY_MS / requests.len() as u64;
    for (number, request) in requests.iter().enumerate() {
        let now = morning + step * number as u64;
        let flow = Flow {
            host: Some(request.host.clone()),
            host_from: "sni".into(),
            ..Flow::new(request.app.clone(), Crypt::Tls)
        };
        let id = pipeline.open(flow);
        let mut alerts = pipeline.push(id, Chunk::Bytes(&request.bytes), now);
        alerts.extend(pipeline.close(id, now));
        for alert in alerts.iter().filter(|alert| alert.shown) {
            *told
                .hours
                .entry((now - morning) / 3_600_000)
                .or_default()
                .entry(alert.severity())
                .or_default() += 1;
            if alert.severity() >= Severity::Warn {
                let line = (alert.app.name.clone(), request.host.clone(), alert.kind().name().to_owned());
                told.loud.push(line);
            }
        }
    }
    told.held_back = pipeline.ledger().take_told().held_back;
    told
}

#[test]
fn a_day_tells_each_leak_once_and_the_next_is_quiet() {
    let truth = Truth::from_json(include_str!("samples/device_truth.json")).unwrap();
    let mut settings = Settings::new(Detector::new(&truth, Data::built_in().unwrap()));
    settings.memory = Some(persist::Store::new());
    let mut rows = BTreeMap::new();
    for sent in ordinary(&mut Random(1)) {
        if !sent.host.1.is_empty() {
            rows.insert(sent.host.0, sent.host.1);
        }
    }
    let rows = rows.iter().map(|(host, role)| {
        format!("[[host]]\nsuffix = \"{host}\"\nowner = \"{host}\"\nrole = \"{role}\"\nsource = \"test\"\n")
    });
    settings.domains.add(&rows.collect::<String>()).unwrap();
    let mut pipeline = Pipeline::new(settings);

    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let requests = day(&mut random, REQUESTS);
    let apps: BTreeSet<&str> = requests.iter().map(|request| request.app.name.as_str()).collect();
    assert_eq!(requests.len(), REQUESTS);
    assert!(apps.len() >= APPS, "{}", apps.len());
    let first = send(&mut pipeline, &requests, MORNING);

    println!("hour   E  W  I");
    for (hour, lines) in &first.hours {
        let count = |severity| lines.get(&severity).copied().unwrap_or(0);
        let (error, warn, info) = (count(Severity::Error), count(Severity::Warn), count(Severity::Info));
        println!("{hour:>4}  {error:>2} {warn:>2} {info:>2}");
    }
    let mut planted: Vec<(String, String, String)> = (0..LEAKS)
        .map(leak)
        .map(|(kind, request)| (request.app.name, request.host, kind.to_owned()))
        .collect();
    planted.sort();
    let mut loud = first.loud.clone();
    loud.sort();
    println!(
        "{REQUESTS} requests of {} apps, {LEAKS} leaks: {} lines at W and above, {} lines held back",
        apps.len(),
        loud.len(),
        first.held_back
    );
    assert_eq!(loud, planted, "each leak is told once, and nothing else at W and above");

    // The same leaks again, and fewer ordinary requests, for the test's sake.
    let requests = day(&mut random, REQUESTS / 10);
    let second = send(&mut pipeline, &requests, MORNING + DAY_MS);
    println!("the next day, the same leaks: {} lines at W and above", second.loud.len());
    assert!(second.loud.len() <= 10, "{:?}", second.loud);
    // What is new speaks on any day.
    let new = request(app("com.new.app", ""), "in.new.example", "GET /g?u=490154203237518", b"");
    assert_eq!(send(&mut pipeline, &[new], MORNING + 2 * DAY_MS).loud.len(), 1);
}
