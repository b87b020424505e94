//! The ledger's promises: the parts are the whole, in whatever order things become known, within bounds.

use super::{ledger::Limits, *};
use crate::record::{Body, ConnectionId, Ended, Event, Piece};
use telltale_abi::socket;

const SSL: ConnectionId = ConnectionId { tgid: 10, object: 0x1000, born: 5 };

fn socket(fd: u64) -> ConnectionId {
    ConnectionId { tgid: 10, object: socket::MARK | u64::from(socket::STREAM) << 32 | fd, born: 7 }
}

fn event(connection: ConnectionId, body: Body) -> Event {
    Event { connection, sequence: 0, ktime: 1, attempt: 1, tid: 10, uid: 10_123, body }
}

/// A send of which `bytes` were taken.
fn sent(connection: ConnectionId, start: u64, total: u64, bytes: &[u8]) -> Event {
    let piece = Piece { start, total, offset: 0, last: true, bytes: bytes.to_vec() };
    event(
        connection,
        if connection.socket().is_some() { Body::SocketSend(piece) } else { Body::TlsWrite(piece) },
    )
}

fn ended(connection: ConnectionId, sent: u64, skipped: u64) -> Event {
    let ended = Ended { sent, skipped };
    event(
        connection,
        if connection.socket().is_some() { Body::SocketClose(ended) } else { Body::TlsFree(ended) },
    )
}

fn owner(host: &str) -> Owner<'static> {
    Owner {
        app: "org.example",
        uid: 10_123,
        host: Some(host.to_owned()),
        address: None,
        is_other_users: false,
        stays: false,
    }
}

/// A time after every socket's birth.
const LATE: u64 = 100;

/// Ends a connection, and lets the passes go by after which that is final.
fn end(ledger: &mut Ledger, id: ConnectionId) {
    ledger.end(id);
    (0..3).for_each(|_| ledger.end_pass());
}

const HELLO: &[u8] = &[22, 3, 1, 0, 5, 1, 2, 3, 4, 5];

fn only(view: &View) -> (Parts, Vec<(String, Parts)>) {
    let [app] = &view.apps[..] else { panic!("{view:?}") };
    assert_eq!(app.parts, view.total);
    (app.parts, app.destinations.clone())
}

fn parts(read: u64, tls_overhead: u64, unread: &[(Reason, u64)]) -> Parts {
    let mut parts = Parts::read(read);
    parts.tls_overhead = tls_overhead;
    for (reason, bytes) in unread {
        parts.add_unread(*reason, *bytes);
    }
    parts
}

#[test]
fn clear_bytes_are_read_left_out_or_lost() {
    let mut ledger = Ledger::new(Limits::default());
    let id = socket(4);
    ledger.take(&sent(id, 0, 5, b"hello"));
    ledger.describe(id, owner("a.example"));
    // 10 bytes of this send were beyond what is taken of one; 7 could not be read; the send at 25 never came.
    ledger.take(&sent(id, 5, 13, b"abc"));
    ledger.take(&sent(id, 18, 7, b""));
    ledger.take(&sent(id, 125, 2, b"xy"));
    ledger.take(&ended(id, 1000, 800));
    let expected = parts(10, 0, &[(Reason::Budget, 810), (Reason::NoMemoryRead, 7), (Reason::Lost, 173)]);
    assert_eq!(only(&ledger.view()).0, expected);
    assert_eq!(expected.whole(), 1000);
    ledger.end(id);
    assert_eq!(only(&ledger.view()).1, [("a.example".to_owned(), expected)]);
}

#[test]
fn a_piece_that_could_not_be_read_ends_where_the_next_begins() {
    let mut ledger = Ledger::new(Limits::default());
    let piece = |offset, last, bytes: &[u8]| {
        event(socket(4), Body::SocketSend(Piece { start: 0, total: 30, offset, last, bytes: bytes.to_vec() }))
    };
    for event in [piece(0, false, b"0123456789"), piece(10, false, b""), piece(18, true, b"0123456789ab")] {
        ledger.take(&event);
    }
    ledger.describe(socket(4), owner("a.example"));
    assert_eq!(only(&ledger.view()).0, parts(22, 0, &[(Reason::NoMemoryRead, 8)]));
}

