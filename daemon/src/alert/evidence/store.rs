//! Evidence on disk: JSON lines in numbered segments, appended, chained, rotated into gzip, bounded in size and age.
//!
//! ```text
//! evidence/                 0700
//!   000001.jsonl.gz         a closed segment
//!   000002.jsonl            the open one, only ever appended to
//! ```
//!
//! A record is one `write`; killing the process loses nothing that was appended. A power cut can tear the end of the open segment:
//! opening cuts off what is no whole record (at most what was written since the last [`Store::sync`]) and says so in the next
//! record. A closed segment is written beside the open one and renamed, so that one of both is always whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};

use super::chain::{Chain, sha256};

/// No segment unpacks to more: one that does was not written here.
const LARGEST_SEGMENT: u64 = 64 << 20;

/// Bounds on what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the open segment at which it is closed.
    pub segment: u64,
    /// Bytes of all segments together; beyond, the oldest closed one goes.
    pub total: u64,
    /// Closed segments untouched for longer go.
    pub age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { segment: 1 << 20, total: 24 << 20, age: Duration::from_secs(60 * 24 * 60 * 60) }
    }
}

/// Why evidence cannot be kept or read.
#[derive(Debug, thiserror::Error)]
#[error("evidence: cannot {what} {}: {source}", path.display())]
pub struct StoreError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError { what, path, source }
}

/// An open store. One process writes; anybody with the right may read at the same time.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    /// Held while the store is open: see [`lock`].
    _lock: File,
    limits: Limits,
    file: File,
    path: PathBuf,
    number: u32,
    size: u64,
    unsynced: bool,
    chain: Chain,
}

impl Store {
    /// Opens the store, making it where there is none, and mends what a power cut left. `start` is written as the first record
    /// of this run, with `cut` added: the bytes that were no whole record.
    ///
    /// # Errors
    /// [`StoreError`] naming the file and the system's reason.
    pub fn open(dir: &Path, limits: Limits, mut start: Map<String, Value>) -> Result<Self, StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("create", dir))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
            .map_err(failed("close to others", dir))?;
        let lock = lock(dir)?;
        let mut segments = segments(dir)?;
        // Closing an older segment was interrupted: finish it.
        let open = segments.pop_if(|segment| !segment.packed);
        for left in segments.iter().filter(|segment| !segment.packed) {
            pack(&left.path)?;
        }
        let (number, chain) = match (&open, segments.last()) {
            (Some(segment), before) => {
                let (chain, cut) = mend(&segment.path)?;
                if cut > 0 {
                    start.insert("cut".into(), cut.into());
                }
                let before = || {
                    before.map(|segment| last_chain(&segment.packed_path())).transpose().map(Option::flatten)
                };
                (segment.number, chain.map_or_else(before, |chain| Ok(Some(chain)))?)
            }
            (None, Some(last)) => (last.number.saturating_add(1), last_chain(&last.packed_path())?),
            (None, None) => (1, None),
        };
        let (file, path, size) = open_segment(dir, number)?;
        let chain = chain.unwrap_or_default();
        let mut store = Self {
            dir: dir.to_owned(),
            _lock: lock,
            limits,
            file,
            path,
            number,
            size,
            unsynced: false,
            chain,
        };
        store.append(start)?;
        store.sync()?;
        Ok(store)
    }

    /// Appends one record and closes the segment when it is full.
    ///
    /// # Errors
    /// [`StoreError`]; the store is as it was before, so that a full disk costs records and never the chain.
    pub fn append(&mut self, fields: Map<String, Value>) -> Result<(), StoreError> {
        let (line, after) = self.chain.seal(fields);
        if let Err(error) = self.file.write_all(&line) {
            // Half a line would be cut at the next opening, with everything that was appended to it since. Should this fail as
            // well, that is what happens: the reason told is that of the write.
            let _ = self.file.set_len(self.size);
            return Err(failed("append to", &self.path)(error));
        }
        self.size = self.size.saturating_add(line.len() as u64);
        self.chain = after;
        self.unsynced = true;
        if self.size >= self.limits.segment {
            self.rotate()?;
        }
        Ok(())
    }

    /// Brings what was appended to the disk. Called at most once a second while something is pending.
    ///
    /// # Errors
    /// [`StoreError`] with the system's reason.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if self.unsynced {
            self.file.sync_data().map_err(failed("write to disk", &self.path))?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Whether something was appended since the last [`Store::sync`].
    pub fn is_pending(&self) -> bool {
        self.unsynced
    }

    fn rotate(&mut self) -> Result<(), StoreError> {
        self.sync()?;
        pack(&self.path)?;
        self.number = self.number.saturating_add(1);
        (self.file, self.path, self.size) = open_segment(&self.dir, self.number)?;
        self.prune()
    }

    /// Removes the oldest closed segments until size and age are within bounds.
    fn prune(&self) -> Result<(), StoreError> {
        let closed: Vec<_> = segments(&self.dir)?.into_iter().filter(|segment| segment.packed).collect();
        let mut total = closed.iter().fold(self.size, |sum, segment| sum.saturating_add(segment.size));
        let now = SystemTime::now();
        for segment in closed {
            let old = now.duration_since(segment.changed).is_ok_and(|age| age > self.limits.age);
            if total <= self.limits.total && !old {
                break;
            }
            fs::remove_file(&segment.path).map_err(failed("remove", &segment.path))?;
            total = total.saturating_sub(segment.size);
        }
        Ok(())
    }
}

