//! Clear text by the first bytes of its cipher text, for as long as it may still leave. Pure state; time is an argument.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    ops::Range,
};

use zeroize::Zeroizing;

use super::{HOLD_MS, names};
use crate::record::{Body, Cipher, CipherPiece, ConnectionId, Event};

/// Fewest bytes of cipher text that prove anything: one block of AES. That 16 random bytes stand somewhere by chance does not happen.
const LEAST: usize = 16;
/// Bytes that the index goes by.
const KEY: usize = 8;
/// Text that nobody saw.
const CUT_HOLE: &str = "not all of the text was seen before it was encrypted";
/// Cipher text that goes on behind the end of the layer.
const CUT_SHORT: &str = "the layer ends before the sealed text does";

/// Bounds on what is held.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Messages of all processes together; beyond, the oldest is forgotten.
    pub messages: usize,
    /// Bytes of clear text of all together; beyond, the oldest is forgotten.
    pub bytes: usize,
    /// Bytes of one message; what lies beyond is not kept.
    pub message: usize,
    /// Calls of one message whose output is remembered.
    pub calls: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { messages: 2048, bytes: 4 << 20, message: 256 << 10, calls: 64 }
    }
}

/// What was held, joined and forgotten so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Messages that an app encrypted.
    pub seen: u64,
    /// Of these, how many were found in what left; each counts once.
    pub joined: u64,
    /// Forgotten without having left.
    pub forgotten: u64,
}

/// What chosen apps encrypted lately.
#[derive(Debug, Default)]
pub struct Held {
    limits: Limits,
    messages: HashMap<ConnectionId, Message>,
    /// In order of their first record.
    order: VecDeque<ConnectionId>,
    /// The messages by the first bytes of their cipher text.
    heads: HashMap<[u8; KEY], Vec<ConnectionId>, foldhash::fast::RandomState>,
    bytes: usize,
    counts: Counts,
}

/// One message under one setting up of a cipher.
#[derive(Default)]
struct Message {
    cipher: Cipher,
    text: Zeroizing<Vec<u8>>,
    /// Bytes of `text` that were filled in, and where the text ends.
    filled: usize,
    text_end: u64,
    /// Heads of what the calls made, by where they lie in the cipher text.
    output: BTreeMap<u64, (Vec<u8>, u64)>,
    key: Option<[u8; KEY]>,
    ended: bool,
    joined: bool,
    /// When its first record came.
    began_ms: u64,
}

/// Text whose cipher text was found.
#[derive(Clone, PartialEq, Eq)]
pub struct Found {
    /// Where in the data its cipher text lies.
    pub range: Range<usize>,
    /// The step of the route: `sealed:aes-128-ecb`.
    pub step: String,
    /// The clear text.
    pub text: Zeroizing<Vec<u8>>,
    /// What is missing of it, in plain words.
    pub cut: Option<&'static str>,
    /// The process that encrypted it.
    pub tgid: u32,
}

