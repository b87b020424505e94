//! One HTTP/2 stream: a request's fields and body, or a gRPC call's messages.

use super::super::authority::{host_of, text_of};
use super::super::grpc::{self, Grpc};
use super::super::{End, Limits, Message, Protocol};
use super::UNKNOWN_FIELD;

#[derive(Debug)]
pub(super) struct Stream {
    limits: Limits,
    message: Message,
    authority: Option<String>,
    /// Bytes of head kept.
    kept: usize,
    head_done: bool,
    grpc: Option<Grpc>,
    /// Only what came after a hole is still collected.
    tail: bool,
}

/// Takes the fields of one header block.
pub(super) struct Fields<'a> {
    stream: &'a mut Stream,
    room: usize,
}

impl Stream {
    pub(super) fn new(limits: Limits) -> Self {
        let message = Message { protocol: Protocol::H2, ..Message::default() };
        Stream { limits, message, authority: None, kept: 0, head_done: false, grpc: None, tail: false }
    }

    /// A stream whose head was sent before the connection was joined.
    pub(super) fn headless(limits: Limits, host: Option<String>) -> Self {
        let mut stream = Stream::new(limits);
        stream.message.host = host;
        stream.message.end = End::Cut;
        stream
    }

    pub(super) fn held(&self) -> usize {
        let grpc = self.grpc.as_ref().map_or(0, Grpc::held);
        self.kept.saturating_add(self.message.body.len()).saturating_add(grpc)
    }

    pub(super) fn fields(&mut self, room: usize) -> Fields<'_> {
        Fields { stream: self, room }
    }

    /// The first header block is over; says the host.
    pub(super) fn head_done(&mut self) -> Option<String> {
        if std::mem::replace(&mut self.head_done, true) {
            return None;
        }
        let authority = self.authority.take();
        let host =
            authority.as_deref().map(str::as_bytes).or_else(|| self.message.header("host")).and_then(host_of);
        if let Some(authority) = authority
            && self.message.method == "CONNECT"
            && self.message.target.is_empty()
        {
            self.message.target = authority;
        }
        self.message.host.clone_from(&host);
        let is_grpc = self.message.header("content-type").is_some_and(grpc::is_grpc);
        if is_grpc && self.message.body_len == 0 {
            self.grpc = Some(Grpc::default());
        }
        host
    }

    pub(super) fn content(&mut self, bytes: &[u8], room: usize, out: &mut Vec<Message>) {
        if let Some(grpc) = &mut self.grpc {
            grpc.push(bytes, &self.message, self.limits, room.saturating_add(grpc.held()), out);
            return;
        }
        let body = &mut self.message.body;
        let keep = self.limits.body.saturating_sub(body.len()).min(room).min(bytes.len());
        body.extend_from_slice(bytes.get(..keep).unwrap_or(bytes));
        self.message.body_len = self.message.body_len.saturating_add(bytes.len() as u64);
        if keep < bytes.len() && self.message.end == End::Complete {
            self.message.end = End::Limit;
        }
    }

    /// Bytes of the body were lost: what was seen comes out, what follows is a message of its own.
    pub(super) fn hole(&mut self, out: &mut Vec<Message>) {
        let encoded = self.message.header("content-encoding").is_some_and(|v| v != b"identity");
        let host = self.message.host.clone();
        let mut rest = Stream::headless(self.limits, host);
        rest.tail = true;
        rest.head_done = true;
        rest.message.protocol = Protocol::Raw;
        if encoded {
            // The middle of a compressed body says nothing.
            rest.limits.body = 0;
        }
        std::mem::replace(self, rest).end(End::Cut, out);
    }

    pub(super) fn end(mut self, end: End, out: &mut Vec<Message>) {
        if let Some(grpc) = &mut self.grpc {
            grpc.end(&self.message, end, out);
            return;
        }
        if self.tail && self.message.body.is_empty() {
            return;
        }
        if self.message.end == End::Complete || (self.message.end == End::Limit && end == End::Cut) {
            self.message.end = end;
        }
        out.push(self.message);
    }
}

impl Fields<'_> {
    /// One field; none where the table that holds it was not seen being filled.
    pub(super) fn add(&mut self, name: Option<&[u8]>, value: Option<&[u8]>) {
        let stream = &mut *self.stream;
        let size = name.map_or(1, <[u8]>::len).saturating_add(value.map_or(0, <[u8]>::len));
        let kept = stream.kept.saturating_add(size);
        let headers = &mut stream.message.headers;
        if kept > stream.limits.head || headers.len() >= stream.limits.fields || size > self.room {
            self.cut(End::Limit);
            return;
        }
        stream.kept = kept;
        self.room = self.room.saturating_sub(size);
        let value = value.unwrap_or_default();
        match name {
            Some(b":method") => stream.message.method = text_of(value),
            Some(b":path") => stream.message.target = text_of(value),
            Some(b":authority") => stream.authority = Some(text_of(value)),
            // Crumbs of one cookie field (RFC 9113 section 8.2.3).
            Some(b"cookie") => match headers.iter_mut().find(|(n, _)| n == "cookie") {
                Some((_, cookie)) => {
                    cookie.extend_from_slice(b"; ");
                    cookie.extend_from_slice(value);
                }
                None => headers.push(("cookie".to_owned(), value.to_vec())),
            },
            Some(name) => headers.push((text_of(&name.to_ascii_lowercase()), value.to_vec())),
            None => headers.push((UNKNOWN_FIELD.to_owned(), value.to_vec())),
        }
    }

    /// The block could not be read to its end.
    pub(super) fn cut(&mut self, end: End) {
        if self.stream.message.end != End::Cut {
            self.stream.message.end = end;
        }
    }
}
