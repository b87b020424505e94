//! What a process has left in tracefs.

use std::fs;

/// Entries in `uprobe_events` that a process made: they are named after it.
pub(crate) fn entries(pid: u32) -> usize {
    let own = format!(":telltale_{pid}_");
    let roots = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
    let text = roots.iter().find_map(|root| fs::read_to_string(format!("{root}/uprobe_events")).ok());
    text.unwrap_or_default().lines().filter(|line| line.contains(&own)).count()
}
