//! A request for every telemetry protocol and every row of the event dictionary, as its SDK writes it.

use cbc::cipher::{BlockModeEncrypt as _, KeyInit as _, KeyIvInit as _, block_padding::Pkcs7};
use md5::Digest as _;
use serde_json::{Value, json};

use crate::{Bench, Wanted, own, request::*, want, want_as};

const SENSORS: &str = "sa.api.intl.miui.com";
const BROWSER: &str = "com.mi.globalbrowser.mini";
const TRACKING: [&str; 4] =
    ["tracking.miui.com", "tracking.intl.miui.com", "tracking.india.miui.com", "tracking.rus.miui.com"];
const MISTAT: [&str; 4] = [
    "data.mistat.xiaomi.com",
    "data.mistat.intl.xiaomi.com",
    "data.mistat.india.xiaomi.com",
    "data.mistat.rus.xiaomi.com",
];
const TOKEN: &str = "a5edad80-d9d1-4c54-aa77-739dc3d2bee8";

fn md5(text: &str) -> String {
    hex(&md5::Md5::digest(text))
}

fn sha256(text: &str) -> String {
    hex(&sha2::Sha256::digest(text))
}

/// Events that any family of protocols carries: name, parameters, what they say.
fn any_events() -> Vec<(&'static str, Value, Vec<Wanted>)> {
    let name = |kind, event: &'static str| (event, json!({}), vec![want(kind, event)]);
    vec![
        ("folder_open", json!({"folder_title": "Private"}), vec![want("folder_open", "Private")]),
        name("folder_open", "folder_open"),
        (
            "launcher_folder_click",
            json!({"folder_title": "Private", "folder_size": "6"}),
            vec![want("folder_open", "Private")],
        ),
        name("folder_open", "launcher_folder_open_duration_time"),
        ("folder_rename", json!({"folder_title": "Old letters"}), vec![want("folder_open", "Old letters")]),
        ("app_click", json!({"app_package_name": "com.whatsapp"}), vec![want("app_open", "com.whatsapp")]),
        name("app_open", "app_click"),
        (
            "launch_application",
            json!({"app_package_name": "com.whatsapp", "app_display_name": "WhatsApp", "screen_index": "1"}),
            vec![want("app_open", "com.whatsapp")],
        ),
        name("screen_swipe", "desktop_swipe_left_or_right"),
        name("screen_swipe", "home_vertical_gesture"),
        name("status_bar", "gesture_pull_down"),
        name("screen_swipe", "gesture_slide_up"),
        name("screen_view", "all_apps_open"),
        name("ui_action", "search_bar_click"),
        name("ui_action", "enter_edit_mode"),
        name("ui_action", "scroll"),
        ("news_item_view", json!({"title": "How to leave"}), vec![want("item_view", "How to leave")]),
    ]
}

/// Telling keys that count in any payload.
fn generic() -> Vec<(Value, Vec<Wanted>)> {
    vec![
        (json!({"ssid": "Cafe Lisboa"}), vec![want("wifi_name", "Cafe Lisboa")]),
        (json!({"ap_mac": "a4:2b:b0:11:22:34"}), vec![want("wifi_bssid", "a4:2b:b0:11:22:34")]),
        (json!({"nearby_wifi": ["A net", "B net"]}), vec![want("wifi_scan", "A net, B net")]),
        (json!({"lat": 41.157944, "lng": -8.629105}), vec![want("location", "41.157944,-8.629105")]),
        (json!({"kw": "red shoes"}), vec![want("search_query", "red shoes")]),
        (
            json!({"page_url": "https://other.example/1"}),
            vec![want("visited_url", "https://other.example/1")],
        ),
        (json!({"song_name": "Grandola"}), vec![want("music", "Grandola")]),
        (json!({"scroll_depth": 80}), vec![want("ui_action", "80")]),
        (
            json!({"app_list": ["com.a.b", "com.c.d", "com.e.f"]}),
            ["com.a.b", "com.c.d", "com.e.f"].map(|name| want("installed_apps", name)).to_vec(),
        ),
        (json!({"imei": "358240051111110"}), vec![want("imei|device_ids", "358240051111110")]),
        (json!({"msisdn": "+351999888777"}), vec![want("phone_number", "+351999888777")]),
        (json!({"folder_name": "Photos"}), vec![want("folder_open", "Photos")]),
        (json!({"is_private": true}), vec![want("incognito_marker", "true")]),
    ]
}

