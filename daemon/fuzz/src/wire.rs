//! The wire parsers' promises: no panic, the same result however the bytes are cut, memory within the limits.

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes_gcm::aead::AeadInOut;
use telltale::stream::Chunk;
use telltale::wire::{
    Connection, Limits, Message, Parsed, Protocol, client_hello, dns, dnsproxyd, form, multipart, quic,
};

/// Small, so that the fuzzer reaches every limit.
const LIMITS: Limits = Limits { head: 512, fields: 8, body: 256, held: 1024, streams: 4, raw: 128 };

const UPGRADE: &[u8] = b"GET /w HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The messages of a connection that sent these pieces.
fn messages(pieces: &[&[u8]]) -> Vec<Message> {
    let mut connection = Connection::new(LIMITS);
    let mut out = Vec::new();
    for piece in pieces {
        connection.push(Chunk::Bytes(piece), &mut out);
        bounded(&connection);
    }
    connection.push(Chunk::End, &mut out);
    for message in &out {
        fits(message);
    }
    out
}

fn bounded(connection: &Connection) {
    // Head, bodies, raw bytes; an inflater's buffer; two HTTP/2 frames in a search for a boundary, one HPACK table.
    assert!(connection.held() < 300 << 10, "holds {} bytes", connection.held());
}

fn fits(message: &Message) {
    assert!(message.body_len >= message.body.len() as u64);
    assert!(message.headers.len() <= LIMITS.fields + 1);
    match message.protocol {
        // What a search gives up is handed out as it is.
        Protocol::Raw => assert!(message.body.len() <= 64 << 10),
        _ => assert!(message.body.len() <= LIMITS.body),
    }
    if let Some(host) = &message.host {
        assert!(!host.is_empty() && host.len() <= 253 * 4 && !host.contains(' '));
    }
}

/// The same messages whole, in two pieces and byte by byte, after a beginning that chooses the protocol.
fn every_cut(beginning: &[u8], data: &[u8]) {
    let Some((&first, sent)) = data.split_first() else { return };
    let whole = messages(&[beginning, sent]);
    let (a, b) = sent.split_at(usize::from(first) * sent.len() / 256);
    assert_eq!(messages(&[beginning, a, b]), whole);
    if sent.len() <= 1024 {
        let mut single: Vec<&[u8]> = vec![beginning];
        single.extend(sent.chunks(1));
        assert_eq!(messages(&single), whole);
    }
}

/// HTTP/1, and whatever else a connection may begin with.
pub fn http1(data: &[u8]) {
    every_cut(b"", data);
}

/// HTTP/2 from the preface on.
pub fn h2(data: &[u8]) {
    every_cut(PREFACE, data);
}

/// WebSocket after its upgrade.
pub fn websocket(data: &[u8]) {
    every_cut(UPGRADE, data);
}

/// Any protocol with gaps, pauses and ends between the writes: the first byte of each piece says what it is.
pub fn connection(data: &[u8]) {
    let mut connection = Connection::new(LIMITS);
    let mut out = Vec::new();
    let mut rest = data;
    while let [kind, length, after @ ..] = rest {
        let (piece, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        match kind % 16 {
            0 => connection.push(Chunk::Gap(0), &mut out),
            1 => connection.push(Chunk::Gap(u64::from(*length)), &mut out),
            2 => connection.push(Chunk::Gap(u64::from(*length) << 32), &mut out),
            3 => connection.push(Chunk::End, &mut out),
            4 => connection.flush(&mut out),
            5 => connection.push(Chunk::Bytes(PREFACE), &mut out),
            6 => connection.push(Chunk::Bytes(UPGRADE), &mut out),
            _ => {}
        }
        connection.push(Chunk::Bytes(piece), &mut out);
        bounded(&connection);
        let _ = (connection.pending(), connection.speaks());
    }
    connection.push(Chunk::End, &mut out);
    out.iter().for_each(fits);
}

/// The ClientHello, in records and without them.
pub fn hello(data: &[u8]) {
    let _ = client_hello::from_handshake(data);
    let whole = client_hello::from_records(data);
    let mut collector = client_hello::Collector::new();
    let mut last = Parsed::NeedMore;
    for byte in data.chunks(1) {
        last = collector.push(byte);
        if last != Parsed::NeedMore {
            break;
        }
    }
    assert_eq!(last, whole);
    let mut collector = client_hello::Collector::new();
    if collector.push(data) == Parsed::NeedMore
        && let Some(hello) = collector.finish()
    {
        assert!(!hello.complete);
    }
}

/// QUIC: datagrams behind their lengths, as they are; then the same bytes as frames in sealed packets.
pub fn quic_initial(data: &[u8]) {
    let mut plain = quic::Collector::new();
    let mut sealed = quic::Collector::new();
    let mut rest = data;
    let mut number = 0u8;
    while let [a, b, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*a, *b]));
        let (datagram, after) = after.split_at(length.min(after.len()));
        rest = after;
        let _ = quic::looks_like_initial(datagram);
        let _ = plain.push(datagram);
        if datagram.len() <= 1200 {
            let packet = seal(number, datagram);
            assert!(quic::looks_like_initial(&packet));
            let answer = sealed.push(&packet);
            assert!(number >= 64 || answer != Parsed::Malformed || sealed.version().is_some());
        }
        number = number.wrapping_add(1);
    }
    let _ = (plain.finish(), sealed.finish());
}

