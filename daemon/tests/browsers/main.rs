//! Programs that carry their own TLS, found by its structure and read: Debian's Chromium, 290 MB without a symbol, and three
//! Python packages ask a local HTTPS server, and what they sent comes out with address, headers and body, under their own
//! uid. The binaries of other machines and those without BoringSSL are searched only: `table.rs`.
//!
//! Needs root, a kernel with uprobes, a binary with the eBPF object, Chromium, and for the packages `/usr/bin/python3.11`
//! with pip and PyPI; else the tests say `skipped: REASON`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing)]

mod fetch;
#[allow(dead_code)]
#[path = "../live/mod.rs"]
mod live;
mod table;

use std::{
    collections::HashMap,
    env,
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use fetch::{From, PYTHON, Package};
use live::{compile, machine::or_skip, until};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use sha2::{Digest as _, Sha256};
use table::{CURL_CFFI, GRPCIO, RNET, Subject};
use telltale::{
    finder,
    kernel::{Memory, Options, Session},
    record::{Body, ConnectionId, Event},
    stream::{Limits, Order, Step},
    wire::{self, Message, Protocol},
};

/// The program behind Debian's start script.
const CHROMIUM: &str = "/usr/lib/chromium/chromium";
/// Nobody else's on this machine.
const UID: u32 = 61_873;
/// A browser on a machine under load.
const PATIENCE: Duration = Duration::from_secs(180);

/// Posts a form once it is shown, and says when that was answered.
const PAGE: &str = "<title>wait</title><script>fetch('/take?from=page', {method: 'POST', \
    headers: {'Content-Type': 'application/x-www-form-urlencoded', 'X-Shade': 'umber'}, \
    body: 'colour=teal&number=7'}).then(() => document.title = 'done')</script>";

/// What the packages need to run here: name, version, and the wheel's SHA-256.
const HELPERS: [(&str, &str, &str); 4] = [
    ("certifi", "2026.10.18", "73191c47aaa79da394e8fee2dbc2ec827432cab56311122c9e47abf79e390f62"),
    ("cffi", "2.1.1", "34e261f78cb6ceaaa36f42f2613f4380d94d9c759a9c73c769ee6e0247364632"),
    ("pycparser", "3.12", "a076f3f489b39b43ed13563a1dafe42447445bec2e294154ec5c57fcdda4c85e"),
    ("typing_extensions", "4.16.0", "481caa481374e813c1b176ada14e97f1f67a4539ce9cfeb3f350d78d6370c2e8"),
];
/// Asks with curl_cffi, which pretends to be a browser and speaks HTTP/2.
const CURL: &str = "import sys\nfrom curl_cffi import requests\n\
    requests.post(f'https://localhost:{sys.argv[1]}/take?from=curl', data='colour=teal&number=8', \
    headers={'X-Shade': 'ochre'}, verify=False)\n";
/// Calls a method with grpcio; that the answer is no gRPC does not matter.
const GRPC: &str = "import sys, ssl, grpc\nport = int(sys.argv[1])\n\
    trusted = ssl.get_server_certificate(('127.0.0.1', port)).encode()\n\
    channel = grpc.secure_channel(f'localhost:{port}', grpc.ssl_channel_credentials(trusted))\n\
    try:\n    channel.unary_unary('/shades.Shades/Tell')(b'colour=teal&number=9', timeout=60)\n\
    except grpc.RpcError as error:\n    print(error.code())\n";

/// Asks with rnet: Rust on BoringSSL.
const RUST: &str = "import sys\nfrom rnet import BlockingClient\n\
    BlockingClient(verify=False).post(f'https://localhost:{sys.argv[1]}/take?from=rnet', \
    body='colour=teal&number=10', headers={'X-Shade': 'sienna'})\n";

/// What the connections of one uid carried, by connection.
#[derive(Default)]
struct Heard {
    order: Option<Order>,
    connections: HashMap<ConnectionId, (u32, wire::Connection)>,
    messages: Vec<(u32, Message)>,
}

impl Heard {
    /// One pass over the rings.
    fn listen(&mut self, session: &mut Session) {
        let order = self.order.get_or_insert_with(|| Order::new(Limits::default()));
        let pass = session.drain(&mut |pass, event| {
            if event.uid == UID && event.connection.socket().is_none() {
                order.push(pass, event);
            }
        });
        let (connections, messages) = (&mut self.connections, &mut self.messages);
        let mut sink = |id: ConnectionId, event: Option<&Event>, step: Step<'_>| {
            let (Some(event), Step::Chunk(chunk)) = (event, step) else { return };
            let (uid, connection) = connections
                .entry(id)
                .or_insert_with(|| (event.uid, wire::Connection::new(wire::Limits::default())));
            let mut new = Vec::new();
            connection.push(chunk, &mut new);
            messages.extend(new.into_iter().map(|message| (*uid, message)));
        };
        order.end_pass(pass.number, &mut sink);
    }

    fn find(&self, method: &str, target: &str) -> Option<&(u32, Message)> {
        self.messages.iter().find(|(_, message)| message.method == method && message.target == target)
    }
}

