//! `telltale run` killed at any moment, fifty times, while clients send: they never notice, and nothing is left behind.
//!
//! Needs root, the `raw_syscalls` tracepoints, iproute2 and Debian's python3; else the test says `skipped: REASON`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[allow(dead_code)]
mod live;

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::FileTypeExt as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use live::daemon::{Daemon, PATIENCE, TELLTALE, can_watch_sends, has};
use live::{tracefs::entries, until};

/// How often it is killed.
const TIMES: u64 = 50;

/// Connects, sends, closes, over and over, through OpenSSL's `SSL_write` into memory and through a socket; says how many bytes
/// the socket took. A byte that cannot be sent ends it with an error.
const CLIENT: &str = r"
import socket,ssl,sys,threading
over=threading.Event(); threading.Thread(target=lambda:(sys.stdin.read(),over.set()),daemon=True).start()
n=0
while not over.is_set():
    c=socket.create_connection(('127.0.0.1',int(sys.argv[1])))
    for i in range(50):
        c.sendall(b'%08d'%i*100); n+=800
    x=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); x.check_hostname=False; x.verify_mode=ssl.CERT_NONE
    i,o=ssl.MemoryBIO(),ssl.MemoryBIO(); s=x.wrap_bio(i,o,server_hostname='killed.test')
    try: s.do_handshake()
    except ssl.SSLWantReadError: pass
    h=o.read(); c.sendall(h); n+=len(h)
    c.close()
print(n,flush=True)
";

#[test]
fn killed_fifty_times_under_traffic_it_harms_nobody_and_leaves_nothing() {
    if !can_watch_sends() || !has(&["/usr/bin/python3"]) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut client = Command::new("/usr/bin/python3")
        .args(["-c", CLIENT, &port])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let end = b"end of the test";
    let reader = thread::spawn(move || {
        let mut got = 0u64;
        loop {
            let mut bytes = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
            if bytes == end {
                return got;
            }
            got += bytes.len() as u64;
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let library = live::openssl();
    let options = ["--loopback", "--attach", "tracefs", "--lib", library.to_str().unwrap()];
    let (began, mut pids, mut hooked) = (Instant::now(), Vec::new(), 0);
    for turn in 0..TIMES {
        let mut daemon = Command::new(TELLTALE)
            .args(["run", "--store", store.to_str().unwrap()])
            .args(options)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // At every stage of its start; each fourth while it hooks or watches.
        if turn % 4 == 0 {
            until(PATIENCE, || entries(daemon.id()) > 0);
        }
        thread::sleep(Duration::from_millis(turn * 53 % 300));
        hooked += usize::from(entries(daemon.id()) > 0);
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        pids.push(daemon.id());
        assert!(client.try_wait().unwrap().is_none(), "the client noticed");
    }
    println!("killed {TIMES} times in {:?}, {hooked} times with hooks on", began.elapsed());
    assert!(hooked >= 12, "{hooked}");
    // The next one cleans up, answers where the killed ones did, and leaves nothing when it is told to end.
    let daemon = Daemon::start(folder.path(), &options);
    assert_eq!(number_left(&pids), 0);
    assert!(fs::metadata(store.join("control")).unwrap().file_type().is_socket());
    assert!(daemon.status()["records"].as_u64().is_some());
    pids.push(daemon.child.id());
    daemon.stop();
    assert_eq!(number_left(&pids), 0);
    let evidence = Command::new(TELLTALE).args(["verify"]).arg(store.join("evidence")).output().unwrap();
    println!("{}", String::from_utf8_lossy(&evidence.stdout).trim());
    let left: Vec<String> =
        names(&store).into_iter().filter(|name| name.contains('.') && name != "id.key").collect();
    assert!(left.len() < TIMES as usize / 5, "{left:?}");

    drop(client.stdin.take());
    assert!(until(PATIENCE, || client.try_wait().unwrap().is_some()), "the client does not end");
    let mut said = String::new();
    client.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(client.wait().unwrap().success());
    std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap().write_all(end).unwrap();
    assert_eq!(reader.join().unwrap().to_string(), said.trim(), "bytes the server got");
}

fn number_left(pids: &[u32]) -> usize {
    pids.iter().map(|pid| entries(*pid)).sum()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
