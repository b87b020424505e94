//! Netlink: which interfaces there are, which one a flow leaves by, which socket belongs to whom.
//!
//! The messages are `netlink-packet-route`'s and `netlink-packet-sock-diag`'s; here is only the socket under them.

mod links;
mod sockets;

pub use links::{Link, LinkKind, LinkSocket, Links};
pub use sockets::{Socket, SocketQuery, Transport, sockets_in};

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt::ReceiveTimeout,
};
use nix::sys::time::TimeVal;

/// Replies are read into this much at once: the kernel's own limit for one dump message (`NLMSG_GOODSIZE` is smaller).
const BUFFER: usize = 32 << 10;
/// A dump of more messages than this is cut; a phone has some thousand sockets and some dozen links.
const MESSAGES_MAX: usize = 65_536;
/// The kernel answers at once or not at all.
const PATIENCE_SECONDS: i64 = 2;

/// What went wrong with netlink.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("netlink {what} {call}: {errno}{hint}")]
    Call {
        /// `route` or `sock_diag`.
        what: &'static str,
        /// The system call.
        call: &'static str,
        /// Its error.
        errno: Errno,
        /// What the user can do.
        hint: &'static str,
    },
    /// The kernel refused the request.
    #[error("netlink {what}: the kernel refused the request ({errno})")]
    Refused {
        /// `route` or `sock_diag`.
        what: &'static str,
        /// Its error.
        errno: Errno,
    },
    /// A reply that is none.
    #[error("netlink {what}: a reply that cannot be read: {source}")]
    Malformed {
        /// `route` or `sock_diag`.
        what: &'static str,
        /// What the message crate said.
        source: DecodeError,
    },
}

impl Error {
    /// Whether events were dropped because they came faster than they were read: ask for everything again.
    pub fn is_overrun(&self) -> bool {
        matches!(self, Error::Call { errno: Errno::ENOBUFS, .. })
    }
}

/// One netlink socket.
#[derive(Debug)]
struct Wire {
    what: &'static str,
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// Whether a read waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Yes,
    No,
}

impl Wire {
    /// Opens a socket that listens to `groups` (a bit mask; 0 for questions only).
    fn open(what: &'static str, protocol: SockProtocol, groups: u32) -> Result<Self, Error> {
        let failed = |call, errno| Error::Call {
            what,
            call,
            errno,
            hint: match errno {
                Errno::EPROTONOSUPPORT => "; this kernel was built without it",
                Errno::EACCES | Errno::EPERM => "; run as root",
                _ => "",
            },
        };
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
            .map_err(|errno| failed("socket", errno))?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(|errno| failed("bind", errno))?;
        setsockopt(&fd, ReceiveTimeout, &TimeVal::new(PATIENCE_SECONDS, 0))
            .map_err(|errno| failed("setsockopt SO_RCVTIMEO", errno))?;
        Ok(Wire { what, fd, sequence: 0, buffer: vec![0; BUFFER] })
    }

    fn failed(&self, call: &'static str, errno: Errno) -> Error {
        Error::Call { what: self.what, call, errno, hint: "" }
    }

    /// Asks, and hands every message of the answer on.
    fn ask<M>(&mut self, question: M, dump: bool, mut take: impl FnMut(M)) -> Result<(), Error>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
        NetlinkPayload<M>: From<M>,
    {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | if dump { NLM_F_DUMP } else { NLM_F_ACK };
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty()).map_err(|errno| self.failed("send", errno))?;
        let mut left = MESSAGES_MAX;
        loop {
            let (sequence, mut over) = (self.sequence, false);
            let any = self.read(Wait::Yes, |header, payload| {
                if header.sequence_number != sequence {
                    return Ok(());
                }
                match payload {
                    NetlinkPayload::InnerMessage(inner) => {
                        left = left.saturating_sub(1);
                        take(inner);
                    }
                    NetlinkPayload::Done(_) => over = true,
                    NetlinkPayload::Error(error) => {
                        over = true;
                        if let Some(code) = error.code {
                            return Err(Errno::from_raw(code.get().saturating_abs()));
                        }
                    }
                    _ => {}
                }
                Ok(())
            })?;
            if over || !any || left == 0 {
                return Ok(());
            }
        }
    }

    /// Reads one datagram of messages; false when there is none.
    fn read<M>(
        &mut self,
        wait: Wait,
        take: impl FnMut(NetlinkHeader, NetlinkPayload<M>) -> Result<(), Errno>,
    ) -> Result<bool, Error>
    where
        M: NetlinkDeserializable,
    {
        let flags = if wait == Wait::Yes { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
        let size = loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, flags) {
                Ok(size) => break size,
                Err(Errno::EINTR) => {}
                // EAGAIN ends a non-blocking read and, with the timeout, a wait for a kernel that has nothing to say.
                Err(Errno::EAGAIN) => return Ok(false),
                Err(errno) => return Err(self.failed("recv", errno)),
            }
        };
        each_message(self.what, self.buffer.get(..size).unwrap_or_default(), take)?;
        Ok(true)
    }
}

/// Takes a datagram of messages apart.
fn each_message<M>(
    what: &'static str,
    datagram: &[u8],
    mut take: impl FnMut(NetlinkHeader, NetlinkPayload<M>) -> Result<(), Errno>,
) -> Result<(), Error>
where
    M: NetlinkDeserializable,
{
    let malformed = |source| Error::Malformed { what, source };
    let mut rest = datagram;
    while !rest.is_empty() {
        // The length is checked here: a message that claims none would be read for ever.
        let length =
            NetlinkBuffer::new_checked(rest).map_err(malformed)?.length().try_into().unwrap_or(usize::MAX);
        let (header, payload) = NetlinkMessage::<M>::deserialize(rest).map_err(malformed)?.into_parts();
        take(header, payload).map_err(|errno| Error::Refused { what, errno })?;
        // Messages are aligned to four bytes (NLMSG_ALIGNTO, include/uapi/linux/netlink.h).
        let step = length.saturating_add(3) & !3;
        rest = rest.get(step..).unwrap_or_default();
    }
    Ok(())
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
