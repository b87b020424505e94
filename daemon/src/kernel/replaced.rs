//! Takes the hooks off libraries whose file was replaced or removed, as every update of an app does: a hook keeps its file on the
//! disk for as long as it hangs.
#![forbid(unsafe_code)]

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    Session,
    libraries::{self, Identity},
};

/// All processes' mappings are read for at most one part of the time in so many.
const SHARE: u32 = 100;
/// And for files that are gone and were still in use at the last look, no more often than this.
const AGAIN: Duration = Duration::from_secs(60);

/// The last look at what is gone.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    /// What was still mapped by somebody.
    files: HashSet<Identity>,
    /// When it ended, and how long it took.
    looked: Option<(Instant, Duration)>,
}

impl Lingering {
    /// Whether another look may be worth it.
    fn is_due(&self, gone: &HashSet<Identity>) -> bool {
        let Some((looked, took)) = self.looked else { return true };
        let pause = if gone.is_subset(&self.files) { AGAIN } else { Duration::ZERO };
        looked.elapsed() >= pause.max(took.saturating_mul(SHARE))
    }
}

impl Session {
    /// What is hooked in files that are gone, and that nobody has mapped any more, is unhooked and forgotten; whatever gets
    /// their numbers is another file. To be called when something new was mapped: an update maps something new. Returns
    /// how many libraries that were.
    pub(super) fn unhook_replaced(&mut self) -> usize {
        let hooked = self.libraries.iter().map(|library| (library.path.as_path(), library.identity));
        let gone: HashSet<Identity> = hooked
            .chain(self.own_tls.on_trial())
            .filter(|(path, identity)| is_gone(path, *identity))
            .map(|(_, identity)| identity)
            .collect();
        if gone.is_empty() || !self.lingering.is_due(&gone) {
            return 0;
        }
        let began = Instant::now();
        let mapped: HashSet<u64> =
            libraries::mapped_everywhere().into_iter().map(|mapping| mapping.inode.number).collect();
        let (used, unused): (HashSet<_>, HashSet<_>) =
            gone.into_iter().partition(|identity| mapped.contains(&identity.inode));
        self.lingering.files = used;
        self.lingering.looked = Some((Instant::now(), began.elapsed()));
        let mut count = 0_usize;
        for identity in unused {
            while let Some(at) = self.libraries.iter().position(|library| library.identity == identity) {
                let library = self.libraries.remove(at);
                log::info!("no longer watching {}, which is gone", library.path.display());
                self.detach_all(library.hooks);
                count = count.saturating_add(1);
            }
            count = count.saturating_add(usize::from(self.end_trial_of(identity)));
            self.hooked.remove(&identity);
            self.seen.forget_inode(identity.inode);
        }
        count
    }
}

/// Whether a path no longer leads to the file it led to. What lies in an APK is named after it.
fn is_gone(path: &Path, identity: Identity) -> bool {
    let text = path.to_string_lossy();
    let file = text.split_once("!/").map_or(&*text, |(apk, _)| apk);
    fs::metadata(file).map_or(true, |data| (data.dev(), data.ino()) != (identity.device, identity.inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_still_in_use_is_not_looked_at_again_at_once() {
        let file = |inode| HashSet::from([Identity { device: 1, inode, offset: 0 }]);
        let mut lingering = Lingering::default();
        assert!(lingering.is_due(&file(1)));
        lingering = Lingering { files: file(1), looked: Some((Instant::now(), Duration::ZERO)) };
        assert!(!lingering.is_due(&file(1)) && lingering.is_due(&file(2)));
        // A look that took a minute is not made again within the hour.
        lingering.looked = Some((Instant::now(), AGAIN));
        assert!(!lingering.is_due(&file(2)));
    }

    #[test]
    fn a_replaced_file_is_gone_and_one_in_an_archive_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("base.apk"), folder.path().join("base.apk.new"));
        fs::write(&old, "old").unwrap();
        let data = fs::metadata(&old).unwrap();
        let identity = Identity { device: data.dev(), inode: data.ino(), offset: 4096 };
        let inside = folder.path().join("base.apk!/lib/arm64-v8a/libone.so");
        assert!(!is_gone(&old, identity) && !is_gone(&inside, identity));
        fs::write(&new, "new").unwrap();
        fs::rename(&new, &old).unwrap();
        assert!(is_gone(&old, identity) && is_gone(&inside, identity));
        fs::remove_file(&old).unwrap();
        assert!(is_gone(&old, identity));
    }
}
