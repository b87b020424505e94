//! The way from a connection's bytes to alerts, in one piece: wire → unwrap → leak → alert. No socket, clock, file or
//! logger in it, so that `telltale run`, `telltale decode`, tests and the fuzzer all go through the same code.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use crate::{
    alert::{Alert, Ledger, Network, Policy, note_own_values, quieten, raw_sha256},
    app::App,
    guard::guarded,
    leak::{Context, Crypt, Detector, persist},
    place::{Domains, Host, ip::IpData},
    sealed::Sealed,
    stream::Chunk,
    unwrap::{self, Protocols, Tree, peel_with},
    wire::{self, Connection, Message},
};

/// What is known of a connection. Everything but the app may be learned later: see [`Pipeline::update`].
#[derive(Debug, Clone)]
pub struct Flow {
    /// Who sends.
    pub app: App,
    /// The other end.
    pub peer: Option<SocketAddr>,
    /// The host name the connection was opened for, lower case.
    pub host: Option<String>,
    /// How the name was found: `sni`, `dns`, `given`.
    pub host_from: String,
    /// How the bytes are protected on their way.
    pub crypt: Crypt,
    /// How app and peer were found, `uid:packages.list peer:ssl_set_fd`.
    pub attr: String,
    /// The network interface it leaves by.
    pub iface: Option<String>,
    /// The other end is this machine itself.
    pub loopback: bool,
}

impl Flow {
    /// A connection of which only the app and the protection are known.
    pub fn new(app: App, crypt: Crypt) -> Flow {
        Flow {
            app,
            peer: None,
            host: None,
            host_from: String::new(),
            crypt,
            attr: String::new(),
            iface: None,
            loopback: false,
        }
    }
}

/// Names an open flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(u64);

/// Sees every message that was taken apart, with what came of it: evidence, coverage, `decode --explain`.
pub trait Observer {
    /// `alerts` holds every finding, also those that deserve no line.
    fn message(&mut self, flow: &Flow, message: &Message, tree: &Tree, alerts: &[Alert]);
}

/// The packed address file, wherever its bytes lie.
pub type Addresses = IpData<AddressBytes>;

/// Bytes of the address file: a mapping on the phone, a vector elsewhere.
pub struct AddressBytes(Box<dyn AsRef<[u8]> + Send + Sync>);

impl AddressBytes {
    /// Takes whatever holds the bytes.
    pub fn new(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> AddressBytes {
        AddressBytes(Box::new(bytes))
    }
}

impl AsRef<[u8]> for AddressBytes {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl fmt::Debug for AddressBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AddressBytes({} bytes)", self.as_ref().len())
    }
}

/// Everything a pipeline works by.
pub struct Settings {
    /// Known telemetry protocols.
    pub protocols: Protocols,
    /// What reveals something about the owner.
    pub detector: Detector,
    /// Tokens seen so far, by which one that lasts is known; none: each message is judged alone.
    pub memory: Option<persist::Store>,
    /// Who owns which host.
    pub domains: Domains,
    /// Address → network and country, when the data is installed.
    pub addresses: Option<Addresses>,
    /// Bounds on one connection.
    pub wire: wire::Limits,
    /// Bounds on peeling one message.
    pub unwrap: unwrap::Limits,
    /// Connections followed at once; beyond, the one longest silent is given up.
    pub flows: usize,
    /// Bytes of unfinished messages held for all connections together; beyond, the fullest connection loses what it holds.
    pub held: usize,
    /// Whether traffic to this machine itself counts; otherwise it is no egress.
    pub loopback: bool,
    /// Android users whose content may be looked at; of all others only the hosts are known.
    pub users: Vec<u32>,
    /// What deserves a line.
    pub alerts: Policy,
    /// What apps encrypted themselves lately.
    pub sealed: Sealed,
    /// Sees every message.
    pub observer: Option<Box<dyn Observer>>,
}

