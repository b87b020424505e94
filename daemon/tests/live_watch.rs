//! `telltale run` while nothing is sent: what it says at the start, what it notices without a timer, what it keeps.
//!
//! Needs what `live_tls.rs` needs; else the test says `skipped: REASON`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing)]

#[allow(dead_code)]
mod live;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use live::{
    Library, compile,
    daemon::{Daemon, PATIENCE},
    server::Program,
    session,
    uids::uids,
    until, ways,
};

/// A process of this uid that has OpenSSL mapped and sends nothing.
fn idle(library: &Library, uid: u32) -> Program {
    let mut client = Command::new(compile("tls-client", "openssl"));
    client.env("LD_LIBRARY_PATH", library.folder());
    client.args(["--connect", "127.0.0.1:9", "--host", "idle.example", "--file", "/dev/null"]);
    let app = Program(client.args(["--wait", "600000", "--uid", &uid.to_string()]).spawn().unwrap());
    let process = Path::new("/proc").join(app.0.id().to_string());
    let is_there = || fs::metadata(&process).is_ok_and(|data| data.uid() == uid);
    assert!(until(PATIENCE, is_there), "the client does not take its uid");
    app
}

fn put(file: &Path, text: &str) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    // As programs do it: written beside and renamed over.
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}

#[test]
fn it_notices_replaced_files_at_once_and_keeps_what_it_learnt() {
    let Some((way, library)) = ways().into_iter().find(|(_, library)| library.has_write_ex()) else { return };
    let Some(probe) = session(way, &library) else { return };
    probe.stop().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config/config.toml");
    let packages = folder.path().join("root/data/system/packages.list");
    // An app that runs and has sent nothing yet, and one that does not run.
    let [uid] = uids();
    let mut app = idle(&library, uid);
    let line = |name: &str, uid: u32| format!("{name} {uid} 0 /data/user/0/{name} default 3003\n");
    let line = line("org.example.app", uid) + &line("org.example.stopped", 19_999);
    put(&config, "libraries = [\"/no/such/libssl.so\"]\n");
    put(&packages, &line);
    put(&folder.path().join("config/more/domains.toml"), "[[host]]\nsuffix = 7\n");

    let mut daemon = Daemon::start(
        folder.path(),
        &[
            "--lib",
            library.path().to_str().unwrap(),
            "--config",
            config.to_str().unwrap(),
            "--sysroot",
            folder.path().join("root").to_str().unwrap(),
        ],
    );
    for part in [
        "I telltale: watching 1 library with TLS",
        "I telltale: readable is what apps hand to these libraries; not readable: ",
        "I telltale: watching 2 apps; content readable for 1, hosts only for 0, nothing for 0, not known yet for 1. Nothing yet is not all clear. Check me: telltale try",
        "cannot hook /no/such/libssl.so",
        "more/domains.toml is not used",
        "not all is known of this phone, as these sources cannot be read: ",
    ] {
        daemon.says(part);
    }
    app.0.kill().unwrap();
    // Nothing is sent: only the files' replacement can wake it.
    thread::sleep(Duration::from_millis(300));
    put(&config, "lines_per_hour = 5\n");
    daemon.says("the configuration has changed");
    put(&config, "\nlines_per_hour = \"five\"\n");
    daemon.says("config.toml, line 2");
    fs::remove_file(&packages).unwrap();
    daemon.says("packages.list cannot be read");
    // Said once, however often it is looked at.
    put(&config, "lines_per_hour = 6\n");
    put(&config, "\nlines_per_hour = \"six\"\n");
    daemon.says("\"six\"");
    let said = daemon.said_so_far();
    let times = said.iter().filter(|line| line.contains("packages.list cannot be read")).count();
    assert_eq!(times, 1, "{said:#?}");

    daemon.stop();
    let tokens = fs::metadata(folder.path().join("store/tokens")).unwrap();
    assert_eq!(tokens.permissions().mode() & 0o777, 0o600);
    // How much was read, for a report.
    let coverage = folder.path().join("store/evidence/coverage.json");
    assert_eq!(fs::metadata(&coverage).unwrap().permissions().mode() & 0o777, 0o600);
    let coverage: serde_json::Value = serde_json::from_str(&fs::read_to_string(coverage).unwrap()).unwrap();
    assert_eq!(coverage["type"], "coverage");
}
