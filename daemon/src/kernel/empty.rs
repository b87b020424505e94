//! Programs that do nothing, hung where Telltale's hang: what a hook costs before anything is done in it.
//!
//! The bench subtracts and divides by these. No object file is needed for two instructions, and nothing of this is in the
//! daemon that ships: nothing there calls it.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use aya::util::KernelVersion;

use super::{
    AttachPath, KernelError, ONLINE,
    attach::{Attacher, Hook, TracepointHook, attach_tracepoint},
    cpu_list,
    libraries::Part,
    symbols::{self, Functions},
    sys::{self, ProgramKind},
};

/// Hooks with nothing behind them. Take them off with [`EmptyHooks::stop`].
#[derive(Debug)]
pub struct EmptyHooks {
    attacher: Option<Attacher>,
    hooks: Vec<Hook>,
    _tracepoints: Vec<TracepointHook>,
    _programs: Vec<OwnedFd>,
}

impl EmptyHooks {
    /// On the entry and the return of a function that `library` exports, as Telltale hangs its programs there.
    ///
    /// # Errors
    /// Not root, no such way to uprobes, or a library without this function.
    pub fn on_function(
        library: &Path,
        name: &'static str,
        attach: AttachPath,
    ) -> Result<EmptyHooks, KernelError> {
        let refuse = |reason: String| KernelError::Library { path: library.to_owned(), reason };
        let file = File::open(library).map_err(|error| refuse(error.to_string()))?;
        let part = Part::whole(&file).map_err(KernelError::file("stat", library))?;
        let Functions::At(found) = symbols::find(&file, part, name, &[name]) else {
            return Err(refuse("it is no 64-bit ELF file".to_owned()));
        };
        let offset = *found.get(name).ok_or_else(|| refuse(format!("it exports no {name}")))?;
        let program = load(ProgramKind::Kprobe)?;
        let mut attacher = Attacher::new(Some(attach), first_cpu()?)?;
        let mut hooks = Vec::new();
        for at_return in [true, false] {
            match attacher.attach(file.as_fd(), offset, at_return, program.as_fd()) {
                Ok(hook) => hooks.push(hook),
                Err(error) => {
                    take_off(&attacher, hooks)?;
                    return Err(error);
                }
            }
        }
        Ok(EmptyHooks { attacher: Some(attacher), hooks, _tracepoints: Vec::new(), _programs: vec![program] })
    }

    /// On both `raw_syscalls` tracepoints.
    ///
    /// # Errors
    /// Not root, or a kernel without these tracepoints.
    pub fn on_raw_syscalls() -> Result<EmptyHooks, KernelError> {
        let program = load(ProgramKind::Tracepoint)?;
        let cpu = first_cpu()?;
        let tracepoints = ["sys_exit", "sys_enter"]
            .into_iter()
            .map(|name| attach_tracepoint(&format!("raw_syscalls/{name}"), cpu, program.as_fd()))
            .collect::<Result<_, _>>()?;
        Ok(EmptyHooks {
            attacher: None,
            hooks: Vec::new(),
            _tracepoints: tracepoints,
            _programs: vec![program],
        })
    }

    /// Takes them off.
    ///
    /// # Errors
    /// An entry of tracefs could not be deleted.
    pub fn stop(self) -> Result<(), KernelError> {
        match self.attacher {
            Some(attacher) => take_off(&attacher, self.hooks),
            None => Ok(()),
        }
    }
}

fn take_off(attacher: &Attacher, hooks: Vec<Hook>) -> Result<(), KernelError> {
    hooks.into_iter().rev().map(|hook| attacher.detach(hook)).fold(Ok(()), Result::and)
}

fn first_cpu() -> Result<u32, KernelError> {
    Ok(cpu_list(ONLINE)?.first().copied().unwrap_or(0))
}

fn load(kind: ProgramKind) -> Result<OwnedFd, KernelError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(KernelError::NotRoot);
    }
    // Before 5.0 a kprobe program must carry the running kernel's version.
    let version = KernelVersion::current()
        .map_err(|error| KernelError::Call { call: "uname", source: io::Error::other(error.to_string()) })?;
    sys::load_empty_program(kind, version.code()).map_err(KernelError::call("bpf(BPF_PROG_LOAD)"))
}
