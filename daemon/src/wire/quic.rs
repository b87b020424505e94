//! QUIC Initial packets of version 1 (RFC 9000, RFC 9001) and 2 (RFC 9369): the ClientHello that travels in them.
//!
//! Initial packets are encrypted with keys that everybody on the way can derive from the packet itself (RFC 9001
//! section 5.2). Only what the phone sends is looked at. AES, GCM, HKDF and SHA-256 are RustCrypto's, pure Rust.

mod keys;

use keys::Keys;

use super::Parsed;
use super::client_hello::{ClientHello, from_handshake, partial};

/// Longest connection id (RFC 9000 section 17.2).
const CID_MAX: usize = 20;
/// Bytes of the CRYPTO stream that are kept; a ClientHello has about 2 KiB.
const CRYPTO_MAX: usize = 64 << 10;
/// Pieces of the CRYPTO stream that may be apart at once. Browsers cut a hello into some 20 on purpose.
const PIECES_MAX: usize = 64;
/// Initial packets looked at of one connection: a client needs two or three, and some more after losses.
const PACKETS_MAX: u32 = 64;

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// RFC 9000.
    V1,
    /// RFC 9369.
    V2,
}

impl Version {
    fn of(number: u32) -> Option<Self> {
        match number {
            1 => Some(Version::V1),
            0x6b33_43cf => Some(Version::V2),
            _ => None,
        }
    }

    /// The packet type bits of an Initial (RFC 9000 section 17.2, RFC 9369 section 3.2).
    fn initial_bits(self) -> u8 {
        match self {
            Version::V1 => 0,
            Version::V2 => 1,
        }
    }
}

/// Whether a datagram begins like a long-header packet of a client of a known version. Cheap: for choosing what to look at.
pub fn looks_like_initial(datagram: &[u8]) -> bool {
    let mut rest = datagram;
    matches!(Header::read(&mut rest), Some(Header { initial: true, .. }))
}

/// Collects one connection's Initial packets until the hello is whole. Holds at most 64 KiB and 64 pieces.
#[derive(Debug, Default)]
pub struct Collector {
    keys: Option<(Version, Vec<u8>, Keys)>,
    largest: u64,
    packets: u32,
    crypto: Vec<u8>,
    /// What of `crypto` is filled: ordered, disjoint, not touching.
    filled: Vec<(usize, usize)>,
    version: Option<Version>,
}

impl Collector {
    /// At a flow's first datagram.
    pub fn new() -> Self {
        Self::default()
    }

    /// The version of the packets that could be decrypted.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Takes a datagram of at least one long-header packet. `Malformed`: nothing in it belongs to a QUIC client's Initial, or
    /// the bounds are reached.
    pub fn push(&mut self, datagram: &[u8]) -> Parsed<ClientHello> {
        let mut rest = datagram;
        let mut any = false;
        // Packets may be coalesced (RFC 9000 section 12.2).
        while let Some(header) = Header::read(&mut rest) {
            if header.initial && self.packets < PACKETS_MAX {
                self.packets = self.packets.saturating_add(1);
                any |= self.packet(&header);
            }
        }
        if !any {
            return Parsed::Malformed;
        }
        let known = self.prefix();
        from_handshake(self.crypto.get(..known).unwrap_or_default())
    }

    /// What is known when nothing more will come.
    pub fn finish(self) -> Option<ClientHello> {
        partial(self.crypto.get(..self.prefix()).unwrap_or_default())
    }

    fn prefix(&self) -> usize {
        match self.filled.first() {
            Some(&(0, end)) => end,
            _ => 0,
        }
    }

    fn packet(&mut self, header: &Header<'_>) -> bool {
        // The keys come from the first packet's destination id and stay, although the id changes with the server's
        // answer; after a Retry they come from the new id (RFC 9001 section 5.2).
        if let Some((version, _, keys)) = &self.keys
            && *version == header.version
            && let Some((number, frames)) = keys.open(header.packet, header.number_at, self.largest)
        {
            self.largest = self.largest.max(number);
            return self.frames(&frames);
        }
        if self.keys.as_ref().is_some_and(|(v, id, _)| *v == header.version && id == header.destination) {
            return false;
        }
        let keys = Keys::of_client(header.version, header.destination);
        let Some((number, frames)) = keys.open(header.packet, header.number_at, 0) else { return false };
        self.keys = Some((header.version, header.destination.to_vec(), keys));
        self.largest = number;
        self.version = Some(header.version);
        self.frames(&frames)
    }

