//! Where there is no Android log: warnings of the rooms below go to stderr, in the shape of the alerts beside them.

use std::io::{self, Write as _};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::{alert::sink, leak::Severity};

struct HostLog;

/// Shows warnings and errors, and everything when `least` is debug. Nothing happens when there is a log already.
pub(super) fn start(least: LevelFilter) {
    if log::set_boxed_logger(Box::new(HostLog)).is_ok() {
        log::set_max_level(if least >= LevelFilter::Debug { least } else { least.min(LevelFilter::Warn) });
    }
}

impl Log for HostLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let severity = match record.level() {
            Level::Error => Severity::Error,
            Level::Warn => Severity::Warn,
            Level::Info => Severity::Info,
            Level::Debug | Level::Trace => Severity::Debug,
        };
        let mut text = Vec::new();
        let _ = sink::write_line(&mut text, severity, &record.args().to_string());
        // Nothing can be done when stderr is gone.
        let _ = io::stderr().write_all(&text);
    }

    fn flush(&self) {}
}
