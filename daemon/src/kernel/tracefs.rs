//! Uprobe events by way of tracefs: names of our own, made and deleted in the order the kernel wants.
//!
//! Before Linux 4.17 this is the only way to a uprobe. An entry of `uprobe_events` outlives the process that made it,
//! so its name carries who made it: `telltale_PID_STARTTIME/INSTANCE_NUMBER`. The start time (field 22 of
//! `/proc/PID/stat`) keeps a new process with a dead one's pid from being taken for it.
#![forbid(unsafe_code)]

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::fd::{AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use super::error::KernelError;

/// tracefs, with this process's name in it.
#[derive(Debug)]
pub(super) struct Tracefs {
    root: PathBuf,
    /// `telltale_PID_STARTTIME`.
    group: String,
    /// Sets apart several sessions of one process.
    instance: u32,
    next: u32,
}

/// Sessions of this process so far.
static INSTANCES: AtomicU32 = AtomicU32::new(0);

/// An entry of `uprobe_events`.
#[derive(Debug)]
pub(super) struct Entry {
    /// `GROUP/EVENT`.
    name: String,
    /// What perf calls it.
    pub(super) id: u64,
}

impl Tracefs {
    /// Finds tracefs.
    pub(super) fn find() -> Result<Tracefs, KernelError> {
        let root = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
            .into_iter()
            .map(PathBuf::from)
            .find(|root| root.join("uprobe_events").exists())
            .ok_or(KernelError::NoTracefs)?;
        let pid = std::process::id();
        let started = start_time(pid).unwrap_or(0);
        let instance = INSTANCES.fetch_add(1, Ordering::Relaxed);
        Ok(Tracefs { root, group: format!("telltale_{pid}_{started}"), instance, next: 0 })
    }

    /// Makes an event for the instruction at `offset` of an open file, or for its function's return.
    pub(super) fn add(
        &mut self,
        file: BorrowedFd<'_>,
        offset: u64,
        at_return: bool,
    ) -> Result<Entry, KernelError> {
        self.add_with(file, offset, at_return, "")
    }

    /// The same with arguments to be fetched.
    pub(super) fn add_with(
        &mut self,
        file: BorrowedFd<'_>,
        offset: u64,
        at_return: bool,
        arguments: &str,
    ) -> Result<Entry, KernelError> {
        let name = format!("{}/i{}_{}", self.group, self.instance, self.next);
        self.next = self.next.saturating_add(1);
        let kind = if at_return { 'r' } else { 'p' };
        // The path by descriptor: library paths may hold characters that the kernel refuses here, lie in another mount
        // namespace, or mean another file by now.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let space = if arguments.is_empty() { "" } else { " " };
        self.write(&format!("{kind}:{name} {path}:{offset:#x}{space}{arguments}\n"))?;
        let id = self.root.join("events").join(&name).join("id");
        let read = fs::read_to_string(&id).map_err(KernelError::file("read", &id));
        let parsed = read.and_then(|text| {
            let invalid = |_| io::Error::new(io::ErrorKind::InvalidData, "not a number");
            text.trim().parse().map_err(invalid).map_err(KernelError::file("read", &id))
        });
        match parsed {
            Ok(id) => Ok(Entry { name, id }),
            Err(error) => {
                // Nothing refers to the entry yet; the error to tell is the first one.
                let _ = self.write(&format!("-:{name}\n"));
                Err(error)
            }
        }
    }

    /// How samples of an event look: the file that says so, and its text.
    pub(super) fn format(&self, entry: &Entry) -> Result<(PathBuf, String), KernelError> {
        let path = self.root.join("events").join(&entry.name).join("format");
        let text = fs::read_to_string(&path).map_err(KernelError::file("read", &path))?;
        Ok((path, text))
    }

    /// What perf calls an event of the kernel's own, `raw_syscalls/sys_enter`.
    pub(super) fn event_id(&self, event: &str) -> Result<u64, KernelError> {
        let path = self.root.join("events").join(event).join("id");
        let text = fs::read_to_string(&path).map_err(KernelError::file("read", &path))?;
        let invalid = |_| io::Error::new(io::ErrorKind::InvalidData, "not a number");
        text.trim().parse().map_err(invalid).map_err(KernelError::file("read", &path))
    }

    /// Deletes an event. Every perf descriptor on it must be closed before, else the kernel answers EBUSY.
    ///
    /// A process that another thread is just starting holds copies of all descriptors until it executes its program, so
    /// EBUSY is waited out for a second.
    pub(super) fn remove(&self, entry: &Entry) -> Result<(), KernelError> {
        const TRIES: u32 = 50;
        const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
        let mut left = TRIES;
        loop {
            match self.write(&format!("-:{}\n", entry.name)) {
                Err(KernelError::File { source, .. })
                    if left > 0 && source.raw_os_error() == Some(libc::EBUSY) =>
                {
                    left -= 1;
                    std::thread::sleep(PAUSE);
                }
                done => return done,
            }
        }
    }

    /// Deletes what telltale processes that are dead by now have left, and returns how many entries that were.
    pub(super) fn sweep(&self) -> Result<usize, KernelError> {
        let path = self.root.join("uprobe_events");
        let entries = fs::read_to_string(&path).map_err(KernelError::file("read", &path))?;
        let mut removed = 0usize;
        for name in abandoned(&entries, start_time) {
            match self.write(&format!("-:{name}\n")) {
                Ok(()) => removed = removed.saturating_add(1),
                // Somebody else's perf holds it, or another telltale was quicker: neither is ours to mend.
                Err(error) => log::debug!("left {name} in {}: {error}", path.display()),
            }
        }
        Ok(removed)
    }

    fn write(&self, command: &str) -> Result<(), KernelError> {
        let path = self.root.join("uprobe_events");
        // Appending: opening for writing without it deletes everybody's entries.
        OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(command.as_bytes()))
            .map_err(KernelError::file("write", path))
    }
}

/// The entries in the text of `uprobe_events` whose makers are dead.
fn abandoned(entries: &str, start_time: impl Fn(u32) -> Option<u64>) -> Vec<&str> {
    entries
        .lines()
        .filter_map(|line| {
            let name = line.split_whitespace().next()?.split_once(':')?.1;
            let (pid, started) = name.split_once('/')?.0.strip_prefix("telltale_")?.split_once('_')?;
            let alive = start_time(pid.parse().ok()?) == Some(started.parse().ok()?);
            if alive { None } else { Some(name) }
        })
        .collect()
}

/// When a process was started, in clock ticks since boot; none when there is no such process.
pub(super) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The second field may hold blanks and parentheses; field 3 follows the last parenthesis.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dead_makers_entries_are_abandoned() {
        let entries = "p:telltale_10_500/i0_0 /proc/self/fd/9:0x0000000000001000\n\
                       r32:telltale_11_600/i0_1 /proc/self/fd/9:0x1000\n\
                       p:telltale_10_499/i3_7 /lib/x:0x1000\n\
                       p:telltale_x_1/i0_0 /lib/x:0x1000\n\
                       p:uprobes/p_lib_0x1000 /lib/x:0x1000\n";
        let alive = |pid| if pid == 10 { Some(500) } else { None };
        assert_eq!(abandoned(entries, alive), ["telltale_11_600/i0_1", "telltale_10_499/i3_7"]);
    }

    #[test]
    fn own_start_time_is_known() {
        assert!(start_time(std::process::id()).is_some_and(|ticks| ticks > 0));
        assert_eq!(start_time(0), None);
    }
}
