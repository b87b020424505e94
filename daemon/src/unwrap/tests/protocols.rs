//! A composed request for every row of `data/protocols.toml`, and what a wrong or added row does.

use aes::Aes128;
use cbc::cipher::{BlockModeEncrypt, KeyInit, KeyIvInit, block_padding::Pkcs7};

use super::*;
use crate::unwrap::{Error, Telemetry, aes::md5_hex, text::java_hash};

const EVENT: &str = r#"[{"event":"x","imei":"490154203237518"}]"#;
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

fn form(fields: &[(&str, &str)]) -> String {
    fields.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect::<Vec<_>>().join("&")
}

fn recognise(message: &Message) -> (Telemetry, Tree) {
    let tree = open(message);
    let telemetry = tree.protocol.clone().unwrap_or_else(|| panic!("nothing recognised\n{}", tree.explain()));
    (telemetry, tree)
}

/// Recognised as `id`, with the event readable in the payload.
fn reads(message: &Message, id: &str, via: &str) {
    let (telemetry, tree) = recognise(message);
    assert_eq!(telemetry.id, id);
    let payload = telemetry.payload.unwrap_or_else(|| panic!("{id}: no payload\n{}", tree.explain()));
    assert_eq!(tree.via(payload), via);
    assert_eq!(telemetry.unreadable, None, "{id}");
    assert_eq!(at(value(&tree, payload), "0.imei"), &Value::Text("490154203237518".into()), "{id}");
}

fn cbc(key: &[u8], iv: &[u8], data: &[u8]) -> Vec<u8> {
    cbc::Encryptor::<Aes128>::new_from_slices(key, iv).unwrap().encrypt_padded_vec::<Pkcs7>(data)
}

fn ecb(key: &[u8], data: &[u8]) -> Vec<u8> {
    ecb::Encryptor::<Aes128>::new_from_slice(key).unwrap().encrypt_padded_vec::<Pkcs7>(data)
}

#[test]
fn sensors_in_every_dress() {
    let packed = base64(&gzip(EVENT.as_bytes()));
    let plain = base64(EVENT.as_bytes());
    let crc = |text: &str| java_hash(text).to_string();
    let body = form(&[("crc", &crc(&packed)), ("gzip", "1"), ("data_list", &packed)]);
    reads(
        &post("c.example", "/sa?project=p", &[FORM], body),
        "sensors_form",
        "http1>form:data_list>base64>gzip>json",
    );
    // A single event goes as `data`; gzip=0 leaves it unpacked; the debug endpoint; no Content-Type at all.
    let body = form(&[("crc", &crc(&plain)), ("gzip", "0"), ("data", &plain)]);
    reads(&post("c.example", "/debug", &[], body.clone()), "sensors_form", "http1>form:data>base64>json");
    // Any host and path with an agreeing crc; with a wrong one only where the path fits.
    reads(&post("c.example", "/v7/logs", &[FORM], body), "sensors_form", "http1>form:data>base64>json");
    let wrong = form(&[("crc", "1"), ("gzip", "0"), ("data", &plain)]);
    let (telemetry, _) = recognise(&post("c.example", "/sa?project=p", &[FORM], wrong.clone()));
    assert!(!telemetry.proven);
    assert_eq!(open(&post("c.example", "/v7/logs", &[FORM], wrong)).protocol, None);
    let chinese = r#"[{"event":"搜索","ekey":"k","payloads":["a"],"pkv":7}]"#;
    let sealed = form(&[("crc", &crc(chinese)), ("gzip", "9"), ("data_list", chinese)]);
    let (telemetry, _) = recognise(&post("c.example", "/other", &[FORM], sealed));
    assert!(telemetry.proven, "the hash is over UTF-16 units");
    assert_eq!((telemetry.id.as_str(), telemetry.summary.as_str()), ("sensors_encrypted", "1 payload"));

    let query = format!(
        "/sa.gif?project=news&data={}&ext={}",
        escape(&plain),
        escape(&format!("crc={}", crc(&plain)))
    );
    let get = Message { method: "GET".to_owned(), ..post("c.example", &query, &[], "") };
    reads(&get, "sensors_js", "http1>query:data>base64>json");
    let body = form(&[("data_list", &plain), ("ext", &format!("crc={}", crc(&plain)))]);
    reads(
        &post("c.example", "/sa?project=p", &[FORM], body),
        "sensors_js",
        "http1>form:data_list>base64>json",
    );
    let config =
        Message { method: "GET".to_owned(), ..post("c.example", "/config/Android.conf?v=2", &[], "") };
    let (telemetry, _) = recognise(&config);
    assert_eq!(
        (telemetry.id.as_str(), telemetry.payload, telemetry.unreadable),
        ("sensors_config", None, None)
    );
}

