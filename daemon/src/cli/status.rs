//! `telltale status`: asks the running daemon and says it in words.
#![forbid(unsafe_code)]

use std::{
    fmt::Write as _,
    io::{self, Read as _, Write as _},
    os::unix::net::{SocketAddr, UnixStream},
    path::PathBuf,
    time::Duration,
};

#[cfg(target_os = "android")]
use std::os::android::net::SocketAddrExt as _;
#[cfg(not(target_os = "android"))]
use std::os::linux::net::SocketAddrExt as _;

use serde_json::Value;

use super::PHONE_STORE;
use crate::{
    control::{ABSTRACT, Address, Request},
    coverage::{Reason, size},
    kernel::MemoryPath,
    sealed::State,
};

/// Options of `telltale status`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StatusOptions {
    /// The daemon's answer as it came.
    pub json: bool,
    /// The store of the daemon that is asked.
    pub store: Option<PathBuf>,
}

/// The daemon answers between two passes; more time than that only on a machine under heavy load.
const PATIENCE: Duration = Duration::from_secs(20);
/// A longer answer is none.
const LONGEST: u64 = 8 << 20;
/// Apps, destinations and libraries shown.
const SHOWN: usize = 8;
const SHOWN_EACH: usize = 3;

/// Why there is nothing to say.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Nobody listens.
    #[error("Telltale is not running: nobody answers on {0}; start it with `telltale run`")]
    NotRunning(String),
    /// Somebody does, and not to us.
    #[error("the daemon's control socket {place}: {error}{hint}")]
    Socket {
        /// Where it is.
        place: String,
        /// What the operating system said.
        error: io::Error,
        /// What the user can do.
        hint: &'static str,
    },
    /// An answer that is none.
    #[error("the daemon's answer cannot be read: {0}")]
    Answer(String),
}

/// The text to print.
///
/// # Errors
/// [`StatusError`], each in one line.
pub fn status(options: &StatusOptions) -> Result<String, StatusError> {
    let on_phone = cfg!(target_os = "android").then(|| PathBuf::from(PHONE_STORE));
    let answer = ask(&Address::of(options.store.clone().or(on_phone).as_deref()), &Request::Status)?;
    let value: Value = serde_json::from_str(&answer).map_err(|error| {
        StatusError::Answer(if answer.is_empty() {
            "it hung up; only root is answered".into()
        } else {
            error.to_string()
        })
    })?;
    if let Some(error) = value.get("error").and_then(Value::as_str) {
        return Err(StatusError::Answer(error.to_owned()));
    }
    Ok(if options.json { answer } else { text(&value) })
}

/// Connects and sends a request.
pub(super) fn send(address: &Address, request: &Request) -> Result<UnixStream, StatusError> {
    let place = match address {
        Address::File(file) => file.display().to_string(),
        Address::Abstract => format!("@{}", String::from_utf8_lossy(ABSTRACT)),
    };
    let connected = match address {
        Address::File(file) => UnixStream::connect(file),
        Address::Abstract => {
            SocketAddr::from_abstract_name(ABSTRACT).and_then(|name| UnixStream::connect_addr(&name))
        }
    };
    let failed = |error: io::Error| {
        let hint = if error.kind() == io::ErrorKind::PermissionDenied { "; only root may ask" } else { "" };
        StatusError::Socket { place: place.clone(), error, hint }
    };
    let mut stream = connected.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => StatusError::NotRunning(place.clone()),
        _ => failed(error),
    })?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.write_all(request.line().as_bytes()).map_err(failed)?;
    Ok(stream)
}

/// Sends a request and reads the answer to its end.
pub(super) fn ask(address: &Address, request: &Request) -> Result<String, StatusError> {
    let mut answer = String::new();
    let read = send(address, request)?.take(LONGEST).read_to_string(&mut answer);
    read.map_err(|error| StatusError::Answer(error.to_string()))?;
    Ok(answer)
}

