//! Searches binaries for TLS of their own, one after the other, on a thread of low priority: the loop never waits for it,
//! and of a large file only the stretch at hand counts as memory.
#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    fs::File,
    io,
    ops::ControlFlow,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::memory::{self, Entry, Memory, Standing};
use crate::{
    finder,
    kernel::{
        libraries::{self, Identity, Mapping, Part},
        mapped_file::MappedFile,
        sys,
    },
};

/// A smaller file holds no TLS library beside what it is for.
pub(super) const LEAST: u64 = 1 << 20;
/// A larger one is no program.
pub(super) const MOST: u64 = 1 << 30;

/// A binary to search.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) identity: Identity,
    pub(super) file: File,
    pub(super) part: Part,
    pub(super) path: PathBuf,
}

/// The same as it waits in the queue, not open: hundreds may wait when the watch begins.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) identity: Identity,
    pub(super) mapping: Mapping,
    pub(super) part: Part,
    pub(super) path: PathBuf,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) subject: Subject,
    pub(super) key: String,
    pub(super) entry: Entry,
    /// None when it was remembered.
    pub(super) took: Option<Duration>,
}

/// The thread and what it shares with the session.
#[derive(Debug)]
pub(super) struct Searcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    answers: Mutex<Vec<Result<Answer, Waiting>>>,
    queue: Mutex<Queue>,
    more: Condvar,
    memory: Arc<Mutex<Memory>>,
    ready: EventFd,
    stop: AtomicBool,
    /// Binaries in the queue and at hand.
    waiting: AtomicUsize,
}

/// What waits for its turn: apps and what they bring along first, since most of what is sent comes from them; a phone's system has
/// hundreds of libraries, and hardly one with TLS of its own.
#[derive(Debug, Default)]
struct Queue {
    apps: VecDeque<Waiting>,
    system: VecDeque<Waiting>,
}

impl Queue {
    fn push(&mut self, waiting: Waiting) {
        let queue = if is_of_an_app(&waiting.path) { &mut self.apps } else { &mut self.system };
        queue.push_back(waiting);
    }

    fn pop(&mut self) -> Option<Waiting> {
        self.apps.pop_front().or_else(|| self.system.pop_front())
    }
}

/// Whether a binary came with an app: Android keeps those on `/data`, or in an APK wherever that lies; what a system library
/// links lies in an APEX, `/system`, `/vendor` or `/product`.
fn is_of_an_app(path: &Path) -> bool {
    path.starts_with("/data") || path.to_string_lossy().contains(".apk!/")
}

/// The finder needs little; what it holds lies on the heap.
const STACK: usize = 512 << 10;

