//! Frames from RFC 6455 section 5.7 and RFC 7692 section 7.2.3, masked as a client must.

use super::super::testing::{hex, messages, messages_within, same_at_every_split, survives_truncation};
use super::super::{Connection, End, Limits, Message, Protocol, Speaks};
use crate::stream::Chunk;

const UPGRADE: &[u8] =
    b"GET /chat?t=1 HTTP/1.1\r\nHost: ws.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut out = vec![first];
    match payload.len() {
        n @ 0..=125 => out.push(0x80 | n as u8),
        n @ 126..=65535 => out.extend([&[0xfe][..], &(n as u16).to_be_bytes()].concat()),
        n => out.extend([&[0xff][..], &(n as u64).to_be_bytes()].concat()),
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    out
}

fn after_upgrade(frames: &[Vec<u8>]) -> Vec<u8> {
    [UPGRADE.to_vec(), frames.concat()].concat()
}

fn bodies(messages: &[Message]) -> Vec<&[u8]> {
    messages[1..].iter().map(|m| m.body.as_slice()).collect()
}

#[test]
fn the_masked_hello_of_rfc_6455() {
    let sent = after_upgrade(&[hex("818537fa213d7f9f4d5158")]);
    let all = same_at_every_split(&sent);
    survives_truncation(&sent);
    let m = &all[1];
    assert_eq!((m.protocol, m.body.as_slice(), m.end), (Protocol::WebSocket, &b"Hello"[..], End::Complete));
    assert_eq!((m.host.as_deref(), m.target.as_str()), (Some("ws.example"), "/chat?t=1"));
}

#[test]
fn fragments_with_control_frames_between() {
    let sent = after_upgrade(&[
        frame(0x01, b"Hel"),
        frame(0x89, b"ping"),
        frame(0x00, b""),
        frame(0x80, b"lo"),
        frame(0x82, &[0xab; 300]),
        frame(0x88, b"\x03\xe8bye"),
    ]);
    let all = same_at_every_split(&sent);
    survives_truncation(&sent);
    assert_eq!(bodies(&all), [&b"Hello"[..], &[0xab; 300]]);
}

#[test]
fn compressed_messages_with_context_takeover_also_in_fragments() {
    let sent = after_upgrade(&[
        frame(0xc1, &hex("f248cdc9c90700")),
        frame(0x41, &hex("f20011")),
        frame(0x80, &hex("0000")),
        frame(0x81, b"plain"),
    ]);
    let all = same_at_every_split(&sent);
    survives_truncation(&sent);
    assert_eq!(bodies(&all), [&b"Hello"[..], b"Hello", b"plain"]);
    assert!(all.iter().all(|m| m.end == End::Complete));
}

#[test]
fn a_gap_cuts_one_message_and_what_refers_to_it() {
    let run = |chunks: &[Chunk<'_>]| {
        let (mut connection, mut out) = (Connection::new(Limits::default()), Vec::new());
        connection.push(Chunk::Bytes(UPGRADE), &mut out);
        for chunk in chunks {
            connection.push(*chunk, &mut out);
        }
        connection.push(Chunk::End, &mut out);
        out
    };
    let text = frame(0x81, b"0123456789");
    let (hello, again) = (frame(0xc1, &hex("f248cdc9c90700")), frame(0xc1, &hex("f200110000")));
    // In a payload, of known size: the place stays known.
    let all = run(&[Chunk::Bytes(&text[..9]), Chunk::Gap(3), Chunk::Bytes(&text[12..]), Chunk::Bytes(&text)]);
    assert_eq!(bodies(&all), [&b"012"[..], b"6789", b"0123456789"]);
    assert_eq!((all[1].end, all[2].end, all[3].end), (End::Cut, End::Cut, End::Complete));
    // Of unknown size: the next write that begins with a frame is taken, and no context is made up.
    let all = run(&[
        Chunk::Bytes(&hello),
        Chunk::Bytes(&text[..9]),
        Chunk::Gap(0),
        Chunk::Bytes(b"?no frame"),
        Chunk::Bytes(&again),
        Chunk::Bytes(&hello),
        Chunk::Bytes(&again),
    ]);
    assert_eq!(bodies(&all), [&b"Hello"[..], b"012", b"H", b"Hello", b"Hello"]);
    assert_eq!(all[3].end, End::Cut, "the rest refers to what is not known any more");
}

#[test]
fn what_is_no_websocket_after_the_upgrade_is_raw() {
    let all = messages(&[UPGRADE, b"\x7fother protocol"]);
    assert_eq!((all[1].protocol, all[1].body.as_slice()), (Protocol::Raw, &b"\x7fother protocol"[..]));
}

#[test]
fn long_messages_and_bombs_are_bounded() {
    let limits = Limits { body: 1000, ..Limits::default() };
    let bomb = miniz_oxide::deflate::compress_to_vec(&vec![b'a'; 1 << 20], 9);
    let sent = after_upgrade(&[frame(0x82, &[7; 70_000]), frame(0xc2, &bomb), frame(0x81, b"next")]);
    let all = messages_within(limits, &[&sent]);
    assert_eq!((all[1].body.len(), all[1].body_len, all[1].end), (1000, 70_000, End::Limit));
    assert_eq!((all[2].body.len(), all[2].body_len, all[2].end), (1000, 1 << 20, End::Limit));
    assert_eq!(all[3].body, b"next");

    let (mut connection, mut out) = (Connection::new(limits), Vec::new());
    connection.push(Chunk::Bytes(UPGRADE), &mut out);
    for _ in 0..100 {
        connection.push(Chunk::Bytes(&frame(0x02, &[7; 70_000])), &mut out);
        assert!(connection.held() < 100 << 10);
    }
    assert_eq!(connection.speaks(), Speaks::WebSocket);
}
