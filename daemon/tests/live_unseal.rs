//! Apps that encrypt their reports themselves before TLS, for real: Android's libcrypto and libssl, `telltale run` beside them, and
//! what it says of each message; and that what never leaves is nowhere to be found afterwards.
//!
//! Needs what `live_tls.rs` needs; else the tests say `skipped: REASON`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[allow(dead_code)]
mod live;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{
        fs::{FileExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use live::{Library, compile, session, uids::uids, until, ways};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// What 19_onetrack_open.json says, which is what OneTrack says sealed on the other path.
const ONETRACK: &str = r#"[{"H":{"event":"onetrack_pa","imei":"0eaed834a1e6f4b2bf0c024e0013dea1","oaid":"a1b2c3d4e5f60718","android_id":"9f3c2b7a1d4e5f60","instance_id":"fc704e6b-13c4-4b26-af5e-411f75da84f2","model":"Redmi Note 8","pkg":"com.miui.player","app_id":"31000000001","e_ts":1588291200000,"region":"PT"},"B":{"type":1,"class":"com.miui.player.ui.SearchActivity","duration":8000}}]"#;
/// MiStat 3: MD5 of the IMEI, the Android ID, and a screen.
const MISTAT: &str = r#"{"id":"x","av":"3.0","es":[{"e":"mistat_dau","tp":"a","ts":1588291200000,"ps":{"ia":"0eaed834a1e6f4b2bf0c024e0013dea1","ai":"9f3c2b7a1d4e5f60"}},{"e":"mistat_pa","ts":1588291200000,"ps":{"pg":"com.miui.player.ui.SearchActivity","bt":1588291200000,"et":1588291208000}}]}"#;
/// Events of Sensors Analytics, each sealed for itself.
const SENSORS: [&str; 2] = [
    r#"{"type":"track","event":"search","time":1588291200000,"distinct_id":"fc704e6b-13c4-4b26-af5e-411f75da84f2","properties":{"search_word":"how to leave quietly","$lib":"Android"}}"#,
    r#"{"type":"track","event":"page_view","time":1588291201000,"distinct_id":"fc704e6b-13c4-4b26-af5e-411f75da84f2","properties":{"url":"https://private.example/diary","$lib":"Android"}}"#,
];
/// Another report, with this phone's IMEI in it.
const REPORT: &str =
    r#"{"report":{"imei":"490154203237518","note":"as long as several blocks of a cipher"}}"#;
/// Encrypted and never sent.
const SECRET: &str = "correct-horse-battery-staple";

const BOUND: Duration = Duration::from_secs(60);

/// A phone's root with installed apps, and their uids in the same order.
struct Phone {
    root: tempfile::TempDir,
    uids: [u32; APPS.len()],
}

const APPS: [&str; 6] = [
    "com.miui.analytics",
    "com.xiaomi.xmsf",
    "com.mi.globalbrowser",
    "com.miui.home",
    "com.x8bit.bitwarden",
    "com.example.unlisted",
];

impl Phone {
    fn new() -> Phone {
        let root = tempfile::tempdir().unwrap();
        let uids = uids();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(root.path().join("data/system")).unwrap();
        let line = |(name, uid): (&str, u32)| format!("{name} {uid} 0 /data/user/0/{name} default none\n");
        let list: String = APPS.into_iter().zip(uids).map(line).collect();
        fs::write(root.path().join("data/system/packages.list"), list).unwrap();
        // An owner's slip: a password manager named among the apps to look into.
        let config = "log_level = \"debug\"\nlines_per_hour = 0\nunseal = [\"com.x8bit.bitwarden\"]\n";
        fs::write(root.path().join("config.toml"), config).unwrap();
        // The apps' uids may not go where the build lies.
        let program = root.path().join("client");
        fs::copy(compile("sealed-client", "boringssl"), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let shared = root.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
        Phone { root, uids }
    }

    fn uid(&self, app: &str) -> u32 {
        self.uids[APPS.iter().position(|name| *name == app).unwrap()]
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A file that the clients can read; the step that reads it.
    fn gzipped(&self, name: &str, text: &str) -> String {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(text.as_bytes()).unwrap();
        let path = self.path(name);
        fs::write(&path, gzip.finish().unwrap()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        format!("file:{}", path.display())
    }
}

/// A running daemon and what it has said.
struct Daemon {
    child: Child,
    /// What it hooks and apps go through.
    library: Library,
    lines: Arc<Mutex<String>>,
    alerts: Arc<Mutex<Vec<Value>>>,
}

impl Daemon {
    fn start(phone: &Phone, library: &Library, way: &str) -> Daemon {
        let truth = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/device_truth.json");
        let mut child = Command::new(env!("CARGO_BIN_EXE_telltale"))
            .args(["run", "--json", "--loopback", "--sends", "off", "--attach", way, "--sysroot"])
            .arg(phone.root.path())
            .arg("--store")
            .arg(phone.path("store"))
            .arg("--config")
            .arg(phone.path("config.toml"))
            .arg("--truth")
            .arg(truth)
            .arg("--lib")
            .arg(library.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, alerts) = (Arc::new(Mutex::new(String::new())), Arc::new(Mutex::new(Vec::new())));
        let (said, found) = (Arc::clone(&lines), Arc::clone(&alerts));
        let (stderr, stdout) = (child.stderr.take().unwrap(), child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                said.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                found.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        let daemon = Daemon { child, library: library.clone(), lines, alerts };
        daemon.wait_for("Nothing yet is not all clear");
        daemon
    }

    fn wait_for(&self, text: &str) {
        let found = until(BOUND, || self.lines.lock().unwrap().contains(text));
        assert!(found, "{text:?} was not said: {}", self.lines.lock().unwrap());
    }

    /// Runs an app to its end.
    fn app(&self, phone: &Phone, app: &str, host: &str, steps: &[&str]) {
        go_on(self.begin(phone, app, host, steps));
    }

    /// Starts an app: it opens a connection, by which it is met, waits until it is watched, and then for the word to go on.
    fn begin(&self, phone: &Phone, app: &str, host: &str, steps: &[&str]) -> Child {
        let child = Command::new(phone.path("client"))
            .env("LD_LIBRARY_PATH", self.library.folder())
            .args(["pause:1", &format!("open:{host}"), "line"])
            .args(steps)
            .uid(phone.uid(app))
            .gid(phone.uid(app))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        if !matches!(app, "com.x8bit.bitwarden" | "com.example.unlisted") {
            self.wait_for(&format!("watching what {app} (pid {}) encrypts", child.id()));
        }
        child
    }

    /// What was said of the messages of an app to a host, once all of `kinds` are among it: (kind, via, crypt, sender, why).
    fn findings(&self, phone: &Phone, app: &str, host: &str, kinds: &[&str]) -> Vec<[String; 5]> {
        let mut found = Vec::new();
        let done = until(BOUND, || {
            let alerts = self.alerts.lock().unwrap();
            let field = |alert: &Value, name: &str| alert[name].as_str().unwrap_or_default().to_owned();
            found = alerts
                .iter()
                .filter(|alert| alert["uid"] == phone.uid(app) && alert["host"] == host)
                .map(|alert| ["kind", "via", "crypt", "sender", "why"].map(|name| field(alert, name)))
                .collect();
            kinds.iter().all(|kind| found.iter().any(|finding| finding[0] == *kind))
        });
        assert!(done, "not all of {kinds:?} of {app} to {host}: {found:?}\n{}", self.lines.lock().unwrap());
        found
    }

    fn end(&mut self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        // Hooks on the ciphers of apps that ended lately come off one by one, each after a grace period of the kernel's.
        let began = Instant::now();
        let ended = until(3 * BOUND, || self.child.try_wait().unwrap().is_some());
        println!("{:?} to end", began.elapsed());
        assert!(ended, "it does not end");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets an app go on to its end.
fn go_on(mut app: Child) {
    app.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut said = String::new();
    app.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(app.wait().unwrap().success(), "{said}");
}

/// Both ways of attaching; empty, having said why, where this machine cannot.
fn possible() -> Vec<(&'static str, Library)> {
    let boring = ways().into_iter().filter(|(_, library)| matches!(library, Library::BoringSsl(_)));
    boring
        .filter_map(|(way, library)| {
            session(way, &library)?.stop().unwrap();
            Some((way.name(), library))
        })
        .collect()
}

/// Every finding has this route and crypt `sealed`, and each of the kinds is there.
fn all_by(findings: &[[String; 5]], via: &str, kinds: &[&str]) {
    for kind in kinds {
        assert!(findings.iter().any(|found| found[0] == *kind), "no {kind}: {findings:#?}");
    }
    let of_kinds = findings.iter().filter(|found| kinds.contains(&found[0].as_str()));
    for found in of_kinds {
        assert!(found[1].starts_with(via), "{via}: {findings:#?}");
        assert_eq!(found[2], "sealed", "{findings:#?}");
    }
    assert!(!findings.iter().any(|found| found[0] == "encrypted_telemetry"), "{findings:#?}");
}

#[test]
fn sealed_telemetry_is_read_with_route_and_true_sender() {
    for (way, library) in possible() {
        let phone = Phone::new();
        let mut daemon = Daemon::start(&phone, &library, way);

        // OneTrack: a session key wrapped for the server first, then the report under it.
        let host = "tracking.intl.miui.com";
        let report = phone.gzipped("onetrack", ONETRACK);
        let key = format!("http:/track/key_get:{host}:Content-Type: application/octet-stream");
        let track = format!(
            "http:/track/v4:{host}:OT_SID: 0a1b2c|OT_sender: com.miui.player|Content-Type: application/octet-stream"
        );
        daemon.app(
            &phone,
            "com.miui.analytics",
            host,
            &["rsa", &key, "send", &report, "evp:ecb:0", &track, "send"],
        );
        let kinds = ["screen_view", "imei", "ad_id", "android_id", "persistent_id"];
        let found = daemon.findings(&phone, "com.miui.analytics", host, &kinds);
        let of_track: Vec<_> = found
            .into_iter()
            .filter(|found| found[1].contains("sealed") || kinds.contains(&found[0].as_str()))
            .collect();
        all_by(&of_track, "tls>http1>sealed:aes-128-ecb>gzip>json", &kinds);
        assert!(of_track.iter().all(|found| found[3] == "com.miui.player"), "{way}: {of_track:#?}");

        // MiStat 3 under a key that only the server has.
        let host = "data.mistat.intl.xiaomi.com";
        let report = phone.gzipped("mistat", MISTAT);
        let post = format!("http:/mistats/v3:{host}:Content-Type: application/x-www-form-urlencoded");
        let steps = [
            "text:ai=31000000001&sv=3.0&pv=3.0&rg=PT&fc=0&sid=00c0ffee&sn=1&p=",
            "collect",
            &report,
            "evp:cbc:0",
            "base64",
            "percent",
            "collect",
            "collected",
            &post,
            "send",
        ];
        daemon.app(&phone, "com.miui.home", host, &steps);
        // (The vector is not before the text there; a cipher text is found wherever it stands.)
        let found = daemon.findings(&phone, "com.miui.home", host, &["screen_view", "imei", "android_id"]);
        all_by(
            &found,
            "tls>http1>form:p>base64>sealed:aes-128-cbc>gzip>json",
            &["screen_view", "imei", "android_id"],
        );

        // Sensors Analytics with gzip=9: every event for itself, some time before they are sent together.
        let host = "sa.api.intl.miui.com";
        let post =
            format!("http:/sa?project=global_browser:{host}:Content-Type: application/x-www-form-urlencoded");
        let (one, two) = (phone.gzipped("one", SENSORS[0]), phone.gzipped("two", SENSORS[1]));
        let steps = [
            r#"text:[{"ekey":""#,
            "collect",
            "rsa",
            "base64",
            "collect",
            r#"text:","pkv":3,"payloads":[""#,
            "collect",
            &one,
            "evp:cbc:0",
            "base64",
            "collect",
            r#"text:",""#,
            "collect",
            &two,
            "evp:cbc:0",
            "base64",
            "collect",
            r#"text:"],"flush_time":1588291200000}]"#,
            "collect",
            "collected",
            "percent",
            "save:list",
            "text:crc=1&gzip=9&data_list=",
            "collect",
            "file:list",
            "collect",
            "collected",
            &post,
            "send",
        ];
        let list = phone.path("shared/list");
        let steps = steps.map(|step| step.replace(":list", &format!(":{}", list.display())));
        daemon.app(&phone, "com.mi.globalbrowser", host, &steps.each_ref().map(String::as_str));
        let found = daemon.findings(&phone, "com.mi.globalbrowser", host, &["search_query", "visited_url"]);
        let via = "tls>http1>form:data_list>json:[0].payloads[";
        all_by(&found, via, &["search_query", "visited_url"]);
        assert!(
            found.iter().all(|found| !found[1].starts_with(via)
                || found[1].ends_with("]>base64>sealed:aes-128-cbc>gzip>json")),
            "{found:#?}"
        );

        // One app seals, another sends: a relay is believed to, and the true sender named.
        let host = "relay.example";
        let parcel = format!(":{}", phone.path("shared/parcel").display());
        let text = format!("text:{REPORT}");
        let post = format!("http:/up:{host}:Content-Type: application/octet-stream");
        let (save, load) = (format!("save{parcel}"), format!("file{parcel}"));
        // The relay is there already: what was sealed is held for seconds only.
        let relay = daemon.begin(&phone, "com.xiaomi.xmsf", host, &[&load, &post, "send"]);
        daemon.app(&phone, "com.miui.home", host, &[&text, "evp:ctr:0", &save, "pause:1"]);
        go_on(relay);
        let found = daemon.findings(&phone, "com.xiaomi.xmsf", host, &["imei"]);
        all_by(&found, "tls>http1>sealed:aes-128-ctr>json", &["imei"]);

        // The other ciphers and ways to call them, pieces, and one in the other.
        let ways: [(&str, &[&str], &str); 6] = [
            ("cbc", &["evp:cbc:7"], "sealed:aes-128-cbc>json"),
            ("ctr", &["native:ctr:5", "hex"], "hex>sealed:aes-128-ctr>json"),
            ("gcm", &["gcm"], "sealed:aes-128-gcm>json"),
            ("legacy", &["legacy", "base64"], "base64>sealed>json"),
            ("place", &["place"], "sealed:aes-128-ecb>json"),
            (
                "double",
                &["evp:ecb:0", "base64", "evp:cbc:64", "hex"],
                "hex>sealed:aes-128-cbc>base64>sealed:aes-128-ecb>json",
            ),
        ];
        for (name, sealing, via) in ways {
            let host = format!("{name}.example");
            let post = format!("http:/up:{host}:Content-Type: application/octet-stream");
            let steps = [&[text.as_str()], sealing, &[&post, "send"]].concat();
            daemon.app(&phone, "com.miui.home", &host, &steps);
            let found = daemon.findings(&phone, "com.miui.home", &host, &["imei"]);
            all_by(&found, &format!("tls>http1>{via}"), &["imei"]);
        }

        // Not looked into: nothing of it is read, and it says why.
        for (app, why) in
            [("com.x8bit.bitwarden", "never looked into"), ("com.example.unlisted", "option `unseal`")]
        {
            let host = "tracking.intl.miui.com";
            daemon.app(&phone, app, host, &[&text, "evp:ecb:0", &track, "send"]);
            let found = daemon.findings(&phone, app, host, &["encrypted_telemetry"]);
            assert!(found.iter().all(|found| found[0] != "imei"), "{way}: {found:#?}");
            let sealed = found.iter().find(|found| found[0] == "encrypted_telemetry").unwrap();
            assert!(sealed[4].contains(why), "{way}: {found:#?}");
        }
        daemon.end();
    }
}

/// Whether `needle` stands in a file below `folder`.
fn stands_below(folder: &Path, needle: &str) -> bool {
    fs::read_dir(folder).unwrap().flatten().any(|entry| {
        if entry.file_type().unwrap().is_dir() {
            return stands_below(&entry.path(), needle);
        }
        contains(&fs::read(entry.path()).unwrap_or_default(), needle)
    })
}

fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// Whether `needle` stands in the memory that a process has to itself.
fn stands_in_memory(pid: u32, needle: &str) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    maps.lines().filter(|line| line.contains(" rw")).any(|line| {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut bytes = vec![0; (end - start) as usize];
        memory.read_exact_at(&mut bytes, start).is_ok() && contains(&bytes, needle)
    })
}

#[test]
fn what_never_leaves_is_forgotten() {
    let Some((way, library)) = possible().into_iter().next() else { return };
    let phone = Phone::new();
    let mut daemon = Daemon::start(&phone, &library, way);
    // Not among the app's arguments, which the daemon reads to know the app.
    fs::write(phone.path("secret"), SECRET).unwrap();
    let secret = format!("file:{}", phone.path("secret").display());
    let host = "kept.example";
    let post = format!("http:/up:{host}:Content-Type: application/octet-stream");
    let text = format!("text:{REPORT}");
    // With it something that does leave, so that there is a store, evidence, and a line.
    let steps = [&secret, "burn:10000", &text, "evp:ecb:0", &post, "send"];
    daemon.app(&phone, "com.miui.home", host, &steps);
    daemon.findings(&phone, "com.miui.home", host, &["imei"]);
    daemon.wait_for("nothing that apps encrypted is held any more");
    let pid = daemon.child.id();
    let forgotten = until(BOUND, || !stands_in_memory(pid, SECRET));
    assert!(forgotten, "it still stands in the daemon's memory");
    // Asked for its state, it counts them and says nothing of them.
    for form in [&["status"][..], &["status", "--json"]] {
        let status = Command::new(env!("CARGO_BIN_EXE_telltale"))
            .args(form)
            .arg("--store")
            .arg(phone.path("store"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&status.stdout);
        assert!(status.status.success() && said.contains("forgotten"), "{said}");
        assert!(!said.contains(SECRET) && !said.contains("horse"), "{said}");
        if form.len() > 1 {
            let status: Value = serde_json::from_str(&said).unwrap();
            let messages = &status["ciphers"]["messages"];
            assert!(messages["seen"].as_u64() > Some(1_000), "{messages}");
            assert!(messages["forgotten"].as_u64() > Some(1_000), "{messages}");
        }
    }
    daemon.end();
    assert!(fs::read_dir(phone.path("store")).unwrap().count() > 0);
    assert!(!stands_below(&phone.path("store"), SECRET), "it stands in the store");
    let lines = daemon.lines.lock().unwrap();
    assert!(!lines.contains(SECRET) && !lines.contains("horse"), "it was said");
    let alerts = format!("{:?}", daemon.alerts.lock().unwrap());
    assert!(!alerts.contains(SECRET) && alerts.contains("490154203237518"));
}
