//! Sockets of the kernel → flows of the pipeline: what goes out in clear is read, what does not gives a name.

use std::{collections::HashMap, net::SocketAddr};

use super::{Flows, now_ms, peer};
use crate::{
    kernel::{
        Wanted,
        netlink::{LinkSocket, Links},
    },
    leak::Crypt,
    pipeline::{Flow, FlowId},
    record::{Body, Carrier, ConnectionId, Event},
    stream::{Chunk, Step},
    wire::{Parsed, client_hello, dns, dnsproxyd, quic},
};

/// Bytes taken of a connection that is readable on its way.
const CLEAR_LIMIT: u64 = 1 << 20;
/// A look-up names the connection that the same app makes this soon after, nanoseconds.
const LOOKUP_AGE: u64 = 2_000_000_000;
/// Look-ups and sockets remembered at the most.
const REMEMBERED: usize = 4096;
/// The port of DNS (RFC 1035 section 4.2).
const DNS_PORT: u16 = 53;

/// What is known of sockets.
#[derive(Default)]
pub(super) struct Sockets {
    open: HashMap<ConnectionId, Open>,
    /// By process and descriptor, for the `SSL*` on top.
    by_fd: HashMap<(u32, u32), Facts>,
    /// The last name an app looked up, by uid, and when.
    lookups: HashMap<u32, (String, u64)>,
    answers: Vec<(u32, u32, Wanted)>,
    links: Option<(LinkSocket, Links)>,
}

/// What a socket tells of the connection on it.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// The other end.
    pub(super) peer: Option<SocketAddr>,
    /// The name in its ClientHello.
    pub(super) server_name: Option<String>,
}

struct Open {
    flow: FlowId,
    peer: Option<SocketAddr>,
    /// How the peer was found; empty until it was looked for.
    found: &'static str,
    reading: Reading,
}

/// What a socket's bytes are taken for.
enum Reading {
    /// Nothing came yet.
    Start,
    /// A TLS handshake whose first message is not whole.
    Hello(client_hello::Collector),
    /// The first datagrams of QUIC.
    Initial(Box<quic::Collector>),
    /// Readable.
    Clear,
    /// To netd: names looked up.
    Resolver(dnsproxyd::Collector),
    /// Encrypted, or leading nowhere.
    Nothing,
}

impl Sockets {
    pub(super) fn new() -> Sockets {
        // Without rtnetlink no interface is named.
        let links = LinkSocket::open().ok().and_then(|mut socket| {
            let mut links = Links::default();
            socket.refresh(&mut links).ok()?;
            Some((socket, links))
        });
        Sockets { links, ..Sockets::default() }
    }

    /// What the socket of this number says, if it was seen.
    pub(super) fn facts(&self, tgid: u32, fd: u32) -> Option<&Facts> {
        self.by_fd.get(&(tgid, fd))
    }

    /// Whether an address is this machine's own.
    fn is_own(&mut self, peer: SocketAddr) -> bool {
        let ip = peer.ip().to_canonical();
        if ip.is_loopback() || ip.is_unspecified() {
            return true;
        }
        let Some((socket, links)) = &mut self.links else { return false };
        if let Err(error) = socket.catch_up(links) {
            log::debug!("{error}");
        }
        links.is_own(ip)
    }

    /// What the link is called by which `uid` reaches an address now.
    fn link(&mut self, uid: u32, peer: SocketAddr) -> Option<String> {
        let (socket, links) = self.links.as_mut()?;
        let index = socket.outgoing(uid, peer.ip().to_canonical()).ok()??;
        links.get(index).map(|link| link.kind.word().to_owned())
    }

    fn remember(&mut self, uid: u32, name: String, ktime: u64) {
        if self.lookups.len() >= REMEMBERED {
            self.lookups.clear();
        }
        if !name.is_empty() {
            self.lookups.insert(uid, (name, ktime));
        }
    }
}

impl Flows {
    /// What the programs are to be told: process, descriptor, what is wanted of it.
    pub(in crate::run) fn take_answers(&mut self) -> Vec<(u32, u32, Wanted)> {
        std::mem::take(&mut self.seen.answers)
    }

