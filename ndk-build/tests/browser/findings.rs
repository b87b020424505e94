//! Findings to look at: as many as wanted, the same every time, of apps and hosts as a phone has them.

use serde_json::{Map, Value, json};

/// App, package, owner, owner's country, host, country, AS number, organisation.
const FLOWS: &[[&str; 8]] = &[
    [
        "Mint Browser",
        "com.mi.globalbrowser.mini",
        "Xiaomi",
        "CN",
        "sa.api.intl.miui.com",
        "SG",
        "45102",
        "Alibaba (US) Technology Co., Ltd.",
    ],
    [
        "MIUI Launcher",
        "com.miui.home",
        "Xiaomi",
        "CN",
        "tracking.intl.miui.com",
        "SG",
        "45102",
        "Alibaba (US) Technology Co., Ltd.",
    ],
    [
        "Music",
        "com.miui.player",
        "Xiaomi",
        "CN",
        "data.mistat.intl.xiaomi.com",
        "RU",
        "208722",
        "Global DC Oy",
    ],
    [
        "File Manager",
        "com.mi.android.globalFileexplorer",
        "Xiaomi",
        "CN",
        "data.mistat.xiaomi.com",
        "CN",
        "37963",
        "Hangzhou Alibaba Advertising Co.,Ltd.",
    ],
    [
        "Mint Browser",
        "com.mi.globalbrowser.mini",
        "Google",
        "US",
        "www.google.com",
        "US",
        "15169",
        "Google LLC",
    ],
    ["News", "com.example.news", "Meta", "US", "graph.facebook.com", "IE", "32934", "Facebook, Inc."],
    ["News", "com.example.news", "AppsFlyer", "IL", "t.appsflyer.com", "IE", "16509", "Amazon.com, Inc."],
    [
        "Weather",
        "com.example.weather",
        "Yandex",
        "RU",
        "report.appmetrica.yandex.net",
        "RU",
        "13238",
        "YANDEX LLC",
    ],
    [
        "Weather",
        "com.example.weather",
        "Umeng",
        "CN",
        "ulogs.umeng.com",
        "CN",
        "37963",
        "Hangzhou Alibaba Advertising Co.,Ltd.",
    ],
    [
        "Torch",
        "com.example.torch",
        "Mintegral",
        "CN",
        "analytics.rayjump.com",
        "SG",
        "16509",
        "Amazon.com, Inc.",
    ],
    [
        "Keyboard",
        "com.example.keyboard",
        "",
        "",
        "log.keyboard.example",
        "DE",
        "24940",
        "Hetzner Online GmbH",
    ],
    [
        "Play services",
        "com.google.android.gms",
        "Google",
        "US",
        "play.googleapis.com",
        "US",
        "15169",
        "Google LLC",
    ],
];

/// Severity, kind, value, route, place, and the flows it goes on.
const THINGS: &[[&str; 6]] = &[
    [
        "E",
        "visited_url",
        "https://clinic.example.org/hiv-test?id=12",
        "http1>form:data_list>base64>gzip>json",
        "[0].properties.url",
        "0",
    ],
    [
        "E",
        "android_id",
        "9f3c2b7a1d4e5f60",
        "http1>form:data_list>base64>gzip>json",
        "[0].properties.android_id",
        "0 2",
    ],
    [
        "W",
        "search_query",
        "hiv test near me",
        "h2>form:data_list>base64>gzip>json",
        "[0].properties.search_word",
        "0",
    ],
    ["W", "persistent_id", "a5edad80-d9d1-4c54-aa77-739dc3d2bee8", "http1>json", "distinct_id", "0 1 2 3"],
    ["W", "folder_open", "Tax 2026", "http1>form:data_list>base64>gzip>json", "[2].properties.folder", "1 3"],
    ["W", "location", "38.722252,-9.139337", "h2>gzip>protobuf", "4.2", "7 8"],
    ["W", "ad_id", "3b6d7f2a-91c4-4e0b-8a57-6c1d2e3f4a5b", "h2>json", "device.gaid", "5 6 8 9"],
    ["W", "music", "Fado em Lisboa", "http1>aes-128-cbc>json", "event.song", "2"],
    ["W", "installed_apps", "com.whatsapp, com.example.bank, com.example.dating", "h2>json", "pkgs", "9"],
    ["I", "app_open", "com.example.bank", "http1>json", "events[3].pkg", "1 11"],
    ["I", "device_model", "Redmi Note 8", "h2>json", "device.model", "4 5 6 7 8 9 10 11"],
    ["I", "screen_swipe", "left", "http1>form:data_list>base64>gzip>json", "[5].event", "1"],
    ["I", "network_state", "WIFI", "h2>json", "device.net", "4 7 10 11"],
    ["I", "search_query", "train to porto", "h2>query:q", "", "4"],
    ["E", "imei", "490154203237518", "http1>query:imei", "", "8"],
];

