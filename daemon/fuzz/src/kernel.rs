//! The promises of what reads bytes from the kernel: records of the programs, and netlink's answers.

use telltale::kernel::fetch::{Layout, Offers, Sample};
use telltale::kernel::netlink::{Transport, sockets_in};
use telltale::kernel::proc_net::peer_in;
use telltale::record::{Body, ConnectionId, Event, Piece};

/// Bytes in front of what a record carries (`telltale_abi::HEADER_LEN`).
const HEADER: usize = 88;

/// A record is read or refused, what it says fits what it is, and one cut short is refused.
pub fn record(data: &[u8]) {
    let Ok(event) = Event::parse(data) else { return };
    assert!(event.size() >= size_of::<Event>());
    let carried = u32::from_ne_bytes([data[4], data[5], data[6], data[7]]) as usize;
    assert!(Event::parse(&data[..HEADER + carried]).is_ok());
    for end in (0..HEADER + carried).step_by(7) {
        assert!(Event::parse(&data[..end]).is_err());
    }
    if let Body::TlsWrite(piece) | Body::SocketSend(piece) = &event.body {
        assert_eq!(piece.bytes.len(), carried);
        assert!(piece.offset.checked_add(carried as u64).is_some_and(|end| end <= piece.total));
        assert!(piece.start.checked_add(piece.total).is_some());
    }
}

/// An answer is read to its end or refused, and tells of no more sockets than there is room for.
pub fn netlink(data: &[u8]) {
    if let Ok(sockets) = sockets_in(data, Transport::Tcp) {
        // A header of 16 bytes and a `struct inet_diag_msg` of 72.
        assert!(sockets.len() <= data.len() / 88);
        assert!(sockets.iter().all(|socket| socket.peer.is_none_or(|peer| peer.port() != 0)));
    }
}

/// Words of the event that `format` is about.
const WORDS: usize = 4;

/// A `format` file, then behind a NUL samples, each behind its length in two bytes: whatever they say, no more is told as sent
/// than was taken, and nothing that a sample does not hold.
pub fn fetch(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let Ok(text) = std::str::from_utf8(&data[..end]) else { return };
    let Ok(layout) = Layout::parse(text, WORDS) else { return };
    assert_eq!(layout.len(), WORDS * 8);
    let mut offers = Offers::default();
    let mut rest = data.get(end + 1..).unwrap_or_default();
    while let Some((len, body)) = rest.split_first_chunk::<2>() {
        let (body, behind) = body.split_at(usize::from(u16::from_le_bytes(*len)).min(body.len()));
        rest = behind;
        let Some(sample) = Sample::parse(body) else { continue };
        assert!(sample.raw.len() <= body.len());
        let Some(offer) = layout.offer(sample.raw) else { continue };
        assert_eq!(offer.words.len(), layout.len());
        let (object, total) = (offer.object, offer.length & 0xff);
        assert!(offer.head(total).len() as u64 <= total);
        offers.named(sample.tgid, sample.ktime, &offer);
        offers.offered(sample.tid, sample.ktime, offer);
        let connection = ConnectionId { tgid: sample.tgid, object, born: 1 };
        let piece = Piece { start: 0, total, offset: 0, last: true, bytes: Vec::new() };
        let (tid, ktime, body) = (sample.tid, sample.ktime, Body::TlsWrite(piece));
        let event = Event { connection, sequence: 0, ktime, attempt: 1, tid, uid: 0, body };
        let (mut read, mut told, mut last) = (0, 0, false);
        offers.join(event, &mut |event| match event.body {
            Body::TlsWrite(piece) => {
                assert_eq!((piece.offset, piece.total), (read, total));
                assert!(!last, "nothing follows the last piece");
                (read, last) = (read + piece.bytes.len() as u64, piece.last);
                told += 1;
            }
            Body::TlsHost(name) => assert!(!name.is_empty() && name.len() < layout.len()),
            other => panic!("{other:?}"),
        });
        assert!(read <= total && last && (1..=2).contains(&told));
    }
}

/// A table of `/proc/PID/net`: of every inode that stands in it, no port is 0 and no address an IPv4 one in IPv6's clothes.
pub fn proc_net(data: &[u8]) {
    let Ok(table) = std::str::from_utf8(data) else { return };
    for word in table.split_ascii_whitespace().filter_map(|word| word.parse().ok()).take(64) {
        if let Some(peer) = peer_in(table, word) {
            assert!(peer.port() != 0 && peer.ip() == peer.ip().to_canonical());
        }
    }
}
