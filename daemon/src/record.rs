//! Bytes from the kernel → an owned [`Event`]: length, version and kind are checked before anything is believed.
//!
//! The kernel side writes [`telltale_abi::Header`] and the bytes that belong to it; perf pads what it hands over, so
//! only the header's own length counts.
#![forbid(unsafe_code)]

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::Deref,
};

use telltale_abi::{ABI_VERSION, HEADER_LEN, MAX_HOST, MAX_PIECE, cipher, flag, kind, socket};
use thiserror::Error;
use zeroize::Zeroizing;

/// One record, checked and copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which connection it belongs to.
    pub connection: ConnectionId,
    /// Number within the connection, from 0; equal numbers are told apart by `ktime`.
    pub sequence: u64,
    /// Nanoseconds since boot, without time asleep.
    pub ktime: u64,
    /// Number of the attempt on its CPU, from 1.
    pub attempt: u64,
    /// Thread id.
    pub tid: u32,
    /// The thread's uid.
    pub uid: u32,
    /// What it tells.
    pub body: Body,
}

/// A connection's name: addresses are used again, the time of first sight is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// Process id.
    pub tgid: u32,
    /// The `SSL*`, or a socket: see [`ConnectionId::socket`].
    pub object: u64,
    /// When it was first seen, nanoseconds since boot.
    pub born: u64,
}

/// A socket as its process names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketName {
    /// The descriptor.
    pub fd: u32,
    /// What carries its bytes.
    pub carrier: Carrier,
    /// Its process runs 32-bit code.
    pub by_32_bit: bool,
}

/// What carries a socket's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// It was opened before anybody looked.
    Unknown,
    /// TCP.
    Stream,
    /// UDP.
    Datagram,
    /// A UNIX socket: the way to netd's resolver.
    Unix,
}

impl ConnectionId {
    /// The socket this connection is, if it is not an `SSL*`.
    pub fn socket(&self) -> Option<SocketName> {
        if self.object & socket::MARK == 0 {
            return None;
        }
        let how = (self.object >> 32) as u32;
        let carrier = match how & socket::TRANSPORT {
            socket::STREAM => Carrier::Stream,
            socket::DATAGRAM => Carrier::Datagram,
            socket::UNIX => Carrier::Unix,
            _ => Carrier::Unknown,
        };
        Some(SocketName { fd: self.object as u32, carrier, by_32_bit: how & socket::BY_32_BIT != 0 })
    }
}

/// What a record tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A piece of what a TLS library took to encrypt.
    TlsWrite(Piece),
    /// The host name the connection asks for.
    TlsHost(String),
    /// The descriptor the connection was given.
    TlsFd {
        /// Which direction.
        direction: Direction,
        /// The number; -1 for none.
        fd: i32,
    },
    /// The connection is over.
    TlsFree(Ended),
    /// A function that may be `SSL_write` has been called.
    TlsCall {
        /// The address of its first instruction.
        at: u64,
        /// The address of what is to be sent.
        buffer: u64,
        /// How many bytes of it; as a C `int` it may be negative.
        len: i32,
    },
    /// While it was being written to, its thread wrote to a socket of this number.
    TlsNested(i32),
    /// After it was written to, its thread sent this to a stream socket next.
    TlsNext {
        /// The descriptor.
        fd: i32,
        /// The first bytes of the send.
        head: [u8; 8],
        /// Bytes that the write had taken.
        taken: u64,
        /// Bytes that the send took.
        sent: u64,
    },
    /// While a function that may be `SSL_write` ran, its thread sent this to a stream socket.
    TlsTried {
        /// The first bytes of the send.
        head: [u8; 8],
        /// Bytes that the send took.
        sent: u64,
    },
    /// A piece of what a socket took.
    SocketSend(Piece),
    /// Where a socket's bytes go from now on; none for a UNIX socket.
    SocketPeer(Option<SocketAddr>),
    /// The socket is closed.
    SocketClose(Ended),
    /// Something was written to a descriptor that nobody saw being opened.
    SocketUnknown,
    /// A piece of what an app handed to a cipher to encrypt.
    CipherText(CipherPiece),
    /// The first bytes of what the cipher made of it.
    CipherOutput(CipherPiece),
}

