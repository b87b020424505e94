//! What a system call costs more that is no socket send, and one that is.

use crate::error::Result;
use crate::run::Run;

use super::bed::Bed;
use super::helper::Helper;
use super::stats::{Turn, median_of, ratios, rotation};
use super::table::{Budget, Row, number};

/// The calls, as the client names them, and whether each is a socket send: those have no budget, for they are the job.
const CALLS: [(&str, &str, bool); 6] = [
    ("getpid", "getpid", false),
    ("read", "read of 64 bytes", false),
    ("write", "write of 64 bytes to a file", false),
    ("futex", "futex wake", false),
    ("sendto", "sendto of 64 bytes (UDP)", true),
    ("send", "send of 64 bytes (TCP)", true),
];
/// The most a call that is no send may cost more, in empty programs on the same tracepoints.
const MOST: f64 = 1.5;

/// Nothing on the tracepoints, empty programs on `raw_syscalls`, Telltale there, Telltale on `syscalls:*`.
const NONE: usize = 0;
const EMPTY: usize = 1;
const RAW: usize = 2;
const BY_NAME: usize = 3;

pub(super) fn run(bed: &Bed<'_>) -> Result<Vec<Row>> {
    let ways: &[(usize, &str)] = if knows_by_name(bed) {
        &[(RAW, "raw_syscalls"), (BY_NAME, "syscalls:*")]
    } else {
        &[(RAW, "raw_syscalls")]
    };
    let variants = RAW + ways.len();
    // By call, then by repetition, then by variant.
    let mut turns: [Vec<[f64; 4]>; CALLS.len()] = Default::default();
    for turn in 0..bed.pick(15, 5) {
        let mut times = [[f64::NAN; 4]; CALLS.len()];
        for variant in rotation(turn, variants) {
            let spent = under(bed, variant)?;
            for (place, ns) in times.iter_mut().zip(spent) {
                if let Some(place) = place.get_mut(variant) {
                    *place = ns;
                }
            }
        }
        turns.iter_mut().zip(times).for_each(|(turns, times)| turns.push(times));
    }
    let rows = ways.iter().flat_map(|(variant, way)| {
        CALLS.iter().zip(&turns).map(move |((_, what, sends), turns)| {
            let of = |times: &[f64; 4], variant: usize| times.get(variant).copied().unwrap_or(f64::NAN);
            let turns: Vec<Turn> = turns
                .iter()
                .map(|times| Turn {
                    none: of(times, NONE),
                    empty: of(times, EMPTY),
                    telltale: of(times, *variant),
                })
                .collect();
            row(&format!("{what}, {way}"), *sends, &turns)
        })
    });
    Ok(rows.collect())
}

/// Whether this daemon can watch sends by the names of their calls.
fn knows_by_name(bed: &Bed<'_>) -> bool {
    Run::new(bed.context.telltale()).args(["run", "--sends", "syscalls", "--help"]).output().is_ok()
}

/// Times the calls with one variant.
fn under(bed: &Bed<'_>, variant: usize) -> Result<Vec<f64>> {
    // The loopback counts, or the sends would be left out as what stays on this machine.
    let telltale = |way| bed.telltale(&bed.library(), &["--sends", way, "--loopback"]);
    let hooks = match variant {
        NONE => None,
        EMPTY => Some(bed.meter(&["empty-calls"])?),
        RAW => Some(telltale("raw")?),
        _ => Some(telltale("syscalls")?),
    };
    let mut caller = bed.caller()?;
    caller.number("call getpid 50", "ns")?;
    let groups = bed.pick(150, 60);
    let times = CALLS
        .iter()
        .map(|(name, _, _)| caller.number(&format!("call {name} {groups}"), "ns"))
        .collect::<Result<_>>()?;
    caller.stop()?;
    hooks.map(Helper::stop).transpose()?;
    Ok(times)
}

fn row(what: &str, sends: bool, turns: &[Turn]) -> Row {
    let none = median_of(turns, |turn| turn.none);
    let empty = median_of(turns, |turn| turn.empty - turn.none);
    let telltale = median_of(turns, |turn| turn.telltale - turn.none);
    let row = Row::new(what, "× empty programs", ratios(turns)).note(format!(
        "{} ns without programs, empty ones on raw_syscalls +{} ns, Telltale +{} ns",
        number(none),
        number(empty),
        number(telltale)
    ));
    if sends { row } else { row.budget(Budget::AtMost(MOST)) }
}
