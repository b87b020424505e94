//! What Telltale does while nothing happens: wake-ups and processor time.

use std::thread;
use std::time::Duration;

use crate::error::Result;

use super::bed::Bed;
use super::process;
use super::table::{Budget, Row, number};

/// After this a daemon that has just started has gone to sleep.
const SETTLE: Duration = Duration::from_secs(2);

pub(super) fn run(bed: &Bed<'_>) -> Result<Vec<Row>> {
    let seconds = bed.pick(60_u32, 10);
    // The first sees nothing, for nobody calls its library; the second sees all that this machine does meanwhile.
    let quiet = bed.telltale(&bed.library(), &["--sends", "off"])?;
    let all = bed.telltale_everywhere(&[])?;
    thread::sleep(SETTLE);
    let look = |pid| (process::sleeps(pid), process::cpu_seconds(pid));
    let before = [quiet.pid(), all.pid()].map(look);
    thread::sleep(Duration::from_secs(seconds.into()));
    let after = [quiet.pid(), all.pid()].map(look);
    all.stop()?;
    quiet.stop()?;
    let [quiet, all] = [0, 1].map(|which: usize| {
        let of = |looks: &[(f64, f64); 2]| looks.get(which).copied().unwrap_or_default();
        let ((sleeps, cpu), (sleeps_after, cpu_after)) = (of(&before), of(&after));
        (sleeps_after - sleeps, cpu_after - cpu)
    });
    Ok(vec![
        Row::exact(format!("wake-ups in {seconds} s in which nothing is sent"), "", quiet.0)
            .budget(Budget::AtMost(0.0))
            .note(format!("{} ms of processor time", number(1e3 * quiet.1))),
        Row::exact("the same, watching every library and every send of this machine", "", all.0).note(
            format!("{} ms of processor time; what else runs here sends meanwhile", number(1e3 * all.1)),
        ),
    ])
}
