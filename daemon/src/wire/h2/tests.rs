//! Connections composed frame by frame after RFC 9113; header blocks from RFC 7541 appendix C.

use super::super::testing::{hex, messages_within, same_at_every_split, survives_truncation};
use super::super::{Connection, End, Limits, Message, Protocol, Speaks};
use super::*;
use crate::stream::Chunk;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn settings() -> Vec<u8> {
    frame(4, 0, 0, &[0, 1, 0, 0, 0x10, 0, 0, 4, 0, 1, 0, 0])
}

fn literal(name: &str, value: &str) -> Vec<u8> {
    [&[0x00, name.len() as u8][..], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

/// `:method` POST (static), `:path` and `:authority` inserted into the table.
fn post_block(path: &str, host: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x83, 0x87, 0x44, path.len() as u8];
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(&[0x41, host.len() as u8]);
    block.extend_from_slice(host.as_bytes());
    for (name, value) in more {
        block.extend(literal(name, value));
    }
    block
}

fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
    [PREFACE.to_vec(), settings(), frames.concat()].concat()
}

fn summary(messages: &[Message]) -> Vec<(String, String, End)> {
    let text = |m: &Message| String::from_utf8_lossy(&m.body).into_owned();
    messages.iter().map(|m| (m.target.clone(), text(m), m.end)).collect()
}

fn row(target: &str, body: &str, end: End) -> (String, String, End) {
    (target.to_owned(), body.to_owned(), end)
}

#[test]
fn the_first_request_of_appendix_c4() {
    let sent = connection(&[frame(1, 5, 1, &hex("828684418cf1e3c2e5f23a6ba0ab90f4ff"))]);
    let all = same_at_every_split(&sent);
    survives_truncation(&sent);
    assert_eq!(all.len(), 1);
    let m = &all[0];
    assert_eq!((m.protocol, m.method.as_str(), m.target.as_str()), (Protocol::H2, "GET", "/"));
    assert_eq!(m.host.as_deref(), Some("www.example.com"));
    assert_eq!(m.headers, [(":scheme".to_owned(), b"http".to_vec())]);
    assert_eq!(m.end, End::Complete);
}

#[test]
fn interleaved_streams_with_padding_priority_continuation_and_trailers() {
    let block = post_block("/a", "A.example:443", &[("cookie", "x=1"), ("cookie", "y=2")]);
    let (first, second) = block.split_at(7);
    let prioritised = [&[3, 0, 0, 0, 0, 15][..], first, &[0, 0, 0]].concat();
    let sent = connection(&[
        frame(1, 0x28, 1, &prioritised),
        frame(9, 0x4, 1, second),
        frame(0, 0, 1, b"one,"),
        // The second request takes path and host from the table.
        frame(1, 0x4, 3, &[0x83, 0x87, 0xbf, 0xbe]),
        frame(8, 0, 0, &[0, 0, 0x7f, 0xff]),
        frame(0, 0x8, 3, b"\x02threePP"),
        frame(0xfa, 0x55, 7, b"grease"),
        frame(0, 0, 1, b"two"),
        frame(0, 0x1, 3, b""),
        frame(1, 0x5, 1, &literal("x-sum", "9")),
    ]);
    let all = same_at_every_split(&sent);
    survives_truncation(&sent);
    assert_eq!(summary(&all), [row("/a", "three", End::Complete), row("/a", "one,two", End::Complete)]);
    assert_eq!(all[1].header("cookie"), Some(&b"x=1; y=2"[..]));
    assert_eq!(all[1].header("x-sum"), Some(&b"9"[..]));
    assert!(all.iter().all(|m| m.host.as_deref() == Some("a.example")));
}

#[test]
fn a_reset_stream_and_the_end_cut_what_is_open() {
    let sent = connection(&[
        frame(1, 0x4, 1, &post_block("/a", "h", &[])),
        frame(0, 0, 1, b"part"),
        frame(3, 0, 1, &[0, 0, 0, 8]),
        frame(1, 0x4, 3, &post_block("/b", "h", &[])),
        frame(0, 0, 3, b"half"),
        frame(7, 0, 0, &[0; 8]),
    ]);
    let all = same_at_every_split(&sent);
    assert_eq!(summary(&all), [row("/a", "part", End::Cut), row("/b", "half", End::Cut)]);
}

