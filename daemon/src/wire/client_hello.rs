//! The TLS ClientHello (RFC 8446 section 4.1.2): which host a connection is for, when nothing else can be read.
//!
//! Own code rather than `tls-parser`: three extensions are wanted, also of a hello whose end was not captured, and
//! that crate gives either the whole message or none of it.

use super::Parsed;

/// A hello is larger than this only by mistake: with post-quantum key shares they have about 2 KiB.
const HELLO_MAX: usize = 64 << 10;
/// Protocols that are kept of an ALPN list.
const ALPN_MAX: usize = 16;

const RECORD_HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The largest record payload, with the allowance that TLS 1.2 gives to encrypted ones (RFC 5246 section 6.2.3).
const RECORD_MAX: usize = 16384 + 2048;

/// What a client says before anything is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientHello {
    /// `server_name` (RFC 6066 section 3), lower case. With `ech` this is the public name of the provider, which may not be
    /// the host that is really meant.
    pub server_name: Option<String>,
    /// `application_layer_protocol_negotiation` (RFC 7301) in the client's order: `h2`, `http/1.1`, …
    pub alpn: Vec<String>,
    /// An `encrypted_client_hello` extension is there (RFC 9849). Browsers also send a meaningless one, on purpose
    /// indistinguishable, so that this says "may be", not "is".
    pub ech: bool,
    /// False when only the beginning was seen; what is absent may then have been in the rest.
    pub complete: bool,
}

/// Reads a handshake message (without record layer, as QUIC carries it).
pub fn from_handshake(bytes: &[u8]) -> Parsed<ClientHello> {
    match bytes {
        [] => Parsed::NeedMore,
        [kind, ..] if *kind != CLIENT_HELLO => Parsed::Malformed,
        &[_, a, b, c, ref rest @ ..] => {
            let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
            if length > HELLO_MAX {
                return Parsed::Malformed;
            }
            match rest.get(..length) {
                None => Parsed::NeedMore,
                Some(body) => match read(body, true) {
                    Some(hello) => Parsed::Complete(hello),
                    None => Parsed::Malformed,
                },
            }
        }
        _ => Parsed::NeedMore,
    }
}

/// Reads the beginning of a TLS stream: one or more records.
pub fn from_records(bytes: &[u8]) -> Parsed<ClientHello> {
    Collector::new().push(bytes)
}

/// Collects a hello that comes in several writes, segments or records. Holds at most 64 KiB.
#[derive(Debug, Clone, Default)]
pub struct Collector {
    /// The record header in the making.
    header: Vec<u8>,
    /// Bytes left of the record in hand.
    left: usize,
    handshake: Vec<u8>,
    done: bool,
}

impl Collector {
    /// At the beginning of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes. After `Complete` or `Malformed` further bytes say `Malformed`.
    pub fn push(&mut self, mut bytes: &[u8]) -> Parsed<ClientHello> {
        while !self.done && !bytes.is_empty() {
            if self.left > 0 {
                let take = self.left.min(bytes.len());
                let (piece, rest) = bytes.split_at_checked(take).unwrap_or((bytes, &[]));
                self.handshake.extend_from_slice(piece);
                self.left = self.left.saturating_sub(take);
                bytes = rest;
                match from_handshake(&self.handshake) {
                    Parsed::NeedMore if self.handshake.len() <= HELLO_MAX => {}
                    Parsed::Complete(hello) => {
                        self.done = true;
                        self.handshake = Vec::new();
                        return Parsed::Complete(hello);
                    }
                    _ => self.done = true,
                }
                continue;
            }
            let Some((&byte, rest)) = bytes.split_first() else { break };
            self.header.push(byte);
            bytes = rest;
            match *self.header.as_slice() {
                [RECORD_HANDSHAKE] | [RECORD_HANDSHAKE, 3] | [_, _, _] | [_, _, _, _] => {}
                // An empty record is allowed by nobody here; without this a run of them would never end.
                [_, _, _, a, b] => match usize::from(u16::from_be_bytes([a, b])) {
                    length @ 1..=RECORD_MAX => {
                        self.left = length;
                        self.header.clear();
                    }
                    _ => self.done = true,
                },
                _ => self.done = true,
            }
        }
        if self.done { Parsed::Malformed } else { Parsed::NeedMore }
    }