#[test]
fn what_went_before_the_answer_came_is_told_apart_from_the_budget() {
    let mut ledger = Ledger::new(Limits::default());
    let id = socket(4);
    ledger.take(&event(id, Body::SocketUnknown));
    ledger.describe(id, owner("a.example"));
    ledger.counted(id, Ended { sent: 50, skipped: 50 });
    assert_eq!(only(&ledger.view()).0, parts(0, 0, &[(Reason::JoinedLate, 50)]));
    ledger.take(&sent(id, 60, 4, b"read"));
    ledger.counted(id, Ended { sent: 94, skipped: 90 });
    // An older count changes nothing.
    ledger.counted(id, Ended { sent: 50, skipped: 50 });
    let expected = parts(4, 0, &[(Reason::JoinedLate, 60), (Reason::Budget, 30)]);
    assert_eq!(only(&ledger.view()).0, expected);
}

#[test]
fn encrypted_sockets_say_why_they_are_not_read() {
    let of = |carrier: u32, bytes: &[u8]| {
        let mut ledger = Ledger::new(Limits::default());
        let id = ConnectionId { object: socket::MARK | u64::from(carrier) << 32 | 4, ..socket(4) };
        ledger.take(&event(id, Body::SocketPeer(Some("192.0.2.1:443".parse().unwrap()))));
        ledger.take(&sent(id, 0, 10, bytes));
        ledger.take(&ended(id, 400, 390));
        ledger.describe(id, owner("a.example"));
        ledger.end(id);
        let reasons = only(&ledger.view()).0.reasons();
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        reasons[0]
    };
    assert_eq!(of(socket::STREAM, HELLO), (Reason::TlsNotHooked, 400));
    assert_eq!(of(socket::STREAM | socket::BY_32_BIT, HELLO), (Reason::Tls32Bit, 400));
    assert_eq!(of(socket::DATAGRAM, &[0x4f; 10]), (Reason::Quic, 400));
}

/// A TLS connection on a socket, told in every order of who ends first and when the link is found.
#[test]
fn hooked_tls_adds_up_to_what_the_socket_sent() {
    let expected = parts(6, 60, &[(Reason::Budget, 30), (Reason::Lost, 4)]);
    for order in 0..4 {
        let mut ledger = Ledger::new(Limits::default());
        let id = socket(4);
        ledger.take(&sent(id, 0, 10, HELLO));
        ledger.take(&sent(SSL, 0, 6, b"secret"));
        ledger.describe(SSL, owner("a.example"));
        // Its address is known, and half of the time a name that was only guessed.
        let (host, address) = ((order < 2).then(|| "guess.example".to_owned()), Some("192.0.2.1".to_owned()));
        ledger.describe(id, Owner { host, address, ..owner("") });
        ledger.carried_by(SSL, 4, LATE);
        // Told again, as it is with every write.
        ledger.carried_by(SSL, 4, LATE);
        ledger.counted(id, Ended { sent: 100, skipped: 90 });
        ledger.counted(SSL, Ended { sent: 40, skipped: 30 });
        let named = (expected, vec![("a.example".into(), expected)]);
        assert_eq!(only(&ledger.view()), named, "{order}");
        let (first, second) = if order % 2 == 0 { (SSL, id) } else { (id, SSL) };
        for ended in [first, second] {
            end(&mut ledger, ended);
            assert_eq!(only(&ledger.view()), named, "{order}");
        }
    }
}

#[test]
fn a_write_that_is_read_after_its_sockets_end_still_belongs_to_it() {
    let mut ledger = Ledger::new(Limits::default());
    // The number was used again before the write came up.
    let again = ConnectionId { born: 20, ..socket(4) };
    for id in [socket(4), again] {
        ledger.take(&sent(id, 0, 10, HELLO));
        ledger.take(&ended(id, 100, 90));
        ledger.describe(id, Owner { host: None, address: Some("192.0.2.1".to_owned()), ..owner("") });
    }
    ledger.end(socket(4));
    ledger.end_pass();
    ledger.take(&sent(SSL, 0, 6, b"secret"));
    ledger.describe(SSL, owner("a.example"));
    ledger.carried_by(SSL, 4, 19);
    for id in [SSL, again] {
        end(&mut ledger, id);
    }
    let read = ("a.example".to_owned(), parts(6, 94, &[]));
    let not_read = ("192.0.2.1".to_owned(), parts(0, 0, &[(Reason::TlsNotHooked, 100)]));
    assert_eq!(only(&ledger.view()).1, [not_read, read]);
    // Before the first of them was born there was none.
    let early = ConnectionId { born: 6, ..SSL };
    ledger.take(&sent(socket(4), 0, 10, HELLO));
    ledger.carried_by(early, 4, 6);
    ledger.end(socket(4));
    assert_eq!(ledger.view().total.whole(), 210);
}

