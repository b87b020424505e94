//! The same telemetry over every transport: HTTP/1 in all its framings, HTTP/2, WebSocket, gRPC and gRPC-Web.

use serde_json::json;

use crate::{Bench, Wanted, own, request::*, want};

const HOST: &str = "track.example.cn";
const APP: &str = "com.example.shop";

fn body() -> String {
    let event = json!([{"distinct_id": "a5edad80-d9d1-4c54-aa77-739dc3d2bee8", "event": "search", "type": "track",
        "properties": {"search_word": "divorce lawyer", "$device_id": own("android_id")}}]);
    sensors(&event, true, "data_list")
}

fn wanted() -> Vec<Wanted> {
    vec![
        want("search_query", "divorce lawyer"),
        want("android_id", own("android_id")),
        want("persistent_id", "a5edad80-d9d1-4c54-aa77-739dc3d2bee8"),
    ]
}

fn h2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HPACK without Huffman codes and without the table (RFC 7541 section 6.2.2).
fn h2_head(target: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let all = [(":method", "POST"), (":scheme", "https"), (":path", target), (":authority", HOST)];
    let literal = |(name, value): &(&str, &str)| {
        let length = |text: &str| u8::try_from(text.len()).unwrap();
        [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
    };
    all.iter().chain(headers).flat_map(literal).collect()
}

fn h2(target: &str, headers: &[(&str, &str)], data: &[&[u8]]) -> Vec<u8> {
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    out.extend(h2_frame(4, 0, 0, &[]));
    out.extend(h2_frame(1, 4, 1, &h2_head(target, headers)));
    for (number, piece) in data.iter().enumerate() {
        out.extend(h2_frame(0, u8::from(number + 1 == data.len()), 1, piece));
    }
    out
}

fn ws_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let masked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    let mut out = vec![first];
    match u8::try_from(payload.len()) {
        Ok(length @ 0..=125) => out.push(0x80 | length),
        _ => {
            out.push(0xfe);
            out.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(masked);
    out
}

fn websocket(extensions: &str, frames: &[Vec<u8>]) -> Vec<u8> {
    let head = format!(
        "GET /ws HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: \
         dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{extensions}\r\n"
    );
    [head.into_bytes(), frames.concat()].concat()
}

fn chunked(body: &[u8], size: usize, end: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in body.chunks(size) {
        out.extend(format!("{:x};name=value\r\n", piece.len()).into_bytes());
        out.extend_from_slice(piece);
        out.extend(b"\r\n");
    }
    out.extend(end.as_bytes());
    out
}

fn grpc(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag], &u32::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

#[test]
fn every_transport_carries_the_same() {
    let mut bench = Bench::new();
    let (body, wanted) = (body(), wanted());
    let body = body.as_bytes();
    let kind = format!("Content-Type: {}", FORM.1);
    let head =
        |line: &str, more: &str| format!("{line}\r\nHost: {HOST}\r\n{kind}\r\n{more}\r\n").into_bytes();
    let length = format!("Content-Length: {}\r\n", body.len());
    let line = "POST /sa?project=x HTTP/1.1";
    let coded = |more: &str| head(line, &format!("Transfer-Encoding: chunked\r\n{more}"));
    let ordinary = get("/robots.txt", HOST);
    let halves = body.split_at(body.len() / 2);
    let form = [("content-type", FORM.1)];
    let raw = |sent: &[u8]| {
        let mut compressor = flate2::Compress::new(flate2::Compression::default(), false);
        let mut out = Vec::with_capacity(sent.len() + 128);
        compressor.compress_vec(sent, &mut out, flate2::FlushCompress::Sync).unwrap();
        out.truncate(out.len() - 4);
        out
    };
    let event = json!({"event": "x", "android_id": own("android_id")}).to_string();
    let only = vec![want("android_id", own("android_id"))];
    let mut cases: Vec<(&str, Vec<u8>, &[Wanted])> = vec![
        ("length", [head(line, &length), body.to_vec()].concat(), &wanted),
        (
            "absolute form",
            [head(&format!("POST http://{HOST}/sa?project=x HTTP/1.1"), &length), body.to_vec()].concat(),
            &wanted,
        ),
        ("HTTP/1.0", [head("POST /sa?project=x HTTP/1.0", &length), body.to_vec()].concat(), &wanted),
        (
            "expect",
            [head(line, &format!("{length}Expect: 100-continue\r\n")), body.to_vec()].concat(),
            &wanted,
        ),
        ("folded", [head(line, &format!("X-Old: a\r\n b\r\n{length}")), body.to_vec()].concat(), &wanted),
        ("chunked", [coded(""), chunked(body, 50, "0\r\n\r\n")].concat(), &wanted),
        (
            "chunked, trailers",
            [coded("Trailer: X-T\r\n"), chunked(body, 7, "0\r\nX-T: 1\r\n\r\n")].concat(),
            &wanted,
        ),
        (
            "chunked, gzip",
            [coded("Content-Encoding: gzip\r\n"), chunked(&gzip(body), 9, "0\r\n\r\n")].concat(),
            &wanted,
        ),
        (
            "pipelined",
            [ordinary.clone(), head(line, &length), body.to_vec(), ordinary.clone()].concat(),
            &wanted,
        ),
        ("HTTP/2", h2("/sa?project=x", &form, &[body]), &wanted),
        ("HTTP/2, two frames", h2("/sa?project=x", &form, &[halves.0, halves.1]), &wanted),
        ("HTTP/2, an empty last frame", h2("/sa?project=x", &form, &[body, b""]), &wanted),
        (
            "h2c by upgrade",
            [
                head(
                    "GET / HTTP/1.1",
                    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
                ),
                h2("/sa?project=x", &form, &[body]),
            ]
            .concat(),
            &wanted,
        ),
        ("WebSocket", websocket("", &[ws_frame(0x81, event.as_bytes())]), &only),
        ("WebSocket, binary", websocket("", &[ws_frame(0x82, &gzip(event.as_bytes()))]), &only),
        (
            "WebSocket, fragments",
            websocket(
                "",
                &[
                    ws_frame(0x01, &event.as_bytes()[..10]),
                    ws_frame(0x89, b"ping"),
                    ws_frame(0x00, b""),
                    ws_frame(0x80, &event.as_bytes()[10..]),
                ],
            ),
            &only,
        ),
        (
            "WebSocket, deflated",
            websocket(
                "Sec-WebSocket-Extensions: permessage-deflate\r\n",
                &[ws_frame(0xc1, &raw(event.as_bytes()))],
            ),
            &only,
        ),
        (
            "tunnel",
            [
                format!("CONNECT {HOST}:80 HTTP/1.1\r\nHost: {HOST}:80\r\n\r\n").into_bytes(),
                head(line, &length),
                body.to_vec(),
            ]
            .concat(),
            &wanted,
        ),
    ];
    let message = [field(1, b"open"), field(2, own("android_id").as_bytes())].concat();
    let calls = [("content-type", "application/grpc"), ("grpc-encoding", "gzip"), ("te", "trailers")];
    cases.push(("gRPC", h2("/s.S/M", &calls, &[&grpc(0, &message)]), &only));
    cases.push(("gRPC, gzip", h2("/s.S/M", &calls, &[&grpc(1, &gzip(&message))]), &only));
    let two = [grpc(0, b"\x0a\x02hi"), grpc(1, &gzip(&message))].concat();
    cases.push(("gRPC, two messages", h2("/s.S/M", &calls, &[&two[..9], &two[9..]]), &only));
    for (name, kind, body) in [
        ("gRPC-Web", "application/grpc-web+proto", grpc(0, &message)),
        ("gRPC-Web, text", "application/grpc-web-text", base64(&grpc(0, &message)).into_bytes()),
    ] {
        cases.push((name, post("/s.S/M", HOST, ("Content-Type", kind), &body), &only));
        cases.push((name, h2("/s.S/M", &[("content-type", kind)], &[&body]), &only));
    }
    for (name, sent, wanted) in &cases {
        bench.check(name, (APP, HOST), sent, wanted, None);
        for size in [1, 5, 100] {
            let found = bench.findings(APP, HOST, &sent.chunks(size).collect::<Vec<_>>());
            bench.judge(&format!("{name}, writes of {size}"), &found, wanted, None);
        }
    }
    // At every boundary for one of each.
    for wanted_name in ["HTTP/2", "chunked, trailers", "gRPC, two messages"] {
        let (name, sent, wanted) = cases.iter().find(|(name, ..)| *name == wanted_name).unwrap();
        for at in 1..sent.len() {
            let (first, second) = sent.split_at(at);
            let found = bench.findings(APP, HOST, &[first, second]);
            bench.judge(&format!("{name}, cut at {at}"), &found, wanted, None);
        }
    }
    bench.finish("transports");
}
