//! What the hooks on system calls deliver, on this machine's kernel: every byte that a client hands to a socket is compared
//! with what the server got. Each test runs through `syscalls:*` and through `raw_syscalls`.
//!
//! Needs root, both kinds of tracepoints, python3, curl, and a binary with the eBPF object; else the tests say
//! `skipped: REASON`. Other processes' events are told apart by pid.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
#[path = "live/sends.rs"]
mod sends;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
    process::{Command, Stdio},
    thread,
};

use sends::{Sent, Servers, WAYS, both_ways, client, ordered, session, watch, watch_those};
use telltale::record::Body;

#[test]
fn every_way_of_sending_on_a_stream_gives_the_bytes_the_server_got() {
    both_ways(|session| {
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
        let sent = ordered(watch(session, &mut child));
        let mut server: Vec<Vec<u8>> = v4.join().unwrap();
        server.extend(v6.join().unwrap());
        let mut seen: Vec<&Sent> = sent.values().filter(|one| !one.bytes.is_empty()).collect();
        seen.retain(|one| {
            one.peers.iter().flatten().any(|peer| servers.addresses.contains(&peer.to_string()))
        });
        assert_eq!(seen.len(), 4, "{sent:?}");
        for (one, got) in seen.iter().zip(&server) {
            let found = seen.iter().any(|one| one.bytes == *got);
            assert!(
                found,
                "{:?} is not {:?}",
                String::from_utf8_lossy(&one.bytes),
                String::from_utf8_lossy(got)
            );
            assert_eq!((one.gap, one.ended), (0, true));
        }
    });
}

#[test]
fn datagrams_carry_where_they_went() {
    both_ways(|session| {
        let servers = Servers::start();
        let script = "
u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
u.sendto(b'loose;',u4); u.connect(u4); u.send(b'tied;'); u.sendmsg([b'in ',b'two;']); u.close()
";
        let mut child = client(script, &servers.addresses);
        let sent = ordered(watch(session, &mut child));
        let got = servers.received();
        assert_eq!(got, b"loose;tied;in two;");
        let one = sent.values().find(|one| one.bytes == got).unwrap_or_else(|| panic!("{sent:?}"));
        let here: SocketAddr = servers.addresses[2].parse().unwrap();
        assert_eq!(one.peers, [Some(here), Some(here)]);
    });
}

#[test]
fn only_what_a_full_socket_took_counts() {
    both_ways(|session| {
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
        let events = watch(session, &mut child);
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
    });
}

#[test]
fn a_socket_opened_before_the_hooks_is_asked_about_and_then_read() {
    for way in WAYS {
        let servers = Servers::start();
        let accepted = servers.accept(0, 1);
        let script = "
c=socket.socket(); c.connect(s4); f=open('/dev/null','wb',0); print('ready',flush=True); sys.stdin.readline()
os.write(c.fileno(), b'first'); os.write(f.fileno(), b'file'); asked(); asked()
os.write(c.fileno(), b'second'); os.write(f.fileno(), b'file'); c.close()
";
        let mut child = client(script, &servers.addresses);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let started = session(way);
        child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
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
}

/// `sendmmsg` through the C library: Python has no call of its own for it.
const SENDMMSG: &str = "
libc=ctypes.CDLL(None,use_errno=True)
class V(ctypes.Structure): _fields_=[('base',ctypes.c_char_p),('len',ctypes.c_size_t)]
class M(ctypes.Structure): _fields_=[('name',ctypes.c_void_p),('namelen',ctypes.c_uint),('iov',ctypes.POINTER(V)),('n',ctypes.c_size_t),
    ('control',ctypes.c_void_p),('cl',ctypes.c_size_t),('flags',ctypes.c_int),('pad',ctypes.c_int),('len',ctypes.c_uint)]
def sendmmsg(s,messages):
    keep=[(V*len(m))(*[V(p,len(p)) for p in m]) for m in messages]
    a=(M*len(messages))(*[M(None,0,v,len(v),None,0,0,0,0) for v in keep])
    assert libc.sendmmsg(s.fileno(),a,len(messages),0)==len(messages)
";

#[test]
fn all_messages_of_one_call_are_there() {
    both_ways(|session| {
        let servers = Servers::start();
        // Twenty messages of one to eight parts.
        let script = format!(
            "{SENDMMSG}
u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); u.connect(u4)
sendmmsg(u,[[b'%02d.%d;'%(m,p) for p in range(m%8+1)] for m in range(20)]); u.close()
"
        );
        let mut child = client(&script, &servers.addresses);
        let sent = ordered(watch(session, &mut child));
        let got = servers.received();
        assert!(got.starts_with(b"00.0;01.0;01.1;") && got.ends_with(b"19.3;"));
        let one = sent.values().find(|one| !one.bytes.is_empty()).unwrap_or_else(|| panic!("{sent:?}"));
        assert_eq!(String::from_utf8_lossy(&one.bytes), String::from_utf8_lossy(&got));
        assert_eq!((one.gap, one.total), (0, Some(got.len() as u64)));
    });
}

