//! What the tool says while it works: section heads and times on standard error, results on standard output.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

/// Writes text that is a command's result to standard output. A reader that went away is no reason to fail.
pub fn plain(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.trim_end_matches('\n'));
    let _ = out.flush();
}

/// A part of the work: its head is shown when it starts, its time when it ends.
#[derive(Debug)]
pub struct Section {
    started: Instant,
}

impl Section {
    /// Shows the head.
    pub fn start(title: &str) -> Self {
        head(title);
        Self { started: Instant::now() }
    }

    /// Shows how it ended and how long it took.
    pub fn end(self, outcome: &str) {
        note(&format!("{outcome} in {:.1} s", self.started.elapsed().as_secs_f32()));
    }
}

/// The head of a section.
pub fn head(title: &str) {
    eprintln!("{}", styled("1", &format!("== {title}")));
}

/// One indented line about the work under way.
pub fn note(text: &str) {
    eprintln!("   {text}");
}

/// A line that the next one replaces; shown on a terminal only.
pub fn passing(text: &str) {
    if std::io::stderr().is_terminal() {
        let short: String = text.chars().take(100).collect();
        eprint!("\r\x1b[2K   {short}");
    }
}

/// Ends a series of [`passing`] lines.
pub fn passed() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[2K");
    }
}

fn styled(code: &str, text: &str) -> String {
    if std::io::stderr().is_terminal() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
