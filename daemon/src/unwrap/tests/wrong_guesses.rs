//! What must stay closed: words, tokens, identifiers and noise never become layers; and what is flagged as opaque.

use super::*;

#[test]
fn ordinary_texts_are_not_encodings() {
    let words = [
        "getUserInformationFromServer",
        "android.permission.ACCESS_FINE_LOCATION",
        "application/json",
        "https://www.example.com/a/b/c?d=e",
        "com.android.settings.Settings",
        "thequickbrownfoxjumpsoverthelazydog",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345",
        "Mozilla/5.0 (Linux; Android 9; Redmi Note 8)",
        "/storage/emulated/0/DCIM/Camera/IMG_20200501_120000.jpg",
        "a5edad80-d9d1-4c54-aa77-739dc3d2bee8",
        "A5EDAD80D9D14C54AA77739DC3D2BEE8",
        "d41d8cd98f00b204e9800998ecf8427e",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "490154203237518",
        "8935101234567890124",
        "4111111111111111",
        "9f3c2b7a1d4e5f60",
        "34:ce:00:12:34:56",
        "20200501120000123456",
        "271828182845904523536028747135266249",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiIsIm5hbWUiOiJKb2huIn0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
        "1//0gdX9Zf8Qh2KqCgYIARAAGBASNwF-L9Ir",
        "AIzaSyDaGmWKa4JsXZ-HjGw7ISLn_3namBGewQe",
        "ya29.a0AfH6SMBx7Qk2",
        "v1.Y2RuLXRva2Vu-8hUe7Kq2_PzR4mN1xW9vT5bL0sD3fG6hJ",
        "5f4dcc3b5aa765d61d8327deb882cf99/1588291200/segment_42.ts",
        "Donaudampfschifffahrtsgesellschaft",
        "supercalifragilisticexpialidocious",
        "100% cotton, 50 %ff",
        "[tag] some words {and braces}",
        "[1] a footnote",
        "{not json}",
        "<3 you",
        "a=b",
        "x = y & z",
        "1+1=2&2+2=4",
        "## heading ## two",
        "key=value##",
        "price(12)",
        "call(me)",
        "\"{not json\"",
        "SGVsbG8=",
        "dGVzdA==",
        "passwordpassword",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "0000000000000000000000000000000000000000",
        "------------------------",
    ];
    for word in words {
        let body = serde_json::to_string(&serde_json::json!({ "k": word })).unwrap();
        let tree = open_body(body);
        let json = find(&tree, "http1>json");
        let layers: Vec<_> =
            tree.nodes.iter().filter(|n| n.parent == Some(json)).map(|n| n.step.as_str()).collect();
        assert!(layers.is_empty(), "{word:?} became {layers:?}\n{}", tree.explain());
    }
}

#[test]
fn random_base64_hex_and_bytes_stay_closed() {
    let mut wrong = Vec::new();
    for seed in 0..1_000 {
        let len = 9 + (seed as usize * 7) % 120;
        let data = noise(len, seed + 1);
        for text in [base64(&data), base64(&data).replace('+', "-").replace('/', "_"), hex(&data)] {
            let tree = open_body(format!(r#"{{"token":"{text}"}}"#));
            if tree.nodes.len() > 4 {
                wrong.push(format!("{text}: {}", tree.explain()));
            }
        }
        let tree = open_body(data.clone());
        if tree.nodes.len() > 3 {
            wrong.push(tree.explain());
        }
    }
    // Four thousand trials: what slips through must be a curiosity.
    assert!(wrong.len() <= 1, "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn noise_is_flagged_and_media_are_not() {
    let data = noise(700, 3);
    let flagged =
        |headers: &[(&str, &str)], body: Vec<u8>| open(&post("x.example", "/", headers, body)).opaque;
    let opaque = flagged(&[("content-type", "application/octet-stream")], data.clone()).unwrap();
    assert_eq!(opaque.bytes, 700);
    assert_eq!(flagged(&[], base64(&data).into()).unwrap().bytes, 700);
    assert_eq!(flagged(&[], hex(&data).into()).unwrap().bytes, 700);
    let form = format!("v=3&p={}", escape(&base64(&data)));
    assert_eq!(
        flagged(&[("content-type", "application/x-www-form-urlencoded")], form.into()).unwrap().bytes,
        700
    );
    let mut jpeg = b"\xff\xd8\xff\xe0".to_vec();
    jpeg.extend(&data);
    for (content_type, body) in [
        ("application/octet-stream", jpeg),
        ("image/webp", data.clone()),
        ("video/mp4", data.clone()),
        ("application/json", format!(r#"{{"img":"{}"}}"#, base64(&data)).into()),
        ("text/plain", b"hello".to_vec()),
        (
            "application/octet-stream",
            gzip(b"{\"a\":\"some text that was packed, and then some more of it\"}"),
        ),
    ] {
        assert_eq!(flagged(&[("content-type", content_type)], body), None, "{content_type}");
    }
}