/// What a connection came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ended {
    /// Bytes it sent in all.
    pub sent: u64,
    /// Bytes of these that were counted and not taken.
    pub skipped: u64,
}

/// A piece of one send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Bytes the connection had sent before this send.
    pub start: u64,
    /// Bytes of this send.
    pub total: u64,
    /// Where in this send `bytes` belongs.
    pub offset: u64,
    /// No further piece of this send follows.
    pub last: bool,
    /// Empty when they could not be read.
    pub bytes: Vec<u8>,
}

/// A piece of what goes into a cipher, or the head of what comes out. The connection's `object` is the cipher's context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CipherPiece {
    /// Which cipher.
    pub cipher: Cipher,
    /// Bytes of this message before this call, on this side of the cipher.
    pub start: u64,
    /// Bytes of this call on this side.
    pub total: u64,
    /// Where in this call `bytes` belongs.
    pub offset: u64,
    /// The message is over.
    pub ended: bool,
    /// Empty when they could not be read, or when the call made none.
    pub bytes: Secret,
}

/// A cipher as its own library describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cipher {
    /// OpenSSL's number of it (include/openssl/nid.h), 0 when not known.
    pub nid: u16,
    /// Bytes of its key.
    pub key_len: u8,
    /// Bytes of its block.
    pub block: u8,
}

/// Bytes that are overwritten when they are let go, and never shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// A copy of these bytes.
    pub fn new(bytes: &[u8]) -> Secret {
        Secret(Zeroizing::new(bytes.to_vec()))
    }
}

impl Deref for Secret {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What a descriptor is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Both ways (`SSL_set_fd`).
    Both,
    /// Reading (`SSL_set_rfd`).
    Read,
    /// Writing (`SSL_set_wfd`).
    Write,
}

/// Why a record was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Fewer bytes than it says.
    #[error("record is {have} bytes long and says {want}")]
    Short {
        /// Bytes at hand.
        have: usize,
        /// Bytes needed.
        want: usize,
    },
    /// Written by another eBPF program than this daemon's.
    #[error("record has abi version {0}, this daemon reads {ABI_VERSION}")]
    Version(u16),
    /// A kind this daemon does not know.
    #[error("record has unknown kind {0}")]
    Kind(u16),
    /// A field contradicts another.
    #[error("record of kind {kind}: field {field} is out of range")]
    Field {
        /// The record's kind.
        kind: u16,
        /// The field's name.
        field: &'static str,
    },
}

/// Reads little-endian (native) integers off the front of a slice.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (head, rest) =
            self.0.split_first_chunk::<N>().ok_or(RecordError::Short { have: self.0.len(), want: N })?;
        self.0 = rest;
        Ok(*head)
    }

    fn u16(&mut self) -> Result<u16, RecordError> {
        self.take().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        self.take().map(u64::from_ne_bytes)
    }
}

impl Event {
    /// Bytes it takes while it is held, about.
    pub fn size(&self) -> usize {
        let bytes = match &self.body {
            Body::TlsWrite(piece) | Body::SocketSend(piece) => piece.bytes.len(),
            Body::TlsHost(name) => name.len(),
            Body::TlsFd { .. }
            | Body::TlsFree(_)
            | Body::TlsCall { .. }
            | Body::TlsNested(_)
            | Body::TlsNext { .. }
            | Body::TlsTried { .. }
            | Body::SocketPeer(_)
            | Body::SocketClose(_)
            | Body::SocketUnknown => 0,
            Body::CipherText(piece) | Body::CipherOutput(piece) => piece.bytes.len(),
        };
        bytes.saturating_add(size_of::<Event>())
    }

