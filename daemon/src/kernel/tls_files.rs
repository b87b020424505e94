//! Which TLS libraries processes have mapped now, and which of them can be hooked: the rest is named, not passed over.
#![forbid(unsafe_code)]

use std::{path::PathBuf, sync::Mutex};

use super::{
    libraries::{self, Mapping},
    own_tls::{self, Memory},
    symbols::{self, Functions},
};

/// A file with TLS in it that some process has mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFile {
    /// As the process sees it.
    pub path: PathBuf,
    /// What can be done about it.
    pub state: TlsState,
    /// How many processes have it mapped.
    pub processes: usize,
}

/// What can be done about TLS in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsState {
    /// It exports `SSL_write`.
    Hookable,
    /// The same in a 32-bit process, which arm64 uprobes refuse.
    Bits32,
    /// It carries its own BoringSSL, and where that writes is certain: `run` hooks it on probation.
    Static,
    /// The same, and what was seen there has proven it.
    Proven,
    /// The same, and what was seen there was not what `SSL_write` does: why it was let alone.
    Disproved(String),
    /// It carries its own BoringSSL, and where that writes is not certain: why.
    Unsure(String),
}

impl TlsState {
    /// One word for programs.
    pub fn word(&self) -> &'static str {
        match self {
            TlsState::Hookable => "hookable",
            TlsState::Bits32 => "32-bit",
            TlsState::Static => "static-found",
            TlsState::Proven => "static-proven",
            TlsState::Disproved(_) => "static-disproved",
            TlsState::Unsure(_) => "static-unsure",
        }
    }
}

/// Looks at every file that processes have mapped executable. With `memory`, what a watch found in binaries up to now, also
/// looks for TLS inside programs, which reads their code.
pub(super) fn survey(memory: Option<Memory>) -> Vec<TlsFile> {
    let memory = memory.map(Mutex::new);
    let mut found: Vec<TlsFile> = libraries::mapped_by()
        .into_iter()
        .filter(|(mapping, _)| libraries::may_hold_tls(&mapping.path))
        .filter_map(|(mapping, processes)| {
            let (path, state) = state(&mapping, memory.as_ref())?;
            Some(TlsFile { path, state, processes })
        })
        .collect();
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// None when there is no TLS in it.
fn state(mapping: &Mapping, memory: Option<&Mutex<Memory>>) -> Option<(PathBuf, TlsState)> {
    let file = libraries::open(mapping)?;
    let (path, part) = libraries::part(&file, mapping)?;
    match symbols::find(&file, part, "SSL_write", &["SSL_write"]) {
        Functions::At(found) if found.contains_key("SSL_write") => return Some((path, TlsState::Hookable)),
        Functions::At(_) => {}
        Functions::Other(_) => {
            return symbols::is_32_bit_with(&file, part, "SSL_write").then_some((path, TlsState::Bits32));
        }
    }
    let identity = part.identity(&file).ok()?;
    let state = own_tls::look(file, part, &path, identity, memory?)?;
    Some((path, state))
}
