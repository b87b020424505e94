//! `telltale run` as a process: what it leaves behind when it is told to end, and when it is killed.
//!
//! Needs what `live_tls.rs` needs; else the test says `skipped: REASON`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
mod live;

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use live::{Library, server::Program, session, tracefs::entries, until, ways};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use telltale::kernel::AttachPath;

/// A running daemon that has said what it watches.
struct Daemon(Program);

impl Daemon {
    fn start(way: AttachPath, library: &Library) -> Daemon {
        let mut child = Command::new(env!("CARGO_BIN_EXE_telltale"))
            .args(["run", "--loopback", "--sends", "off", "--attach", way.name(), "--lib"])
            .arg(library.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
        assert!(said.starts_with("I telltale: watching 1 library"), "{said}");
        Daemon(Program(child))
    }

    /// Its entries in `uprobe_events`.
    fn entries(&self) -> usize {
        entries(self.0.0.id())
    }

    fn end(&mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.0.0.id() as i32), signal).unwrap();
        assert!(until(Duration::from_secs(30), || self.0.0.try_wait().unwrap().is_some()), "it does not end");
        self.0.0.wait().unwrap().code()
    }
}

#[test]
fn told_to_end_it_leaves_nothing_and_killed_the_next_start_cleans() {
    for (way, library) in ways().into_iter().filter(|(_, library)| library.has_write_ex()) {
        let Some(probe) = session(way, &library) else { return };
        probe.stop().unwrap();

        let mut told = Daemon::start(way, &library);
        assert_eq!(told.entries() > 0, way == AttachPath::Tracefs);
        assert_eq!(told.end(Signal::SIGTERM), Some(0), "{way:?}");
        assert_eq!(told.entries(), 0, "{way:?}");

        let mut killed = Daemon::start(way, &library);
        assert_eq!(killed.end(Signal::SIGKILL), None);
        let mut next = Daemon::start(way, &library);
        assert_eq!(killed.entries(), 0, "{way:?}");
        assert_eq!(next.end(Signal::SIGINT), Some(0), "{way:?}");
        assert_eq!(next.entries(), 0, "{way:?}");
    }
}
