//! Every encoding there and back, alone and inside each other, and the routes they give.

use super::*;

const JSON: &str = r#"[{"event":"view","properties":{"url":"https://clinic.example.org/hiv-test?id=12","title":"Test results and what they mean"}}]"#;
const URL: &str = "https://clinic.example.org/hiv-test?id=12";

fn carries_json(tree: &Tree, via: &str) {
    let node = find(tree, via);
    assert_eq!(at(value(tree, node), "0.properties.url"), &Value::Text(URL.into()), "{via}");
}

fn deflated(data: &[u8], zlib: bool) -> Vec<u8> {
    match zlib {
        true => miniz_oxide::deflate::compress_to_vec_zlib(data, 6),
        false => miniz_oxide::deflate::compress_to_vec(data, 6),
    }
}

fn zstd(data: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
}

/// [`JSON`] by Google's brotli 1.1, quality 11.
fn brotli() -> Vec<u8> {
    super::super::text::unhex(
        b"1b7c000004c46da92f5f41e35315a3a060d26b39d7c901fbbf8a027996c64944e90d9f6fa3d8520eaa3970a1101e42a08d3aef6c5fc338fe202eb312d88133d74f36aee9664a45c82d949d8bdd1c8c5989e236111d",
    )
    .unwrap()
}

#[test]
fn bodies_open_by_their_looks() {
    let utf16 = |little: bool, mark: bool| -> Vec<u8> {
        let text = if mark { format!("\u{feff}{JSON}") } else { JSON.to_owned() };
        let units = text.encode_utf16();
        units.flat_map(|u| if little { u.to_le_bytes() } else { u.to_be_bytes() }).collect()
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (JSON.into(), "http1>json"),
        (format!("\u{feff}  {JSON}\r\n").into(), "http1>json"),
        (gzip(JSON.as_bytes()), "http1>gzip>json"),
        (deflated(JSON.as_bytes(), true), "http1>zlib>json"),
        (deflated(JSON.as_bytes(), false), "http1>deflate>json"),
        (brotli(), "http1>brotli>json"),
        (zstd(JSON.as_bytes()), "http1>zstd>json"),
        (gzip(&gzip(JSON.as_bytes())), "http1>gzip>gzip>json"),
        (base64(JSON.as_bytes()).into(), "http1>base64>json"),
        (base64(&gzip(JSON.as_bytes())).into(), "http1>base64>gzip>json"),
        (base64(&deflated(JSON.as_bytes(), true)).into(), "http1>base64>zlib>json"),
        (base64(&brotli()).into(), "http1>base64>brotli>json"),
        (base64(base64(JSON.as_bytes()).as_bytes()).into(), "http1>base64>base64>json"),
        (hex(JSON.as_bytes()).into(), "http1>hex>json"),
        (hex(JSON.as_bytes()).to_uppercase().into(), "http1>hex>json"),
        (hex(&gzip(JSON.as_bytes())).into(), "http1>hex>gzip>json"),
        (escape(JSON).into(), "http1>percent>json"),
        (escape(&escape(JSON)).into(), "http1>percent>percent>json"),
        (utf16(true, true), "http1>utf-16le>json"),
        (utf16(false, true), "http1>utf-16be>json"),
        (utf16(true, false), "http1>utf-16le>json"),
        (utf16(false, false), "http1>utf-16be>json"),
        (format!("callback_7({JSON});").into(), "http1>jsonp"),
    ];
    for (body, via) in cases {
        let tree = open_body(body);
        carries_json(&tree, via);
        assert!(tree.nodes.iter().all(|node| node.cut.is_none()), "{via}: {}", tree.explain());
    }
}