#[test]
fn of_many_messages_in_one_call_the_first_are_there_and_all_are_counted() {
    both_ways(|session| {
        let servers = Servers::start();
        let script = format!(
            "{SENDMMSG}
u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); u.connect(u4)
sendmmsg(u,[[b'%03d;'%m] for m in range(150)]); u.send(b'last'); u.close()
"
        );
        let mut child = client(&script, &servers.addresses);
        let sent = ordered(watch(session, &mut child));
        let one = sent.values().find(|one| !one.bytes.is_empty()).unwrap_or_else(|| panic!("{sent:?}"));
        assert!(one.bytes.starts_with(b"000;001;") && one.bytes.ends_with(b"019;last"), "{one:?}");
        assert_eq!((one.gap, one.total), (4 * 130, Some(4 * 150 + 4)));
    });
}

#[test]
fn what_the_kernel_moves_itself_is_counted() {
    both_ways(|session| {
        let servers = Servers::start();
        let accepted = servers.accept(0, 1);
        let script = "
f=tempfile.TemporaryFile(); f.write(b'z'*30000); f.flush()
c=socket.socket(); c.connect(s4); c.send(b'head;')
assert os.sendfile(c.fileno(), f.fileno(), 0, 10000)==10000
r,w=os.pipe(); os.write(w,b'y'*1000)
assert ctypes.CDLL(None).splice(r,None,c.fileno(),None,ctypes.c_size_t(1000),0)==1000
c.send(b'tail;'); c.close()
";
        let mut child = client(script, &servers.addresses);
        let sent = ordered(watch(session, &mut child));
        assert_eq!(accepted.join().unwrap()[0].len(), 11_010);
        let one =
            sent.values().find(|one| one.bytes.starts_with(b"head;")).unwrap_or_else(|| panic!("{sent:?}"));
        assert_eq!((one.gap, one.total, one.ended), (11_000, Some(11_010), true));
        assert!(one.bytes == b"head;tail;");
    });
}

