//! What an `SSL_write` costs more: real BoringSSL over a memory BIO pair, with no hook, with empty ones, with Telltale, on both
//! ways to uprobes, with the daemon awake and asleep; and with bpftrace printing the same buffer.

use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::say;
use crate::setup::{self, Need};

use super::bed::{Bed, WAYS};
use super::helper::{End, Helper, on_cpu};
use super::stats::{Spread, Turn, median_of, ratios, rotation};
use super::table::{Budget, Row, number};

/// Bytes of a write, and how many times the cost of an empty pair Telltale may add.
const SIZES: [(usize, Option<f64>); 4] = [(256, Some(2.0)), (1024, None), (4096, Some(2.5)), (16_384, None)];
/// Sizes that are timed one call at a time, after a pause in which the daemon went to sleep.
const PAUSED: [usize; 2] = [256, 4096];
/// Longer than the daemon takes to go to sleep: five passes a millisecond apart, and ten more.
const PAUSE_US: usize = 30_000;
/// Groups of eight calls, or calls, that one time is the median of; fewer in a quick run.
const GROUPS: usize = 300;
const QUICK_GROUPS: usize = 100;
const CALLS: usize = 15;
const QUICK_CALLS: usize = 7;
/// Calls that are made and not counted.
const WARM_UP: usize = 400;
/// How often the library is found hooked by somebody else before that is told.
const TRIES: u32 = 30;
/// What bpftrace 0.17 prints of a buffer at the most.
const BPFTRACE_BYTES: usize = 200;

/// One repetition with one variant: the time of a call for each of [`SIZES`], then for each of [`PAUSED`].
type Times = Vec<f64>;

pub(super) fn run(bed: &Bed<'_>) -> Result<Vec<Row>> {
    let bpftrace = match setup::ensure(bed.context, &[Need::Bench]) {
        Ok(()) => true,
        Err(error) => {
            say::note(&error.to_string());
            false
        }
    };
    let mut rows = Vec::new();
    for way in WAYS {
        // It knows the way through perf alone.
        let bpftrace = bpftrace && way == "perf";
        let mut turns: Vec<[Times; 3]> = Vec::new();
        let mut printed = Vec::new();
        let mut lost = Vec::new();
        for turn in 0..bed.pick(9, 3) {
            let mut times = [Times::new(), Times::new(), Times::new()];
            let mut beside = None;
            for variant in rotation(turn, if bpftrace { 4 } else { 3 }) {
                match variant {
                    3 => {
                        let (spent, missed) = under_bpftrace(bed)?;
                        lost.push(100.0 * missed);
                        beside = Some(spent);
                    }
                    variant => {
                        let spent = under(bed, way, variant)?;
                        if let Some(place) = times.get_mut(variant) {
                            *place = spent;
                        }
                    }
                }
            }
            printed.extend(beside.map(|spent| (times.first().cloned().unwrap_or_default(), spent)));
            turns.push(times);
        }
        rows.extend(rows_of(way, &turns));
        if bpftrace {
            rows.extend(bpftrace_rows(&printed, &turns, &lost));
        }
    }
    Ok(rows)
}

/// Times the calls with no hook (0), empty ones (1), Telltale (2), which takes everything: what is over its budget costs less.
fn under(bed: &Bed<'_>, way: &str, variant: usize) -> Result<Times> {
    let library = bed.library();
    let hooks = match variant {
        0 => return unhooked(bed),
        1 => Some(bed.meter(&["empty", &library.to_string_lossy(), way])?),
        _ => {
            let config = bed.without_budget()?;
            Some(bed.telltale(&library, &["--attach", way, "--sends", "off", "--config", &config])?)
        }
    };
    let times = time(bed)?;
    hooks.map(Helper::stop).transpose()?;
    Ok(times)
}

/// Times the calls without hooks. Another program that hooks every library would be measured in our place: it is waited for.
fn unhooked(bed: &Bed<'_>) -> Result<Times> {
    let is_free = || Ok::<bool, Error>(bed.caller()?.number("hooked", "hooked")? == 0.0);
    for _ in 0..TRIES {
        if is_free()? {
            let times = time(bed)?;
            if is_free()? {
                return Ok(times);
            }
        }
        thread::sleep(Duration::from_secs(2));
    }
    Err(Error::Check("another program has hooks on every TLS library of this machine".into()))
}

fn time(bed: &Bed<'_>) -> Result<Times> {
    let mut caller = bed.caller()?;
    let groups = bed.pick(GROUPS, QUICK_GROUPS);
    let mut times = Times::new();
    // The first calls of a process find nothing in the caches.
    caller.number(&format!("write 1024 {}", WARM_UP / 8), "ns")?;
    for (size, _) in SIZES {
        times.push(caller.number(&format!("write {size} {groups}"), "ns")?);
    }
    for size in PAUSED {
        let calls = bed.pick(CALLS, QUICK_CALLS);
        times.push(caller.number(&format!("paused {size} {calls} {PAUSE_US}"), "ns")?);
    }
    caller.stop()?;
    Ok(times)
}

