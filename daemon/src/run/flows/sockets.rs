//! Sockets of the kernel → flows of the pipeline: what goes out in clear is read, what does not gives a name.

use std::{collections::HashMap, net::SocketAddr};

use super::{
    super::trials::Unread,
    Flows,
    ask::{Born, Led},
    facts::{Facts, KnownSockets},
    now_ms,
};
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

/// Bytes taken of a connection that is readable on its way: all, within the budget.
const CLEAR_LIMIT: u64 = u64::MAX;
/// A look-up names the connection that the same app makes this soon after, nanoseconds.
const LOOKUP_AGE: u64 = 2_000_000_000;
/// Look-ups and sockets remembered at the most.
const REMEMBERED: usize = 4096;
/// Encrypted connections remembered at the most.
const MOST_UNREAD: usize = 512;
/// The port of DNS (RFC 1035 section 4.2).
const DNS_PORT: u16 = 53;

/// What is known of sockets.
#[derive(Default)]
pub(super) struct Sockets {
    open: HashMap<ConnectionId, Open>,
    /// For the `SSL*` on top.
    facts: KnownSockets,
    /// The last name an app looked up, by uid, and when.
    lookups: HashMap<u32, (String, u64)>,
    answers: Vec<(ConnectionId, Wanted)>,
    /// Encrypted, by process and descriptor, and nobody has yet been seen handing its text to a library that is hooked.
    unread: Vec<Encrypted>,
    /// When the text of what goes through a descriptor was first read, by process and descriptor: a library's calls and its
    /// socket's may be looked at in any order.
    read: HashMap<(u32, u32), u64>,
    pub(super) links: Option<(LinkSocket, Links)>,
}

/// A connection that was seen to be encrypted.
struct Encrypted {
    tgid: u32,
    fd: u32,
    /// See [`ConnectionId::born`].
    born: u64,
    /// When that was seen, as the kernel counts.
    ktime: u64,
    ended: bool,
    what: Unread,
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

    /// What the socket says that had this number at this time, if it was seen.
    pub(super) fn facts(&self, tgid: u32, fd: u32, ktime: u64) -> Option<&Facts> {
        self.facts.at(tgid, fd, ktime)
    }

    /// Every connection that could not be read.
    pub(super) fn unread(&self) -> impl Iterator<Item = Unread> {
        self.unread.iter().map(|one| one.what.clone())
    }

    /// Leaves out those that are over.
    pub(super) fn forget_ended(&mut self) {
        self.unread.retain(|one| !one.ended);
    }

    /// The text of a connection is read before it is encrypted: of the one on this descriptor, and of those to this host
    /// where a program moves the bytes itself.
    pub(super) fn is_read(&mut self, tgid: u32, fd: Option<u32>, host: Option<&str>, ktime: u64) {
        let mine = |one: &Encrypted| one.tgid == tgid && one.ktime <= ktime;
        if let Some(fd) = fd {
            if self.read.len() >= REMEMBERED {
                self.read.clear();
            }
            self.read.insert((tgid, fd), ktime);
            if let Some(at) = self.unread.iter().rposition(|one| mine(one) && one.fd == fd) {
                self.unread.remove(at);
            }
        }
        if let Some(host) = host {
            self.unread.retain(|one| !mine(one) || one.what.1 != host);
        }
    }

