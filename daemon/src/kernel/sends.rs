//! Watching socket sends: through `raw_syscalls`, else through `syscalls:*` for 64-bit tasks.
//!
//! `syscalls:*` runs our programs for the calls that matter alone, but never fires for a 32-bit task; `raw_syscalls` runs them
//! for every call of everybody. Measured on 6.18, nanoseconds added to a call that is none of ours (`getpid`) and to a `write` to
//! a file, with nothing else on the machine: an empty program on `raw_syscalls` 58 and 71; `syscalls` 10 and, before files were
//! known from `openat` on, 117; `raw` 61 and 152. With them known, on a busy machine: 72 for the empty program's `write`,
//! `syscalls` 95, `raw` 100. Where both are needed the costs add up.
//!
//! `raw_syscalls` comes first all the same. Phones run 32-bit code, and so need it in any case. And it is two tracepoints to take
//! off where `syscalls:*` is 47, for each of which the kernel waits until nobody is inside any more: 0.15 s against 2.9 s on a quiet
//! machine, more than 10 s on a busy one, in which a daemon that was told to end, or was killed, is not gone. `syscalls:*` is for
//! where another's program holds `raw_syscalls`: 4.14.117 lets one hang on each tracepoint. On arm64 the task itself tells its
//! kind; on x86 only its program file does, at which the daemon looks.
#![forbid(unsafe_code)]

use std::{collections::HashMap, fs::File, io::Read};

use super::{
    KernelError, Session,
    attach::{TracepointHook, attach_tracepoint},
    libraries::{self, Inode, Mapping},
    watch::Watch,
};

/// Which tracepoints socket sends are watched through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendsPath {
    /// `syscalls:*`: only calls that matter cost anything.
    Syscalls,
    /// `raw_syscalls`: every call costs a little. Every kernel has it that has syscall tracepoints.
    Raw,
}

impl SendsPath {
    /// As `--sends` takes it.
    pub fn name(self) -> &'static str {
        match self {
            SendsPath::Syscalls => "syscalls",
            SendsPath::Raw => "raw",
        }
    }

    /// What is left when this one is refused.
    pub fn other(self) -> SendsPath {
        match self {
            SendsPath::Syscalls => SendsPath::Raw,
            SendsPath::Raw => SendsPath::Syscalls,
        }
    }

    /// `syscalls` or `raw`.
    pub fn from_name(name: &str) -> Option<SendsPath> {
        [SendsPath::Syscalls, SendsPath::Raw].into_iter().find(|path| path.name() == name)
    }
}

/// What hangs on tracepoints.
#[derive(Debug, Default)]
pub(super) struct Sends {
    path: Option<SendsPath>,
    hooks: Vec<TracepointHook>,
    /// 32-bit tasks' calls are seen.
    for_32_bit: bool,
    /// Whether a file holds 32-bit code, with its inode's generation.
    files: HashMap<Inode, (u64, bool)>,
}

/// A system call as `syscalls:*` names it.
struct Call {
    name: &'static str,
    /// The program at its beginning; it must not read more arguments than the call has.
    begins: Option<&'static str>,
    /// Its return is seen.
    returns: bool,
    /// Every kernel has it on every machine.
    everywhere: bool,
}

const fn call(name: &'static str, begins: &'static str) -> Call {
    Call { name, begins: Some(begins), returns: true, everywhere: true }
}

const CALLS: [Call; 24] = [
    call("write", "call_with_3"),
    call("writev", "call_with_3"),
    call("sendto", "call_with_6"),
    call("sendmsg", "call_with_3"),
    call("sendmmsg", "call_with_4"),
    call("sendfile64", "call_with_4"),
    call("splice", "call_with_6"),
    call("socket", "call_with_3"),
    call("connect", "call_with_3"),
    call("accept", "call_with_3"),
    call("accept4", "call_with_4"),
    call("dup", "call_with_1"),
    call("dup3", "call_with_3"),
    Call { everywhere: false, ..call("dup2", "call_with_2") },
    call("fcntl", "call_with_3"),
    Call { returns: false, ..call("close", "call_with_1") },
    Call { returns: false, everywhere: false, ..call("close_range", "call_with_3") },
    Call { returns: false, ..call("execve", "call_with_3") },
    Call { returns: false, ..call("execveat", "call_with_3") },
    Call { begins: None, ..call("openat", "") },
    Call { begins: None, ..call("clone", "") },
    Call { begins: None, everywhere: false, ..call("clone3", "") },
    Call { begins: None, everywhere: false, ..call("fork", "") },
    Call { begins: None, everywhere: false, ..call("vfork", "") },
];

