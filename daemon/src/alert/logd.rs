//! Android's log, written as its own library writes it: one datagram per line to logd's socket.
//!
//! Neither liblog nor android_logger, which is built on it, tells whether a line arrived, and both drop lines without a
//! word while logd restarts. Alerts are too few for that: a line that logd does not take waits for the next one, and
//! lines that could wait no longer are counted.
//!
//! Format: AOSP system/logging, liblog: `android_log_header_t` (private/android_logger.h), then what
//! `__android_log_write` appends (logger_write.cpp): priority, tag and text, the last two ended by NUL.

use std::{
    collections::VecDeque,
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::sink::{MAX_LINE, TAG};

/// Where logd listens.
pub const SOCKET: &str = "/dev/socket/logdw";
/// `LOG_ID_MAIN` (log/log_id.h): the buffer that `adb logcat` shows.
const MAIN: u8 = 0;
/// Lines that wait while logd is away; beyond, the oldest goes.
const MOST_WAITING: usize = 256;

/// Sends what goes through the `log` crate to logd, tag `telltale`. Says whether it did: elsewhere than on Android
/// only where somebody listens as logd does, and only once in a process. [`log::set_max_level`] changes `least` later.
pub fn start(least: LevelFilter) -> bool {
    let wanted = cfg!(target_os = "android") || Path::new(SOCKET).exists();
    let started = wanted && log::set_boxed_logger(Box::new(Logd::new(SOCKET, LevelFilter::Trace))).is_ok();
    if started {
        log::set_max_level(least);
        STARTED.store(true, Ordering::Relaxed);
    }
    started
}

/// Whether [`start`] has sent this process's lines to logd.
pub fn is_started() -> bool {
    STARTED.load(Ordering::Relaxed)
}

static STARTED: AtomicBool = AtomicBool::new(false);

/// The logger. What still waits goes out with the next line or with [`Log::flush`].
#[derive(Debug)]
pub struct Logd {
    path: PathBuf,
    least: LevelFilter,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    socket: Option<UnixDatagram>,
    waiting: VecDeque<Vec<u8>>,
    /// Lines that were dropped since the last one that arrived.
    dropped: u64,
}

impl Logd {
    /// A logger for the socket at `path`, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>, least: LevelFilter) -> Logd {
        Logd { path: path.into(), least, state: Mutex::default() }
    }

    fn push(&self, level: Level, text: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        state.keep(datagram(level, text, thread_id(), since));
        state.send(&self.path);
    }
}

impl Log for Logd {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.least
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.push(record.level(), &record.args().to_string());
        }
    }

    fn flush(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).send(&self.path);
    }
}

impl State {
    fn keep(&mut self, datagram: Vec<u8>) {
        if self.waiting.len() >= MOST_WAITING {
            self.waiting.pop_front();
            self.dropped = self.dropped.saturating_add(1);
        }
        self.waiting.push_back(datagram);
    }

    /// Sends what waits, in order, as far as logd takes it. A connection that logd has closed is made again once.
    fn send(&mut self, path: &Path) {
        let mut fresh = false;
        while let Some(datagram) = self.waiting.front() {
            let sent = match &self.socket {
                Some(socket) => socket.send(datagram).map(drop),
                None => Err(io::ErrorKind::NotConnected.into()),
            };
            match sent {
                Ok(()) => {
                    self.waiting.pop_front();
                    self.tell_dropped();
                }
                // Its queue is full: it is there, and behind.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) if fresh => return,
                Err(_) => {
                    fresh = true;
                    self.socket = connect(path).ok();
                }
            }
        }
    }

    /// After an interruption the first line that arrives is followed by how many did not.
    fn tell_dropped(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            let text = format!("{dropped} lines were dropped while Android's log did not take them");
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.waiting.push_front(datagram(Level::Warn, &text, thread_id(), since));
        }
    }
}

/// Never blocks: a phone whose log is stuck is still watched.
fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    Ok(socket)
}

