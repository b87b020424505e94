//! What Telltale remembers on disk: a folder only its owner may enter, and this phone's key for alert ids.
#![forbid(unsafe_code)]

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Holds the key.
const KEY_FILE: &str = "id.key";
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
    let mut key = [0; KEY_LEN];
    let random = Path::new("/dev/urandom");
    fs::File::open(random).and_then(|mut source| source.read_exact(&mut key)).map_err(|error| Error {
        path: random.to_owned(),
        what: "read",
        error,
    })?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| Error {
        path: folder.to_owned(),
        what: "made",
        error,
    })?;
    let new = folder.join(format!("{KEY_FILE}.{}", std::process::id()));
    let write = || {
        let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        to.write_all(&key)?;
        to.sync_all()?;
        fs::rename(&new, &file)
    };
    write().map_err(|error| Error { path: file.clone(), what: "written", error })?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

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