/// Which way is tried first.
pub(super) const FIRST: SendsPath = SendsPath::Raw;
/// The program at every call's return.
const RETURNED: &str = "sys_exit";
/// When more files than this have been looked at, all are forgotten.
const FILES_LIMIT: usize = 16 * 1024;
/// The kind of a task is not to be had from the task.
const BY_FILE: bool = cfg!(target_arch = "x86_64");

impl Session {
    /// Watches socket sends of all processes as well, in the first way or else in the other; says which.
    ///
    /// # Errors
    /// As [`Session::hook_sends_through`], for the second way.
    pub fn hook_sends(&mut self) -> Result<SendsPath, KernelError> {
        match self.hook_sends_through(FIRST) {
            Ok(()) => Ok(FIRST),
            Err(error) => {
                log::debug!("sends are not watched through {}: {error}", FIRST.name());
                let second = FIRST.other();
                self.hook_sends_through(second).map(|()| second)
            }
        }
    }

    /// Watches socket sends in this way.
    ///
    /// # Errors
    /// The kernel lacks these tracepoints, refuses the programs, or lets only one program hang on each and another has
    /// it. Nothing of it stays; TLS is watched all the same.
    pub fn hook_sends_through(&mut self, path: SendsPath) -> Result<(), KernelError> {
        self.programs.load_senders()?;
        // Before looking at who is there, so that nobody slips through in between.
        if (BY_FILE || path == SendsPath::Syscalls) && self.watch.is_none() {
            self.watch = Some(Watch::open(&self.cpus.iter().map(|rings| rings.cpu).collect::<Vec<_>>())?);
        }
        let mut hooks = Vec::new();
        match path {
            SendsPath::Raw => self.hook_raw("sys_enter", &mut hooks)?,
            SendsPath::Syscalls => self.hook_calls(&mut hooks)?,
        }
        self.sends.hooks = hooks;
        self.sends.path = Some(path);
        self.sends.for_32_bit = path == SendsPath::Raw;
        self.look_for_32_bit();
        Ok(())
    }

    /// Finds the processes that run 32-bit code now, where it matters.
    pub(super) fn look_for_32_bit(&mut self) {
        if self.asks_for_kinds() {
            for pid in processes_in_32_bit() {
                self.runs_32_bit(pid);
            }
        }
    }

    /// The way in which socket sends are watched; none when they are not.
    pub fn sends_path(&self) -> Option<SendsPath> {
        self.sends.path
    }

    /// True while socket sends are watched.
    pub fn watches_sends(&self) -> bool {
        self.sends.path.is_some()
    }

    /// Whether it matters which processes run 32-bit code.
    pub(super) fn asks_for_kinds(&self) -> bool {
        self.sends.path.is_some() && (BY_FILE || !self.sends.for_32_bit)
    }

    fn hook_raw(&mut self, entry: &'static str, hooks: &mut Vec<TracepointHook>) -> Result<(), KernelError> {
        // The exit first: a call whose entry was not seen is passed over.
        for (event, program) in [("raw_syscalls/sys_exit", RETURNED), ("raw_syscalls/sys_enter", entry)] {
            hooks.push(self.hook_tracepoint(event, program)?);
        }
        Ok(())
    }

    fn hook_calls(&mut self, hooks: &mut Vec<TracepointHook>) -> Result<(), KernelError> {
        for call in CALLS.iter().filter(|call| call.returns) {
            self.hook_call(call, &format!("syscalls/sys_exit_{}", call.name), RETURNED, hooks)?;
        }
        for call in &CALLS {
            if let Some(program) = call.begins {
                self.hook_call(call, &format!("syscalls/sys_enter_{}", call.name), program, hooks)?;
            }
        }
        Ok(())
    }