/// For people. What is missing in the answer, as from a daemon of another version, is left out.
fn text(status: &Value) -> String {
    let mut out = String::new();
    let word = |name: &str| status.get(name).and_then(Value::as_str).unwrap_or("?");
    let libraries = list(status, "libraries");
    let _ = writeln!(
        out,
        "Telltale {} runs since {} (process {}); TLS hooked by {}, socket sends: {}",
        word("telltale"),
        word("since"),
        number(status, "pid"),
        word("attach"),
        word("sends")
    );
    let _ = writeln!(
        out,
        "{} TLS {} hooked:",
        libraries.len(),
        if libraries.len() == 1 { "library" } else { "libraries" }
    );
    for library in libraries.iter().take(SHOWN) {
        let field = |name| library.get(name).and_then(Value::as_str).unwrap_or("?");
        let _ = writeln!(out, "  {} since {}", field("path"), field("since"));
    }
    more(&mut out, "  ", libraries.len(), SHOWN);
    for path in list(status, "unreadable").iter().take(SHOWN) {
        let _ = writeln!(out, "  not hooked, 32-bit: {}", path.as_str().unwrap_or("?"));
    }
    for path in list(status, "on_probation").iter().take(SHOWN) {
        let _ = writeln!(out, "  on probation, its own TLS: {}", path.as_str().unwrap_or("?"));
    }
    let not_hooked = list(status, "not_hooked");
    for one in not_hooked.iter().take(SHOWN) {
        let field = |name| one.get(name).and_then(Value::as_str).unwrap_or("?");
        let _ = writeln!(out, "  not hooked, its own TLS: {}: {}", field("path"), field("why"));
    }
    more(&mut out, "  ", not_hooked.len(), SHOWN);
    let ciphers = status.get("ciphers").unwrap_or(&Value::Null);
    let processes = ciphers.get("processes").unwrap_or(&Value::Null);
    let messages = ciphers.get("messages").unwrap_or(&Value::Null);
    let _ = writeln!(
        out,
        "what {} processes encrypt themselves is looked into ({} cannot be, 32-bit or without a known library): of {} messages {} were found in what left, {} forgotten",
        number(processes, State::Watched.word()),
        [State::Bits32, State::NoLibrary, State::Refused]
            .iter()
            .fold(0_u64, |sum, state| sum.saturating_add(number(processes, state.word()))),
        number(messages, "seen"),
        number(messages, "joined"),
        number(messages, "forgotten"),
    );
    let rings = list(status, "rings");
    let fullest =
        rings.iter().map(|ring| percent(number(ring, "fullest"), number(ring, "bytes"))).max().unwrap_or(0);
    let lost = status.get("lost").unwrap_or(&Value::Null);
    let when =
        lost.get("last").and_then(Value::as_str).map(|last| format!(", last {last}")).unwrap_or_default();
    let _ = writeln!(
        out,
        "{} records read, {} lost{when}; the fullest of {} rings was {fullest} % full; {} connections open",
        number(status, "records"),
        number(lost, "records"),
        rings.len(),
        number(status, "connections"),
    );
    let failed = number(status, "failed_messages");
    if failed > 0 {
        let messages = if failed == 1 { "message" } else { "messages" };
        let _ =
            writeln!(out, "{failed} {messages} could not be taken apart: a decoder failed, please report it");
    }
    let path = status.get("memory").and_then(Value::as_str).and_then(MemoryPath::from_name);
    if let Some(costs) = path.and_then(MemoryPath::costs) {
        let _ = writeln!(out, "{costs}");
    }
    let coverage = status.get("coverage").unwrap_or(&Value::Null);
    let total = coverage.get("total").unwrap_or(&Value::Null);
    if number(total, "bytes") == 0 {
        out.push_str("nothing was sent yet that Telltale saw; that is not all clear\n");
        return out;
    }
    let _ = writeln!(out, "\nsent since then: {}", account(total));
    let apps = list(coverage, "apps");
    for app in apps.iter().take(SHOWN) {
        let name = app.get("app").and_then(Value::as_str).unwrap_or("?");
        let _ = writeln!(out, "{name}: {}", account(app));
        let destinations = list(app, "destinations");
        for one in destinations.iter().take(SHOWN_EACH) {
            let name = one.get("destination").and_then(Value::as_str).unwrap_or("?");
            let _ = writeln!(out, "  {name}: {}", account(one));
        }
        more(&mut out, "  ", destinations.len(), SHOWN_EACH);
    }
    more(&mut out, "", apps.len(), SHOWN);
    out
}

