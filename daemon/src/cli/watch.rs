//! `telltale watch`: what is found as it is found, for a shell. On a terminal with the busiest apps above it, as `top` has them;
//! elsewhere plain lines.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, VecDeque},
    env,
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use lexopt::{Arg, Parser};
use serde_json::{Map, Value};

use super::{
    PHONE_STORE, UsageError,
    evidence::line,
    status::{StatusError, ask, send},
};
use crate::{
    alert::sink::is_reader_gone,
    control::{Address, Request},
    coverage::size,
    report::input::Input,
};

/// Between two screens.
const REDRAW: Duration = Duration::from_secs(1);
/// What a screen has where nobody says otherwise.
const USUAL: (usize, usize) = (80, 24);
/// Apps shown.
const APPS: usize = 8;
/// A longer line is no alert.
const LONGEST: usize = 1 << 20;
/// To the upper left corner, and nothing below it (ECMA-48, CUP and ED).
const CLEAR: &str = "\x1b[H\x1b[J";

/// Options of `telltale watch`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WatchOptions {
    /// The store of the daemon that is watched.
    pub store: Option<PathBuf>,
    /// Lines also on a terminal.
    pub plain: bool,
}

/// Why there is nothing to watch.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The daemon.
    #[error(transparent)]
    Daemon(#[from] StatusError),
    /// It hung up.
    #[error("Telltale has ended")]
    Ended,
    /// Reading or writing.
    #[error("watching: {0}")]
    Io(#[from] io::Error),
}

/// Reads the options; none when help is wanted.
///
/// # Errors
/// [`UsageError`] with what is wrong.
pub fn parse(args: &mut Parser) -> Result<Option<WatchOptions>, UsageError> {
    let mut options = WatchOptions::default();
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("store") => options.store = Some(args.value()?.into()),
            Arg::Long("plain") => options.plain = true,
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Some(options))
}

/// Watches until the daemon ends or Ctrl-C is pressed.
///
/// # Errors
/// [`Error`], each in one line.
pub fn run(options: &WatchOptions) -> Result<(), Error> {
    let on_phone = cfg!(target_os = "android").then(|| PathBuf::from(PHONE_STORE));
    let address = Address::of(options.store.clone().or(on_phone).as_deref());
    let mut alerts = send(&address, &Request::Watch)?;
    alerts.set_read_timeout(Some(REDRAW))?;
    let screen = io::stdout().is_terminal() && !options.plain;
    let (width, height) = (measure("COLUMNS").unwrap_or(USUAL.0), measure("LINES").unwrap_or(USUAL.1));
    let mut seen = Seen::default();
    let mut drawn: Option<Instant> = None;
    let mut waiting = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        match alerts.read(&mut piece) {
            Ok(0) => return Err(Error::Ended),
            Ok(count) => waiting.extend_from_slice(piece.get(..count).unwrap_or_default()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
        let new = take_lines(&mut waiting).into_iter().filter_map(|line| seen.alert(&line));
        let new: String = new.map(|line| format!("{line}\n")).collect();
        let text = if !screen {
            new
        } else if drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW) {
            drawn = Some(Instant::now());
            seen.status(&ask(&address, &Request::Status)?);
            format!("{CLEAR}{}", seen.screen(width, height))
        } else {
            continue;
        };
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if is_reader_gone(&error) => return Ok(()),
            written => written?,
        }
    }
}

/// What a shell says of its window.
fn measure(name: &str) -> Option<usize> {
    env::var(name).ok()?.parse().ok().filter(|count| (10..=1000).contains(count))
}

/// Takes the whole lines; half a one stays.
fn take_lines(waiting: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let end = memchr::memrchr(b'\n', waiting).map_or(0, |at| at.saturating_add(1));
    let rest = waiting.split_off(end);
    let lines = std::mem::replace(waiting, rest);
    if waiting.len() > LONGEST {
        waiting.clear();
    }
    lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
}

/// An app as the daemon's status has it.
#[derive(Debug, Clone, Default)]
struct Busy {
    bytes: u64,
    read: u64,
    /// Since the status before.
    lately: u64,
    findings: u64,
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Seen {
    apps: BTreeMap<String, Busy>,
    /// The last alerts, newest last.
    lines: VecDeque<String>,
    began: bool,
}

impl Seen {
    /// Takes an alert; gives its line.
    fn alert(&mut self, json: &[u8]) -> Option<String> {
        let record: Map<String, Value> = serde_json::from_slice(json).ok()?;
        let mut input = Input::default();
        input.record(&record);
        let finding = input.findings.first()?;
        let app = self.apps.entry(finding.get("app").to_owned()).or_default();
        app.findings = app.findings.saturating_add(1);
        let line = line(finding);
        self.lines.push_back(line.clone());
        if self.lines.len() > USUAL.1.saturating_mul(4) {
            self.lines.pop_front();
        }
        Some(line)
    }