    fn hook_call(
        &mut self,
        call: &Call,
        event: &str,
        program: &'static str,
        hooks: &mut Vec<TracepointHook>,
    ) -> Result<(), KernelError> {
        match self.hook_tracepoint(event, program) {
            Ok(hook) => hooks.push(hook),
            Err(KernelError::File { .. }) if !call.everywhere => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn hook_tracepoint(&mut self, event: &str, program: &'static str) -> Result<TracepointHook, KernelError> {
        let cpu = self.cpus.first().map_or(0, |rings| rings.cpu);
        attach_tracepoint(event, cpu, self.programs.tracepoint(program)?)
    }

    /// A process was seen to run 32-bit code.
    pub(super) fn runs_32_bit(&mut self, pid: u32) {
        if BY_FILE && let Err(error) = self.programs.runs_32_bit(pid) {
            log::debug!("{error}");
        }
        if !self.sends.for_32_bit {
            let mut hooks = Vec::new();
            match self.hook_raw("sys_enter_32_bit", &mut hooks) {
                Ok(()) => self.sends.hooks.append(&mut hooks),
                Err(error) => log::warn!("socket sends of 32-bit processes are not watched: {error}"),
            }
            // Once: what is refused today is refused tomorrow.
            self.sends.for_32_bit = true;
        }
    }
}

impl Sends {
    /// Whether what was mapped is 32-bit code. A file is opened once.
    pub(super) fn is_32_bit(&mut self, mapping: &Mapping, generation: u64) -> bool {
        match self.files.get(&mapping.inode) {
            Some((known, is_32_bit)) if *known == generation => return *is_32_bit,
            _ => {}
        }
        let Some(file) = libraries::open(mapping) else { return false };
        let is_32_bit = holds_32_bit(file);
        if self.files.len() >= FILES_LIMIT {
            self.files.clear();
        }
        self.files.insert(mapping.inode, (generation, is_32_bit));
        is_32_bit
    }

    /// Takes all of them off.
    pub(super) fn clear(&mut self) {
        self.hooks.clear();
        self.path = None;
    }
}

/// The processes that run 32-bit code now.
pub(super) fn processes_in_32_bit() -> Vec<u32> {
    libraries::processes().into_iter().filter(|pid| is_32_bit(*pid)).collect()
}

/// Whether a process runs a 32-bit program; not when it is gone.
pub fn is_32_bit(pid: u32) -> bool {
    File::open(format!("/proc/{pid}/exe")).is_ok_and(holds_32_bit)
}

/// Whether this is an ELF file of 32-bit code: the class, behind the magic (elf(5), `EI_CLASS`).
fn holds_32_bit(mut file: impl Read) -> bool {
    let mut head = [0; 5];
    file.read_exact(&mut head).is_ok() && head == *b"\x7fELF\x01"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_of_a_program_is_read() {
        assert!(holds_32_bit(&b"\x7fELF\x01\x01"[..]));
        assert!(!holds_32_bit(&b"\x7fELF\x02\x01"[..]));
        assert!(!holds_32_bit(&b"#!/bin/sh"[..]));
        assert!(!holds_32_bit(&b"\x7fEL"[..]));
    }

    #[test]
    fn this_process_is_no_32_bit_one_and_one_that_is_gone_neither() {
        assert_eq!(is_32_bit(std::process::id()), cfg!(target_pointer_width = "32"));
        assert!(!is_32_bit(u32::MAX));
    }

    #[test]
    fn paths_go_by_name() {
        for path in [SendsPath::Syscalls, SendsPath::Raw] {
            assert_eq!(SendsPath::from_name(path.name()), Some(path));
            assert_ne!(path.other(), path);
        }
        assert_eq!(SendsPath::from_name("off"), None);
    }

    #[test]
    fn each_call_is_named_once_with_a_program_for_its_arguments() {
        for call in &CALLS {
            assert_eq!(CALLS.iter().filter(|other| other.name == call.name).count(), 1, "{}", call.name);
            assert!(call.begins.is_some() || call.returns);
        }
    }
}