#[test]
fn base64_of_every_alphabet_opens() {
    // Chosen so that both special characters of each alphabet occur.
    let json = JSON.replace("Test", "???>>>~~~\u{ff}\u{fe}");
    let standard = base64(json.as_bytes());
    assert!(standard.contains('+') && standard.contains('/') && standard.ends_with('='), "{standard}");
    let lines: Vec<&str> =
        (0..standard.len()).step_by(76).map(|i| &standard[i..standard.len().min(i + 76)]).collect();
    for text in [
        standard.replace('+', "-").replace('/', "_"),
        standard.replace('/', "_"),
        standard.trim_end_matches('=').to_owned(),
        standard.replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned(),
        lines.join("\r\n"),
        lines.join("\n") + "\n",
        standard.replace('+', " "),
    ] {
        carries_json(&open_body(text), "http1>base64>json");
    }
    // A form decoder has taken the `+` of a writer that did not escape it.
    let tree = open(&post(
        "x.example",
        "/",
        &[("content-type", "application/x-www-form-urlencoded")],
        format!("a=1&d={standard}"),
    ));
    carries_json(&tree, "http1>form:d>base64>json");
}

#[test]
fn content_codings_come_off_in_reverse_order() {
    let twice = gzip(&brotli());
    for (coding, body, via) in [
        ("gzip", gzip(JSON.as_bytes()), "http1>gzip>json"),
        ("x-gzip", gzip(JSON.as_bytes()), "http1>gzip>json"),
        ("deflate", deflated(JSON.as_bytes(), true), "http1>zlib>json"),
        ("deflate", deflated(JSON.as_bytes(), false), "http1>deflate>json"),
        ("br", brotli(), "http1>brotli>json"),
        ("zstd", zstd(JSON.as_bytes()), "http1>zstd>json"),
        ("br, GZIP", twice, "http1>gzip>brotli>json"),
        ("gzip", JSON.into(), "http1>json"),
        ("identity", JSON.into(), "http1>json"),
    ] {
        carries_json(&open(&post("x.example", "/", &[("content-encoding", coding)], body)), via);
    }
    let form = gzip(format!("a=1&value={}", escape(&base64(JSON.as_bytes()))).as_bytes());
    let headers = [("content-encoding", "gzip"), ("content-type", "application/x-www-form-urlencoded")];
    carries_json(&open(&post("x.example", "/", &headers, form)), "http1>gzip>form:value>base64>json");
}

