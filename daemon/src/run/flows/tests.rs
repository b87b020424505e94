//! Sockets whose numbers are used again, are inherited and handed over, and answers about them that come late.

use std::{cell::RefCell, collections::HashMap, io, net::SocketAddr, rc::Rc};

use telltale_abi::socket;

use super::{
    Flows,
    ask::{Ask, Born, Led},
};
use crate::{
    alert::{Alert, sink::Sink},
    kernel::Wanted,
    leak::{Data, Detector, Truth},
    pipeline::{Flow, Pipeline, Settings},
    record::{Body, ConnectionId, Ended, Event, Piece},
    stream::{Limits, Order},
};

/// What the kernel would answer, and how often it was asked where something leads.
#[derive(Default)]
struct Answers {
    peers: HashMap<(u32, u32), SocketAddr>,
    born: HashMap<(u32, u32), u64>,
    parents: HashMap<u32, u32>,
    asked: usize,
}

struct Pretended(Rc<RefCell<Answers>>);

impl Ask for Pretended {
    fn peer(&mut self, tgid: u32, fd: u32) -> Option<Led> {
        let mut answers = self.0.borrow_mut();
        answers.asked += 1;
        answers.peers.get(&(tgid, fd)).map(|peer| Led { peer: *peer, foreign: false })
    }

    fn born(&mut self, tgid: u32, fd: u32) -> Born {
        self.0.borrow().born.get(&(tgid, fd)).map_or(Born::Gone, |born| Born::At(*born))
    }

    fn parent(&mut self, tgid: u32) -> Option<u32> {
        self.0.borrow().parents.get(&tgid).copied()
    }
}

struct Silent;

impl Sink for Silent {
    fn alert(&mut self, _: &Alert) -> io::Result<()> {
        Ok(())
    }
}

struct Bed {
    flows: Flows,
    answers: Rc<RefCell<Answers>>,
    order: Order,
    pass: u64,
}

const APP: u32 = 4_000_001;
const CHILD: u32 = 4_000_002;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The socket of this number, first seen then.
fn tcp(tgid: u32, fd: u32, born: u64) -> ConnectionId {
    ConnectionId { tgid, object: socket::MARK | u64::from(socket::STREAM) << 32 | u64::from(fd), born }
}

/// One that nobody saw being opened.
fn unknown(tgid: u32, fd: u32, born: u64) -> ConnectionId {
    ConnectionId { tgid, object: socket::MARK | u64::from(fd), born }
}

fn ssl(tgid: u32, born: u64) -> ConnectionId {
    ConnectionId { tgid, object: 0x1000, born }
}

fn event(connection: ConnectionId, sequence: u64, ktime: u64, body: Body) -> Event {
    Event { connection, sequence, ktime, attempt: 1, tid: connection.tgid, uid: 10_123, body }
}

fn piece(bytes: &[u8]) -> Piece {
    Piece { start: 0, total: bytes.len() as u64, offset: 0, last: true, bytes: bytes.to_vec() }
}

fn connected(connection: ConnectionId, ktime: u64, peer: &str) -> Event {
    event(connection, 0, ktime, Body::SocketPeer(Some(addr(peer))))
}