    /// What is known when nothing more will come. None when not even the beginning of a hello was seen.
    pub fn finish(self) -> Option<ClientHello> {
        partial(&self.handshake)
    }
}

/// What the beginning of a handshake message says.
pub(super) fn partial(handshake: &[u8]) -> Option<ClientHello> {
    match handshake {
        [CLIENT_HELLO, _, _, _, body @ ..] => read(body, false),
        _ => None,
    }
}

/// A reader of length-prefixed fields. With `whole` a field that is cut short is an error, else the end of what is known.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (piece, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(piece)
    }

    fn u8(&mut self) -> Option<usize> {
        self.take(1)?.first().map(|&b| usize::from(b))
    }

    fn u16(&mut self) -> Option<usize> {
        match self.take(2)? {
            &[a, b] => Some(usize::from(u16::from_be_bytes([a, b]))),
            _ => None,
        }
    }
}

/// The message's body. Cut anywhere, it still gives the extensions before the cut unless `whole` is asked for.
fn read(body: &[u8], whole: bool) -> Option<ClientHello> {
    let mut hello = ClientHello { complete: whole, ..ClientHello::default() };
    match fields(body, &mut hello, whole) {
        Some(()) => Some(hello),
        None => (!whole).then_some(hello),
    }
}

fn fields(body: &[u8], hello: &mut ClientHello, whole: bool) -> Option<()> {
    let mut reader = Reader(body);
    // legacy_version is 3.x, random has 32 bytes.
    if reader.take(2)?.first() != Some(&3) {
        return None;
    }
    reader.take(32)?;
    let session = reader.u8()?;
    reader.take(session)?;
    let suites = reader.u16()?;
    reader.take(suites)?;
    let compressions = reader.u8()?;
    reader.take(compressions)?;
    if whole && reader.0.is_empty() {
        // Extensions are optional before TLS 1.3.
        return Some(());
    }
    let length = reader.u16()?;
    let mut extensions = Reader(match reader.take(length) {
        Some(extensions) => extensions,
        None if whole => return None,
        None => reader.0,
    });
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let length = extensions.u16()?;
        let value = extensions.take(length)?;
        match kind {
            // server_name
            0 => hello.server_name = server_name(value),
            // application_layer_protocol_negotiation
            16 => hello.alpn = alpn(value).unwrap_or_default(),
            // encrypted_client_hello; the draft's number is also the final one.
            0xfe0d => hello.ech = true,
            _ => {}
        }
    }
    Some(())
}

fn server_name(value: &[u8]) -> Option<String> {
    let mut reader = Reader(value);
    let length = reader.u16()?;
    let mut list = Reader(reader.take(length)?);
    while !list.0.is_empty() {
        let kind = list.u8()?;
        let length = list.u16()?;
        let name = list.take(length)?;
        // host_name is the only kind there is.
        if kind == 0 {
            return super::host_of(name);
        }
    }
    None
}

