//! WebSocket messages as a client sends them (RFC 6455 section 5): masked, in fragments, with control frames between,
//! compressed (RFC 7692).

mod deflate;

use deflate::Inflater;

use super::grpc::shortened;
use super::http1::Upgrade;
use super::{End, Limits, Message, Protocol};

/// Two bytes, eight of length, four of mask (RFC 6455 section 5.2).
const HEADER_MAX: usize = 14;
/// A frame met out of place is not believed to be longer than this.
const FRAME_USUAL: u64 = 16 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    fin: bool,
    compressed: bool,
    opcode: u8,
    mask: [u8; 4],
    length: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    Frame(Frame, usize),
    Open,
    No,
}

#[derive(Debug)]
enum Phase {
    Header(Vec<u8>),
    Payload {
        frame: Frame,
        left: u64,
    },
    /// A frame is looked for at the beginning of the next write.
    Lost,
    /// What came without a gap before it was no frame: so is the rest, until the next gap.
    Broken,
}

/// The parser of one direction of one connection.
#[derive(Debug)]
pub(super) struct WebSocket {
    limits: Limits,
    phase: Phase,
    host: Option<String>,
    target: String,
    deflate: bool,
    inflater: Option<Inflater>,
    /// The message in hand.
    message: Option<Unfinished>,
    /// Some frame was read: it is this protocol.
    proven: bool,
}

#[derive(Debug, Default)]
struct Unfinished {
    body: Vec<u8>,
    size: u64,
    compressed: bool,
    broken: bool,
    /// It began with a hole.
    tail: bool,
}

impl WebSocket {
    pub(super) fn new(limits: Limits, upgrade: &Upgrade, host: Option<String>) -> Self {
        WebSocket {
            limits,
            phase: Phase::Header(Vec::new()),
            host,
            target: shortened(&upgrade.target).to_owned(),
            deflate: upgrade.deflate,
            inflater: None,
            message: None,
            proven: false,
        }
    }

    pub(super) fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    pub(super) fn held(&self) -> usize {
        let message = self.message.as_ref().map_or(0, |m| m.body.len());
        message.saturating_add(self.inflater.as_ref().map_or(0, Inflater::held))
    }

    pub(super) fn idle(&self) -> bool {
        let between = matches!(&self.phase, Phase::Header(h) if h.is_empty())
            || matches!(self.phase, Phase::Lost | Phase::Broken);
        between && self.message.is_none()
    }

