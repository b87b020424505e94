//! Hooks on the ciphers of single processes. In a process that was not chosen no instruction is touched.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
};

use super::{
    Options, Session,
    attach::{Attacher, Spot},
    error::KernelError,
    libraries::{self, Part},
    program::Programs,
    symbols::{self, Functions},
    tracefs::start_time,
};

/// What became of watching a process's ciphers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CipherWatch {
    /// They are watched.
    Watched,
    /// It has mapped no library that exports a cipher.
    NoLibrary,
    /// It has, and runs 32-bit code.
    Bits32,
    /// It is gone.
    Gone,
    /// As many processes are watched as may be.
    Full,
}

/// Which program hangs on which function: (function, at its return, program). Returns first: a call whose entry was not seen is
/// passed over.
const CIPHER_HOOKS: [(&str, bool, &str); 15] = [
    ("EVP_CipherUpdate", true, "cipher_return"),
    ("EVP_EncryptUpdate", true, "cipher_return"),
    ("EVP_CipherFinal_ex", true, "cipher_return"),
    ("EVP_EncryptFinal_ex", true, "cipher_return"),
    ("EVP_AEAD_CTX_seal", true, "cipher_return"),
    ("AES_cbc_encrypt", true, "cipher_return"),
    ("EVP_CipherInit_ex", false, "cipher_init"),
    ("EVP_EncryptInit_ex", false, "cipher_init_encrypt"),
    ("EVP_DecryptInit_ex", false, "cipher_init_decrypt"),
    ("EVP_CipherUpdate", false, "cipher_update"),
    ("EVP_EncryptUpdate", false, "cipher_update"),
    ("EVP_CipherFinal_ex", false, "cipher_final"),
    ("EVP_EncryptFinal_ex", false, "cipher_final"),
    ("EVP_AEAD_CTX_seal", false, "cipher_seal"),
    ("AES_cbc_encrypt", false, "cipher_cbc"),
];

/// Where a thread is inside the TLS library: its own encryption is not the app's.
const TLS_HOOKS: [(&str, bool, &str); 4] = [
    ("SSL_write", true, "tls_leave"),
    ("SSL_do_handshake", true, "tls_leave"),
    ("SSL_write", false, "tls_enter"),
    ("SSL_do_handshake", false, "tls_enter"),
];

/// Without this function a file holds no cipher, or no TLS.
const CIPHER_NEEDED: &str = "EVP_CipherUpdate";
const TLS_NEEDED: &str = "SSL_do_handshake";
/// Processes watched at once: each takes up to nineteen descriptors.
const MOST: usize = 64;
/// Files remembered.
const FILES: usize = 4096;

/// Processes whose ciphers are watched, and the files their hooks hang on.
#[derive(Debug, Default)]
pub(super) struct Ciphers {
    loaded: bool,
    files: HashMap<FileId, Hookable>,
    processes: HashMap<u32, Watched>,
}

/// Device, inode, and when and how large it was: places found in one file must never be hooked in another that has its number.
type FileId = (u64, u64, i64, i64, u64);

