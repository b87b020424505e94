//! Notices at once that the configuration or the list of packages was written anew, with no timer: inotify on their folders,
//! because both files are replaced rather than changed.

use std::{
    ffi::OsString,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Files that are waited for.
pub(super) struct Files {
    inotify: Inotify,
    names: Vec<OsString>,
}

impl Files {
    /// Waits for these files; a folder that cannot be watched is left out: its file is still looked at when something is sent.
    pub(super) fn watch(files: &[&Path]) -> Option<Files> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
        let mut names = Vec::new();
        for file in files {
            let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else { continue };
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            let changes =
                AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE;
            match inotify.add_watch(folder, changes) {
                Ok(_) => names.push(name.to_owned()),
                Err(error) => log::debug!("inotify on {}: {error}", folder.display()),
            }
        }
        Some(Files { inotify, names })
    }

    /// Whether one of the files was written anew since the last call.
    pub(super) fn changed(&self) -> bool {
        let mut changed = false;
        while let Ok(events) = self.inotify.read_events() {
            // No name: the queue was too short, so anything may have changed.
            changed |=
                events.iter().any(|event| event.name.as_ref().is_none_or(|name| self.names.contains(name)));
        }
        changed
    }
}

impl AsFd for Files {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_replaced_file_is_noticed_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("packages.list");
        let absent = folder.path().join("absent/config.toml");
        let files = Files::watch(&[&file, &absent]).unwrap();
        fs::write(folder.path().join("other"), "x").unwrap();
        assert!(!files.changed());
        fs::rename(folder.path().join("other"), &file).unwrap();
        assert!(files.changed());
        assert!(!files.changed());
        fs::write(&file, "y").unwrap();
        assert!(files.changed());
    }
}