/// One file of the store.
#[derive(Debug, Clone)]
struct Segment {
    number: u32,
    packed: bool,
    path: PathBuf,
    size: u64,
    changed: SystemTime,
}

impl Segment {
    fn packed_path(&self) -> PathBuf {
        if self.packed { self.path.clone() } else { packed_name(&self.path) }
    }
}

fn packed_name(path: &Path) -> PathBuf {
    path.with_extension("jsonl.gz")
}

/// The segments in order. What a crash left over is removed: unfinished copies, and an open segment whose closed copy is there.
fn segments(dir: &Path) -> Result<Vec<Segment>, StoreError> {
    let mut segments: Vec<Segment> = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
        let entry = entry.map_err(failed("list", dir))?;
        let (path, name) = (entry.path(), entry.file_name());
        let Some((number, kind)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
        let Ok(number) = number.parse() else { continue };
        let meta = entry.metadata().map_err(failed("look at", &path))?;
        let changed = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        match kind {
            "jsonl" if packed_name(&path).is_file() => {
                fs::remove_file(&path).map_err(failed("remove", &path))?
            }
            "jsonl" | "jsonl.gz" => {
                segments.push(Segment {
                    number,
                    packed: kind == "jsonl.gz",
                    path,
                    size: meta.len(),
                    changed,
                });
            }
            "jsonl.gz.new" => fs::remove_file(&path).map_err(failed("remove", &path))?,
            _ => {}
        }
    }
    segments.sort_by_key(|segment| segment.number);
    Ok(segments)
}

/// One process may write. The lock is on the folder itself and goes with the process, however it ends.
/// Whether a running telltale writes there.
pub fn is_in_use(dir: &Path) -> bool {
    File::open(dir).is_ok_and(|folder| matches!(folder.try_lock(), Err(fs::TryLockError::WouldBlock)))
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let folder = File::open(dir).map_err(failed("open", dir))?;
    folder
        .try_lock()
        .map_err(io::Error::from)
        .map_err(failed("write to (a running telltale has it)", dir))?;
    Ok(folder)
}

fn open_segment(dir: &Path, number: u32) -> Result<(File, PathBuf, u64), StoreError> {
    let path = dir.join(format!("{number:06}.jsonl"));
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed("open", &path))?;
    file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed("close to others", &path))?;
    let size = file.metadata().map_err(failed("look at", &path))?.len();
    sync_dir(dir)?;
    Ok((file, path, size))
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("write to disk", dir))
}

/// Turns an open segment into a closed one. Interrupted anywhere, one of both is whole.
fn pack(path: &Path) -> Result<(), StoreError> {
    let (packed, new) = (packed_name(path), path.with_extension("jsonl.gz.new"));
    let bytes = fs::read(path).map_err(failed("read", path))?;
    let write = || {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        let mut encoder = GzEncoder::new(file, Compression::default());
        encoder.write_all(&bytes)?;
        encoder.finish()?.sync_all()
    };
    write().map_err(failed("write", &new))?;
    fs::rename(&new, &packed).map_err(failed("rename", &new))?;
    if let Some(dir) = path.parent() {
        sync_dir(dir)?;
    }
    fs::remove_file(path).map_err(failed("remove", path))
}

/// Cuts off what is no whole record at the end of a segment. Gives the chain after the last whole record, if there is one, and the bytes
/// cut. Damage before the last record stays: [`super::verify`] names it.
fn mend(path: &Path) -> Result<(Option<Chain>, u64), StoreError> {
    let bytes = fs::read(path).map_err(failed("read", path))?;
    let mut end = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at.saturating_add(1));
    let mut chain = None;
    while let Some(whole) = bytes.get(..end.saturating_sub(1)).filter(|_| end > 0) {
        let start = memchr::memrchr(b'\n', whole).map_or(0, |at| at.saturating_add(1));
        chain = whole.get(start..).and_then(Chain::after);
        if chain.is_some() {
            break;
        }
        // A file that grew before its data was written ends in lines of nothing.
        end = start;
    }
    let cut = bytes.len().saturating_sub(end);
    if cut > 0 {
        let file = OpenOptions::new().write(true).open(path).map_err(failed("open", path))?;
        file.set_len(end as u64).and_then(|()| file.sync_all()).map_err(failed("cut", path))?;
    }
    Ok((chain, cut as u64))
}

