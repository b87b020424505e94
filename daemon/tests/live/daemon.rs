//! A daemon as a process of its own, asked over its control socket, and namespaces for its clients.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing)]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use telltale::kernel::{Options, Session};

use super::{machine::or_skip, process, until};

/// The daemon's binary.
pub(crate) const TELLTALE: &str = env!("CARGO_BIN_EXE_telltale");
/// However slow the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Whether sends can be watched here; if not, says why.
pub(crate) fn can_watch_sends() -> bool {
    let started = Session::bare(&Options::default()).and_then(|mut session| session.hook_sends());
    or_skip("sends", started).is_some()
}

/// Runs a command that must go well.
pub(crate) fn must(command: &str) {
    let output = Command::new("sh").args(["-ec", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whether there are these programs; if not, says which is missing.
pub(crate) fn has(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| {
        !Command::new("sh")
            .args(["-c", "command -v \"$0\"", program])
            .stdout(Stdio::null())
            .status()
            .unwrap()
            .success()
    });
    if let Some(missing) = missing {
        println!("skipped: {missing} is not installed");
    }
    missing.is_none()
}

/// A Python program under a uid.
pub(crate) fn python(uid: u32, script: &str) -> Child {
    talking(Command::new(PYTHON).args(["-c", script]).uid(uid).gid(uid))
}

/// Debian's: one in root's home may be closed to others.
const PYTHON: &str = "/usr/bin/python3";

fn talking(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// The next line that a child says. What it says in the same breath is lost.
pub(crate) fn line_of(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

/// Lets a child end that waits for the end of its input; it must go well.
pub(crate) fn finish(mut child: Child) {
    drop(child.stdin.take());
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
}

/// A running daemon; what it says comes line by line.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
    store: String,
}

impl Daemon {
    /// Starts it with its store and configuration in `folder`, and waits until it watches.
    pub(crate) fn start(folder: &Path, options: &[&str]) -> Daemon {
        Daemon::start_by(Command::new(TELLTALE), folder, options)
    }

    /// The same in a network namespace.
    pub(crate) fn start_in(namespace: &str, folder: &Path, options: &[&str]) -> Daemon {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{namespace}")).arg(TELLTALE);
        Daemon::start_by(command, folder, options)
    }

    fn start_by(mut command: Command, folder: &Path, options: &[&str]) -> Daemon {
        let store = folder.join("store").display().to_string();
        let mut child = command
            .args(["run", "--store", &store])
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| to.send(line)));
        let mut daemon = Daemon { child, lines, said: Vec::new(), store };
        daemon.says("Nothing yet is not all clear");
        daemon
    }

    /// Waits for a line with this in it.
    pub(crate) fn says(&mut self, part: &str) -> String {
        loop {
            if let Some(line) = self.said.iter().find(|line| line.contains(part)) {
                return line.clone();
            }
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.said.push(line),
                Err(error) => panic!("{error}: nothing with {part:?} in {:#?}", self.said),
            }
        }
    }

    /// The lines that waiting has read so far.
    pub(crate) fn said_so_far(&self) -> &[String] {
        &self.said
    }

    /// What `telltale status --json` says.
    pub(crate) fn status(&self) -> Value {
        let output =
            Command::new(TELLTALE).args(["status", "--json", "--store", &self.store]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What it knows of a uid, once it knows of this many bytes.
    pub(crate) fn app(&self, uid: u32, bytes: u64) -> Value {
        let mut found = Value::Null;
        let known = until(PATIENCE, || {
            let status = self.status();
            let apps = status["coverage"]["apps"].as_array().unwrap();
            found = apps.iter().find(|app| app["uid"] == uid).cloned().unwrap_or_default();
            found["bytes"].as_u64().unwrap_or(0) >= bytes
        });
        assert!(known, "uid {uid}, {bytes} bytes: {found:#}");
        adds_up(&found);
        found
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Tells it to end, which must go well.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        // Hooks come off one by one, each after a grace period of the kernel's: on a busy machine that was seen to take a minute.
        assert!(until(3 * PATIENCE, || self.child.try_wait().unwrap().is_some()), "it does not end");
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        assert!(!Path::new(&self.store).join("control").exists());
    }

    /// User and system time it has used.
    pub(crate) fn cpu_time(&self) -> Duration {
        process::cpu_time(self.child.id())
    }

    /// The most memory it ever had, bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asserts that an account's parts are its whole, and those of its destinations too.
pub(crate) fn adds_up(account: &Value) {
    let unread: u64 = account["unread"].as_object().unwrap().values().map(|one| one.as_u64().unwrap()).sum();
    let sum = account["read"].as_u64().unwrap() + account["tls_overhead"].as_u64().unwrap() + unread;
    assert_eq!(account["bytes"].as_u64(), Some(sum), "{account:#}");
    if let Some(destinations) = account["destinations"].as_array() {
        destinations.iter().for_each(adds_up);
        let sum: u64 = destinations.iter().map(|one| one["bytes"].as_u64().unwrap()).sum();
        assert_eq!(account["bytes"].as_u64(), Some(sum), "{account:#}");
    }
}

/// Two network namespaces with a cable between them; gone with all that is in them when this is.
pub(crate) struct Net {
    /// Where clients are.
    pub(crate) inside: String,
    /// Where servers are.
    pub(crate) outside: String,
}

impl Net {
    /// Servers have 10.77.0.1 and fd77::1, clients 10.77.0.2 and fd77::2. None, having said why, where this is not allowed.
    pub(crate) fn new(name: &str) -> Option<Net> {
        let pid = std::process::id();
        let net = Net { inside: format!("tt-{name}-{pid}-c"), outside: format!("tt-{name}-{pid}-s") };
        let (inside, outside) = (&net.inside, &net.outside);
        let made = Command::new("ip").args(["netns", "add", inside]).output().unwrap();
        if !made.status.success() {
            println!("skipped: ip netns add: {}", String::from_utf8_lossy(&made.stderr).trim());
            return None;
        }
        must(&format!(
            "ip netns add {outside}
             ip -n {inside} link add veth0 type veth peer name veth0 netns {outside}
             for one in '{inside} 2' '{outside} 1'; do set -- $one
                 ip -n $1 addr add 10.77.0.$2/24 dev veth0
                 ip -n $1 addr add fd77::$2/64 dev veth0 nodad
                 ip -n $1 link set lo up; ip -n $1 link set veth0 up
             done
             # IPv6: the kernel makes the route to oneself last, some time after the address.
             for one in '{inside} 2' '{outside} 1'; do set -- $one; tries=0
                 until ip -n $1 -6 route get fd77::$2 2>/dev/null | grep -q ^local; do
                     tries=$((tries + 1)); [ $tries -lt 600 ]; sleep 0.1
                 done
             done"
        ));
        Some(net)
    }

    /// [`python`] in one of the namespaces.
    pub(crate) fn python(&self, namespace: &str, uid: u32, script: &str) -> Child {
        // Only root may enter it.
        let mut command = Command::new("ip");
        let id = uid.to_string();
        command.args([
            "netns",
            "exec",
            namespace,
            "setpriv",
            "--clear-groups",
            "--regid",
            &id,
            "--reuid",
            &id,
        ]);
        talking(command.args([PYTHON, "-c", script]))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for namespace in [&self.inside, &self.outside] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).output();
        }
    }
}