/// `count` findings over four days, as JSON lines.
pub(crate) fn lines(count: usize) -> String {
    let mut text = String::new();
    for at in 0..count {
        // A step that shares no factor with the table's length, so that every flow comes in time.
        let message = at / 3;
        let flow = (message * 5 + message / 13) % FLOWS.len();
        let [label, app, owner, owner_cc, host, cc, asn, org] = FLOWS[flow];
        let things: Vec<_> =
            THINGS.iter().filter(|thing| thing[5].split(' ').any(|of| of.parse() == Ok(flow))).collect();
        let [severity, kind, value, via, place, _] = *things[(at / FLOWS.len() + at) % things.len()];
        let minutes = (at * 4 * 24 * 60) / count.max(1) + if at % 3 == 0 { 0 } else { (at * 37) % 300 };
        let (day, hour, minute) = (18 + (minutes / 1440).min(3), minutes / 60 % 24, minutes % 60);
        let mut line = json!({
            "time": format!("2026-11-{day}T{hour:02}:{minute:02}:{:02}.120Z", at % 60),
            "severity": severity, "kind": kind, "value": value, "asked": "no", "by": "dictionary",
            "app": app, "label": label, "app_version": "3.9.4", "uid": 10000 + at % 90, "pid": 4000 + at % 900, "host": host,
            "ip": format!("47.74.{}.{}", at % 250, at % 199), "port": 443, "iface": "wlan0", "cc": cc, "asn": asn.parse::<u32>().unwrap(), "as_org": org,
            "protocol": "sensors_form", "crypt": "tls", "via": via, "at": place, "attr": "ssl_set_fd", "seen": 1 + at % 40, "bytes": 512 + at % 4000,
            "raw_sha256": format!("{:064x}", (message + 1) * 0x9e37_79b9),
            "why": "a known protocol's known field", "id": format!("k{at:05x}"),
        });
        if !owner.is_empty() {
            line["host_owner"] = owner.into();
            line["host_owner_cc"] = owner_cc.into();
        }
        text.push_str(&line.to_string());
        text.push('\n');
    }
    text
}

/// Coverage and experiments, to see their sections.
pub(crate) fn other_lines() -> String {
    [
        json!({"type": "coverage", "since": "2026-11-18T00:00:00Z", "time": "2026-11-21T23:59:00Z", "apps": [
            {"app": "com.google.android.gms", "label": "Play services", "read": 1_200_000, "unread": {"tls-not-hooked": 9_300_000},
             "destinations": [{"destination": "play.googleapis.com", "unread": {"tls-not-hooked": 9_000_000}}, {"destination": "android.clients.google.com", "unread": {"tls-not-hooked": 300_000}}]},
            {"app": "com.example.oldgame", "label": "Old Game", "read": 0, "unread": {"tls-32bit": 310_000},
             "destinations": [{"destination": "192.0.2.7", "unread": {"tls-32bit": 310_000}}]},
            {"app": "com.mi.globalbrowser.mini", "label": "Mint Browser", "read": 812_000, "unread": {"quic": 41_000, "encrypted-inside": 3_000},
             "destinations": [{"destination": "www.google.com", "unread": {"quic": 41_000}}, {"destination": "sdkconfig.ad.intl.xiaomi.com", "unread": {"encrypted-inside": 3_000}}]},
            {"app": "com.example.weather", "label": "Weather", "read": 96_000, "unread": {}, "destinations": []},
        ]}),
        json!({"type": "try", "place": "private tab of Mint Browser", "what": "address", "verdict": "sent", "app": "Mint Browser", "host": "sa.api.intl.miui.com", "via": "base64>gzip>json"}),
        json!({"type": "try", "place": "private tab of Firefox", "what": "address", "verdict": "not seen"}),
    ]
    .iter()
    .map(|line| format!("{line}\n"))
    .collect()
}

/// Text that would run, break out or mislead if it were ever taken as markup, in every field of a finding.
pub(crate) fn hostile_lines(fields: &[&str]) -> String {
    let attacks = [
        "</script><script>document.documentElement.dataset.pwned=1</script>",
        "<img src=x onerror=\"document.documentElement.dataset.pwned=1\">",
        "\"><svg onload=document.documentElement.dataset.pwned=1>",
        "' autofocus onfocus='document.documentElement.dataset.pwned=1' x='",
        "<!--<script>document.documentElement.dataset.pwned=1//",
        "javascript:document.documentElement.dataset.pwned=1",
        "<a href=\"javascript:document.documentElement.dataset.pwned=1\" id=data>x</a>",
        "\u{202e}gnp.exe\u{0}\u{7}\u{1b}[31m",
        "__proto__",
        "{{constructor.constructor('document.documentElement.dataset.pwned=1')()}}",
    ];
    let mut text = String::new();
    for attack in attacks {
        let all: Map<String, Value> =
            fields.iter().map(|field| ((*field).to_owned(), attack.into())).collect();
        text.push_str(&format!("{}\n", Value::Object(all)));
        // And with fields that must be well formed for the rest to be used at all.
        for kind in ["imei", "visited_url"] {
            let mut one: Map<String, Value> =
                fields.iter().map(|field| ((*field).to_owned(), attack.into())).collect();
            one.extend([
                ("kind".into(), kind.into()),
                ("severity".into(), "E".into()),
                ("time".into(), "2026-11-21T09:00:00Z".into()),
            ]);
            text.push_str(&format!("{}\n", Value::Object(one)));
        }
        text.push_str(&format!(
            "{}\n",
            json!({"type": "coverage", "since": attack, "time": attack, "apps": [{"app": attack, "label": attack, "read": 1, "unread": {"quic": 1}, "destinations": [{"destination": attack, "unread": {"quic": 1}}]}]})
        ));
        text.push_str(&format!(
            "{}\n",
            json!({"type": "try", "place": attack, "what": attack, "verdict": attack, "app": attack})
        ));
    }
    text
}
