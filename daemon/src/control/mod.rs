//! The control socket: how commands ask the running daemon. A stream of the UNIX domain, for root alone, never the network.
//!
//! It lies in the store's folder ([`FILE`], 0600 in a folder of 0700); without a store it has the abstract name
//! [`ABSTRACT`]. Whoever connects is asked for by the kernel (`SO_PEERCRED`) and turned away unless it is root.
//!
//! A client sends one line of at most [`LONGEST`] bytes: a word, then what belongs to it behind one space, then a line feed.
//! The daemon answers in JSON lines and closes. What it cannot do it answers with `{"error":"…"}`.
//!
//! | request | answer |
//! | --- | --- |
//! | `status` | one object: what is hooked, since when, what was lost, what is read and what is not |
//! | `watch` | an object for every alert from now on, unmasked, until either side closes |
//!
//! A further request is a row here, a variant of [`Request`] and an arm in the loop of `run/mod.rs`.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

/// The socket's name in the store's folder.
pub const FILE: &str = "control";
/// Its abstract name where nothing is stored.
pub const ABSTRACT: &[u8] = b"telltale-control";
/// The longest request, with its line feed.
pub const LONGEST: usize = 512;

/// Where the daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A file.
    File(PathBuf),
    /// A name without a file.
    Abstract,
}

impl Address {
    /// With this store, or none.
    pub fn of(store: Option<&Path>) -> Address {
        store.map_or(Address::Abstract, |folder| Address::File(folder.join(FILE)))
    }
}

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// How it goes.
    Status,
    /// Every alert from now on.
    Watch,
}

/// Why a request is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No line feed within [`LONGEST`].
    #[error("a request is one line of at most {LONGEST} bytes")]
    TooLong,
    /// Not text, or with control bytes in it.
    #[error("a request is plain text")]
    NotText,
    /// A word nobody knows.
    #[error("{0:?} is no request; there are: status, watch")]
    Unknown(String),
    /// Something behind a word that takes nothing.
    #[error("{0} takes nothing behind it")]
    Surplus(&'static str),
}

impl Request {
    /// Reads the request that `bytes` begin with; none when its line is not whole. What follows the line is of no interest.
    ///
    /// # Errors
    /// [`RequestError`], to be told to the client.
    pub fn parse(bytes: &[u8]) -> Result<Option<Request>, RequestError> {
        let head = bytes.get(..LONGEST).unwrap_or(bytes);
        let Some(end) = head.iter().position(|byte| *byte == b'\n') else {
            return if bytes.len() >= LONGEST { Err(RequestError::TooLong) } else { Ok(None) };
        };
        let line = head.get(..end).unwrap_or_default();
        let line = std::str::from_utf8(line).map_err(|_| RequestError::NotText)?;
        if line.chars().any(char::is_control) {
            return Err(RequestError::NotText);
        }
        let (word, rest) = line.split_once(' ').map_or((line, None), |(word, rest)| (word, Some(rest)));
        let alone =
            |request, name| if rest.is_some() { Err(RequestError::Surplus(name)) } else { Ok(Some(request)) };
        match word {
            "status" => alone(Request::Status, "status"),
            "watch" => alone(Request::Watch, "watch"),
            other => Err(RequestError::Unknown(other.chars().take(32).collect())),
        }
    }

    /// As it is sent.
    pub fn line(&self) -> String {
        match self {
            Request::Status => "status\n".to_owned(),
            Request::Watch => "watch\n".to_owned(),
        }
    }
}

/// How a refusal is answered.
pub fn refusal(why: &str) -> String {
    serde_json::json!({ "error": why }).to_string() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_when_its_line_is_whole_and_not_before() {
        for request in [Request::Status, Request::Watch] {
            let line = request.line();
            for end in 0..line.len() {
                assert_eq!(Request::parse(&line.as_bytes()[..end]), Ok(None), "{end}");
            }
            assert_eq!(Request::parse(line.as_bytes()), Ok(Some(request.clone())));
            let more = format!("{line}and what follows");
            assert_eq!(Request::parse(more.as_bytes()), Ok(Some(request)));
        }
    }

    #[test]
    fn what_is_no_request_is_refused_in_words() {
        for (bytes, part) in [
            (&b"\n"[..], "\"\" is no request"),
            (b"reboot\n", "\"reboot\""),
            (b"STATUS\n", "is no request"),
            (b"status now\n", "takes nothing"),
            (b"status\r\n", "plain text"),
            (b"sta\0tus\n", "plain text"),
            (b"\xff\xfe\n", "plain text"),
            (&[b'a'; LONGEST], "at most 512 bytes"),
        ] {
            let error = Request::parse(bytes).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            assert!(refusal(&error).ends_with("\"}\n"));
        }
        let long = [vec![b'a'; LONGEST - 1], b"\n".to_vec()].concat();
        let error = Request::parse(&long).unwrap_err().to_string();
        assert!(error.len() < 100, "{error}");
    }

    #[test]
    fn it_lies_in_the_store_or_has_an_abstract_name() {
        assert_eq!(Address::of(Some(Path::new("/s"))), Address::File("/s/control".into()));
        assert_eq!(Address::of(None), Address::Abstract);
    }
}
