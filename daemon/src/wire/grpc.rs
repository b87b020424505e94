//! gRPC's length-prefixed messages (gRPC over HTTP/2, "Length-Prefixed-Message"): one flag byte, four bytes of length.

use super::{End, Limits, Message, Protocol};

/// A header that is added to a gRPC message whose compressed flag is set; the coding is in `grpc-encoding`.
pub const COMPRESSED: &str = "grpc-compressed-flag";

/// Fields that later messages of a stream repeat. All of them would let a few bytes on the wire become
/// a whole head in memory each time.
const REPEATED: [&str; 4] = ["content-type", "grpc-encoding", "user-agent", COMPRESSED];
/// Bytes of a repeated path or field.
const REPEATED_MAX: usize = 1024;

/// Whether a content type means this framing. `application/grpc-web` has it too, `application/grpc-web-text` has base64 over it.
pub(super) fn is_grpc(content_type: &[u8]) -> bool {
    let base =
        content_type.split(|&b| b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    match base.strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest, [] | [b'+', ..]) || rest == b"-web" || rest.starts_with(b"-web+"),
        None => false,
    }
}

/// Takes one stream's data apart.
#[derive(Debug, Default)]
pub(super) struct Grpc {
    prefix: Vec<u8>,
    flag: u8,
    left: u64,
    size: u64,
    body: Vec<u8>,
    any: bool,
}

impl Grpc {
    pub(super) fn held(&self) -> usize {
        self.body.len()
    }

    /// `room` bounds what is kept of the message in hand.
    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        head: &Message,
        limits: Limits,
        room: usize,
        out: &mut Vec<Message>,
    ) {
        while !bytes.is_empty() {
            if self.prefix.len() < 5 {
                let need = 5usize.saturating_sub(self.prefix.len()).min(bytes.len());
                let (piece, rest) = bytes.split_at_checked(need).unwrap_or((bytes, &[]));
                self.prefix.extend_from_slice(piece);
                bytes = rest;
                if let &[flag, a, b, c, d] = self.prefix.as_slice() {
                    self.flag = flag;
                    self.left = u64::from(u32::from_be_bytes([a, b, c, d]));
                    self.size = 0;
                    if self.left == 0 {
                        self.emit(head, End::Complete, out);
                    }
                }
                continue;
            }
            let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            let (piece, rest) = bytes.split_at_checked(take).unwrap_or((bytes, &[]));
            let keep = room.min(limits.body).saturating_sub(self.body.len()).min(piece.len());
            self.body.extend_from_slice(piece.get(..keep).unwrap_or(piece));
            self.size = self.size.saturating_add(piece.len() as u64);
            self.left = self.left.saturating_sub(piece.len() as u64);
            bytes = rest;
            if self.left == 0 {
                self.emit(head, End::Complete, out);
            }
        }
    }

    /// The stream is over; a call without any message still is a message.
    pub(super) fn end(&mut self, head: &Message, end: End, out: &mut Vec<Message>) {
        if self.prefix.len() == 5 {
            self.emit(head, End::Cut, out);
        } else if !self.any {
            self.emit(head, end, out);
        }
    }

    fn emit(&mut self, head: &Message, end: End, out: &mut Vec<Message>) {
        let body = std::mem::take(&mut self.body);
        self.prefix.clear();
        let first = !std::mem::replace(&mut self.any, true);
        if body.is_empty() && !first {
            return;
        }
        let mut message = if first { head.clone() } else { repeated(head) };
        if self.flag & 1 != 0 {
            message.headers.push((COMPRESSED.to_owned(), b"1".to_vec()));
        }
        message.protocol = Protocol::Grpc;
        message.end = match end {
            End::Complete if (body.len() as u64) < self.size => End::Limit,
            End::Complete if first && head.end == End::Limit => End::Limit,
            other => other,
        };
        message.body = body;
        message.body_len = std::mem::take(&mut self.size);
        self.flag = 0;
        out.push(message);
    }
}

fn repeated(head: &Message) -> Message {
    let fits =
        |(name, value): &&(String, Vec<u8>)| REPEATED.contains(&name.as_str()) && value.len() <= REPEATED_MAX;
    Message {
        method: head.method.clone(),
        target: shortened(&head.target).to_owned(),
        host: head.host.clone(),
        headers: head.headers.iter().filter(fits).take(REPEATED.len()).cloned().collect(),
        ..Message::default()
    }
}

/// A path that is repeated with every message of a long stream, cut to a bounded length.
pub(super) fn shortened(target: &str) -> &str {
    let mut end = target.len().min(REPEATED_MAX);
    while !target.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    target.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for yes in [
            "application/grpc",
            "application/grpc+proto",
            "Application/gRPC; x",
            "application/grpc-web+proto",
        ] {
            assert!(is_grpc(yes.as_bytes()), "{yes}");
        }
        for no in ["application/grpcx", "application/grpc-web-text", "application/json", ""] {
            assert!(!is_grpc(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn messages_come_apart_at_every_split_and_truncation() {
        let head = Message { target: "/s/M".into(), ..Message::default() };
        let stream = [&[0, 0, 0, 0, 3][..], b"abc", &[1, 0, 0, 0, 1], b"z", &[0, 0, 0, 0, 0]].concat();
        let run = |pieces: &[&[u8]]| {
            let (mut grpc, mut out) = (Grpc::default(), Vec::new());
            for piece in pieces {
                grpc.push(piece, &head, Limits::default(), usize::MAX, &mut out);
            }
            grpc.end(&head, End::Complete, &mut out);
            out
        };
        let whole = run(&[&stream]);
        assert_eq!(whole.iter().map(|m| m.body.as_slice()).collect::<Vec<_>>(), [&b"abc"[..], b"z"]);
        assert_eq!(whole[1].header(COMPRESSED), Some(&b"1"[..]));
        assert_eq!(whole[0].header(COMPRESSED), None);
        for at in 0..=stream.len() {
            assert_eq!(run(&[&stream[..at], &stream[at..]]), whole, "cut at {at}");
            assert!(run(&[&stream[..at]]).len() <= 2);
        }
        assert_eq!(run(&[&stream[..7]])[0].end, End::Cut);
        let (mut grpc, mut out) = (Grpc::default(), Vec::new());
        grpc.push(&stream, &head, Limits { body: 2, ..Limits::default() }, usize::MAX, &mut out);
        assert_eq!((out[0].body.as_slice(), out[0].body_len, out[0].end), (&b"ab"[..], 3, End::Limit));
    }
}
