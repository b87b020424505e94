//! Sockets that were there before us: inode → protocol, addresses and uid, through sock_diag.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use netlink_packet_core::NetlinkPayload;
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use nix::sys::socket::SockProtocol;

use super::{Error, Wire, each_message};

/// What carries a socket's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// One internet socket of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// What carries it.
    pub transport: Transport,
    /// Its inode, as in `socket:[…]` of `/proc/PID/fd`.
    pub inode: u32,
    /// Who opened it.
    pub uid: u32,
    /// Its own address.
    pub local: SocketAddr,
    /// Where it is connected to, if it is.
    pub peer: Option<SocketAddr>,
}

/// Asks the kernel for its sockets.
#[derive(Debug)]
pub struct SocketQuery {
    wire: Wire,
    /// The last table, by inode, and when it was had.
    known: HashMap<u32, Socket>,
    taken: Option<Instant>,
}

/// A connected socket found in a table no older than this stays where it is: inodes are not used again so soon.
const FRESH: Duration = Duration::from_secs(1);
/// One not found is looked for in a new table, but for the sockets of one moment one table does.
const MOMENT: Duration = Duration::from_millis(20);

impl SocketQuery {
    /// Opens the netlink socket.
    ///
    /// # Errors
    /// [`Error::Call`] when the kernel has no sock_diag or does not let us.
    pub fn open() -> Result<Self, Error> {
        let wire = Wire::open("sock_diag", SockProtocol::NetlinkSockDiag, 0)?;
        Ok(SocketQuery { wire, known: HashMap::new(), taken: None })
    }

    /// The socket of this inode; none when it is no TCP or UDP socket of this network namespace.
    ///
    /// The kernel has no question for an inode, only for the whole table, which takes the longer the more sockets there are: a
    /// process that begins to write to many gets by with few tables.
    ///
    /// # Errors
    /// As [`SocketQuery::all`].
    pub fn find(&mut self, inode: u32) -> Result<Option<Socket>, Error> {
        let age = self.taken.map(|taken| taken.elapsed());
        if age.is_some_and(|age| age < FRESH)
            && let Some(socket) = self.known.get(&inode).filter(|socket| socket.peer.is_some())
        {
            return Ok(Some(socket.clone()));
        }
        if age.is_none_or(|age| age >= MOMENT) {
            self.known = self.all()?.into_iter().map(|socket| (socket.inode, socket)).collect();
            self.taken = Some(Instant::now());
        }
        Ok(self.known.get(&inode).cloned())
    }

    /// Every TCP and UDP socket of this network namespace.
    ///
    /// # Errors
    /// When none of the four tables can be had; one that the kernel does not know (a kernel without IPv6 or without
    /// `INET_UDP_DIAG`) is passed over.
    pub fn all(&mut self) -> Result<Vec<Socket>, Error> {
        let mut found = Vec::new();
        let mut refused = None;
        let mut answered = false;
        for (family, socket_id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
            for (protocol, transport) in [(IPPROTO_TCP, Transport::Tcp), (IPPROTO_UDP, Transport::Udp)] {
                let question = SockDiagMessage::InetRequest(InetRequest {
                    family,
                    protocol,
                    extensions: ExtensionFlags::empty(),
                    states: StateFlags::all(),
                    socket_id: socket_id.clone(),
                });
                let asked = self.wire.ask(question, true, |message| {
                    if let SockDiagMessage::InetResponse(response) = message {
                        found.push(socket_of(transport, &response));
                    }
                });
                match asked {
                    Ok(()) => answered = true,
                    Err(error @ Error::Refused { .. }) => refused = Some(error),
                    Err(error) => return Err(error),
                }
            }
        }
        match refused {
            Some(error) if !answered => Err(error),
            _ => Ok(found),
        }
    }
}

/// The sockets that a datagram of sock_diag's answer tells of: what [`SocketQuery::all`] does with each.
///
/// # Errors
/// [`Error::Malformed`].
pub fn sockets_in(datagram: &[u8], transport: Transport) -> Result<Vec<Socket>, Error> {
    let mut found = Vec::new();
    each_message("sock_diag", datagram, |_, payload: NetlinkPayload<SockDiagMessage>| {
        if let NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) = payload {
            found.push(socket_of(transport, &response));
        }
        Ok(())
    })?;
    Ok(found)
}

fn socket_of(transport: Transport, response: &InetResponse) -> Socket {
    let header = &response.header;
    let id = &header.socket_id;
    Socket {
        transport,
        inode: header.inode,
        uid: header.uid,
        local: SocketAddr::new(plain(id.source_address), id.source_port),
        peer: (id.destination_port != 0)
            .then(|| SocketAddr::new(plain(id.destination_address), id.destination_port)),
    }
}

/// An IPv4 peer of an IPv6 socket is an IPv4 peer (RFC 4291 section 2.5.5.2).
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;

    fn inode(fd: i32) -> u32 {
        let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        link.to_str().unwrap().trim_start_matches("socket:[").trim_end_matches(']').parse().unwrap()
    }

    /// Needs no root: sock_diag tells everybody about TCP and UDP.
    #[test]
    fn own_sockets_are_found_by_inode_with_their_peers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let lone = UdpSocket::bind("[::1]:0").or_else(|_| UdpSocket::bind("127.0.0.1:0")).unwrap();
        let all = SocketQuery::open().unwrap().all().unwrap();
        let find = |fd: i32| all.iter().find(|socket| socket.inode == inode(fd));
        let tcp = find(client.as_raw_fd()).unwrap();
        assert_eq!(tcp.transport, Transport::Tcp);
        assert_eq!(tcp.peer, Some(listener.local_addr().unwrap()));
        assert_eq!(tcp.local, client.local_addr().unwrap());
        // One table serves for a while, and a socket that came later gets a new one.
        let mut query = SocketQuery::open().unwrap();
        assert_eq!(query.find(inode(client.as_raw_fd())).unwrap().unwrap(), *tcp);
        let taken = query.taken;
        assert_eq!(query.find(inode(client.as_raw_fd())).unwrap().unwrap(), *tcp);
        assert_eq!(query.taken, taken);
        std::thread::sleep(MOMENT);
        let later = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(query.find(inode(later.as_raw_fd())).unwrap().unwrap().peer, later.peer_addr().ok());
        // Some kernels (KERNEL 4.14 with a bare option set) have no UDP table; then it is simply not listed.
        if let Some(udp) = find(lone.as_raw_fd()) {
            assert_eq!((udp.transport, udp.peer), (Transport::Udp, None));
        }
    }
}