fn sensors_event(event: &str, properties: Value) -> Value {
    json!({"distinct_id": TOKEN, "lib": {"$lib": "Android", "$lib_detail": "a.B##c##B.java##1"}, "type": "track",
        "event": event, "time": 1_588_291_200_000_u64, "properties": properties})
}

fn sensors_rows() -> Vec<(&'static str, Value, Vec<Wanted>)> {
    let parts = format!(
        "android_id={}##imei={i}##imei_old=##imei_slot1={i}##imei_slot2={}##imei_meid={}##mac={}##oaid={}##gaid={}",
        own("android_id"),
        own("imei2"),
        own("meid"),
        own("mac"),
        own("oaid"),
        own("gaid"),
        i = own("imei1"),
    );
    let in_parts = vec![
        want("android_id", own("android_id")),
        want("imei", own("imei1")),
        want("imei", own("imei2")),
        want("meid", own("meid")),
        want("mac", own("mac")),
        want("ad_id", own("oaid")),
        want("ad_id", own("gaid")),
    ];
    let page = "https://clinic.example.org/x?id=12";
    vec![
        ("page_load_event_start", json!({"url": page}), vec![want("visited_url", page)]),
        ("page_load_event_finish", json!({"url": page}), vec![want("visited_url", page)]),
        (
            "search",
            json!({"search_word": "divorce lawyer", "used_searchengine": "google"}),
            vec![want("search_query", "divorce lawyer"), want("search_engine", "google")],
        ),
        ("youtube_search_op", json!({"search_word": "cats"}), vec![want("search_query", "cats")]),
        (
            "download_files",
            json!({"url": page, "type": "privacy"}),
            vec![want("download", page), want("incognito_marker", "privacy")],
        ),
        ("download_files", json!({"url": page, "type": "normal"}), vec![want("download", page)]),
        ("rv_crashed", json!({"cause": "NPE at x"}), vec![want("crash", "NPE at x")]),
        (
            "x",
            json!({"uuid": "11111111-2222-4333-8444-555566667777"}),
            vec![want("persistent_id", "11111111-2222-4333-8444-555566667777")],
        ),
        ("$AppStart", json!({"$is_first_day": false}), vec![want("app_open", "$AppStart")]),
        ("$AppEnd", json!({"$event_duration": 12.5}), vec![want("app_usage_time", "12.5")]),
        ("$AppEnd", json!({"event_duration": 12.5}), vec![want("app_usage_time", "12.5")]),
        (
            "$AppViewScreen",
            json!({"$screen_name": "com.a.Main", "$title": "Secret folder", "$url": "a/b", "$referrer": "c/d"}),
            vec![
                want("screen_view", "com.a.Main"),
                want("screen_view", "Secret folder"),
                want("screen_view", "a/b"),
                want("visited_url", "c/d"),
            ],
        ),
        (
            "$AppClick",
            json!({"$element_content": "Buy", "$element_id": "btn"}),
            vec![want("ui_action", "Buy"), want("ui_action", "btn")],
        ),
        (
            "$pageview",
            json!({"$url": page, "$referrer": "https://www.google.com/"}),
            vec![want("visited_url", page), want("visited_url", "https://www.google.com/")],
        ),
        (
            "x",
            json!({"$device_id": own("android_id"), "$oaid": own("oaid"), "$gaid": own("gaid"), "$latitude": 38_722_252,
                "$longitude": -9_139_337, "$carrier": "MEO", "$wifi": true, "$os_version": "9", "$model": "Redmi Note 8"}),
            vec![
                want("android_id", own("android_id")),
                want("ad_id", own("oaid")),
                want("ad_id", own("gaid")),
                want("location", "38.722252,-9.139337"),
                want("carrier", "MEO"),
                want("network_state", "true"),
                want("device_model", "9"),
                want("device_model", "Redmi Note 8"),
            ],
        ),
        ("$AppInstall", json!({"$channel_device_info": parts}), in_parts.clone()),
        ("$AppInstall", json!({"$ios_install_source": parts}), in_parts),
    ]
}

