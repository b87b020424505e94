//! Starting other programs: one builder that keeps the environment clean and words every failure the same way.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Variables that `cargo run` and rustup's proxies leave behind for the program they start. Handed on to another
/// toolchain they make it pick the wrong compiler or load the wrong libraries, so no child sees them unless asked.
const CARGO_LEFTOVERS: &[&str] = &[
    "CARGO",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_CRATE_NAME",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MAKEFLAGS",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_TARGET_DIR",
    "LD_LIBRARY_PATH",
    "OUT_DIR",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "RUST_RECURSION_COUNT",
];
/// The same, by prefix.
const CARGO_LEFTOVER_PREFIXES: &[&str] = &["CARGO_PKG_", "CARGO_BIN_", "CARGO_FEATURE_", "CARGO_CFG_"];

/// Whether `name` is one of the variables a parent cargo sets for its own child.
fn is_leftover(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        CARGO_LEFTOVERS.contains(&name)
            || CARGO_LEFTOVER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    })
}

/// A program about to be run.
#[derive(Debug)]
pub struct Run {
    command: Command,
    shown: String,
}

impl Run {
    /// `program` is a path or a name looked up in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program.as_ref());
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_leftover(name)) {
            command.env_remove(name);
        }
        // No step may wait for an answer nobody is there to give.
        command.stdin(Stdio::null());
        Self { shown: quoted(program.as_ref()), command }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.shown.push(' ');
        self.shown.push_str(&quoted(arg.as_ref()));
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(self, args: I) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Sets one environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// The command line as a shell would show it.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Runs it with its output going where ours goes.
    ///
    /// # Errors
    /// [`Error::Start`] when it cannot be started, [`Error::Failed`] when it reports failure.
    pub fn run(mut self) -> Result<()> {
        let status = self.command.status().map_err(|source| self.not_started(source))?;
        self.check(status, String::new())
    }

    /// Runs it quietly and gives its standard output; on failure the error carries the end of what it printed.
    ///
    /// # Errors
    /// [`Error::Start`] and [`Error::Failed`], as [`Run::run`].
    pub fn output(mut self) -> Result<String> {
        let output = self.command.output().map_err(|source| self.not_started(source))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let tail = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
        self.check(output.status, last_lines(&tail, 30))?;
        Ok(text)
    }

    /// Runs it, hands each line it prints (standard output and error together) to `each`, and says how it ended.
    ///
    /// # Errors
    /// [`Error::Start`] when it cannot be started. A failing program is not an error here: look at the status.
    pub fn lines(mut self, mut each: impl FnMut(&str)) -> Result<ExitStatus> {
        let (reader, writer) = std::io::pipe().map_err(|source| self.not_started(source))?;
        let error_writer = writer.try_clone().map_err(|source| self.not_started(source))?;
        self.command.stdout(writer).stderr(error_writer);
        let mut child = self.command.spawn().map_err(|source| self.not_started(source))?;
        // The builder still holds the pipe's writing ends; the reader sees the end only when they are gone.
        let shown = std::mem::take(&mut self.shown);
        drop(self);
        each_line(reader, &mut each);
        child.wait().map_err(|source| Error::Start { command: shown, source })
    }

    /// Starts it and leaves it running; `configure` sets where its input and output go.
    ///
    /// # Errors
    /// [`Error::Start`] when it cannot be started.
    pub fn spawn(mut self, configure: impl FnOnce(&mut Command)) -> Result<Child> {
        configure(&mut self.command);
        self.command.spawn().map_err(|source| self.not_started(source))
    }

    fn not_started(&self, source: std::io::Error) -> Error {
        Error::Start { command: self.shown.clone(), source }
    }

    fn check(self, status: ExitStatus, tail: String) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        Err(Error::Failed { command: self.shown, status: status.to_string(), tail })
    }
}

/// Hands each line of `reader` to `each`, bytes that are not UTF-8 replaced.
pub fn each_line(reader: impl Read, each: &mut impl FnMut(&str)) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line), Ok(count) if count > 0) {
        each(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        line.clear();
    }
}

/// Reads lines on a thread of its own until they end. When nobody takes them any more they are still read, so that the
/// program that prints them does not stop at a full pipe.
pub fn read_lines(
    from: Option<impl std::io::Read + Send + 'static>,
    mut to: impl FnMut(String) + Send + 'static,
) {
    if let Some(from) = from {
        thread::spawn(move || each_line(from, &mut |line: &str| to(line.to_owned())));
    }
}

/// Waits for a child to end by itself, then ends it.
pub fn end_child(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + patience;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(20)),
            _ => break,
        }
    }
    // Gone already is as good as ended.
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// The last `count` lines of `text`.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}

/// Finds `program` in `PATH` and in the directories of administration tools, which a user's `PATH` often lacks.
pub fn find_program(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

/// Whether this process may do what only root may.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // The owner of our own /proc entry is our effective user.
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_named_with_its_status_and_last_words() {
        let error = Run::new("sh").args(["-c", "echo first; echo last >&2; exit 3"]).output().unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("`sh -c 'echo first; echo last >&2; exit 3'`: exit status: 3"), "{text}");
        assert!(text.ends_with("first\nlast"), "{text}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Run::new("no-such-program-here").run().unwrap_err();
        assert!(error.to_string().starts_with("cannot start `no-such-program-here`"), "{error}");
    }

    #[test]
    fn lines_of_both_outputs_arrive_and_the_status_with_them() {
        let mut seen = Vec::new();
        let status = Run::new("sh")
            .args(["-c", "echo one; echo two >&2; exit 4"])
            .lines(|line| seen.push(line.to_owned()));
        seen.sort();
        assert_eq!((seen, status.unwrap().code()), (vec!["one".to_owned(), "two".to_owned()], Some(4)));
    }

    #[test]
    fn what_the_parent_cargo_set_is_not_handed_on() {
        for name in ["CARGO", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH", "CARGO_PKG_NAME", "RUSTFLAGS"] {
            assert!(is_leftover(OsStr::new(name)), "{name}");
        }
        for name in ["PATH", "CARGO_HOME", "RUSTUP_HOME", "CARGO_NET_OFFLINE", "CI"] {
            assert!(!is_leftover(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn words_a_shell_would_split_are_quoted() {
        assert_eq!(quoted(OsStr::new("a b")), "'a b'");
        assert_eq!(quoted(OsStr::new("it's")), r"'it'\''s'");
        assert_eq!(quoted(OsStr::new("--flag=/x")), "--flag=/x");
        assert_eq!(quoted(OsStr::new("")), "''");
    }
}