    /// Takes bytes, says how many, and gives back those that are no WebSocket at all.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<Message>) -> (usize, Option<Vec<u8>>) {
        let deflate = self.deflate;
        match &mut self.phase {
            Phase::Header(header) => {
                let before = header.len();
                let need = HEADER_MAX.saturating_sub(before).min(bytes.len());
                header.extend_from_slice(bytes.get(..need).unwrap_or(bytes));
                match Frame::read(header) {
                    Read::Frame(frame, size) if frame.fits(deflate) => {
                        self.proven = true;
                        self.begin(frame, out);
                        (size.saturating_sub(before), None)
                    }
                    Read::Open => (need, None),
                    _ if self.proven => {
                        self.cut(out);
                        self.phase = Phase::Broken;
                        (bytes.len(), None)
                    }
                    _ => {
                        let held = std::mem::take(header);
                        (need, Some(held))
                    }
                }
            }
            &mut Phase::Payload { frame, left } => {
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let done = frame.length.saturating_sub(left);
                self.payload(&frame, done, bytes.get(..take).unwrap_or(bytes));
                let left = left.saturating_sub(take as u64);
                self.phase = Phase::Payload { frame, left };
                if left == 0 {
                    self.frame_done(&frame, out);
                }
                (take, None)
            }
            Phase::Broken => (bytes.len(), None),
            Phase::Lost => {
                if self.plausible(bytes) {
                    self.phase = Phase::Header(Vec::new());
                    return (0, Some(Vec::new()));
                }
                (bytes.len(), None)
            }
        }
    }

    /// Bytes were lost. After a known number of them inside a payload the place is still known.
    pub(super) fn gap(&mut self, lost: u64, out: &mut Vec<Message>) {
        match self.phase {
            Phase::Payload { frame, left } if lost > 0 && lost <= left => {
                let left = left.saturating_sub(lost);
                if !frame.is_control() {
                    self.cut(out);
                    self.message =
                        Some(Unfinished { tail: true, broken: frame.compressed, ..Unfinished::default() });
                }
                self.phase = Phase::Payload { frame, left };
                if left == 0 {
                    self.frame_done(&frame, out);
                }
            }
            _ => self.lose(out),
        }
    }

    pub(super) fn end(&mut self, out: &mut Vec<Message>) {
        self.cut(out);
        if let Phase::Header(header) = &mut self.phase
            && !self.proven
            && !header.is_empty()
        {
            let body = std::mem::take(header);
            let (host, body_len) = (self.host.clone(), body.len() as u64);
            out.push(Message { host, body, body_len, end: End::Cut, ..Message::default() });
        }
        self.phase = Phase::Header(Vec::new());
    }

    fn lose(&mut self, out: &mut Vec<Message>) {
        self.cut(out);
        self.phase = Phase::Lost;
    }

    /// Hands out the message in hand as cut; the compression's context is lost with its end.
    fn cut(&mut self, out: &mut Vec<Message>) {
        if let Some(inflater) = &mut self.inflater {
            inflater.forget();
        }
        if let Some(message) = self.message.take() {
            self.emit(message, End::Cut, out);
        }
    }

    fn begin(&mut self, frame: Frame, out: &mut Vec<Message>) {
        self.phase = Phase::Payload { frame, left: frame.length };
        if matches!(frame.opcode, 1 | 2) {
            if let Some(unfinished) = self.message.take() {
                // A new message inside another: the end of that one was lost.
                self.emit(unfinished, End::Cut, out);
            }
            self.message = Some(Unfinished { compressed: frame.compressed, ..Unfinished::default() });
            if frame.compressed {
                self.inflater.get_or_insert_with(Inflater::new).begin();
            }
        } else if frame.opcode == 0 && self.message.is_none() {
            // Its beginning was not seen; it may be compressed.
            self.message = Some(Unfinished { tail: true, broken: self.deflate, ..Unfinished::default() });
        }
        if frame.length == 0 {
            self.frame_done(&frame, out);
        }
    }

    fn payload(&mut self, frame: &Frame, done: u64, bytes: &[u8]) {
        if frame.is_control() {
            return;
        }
        let Some(message) = &mut self.message else { return };
        // The mask goes on through the payload (RFC 6455 section 5.3).
        let phase = usize::try_from(done % 4).unwrap_or_default();
        let mask = frame.mask.iter().copied().cycle().skip(phase);
        if message.broken {
            // What cannot be inflated has no size either.
        } else if message.compressed {
            let plain: Vec<u8> = bytes.iter().zip(mask).map(|(b, m)| b ^ m).collect();
            let inflater = self.inflater.get_or_insert_with(Inflater::new);
            let limit = self.limits.body;
            message.broken = inflater
                .push(&plain, |b| message_keep(&mut message.body, &mut message.size, limit, b))
                .is_err();
        } else {
            let keep = self.limits.body.saturating_sub(message.body.len());
            message.body.extend(bytes.iter().zip(mask).map(|(b, m)| b ^ m).take(keep));
            message.size = message.size.saturating_add(bytes.len() as u64);
        }
    }

    fn frame_done(&mut self, frame: &Frame, out: &mut Vec<Message>) {
        self.phase = Phase::Header(Vec::new());
        if frame.is_control() || !frame.fin {
            return;
        }
        let Some(mut message) = self.message.take() else { return };
        if message.compressed && !message.broken {
            let limit = self.limits.body;
            if let Some(inflater) = &mut self.inflater {
                let sink = |b: &[u8]| message_keep(&mut message.body, &mut message.size, limit, b);
                message.broken = inflater.finish(sink).is_err();
            }
        }
        self.emit(message, End::Complete, out);
    }

    fn emit(&self, message: Unfinished, end: End, out: &mut Vec<Message>) {
        // An empty message says nothing, and a long run of them would cost memory.
        if message.body.is_empty() {
            return;
        }
        let end = match end {
            End::Complete if message.tail || message.broken => End::Cut,
            End::Complete if (message.body.len() as u64) < message.size => End::Limit,
            other => other,
        };
        out.push(Message {
            protocol: Protocol::WebSocket,
            target: self.target.clone(),
            host: self.host.clone(),
            body: message.body,
            body_len: message.size,
            end,
            ..Message::default()
        });
    }

    /// Whether a write begins with a frame: a masked one that ends with the write, is followed by another, or goes on.
    fn plausible(&self, bytes: &[u8]) -> bool {
        let Read::Frame(frame, size) = Frame::read(bytes) else { return false };
        let masked = bytes.get(1).is_some_and(|b| b & 0x80 != 0);
        if !masked || !frame.fits(self.deflate) || frame.length > FRAME_USUAL {
            return false;
        }
        let end = size.saturating_add(usize::try_from(frame.length).unwrap_or(usize::MAX));
        match bytes.get(end..) {
            Some([]) | None => true,
            Some(next) => !matches!(Frame::read(next), Read::No),
        }
    }
}

