//! One connection's account: every byte of it in one part.

use super::{Parts, Reason};
use crate::{
    record::{Body, Carrier, ConnectionId, Ended, Event, Piece},
    wire::quic,
};

/// What a socket's first bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Unknown,
    Clear,
    Tls,
    Quic,
}

/// HTTP/3's port (RFC 9114 section 3.1): a datagram in the middle of QUIC has nothing else to tell it by.
const QUIC_PORT: u16 = 443;

/// What the records of one connection come to.
#[derive(Debug)]
pub(super) struct Connection {
    class: Class,
    datagrams: bool,
    port: Option<u16>,
    /// Bytes sent, as far as is known, and of these not taken on purpose.
    sent: u64,
    skipped: u64,
    /// What of both was accounted for before: it was given up and came back.
    before: Ended,
    /// Its end was told.
    closed: bool,
    /// Taken.
    read: u64,
    /// Beyond what is taken of one send.
    over: u64,
    unreadable: u64,
    /// Where a piece that could not be read begins, until the next one shows where it ends.
    hole: Option<u64>,
    /// It was asked about, so that what went before the first piece was sent too early to be read.
    asked: bool,
    first: Option<u64>,
    /// Its process is a 32-bit one.
    is_32_bit: bool,
    /// Its content is not looked at.
    pub(super) is_other_users: bool,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, before: Ended) -> Connection {
        let socket = id.socket();
        Connection {
            // What a TLS library was handed is plaintext.
            class: if socket.is_some() { Class::Unknown } else { Class::Clear },
            datagrams: socket.is_some_and(|socket| socket.carrier == Carrier::Datagram),
            port: None,
            sent: before.sent,
            skipped: before.skipped,
            before,
            closed: false,
            read: 0,
            over: 0,
            unreadable: 0,
            hole: None,
            asked: false,
            first: None,
            is_32_bit: socket.is_some_and(|socket| socket.by_32_bit),
            is_other_users: false,
        }
    }

    /// Takes in a record, in whatever order they come.
    pub(super) fn take(&mut self, event: &Event) {
        match &event.body {
            Body::TlsWrite(piece) | Body::SocketSend(piece) => self.piece(piece),
            Body::SocketUnknown => self.asked = true,
            Body::SocketPeer(Some(peer)) => self.port = Some(peer.port()),
            Body::TlsFree(ended) | Body::SocketClose(ended) => {
                self.closed = true;
                self.counted(*ended);
            }
            _ => {}
        }
    }

    /// The programs' own count. It only ever grows: an older one changes nothing.
    pub(super) fn counted(&mut self, ended: Ended) {
        self.sent = self.sent.max(ended.sent);
        self.skipped = self.skipped.max(ended.skipped);
    }

    fn piece(&mut self, piece: &Piece) {
        let len = piece.bytes.len() as u64;
        let begins = piece.start.saturating_add(piece.offset);
        self.sent = self.sent.max(piece.start.saturating_add(piece.total));
        self.first = Some(self.first.map_or(piece.start, |first| first.min(piece.start)));
        if let Some(hole) = self.hole.take() {
            self.unreadable = self.unreadable.saturating_add(begins.saturating_sub(hole));
        }
        let rest = piece.total.saturating_sub(piece.offset.saturating_add(len));
        match (len, piece.last) {
            (0, true) => self.unreadable = self.unreadable.saturating_add(rest),
            (0, false) => self.hole = Some(begins),
            (_, true) => self.over = self.over.saturating_add(rest),
            (_, false) => {}
        }
        self.read = self.read.saturating_add(len);
        if self.class == Class::Unknown && len > 0 {
            self.class = self.class_of(&piece.bytes);
        }
    }

    fn class_of(&self, bytes: &[u8]) -> Class {
        match bytes {
            _ if self.datagrams && quic::looks_like_initial(bytes) => Class::Quic,
            // A short header has 01 at the top (RFC 9000 section 17.3.1).
            [first, ..] if self.datagrams && self.port == Some(QUIC_PORT) && first >> 6 == 1 => Class::Quic,
            // A record's type and major version (RFC 8446 section 5.1).
            [20..=23, 3, ..] if !self.datagrams => Class::Tls,
            _ => Class::Clear,
        }
    }

    /// Bytes handed on, whatever became of them.
    pub(super) fn sent(&self) -> u64 {
        self.sent.saturating_sub(self.before.sent)
    }

    fn skipped(&self) -> u64 {
        self.skipped.saturating_sub(self.before.skipped)
    }

    /// The counts to go on from, when more of it may come.
    pub(super) fn resumable(&self) -> Option<Ended> {
        (!self.closed && self.sent > 0).then_some(Ended { sent: self.sent, skipped: self.skipped })
    }

    /// Its parts, when nothing is known of what it carries.
    pub(super) fn parts(&self) -> Parts {
        match self.class {
            Class::Tls if self.is_32_bit => Parts::unread(Reason::Tls32Bit, self.sent()),
            Class::Tls => Parts::unread(Reason::TlsNotHooked, self.sent()),
            Class::Quic => Parts::unread(Reason::Quic, self.sent()),
            Class::Clear | Class::Unknown => self.plain(),
        }
    }

    fn plain(&self) -> Parts {
        let mut parts = if self.is_other_users {
            Parts::unread(Reason::OtherUser, self.read)
        } else {
            Parts::read(self.read)
        };
        let late = if self.asked { self.first.unwrap_or(self.sent).min(self.sent) } else { 0 };
        let late = late.saturating_sub(self.before.sent);
        parts.add_unread(Reason::JoinedLate, late);
        parts.add_unread(Reason::Budget, self.over.saturating_add(self.skipped().saturating_sub(late)));
        parts.add_unread(Reason::NoMemoryRead, self.unreadable);
        // What nobody left out and nobody has was lost on the way.
        parts.add_unread(Reason::Lost, self.sent().saturating_sub(parts.whole()));
        parts
    }
}
