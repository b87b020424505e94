//! Finds the libraries to hook: what processes have mapped, whichever mount namespace they live in.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// A file as `/proc/PID/maps` and PERF_RECORD_MMAP2 name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Inode {
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) number: u64,
}

/// An executable file mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) pid: u32,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) inode: Inode,
    /// As the process sees it, with ` (deleted)` when it is gone.
    pub(super) path: String,
}

/// Files looked at so far, with the inode's generation where it is known. Inode numbers are used again: a file with
/// another generation is another file.
#[derive(Debug, Default)]
pub(super) struct Seen {
    files: HashMap<Inode, Option<u64>>,
}

/// When more files than this have been looked at, all are forgotten: looking twice is cheap, hooking twice is
/// prevented elsewhere.
const SEEN_LIMIT: usize = 16 * 1024;

impl Seen {
    /// True when this file is to be looked at.
    pub(super) fn is_new(&mut self, inode: Inode, generation: Option<u64>) -> bool {
        if self.files.len() >= SEEN_LIMIT {
            self.files.clear();
        }
        let known = self.files.get(&inode).copied();
        match (known, generation) {
            (None, _) | (Some(None), Some(_)) => {
                self.files.insert(inode, generation);
                true
            }
            (Some(Some(old)), Some(new)) if old != new => {
                self.files.insert(inode, generation);
                true
            }
            _ => false,
        }
    }

    /// The file could not be looked at after all, so that the next process that maps it gets another look.
    pub(super) fn forget(&mut self, inode: Inode) {
        self.files.remove(&inode);
    }
}

/// Every executable file mapping of every process, each file once.
pub(super) fn mapped_everywhere() -> Vec<Mapping> {
    mapped_by().into_iter().map(|(mapping, _)| mapping).collect()
}

/// The same, with how many processes have the file mapped.
pub(super) fn mapped_by() -> Vec<(Mapping, usize)> {
    let mut known: HashMap<Inode, usize> = HashMap::new();
    let mut mappings: Vec<(Mapping, usize)> = Vec::new();
    let Ok(processes) = fs::read_dir("/proc") else { return mappings };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that ends meanwhile, or a kernel thread, has nothing to show.
        let Ok(maps) = fs::read_to_string(process.path().join("maps")) else { continue };
        let mut counted = HashSet::new();
        for mapping in maps.lines().filter_map(|line| parse(pid, line)) {
            if !counted.insert(mapping.inode) {
                continue;
            }
            match known.get(&mapping.inode).and_then(|index| mappings.get_mut(*index)) {
                Some((_, processes)) => *processes = processes.saturating_add(1),
                None => {
                    known.insert(mapping.inode, mappings.len());
                    mappings.push((mapping, 1));
                }
            }
        }
    }
    mappings
}

/// The executable file mappings of one process, each file once.
pub(super) fn mapped_in(pid: u32) -> Vec<Mapping> {
    // A process that is gone maps nothing.
    let maps = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("maps")).unwrap_or_default();
    let mut known = HashSet::new();
    maps.lines().filter_map(|line| parse(pid, line)).filter(|mapping| known.insert(mapping.inode)).collect()
}

/// One line of `/proc/PID/maps` (proc_pid_maps(5)); none unless it is an executable file mapping.
fn parse(pid: u32, line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    let _offset = fields.next()?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let number: u64 = fields.next()?.parse().ok()?;
    let path = fields.next()?.trim_start();
    if !permissions.contains('x') || number == 0 || !path.starts_with('/') {
        return None;
    }
    Some(Mapping {
        pid,
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        inode: Inode {
            major: u32::from_str_radix(major, 16).ok()?,
            minor: u32::from_str_radix(minor, 16).ok()?,
            number,
        },
        path: path.to_owned(),
    })
}

/// Opens the very file that is mapped: by the process's own root where the path still leads to it, else by
/// `/proc/PID/map_files` (deleted, replaced, or on a file system that shows another device number than stat).
pub(super) fn open(mapping: &Mapping) -> Option<File> {
    let process = Path::new("/proc").join(mapping.pid.to_string());
    let by_path = process.join("root").join(mapping.path.trim_start_matches('/'));
    let is_it =
        |file: &File| file.metadata().is_ok_and(|data| data.is_file() && data.ino() == mapping.inode.number);
    let open = |path: &Path| File::open(path).ok();
    open(&by_path)
        .filter(is_it)
        .or_else(|| open(&process.join("map_files").join(format!("{:x}-{:x}", mapping.start, mapping.end))))
        // The process may have ended: most files lie where everybody sees them.
        .or_else(|| open(Path::new(&mapping.path)).filter(is_it))
}

/// What kind of file a name promises, without opening it: data files that are mapped executable on Android
/// (`.oat`, `.odex`, `.art`, fonts) hold no TLS library.
pub(super) fn may_hold_tls(path: &str) -> bool {
    const NEVER: [&str; 5] = [".oat", ".odex", ".art", ".vdex", ".ttf"];
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    !NEVER.iter().any(|end| path.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_lines_are_read() {
        let line =
            "7f10a0000000-7f10a0042000 r-xp 00001000 fe:01 4242                  /a dir/libssl.so (deleted)";
        let mapping = Mapping {
            pid: 7,
            start: 0x7f10_a000_0000,
            end: 0x7f10_a004_2000,
            inode: Inode { major: 0xfe, minor: 1, number: 4242 },
            path: "/a dir/libssl.so (deleted)".into(),
        };
        assert_eq!(parse(7, line), Some(mapping));
        for no in [
            "",
            "x",
            "7f10a0000000-7f10a0042000 rw-p 00001000 fe:01 4242 /lib/libssl.so",
            "7f10a0000000-7f10a0042000 r-xp 00000000 00:00 0 [vdso]",
            "7f10a0000000-7f10a0042000 r-xp 00000000 00:00 0 ",
        ] {
            assert_eq!(parse(7, no), None, "{no}");
        }
    }

    #[test]
    fn another_generation_is_another_file() {
        let mut seen = Seen::default();
        let inode = Inode { major: 1, minor: 2, number: 3 };
        assert!(seen.is_new(inode, None));
        assert!(!seen.is_new(inode, None));
        assert!(seen.is_new(inode, Some(5)));
        assert!(!seen.is_new(inode, Some(5)));
        assert!(!seen.is_new(inode, None));
        assert!(seen.is_new(inode, Some(6)));
    }

    #[test]
    fn this_test_itself_is_mapped_and_opens() {
        let own = std::process::id();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let mapping = maps.lines().find_map(|line| parse(own, line)).unwrap();
        let opened = open(&mapping).unwrap().metadata().unwrap();
        assert_eq!(opened.ino(), mapping.inode.number);
    }
}
