//! What an Android app asks netd for over `/dev/socket/dnsproxyd`: text commands, each ended by a zero byte.
//!
//! bionic writes `getaddrinfo HOST SERVICE FLAGS FAMILY SOCKTYPE PROTOCOL NETID` (libc/dns/net/getaddrinfo.c),
//! `gethostbyname NETID HOST FAMILY` and `gethostbyaddr ADDRESS LENGTH FAMILY NETID` (libc/dns/net/gethnamaddr.c);
//! `libnetd_client` writes `resnsend NETID FLAGS BASE64` with a DNS message (system/netd/client/NetdClient.cpp,
//! Android 10 and later). `^` stands for an absent name.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, engine::DecodePaddingMode};

use super::{Parsed, dns, host_of};

/// FrameworkListener's buffer before Android 10 had 4,096 bytes; `resnsend` may use as much. What is longer is no command.
const COMMAND_MAX: usize = 8 << 10;
/// Look-ups taken from one push: an app opens a connection per look-up.
const LOOKUPS_MAX: usize = 64;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// The name asked for, lower case, or for a reverse look-up the address.
    pub name: String,
    /// Which command asked.
    pub command: Command,
    /// Android's network id; 0 is the default network.
    pub net_id: Option<u32>,
    /// The record type, where one was asked for by number.
    pub qtype: Option<u16>,
}

/// A command that asks for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Addresses of a name.
    GetAddrInfo,
    /// Addresses of a name, the old call.
    GetHostByName,
    /// The name of an address.
    GetHostByAddr,
    /// A DNS message as it is.
    ResNSend,
}

/// Collects the commands of one connection. Holds at most 8 KiB.
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

    /// Takes the next bytes. `Complete`: the look-ups that are whole now (none for a command that asks for no name).
    /// After `Malformed` the connection speaks something else, and stays so.
    pub fn push(&mut self, bytes: &[u8]) -> Parsed<Vec<Lookup>> {
        let mut found = Vec::new();
        let mut whole = false;
        for piece in bytes.split_inclusive(|&b| b == 0) {
            if self.broken || self.held.len().saturating_add(piece.len()) > COMMAND_MAX {
                self.broken = true;
                self.held = Vec::new();
                break;
            }
            self.held.extend_from_slice(piece);
            // A command is text.
            if piece.iter().any(|&b| b != 0 && !(b' '..0x7f).contains(&b)) {
                self.broken = true;
                self.held = Vec::new();
                break;
            }
            if let Some(command) = self.held.strip_suffix(b"\0") {
                whole = true;
                if found.len() < LOOKUPS_MAX {
                    found.extend(command_of(command).unwrap_or_default());
                }
                self.held.clear();
            }
        }
        match (whole, self.broken) {
            (true, _) => Parsed::Complete(found),
            (false, true) => Parsed::Malformed,
            (false, false) => Parsed::NeedMore,
        }
    }
}

/// The look-ups of one command without its zero byte.
fn command_of(command: &[u8]) -> Option<Vec<Lookup>> {
    let text = std::str::from_utf8(command).ok()?;
    let words: Vec<&str> = text.split(' ').filter(|w| !w.is_empty()).collect();
    let number = |word: &str| word.parse().ok();
    let lookup = |name: &str, command, net_id: &str| {
        let name = if name == "^" { None } else { host_of(name.as_bytes()) };
        name.map(|name| vec![Lookup { name, command, net_id: number(net_id), qtype: None }])
    };
    match *words.as_slice() {
        ["getaddrinfo", host, _service, _flags, _family, _socktype, _protocol, net_id, ..] => {
            lookup(host, Command::GetAddrInfo, net_id)
        }
        ["gethostbyname", net_id, host, ..] => lookup(host, Command::GetHostByName, net_id),
        ["gethostbyaddr", address, _length, _family, net_id, ..] => {
            lookup(address, Command::GetHostByAddr, net_id)
        }
        ["resnsend", net_id, _flags, message, ..] => {
            let message = BASE64.decode(message).ok()?;
            let Parsed::Complete(questions) = dns::from_datagram(&message) else { return None };
            let net_id = number(net_id);
            let lookups = questions.into_iter().map(|q| Lookup {
                name: q.name,
                command: Command::ResNSend,
                net_id,
                qtype: Some(q.qtype),
            });
            Some(lookups.collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `resnsend` command composed from the query in `corpus/dns`.
    const RESNSEND: &[u8] = include_bytes!("../../fuzz/corpus/dnsproxyd/resnsend");

    fn lookups(bytes: &[u8]) -> Vec<Lookup> {
        match Collector::new().push(bytes) {
            Parsed::Complete(found) => found,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_command_names_what_was_asked() {
        let ask =
            |name: &str, command, net_id, qtype| vec![Lookup { name: name.into(), command, net_id, qtype }];
        assert_eq!(
            lookups(b"getaddrinfo Data.Example.com ^ 1024 0 1 0 100\0"),
            ask("data.example.com", Command::GetAddrInfo, Some(100), None)
        );
        assert_eq!(
            lookups(b"gethostbyname 0 api.example 2\0"),
            ask("api.example", Command::GetHostByName, Some(0), None)
        );
        assert_eq!(
            lookups(b"gethostbyaddr 2001:db8::1 16 10 0\0"),
            ask("2001:db8::1", Command::GetHostByAddr, Some(0), None)
        );
        assert_eq!(lookups(RESNSEND), ask("www.example.com", Command::ResNSend, Some(0), Some(28)));
    }

    #[test]
    fn commands_without_a_name_say_nothing() {
        for command in [
            &b"getaddrinfo ^ 80 0 0 0 0 0\0"[..],
            b"getdnsnetid 0\0",
            b"getaddrinfo short\0",
            b"resnsend 0 0 %%%\0",
            b"\0",
        ] {
            assert_eq!(lookups(command), []);
        }
    }

    #[test]
    fn at_every_split_and_several_in_one() {
        let sent = [RESNSEND, b"getaddrinfo a.example ^ 0 0 0 0 0\0"].concat();
        let whole = lookups(&sent);
        assert_eq!(whole.len(), 2);
        for at in 0..=sent.len() {
            let (mut collector, mut found) = (Collector::new(), Vec::new());
            for piece in [&sent[..at], &sent[at..]] {
                if let Parsed::Complete(more) = collector.push(piece) {
                    found.extend(more);
                }
            }
            assert_eq!(found, whole, "cut at {at}");
            assert!(!matches!(Collector::new().push(&sent[..at]), Parsed::Malformed));
        }
    }

    #[test]
    fn what_is_no_command_is_refused_and_memory_is_bounded() {
        assert_eq!(Collector::new().push(b"\x16\x03\x01"), Parsed::Malformed);
        let mut collector = Collector::new();
        for _ in 0..100 {
            collector.push(&[b'a'; 1000]);
            assert!(collector.held.len() <= COMMAND_MAX);
        }
        assert_eq!(collector.push(b"gethostbyname 0 a 2\0"), Parsed::Malformed);
        assert_eq!(lookups(&b"gethostbyname 0 a.example 2\0".repeat(500)).len(), LOOKUPS_MAX);
    }
}
