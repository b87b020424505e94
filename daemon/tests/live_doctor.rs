//! `telltale doctor` as a process: what it says of this kernel, and its refusals where something is missing.
//!
//! Needs root and the embedded eBPF program; else the test says `skipped: REASON`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing)]

#[path = "live/machine.rs"]
mod machine;
#[path = "live/process.rs"]
mod process;
#[path = "live/tracefs.rs"]
mod tracefs;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use machine::or_skip;
use serde_json::Value;
use telltale::kernel::{AttachPath, prove};
use tracefs::entries;

const TELLTALE: &str = env!("CARGO_BIN_EXE_telltale");

/// Whether this machine can run the tests; if not, says so.
fn can_run() -> bool {
    or_skip("a proof", prove(None)).is_some()
}

fn doctor(args: &[&str]) -> Output {
    Command::new(TELLTALE).arg("doctor").args(args).output().unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A copy that anybody may run, wherever the target folder lies.
fn public_copy() -> PathBuf {
    let copy = std::env::temp_dir().join(format!("telltale-doctor-{}", std::process::id()));
    fs::copy(TELLTALE, &copy).unwrap();
    copy
}

#[test]
fn hooks_are_proven_on_ourselves_by_either_way_and_leave_nothing() {
    if !can_run() {
        return;
    }
    for way in [AttachPath::Tracefs, AttachPath::Perf] {
        if let Some(proof) = or_skip(way, prove(Some(way))) {
            assert!(proof.is_enough() && proof.attach == way, "{proof:?}");
        }
        assert_eq!(entries(std::process::id()), 0);
    }
}

#[test]
fn quick_is_one_sentence_for_a_second_of_work_at_the_most() {
    if !can_run() {
        return;
    }
    let child = Command::new(TELLTALE)
        .args(["doctor", "--quick"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A clock on the wall would tell how busy the machine is.
    while !process::has_ended(child.id()) {
        thread::sleep(Duration::from_millis(5));
    }
    let used = process::cpu_time(child.id());
    println!("--quick used {used:?}");
    assert!(used < Duration::from_secs(1), "{used:?}");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = said(&output.stdout);
    assert!(text.starts_with("this kernel can run Telltale") && text.lines().count() == 1, "{text}");
    assert!(output.stderr.is_empty());
}

#[test]
fn every_ability_has_a_verdict() {
    if !can_run() {
        return;
    }
    let output = doctor(&["--json"]);
    assert_eq!(output.status.code(), Some(0));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["can_run"], true);
    let checks = found["checks"].as_array().unwrap();
    let state = |name: &str| {
        let check = checks.iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("{name}: {found}"))["state"].as_str().unwrap()
    };
    for name in
        ["root", "bpf program for uprobes", "read of user memory", "perf ring", "sock_diag", "rtnetlink"]
    {
        assert_eq!(state(name), "works", "{name}");
    }
    for name in [
        "kernel",
        "32-bit processes",
        "perf_event_paranoid",
        "security domain",
        "tracefs",
        "socket sends through raw_syscalls",
        "bpf JIT",
    ] {
        assert!(!state(name).is_empty(), "{name}");
    }
    for check in checks {
        assert_eq!(check["state"] == "missing", check["costs"] != "", "{check}");
    }
}

#[test]
fn without_root_it_says_so() {
    let copy = public_copy();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .args(["doctor", "--quick"])
        .output();
    fs::remove_file(&copy).unwrap();
    let output = match output {
        Ok(output) if nix::unistd::geteuid().is_root() => output,
        _ => return println!("skipped: needs root and setpriv"),
    };
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output.stderr);
    assert!(text.contains("must run as root") && text.lines().count() == 1, "{text}");
    assert!(output.stdout.is_empty());
}

#[test]
fn without_uprobes_it_refuses_in_one_sentence() {
    if !can_run() {
        return;
    }
    let empty = tempfile::tempdir().unwrap();
    // In a mount namespace of its own: nobody else's tracefs goes away.
    let hide = r#"
        for place in /sys/kernel/tracing /sys/kernel/debug /sys/bus/event_source/devices/uprobe; do
            if [ -d "$place" ]; then mount --bind "$1" "$place" || exit 90; fi
        done
        exec "$2" doctor --quick"#;
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", hide, "sh"])
        .arg(empty.path())
        .arg(Path::new(TELLTALE))
        .output()
        .unwrap();
    if output.status.code() == Some(90) {
        return println!("skipped: mounting is not allowed here");
    }
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = said(&output.stderr);
    assert!(text.contains("tracefs") && text.contains("CONFIG_UPROBE_EVENTS"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(output.stdout.is_empty());
}
