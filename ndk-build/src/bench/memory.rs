//! How much memory the daemon holds: idle, under load, with the inputs that the fuzzers kept, and after a million connections.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::clients;
use crate::context::write;
use crate::error::{Error, Result};

use super::bed::{Bed, PHONE_CPUS};
use super::helper::Helper;
use super::process;
use super::table::{Budget, Row, number};

const MIB: f64 = 1024.0 * 1024.0;
/// Connections in a second: a hundred times what a busy phone opens, and less than the daemon can follow.
const RATE: u32 = 10_000;
/// What the memory may grow by from a tenth of the connections to all of them: what an allocator keeps here and there.
const FLAT_MIB: f64 = 0.5;

pub(super) fn run(bed: &Bed<'_>) -> Result<Vec<Row>> {
    // Their pages are in no process's resident set.
    let rings = bed.rings(PHONE_CPUS)? / MIB;
    let config = bed.without_budget()?;
    let mut rows = vec![
        Row::exact(format!("rings of {PHONE_CPUS} CPUs"), "MiB", rings).note("counted in the two rows below"),
    ];

    let daemon = bed.telltale_everywhere(&["--config", &config])?;
    thread::sleep(Duration::from_secs(2));
    let note =
        format!("{}; {} MiB for a moment at the start", parts(&daemon)?, number(resident(&daemon, "VmHWM")?));
    rows.push(row("idle: resident set and rings", resident(&daemon, "VmRSS")?, rings, 12.0, &note));
    daemon.stop()?;

    let daemon = bed.telltale(&bed.library(), &["--config", &config])?;
    process::forget_peak(daemon.pid());
    let mut caller = bed.caller()?;
    caller.ask(&format!("file {}", bed.telemetry()?.display()))?;
    let sent = caller.number(&format!("stream 0 {} 0", bed.pick(10_000, 2_000)), "calls")?;
    let note = format!("{}; {} telemetry requests at full speed, no budget", parts(&daemon)?, number(sent));
    rows.push(row(
        "under load: largest resident set and rings",
        resident(&daemon, "VmHWM")?,
        rings,
        24.0,
        &note,
    ));
    let worst = fuzz_inputs(bed, &mut caller)?;
    let note = format!("after {worst} inputs of the fuzz corpora besides, each as a body");
    rows.push(row("with the fuzzers' worst", resident(&daemon, "VmHWM")?, rings, 24.0, &note));
    caller.stop()?;
    daemon.stop()?;
    rows.push(connections(bed)?);
    Ok(rows)
}

fn row(what: &str, resident: f64, rings: f64, budget: f64, note: &str) -> Row {
    Row::exact(what, "MiB", resident + rings).budget(Budget::AtMost(budget)).note(note)
}

fn resident(daemon: &Helper, field: &str) -> Result<f64> {
    process::kib(daemon.pid(), field)
        .map(|kib| kib / 1024.0)
        .ok_or_else(|| Error::Check("the daemon has ended while it was measured".into()))
}

/// Of the resident set, what is the daemon's own and what are pages of its file that any other use of it shares.
fn parts(daemon: &Helper) -> Result<String> {
    let (own, file) = (resident(daemon, "RssAnon")?, resident(daemon, "RssFile")?);
    Ok(format!("{} MiB its own, {} MiB pages of files", number(own), number(file)))
}

/// Sends every input of the fuzz corpora as the body of a request; how many there are.
fn fuzz_inputs(bed: &Bed<'_>, caller: &mut Helper) -> Result<usize> {
    let mut inputs = Vec::new();
    files_below(&bed.context.root.join("daemon/fuzz/corpus"), &mut inputs);
    let request = bed.dir.join("fuzz.request");
    for input in &inputs {
        let body = fs::read(input).map_err(Error::file("read", input))?;
        let mut bytes = format!(
            "POST /fuzz HTTP/1.1\r\nHost: sa.api.intl.miui.com\r\nContent-Type: application/octet-stream\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend(body);
        write(&request, bytes)?;
        caller.ask(&format!("file {}", request.display()))?;
        caller.ask("write 0 1")?;
    }
    thread::sleep(Duration::from_secs(1));
    Ok(inputs.len())
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Connections come and go: the memory after a tenth of them, and after all.
fn connections(bed: &Bed<'_>) -> Result<Row> {
    let count = bed.pick(1_000_000_u32, 50_000);
    let library = clients::path(bed.context, clients::BENCH_LIBRARY);
    let daemon = bed.telltale(&library, &["--sends", "off"])?;
    let mut caller = bed.caller()?;
    let request = bed.dir.join("small.request");
    write(&request, "GET /feed?page=2 HTTP/1.1\r\nHost: bench.example\r\nAccept: */*\r\n\r\n")?;
    caller.ask(&format!("file {}", request.display()))?;
    let mut open = |count: u32| caller.ask(&format!("connections {count} {RATE} {}", library.display()));
    open(count / 10)?;
    let early = resident(&daemon, "VmRSS")?;
    open(count - count / 10)?;
    let late = resident(&daemon, "VmRSS")?;
    caller.stop()?;
    let lost = daemon.stop()?.iter().rev().find_map(|line| super::loss::lost_by(line)).unwrap_or(0.0);
    Ok(Row::exact(format!("growth over {} connections", number(count.into())), "MiB", late - early)
        .budget(Budget::AtMost(FLAT_MIB))
        .note(format!(
            "{} MiB after the first tenth, {} MiB after all; {} records lost",
            number(early),
            number(late),
            number(lost)
        )))
}
