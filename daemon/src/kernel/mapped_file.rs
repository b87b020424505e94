//! A file mapped read-only: its pages are read when a look-up touches them, and can be dropped again at any time.
#![allow(unsafe_code)]

use std::{fs::File, io, num::NonZeroUsize, os::fd::AsRawFd, path::Path, ptr::NonNull};

/// The bytes of a file, as long as this lives. The file must only ever be replaced by renaming another over it: one that is cut short
/// would end the process with SIGBUS when what was cut off is read.
#[derive(Debug)]
pub struct MappedFile {
    base: NonNull<u8>,
    length: NonZeroUsize,
}

// SAFETY: the mapping is private and read-only; nothing is ever written through it.
unsafe impl Send for MappedFile {}
// SAFETY: as above; any number of threads may read.
unsafe impl Sync for MappedFile {}

impl MappedFile {
    /// Maps all of the file.
    ///
    /// # Errors
    /// The system's reason; an empty file cannot be mapped.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(&File::open(path)?)
    }

    /// The same with a file that is open already.
    ///
    /// # Errors
    /// As [`MappedFile::open`].
    pub fn of(file: &File) -> io::Result<Self> {
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let length = NonZeroUsize::new(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        // SAFETY: a new private mapping wherever the kernel puts it; no existing memory is touched. The descriptor may be
        // closed afterwards (mmap(2)).
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length.get(),
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self { base, length })
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `length` bytes from `base` are mapped readable until `self` is dropped, and nobody writes to them.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.length.get()) }
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // SAFETY: exactly what `open` mapped; every borrow of it ended with `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_has_the_file_s_bytes_and_outlives_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"some bytes").unwrap();
        let mapped = MappedFile::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(mapped.as_ref(), b"some bytes");
        assert!(MappedFile::open(&path).is_err());
        std::fs::write(&path, b"").unwrap();
        assert!(MappedFile::open(&path).is_err());
    }
}