    /// The frames an Initial may carry (RFC 9000 section 12.4, table 3).
    fn frames(&mut self, mut rest: &[u8]) -> bool {
        while let Some((&kind, after)) = rest.split_first() {
            rest = after;
            let read = match kind {
                // PADDING, PING
                0 | 1 => Some(()),
                2 | 3 => skip_ack(&mut rest, kind == 3),
                // CRYPTO
                6 => crypto(&mut rest).map(|(offset, data)| self.fill(offset, data)),
                // CONNECTION_CLOSE or what must not be here.
                _ => None,
            };
            if read.is_none() {
                break;
            }
        }
        true
    }

    fn fill(&mut self, offset: u64, data: &[u8]) {
        let Ok(start) = usize::try_from(offset) else { return };
        let end = start.saturating_add(data.len());
        if end > CRYPTO_MAX || data.is_empty() {
            return;
        }
        if self.crypto.len() < end {
            self.crypto.resize(end, 0);
        }
        if let Some(place) = self.crypto.get_mut(start..end) {
            place.copy_from_slice(data);
        }
        let (mut start, mut end) = (start, end);
        // Join what overlaps or touches.
        self.filled.retain(|&(a, b)| {
            let apart = b < start || a > end;
            if !apart {
                start = start.min(a);
                end = end.max(b);
            }
            apart
        });
        if self.filled.len() < PIECES_MAX {
            let at = self.filled.partition_point(|&(a, _)| a < start);
            self.filled.insert(at, (start, end));
        }
    }
}

/// A long-header packet (RFC 9000 section 17.2).
struct Header<'a> {
    version: Version,
    initial: bool,
    destination: &'a [u8],
    /// The whole packet, from its first byte to the end of its payload.
    packet: &'a [u8],
    /// Where the protected packet number begins in it.
    number_at: usize,
}

impl<'a> Header<'a> {
    /// Reads a packet off the datagram. None at its end, at a short header and at anything unknown.
    fn read(datagram: &mut &'a [u8]) -> Option<Header<'a>> {
        let whole = *datagram;
        let (&first, mut rest) = whole.split_first()?;
        // The form bit says long header; the fixed bit may be greased (RFC 9287), but not in a first Initial.
        if first & 0xc0 != 0xc0 {
            return None;
        }
        let version = match take(&mut rest, 4)? {
            &[a, b, c, d] => Version::of(u32::from_be_bytes([a, b, c, d]))?,
            _ => return None,
        };
        let destination = connection_id(&mut rest)?;
        connection_id(&mut rest)?;
        let bits = (first >> 4) & 3;
        let initial = bits == version.initial_bits();
        // Retry, the only type without a length, is never sent by a client.
        let retry = if version == Version::V1 { 3 } else { 0 };
        if bits == retry {
            return None;
        }
        if initial {
            let token = usize::try_from(varint(&mut rest)?).ok()?;
            take(&mut rest, token)?;
        }
        let length = usize::try_from(varint(&mut rest)?).ok()?;
        let number_at = whole.len().saturating_sub(rest.len());
        take(&mut rest, length)?;
        let end = whole.len().saturating_sub(rest.len());
        *datagram = rest;
        Some(Header { version, initial, destination, packet: whole.get(..end)?, number_at })
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (piece, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(piece)
}

fn connection_id<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::from(*take(rest, 1)?.first()?);
    if length > CID_MAX {
        return None;
    }
    take(rest, length)
}

/// A variable-length integer (RFC 9000 section 16).
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let first = *take(rest, 1)?.first()?;
    let more = match first >> 6 {
        0 => 0,
        1 => 1,
        2 => 3,
        _ => 7,
    };
    let start = u64::from(first & 0x3f);
    Some(take(rest, more)?.iter().fold(start, |value, &byte| (value << 8) | u64::from(byte)))
}

fn crypto<'a>(rest: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let offset = varint(rest)?;
    let length = usize::try_from(varint(rest)?).ok()?;
    Some((offset, take(rest, length)?))
}

fn skip_ack(rest: &mut &[u8], ecn: bool) -> Option<()> {
    varint(rest)?;
    varint(rest)?;
    let ranges = varint(rest)?;
    varint(rest)?;
    // Each range costs two bytes at least, so that a huge count ends with the packet.
    for _ in 0..ranges {
        varint(rest)?;
        varint(rest)?;
    }
    for _ in 0..(if ecn { 3 } else { 0 }) {
        varint(rest)?;
    }
    Some(())
}

#[cfg(test)]
mod tests;
