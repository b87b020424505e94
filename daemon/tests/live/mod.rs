//! What the live tests share: sessions, the client that makes the calls, and reading what it printed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing)]

pub(crate) mod daemon;
pub(crate) mod machine;
pub(crate) mod process;
pub(crate) mod server;
pub(crate) mod tracefs;
pub(crate) mod uids;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use machine::or_skip;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use telltale::{
    kernel::{AttachPath, Options, Session},
    record::Event,
};
use tempfile::TempDir;

/// A TLS library with the client that calls it.
#[derive(Debug, Clone)]
pub(crate) enum Library {
    /// Android's, as Debian packs it.
    BoringSsl(OwnCopy),
    /// The host's own.
    OpenSsl(OwnCopy),
}

/// A test's own copy of a library: through hooks on it comes nothing that other tests send, which may be more than rings hold.
#[derive(Debug, Clone)]
pub(crate) struct OwnCopy {
    folder: Arc<TempDir>,
    file: PathBuf,
}

impl OwnCopy {
    fn of(library: &Path) -> OwnCopy {
        let folder = tempfile::tempdir().unwrap();
        // For apps under uids of their own.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let file = folder.path().join(library.file_name().unwrap());
        fs::copy(library, &file).unwrap();
        OwnCopy { folder: Arc::new(folder), file }
    }
}

impl Library {
    /// The library's file.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Library::BoringSsl(copy) | Library::OpenSsl(copy) => &copy.file,
        }
    }

    /// What `LD_LIBRARY_PATH` must be for a program to use it.
    pub(crate) fn folder(&self) -> &Path {
        match self {
            Library::BoringSsl(copy) | Library::OpenSsl(copy) => copy.folder.path(),
        }
    }

    /// Whether it has `SSL_write_ex`.
    pub(crate) fn has_write_ex(&self) -> bool {
        matches!(self, Library::OpenSsl(_))
    }

    fn client(&self) -> &'static Path {
        static CLIENTS: OnceLock<[PathBuf; 2]> = OnceLock::new();
        let clients =
            CLIENTS.get_or_init(|| [compile("tls-writes", "boringssl"), compile("tls-writes", "openssl")]);
        match self {
            Library::BoringSsl(_) => &clients[0],
            Library::OpenSsl(_) => &clients[1],
        }
    }
}

fn folder() -> PathBuf {
    PathBuf::from(format!("/usr/lib/{}-linux-gnu", env::consts::ARCH))
}

/// Compiles a client of `ndk-build/clients/` against `boringssl` or `openssl`.
pub(crate) fn compile(client: &str, library: &str) -> PathBuf {
    // Once in this process: a program that runs cannot be replaced.
    static COMPILED: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let name = format!("{client}-{library}");
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    compiled.entry(name).or_insert_with_key(|name| compile_anew(client, library, name)).clone()
}

fn compile_anew(client: &str, library: &str, name: &str) -> PathBuf {
    let boring = folder().join("android");
    let flags = match library {
        "boringssl" => vec![
            "-I/usr/include/android".to_owned(),
            format!("-L{}", boring.display()),
            format!("-Wl,-rpath,{}", boring.display()),
            "-l:libssl.so.0".into(),
            "-l:libcrypto.so.0".into(),
        ],
        _ => vec!["-lssl".to_owned(), "-lcrypto".into()],
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../ndk-build/clients/{client}.c"));
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // Under a name of its own first: another test binary may be running the old one.
    let fresh = program.with_extension(std::process::id().to_string());
    let output = Command::new("cc")
        .args(["-std=gnu11", "-O1", "-Wall", "-pthread", "-o"])
        .arg(&fresh)
        .arg(&source)
        .args(flags)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&fresh, &program).unwrap();
    program
}

/// The host's own TLS library, which Debian's Python uses.
pub(crate) fn openssl() -> PathBuf {
    folder().join("libssl.so.3")
}