fn under_bpftrace(bed: &Bed<'_>) -> Result<(Times, f64)> {
    let library = bed.library();
    let library = library.display();
    let program = format!(
        "uprobe:{library}:SSL_write {{ @[tid] = arg1; }} \
         uretprobe:{library}:SSL_write {{ printf(\"%r\\n\", buf(@[tid], retval)); }} \
         BEGIN {{ printf(\"ready\\n\"); }}"
    );
    let run = on_cpu(1, "bpftrace").args(["-e", &program]).env("BPFTRACE_STRLEN", BPFTRACE_BYTES.to_string());
    let mut bpftrace = Helper::start(run, End::Signal("INT"))?;
    bpftrace.wait_for("ready")?;
    let times = time(bed)?;
    // Zeros are what is written; other lines are its own. What it says it lost does not count everything.
    let printed = bpftrace.stop()?.iter().filter(|line| line.starts_with("\\x00")).count();
    let made = WARM_UP
        + SIZES.len() * bed.pick(GROUPS, QUICK_GROUPS) * 8
        + PAUSED.len() * bed.pick(CALLS, QUICK_CALLS);
    Ok((times, made.saturating_sub(printed) as f64 / made as f64))
}

/// The turns of one column of [`Times`].
fn column(turns: &[[Times; 3]], column: usize) -> Vec<Turn> {
    let of = |times: &Times| times.get(column).copied().unwrap_or(f64::NAN);
    turns
        .iter()
        .map(|[none, empty, telltale]| Turn { none: of(none), empty: of(empty), telltale: of(telltale) })
        .collect()
}

fn rows_of(way: &str, turns: &[[Times; 3]]) -> Vec<Row> {
    let awake = SIZES.iter().enumerate().map(|(place, (size, budget))| {
        let turns = column(turns, place);
        let row = row_of(&format!("{size} B, {way}"), &turns);
        budget.map_or(row.clone(), |budget| row.budget(Budget::AtMost(budget)))
    });
    let asleep = PAUSED.iter().enumerate().map(|(place, size)| {
        let turns = column(turns, SIZES.len() + place);
        row_of(&format!("{size} B, {way}, waking the daemon"), &turns)
    });
    awake.chain(asleep).collect()
}

pub(super) fn row_of(what: &str, turns: &[Turn]) -> Row {
    let none = median_of(turns, |turn| turn.none);
    let empty = median_of(turns, |turn| turn.empty - turn.none);
    let telltale = median_of(turns, |turn| turn.telltale - turn.none);
    Row::new(what, "× an empty pair", ratios(turns)).note(format!(
        "{} µs without hooks, empty +{} µs, Telltale +{} µs",
        number(none / 1e3),
        number(empty / 1e3),
        number(telltale / 1e3)
    ))
}

/// bpftrace beside the same repetitions' Telltale: `printed` has, per repetition, the times without hooks and under bpftrace.
fn bpftrace_rows(printed: &[(Times, Times)], turns: &[[Times; 3]], lost: &[f64]) -> Vec<Row> {
    let added = |size: usize| {
        let of = |times: &Times| times.get(size).copied().unwrap_or(f64::NAN);
        let against = printed.iter().zip(turns).map(|((none, beside), [_, empty, _])| Turn {
            none: of(none),
            empty: of(empty),
            telltale: of(beside),
        });
        against.collect::<Vec<Turn>>()
    };
    let mut rows: Vec<Row> = SIZES
        .iter()
        .enumerate()
        .map(|(place, (size, _))| {
            let turns = added(place);
            let more = median_of(&turns, |turn| turn.telltale - turn.none);
            Row::new(format!("{size} B, bpftrace printing the buffer"), "× an empty pair", ratios(&turns))
                .note(format!("+{} µs; it prints {BPFTRACE_BYTES} bytes at the most", number(more / 1e3)))
        })
        .collect();
    rows.push(Row::new("writes that bpftrace did not print", "%", Spread::of(lost)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_compares_what_is_added() {
        let times =
            |base: f64| (0..SIZES.len() + PAUSED.len()).map(|place| base + place as f64).collect::<Times>();
        let turns = vec![[times(100.0), times(200.0), times(250.0)]; 3];
        let rows = rows_of("perf", &turns);
        assert_eq!(rows.len(), SIZES.len() + PAUSED.len());
        assert_eq!(rows[0], row_of("256 B, perf", &column(&turns, 0)).budget(Budget::AtMost(2.0)));
        assert_eq!(ratios(&column(&turns, 0)), Some(Spread::exact(1.5)));
    }
}
