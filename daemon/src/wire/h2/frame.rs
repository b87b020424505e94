//! HTTP/2 frame headers (RFC 9113 section 4.1) and how to tell them from other bytes.

/// Bytes of a frame header.
pub(super) const HEADER: usize = 9;
/// The largest payload a sender may use unless the peer allows more (RFC 9113 section 4.2). Only a frame that is met
/// in the middle of a connection has to keep to it.
const PAYLOAD_USUAL: u32 = 16384;
/// A connection does not get beyond this many requests in practice, but random bytes do.
const STREAM_USUAL: u32 = 1 << 22;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
/// RFC 9218 section 7.1.
const PRIORITY_UPDATE: u8 = 0x10;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITISED: u8 = 0x20;

/// A frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Frame {
    /// The header at the beginning of the bytes.
    pub(super) fn read(bytes: &[u8]) -> Option<Frame> {
        let &[l0, l1, l2, kind, flags, s0, s1, s2, s3, ..] = bytes else { return None };
        Some(Frame {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind,
            flags,
            // The highest bit is reserved and to be ignored.
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        })
    }

    /// Whether a client may send this at all, given that the frame before was where it should be.
    pub(super) fn allowed(&self) -> bool {
        let on_stream = self.stream != 0;
        match self.kind {
            DATA | HEADERS | CONTINUATION => on_stream,
            PRIORITY => on_stream && self.length == 5,
            RST_STREAM => on_stream && self.length == 4,
            SETTINGS => !on_stream && self.length.is_multiple_of(6),
            PING => !on_stream && self.length == 8,
            GOAWAY => !on_stream && self.length >= 8,
            WINDOW_UPDATE => self.length == 4,
            PUSH_PROMISE => false,
            // Unknown types are to be ignored (section 5.5); clients send some to keep servers tolerant.
            _ => true,
        }
    }

    /// Whether these would hardly be the first bytes of a frame by chance: about 1 in 2^26 of random bytes are.
    pub(super) fn plausible(&self) -> bool {
        let flags = match self.kind {
            DATA => END_STREAM | PADDED,
            HEADERS => END_STREAM | END_HEADERS | PADDED | PRIORITISED,
            SETTINGS | PING => END_STREAM, // the same bit means ACK here
            CONTINUATION => END_HEADERS,
            PRIORITY | RST_STREAM | GOAWAY | WINDOW_UPDATE | PRIORITY_UPDATE => 0,
            _ => return false,
        };
        // A client's own streams have odd numbers (section 5.1.1).
        let own = self.stream % 2 == 1;
        let stream_fits = match self.kind {
            DATA | HEADERS | CONTINUATION => own,
            PRIORITY_UPDATE => self.stream == 0,
            _ => own || self.stream == 0,
        };
        let size = match self.kind {
            SETTINGS => self.length <= 6 * 32 && (self.flags == 0 || self.length == 0),
            GOAWAY => self.length <= 1024,
            HEADERS => self.length > 0 && self.length <= PAYLOAD_USUAL,
            _ => self.length <= PAYLOAD_USUAL,
        };
        self.allowed() && self.flags & !flags == 0 && stream_fits && size && self.stream < STREAM_USUAL
    }
}

/// What the first bytes of something look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Looks {
    Yes,
    No,
    /// Too few bytes to tell.
    Open,
}

/// Whether the bytes begin with a frame header of a client.
pub(in super::super) fn looks(bytes: &[u8]) -> Looks {
    match Frame::read(bytes) {
        Some(frame) if frame.plausible() && reserved_is_clear(bytes) => Looks::Yes,
        Some(_) => Looks::No,
        // The length's first byte is 0 in all plausible frames, and the second at most 64.
        None if bytes.first().is_some_and(|&b| b != 0) || bytes.get(1).is_some_and(|&b| b > 0x40) => {
            Looks::No
        }
        None if bytes.get(3).is_some_and(|&b| b > PRIORITY_UPDATE) => Looks::No,
        None => Looks::Open,
    }
}

fn reserved_is_clear(bytes: &[u8]) -> bool {
    bytes.get(5).is_some_and(|b| b & 0x80 == 0)
}

/// Where in the bytes a frame begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Boundary {
    At(usize),
    /// Not before this position, and not yet certain there.
    OpenFrom(usize),
}

/// Looks for two plausible frames in a row, from a position on. With `ended`, one that ends with the bytes will do:
/// a client that pauses does so between frames.
pub(super) fn boundary(bytes: &[u8], from: usize, ended: bool) -> Boundary {
    for at in from..bytes.len() {
        let here = bytes.get(at..).unwrap_or_default();
        match looks(here) {
            Looks::No => continue,
            Looks::Open if ended => continue,
            Looks::Open => return Boundary::OpenFrom(at),
            Looks::Yes => {}
        }
        let length = Frame::read(here).map_or(0, |f| usize::try_from(f.length).unwrap_or(usize::MAX));
        match here.get(HEADER.saturating_add(length)..) {
            Some([]) if ended => return Boundary::At(at),
            Some(next) => match looks(next) {
                Looks::Yes => return Boundary::At(at),
                Looks::No => {}
                Looks::Open if ended => {}
                Looks::Open => return Boundary::OpenFrom(at),
            },
            None if ended => {}
            None => return Boundary::OpenFrom(at),
        }
    }
    Boundary::OpenFrom(bytes.len())
}