#[test]
fn sensors_in_every_wrapping() {
    let mut bench = Bench::new();
    let token = want("persistent_id", TOKEN);
    let with = |wanted: Vec<Wanted>| [vec![token.clone()], wanted].concat();
    let mut rows = sensors_rows();
    rows.extend(any_events());
    rows.extend(generic().into_iter().map(|(properties, wanted)| ("x", properties, wanted)));
    for (event, properties, wanted) in rows {
        let wanted = with(wanted);
        let one = sensors_event(event, properties);
        let list = json!([one]);
        let text = base64(one.to_string().as_bytes());
        let ext = format!("crc={}", java_hash(&text));
        let query = form(&[("project", "news"), ("data", &text), ("ext", &ext)]);
        let bare = |body: String| body.split_once('&').unwrap().1.to_owned();
        for (wrapping, host, sent) in [
            ("gzip", SENSORS, post("/sa?project=x&r=PT", SENSORS, FORM, sensors(&list, true, "data_list"))),
            ("base64", SENSORS, post("/sa?project=x", SENSORS, FORM, sensors(&list, false, "data_list"))),
            ("one event", SENSORS, post("/sa?project=x", SENSORS, FORM, sensors(&one, true, "data"))),
            (
                "proven by crc",
                "t.example.cn",
                post("/collect", "t.example.cn", FORM, sensors(&list, true, "data_list")),
            ),
            (
                "no crc",
                "t.example.cn",
                post("/sa?project=x", "t.example.cn", FORM, bare(sensors(&list, true, "data_list"))),
            ),
            (
                "debug",
                "t.example.cn",
                post("/debug", "t.example.cn", FORM, bare(sensors(&one, true, "data"))),
            ),
            (
                "at once",
                SENSORS,
                post(
                    "/sa",
                    SENSORS,
                    FORM,
                    format!("{}&instant_event=true", sensors(&list, true, "data_list")),
                ),
            ),
            ("web, picture", SENSORS, get(&format!("/sa.gif?{query}"), SENSORS)),
            ("web, get", SENSORS, get(&format!("/sa?{query}"), SENSORS)),
            ("web, proven", "t.example.cn", get(&format!("/t.gif?{query}"), "t.example.cn")),
            (
                "web, list",
                SENSORS,
                post(
                    "/sa.gif?project=x",
                    SENSORS,
                    FORM,
                    form(&[("data_list", &base64(list.to_string().as_bytes())), ("ext", &ext)]),
                ),
            ),
            (
                "web, post",
                SENSORS,
                post("/sa.gif?project=x", SENSORS, TEXT, form(&[("data", &text), ("ext", &ext)])),
            ),
        ] {
            bench.check(&format!("{event}, {wrapping}"), (BROWSER, host), &sent, &wanted, None);
        }
    }
    let ids = json!({"$identity_login_id": "joe", "$identity_cookie_id": "ck-123", "$identity_android_id": own("android_id")});
    let mut event = sensors_event("x", json!({}));
    event["login_id"] = own("mi_account").into();
    event["anonymous_id"] = "anon-1".into();
    event["identities"] = ids;
    let wanted = with(vec![
        want("account", own("mi_account")),
        want("persistent_id", "anon-1"),
        want("persistent_id", "joe"),
        want("persistent_id", "ck-123"),
        want("android_id", own("android_id")),
    ]);
    let sent = post("/sa?project=x", SENSORS, FORM, sensors(&json!([event]), true, "data_list"));
    bench.check("identities", (BROWSER, SENSORS), &sent, &wanted, None);
    bench.check("configuration", (BROWSER, SENSORS), &get("/config/Android.conf?v=1", SENSORS), &[], None);
    bench.finish("Sensors Analytics");
}

