//! All connections' accounts, folded into one per app and destination when they end.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{Parts, Reason, connection::Connection};
use crate::record::{Body, ConnectionId, Ended, Event};

/// Bounds on what is held.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections open at once; beyond, the oldest are added up as if they had ended.
    pub connections: usize,
    /// Destinations of all apps; beyond, further ones of an app become one.
    pub destinations: usize,
    /// Apps; beyond, further ones become one.
    pub apps: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { connections: 4096, destinations: 4096, apps: 512 }
    }
}

/// What stands for destinations and apps beyond the limits.
const OTHERS: &str = "others";
/// What stands for a destination that nobody knows.
pub(super) const UNKNOWN: &str = "unknown";
/// Passes over all rings that an ended socket is kept for: a write to the `SSL*` on it may lie in a ring that was read before the
/// one with the end. The next pass brings it, and the pass after that stands for what waits for a hole to be filled.
const PASSES: u64 = 2;

/// Whose a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner<'a> {
    /// The app's name.
    pub app: &'a str,
    /// Its uid.
    pub uid: u32,
    /// The host name it goes to, when that is known.
    pub host: Option<String>,
    /// The address it goes to: what it is called by while nobody knows a name.
    pub address: Option<String>,
    /// Its content is another user's, and not looked at.
    pub is_other_users: bool,
    /// It does not leave this machine, and is no egress.
    pub stays: bool,
}

type AppKey = (String, u32);

#[derive(Debug)]
struct Open {
    account: Connection,
    app: AppKey,
    host: Option<String>,
    address: Option<String>,
    stays: bool,
    /// Of an `SSL*`: the socket it writes to.
    below: Option<ConnectionId>,
    /// Of an `SSL*`: what sockets that have ended under it sent, less what is already told.
    wire: Option<u64>,
    /// Of an `SSL*`: what of it was added up on an earlier socket.
    settled: Parts,
    /// Of a socket: the `SSL*` that writes to it now.
    above: Option<ConnectionId>,
    /// Of a socket: several have written to it.
    shared: bool,
    /// Of a socket: the parts of each `SSL*` that has ended on it.
    carried: Parts,
    /// Grows with every connection: the smallest is the oldest.
    age: u64,
}

/// One app's destination.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    parts: Parts,
    /// Of `SSL*`s whose socket is not known: their ciphertext may stand in `parts` as not hooked.
    unplaced: Parts,
    /// What looked encrypted although it was read.
    sealed: u64,
}

/// Everything that was sent, and what became of it.
#[derive(Debug)]
pub struct Ledger {
    limits: Limits,
    open: HashMap<ConnectionId, Open>,
    /// By process, descriptor and birth: a number is used again.
    sockets: BTreeMap<(u32, u32, u64), ConnectionId>,
    /// Sockets that have ended, and in which pass.
    ending: VecDeque<(ConnectionId, u64)>,
    pass: u64,
    /// Connections that were added up without having ended: what comes later is counted from there.
    given_up: HashMap<ConnectionId, Ended>,
    rows: BTreeMap<AppKey, BTreeMap<String, Row>>,
    destinations: usize,
    age: u64,
}

/// The ledger at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// All apps together.
    pub total: Parts,
    /// Each app, that with the most unread bytes first.
    pub apps: Vec<ViewedApp>,
}

/// One app's part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewedApp {
    /// Its name.
    pub app: String,
    /// Its uid.
    pub uid: u32,
    /// All its destinations together.
    pub parts: Parts,
    /// Each destination, that with the most unread bytes first.
    pub destinations: Vec<(String, Parts)>,
}

impl Ledger {
    /// With nothing in it.
    pub fn new(limits: Limits) -> Ledger {
        Ledger {
            limits,
            open: HashMap::new(),
            sockets: BTreeMap::new(),
            ending: VecDeque::new(),
            pass: 0,
            given_up: HashMap::new(),
            rows: BTreeMap::new(),
            destinations: 0,
            age: 0,
        }
    }

