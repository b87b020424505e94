//! Loads a BPF object into this machine's kernel and prints, for each program, how many instructions the verifier
//! walked: `COUNT NAME` per line. Nothing is attached; everything is gone when it ends. Needs root and Linux 5.16.
//!
//! An example rather than a part of the tool, so that only the conformance check pays for compiling the loader.

use std::error::Error;
use std::io::Write as _;

use aya::EbpfLoader;
use aya::programs::Program;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: processed OBJECT")?;
    let bytes = std::fs::read(path)?;
    let mut object = EbpfLoader::new().load(&bytes)?;
    let mut out = std::io::stdout().lock();
    for (name, program) in object.programs_mut() {
        match program {
            Program::UProbe(program) => program.load(),
            Program::TracePoint(program) => program.load(),
            Program::PerfEvent(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            Program::SocketFilter(program) => program.load(),
            _ => return Err(format!("{name}: a program type that Telltale does not use").into()),
        }
        .map_err(|error| format!("{name}: {error}: {}", cause(&error)))?;
        let count = program
            .info()?
            .verified_instruction_count()
            .ok_or("this kernel does not report the verifier's count (Linux 5.16 and later do)")?;
        writeln!(out, "{count} {name}")?;
    }
    Ok(())
}

fn cause(error: &dyn Error) -> String {
    error.source().map_or_else(String::new, ToString::to_string)
}
