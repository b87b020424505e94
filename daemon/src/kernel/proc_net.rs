//! Sockets of other network namespaces, of which sock_diag of ours knows nothing: a process's own `/proc/PID/net` has them.
//!
//! The tables are those of proc_pid_net(5): a line per socket, addresses in hexadecimal, each 32-bit word of them as the
//! machine's own number (net/ipv4/tcp_ipv4.c, `get_tcp4_sock`; net/ipv6/tcp_ipv6.c, `get_tcp6_sock`).
#![forbid(unsafe_code)]

use std::{
    fs::{self, File},
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

/// Tables longer than this, some tens of thousands of sockets, are not read to their end.
const LONGEST: u64 = 8 << 20;

/// Whether a process lives in another network namespace than this one; not when it is gone.
pub fn is_foreign(pid: u32) -> bool {
    let namespace = |process: &Path| fs::read_link(process.join("ns/net")).ok();
    let own = namespace(Path::new("/proc/self"));
    namespace(&process(pid)).is_some_and(|other| own.is_some_and(|own| own != other))
}

/// Where the TCP or UDP socket of this inode leads, in the network namespace of a process.
pub fn peer_of(pid: u32, inode: u32) -> Option<SocketAddr> {
    ["tcp6", "tcp", "udp6", "udp"].into_iter().find_map(|table| {
        let mut text = String::new();
        let file = File::open(process(pid).join("net").join(table)).ok()?;
        file.take(LONGEST).read_to_string(&mut text).ok()?;
        peer_in(&text, inode)
    })
}

fn process(pid: u32) -> std::path::PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// Where the socket of this inode leads by a table; none when it is not in it, or not connected.
pub fn peer_in(table: &str, inode: u32) -> Option<SocketAddr> {
    table.lines().skip(1).find_map(|line| {
        // sl, local address, remote address, state, queues, timer, retransmits, uid, timeout, inode.
        let mut fields = line.split_ascii_whitespace();
        let peer = fields.nth(2)?;
        (fields.nth(6)?.parse() == Ok(inode)).then(|| address(peer)).flatten()
    })
}

fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(at..at.checked_add(8)?)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut octets = [0; 16];
            for (nth, bytes) in octets.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *bytes = word(nth.checked_mul(8)?)?;
            }
            Ipv6Addr::from(octets).into()
        }
        _ => return None,
    };
    (port != 0).then(|| SocketAddr::new(ip.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;

    use super::*;

    /// Lines of Linux 6.18 on x86-64, made with a listener and a client; and an IPv6 one.
    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 100 0 0 10 0\n   1: 0200004D:9C40 0A4D0001:1F90 01 00000000:00000000 00:00000000 00000000 10123        0 4712 1 0000000000000000 20 4 30 10 -1\n";
    const TCP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 00000000000000000000000001000000:A000 000077FD000000000000000001000000:01BB 01 00000000:00000000 00:00000000 00000000 10123        0 4713 1 0000000000000000 20 4 30 10 -1\n   1: 0000000000000000FFFF00000200004D:A001 0000000000000000FFFF00000100007F:0050 01 00000000:00000000 00:00000000 00000000 10123        0 4714 1 0\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_other_end_is_read_by_inode() {
        assert_eq!(peer_in(TCP, 4712), Some("1.0.77.10:8080".parse().unwrap()));
        assert_eq!(peer_in(TCP6, 4713), Some("[fd77::1]:443".parse().unwrap()));
        // Of an IPv4 address in IPv6 its own form.
        assert_eq!(peer_in(TCP6, 4714), Some("127.0.0.1:80".parse().unwrap()));
        // A listener leads nowhere, and another's inode is another's.
        assert_eq!((peer_in(TCP, 4711), peer_in(TCP, 471)), (None, None));
    }

    #[test]
    fn a_cut_table_gives_no_other_address() {
        for (table, inode) in [(TCP, 4712), (TCP6, 4713)] {
            let whole = peer_in(table, inode);
            for end in 0..table.len() {
                let cut = peer_in(&table[..end], inode);
                assert!(cut.is_none() || cut == whole, "{end}");
            }
        }
    }

    #[test]
    fn this_processs_own_sockets_are_in_its_tables() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let datagram = UdpSocket::bind("127.0.0.1:0").unwrap();
        datagram.connect("127.0.0.1:9").unwrap();
        let own = std::process::id();
        let inode = |fd: i32| -> u32 {
            let link = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
            let link = link.to_str().unwrap();
            link.strip_prefix("socket:[").unwrap().strip_suffix(']').unwrap().parse().unwrap()
        };
        assert_eq!(peer_of(own, inode(stream.as_raw_fd())), listener.local_addr().ok());
        assert_eq!(peer_of(own, inode(datagram.as_raw_fd())), Some("127.0.0.1:9".parse().unwrap()));
        assert!(!is_foreign(own) && !is_foreign(u32::MAX));
    }
}
