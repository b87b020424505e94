//! What Telltale remembers on disk: a folder only its owner may enter, this phone's key for alert ids, and the tokens seen.
#![forbid(unsafe_code)]

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::{
    alert::Ledger,
    config::{self, ConfigMute},
    kernel::Memory,
    leak::persist,
};

/// Holds the key.
const KEY_FILE: &str = "id.key";
/// Holds the tokens that were seen.
const TOKENS_FILE: &str = "tokens";
/// All places that can be remembered, with long names of apps, take less.
const TOKENS_LARGEST: u64 = 4 << 20;
/// Holds what was said.
const SAID_FILE: &str = "said";
/// All classes that can be remembered take less.
const SAID_LARGEST: u64 = 2 << 20;
/// Holds what the owner muted with `telltale mute`.
pub const MUTES_FILE: &str = "mutes.toml";
/// Holds what was found in binaries.
const OWN_TLS_FILE: &str = "own-tls";
/// As many binaries as are remembered, with a line of ordinary length each.
const OWN_TLS_LARGEST: u64 = 2 << 20;
/// Holds how much was read of what each app sent, in the folder of the evidence, so that whoever takes that has it.
pub const COVERAGE_FILE: &str = "coverage.json";
/// All apps and destinations that are written, with long names, take less.
const COVERAGE_LARGEST: u64 = 2 << 20;
/// 128 bits, the size SipHash takes.
const KEY_LEN: usize = 16;

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be {what}: {error}", path.display())]
pub struct Error {
    path: PathBuf,
    what: &'static str,
    error: io::Error,
}