#[test]
fn sealed_sensors_events_are_counted() {
    let mut bench = Bench::new();
    let envelope = |count: usize| json!({"ekey": "a", "pkv": 3, "payloads": vec!["x".repeat(60); count], "flush_time": 1});
    for (events, said) in [
        (json!([envelope(2)]), "2 payloads"),
        (envelope(1), "1 payload"),
        (json!([envelope(3), envelope(3)]), "6 payloads"),
    ] {
        let text = events.to_string();
        let crc = java_hash(&text).to_string();
        let wanted = [want("encrypted_telemetry", said)];
        let plain = form(&[("crc", &crc), ("gzip", "9"), ("data_list", &text)]);
        bench.check("plain", (BROWSER, SENSORS), &post("/sa?project=x", SENSORS, FORM, plain), &wanted, None);
        let wrapped = sensors(&events, true, "data_list").replace("gzip=1", "gzip=9");
        bench.check(
            "wrapped",
            (BROWSER, SENSORS),
            &post("/sa?project=x", SENSORS, FORM, wrapped),
            &wanted,
            None,
        );
    }
    let noise: Vec<u8> = (0..400u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 23) as u8).collect();
    let sealed = form(&[("crc", "1"), ("gzip", "13"), ("data_list", &base64(&noise))]);
    let wanted = [want("encrypted_telemetry", "")];
    bench.check(
        "transport",
        (BROWSER, SENSORS),
        &post("/sa?project=x", SENSORS, FORM, sealed),
        &wanted,
        None,
    );
    bench.finish("sealed Sensors events");
}

#[test]
fn miui_analytics_names_the_true_sender() {
    let mut bench = Bench::new();
    let guid = "54db829f-0942-4caa-a69f-7fb9350fa48d";
    let head = json!({"model": "Redmi Note 8", "android": "9", "miui": "V11", "region": "PT", "sender": "com.miui.home",
        "userid": own("mi_account"), "aaid": own("aaid"), "mac": md5(&own("mac")), "imei": md5(&own("imei1")),
        "x": own("gaid"), "y": own("android_id"), "z": guid});
    let ids = vec![
        want_as("imei", own("imei1"), "md5"),
        want_as("mac", own("mac"), "md5"),
        want("ad_id", own("aaid")),
        want("ad_id", own("gaid")),
        want("android_id", own("android_id")),
        want("persistent_id", guid),
        want("account", own("mi_account")),
        want("device_model", "Redmi Note 8"),
        want("device_model", "V11"),
    ];
    let usage = json!({"U": [{"es": [{"p": 0, "e": 1, "t": 10}, {"p": 0, "e": 2, "t": 95}, {"p": 3, "e": 1, "t": 100}],
        "pim": [{"com.whatsapp": 0}, {"com.example.dating": 3}]}], "I": [{"P": "com.example.bank", "v": 1}]});
    let mut rows = any_events();
    rows.push((
        "usage",
        usage,
        vec![
            want("app_open", "com.whatsapp"),
            want("app_open", "com.example.dating"),
            want("app_usage_time", "85"),
            want("installed_apps", "com.example.bank"),
        ],
    ));
    rows.push((
        "music state",
        json!({"player": "com.miui.player", "track": "Grandola"}),
        vec![want("music", "Grandola")],
    ));
    for (number, (event, fields, wanted)) in rows.into_iter().enumerate() {
        let wanted = [ids.clone(), wanted].concat();
        let payload =
            json!({"H": head, "B": [{"H": {"sid": "s1", "pk": "com.miui.home", "key": event}, "B": fields}]});
        let data = payload.to_string().into_bytes();
        for (host, path) in TRACKING
            .iter()
            .chain(&["miuiboot.tracking.miui.com"])
            .flat_map(|host| ["/track/v1", "/track/spock", "/bootlog"].map(|path| (*host, path)))
        {
            let zipped = number % 2 == 0;
            let value = base64_url(&if zipped { gzip(&data) } else { data.clone() });
            let flag = if zipped { "1" } else { "0" };
            let rest = [("value", value.as_str()), ("ts", "1"), ("nonce", "73fa"), ("sign", "5d46")];
            let with_flag = [&[("gzip", flag)], &rest[..]].concat();
            let sent = match number % 3 {
                0 => post(path, host, FORM, form(&with_flag)),
                1 => post(&format!("{path}?gzip={flag}"), host, FORM, form(&rest)),
                _ => http("POST", path, host, &[FORM, ("gzip", flag)], form(&rest).as_bytes()),
            };
            let name = format!("{event} to {host}{path}");
            bench.check(&name, ("com.miui.analytics", host), &sent, &wanted, Some("com.miui.home"));
        }
        let old = form(&[("t", "1"), ("value", &base64_url(&data)), ("s", "abc")]);
        let sent = post("/tracks", TRACKING[0], FORM, old);
        bench.check(event, ("com.miui.analytics", TRACKING[0]), &sent, &wanted, Some("com.miui.home"));
    }
    bench.finish("com.miui.analytics");
}