    fn want(&mut self, connection: ConnectionId, wanted: Wanted) {
        if let Some(socket) = connection.socket() {
            self.seen.answers.push((connection.tgid, socket.fd, wanted));
        }
    }

    /// A step of a connection that is a socket.
    pub(super) fn socket_step(&mut self, connection: ConnectionId, event: Option<&Event>, step: Step<'_>) {
        if let Step::Chunk(Chunk::End) = step {
            return self.socket_ends(connection);
        }
        let Some(event) = event else { return };
        // What the watch itself writes would make it write again.
        if connection.tgid == std::process::id() {
            return self.want(connection, Wanted::Nothing);
        }
        match step {
            Step::Unknown => {
                if self.open_socket(connection, event) {
                    self.find_socket_peer(connection, event);
                }
            }
            Step::Peer(Some(peer)) => {
                self.open_socket(connection, event);
                self.set_socket_peer(connection, event, peer, "connect");
            }
            Step::Peer(None) => {
                self.open_socket(connection, event);
                if let Some(open) = self.seen.open.get_mut(&connection) {
                    open.reading = Reading::Resolver(dnsproxyd::Collector::new());
                    open.found = "connect";
                }
            }
            Step::Chunk(chunk) => {
                self.open_socket(connection, event);
                self.find_socket_peer(connection, event);
                self.socket_sent(connection, event, chunk);
            }
            Step::Host(_) | Step::Fd(..) => {}
        }
    }

    /// True when it was not known yet.
    fn open_socket(&mut self, connection: ConnectionId, event: &Event) -> bool {
        if self.seen.open.contains_key(&connection) {
            return false;
        }
        // A number used again without its close having been seen.
        let stale: Vec<ConnectionId> = self
            .seen
            .open
            .keys()
            .filter(|known| known.tgid == connection.tgid && known.object as u32 == connection.object as u32)
            .copied()
            .collect();
        for known in stale {
            self.socket_ends(known);
        }
        let mut flow = Flow::new(self.apps.of(event.uid, connection.tgid), Crypt::None);
        flow.attr = "uid:kernel".to_owned();
        let flow = self.pipeline.open(flow);
        self.seen.open.insert(connection, Open { flow, peer: None, found: "", reading: Reading::Start });
        true
    }

    fn socket_ends(&mut self, connection: ConnectionId) {
        if let Some(open) = self.seen.open.remove(&connection) {
            let alerts = self.pipeline.close(open.flow, now_ms());
            self.tell(&alerts);
        }
        if let Some(socket) = connection.socket() {
            self.seen.by_fd.remove(&(connection.tgid, socket.fd));
        }
    }

    /// Asks the kernel where a socket leads that nobody saw being connected, once.
    fn find_socket_peer(&mut self, connection: ConnectionId, event: &Event) {
        let Some(open) = self.seen.open.get_mut(&connection) else { return };
        if !open.found.is_empty() {
            return;
        }
        open.found = "none";
        let Some(socket) = connection.socket() else { return };
        let fd = i32::try_from(socket.fd).unwrap_or(-1);
        match self.sockets.as_mut().and_then(|sockets| peer(sockets, connection.tgid, fd)) {
            Some(peer) => self.set_socket_peer(connection, event, peer, "sock_diag"),
            // Seen being opened, it is an internet socket, if only briefly: its bytes still count.
            None if socket.carrier == Carrier::Unknown => {
                open.reading = Reading::Nothing;
                self.want(connection, Wanted::Nothing);
            }
            None => {}
        }
    }