fn alpn(value: &[u8]) -> Option<Vec<String>> {
    let mut reader = Reader(value);
    let length = reader.u16()?;
    let mut list = Reader(reader.take(length)?);
    let mut names = Vec::new();
    while !list.0.is_empty() && names.len() < ALPN_MAX {
        let length = list.u8()?;
        names.push(super::authority::text_of(list.take(length)?));
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ClientHello of RFC 9001 appendix A.2 in one TLS record, and cut into two records.
    const ONE: &[u8] = include_bytes!("../../fuzz/corpus/client_hello/rfc9001_a2");
    const TWO: &[u8] = include_bytes!("../../fuzz/corpus/client_hello/two_records");

    fn expected() -> ClientHello {
        ClientHello {
            server_name: Some("example.com".into()),
            alpn: vec!["alpn".into()],
            ech: false,
            complete: true,
        }
    }

    /// A hello with these extensions.
    fn hello(extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let mut list = Vec::new();
        for (kind, value) in extensions {
            list.extend(kind.to_be_bytes());
            list.extend((value.len() as u16).to_be_bytes());
            list.extend_from_slice(value);
        }
        let mut body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 0x01, 1, 0]].concat();
        body.extend((list.len() as u16).to_be_bytes());
        body.extend(list);
        [&[1, 0][..], &(body.len() as u16).to_be_bytes(), &body].concat()
    }

    #[test]
    fn the_hello_of_rfc_9001_in_one_record_or_two_at_every_split() {
        for bytes in [ONE, TWO] {
            assert_eq!(from_records(bytes), Parsed::Complete(expected()));
            for at in 0..bytes.len() {
                let (a, b) = bytes.split_at(at);
                let mut collector = Collector::new();
                assert_eq!(collector.push(a), Parsed::NeedMore, "cut at {at}");
                assert_eq!(collector.push(b), Parsed::Complete(expected()), "cut at {at}");
            }
            let mut collector = Collector::new();
            let (last, first) = bytes.split_last().unwrap();
            for byte in first {
                assert_eq!(collector.push(&[*byte]), Parsed::NeedMore);
            }
            assert_eq!(collector.push(&[*last]), Parsed::Complete(expected()));
        }
    }

    #[test]
    fn a_truncated_hello_says_what_it_can() {
        let mut named = 0;
        for end in 0..ONE.len() {
            let mut collector = Collector::new();
            assert_eq!(collector.push(&ONE[..end]), Parsed::NeedMore);
            if let Some(hello) = collector.finish() {
                assert!(!hello.complete);
                assert!(matches!(hello.server_name.as_deref(), None | Some("example.com")), "cut at {end}");
                named += usize::from(hello.server_name.is_some());
            }
        }
        assert!(named > 100, "the name stands near the beginning");
    }

    #[test]
    fn ech_and_alpn_and_odd_names() {
        let sni = |name: &[u8]| {
            let entry = [&[0][..], &(name.len() as u16).to_be_bytes(), name].concat();
            [&(entry.len() as u16).to_be_bytes()[..], &entry].concat()
        };
        let bytes = hello(&[
            (0x0a0a, b""),
            (0, &sni(b"Cloud.Example.")),
            (16, b"\x00\x0c\x02h2\x08http/1.1"),
            (0xfe0d, &[0; 40]),
        ]);
        let Parsed::Complete(read) = from_handshake(&bytes) else { panic!("{bytes:?}") };
        assert_eq!(read.server_name.as_deref(), Some("cloud.example"));
        assert_eq!((read.alpn.join(" "), read.ech), ("h2 http/1.1".into(), true));
        for bad in [&b"a b"[..], b"", b"\xff\xfe"] {
            let Parsed::Complete(read) = from_handshake(&hello(&[(0, &sni(bad))])) else { panic!() };
            assert_eq!(read.server_name, None);
        }
        let without = [&[1, 0, 0, 41, 3, 1][..], &[7; 32], &[0, 0, 2, 0, 5, 1, 0]].concat();
        assert_eq!(
            from_handshake(&without),
            Parsed::Complete(ClientHello { complete: true, ..ClientHello::default() })
        );
    }

    #[test]
    fn what_is_no_hello_is_refused_at_once_and_memory_is_bounded() {
        for bytes in
            [&b"GET "[..], &[22, 2], &[23], &[22, 3, 1, 0, 0], &[22, 3, 1, 0xff, 0xff], &[22, 3, 1, 0, 9, 2]]
        {
            assert_eq!(from_records(bytes), Parsed::Malformed, "{bytes:?}");
        }
        assert_eq!(from_handshake(&[1, 0xff, 0, 0]), Parsed::Malformed);
        let broken = hello(&[(0, &[0, 9, 0, 0, 1, b'a'])]);
        assert!(matches!(from_handshake(&broken), Parsed::Complete(h) if h.server_name.is_none()));
        let mut collector = Collector::new();
        assert_eq!(collector.push(&[22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff]), Parsed::NeedMore);
        for _ in 0..10_000 {
            collector.push(&[0; 64]);
            assert!(collector.handshake.len() <= HELLO_MAX + RECORD_MAX);
        }
    }
}
