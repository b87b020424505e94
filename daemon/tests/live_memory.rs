//! Kernels on which programs may not read the memory of apps: what is left there, said plainly and counted byte by byte. Such a
//! kernel is acted here by taking the reads out of the programs (`--memory`).
//!
//! Needs root, the embedded eBPF program, the tracepoints of system calls and Debian's python3; else the tests say
//! `skipped: REASON`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[allow(dead_code)]
mod live;

use std::{fs, io::Read, net::TcpListener, process::Command, thread};

use live::{
    Client, Library, byte_at,
    daemon::{Daemon, PATIENCE, TELLTALE, can_watch_sends, finish, has, line_of, python},
    server::Server,
    tracefs::entries,
    uids::uids,
    until, ways,
};
use telltale::{
    kernel::{AttachPath, KernelError, MemoryPath, Options, Session, prove_with},
    record::{Body, ConnectionId, Event},
    stream::{Chunk, Limits, Order, Step},
};

/// A session on one library that reads in this way; none, having said why, where this machine cannot have one.
fn session(way: AttachPath, library: &Library, memory: MemoryPath) -> Option<Session> {
    let options = Options {
        attach: Some(way),
        libraries: vec![library.path().to_owned()],
        memory: Some(memory),
        ..Options::default()
    };
    match Session::start(&options) {
        Ok(session) => Some(session),
        Err(error @ (KernelError::NotRoot | KernelError::NoProgram | KernelError::NoTracefs)) => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{way:?} {library:?}: {error}"),
    }
}

/// Bytes taken and bytes that came, of all writes together.
fn taken_and_read(events: &[Event]) -> (u64, u64) {
    let pieces = events.iter().filter_map(|event| match &event.body {
        Body::TlsWrite(piece) => Some(piece),
        _ => None,
    });
    pieces.fold((0, 0), |(taken, read), piece| {
        let first = if piece.offset == 0 { piece.total } else { 0 };
        (taken + first, read + piece.bytes.len() as u64)
    })
}

#[test]
fn who_and_how_much_is_left_where_nothing_can_be_read() {
    for (way, library) in ways() {
        let Some(mut session) = session(way, &library, MemoryPath::Nothing) else { return };
        assert_eq!(session.memory_path(), MemoryPath::Nothing);
        let events = Client::start(&library, &["open:1", "write:1:100000", "write:1:77", "free:1"])
            .watch(&mut session);
        assert_eq!(taken_and_read(&events), (100_077, 0), "{way:?} {library:?}");
        let ended = events.iter().find_map(|event| match event.body {
            Body::TlsFree(ended) if ended.sent > 0 => Some(ended.sent),
            _ => None,
        });
        assert_eq!(ended, Some(100_077), "{way:?} {library:?}");
        session.stop().unwrap();
    }
}

/// The words that are fetched, in bytes.
const HEAD: usize = telltale::kernel::fetch::WORDS * 8;

/// What comes of these events in order: a host, bytes that are those of connection `number`, gaps, by how many.
fn heard(events: &[Event], number: usize) -> Vec<(String, usize)> {
    let mut order = Order::new(Limits::default());
    events.iter().for_each(|event| order.push(1, event.clone()));
    let (mut list, mut at) = (Vec::new(), 0);
    let mut sink = |_: ConnectionId, _: Option<&Event>, step: Step<'_>| {
        let (what, len) = match step {
            Step::Host(name) => (name, 0),
            Step::Chunk(Chunk::Bytes(bytes)) => {
                let expected: Vec<u8> = (at..at + bytes.len()).map(|at| byte_at(number, at)).collect();
                assert!(bytes == expected, "other bytes at {at}");
                ("bytes", bytes.len())
            }
            Step::Chunk(Chunk::Gap(gap)) => ("gap", gap as usize),
            _ => return,
        };
        at += len;
        list.push((what.to_owned(), len));
    };
    order.end_pass(1, &mut sink);
    order.end_pass(2, &mut sink);
    list
}

#[test]
fn the_beginning_of_every_write_is_read_through_ftrace() {
    for (way, library) in ways() {
        let Some(mut session) = session(way, &library, MemoryPath::Ftrace) else { return };
        assert_eq!(session.memory_path(), MemoryPath::Ftrace);
        // A short one, one that just fits, one that does not.
        let steps = ["open:1", "write:1:13", &format!("write:1:{HEAD}"), "write:1:5000"];
        let events = Client::start(&library, &steps).watch(&mut session);
        let mut expected: Vec<(String, usize)> =
            [("bytes", 13), ("bytes", HEAD), ("bytes", HEAD), ("gap", 5000 - HEAD)]
                .map(|(what, len)| (what.to_owned(), len))
                .to_vec();
        // In OpenSSL the function for it is a macro.
        if !library.has_write_ex() {
            expected.insert(0, ("host1.example".into(), 0));
        }
        assert_eq!(heard(&events, 1), expected, "{way:?} {library:?}");

        // What has to be offered again is told once, by as much as was taken of it each time.
        let mut client = Client::start(&library, &["open:4", "partial:4", "write:4:300000"]);
        let events = client.watch(&mut session);
        assert!(client.retries() > 0, "the client met no short write");
        let parts = heard(&events, 4);
        assert_eq!(parts.iter().map(|(_, len)| len).sum::<usize>(), 300_000, "{parts:?}");
        let (taken, read) = taken_and_read(&events);
        let writes = parts.iter().filter(|(what, _)| what == "bytes").count();
        assert_eq!((taken, read), (300_000, (writes * HEAD) as u64), "{parts:?}");
        assert!(writes > 10 || library.has_write_ex(), "{parts:?}");
        session.stop().unwrap();
        // The other tests of this process have entries under the same name while they run.
        let left = || entries(std::process::id());
        assert!(until(PATIENCE, || left() == 0), "{} entries are left", left());
    }
}