    /// Takes the daemon's status.
    fn status(&mut self, json: &str) {
        let status: Value = serde_json::from_str(json).unwrap_or_default();
        let apps = status.pointer("/coverage/apps").and_then(Value::as_array);
        for said in apps.into_iter().flatten() {
            let number = |name: &str| said.get(name).and_then(Value::as_u64).unwrap_or(0);
            let name = said.get("app").and_then(Value::as_str).unwrap_or("?");
            let app = self.apps.entry(name.to_owned()).or_default();
            // What was sent before the first look was not sent lately.
            app.lately = if self.began { number("bytes").saturating_sub(app.bytes) } else { 0 };
            (app.bytes, app.read) = (number("bytes"), number("read"));
        }
        self.began = true;
    }

    /// The screen, at most so wide and high.
    fn screen(&self, width: usize, height: usize) -> String {
        let total = |part: fn(&Busy) -> u64| self.apps.values().map(part).fold(0, u64::saturating_add);
        let (sent, read) = (total(|app| app.bytes), total(|app| app.read));
        let mut rows = vec![
            format!(
                "Telltale: {} apps sent {}; content was read of {}. Ctrl-C ends.",
                self.apps.len(),
                size(sent),
                size(read)
            ),
            String::new(),
            format!("{:>10}  {:>10}  {:>6}  {:>8}  app", "lately", "sent", "read", "findings"),
        ];
        let mut apps: Vec<(&String, &Busy)> = self.apps.iter().collect();
        apps.sort_by_key(|(_, app)| std::cmp::Reverse((app.lately, app.bytes, app.findings)));
        for (name, app) in apps.into_iter().take(APPS.min(height.saturating_sub(8))) {
            let part = app.read.saturating_mul(100).checked_div(app.bytes);
            let part = part.map_or_else(|| "-".to_owned(), |part| format!("{part} %"));
            let name = crate::report::input::clean(name);
            rows.push(format!(
                "{:>10}  {:>10}  {part:>6}  {:>8}  {name}",
                size(app.lately),
                size(app.bytes),
                app.findings
            ));
        }
        rows.push(String::new());
        if self.lines.is_empty() {
            rows.push("Nothing was found yet, which is not all clear. Check me: telltale try".to_owned());
        }
        let room = height.saturating_sub(rows.len()).saturating_sub(1);
        rows.extend(self.lines.iter().skip(self.lines.len().saturating_sub(room)).cloned());
        rows.iter().map(|row| format!("{}\n", row.chars().take(width).collect::<String>())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_waits_for_its_end() {
        let mut waiting = b"{\"a\":1}\n\n{\"b\"".to_vec();
        assert_eq!(take_lines(&mut waiting), [b"{\"a\":1}".to_vec()]);
        waiting.extend(b":2}\n");
        assert_eq!(take_lines(&mut waiting), [b"{\"b\":2}".to_vec()]);
        assert!(waiting.is_empty());
        let mut endless = vec![b'x'; LONGEST + 1];
        assert!(take_lines(&mut endless).is_empty() && endless.is_empty());
    }

    #[test]
    fn the_screen_has_the_busiest_first_and_keeps_its_size() {
        let mut seen = Seen::default();
        let status = |a: u64, b: u64| {
            format!(
                r#"{{"coverage":{{"apps":[{{"app":"com.a","bytes":{a},"read":10}},{{"app":"com.b","bytes":{b},"read":0}}]}}}}"#
            )
        };
        seen.status(&status(1000, 5000));
        assert!(seen.screen(80, 24).contains("not all clear"));
        seen.status(&status(9000, 5100));
        for number in 0..50 {
            let alert = format!(
                r#"{{"time":"2026-11-21T10:00:00Z","severity":"W","kind":"imei","value":"490154203237518","app":"com.a\u001b[2J","host":"h{number}.example","id":"k{number}"}}"#
            );
            let line = seen.alert(alert.as_bytes()).unwrap();
            assert!(
                line.contains("…18") && !line.contains("490154203237518") && !line.contains('\u{1b}'),
                "{line}"
            );
        }
        let screen = seen.screen(60, 20);
        assert!(screen.lines().count() <= 20 && screen.lines().all(|row| row.chars().count() <= 60));
        let at = |part: &str| screen.find(part).unwrap_or_else(|| panic!("{part}: {screen}"));
        assert!(at("com.a") < at("com.b"));
        assert!(screen.contains("k49") && !screen.contains("k1 ") && !screen.contains('\u{1b}'), "{screen}");
        assert_eq!(seen.alert(b"no alert"), None);
    }
}
