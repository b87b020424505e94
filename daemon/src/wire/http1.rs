//! HTTP/1.0 and 1.1 requests (RFC 9112) as clients really send them: strict where framing depends on it, lenient
//! everywhere else, because the aim is to say what was sent and not to police it.
//!
//! The head is read line by line as it arrives, so that a request comes out the same however it was cut into writes.
//! `httparse` was tried for this and is in the way: it wants the whole head at once, refuses folded fields and bad names in
//! requests, and gives no position to go on from.

pub(super) mod request_line;

use memchr::memchr;
use request_line::{LINE_MAX, RequestLine, could_be_request, starts_with_method};

use super::authority::{absolute, host_of, text_of};
use super::{End, Limits, Message, Protocol};

/// What the connection has to do after the bytes that were taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Go on.
    Stay,
    /// Feed these bytes again: they were held until it was known what they are.
    Replay(Vec<u8>),
    /// These bytes are no request; find out what they are.
    Lost(Vec<u8>),
    /// These bytes begin another protocol, after an upgrade to the named one.
    Upgraded(Upgrade, Vec<u8>),
    /// A tunnel begins: anything may follow.
    Tunnel,
}

/// What a request asked to change the connection to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upgrade {
    /// Lower-case `Upgrade` value.
    pub(super) to: String,
    /// Whether `permessage-deflate` was offered (RFC 7692).
    pub(super) deflate: bool,
    /// Path and query of the request.
    pub(super) target: String,
}

/// How the body that follows a head is delimited (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilEnd,
    Broken,
}

/// Whether the message is only what came after a gap in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Whole,
    Tail,
    /// The tail of a compressed body: it says nothing.
    Unreadable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    RequestLine,
    Fields,
    /// `Expect: 100-continue`: the body, or the next request if the server refused it.
    Expecting,
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    UntilEnd,
    /// An upgrade was asked for: the new protocol, or the next request if the server went on with HTTP.
    Upgrading,
}

/// The parser of one direction of one connection.
#[derive(Debug)]
pub(super) struct Http1 {
    limits: Limits,
    phase: Phase,
    /// The unfinished line, or the bytes held while it is open what they are.
    line: Vec<u8>,
    /// Whether bytes of that line were dropped.
    line_cut: bool,
    message: Message,
    /// Bytes of head kept so far.
    kept: usize,
    framing: Framing,
    length_seen: Option<u64>,
    expect: bool,
    upgrade: Option<String>,
    deflate: bool,
    rest: Rest,
    /// A request line was read: it is this protocol.
    proven: bool,
    /// The last host asked, which is that of bytes that cannot be placed.
    last_host: Option<String>,
}

impl Http1 {
    pub(super) fn new(limits: Limits) -> Self {
        Http1 {
            limits,
            phase: Phase::RequestLine,
            line: Vec::new(),
            line_cut: false,
            message: Message::default(),
            kept: 0,
            framing: Framing::None,
            length_seen: None,
            expect: false,
            upgrade: None,
            deflate: false,
            rest: Rest::Whole,
            proven: false,
            last_host: None,
        }
    }

    /// Whether any request was seen.
    pub(super) fn proven(&self) -> bool {
        self.proven
    }

    /// The host of the last request.
    pub(super) fn host(&self) -> Option<&str> {
        self.last_host.as_deref()
    }

    /// Bytes held in memory.
    pub(super) fn held(&self) -> usize {
        self.line.len().saturating_add(self.kept).saturating_add(self.message.body.len())
    }

    /// Whether nothing is unfinished.
    pub(super) fn idle(&self) -> bool {
        matches!(self.phase, Phase::RequestLine | Phase::Upgrading) && self.line.is_empty()
    }

