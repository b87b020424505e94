//! HTTP/2 as a client sends it (RFC 9113): frames, streams, header blocks; from the preface on or from any frame on.
//!
//! What the server says is not seen, and nothing here needs it: its settings limit the client, and the client's header
//! table announces its own size. Streams are kept apart, bounded in number and together in bytes.

pub(super) mod frame;
mod hpack;
mod stream;

use std::collections::BTreeMap;

use frame::{Boundary, Frame, HEADER};
use stream::Stream;

use super::replay::drive;
use super::{End, Limits, Message};

/// What a client sends first (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The name, and with an empty value the field, that stands for a header field whose table entry was sent before Telltale
/// joined the connection.
pub const UNKNOWN_FIELD: &str = "?";
/// Two frames of the usual largest size: within this a boundary must show itself.
const SEARCH_MAX: usize = 2 * (16384 + HEADER);

#[derive(Debug)]
enum Phase {
    /// Collecting a frame header.
    Header(Vec<u8>),
    /// In a DATA payload: bytes of content, then bytes of padding. None: the pad length comes first.
    Data { stream: u32, end: bool, left: u32, padding: Option<u32> },
    /// In a HEADERS or CONTINUATION payload.
    Block { frame: Frame, left: u32, payload: Vec<u8> },
    /// In a RST_STREAM payload, which says nothing that is needed.
    Skip { left: u32 },
    /// Looking for the next frame boundary.
    Lost { held: Vec<u8>, from: usize },
}

/// A header block in the making.
#[derive(Debug)]
struct Block {
    stream: u32,
    end_stream: bool,
    bytes: Vec<u8>,
    /// Why its end is missing, if it is.
    cut: Option<End>,
}

/// The parser of one direction of one connection.
#[derive(Debug)]
pub(super) struct H2 {
    limits: Limits,
    phase: Phase,
    block: Option<Block>,
    hpack: hpack::Decoder,
    streams: BTreeMap<u32, Stream>,
    /// Where bytes that cannot be placed went to, too.
    last_host: Option<String>,
}

impl H2 {
    /// After the preface, or `late`: at some later frame.
    pub(super) fn new(limits: Limits, late: bool) -> Self {
        H2 {
            limits,
            phase: Phase::Header(Vec::new()),
            block: None,
            hpack: hpack::Decoder::new(late),
            streams: BTreeMap::new(),
            last_host: None,
        }
    }

    /// Bytes held in memory.
    pub(super) fn held(&self) -> usize {
        let phase = match &self.phase {
            Phase::Header(bytes) | Phase::Block { payload: bytes, .. } | Phase::Lost { held: bytes, .. } => {
                bytes.len()
            }
            _ => 0,
        };
        let block = self.block.as_ref().map_or(0, |b| b.bytes.len());
        let streams = self.streams.values().map(Stream::held).fold(0, usize::saturating_add);
        phase.saturating_add(block).saturating_add(streams).saturating_add(self.hpack.held())
    }

    /// Whether nothing is unfinished.
    pub(super) fn idle(&self) -> bool {
        let between = matches!(&self.phase, Phase::Header(h) if h.is_empty());
        between && self.block.is_none() && self.streams.is_empty()
    }

