//! Whether anything is lost when one core does nothing but write through TLS: up to the parsed record, then through the whole
//! pipeline, and from which rate on.

use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};

use super::bed::{Bed, PHONE_CPUS};
use super::helper::{Helper, cpus, pair};
use super::process;
use super::stats::Spread;
use super::table::{Budget, Row, number};

/// Bytes of a write.
const SIZE: usize = 1024;
/// By then a daemon has read what was left and said what it lost: it does so before it goes to sleep.
const SETTLE: Duration = Duration::from_millis(1500);

pub(super) fn run(bed: &Bed<'_>) -> Result<Vec<Row>> {
    let ms = bed.pick(30_000, 3_000);
    let mut rows = vec![to_record(bed, ms, PHONE_CPUS)?, to_record(bed, ms, cpus())?];
    let whole = Whole::start(bed)?;
    let size = whole.size;
    let (sent, seconds, lost, cpu) = whole.stream(ms, 0)?;
    rows.push(
        Row::exact("through the whole pipeline, at full speed: lost", "%", 100.0 * lost / sent).note(format!(
            "telemetry requests of {size} bytes, {}/s for {} s, no budget; {} read/s, {} µs of processor time each",
            number(sent / seconds),
            number(seconds),
            number((sent - lost) / seconds),
            number(1e6 * cpu / (sent - lost).max(1.0)),
        )),
    );
    rows.push(first_loss(bed, sent / seconds)?);
    Ok(rows)
}

/// The hooks, the rings as on so many CPUs, and the parsing of records.
fn to_record(bed: &Bed<'_>, ms: u32, cpus: usize) -> Result<Row> {
    let library = bed.library();
    let meter = bed.meter(&["records", &library.to_string_lossy(), &cpus.to_string()])?;
    let mut caller = bed.caller()?;
    let answer = caller.ask(&format!("stream {SIZE} {ms} 0"))?;
    let cpu = process::cpu_seconds(meter.pid());
    let counts = meter.stop()?.pop().unwrap_or_default();
    caller.stop()?;
    let of = |line: &str, key| {
        pair(line, key).ok_or_else(|| Error::Check(format!("no `{key}` in what a client said: {line}")))
    };
    let (sent, seconds) = (of(&answer, "calls")?, of(&answer, "seconds")?);
    let (read, lost) = (of(&counts, "writes")?, of(&counts, "lost")?);
    let ring = bed.rings(cpus)? / 1024.0 / cpus as f64;
    // What the client made less what arrived; the programs' own count of losses must agree.
    let row = Row::exact(
        format!("{SIZE} B each, ring of {} KiB: lost", number(ring)),
        "events",
        (sent - read).max(lost),
    );
    Ok(row.budget(Budget::AtMost(0.0)).note(format!(
        "{} sent in {} s, {} read to the record, {} lost by the programs' count; {}/s; reader {} % of a core",
        number(sent),
        number(seconds),
        number(read),
        number(lost),
        number(sent / seconds),
        number(100.0 * cpu / seconds),
    )))
}

/// The daemon without a budget, and a client that writes a telemetry request each time.
struct Whole {
    daemon: Helper,
    caller: Helper,
    size: f64,
}

impl Whole {
    fn start(bed: &Bed<'_>) -> Result<Self> {
        let config = bed.without_budget()?;
        let daemon = bed.telltale(&bed.library(), &["--sends", "off", "--config", &config])?;
        let mut caller = bed.caller()?;
        let size = caller.number(&format!("file {}", bed.telemetry()?.display()), "size")?;
        Ok(Self { daemon, caller, size })
    }

    /// Writes for so long: requests sent, seconds, records lost, the daemon's processor time.
    fn stream(mut self, ms: u32, rate: u64) -> Result<(f64, f64, f64, f64)> {
        let pid = self.daemon.pid();
        let before = process::cpu_seconds(pid);
        let answer = self.caller.ask(&format!("stream 0 {ms} {rate}"))?;
        thread::sleep(SETTLE);
        let cpu = process::cpu_seconds(pid) - before;
        self.caller.stop()?;
        let lost = self.daemon.stop()?.iter().rev().find_map(|line| lost_by(line)).unwrap_or(0.0);
        Ok((pair(&answer, "calls").unwrap_or(0.0), pair(&answer, "seconds").unwrap_or(0.0), lost, cpu))
    }
}

/// Halves the way between a rate that lost nothing and one that lost something.
fn first_loss(bed: &Bed<'_>, full: f64) -> Result<Row> {
    let what = "through the whole pipeline: first loss at";
    let (mut kept, mut lost) = (0.0, full);
    for _ in 0..bed.pick(6, 3) {
        let rate = f64::midpoint(kept, lost);
        let (_, _, missing, _) = Whole::start(bed)?.stream(bed.pick(2_000, 700), rate as u64)?;
        if missing > 0.0 {
            lost = rate;
        } else {
            kept = rate;
        }
    }
    let spread = Spread { median: lost, low: kept, high: lost };
    let note = format!("of {}/s that one core writes; kept up with {}/s", number(full), number(kept));
    Ok(Row::new(what, "requests/s", spread).note(note))
}

/// How many records a line of the daemon says were lost since its start.
pub(super) fn lost_by(line: &str) -> Option<f64> {
    line.strip_suffix(" since the start")?.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemons_line_about_losses_is_read() {
        let line = "W telltale: 3 records were lost in the 2.0 s before 2027-01-15T08:00:04Z: apps sent more at once than could be read; 17 since the start";
        assert_eq!(lost_by(line), Some(17.0));
        assert_eq!(lost_by("I telltale: watching"), None);
    }
}
