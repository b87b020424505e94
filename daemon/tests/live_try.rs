//! `telltale try`, for real: apps with uids of their own get what was handed out and send it on, through Android's BoringSSL,
//! through TLS of their own, and sealed by a cipher of their own; the verdicts must be right.
//!
//! Needs what `live_tls.rs` needs, and python3; else the test says `skipped: REASON`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
mod live;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use live::{
    Library,
    server::{Program, Server},
    session,
    uids::uids,
    until, ways,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use telltale::trial::{ANSWER_FILE, ASKED_FILE, RANDOM, Trial};

/// The outside of TLS: a ClientHello without extensions, then a record of 64 bytes.
const OWN_TLS: &str = "import socket, sys, os\n\
    os.setuid(int(sys.argv[2]))\n\
    s = socket.socket()\n\
    s.connect(('127.0.0.1', int(sys.argv[1])))\n\
    hello = bytes.fromhex('0303') + bytes(32) + bytes.fromhex('00000213010100')\n\
    hello = b'\\x01' + len(hello).to_bytes(3, 'big') + hello\n\
    s.sendall(b'\\x16\\x03\\x01' + len(hello).to_bytes(2, 'big') + hello)\n\
    s.sendall(b'\\x17\\x03\\x03\\x00\\x40' + bytes(64))\n\
    s.close()\n";

/// A phone's root on which three apps are installed, and their uids.
struct Phone {
    root: tempfile::TempDir,
    browser: u32,
    files: u32,
    music: u32,
}

impl Phone {
    fn new() -> Phone {
        let root = tempfile::tempdir().unwrap();
        let [browser, files, music] = uids();
        fs::create_dir_all(root.path().join("data/system")).unwrap();
        let list = [
            ("com.mi.globalbrowser.mini", browser),
            ("com.mi.android.globalFileexplorer", files),
            ("com.miui.player", music),
        ];
        let list = list.map(|(name, uid)| format!("{name} {uid} 0 /data/user/0/{name} default none\n"));
        fs::write(root.path().join("data/system/packages.list"), list.concat()).unwrap();
        Phone { root, browser, files, music }
    }

    fn watch_options(&self, library: &Library) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let (root, library) = (path(self.root.path()), path(library.path()));
        ["--loopback", "--sysroot", &root, "--lib", &library].map(str::to_owned).to_vec()
    }

    fn store(&self) -> PathBuf {
        self.root.path().join("store")
    }
}

fn post(host: &str, body: &str) -> String {
    format!("POST /collect HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A running `telltale try --json`, and what it handed out.
struct Try {
    program: Program,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    texts: BTreeMap<String, String>,
}

impl Try {
    fn start(phone: &Phone, library: &Library) -> Try {
        let mut child = Command::new(env!("CARGO_BIN_EXE_telltale"))
            .args(["try", "--json", "--store"])
            .arg(phone.store())
            .arg("--")
            .args(phone.watch_options(library))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let program = Program(child);
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let handed_out: Value = serde_json::from_str(&line).unwrap();
        let texts = serde_json::from_value(handed_out["texts"].clone()).unwrap();
        Try { program, input, output, texts }
    }

    /// Waits until something was seen being sent, asks for the verdicts and gives them by what was handed out.
    fn verdicts(mut self, phone: &Phone) -> Vec<(String, Value)> {
        let answer = phone.store().join("try-seen.json");
        let sent = || fs::read_to_string(&answer).is_ok_and(|text| text.contains("\"sent\""));
        assert!(until(Duration::from_secs(60), sent), "nothing was seen being sent");
        self.input.write_all(b"\n\n").unwrap();
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        assert!(self.program.0.wait().unwrap().success());
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|record| (record["what"].as_str().unwrap().to_owned(), record))
            .collect()
    }
}

fn verdict<'r>(records: &'r [(String, Value)], what: &str) -> &'r Value {
    let found: Vec<_> = records.iter().filter(|(name, _)| name == what).collect();
    let [(_, record)] = found[..] else { panic!("{what}: {records:?}") };
    record
}

/// BoringSSL, where this machine can hook it.
fn library() -> Option<Library> {
    let (way, library) = ways().into_iter().find(|(_, library)| !library.has_write_ex())?;
    session(way, &library)?.stop().unwrap();
    Some(library)
}

