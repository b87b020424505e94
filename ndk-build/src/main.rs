//! `cargo ndk-build`: builds, packs, tests and demonstrates Telltale.

use std::process::ExitCode;

use ndk_build::context::Context;
use ndk_build::error::{Error, Result};
use ndk_build::say;

/// One command of the tool.
struct Entry {
    name: &'static str,
    about: &'static str,
    run: fn(&Context, &[String]) -> Result<()>,
}

/// Every command, in the order the help shows them.
const COMMANDS: &[Entry] = &[
    Entry { name: "demo", about: "the main job, on this machine", run: ndk_build::demo::command },
    Entry {
        name: "test",
        about: "everything CI runs; with names, only those parts",
        run: ndk_build::suite::command,
    },
    Entry {
        name: "bench",
        about: "what watching costs: one table, budgets and verdicts; with names, only those",
        run: ndk_build::bench::command,
    },
    Entry {
        name: "browsers",
        about: "programs with their own TLS, and the table of them; --all: the large ones too",
        run: ndk_build::suite::browsers_command,
    },
    Entry {
        name: "android",
        about: "the daemon for the handset, checked; without an NDK or with one",
        run: ndk_build::android::command,
    },
    Entry {
        name: "build",
        about: "the daemon for this machine: target/release/telltale",
        run: ndk_build::compile::command,
    },
    Entry {
        name: "clients",
        about: "the TLS clients and the collector: target/clients/",
        run: ndk_build::clients::command,
    },
    Entry {
        name: "place-data",
        about: "address data for country and network: target/place/",
        run: ndk_build::place_data::command,
    },
    Entry {
        name: "conform",
        about: "would Linux 4.14 take the eBPF object?",
        run: ndk_build::conform::command,
    },
    Entry {
        name: "setup",
        about: "install what the commands need; says what and why",
        run: ndk_build::setup::command,
    },
    Entry {
        name: "vm",
        about: "an arm64 machine that installs the module and proves that it works",
        run: ndk_build::vm::command,
    },
    Entry {
        name: "zip",
        about: "the module to flash: target/telltale-VERSION.zip",
        run: ndk_build::zip::command,
    },
];

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let name = words.next();
    let rest: Vec<String> = words.collect();
    match dispatch(name.as_deref(), &rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ndk-build: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn dispatch(name: Option<&str>, rest: &[String]) -> Result<()> {
    match name {
        Some("help" | "--help" | "-h") => {
            say::plain(&help());
            Ok(())
        }
        None => Err(Error::Usage(help())),
        Some(name) => {
            let entry = COMMANDS
                .iter()
                .find(|entry| entry.name == name)
                .ok_or_else(|| Error::Usage(format!("there is no command `{name}`")))?;
            (entry.run)(&Context::find()?, rest)
        }
    }
}

fn help() -> String {
    let mut text = String::from("cargo ndk-build COMMAND\n\n");
    for entry in COMMANDS {
        text.push_str(&format!("  {:<9} {}\n", entry.name, entry.about));
    }
    text
}