#[test]
fn onetrack_open_and_sealed() {
    let mut bench = Bench::new();
    let head = |event: &str| {
        json!({"event": event, "imei": md5(&own("imei1")), "oaid": own("oaid"), "gaid": own("gaid"), "sn": md5(&own("serial")),
            "android_id": own("android_id"), "instance_id": TOKEN, "pkg": "com.miui.home", "uid": own("mi_account")})
    };
    let ids = vec![
        want_as("imei", own("imei1"), "md5"),
        want("ad_id", own("oaid")),
        want("ad_id", own("gaid")),
        want_as("serial", own("serial"), "md5"),
        want("android_id", own("android_id")),
        want("persistent_id", TOKEN),
        want("account", own("mi_account")),
    ];
    let hashes = format!("{},{}", md5(&own("imei1")), md5(&own("imei2")));
    let mut rows = any_events();
    rows.extend([
        ("onetrack_dau", json!({}), vec![want("app_open", "com.miui.home")]),
        ("onetrack_pa", json!({"class": "com.a.B", "type": 1}), vec![want("screen_view", "com.a.B")]),
        ("onetrack_active", json!({}), vec![want("app_open", "com.miui.home")]),
        ("onetrack_usage", json!({"duration": 5000}), vec![want("app_usage_time", "5000")]),
        (
            "onetrack_app_stat",
            json!({"package": "com.whatsapp"}),
            vec![want("installed_apps", "com.whatsapp")],
        ),
        ("onetrack_bug_report", json!({"exception": "NPE"}), vec![want("crash", "NPE")]),
        ("ot_login", json!({}), vec![want("account", own("mi_account"))]),
        ("ot_logout", json!({}), vec![want("account", own("mi_account"))]),
        ("ot_profile_set", json!({"k": "v"}), vec![want("account", own("mi_account"))]),
        (
            "ot_service_quality",
            json!({"host": "clinic.example.org"}),
            vec![want("visited_host", "clinic.example.org")],
        ),
        (
            "x",
            json!({"imeis": [own("imei1"), own("imei2")], "imsis": own("imsi")}),
            vec![want("imei", own("imei1")), want("imei", own("imei2")), want("imsi", own("imsi"))],
        ),
        (
            "x",
            json!({"imeis": hashes, "imsis": [own("imsi")]}),
            vec![want_as("imei", own("imei2"), "md5"), want("imsi", own("imsi"))],
        ),
    ]);
    for (number, (event, fields, wanted)) in rows.into_iter().enumerate() {
        let wanted = [ids.clone(), wanted].concat();
        let data = json!([{"H": head(event), "B": fields}]).to_string().into_bytes();
        for host in TRACKING {
            let body = if number % 2 == 0 { gzip(&data) } else { data.clone() };
            let sent = post("/track/v4/o", host, BYTES, body);
            bench.check(event, ("com.miui.analytics", host), &sent, &wanted, Some("com.miui.home"));
        }
    }
    let noise: Vec<u8> = (0..700u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 21) as u8).collect();
    for host in TRACKING {
        for body in [noise.clone(), base64(&noise).into_bytes()] {
            let headers =
                [BYTES, ("OT_SID", "0a1b"), ("OT_sender", "com.miui.player"), ("OT_protocol", "3.0")];
            let sent = http("POST", "/track/v4", host, &headers, &body);
            let wanted = [want("encrypted_telemetry", "")];
            bench.check("sealed", ("com.miui.analytics", host), &sent, &wanted, Some("com.miui.player"));
        }
    }
    let target = format!("/api/v4/detail/config?t=1&imei={}", md5(&own("imei1")));
    let wanted = [want_as("imei", own("imei1"), "md5")];
    for host in ["sdkconfig.ad.xiaomi.com", "sdkconfig.ad.intl.xiaomi.com"] {
        bench.check("configuration", ("com.miui.analytics", host), &get(&target, host), &wanted, None);
    }
    bench.finish("OneTrack");
}