#[test]
fn a_request_that_boringssl_sends_is_recognised_through_ftrace() {
    let Some((way, library)) = ways().into_iter().find(|(_, library)| !library.has_write_ex()) else {
        return;
    };
    if !can_watch_sends() || session(way, &library, MemoryPath::Ftrace).is_none() {
        return;
    }
    let collector = Server::collector();
    let folder = tempfile::tempdir().unwrap();
    let options = ["--memory", "ftrace", "--loopback", "--lib", library.path().to_str().unwrap()];
    let mut daemon = Daemon::start(folder.path(), &options);
    daemon.says("first 960 bytes");
    let [id, other] = uids();
    let request = folder.path().join("request");
    // Addresses cannot be read either: the daemon asks /proc, which knows nothing of a process that has ended.
    let send = |body: &str, uid: u32| {
        let text = format!(
            "POST /v1/device HTTP/1.1\r\nHost: collect.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        fs::write(&request, &text).unwrap();
        let mut client = collector.client(&library, uid, "collect.test");
        (client.args(["--hold", "--file"]).arg(&request).spawn().unwrap(), text.len() as u64)
    };
    let (client, sent) = send(r#"{"imei":"490154203237518","event":"open"}"#, id);
    let alert = daemon.says("kind=imei");
    assert!(alert.contains("host=collect.test") && alert.contains(&format!("uid={id}")), "{alert}");
    assert_eq!(daemon.app(id, sent)["read"], sent);
    finish(client);
    // Of a longer one the beginning, and the rest is counted.
    let long = format!(r#"{{"imei":"490154203237518","pad":"{}"}}"#, "x".repeat(4000));
    let (client, sent) = send(&long, other);
    let app = daemon.app(other, sent);
    let beyond = sent - HEAD as u64;
    assert_eq!((&app["read"], &app["unread"]["no-memory-read"]), (&HEAD.into(), &beyond.into()), "{app:#}");
    finish(client);
    daemon.stop();
    collector.finish();
}

#[test]
fn doctor_says_what_is_left() {
    match prove_with(None, Some(MemoryPath::Nothing)) {
        Ok(proof) => assert!(proof.is_enough() && !proof.readable, "{proof:?}"),
        Err(error @ (KernelError::NotRoot | KernelError::NoProgram | KernelError::NoTracefs)) => {
            return println!("skipped: {error}");
        }
        Err(error) => panic!("{error}"),
    }
    let said = |options: &[&str]| {
        let output = Command::new(TELLTALE).arg("doctor").args(options).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let quick = said(&["--quick", "--memory", "none"]);
    assert!(
        quick.contains("not all of what was sent can be read") && quick.contains("but not what"),
        "{quick}"
    );
    let quick: serde_json::Value =
        serde_json::from_str(&said(&["--quick", "--json", "--memory", "none"])).unwrap();
    assert_eq!((&quick["can_run"], &quick["memory"]), (&true.into(), &"none".into()));
    let text = said(&["--memory", "none"]);
    let line = text.lines().find(|line| line.contains("what apps send can be read")).unwrap();
    assert!(
        line.starts_with("MISSING") && line.contains("who sends, to which address and how much"),
        "{line}"
    );
}

#[test]
fn the_watch_says_what_is_left_and_counts_it() {
    if !can_watch_sends() || !has(&["/usr/bin/python3"]) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let options =
        ["--memory", "none", "--loopback", "--lib", live::openssl().to_str().unwrap()].map(str::to_owned);
    let mut daemon = Daemon::start(folder.path(), &options.each_ref().map(String::as_str));
    let said = daemon.says("but not what");
    assert!(said.contains("who sends, to which address and how much"), "{said}");
    let eater = thread::spawn(move || listener.accept().unwrap().0.read_to_end(&mut Vec::new()).unwrap());
    let script = format!(
        "import socket,sys
c=socket.create_connection(('127.0.0.1',{port})); n=0
for i in range(10): n+=c.send(b'POST / HTTP/1.1\\r\\nHost: a.test\\r\\nContent-Length: 5\\r\\n\\r\\nhello')
print(n,flush=True); sys.stdin.read()"
    );
    let [uid] = uids();
    let mut client = python(uid, &script);
    let sent: u64 = line_of(&mut client).parse().unwrap();
    let app = daemon.app(uid, sent);
    assert_eq!((&app["bytes"], &app["read"]), (&sent.into(), &0.into()), "{app:#}");
    let unread = app["unread"]["no-memory-read"].as_u64().unwrap_or(0);
    assert!(unread > 0 && app["unread"]["lost"].is_null(), "{app:#}");
    // To whom: from the kernel's own table, since the address lies in the app's memory.
    assert_eq!(app["destinations"][0]["destination"], "127.0.0.1", "{app:#}");
    finish(client);
    assert_eq!(eater.join().unwrap() as u64, sent);
    daemon.stop();
}