fn last_chain(path: &Path) -> Result<Option<Chain>, StoreError> {
    let bytes = read(path)?;
    Ok(bytes.rsplit(|byte| *byte == b'\n').find(|line| !line.is_empty()).and_then(Chain::after))
}

/// The lines of one file, unpacked when its name says that it is packed.
///
/// # Errors
/// [`StoreError`] with the file and the reason; a damaged archive is one.
pub fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    let file = File::open(path).map_err(failed("open", path))?;
    let mut bytes = Vec::new();
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    let outcome = if packed {
        GzDecoder::new(file).take(LARGEST_SEGMENT).read_to_end(&mut bytes)
    } else {
        file.take(LARGEST_SEGMENT).read_to_end(&mut bytes)
    };
    outcome.map_err(failed(if packed { "unpack" } else { "read" }, path))?;
    Ok(bytes)
}

/// The files of evidence at `path`, in order: the segments of a folder, or the one file that it is.
///
/// # Errors
/// [`StoreError`] when the folder cannot be listed.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files: Vec<PathBuf> = fs::read_dir(path)
        .map_err(failed("list", path))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|file| {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.ends_with(".jsonl.gz") || (name.ends_with(".jsonl") && !packed_name(file).is_file())
        })
        .collect();
    files.sort();
    Ok(files)
}

/// Replaces every record for which `forget` is true by one that only says that it was there, so that the chain still holds.
/// Gives how many. The store must not be open for writing.
///
/// # Errors
/// [`StoreError`]; each file is replaced whole or not at all.
pub fn forget(dir: &Path, forget: impl Fn(&Map<String, Value>) -> bool) -> Result<usize, StoreError> {
    let _lock = lock(dir)?;
    let mut forgotten = 0_usize;
    for path in files(dir)? {
        let bytes = read(&path)?;
        let mut changed = false;
        let mut out = Vec::with_capacity(bytes.len());
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let whole = line.strip_suffix(b"\n").unwrap_or(line);
            match serde_json::from_slice::<Map<String, Value>>(whole) {
                Ok(map) if map.get("type").and_then(Value::as_str) != Some("forgotten") && forget(&map) => {
                    let stand_in = json!({"seq": map.get("seq"), "prev": map.get("prev"), "type": "forgotten", "sha256": sha256(whole)});
                    out.extend(stand_in.to_string().into_bytes());
                    out.push(b'\n');
                    forgotten = forgotten.saturating_add(1);
                    changed = true;
                }
                _ => out.extend_from_slice(line),
            }
        }
        if changed {
            replace(&path, &out)?;
        }
    }
    Ok(forgotten)
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".forget");
    let new = PathBuf::from(name);
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        if packed {
            let mut encoder = GzEncoder::new(file, Compression::default());
            encoder.write_all(bytes)?;
            file = encoder.finish()?;
        } else {
            file.write_all(bytes)?;
        }
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(failed("rewrite", path))
}

#[cfg(test)]
mod tests {
    use super::super::chain::Follower;
    use super::*;

    fn fields(text: &str) -> Map<String, Value> {
        Map::from_iter([("kind".to_owned(), "music".into()), ("value".to_owned(), text.into())])
    }

    fn start() -> Map<String, Value> {
        Map::from_iter([("type".to_owned(), "start".into())])
    }

    fn small() -> Limits {
        Limits { segment: 2000, ..Limits::default() }
    }

