//! The promises of what reads bytes from the kernel: records of the programs, and netlink's answers.

use telltale::kernel::netlink::{Transport, sockets_in};
use telltale::record::{Body, Event};

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