impl Searcher {
    pub(super) fn start(memory: Arc<Mutex<Memory>>) -> io::Result<Searcher> {
        let ready = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let shared = Arc::new(Shared {
            answers: Mutex::default(),
            queue: Mutex::default(),
            more: Condvar::new(),
            memory,
            ready,
            stop: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("telltale-search".into())
            .stack_size(STACK)
            .spawn(move || work(&theirs))?;
        Ok(Searcher { shared, thread: Some(thread) })
    }

    /// Puts a binary into the queue.
    pub(super) fn ask(&self, subject: Waiting) {
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        lock(&self.shared.queue).push(subject);
        self.shared.more.notify_one();
    }

    /// Readable when there is an answer.
    pub(super) fn ready(&self) -> BorrowedFd<'_> {
        self.shared.ready.as_fd()
    }

    /// True while there is something to search.
    pub(super) fn is_busy(&self) -> bool {
        self.shared.waiting.load(Ordering::Relaxed) > 0
    }

    /// What was found since the last call; given back is what was gone when its turn came.
    pub(super) fn take(&self) -> Vec<Result<Answer, Waiting>> {
        // Empty when nothing was written to it.
        let _ = self.shared.ready.read();
        std::mem::take(&mut *lock(&self.shared.answers))
    }
}

impl Drop for Searcher {
    fn drop(&mut self) {
        {
            // Under the lock: the thread looks at the mark before it goes to sleep.
            let _queue = lock(&self.shared.queue);
            self.shared.stop.store(true, Ordering::Relaxed);
        }
        self.shared.more.notify_one();
        if let Some(thread) = self.thread.take() {
            // It looks at the mark after each stretch: some milliseconds.
            let _ = thread.join();
        }
    }
}

/// The next to search; none when the end has come.
fn next(shared: &Shared) -> Option<Waiting> {
    let mut queue = lock(&shared.queue);
    loop {
        if shared.stop.load(Ordering::Relaxed) {
            return None;
        }
        if let Some(waiting) = queue.pop() {
            return Some(waiting);
        }
        queue = shared.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

fn work(shared: &Shared) {
    if let Err(error) = sys::yield_to_others() {
        log::debug!("the search runs at ordinary priority: {error}");
    }
    while let Some(waiting) = next(shared) {
        let shown = waiting.path.display().to_string();
        let answer = match opened(&waiting) {
            Some(subject) => match search(subject, &shared.memory, &shared.stop) {
                Ok(answer) => Some(Ok(answer)),
                Err(why) => {
                    // Most often it is no ELF file, or one of another machine.
                    log::debug!("{shown} not searched: {why}");
                    None
                }
            },
            None => Some(Err(waiting)),
        };
        if let Some(Ok(Answer { took: Some(took), entry, .. })) = &answer {
            log::debug!("{shown} searched in {} ms: {entry:?}", took.as_millis());
        }
        lock(&shared.answers).extend(answer);
        shared.waiting.fetch_sub(1, Ordering::Relaxed);
        if let Err(error) = shared.ready.write(1) {
            log::debug!("eventfd: {error}");
        }
    }
}

/// Opens what waited, if it is still what it was.
fn opened(waiting: &Waiting) -> Option<Subject> {
    let Waiting { identity, mapping, part, path } = waiting;
    let file =
        libraries::open(mapping).filter(|file| part.identity(file).is_ok_and(|found| found == *identity))?;
    Some(Subject { identity: *identity, file, part: *part, path: path.clone() })
}

/// Searches one binary, or remembers what was found in it.
pub(super) fn search(
    subject: Subject,
    memory: &Mutex<Memory>,
    stop: &AtomicBool,
) -> Result<Answer, SearchError> {
    let mapped = MappedFile::of_others(&subject.file)?;
    let bytes = subject.part.of(mapped.as_ref()).ok_or(io::ErrorKind::UnexpectedEof)?;
    let key = memory::key(bytes, &|stretch| mapped.let_go(stretch));
    let known = lock(memory).get(&key).cloned();
    if let Some(entry) = known.filter(|entry| still_there(bytes, entry)) {
        return Ok(Answer { subject, key, entry, took: None });
    }
    let began = Instant::now();
    let verdict = finder::find_between(bytes, &|stretch| {
        mapped.let_go(stretch);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    // What was cut off meanwhile read as zeros.
    if subject.file.metadata()?.len() < mapped.as_ref().len() as u64 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let entry = Entry::of(bytes, verdict);
    lock(memory).put(&key, entry.clone());
    Ok(Answer { subject, key, entry, took: Some(began.elapsed()) })
}

/// Whether what is remembered is what stands there: nothing is hooked on the word of a file alone.
fn still_there(bytes: &[u8], entry: &Entry) -> bool {
    match entry {
        Entry::Found(places, _) => memory::first(bytes, places.write) == Some(places.first),
        Entry::Absent | Entry::Unsure(_) => true,
    }
}

/// What its calls have shown is remembered.
pub(super) fn stand(memory: &Mutex<Memory>, key: &str, standing: Standing) {
    lock(memory).stand(key, standing);
}

/// Nothing panics while it holds these; if it did, what they hold is still whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a file was not searched.
#[derive(Debug, thiserror::Error)]
pub(super) enum SearchError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is none to be searched.
    #[error(transparent)]
    Finder(#[from] finder::Error),
}

impl From<io::ErrorKind> for SearchError {
    fn from(kind: io::ErrorKind) -> Self {
        SearchError::Io(kind.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::libraries::Inode;

    #[test]
    fn what_apps_bring_along_is_searched_first() {
        let mut queue = Queue::default();
        let order = [
            "/system/lib64/libone.so",
            "/data/app/org.x-1==/lib/arm64/libtwo.so",
            "/apex/com.android.art/lib64/libthree.so",
            "/product/app/WebView/WebView.apk!/lib/arm64-v8a/libfour.so",
        ];
        for path in order {
            let inode = Inode { major: 1, minor: 1, number: 1 };
            let mapping = Mapping { pid: 1, start: 0, end: 1, offset: 0, inode, path: path.to_owned() };
            let identity = Identity { device: 1, inode: 1, offset: 0 };
            queue.push(Waiting { identity, mapping, part: Part { offset: 0, length: 1 }, path: path.into() });
        }
        let taken: Vec<PathBuf> = std::iter::from_fn(|| queue.pop()).map(|waiting| waiting.path).collect();
        assert_eq!(taken, [order[1], order[3], order[0], order[2]].map(PathBuf::from));
    }
}