/// Both ways of attaching, each with each library.
pub(crate) fn ways() -> Vec<(AttachPath, Library)> {
    let (boring, open) = (folder().join("android/libssl.so.0"), openssl());
    if !boring.exists() || !open.exists() {
        println!("skipped: libssl-dev, android-libboringssl and android-libboringssl-dev are needed");
        return Vec::new();
    }
    let present = [Library::BoringSsl(OwnCopy::of(&boring)), Library::OpenSsl(OwnCopy::of(&open))];
    let each = |way| present.clone().into_iter().map(move |library| (way, library));
    each(AttachPath::Perf).chain(each(AttachPath::Tracefs)).collect()
}

/// A session on one library; none, having said why, where this machine cannot have one.
pub(crate) fn session(way: AttachPath, library: &Library) -> Option<Session> {
    let options =
        Options { attach: Some(way), libraries: vec![library.path().to_owned()], ..Options::default() };
    or_skip((way, library), Session::start(&options))
}

/// Byte `at` of what connection `number` sends: `byte_at` of the client.
pub(crate) fn byte_at(number: usize, at: usize) -> u8 {
    (at * 31 + (at >> 8) * 7 + number * 101) as u8
}

/// Runs a client to its end and gives its events.
pub(crate) fn capture(session: &mut Session, library: &Library, steps: &[&str]) -> Vec<Event> {
    Client::start(library, steps).watch(session)
}

/// A running client.
pub(crate) struct Client {
    child: Child,
    output: BufReader<ChildStdout>,
    said: String,
}

impl Client {
    /// Starts the client with these steps.
    pub(crate) fn start(library: &Library, steps: &[&str]) -> Client {
        Client::start_with(library, steps, library.folder())
    }

    /// Starts it with libraries from this folder.
    pub(crate) fn start_with(library: &Library, steps: &[&str], libraries: &Path) -> Client {
        Client::of(Command::new(library.client()).args(steps).env("LD_LIBRARY_PATH", libraries))
    }

    /// Starts what this command says.
    pub(crate) fn of(command: &mut Command) -> Client {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Client { child, output, said: String::new() }
    }

    /// Its process id.
    #[allow(dead_code)] // each live test compiles this file for itself, and not each asks
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads events until the client has ended, which must go well; then once more.
    pub(crate) fn watch(&mut self, session: &mut Session) -> Vec<Event> {
        let mut events = Vec::new();
        let ended = until(Duration::from_secs(30), || {
            events.extend(self.drain(session));
            self.child.try_wait().unwrap().is_some()
        });
        assert!(ended, "the client does not end");
        events.extend(self.drain(session));
        self.output.read_to_string(&mut self.said).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.said);
        events
    }

    /// One pass over the rings: this client's events.
    pub(crate) fn drain(&self, session: &mut Session) -> Vec<Event> {
        let pid = self.child.id();
        let mut events = Vec::new();
        session.drain(&mut |_, event| {
            if event.connection.tgid == pid {
                events.push(event);
            }
        });
        events
    }

    /// Waits for the client to say that it waits for a line.
    pub(crate) fn wait_for_line(&mut self) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line, "waiting\n");
    }

    /// Lets it go on.
    pub(crate) fn send_line(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// What it said; after [`Client::watch`].
    pub(crate) fn said(&self) -> &str {
        &self.said
    }

    /// How often the library wanted the same bytes again; after [`Client::watch`].
    pub(crate) fn retries(&self) -> u64 {
        let count = self.said.split("retries=").nth(1).and_then(|rest| rest.split(' ').next());
        count.unwrap().parse().unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Both fail when it has ended and been waited for, which is the rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tries every few milliseconds.
pub(crate) fn until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while started.elapsed() < limit {
        if condition() {
            return true;
        }
        thread::sleep(Duration::from_millis(3));
    }
    false
}

/// Waits for the doorbell.
pub(crate) fn rings(session: &Session, limit: Duration) -> bool {
    let mut fds: Vec<PollFd<'_>> =
        session.doorbells().map(|bell| PollFd::new(bell, PollFlags::POLLIN)).collect();
    let limit = PollTimeout::try_from(limit).unwrap();
    poll(&mut fds, limit).unwrap() > 0
}
