//! A CPU that goes and returns under traffic: its ring is read again, and what was lost meanwhile is counted.
//!
//! Needs root, the `raw_syscalls` tracepoints, python3, taskset and a CPU that may be switched off; else the test says
//! `skipped: REASON`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[allow(dead_code)]
mod live;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::UdpSocket,
    process::{Command, Stdio},
};

use live::{
    daemon::{PATIENCE, can_watch_sends},
    until,
};
use telltale::{
    kernel::{Options, Session},
    record::Body,
};

const ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";

/// Switched on again whatever happens.
struct Off;

impl Drop for Off {
    fn drop(&mut self) {
        let _ = fs::write(ONLINE, "1");
    }
}

#[test]
fn a_cpu_that_was_away_is_read_again() {
    if !can_watch_sends() {
        return;
    }
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut session = Session::bare(&Options::default()).unwrap();
    session.hook_sends().unwrap();
    if let Err(error) = fs::write(ONLINE, "0") {
        return println!("skipped: {ONLINE}: {error}");
    }
    drop(Off);
    // On that CPU alone; a line in, a datagram out.
    let script = "import os,socket,sys
u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); a=('127.0.0.1',int(sys.argv[1]))
for line in sys.stdin:
    try: os.sched_setaffinity(0,{1})
    except OSError: pass
    u.sendto(b'from the other CPU',a); print(sorted(os.sched_getaffinity(0)),flush=True)";
    let mut client = Command::new("python3")
        .args(["-c", script, &server.local_addr().unwrap().port().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(client.stdout.take().unwrap()).lines();
    let pid = client.id();
    let mut heard = |session: &mut Session| {
        client.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        assert_eq!(output.next().unwrap().unwrap(), "[1]");
        let mut heard = 0;
        session.drain(&mut |_, event| {
            heard += u32::from(event.connection.tgid == pid && matches!(event.body, Body::SocketSend(_)));
        });
        heard
    };
    // Away and back before anybody looked: the list of CPUs is what it was. A look is what housekeeping takes.
    let (mut unheard, mut looks) = (0, 0);
    let back = until(PATIENCE, || {
        let sent = heard(&mut session);
        unheard += u32::from(sent == 0);
        looks += 1;
        session.follow_cpus().unwrap();
        sent > 0
    });
    println!("heard again after {looks} looks; {unheard} datagrams were not");
    assert!(back, "nothing is heard of a CPU that returned");
    assert!(heard(&mut session) > 0);

    // Away for longer, and seen to be.
    let off = Off;
    fs::write(ONLINE, "0").unwrap();
    session.follow_cpus().unwrap();
    assert!(session.rings().all(|ring| ring.cpu != 1));
    drop(off);
    assert!(session.follow_cpus().unwrap());
    assert!(session.rings().any(|ring| ring.cpu == 1));
    assert!(heard(&mut session) > 0);
    // What is mapped there is told of, too.
    let mut mapper = Command::new("taskset").args(["-c", "1", "/bin/true"]).spawn().unwrap();
    assert!(mapper.wait().unwrap().success());
    session.take_mappers();
    session.follow_mappings();
    assert!(session.take_mappers().contains(&mapper.id()), "nothing is told of what is mapped there");
    let tally = session.tally().unwrap();
    println!("{} attempts, {} records, {} lost", tally.attempts, tally.records, tally.lost());
    drop(client.stdin.take());
    assert!(client.wait().unwrap().success());
    session.stop().unwrap();
}