    /// Every record's value, in order; panics when the chain is broken.
    fn values(dir: &Path) -> Vec<String> {
        let mut follower = Follower::default();
        let mut values = Vec::new();
        for file in files(dir).unwrap() {
            let bytes = read(&file).unwrap();
            assert!(bytes.is_empty() || bytes.ends_with(b"\n"));
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                follower.line(line).unwrap();
                let map: Map<String, Value> = serde_json::from_slice(line).unwrap();
                values.extend(map.get("value").and_then(Value::as_str).map(str::to_owned));
            }
        }
        values
    }

    #[test]
    fn a_power_cut_at_every_byte_of_an_append_costs_at_most_the_last_record() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), Limits::default(), start()).unwrap();
        store.append(fields("one")).unwrap();
        let path = store.path.clone();
        let before = fs::read(&path).unwrap().len();
        store.append(fields("two, with \"quotes\" and ünïcode")).unwrap();
        drop(store);
        let after = fs::read(&path).unwrap();
        for length in before..=after.len() {
            // What the disk may hold: the beginning of the line; or its full length, with zeros where no data came yet.
            for zeros in [false, true] {
                let mut torn = after[..length].to_vec();
                if zeros {
                    torn.resize(after.len(), 0);
                    if length + 1 < after.len() {
                        *torn.last_mut().unwrap() = b'\n';
                    }
                }
                fs::write(&path, &torn).unwrap();
                let mut store = Store::open(dir.path(), Limits::default(), start()).unwrap();
                store.append(fields("three")).unwrap();
                drop(store);
                let values = values(dir.path());
                let whole = length == after.len() || (zeros && length + 1 == after.len() && torn == after);
                let expected: &[&str] = if whole {
                    &["one", "two, with \"quotes\" and ünïcode", "three"]
                } else {
                    &["one", "three"]
                };
                assert_eq!(values, expected, "cut at {length}, zeros {zeros}");
            }
        }
    }

    #[test]
    fn what_was_cut_is_said_in_the_next_record() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), Limits::default(), start()).unwrap();
        store.append(fields("one")).unwrap();
        let path = store.path.clone();
        drop(store);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend(b"{\"seq\":3,\"pr");
        fs::write(&path, bytes).unwrap();
        drop(Store::open(dir.path(), Limits::default(), start()).unwrap());
        let text = String::from_utf8(fs::read(&path).unwrap()).unwrap();
        assert!(text.ends_with("\"type\":\"start\",\"cut\":12}\n"), "{text}");
    }

    #[test]
    fn segments_are_closed_chained_and_given_up_by_size() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { total: 2500, ..small() };
        let mut store = Store::open(dir.path(), limits, start()).unwrap();
        for at in 0..200 {
            store.append(fields(&format!("value {at}"))).unwrap();
        }
        drop(store);
        let kept = values(dir.path());
        assert_eq!(kept.last().unwrap(), "value 199");
        assert!(kept.len() < 150, "{}", kept.len());
        let size: u64 = files(dir.path()).unwrap().iter().map(|file| fs::metadata(file).unwrap().len()).sum();
        assert!(size <= limits.total + limits.segment, "{size}");
        // And over a restart, also one that finds nothing but closed segments.
        let mut store = Store::open(dir.path(), limits, start()).unwrap();
        store.append(fields("later")).unwrap();
        assert_eq!(values(dir.path()).last().unwrap(), "later");
    }

    #[test]
    fn old_segments_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), small(), start()).unwrap();
        while files(dir.path()).unwrap().len() < 3 {
            store.append(fields("x")).unwrap();
        }
        let oldest = files(dir.path()).unwrap()[0].clone();
        let long_ago = SystemTime::now() - Duration::from_secs(100 * 24 * 60 * 60);
        File::options().append(true).open(&oldest).unwrap().set_modified(long_ago).unwrap();
        while files(dir.path()).unwrap().len() < 4 && oldest.exists() {
            store.append(fields("x")).unwrap();
        }
        assert!(!oldest.exists());
        values(dir.path());
    }

    #[test]
    fn a_crash_while_closing_a_segment_leaves_it_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), Limits::default(), start()).unwrap();
        store.append(fields("one")).unwrap();
        let path = store.path.clone();
        drop(store);
        let open = fs::read(&path).unwrap();
        pack(&path).unwrap();
        // Renamed, but the open one not yet removed; and an unfinished copy of another.
        fs::write(&path, &open).unwrap();
        fs::write(dir.path().join("000002.jsonl.gz.new"), b"half").unwrap();
        assert_eq!(values(dir.path()), ["one"]);
        drop(Store::open(dir.path(), Limits::default(), start()).unwrap());
        assert_eq!(values(dir.path()), ["one"]);
        assert!(!path.exists() && !dir.path().join("000002.jsonl.gz.new").exists());
    }

    #[test]
    fn one_process_writes_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), small(), start()).unwrap();
        assert!(Store::open(dir.path(), small(), start()).is_err());
        assert!(forget(dir.path(), |_| true).unwrap_err().to_string().contains("running telltale"));
        drop(store);
        assert_eq!(forget(dir.path(), |_| true).unwrap(), 1);
    }

    #[test]
    fn nobody_else_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("evidence");
        let mut store = Store::open(&dir, small(), start()).unwrap();
        for _ in 0..30 {
            store.append(fields("x")).unwrap();
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        let files = files(&dir).unwrap();
        assert!(files.len() > 1 && files.iter().all(|file| mode(file) == 0o600));
    }

    #[test]
    fn what_is_forgotten_is_gone_and_the_chain_holds() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), small(), start()).unwrap();
        for at in 0..40 {
            store.append(fields(if at % 2 == 0 { "keep" } else { "secret song" })).unwrap();
        }
        drop(store);
        let forgotten =
            forget(dir.path(), |map| map.get("value").is_some_and(|value| value == "secret song")).unwrap();
        assert_eq!(forgotten, 20);
        assert_eq!(values(dir.path()), vec!["keep"; 20]);
        drop(Store::open(dir.path(), small(), start()).unwrap());
        values(dir.path());
    }
}