    /// Takes in a record as it was read.
    pub fn take(&mut self, event: &Event) {
        let id = event.connection;
        let counts = matches!(
            event.body,
            Body::TlsWrite(_)
                | Body::SocketSend(_)
                | Body::SocketPeer(Some(_))
                | Body::SocketUnknown
                | Body::TlsFree(_)
                | Body::SocketClose(_)
        );
        if !counts {
            return;
        }
        self.open(id).account.take(event);
    }

    /// Says whose a connection is, as far as is known now. Nothing happens when no record of it has come.
    pub fn describe(&mut self, id: ConnectionId, owner: Owner<'_>) {
        let Some(open) = self.open.get_mut(&id) else { return };
        if open.app.1 != owner.uid || open.app.0 != owner.app {
            open.app = (owner.app.to_owned(), owner.uid);
        }
        if owner.host.is_some() {
            open.host = owner.host;
        }
        if owner.address.is_some() {
            open.address = owner.address;
        }
        open.account.is_other_users = owner.is_other_users;
        open.stays |= owner.stays;
    }

    /// It does not leave this machine.
    pub fn stays(&mut self, id: ConnectionId) {
        if let Some(open) = self.open.get_mut(&id) {
            open.stays = true;
        }
    }

    /// An `SSL*` writes at this time (see [`Event::ktime`]) to this descriptor of its process.
    pub fn carried_by(&mut self, ssl: ConnectionId, fd: u32, ktime: u64) {
        if ssl.socket().is_some() {
            return;
        }
        let of_number = self.sockets.range((ssl.tgid, fd, 0)..=(ssl.tgid, fd, ktime));
        let Some(socket) = of_number.map(|(_, id)| *id).next_back() else { return };
        let Some(above) = self.open.get(&ssl) else { return };
        if above.below == Some(socket) {
            return;
        }
        // It was on another socket before: what it wrote up to now went there.
        let (old, wire, mut parts) = (above.below, above.wire, above.fresh());
        let settled = old.is_some() || wire.is_some();
        let row = (!above.stays).then(|| (above.app.clone(), destination(above)));
        if let Some(old) = old.and_then(|old| self.open.get_mut(&old)) {
            old.carried.add(&parts);
            if old.above == Some(ssl) {
                old.above = None;
            }
        } else if let Some(wire) = wire {
            let written = parts.whole();
            parts.tls_overhead = wire.saturating_sub(written);
            if let Some((app, destination)) = row {
                self.row(app, destination).parts.add(&parts);
            }
        }
        if let Some(below) = self.open.get_mut(&socket) {
            // The one before may not have ended, and still count.
            below.shared |= below.above.is_some();
            below.above = Some(ssl);
        }
        if let Some(above) = self.open.get_mut(&ssl) {
            above.below = Some(socket);
            above.wire = None;
            if settled {
                above.settled = above.account.parts();
            }
        }
    }

    /// The programs' own count of a connection.
    pub fn counted(&mut self, id: ConnectionId, ended: Ended) {
        if let Some(open) = self.open.get_mut(&id) {
            open.account.counted(ended);
        }
    }

    /// The connections that have not ended.
    pub fn connections(&self) -> Vec<ConnectionId> {
        self.open.keys().copied().collect()
    }

    /// This many bytes that an app sent to a destination in readable form look encrypted.
    pub fn sealed(&mut self, app: &str, uid: u32, destination: &str, bytes: u64) {
        let row = self.row((app.to_owned(), uid), destination.to_owned());
        row.sealed = row.sealed.saturating_add(bytes);
    }

    /// A connection is over: its account is added to its app's, that of a socket a little later.
    pub fn end(&mut self, id: ConnectionId) {
        if id.socket().is_some() && self.open.contains_key(&id) {
            self.ending.push_back((id, self.pass));
        } else {
            self.close(id);
        }
    }

    /// A pass over all rings has been looked at.
    pub fn end_pass(&mut self) {
        self.pass = self.pass.saturating_add(1);
        let pass = self.pass;
        while let Some((id, _)) = self.ending.pop_front_if(|(_, ended)| pass.saturating_sub(*ended) > PASSES)
        {
            self.close(id);
        }
    }

