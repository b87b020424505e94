//! What /proc says of a process.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{fs, time::Duration};

/// User and system time that a process has used, also when it has ended and nobody has waited for it.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    // Fields 14 and 15 of proc_pid_stat(5), in clock ticks of 1/100 s (USER_HZ).
    let ticks = |field: usize| stat(pid)[field - 3].parse::<u64>().unwrap();
    Duration::from_millis((ticks(14) + ticks(15)) * 10)
}

/// Whether it has ended; nobody must have waited for it.
pub(crate) fn has_ended(pid: u32) -> bool {
    stat(pid)[0] == "Z"
}

/// The fields behind the name, from the third on.
fn stat(pid: u32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').map(str::to_owned).collect()
}
