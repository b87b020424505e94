//! Which TLS libraries processes have mapped now, and which of them can be hooked: the rest is named, not passed over.
#![forbid(unsafe_code)]

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf};

use super::{
    libraries::{self, Mapping},
    mapped_file::MappedFile,
    symbols::{self, Functions},
};
use crate::finder::{self, Verdict};

/// A smaller file holds no TLS library of its own beside what it is for.
const STATIC_LEAST: u64 = 1 << 20;
/// A larger one is no program.
const STATIC_MOST: u64 = 1 << 30;

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
    /// It carries its own BoringSSL, and where that writes is certain; nothing is hooked there yet.
    Static,
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
            TlsState::Unsure(_) => "static-unsure",
        }
    }
}

/// Looks at every file that processes have mapped executable. `deep` also looks for TLS inside programs, which reads their
/// code.
pub(super) fn survey(deep: bool) -> Vec<TlsFile> {
    // Our own program names the file it looks for.
    let own = fs::metadata("/proc/self/exe").map_or(0, |data| data.ino());
    let mut found: Vec<TlsFile> = libraries::mapped_by()
        .into_iter()
        .filter(|(mapping, _)| libraries::may_hold_tls(&mapping.path) && mapping.inode.number != own)
        .filter_map(|(mapping, processes)| {
            let state = state(&mapping, deep)?;
            Some(TlsFile { path: PathBuf::from(mapping.path), state, processes })
        })
        .collect();
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// None when there is no TLS in it.
fn state(mapping: &Mapping, deep: bool) -> Option<TlsState> {
    let file = libraries::open(mapping)?;
    match symbols::find(&file, "SSL_write", &["SSL_write"]) {
        Functions::At(found) if found.contains_key("SSL_write") => return Some(TlsState::Hookable),
        Functions::At(_) => {}
        Functions::Other(_) => {
            return symbols::is_32_bit_with(&file, "SSL_write").then_some(TlsState::Bits32);
        }
    }
    let size = file.metadata().ok()?.len();
    if !deep || !(STATIC_LEAST..=STATIC_MOST).contains(&size) {
        return None;
    }
    // Mapped rather than read: a browser has 200 MB of it, a phone has not.
    match finder::find(MappedFile::of(&file).ok()?.as_ref()).ok()? {
        Verdict::Absent => None,
        Verdict::Refused(why) => Some(TlsState::Unsure(why)),
        Verdict::Found(_) => Some(TlsState::Static),
    }
}