#[test]
fn sensors_sealed_in_both_dresses() {
    let sealed = r#"[{"ekey":"a","pkv":3,"payloads":["b","c"]},{"ekey":"a","pkv":3,"payloads":["d"]}]"#;
    let wrapped = base64(&gzip(sealed.as_bytes()));
    for (gzip, text) in [("9", sealed), ("1", wrapped.as_str())] {
        let body = form(&[("crc", &java_hash(text).to_string()), ("gzip", gzip), ("data_list", text)]);
        let (telemetry, tree) = recognise(&post("sa.api.intl.miui.com", "/sa?project=x", &[FORM], body));
        assert_eq!(
            (telemetry.id.as_str(), telemetry.summary.as_str(), telemetry.proven),
            ("sensors_encrypted", "3 payloads", true)
        );
        assert!(
            telemetry.unreadable.is_some() && telemetry.facts.contains(&("pkv".to_owned(), "3".to_owned()))
        );
        assert!(telemetry.payload.is_some(), "{}", tree.explain());
    }
    // What is in it cannot be told, but gzip=13 says that it is sealed.
    let body = form(&[("crc", "7"), ("gzip", "13"), ("data_list", &base64(&noise(300, 9)))]);
    let (telemetry, _) = recognise(&post("sa.api.intl.miui.com", "/sa?project=x", &[FORM], body));
    assert_eq!((telemetry.id.as_str(), telemetry.payload), ("sensors_encrypted", None));
    assert!(telemetry.unreadable.is_some() && telemetry.facts.iter().any(|(name, _)| name == "bytes"));
}

#[test]
fn miui_tracks() {
    let url_safe =
        |data: &[u8]| base64(data).replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned();
    let packed = url_safe(&gzip(EVENT.as_bytes()));
    let fields =
        [("value", packed.as_str()), ("gzip", "1"), ("ts", "1588291200000"), ("nonce", "1"), ("sign", "2")];
    for (host, path) in [
        ("tracking.miui.com", "/track/v1"),
        ("tracking.intl.miui.com", "/track/spock?x=1"),
        ("miuiboot.tracking.miui.com", "/bootlog"),
    ] {
        reads(
            &post(host, path, &[FORM], form(&fields)),
            "miui_track_v1",
            "http1>form:value>base64>gzip>json",
        );
    }
    reads(
        &post("tracking.rus.miui.com", "/track/v1", &[FORM], form(&fields)),
        "miui_track_v1",
        "http1>form:value>base64>gzip>json",
    );
    let old = form(&[("t", "1"), ("value", &url_safe(EVENT.as_bytes())), ("s", "x")]);
    reads(
        &post("tracking.miui.com", "/tracks", &[FORM], old),
        "miui_tracks_old",
        "http1>form:value>base64>json",
    );
}

#[test]
fn mistat_1_and_2() {
    let ids = [
        ("app_id", "2882303761517000001"),
        ("app_key", "5171700000001"),
        ("device_id", "D3D06E6B995F4281C00B188104533BBC3813A5DF"),
    ];
    let seed = "seed:2882303761517000001-5171700000001-D3D06E6B995F4281C00B188104533BBC3813A5DF";
    let reversed = "seed:D3D06E6B995F4281C00B188104533BBC3813A5DF-5171700000001-2882303761517000001";
    let with = |more: &[(&str, &str)]| form(&[&ids[..], more].concat());
    reads(
        &post("data.mistat.xiaomi.com", "/mistats", &[FORM], with(&[("stat_value", EVENT)])),
        "mistat_v1",
        "http1>form:stat_value>json",
    );
    for upper in [true, false] {
        let case = |text: &str| {
            let digest = md5_hex(text.as_bytes());
            let digest = if upper { digest.to_uppercase() } else { digest };
            digest.as_bytes()[..16].to_vec()
        };
        for (version, mode) in [("3", "ecb"), ("4", "ecb"), ("5", "cbc")] {
            let sealed = match mode {
                "ecb" => ecb(&case(seed), EVENT.as_bytes()),
                _ => cbc(&case(seed), &case(reversed), EVENT.as_bytes()),
            };
            let sealed = hex(&sealed);
            let sealed = if upper { sealed.to_uppercase() } else { sealed };
            let body = with(&[("mistatv", version), ("size", "1"), ("stat_value", &sealed)]);
            for host in ["data.mistat.xiaomi.com", "data.mistat.intl.xiaomi.com"] {
                let via = format!("http1>form:stat_value>hex>aes-128-{mode}>json");
                reads(&post(host, "/mistats/v2", &[FORM], body.clone()), &format!("mistat_v2_{mode}"), &via);
            }
        }
    }
    let body = with(&[("mistatv", "5"), ("stat_value", &hex(&noise(64, 5)))]);
    let (telemetry, _) = recognise(&post("data.mistat.xiaomi.com", "/mistats/v2", &[FORM], body));
    assert_eq!((telemetry.id.as_str(), telemetry.payload), ("mistat_v2_cbc", None));
    assert!(telemetry.unreadable.is_some(), "a key that does not fit is said");
    let crash = Message {
        method: "POST".to_owned(),
        ..post("data.mistat.xiaomi.com", "/micrash", &[FORM], form(&[("app_id", "1"), ("device_uuid", "u")]))
    };
    assert_eq!(recognise(&crash).0.id, "mistat_crash");
}