    /// The flow of a socket's connection.
    pub(super) fn flow(&self, connection: ConnectionId) -> Option<FlowId> {
        self.open.get(&connection).map(|open| open.flow)
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
    /// What the programs are to be told: of which socket, what is wanted of it.
    pub(in crate::run) fn take_answers(&mut self) -> Vec<(ConnectionId, Wanted)> {
        std::mem::take(&mut self.seen.answers)
    }

    fn want(&mut self, connection: ConnectionId, wanted: Wanted) {
        if wanted == Wanted::Nothing {
            self.coverage.stays(connection);
        }
        self.seen.answers.push((connection, wanted));
    }

    /// A step of a connection that is a socket.
    pub(super) fn socket_step(&mut self, connection: ConnectionId, event: Option<&Event>, step: Step<'_>) {
        if let Step::Chunk(Chunk::End) = step {
            return self.socket_ends(connection, event.map(|event| event.ktime));
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
                self.set_socket_peer(connection, event, Led { peer, foreign: false }, "connect");
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
            Step::Host(_) | Step::Fd(..) | Step::Nested(_) | Step::Next { .. } => {}
        }
    }

    /// True when it was not known yet.
    fn open_socket(&mut self, connection: ConnectionId, event: &Event) -> bool {
        if self.seen.open.contains_key(&connection) {
            return false;
        }
        // A number used again without its close having been seen. One that is younger stays: what is told now is told late.
        let is_stale = |known: &&ConnectionId| {
            known.tgid == connection.tgid
                && known.object as u32 == connection.object as u32
                && known.born < connection.born
        };
        let stale: Vec<ConnectionId> = self.seen.open.keys().filter(is_stale).copied().collect();
        for known in stale {
            self.socket_ends(known, Some(connection.born));
        }
        let mut flow = Flow::new(self.apps.of(event.uid, connection.tgid), Crypt::None);
        flow.attr = "uid:kernel".to_owned();
        let flow = self.pipeline.open(flow);
        self.seen.open.insert(connection, Open { flow, peer: None, found: "", reading: Reading::Start });
        true
    }

    /// `ktime`: when that was, if it is known.
    fn socket_ends(&mut self, connection: ConnectionId, ktime: Option<u64>) {
        self.account(connection);
        if let Some(open) = self.seen.open.remove(&connection) {
            self.active.remove(&open.flow);
            let alerts = self.pipeline.close(open.flow, now_ms());
            self.tell(&alerts);
        }
        if let Some(socket) = connection.socket() {
            self.seen.facts.ended(connection, ktime);
            let mine = |one: &&mut Encrypted| {
                (one.tgid, one.fd, one.born) == (connection.tgid, socket.fd, connection.born)
            };
            if let Some(last) = self.seen.unread.iter_mut().rev().find(mine) {
                last.ended = true;
            }
        }
    }

    /// What goes out here is encrypted; unless a hooked library is seen at it, nobody can read it.
    fn cannot_read(
        &mut self,
        connection: ConnectionId,
        event: &Event,
        name: Option<String>,
        why: &'static str,
    ) {
        // Only experiments ask.
        if self.trials.is_none() {
            return;
        }
        let Some(socket) = connection.socket() else { return };
        let Some(open) = self.seen.open.get(&connection) else { return };
        let Some(flow) = self.pipeline.flow(open.flow) else { return };
        let peer = || flow.peer.map_or_else(|| "an unknown host".to_owned(), |peer| peer.to_string());
        let host = name.or_else(|| flow.host.clone()).unwrap_or_else(peer);
        let (tgid, fd, ktime) = (connection.tgid, socket.fd, event.ktime);
        if self.seen.read.get(&(tgid, fd)).is_some_and(|read| *read >= ktime) {
            return;
        }
        let what = (flow.app.clone(), host, why);
        if self.seen.unread.len() >= MOST_UNREAD {
            let oldest = self.seen.unread.remove(0);
            if let Some(trials) = &mut self.trials {
                trials.unreadable(&oldest.what);
            }
        }
        let born = connection.born;
        self.seen.unread.push(Encrypted { tgid, fd, born, ktime, ended: false, what });
    }

    /// Asks the kernel where a socket leads that nobody saw being connected, once.
    fn find_socket_peer(&mut self, connection: ConnectionId, event: &Event) {
        let Some(open) = self.seen.open.get_mut(&connection) else { return };
        if !open.found.is_empty() {
            return;
        }
        open.found = "none";
        let Some(socket) = connection.socket() else { return };
        let led = self.ask.peer(connection.tgid, socket.fd);
        // Asked after the look, so that the look was about this very socket if the number still stands for it.
        let is_it = match self.ask.born(connection.tgid, socket.fd) {
            Born::Unwatched => true,
            Born::Gone => false,
            Born::At(born) => born == connection.born,
        };
        match led.filter(|_| is_it) {
            Some(led) => self.set_socket_peer(connection, event, led, "sock_diag"),
            // Seen being opened, it is an internet socket, if only briefly: its bytes still count.
            None if socket.carrier == Carrier::Unknown => {
                open.reading = Reading::Nothing;
                self.want(connection, Wanted::Nothing);
            }
            None => {}
        }
    }

    fn set_socket_peer(&mut self, connection: ConnectionId, event: &Event, led: Led, found: &'static str) {
        let Led { peer, foreign } = led;
        let Some(open) = self.seen.open.get_mut(&connection) else { return };
        if open.peer == Some(peer) {
            return;
        }
        open.peer = Some(peer);
        open.found = found;
        let flow = open.flow;
        if let Some(facts) = self.seen.facts.of(connection) {
            *facts = Facts { peer: Some(peer), server_name: None };
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
        // What routes another network namespace has is not known here.
        let iface = if foreign { None } else { self.seen.link(event.uid, peer) };
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
                Reading::Nothing => {
                    self.want(connection, Wanted::Bytes(0));
                    self.cannot_read(connection, event, None, "encrypted before it was watched");
                }
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
                self.was_read(connection, flow, None, event.ktime);
                let now = now_ms();
                let mut alerts = self.pipeline.push(flow, chunk, now);
                if datagram {
                    // A datagram is a message.
                    alerts.extend(self.pipeline.pause(flow, now));
                } else {
                    self.active.insert(flow);
                }
                return self.tell(&alerts);
            }
        };
        if matches!(hello, Parsed::NeedMore) && !matches!(chunk, Chunk::Gap(_)) {
            return;
        }
        let why = match open.reading {
            Reading::Initial(_) => "QUIC",
            _ => "TLS of its own",
        };
        open.reading = Reading::Nothing;
        self.want(connection, Wanted::Bytes(0));
        let name = match &hello {
            Parsed::Complete(hello) => hello.server_name.clone(),
            _ => None,
        };
        self.cannot_read(connection, event, name, why);
        let Parsed::Complete(hello) = hello else { return };
        if let Some(name) = &hello.server_name {
            // What is said in the connection itself is worth more than what was looked up before it.
            self.pipeline.update(flow, |flow| {
                flow.host = Some(name.clone());
                flow.host_from = "sni".to_owned();
            });
        }
        if let Some(facts) = self.seen.facts.of(connection) {
            facts.server_name = hello.server_name;
            log::debug!("{connection:?} is encrypted: {facts:?}");
        }
    }
}
