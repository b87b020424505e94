//! The machine's root file system: a cpio archive in memory, which the kernel unpacks into RAM.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cpio::newc::{Builder, trailer};

use crate::error::{Error, Result};

/// Kinds of entry, as `st_mode` has them (POSIX `sys/stat.h`).
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// What goes into the archive: path without leading slash → mode and content. Sorted, so a directory comes before what is in it.
#[derive(Debug, Default)]
pub(super) struct Image {
    entries: BTreeMap<String, (u32, Vec<u8>)>,
}

impl Image {
    /// Adds a file; the directories above it come of themselves.
    pub(super) fn file(&mut self, path: &str, permissions: u32, content: impl Into<Vec<u8>>) {
        let mut above = path;
        while let Some((dir, _)) = above.rsplit_once('/') {
            self.dir(dir);
            above = dir;
        }
        self.entries.insert(path.to_owned(), (S_IFREG | permissions, content.into()));
    }

    /// Adds a file of this machine, following links.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read.
    pub(super) fn copy(&mut self, path: &str, permissions: u32, from: &Path) -> Result<()> {
        let content = fs::read(from).map_err(Error::file("read", from))?;
        self.file(path, permissions, content);
        Ok(())
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &str, to: &str) {
        self.file(path, 0, to);
        if let Some((mode, _)) = self.entries.get_mut(path) {
            *mode = S_IFLNK | 0o777;
        }
    }

    /// Adds an empty directory.
    pub(super) fn dir(&mut self, path: &str) {
        self.entries.entry(path.to_owned()).or_insert((S_IFDIR | 0o755, Vec::new()));
    }

    /// The archive's bytes.
    ///
    /// # Errors
    /// [`Error::Check`] for a file beyond what the format can hold (4 GiB).
    pub(super) fn archive(&self) -> Result<Vec<u8>> {
        let failed = |error: std::io::Error| Error::Check(format!("cannot write the initramfs: {error}"));
        let mut bytes = Vec::new();
        for (number, (path, (mode, content))) in (1..).zip(&self.entries) {
            let size = u32::try_from(content.len())
                .map_err(|_| Error::Check(format!("{path} is too large for an initramfs")))?;
            let mut writer = Builder::new(path).ino(number).mode(*mode).write(bytes, size);
            std::io::Write::write_all(&mut writer, content).map_err(failed)?;
            bytes = writer.finish().map_err(failed)?;
        }
        trailer(bytes).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busybox_unpacks_what_was_put_in() {
        let mut image = Image::default();
        image.file("system/bin/tool", 0o755, "#!/bin/sh\n");
        image.link("bin/tool", "../system/bin/tool");
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("archive");
        fs::write(&archive, image.archive().unwrap()).unwrap();
        let listed =
            crate::run::Run::new("busybox").args(["cpio", "-tv", "-F"]).arg(&archive).output().unwrap();
        let names: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().nth(5)).collect();
        assert_eq!(names, ["bin", "bin/tool", "system", "system/bin", "system/bin/tool"], "{listed}");
        assert!(
            listed.contains("-rwxr-xr-x") && listed.contains("bin/tool -> ../system/bin/tool"),
            "{listed}"
        );
    }
}
