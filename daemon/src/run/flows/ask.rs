//! Where a process's descriptor leads, as the kernel says now, which may be later than what is asked about.
#![forbid(unsafe_code)]

use std::{
    fs,
    net::{IpAddr, SocketAddr},
};

use super::{parent, process};
use crate::kernel::{Births, netlink::SocketQuery, proc_net};

/// What is to be asked of the kernel; something else in tests.
pub(super) trait Ask {
    /// Where a descriptor leads, and whether that is in another network namespace than this one.
    fn peer(&mut self, tgid: u32, fd: u32) -> Option<Led>;

    /// Since when the descriptor stands for what it does.
    fn born(&mut self, tgid: u32, fd: u32) -> Born;

    /// The process that made this one.
    fn parent(&mut self, tgid: u32) -> Option<u32>;
}

/// The other end of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Led {
    pub(super) peer: SocketAddr,
    /// It was opened in another network namespace: its links are not ours.
    pub(super) foreign: bool,
}

/// Since when a descriptor stands for what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Born {
    /// Sends are not watched: nobody knows.
    Unwatched,
    /// It was closed, or nothing was ever sent through it.
    Gone,
    /// Nanoseconds since boot.
    At(u64),
}

/// Asks this machine's kernel.
pub(super) struct Kernel {
    /// Where the kernel has no sock_diag, `/proc` says the same at more expense.
    sockets: Option<SocketQuery>,
    births: Option<Births>,
}

impl Kernel {
    pub(super) fn new() -> Kernel {
        Kernel { sockets: SocketQuery::open().ok(), births: None }
    }

    pub(super) fn with_births(births: Births) -> Kernel {
        Kernel { births: Some(births), ..Kernel::new() }
    }
}

impl Ask for Kernel {
    fn peer(&mut self, tgid: u32, fd: u32) -> Option<Led> {
        let link = fs::read_link(process(tgid).join("fd").join(fd.to_string())).ok()?;
        let inode: u32 = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        if proc_net::is_foreign(tgid) {
            return proc_net::peer_of(tgid, inode).map(|peer| Led { peer, foreign: true });
        }
        let peer = match self.sockets.as_mut().map(|sockets| sockets.find(inode)) {
            Some(Ok(socket)) => socket?.peer?,
            Some(Err(_)) | None => proc_net::peer_of(tgid, inode)?,
        };
        let ip: IpAddr = peer.ip().to_canonical();
        Some(Led { peer: SocketAddr::new(ip, peer.port()), foreign: false })
    }

    fn born(&mut self, tgid: u32, fd: u32) -> Born {
        match &self.births {
            None => Born::Unwatched,
            Some(births) => births.of(tgid, fd).map_or(Born::Gone, Born::At),
        }
    }

    fn parent(&mut self, tgid: u32) -> Option<u32> {
        parent(tgid)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd as _,
    };

    use super::*;

    #[test]
    fn a_kernel_without_sock_diag_is_asked_where_a_socket_leads_all_the_same() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = listener.local_addr().unwrap();
        let stream = TcpStream::connect(peer).unwrap();
        let mut kernel = Kernel { sockets: None, births: None };
        let led = kernel.peer(std::process::id(), stream.as_raw_fd() as u32);
        assert_eq!(led, Some(Led { peer, foreign: false }));
    }
}