    fn set_socket_peer(
        &mut self,
        connection: ConnectionId,
        event: &Event,
        peer: SocketAddr,
        found: &'static str,
    ) {
        let Some(open) = self.seen.open.get_mut(&connection) else { return };
        if open.peer == Some(peer) {
            return;
        }
        open.peer = Some(peer);
        open.found = found;
        let flow = open.flow;
        if let Some(socket) = connection.socket() {
            if self.seen.by_fd.len() >= REMEMBERED {
                self.seen.by_fd.clear();
            }
            let facts = Facts { peer: Some(peer), server_name: None };
            self.seen.by_fd.insert((connection.tgid, socket.fd), facts);
        }
        let own = self.seen.is_own(peer);
        if own && !self.pipeline.settings().loopback {
            if let Some(open) = self.seen.open.get_mut(&connection) {
                open.reading = Reading::Nothing;
            }
            self.want(connection, Wanted::Nothing);
            return;
        }
        if matches!(event.body, Body::SocketUnknown) {
            self.want(connection, Wanted::Bytes(CLEAR_LIMIT));
        }
        let iface = self.seen.link(event.uid, peer);
        let lookup = self.seen.lookups.get(&event.uid);
        let name = lookup.filter(|(_, then)| event.ktime.saturating_sub(*then) < LOOKUP_AGE);
        let name = name.map(|(name, _)| name.clone()).filter(|_| peer.port() != DNS_PORT);
        self.pipeline.update(flow, |flow| {
            flow.peer = Some(peer);
            flow.loopback = own;
            flow.iface = iface;
            flow.attr = format!("uid:kernel peer:{found}");
            if let (None, Some(name)) = (&flow.host, name) {
                flow.host = Some(name);
                flow.host_from = "dns".to_owned();
            }
        });
    }

    fn socket_sent(&mut self, connection: ConnectionId, event: &Event, chunk: Chunk<'_>) {
        let Some(open) = self.seen.open.get_mut(&connection) else { return };
        let (flow, port) = (open.flow, open.peer.map(|peer| peer.port()));
        let datagram = connection.socket().is_some_and(|socket| socket.carrier == Carrier::Datagram);
        if let (Reading::Start, Chunk::Bytes(bytes)) = (&open.reading, chunk) {
            open.reading = match bytes {
                _ if datagram && quic::looks_like_initial(bytes) => Reading::Initial(Box::default()),
                // A TLS record's type and major version (RFC 8446 section 5.1).
                [22, 3, ..] if !datagram => Reading::Hello(client_hello::Collector::new()),
                [20..=23, 3, ..] if !datagram => Reading::Nothing,
                _ => Reading::Clear,
            };
            match open.reading {
                Reading::Nothing => self.want(connection, Wanted::Bytes(0)),
                Reading::Clear => self.want(connection, Wanted::Bytes(CLEAR_LIMIT)),
                _ => {}
            }
        }
        let Some(open) = self.seen.open.get_mut(&connection) else { return };
        let bytes = if let Chunk::Bytes(bytes) = chunk { bytes } else { &[] };
        let hello = match &mut open.reading {
            Reading::Start | Reading::Nothing => return,
            Reading::Hello(collector) => collector.push(bytes),
            Reading::Initial(collector) => collector.push(bytes),
            Reading::Resolver(collector) => {
                if let Parsed::Complete(lookups) = collector.push(bytes) {
                    for lookup in lookups {
                        self.seen.remember(event.uid, lookup.name, event.ktime);
                    }
                }
                return;
            }
            Reading::Clear if datagram && port == Some(DNS_PORT) => {
                if let Parsed::Complete(questions) = dns::from_datagram(bytes) {
                    for question in questions {
                        self.seen.remember(event.uid, question.name, event.ktime);
                    }
                }
                return;
            }
            Reading::Clear => {
                let now = now_ms();
                let mut alerts = self.pipeline.push(flow, chunk, now);
                if datagram {
                    // A datagram is a message.
                    alerts.extend(self.pipeline.pause(flow, now));
                } else if !self.active.contains(&flow) {
                    self.active.push(flow);
                }
                return self.tell(&alerts);
            }
        };
        if matches!(hello, Parsed::NeedMore) && !matches!(chunk, Chunk::Gap(_)) {
            return;
        }
        open.reading = Reading::Nothing;
        self.want(connection, Wanted::Bytes(0));
        let (Parsed::Complete(hello), Some(socket)) = (hello, connection.socket()) else { return };
        let facts = self.seen.by_fd.entry((connection.tgid, socket.fd)).or_default();
        facts.server_name = hello.server_name;
        log::debug!("{connection:?} is encrypted: {facts:?}");
    }
}