/// AES-128 as MiStat uses it: ECB without a vector, CBC with one; PKCS#7 padding.
fn aes(key: &[u8], vector: Option<&[u8]>, data: &[u8]) -> Vec<u8> {
    match vector {
        None => ecb::Encryptor::<aes::Aes128>::new_from_slice(key).unwrap().encrypt_padded_vec::<Pkcs7>(data),
        Some(vector) => cbc::Encryptor::<aes::Aes128>::new_from_slices(key, vector)
            .unwrap()
            .encrypt_padded_vec::<Pkcs7>(data),
    }
}

#[test]
fn mistat_1_and_2_with_the_key_in_the_form() {
    let mut bench = Bench::new();
    let device = hex(&sha1::Sha1::digest(own("imei1") + &own("android_id") + &own("serial"))).to_uppercase();
    let upper = |text: &str| md5(text).to_uppercase();
    let basic = [
        ("imei_md5", upper(&own("imei1"))),
        ("miui_imei_md5", upper(&own("imei2"))),
        ("android_id_md5", upper(&own("android_id"))),
        ("serial_num_md5", upper(&own("serial"))),
        ("mac_md5", upper(&own("mac"))),
        ("device_id", device.clone()),
        ("operator", "26806".to_owned()),
        ("carrier_name", "MEO".to_owned()),
        ("mcc", "268".to_owned()),
        ("region", "PT".to_owned()),
        ("model", "Redmi Note 8".to_owned()),
        ("OS", "28".to_owned()),
    ];
    let basic: Vec<Value> =
        basic.iter().map(|(key, value)| json!({"key": key, "type": "property", "value": value})).collect();
    let payload = json!([{"endTS": 2, "startTS": 1, "content": [
        {"category": "mistat_basic", "values": basic},
        {"category": "mistat_pa", "values": [{"name": ".Main", "start": 1000, "end": 4000, "auto_end": 0, "env": ""}]},
        {"category": "mistat_pv", "index": [".First", ".Second"], "values": ["1"], "source": ""},
        {"category": "mistat_pv", "values": [{"index": [".Third"], "values": ["1"]}]},
        {"category": "mistat_session", "values": [{"start": 1000, "end": 61000, "env": ""}]},
        {"category": "default", "values": [{"key": "search", "type": "event", "value": 1, "params": {"search_word": "bankruptcy help"}}]},
    ]}])
    .to_string();
    let wanted = vec![
        want_as("imei", own("imei1"), "md5"),
        want_as("imei", own("imei2"), "md5"),
        want_as("android_id", own("android_id"), "md5"),
        want_as("serial", own("serial"), "md5"),
        want_as("mac", own("mac"), "md5"),
        want_as("device_ids", &device, "sha1 of imei+android_id+serial"),
        want("carrier", "26806"),
        want("carrier", "MEO"),
        want("carrier", "268"),
        want("device_model", "PT"),
        want("device_model", "Redmi Note 8"),
        want("device_model", "28"),
        want("screen_view", ".Main"),
        want("screen_view", ".First"),
        want("screen_view", ".Second"),
        want("screen_view", ".Third"),
        want("app_open", "60 s"),
        want("search_query", "bankruptcy help"),
    ];
    let (app, key) = ("2882303761517000001", "5171700000001");
    let ids = [md5(&own("imei1")).to_uppercase(), TOKEN.to_owned()];
    for host in MISTAT {
        for device_id in [&device, &ids[0], &ids[1]] {
            let mut wanted = wanted.clone();
            if device_id == &ids[1] {
                wanted.push(want("device_ids", device_id.as_str()));
            }
            let fields = [
                ("app_id", app),
                ("app_key", key),
                ("device_id", device_id.as_str()),
                ("channel", "miui"),
                ("policy", "0"),
                ("interval", "0"),
                ("version", "11.0"),
            ];
            let send = |path: &str, more: &[(&str, &str)]| {
                post(path, host, FORM, form(&[&fields[..], more].concat()))
            };
            let sent = send("/mistats", &[("stat_value", &payload)]);
            bench.check("plain", ("com.android.browser", host), &sent, &wanted, None);
            let first = md5(&format!("seed:{app}-{key}-{device_id}"));
            let second = md5(&format!("seed:{device_id}-{key}-{app}"));
            for upper in [true, false] {
                let case = |text: &str| if upper { text.to_uppercase() } else { text.to_owned() };
                let (first, second) = (case(&first), case(&second));
                for version in ["3", "4"] {
                    let sealed = hex(&aes(&first.as_bytes()[..16], None, payload.as_bytes()));
                    let more = [
                        ("id_type", "1"),
                        ("mistatv", version),
                        ("size", "1"),
                        ("stat_value", sealed.as_str()),
                    ];
                    bench.check("ecb", ("com.xiaomi.xmsf", host), &send("/mistats/v2", &more), &wanted, None);
                }
                let sealed = aes(&first.as_bytes()[..16], Some(&second.as_bytes()[..16]), payload.as_bytes());
                let sealed = hex(&sealed).to_uppercase();
                let more = [
                    ("id_type", "1"),
                    ("mistatv", "5"),
                    ("network", "WIFI"),
                    ("stat_value", sealed.as_str()),
                ];
                bench.check("cbc", ("com.xiaomi.xmsf", host), &send("/mistats/v2", &more), &wanted, None);
            }
            let broken = [("mistatv", "5"), ("stat_value", "00112233445566778899aabbccddeeff")];
            let device = if device_id == &ids[0] {
                want("imei", own("imei1"))
            } else {
                want("device_ids", device_id.as_str())
            };
            let wanted = [want("encrypted_telemetry", ""), device];
            bench.check(
                "another key",
                ("com.xiaomi.xmsf", host),
                &send("/mistats/v2", &broken),
                &wanted,
                None,
            );
        }
    }
    bench.finish("MiStat 1 and 2");
}