fn written(connection: ConnectionId, sequence: u64, ktime: u64) -> Event {
    event(connection, sequence, ktime, Body::TlsWrite(piece(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")))
}

fn nested(connection: ConnectionId, sequence: u64, ktime: u64, fd: i32) -> Event {
    event(connection, sequence, ktime, Body::TlsNested(fd))
}

fn closed(connection: ConnectionId, sequence: u64, ktime: u64) -> Event {
    event(connection, sequence, ktime, Body::SocketClose(Ended::default()))
}

impl Bed {
    fn new() -> Bed {
        let detector = Detector::new(&Truth::default(), Data::built_in().unwrap());
        let pipeline = Pipeline::new(Settings::new(detector));
        let mut flows = Flows::new(pipeline, "/nowhere".into(), vec![Box::new(Silent)]);
        let answers = Rc::<RefCell<Answers>>::default();
        flows.ask = Box::new(Pretended(answers.clone()));
        // Whatever addresses this machine has.
        flows.seen.links = None;
        Bed { flows, answers, order: Order::new(Limits::default()), pass: 0 }
    }

    /// The kernel knows this of a descriptor from now on.
    fn now(&self, tgid: u32, fd: u32, born: u64, peer: &str) {
        let mut answers = self.answers.borrow_mut();
        answers.peers.insert((tgid, fd), addr(peer));
        answers.born.insert((tgid, fd), born);
    }

    /// One pass brings these records.
    fn pass(&mut self, events: impl IntoIterator<Item = Event>) {
        self.pass += 1;
        for event in events {
            self.order.push(self.pass, event);
        }
        self.order.end_pass(self.pass, &mut self.flows);
    }

    fn flow(&self, connection: ConnectionId) -> &Flow {
        let open = self.flows.open.get(&connection).map(|open| open.flow);
        let id = open.or_else(|| self.flows.seen.flow(connection)).unwrap();
        self.flows.pipeline.flow(id).unwrap()
    }

    fn peer(&self, connection: ConnectionId) -> Option<SocketAddr> {
        self.flow(connection).peer
    }
}

#[test]
fn a_number_used_again_between_two_facts_does_not_lend_its_peer() {
    let mut bed = Bed::new();
    bed.pass([connected(tcp(APP, 5, 100), 100, "192.0.2.1:443")]);
    // The TLS connection on the old one is looked at only when the new one is known.
    bed.pass([closed(tcp(APP, 5, 100), 1, 300), connected(tcp(APP, 5, 400), 400, "192.0.2.2:443")]);
    bed.pass([nested(ssl(APP, 150), 0, 160, 5), written(ssl(APP, 150), 1, 170)]);
    assert_eq!(bed.peer(ssl(APP, 150)), Some(addr("192.0.2.1:443")));
    // One that writes in between has none of the two: the kernel's own answer is of the new one.
    bed.now(APP, 5, 400, "192.0.2.2:443");
    let between = ConnectionId { object: 0x2000, ..ssl(APP, 310) };
    bed.pass([nested(between, 0, 320, 5), written(between, 1, 330)]);
    assert_eq!(bed.peer(between), None);
    let after = ConnectionId { object: 0x3000, ..ssl(APP, 410) };
    bed.pass([nested(after, 0, 420, 5), written(after, 1, 430)]);
    assert_eq!(bed.peer(after), Some(addr("192.0.2.2:443")));
    assert_eq!(bed.flow(after).attr, "uid:kernel peer:nested_send");
}

#[test]
fn what_is_told_late_of_the_old_socket_does_not_end_the_new_one() {
    let mut bed = Bed::new();
    let (old, new) = (tcp(APP, 5, 100), tcp(APP, 5, 400));
    bed.pass([connected(old, 100, "192.0.2.1:80")]);
    bed.pass([connected(new, 400, "192.0.2.2:80")]);
    assert!(bed.flows.seen.flow(old).is_none(), "its number was used again");
    // Its last bytes and its close lay in another processor's ring.
    bed.pass([event(old, 1, 200, Body::SocketSend(piece(b"POST / HTTP/1.1\r\n"))), closed(old, 2, 300)]);
    assert_eq!(bed.peer(new), Some(addr("192.0.2.2:80")));
    bed.pass([nested(ssl(APP, 450), 0, 460, 5), written(ssl(APP, 450), 1, 470)]);
    assert_eq!(bed.peer(ssl(APP, 450)), Some(addr("192.0.2.2:80")));
}

#[test]
fn an_answer_about_a_descriptor_that_was_closed_meanwhile_is_not_believed() {
    let mut bed = Bed::new();
    // Nobody saw it being opened; when the kernel is asked, the number stands for another socket.
    bed.now(APP, 6, 900, "192.0.2.9:443");
    bed.pass([event(unknown(APP, 6, 100), 0, 110, Body::SocketUnknown)]);
    assert_eq!(bed.answers.borrow().asked, 1);
    assert_eq!(bed.peer(unknown(APP, 6, 100)), None);
    assert_eq!(bed.flows.take_answers(), [(unknown(APP, 6, 100), Wanted::Nothing)]);
    // Of the other one the same answer is right, and reading goes on.
    bed.pass([event(unknown(APP, 6, 900), 0, 910, Body::SocketUnknown)]);
    assert_eq!(bed.peer(unknown(APP, 6, 900)), Some(addr("192.0.2.9:443")));
    assert!(matches!(bed.flows.take_answers()[..], [(_, Wanted::Bytes(_))]));
    // The number stands for nothing any more.
    bed.answers.borrow_mut().born.clear();
    bed.pass([nested(ssl(APP, 1000), 0, 1001, 7), written(ssl(APP, 1000), 1, 1002)]);
    assert_eq!(bed.peer(ssl(APP, 1000)), None);
}

#[test]
fn a_socket_handed_to_another_process_is_asked_about_there() {
    // Fork and SCM_RIGHTS look the same: the other process writes to a number that nobody saw being opened in it.
    let mut bed = Bed::new();
    bed.pass([connected(tcp(APP, 5, 100), 100, "192.0.2.1:80")]);
    bed.now(CHILD, 8, 500, "192.0.2.1:80");
    let copy = unknown(CHILD, 8, 500);
    bed.pass([
        event(copy, 0, 500, Body::SocketUnknown),
        event(copy, 1, 510, Body::SocketSend(piece(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"))),
    ]);
    assert_eq!(bed.peer(copy), Some(addr("192.0.2.1:80")));
    assert_eq!(bed.flow(copy).attr, "uid:kernel peer:sock_diag");
    // The giver closes its own; the taker's stays.
    bed.pass([closed(tcp(APP, 5, 100), 1, 600)]);
    assert_eq!(bed.peer(copy), Some(addr("192.0.2.1:80")));
}

#[test]
fn an_ssl_goes_on_in_a_forked_process() {
    let mut bed = Bed::new();
    let (mine, copy) = (ssl(APP, 150), ssl(CHILD, 700));
    bed.pass([
        connected(tcp(APP, 5, 100), 100, "192.0.2.1:443"),
        event(mine, 0, 150, Body::TlsHost("Named.Test".into())),
        nested(mine, 1, 160, 5),
        written(mine, 2, 170),
    ]);
    bed.answers.borrow_mut().parents.insert(CHILD, APP);
    bed.now(CHILD, 5, 600, "192.0.2.1:443");
    bed.pass([written(copy, 0, 700)]);
    let flow = bed.flow(copy);
    assert_eq!((flow.host.as_deref(), flow.peer), (Some("named.test"), Some(addr("192.0.2.1:443"))));
    assert_eq!(flow.attr, "uid:kernel peer:forked");
    // One that is made anew at the same address is no copy: it begins with what it is told.
    let fresh = ssl(CHILD, 800);
    bed.pass([event(fresh, 0, 800, Body::TlsHost("other.test".into())), written(fresh, 1, 810)]);
    assert_eq!((bed.flow(fresh).host.as_deref(), bed.peer(fresh)), (Some("other.test"), None));
    // Nor is one in a process of another parent.
    let stranger = ssl(CHILD + 1, 900);
    bed.pass([written(stranger, 0, 900)]);
    assert_eq!((bed.flow(stranger).host.as_deref(), bed.peer(stranger)), (None, None));
}
