//! `telltale`: arguments and wiring, nothing else.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use telltale::{
    alert::{explain, sink::is_reader_gone},
    cli::{self, Command, decode, doctor, evidence, mute, status, trial, watch},
    config::{self, Config},
    kernel::{self, MemoryPath},
    run, store,
};

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(wrong) => return fail(2, &wrong.to_string()),
    };
    let done = match command {
        Command::Help => print(cli::HELP),
        Command::Version => print(&evidence::version()),
        Command::Explain(kind) => print(&explain(kind)),
        Command::ConfigDefault => print(config::DEFAULT),
        Command::ConfigCheck(file) => config_check(file),
        Command::Decode(options) => decode::decode(&options).map_err(|error| error.to_string()),
        Command::Watch(options) => watch::run(&options).map_err(|error| error.to_string()),
        Command::Try(options) => trial::run(&options).map_err(|error| error.to_string()),
        Command::Mute(command) => {
            mute::run(&command).map_err(|error| error.to_string()).and_then(|said| print(&said))
        }
        Command::Evidence(command) => evidence::run(&command).map_err(|error| error.to_string()),
        Command::Run(options) => run::run(&options).map_err(|error| error.to_string()),
        Command::Doctor { json, quick, memory } => examine(json, quick, memory),
        Command::Status(options) => {
            status::status(&options).map_err(|error| error.to_string()).and_then(|text| print(&text))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => fail(1, &reason),
    }
}

fn config_check(file: Option<std::path::PathBuf>) -> Result<(), String> {
    let file = file.unwrap_or_else(cli::config_file);
    let shown = file.display();
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    Config::parse(&text).map_err(|error| format!("{shown}, {error}"))?;
    print(&format!("{shown} is right\n"))
}

fn examine(json: bool, quick: bool, memory: Option<MemoryPath>) -> Result<(), String> {
    if quick {
        let proof = kernel::doctor::quick(memory);
        let verdict = proof.as_ref().map(|proof| (proof.attach, proof.memory));
        match (json, verdict) {
            (true, verdict) => {
                print(&doctor::quick_json(verdict.ok(), verdict.err().map(String::as_str)))?;
            }
            (false, Ok((attach, memory))) => print(&doctor::can_run(attach, memory))?,
            (false, Err(_)) => {}
        }
        return proof.map(|_| ());
    }
    let found = kernel::doctor::examine(store::own_tls(Path::new(cli::PHONE_STORE)).0, memory);
    print(&if json { doctor::json(&found) } else { doctor::text(&found) })?;
    found.refusal.map_or(Ok(()), Err)
}

fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if !is_reader_gone(&error) => Err(format!("writing to standard output: {error}")),
        _ => Ok(()),
    }
}

/// One line, and the exit code. Nothing can be done when even stderr is gone.
fn fail(code: u8, reason: &str) -> ExitCode {
    let line = reason.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let _ = writeln!(io::stderr(), "telltale: {line}");
    ExitCode::from(code)
}