/// `2.1 MB, 34 % not readable: 700.0 kB quic, 12 B lost`.
fn account(parts: &Value) -> String {
    let whole = number(parts, "bytes");
    let unread: Vec<(&str, u64)> = parts
        .get("unread")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, bytes)| (name.as_str(), bytes.as_u64().unwrap_or(0)))
        .collect();
    if unread.is_empty() {
        return format!("{}, all of it readable", size(whole));
    }
    let sum = unread.iter().fold(0u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
    let content = whole.saturating_sub(number(parts, "tls_overhead"));
    let named: Vec<String> =
        unread.iter().map(|(name, bytes)| format!("{} {}", size(*bytes), said(name))).collect();
    format!("{}, {} % not readable: {}", size(whole), percent(sum, content), named.join(", "))
}

/// A reason in words; one that this version does not know by its name.
fn said(name: &str) -> &str {
    Reason::ALL.into_iter().find(|reason| reason.name() == name).map_or(name, |reason| reason.words())
}

fn more(out: &mut String, indent: &str, all: usize, shown: usize) {
    if all > shown {
        let _ = writeln!(out, "{indent}and {} more", all.saturating_sub(shown));
    }
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn percent(part: u64, whole: u64) -> u64 {
    crate::coverage::percent(part, whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn without_a_daemon_it_is_one_clear_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let options = StatusOptions { json: false, store: Some(folder.path().to_owned()) };
        let said = status(&options).unwrap_err().to_string();
        assert!(said.starts_with("Telltale is not running") && !said.contains('\n'), "{said}");
    }

    #[test]
    fn a_whole_answer_is_said_in_words() {
        let parts = json!({ "bytes": 3000, "read": 1000, "tls_overhead": 1000, "unread": { "quic": 990, "novel": 10 } });
        let mut app = parts.clone();
        app["app"] = "org.example".into();
        app["destinations"] = (0..5)
            .map(|n| {
                let mut one = json!({ "bytes": 10, "read": 10, "tls_overhead": 0, "unread": {} });
                one["destination"] = format!("{n}.example").into();
                one
            })
            .collect();
        let status = json!({
            "telltale": "1.2.3", "pid": 7, "since": "2026-11-21T10:00:00Z", "attach": "perf", "sends": "raw",
            "libraries": [{ "path": "/lib/libssl.so", "since": "2026-11-21T10:00:01Z" }], "unreadable": ["/lib32/libssl.so"],
            "on_probation": ["/app/libone.so"], "not_hooked": [{ "path": "/app/libtwo.so", "why": "unclear" }],
            "ciphers": { "processes": { "watched": 2, "32-bit": 1, "never": 9 }, "messages": { "seen": 9, "joined": 4, "forgotten": 3 } },
            "rings": [{ "cpu": 0, "bytes": 1000, "fullest": 420 }],
            "records": 12, "lost": { "records": 3, "last": "2026-11-21T10:05:00Z" }, "connections": 2,
            "failed_messages": 2, "memory": "ftrace",
            "coverage": { "total": parts, "apps": [app] },
        });
        let said = text(&status);
        for part in [
            "Telltale 1.2.3 runs since 2026-11-21T10:00:00Z (process 7); TLS hooked by perf, socket sends: raw\n",
            "1 TLS library hooked:\n  /lib/libssl.so since",
            "on probation, its own TLS: /app/libone.so\n",
            "not hooked, its own TLS: /app/libtwo.so: unclear\n",
            "what 2 processes encrypt themselves is looked into (1 cannot be",
            "of 9 messages 4 were found in what left, 3 forgotten\n",
            "not hooked, 32-bit: /lib32/libssl.so",
            "12 records read, 3 lost, last 2026-11-21T10:05:00Z; the fullest of 1 rings was 42 % full",
            "\n2 messages could not be taken apart",
            "\nthis kernel does not let programs read",
            "sent since then: 3.0 kB, 50 % not readable: 990 B QUIC, 10 B novel\n",
            "org.example: 3.0 kB",
            "  0.example: 10 B, all of it readable\n",
            "  and 2 more\n",
        ] {
            assert!(said.contains(part), "{part}\n{said}");
        }
        // Of another version, whatever it says.
        assert!(text(&json!({})).contains("not all clear"));
        assert!(
            text(&json!({ "libraries": 7, "coverage": { "total": { "bytes": 1, "unread": [] } } }))
                .contains("1 B")
        );
    }
}