#[test]
fn numbers_used_again_by_many_threads_are_told_apart() {
    both_ways(|session| {
        const CONNECTIONS: usize = 120;
        let servers = Servers::start();
        let accepted = servers.accept(0, CONNECTIONS);
        let script = format!(
            "
def work(t):
    for n in range({CONNECTIONS}//4):
        f=open('/dev/null','wb',0); f.write(b'file'); f.close()
        c=socket.socket(); c.connect(s4); c.sendall(b'%d-%d;'%(t,n)*5); os.write(c.fileno(),b'end'); c.close()
threads=[threading.Thread(target=work,args=(t,)) for t in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
"
        );
        let mut child = client(&script, &servers.addresses);
        let sent = ordered(watch(session, &mut child));
        let mut got = accepted.join().unwrap();
        let mut seen: Vec<Vec<u8>> =
            sent.values().filter(|one| !one.bytes.is_empty()).map(|one| one.bytes.clone()).collect();
        got.sort();
        seen.sort();
        assert_eq!(seen.len(), CONNECTIONS);
        assert!(seen == got);
        assert!(sent.values().filter(|one| !one.bytes.is_empty()).all(|one| one.ended && one.gap == 0));
    });
}

#[test]
fn each_uid_in_its_own_network_is_seen() {
    both_ways(|session| {
        for uid in [10_123_u32, 1_010_124] {
            // Both ends in a network of their own, in which the daemon has no socket; addresses of another machine's range.
            let script = format!(
                "
import socket,os,threading,subprocess,faulthandler
socket.setdefaulttimeout(30); faulthandler.dump_traceback_later(100,exit=True)
subprocess.check_call(['ip','link','set','lo','up'])
subprocess.check_call(['ip','addr','add','192.0.2.7/32','dev','lo'])
subprocess.check_call(['ip','-6','addr','add','2001:db8::7/128','dev','lo','nodad'])
# The kernel makes the route to oneself some time after the address.
subprocess.check_call('until ip -6 route get 2001:db8::7 2>/dev/null | grep -q ^local; do sleep .01; done',shell=True)
got=[]
def serve(s):
    c=s.accept()[0]
    while (b:=c.recv(65536)): got.append(b)
os.setresgid({uid},{uid},{uid}); os.setresuid({uid},{uid},{uid})
for family,ip in ((socket.AF_INET,'192.0.2.7'),(socket.AF_INET6,'2001:db8::7')):
    s=socket.socket(family); s.bind((ip,0)); s.listen(1)
    t=threading.Thread(target=serve,args=(s,)); t.start()
    c=socket.socket(family); c.connect(s.getsockname()[:2]); c.sendall(b'tcp to '+ip.encode()+b';'); c.close(); t.join(); s.close()
    s=socket.socket(family,socket.SOCK_DGRAM); s.bind((ip,0))
    c=socket.socket(family,socket.SOCK_DGRAM); c.sendto(b'loose;',s.getsockname()[:2]); got.append(s.recv(100))
    c.connect(s.getsockname()[:2]); c.send(b'tied;'); got.append(s.recv(100)); c.close(); s.close()
print(b''.join(got).decode(),flush=True)
"
            );
            let mut child = Command::new("unshare")
                .args(["--net", "python3", "-c", &script])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let pid = child.id();
            let events = watch_those(session, &mut child, |event| {
                event.connection.tgid == pid && event.connection.socket().is_some()
            });
            let mut got = String::new();
            child.stdout.take().unwrap().read_to_string(&mut got).unwrap();
            let ours: Vec<_> = events.into_iter().filter(|event| event.uid == uid).collect();
            let sent = ordered(ours);
            let expected = [
                ("192.0.2.7", "tcp to 192.0.2.7;"),
                ("192.0.2.7", "loose;tied;"),
                ("2001:db8::7", "tcp to 2001:db8::7;"),
                ("2001:db8::7", "loose;tied;"),
            ];
            for (ip, text) in expected {
                assert!(got.contains(text), "{got}");
                let to = |one: &&Sent| {
                    one.bytes == text.as_bytes()
                        && one.peers.iter().flatten().any(|peer| peer.ip().to_string() == ip)
                };
                let one = sent.values().find(to).unwrap_or_else(|| panic!("{uid} {ip}: {sent:?}"));
                assert_eq!((one.gap, one.ended), (0, true));
            }
        }
    });
}

#[test]
fn curl_sends_what_its_server_got() {
    both_ways(|session| {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let answered = thread::spawn(move || {
            let (mut client, _) = server.accept().unwrap();
            let (mut got, mut buffer) = (Vec::new(), [0; 65536]);
            while !got.ends_with(b"=end") {
                let len = client.read(&mut buffer).unwrap();
                assert!(len > 0);
                got.extend(&buffer[..len]);
            }
            client.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
            got
        });
        let body = format!("a={}&b=end", "x".repeat(5000));
        let mut child = Command::new("curl")
            .args(["--silent", "--noproxy", "*", "--data", &body, &format!("http://{address}/path?q=1")])
            .spawn()
            .unwrap();
        let sent = ordered(watch(session, &mut child));
        let got = answered.join().unwrap();
        let one = sent.values().find(|one| one.bytes == got).unwrap_or_else(|| panic!("{sent:?}"));
        assert!(one.peers.contains(&Some(address)));
        assert!(got.starts_with(b"POST /path?q=1 HTTP/1.1\r\n"));
    });
}
