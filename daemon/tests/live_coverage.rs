//! The coverage ledger of a running daemon against sources that its hooks do not feed: what servers got, and nftables' counters
//! by uid. Then the same under overload, beside an upload, and for clients that were there first.
//!
//! Needs root, the `raw_syscalls` tracepoints, iproute2, nftables, openssl and Debian's python3; else the tests say
//! `skipped: REASON`. Clients run in network namespaces of their own under uids of their own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[allow(dead_code)]
mod live;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use live::{
    daemon::{Daemon, Net, can_watch_sends, finish, has, line_of, must, python},
    uids::uids,
};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Reads everything on TCP 8000 (clear) and 8443 (TLS), both families, and UDP 8053; answers nothing.
const SERVER: &str = r"
import socket,ssl,sys,threading
def eat(c):
    try:
        while c.recv(1<<20): pass
    except OSError: pass
    c.close()
def serve(l,wrap):
    while True:
        c,_=l.accept()
        try: c=wrap(c)
        except OSError: continue
        threading.Thread(target=eat,args=(c,),daemon=True).start()
t=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); t.load_cert_chain(FOLDER+'/cert.pem',FOLDER+'/key.pem')
for port,wrap in ((8000,lambda c:c),(8443,lambda c:t.wrap_socket(c,server_side=True))):
    l=socket.create_server(('::',port),family=socket.AF_INET6,dualstack_ipv6=True,backlog=64)
    threading.Thread(target=serve,args=(l,wrap),daemon=True).start()
u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); u.bind(('10.77.0.1',8053))
print('ready',flush=True)
sys.stdin.read()
";

/// One at a time: every daemon sees what all the clients send.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server with a certificate of its own.
fn server(net: &Net, folder: &Path) -> Child {
    let shown = folder.display();
    must(&format!(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=server.test -keyout {shown}/key.pem -out {shown}/cert.pem 2>&1
         chmod 755 {shown}; chmod 644 {shown}/key.pem"
    ));
    let mut child = net.python(&net.outside, 0, &format!("FOLDER='{shown}'\n{SERVER}"));
    assert_eq!(line_of(&mut child), "ready");
    child
}

/// Bytes and packets that a uid sent to a port of the server, as nftables counts them on their way out.
fn counted(net: &Net, uid: u32) -> (u64, u64) {
    let output = Command::new("ip")
        .args([
            "netns",
            "exec",
            &net.inside,
            "nft",
            "-j",
            "list",
            "counter",
            "inet",
            "telltale",
            &format!("u{uid}"),
        ])
        .output()
        .unwrap();
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let counter = listed["nftables"].as_array().unwrap().iter().find_map(|one| one.get("counter")).unwrap();
    (counter["bytes"].as_u64().unwrap(), counter["packets"].as_u64().unwrap())
}