/// A local HTTPS server that ends with this.
struct Server(Child, u16);

impl Server {
    fn start(protocol: &str) -> Server {
        let mut child = Command::new(compile("https-server", "openssl"))
            .args([protocol, PAGE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let port = said.trim().strip_prefix("port=").unwrap().parse().unwrap();
        Server(child, port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A browser that opens one page, prints what became of it and ends; it and all it started end with this.
struct Browser {
    child: Child,
    dom: PathBuf,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn open(address: &str) -> Browser {
        let profile = tempfile::tempdir().unwrap();
        chown(profile.path(), Some(UID), Some(UID)).unwrap();
        let dom = profile.path().join("dom");
        let child = Command::new(CHROMIUM)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-extensions"])
            .args(["--ignore-certificate-errors", "--virtual-time-budget=10000", "--dump-dom", address])
            .arg(format!("--user-data-dir={}", profile.path().join("profile").display()))
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(File::create(&dom).unwrap())
            .stderr(Stdio::null())
            .uid(UID)
            .gid(UID)
            .process_group(0)
            .spawn()
            .unwrap();
        Browser { child, dom, _profile: profile }
    }

    /// Listens until it has ended, and gives the page as it was then.
    fn end(&mut self, session: &mut Session, heard: &mut Heard) -> String {
        let ended = until(PATIENCE, || {
            heard.listen(session);
            self.child.try_wait().unwrap().is_some()
        });
        assert!(ended, "the browser does not end");
        for _ in 0..3 {
            heard.listen(session);
        }
        fs::read_to_string(&self.dom).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its own process group: nobody else's browser.
        let group = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// A session on one binary; none, having said why, where this machine cannot have one.
fn session(binary: &Path, own_tls: Memory) -> Option<Session> {
    if !binary.exists() {
        println!("skipped: no {} (Debian package chromium)", binary.display());
        return None;
    }
    let options = Options { libraries: vec![binary.to_owned()], own_tls, ..Options::default() };
    let mut session = or_skip(binary, Session::start(&options))?;
    session.hook_sends().unwrap();
    Some(session)
}

#[test]
fn what_chromium_sends_is_read_over_both_versions_of_http() {
    let chromium = Path::new(CHROMIUM);
    // What the first round finds and proves, the second begins with.
    let mut known = Memory::default();
    for (protocol, expected) in [("http/1.1", Protocol::Http1), ("h2", Protocol::H2)] {
        let Some(mut session) = session(chromium, known.clone()) else { return };
        let fresh = known.is_empty();
        assert_eq!(session.on_probation().count(), usize::from(fresh), "{protocol}");
        let server = Server::start(protocol);
        let mut heard = Heard::default();
        let address = format!("https://localhost:{}/look?word=chestnut", server.1);
        let dom = Browser::open(&address).end(&mut session, &mut heard);
        // The browser was not harmed by being watched.
        assert!(dom.contains("<title>done</title>"), "{protocol}: {dom}");
        let news = session.own_tls_news();
        assert_eq!(session.on_probation().count(), 0, "{protocol}: {news:?}");
        assert!(session.libraries().iter().any(|library| library.path == chromium), "{news:?}");
        assert_eq!(news.iter().any(|line| line.contains("proven")), fresh, "{news:?}");

        let seen: Vec<_> =
            heard.messages.iter().map(|(_, message)| (&message.method, &message.target)).collect();
        let (uid, look) = heard.find("GET", "/look?word=chestnut").unwrap_or_else(|| panic!("{seen:?}"));
        assert_eq!((*uid, look.protocol, look.host.as_deref()), (UID, expected, Some("localhost")));
        assert!(look.header("user-agent").is_some_and(|agent| agent.starts_with(b"Mozilla/5.0")));
        let (uid, take) = heard.find("POST", "/take?from=page").unwrap_or_else(|| panic!("{seen:?}"));
        assert_eq!((*uid, take.protocol), (UID, expected));
        assert_eq!(take.body, b"colour=teal&number=7", "{protocol}");
        assert_eq!(take.header("x-shade"), Some(&b"umber"[..]));
        if let Some(learned) = session.own_tls_learned() {
            known = Memory::from_text(&learned.to_text());
        }
        session.stop().unwrap();
    }
}

/// Runs a script that asks the server under [`UID`], and gives what it sent.
fn asked_by(script: &str, library: &Path, folders: &str) -> Option<Heard> {
    let mut session = session(library, Memory::default())?;
    let server = Server::start("h2");
    let home = tempfile::tempdir().unwrap();
    chown(home.path(), Some(UID), Some(UID)).unwrap();
    let mut heard = Heard::default();
    let mut child = Command::new(PYTHON)
        .args(["-c", script, &server.1.to_string()])
        .env("PYTHONPATH", folders)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HOME", home.path())
        .env("no_proxy", "localhost")
        .stdin(Stdio::null())
        .uid(UID)
        .gid(UID)
        .spawn()
        .unwrap();
    let ended = until(PATIENCE, || {
        heard.listen(&mut session);
        child.try_wait().unwrap().is_some()
    });
    let _ = child.kill();
    assert!(ended && child.wait().unwrap().success(), "{}", library.display());
    for _ in 0..3 {
        heard.listen(&mut session);
    }
    let news = session.own_tls_news();
    assert!(news.iter().any(|line| line.contains("proven")), "{news:?}");
    assert_eq!(session.on_probation().count(), 0, "{news:?}");
    println!("{}", news.join("\n"));
    session.stop().unwrap();
    Some(heard)
}

#[test]
fn what_python_packages_send_through_their_own_boringssl_is_read() {
    if env::consts::ARCH != "x86_64" {
        return println!("skipped: the packages that are run here are those for x86-64");
    }
    if !Path::new(PYTHON).exists() {
        return println!("skipped: no {PYTHON} to run packages with their own TLS");
    }
    let mut folders = Vec::new();
    for (name, version, sha256) in HELPERS {
        let from = From::Pypi("manylinux2014_x86_64", "311");
        let Some(folder) = (Package { name, version, from, sha256 }).unpacked() else { return };
        folders.push(folder.display().to_string());
    }
    let asks = [
        (CURL_CFFI, CURL, "/take?from=curl", "ochre", &b"colour=teal&number=8"[..]),
        (RNET, RUST, "/take?from=rnet", "sienna", b"colour=teal&number=10"),
    ];
    let mut get = |subject: &Subject| {
        let (folder, library) = subject.fetched()?;
        folders.push(folder.display().to_string());
        Some((library, folders.join(":")))
    };
    for (subject, script, target, shade, body) in asks {
        let Some((library, folders)) = get(&subject) else { return };
        // With a symbol table it would be hooked by name.
        assert!(Command::new("strip").arg(&library).status().unwrap().success());
        let Some(heard) = asked_by(script, &library, &folders) else { return };
        let seen: Vec<_> =
            heard.messages.iter().map(|(_, message)| (&message.method, &message.target)).collect();
        let (uid, take) = heard.find("POST", target).unwrap_or_else(|| panic!("{seen:?}"));
        assert_eq!((*uid, take.protocol, take.host.as_deref()), (UID, Protocol::H2, Some("localhost")));
        assert_eq!((take.header("x-shade"), &take.body[..]), (Some(shade.as_bytes()), body));
    }

    let Some((library, folders)) = get(&GRPCIO) else { return };
    let Some(heard) = asked_by(GRPC, &library, &folders) else { return };
    let call = heard.messages.iter().find(|(_, message)| message.protocol == Protocol::Grpc);
    let (uid, call) = call.unwrap_or_else(|| panic!("{:?}", heard.messages));
    assert_eq!(
        (*uid, call.target.as_str(), call.host.as_deref()),
        (UID, "/shades.Shades/Tell", Some("localhost"))
    );
    assert!(call.body.ends_with(b"colour=teal&number=9"), "{:?}", call.body);
}

/// Calls a function as no program calls `SSL_write`, and says at the end what it came to.
const WRONG: &str = r#"
#include <stdio.h>
#include <unistd.h>
__attribute__((noipa)) int wrong(long one, long two, long three) { return (int)(one + two + three); }
int main(void) {
    int sum = 0;
    getchar();
    for (long round = 0; round < 200; round++) { sum += wrong(round, 1, -7); usleep(1000); }
    getchar();
    for (long round = 0; round < 200; round++) sum += wrong(round, 1, -7);
    printf("%d\n", sum);
}
"#;

#[test]
fn a_wrong_place_is_refused_and_its_program_runs_on() {
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("wrong.c"), folder.path().join("wrong"));
    fs::write(&source, WRONG).unwrap();
    let compiled =
        Command::new("cc").args(["-O1", "-Wl,--build-id", "-o"]).args([&program, &source]).status().unwrap();
    assert!(compiled.success());
    // As if an earlier search had found it there.
    let bytes = fs::read(&program).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok("wrong")).unwrap();
    let text = file.section_by_name(".text").unwrap();
    let offset = symbol.address() - text.address() + text.file_range().unwrap().0;
    let first = Sha256::digest(&bytes[offset as usize..][..64]);
    let first = u64::from_le_bytes(first[..8].try_into().unwrap());
    let id: String = finder::build_id(&bytes).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    let key = format!("b{id}-{:x}", bytes.len());
    let known = format!("telltale own tls 3\n{key}\tfound\t{offset:x}\t-\t-\t{first:x}\tuntried\t\n");
    let Some(mut session) = session(&program, Memory::from_text(&known)) else { return };
    assert_eq!(session.on_probation().count(), 1);

    let mut child = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let go_on = |child: &mut Child| {
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
    };
    go_on(&mut child);
    let pid = child.id();
    let is_write =
        |event: &Event, pid| event.connection.tgid == pid && matches!(event.body, Body::TlsWrite(_));
    let mut handed_on = 0;
    let refused = until(Duration::from_secs(60), || {
        session.drain(&mut |_, event| handed_on += u32::from(is_write(&event, pid)));
        session.on_probation().count() == 0
    });
    assert!(refused);
    assert!(session.libraries().is_empty());
    let [refused] = session.not_hooked() else { panic!("{:?}", session.not_hooked()) };
    assert!(refused.path == program && refused.why.contains("arguments"), "{refused:?}");
    let learned = session.own_tls_learned().unwrap().to_text();
    assert!(learned.contains("\trefused\t"), "{learned}");
    // It runs on, unhooked, and nothing of it was taken for something sent.
    go_on(&mut child);
    let said = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "37400");
    session.drain(&mut |_, event| handed_on += u32::from(is_write(&event, pid)));
    assert_eq!(handed_on, 0);
    session.stop().unwrap();

    // Nor is it hooked the next time, or when other code stands there.
    for (own_tls, part) in
        [(learned.clone(), "arguments"), (known.replace(&format!("{first:x}"), "1"), "no BoringSSL")]
    {
        let options = Options {
            libraries: vec![program.clone()],
            own_tls: Memory::from_text(&own_tls),
            ..Options::default()
        };
        let error = Session::start(&options).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}
