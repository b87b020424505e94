//! Which socket an `SSL*` writes to, on this machine's kernel: real BoringSSL and OpenSSL over TCP, with the descriptor told, with
//! the library writing itself, and with memory BIOs emptied by the same thread, by another, and late.
//!
//! Needs what `live_tls.rs` needs, and the `raw_syscalls` tracepoints; else the tests say `skipped: REASON`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
mod live;

use std::collections::BTreeMap;

use live::{Client, Library, session, ways};
use telltale::{
    kernel::{AttachPath, Session},
    record::{Body, ConnectionId, Ended, Event},
};

/// Bytes taken, and how it ended.
type Socket = (Vec<u8>, Option<Ended>);

/// What was told of a client's TLS connections and sockets.
#[derive(Debug, Default)]
struct Told {
    /// Descriptors by `SSL_set_fd`, by connection that has a host name.
    set: Vec<(String, i32)>,
    nested: Vec<(String, i32)>,
    /// Descriptor, growth of the first record over what was written.
    next: Vec<(String, i32, i64)>,
    /// By descriptor, in the order they were opened.
    sockets: BTreeMap<u32, Vec<Socket>>,
}

fn told(events: &[Event]) -> Told {
    let mut told = Told::default();
    let mut hosts: BTreeMap<ConnectionId, String> = BTreeMap::new();
    let mut sockets: BTreeMap<ConnectionId, Socket> = BTreeMap::new();
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by_key(|event| (event.connection, event.sequence));
    for event in &events {
        if let Body::TlsHost(name) = &event.body {
            hosts.insert(event.connection, name.clone());
        }
    }
    for event in events {
        let host = hosts.get(&event.connection).cloned();
        match (&event.body, host) {
            (Body::TlsFd { fd, .. }, Some(host)) => told.set.push((host, *fd)),
            (Body::TlsNested(fd), Some(host)) => told.nested.push((host, *fd)),
            (Body::TlsNext { fd, head, taken, sent }, Some(host)) => {
                let record = u16::from_be_bytes([head[3], head[4]]);
                assert!(*sent > u64::from(record));
                told.next.push((host, *fd, i64::from(record) - *taken as i64));
            }
            (Body::SocketSend(piece), _) => {
                sockets.entry(event.connection).or_default().0.extend(&piece.bytes);
            }
            (Body::SocketClose(ended), _) => {
                sockets.entry(event.connection).or_default().1 = Some(*ended);
            }
            _ => {}
        }
    }
    for (id, socket) in sockets {
        told.sockets.entry(id.socket().unwrap().fd).or_default().push(socket);
    }
    told
}

/// Runs the client with sends hooked as well; what was told, and the descriptor of each connection.
fn run(session: &mut Session, library: &Library, steps: &[&str]) -> (Told, Vec<i32>) {
    let mut client = Client::start(library, steps);
    let events = client.watch(session);
    let fds = client.said().lines().filter_map(|line| line.split("fd=").nth(1)?.parse().ok());
    (told(&events), fds.collect())
}

/// Each library, hooked with all sends.
fn sessions() -> Vec<(Session, Library)> {
    let mut all = Vec::new();
    for (way, library) in ways().into_iter().filter(|(way, _)| *way == AttachPath::Perf) {
        let Some(mut session) = session(way, &library) else { return Vec::new() };
        session.hook_sends().unwrap();
        all.push((session, library));
    }
    all
}

const WRITES: [&str; 4] = ["write:1:100", "write:1:2000", "write:1:100", "write:1:2000"];

/// Opens connection 1 in this way, writes, and frees it.
fn steps(way: &str) -> Vec<String> {
    let mut steps = vec![format!("tcp:1:{way}")];
    steps.extend(WRITES.map(str::to_owned));
    steps.extend(["write:1:50000".to_owned(), "free:1".to_owned()]);
    steps
}

fn run_way(session: &mut Session, library: &Library, way: &str) -> (Told, i32) {
    let steps = steps(way);
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let (told, fds) = run(session, library, &steps);
    (told, fds[0])
}

const HOST: &str = "host1.example";

/// Of what went out encrypted only the ClientHello was taken, and all of it counted.
fn only_the_hello_was_taken(told: &Told, fd: i32) {
    let (bytes, ended) = &told.sockets[&(fd as u32)][0];
    let ended = ended.unwrap();
    assert_eq!(bytes[..2], [22, 3]);
    let record = 5 + usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
    assert_eq!(bytes.len(), record);
    assert!(ended.sent > 50_000, "{ended:?}");
    assert_eq!(ended.skipped, ended.sent - record as u64);
}

#[test]
fn the_descriptor_is_told() {
    for (mut session, library) in sessions() {
        let (told, fd) = run_way(&mut session, &library, "0");
        assert_eq!(told.set, [(HOST.to_owned(), fd)], "{library:?}");
        assert!(told.nested.is_empty() && told.next.is_empty(), "{told:?}");
        only_the_hello_was_taken(&told, fd);
        session.stop().unwrap();
    }
}

#[test]
fn the_library_writes_itself() {
    for (mut session, library) in sessions() {
        let (told, fd) = run_way(&mut session, &library, "1");
        assert!(told.set.is_empty() && told.next.is_empty(), "{told:?}");
        assert_eq!(told.nested, [(HOST.to_owned(), fd)], "{library:?}");
        only_the_hello_was_taken(&told, fd);
        // The same descriptor and, as likely as not, the same address again: another connection all the same.
        let steps = [
            "tcp:1:1",
            "write:1:10",
            "free:1",
            "tcp:2:1",
            "write:2:10",
            "tcp:3:1",
            "write:3:10",
            "free:2",
            "free:3",
        ];
        let (told, fds) = run(&mut session, &library, &steps);
        assert_eq!(fds[0], fds[1]);
        let named = |number: usize| (format!("host{number}.example"), fds[number - 1]);
        let mut nested = told.nested;
        nested.sort();
        assert_eq!(nested, [named(1), named(2), named(3)], "{library:?}");
        assert_eq!(told.sockets[&(fds[0] as u32)].len(), 2);
        session.stop().unwrap();
    }
}

#[test]
fn the_thread_sends_what_the_library_made() {
    for (mut session, library) in sessions() {
        let (told, fd) = run_way(&mut session, &library, "2");
        assert!(told.set.is_empty() && told.nested.is_empty(), "{told:?}");
        assert_eq!(told.next.len(), 5, "{library:?} {told:?}");
        for (host, found, growth) in &told.next[..4] {
            assert_eq!((host.as_str(), *found), (HOST, fd));
            assert!((8..=256).contains(growth), "{growth}");
        }
        only_the_hello_was_taken(&told, fd);
        session.stop().unwrap();
    }
}

#[test]
fn another_threads_sends_say_nothing() {
    for (mut session, library) in sessions() {
        let (told, fd) = run_way(&mut session, &library, "3");
        assert!(told.set.is_empty() && told.nested.is_empty() && told.next.is_empty(), "{told:?}");
        only_the_hello_was_taken(&told, fd);
        session.stop().unwrap();
    }
}

#[test]
fn a_late_send_does_not_fit() {
    for (mut session, library) in sessions() {
        let (told, fd) = run_way(&mut session, &library, "4");
        assert!(told.set.is_empty() && told.nested.is_empty(), "{told:?}");
        // Writes of 100 and 2000 bytes go out together: the first record is not the last write's.
        assert!(told.next.len() >= 2, "{told:?}");
        for (_, found, growth) in &told.next[..2] {
            assert!(*found == fd && *growth < 0, "{told:?}");
        }
        session.stop().unwrap();
    }
}