#[test]
fn texts_inside_values_open_and_say_where() {
    let quoted = serde_json::to_string(JSON).unwrap();
    let b64 = base64(JSON.as_bytes());
    let cases = [
        (format!(r#"{{"data":{quoted}}}"#), "http1>json:data>json"),
        (format!(r#"[{{"data":"{b64}"}}]"#), "http1>json:[0].data>base64>json"),
        (format!(r#"{{"a.b":{{"c>d":"{b64}"}}}}"#), r#"http1>json:["a.b"]["c>d"]>base64>json"#),
        (quoted.clone(), "http1>json:>json"),
        (format!(r#"{{"q":"a=1&b={}&c=3"}}"#, escape(&b64)), "http1>json:q>form:b>base64>json"),
        (format!(r#"{{"q":"{}"}}"#, escape(JSON)), "http1>json:q>percent>json"),
    ];
    for (body, via) in cases {
        carries_json(&open_body(body), &via.replace("json:>", "json>"));
    }
    let install = r#"{"$ios_install_source":"android_id=9f3c2b7a1d4e5f60##imei=490154203237518##mac=34:ce:00:12:34:56##oaid="}"#;
    let tree = open_body(install);
    let pairs = value(&tree, find(&tree, "http1>json:$ios_install_source>pairs"));
    assert_eq!(at(pairs, "imei"), &Value::Text("490154203237518".into()));
}

#[test]
fn json_lines_and_concatenated_values_become_a_list() {
    for body in [format!("{JSON}\n{JSON}\n"), format!("{JSON}{JSON}")] {
        let tree = open_body(body);
        let lines = value(&tree, find(&tree, "http1>jsonl"));
        assert_eq!(at(lines, "1.0.event"), &Value::Text("view".into()));
    }
}

#[test]
fn every_part_of_a_request_is_a_node() {
    let b64 = base64(JSON.as_bytes());
    let cookie = format!(
        "a=1; sensorsdata2015jssdkcross={}",
        escape(r#"{"distinct_id":"826ee5e7-dc02-441e-ac3d-691d9fb488a7"}"#)
    );
    let boundary = "multipart/form-data; boundary=zz";
    let body = format!(
        "--zz\r\nContent-Disposition: form-data; name=\"log\"; filename=\"l.gz\"\r\n\r\n{b64}\r\n--zz\r\nContent-Disposition: form-data; name=\"id\"\r\n\r\n42\r\n--zz--\r\n"
    );
    let headers = [
        ("content-type", boundary),
        ("cookie", cookie.as_str()),
        ("x-meta", b64.as_str()),
        ("authorization", b64.as_str()),
    ];
    let tree =
        open(&post("x.example", &format!("/caf%C3%A9/a?b=c+d%21&data={}", escape(&b64)), &headers, body));
    carries_json(&tree, "http1>query:data>base64>json");
    carries_json(&tree, "http1>header:x-meta>base64>json");
    carries_json(&tree, "http1>part:log>base64>json");
    assert_eq!(tree.bytes(find(&tree, "http1>query:b")), b"c d!");
    assert_eq!(tree.bytes(find(&tree, "http1>part:id")), b"42");
    assert_eq!(tree.bytes(find(&tree, "http1>path>percent")), "/café/a".as_bytes());
    let id = value(&tree, find(&tree, "http1>header:cookie:sensorsdata2015jssdkcross>percent>json"));
    assert_eq!(at(id, "distinct_id"), &Value::Text("826ee5e7-dc02-441e-ac3d-691d9fb488a7".into()));
    assert!(!routes(&tree).iter().any(|r| r.starts_with("http1>header:authorization>")), "never opened");
    let explained = tree.explain();
    let line = explained.lines().find(|line| line.contains("header:authorization")).unwrap();
    assert!(line.contains("not shown") && !line.contains(&b64[..8]), "{line}");
}

#[test]
fn protobuf_opens_without_a_schema() {
    // { 1: "com.example.app", 2: 1588291200000, 3: { 1: 38.722252 (double), 2: -9.139337f }, 3: { 4: "Lisboa" } }
    let mut body = b"\x0a\x0fcom.example.app\x10".to_vec();
    let mut time = 1_588_291_200_000_u64;
    while time > 0x7f {
        body.push((time & 0x7f | 0x80) as u8);
        time >>= 7;
    }
    body.push(time as u8);
    let mut place = vec![0x09];
    place.extend(38.722_252_f64.to_le_bytes());
    place.push(0x15);
    place.extend((-9.139_337_f32).to_le_bytes());
    body.extend([0x1a, place.len() as u8]);
    body.extend(&place);
    body.extend(b"\x1a\x08\x22\x06Lisboa");
    let check = |tree: &Tree, via: &str| {
        let value = value(tree, find(tree, via));
        assert_eq!(at(value, "1"), &Value::Text("com.example.app".into()));
        assert_eq!(at(value, "2"), &Value::Number("1588291200000".into()));
        assert_eq!(at(value, "3.1"), &Value::Number("38.722252".into()));
        assert_eq!(at(value, "3.2"), &Value::Number("-9.139337".into()));
        let Value::Map(fields) = value else { panic!() };
        assert_eq!(at(&fields[3].1, "4"), &Value::Text("Lisboa".into()));
    };
    check(&open_body(body.clone()), "http1>protobuf");
    check(&open_body(base64(&body)), "http1>base64>protobuf");
    let grpc = Message {
        protocol: Protocol::Grpc,
        ..post("x.example", "/p.S/M", &[("grpc-encoding", "gzip")], gzip(&body))
    };
    check(&open(&grpc), "grpc>gzip>protobuf");
    // Declared, a message of numbers alone is believed too.
    let numbers = b"\x08\x01\x10\x96\x01";
    let tree =
        open(&post("x.example", "/", &[("content-type", "application/x-protobuf")], numbers.as_slice()));
    assert_eq!(at(value(&tree, find(&tree, "http1>protobuf")), "2"), &Value::Number("150".into()));
    assert!(!routes(&open_body(numbers.as_slice())).contains(&"http1>protobuf".to_owned()));
}

#[test]
fn messagepack_opens() {
    // {"imei": "490154203237518", "t": 1588291200000, "pos": [38.5, -9], "raw": <2 bytes>, "on": true, "x": nil}
    let mut body = b"\x86\xa4imei\xaf490154203237518\xa1t\xcf".to_vec();
    body.extend(1_588_291_200_000_u64.to_be_bytes());
    body.extend(b"\xa3pos\x92\xcb");
    body.extend(38.5_f64.to_be_bytes());
    body.extend(b"\xf7\xa3raw\xc4\x02\xff\x00\xa2on\xc3\xa1x\xc0");
    let tree = open_body(body.clone());
    let map = value(&tree, find(&tree, "http1>msgpack"));
    assert_eq!(at(map, "imei"), &Value::Text("490154203237518".into()));
    assert_eq!(at(map, "t"), &Value::Number("1588291200000".into()));
    assert_eq!(at(map, "pos.1"), &Value::Number("-9".into()));
    for end in 0..body.len() {
        let tree = open_body(&body[..end]);
        assert!(!tree.nodes.iter().any(|node| node.step == "msgpack"), "a cut one is not believed: {end}");
    }
}

#[test]
fn xml_and_property_lists_open() {
    let tree = open_body(
        r#"<?xml version="1.0"?><log v="2"><!-- x --><imei>490154203237518</imei><e n="a&amp;b">x &lt; y &#x41;</e><e/></log>"#,
    );
    let log = at(value(&tree, find(&tree, "http1>xml")), "log");
    assert_eq!(at(log, "@v"), &Value::Text("2".into()));
    assert_eq!(at(log, "imei"), &Value::Text("490154203237518".into()));
    assert_eq!(at(log, "e.@n"), &Value::Text("a&b".into()));
    assert_eq!(at(log, "e.#text"), &Value::Text("x < y A".into()));
    let plist = r#"<?xml version="1.0"?><!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "x"><plist version="1.0"><dict><key>id</key><string>a1</string><key>n</key><integer>7</integer><key>l</key><array><true/><string>b</string></array></dict></plist>"#;
    let tree = open_body(plist);
    let root = at(value(&tree, find(&tree, "http1>plist")), "plist.dict");
    assert_eq!(at(root, "id"), &Value::Text("a1".into()));
    assert_eq!(at(root, "l.0"), &Value::Bool(true));
    assert_eq!(at(root, "n"), &Value::Number("7".into()));
    for page in [
        "<!DOCTYPE html><html><body>hello</body></html>",
        "<html><p>hi</p></html>",
        "<3 you all",
        "<<<<<<<<<<",
        "< a < b >",
    ] {
        assert!(!routes(&open_body(page)).iter().any(|r| r.ends_with("xml")), "{page}");
    }
}

/// RFC 1952 section 2.3.1: a wrong checksum is said, and costs none of the data, nor of the members after it.
#[test]
fn a_wrong_gzip_check_is_said_and_the_data_kept() {
    let text = r#"{"event":"view","words":"nothing is lost"}"#;
    let whole = gzip(text.as_bytes());
    for (at, said) in [(8, "checksum"), (4, "length")] {
        let mut body = whole.clone();
        let place = body.len() - at;
        body[place] ^= 1;
        for (body, read) in [(body.clone(), text.len()), ([body, whole.clone()].concat(), 2 * text.len())] {
            let tree = peel(&post("x.example", "/", &[], body), &Protocols::builtin(), &Limits::default());
            let node = tree.nodes.iter().find(|node| node.step == "gzip").unwrap();
            assert!(node.cut.unwrap().contains(said), "{:?}", node.cut);
            assert!(matches!(&node.content, Content::Bytes(bytes) if bytes.len() == read));
        }
    }
}
