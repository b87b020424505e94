//! What a system call costs more that is no socket send, and one that is.

use crate::error::Result;

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

pub(super) fn run(bed: &Bed<'_>) -> Result<Vec<Row>> {
    let mut turns: [Vec<Turn>; CALLS.len()] = Default::default();
    for turn in 0..bed.pick(15, 5) {
        let mut times = [[f64::NAN; 3]; CALLS.len()];
        for variant in rotation(turn, 3) {
            let spent = under(bed, variant)?;
            for (place, ns) in times.iter_mut().zip(spent) {
                if let Some(place) = place.get_mut(variant) {
                    *place = ns;
                }
            }
        }
        for (turns, [none, empty, telltale]) in turns.iter_mut().zip(times) {
            turns.push(Turn { none, empty, telltale });
        }
    }
    Ok(CALLS.iter().zip(&turns).map(|((_, what, sends), turns)| row(what, *sends, turns)).collect())
}

/// Times the calls with nothing on the tracepoints (0), empty programs (1), Telltale (2).
fn under(bed: &Bed<'_>, variant: usize) -> Result<Vec<f64>> {
    let hooks = match variant {
        0 => None,
        1 => Some(bed.meter(&["empty-calls"])?),
        // The loopback counts, or the sends would be left out as what stays on this machine.
        _ => Some(bed.telltale(&bed.library(), &["--sends", "raw", "--loopback"])?),
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
    let row = Row::new(format!("{what}, raw_syscalls"), "× empty programs", ratios(turns)).note(format!(
        "{} ns without programs, empty +{} ns, Telltale +{} ns",
        number(none),
        number(empty),
        number(telltale)
    ));
    if sends { row } else { row.budget(Budget::AtMost(MOST)) }
}
