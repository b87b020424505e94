//! What the bench compares Telltale with, and the first half of its way by itself. It works until its standard input ends.
//!
//! ```text
//! meter empty LIBRARY perf|tracefs   programs that do nothing on SSL_write's entry and return
//! meter empty-cipher LIBRARY         the same on EVP_CipherUpdate
//! meter ciphers PID                  the hooks on the ciphers of this process, and rings that are read
//! meter empty-calls                  the same on every system call's entry and return
//! meter records LIBRARY CPUS         the hooks, rings as on so many CPUs, the parsing of records, and nothing behind
//! meter rings CPUS                   bytes of all rings on so many CPUs
//! ```
//!
//! The first line says `ready`; `records` ends with a line of counts.
#![allow(clippy::print_stdout)]
#![forbid(unsafe_code)]

use std::{
    error::Error,
    io::{self, Read as _},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use telltale::{
    kernel::{AttachPath, Budget, CipherWatch, EmptyHooks, Options, Session, ring_memory},
    record::Body,
    run::Nap,
};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["empty", library, name] => way(name).map_err(Into::into).and_then(|way| {
            hold(EmptyHooks::on_function(&PathBuf::from(library), "SSL_write", way))
        }),
        ["empty-cipher", library] => {
            hold(EmptyHooks::on_function(&PathBuf::from(library), "EVP_CipherUpdate", AttachPath::Perf))
        }
        ["ciphers", process] => ciphers(process),
        ["empty-calls"] => hold(EmptyHooks::on_raw_syscalls()),
        ["records", library, cpus] => records(library, cpus),
        ["rings", cpus] => rings(cpus),
        _ => {
            Err("usage: meter empty LIBRARY perf|tracefs, empty-cipher LIBRARY, empty-calls, ciphers PID, records LIBRARY CPUS, rings CPUS"
                .into())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meter: {error}");
            ExitCode::FAILURE
        }
    }
}

type Done = Result<(), Box<dyn Error>>;

fn way(name: &str) -> Result<AttachPath, String> {
    AttachPath::from_name(name).ok_or_else(|| format!("{name} is no way to attach"))
}

fn hold(hooks: Result<EmptyHooks, impl Error + 'static>) -> Done {
    let hooks = hooks?;
    println!("ready");
    wait_for_end();
    Ok(hooks.stop()?)
}

/// Reads standard input to its end.
fn wait_for_end() {
    let mut rest = Vec::new();
    // An input that cannot be read has ended, too.
    let _ = io::stdin().read_to_end(&mut rest);
}

fn rings(cpus: &str) -> Done {
    println!("bytes={}", ring_memory(cpus.parse()?));
    Ok(())
}

fn records(library: &str, cpus: &str) -> Done {
    let cpus: usize = cpus.parse()?;
    let mut session = Session::start(&Options {
        libraries: vec![PathBuf::from(library)],
        ring_bytes: ring_memory(cpus).checked_div(cpus),
        ..Options::default()
    })?;
    let read = read_until_end(&mut session)?;
    let tally = session.tally()?;
    println!(
        "writes={} bytes={} records={} malformed={} lost={}",
        read.writes,
        read.bytes,
        tally.records,
        read.malformed,
        tally.lost()
    );
    Ok(session.stop()?)
}

fn ciphers(process: &str) -> Done {
    let mut session = Session::bare(&Options::default())?;
    match session.watch_ciphers(process.parse()?)? {
        CipherWatch::Watched => {}
        other => return Err(format!("the ciphers of {process} are not watched: {other:?}").into()),
    }
    read_until_end(&mut session)?;
    Ok(session.stop()?)
}

/// What was read.
#[derive(Default)]
struct Read {
    writes: u64,
    bytes: u64,
    malformed: u64,
}

/// Says that it is ready, and reads records until standard input ends.
fn read_until_end(session: &mut Session) -> Result<Read, Box<dyn Error>> {
    // Without a bound: what a budget leaves out could not be told from what was lost.
    session.set_budget(&Budget { total_per_second: 0, ..Budget::default() })?;
    println!("ready");
    let ended = Arc::new(AtomicBool::new(false));
    thread::spawn({
        let ended = Arc::clone(&ended);
        move || {
            wait_for_end();
            ended.store(true, Ordering::Relaxed);
        }
    });
    let mut read = Read::default();
    let mut last = false;
    let mut nap = Nap::default();
    loop {
        let pass = session.drain(&mut |_, event| {
            if let Body::TlsWrite(piece) = event.body {
                read.writes = read.writes.saturating_add(u64::from(piece.last));
                read.bytes = read.bytes.saturating_add(piece.bytes.len() as u64);
            }
        });
        read.malformed = read.malformed.saturating_add(pass.malformed);
        // Once more after the end: what was written up to then.
        if last {
            return Ok(read);
        }
        last = ended.load(Ordering::Relaxed);
        thread::sleep(nap.after(pass.records));
    }
}