/// The low half of the thread's id, which is all the format has room for.
fn thread_id() -> u16 {
    let [low, high, ..] = nix::unistd::gettid().as_raw().to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// One line as logd takes it; `since` is the wall clock, from 1970.
fn datagram(level: Level, text: &str, thread: u16, since: Duration) -> Vec<u8> {
    // android_LogPriority (android/log.h).
    let priority = match level {
        Level::Trace => 2,
        Level::Debug => 3,
        Level::Info => 4,
        Level::Warn => 5,
        Level::Error => 6,
    };
    let mut bytes = vec![MAIN];
    bytes.extend(thread.to_le_bytes());
    bytes.extend(u32::try_from(since.as_secs()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend(since.subsec_nanos().to_le_bytes());
    bytes.push(priority);
    bytes.extend(TAG.as_bytes());
    bytes.push(0);
    let text = text.get(..text.floor_char_boundary(MAX_LINE)).unwrap_or(text);
    // A NUL would end the text early.
    bytes.extend(text.bytes().map(|byte| if byte == 0 { b' ' } else { byte }));
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logger(dir: &Path) -> Logd {
        Logd::new(dir.join("logdw"), LevelFilter::Info)
    }

    fn listen(dir: &Path) -> UnixDatagram {
        let _ = std::fs::remove_file(dir.join("logdw"));
        let socket = UnixDatagram::bind(dir.join("logdw")).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    fn received(socket: &UnixDatagram) -> Vec<String> {
        let mut lines = Vec::new();
        let mut buffer = [0; 8192];
        while let Ok(count) = socket.recv(&mut buffer) {
            let text = &buffer[12 + TAG.len() + 1..count - 1];
            lines.push(String::from_utf8(text.to_vec()).unwrap());
        }
        lines
    }

    fn directory(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("telltale-logd-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_line_has_liblogs_bytes() {
        let bytes = datagram(Level::Warn, "hi", 0x1234, Duration::new(0x5566_7788, 0x0a0b_0c0d));
        let wanted = b"\0\x34\x12\x88\x77\x66\x55\x0d\x0c\x0b\x0a\x05telltale\0hi\0";
        assert_eq!(bytes, wanted);
        let priorities = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error]
            .map(|level| datagram(level, "", 0, Duration::ZERO)[11]);
        assert_eq!(priorities, [2, 3, 4, 5, 6]);
    }

    #[test]
    fn what_logd_would_cut_or_end_early_is_mended() {
        let long = datagram(Level::Info, &"ä".repeat(4000), 0, Duration::ZERO);
        // LOGGER_ENTRY_MAX_PAYLOAD (log/log.h).
        assert!(long.len() - 11 <= 4068, "{}", long.len());
        assert!(std::str::from_utf8(&long[21..long.len() - 1]).is_ok());
        assert!(datagram(Level::Info, "a\0b", 0, Duration::ZERO).ends_with(b"telltale\0a b\0"));
    }

    #[test]
    fn lines_wait_while_logd_is_away_and_keep_their_order() {
        let dir = directory("away");
        let logger = logger(&dir);
        logger.push(Level::Info, "before it came");
        let first = listen(&dir);
        logger.push(Level::Info, "while it is there");
        assert_eq!(received(&first), ["before it came", "while it is there"]);
        drop(first);
        logger.push(Level::Info, "while it restarts");
        let second = listen(&dir);
        logger.flush();
        assert_eq!(received(&second), ["while it restarts"]);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_could_not_wait_is_counted() {
        let dir = directory("counted");
        let logger = logger(&dir);
        for number in 0..MOST_WAITING + 3 {
            logger.push(Level::Info, &number.to_string());
        }
        // A datagram socket queues few lines (net.unix.max_dgram_qlen): the rest goes as they are taken out.
        let socket = listen(&dir);
        let mut lines = Vec::new();
        while lines.len() < MOST_WAITING + 1 {
            logger.flush();
            let more = received(&socket);
            assert!(!more.is_empty(), "stuck after {lines:?}");
            lines.extend(more);
        }
        assert_eq!(lines[..2], ["3", "3 lines were dropped while Android's log did not take them"]);
        assert_eq!(lines.last().map(String::as_str), Some("258"));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn quieter_lines_than_wanted_are_not_written() {
        let dir = directory("quiet");
        let socket = listen(&dir);
        let logger = logger(&dir);
        for (level, text) in [(Level::Debug, "no"), (Level::Info, "yes")] {
            logger.log(&Record::builder().level(level).args(format_args!("{text}")).build());
        }
        assert_eq!(received(&socket), ["yes"]);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