    /// Takes bytes, says how many and what follows.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<Message>) -> (usize, Next) {
        match self.phase {
            Phase::RequestLine | Phase::Fields | Phase::Trailers => {
                self.take_line(bytes, self.limits.head, out)
            }
            Phase::ChunkSize | Phase::ChunkEnd => self.take_line(bytes, LINE_MAX, out),
            Phase::Body(left) => {
                let used = self.take_body(bytes, left);
                let left = left.saturating_sub(used as u64);
                self.phase = Phase::Body(left);
                if left == 0 {
                    self.finish(out);
                }
                (used, Next::Stay)
            }
            Phase::ChunkData(left) => {
                let used = self.take_body(bytes, left);
                let left = left.saturating_sub(used as u64);
                self.phase = if left == 0 { Phase::ChunkEnd } else { Phase::ChunkData(left) };
                (used, Next::Stay)
            }
            Phase::UntilEnd => (self.take_body(bytes, u64::MAX), Next::Stay),
            Phase::Expecting | Phase::Upgrading => self.probe(bytes, out),
        }
    }

    /// Bytes were lost. True when the place in the stream is still known.
    pub(super) fn gap(&mut self, lost: u64, out: &mut Vec<Message>) -> bool {
        let left = match self.phase {
            Phase::Body(left) | Phase::ChunkData(left) if lost > 0 && lost <= left => left - lost,
            Phase::UntilEnd => u64::MAX,
            _ => {
                self.end(out);
                return false;
            }
        };
        // What comes after the hole belongs to the same body but not to the same piece of it: a message of its own.
        let encoded = self.message.header("content-encoding").is_some_and(|v| v != b"identity");
        self.emit(End::Cut, out);
        if self.rest == Rest::Whole {
            self.rest = if encoded { Rest::Unreadable } else { Rest::Tail };
        }
        match (&mut self.phase, left) {
            (Phase::Body(_), 0) => self.finish(out),
            (Phase::ChunkData(_), 0) => self.phase = Phase::ChunkEnd,
            (Phase::Body(l) | Phase::ChunkData(l), _) => *l = left,
            _ => {}
        }
        true
    }

    /// The connection is over (or lost): hands out what is unfinished.
    pub(super) fn end(&mut self, out: &mut Vec<Message>) {
        match self.phase {
            Phase::UntilEnd => self.finish(out),
            Phase::RequestLine | Phase::Upgrading => {
                let line = std::mem::take(&mut self.line);
                if !line.is_empty() {
                    out.push(self.unplaced(line));
                }
            }
            Phase::Fields => {
                let line = std::mem::take(&mut self.line);
                self.field(&line);
                self.place();
                self.emit(End::Cut, out);
            }
            Phase::Expecting => {
                let held = std::mem::take(&mut self.line);
                self.take_body(&held, u64::MAX);
                self.emit(End::Cut, out);
            }
            Phase::Body(_) | Phase::ChunkSize | Phase::ChunkData(_) | Phase::ChunkEnd | Phase::Trailers => {
                self.emit(End::Cut, out);
            }
        }
        self.restart();
    }

    fn unplaced(&self, body: Vec<u8>) -> Message {
        let body_len = body.len() as u64;
        Message { host: self.last_host.clone(), body, body_len, end: End::Cut, ..Message::default() }
    }

    fn restart(&mut self) {
        self.phase = Phase::RequestLine;
        self.line.clear();
        self.line_cut = false;
        self.message = Message::default();
        self.kept = 0;
        self.framing = Framing::None;
        self.length_seen = None;
        self.expect = false;
        self.upgrade = None;
        self.deflate = false;
        self.rest = Rest::Whole;
    }

    /// Hands the message out; it never claims more than was seen.
    fn emit(&mut self, end: End, out: &mut Vec<Message>) {
        let mut message = std::mem::take(&mut self.message);
        self.kept = 0;
        if self.rest != Rest::Whole {
            if message.body.is_empty() {
                return;
            }
            message.protocol = Protocol::Raw;
            message.host.clone_from(&self.last_host);
            message.end = End::Cut;
        } else if message.end != End::Limit || end == End::Cut {
            message.end = end;
        }
        out.push(message);
    }

    fn finish(&mut self, out: &mut Vec<Message>) {
        self.emit(End::Complete, out);
        self.restart();
    }

    fn take_body(&mut self, bytes: &[u8], left: u64) -> usize {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let taken = bytes.get(..take).unwrap_or(bytes);
        let room = match self.rest {
            Rest::Unreadable => 0,
            _ => self.limits.body.saturating_sub(self.message.body.len()),
        };
        self.message.body.extend_from_slice(taken.get(..room).unwrap_or(taken));
        self.message.body_len = self.message.body_len.saturating_add(taken.len() as u64);
        if taken.len() > room {
            self.message.end = End::Limit;
        }
        taken.len()
    }

    fn take_line(&mut self, bytes: &[u8], limit: usize, out: &mut Vec<Message>) -> (usize, Next) {
        let (piece, complete) = match memchr(b'\n', bytes) {
            Some(at) => (bytes.get(..=at).unwrap_or(bytes), true),
            None => (bytes, false),
        };
        let room = limit.saturating_sub(self.line.len());
        // First what there is room for: an overlong line may turn out to be no request, and then no byte of it is dropped.
        let (piece, complete) = match piece.get(..room) {
            Some(fits) if room > 0 && fits.len() < piece.len() => (fits, false),
            _ => (piece, complete),
        };
        match room {
            0 => self.line_cut = true,
            _ => self.line.extend_from_slice(piece),
        }
        if self.phase == Phase::RequestLine && !self.may_be_request() {
            return (piece.len(), self.lost());
        }
        if !complete {
            return (piece.len(), Next::Stay);
        }
        let line = std::mem::take(&mut self.line);
        let next = self.on_line(&line, out);
        self.line_cut = false;
        (piece.len(), next)
    }

    /// An unknown method is waited for only as long as the line is short: it may be another protocol's text.
    fn may_be_request(&self) -> bool {
        could_be_request(&self.line)
            && (self.line.len() < LINE_MAX.min(self.limits.head) || starts_with_method(&self.line))
    }

    /// The sender paused: gives back what it held of a line that begins with no known method.
    pub(super) fn flush(&mut self) -> Next {
        match self.phase {
            Phase::RequestLine if !self.line.is_empty() && !starts_with_method(&self.line) => self.lost(),
            _ => Next::Stay,
        }
    }

    fn lost(&mut self) -> Next {
        let line = std::mem::take(&mut self.line);
        self.restart();
        Next::Lost(line)
    }

    fn on_line(&mut self, whole: &[u8], out: &mut Vec<Message>) -> Next {
        let line = trim_eol(whole);
        match self.phase {
            // Empty lines before a request are to be skipped (RFC 9112 section 2.2).
            Phase::RequestLine if line.is_empty() => Next::Stay,
            Phase::RequestLine => {
                let Some(request) = RequestLine::parse(line, self.line_cut) else {
                    self.line = whole.to_vec();
                    return self.lost();
                };
                self.proven = true;
                self.message.protocol = Protocol::Http1;
                self.message.method = text_of(request.method);
                self.message.target = text_of(request.target);
                if self.line_cut {
                    self.message.end = End::Limit;
                }
                self.kept = line.len();
                self.phase = Phase::Fields;
                Next::Stay
            }
            Phase::Fields if !line.is_empty() => {
                self.field(line);
                Next::Stay
            }
            Phase::Fields => self.head_done(out),
            Phase::ChunkSize => match chunk_size(line) {
                Some(0) => {
                    self.phase = Phase::Trailers;
                    Next::Stay
                }
                Some(size) => {
                    self.phase = Phase::ChunkData(size);
                    Next::Stay
                }
                None => {
                    self.emit(End::Cut, out);
                    self.line = whole.to_vec();
                    self.lost()
                }
            },
            Phase::ChunkEnd if line.is_empty() => {
                self.phase = Phase::ChunkSize;
                Next::Stay
            }
            Phase::ChunkEnd => {
                self.emit(End::Cut, out);
                self.line = whole.to_vec();
                self.lost()
            }
            Phase::Trailers if line.is_empty() => {
                self.finish(out);
                Next::Stay
            }
            Phase::Trailers => {
                self.keep_field(line);
                Next::Stay
            }
            _ => Next::Stay,
        }
    }

    /// One header field line; a line that starts with white space goes on with the field before (RFC 9112 section 5.2).
    fn field(&mut self, line: &[u8]) {
        let line = trim_eol(line);
        if line.first().is_some_and(|b| matches!(b, b' ' | b'\t')) {
            let more = trim(line);
            if let Some((name, value)) = self.message.headers.last_mut()
                && self.kept.saturating_add(more.len()) < self.limits.head
            {
                if !value.is_empty() && !more.is_empty() {
                    value.push(b' ');
                }
                value.extend_from_slice(more);
                self.kept = self.kept.saturating_add(more.len()).saturating_add(1);
                let (name, value) = (name.clone(), value.clone());
                self.notice(name.as_bytes(), &value);
            }
            return;
        }
        let Some((name, value)) = split_field(line) else { return };
        self.notice(&name.to_ascii_lowercase(), value);
        self.keep_field(line);
    }

    fn keep_field(&mut self, line: &[u8]) {
        let Some((name, value)) = split_field(line) else { return };
        let size = name.len().saturating_add(value.len());
        if self.message.headers.len() >= self.limits.fields
            || self.kept.saturating_add(size) > self.limits.head
            || self.line_cut
        {
            self.message.end = End::Limit;
            return;
        }
        self.kept = self.kept.saturating_add(size);
        self.message.headers.push((text_of(&name.to_ascii_lowercase()), value.to_vec()));
    }

    /// Fields that decide how the connection goes on; looked at even when they are not kept any more.
    fn notice(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"content-length" => {
                // A list of equal values counts once (RFC 9112 section 6.3); anything else cannot be framed.
                for item in value.split(|&b| b == b',').map(trim) {
                    let parsed = std::str::from_utf8(item)
                        .ok()
                        .filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()))
                        .and_then(|t| t.parse::<u64>().ok());
                    if self.framing == Framing::Chunked || self.framing == Framing::UntilEnd {
                        break;
                    }
                    self.framing = match (parsed, self.length_seen) {
                        (Some(new), Some(old)) if new != old => Framing::Broken,
                        (Some(new), _) => {
                            self.length_seen = Some(new);
                            Framing::Length(new)
                        }
                        (None, _) => Framing::Broken,
                    };
                }
            }
            b"transfer-encoding" => {
                let last = value.rsplit(|&b| b == b',').next().map(trim).unwrap_or_default();
                self.framing = if last.eq_ignore_ascii_case(b"chunked") {
                    Framing::Chunked
                } else if last.eq_ignore_ascii_case(b"identity") {
                    self.framing
                } else {
                    Framing::UntilEnd
                };
            }
            b"expect" => self.expect = value.to_ascii_lowercase().starts_with(b"100-continue"),
            b"upgrade" => self.upgrade = Some(text_of(value).to_lowercase()),
            b"sec-websocket-extensions" => {
                self.deflate |= text_of(value).to_ascii_lowercase().contains("permessage-deflate");
            }
            _ => {}
        }
    }

    /// Host and target in their final form.
    fn place(&mut self) {
        let sent = std::mem::take(&mut self.message.target);
        let mut host = None;
        if self.message.method == "CONNECT" {
            host = host_of(sent.as_bytes());
            self.message.target = sent;
        } else if let Some((authority, path)) = absolute(sent.as_bytes()) {
            host = host_of(authority);
            let path = text_of(path);
            self.message.target = if path.starts_with('/') { path } else { format!("/{path}") };
        } else {
            self.message.target = sent;
        }
        // The target's authority takes precedence over the field (RFC 9112 section 3.2.2).
        self.message.host = host.or_else(|| self.message.header("host").and_then(host_of));
        if self.message.host.is_some() {
            self.last_host.clone_from(&self.message.host);
        }
    }

    fn head_done(&mut self, out: &mut Vec<Message>) -> Next {
        self.place();
        let upgrade = self.upgrade.take();
        let deflate = std::mem::take(&mut self.deflate);
        if self.message.method == "CONNECT" {
            self.finish(out);
            return Next::Tunnel;
        }
        let target = self.message.target.clone();
        match self.framing {
            Framing::None | Framing::Length(0) => {
                self.finish(out);
                if let Some(to) = upgrade {
                    self.upgrade = Some(to);
                    self.deflate = deflate;
                    self.message.target = target;
                    self.phase = Phase::Upgrading;
                }
            }
            Framing::Broken => {
                self.emit(End::Cut, out);
                return self.lost();
            }
            Framing::UntilEnd => self.phase = Phase::UntilEnd,
            Framing::Length(_) | Framing::Chunked if self.expect => self.phase = Phase::Expecting,
            Framing::Length(length) => self.phase = Phase::Body(length),
            Framing::Chunked => self.phase = Phase::ChunkSize,
        }
        Next::Stay
    }

    /// Holds bytes until it is known whether they begin another request.
    fn probe(&mut self, bytes: &[u8], out: &mut Vec<Message>) -> (usize, Next) {
        let (piece, complete) = match memchr(b'\n', bytes) {
            Some(at) => (bytes.get(..=at).unwrap_or(bytes), true),
            None => (bytes, false),
        };
        let room = LINE_MAX.saturating_sub(self.line.len());
        let piece = piece.get(..room).unwrap_or(piece);
        self.line.extend_from_slice(piece);
        let full = self.line.len() >= LINE_MAX;
        let open = starts_with_method(&self.line) && could_be_request(&self.line);
        if open && !complete && !full {
            return (piece.len(), Next::Stay);
        }
        let is_request = open && RequestLine::parse(trim_eol(&self.line), full).is_some();
        let held = std::mem::take(&mut self.line);
        let next = match (self.phase, is_request) {
            (Phase::Expecting, true) => {
                self.emit(End::Cut, out);
                self.restart();
                Next::Replay(held)
            }
            (Phase::Expecting, false) => {
                self.phase = match self.framing {
                    Framing::Length(length) => Phase::Body(length),
                    _ => Phase::ChunkSize,
                };
                Next::Replay(held)
            }
            (_, true) => {
                self.upgrade = None;
                self.restart();
                Next::Replay(held)
            }
            (_, false) => {
                let upgrade = Upgrade {
                    to: self.upgrade.take().unwrap_or_default(),
                    deflate: self.deflate,
                    target: std::mem::take(&mut self.message.target),
                };
                Next::Upgraded(upgrade, held)
            }
        };
        (piece.len(), next)
    }
}

/// Chunk size in hexadecimal; extensions after `;` and blanks are let through (RFC 9112 section 7.1.1).
fn chunk_size(line: &[u8]) -> Option<u64> {
    let size = trim(line.split(|&b| b == b';').next()?);
    let size = std::str::from_utf8(size).ok().filter(|t| t.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u64::from_str_radix(size, 16).ok()
}

fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr(b':', line)?;
    let (name, value) = line.split_at_checked(colon)?;
    let name = trim(name);
    (!name.is_empty()).then(|| (name, trim(value.get(1..).unwrap_or_default())))
}

fn trim_eol(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

#[cfg(test)]
mod tests;