/// A client's Initial packet of version 1 with these frames: the keys are those of RFC 9001 appendix A.1.
fn seal(number: u8, frames: &[u8]) -> Vec<u8> {
    const KEY: u128 = 0x1f369613dd76d5467730efcbe3b1a22d;
    const IV: [u8; 12] = [0xfa, 0x04, 0x4b, 0x2f, 0x42, 0xa3, 0xfd, 0x3b, 0x46, 0xfb, 0x25, 0x5c];
    const HEADER: u128 = 0x9f50449e04a0e810283a1e9933adedd2;
    let mut text = frames.to_vec();
    text.resize(frames.len().max(20), 0);
    let length = (0x4000 | (text.len() + 17) as u16).to_be_bytes();
    let id = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
    let mut packet = [&[0xc0, 0, 0, 0, 1, 8][..], &id, &[0, 0], &length, &[number]].concat();
    let mut nonce = IV;
    nonce[11] ^= number;
    let aead = aes_gcm::Aes128Gcm::new(&KEY.to_be_bytes().into());
    let tag = aead
        .encrypt_inout_detached(&nonce.into(), &packet, text.as_mut_slice().into())
        .expect("a packet is short");
    text.extend_from_slice(&tag);
    let mut sample = [0; 16];
    sample.copy_from_slice(&text[3..19]);
    let mut mask = sample.into();
    aes::Aes128::new(&HEADER.to_be_bytes().into()).encrypt_block(&mut mask);
    packet[0] ^= mask[0] & 0x0f;
    *packet.last_mut().expect("a header") ^= mask[1];
    packet.extend(text);
    packet
}

/// DNS as a datagram and as a TCP stream.
pub fn dns_query(data: &[u8]) {
    if let Parsed::Complete(questions) = dns::from_datagram(data) {
        assert!(!questions.is_empty());
        assert!(questions.iter().all(|q| q.name.len() <= 255 * 3));
    }
    let stream = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut collector = dns::Collector::new();
        let mut found = Vec::new();
        for piece in pieces {
            if let Parsed::Complete(questions) = collector.push(piece) {
                found.extend(questions);
            }
        }
        found
    };
    assert_eq!(stream(&mut data.chunks(1)), stream(&mut std::iter::once(data)));
}

/// netd's command socket.
pub fn dnsproxyd_commands(data: &[u8]) {
    let run = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut collector = dnsproxyd::Collector::new();
        let mut found = Vec::new();
        for piece in pieces {
            if let Parsed::Complete(lookups) = collector.push(piece) {
                found.extend(lookups);
            }
        }
        found
    };
    let whole = run(&mut std::iter::once(data));
    let single = run(&mut data.chunks(1));
    // One push gives a bounded number of look-ups.
    assert!(single.starts_with(&whole) && (whole.len() >= 64 || single == whole));
}

/// Forms and percent-encoding.
pub fn form_pairs(data: &[u8]) {
    for (name, value) in form::pairs(data) {
        assert!(form::decode(name).len() <= name.len() && form::percent_decode(value).len() <= value.len());
    }
}

/// Multipart bodies: the first line is the content type.
pub fn multipart_parts(data: &[u8]) {
    let line = data.iter().position(|&b| b == b'\n').unwrap_or(0);
    let (content_type, body) = data.split_at(line);
    let parts = multipart::parts(content_type, body);
    assert!(parts.len() <= multipart::PARTS_MAX);
    for part in parts {
        assert!(part.body.len() <= body.len());
        let _ = (part.name(), part.filename());
    }
}
