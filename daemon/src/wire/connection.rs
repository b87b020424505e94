//! One connection's sent bytes → messages: recognises the protocol by itself, follows when it changes, and finds its
//! way back after a gap.

use super::h2::frame::{Looks, looks};
use super::h2::{H2, PREFACE};
use super::http1::{Http1, Next, Upgrade, request_line};
use super::replay::drive;
use super::websocket::WebSocket;
use super::{End, Limits, Message};
use crate::stream::Chunk;

/// The parser of what one connection sent.
///
/// ```
/// use telltale::{stream::Chunk, wire::{Connection, Limits}};
///
/// let mut connection = Connection::new(Limits::default());
/// let mut sent = Vec::new();
/// connection.push(Chunk::Bytes(b"GET /a HTTP/1.1\r\nHost: Example.org\r\n\r\n"), &mut sent);
/// assert_eq!(sent[0].host.as_deref(), Some("example.org"));
/// ```
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    state: State,
}

/// What a connection speaks, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// Not enough bytes yet.
    Undecided,
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    H2,
    /// WebSocket.
    WebSocket,
    /// TLS, within a tunnel or from the beginning: nothing of it is readable here.
    Tls,
    /// No known protocol.
    Raw,
}

#[derive(Debug)]
enum State {
    /// Looking for something recognisable.
    Seek(Seek),
    Http1(Box<Http1>),
    H2(Box<H2>),
    WebSocket(Box<WebSocket>),
    Tls,
}

/// What the bytes of a seeking connection turned out to begin.
enum Found {
    Request(Vec<u8>),
    Tls,
    /// HTTP/2: from its preface on, or joined late.
    H2 {
        late: bool,
        frames: Vec<u8>,
    },
}

/// Bytes that are not placed yet.
#[derive(Debug, Default)]
struct Seek {
    held: Vec<u8>,
    /// Up to here no request starts.
    searched: usize,
    /// Nothing was decided yet: the bytes may still turn out to be the start of a known protocol.
    at_start: bool,
    /// Bytes were lost before these.
    after_gap: bool,
    host: Option<String>,
}

impl Connection {
    /// A connection of which nothing was seen yet. It may be joined in the middle.
    pub fn new(limits: Limits) -> Self {
        Connection { limits, state: State::Seek(Seek { at_start: true, ..Seek::default() }) }
    }

    /// Takes the next chunk and appends the messages it completes.
    ///
    /// On [`Chunk::Gap`] and [`Chunk::End`] what is unfinished comes out with [`End::Cut`]. After a gap of known size inside
    /// a body the place is still known; the bytes after the hole come out as a `Raw` message of their own.
    pub fn push(&mut self, chunk: Chunk<'_>, out: &mut Vec<Message>) {
        match chunk {
            Chunk::Bytes(bytes) => self.feed(bytes, out),
            Chunk::Gap(lost) => match &mut self.state {
                State::Seek(seek) => {
                    seek.emit_all(true, out);
                    seek.at_start = false;
                    seek.after_gap = true;
                }
                State::H2(h2) => h2.gap(lost, out),
                State::WebSocket(socket) => socket.gap(lost, out),
                State::Tls => {}
                State::Http1(http) => {
                    if !http.gap(lost, out) {
                        let host = http.host().map(str::to_owned);
                        self.state = State::Seek(Seek { host, after_gap: true, ..Seek::default() });
                    }
                }
            },
            Chunk::End => match &mut self.state {
                State::Seek(seek) => seek.emit_all(false, out),
                State::Http1(http) => http.end(out),
                State::H2(h2) => h2.end(out),
                State::WebSocket(socket) => socket.end(out),
                State::Tls => {}
            },
        }
    }

    /// Hands out bytes of no known protocol without waiting for [`Limits::raw`] of them. To be called where the sender paused
    /// or one send was whole: only there does a message of an unknown protocol end.
    pub fn flush(&mut self, out: &mut Vec<Message>) {
        if let State::Http1(http) = &mut self.state
            && let Next::Lost(held) = http.flush()
        {
            let host = http.host().map(str::to_owned);
            self.state = State::Seek(Seek { host, held, ..Seek::default() });
        }
        match &mut self.state {
            State::Seek(seek) if seek.at_start && request_line::could_be_request(&seek.held) => {}
            State::Seek(seek) => seek.emit_all(false, out),
            State::H2(h2) => h2.flush(out),
            State::Http1(_) | State::WebSocket(_) | State::Tls => {}
        }
    }

    /// Whether a message or a decision is unfinished.
    pub fn pending(&self) -> bool {
        match &self.state {
            State::Seek(seek) => !seek.held.is_empty(),
            State::Http1(http) => !http.idle(),
            State::H2(h2) => !h2.idle(),
            State::WebSocket(socket) => !socket.idle(),
            State::Tls => false,
        }
    }

    /// Bytes held in memory for this connection, for a bound over all connections.
    pub fn held(&self) -> usize {
        match &self.state {
            State::Seek(seek) => seek.held.len(),
            State::Http1(http) => http.held(),
            State::H2(h2) => h2.held(),
            State::WebSocket(socket) => socket.held(),
            State::Tls => 0,
        }
    }

    /// What the connection speaks now.
    pub fn speaks(&self) -> Speaks {
        match &self.state {
            State::Seek(seek) if seek.at_start => Speaks::Undecided,
            State::Seek(_) => Speaks::Raw,
            State::Http1(_) => Speaks::Http1,
            State::H2(_) => Speaks::H2,
            State::WebSocket(_) => Speaks::WebSocket,
            State::Tls => Speaks::Tls,
        }
    }

