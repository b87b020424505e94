//! The sample requests, peeled: which protocol, which route, which JSON. And damage: cut and corrupt at every byte.

use super::*;

/// A request of `tests/samples` as the wire would hand it on.
pub(super) fn sample(name: &str) -> Message {
    let path = format!("{}/tests/samples/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let sample: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let request = &sample["request"];
    let body = request["body"].as_str().unwrap();
    let body = match request["body_base64"].as_bool().unwrap() {
        true => {
            use ::base64::Engine as _;
            ::base64::engine::general_purpose::STANDARD.decode(body).unwrap()
        }
        false => body.as_bytes().to_vec(),
    };
    let headers = request["headers"].as_object().unwrap();
    Message {
        protocol: Protocol::Http1,
        method: request["method"].as_str().unwrap().to_owned(),
        target: request["path"].as_str().unwrap().to_owned(),
        host: Some(request["host"].as_str().unwrap().to_owned()),
        headers: headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str().unwrap().into()))
            .collect(),
        body_len: body.len() as u64,
        body,
        ..Message::default()
    }
}

#[test]
fn every_readable_telemetry_sample_gives_its_payload() {
    let form = "http1>form:data_list>base64>gzip>json";
    let cases = [
        (
            "01_visited_url",
            "sensors_form",
            true,
            form,
            "0.properties.url",
            "https://clinic.example.org/hiv-test?id=12",
        ),
        (
            "02_search_google",
            "sensors_form",
            true,
            form,
            "0.properties.search_word",
            "divorce lawyer near me",
        ),
        ("05_install_identifiers", "sensors_form", true, form, "0.event", "$AppInstall"),
        (
            "08_sensors_js_gif",
            "sensors_js",
            true,
            "http1>query:data>base64>json",
            "properties.$url",
            "https://news.example.com/story/77",
        ),
        (
            "10_launcher_folder_swipe",
            "miui_track_v1",
            false,
            "http1>form:value>base64>json",
            "H.sender",
            "com.miui.home",
        ),
        (
            "11_app_opens",
            "miui_track_v1",
            false,
            "http1>form:value>base64>json",
            "H.sender",
            "com.miui.analytics",
        ),
        (
            "14_mistat_v4_ecb",
            "mistat_v2_ecb",
            false,
            "http1>form:stat_value>hex>aes-128-ecb>json",
            "0.content.0.category",
            "mistat_basic",
        ),
        ("19_onetrack_open", "onetrack_v4_open", false, "http1>json", "0.H.pkg", "com.android.settings"),
        ("23_news_item", "sensors_form", true, form, "0.properties.title", "How to leave a cult"),
    ];
    for (name, protocol, proven, via, place, text) in cases {
        let tree = open(&sample(name));
        let telemetry = tree.protocol.as_ref().unwrap_or_else(|| panic!("{name}: no protocol"));
        assert_eq!((telemetry.id.as_str(), telemetry.proven), (protocol, proven), "{name}");
        assert_eq!(telemetry.unreadable, None, "{name}");
        let payload = telemetry.payload.unwrap_or_else(|| panic!("{name}: no payload"));
        assert_eq!(tree.via(payload), via, "{name}");
        assert_eq!(at(value(&tree, payload), place), &Value::Text(text.into()), "{name}");
    }
}

#[test]
fn sealed_samples_say_what_can_be_said() {
    let tree = open(&sample("09_sensors_encrypted"));
    let telemetry = tree.protocol.unwrap();
    assert_eq!((telemetry.id.as_str(), telemetry.summary.as_str()), ("sensors_encrypted", "2 payloads"));
    assert!(telemetry.unreadable.is_some() && telemetry.proven);
    assert!(telemetry.facts.contains(&("pkv".to_owned(), "3".to_owned())), "{:?}", telemetry.facts);

    let tree = open(&sample("18_onetrack_v4"));
    let telemetry = tree.protocol.unwrap();
    assert_eq!((telemetry.id.as_str(), telemetry.payload), ("onetrack_v4", None));
    assert!(telemetry.unreadable.is_some());
    assert!(telemetry.facts.contains(&("sender".to_owned(), "com.miui.player".to_owned())));
}

#[test]
fn ordinary_samples_have_no_protocol() {
    for name in [
        "22_imsi_clear",
        "26_neg_sign_in",
        "28_neg_search_suggest",
        "90_neg_user_search",
        "91_neg_random_base64",
        "93_neg_zero_gaid",
    ] {
        let tree = open(&sample(name));
        assert_eq!(tree.protocol, None, "{name}");
        let steps: Vec<_> = tree.nodes.iter().map(|node| node.step.as_str()).collect();
        assert!(!steps.contains(&"base64") && !steps.contains(&"hex"), "{name}: {steps:?}");
    }
}

#[test]
fn a_matching_crc_recognises_sensors_anywhere() {
    let mut message = sample("01_visited_url");
    message.host = Some("collect.shop.example".to_owned());
    message.target = "/v9/upload".to_owned();
    let telemetry = open(&message).protocol.unwrap();
    assert_eq!((telemetry.id.as_str(), telemetry.proven), ("sensors_form", true));
    let body = String::from_utf8(message.body).unwrap().replace("crc=-510468515", "crc=-510468516");
    message.body = body.into_bytes();
    assert_eq!(open(&message).protocol, None, "a wrong crc proves nothing");
}

#[test]
fn cut_and_corrupt_bodies_keep_what_is_honest() {
    let protocols = Protocols::builtin();
    let whole = sample("01_visited_url");
    let start = whole.body.windows(10).position(|w| w == b"data_list=").unwrap() + 10;
    let tree = open(&whole);
    let full = value(&tree, tree.protocol.as_ref().unwrap().payload.unwrap()).clone();
    let mut partial = 0;
    for end in 0..whole.body.len() {
        let message = Message { body: whole.body[..end].to_vec(), ..whole.clone() };
        let tree = peel(&message, &protocols, &Limits::default());
        if let Some(payload) = tree.protocol.as_ref().and_then(|t| t.payload) {
            assert!(end > start);
            let cut = tree.nodes.iter().any(|node| node.cut.is_some());
            assert!(cut || value(&tree, payload) == &full, "cut at {end} without a word");
            partial += 1;
            assert!(matches!(value(&tree, payload), Value::List(_)));
        }
    }
    assert!(partial > whole.body.len() / 4, "only {partial} cut bodies gave anything");
    for position in 0..whole.body.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut message = whole.clone();
            message.body[position] ^= flip;
            let tree = peel(&message, &protocols, &Limits::default());
            assert!(!tree.nodes.is_empty());
        }
    }
}