impl Settings {
    /// The defaults around a detector.
    pub fn new(detector: Detector) -> Settings {
        Settings {
            protocols: Protocols::builtin(),
            detector,
            memory: None,
            domains: Domains::built_in(),
            addresses: None,
            wire: wire::Limits::default(),
            unwrap: unwrap::Limits::default(),
            flows: 2048,
            held: 8 << 20,
            loopback: false,
            users: vec![0],
            alerts: Policy::default(),
            sealed: Sealed::default(),
            observer: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("flows", &self.flows)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

/// What went through, and what did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Messages taken apart.
    pub messages: u64,
    /// Findings in them.
    pub findings: u64,
    /// Messages that a decoder failed on; nothing is known of what they hold.
    pub failed: u64,
    /// Connections given up because there were too many.
    pub evicted: u64,
    /// Connections whose unfinished message was dropped because all of them together held too much.
    pub dropped: u64,
}

/// Connections in, alerts out.
#[derive(Debug)]
pub struct Pipeline {
    settings: Settings,
    ledger: Ledger,
    flows: HashMap<FlowId, Open>,
    next: u64,
    held: usize,
    counts: Counts,
}

#[derive(Debug)]
struct Open {
    flow: Flow,
    connection: Connection,
    held: usize,
    /// Grows with every push over all flows: the smallest was silent longest.
    turn: u64,
}

impl Pipeline {
    /// A pipeline without connections.
    pub fn new(settings: Settings) -> Pipeline {
        Pipeline {
            settings,
            ledger: Ledger::default(),
            flows: HashMap::new(),
            next: 0,
            held: 0,
            counts: Counts::default(),
        }
    }

    /// Works by other settings from now on; open connections and what was already said are kept.
    pub fn reconfigure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// What it works by; mutes, addresses and the detector may be exchanged while connections are open.
    pub fn settings(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// What was said already.
    pub fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// What went through so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Connections followed now.
    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// What is known of an open flow.
    pub fn flow(&self, id: FlowId) -> Option<&Flow> {
        self.flows.get(&id).map(|open| &open.flow)
    }

    /// A new connection. It may be joined in the middle.
    pub fn open(&mut self, flow: Flow) -> FlowId {
        while self.flows.len() >= self.settings.flows.max(1) {
            let Some(silent) = self.flows.iter().min_by_key(|(_, open)| open.turn).map(|(id, _)| *id) else {
                break;
            };
            self.forget(silent);
            self.counts.evicted = self.counts.evicted.saturating_add(1);
        }
        let turn = self.turn();
        let id = FlowId(turn);
        let connection = Connection::new(self.settings.wire);
        self.flows.insert(id, Open { flow, connection, held: 0, turn });
        id
    }

    /// Says more about a connection. Nothing happens when it is no longer followed.
    pub fn update(&mut self, id: FlowId, change: impl FnOnce(&mut Flow)) {
        if let Some(open) = self.flows.get_mut(&id) {
            change(&mut open.flow);
        }
    }

    /// The connection's next bytes, or its next gap. `now_ms` is milliseconds since 1970, as the phone's clock has it.
    ///
    /// The answer holds every finding of the messages that these bytes complete; [`Alert::shown`] says which deserve a line.
    pub fn push(&mut self, id: FlowId, chunk: Chunk<'_>, now_ms: u64) -> Vec<Alert> {
        let mut messages = Vec::new();
        self.feed(id, |connection| connection.push(chunk, &mut messages));
        self.examine(id, &mut messages, now_ms)
    }

    /// The sender paused, or one whole send is over: where no protocol is known, a message ends here.
    pub fn pause(&mut self, id: FlowId, now_ms: u64) -> Vec<Alert> {
        let mut messages = Vec::new();
        self.feed(id, |connection| connection.flush(&mut messages));
        self.examine(id, &mut messages, now_ms)
    }

    /// The connection is over.
    pub fn close(&mut self, id: FlowId, now_ms: u64) -> Vec<Alert> {
        let alerts = self.push(id, Chunk::End, now_ms);
        self.forget(id);
        alerts
    }

    fn turn(&mut self) -> u64 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    fn forget(&mut self, id: FlowId) {
        if let Some(open) = self.flows.remove(&id) {
            self.held = self.held.saturating_sub(open.held);
        }
    }

    fn feed(&mut self, id: FlowId, take: impl FnOnce(&mut Connection)) {
        let turn = self.turn();
        let Some(open) = self.flows.get_mut(&id) else { return };
        open.turn = turn;
        if (open.flow.loopback && !self.settings.loopback)
            || !self.settings.users.contains(&open.flow.app.user)
        {
            return;
        }
        take(&mut open.connection);
        let held = open.connection.held();
        self.held = self.held.saturating_sub(open.held).saturating_add(held);
        open.held = held;
        while self.held > self.settings.held {
            let Some(fullest) =
                self.flows.values_mut().filter(|open| open.held > 0).max_by_key(|open| open.held)
            else {
                break;
            };
            fullest.connection = Connection::new(self.settings.wire);
            self.held = self.held.saturating_sub(fullest.held);
            fullest.held = 0;
            self.counts.dropped = self.counts.dropped.saturating_add(1);
        }
    }

    fn examine(&mut self, id: FlowId, messages: &mut [Message], now_ms: u64) -> Vec<Alert> {
        let Some(flow) = self.flows.get(&id).map(|open| &open.flow) else { return Vec::new() };
        let mut all = Vec::new();
        for message in messages {
            self.counts.messages = self.counts.messages.saturating_add(1);
            let settings = &mut self.settings;
            let (host, host_from) = host(&settings.domains, flow, message);
            // HTTP/1.0 names no host, and of an HTTP/2 connection joined late it is in a table nobody has: what the
            // connection was opened for says which protocols it may be.
            if message.host.is_none() {
                message.host.clone_from(&flow.host);
            }
            let looked = guarded(|| {
                let mut opener = settings.sealed.opener(&flow.app);
                let tree = peel_with(message, &settings.protocols, &settings.unwrap, &mut opener);
                drop(opener);
                let context = Context { app: &flow.app, host: host.as_ref(), crypt: flow.crypt, now_ms };
                let mut findings = settings.detector.examine(&context, message, &tree);
                if let Some(memory) = &mut settings.memory {
                    settings.detector.remember(memory, &context, message, &tree, &mut findings);
                }
                (tree, findings)
            });
            let Some((tree, mut findings)) = looked else {
                self.counts.failed = self.counts.failed.saturating_add(1);
                continue;
            };
            findings.iter_mut().for_each(|finding| quieten(finding, message, &tree));
            self.counts.findings = self.counts.findings.saturating_add(findings.len() as u64);
            let network = flow.peer.and_then(|peer| network(settings.addresses.as_ref()?, peer.ip()));
            let mut alerts: Vec<Alert> = findings
                .into_iter()
                .filter_map(|finding| {
                    Alert::new(finding, flow, message, host.as_ref(), host_from, network.as_ref(), now_ms)
                })
                .collect();
            // Once for all of them: hashing takes as long as everything else together.
            if !alerts.is_empty() {
                let hash = raw_sha256(message);
                alerts.iter_mut().for_each(|alert| alert.raw_sha256.clone_from(&hash));
            }
            note_own_values(&mut alerts);
            self.ledger.judge(&settings.alerts, &mut alerts, now_ms);
            if let Some(observer) = &mut settings.observer {
                observer.message(flow, message, &tree, &alerts);
            }
            all.append(&mut alerts);
        }
        all
    }
}

/// The host a message went to. The request may name another host than the connection was opened for: below the same
/// domain the request knows better (a shared connection), elsewhere the connection is what was really reached.
fn host<'f>(domains: &Domains, flow: &'f Flow, message: &Message) -> (Option<Host>, &'f str) {
    let opened = flow.host.as_deref().map(|name| domains.host(name));
    let named = message.host.as_deref().filter(|name| !name.is_empty()).map(|name| domains.host(name));
    match (opened, named) {
        (Some(opened), Some(named)) if named.domain.is_some() && named.domain == opened.domain => {
            (Some(named), "request")
        }
        (Some(opened), _) => (Some(opened), flow.host_from.as_str()),
        (None, named) => (named, "request"),
    }
}

fn network(addresses: &Addresses, ip: IpAddr) -> Option<Network> {
    let country = addresses.country(ip);
    let network = addresses.network(ip);
    if country.is_none() && network.is_none() {
        return None;
    }
    Some(Network {
        cc: country.map(str::to_owned),
        cc_source: addresses.country_source().to_owned(),
        cc_date: addresses.country_date().to_owned(),
        asn: network.as_ref().map(|network| network.asn),
        short: network.as_ref().map(|network| network.short().to_owned()),
        as_org: network.map(|network| network.name.to_owned()),
    })
}
