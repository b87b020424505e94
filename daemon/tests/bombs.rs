//! One KiB of every format that can grow, and of every framing that can promise more than comes, through `telltale decode`:
//! it ends, says nothing loud, and needs no more memory than a phone has to spare.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use nix::sys::resource::{UsageWho, getrusage};

/// Length of every bomb, in bytes.
const LENGTH: usize = 1024;
/// The most a decoder may ever have had in memory, in KiB: what DESIGN allows the daemon under load, and an unoptimised
/// program besides.
const MOST_KIB: i64 = 48 << 10;

fn post(kind: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("POST /x HTTP/1.1\r\nHost: a.example\r\n{kind}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// `unit` again and again, cut at one KiB.
fn repeated(unit: &[u8]) -> Vec<u8> {
    unit.iter().copied().cycle().take(LENGTH).collect()
}

/// `start` and then zeros, or cut, to one KiB.
fn padded(start: &[u8]) -> Vec<u8> {
    let mut body = start.to_vec();
    body.resize(LENGTH, 0);
    body
}

fn h2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [length.get(1..).unwrap(), &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[test]
fn one_kib_of_every_format() {
    let spaces = vec![b' '; 4 << 20];
    let deflate = miniz_oxide::deflate::compress_to_vec(&spaces, 9);
    let gzip = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], deflate.as_slice()].concat();
    let zlib = miniz_oxide::deflate::compress_to_vec_zlib(&spaces, 9);
    // RLE blocks of 128 KiB (RFC 8878 section 3.1.1.2), four bytes each.
    let zstd = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x68][..], &repeated(&[0x02, 0x00, 0x10, b' '])].concat();
    // 64 MiB of spaces in 50 bytes, by Google's brotli 1.1.
    let brotli = "cfffff7f002400e2b14072effff9ffff0f8004401c1680eefd3fffffff01900088c302d0bdffe7ffff3f001200715800baf7ff03";
    let brotli: Vec<u8> =
        (0..brotli.len()).step_by(2).map(|at| u8::from_str_radix(&brotli[at..at + 2], 16).unwrap()).collect();
    let octets = "Content-Type: application/octet-stream";
    let json = "Content-Type: application/json";
    // HPACK: one long field into the table (RFC 7541 section 6.2.1), then a byte each for it again.
    let block = [&[0x40, 1, b'x', 0x7f, 0x81, 0x02][..], &[b'y'; 256], &repeated(&[0xbe])].concat();
    let h2 = [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &h2_frame(4, 0, 0, &[]),
        &h2_frame(1, 4, 1, block.get(..LENGTH).unwrap()),
    ]
    .concat();
    let upgrade = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    let socket =
        [&upgrade[..], &[0xc2, 0xfe, 0x04, 0x00, 0, 0, 0, 0], deflate.get(..LENGTH).unwrap()].concat();
    let chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n";
    let mut doll = gzip.clone();
    for _ in 0..6 {
        let packed = miniz_oxide::deflate::compress_to_vec(&doll, 9);
        doll = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], packed.as_slice()].concat();
    }
    let bombs: Vec<(&str, Vec<u8>)> = vec![
        ("gzip", post("Content-Encoding: gzip", &padded(&gzip))),
        ("gzip unannounced", post(octets, &padded(&gzip))),
        ("gzip in gzip", post(octets, &padded(&doll))),
        ("gzip members", post(octets, &repeated(gzip.get(..64).unwrap()))),
        ("zlib", post("Content-Encoding: deflate", &padded(&zlib))),
        ("deflate", post("Content-Encoding: deflate", &padded(&deflate))),
        ("brotli", post("Content-Encoding: br", &padded(&brotli))),
        ("zstd", post(octets, &padded(&zstd))),
        ("codings", post("Content-Encoding: gzip, gzip, br, zstd, deflate, gzip", &padded(&gzip))),
        ("json depth", post(json, &repeated(b"["))),
        ("json objects", post(json, &repeated(br#"{"a":"#))),
        ("json items", post(json, &repeated(b"0,"))),
        ("json text in text", post(json, &repeated(br#""\"\\\"{"#))),
        ("json lines", post(json, &repeated(b"{}\n"))),
        ("percent", post(octets, &repeated(b"%25"))),
        ("form", post("Content-Type: application/x-www-form-urlencoded", &repeated(b"a=&"))),
        ("base64", post(octets, &repeated(b"SDRzSUFBQUFBQUFB"))),
        ("hex", post(octets, &repeated(b"1f8b08000000"))),
        ("utf-16", post(octets, &repeated(b"[\0"))),
        ("xml depth", post("Content-Type: text/xml", &repeated(b"<a>"))),
        ("protobuf", post("Content-Type: application/x-protobuf", &repeated(&[0x0a, 0x7e]))),
        ("msgpack depth", post(octets, &repeated(&[0x91]))),
        ("msgpack length", post(octets, &padded(b"\xdd\xff\xff\xff\xff\xa3abc"))),
        ("multipart", post("Content-Type: multipart/form-data; boundary=b", &repeated(b"--b\r\n\r\n\r\n"))),
        ("gRPC-Web", post("Content-Type: application/grpc-web", &repeated(&[0, 0, 0, 0, 0]))),
        ("cookies", repeated(b"GET / HTTP/1.1\r\nCookie: a=b; c={};")),
        ("headers", repeated(b"GET / HTTP/1.1\r\na:\r\nb:\r\n")),
        ("chunk", padded(chunked)),
        ("HPACK", h2),
        (
            "HTTP/2 frames",
            [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &repeated(&h2_frame(9, 0, 1, &[]))].concat(),
        ),
        ("WebSocket", socket),
    ];
    for (name, bomb) in &bombs {
        let mut child = Command::new(env!("CARGO_BIN_EXE_telltale"))
            .args(["decode", "--json", "--host", "a.example", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(bomb).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{name}: {output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(!said.contains(r#""severity":"W""#) && !said.contains(r#""severity":"E""#), "{name}: {said}");
        // The highest of all children so far: the first that is too large is the one at fault.
        let most = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
        assert!(most <= MOST_KIB, "{name}: {most} KiB in memory");
    }
    let most = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    println!("{} bombs of 1 KiB: {} MiB in memory at the most", bombs.len(), most / 1024);
}