#[test]
fn mistat_3_with_its_own_key_and_with_the_servers() {
    let known = crate::unwrap::text::unhex(b"4ef8b4ac42dbc3f95320b73ae0edbd43").unwrap();
    let iv = b"cfbsdfgsdfxccvd1";
    let own = noise(16, 77);
    let sid = hex(&cbc(&known, iv, format!("{}_1588291200000", hex(&own)).as_bytes()));
    for (payload, steps) in [(EVENT.as_bytes().to_vec(), "json"), (gzip(EVENT.as_bytes()), "gzip>json")] {
        let sealed = base64(&cbc(&own, iv, &payload));
        let body = |fc: &str| {
            form(&[
                ("ai", "1"),
                ("sv", "3"),
                ("pv", "3"),
                ("rg", "PT"),
                ("p", &sealed),
                ("fc", fc),
                ("sid", &sid),
                ("sn", "x"),
            ])
        };
        for host in ["data.mistat.xiaomi.com", "data.mistat.rus.xiaomi.com", "data.mistat.example"] {
            let message = post(host, "/mistats/v3", &[FORM], body("1"));
            reads(&message, "mistat_v3", &format!("http1>form:p>base64>aes-128-cbc>{steps}"));
        }
        let (telemetry, _) =
            recognise(&post("data.mistat.india.xiaomi.com", "/mistats/v3", &[FORM], body("0")));
        assert_eq!((telemetry.id.as_str(), telemetry.payload), ("mistat_v3", None));
        assert!(telemetry.unreadable.unwrap().contains("server"));
    }
    let (telemetry, _) = recognise(&post("data.mistat.xiaomi.com", "/key_get", &[FORM], "skey_rsa=x&y=z"));
    assert_eq!((telemetry.id.as_str(), telemetry.no_content), ("mistat_v3_key", true));
}

#[test]
fn onetrack_and_the_rest() {
    let headers =
        [("content-type", "application/octet-stream"), ("ot_sender", "com.miui.player"), ("ot_sid", "1")];
    for host in ["tracking.miui.com", "tracking.rus.miui.com"] {
        let (telemetry, _) = recognise(&post(host, "/track/v4", &headers, noise(512, 4)));
        assert_eq!((telemetry.id.as_str(), telemetry.payload), ("onetrack_v4", None));
        assert!(telemetry.unreadable.is_some());
        assert!(telemetry.facts.contains(&("sender".to_owned(), "com.miui.player".to_owned())));
        assert!(telemetry.facts.contains(&("bytes".to_owned(), "512".to_owned())));
        let (telemetry, _) = recognise(&post(host, "/track/key_get", &headers, "secretKey=AAAA"));
        assert_eq!((telemetry.id.as_str(), telemetry.no_content), ("onetrack_key", true));
        assert!(telemetry.unreadable.is_some());
        assert!(telemetry.facts.contains(&("sender".to_owned(), "com.miui.player".to_owned())));
    }
    reads(&post("tracking.miui.com", "/track/v4/o", &[], EVENT), "onetrack_v4_open", "http1>json");
    reads(
        &post("tracking.intl.miui.com", "/track/v4/o?x", &[], gzip(EVENT.as_bytes())),
        "onetrack_v4_open",
        "http1>gzip>json",
    );
    let get = |host: &str, path: &str| Message { method: "GET".to_owned(), ..post(host, path, &[], "") };
    for (host, path, id) in [
        ("sdkconfig.ad.india.xiaomi.com", "/api/v4/detail/config_common?a=1", "onetrack_config"),
        ("api.ad.intl.xiaomi.com", "/brand/getSplashScreenAds?imei=1", "xiaomi_splash_ads"),
        ("helpcmkeyboard1.ksmobile.com", "/c/v2/?d=1", "cheetah_infoc"),
    ] {
        let (telemetry, _) = recognise(&get(host, path));
        assert_eq!((telemetry.id.as_str(), telemetry.unreadable), (id, None));
    }
    for (host, path) in
        [("tracking.miui.com", "/other"), ("help1.ksmobile.example", "/c/"), ("www.example.com", "/track/v1")]
    {
        assert_eq!(open(&get(host, path)).protocol, None, "{host}{path}");
    }
}

