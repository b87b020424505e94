//! Programs that run while something is measured: what hooks the kernel, and what makes the calls.

use std::io::Write as _;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::run::{Run, end_child, read_lines};

/// How long a program may take until it says that it is ready, and how long to an answer: generous, since the machine may be
/// doing something else.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long it may take to end once told to.
const END_WITHIN: Duration = Duration::from_secs(30);

/// How a program is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its standard input is closed.
    Input,
    /// It gets this signal.
    Signal(&'static str),
}

/// A running program whose lines are read. It is ended when this is dropped.
#[derive(Debug)]
pub struct Helper {
    child: Child,
    command: String,
    end: End,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Helper {
    /// Starts it.
    ///
    /// # Errors
    /// [`Error::Start`].
    pub fn start(run: Run, end: End) -> Result<Self> {
        let command = run.shown().to_owned();
        let mut child = run.spawn(|command| {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        })?;
        let (sender, lines) = channel();
        let other = sender.clone();
        read_lines(child.stdout.take(), move |line| drop(sender.send(line)));
        read_lines(child.stderr.take(), move |line| drop(other.send(line)));
        let stdin = child.stdin.take();
        Ok(Self { child, command, end, stdin, lines, said: Vec::new() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that holds `text`.
    ///
    /// # Errors
    /// [`Error::Failed`] with what it said instead.
    pub fn wait_for(&mut self, text: &str) -> Result<String> {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                return Err(self.failed(&format!("did not say `{text}`")));
            };
            self.said.push(line.clone());
            if line.contains(text) {
                return Ok(line);
            }
        }
    }

    /// Gives it a line and takes the line it answers.
    ///
    /// # Errors
    /// [`Error::Failed`] when it does not answer.
    pub fn ask(&mut self, line: &str) -> Result<String> {
        let wrote = self.stdin.as_mut().is_some_and(|stdin| writeln!(stdin, "{line}").is_ok());
        if !wrote {
            return Err(self.failed("has ended"));
        }
        match self.lines.recv_timeout(PATIENCE) {
            Ok(answer) if answer.contains('=') => Ok(answer),
            Ok(other) => Err(self.failed(&other)),
            Err(_) => Err(self.failed(&format!("did not answer `{line}`"))),
        }
    }

    /// Gives it a line and takes the number it answers for `key`.
    ///
    /// # Errors
    /// [`Error::Failed`] when it answers something else.
    pub fn number(&mut self, line: &str, key: &str) -> Result<f64> {
        let answer = self.ask(line)?;
        pair(&answer, key).ok_or_else(|| self.failed(&format!("answered `{answer}` to `{line}`")))
    }

    /// Ends it and gives everything it said since the last [`Helper::wait_for`].
    ///
    /// # Errors
    /// [`Error::Failed`] when it did not end well.
    pub fn stop(mut self) -> Result<Vec<String>> {
        self.tell_to_end();
        let status = end_child(&mut self.child, END_WITHIN);
        let mut rest = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(2)) {
            rest.push(line);
        }
        match status {
            Some(status) if status.success() => Ok(rest),
            Some(status) => {
                self.said.extend(rest);
                Err(self.failed(&status.to_string()))
            }
            None => Err(self.failed("did not end when told to")),
        }
    }

    fn tell_to_end(&mut self) {
        if let End::Signal(name) = self.end {
            // Failing means that it is gone already.
            let _ = Run::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).output();
        }
        drop(self.stdin.take());
    }

    fn failed(&self, how: &str) -> Error {
        Error::Failed { command: self.command.clone(), status: how.to_owned(), tail: self.said.join("\n") }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.tell_to_end();
            end_child(&mut self.child, END_WITHIN);
        }
    }
}

/// The number that a line of `key=value` pairs has for `key`.
pub fn pair(line: &str, key: &str) -> Option<f64> {
    line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
}

/// `program`, ahead of what else the machine does, and on one CPU alone where there are two or more. The kernel's clock goes on
/// while others run: without this the longer of two things measured would seem slower than it is.
pub fn on_cpu(cpu: usize, program: impl AsRef<std::ffi::OsStr>) -> Run {
    let ahead = Run::new("nice").args(["-n", "-20"]);
    if cpus() > cpu && cpus() > 1 {
        ahead.args(["taskset", "-c", &cpu.to_string()]).arg(program)
    } else {
        ahead.arg(program)
    }
}

/// CPUs this process may use.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_answers_and_ends() {
        let script = "echo ready; while read line; do echo \"got=$line x=2\"; done; echo over";
        let mut helper = Helper::start(Run::new("sh").args(["-c", script]), End::Input).unwrap();
        assert_eq!(helper.wait_for("ready").unwrap(), "ready");
        assert_eq!(helper.number("7", "got").unwrap(), 7.0);
        assert!(helper.number("8", "nothing").is_err());
        assert_eq!(helper.stop().unwrap(), ["over"]);
    }

    #[test]
    fn what_a_failing_helper_said_is_in_the_error() {
        let mut helper =
            Helper::start(Run::new("sh").args(["-c", "echo no root >&2; exit 3"]), End::Input).unwrap();
        let error = helper.wait_for("ready").unwrap_err().to_string();
        assert!(error.contains("did not say `ready`") && error.ends_with("no root"), "{error}");
    }

    #[test]
    fn pairs_are_read() {
        assert_eq!(pair("calls=12 seconds=0.5", "seconds"), Some(0.5));
        assert_eq!(pair("calls=12", "call"), None);
    }
}