    /// Checks and copies one record. Bytes behind what the header announces (perf's padding) are ignored.
    ///
    /// # Errors
    /// Whatever of length, version, kind or a field does not hold.
    pub fn parse(record: &[u8]) -> Result<Event, RecordError> {
        if record.len() < HEADER_LEN {
            return Err(RecordError::Short { have: record.len(), want: HEADER_LEN });
        }
        let mut fields = Fields(record);
        let version = fields.u16()?;
        if version != ABI_VERSION {
            return Err(RecordError::Version(version));
        }
        let kind = fields.u16()?;
        let len = fields.u32()? as usize;
        let (attempt, ktime) = (fields.u64()?, fields.u64()?);
        let (tgid, tid, uid, flags) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
        let (object, born) = (fields.u64()?, fields.u64()?);
        let sequence = fields.u64()?;
        let (start, total, offset) = (fields.u64()?, fields.u64()?, fields.u64()?);
        if len > MAX_PIECE {
            return Err(RecordError::Field { kind, field: "len" });
        }
        let bytes = fields
            .0
            .get(..len)
            .ok_or(RecordError::Short { have: record.len(), want: HEADER_LEN.saturating_add(len) })?;
        let body = match kind {
            kind::TLS_WRITE | kind::SOCKET_SEND => {
                if offset.checked_add(len as u64).is_none_or(|end| end > total) {
                    return Err(RecordError::Field { kind, field: "offset" });
                }
                if start.checked_add(total).is_none() {
                    return Err(RecordError::Field { kind, field: "start" });
                }
                if (len == 0) != (flags & flag::UNREADABLE != 0) {
                    return Err(RecordError::Field { kind, field: "len" });
                }
                let last = flags & flag::LAST != 0;
                let piece = Piece { start, total, offset, last, bytes: bytes.to_vec() };
                if kind == kind::TLS_WRITE { Body::TlsWrite(piece) } else { Body::SocketSend(piece) }
            }
            kind::TLS_HOST => {
                if len == 0 || len >= MAX_HOST {
                    return Err(RecordError::Field { kind, field: "len" });
                }
                Body::TlsHost(String::from_utf8_lossy(bytes).into_owned())
            }
            kind::TLS_FD | kind::TLS_READ_FD | kind::TLS_WRITE_FD => {
                let fd = <[u8; 4]>::try_from(bytes).map_err(|_| RecordError::Field { kind, field: "len" })?;
                let direction = match kind {
                    kind::TLS_FD => Direction::Both,
                    kind::TLS_READ_FD => Direction::Read,
                    _ => Direction::Write,
                };
                Body::TlsFd { direction, fd: i32::from_ne_bytes(fd) }
            }
            kind::TLS_FREE => Body::TlsFree(Ended { sent: start, skipped: total }),
            kind::TLS_CALL => {
                let (at, buffer) = match bytes.as_chunks::<8>() {
                    ([at, buffer], []) => (u64::from_ne_bytes(*at), u64::from_ne_bytes(*buffer)),
                    _ => return Err(RecordError::Field { kind, field: "len" }),
                };
                Body::TlsCall { at, buffer, len: total as i32 }
            }
            kind::TLS_NESTED => {
                let fd = <[u8; 4]>::try_from(bytes).map_err(|_| RecordError::Field { kind, field: "len" })?;
                Body::TlsNested(i32::from_ne_bytes(fd))
            }
            kind::TLS_TRIED => {
                let head =
                    <[u8; 8]>::try_from(bytes).map_err(|_| RecordError::Field { kind, field: "len" })?;
                Body::TlsTried { head, sent: total }
            }
            kind::TLS_NEXT => {
                let wrong = RecordError::Field { kind, field: "len" };
                let (fd, head) = bytes.split_first_chunk::<4>().ok_or(wrong)?;
                let head = <[u8; 8]>::try_from(head).map_err(|_| wrong)?;
                Body::TlsNext { fd: i32::from_ne_bytes(*fd), head, taken: offset, sent: total }
            }
            kind::SOCKET_PEER => {
                Body::SocketPeer(address(bytes).ok_or(RecordError::Field { kind, field: "address" })?)
            }
            kind::SOCKET_CLOSE => Body::SocketClose(Ended { sent: start, skipped: total }),
            kind::SOCKET_UNKNOWN => Body::SocketUnknown,
            kind::CIPHER_TEXT | kind::CIPHER_OUTPUT => {
                if offset.checked_add(len as u64).is_none_or(|end| end > total) {
                    return Err(RecordError::Field { kind, field: "offset" });
                }
                if start.checked_add(total).is_none() {
                    return Err(RecordError::Field { kind, field: "start" });
                }
                let ended = flags & flag::FINAL != 0;
                let cipher = Cipher::unpack(flags);
                let piece = CipherPiece { cipher, start, total, offset, ended, bytes: Secret::new(bytes) };
                if kind == kind::CIPHER_TEXT { Body::CipherText(piece) } else { Body::CipherOutput(piece) }
            }
            other => return Err(RecordError::Kind(other)),
        };
        let connection = ConnectionId { tgid, object, born };
        Ok(Event { connection, sequence, ktime, attempt, tid, uid, body })
    }
}

