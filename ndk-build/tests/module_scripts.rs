//! The module's scripts, run by BusyBox's ash as the managers run them, against a phone made of a few directories.
//!
//! `/data/adb` and the like are absolute on a phone; each test copies the scripts with those paths turned to its own
//! directory. Everything else is the script as it is flashed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const SCRIPTS: &[&str] = &["common.sh", "customize.sh", "service.sh", "action.sh", "uninstall.sh"];

fn module_source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../magisk-module")
}

/// A phone's `/data/adb` with the module in it, and programs that stand in for Android's.
struct Phone {
    dir: tempfile::TempDir,
}

impl Phone {
    /// `daemon` is the shell text that plays `telltale`.
    fn new(daemon: &str) -> Self {
        let phone = Self { dir: tempfile::tempdir().unwrap() };
        for script in SCRIPTS {
            let text = fs::read_to_string(module_source().join(script)).unwrap();
            let text = text
                .replace("/data/adb", phone.path("data/adb").to_str().unwrap())
                .replace("PAUSES=\"5 30 60 120 300\"", "PAUSES=\"0.1 0.2\"")
                .replace("/system/bin/sh", "/bin/sh");
            phone.write(&format!("module/{script}"), &text);
        }
        phone.program("module/system/bin/telltale", daemon);
        phone.write("module/config.toml", "log_level = \"info\"\n");
        phone.program("bin/log", &format!("echo \"$2 $5\" >>{}", phone.path("logcat").display()));
        phone.program("bin/getprop", "echo 1");
        phone
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn program(&self, name: &str, text: &str) {
        self.write(name, &format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn ash(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("busybox");
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        command.arg("ash").args(arguments).env_clear().env("PATH", path).stdin(Stdio::null());
        // The managers' BusyBox prefers its own applets; ours must not, or it would miss the stand-ins.
        command
    }

    /// Sources customize.sh as a manager does, with what it provides.
    fn install(&self, arch: &str, api: &str, bootmode: &str) -> Output {
        let manager = format!(
            "ui_print() {{ echo \"$1\"; }}\nabort() {{ echo \"$1\"; rm -rf \"$MODPATH\"; exit 1; }}\n\
             set_perm() {{ chmod \"$4\" \"$1\"; }}\n\
             MODPATH={} ARCH={arch} API={api} BOOTMODE={bootmode}\n. \"$MODPATH/customize.sh\"\n",
            self.path("module").display()
        );
        self.ash(&["-c", &manager]).output().unwrap()
    }

    fn start_service(&self) -> Child {
        let script = self.path("module/service.sh");
        self.ash(&[script.to_str().unwrap()]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn run_script(&self, name: &str) -> Output {
        let script = self.path(&format!("module/{name}"));
        self.ash(&[script.to_str().unwrap()]).output().unwrap()
    }

    fn data(&self) -> PathBuf {
        self.path("data/adb/telltale")
    }
}

#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_script_parses_in_ash_and_passes_shellcheck() {
    for script in SCRIPTS.iter().chain(&["META-INF/com/google/android/update-binary"]) {
        let path = module_source().join(script);
        let parsed = Command::new("busybox").args(["ash", "-n"]).arg(&path).output().unwrap();
        assert!(parsed.status.success(), "{script}: {}", String::from_utf8_lossy(&parsed.stderr));
        let linted = Command::new("shellcheck")
            .args(["-s", "sh", "-x", "-P"])
            .arg(module_source().join(".."))
            .arg(&path)
            .output()
            .unwrap();
        assert!(linted.status.success(), "{script}:\n{}", said(&linted));
    }
}

#[test]
fn it_installs_where_the_kernel_can_do_it_and_keeps_what_an_older_version_left() {
    let phone = Phone::new("exit 0");
    let output = phone.install("arm64", "28", "true");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(phone.read("data/adb/telltale/config.toml"), "log_level = \"info\"\n");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&phone.data()), mode(&phone.data().join("config.toml"))), (0o700, 0o600));

    phone.write("data/adb/telltale/config.toml", "log_level = \"debug\"\n");
    phone.write("data/adb/telltale/evidence/2026-11.jsonl", "{}\n");
    phone.write("data/adb/telltale/hooks-off", "killed by signal 11\n");
    assert!(phone.install("arm64", "36", "true").status.success());
    assert_eq!(phone.read("data/adb/telltale/config.toml"), "log_level = \"debug\"\n");
    assert_eq!(phone.read("data/adb/telltale/evidence/2026-11.jsonl"), "{}\n");
    assert!(!phone.data().join("hooks-off").exists(), "a new version is tried again");
}

/// The installation must refuse, say `words`, and leave no file that was not there before.
#[track_caller]
fn refuses(phone: &Phone, (arch, api, bootmode): (&str, &str, &str), words: &str) {
    phone.write("data/adb/modules/other/module.prop", "id=other\n");
    let output = phone.install(arch, api, bootmode);
    assert_eq!(output.status.code(), Some(1));
    let refusals: Vec<String> =
        said(&output).lines().filter(|line| line.starts_with('!')).map(str::to_owned).collect();
    assert!(matches!(&*refusals, [one] if one.contains(words)), "{refusals:?} should say: {words}");
    assert!(!phone.data().exists(), "refused, and yet something lies in {}", phone.data().display());
    assert!(!phone.path("module").exists(), "refused, and yet the module is there");
    assert_eq!(phone.read("data/adb/modules/other/module.prop"), "id=other\n");
}

#[test]
fn it_refuses_with_one_clear_sentence_and_leaves_nothing() {
    refuses(&Phone::new("exit 0"), ("x64", "28", "true"), "this device is x64");
    refuses(&Phone::new("exit 0"), ("arm", "28", "true"), "this device is arm");
    refuses(&Phone::new("exit 0"), ("arm64", "27", "true"), "this phone has API 27");
    refuses(&Phone::new("exit 0"), ("arm64", "28", "false"), "a recovery has another kernel");
    let kernel = Phone::new("echo 'this kernel has no uprobes (CONFIG_UPROBE_EVENTS)'; exit 1");
    refuses(&kernel, ("arm64", "28", "true"), "! this kernel has no uprobes");
    let broken = Phone::new("echo 'not executable: Exec format error' >&2; exit 126");
    refuses(&broken, ("arm64", "28", "true"), "status 126");
}

#[test]
fn a_killed_daemon_is_started_again_and_stopping_the_service_stops_it() {
    let phone = Phone::new("echo started >>${0%/system*}/starts; exec sleep 1000");
    let mut service = phone.start_service();
    let pid = || phone.read("data/adb/telltale/daemon.pid").trim().to_owned();
    wait_until("the first start", || !pid().is_empty() && phone.read("module/starts").lines().count() == 1);
    let first = pid();
    assert!(Command::new("kill").args(["-9", &first]).status().unwrap().success());
    wait_until("the second start", || phone.read("module/starts").lines().count() == 2);
    wait_until("the new process id", || pid() != first);
    assert!(
        phone.read("logcat").contains("w Telltale killed by signal 9 and starts again in 0.1 seconds"),
        "{}",
        phone.read("logcat")
    );

    let second = pid();
    assert!(Command::new("kill").arg(service.id().to_string()).status().unwrap().success());
    assert!(service.wait().unwrap().success());
    wait_until("the daemon's end", || !Path::new(&format!("/proc/{second}")).exists());
    assert!(!phone.data().join("supervisor.pid").exists());
}

#[test]
fn three_crashes_keep_it_off_until_somebody_asks() {
    let phone = Phone::new("echo started >>${0%/system*}/starts; echo 'it broke' >&2; kill -SEGV $$");
    let mut service = phone.start_service();
    assert!(service.wait().unwrap().success());
    assert_eq!(phone.read("module/starts").lines().count(), 3);
    let log = phone.read("logcat");
    assert_eq!(log.lines().filter(|line| line.starts_with("e Telltale crashed 3 times")).count(), 1, "{log}");
    assert!(phone.read("data/adb/telltale/hooks-off").contains("killed by signal 11: it broke"));

    // The next boot: still off, one line says so.
    assert!(phone.start_service().wait().unwrap().success());
    assert_eq!(phone.read("module/starts").lines().count(), 3);
    assert_eq!(phone.read("logcat").lines().filter(|line| line.contains("stays off after three")).count(), 1);

    // The Action button tries again.
    phone.program("module/system/bin/telltale", "echo started >>${0%/system*}/starts; exit 0");
    let output = phone.run_script("action.sh");
    assert!(said(&output).contains("was off after three crashes (last: killed by signal 11: it broke)"));
    wait_until("a fourth start", || phone.read("module/starts").lines().count() == 4);
    assert!(!phone.data().join("hooks-off").exists());
}

#[test]
fn a_daemon_that_was_asked_to_end_is_left_alone() {
    let phone = Phone::new("echo started >>${0%/system*}/starts; exit 0");
    assert!(phone.start_service().wait().unwrap().success());
    assert_eq!(phone.read("module/starts").lines().count(), 1);
    assert_eq!(phone.read("logcat"), "");
}

#[test]
fn kernelsu_and_apatch_get_a_link_and_lose_it_again() {
    let phone = Phone::new("exit 0");
    fs::create_dir_all(phone.path("data/adb/ksu/bin")).unwrap();
    fs::create_dir_all(phone.path("data/adb/ap/bin")).unwrap();
    assert!(phone.start_service().wait().unwrap().success());
    let links = ["data/adb/ksu/bin/telltale", "data/adb/ap/bin/telltale"].map(|name| phone.path(name));
    for link in &links {
        assert_eq!(fs::read_link(link).unwrap(), phone.path("module/system/bin/telltale"));
    }
    assert!(phone.run_script("uninstall.sh").status.success());
    assert!(links.iter().all(|link| link.symlink_metadata().is_err()));
}

#[test]
fn uninstalling_ends_the_daemon_and_leaves_nothing() {
    let phone = Phone::new("exec sleep 1000");
    phone.write("data/adb/telltale/evidence/2026-11.jsonl", "{}\n");
    let mut service = phone.start_service();
    let pid = || phone.read("data/adb/telltale/daemon.pid").trim().to_owned();
    wait_until("the start", || !pid().is_empty());
    let daemon = pid();
    assert!(phone.run_script("uninstall.sh").status.success());
    service.wait().unwrap();
    wait_until("the daemon's end", || !Path::new(&format!("/proc/{daemon}")).exists());
    assert!(!phone.data().exists());
}

#[test]
fn evidence_stays_only_when_the_configuration_says_so() {
    let phone = Phone::new("exit 0");
    phone.write("data/adb/telltale/evidence/2026-11.jsonl", "{}\n");
    phone.write("data/adb/telltale/config.toml", "# keep_on_uninstall = true\nkeep_on_uninstall = false\n");
    assert!(phone.run_script("uninstall.sh").status.success());
    assert!(!phone.data().exists());

    phone.write("data/adb/telltale/evidence/2026-11.jsonl", "{}\n");
    phone.write("data/adb/telltale/hooks-off", "x\n");
    phone.write("data/adb/telltale/config.toml", "keep_on_uninstall = true\n");
    assert!(phone.run_script("uninstall.sh").status.success());
    assert_eq!(phone.read("data/adb/telltale/evidence/2026-11.jsonl"), "{}\n");
    assert!(!phone.data().join("hooks-off").exists());
}

#[test]
fn somebody_elses_program_of_that_name_is_left_alone() {
    let phone = Phone::new("exit 0");
    phone.write("elsewhere", "mine\n");
    phone.write("data/adb/ksu/bin/telltale", "not ours\n");
    fs::create_dir_all(phone.path("data/adb/ap/bin")).unwrap();
    symlink(phone.path("elsewhere"), phone.path("data/adb/ap/bin/other")).unwrap();
    assert!(phone.start_service().wait().unwrap().success());
    assert!(phone.run_script("uninstall.sh").status.success());
    assert_eq!(phone.read("data/adb/ksu/bin/telltale"), "not ours\n");
    assert!(phone.path("data/adb/ap/bin/other").exists());
}