impl Held {
    /// With nothing in it.
    pub fn new(limits: Limits) -> Held {
        Held { limits, ..Held::default() }
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Messages held.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// What went through.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes a record of a cipher; others are passed over. `now_ms` is of a clock that never goes back.
    pub fn take(&mut self, event: Event, now_ms: u64) {
        let Event { connection: id, body, .. } = event;
        let (piece, is_text) = match body {
            Body::CipherText(piece) => (piece, true),
            Body::CipherOutput(piece) => (piece, false),
            _ => return,
        };
        if !self.messages.contains_key(&id) {
            self.counts.seen = self.counts.seen.saturating_add(1);
            self.order.push_back(id);
            self.messages.insert(id, Message { began_ms: now_ms, ..Message::default() });
        }
        let Some(message) = self.messages.get_mut(&id) else { return };
        if piece.cipher != Cipher::default() {
            message.cipher = piece.cipher;
        }
        message.ended |= piece.ended;
        if is_text {
            let before = message.text.len();
            message.write(&piece, self.limits.message);
            self.bytes = self.bytes.saturating_add(message.text.len().saturating_sub(before));
        } else if message.output.len() < self.limits.calls {
            if piece.total > 0 {
                message.output.insert(piece.start, (piece.bytes.to_vec(), piece.total));
            }
            if message.key.is_none()
                && let Some(key) = message.head()
            {
                message.key = Some(key);
                self.heads.entry(key).or_default().push(id);
            }
        }
        while self.messages.len() > self.limits.messages || self.bytes > self.limits.bytes {
            if !self.forget_oldest() {
                break;
            }
        }
    }

    /// Overwrites and forgets whatever has been held for [`HOLD_MS`].
    pub fn forget(&mut self, now_ms: u64) {
        while let Some(message) = self.order.front().and_then(|id| self.messages.get(id)) {
            if now_ms < message.began_ms.saturating_add(HOLD_MS) {
                return;
            }
            self.forget_oldest();
        }
    }

    /// Forgets everything at once.
    pub fn clear(&mut self) {
        while self.forget_oldest() {}
    }

    /// When [`Held::forget`] has something to do; none while nothing is held.
    pub fn due_ms(&self) -> Option<u64> {
        let oldest = self.order.front().and_then(|id| self.messages.get(id))?;
        Some(oldest.began_ms.saturating_add(HOLD_MS))
    }

    /// The texts whose cipher text stands in `data`, in the order they stand there and never over each other. `of` says which
    /// processes may have encrypted it.
    pub fn find(&mut self, data: &[u8], of: impl Fn(u32) -> bool) -> Vec<Found> {
        let mut found = Vec::new();
        if self.heads.is_empty() {
            return found;
        }
        let mut at = 0;
        while let Some(key) = data.get(at..).and_then(<[u8]>::first_chunk::<KEY>) {
            let known = self.heads.get(key).map(Vec::as_slice).unwrap_or_default();
            let rest = data.get(at..).unwrap_or_default();
            // Of several that fit, as a cipher without a vector makes them of equal beginnings, the longest and newest.
            let best = known
                .iter()
                .filter(|id| of(id.tgid))
                .filter_map(|id| Some((self.messages.get(id)?.fits(rest)?, *id)))
                .max_by_key(|((len, _), id)| (*len, id.born));
            let Some(((len, cut), id)) = best else {
                at += 1;
                continue;
            };
            let Some(message) = self.messages.get_mut(&id) else { break };
            if !message.joined {
                message.joined = true;
                self.counts.joined = self.counts.joined.saturating_add(1);
            }
            found.push(Found {
                range: at..at.saturating_add(len),
                step: names::step(message.cipher),
                text: message.unpadded(),
                cut: message.hole().or(cut),
                tgid: id.tgid,
            });
            at = at.saturating_add(len.max(1));
        }
        found
    }

    fn forget_oldest(&mut self) -> bool {
        let Some(id) = self.order.pop_front() else { return false };
        let Some(message) = self.messages.remove(&id) else { return true };
        self.bytes = self.bytes.saturating_sub(message.text.len());
        if !message.joined {
            self.counts.forgotten = self.counts.forgotten.saturating_add(1);
        }
        if let Some(key) = message.key
            && let Some(same) = self.heads.get_mut(&key)
        {
            same.retain(|other| *other != id);
            if same.is_empty() {
                self.heads.remove(&key);
            }
        }
        true
    }
}

impl Message {
    /// Puts a piece of text where it belongs.
    fn write(&mut self, piece: &CipherPiece, most: usize) {
        self.text_end = self.text_end.max(piece.start.saturating_add(piece.total));
        let Ok(at) = usize::try_from(piece.start.saturating_add(piece.offset)) else { return };
        let end = at.saturating_add(piece.bytes.len()).min(most);
        let Some(len) = end.checked_sub(at).filter(|len| *len > 0) else { return };
        if self.text.len() < end {
            // Never let the allocator move it: what it leaves behind would not be overwritten.
            if self.text.capacity() < end {
                let room = end.saturating_mul(2).min(most);
                let mut larger = Zeroizing::new(Vec::with_capacity(room));
                larger.extend_from_slice(&self.text);
                self.text = larger;
            }
            self.text.resize(end, 0);
        }
        if let (Some(to), Some(from)) = (self.text.get_mut(at..end), piece.bytes.get(..len)) {
            to.copy_from_slice(from);
            self.filled = self.filled.saturating_add(len);
        }
    }

    /// The beginning of the cipher text, when enough of it is known to go by.
    fn head(&self) -> Option<[u8; KEY]> {
        let mut head: Vec<u8> = Vec::with_capacity(LEAST);
        for (start, (bytes, total)) in &self.output {
            if *start != head.len() as u64 {
                return None;
            }
            head.extend(bytes);
            if head.len() >= LEAST {
                return head.first_chunk().copied();
            }
            if *total != bytes.len() as u64 {
                return None;
            }
        }
        None
    }

    /// Whether its cipher text begins `data`: how many bytes of it are there, and what is missing.
    fn fits(&self, data: &[u8]) -> Option<(usize, Option<&'static str>)> {
        let mut seen = 0usize;
        let mut len = 0usize;
        for (start, (bytes, total)) in &self.output {
            let at = usize::try_from(*start).ok()?;
            let end = usize::try_from(start.saturating_add(*total)).ok()?;
            // The rest would stand behind the end of what is here.
            let Some(there) = data.get(at..) else { break };
            let common = there.len().min(bytes.len());
            if there.get(..common) != bytes.get(..common) {
                return None;
            }
            seen = seen.saturating_add(common);
            len = len.max(end);
        }
        // What the records say may overlap, or be of less than they hold.
        if seen.min(len).min(data.len()) < LEAST {
            return None;
        }
        if len > data.len() {
            return Some((data.len(), Some(CUT_SHORT)));
        }
        Some((len, None))
    }

    /// The text; without the padding of PKCS #7 (RFC 5652 section 6.3) where the app brought that itself, as it does for calls that
    /// only take whole blocks.
    fn unpadded(&self) -> Zeroizing<Vec<u8>> {
        let mut text = self.text.clone();
        let block = usize::from(names::BLOCK);
        if self.cipher == Cipher::default()
            && text.len().is_multiple_of(block)
            && let Some(pad) = text.last().copied().filter(|pad| (1..=names::BLOCK).contains(pad))
        {
            let start = text.len().saturating_sub(usize::from(pad));
            if text.get(start..).is_some_and(|tail| tail.iter().all(|byte| *byte == pad)) {
                text.truncate(start);
            }
        }
        text
    }

    fn hole(&self) -> Option<&'static str> {
        ((self.filled as u64) < self.text_end).then_some(CUT_HOLE)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} bytes)", self.text.len())
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Found({} at {:?}, {} bytes)", self.step, self.range, self.text.len())
    }
}

#[cfg(test)]
mod tests;