#[test]
fn sent_not_readable_and_not_seen() {
    let Some(library) = library() else { return };
    let (phone, collector) = (Phone::new(), Server::collector());
    let trial = Try::start(&phone, &library);
    let (address, song) = (&trial.texts["address"], &trial.texts["song title"]);

    // The file manager: through TLS of its own. The text inside is nobody's to see, so there is none.
    let arguments = [collector.port.to_string(), phone.files.to_string()];
    let sent = Command::new("python3").args(["-c", OWN_TLS]).args(arguments).status();
    assert!(sent.unwrap().success());

    // The music player: through BoringSSL, but sealed before that.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut key = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let sealed: Vec<u8> = song.bytes().cycle().take(900).map(|byte| byte ^ key()).collect();
    let sealed = post("log.music.example", &STANDARD.encode(sealed));
    collector.sent(&library, phone.music, "log.music.example", &sealed);

    // The browser: the page itself, and a report on it to somebody else.
    let path = address.trim_start_matches("example.com");
    let page = format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n");
    collector.sent(&library, phone.browser, "example.com", &page);
    let report = STANDARD.encode(format!("{{\"event\":\"page\",\"url\":\"https://{address}\"}}"));
    let report = post("reports.example", &format!("data={}", report.replace('=', "%3D").replace('+', "%2B")));
    collector.sent(&library, phone.browser, "reports.example", &report);

    let records = trial.verdicts(&phone);
    let sent = verdict(&records, "address");
    let told = [&sent["verdict"], &sent["host"], &sent["app"]];
    assert_eq!(told, ["sent", "reports.example", "Mint Browser"], "{sent}");
    assert!(sent["via"].as_str().unwrap().starts_with("tls>http1>"), "{sent}");
    let phrase = verdict(&records, "search phrase");
    assert_eq!(phrase["verdict"], "not seen", "{phrase}");
    for (what, why) in [("folder name", "TLS of its own"), ("song title", "own cipher")] {
        let record = verdict(&records, what);
        assert_eq!(record["verdict"], "not readable there", "{record}");
        assert!(record["why"].as_str().unwrap().contains(why), "{record}");
    }
    // Nobody watches any more.
    assert!(!phone.store().join("try.json").exists());
}

#[test]
fn nothing_is_handed_out_before_it_would_be_seen() {
    if library().is_none() {
        return;
    }
    let store = tempfile::tempdir().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let asked = Trial::new(&[7; RANDOM], now);
    fs::write(store.path().join(ASKED_FILE), asked.to_json()).unwrap();
    // One that comes as far as its hooks and no further.
    let output = Command::new(env!("CARGO_BIN_EXE_telltale"))
        .args(["run", "--lib", "/no/such/libssl.so", "--store"])
        .arg(store.path())
        .output()
        .unwrap();
    assert!(!output.status.success(), "{output:?}");
    assert!(!store.path().join(ANSWER_FILE).exists(), "it says that it watches, and does not");
}

/// What every secret here begins with.
const SECRET: &str = "s3cr3tOfAna";

/// A request with something to be found, and with secrets in every place that has them.
fn with_secrets(phrase: &str) -> String {
    let body = format!(
        "{{\"q\":\"{phrase}\",\"password\":\"{SECRET}1\",\"access_token\":\"{SECRET}2\",\"back\":\"https://ana:{SECRET}3@a.example/?code={SECRET}4\"}}"
    );
    format!(
        "POST /collect?token={SECRET}5 HTTP/1.1\r\nHost: secret.watched.example\r\nCookie: sid={SECRET}6\r\nAuthorization: Bearer {SECRET}7\r\n\
         X-Api-Key: {SECRET}8\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The contents of everything in a folder, which nobody but its owner may enter or read.
fn private_files(folder: &Path) -> Vec<String> {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(folder) & 0o77, 0, "{}", folder.display());
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts.extend(private_files(&path));
        } else if path.is_file() {
            assert_eq!(mode(&path) & 0o77, 0, "{}", path.display());
            texts.push(String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned());
        }
    }
    texts
}

