//! The sample packets of RFC 9001 appendix A.2 and RFC 9369 appendix A.2, and a hello cut and shuffled over two datagrams
//! (composed with another implementation of the same RFC, pyca/cryptography). The files hold datagrams, each behind its length.

use super::*;

const V1: &[u8] = include_bytes!("../../../fuzz/corpus/quic/rfc9001_a2");
const V2: &[u8] = include_bytes!("../../../fuzz/corpus/quic/rfc9369_a2");
const SHUFFLED: &[u8] = include_bytes!("../../../fuzz/corpus/quic/shuffled_two_datagrams");

fn datagrams(mut file: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let [a, b, rest @ ..] = file {
        let (datagram, after) = rest.split_at(usize::from(u16::from_be_bytes([*a, *b])));
        all.push(datagram);
        file = after;
    }
    all
}

fn expected() -> Parsed<ClientHello> {
    Parsed::Complete(ClientHello {
        server_name: Some("example.com".into()),
        alpn: vec!["alpn".into()],
        ech: false,
        complete: true,
    })
}

#[test]
fn the_initial_packets_of_the_rfcs() {
    for (file, version) in [(V1, Version::V1), (V2, Version::V2)] {
        let datagram = datagrams(file)[0];
        assert!(looks_like_initial(datagram));
        let mut collector = Collector::new();
        assert_eq!(collector.push(datagram), expected());
        assert_eq!(collector.version(), Some(version));
    }
}

#[test]
fn a_shuffled_hello_over_two_datagrams_in_both_orders() {
    let sent = datagrams(SHUFFLED);
    for order in [[0, 1], [1, 0]] {
        let mut collector = Collector::new();
        assert_eq!(collector.push(sent[order[0]]), Parsed::NeedMore);
        assert_eq!(collector.push(sent[order[1]]), expected());
    }
    let mut collector = Collector::new();
    collector.push(sent[0]);
    assert_eq!(collector.finish(), Some(ClientHello::default()), "50 bytes of it were seen");
    let mut collector = Collector::new();
    for _ in 0..PACKETS_MAX + 1 {
        collector.push(sent[0]);
    }
    assert_eq!(collector.push(sent[1]), Parsed::Malformed, "bounded");
}

#[test]
fn coalesced_packets_are_taken_apart() {
    let sent = datagrams(SHUFFLED);
    let mut collector = Collector::new();
    assert_eq!(collector.push(&[sent[0], sent[1], b"\x40short header"].concat()), expected());
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    let datagram = datagrams(V1)[0];
    for end in 0..datagram.len() {
        assert_eq!(Collector::new().push(&datagram[..end]), Parsed::Malformed, "cut at {end}");
    }
    for at in (0..datagram.len()).step_by(7) {
        let mut changed = datagram.to_vec();
        changed[at] ^= 0x10;
        assert_eq!(Collector::new().push(&changed), Parsed::Malformed, "byte {at}");
    }
}

#[test]
fn keys_stay_while_the_destination_changes_and_follow_a_retry() {
    let sent = datagrams(SHUFFLED);
    let mut collector = Collector::new();
    collector.push(sent[0]);
    // Another connection's packet: neither these keys nor lost by it.
    assert_eq!(collector.push(datagrams(V2)[0]), expected(), "a new version means new keys");
}

#[test]
fn pieces_and_offsets_are_bounded() {
    let mut collector = Collector::new();
    collector.fill(u64::MAX, b"x");
    collector.fill(CRYPTO_MAX as u64, b"x");
    assert!(collector.crypto.is_empty());
    for piece in 0..200 {
        collector.fill(piece * 4 + 1, b"ab");
    }
    assert!(collector.filled.len() <= PIECES_MAX && collector.prefix() == 0);
    collector.fill(0, &[1; 1000]);
    assert_eq!((collector.prefix(), collector.filled.len()), (1000, 1));
}