#[test]
fn joined_late_unknown_fields_are_marked_and_new_ones_known() {
    let frames = [
        frame(8, 0, 0, &[0, 0, 1, 0]),
        frame(1, 0x4, 7, &[0x83, 0xc0, 0x44, 2, b'/', b'n', 0xbf]),
        frame(0, 0x1, 7, b"body"),
        frame(1, 0x5, 9, &[0x82, 0xbe]),
    ]
    .concat();
    let all = same_at_every_split(&frames);
    assert_eq!(summary(&all), [row("/n", "body", End::Complete), row("/n", "", End::Complete)]);
    assert_eq!(all[0].headers, [(UNKNOWN_FIELD.to_owned(), vec![]), (UNKNOWN_FIELD.to_owned(), vec![])]);
    assert_eq!(all[0].host, None);
}

#[test]
fn joined_inside_a_frame_the_next_boundary_is_found() {
    let tail = b"rest of some body \x00\x00\x01 with zeros\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let frames = [
        frame(0, 1, 5, b"other end"),
        frame(1, 0x4, 7, &post_block("/n", "h", &[])),
        frame(0, 0x1, 7, b"body"),
    ]
    .concat();
    let (mut h2, mut out) = (H2::new(Limits::default(), true), Vec::new());
    h2.gap(0, &mut out);
    let sent = [&tail[..], &frames].concat();
    for byte in &sent {
        drive(&[*byte], |piece| h2.push(piece, &mut out));
    }
    let bodies: Vec<_> = out.iter().map(|m| m.body.as_slice()).collect();
    assert_eq!(bodies, [&tail[..], b"other end", b"body"]);
    assert_eq!(out[2].host.as_deref(), Some("h"));
}

#[test]
fn a_gap_of_known_size_keeps_the_place_and_an_unknown_one_finds_it_again() {
    let head = connection(&[frame(1, 0x4, 1, &post_block("/a", "h", &[]))]);
    let data = frame(0, 0x1, 1, b"0123456789");
    let next = frame(1, 0x5, 3, &[0x82, 0xbf, 0xbe]);
    let run = |lost: u64, data: &[u8]| {
        let (mut connection, mut out) = (Connection::new(Limits::default()), Vec::new());
        connection.push(Chunk::Bytes(&head), &mut out);
        connection.push(Chunk::Bytes(&data[..13]), &mut out);
        connection.push(Chunk::Gap(lost), &mut out);
        connection.push(Chunk::Bytes(&data[16..]), &mut out);
        connection.push(Chunk::Bytes(&next), &mut out);
        connection.flush(&mut out);
        out
    };
    let known = run(3, &data);
    assert_eq!(
        summary(&known),
        [row("/a", "0123", End::Cut), row("", "789", End::Cut), row("/a", "", End::Complete)]
    );
    assert_eq!((known[1].protocol, known[1].host.as_deref()), (Protocol::Raw, Some("h")));

    let unknown = run(0, &data);
    assert_eq!(unknown[0].body, b"0123");
    let last = &unknown[2];
    assert_eq!((last.method.as_str(), last.target.as_str(), last.host.as_deref()), ("GET", "", None));
}

#[test]
fn lost_header_blocks_make_old_indices_unknown_never_wrong() {
    let block = frame(1, 0x5, 1, &post_block("/a", "one.example", &[]));
    let second = frame(1, 0x5, 3, &post_block("/b", "two.example", &[]));
    let third = frame(1, 0x5, 5, &[0x82, 0xbf, 0xbe]);
    for cut in 0..second.len() {
        for lost in [(second.len() - cut) as u64, 0] {
            let (mut connection, mut out) = (Connection::new(Limits::default()), Vec::new());
            for chunk in [PREFACE, &settings(), &block, &second[..cut]] {
                connection.push(Chunk::Bytes(chunk), &mut out);
            }
            connection.push(Chunk::Gap(lost), &mut out);
            connection.push(Chunk::Bytes(&third), &mut out);
            connection.flush(&mut out);
            connection.push(Chunk::End, &mut out);
            let last = out.last().expect("the third request");
            assert_eq!((last.method.as_str(), last.end), ("GET", End::Complete), "cut {cut} lost {lost}");
            assert_eq!((last.target.as_str(), last.host.as_deref()), ("", None), "cut {cut} lost {lost}");
        }
    }
}