impl Cipher {
    /// As the records' flags carry it.
    fn unpack(flags: u32) -> Cipher {
        let part = |shift: u32, mask: u32| flags >> shift & mask;
        Cipher {
            nid: part(cipher::NID_SHIFT, cipher::NID_MASK) as u16,
            key_len: part(cipher::KEY_LEN_SHIFT, cipher::KEY_LEN_MASK) as u8,
            block: part(cipher::BLOCK_SHIFT, cipher::BLOCK_MASK) as u8,
        }
    }
}

impl Event {
    /// Whether it tells of a cipher inside an app, not of a connection.
    pub fn is_cipher(&self) -> bool {
        matches!(self.body, Body::CipherText(_) | Body::CipherOutput(_))
    }
}

/// `sockaddr_in` and `sockaddr_in6` (ip(7), ipv6(7)); inner none for `AF_UNIX`, outer none for what is no such address.
fn address(bytes: &[u8]) -> Option<Option<SocketAddr>> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    match u16::from_ne_bytes(*family) {
        1 => Some(None),
        2 => {
            let (port, rest) = rest.split_first_chunk::<2>()?;
            let ip = Ipv4Addr::from(*rest.first_chunk::<4>()?);
            Some(Some(SocketAddr::new(ip.into(), u16::from_be_bytes(*port))))
        }
        10 => {
            let (port, rest) = rest.split_first_chunk::<2>()?;
            let (_flow, rest) = rest.split_first_chunk::<4>()?;
            let ip = Ipv6Addr::from(*rest.first_chunk::<16>()?);
            Some(Some(SocketAddr::new(ip.to_canonical(), u16::from_be_bytes(*port))))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record as the kernel writes it.
    fn record(kind: u16, flags: u32, total: u64, offset: u64, bytes: &[u8]) -> Vec<u8> {
        let mut record = Vec::new();
        record.extend(ABI_VERSION.to_ne_bytes());
        record.extend(kind.to_ne_bytes());
        record.extend((bytes.len() as u32).to_ne_bytes());
        for word in [7u64, 1_000] {
            record.extend(word.to_ne_bytes());
        }
        for word in [10u32, 11, 10_123, flags] {
            record.extend(word.to_ne_bytes());
        }
        for word in [0x7f00_1234u64, 900, 3, 5_000, total, offset] {
            record.extend(word.to_ne_bytes());
        }
        assert_eq!(record.len(), HEADER_LEN);
        record.extend(bytes);
        record
    }

    #[test]
    fn a_write_is_read_field_by_field() {
        let event = Event::parse(&record(kind::TLS_WRITE, flag::LAST, 5, 1, b"home")).unwrap();
        assert_eq!(event.connection, ConnectionId { tgid: 10, object: 0x7f00_1234, born: 900 });
        assert_eq!((event.sequence, event.ktime, event.attempt), (3, 1_000, 7));
        assert_eq!((event.tid, event.uid), (11, 10_123));
        let piece = Piece { start: 5_000, total: 5, offset: 1, last: true, bytes: b"home".to_vec() };
        assert_eq!(event.body, Body::TlsWrite(piece));
    }

    #[test]
    fn the_other_kinds_are_read() {
        let host = Event::parse(&record(kind::TLS_HOST, flag::LAST, 0, 0, b"a.example")).unwrap();
        assert_eq!(host.body, Body::TlsHost("a.example".into()));
        let fd = Event::parse(&record(kind::TLS_WRITE_FD, flag::LAST, 0, 0, &9i32.to_ne_bytes())).unwrap();
        assert_eq!(fd.body, Body::TlsFd { direction: Direction::Write, fd: 9 });
        let nested = Event::parse(&record(kind::TLS_NESTED, flag::LAST, 0, 0, &9i32.to_ne_bytes())).unwrap();
        assert_eq!(nested.body, Body::TlsNested(9));
        let next = [&9i32.to_ne_bytes()[..], b"\x17\x03\x03\x00\x35abc"].concat();
        let parsed = Event::parse(&record(kind::TLS_NEXT, flag::LAST, 58, 36, &next)).unwrap();
        let head = *b"\x17\x03\x03\x00\x35abc";
        assert_eq!(parsed.body, Body::TlsNext { fd: 9, head, taken: 36, sent: 58 });
        for len in 0..next.len() {
            assert!(
                Event::parse(&record(kind::TLS_NEXT, flag::LAST, 58, 36, &next[..len])).is_err(),
                "{len}"
            );
        }
        let ended = Ended { sent: 5_000, skipped: 7 };
        let free = Event::parse(&record(kind::TLS_FREE, flag::LAST, 7, 0, b"")).unwrap();
        assert_eq!(free.body, Body::TlsFree(ended));
        let close = Event::parse(&record(kind::SOCKET_CLOSE, flag::LAST, 7, 0, b"")).unwrap();
        assert_eq!(close.body, Body::SocketClose(ended));
        let words = [0x5555_1000u64.to_ne_bytes(), 0x7f00_2000u64.to_ne_bytes()].concat();
        let call = Event::parse(&record(kind::TLS_CALL, flag::LAST, -7i64 as u64, 0, &words)).unwrap();
        assert_eq!(call.body, Body::TlsCall { at: 0x5555_1000, buffer: 0x7f00_2000, len: -7 });
        let head = [23, 3, 3, 0, 40, 1, 2, 3];
        let tried = Event::parse(&record(kind::TLS_TRIED, flag::LAST, 45, 0, &head)).unwrap();
        assert_eq!(tried.body, Body::TlsTried { head, sent: 45 });
    }

    #[test]
    fn sockets_are_named_and_their_peers_read() {
        let v4 = [2, 0, 0, 80, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0];
        let event = Event::parse(&record(kind::SOCKET_PEER, flag::LAST, 0, 0, &v4)).unwrap();
        assert_eq!(event.body, Body::SocketPeer(Some("192.0.2.7:80".parse().unwrap())));
        // An IPv4 peer of an IPv6 socket is an IPv4 peer.
        let mut mapped = vec![10, 0, 0x01, 0xbb, 0, 0, 0, 0];
        mapped.extend("::ffff:192.0.2.7".parse::<Ipv6Addr>().unwrap().octets());
        let event = Event::parse(&record(kind::SOCKET_PEER, flag::LAST, 0, 0, &mapped)).unwrap();
        assert_eq!(event.body, Body::SocketPeer(Some("192.0.2.7:443".parse().unwrap())));
        for len in 0..8 {
            assert!(Event::parse(&record(kind::SOCKET_PEER, flag::LAST, 0, 0, &v4[..len])).is_err(), "{len}");
        }
        let mut id = event.connection;
        assert_eq!(id.socket(), None);
        id.object = socket::MARK | u64::from(socket::DATAGRAM) << 32 | 7;
        let name = SocketName { fd: 7, carrier: Carrier::Datagram, by_32_bit: false };
        assert_eq!(id.socket(), Some(name));
        id.object |= u64::from(socket::BY_32_BIT) << 32;
        assert_eq!(id.socket(), Some(SocketName { by_32_bit: true, ..name }));
    }

    #[test]
    fn a_ciphers_text_and_output_are_read_and_never_shown() {
        let shape =
            flag::LAST | 418 << cipher::NID_SHIFT | 16 << cipher::KEY_LEN_SHIFT | 16 << cipher::BLOCK_SHIFT;
        let event = Event::parse(&record(kind::CIPHER_TEXT, shape, 9, 5, b"home")).unwrap();
        let aes = Cipher { nid: 418, key_len: 16, block: 16 };
        let piece = CipherPiece {
            cipher: aes,
            start: 5_000,
            total: 9,
            offset: 5,
            ended: false,
            bytes: Secret::new(b"home"),
        };
        assert_eq!(event.body, Body::CipherText(piece.clone()));
        assert!(event.is_cipher());
        let shown = format!("{event:?}");
        assert!(shown.contains("4 bytes") && !shown.contains("home") && !shown.contains("104"), "{shown}");
        let event = Event::parse(&record(kind::CIPHER_OUTPUT, shape | flag::FINAL, 9, 5, b"home")).unwrap();
        assert_eq!(event.body, Body::CipherOutput(CipherPiece { ended: true, ..piece }));
        assert!(Event::parse(&record(kind::CIPHER_TEXT, shape, 4, 5, b"home")).is_err());
    }

    #[test]
    fn cut_short_anywhere_it_is_refused() {
        let whole = record(kind::TLS_WRITE, flag::LAST, 40, 0, &[7; 40]);
        for end in 0..whole.len() {
            assert!(matches!(Event::parse(&whole[..end]), Err(RecordError::Short { .. })), "{end}");
        }
    }

    #[test]
    fn padding_behind_the_announced_length_is_ignored() {
        let whole = record(kind::TLS_WRITE, flag::LAST, 40, 0, &[7; 40]);
        let mut padded = whole.clone();
        padded.extend([0xff; 7]);
        assert_eq!(Event::parse(&padded), Event::parse(&whole));
    }

    #[test]
    fn contradictions_are_named() {
        let mut other_version = record(kind::TLS_FREE, 0, 0, 0, b"");
        other_version[0] = 99;
        assert_eq!(Event::parse(&other_version), Err(RecordError::Version(99)));
        assert_eq!(Event::parse(&record(999, 0, 0, 0, b"")), Err(RecordError::Kind(999)));
        let refused = |record: &[u8], field| {
            assert!(
                matches!(Event::parse(record), Err(RecordError::Field { field: named, .. }) if named == field)
            );
        };
        refused(&record(kind::TLS_WRITE, flag::LAST, 3, 0, b"home"), "offset");
        refused(&record(kind::TLS_WRITE, flag::LAST, u64::MAX, u64::MAX, b"home"), "offset");
        refused(&record(kind::TLS_WRITE, flag::LAST, u64::MAX, 0, b"home"), "start");
        refused(&record(kind::TLS_WRITE, flag::LAST, 4, 0, b""), "len");
        refused(&record(kind::TLS_FD, flag::LAST, 0, 0, b"abc"), "len");
        refused(&record(kind::TLS_CALL, flag::LAST, 9, 0, &[0; 15]), "len");
        refused(&record(kind::TLS_TRIED, flag::LAST, 9, 0, &[0; 9]), "len");
        refused(&record(kind::TLS_HOST, flag::LAST, 0, 0, &[b'a'; MAX_HOST]), "len");
        refused(&record(kind::TLS_WRITE, flag::LAST, 1 << 20, 0, &[0; MAX_PIECE + 1]), "len");
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut accepted = 0;
        for _ in 0..20_000 {
            let len = (next() % 200) as usize;
            let mut bytes: Vec<u8> = (0..len).map(|_| next() as u8).collect();
            // Half of them get past the version and kind, so that the checks behind are reached as well.
            if let (true, Some(head)) = (next() % 2 == 0, bytes.first_chunk_mut::<8>()) {
                head[..2].copy_from_slice(&ABI_VERSION.to_ne_bytes());
                head[2..4].copy_from_slice(&((next() % 9) as u16).to_ne_bytes());
                head[4..].copy_from_slice(&((next() % 64) as u32).to_ne_bytes());
            }
            accepted += usize::from(Event::parse(&bytes).is_ok());
        }
        assert!(accepted > 0);
    }
}
