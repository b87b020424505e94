//! DNS queries over UDP and TCP (RFC 1035): which names were asked for. Answers are not looked at.
//!
//! The crates for this (`hickory-proto`, `simple-dns`) read and build whole messages of every record type; here it is the
//! question section alone.

use super::Parsed;
use super::authority::text_of;

/// Questions looked at in one message. Resolvers send one; multicast DNS (RFC 6762) sends several.
const QUESTIONS_MAX: usize = 32;
/// A name's longest form (RFC 1035 section 2.3.4).
const NAME_MAX: usize = 255;
/// Bytes of the fixed header (section 4.1.1).
const HEADER: usize = 12;

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name asked for, lower case, without the final dot. Empty for the root.
    pub name: String,
    /// The record type asked for, as a number (`1` A, `28` AAAA, `65` HTTPS).
    pub qtype: u16,
}

impl Question {
    /// The record type's name, where it is one that phones ask for (IANA DNS parameters).
    pub fn type_name(&self) -> Option<&'static str> {
        Some(match self.qtype {
            1 => "A",
            2 => "NS",
            5 => "CNAME",
            6 => "SOA",
            12 => "PTR",
            15 => "MX",
            16 => "TXT",
            28 => "AAAA",
            33 => "SRV",
            35 => "NAPTR",
            64 => "SVCB",
            65 => "HTTPS",
            255 => "ANY",
            _ => return None,
        })
    }
}

/// Reads one message, as a datagram carries it. `NeedMore`: it fits so far and was cut.
pub fn from_datagram(message: &[u8]) -> Parsed<Vec<Question>> {
    if !header_fits(message) {
        return Parsed::Malformed;
    }
    let Some((header, mut rest)) = message.split_at_checked(HEADER) else { return Parsed::NeedMore };
    let count = match *header {
        [_, _, _, _, a, b, ..] => usize::from(u16::from_be_bytes([a, b])),
        _ => 0,
    };
    if count == 0 || count > QUESTIONS_MAX {
        return Parsed::Malformed;
    }
    let mut questions = Vec::new();
    for _ in 0..count {
        match question(message, &mut rest) {
            Parsed::Complete(question) => questions.push(question),
            Parsed::NeedMore => return Parsed::NeedMore,
            Parsed::Malformed => return Parsed::Malformed,
        }
    }
    Parsed::Complete(questions)
}

/// Whether the bytes may begin a query: QR and Z are clear, the opcode is QUERY, the code is no error.
fn header_fits(header: &[u8]) -> bool {
    let first_fits = header.get(2).is_none_or(|b| b & 0xf8 == 0);
    let second_fits = header.get(3).is_none_or(|b| b & 0xcf == 0);
    first_fits && second_fits
}

fn question<'a>(message: &'a [u8], rest: &mut &'a [u8]) -> Parsed<Question> {
    let mut name = String::new();
    let mut jumped: Option<&[u8]> = None;
    let mut size = 0usize;
    loop {
        let Some((&length, after)) = jumped.unwrap_or(rest).split_first() else { return Parsed::NeedMore };
        let (label, after) = match length {
            0 => (None, after),
            1..=63 => match after.split_at_checked(usize::from(length)) {
                Some((label, after)) => (Some(label), after),
                None => return Parsed::NeedMore,
            },
            // A pointer (section 4.1.4): a second question of multicast DNS may share the first one's tail. One jump, and only
            // backwards, so that it ends.
            0xc0.. if jumped.is_none() => {
                let Some((&low, after)) = after.split_first() else { return Parsed::NeedMore };
                let target = (usize::from(length & 0x3f) << 8) | usize::from(low);
                let here = message.len().saturating_sub(rest.len());
                if target < HEADER || target >= here {
                    return Parsed::Malformed;
                }
                *rest = after;
                jumped = Some(message.get(target..here).unwrap_or_default());
                continue;
            }
            _ => return Parsed::Malformed,
        };
        match &mut jumped {
            Some(jumped) => *jumped = after,
            None => *rest = after,
        }
        let Some(label) = label else { break };
        size = size.saturating_add(label.len()).saturating_add(1);
        if size > NAME_MAX {
            return Parsed::Malformed;
        }
        if !name.is_empty() {
            name.push('.');
        }
        // A dot or control byte inside a label is none of the name's own.
        for piece in label.split_inclusive(|b| *b == b'.' || *b < b' ') {
            match piece.split_last() {
                Some((b, before)) if *b == b'.' || *b < b' ' => {
                    name.push_str(&text_of(before));
                    name.push_str(&format!("%{b:02X}"));
                }
                _ => name.push_str(&text_of(piece)),
            }
        }
    }
    let Some((fixed, after)) = rest.split_at_checked(4) else { return Parsed::NeedMore };
    *rest = after;
    match *fixed {
        // Class IN; the highest bit asks for a unicast answer (RFC 6762 section 5.4).
        [a, b, class_high, 1] if class_high & 0x7f == 0 => {
            name.make_ascii_lowercase();
            Parsed::Complete(Question { name, qtype: u16::from_be_bytes([a, b]) })
        }
        _ => Parsed::Malformed,
    }
}

/// Collects queries of a TCP connection, each behind two bytes of length (RFC 1035 section 4.2.2). Holds at most 64 KiB.
#[derive(Debug, Clone, Default)]
pub struct Collector {
    held: Vec<u8>,
    broken: bool,
}