#[test]
fn mistat_3_with_the_local_key_and_without() {
    let mut bench = Bench::new();
    let payload = json!({"id": "r1", "ia": md5(&own("imei1")), "mcm": md5(&own("mac")), "bm": md5(&own("serial")),
        "aa": own("aaid"), "ai": own("android_id"), "es": [
            {"e": "mistat_dau", "eg": "g", "tp": 1, "ts": 1, "ps": {
                "ia": md5(&own("imei1")), "i1": sha256(&own("imei1")), "ib": md5(&own("imei2")), "i2": sha256(&own("imei2")),
                "md": md5(&own("meid")), "ms": sha256(&own("meid")), "mcm": md5(&own("mac")), "mcs": sha256(&own("mac")),
                "bm": md5(&own("serial")), "bs": sha256(&own("serial")), "aa": own("aaid"), "ai": own("android_id"),
                "od": "0f0f-odid", "oa": own("oaid"), "va": "e0d1c2b3a4958677", "ii": TOKEN}, "eid": 1},
            {"e": "search", "ps": {"search_term": "cheap flights"}},
            {"e": "mistat_net_monitor", "ps": {"ur": "https://clinic.example.org/x"}},
            {"e": "mistat_pa", "ps": {"pg": ".Main", "bt": 1000, "et": 3000}},
            {"e": "mistat_signin", "ps": {"ud": own("mi_account")}},
        ]})
    .to_string();
    let wanted = [
        want_as("imei", own("imei1"), "md5"),
        want_as("imei", own("imei1"), "sha256"),
        want_as("imei", own("imei2"), "md5"),
        want_as("imei", own("imei2"), "sha256"),
        want_as("meid", own("meid"), "md5"),
        want_as("meid", own("meid"), "sha256"),
        want_as("mac", own("mac"), "md5"),
        want_as("mac", own("mac"), "sha256"),
        want_as("serial", own("serial"), "md5"),
        want_as("serial", own("serial"), "sha256"),
        want("ad_id", own("aaid")),
        want("ad_id", own("oaid")),
        want("ad_id", "e0d1c2b3a4958677"),
        want("android_id", own("android_id")),
        want("device_ids", "0f0f-odid"),
        want("persistent_id", TOKEN),
        want("search_query", "cheap flights"),
        want("visited_url", "https://clinic.example.org/x"),
        want("screen_view", ".Main"),
        want("account", own("mi_account")),
    ];
    let outer =
        [0x4e, 0xf8, 0xb4, 0xac, 0x42, 0xdb, 0xc3, 0xf9, 0x53, 0x20, 0xb7, 0x3a, 0xe0, 0xed, 0xbd, 0x43];
    let vector = b"cfbsdfgsdfxccvd1";
    for (number, host) in MISTAT.into_iter().enumerate() {
        let inner: Vec<u8> = (0..16).map(|n| n * 11 + u8::try_from(number).unwrap()).collect();
        let sid = hex(&aes(&outer, Some(vector), format!("{}_1588291200000", hex(&inner)).as_bytes()));
        for zipped in [true, false] {
            let data = if zipped { gzip(payload.as_bytes()) } else { payload.clone().into_bytes() };
            let sealed = base64(&aes(&inner, Some(vector), &data));
            let send = |flag: &str, sid: &str| {
                let fields = [
                    ("ai", "31000000001"),
                    ("sv", "3.0.16"),
                    ("pv", "3.0"),
                    ("rg", "PT"),
                    ("p", sealed.as_str()),
                    ("fc", flag),
                    ("sid", sid),
                    ("sn", "0a1b2c"),
                ];
                post("/mistats/v3", host, FORM, form(&fields))
            };
            bench.check("local key", ("com.miui.gallery", host), &send("1", &sid), &wanted, None);
            let unread = [want("encrypted_telemetry", "")];
            bench.check("server's key", ("com.miui.gallery", host), &send("0", "k17"), &unread, None);
        }
        let crash = form(&[
            ("app_id", "1"),
            ("app_key", "2"),
            ("device_uuid", TOKEN),
            ("device_os", "9"),
            ("device_model", "Redmi Note 8"),
            ("app_package", "com.miui.gallery"),
        ]);
        for path in ["/micrash", "/realtime_network"] {
            let wanted = [want("persistent_id", TOKEN), want("device_model", "Redmi Note 8")];
            let sent = post(path, host, FORM, &crash);
            bench.check(path, ("com.xiaomi.xmsf", host), &sent, &wanted, Some("com.miui.gallery"));
        }
        bench.check(
            "key exchange",
            ("com.miui.gallery", host),
            &post("/key_get", host, FORM, "skey_rsa=AAAA"),
            &[],
            None,
        );
    }
    bench.finish("MiStat 3");
}

