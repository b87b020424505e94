//! Bombs, truncation, corruption and mutation: no panic, and every limit holds.

use std::time::Instant;

use super::*;

type Headers = &'static [(&'static str, &'static str)];

/// What holds of every tree, whatever the input.
fn keeps_its_promises(tree: &Tree, limits: &Limits) {
    assert!(tree.nodes.len() <= limits.nodes.max(1));
    let mut out = 0;
    let mut items = 0;
    for (index, node) in tree.nodes.iter().enumerate() {
        assert!(node.parent.is_none_or(|parent| parent < index));
        match &node.content {
            Content::Bytes(bytes) => {
                let packed = matches!(node.step.as_str(), "gzip" | "zlib" | "deflate" | "brotli" | "zstd");
                out += if packed { bytes.len() } else { 0 };
                assert!(!packed || bytes.len() <= limits.layer_bytes);
            }
            Content::Value(value) => items += count(value),
        }
        assert!(tree.via(index).split('>').count() <= limits.depth + 1);
    }
    assert!(out <= limits.total_bytes, "{out} bytes out");
    // Keys, cookies and the containers themselves come on top of what the budget counts.
    assert!(items <= limits.items * 2 + 4096, "{items} items");
    let explained = tree.explain();
    assert!(!explained.chars().any(|c| c.is_control() && c != '\n'));
    assert!(explained.lines().count() <= tree.nodes.len() + 2);
}

fn count(value: &Value) -> usize {
    match value {
        Value::List(list) => 1 + list.iter().map(count).sum::<usize>(),
        Value::Map(map) => 1 + map.iter().map(|(_, v)| count(v)).sum::<usize>(),
        _ => 1,
    }
}

fn is_cut(tree: &Tree) -> bool {
    tree.nodes.iter().any(|node| node.cut.is_some())
}