#[test]
fn several_tls_connections_may_follow_each_other_on_one_socket() {
    let mut ledger = Ledger::new(Limits::default());
    ledger.take(&sent(socket(4), 0, 10, HELLO));
    ledger.describe(socket(4), owner("a.example"));
    for turn in 0..3 {
        let ssl = ConnectionId { born: turn, ..SSL };
        ledger.take(&sent(ssl, 0, 6, b"secret"));
        ledger.describe(ssl, owner("a.example"));
        ledger.carried_by(ssl, 4, LATE);
        ledger.end(ssl);
    }
    ledger.take(&ended(socket(4), 300, 290));
    ledger.end(socket(4));
    assert_eq!(only(&ledger.view()).0, parts(18, 282, &[]));
}

#[test]
fn one_tls_object_may_go_from_socket_to_socket() {
    for first_ends in [true, false] {
        let mut ledger = Ledger::new(Limits::default());
        for fd in [4, 5] {
            ledger.take(&sent(socket(fd), 0, 10, HELLO));
            ledger.describe(socket(fd), owner("a.example"));
            ledger.counted(socket(fd), Ended { sent: 100, skipped: 90 });
        }
        ledger.take(&sent(SSL, 0, 6, b"secret"));
        ledger.describe(SSL, owner("a.example"));
        ledger.carried_by(SSL, 4, LATE);
        if first_ends {
            end(&mut ledger, socket(4));
        }
        ledger.carried_by(SSL, 5, LATE);
        ledger.take(&sent(SSL, 6, 7, b"another"));
        let expected = parts(13, 187, &[]);
        assert_eq!(ledger.view().total, expected, "{first_ends}");
        for id in [SSL, socket(5), socket(4)] {
            end(&mut ledger, id);
            assert_eq!(ledger.view().total, expected, "{first_ends}");
        }
    }
}

#[test]
fn tls_without_a_known_socket_is_set_against_what_is_not_hooked() {
    let mut ledger = Ledger::new(Limits::default());
    ledger.take(&sent(socket(4), 0, 10, HELLO));
    ledger.describe(socket(4), owner("a.example"));
    ledger.take(&ended(socket(4), 100, 90));
    end(&mut ledger, socket(4));
    ledger.take(&sent(SSL, 0, 6, b"secret"));
    ledger.describe(SSL, owner("a.example"));
    let expected = parts(6, 0, &[(Reason::TlsNotHooked, 94)]);
    assert_eq!(only(&ledger.view()).0, expected);
    ledger.end(SSL);
    assert_eq!(only(&ledger.view()).0, expected);
    // Where sends are not watched there is nothing to set it against.
    let mut alone = Ledger::new(Limits::default());
    alone.take(&sent(SSL, 0, 6, b"secret"));
    alone.describe(SSL, owner("a.example"));
    assert_eq!(only(&alone.view()).0, parts(6, 0, &[]));
}