impl Collector {
    /// At the beginning of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes. `Complete`: the questions of all messages that are whole now. After `Malformed` the
    /// connection is not DNS, and stays so.
    pub fn push(&mut self, bytes: &[u8]) -> Parsed<Vec<Question>> {
        let mut questions = Vec::new();
        let mut rest = bytes;
        while !self.broken {
            let need = match *self.held.as_slice() {
                [a, b, ..] => usize::from(u16::from_be_bytes([a, b])).saturating_add(2),
                _ => 2,
            };
            let take = need.saturating_sub(self.held.len()).min(rest.len());
            let (piece, after) = rest.split_at_checked(take).unwrap_or((rest, &[]));
            self.held.extend_from_slice(piece);
            rest = after;
            if self.held.len() < need {
                // Refuse early what is no query: the first bytes of TLS or HTTP would announce a long message.
                self.broken |= !header_fits(self.held.get(2..).unwrap_or_default());
                break;
            }
            if need == 2 {
                // Either the length has just come, or it is zero.
                if self.held == [0, 0] {
                    self.broken = true;
                }
                continue;
            }
            match from_datagram(self.held.get(2..).unwrap_or_default()) {
                Parsed::Complete(found) => questions.extend(found),
                _ => self.broken = true,
            }
            self.held.clear();
        }
        match (questions.is_empty(), self.broken) {
            (false, _) => Parsed::Complete(questions),
            (true, true) => Parsed::Malformed,
            (true, false) => Parsed::NeedMore,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Composed after RFC 1035 section 4.1, with an EDNS record (RFC 6891) behind the question, as Android sends it.
    const QUERY: &[u8] = include_bytes!("../../fuzz/corpus/dns/a_with_edns");

    fn one(name: &str, qtype: u16) -> Vec<Question> {
        vec![Question { name: name.into(), qtype }]
    }

    #[test]
    fn a_query_names_what_was_asked() {
        let found = from_datagram(QUERY);
        assert_eq!(found, Parsed::Complete(one("www.example.com", 28)));
        assert_eq!(one("x", 28)[0].type_name(), Some("AAAA"));
        assert_eq!(one("x", 4711)[0].type_name(), None);
    }

    #[test]
    fn every_truncation_needs_more_until_the_question_is_there() {
        let question_end = 12 + 17 + 4;
        for end in 0..QUERY.len() {
            let want = if end < question_end { Parsed::NeedMore } else { from_datagram(QUERY) };
            assert_eq!(from_datagram(&QUERY[..end]), want, "cut at {end}");
        }
    }

    #[test]
    fn answers_other_opcodes_and_other_classes_are_refused() {
        for (at, value) in [(2, 0x81), (2, 0x28), (3, 0x83), (5, 0), (5, 200), (12, 0x40), (32, 3)] {
            let mut changed = QUERY.to_vec();
            changed[at] = value;
            assert_eq!(from_datagram(&changed), Parsed::Malformed, "byte {at}");
        }
    }

    #[test]
    fn pointers_go_back_once_and_names_are_bounded() {
        let head = [0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0];
        let mdns =
            [&head[..], b"\x04_ipp\x05local\x00\x00\x0c\x80\x01", b"\x01x\xc0\x11\x00\x0c\x00\x01"].concat();
        let Parsed::Complete(found) = from_datagram(&mdns) else { panic!() };
        assert_eq!((found[0].name.as_str(), found[1].name.as_str()), ("_ipp.local", "x.local"));
        for pointer in [b"\xc0\x0c", b"\xc0\xff", b"\xc0\x00"] {
            let bytes = [&head[..], pointer, &[0, 1, 0, 1]].concat();
            assert_eq!(from_datagram(&bytes), Parsed::Malformed);
        }
        let long =
            [&head[..], &b"\x3fabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk".repeat(5)]
                .concat();
        assert_eq!(from_datagram(&long), Parsed::Malformed);
        let odd = [&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x04A.\n\xff\x00\x00\x01\x00\x01"].concat();
        assert_eq!(from_datagram(&odd), Parsed::Complete(one("a%2e%0a%ff", 1)));
    }

    #[test]
    fn tcp_at_every_split_and_several_in_one() {
        let framed = [&(QUERY.len() as u16).to_be_bytes()[..], QUERY].concat();
        let twice = framed.repeat(2);
        for at in 0..=twice.len() {
            let mut collector = Collector::new();
            let mut found = Vec::new();
            for piece in [&twice[..at], &twice[at..]] {
                match collector.push(piece) {
                    Parsed::Complete(questions) => found.extend(questions),
                    Parsed::NeedMore => {}
                    Parsed::Malformed => panic!("cut at {at}"),
                }
            }
            assert_eq!(
                found,
                [one("www.example.com", 28), one("www.example.com", 28)].concat(),
                "cut at {at}"
            );
        }
        for other in [&b"GET / HTTP/1.1\r\n"[..], &[0x16, 3, 1, 2, 0, 1, 0xff], &[0, 0, 1]] {
            let mut collector = Collector::new();
            assert_eq!(collector.push(other), Parsed::Malformed, "{other:?}");
            assert_eq!(collector.push(&framed), Parsed::Malformed);
        }
    }
}