    /// Takes bytes, says how many, and gives back those in which it found its place again.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<Message>) -> (usize, Option<Vec<u8>>) {
        if let Phase::Lost { held, .. } = &mut self.phase {
            let room = SEARCH_MAX.saturating_sub(held.len()).max(1).min(bytes.len());
            held.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            return (room, self.search(false, out));
        }
        (self.in_place(bytes, out), None)
    }

    fn in_place(&mut self, bytes: &[u8], out: &mut Vec<Message>) -> usize {
        match &mut self.phase {
            Phase::Header(header) => {
                let need = HEADER.saturating_sub(header.len()).min(bytes.len());
                header.extend_from_slice(bytes.get(..need).unwrap_or(bytes));
                if let Some(frame) = Frame::read(header) {
                    let header = std::mem::take(header);
                    self.on_header(frame, header, out);
                }
                need
            }
            Phase::Data { left, padding: padding @ None, .. } => {
                let pad = u32::from(bytes.first().copied().unwrap_or_default());
                *left = left.saturating_sub(1);
                // A pad length beyond the payload is an error (section 6.1); what there is counts as padding.
                *padding = Some(pad.min(*left));
                self.data_done(out);
                1
            }
            &mut Phase::Data { stream, left, padding: Some(padding), .. } => {
                let content = left.saturating_sub(padding);
                let take = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(if content > 0 {
                    content
                } else {
                    left
                });
                let taken = usize::try_from(take).unwrap_or(bytes.len());
                if content > 0 {
                    self.content(stream, bytes.get(..taken).unwrap_or(bytes), out);
                }
                if let Phase::Data { left, .. } = &mut self.phase {
                    *left = left.saturating_sub(take);
                }
                self.data_done(out);
                taken
            }
            Phase::Block { frame, left, payload } => {
                let take = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(*left);
                let taken = usize::try_from(take).unwrap_or(bytes.len());
                let room = self.limits.head.saturating_sub(payload.len()).min(taken);
                payload.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
                *left = left.saturating_sub(take);
                if *left == 0 {
                    let (frame, payload) = (*frame, std::mem::take(payload));
                    self.phase = Phase::Header(Vec::new());
                    self.on_block(frame, &payload, out);
                }
                taken
            }
            Phase::Skip { left } => {
                let take = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(*left);
                *left = left.saturating_sub(take);
                if *left == 0 {
                    self.phase = Phase::Header(Vec::new());
                }
                usize::try_from(take).unwrap_or(bytes.len())
            }
            Phase::Lost { .. } => bytes.len(),
        }
    }

    /// Bytes were lost. After a known number of them inside a payload the place is still known.
    pub(super) fn gap(&mut self, lost: u64, out: &mut Vec<Message>) {
        let lost32 = u32::try_from(lost).unwrap_or(u32::MAX);
        let inside = |left: u32| lost > 0 && lost32 <= left;
        match &mut self.phase {
            Phase::Data { stream, left, padding, .. } if inside(*left) => {
                *left = left.saturating_sub(lost32);
                *padding = Some(padding.unwrap_or(0).min(*left));
                let id = *stream;
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.hole(out);
                }
                self.data_done(out);
            }
            Phase::Block { frame, left, .. } if inside(*left) => {
                let (id, left) = (frame.stream, left.saturating_sub(lost32));
                self.block = None;
                self.hpack.forget();
                self.drop_stream(id, End::Cut, out);
                self.phase = if left == 0 { Phase::Header(Vec::new()) } else { Phase::Skip { left } };
            }
            Phase::Skip { left } if inside(*left) => {
                *left = left.saturating_sub(lost32);
                if *left == 0 {
                    self.phase = Phase::Header(Vec::new());
                }
            }
            _ => self.lose(Vec::new(), out),
        }
    }

    /// The sender paused: what can be decided now is decided.
    pub(super) fn flush(&mut self, out: &mut Vec<Message>) {
        if matches!(&self.phase, Phase::Lost { held, .. } if !held.is_empty()) {
            let found = self.search(true, out).unwrap_or_default();
            drive(&found, |piece| self.push(piece, out));
        }
    }

    /// The connection is over: hands out what is unfinished.
    pub(super) fn end(&mut self, out: &mut Vec<Message>) {
        self.flush(out);
        if let Some(block) = self.block.take() {
            self.finish_block(Block { cut: Some(End::Cut), ..block }, out);
        }
        self.cut_all(out);
    }

    fn on_header(&mut self, frame: Frame, header: Vec<u8>, out: &mut Vec<Message>) {
        if !frame.allowed() {
            self.lose(header, out);
            return;
        }
        let continues = frame.kind == frame::CONTINUATION;
        if let Some(block) = self.block.take_if(|b| !continues || b.stream != frame.stream) {
            // A header block is not to be interrupted (section 4.3); its end is lost.
            self.finish_block(Block { cut: Some(End::Cut), ..block }, out);
        }
        self.phase = match frame.kind {
            frame::DATA => Phase::Data {
                stream: frame.stream,
                end: frame.flags & frame::END_STREAM != 0,
                left: frame.length,
                padding: (frame.flags & frame::PADDED == 0).then_some(0),
            },
            frame::HEADERS => Phase::Block { frame, left: frame.length, payload: Vec::new() },
            frame::CONTINUATION if self.block.is_some() => {
                Phase::Block { frame, left: frame.length, payload: Vec::new() }
            }
            frame::RST_STREAM => {
                self.drop_stream(frame.stream, End::Cut, out);
                Phase::Skip { left: frame.length }
            }
            frame::CONTINUATION => {
                // The beginning of the block was not seen: what it inserted is not known.
                self.hpack.forget();
                Phase::Skip { left: frame.length }
            }
            _ => Phase::Skip { left: frame.length },
        };
        match &self.phase {
            Phase::Data { left: 0, .. } => self.data_done(out),
            Phase::Block { left: 0, .. } => {
                self.phase = Phase::Header(Vec::new());
                self.on_block(frame, &[], out);
            }
            Phase::Skip { left: 0 } => self.phase = Phase::Header(Vec::new()),
            _ => {}
        }
    }

    fn data_done(&mut self, out: &mut Vec<Message>) {
        if let Phase::Data { stream, end, left: 0, .. } = self.phase {
            self.phase = Phase::Header(Vec::new());
            if end {
                self.drop_stream(stream, End::Complete, out);
            }
        }
    }

    /// Bytes of a stream's body. A stream whose head was not seen has one that says so.
    fn content(&mut self, id: u32, bytes: &[u8], out: &mut Vec<Message>) {
        self.make_room(id, out);
        let held = self.streams.values().map(Stream::held).fold(0, usize::saturating_add);
        let room = self.limits.held.saturating_sub(held);
        let (limits, host) = (self.limits, &self.last_host);
        let stream = self.streams.entry(id).or_insert_with(|| Stream::headless(limits, host.clone()));
        stream.content(bytes, room, out);
    }

    fn make_room(&mut self, id: u32, out: &mut Vec<Message>) {
        if self.streams.len() >= self.limits.streams.max(1) && !self.streams.contains_key(&id) {
            // The oldest is the likeliest to be over without its end having been seen.
            if let Some((_, stream)) = self.streams.pop_first() {
                stream.end(End::Limit, out);
            }
        }
    }

    fn on_block(&mut self, frame: Frame, payload: &[u8], out: &mut Vec<Message>) {
        let mut fragment = payload;
        let cut = payload.len() < usize::try_from(frame.length).unwrap_or(usize::MAX);
        let mut block = match self.block.take() {
            Some(block) => block,
            None => {
                if frame.flags & frame::PADDED != 0 {
                    let (&pad, rest) = fragment.split_first().unwrap_or((&0, &[]));
                    fragment = rest.get(..rest.len().saturating_sub(usize::from(pad))).unwrap_or_default();
                }
                if frame.flags & frame::PRIORITISED != 0 {
                    fragment = fragment.get(5..).unwrap_or_default();
                }
                let end_stream = frame.flags & frame::END_STREAM != 0;
                Block { stream: frame.stream, end_stream, bytes: Vec::new(), cut: None }
            }
        };
        let room = self.limits.head.saturating_sub(block.bytes.len());
        if cut || fragment.len() > room {
            block.cut = Some(End::Limit);
        }
        block.bytes.extend_from_slice(fragment.get(..room).unwrap_or(fragment));
        if frame.flags & frame::END_HEADERS != 0 {
            self.finish_block(block, out);
        } else {
            self.block = Some(block);
        }
    }

    fn finish_block(&mut self, block: Block, out: &mut Vec<Message>) {
        self.make_room(block.stream, out);
        let limits = self.limits;
        let held = self.streams.values().map(Stream::held).fold(0, usize::saturating_add);
        let stream = self.streams.entry(block.stream).or_insert_with(|| Stream::new(limits));
        let room = self.limits.held.saturating_sub(held);
        let mut fields = stream.fields(room);
        let whole = self.hpack.decode(&block.bytes, |name, value| fields.add(name, value));
        if block.cut.is_some() {
            self.hpack.forget();
        }
        if let Some(why) = block.cut.or(whole.is_err().then_some(End::Cut)) {
            fields.cut(why);
        }
        if let Some(host) = stream.head_done() {
            self.last_host = Some(host);
        }
        if block.end_stream {
            self.drop_stream(block.stream, End::Complete, out);
        }
    }

    fn drop_stream(&mut self, id: u32, end: End, out: &mut Vec<Message>) {
        if let Some(stream) = self.streams.remove(&id) {
            stream.end(end, out);
        }
    }

    fn cut_all(&mut self, out: &mut Vec<Message>) {
        for (_, stream) in std::mem::take(&mut self.streams) {
            stream.end(End::Cut, out);
        }
    }

    /// The place in the stream of frames is not known any more.
    fn lose(&mut self, held: Vec<u8>, out: &mut Vec<Message>) {
        self.flush(out);
        if let Phase::Lost { held, .. } = &mut self.phase {
            let held = std::mem::take(held);
            self.unplaced(held, out);
        }
        if let Some(block) = self.block.take() {
            self.finish_block(Block { cut: Some(End::Cut), ..block }, out);
        }
        self.cut_all(out);
        self.hpack.forget();
        self.phase = Phase::Lost { held, from: 0 };
    }

    /// Looks for a boundary in the bytes held; gives back the bytes from there on.
    fn search(&mut self, ended: bool, out: &mut Vec<Message>) -> Option<Vec<u8>> {
        let Phase::Lost { held, from } = &mut self.phase else { return None };
        let (keep, found) = match frame::boundary(held, *from, ended) {
            Boundary::At(at) => (at, true),
            Boundary::OpenFrom(_) if ended => (held.len(), false),
            Boundary::OpenFrom(at) if held.len() >= SEARCH_MAX => (at.max(1), false),
            Boundary::OpenFrom(at) => {
                *from = at;
                return None;
            }
        };
        let tail = held.split_off(keep);
        let before = std::mem::take(held);
        self.unplaced(before, out);
        if found {
            self.phase = Phase::Header(Vec::new());
            return Some(tail);
        }
        self.phase = Phase::Lost { held: tail, from: 0 };
        None
    }

    fn unplaced(&self, body: Vec<u8>, out: &mut Vec<Message>) {
        if !body.is_empty() {
            let body_len = body.len() as u64;
            let host = self.last_host.clone();
            out.push(Message { host, body, body_len, end: End::Cut, ..Message::default() });
        }
    }
}

#[cfg(test)]
mod tests;