fn count(net: &Net, uids: &[u32]) {
    let mut rules = String::from("table inet telltale {\n");
    for uid in uids {
        rules.push_str(&format!("counter u{uid} {{}}\n"));
    }
    rules.push_str("chain out { type filter hook output priority 0;\n");
    for uid in uids {
        rules.push_str(&format!("meta skuid {uid} counter name u{uid}\n"));
    }
    rules.push_str("}\n}\n");
    let mut nft = Command::new("ip")
        .args(["netns", "exec", &net.inside, "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success());
}

fn number(account: &Value, field: &str) -> u64 {
    account[field].as_u64().unwrap()
}

#[test]
fn the_ledger_agrees_with_the_firewalls_counters_for_every_uid() {
    let _turn = turn();
    if !can_watch_sends() || !has(&["ip", "nft", "openssl", "setpriv", "/usr/bin/python3"]) {
        return;
    }
    let Some(net) = Net::new("ledger") else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = server(&net, folder.path());
    let uids @ [clear, datagrams, hooked, unknown_tls, six] = uids();
    count(&net, &uids);
    let daemon = Daemon::start(folder.path(), &["--lib", live::openssl().to_str().unwrap()]);
    // Sizes that are no round numbers; the last line says what was sent, and the client lives until it is told to end.
    let tail = "print(n,flush=True); sys.stdin.read()";
    let clients: Vec<(u32, Child)> = [
        (clear, "c=socket.create_connection(('10.77.0.1',8000))\nb=b'POST /x HTTP/1.1\\r\\nHost: clear.test\\r\\nContent-Length: 3001\\r\\n\\r\\n'+b'x'*3001\nfor i in range(40): c.sendall(b); n+=len(b); time.sleep(0 if i else .5)"),
        (datagrams, "u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\nfor i in range(50): n+=u.sendto(b'd'*(200+i),('10.77.0.1',8053))"),
        (hooked, "x=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); x.check_hostname=False; x.verify_mode=ssl.CERT_NONE\nc=x.wrap_socket(socket.create_connection(('10.77.0.1',8443)),server_hostname='hooked.test')\nfor i in range(30): c.sendall(b'h'*2777); n+=2777"),
        (unknown_tls, "c=socket.create_connection(('10.77.0.1',8000))\nfor i in range(30): c.sendall(b'\\x16\\x03\\x01\\x05\\xac'+b'\\x02'*1452); n+=1457"),
        (six, "c=socket.create_connection(('fd77::1',8000)); n+=c.send(b'GET / HTTP/1.1\\r\\nHost: six.test\\r\\n\\r\\n')"),
    ]
    .into_iter()
    .map(|(uid, script)| {
        (uid, net.python(&net.inside, uid, &format!("import socket,ssl,sys,time\nn=0\n{script}\n{tail}")))
    })
    .collect();
    let mut sent = Vec::new();
    let mut clients: Vec<Child> = clients
        .into_iter()
        .map(|(uid, mut client)| {
            sent.push((uid, line_of(&mut client).parse::<u64>().unwrap()));
            client
        })
        .collect();
    for turn in 0..2 {
        for (uid, content) in &sent {
            let app = daemon.app(*uid, *content);
            let (whole, read, overhead) =
                (number(&app, "bytes"), number(&app, "read"), number(&app, "tls_overhead"));
            let expected = match *uid {
                uid if uid == unknown_tls => (0, 0),
                uid if uid == hooked => (*content, whole - content),
                _ => (*content, 0),
            };
            assert_eq!((read, overhead), expected, "{app:#}");
            match *uid {
                uid if uid == hooked => assert!((300..8_000).contains(&overhead), "{app:#}"),
                uid if uid == unknown_tls => assert_eq!(app["unread"]["tls-not-hooked"], *content, "{app:#}"),
                _ => assert_eq!(whole, *content, "{app:#}"),
            }
            // IPv4 20 or IPv6 40, then UDP 8 or TCP 20 with 12 of timestamps; a SYN has 8 more (RFC 791, 8200, 768, 9293, 7323).
            let (bytes, packets) = counted(&net, *uid);
            let header = match *uid {
                uid if uid == datagrams => 28,
                uid if uid == six => 72,
                _ => 52,
            };
            let beside = bytes - whole;
            println!(
                "uid {uid}: ledger {whole}, firewall {bytes} in {packets} packets, difference {beside} of headers"
            );
            assert!(
                (packets * header..=packets * header + 24).contains(&beside),
                "{beside} in {packets} packets"
            );
        }
        if turn == 0 {
            // The same once they have ended, some without having closed anything.
            clients.drain(..).for_each(finish);
        }
    }
    // TLS names its host; an address stands for the others.
    assert_eq!(daemon.app(hooked, 1)["destinations"][0]["destination"], "hooked.test");
    daemon.stop();
    finish(server);
}

#[test]
fn what_the_rings_have_no_room_for_is_counted_byte_by_byte() {
    let _turn = turn();
    if !can_watch_sends() || !has(&["ip", "openssl", "setpriv", "/usr/bin/python3"]) {
        return;
    }
    let Some(net) = Net::new("flood") else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = server(&net, folder.path());
    let config = folder.path().join("config.toml");
    fs::write(&config, "capture_total = 0\n").unwrap();
    let mut daemon = Daemon::start(folder.path(), &["--rings", "64", "--config", config.to_str().unwrap()]);
    // It learns that the connection is readable, sleeps through the flood, and is awake for the last bytes and the close.
    let script = "import socket,sys
c=socket.create_connection(('10.77.0.1',8000)); n=5
c.sendall(b'first'); print(n,flush=True); sys.stdin.readline()
for i in range(1000): c.sendall(b'f'*7001); n+=7001
print(n,flush=True); sys.stdin.readline(); c.sendall(b'last'); n+=4
print(n,flush=True); sys.stdin.readline(); c.close(); sys.stdin.read()";
    let [uid] = uids();
    let mut client = net.python(&net.inside, uid, script);
    let mut output = BufReader::new(client.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    assert_eq!(output.next().unwrap(), "5");
    assert_eq!(number(&daemon.app(uid, 5), "read"), 5);
    daemon.signal(Signal::SIGSTOP);
    client.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let flood: u64 = output.next().unwrap().parse().unwrap();
    daemon.signal(Signal::SIGCONT);
    daemon.says("lost in the");
    client.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let sent: u64 = output.next().unwrap().parse().unwrap();
    assert_eq!(sent, flood + 4);
    for closed in [false, true] {
        let app = daemon.app(uid, sent);
        let (read, lost) = (number(&app, "read"), number(&app["unread"], "lost"));
        assert_eq!((number(&app, "bytes"), read + lost), (sent, sent), "{app:#}");
        assert!(lost > flood / 2 && read > 7001, "{app:#}");
        let status = daemon.status();
        let (attempts, records) = (number(&status, "attempts"), number(&status, "records"));
        println!(
            "sent {sent} = read {read} + lost {lost}; records {records} of {attempts}; {} kB at the most",
            daemon.peak_memory() >> 10
        );
        assert_eq!(number(&status["lost"], "records"), attempts - records.min(attempts), "{status:#}");
        assert!(number(&status["lost"], "records") > 100);
        if !closed {
            client.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
            thread::sleep(Duration::from_millis(300));
        }
    }
    assert!(daemon.peak_memory() < 200 << 20, "{}", daemon.peak_memory());
    finish(client);
    daemon.stop();
    finish(server);
}

#[test]
fn an_upload_costs_a_bounded_share_and_hides_no_request_beside_it() {
    let _turn = turn();
    if !can_watch_sends() || !has(&["ip", "openssl", "setpriv", "/usr/bin/python3"]) {
        return;
    }
    let Some(net) = Net::new("upload") else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = server(&net, folder.path());
    let daemon = Daemon::start(folder.path(), &["--lib", live::openssl().to_str().unwrap()]);
    let megabytes =
        std::env::var("TELLTALE_UPLOAD_MB").ok().and_then(|text| text.parse().ok()).unwrap_or(60u64);
    for tls in [false, true] {
        let before = daemon.cpu_time();
        let [uid, small] = uids();
        let open = if tls {
            "x=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); x.check_hostname=False; x.verify_mode=ssl.CERT_NONE
c=x.wrap_socket(socket.create_connection(('10.77.0.1',8443)),server_hostname='up.test')"
        } else {
            "c=socket.create_connection(('10.77.0.1',8000))"
        };
        let upload = format!(
            "import socket,ssl,sys,time\n{open}\nb=b'p'*65536\nprint('go',flush=True); t=time.time()\nfor i in range({megabytes}*16): c.sendall(b)\nprint(int((time.time()-t)*1000),flush=True); sys.stdin.read()"
        );
        let request = format!(
            "import socket,ssl,sys,time\n{open}\nn=0\nfor i in range(20): n+=c.send(b'GET /?q=%03d HTTP/1.1\\r\\nHost: up.test\\r\\n\\r\\n'%i); time.sleep(.02)\nprint(n,flush=True); sys.stdin.read()"
        );
        let mut large = net.python(&net.inside, uid, &upload);
        let mut lines = BufReader::new(large.stdout.take().unwrap()).lines().map(|line| line.unwrap());
        lines.next();
        let mut beside = net.python(&net.inside, small, &request);
        let sent: u64 = line_of(&mut beside).parse().unwrap();
        let took: u64 = lines.next().unwrap().parse().unwrap();
        let used = daemon.cpu_time().saturating_sub(before);
        let app = daemon.app(small, sent);
        assert_eq!(number(&app, "read"), sent, "{app:#}");
        let app = daemon.app(uid, megabytes << 20);
        let (read, budget) = (number(&app, "read"), number(&app["unread"], "budget"));
        println!(
            "{} MB through {} in {took} ms: {used:?} of the daemon's time, read {read}, budget {budget}",
            megabytes,
            if tls { "TLS" } else { "plain sends" }
        );
        assert!(app["unread"]["lost"].is_null(), "{app:#}");
        // The bursts, and what both rates give in that time, with a send to overdraw.
        let most = (1 << 20) + (took + 2_000) * (256 << 10) / 1000 + (256 << 10);
        assert!(read <= most && read + budget >= megabytes << 20, "{read} > {most}: {app:#}");
        finish(large);
        finish(beside);
    }
    daemon.stop();
    finish(server);
}

#[test]
fn a_client_that_was_there_first_is_counted_from_when_it_is_seen() {
    let _turn = turn();
    if !can_watch_sends() || !has(&["/usr/bin/python3"]) {
        return;
    }
    // In the daemon's own namespace, whose sockets it can ask about, as on a phone.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let script = format!(
        "import socket,sys,os
c=socket.create_connection(('127.0.0.1',{})); c.sendall(b'before anybody looked'); print('up',flush=True)
for i in range(3):
    sys.stdin.readline(); os.write(c.fileno(),b'GET /early HTTP/1.1\\r\\nHost: early.test\\r\\n\\r\\n'); print(41,flush=True)
sys.stdin.read()",
        address.port()
    );
    let [uid] = uids();
    let mut client = python(uid, &script);
    let _accepted = listener.accept().unwrap();
    let mut output = BufReader::new(client.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    assert_eq!(output.next().unwrap(), "up");
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &["--loopback", "--lib", live::openssl().to_str().unwrap()]);
    for turn in 1..=3u64 {
        client.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        assert_eq!(output.next().unwrap(), "41");
        let app = daemon.app(uid, turn * 41);
        // The first one asks what the descriptor is, and may not be read; then they are.
        let late = app["unread"]["joined-late"].as_u64().unwrap_or(0);
        println!("{turn}: {late} of {} bytes went before it was known", turn * 41);
        assert_eq!((number(&app, "bytes"), number(&app, "read") + late), (turn * 41, turn * 41), "{app:#}");
        assert!(turn < 3 || late <= 82, "{app:#}");
    }
    finish(client);
    daemon.stop();
}

#[test]
fn a_client_that_was_there_first_in_another_network_namespace_is_found_too() {
    let _turn = turn();
    if !can_watch_sends() || !has(&["ip", "openssl", "setpriv", "/usr/bin/python3"]) {
        return;
    }
    let Some(net) = Net::new("elsewhere") else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = server(&net, folder.path());
    let script = "import socket,sys
c=socket.create_connection(('10.77.0.1',8000)); d=socket.create_connection(('fd77::1',8000)); print('up',flush=True)
for i in range(3):
    sys.stdin.readline()
    for s in (c,d): s.sendall(b'GET /early HTTP/1.1\\r\\nHost: early.test\\r\\n\\r\\n')
    print(41,flush=True)
sys.stdin.read()";
    let [uid] = uids();
    let mut client = net.python(&net.inside, uid, script);
    let mut output = BufReader::new(client.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    assert_eq!(output.next().unwrap(), "up");
    let daemon = Daemon::start(folder.path(), &["--lib", live::openssl().to_str().unwrap()]);
    for turn in 1..=3u64 {
        client.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        assert_eq!(output.next().unwrap(), "41");
        let app = daemon.app(uid, turn * 82);
        let late = app["unread"]["joined-late"].as_u64().unwrap_or(0);
        assert_eq!(number(&app, "bytes"), number(&app, "read") + late, "{app:#}");
        assert!(turn < 3 || (late <= 164 && number(&app, "read") > 0), "{app:#}");
    }
    finish(client);
    daemon.stop();
    finish(server);
}