/// This phone's key, made when there is none yet: 0600 in a folder of 0700, written whole or not at all.
///
/// # Errors
/// [`Error`] naming the file and the operating system's reason.
pub fn key(folder: &Path) -> Result<[u8; KEY_LEN], Error> {
    let file = folder.join(KEY_FILE);
    match fs::read(&file) {
        Ok(bytes) => {
            if let Ok(key) = <[u8; KEY_LEN]>::try_from(bytes) {
                return Ok(key);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error { path: file, what: "read", error }),
    }
    let key = random()?;
    write(folder, KEY_FILE, &key)?;
    Ok(key)
}

/// Random bytes from the kernel.
///
/// # Errors
/// [`Error`] naming the source.
pub fn random<const COUNT: usize>() -> Result<[u8; COUNT], Error> {
    let mut bytes = [0; COUNT];
    let source = Path::new("/dev/urandom");
    fs::File::open(source).and_then(|mut source| source.read_exact(&mut bytes)).map_err(|error| Error {
        path: source.to_owned(),
        what: "read",
        error,
    })?;
    Ok(bytes)
}

/// The tokens remembered from earlier runs; with a sentence when they cannot be used and memory begins anew.
pub fn tokens(folder: &Path) -> (persist::Store, Option<String>) {
    let file = folder.join(TOKENS_FILE);
    let read = match fs::metadata(&file) {
        Ok(data) if data.len() > TOKENS_LARGEST => Err("it is too large".to_owned()),
        Ok(_) => fs::read(&file).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (persist::Store::new(), None),
        Err(error) => Err(error.to_string()),
    };
    match read.and_then(|bytes| persist::Store::from_bytes(&bytes).map_err(|error| error.to_string())) {
        Ok(tokens) => (tokens, None),
        Err(why) => (persist::Store::new(), Some(format!("{}: {why}", file.display()))),
    }
}

/// What earlier runs found in binaries that carry their own TLS; with a sentence when it cannot be read, and all are searched
/// again.
pub fn own_tls(folder: &Path) -> (Memory, Option<String>) {
    let file = folder.join(OWN_TLS_FILE);
    let read = fs::metadata(&file).and_then(|data| match data.len() {
        0..=OWN_TLS_LARGEST => fs::read(&file),
        _ => Err(io::ErrorKind::FileTooLarge.into()),
    });
    match read {
        Ok(text) => (Memory::from_text(&String::from_utf8_lossy(&text)), None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Memory::default(), None),
        Err(error) => (Memory::default(), Some(format!("{} cannot be read: {error}", file.display()))),
    }
}

/// Keeps it for the next run.
///
/// # Errors
/// [`Error`] naming the file; what was kept before is still whole then.
pub fn keep_own_tls(folder: &Path, memory: &Memory) -> Result<(), Error> {
    write(folder, OWN_TLS_FILE, memory.to_text().as_bytes())
}

/// How much earlier runs read, as lies in this folder of evidence; none when there is nothing that can be used.
pub fn coverage(evidence: &Path) -> Option<Map<String, Value>> {
    let file = evidence.join(COVERAGE_FILE);
    fs::metadata(&file).ok().filter(|data| data.len() <= COVERAGE_LARGEST)?;
    serde_json::from_slice(&fs::read(&file).ok()?).ok()
}

/// Keeps it, for the next run and for whoever makes a report.
///
/// # Errors
/// [`Error`] naming the file; what was kept before is still whole then.
pub fn keep_coverage(evidence: &Path, record: Map<String, Value>) -> Result<(), Error> {
    write(evidence, COVERAGE_FILE, Value::Object(record).to_string().as_bytes())
}

/// Keeps the tokens for the next run.
///
/// # Errors
/// [`Error`] naming the file; what was kept before is still whole then.
pub fn keep_tokens(folder: &Path, tokens: &persist::Store) -> Result<(), Error> {
    write(folder, TOKENS_FILE, &tokens.to_bytes())
}

/// What was said in earlier runs; with a sentence when it cannot be used and memory begins anew.
pub fn said(folder: &Path) -> (Ledger, Option<String>) {
    let file = folder.join(SAID_FILE);
    let read = match fs::metadata(&file) {
        Ok(data) if data.len() > SAID_LARGEST => Err("it is too large".to_owned()),
        Ok(_) => fs::read(&file).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (Ledger::default(), None),
        Err(error) => Err(error.to_string()),
    };
    match read.and_then(|bytes| Ledger::from_bytes(&bytes).map_err(|error| error.to_string())) {
        Ok(said) => (said, None),
        Err(why) => (Ledger::default(), Some(format!("{}: {why}", file.display()))),
    }
}

/// Keeps what was said for the next run.
///
/// # Errors
/// [`Error`] naming the file; what was kept before is still whole then.
pub fn keep_said(folder: &Path, said: &Ledger) -> Result<(), Error> {
    write(folder, SAID_FILE, &said.to_bytes())
}

/// What the owner has muted; with a sentence when the file cannot be used. None there: nothing is muted.
pub fn mutes(folder: &Path) -> (Vec<ConfigMute>, Option<String>) {
    let file = folder.join(MUTES_FILE);
    let read = match fs::read_to_string(&file) {
        Ok(text) => config::mutes(&text).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (Vec::new(), None),
        Err(error) => Err(error.to_string()),
    };
    match read {
        Ok(mutes) => (mutes, None),
        Err(why) => (Vec::new(), Some(format!("{}: {why}; nothing of it is muted", file.display()))),
    }
}

/// Writes a file of the folder, 0600 in 0700, whole or not at all. Whoever reads it meanwhile reads what was there before.
///
/// # Errors
/// [`Error`] naming the file; what was there before is still whole then.
pub fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| Error {
        path: folder.to_owned(),
        what: "made",
        error,
    })?;
    let file = folder.join(name);
    let new = folder.join(format!("{name}.{}", std::process::id()));
    let write = || {
        let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        to.write_all(bytes)?;
        to.sync_all()?;
        fs::rename(&new, &file)
    };
    write().map_err(|error| {
        // A full disk must not fill up further with halves.
        let _ = fs::remove_file(&new);
        Error { path: file.clone(), what: "written", error }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn tokens_are_kept_whole_and_damage_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(tokens(folder.path()), (persist::Store::new(), None));
        keep_tokens(folder.path(), &persist::Store::new()).unwrap();
        let file = folder.path().join(TOKENS_FILE);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(tokens(folder.path()).1.is_none());
        fs::write(&file, "torn").unwrap();
        let (anew, why) = tokens(folder.path());
        assert!(anew.is_empty() && why.unwrap().contains("tokens"));
        assert!(keep_tokens(&file, &anew).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_key_is_made_once_and_nobody_else_may_read_it() {
        let folder = std::env::temp_dir().join(format!("telltale-key-{}", std::process::id())).join("store");
        let first = key(&folder).unwrap();
        assert_ne!(first, [0; KEY_LEN]);
        assert_eq!(key(&folder).unwrap(), first);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join(KEY_FILE))), (0o700, 0o600));
        fs::write(folder.join(KEY_FILE), b"torn").unwrap();
        assert_ne!(key(&folder).unwrap(), first);
        fs::write(folder.join("file"), b"").unwrap();
        assert!(key(&folder.join("file")).unwrap_err().to_string().contains("file"));
        fs::remove_dir_all(folder.parent().unwrap()).unwrap();
    }
}
