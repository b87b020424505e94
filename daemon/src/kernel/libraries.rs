//! Finds the libraries to hook: what processes have mapped, whichever mount namespace they live in.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::apk;

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
    /// Where in the file `start` lies.
    pub(super) offset: u64,
    pub(super) inode: Inode,
    /// As the process sees it, with ` (deleted)` when it is gone.
    pub(super) path: String,
}

/// Where a binary lies: in a file of its own, or uncompressed in an APK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// One binary, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// [`Part::offset`].
    pub(super) offset: u64,
}

impl Part {
    /// The whole of a file.
    pub(super) fn whole(file: &File) -> io::Result<Part> {
        Ok(Part { offset: 0, length: file.metadata()?.len() })
    }

    /// Its bytes, of those of the file.
    pub(super) fn of<'a>(&self, file: &'a [u8]) -> Option<&'a [u8]> {
        let from = usize::try_from(self.offset).ok()?;
        file.get(from..from.checked_add(usize::try_from(self.length).ok()?)?)
    }

    /// The name under which it is known whether it was looked at.
    pub(super) fn identity(&self, file: &File) -> io::Result<Identity> {
        let data = file.metadata()?;
        Ok(Identity { device: data.dev(), inode: data.ino(), offset: self.offset })
    }
}

/// What is mapped: a file as a whole, or the library of an APK that lies where the mapping begins. With the name to show.
pub(super) fn part(file: &File, mapping: &Mapping) -> Option<(PathBuf, Part)> {
    if !apk::is_apk(&mapping.path) {
        return Some((PathBuf::from(&mapping.path), Part::whole(file).ok()?));
    }
    let (entry, part) = apk::entry_at(file, mapping.offset)?;
    // As Android's linker writes it.
    Some((PathBuf::from(format!("{}!/{entry}", mapping.path)), part))
}

/// Files looked at so far, with the inode's generation where it is known. Inode numbers are used again: a file with
/// another generation is another file.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// By inode and, in an APK, which holds several libraries, the mapping's offset.
    files: HashMap<(Inode, u64), Option<u64>>,
}

/// When more files than this have been looked at, all are forgotten: looking twice is cheap, hooking twice is
/// prevented elsewhere.
const SEEN_LIMIT: usize = 16 * 1024;

impl Seen {
    /// True when this file is to be looked at.
    pub(super) fn is_new(&mut self, mapping: &Mapping, generation: Option<u64>) -> bool {
        let file = seen_as(mapping);
        if self.files.len() >= SEEN_LIMIT {
            self.files.clear();
        }
        let known = self.files.get(&file).copied();
        match (known, generation) {
            (None, _) | (Some(None), Some(_)) => {
                self.files.insert(file, generation);
                true
            }
            (Some(Some(old)), Some(new)) if old != new => {
                self.files.insert(file, generation);
                true
            }
            _ => false,
        }
    }

    /// The file could not be looked at after all, so that the next process that maps it gets another look.
    pub(super) fn forget(&mut self, mapping: &Mapping) {
        self.files.remove(&seen_as(mapping));
    }

    /// A file is gone, and its number may come again.
    pub(super) fn forget_inode(&mut self, number: u64) {
        self.files.retain(|(inode, _), _| inode.number != number);
    }
}

fn seen_as(mapping: &Mapping) -> (Inode, u64) {
    (mapping.inode, if apk::is_apk(&mapping.path) { mapping.offset } else { 0 })
}

/// The processes that are there now.
pub(super) fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Every executable file mapping of every process, each file once.
pub(super) fn mapped_everywhere() -> Vec<Mapping> {
    mapped_by().into_iter().map(|(mapping, _)| mapping).collect()
}

/// The same, with how many processes have the file mapped.
pub(super) fn mapped_by() -> Vec<(Mapping, usize)> {
    let mut known: HashMap<(Inode, u64), usize> = HashMap::new();
    let mut mappings: Vec<(Mapping, usize)> = Vec::new();
    for pid in processes() {
        // A process that ends meanwhile, or a kernel thread, has nothing to show.
        let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else { continue };
        let mut counted = HashSet::new();
        for mapping in maps.lines().filter_map(|line| parse(pid, line)) {
            if !counted.insert(seen_as(&mapping)) {
                continue;
            }
            match known.get(&seen_as(&mapping)).and_then(|index| mappings.get_mut(*index)) {
                Some((_, processes)) => *processes = processes.saturating_add(1),
                None => {
                    known.insert(seen_as(&mapping), mappings.len());
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
pub(super) fn parse(pid: u32, line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
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
        offset,
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
            offset: 0x1000,
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
        let mapping = |path: &str, offset| {
            let inode = Inode { major: 1, minor: 2, number: 3 };
            Mapping { pid: 1, start: 0, end: 1, offset, inode, path: path.into() }
        };
        let file = mapping("/lib/x.so", 0);
        assert!(seen.is_new(&file, None));
        assert!(!seen.is_new(&file, None));
        assert!(seen.is_new(&file, Some(5)));
        assert!(!seen.is_new(&file, Some(5)));
        assert!(!seen.is_new(&file, None));
        assert!(seen.is_new(&file, Some(6)));
        // Another part of the same library, and another library of the same APK.
        assert!(!seen.is_new(&mapping("/lib/x.so", 4096), Some(6)));
        assert!(seen.is_new(&mapping("/app/base.apk", 4096), Some(6)));
        assert!(seen.is_new(&mapping("/app/base.apk", 8192), Some(6)));
        assert!(!seen.is_new(&mapping("/app/base.apk", 8192), Some(6)));
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