#[test]
fn grpc_messages_keep_path_and_fields() {
    let head = [("content-type", "application/grpc+proto"), ("grpc-encoding", "gzip"), ("te", "trailers")];
    let sent = connection(&[
        frame(1, 0x4, 1, &post_block("/pkg.Svc/Do", "g.example", &head)),
        frame(0, 0, 1, b"\x00\x00\x00\x00\x05he"),
        frame(0, 0, 1, b"llo\x01\x00\x00"),
        frame(0, 1, 1, b"\x00\x02zz"),
    ]);
    let all = same_at_every_split(&sent);
    survives_truncation(&sent);
    assert_eq!(
        summary(&all),
        [row("/pkg.Svc/Do", "hello", End::Complete), row("/pkg.Svc/Do", "zz", End::Complete)]
    );
    assert!(all.iter().all(|m| m.protocol == Protocol::Grpc && m.host.as_deref() == Some("g.example")));
    assert_eq!(all[0].header("te"), Some(&b"trailers"[..]));
    assert_eq!(all[1].header("grpc-encoding"), Some(&b"gzip"[..]));
    assert_eq!(all[1].header("grpc-compressed-flag"), Some(&b"1"[..]));
}

#[test]
fn an_upgraded_connection_is_followed() {
    let sent = [
        b"GET /old HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n".to_vec(),
        connection(&[frame(1, 0x5, 3, &post_block("/new", "h", &[]))]),
    ]
    .concat();
    let all = same_at_every_split(&sent);
    assert_eq!(summary(&all), [row("/old", "", End::Complete), row("/new", "", End::Complete)]);
}

#[test]
fn memory_stays_within_the_limits() {
    let limits = Limits { head: 400, fields: 20, body: 1000, held: 3000, streams: 4, raw: 100 };
    let big = "v".repeat(100);
    let fields: Vec<(&str, &str)> = (0..6).map(|_| ("name", big.as_str())).collect();
    let mut frames = vec![frame(1, 0x4, 1, &post_block("/a", "h", &fields))];
    for stream in 1..20 {
        frames.push(frame(1, 0x4, stream * 2 + 1, &post_block("/s", "h", &[])));
        frames.push(frame(0, 0, stream * 2 + 1, &[b'x'; 2000]));
    }
    let all = messages_within(limits, &[&connection(&frames)]);
    assert_eq!(all.len(), 20);
    assert_eq!(all[0].end, End::Limit);
    assert!(all.iter().all(|m| m.body.len() <= 1000));
    assert!(all[1..].iter().all(|m| m.body_len == 2000 && m.end != End::Complete));

    // One byte of an index stands for a large field each time: the block is read, but no more is kept than the limit.
    let mut block = [&[0x40, 1, b'n', 0x7f, 0x81, 0x1e][..], &[b'v'; 3968]].concat();
    block.extend(std::iter::repeat_n(0xbe, 16000));
    let all = messages_within(
        Limits::default(),
        &[&connection(&[frame(1, 1, 1, &block[..16000]), frame(9, 4, 1, &block[16000..])])],
    );
    let kept: usize = all[0].headers.iter().map(|(n, v)| n.len() + v.len()).sum();
    assert!(kept <= 64 << 10 && kept > 60 << 10 && all[0].end == End::Limit, "{kept}");

    let mut connection = Connection::new(limits);
    let mut out = Vec::new();
    connection.push(Chunk::Bytes(PREFACE), &mut out);
    let junk = vec![0xff; 1 << 16];
    for _ in 0..32 {
        connection.push(Chunk::Bytes(&junk), &mut out);
        assert!(connection.held() < 100 << 10);
        assert_eq!(connection.speaks(), Speaks::H2);
        out.clear();
    }
}