    fn close(&mut self, id: ConnectionId) {
        let Some(open) = self.open.remove(&id) else { return };
        if let Some(counts) = open.account.resumable() {
            if self.given_up.len() >= self.limits.connections {
                self.given_up.clear();
            }
            self.given_up.insert(id, counts);
        }
        if let Some(socket) = id.socket() {
            self.sockets.remove(&(id.tgid, socket.fd, id.born));
            if self.hand_up(id, &open) {
                return self.fold(&open, &open.carried, false);
            }
            let parts = carrying(&open.account, &open.carried);
            return self.fold(&open, &parts, false);
        }
        let mut parts = open.fresh();
        if let Some(below) = open.below.and_then(|below| self.open.get_mut(&below)) {
            if below.above == Some(id) {
                below.above = None;
            }
            below.carried.add(&parts);
            // It was told the name; its socket may have a guess.
            if open.host.is_some() {
                below.host = open.host;
            }
            return;
        }
        match open.wire {
            Some(wire) => {
                parts.tls_overhead = wire.saturating_sub(parts.whole());
                self.fold(&open, &parts, false);
            }
            None => self.fold(&open, &parts, true),
        }
    }

    /// Hands what an ended socket sent on to the `SSL*`s that wrote to it and have not ended; false when there are none.
    fn hand_up(&mut self, id: ConnectionId, socket: &Open) -> bool {
        let riders: Vec<ConnectionId> = if socket.shared {
            self.open.iter().filter(|(_, open)| open.below == Some(id)).map(|(id, _)| *id).collect()
        } else {
            socket.above.into_iter().collect()
        };
        let mut rest = socket.account.sent().saturating_sub(socket.carried.whole());
        let mut last = None;
        for rider in riders {
            let Some(above) = self.open.get_mut(&rider).filter(|above| above.below == Some(id)) else {
                continue;
            };
            above.below = None;
            let own = above.fresh().whole();
            // Nothing was written through it: what the socket sent was no plaintext of its.
            if own == 0 {
                continue;
            }
            rest = rest.saturating_sub(own);
            above.wire = Some(above.wire.unwrap_or(0).saturating_add(own));
            if above.host.is_none() {
                above.host.clone_from(&socket.host);
            }
            if above.address.is_none() {
                above.address.clone_from(&socket.address);
            }
            above.stays |= socket.stays;
            last = Some(rider);
        }
        let last = last.and_then(|last| self.open.get_mut(&last));
        let Some(above) = last else { return false };
        above.wire = Some(above.wire.unwrap_or(0).saturating_add(rest));
        true
    }

    /// Adds everything up.
    pub fn view(&self) -> View {
        let mut rows = self.rows.clone();
        let mut add = |open: &Open, destination: String, parts: &Parts, unplaced: bool| {
            if open.stays {
                return;
            }
            let row = rows.entry(open.app.clone()).or_default().entry(destination).or_default();
            if unplaced { row.unplaced.add(parts) } else { row.parts.add(parts) }
        };
        let mut carried: HashMap<ConnectionId, (Parts, Option<&String>)> = HashMap::new();
        for (id, open) in self.open.iter().filter(|(id, _)| id.socket().is_none()) {
            let mut parts = open.fresh();
            if let Some(below) = open.below.filter(|below| self.open.contains_key(below)) {
                let (on_top, host) = carried.entry(below).or_default();
                on_top.add(&parts);
                *host = host.or(open.host.as_ref());
            } else if let Some(wire) = open.wire {
                parts.tls_overhead = wire.saturating_sub(parts.whole());
                add(open, destination(open), &parts, false);
            } else {
                log::trace!("{id:?}: no socket known");
                add(open, destination(open), &parts, true);
            }
        }
        for (id, open) in self.open.iter().filter(|(id, _)| id.socket().is_some()) {
            let (mut on_top, mut told) = (open.carried, None);
            if let Some((parts, host)) = carried.get(id) {
                on_top.add(parts);
                told = host.cloned();
            }
            let destination = told.unwrap_or_else(|| destination(open));
            add(open, destination, &carrying(&open.account, &on_top), false);
        }
        View::of(rows)
    }

