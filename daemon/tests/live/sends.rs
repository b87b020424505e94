//! What the tests of socket sends share: sessions in both ways, clients, servers, and a client's sockets put in order.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "machine.rs"]
mod machine;

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, UdpSocket},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use machine::or_skip;
use telltale::{
    kernel::{Options, SendsPath, Session, Wanted},
    record::{Body, ConnectionId, Event},
    stream::{Chunk, Limits, Order, Step},
};

/// One socket of the client, put in order.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) peers: Vec<Option<SocketAddr>>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) gap: u64,
    pub(crate) ended: bool,
    /// What the close said of all it sent.
    pub(crate) total: Option<u64>,
}

/// Both ways to sends.
pub(crate) const WAYS: [SendsPath; 2] = [SendsPath::Syscalls, SendsPath::Raw];

/// A session that watches sends in this way and nothing else.
pub(crate) fn session(way: SendsPath) -> Option<Session> {
    let started = Session::bare(&Options::default()).and_then(|mut session| {
        session.hook_sends_through(way)?;
        Ok(session)
    });
    let session = or_skip(way, started)?;
    assert_eq!(session.sends_path(), Some(way));
    Some(session)
}

/// Does this once for each way.
pub(crate) fn both_ways(mut test: impl FnMut(&mut Session)) {
    for way in WAYS {
        let Some(mut session) = session(way) else { return };
        test(&mut session);
        session.stop().unwrap();
    }
}

/// A Python client that runs `script`, in which `s4` and `s6` are TCP addresses and `u4` is a UDP address; `asked()` waits until
/// a question about a descriptor has been answered.
pub(crate) fn client(script: &str, arguments: &[String]) -> Child {
    let head = "import socket,sys,os,time,struct,subprocess,fcntl,array,threading,ctypes,tempfile\n\
                a=[x.rsplit(':',1) for x in sys.argv[1:]]\n\
                s4,s6,u4=[(h.strip('[]'),int(p)) for h,p in a]\n\
                def asked(): os.read(0,1)\n";
    Command::new("python3")
        .args(["-c", &format!("{head}{script}")])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads the client's events until it ends, answering questions as the daemon would for sockets.
pub(crate) fn watch(session: &mut Session, child: &mut Child) -> Vec<Event> {
    let pid = child.id();
    watch_those(session, child, |event| event.connection.tgid == pid)
}

/// The same with the events of other processes.
pub(crate) fn watch_those(
    session: &mut Session,
    child: &mut Child,
    mine: impl Fn(&Event) -> bool,
) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let started = Instant::now();
    loop {
        let ended = child.try_wait().unwrap().is_some();
        let before = events.len();
        session.follow_mappings();
        session.drain(&mut |_, event| {
            if mine(&event) {
                events.push(event);
            }
        });
        for event in &events[before..] {
            let id = event.connection;
            if event.body == Body::SocketUnknown {
                let fd = id.socket().unwrap().fd;
                let link = std::fs::read_link(format!("/proc/{}/fd/{fd}", id.tgid)).unwrap_or_default();
                let socket = link.to_string_lossy().starts_with("socket:");
                let wanted = if socket { Wanted::Bytes(1 << 30) } else { Wanted::Nothing };
                session.answer(id, wanted).unwrap();
                // Who asked may wait for it: `asked()`.
                if let Some(input) = &mut child.stdin {
                    let _ = input.write_all(b"\n");
                }
            }
        }
        if ended {
            return events;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "the client does not end");
        thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn ordered(events: Vec<Event>) -> BTreeMap<ConnectionId, Sent> {
    let mut order = Order::new(Limits::default());
    let mut all: BTreeMap<ConnectionId, Sent> = BTreeMap::new();
    for event in events {
        if let Body::SocketClose(closed) = &event.body {
            all.entry(event.connection).or_default().total = Some(closed.sent);
        }
        order.push(1, event);
    }
    let mut sink = |id: ConnectionId, _: Option<&Event>, step: Step<'_>| {
        let sent = all.entry(id).or_default();
        match step {
            Step::Chunk(Chunk::Bytes(bytes)) => sent.bytes.extend(bytes),
            Step::Chunk(Chunk::Gap(gap)) => sent.gap += gap,
            Step::Chunk(Chunk::End) => sent.ended = true,
            Step::Peer(peer) => sent.peers.push(peer),
            Step::Host(_) | Step::Fd(..) | Step::Nested(_) | Step::Next { .. } | Step::Unknown => {}
        }
    };
    order.end_pass(1, &mut sink);
    order.end_pass(2, &mut sink);
    all
}

/// Two TCP servers and a UDP one, each giving what it got per connection.
pub(crate) struct Servers {
    pub(crate) addresses: Vec<String>,
    pub(crate) streams: Vec<TcpListener>,
    datagrams: UdpSocket,
}

impl Servers {
    pub(crate) fn start() -> Servers {
        let streams = vec![TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("[::1]:0").unwrap()];
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        datagrams.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut addresses: Vec<String> =
            streams.iter().map(|one| one.local_addr().unwrap().to_string()).collect();
        addresses.push(datagrams.local_addr().unwrap().to_string());
        Servers { addresses, streams, datagrams }
    }

    /// Accepts `count` connections on server `index` and reads each to its end.
    pub(crate) fn accept(&self, index: usize, count: usize) -> thread::JoinHandle<Vec<Vec<u8>>> {
        let server = self.streams[index].try_clone().unwrap();
        thread::spawn(move || {
            server.set_nonblocking(true).unwrap();
            let started = Instant::now();
            let read = |_| {
                let mut client = loop {
                    match server.accept() {
                        Ok((client, _)) => break client,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        Err(error) => panic!("{error}"),
                    }
                    assert!(started.elapsed() < Duration::from_secs(60), "the client does not come");
                    thread::sleep(Duration::from_millis(2));
                };
                client.set_nonblocking(false).unwrap();
                client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                let mut got = Vec::new();
                client.read_to_end(&mut got).unwrap();
                got
            };
            (0..count).map(read).collect()
        })
    }

    pub(crate) fn received(&self) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), [0; 65536]);
        while let Ok(len) = self.datagrams.recv(&mut buffer) {
            all.extend(&buffer[..len]);
        }
        all
    }
}
