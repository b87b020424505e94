//! Where alerts go: log lines as logcat shows them, JSON lines, Android's log.

use std::io::{self, Write};

use super::{Alert, letter, pieces};
use crate::leak::Severity;

/// What logd takes of one entry (LOGGER_ENTRY_MAX_PAYLOAD, system/logging/liblog/include/log/log_read.h), tag, priority and
/// two ends included.
pub const LOGD_PAYLOAD: usize = 4068;
/// The tag of every line.
pub const TAG: &str = "telltale";
/// Bytes of text in one entry: what remains beside the tag, with a little to spare.
pub const MAX_LINE: usize = 3996;

const _: () = assert!(MAX_LINE + TAG.len() + 3 <= LOGD_PAYLOAD);

/// Takes every alert; those that are neither [`Alert::shown`] nor [`Alert::listed`] too.
pub trait Sink {
    /// Writes what belongs here.
    ///
    /// # Errors
    /// Whatever writing gives.
    fn alert(&mut self, alert: &Alert) -> io::Result<()>;
}

/// Lines as logcat shows them, `W telltale: …`, to any writer.
#[derive(Debug)]
pub struct Lines<W>(pub W);

impl<W: Write> Sink for Lines<W> {
    fn alert(&mut self, alert: &Alert) -> io::Result<()> {
        if alert.shown {
            write_line(&mut self.0, alert.severity(), &alert.to_string())?;
        }
        Ok(())
    }
}

/// Writes one line as logcat would show it, in as many pieces as logd would need.
///
/// # Errors
/// Whatever the writer gives.
pub fn write_line(to: &mut impl Write, severity: Severity, line: &str) -> io::Result<()> {
    // One write for all: lines of several threads must not mix.
    let mut all = String::new();
    for piece in pieces(line, MAX_LINE) {
        all.push(letter(severity));
        all.push_str(" telltale: ");
        all.push_str(&piece);
        all.push('\n');
    }
    to.write_all(all.as_bytes())
}

/// JSON lines, unmasked.
#[derive(Debug)]
pub struct Json<W>(pub W);

impl<W: Write> Sink for Json<W> {
    fn alert(&mut self, alert: &Alert) -> io::Result<()> {
        if alert.listed {
            let mut line = alert.json();
            line.push('\n');
            self.0.write_all(line.as_bytes())?;
            self.0.flush()?;
        }
        Ok(())
    }
}

/// The `log` crate: logcat on Android, once [`super::logd::start`] was called there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Log;

impl Sink for Log {
    fn alert(&mut self, alert: &Alert) -> io::Result<()> {
        if alert.shown {
            log_line(alert.severity(), &alert.to_string());
        }
        Ok(())
    }
}

/// One line through the `log` crate, in as many pieces as logd needs.
pub fn log_line(severity: Severity, line: &str) {
    let level = match severity {
        Severity::Debug => log::Level::Debug,
        Severity::Info => log::Level::Info,
        Severity::Warn => log::Level::Warn,
        Severity::Error => log::Level::Error,
    };
    for piece in pieces(line, MAX_LINE) {
        log::log!(target: TAG, level, "{piece}");
    }
}

/// What the operating system says when the reader of a pipe is gone: its wish, no failure.
pub fn is_reader_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