#[test]
fn killed_it_leaves_no_watch_behind() {
    let Some(library) = library() else { return };
    let phone = Phone::new();
    let mut trial = Try::start(&phone, &library);
    let own = trial.program.0.id();
    let children = format!("/proc/{own}/task/{own}/children");
    let children: Vec<u32> =
        fs::read_to_string(children).unwrap().split(' ').filter_map(|pid| pid.parse().ok()).collect();
    let [watch] = children[..] else { panic!("{children:?}") };
    trial.program.0.kill().unwrap();
    trial.program.0.wait().unwrap();
    let is_there = || {
        // Somebody else's process may get its number.
        let line = fs::read(format!("/proc/{watch}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(phone.store().to_str().unwrap())
    };
    assert!(until(Duration::from_secs(60), || !is_there()), "process {watch} still watches");
}

#[test]
fn a_running_watch_takes_the_experiment_and_keeps_what_came_of_it() {
    let Some(library) = library() else { return };
    let (phone, collector) = (Phone::new(), Server::collector());
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_telltale"))
        .args(["run", "--store"])
        .arg(phone.store())
        .args(phone.watch_options(&library))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(daemon.stderr.take().unwrap());
    let mut daemon = Program(daemon);
    said.read_line(&mut String::new()).unwrap();
    let lines = Arc::new(Mutex::new(String::new()));
    let keep = Arc::clone(&lines);
    thread::spawn(move || {
        said.lines().map_while(Result::ok).for_each(|line| keep.lock().unwrap().push_str(&(line + "\n")));
    });

    let trial = Try::start(&phone, &library);
    let phrase = trial.texts["search phrase"].replace(' ', "+");
    let report = post("reports.example", &format!("{{\"q\":\"{phrase}\"}}"));
    collector.sent(&library, phone.browser, "reports.example", &report);
    let records = trial.verdicts(&phone);
    assert_eq!(verdict(&records, "search phrase")["verdict"], "sent");
    // It is watched for a day more.
    assert!(phone.store().join("try.json").exists());

    // Who watches sees what is found from then on: each time another host, because a known thing is not told again.
    let mut watcher = Command::new(env!("CARGO_BIN_EXE_telltale"))
        .args(["watch", "--store"])
        .arg(phone.store())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(watcher.stdout.take().unwrap());
    let _watcher = Program(watcher);
    let seen = Arc::new(AtomicBool::new(false));
    let sees = Arc::clone(&seen);
    thread::spawn(move || {
        let mut lines = output.lines().map_while(Result::ok);
        sees.store(lines.any(|line| line.contains(".watched.example")), Ordering::SeqCst);
    });
    let mut number = 0;
    let told = || {
        number += 1;
        let host = format!("r{number}.watched.example");
        collector.sent(&library, phone.browser, &host, &post(&host, &format!("{{\"q\":\"{phrase}\"}}")));
        until(Duration::from_millis(500), || seen.load(Ordering::SeqCst))
    };
    assert!(until(Duration::from_secs(60), told), "the watcher sees nothing");

    // Secrets beside something that is found: where anybody could see them, they are not.
    collector.sent(&library, phone.browser, "secret.watched.example", &with_secrets(&phrase));
    let status = |options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_telltale"));
        let output = command.arg("status").args(options).arg("--store").arg(phone.store()).output().unwrap();
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let mut public = Vec::new();
    let arrived = || {
        public.push(status(&["--json"]));
        public.iter().any(|status| status.contains("secret.watched.example"))
    };
    assert!(until(Duration::from_secs(30), arrived), "the request with the secrets did not come");
    public.push(status(&[]));
    for name in ["cmdline", "comm", "environ"] {
        let text = fs::read(format!("/proc/{}/{name}", daemon.0.id())).unwrap();
        public.push(String::from_utf8_lossy(&text).into_owned());
    }

    kill(Pid::from_raw(daemon.0.id() as i32), Signal::SIGTERM).unwrap();
    let ended = || daemon.0.try_wait().unwrap().is_some();
    assert!(until(Duration::from_secs(30), ended), "it does not end");
    let evidence = phone.store().join("evidence");
    let telltale = |command: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_telltale")).args(command).arg(&evidence).output().unwrap();
        assert!(output.status.success(), "{command:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let page = telltale(&["report", "--evidence"]);
    assert!(page.contains("Your experiments") && page.contains("reports.example"));
    assert!(page.contains("secret.watched.example"), "what came with the secrets was not kept");
    // What was read of whom, and with which library.
    let kept = telltale(&["export", "--jsonl", "--evidence"]);
    let records = kept.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let hooked = records.into_iter().find(|record| record["type"] == "library").unwrap();
    assert!(hooked["build_id"].as_str().unwrap().len() >= 16, "{hooked}");
    public.extend([page, kept, lines.lock().unwrap().clone()]);
    public.extend(private_files(&phone.store()));
    let told = public.iter().find(|text| text.contains(SECRET));
    assert!(told.is_none(), "{told:?}");
    telltale(&["verify"]);

    // And all of it can be handed on as proof.
    let case = phone.root.path().join("case.jsonl");
    telltale(&["export", "--case", &case.display().to_string(), "--note", "seen on the bus", "--evidence"]);
    let verify = || {
        let output = Command::new(env!("CARGO_BIN_EXE_telltale")).arg("verify").arg(&case).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (holds, said) = verify();
    assert!(holds && said.contains("note: seen on the bus"), "{said}");
    let mut bytes = fs::read(&case).unwrap();
    assert_eq!(fs::metadata(&case).unwrap().permissions().mode() & 0o777, 0o600);
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 30;
    bytes[at] ^= 1;
    fs::write(&case, bytes).unwrap();
    let (holds, said) = verify();
    assert!(!holds && said.contains("line 2 is not as it was written"), "{said}");
}
