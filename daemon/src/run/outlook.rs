//! What the apps that run now let expect: before anything was sent, how much of it can be read.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::flows::Flows;
use crate::{
    coverage::{Outlook, Reach},
    kernel::{Session, is_32_bit},
};

/// The sentence that the watch begins with, and says again every day.
pub(super) fn outlook(session: &Session, flows: &Flows) -> Outlook {
    let hooks = Hooks::of(session);
    let mut runs: HashMap<String, Reach> = HashMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // The folder itself belongs to whom the process runs as, also where the files in it do not (proc(5)).
        let Ok(uid) = process.metadata().map(|data| data.uid()) else { continue };
        // Only those of apps are worth the reading of all that they have mapped.
        let app = flows.app(uid, pid);
        if !flows.is_installed(&app.name) {
            continue;
        }
        // A process that ends meanwhile says nothing more.
        let Ok(maps) = fs::read_to_string(process.path().join("maps")) else { continue };
        if let Some(reach) = hooks.reach(&maps, is_32_bit(pid)) {
            let known = runs.entry(app.name).or_insert(reach);
            *known = reach.max(*known);
        }
    }
    flows.outlook(&runs)
}

/// Which files' TLS can be read, and which cannot.
struct Hooks {
    hooked: HashSet<PathBuf>,
    not_hooked: HashSet<PathBuf>,
    sends: bool,
}

impl Hooks {
    fn of(session: &Session) -> Hooks {
        let not = session.not_hooked().iter().map(|one| one.path.as_path());
        let not_hooked: HashSet<PathBuf> = not.chain(session.on_probation()).map(file).collect();
        let hooked = session.libraries().iter().map(|library| file(&library.path));
        // What was named with `--lib` may be a link; mapped is what it leads to.
        let hooked = hooked.flat_map(|path| [fs::canonicalize(&path).ok(), Some(path)]).flatten();
        Hooks {
            hooked: hooked.filter(|path| !not_hooked.contains(path)).collect(),
            not_hooked,
            sends: session.watches_sends(),
        }
    }

    /// By what a process has mapped; none when there is no TLS in it that is known.
    fn reach(&self, maps: &str, is_32_bit: bool) -> Option<Reach> {
        // Outside TLS only what it sends to sockets tells where to.
        let beyond = if self.sends { Reach::Hosts } else { Reach::Nothing };
        if is_32_bit {
            return Some(beyond);
        }
        let mut found = None;
        // proc_pid_maps(5): the path is the sixth field, and may hold blanks.
        let paths = maps.lines().filter_map(|line| Some(line.get(line.find('/')?..)?.trim_end_matches(GONE)));
        for path in paths.map(Path::new) {
            if self.not_hooked.contains(path) {
                return Some(beyond);
            }
            if self.hooked.contains(path) {
                found = Some(Reach::Content);
            }
        }
        found
    }
}

/// What the kernel writes behind the name of a file that was taken away.
const GONE: &str = " (deleted)";

/// The file that is mapped: of a library inside an APK, the APK.
fn file(path: &Path) -> PathBuf {
    let apk = path.to_str().and_then(|text| text.split_once("!/"));
    apk.map_or_else(|| path.to_owned(), |(apk, _)| PathBuf::from(apk))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(sends: bool) -> Hooks {
        let set = |paths: [&str; 2]| paths.map(|path| file(Path::new(path))).into();
        let hooked = set(["/system/lib64/libssl.so", "/data/app/b c/base.apk!/lib/arm64-v8a/libx.so"]);
        let not_hooked =
            set(["/data/app/chrome/base.apk!/lib/arm64-v8a/libmonochrome.so", "/data/local/tmp/own"]);
        Hooks { hooked, not_hooked, sends }
    }

    fn line(path: &str) -> String {
        format!("7f10a0000000-7f10a0042000 r-xp 00001000 fe:01 4242                  {path}\n")
    }

    #[test]
    fn what_is_mapped_says_how_far_one_can_look() {
        let hooks = hooks(true);
        let platform = line("/system/lib64/libssl.so");
        assert_eq!(hooks.reach(&platform, false), Some(Reach::Content));
        assert_eq!(hooks.reach(&line("/system/lib64/libssl.so (deleted)"), false), Some(Reach::Content));
        assert_eq!(hooks.reach(&line("/data/app/b c/base.apk"), false), Some(Reach::Content));
        // Every app has the platform's: one with another beside it may send everything through that.
        let both = platform.clone() + &line("/data/app/chrome/base.apk");
        assert_eq!(hooks.reach(&both, false), Some(Reach::Hosts));
        assert_eq!(hooks.reach(&platform, true), Some(Reach::Hosts));
        assert_eq!(hooks.reach("7f10 rw-p 00000000 00:00 0 [stack]\n", false), None);
        assert_eq!(self::hooks(false).reach(&both, false), Some(Reach::Nothing));
    }
}