#[test]
fn what_stays_is_no_egress_and_what_is_sealed_or_anothers_is_not_read() {
    let mut ledger = Ledger::new(Limits::default());
    ledger.take(&sent(socket(4), 0, 5, b"local"));
    ledger.describe(socket(4), Owner { stays: true, ..owner("127.0.0.1") });
    ledger.take(&sent(socket(5), 0, 5, b"local"));
    ledger.describe(socket(5), owner("10.0.0.1"));
    ledger.stays(socket(5));
    assert_eq!(ledger.view(), View::default());
    ledger.take(&sent(socket(6), 0, 9, b"noise+key"));
    ledger.describe(socket(6), owner("a.example"));
    ledger.end(socket(6));
    ledger.sealed("org.example", 10_123, "a.example", 5);
    ledger.take(&sent(socket(7), 0, 3, b"his"));
    ledger.describe(socket(7), Owner { is_other_users: true, ..owner("b.example") });
    let expected = parts(4, 0, &[(Reason::EncryptedInside, 5), (Reason::OtherUser, 3)]);
    assert_eq!(only(&ledger.view()).0, expected);
    for id in [socket(4), socket(5), socket(7)] {
        end(&mut ledger, id);
    }
    assert_eq!(only(&ledger.view()).0, expected);
    assert!(ledger.connections().is_empty());
}

#[test]
fn what_was_given_up_and_comes_back_is_counted_once() {
    let mut ledger = Ledger::new(Limits::default());
    ledger.take(&sent(socket(4), 0, 5, b"first"));
    ledger.counted(socket(4), Ended { sent: 25, skipped: 20 });
    ledger.describe(socket(4), owner("a.example"));
    end(&mut ledger, socket(4));
    ledger.take(&sent(socket(4), 25, 6, b"second"));
    ledger.take(&ended(socket(4), 40, 29));
    ledger.describe(socket(4), owner("a.example"));
    ledger.end(socket(4));
    assert_eq!(only(&ledger.view()).0, parts(11, 0, &[(Reason::Budget, 29)]));
}

#[test]
fn nothing_grows_beyond_its_limit_and_no_byte_goes_missing() {
    let limits = Limits { connections: 5, destinations: 8, apps: 3 };
    let mut ledger = Ledger::new(limits);
    for number in 0..200u64 {
        let id = ConnectionId { born: number, ..socket(number) };
        ledger.take(&sent(id, 0, 3, b"abc"));
        let app = format!("app{}", number % 20);
        ledger.describe(id, Owner { app: &app, ..owner(&format!("{number}.example")) });
        assert!(ledger.connections().len() <= 5);
    }
    let view = ledger.view();
    assert_eq!(view.total, parts(600, 0, &[]));
    for id in ledger.connections() {
        end(&mut ledger, id);
    }
    assert!(ledger.connections().is_empty());
    let view = ledger.view();
    assert_eq!(view.total, parts(600, 0, &[]));
    assert!(view.apps.len() <= 4, "{view:?}");
    let destinations: usize = view.apps.iter().map(|app| app.destinations.len()).sum();
    assert!(destinations <= 8 + 4, "{destinations}");
}

#[test]
fn the_hourly_line_names_the_worst_of_the_hour_and_is_silent_about_nothing() {
    let mut ledger = Ledger::new(Limits::default());
    let mut hourly = Hourly::new(0);
    let send = |ledger: &mut Ledger, fd: u64, app: &str, bytes: u64| {
        ledger.take(&sent(socket(fd), 0, 10, HELLO));
        ledger.counted(socket(fd), Ended { sent: bytes, skipped: bytes });
        ledger.describe(socket(fd), Owner { app, ..owner("a.example") });
        ledger.end(socket(fd));
    };
    assert!(!hourly.is_due(3_599_999) && hourly.is_due(3_600_000));
    assert_eq!(hourly.line(3_600_000, &ledger.view()), None);
    send(&mut ledger, 4, "browser", 2_000_000);
    send(&mut ledger, 5, "game", 5_000);
    ledger.take(&sent(socket(6), 0, 5, b"clear"));
    ledger.describe(socket(6), owner("b.example"));
    let said = hourly.line(7_200_000, &ledger.view()).unwrap();
    assert_eq!(
        said,
        "in 60 min apps sent 2.0 MB, of which 2.0 MB could not be read (100 %); most of it: browser 2.0 MB of 2.0 MB \
         (tls-not-hooked), game 5.0 kB of 5.0 kB (tls-not-hooked)"
    );
    // Only what is new.
    send(&mut ledger, 7, "game", 1_000);
    let said = hourly.line(10_800_000, &ledger.view()).unwrap();
    assert!(said.contains("most of it: game 1.0 kB of 1.0 kB") && !said.contains("browser"), "{said}");
    assert_eq!(hourly.line(14_400_000, &ledger.view()), None);
}
