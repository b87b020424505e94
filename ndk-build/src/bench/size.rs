//! How large what is installed is, and how soon it watches.

use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::setup::{self, Need};
use crate::{android, place_data, say, zip};

use super::bed::Bed;
use super::stats::Spread;
use super::table::{Budget, Row};

const MIB: f64 = 1024.0 * 1024.0;

pub(super) fn run(bed: &Bed<'_>) -> Result<Vec<Row>> {
    let mut rows = sizes(bed).unwrap_or_else(|error| {
        say::note(&error.to_string());
        let why = error.to_string();
        vec![Row::not_run("binary and zip for Android", why.lines().next().unwrap_or_default())]
    });
    let mut starts = Vec::new();
    for _ in 0..bed.pick(9, 3) {
        let started = Instant::now();
        let daemon = bed.telltale(&bed.library(), &["--sends", "off"])?;
        starts.push(started.elapsed().as_secs_f64() * 1e3);
        daemon.stop()?;
    }
    rows.push(
        Row::new("from its start until its hooks are in", "ms", Spread::of(&starts)).note(
            "one library, this machine; the rings, the programs and the dictionaries are loaded by then",
        ),
    );
    Ok(rows)
}

fn sizes(bed: &Bed<'_>) -> Result<Vec<Row>> {
    if bed.quick {
        return Ok(vec![Row::not_run(
            "binary and zip for Android",
            "left out of a quick run: they take minutes to build",
        )]);
    }
    setup::ensure(bed.context, &[Need::Ebpf, Need::Android])?;
    let binary = android::build(bed.context)?;
    let addresses = place_data::make(bed.context)?;
    let module = zip::build(bed.context, &binary, None)?;
    Ok(vec![
        Row::exact(format!("`{}` binary", android::TARGET), "MiB", mib(&binary)?).budget(Budget::AtMost(4.0)),
        Row::exact("the module's zip", "MiB", mib(&module)?).budget(Budget::AtMost(10.0)).note(
            if addresses.is_some() {
                "with the address data"
            } else {
                "without the address data, which could not be fetched"
            },
        ),
    ])
}

fn mib(path: &Path) -> Result<f64> {
    let meta = fs::metadata(path).map_err(Error::file("stat", path))?;
    Ok(meta.len() as f64 / MIB)
}