#[test]
fn every_built_in_row_is_read_and_told_apart() {
    let text = include_str!("../../../data/protocols.toml");
    let protocols = Protocols::parse(text).unwrap();
    let ids: Vec<&str> = protocols.ids().collect();
    assert_eq!(ids.len(), text.lines().filter(|line| *line == "[[protocol]]").count());
    assert_eq!(ids.len(), 19);
    assert_eq!(Protocols::builtin().ids().collect::<Vec<_>>(), ids);
    assert!(ids.iter().enumerate().all(|(n, id)| !ids[..n].contains(id)), "ids are unique");
}

#[test]
fn a_wrong_row_is_named_with_its_field() {
    let row = |more: &str| format!("[[protocol]]\nid = \"mine\"\nname = \"Mine\"\nsource = \"me\"\n{more}\n");
    for (more, field) in [
        ("decode = [\"form(x)\", \"rot13\"]", "decode"),
        ("decode = [\"form(x\"]", "decode"),
        ("decode = [\"form(x)\", \"aes_ecb(K)\"]", "decode"),
        ("keys = [{ name = \"K\", hex = \"zz\" }]", "keys"),
        ("keys = [{ name = \"K\" }]", "keys"),
        ("path_regex = '('", "path_regex"),
        ("when = [\"form(x)\"]", "when"),
        ("colour = 7", "colour"),
        ("sender = \"nothing\"", "sender"),
    ] {
        match Protocols::parse(&row(more)) {
            Err(Error::Row { row, field: found, .. }) => {
                assert_eq!((row.as_str(), found.as_str()), ("mine", field))
            }
            other => panic!("{more}: {other:?}"),
        }
    }
    assert!(
        matches!(Protocols::parse("[[protocol]]\nname = \"x\""), Err(Error::Row { row, field, .. }) if row == "#1" && field == "id")
    );
    assert!(matches!(Protocols::parse("protocol = 3"), Err(Error::File(_))));
    assert!(matches!(Protocols::parse("= ="), Err(Error::File(_))));
    assert!(matches!(Protocols::parse("[other]"), Err(Error::File(_))));
}

/// A fixture of our own: what ports of the SDKs and careless callers wrap around what the recipe expects.
#[test]
fn a_payload_in_disguise_is_still_the_protocols() {
    let json = EVENT.as_bytes();
    let wide: Vec<u8> =
        [0xfe, 0xff].into_iter().chain(EVENT.encode_utf16().flat_map(u16::to_be_bytes)).collect();
    let zlib = miniz_oxide::deflate::compress_to_vec_zlib(json, 6);
    let twice = form(&[("x", &form(&[("y", &base64(&gzip(json)))])[2..])])[2..].to_owned();
    for (value, steps) in [
        (form(&[("v", &base64(&zlib))])[2..].to_owned(), "base64>zlib>json"),
        (form(&[("v", &base64(&gzip(&wide)))])[2..].to_owned(), "base64>gzip>utf-16be>json"),
        (form(&[("v", &base64(&wide[2..]))])[2..].to_owned(), "base64>utf-16be>json"),
        (twice, "percent>base64>gzip>json"),
    ] {
        let body = format!("data_list={value}&gzip=1");
        reads(
            &post("t.example", "/sa?project=x", &[FORM], body),
            "sensors_form",
            &format!("http1>form:data_list>{steps}"),
        );
    }
    let part = |name: &str, text: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
    };
    let body = part("gzip", "1") + &part("data_list", &base64(&gzip(json))) + "--b--\r\n";
    let kind = ("content-type", "multipart/form-data; boundary=b");
    reads(
        &post("t.example", "/sa?project=x", &[kind], body),
        "sensors_form",
        "http1>part:data_list>base64>gzip>json",
    );
}

#[test]
fn added_rows_replace_and_go_first() {
    let mut protocols = Protocols::builtin();
    let added = Protocols::parse(
        "[[protocol]]\nid = \"mine\"\nname = \"Mine\"\nsource = \"me\"\nhosts = [\"Tracking.Miui.com\"]\npath_regex = '/track/v1'\ndecode = [\"form(value)\", \"b64\", \"json\"]\n\
         [[protocol]]\nid = \"onetrack_config\"\nname = \"Replaced\"\nsource = \"me\"\n",
    );
    protocols.merge(added.unwrap());
    assert_eq!(protocols.ids().count(), 20);
    let body = form(&[("value", &base64(EVENT.as_bytes()))]);
    let tree = peel(&post("tracking.miui.com", "/track/v1", &[FORM], body), &protocols, &Limits::default());
    assert_eq!(tree.protocol.unwrap().id, "mine");
}
