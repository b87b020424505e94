//! What a call of a cipher costs more in an app that was chosen for it. In all others no instruction is touched.

use crate::error::Result;

use super::bed::Bed;
use super::helper::Helper;
use super::stats::{Turn, rotation};
use super::table::Row;

/// Bytes of a call.
const SIZES: [usize; 3] = [64, 1024, 4096];

pub(super) fn run(bed: &Bed<'_>) -> Result<Vec<Row>> {
    let mut turns: [Vec<Turn>; SIZES.len()] = Default::default();
    for turn in 0..bed.pick(9, 3) {
        let mut times = [[f64::NAN; 3]; SIZES.len()];
        for variant in rotation(turn, 3) {
            for (place, ns) in times.iter_mut().zip(under(bed, variant)?) {
                if let Some(place) = place.get_mut(variant) {
                    *place = ns;
                }
            }
        }
        for (turns, [none, empty, telltale]) in turns.iter_mut().zip(times) {
            turns.push(Turn { none, empty, telltale });
        }
    }
    let row = |(size, turns): (&usize, &Vec<Turn>)| {
        super::hooks::row_of(&format!("EVP_CipherUpdate of {size} B"), turns)
    };
    Ok(SIZES.iter().zip(&turns).map(row).collect())
}

/// Times the calls with no hook (0), an empty pair (1), Telltale's (2).
fn under(bed: &Bed<'_>, variant: usize) -> Result<Vec<f64>> {
    let mut caller = bed.caller()?;
    let library = bed.dir.join("lib/libcrypto.so.0");
    let hooks = match variant {
        0 => None,
        1 => Some(bed.meter(&["empty-cipher", &library.to_string_lossy()])?),
        _ => Some(bed.meter(&["ciphers", &caller.pid().to_string()])?),
    };
    caller.number("cipher 64 50", "ns")?;
    let groups = bed.pick(300, 100);
    let times = SIZES
        .iter()
        .map(|size| caller.number(&format!("cipher {size} {groups}"), "ns"))
        .collect::<Result<_>>()?;
    hooks.map(Helper::stop).transpose()?;
    caller.stop()?;
    Ok(times)
}