/// What a file offers.
#[derive(Debug)]
enum Hookable {
    Nothing,
    Bits32,
    Spots { spots: Vec<(&'static str, Spot)>, has_cipher: bool },
}

#[derive(Debug)]
struct Watched {
    /// Sets a process apart from a later one of the same number.
    started: u64,
    files: Vec<FileId>,
    has_cipher: bool,
    _events: Vec<OwnedFd>,
}

impl Ciphers {
    /// Hangs the programs in `process`, in every library it has mapped that has a cipher or TLS to hang them on.
    pub(super) fn watch(
        &mut self,
        process: u32,
        programs: &mut Programs,
        attacher: &mut Attacher,
    ) -> Result<CipherWatch, KernelError> {
        let Some(started) = start_time(process) else {
            self.unwatch(process);
            return Ok(CipherWatch::Gone);
        };
        if self.processes.get(&process).is_some_and(|known| known.started != started) {
            self.unwatch(process);
        }
        if !self.processes.contains_key(&process) && self.processes.len() >= MOST {
            return Ok(CipherWatch::Full);
        }
        if !self.loaded {
            programs.load_ciphers()?;
            allow_descriptors();
            self.loaded = true;
        }
        if self.files.len() >= FILES {
            // Of those without anything in them; looking twice is cheap.
            self.files.retain(|_, file| matches!(file, Hookable::Spots { .. }));
        }
        let watched = self.processes.remove(&process);
        let mut watched =
            watched.unwrap_or(Watched { started, files: Vec::new(), has_cipher: false, _events: Vec::new() });
        let mut bits32 = false;
        for mapping in libraries::mapped_in(process) {
            if !libraries::may_hold_tls(&mapping.path) {
                continue;
            }
            let Some(file) = libraries::open(&mapping) else { continue };
            let Ok(data) = file.metadata() else { continue };
            let id = (data.dev(), data.ino(), data.ctime(), data.ctime_nsec(), data.size());
            if watched.files.contains(&id) {
                continue;
            }
            let found = match self.files.entry(id) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(look(&file, programs, attacher)?),
            };
            match found {
                Hookable::Spots { spots, has_cipher } => {
                    for (program, spot) in spots {
                        let program = programs.uprobe(program)?;
                        match attacher.attach_in(process, file.as_fd(), spot, program) {
                            Ok(event) => watched._events.push(event),
                            // It has ended meanwhile.
                            Err(KernelError::Call { source, .. })
                                if source.raw_os_error() == Some(libc::ESRCH) =>
                            {
                                return Ok(CipherWatch::Gone);
                            }
                            Err(error) => return Err(error),
                        }
                    }
                    watched.has_cipher |= *has_cipher;
                    watched.files.push(id);
                }
                Hookable::Bits32 => bits32 = true,
                Hookable::Nothing => {}
            }
        }
        let state = match (watched.has_cipher, bits32) {
            (true, _) => CipherWatch::Watched,
            (false, true) => CipherWatch::Bits32,
            (false, false) => CipherWatch::NoLibrary,
        };
        self.processes.insert(process, watched);
        Ok(state)
    }

    /// Takes the hooks out of a process.
    pub(super) fn unwatch(&mut self, process: u32) {
        self.processes.remove(&process);
    }

    /// Takes everything off, and returns the first error.
    pub(super) fn stop(&mut self, attacher: &Attacher) -> Result<(), KernelError> {
        // Processes first: an entry of tracefs cannot be deleted while an event of it is open.
        self.processes.clear();
        let mut result = Ok(());
        for (_, file) in self.files.drain() {
            let Hookable::Spots { spots, .. } = file else { continue };
            for (_, spot) in spots {
                let removed = attacher.remove(spot);
                result = result.and(removed);
            }
        }
        result
    }
}

/// Whether this kernel takes the programs, and which files with ciphers in them processes have mapped now.
pub(super) fn survey() -> Result<String, String> {
    let tried = Session::bare(&Options::default()).and_then(|mut session| {
        let own = session.watch_ciphers(std::process::id());
        session.stop()?;
        own
    });
    tried.map_err(|error| error.to_string())?;
    let exports = |mapping: &libraries::Mapping| {
        let file = libraries::open(mapping)?;
        let (_, part) = libraries::part(&file, mapping)?;
        let found = symbols::find(&file, part, CIPHER_NEEDED, &[CIPHER_NEEDED]);
        let at = matches!(&found, Functions::At(found) if found.contains_key(CIPHER_NEEDED));
        (at || symbols::is_32_bit_with(&file, part, CIPHER_NEEDED)).then(|| {
            if at { mapping.path.clone() } else { format!("{} (32-bit: not readable)", mapping.path) }
        })
    };
    let mut files: Vec<String> = libraries::mapped_everywhere()
        .iter()
        .filter(|mapping| libraries::may_hold_tls(&mapping.path))
        .filter_map(exports)
        .collect();
    files.sort();
    files.dedup();
    let files =
        if files.is_empty() { "no library with ciphers is in use now".to_owned() } else { files.join(", ") };
    Ok(format!("in chosen apps alone; {files}"))
}

/// Looks into a file for what programs can be hung on.
fn look(file: &File, programs: &Programs, attacher: &mut Attacher) -> Result<Hookable, KernelError> {
    let part = Part::whole(file).map_err(KernelError::call("fstat of a library"))?;
    let mut spots = Vec::new();
    let mut has_cipher = false;
    for (needed, hooks) in [(CIPHER_NEEDED, &CIPHER_HOOKS[..]), (TLS_NEEDED, &TLS_HOOKS[..])] {
        let names: Vec<&'static str> = hooks.iter().map(|(function, _, _)| *function).collect();
        let found = match symbols::find(file, part, needed, &names) {
            Functions::At(found) if found.contains_key(needed) => found,
            Functions::At(_) => continue,
            Functions::Other(_) if symbols::is_32_bit_with(file, part, CIPHER_NEEDED) => {
                return Ok(Hookable::Bits32);
            }
            Functions::Other(_) => return Ok(Hookable::Nothing),
        };
        has_cipher |= needed == CIPHER_NEEDED;
        for &(function, at_return, program) in hooks {
            let Some(&offset) = found.get(function) else { continue };
            let spot = attacher.spot(file.as_fd(), offset, at_return, programs.uprobe(program)?)?;
            spots.push((program, spot));
        }
    }
    Ok(if spots.is_empty() { Hookable::Nothing } else { Hookable::Spots { spots, has_cipher } })
}

/// Lets this process have as many descriptors as root lets it have: 1,024 are the usual bound, and each hook takes one.
fn allow_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        log::debug!("setrlimit(RLIMIT_NOFILE): {error}");
    }
}