fn message_keep(body: &mut Vec<u8>, size: &mut u64, limit: usize, bytes: &[u8]) {
    let keep = limit.saturating_sub(body.len()).min(bytes.len());
    body.extend_from_slice(bytes.get(..keep).unwrap_or(bytes));
    *size = size.saturating_add(bytes.len() as u64);
}

impl Frame {
    fn is_control(&self) -> bool {
        self.opcode >= 8
    }

    /// RSV1 means compression, and only where that was offered, on a message's first frame (RFC 7692 section 6).
    fn fits(&self, deflate: bool) -> bool {
        !self.compressed || (deflate && matches!(self.opcode, 1 | 2))
    }

    /// The frame header at the beginning of the bytes, and its size.
    fn read(bytes: &[u8]) -> Read {
        let &[first, second, ref rest @ ..] = bytes else {
            return match bytes.first() {
                Some(first) if !first_fits(*first) => Read::No,
                _ => Read::Open,
            };
        };
        if !first_fits(first) {
            return Read::No;
        }
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let masked = second & 0x80 != 0;
        let (length, rest) = match second & 0x7f {
            126 => match rest {
                &[a, b, ref rest @ ..] => (u64::from(u16::from_be_bytes([a, b])), rest),
                _ => return Read::Open,
            },
            127 => match rest {
                &[a, b, c, d, e, f, g, h, ref rest @ ..] => {
                    (u64::from_be_bytes([a, b, c, d, e, f, g, h]), rest)
                }
                _ => return Read::Open,
            },
            short => (u64::from(short), rest),
        };
        let smallest = match second & 0x7f {
            126 => 126,
            127 => 65536,
            _ => 0,
        };
        // Lengths are sent as short as can be; control frames are whole and short (section 5.5).
        let control_fits = opcode < 8 || (fin && length <= 125);
        if !first_fits(first) || length < smallest || length > i64::MAX as u64 || !control_fits {
            return Read::No;
        }
        let (mask, rest) = match (masked, rest) {
            (false, rest) => ([0; 4], rest),
            (true, &[a, b, c, d, ref rest @ ..]) => ([a, b, c, d], rest),
            (true, _) => return Read::Open,
        };
        let size = bytes.len().saturating_sub(rest.len());
        Read::Frame(Frame { fin, compressed: first & 0x40 != 0, opcode, mask, length }, size)
    }
}

/// RSV2 and RSV3 are clear, and the opcode is a known one.
fn first_fits(first: u8) -> bool {
    first & 0x30 == 0
        && matches!(first & 0x0f, 0..=2 | 8..=10)
        && (first & 0x40 == 0 || matches!(first & 0x0f, 1 | 2))
}

#[cfg(test)]
mod tests;
