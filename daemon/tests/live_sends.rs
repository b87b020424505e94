//! What the hooks on system calls deliver, on this machine's kernel: every byte that a client hands to a socket is compared
//! with what the server got.
//!
//! Needs root, the `raw_syscalls` tracepoints, python3 and a binary with the eBPF object; else the tests say
//! `skipped: REASON`. Other processes' events are told apart by pid.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, UdpSocket},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use telltale::{
    kernel::{KernelError, Options, Session, Wanted},
    record::{Body, ConnectionId, Event},
    stream::{Chunk, Limits, Order, Step},
};

/// One socket of the client, put in order.
#[derive(Debug, Default)]
struct Sent {
    peers: Vec<Option<SocketAddr>>,
    bytes: Vec<u8>,
    gap: u64,
    ended: bool,
}

fn session() -> Option<Session> {
    let started = Session::bare(&Options::default()).and_then(|mut session| {
        session.hook_sends()?;
        Ok(session)
    });
    match started {
        Ok(session) => Some(session),
        Err(
            error @ (KernelError::NotRoot
            | KernelError::NoProgram
            | KernelError::NoTracefs
            | KernelError::File { .. }),
        ) => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A Python client that prints `ready`, waits for a line, and runs `script`, in which `s4` and `s6` are TCP addresses, `u4`
/// is a UDP address.
fn client(script: &str, arguments: &[String]) -> Child {
    let head = "import socket,sys,os,time,struct\n\
                a=[x.rsplit(':',1) for x in sys.argv[1:]]\n\
                s4,s6,u4=[(h.strip('[]'),int(p)) for h,p in a]\n";
    Command::new("python3")
        .args(["-c", &format!("{head}{script}")])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads the client's events until it ends, answering questions as the daemon would for sockets.
fn watch(session: &mut Session, child: &mut Child) -> Vec<Event> {
    let pid = child.id();
    let mut events: Vec<Event> = Vec::new();
    let started = Instant::now();
    loop {
        let ended = child.try_wait().unwrap().is_some();
        let before = events.len();
        session.drain(&mut |_, event| {
            if event.connection.tgid == pid {
                events.push(event);
            }
        });
        for event in &events[before..] {
            let fd = event.connection.socket().unwrap().fd;
            if event.body == Body::SocketUnknown {
                let link = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap_or_default();
                let socket = link.to_string_lossy().starts_with("socket:");
                let wanted = if socket { Wanted::Bytes(1 << 30) } else { Wanted::Nothing };
                session.answer(event.connection, wanted).unwrap();
            }
        }
        if ended {
            return events;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "the client does not end");
        thread::sleep(Duration::from_millis(1));
    }
}

fn ordered(events: Vec<Event>) -> BTreeMap<ConnectionId, Sent> {
    let mut order = Order::new(Limits::default());
    let mut all: BTreeMap<ConnectionId, Sent> = BTreeMap::new();
    for event in events {
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
struct Servers {
    addresses: Vec<String>,
    streams: Vec<TcpListener>,
    datagrams: UdpSocket,
}

impl Servers {
    fn start() -> Servers {
        let streams = vec![TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("[::1]:0").unwrap()];
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        datagrams.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut addresses: Vec<String> =
            streams.iter().map(|one| one.local_addr().unwrap().to_string()).collect();
        addresses.push(datagrams.local_addr().unwrap().to_string());
        Servers { addresses, streams, datagrams }
    }

    /// Accepts `count` connections on server `index` and reads each to its end.
    fn accept(&self, index: usize, count: usize) -> thread::JoinHandle<Vec<Vec<u8>>> {
        let server = self.streams[index].try_clone().unwrap();
        thread::spawn(move || {
            let read = |_| {
                let mut got = Vec::new();
                server.accept().unwrap().0.read_to_end(&mut got).unwrap();
                got
            };
            (0..count).map(read).collect()
        })
    }

    fn received(&self) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), [0; 65536]);
        while let Ok(len) = self.datagrams.recv(&mut buffer) {
            all.extend(&buffer[..len]);
        }
        all
    }
}

#[test]
fn every_way_of_sending_on_a_stream_gives_the_bytes_the_server_got() {
    let Some(mut session) = session() else { return };
    let servers = Servers::start();
    let (v4, v6) = (servers.accept(0, 3), servers.accept(1, 1));
    // A write, a sendto, a sendmsg and a writev each; vectors of one to eight; the same number used again; IPv6.
    let script = "
for turn in range(3):
    c=socket.socket(); c.connect(s4)
    os.write(c.fileno(), b'write%d;'%turn); c.send(b'sendto;'); c.sendmsg([b'send',b'msg;'])
    for n in range(1,9): os.writev(c.fileno(), [bytes([65+i])*(n*i+1) for i in range(n)])
    c.close()
c=socket.socket(socket.AF_INET6); c.connect(s6); c.sendall(b'over six'); c.close()
";
    let mut child = client(script, &servers.addresses);
    let sent = ordered(watch(&mut session, &mut child));
    let mut server: Vec<Vec<u8>> = v4.join().unwrap();
    server.extend(v6.join().unwrap());
    let mut seen: Vec<&Sent> = sent.values().filter(|one| !one.bytes.is_empty()).collect();
    seen.retain(|one| one.peers.iter().flatten().any(|peer| servers.addresses.contains(&peer.to_string())));
    assert_eq!(seen.len(), 4, "{sent:?}");
    for (one, got) in seen.iter().zip(&server) {
        let found = seen.iter().any(|one| one.bytes == *got);
        assert!(found, "{:?} is not {:?}", String::from_utf8_lossy(&one.bytes), String::from_utf8_lossy(got));
        assert_eq!((one.gap, one.ended), (0, true));
    }
    session.stop().unwrap();
}

#[test]
fn datagrams_carry_where_they_went() {
    let Some(mut session) = session() else { return };
    let servers = Servers::start();
    let script = "
u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
u.sendto(b'loose;',u4); u.connect(u4); u.send(b'tied;'); u.sendmsg([b'in ',b'two;']); u.close()
";
    let mut child = client(script, &servers.addresses);
    let sent = ordered(watch(&mut session, &mut child));
    let got = servers.received();
    assert_eq!(got, b"loose;tied;in two;");
    let one = sent.values().find(|one| one.bytes == got).unwrap_or_else(|| panic!("{sent:?}"));
    let here: SocketAddr = servers.addresses[2].parse().unwrap();
    assert_eq!(one.peers, [Some(here), Some(here)]);
    session.stop().unwrap();
}

#[test]
fn only_what_a_full_socket_took_counts() {
    let Some(mut session) = session() else { return };
    let servers = Servers::start();
    // Nobody reads until the client has met EAGAIN.
    let script = "
c=socket.socket(); c.setsockopt(socket.SOL_SOCKET,socket.SO_SNDBUF,4096); c.connect(s4); c.setblocking(False)
took=0
try:
    while True: took+=c.send(b'x'*5000)
except BlockingIOError: pass
print(took,flush=True); c.setblocking(True); c.close()
";
    let mut child = client(script, &servers.addresses);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let reader = thread::spawn({
        let server = servers.streams[0].try_clone().unwrap();
        move || {
            let mut took = String::new();
            output.read_line(&mut took).unwrap();
            let mut got = Vec::new();
            server.accept().unwrap().0.read_to_end(&mut got).unwrap();
            (took.trim().parse::<u64>().unwrap(), got)
        }
    });
    let events = watch(&mut session, &mut child);
    let (took, got) = reader.join().unwrap();
    assert_eq!(got.len() as u64, took);
    // The close tells all of it, also what was beyond the first limit.
    let closed = events.iter().find_map(|event| match event.body {
        Body::SocketClose(ended) => Some(ended.sent),
        _ => None,
    });
    assert_eq!(closed, Some(took));
    let total: u64 = events
        .iter()
        .filter_map(|event| match &event.body {
            Body::SocketSend(piece) if piece.last => Some(piece.total),
            _ => None,
        })
        .sum();
    assert!(total <= took && total >= 5000, "{total} of {took}");
    session.stop().unwrap();
}

#[test]
fn a_socket_opened_before_the_hooks_is_asked_about_and_then_read() {
    let servers = Servers::start();
    let accepted = servers.accept(0, 1);
    let script = "
c=socket.socket(); c.connect(s4); f=open('/dev/null','wb',0); print('ready',flush=True); sys.stdin.readline()
os.write(c.fileno(), b'first'); os.write(f.fileno(), b'file'); time.sleep(.3)
os.write(c.fileno(), b'second'); os.write(f.fileno(), b'file'); c.close()
";
    let mut child = client(script, &servers.addresses);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let started = session();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let Some(mut session) = started else {
        child.wait().unwrap();
        return;
    };
    let sent = ordered(watch(&mut session, &mut child));
    assert_eq!(accepted.join().unwrap(), [b"firstsecond"]);
    // What went before the answer is counted as a gap, what came after is there; the file's bytes never are.
    let one = sent.values().find(|one| one.bytes == b"second").unwrap_or_else(|| panic!("{sent:?}"));
    assert_eq!(one.gap, 5);
    assert!(!sent.values().any(|one| one.bytes.windows(4).any(|part| part == b"file")));
    session.stop().unwrap();
}