#[test]
fn a_bomb_of_every_format_ends_within_the_limits() {
    let zeros = vec![b' '; 64 << 20];
    let gz = gzip(&zeros);
    // 64 MiB of zeros by Google's brotli 1.1, quality 9, window 2^24.
    let br = super::super::text::unhex(b"cfffff7f002400e2b14072effff9ffff0f8004401c1680eefd3fffffff01900088c302d0bdffe7ffff3f001200715800baf7ff03").unwrap();
    let mut zstd = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x68];
    // RLE blocks of 128 KiB (RFC 8878 section 3.1.1.2): four bytes each.
    zstd.extend([0x02, 0x00, 0x10, b' '].repeat(250));
    let small: Vec<u8> = gz[..1024].to_vec();
    let mut nested = "x".to_owned();
    for _ in 0..20 {
        nested = serde_json::to_string(&serde_json::json!([nested])).unwrap();
        if nested.len() > 1 << 18 {
            break;
        }
    }
    let mut doll = br#"{"a":"b"}"#.to_vec();
    for _ in 0..40 {
        doll = gzip(&doll);
    }
    let proto = (0..200).fold(Vec::new(), |inner: Vec<u8>, _| {
        let mut out = vec![0x0a, (inner.len() & 0x7f | 0x80) as u8, (inner.len() >> 7) as u8];
        out.extend(inner);
        out
    });
    let bodies: Vec<(&str, Vec<u8>, Headers)> = vec![
        ("gzip", small, &[]),
        ("gzip, declared", gz, &[("content-encoding", "gzip")]),
        ("zlib", miniz_oxide::deflate::compress_to_vec_zlib(&zeros, 6), &[("content-encoding", "deflate")]),
        ("deflate", miniz_oxide::deflate::compress_to_vec(&zeros, 6), &[("content-encoding", "deflate")]),
        ("brotli", br, &[("content-encoding", "br")]),
        ("zstd", zstd, &[]),
        ("json depth", vec![b'['; 1 << 20], &[]),
        ("json objects", br#"{"a":"#.repeat(1 << 17), &[]),
        ("json items", format!("[{}0]", "0,".repeat(1 << 19)).into(), &[]),
        ("json in json", nested.into(), &[]),
        ("json strings", format!("[{}0]", r#""{\"a\":1}","#.repeat(1 << 14)).into(), &[]),
        ("gzip in gzip", doll, &[]),
        ("xml depth", b"<a>".repeat(1 << 17), &[]),
        (
            "xml entities",
            br#"<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;">]><l>&b;&b;&b;</l>"#
                .to_vec(),
            &[],
        ),
        ("protobuf", proto, &[("content-type", "application/x-protobuf")]),
        ("msgpack", vec![0x91; 1 << 18], &[]),
        ("msgpack length", b"\xdd\xff\xff\xff\xff\xa3abc".to_vec(), &[]),
        ("form", b"a=b&".repeat(1 << 16), &[("content-type", "application/x-www-form-urlencoded")]),
        ("percent", b"%25".repeat(1 << 17), &[]),
        ("cookies", b"{}".to_vec(), &[("cookie", "a=b; ")]),
    ];
    let limits = Limits::default();
    for (name, body, headers) in bodies {
        let start = Instant::now();
        let tree = peel(&post("x.example", "/", headers, body), &Protocols::builtin(), &limits);
        // Generous: an unoptimised build on a machine shared with others.
        assert!(start.elapsed().as_secs() < 10, "{name} took {:?}", start.elapsed());
        keeps_its_promises(&tree, &limits);
        if name.starts_with("gzip")
            || matches!(name, "zlib" | "deflate" | "brotli" | "zstd" | "json items" | "form")
        {
            assert!(is_cut(&tree), "{name} was cut without a word\n{}", tree.explain());
        }
    }
}

#[test]
fn cut_and_corrupt_streams_of_every_format_never_panic() {
    let limits = Limits {
        depth: 6,
        layer_bytes: 4096,
        total_bytes: 8192,
        nodes: 40,
        items: 500,
        nesting: 8,
        ..Limits::default()
    };
    let json = r#"[{"event":"view","ids":{"imei":"490154203237518","pos":[38.722252,-9.139337]},"x":"{\"a\":[1,2]}"}]"#;
    let mut seeds: Vec<(Vec<u8>, Headers)> = vec![
        (json.into(), &[]),
        (gzip(json.as_bytes()), &[]),
        (miniz_oxide::deflate::compress_to_vec_zlib(json.as_bytes(), 6), &[("content-encoding", "deflate")]),
        (ruzstd::encoding::compress_to_vec(json.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest), &[]),
        (super::super::text::unhex(b"1b7c000004c46da92f5f41e35315a3a060d26b39d7c901fbbf8a027996c64944e90d9f6fa3d8520eaa3970a1101e42a08d3aef6c5fc338fe202eb312d88133d74f36aee9664a45c82d949d8bdd1c8c5989e236111d").unwrap(), &[("content-encoding", "br")]),
        (base64(json.as_bytes()).into(), &[]),
        (b"\x0a\x0fcom.example.app\x10\x80\xf0\xd5\xef\x9c\x2e\x1a\x08\x22\x06Lisboa".to_vec(), &[("content-type", "application/protobuf")]),
        (b"\x82\xa4imei\xaf490154203237518\xa3pos\x92\xcb\0\0\0\0\0\0\0\0\xf7".to_vec(), &[]),
        (br#"<?xml version="1.0"?><log v="2"><imei a='&lt;'>490154203237518</imei>&#65;<e/></log>"#.to_vec(), &[]),
        (b"a=%7B%22b%22%3A1%7D&crc=1&data_list=SGVsbG8".to_vec(), &[]),
        (b"\xff\xfe{\0\"\0a\0\"\0:\x001\0}\0".to_vec(), &[]),
    ];
    seeds.push((
        samples::sample("14_mistat_v4_ecb").body,
        &[("content-type", "application/x-www-form-urlencoded")],
    ));
    let protocols = Protocols::builtin();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below.max(1)
    };
    for (body, headers) in seeds {
        let run = |body: Vec<u8>| {
            let tree =
                peel(&post("data.mistat.xiaomi.com", "/mistats/v2?a=b", headers, body), &protocols, &limits);
            keeps_its_promises(&tree, &limits);
        };
        for end in 0..body.len().min(400) {
            run(body[..end].to_vec());
        }
        for _ in 0..300 {
            let mut mutant = body.clone();
            for _ in 0..1 + random(4) {
                let place = random(mutant.len());
                match random(4) {
                    0 => mutant[place] ^= 1 << random(8),
                    1 => mutant[place] = random(256) as u8,
                    2 => {
                        let end = (place + random(12)).min(mutant.len());
                        let piece: Vec<u8> = mutant[place..end].to_vec();
                        mutant.splice(place..place, piece);
                    }
                    _ => mutant.truncate(place.max(1)),
                }
            }
            run(mutant);
        }
    }
}

#[test]
fn tiny_limits_hold_too() {
    let limits = Limits {
        depth: 0,
        layer_bytes: 1,
        total_bytes: 1,
        ratio: 0,
        nodes: 0,
        items: 0,
        nesting: 0,
        work: 0,
    };
    for name in ["01_visited_url", "14_mistat_v4_ecb", "08_sensors_js_gif", "19_onetrack_open"] {
        let tree = peel(&samples::sample(name), &Protocols::builtin(), &limits);
        keeps_its_promises(&tree, &limits);
        assert!(is_cut(&tree));
    }
}
