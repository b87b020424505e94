//! What can go wrong between this daemon and the kernel: each names the call and what the user can do.

use std::{io, path::PathBuf};

use thiserror::Error;

/// An error of this room. One line each, ready to be shown.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KernelError {
    /// Not root.
    #[error("telltale must run as root: hooking other processes needs CAP_SYS_ADMIN (try `su` or `sudo`)")]
    NotRoot,
    /// Built without a BPF toolchain.
    #[error("this binary was built without the eBPF program: build it with `cargo ndk-build build`")]
    NoProgram,
    /// Aya would not take the object.
    #[error(
        "this kernel did not take the eBPF object ({0}): it needs CONFIG_BPF_SYSCALL=y and CONFIG_BPF_EVENTS=y"
    )]
    Object(#[from] aya::EbpfError),
    /// The verifier refused a program.
    #[error("this kernel refused the eBPF program {name}: {}", refusal(source))]
    Program {
        /// The program.
        name: &'static str,
        /// Why.
        source: aya::programs::ProgramError,
    },
    /// The object lacks a map or a program.
    #[error("the embedded eBPF object has no {0}: build again with `cargo ndk-build build`")]
    Missing(&'static str),
    /// No tracefs.
    #[error(
        "tracefs is at neither /sys/kernel/tracing nor /sys/kernel/debug/tracing: mount it (`mount -t tracefs tracefs /sys/kernel/tracing`); the kernel needs CONFIG_UPROBE_EVENTS=y"
    )]
    NoTracefs,
    /// The `uprobe` PMU was asked for and is not there.
    #[error("this kernel has no perf uprobe PMU (Linux 4.17 and later): use `--attach tracefs`")]
    NoPmu,
    /// A library that was asked for cannot be used.
    #[error("cannot hook {}: {reason}", path.display())]
    Library {
        /// As given.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// A file that should be there.
    #[error("{call} {}: {source}", path.display())]
    File {
        /// What was tried: `read`, `write`, …
        call: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A system call.
    #[error("{call}: {source}{}", hint(source))]
    Call {
        /// Its name, and on what.
        call: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// Why, in one line: the verifier's log runs to thousands, and its reason stands at the end.
fn refusal(error: &aya::programs::ProgramError) -> String {
    /// The longest reason of the verifier is about half as long.
    const LONGEST: usize = 160;
    let aya::programs::ProgramError::LoadError { io_error, verifier_log } = error else {
        return error.to_string();
    };
    let log = verifier_log.to_string();
    let reason =
        log.lines().rev().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("processed "));
    let reason: String = reason.unwrap_or("no reason given").chars().take(LONGEST).collect();
    format!("{io_error}; the verifier says: {reason}")
}

/// What the user can do about an error number.
fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            " (run as root, and look at kernel.perf_event_paranoid and SELinux)"
        }
        Some(libc::ENOSYS) => " (this kernel was built without it)",
        Some(libc::ENOMEM) => " (not enough memory for the rings)",
        Some(libc::EEXIST) => " (another program holds this hook: Linux 4.14 takes one at a time)",
        _ => "",
    }
}

impl KernelError {
    pub(super) fn call(call: &'static str) -> impl FnOnce(io::Error) -> KernelError {
        move |source| KernelError::Call { call, source }
    }

    pub(super) fn file(
        call: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> KernelError {
        let path = path.into();
        move |source| KernelError::File { call, path, source }
    }
}