    fn feed(&mut self, bytes: &[u8], out: &mut Vec<Message>) {
        drive(bytes, |piece| self.step(piece, out));
    }

    fn step(&mut self, bytes: &[u8], out: &mut Vec<Message>) -> (usize, Option<Vec<u8>>) {
        match &mut self.state {
            State::Tls => (bytes.len(), None),
            State::Seek(seek) => {
                let (used, found) = seek.push(bytes, self.limits, out);
                let carry = match found {
                    None => None,
                    Some(Found::Request(carry)) => {
                        self.state = State::Http1(Box::new(Http1::new(self.limits)));
                        Some(carry)
                    }
                    Some(Found::Tls) => {
                        self.state = State::Tls;
                        None
                    }
                    Some(Found::H2 { late, frames }) => {
                        self.state = State::H2(Box::new(H2::new(self.limits, late)));
                        Some(frames)
                    }
                };
                (used, carry)
            }
            State::H2(h2) => h2.push(bytes, out),
            State::WebSocket(socket) => {
                let (used, carry) = socket.push(bytes, out);
                if carry.as_ref().is_some_and(|c| !c.is_empty()) {
                    let host = socket.host().map(str::to_owned);
                    self.state = State::Seek(Seek { host, ..Seek::default() });
                }
                (used, carry)
            }
            State::Http1(http) => {
                let (used, next) = http.push(bytes, out);
                let host = http.host().map(str::to_owned);
                let carry = match next {
                    Next::Stay => None,
                    Next::Replay(held) => Some(held),
                    Next::Lost(held) => {
                        let after_gap = http.proven();
                        self.state = State::Seek(Seek { host, after_gap, ..Seek::default() });
                        Some(held)
                    }
                    Next::Tunnel => {
                        self.state = State::Seek(Seek { host, at_start: true, ..Seek::default() });
                        None
                    }
                    Next::Upgraded(upgrade, held) => {
                        self.upgrade(&upgrade, host);
                        Some(held)
                    }
                };
                (used, carry)
            }
        }
    }

    fn upgrade(&mut self, upgrade: &Upgrade, host: Option<String>) {
        let at_start = upgrade.to.contains("h2c");
        self.state = if upgrade.to.contains("websocket") {
            State::WebSocket(Box::new(WebSocket::new(self.limits, upgrade, host)))
        } else {
            State::Seek(Seek { host, at_start, ..Seek::default() })
        };
    }
}

/// Whether bytes begin a TLS stream: a handshake record of version 3.x (RFC 8446 section 5.1) that holds a ClientHello (section 4).
fn looks_like_tls(bytes: &[u8]) -> Looks {
    match bytes {
        [0x16, 3, 0..=4, _, _, 1, ..] => Looks::Yes,
        [] | [0x16] | [0x16, 3] | [0x16, 3, 0..=4] | [0x16, 3, 0..=4, _] | [0x16, 3, 0..=4, _, _] => {
            Looks::Open
        }
        _ => Looks::No,
    }
}

impl Seek {
    /// Takes bytes and says how many; gives back those that a known protocol starts with.
    fn push(&mut self, bytes: &[u8], limits: Limits, out: &mut Vec<Message>) -> (usize, Option<Found>) {
        // No more than the limit at a time, so that the messages do not depend on how the bytes were cut.
        let room = limits.raw.max(64).saturating_sub(self.held.len()).max(1).min(bytes.len());
        self.held.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        (room, self.recognise(limits, out))
    }

    fn recognise(&mut self, limits: Limits, out: &mut Vec<Message>) -> Option<Found> {
        if self.at_start {
            if PREFACE.starts_with(&self.held) && self.held.len() < PREFACE.len() {
                return None;
            }
            if self.held.starts_with(PREFACE) {
                let frames = self.held.split_off(PREFACE.len());
                return Some(Found::H2 { late: false, frames });
            }
            match looks_like_tls(&self.held) {
                Looks::Yes => {
                    self.held.clear();
                    return Some(Found::Tls);
                }
                Looks::Open => return None,
                Looks::No => {}
            }
            match looks(&self.held) {
                Looks::Yes => return Some(Found::H2 { late: true, frames: std::mem::take(&mut self.held) }),
                Looks::Open => return None,
                Looks::No => {}
            }
            // Hand over as soon as a method and a blank are there: the parser gives back what is no request line.
            if request_line::shows_method(&self.held) {
                return Some(Found::Request(std::mem::take(&mut self.held)));
            }
            if request_line::could_be_request(&self.held) {
                return None;
            }
            self.at_start = false;
        }
        if let Some(at) = request_line::find_request(&self.held, self.searched) {
            let request = self.held.split_off(at);
            self.emit_all(false, out);
            return Some(Found::Request(request));
        }
        // A version cut in two must be found with the next bytes.
        self.searched = self.held.len().saturating_sub(12);
        if self.held.len() >= limits.raw.max(64) {
            let keep = request_line::unfinished_request(&self.held);
            let keep = if keep == 0 { self.held.len() } else { keep };
            let tail = self.held.split_off(keep);
            self.emit_all(false, out);
            self.held = tail;
            self.searched = 0;
        }
        None
    }

    fn emit_all(&mut self, cut: bool, out: &mut Vec<Message>) {
        let body = std::mem::take(&mut self.held);
        self.searched = 0;
        if body.is_empty() {
            return;
        }
        let end = if cut || self.after_gap { End::Cut } else { End::Complete };
        self.after_gap = false;
        let body_len = body.len() as u64;
        out.push(Message { host: self.host.clone(), body, body_len, end, ..Message::default() });
    }
}
