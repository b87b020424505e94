//! That a descriptor's mark ends with the file it was made for, on this machine's kernel: fork, exec, dup, close_range, descriptors
//! handed over, each through `syscalls:*` and through `raw_syscalls`.
//!
//! Needs what `live_sends.rs` needs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
#[path = "live/sends.rs"]
mod sends;
#[path = "live/uids.rs"]
mod uids;

use telltale::record::Body;

use sends::{Sent, Servers, both_ways, client, ordered, watch_those};
use uids::uids;

/// Runs a script that makes so many connections to the first server; what the server got, and what was taken. It is told apart by
/// uid, because it forks.
fn run(script: &str, connections: usize) -> Vec<(Vec<Vec<u8>>, Vec<Sent>)> {
    let mut all = Vec::new();
    let [uid] = uids();
    both_ways(|session| {
        let servers = Servers::start();
        let accepted = servers.accept(0, connections);
        let script = format!(
            "os.setresgid({uid},{uid},{uid}); os.setresuid({uid},{uid},{uid}); os.chdir('/')\n{script}"
        );
        let mut child = client(&script, &servers.addresses);
        let events =
            watch_those(session, &mut child, |event| event.uid == uid && event.connection.socket().is_some());
        let sent = ordered(events).into_values().filter(|one| !one.bytes.is_empty()).collect();
        all.push((accepted.join().unwrap(), sent));
    });
    all
}

/// All bytes taken, of whichever process and number, in order.
fn taken(sent: &[Sent]) -> Vec<String> {
    let mut all: Vec<String> = sent.iter().map(|one| String::from_utf8_lossy(&one.bytes).into()).collect();
    all.sort();
    all
}

#[test]
fn a_copy_of_a_socket_is_a_socket_and_a_copy_of_a_file_is_none() {
    // Number 77 is a file that was asked about, and then the socket; then a file again.
    let script = "
f=os.open('/dev/null',os.O_WRONLY); os.dup2(f,77)
os.write(77,b'file'); asked(); os.write(77,b'file')
c=socket.socket(); c.connect(s4)
os.dup2(c.fileno(),77); os.write(77,b'by dup2;')
d=fcntl.fcntl(c.fileno(),fcntl.F_DUPFD_CLOEXEC,90); os.write(d,b'by fcntl;')
e=os.dup(c.fileno()); os.write(e,b'by dup;')
os.dup2(f,77); os.write(77,b'file'); asked(); os.write(77,b'file')
c.close(); os.close(d); os.close(e)
";
    for (got, sent) in run(script, 1) {
        assert_eq!(got, [b"by dup2;by fcntl;by dup;"]);
        assert_eq!(taken(&sent), ["by dup2;", "by dup;", "by fcntl;"]);
    }
}

#[test]
fn what_was_opened_is_not_asked_about_and_its_number_may_become_a_socket() {
    let script = "
c=socket.socket(); c.connect(s4)
for _ in range(50):
    f=os.open('/dev/null',os.O_WRONLY); os.write(f,b'file'); os.close(f)
d=socket.socket(); assert d.fileno()==f; d.connect(s4); os.write(f,b'socket;')
g=os.open('/dev/null',os.O_WRONLY); os.write(g,b'file'); os.dup2(f,g); os.write(g,b'by dup2;')
h=os.open('/dev/null',os.O_WRONLY); os.write(h,b'file'); n=c.fileno(); c.detach(); os.dup2(n,h); os.close(n)
if os.fork()==0:
    os.write(h,b'asked;'); asked(); os.write(h,b'child;'); os._exit(0)
os.wait(); os.write(h,b'parent;')
";
    let [uid] = uids();
    both_ways(|session| {
        let servers = Servers::start();
        let accepted = servers.accept(0, 2);
        let script = format!("os.setresgid({uid},{uid},{uid}); os.setresuid({uid},{uid},{uid})\n{script}");
        let mut child = client(&script, &servers.addresses);
        let events =
            watch_those(session, &mut child, |event| event.uid == uid && event.connection.socket().is_some());
        let asked = events.iter().filter(|event| event.body == Body::SocketUnknown).count();
        let sent: Vec<Sent> = ordered(events).into_values().filter(|one| !one.bytes.is_empty()).collect();
        assert_eq!(accepted.join().unwrap(), [&b"asked;child;parent;"[..], b"socket;by dup2;"]);
        assert_eq!(taken(&sent), ["by dup2;", "child;", "parent;", "socket;"]);
        // One question is the child's. Another process that begins may take some marks with it, never all of them.
        assert!((1..25).contains(&asked), "{asked} questions");
    });
}

#[test]
fn marks_end_with_exec_and_close_range() {
    // The number is a file's, known as one; after exec it is the socket, which this process did not see being opened.
    let script = "
c=socket.socket(); c.connect(s4); n=c.fileno()
f=os.open('/dev/null',os.O_WRONLY); keep=os.dup(n); os.dup2(f,n)
os.write(n,b'file'); asked(); os.write(n,b'file')
pidfd=os.pidfd_open(os.getpid())
assert ctypes.CDLL(None).close_range(n,n,0)==0
# A copy under the same number, by a call that nobody watches.
assert ctypes.CDLL(None).syscall(438,pidfd,keep,0)==n
os.write(n,b'unknown;'); asked(); os.write(n,b'after close_range;')
os.set_inheritable(n,True); os.close(keep)
os.execv('/usr/bin/python3',['python3','-c','import os,sys; n=int(sys.argv[1]); os.write(n,b\"lost;\"); os.read(0,1); os.write(n,b\"after exec;\")',str(n)])
";
    for (got, sent) in run(script, 1) {
        assert_eq!(got, [b"unknown;after close_range;lost;after exec;"]);
        let taken = taken(&sent);
        assert!(taken.iter().any(|text| text.ends_with("after close_range;")), "{taken:?}");
        assert!(taken.contains(&"after exec;".to_owned()), "{taken:?}");
        assert!(!taken.iter().any(|text| text.contains("file")), "{taken:?}");
    }
}

#[test]
fn descriptors_of_a_parent_and_of_another_are_asked_about() {
    let script = "
c=socket.socket(); c.connect(s4); c.send(b'parent;')
a,b=socket.socketpair()
pid=os.fork()
if pid==0:
    os.write(c.fileno(),b'asked;'); asked(); os.write(c.fileno(),b'child;')
    d=socket.socket(); d.connect(s4); a.sendmsg([b'x'],[(socket.SOL_SOCKET,socket.SCM_RIGHTS,array.array('i',[d.fileno()]))]); os._exit(0)
os.waitpid(pid,0)
_,control,_,_=b.recvmsg(1,socket.CMSG_SPACE(4)); n=array.array('i',control[0][2])[0]
os.write(n,b'asked;'); asked(); os.write(n,b'handed over;')
";
    for (got, sent) in run(script, 2) {
        assert_eq!(got, [&b"parent;asked;child;"[..], b"asked;handed over;"]);
        // A pair of sockets is one that nobody saw being made, too.
        assert_eq!(taken(&sent), ["child;", "handed over;", "parent;", "x"]);
    }
}