#[test]
fn addresses_and_binary_records() {
    let mut bench = Bench::new();
    let (imei, android) = (own("imei1"), own("android_id"));
    for host in ["api.ad.xiaomi.com", "api.ad.intl.xiaomi.com"] {
        let target =
            format!("/brand/getSplashScreenAds?imei={}&deviceId=abcdef0123456789&model=x", md5(&imei));
        let wanted = [want_as("imei|device_ids", &imei, "md5"), want("device_ids", "abcdef0123456789")];
        bench.check("splash", ("com.miui.systemAdSolution", host), &get(&target, host), &wanted, None);
    }
    let host = "global.market.xiaomi.com";
    let apps = ["com.whatsapp", "com.a.b"].map(|name| want("installed_apps", name));
    for sent in [
        get("/apm/folder?names=com.whatsapp,com.a.b", host),
        post("/apm/folder", host, FORM, "names=com.whatsapp%2Ccom.a.b"),
        post("/apm/folder", host, JSON, r#"{"names":["com.whatsapp","com.a.b"]}"#),
        post("/apm/folder", host, TEXT, "com.whatsapp,com.a.b"),
    ] {
        bench.check("packages in a folder", ("com.miui.home", host), &sent, &apps, None);
    }
    let host = "helpcmsecurity1.ksmobile.com";
    for path in ["/c/", "/c/v2/"] {
        let record =
            [&[0, 0x10, 1, 0], imei.as_bytes(), &[0, 7], &md5::Md5::digest(&android), &[0xff, 1]].concat();
        let wanted = [want("imei", &imei), want_as("android_id", &android, "md5")];
        bench.check(
            "infoc",
            ("com.cleanmaster.mguard", host),
            &post(path, host, BYTES, record),
            &wanted,
            None,
        );
    }
    bench.finish("addresses and records");
}
