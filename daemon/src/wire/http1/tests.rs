//! Requests composed after RFC 9112's grammar and after what clients are known to send.

use super::super::testing::{messages, messages_within, same_at_every_split, survives_truncation};
use super::super::{Connection, End, Limits, Message, Protocol};
use crate::stream::Chunk;

fn one(bytes: &[u8]) -> Message {
    let mut all = same_at_every_split(bytes);
    survives_truncation(bytes);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

fn pushed(chunks: &[Chunk<'_>]) -> Vec<Message> {
    let mut out = Vec::new();
    let mut connection = Connection::new(Limits::default());
    for chunk in chunks {
        connection.push(*chunk, &mut out);
    }
    out
}

#[test]
fn a_get_comes_out_with_host_target_and_fields_in_order() {
    let m =
        one(b"GET /sa?project=x HTTP/1.1\r\nHost: SA.API.intl.miui.com:443\r\nX-A: 1\r\nx-a:  2 \r\n\r\n");
    assert_eq!((m.protocol, m.method.as_str(), m.target.as_str()), (Protocol::Http1, "GET", "/sa?project=x"));
    assert_eq!(m.host.as_deref(), Some("sa.api.intl.miui.com"));
    assert_eq!(m.headers[1..], [("x-a".into(), b"1".to_vec()), ("x-a".into(), b"2".to_vec())]);
    assert_eq!((m.end, m.body_len), (End::Complete, 0));
}

#[test]
fn a_body_of_known_length() {
    let m = one(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!((m.body.as_slice(), m.body_len, m.end), (&b"hello"[..], 5, End::Complete));
    let m = one(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!((m.body.as_slice(), m.end), (&b"hello"[..], End::Complete));
}

#[test]
fn a_chunked_body_with_extensions_and_trailers() {
    let m =
        one(b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, Chunked\r\nContent-Length: 99\r\n\r\n\
          4;name=\"v\"\r\nWiki\r\n 6 ; x\r\npedia \r\n0000a\r\nin chunks.\r\n0;last\r\nX-Sum: 7\r\n\r\n");
    assert_eq!(m.body, b"Wikipedia in chunks.");
    assert_eq!(m.body_len, 20);
    assert_eq!(m.header("x-sum"), Some(&b"7"[..]));
    assert_eq!(m.end, End::Complete);
}

#[test]
fn pipelined_requests_stay_apart() {
    let all = same_at_every_split(
        b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\nxy\r\n\
          HEAD /3 HTTP/1.0\r\n\r\nDELETE /4 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let seen: Vec<_> = all.iter().map(|m| (m.method.as_str(), m.target.as_str(), m.end)).collect();
    let whole = End::Complete;
    assert_eq!(
        seen,
        [("GET", "/1", whole), ("POST", "/2", whole), ("HEAD", "/3", whole), ("DELETE", "/4", whole)]
    );
    assert_eq!(all[1].body, b"xy");
    assert_eq!(all[2].host, None);
}

#[test]
fn bare_line_feeds_folded_fields_and_odd_fields_are_read() {
    let m = one(b"\r\nGET  /a b HTTP/1.1 \nHost: a\nX-Long: one\n two\r\n\tthree\nno colon here\nBad Name: v\n: empty\n\n");
    assert_eq!(m.target, "/a b");
    assert_eq!(m.header("x-long"), Some(&b"one two three"[..]));
    assert_eq!(m.header("bad name"), Some(&b"v"[..]));
    assert_eq!(m.headers.len(), 3);
}

#[test]
fn absolute_form_names_the_host_and_gives_the_path() {
    let m = one(b"GET http://user:pw@Real.Example:8080/p?q=1 HTTP/1.1\r\nHost: other.example\r\n\r\n");
    assert_eq!((m.host.as_deref(), m.target.as_str()), (Some("real.example"), "/p?q=1"));
    let m = one(b"GET http://real.example?q HTTP/1.1\r\n\r\n");
    assert_eq!((m.host.as_deref(), m.target.as_str()), (Some("real.example"), "/?q"));
    let m = one(b"OPTIONS * HTTP/1.1\r\nHost: [2001:db8::2]:80\r\n\r\n");
    assert_eq!((m.host.as_deref(), m.target.as_str()), (Some("2001:db8::2"), "*"));
}

#[test]
fn bytes_in_a_target_that_are_no_text_are_encoded() {
    assert_eq!(one(b"GET /\xff\xe4 HTTP/1.1\r\nHost: a\r\n\r\n").target, "/%FF%E4");
}

#[test]
fn a_refused_expectation_is_followed_by_the_next_request() {
    let head = b"POST /up HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 8\r\n\r\n";
    let all = same_at_every_split(&[&head[..], b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
    assert_eq!((all[0].end, all[0].body_len), (End::Cut, 0));
    assert_eq!((all[1].target.as_str(), all[1].end), ("/x", End::Complete));

    let all = same_at_every_split(&[&head[..], b"GET /x y"].concat());
    assert_eq!((all.len(), all[0].body.as_slice()), (1, &b"GET /x y"[..]), "a body may look like a request");
    let m = one(&[&head[..], b"\x00\x01\x02\x03\n\n\n\n"].concat());
    assert_eq!((m.body.len(), m.end), (8, End::Complete));
    let m = one(
        b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    );
    assert_eq!(m.body, b"ab");
}

#[test]
fn after_connect_anything_may_follow() {
    let all = same_at_every_split(
        b"CONNECT in.example:80 HTTP/1.1\r\nHost: p\r\n\r\nGET /i HTTP/1.1\r\nHost: in.example\r\n\r\n",
    );
    assert_eq!((all[0].host.as_deref(), all[0].target.as_str()), (Some("in.example"), "in.example:80"));
    assert_eq!(all[1].target, "/i");
    let all = same_at_every_split(b"CONNECT in.example:9 HTTP/1.1\r\n\r\n\x01\x02binary");
    assert_eq!((all[1].protocol, all[1].body.as_slice()), (Protocol::Raw, &b"\x01\x02binary"[..]));
    assert_eq!(all[1].host.as_deref(), Some("in.example"));
}

#[test]
fn a_refused_upgrade_goes_on_with_requests() {
    let all = same_at_every_split(
        b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(all.iter().map(|m| m.target.as_str()).collect::<Vec<_>>(), ["/ws", "/2"]);
}

#[test]
fn what_cannot_be_framed_is_said_to_be_cut() {
    for length in ["5, 6", "-1", "x", "99999999999999999999"] {
        let sent = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nhello");
        let all = same_at_every_split(sent.as_bytes());
        assert_eq!((all[0].end, all[0].body_len), (End::Cut, 0), "{length}");
        assert_eq!((all[1].protocol, all[1].body.as_slice()), (Protocol::Raw, &b"hello"[..]), "{length}");
        assert_eq!(all[1].host.as_deref(), Some("a"));
    }
    let all =
        same_at_every_split(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\nzz\r\n");
    assert_eq!((all[0].body.as_slice(), all[0].end), (&b"abc"[..], End::Cut));
}

#[test]
fn a_gap_of_known_size_in_a_body_keeps_the_place() {
    let all = pushed(&[
        Chunk::Bytes(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123"),
        Chunk::Gap(3),
        Chunk::Bytes(b"789GET /b HTTP/1.1\r\nHost: h\r\n\r\n"),
    ]);
    assert_eq!((all[0].body.as_slice(), all[0].end), (&b"0123"[..], End::Cut));
    assert_eq!((all[1].protocol, all[1].body.as_slice(), all[1].end), (Protocol::Raw, &b"789"[..], End::Cut));
    assert_eq!((all[2].target.as_str(), all[2].end), ("/b", End::Complete));

    let all = pushed(&[
        Chunk::Bytes(
            b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n8\r\n01",
        ),
        Chunk::Gap(6),
        Chunk::Bytes(b"\r\n2\r\nxy\r\n0\r\n\r\nGET /b HTTP/1.1\r\n\r\n"),
    ]);
    assert_eq!(all.len(), 2, "the tail of a compressed body says nothing: {all:#?}");
    assert_eq!(all[1].target, "/b");
}

#[test]
fn after_a_gap_of_unknown_size_the_next_request_line_is_found() {
    let all = pushed(&[
        Chunk::Bytes(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123"),
        Chunk::Gap(0),
        Chunk::Bytes(b"imei=1 tailPOST /b?u=GET"),
        Chunk::Bytes(b" HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nz"),
    ]);
    let seen: Vec<_> = all.iter().map(|m| (m.target.as_str(), m.body.as_slice(), m.end)).collect();
    assert_eq!(
        seen,
        [("/a", &b"0123"[..], End::Cut), ("", b"imei=1 tail", End::Cut), ("/b?u=GET", b"z", End::Complete)]
    );
    assert_eq!(all[1].host.as_deref(), Some("h"));
}

#[test]
fn a_connection_joined_in_the_middle_finds_its_first_request() {
    let all = same_at_every_split(b"\"tail\":1}GET /b HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(all[0].body, b"\"tail\":1}");
    assert_eq!(all[1].target, "/b");
}

#[test]
fn other_protocols_are_raw_and_complete_at_a_flush() {
    for sent in [&b"\x10\x25\x00\x04MQTT"[..], b"{\"imei\":1}", b"EHLO phone", b"HELLO there\r\nMORE\r\n"] {
        let mut out = Vec::new();
        let mut connection = Connection::new(Limits::default());
        connection.push(Chunk::Bytes(sent), &mut out);
        connection.flush(&mut out);
        assert_eq!(out.iter().flat_map(|m| m.body.clone()).collect::<Vec<_>>(), sent);
        assert!(out.iter().all(|m| m.protocol == Protocol::Raw));
        assert!(!connection.pending());
    }
    let mut out = Vec::new();
    let mut connection = Connection::new(Limits::default());
    connection.push(Chunk::Bytes(b"GET /sl"), &mut out);
    connection.flush(&mut out);
    assert!(out.is_empty() && connection.pending(), "a request in pieces is waited for");
    connection.push(Chunk::Bytes(b"ow HTTP/1.1\r\n\r\n"), &mut out);
    assert_eq!(out[0].target, "/slow");
}

#[test]
fn memory_stays_within_the_limits() {
    let limits = Limits { head: 100, fields: 3, body: 4, held: 100, streams: 1, raw: 16 };
    let big = format!(
        "POST /{} HTTP/1.1\r\nHost: a\r\nX: {}\r\nContent-Length: 6\r\n\r\nabcdef",
        "p".repeat(20),
        "v".repeat(300)
    );
    let all = messages_within(limits, &[big.as_bytes(), b"GET /n HTTP/1.1\r\n\r\n"]);
    assert_eq!((all[0].body.as_slice(), all[0].body_len, all[0].end), (&b"abcd"[..], 6, End::Limit));
    assert_eq!(all[0].host.as_deref(), Some("a"));
    assert_eq!(all[1].target, "/n");

    let all = messages_within(
        limits,
        &[format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "p".repeat(900)).as_bytes()],
    );
    assert_eq!((all[0].target.len(), all[0].end), (96, End::Limit));
    let all = messages_within(limits, &[&[7; 50]]);
    assert_eq!(all.iter().map(|m| m.body.len()).sum::<usize>(), 50);

    let mut out = Vec::new();
    let mut connection = Connection::new(Limits::default());
    let junk = vec![b'A'; 1 << 16];
    for _ in 0..64 {
        connection.push(Chunk::Bytes(&junk), &mut out);
        assert!(connection.held() <= 200 << 10, "{}", connection.held());
        out.clear();
    }
}

#[test]
fn a_truncated_request_is_cut() {
    let all = messages(&[b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc"]);
    assert_eq!((all[0].body.as_slice(), all[0].end), (&b"abc"[..], End::Cut));
    let all = messages(&[b"GET /a HTTP/1.1\r\nHost: h\r\nX-Ha"]);
    assert_eq!((all[0].host.as_deref(), all[0].end), (Some("h"), End::Cut));
}

#[test]
fn a_request_line_with_control_bytes_is_raw_and_ends() {
    let all = messages(&[b"POST / HTTP/1.1\r\n\r\nGET /\x01 HTTP/1.1\r\n\r\n"]);
    assert_eq!((all.len(), all[1].protocol), (2, Protocol::Raw));
}

#[test]
fn tls_in_a_tunnel_is_no_message() {
    let hello =
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03noise that only looks like bytes of a handshake";
    let sent = [b"CONNECT in.example:443 HTTP/1.1\r\nHost: in.example:443\r\n\r\n", &hello[..], &[0x17; 300]]
        .concat();
    let all = same_at_every_split(&sent);
    assert_eq!(all.iter().map(|m| m.method.as_str()).collect::<Vec<_>>(), ["CONNECT"]);
    assert!(same_at_every_split(hello).is_empty());
}