    fn open(&mut self, id: ConnectionId) -> &mut Open {
        if !self.open.contains_key(&id) {
            while self.open.len() >= self.limits.connections.max(1) {
                let Some(oldest) = self.open.iter().min_by_key(|(_, open)| open.age).map(|(id, _)| *id)
                else {
                    break;
                };
                self.close(oldest);
            }
            if let Some(socket) = id.socket() {
                self.sockets.insert((id.tgid, socket.fd, id.born), id);
            }
        }
        let Ledger { open, given_up, age, .. } = self;
        open.entry(id).or_insert_with(|| Open {
            account: Connection::new(id, given_up.remove(&id).unwrap_or_default()),
            app: (UNKNOWN.to_owned(), u32::MAX),
            host: None,
            address: None,
            stays: false,
            below: None,
            wire: None,
            settled: Parts::default(),
            above: None,
            shared: false,
            carried: Parts::default(),
            age: {
                *age = age.wrapping_add(1);
                *age
            },
        })
    }

    fn fold(&mut self, open: &Open, parts: &Parts, unplaced: bool) {
        if open.stays || parts.whole() == 0 {
            return;
        }
        let row = self.row(open.app.clone(), destination(open));
        if unplaced { row.unplaced.add(parts) } else { row.parts.add(parts) }
    }

    /// The row of an app's destination; beyond the limits one that stands for several.
    fn row(&mut self, app: AppKey, destination: String) -> &mut Row {
        let app = if self.rows.contains_key(&app) || self.rows.len() < self.limits.apps {
            app
        } else {
            (OTHERS.to_owned(), u32::MAX)
        };
        let rows = self.rows.entry(app).or_default();
        let destination = if rows.contains_key(&destination) || self.destinations < self.limits.destinations {
            destination
        } else {
            OTHERS.to_owned()
        };
        if !rows.contains_key(&destination) {
            self.destinations = self.destinations.saturating_add(1);
        }
        rows.entry(destination).or_default()
    }
}

impl Open {
    /// Of an `SSL*`: its parts as far as they are not added up already.
    fn fresh(&self) -> Parts {
        self.account.parts().without(&self.settled)
    }
}

/// A socket's parts with what is known of the TLS on it.
fn carrying(socket: &Connection, on_top: &Parts) -> Parts {
    if on_top.whole() == 0 {
        return socket.parts();
    }
    let mut parts = *on_top;
    parts.tls_overhead = parts.tls_overhead.saturating_add(socket.sent().saturating_sub(parts.whole()));
    parts
}

fn destination(open: &Open) -> String {
    open.host.as_ref().or(open.address.as_ref()).cloned().unwrap_or_else(|| UNKNOWN.to_owned())
}

impl View {
    fn of(rows: BTreeMap<AppKey, BTreeMap<String, Row>>) -> View {
        let mut view = View::default();
        for ((app, uid), mut rows) in rows {
            place(&mut rows);
            let mut parts = Parts::default();
            let mut destinations = Vec::new();
            for (destination, mut row) in rows {
                row.parts.unread_after_all(Reason::EncryptedInside, row.sealed);
                if row.parts.whole() > 0 {
                    parts.add(&row.parts);
                    destinations.push((destination, row.parts));
                }
            }
            if destinations.is_empty() {
                continue;
            }
            destinations.sort_by_key(|(_, parts)| std::cmp::Reverse((parts.all_unread(), parts.whole())));
            view.total.add(&parts);
            view.apps.push(ViewedApp { app, uid, parts, destinations });
        }
        view.apps.sort_by_key(|app| std::cmp::Reverse((app.parts.all_unread(), app.parts.whole())));
        view
    }
}

/// Sets what was read of connections without a known socket against what their sockets carried: first to the same
/// destination, then to any of the app's.
fn place(rows: &mut BTreeMap<String, Row>) {
    let names: Vec<String> = rows.keys().cloned().collect();
    for name in &names {
        let Some(unplaced) = rows.get_mut(name).map(|row| std::mem::take(&mut row.unplaced)) else {
            continue;
        };
        let mut wanted = unplaced.whole();
        for other in std::iter::once(name).chain(&names) {
            if let Some(row) = rows.get_mut(other) {
                for reason in [Reason::TlsNotHooked, Reason::Tls32Bit] {
                    wanted = wanted.saturating_sub(row.parts.take(reason, wanted));
                }
            }
        }
        if let Some(row) = rows.get_mut(name) {
            row.parts.add(&unplaced);
        }
    }
}
