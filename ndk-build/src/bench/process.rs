//! What a running process has used, as `/proc` tells it.

use std::fs;

/// KiB that `/proc/PID/status` has under `field`: `VmRSS`, `VmHWM`, `RssAnon`, …; none when the process is gone.
pub fn kib(pid: u32, field: &str) -> Option<f64> {
    number_in(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, field)
}

/// From now on `VmHWM` is the largest since now (`Documentation/filesystems/proc.rst`, clear_refs).
pub fn forget_peak(pid: u32) {
    // A kernel that does not know this tells the peak since the start, which is no less.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// Seconds of processor time that its threads have used.
pub fn cpu_seconds(pid: u32) -> f64 {
    // Nanoseconds on a CPU, nanoseconds waiting for one, times it was put there (Documentation/scheduler/sched-stats.rst).
    let spent = threads(pid, "schedstat")
        .iter()
        .filter_map(|text| text.split(' ').next()?.parse::<f64>().ok())
        .sum::<f64>();
    spent / 1e9
}

/// Times its threads went to sleep, which is one less than or as many as they were woken.
pub fn sleeps(pid: u32) -> f64 {
    threads(pid, "status").iter().filter_map(|text| number_in(text, "voluntary_ctxt_switches")).sum()
}

fn threads(pid: u32, file: &str) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read_to_string(entry.path().join(file)).ok()).collect()
}

/// The number behind `field:` in the text of a status file.
fn number_in(text: &str, field: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_files_are_read() {
        let text = "VmRSS:\t    5120 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t9\n";
        assert_eq!(number_in(text, "VmRSS"), Some(5120.0));
        assert_eq!(number_in(text, "voluntary_ctxt_switches"), Some(7.0));
        assert_eq!(number_in(text, "VmHWM"), None);
    }

    #[test]
    fn this_process_has_memory_and_has_run() {
        let own = std::process::id();
        assert!(kib(own, "VmRSS").is_some_and(|size| size > 0.0));
        assert!(cpu_seconds(own) > 0.0);
        assert_eq!(kib(0, "VmRSS"), None);
    }
}
