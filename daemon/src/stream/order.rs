//! Puts a connection's records in order, and says what is missing only when it cannot come any more.
//!
//! A connection's records may lie in several CPUs' rings, which are read one after the other: a record read in one
//! pass may follow one that comes up only in the next. So everything is held until the pass ends, and a number is
//! missing only when a whole pass that began after a later record was read has ended without it.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

use super::Chunk;
use crate::record::{Body, ConnectionId, Direction, Event};

/// Bounds on what is held.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections followed at once; beyond, the one longest silent is ended.
    pub connections: usize,
    /// Bytes held back for all connections together; beyond, holes are no longer waited for.
    pub held: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { connections: 4096, held: 4 << 20 }
    }
}

/// What a connection hands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Bytes, a gap, or the end.
    Chunk(Chunk<'a>),
    /// The host name it asks for.
    Host(&'a str),
    /// The descriptor it was given.
    Fd(Direction, i32),
    /// The descriptor it was seen writing to.
    Nested(i32),
    /// What its thread sent next after it was written to.
    Next {
        /// The descriptor.
        fd: i32,
        /// The first bytes of the send.
        head: [u8; 8],
        /// Bytes that the write had taken.
        taken: u64,
        /// Bytes that the send took.
        sent: u64,
    },
    /// Where a socket's bytes go from now on; none within this machine.
    Peer(Option<SocketAddr>),
    /// A descriptor of which nobody knows whether it is a socket.
    Unknown,
}

/// Takes what comes out in order.
pub trait Sink {
    /// One step of a connection; `event` is the record it comes from, none for an end that was not told by one.
    fn step(&mut self, connection: ConnectionId, event: Option<&Event>, step: Step<'_>);
}

impl<F: FnMut(ConnectionId, Option<&Event>, Step<'_>)> Sink for F {
    fn step(&mut self, connection: ConnectionId, event: Option<&Event>, step: Step<'_>) {
        self(connection, event, step);
    }
}

/// Orders the records of all connections.
#[derive(Debug)]
pub struct Order {
    limits: Limits,
    connections: HashMap<ConnectionId, Connection>,
    /// Connections with something held.
    waiting: Vec<ConnectionId>,
    held: usize,
    counts: Counts,
}

/// What could not be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Numbers that never came.
    pub missing: u64,
    /// Records that came after their number had been declared missing, and were dropped.
    pub late: u64,
    /// Connections ended because there were too many.
    pub crowded_out: u64,
}

#[derive(Debug, Default)]
struct Connection {
    /// The number that is due; none before the first record.
    next: Option<u64>,
    /// Bytes handed on, gaps included: where the connection's next byte belongs.
    position: u64,
    /// In order of number and time.
    held: VecDeque<(u64, Event)>,
    /// The pass in which something last came.
    last_pass: u64,
}

impl Order {
    /// With nothing in it.
    pub fn new(limits: Limits) -> Order {
        Order { limits, connections: HashMap::new(), waiting: Vec::new(), held: 0, counts: Counts::default() }
    }

    /// Connections followed.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// True when no connection is followed.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// True when a record waits for one before it: another pass is due.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What could not be ordered so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes a record that was read in the pass of this number.
    pub fn push(&mut self, pass: u64, event: Event) {
        if matches!(event.body, Body::TlsCall { .. } | Body::TlsTried { .. }) || event.is_cipher() {
            // Such have no number of a connection, and nothing of them is handed on.
            return;
        }
        let id = event.connection;
        let connection = self.connections.entry(id).or_default();
        connection.last_pass = pass;
        if connection.held.is_empty() {
            self.waiting.push(id);
        }
        self.held = self.held.saturating_add(event.size());
        let key = (event.sequence, event.ktime);
        let at = connection.held.partition_point(|(_, held)| (held.sequence, held.ktime) <= key);
        connection.held.insert(at, (pass, event));
    }

    /// A pass over all rings has ended: hands on what is due.
    pub fn end_pass(&mut self, pass: u64, sink: &mut dyn Sink) {
        let impatient = self.held > self.limits.held;
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|id| {
            let Some(connection) = self.connections.get_mut(id) else { return false };
            let ended = connection.release(*id, pass, impatient, &mut self.held, &mut self.counts, sink);
            let waits = !connection.held.is_empty();
            if ended && !waits {
                self.connections.remove(id);
            }
            waits
        });
        self.waiting = waiting;
        self.crowd_out(sink);
    }

    /// Ends every connection, handing on what is held: at the end of a session.
    pub fn end_all(&mut self, sink: &mut dyn Sink) {
        self.waiting.clear();
        for (id, mut connection) in self.connections.drain() {
            let ended = connection.release(id, u64::MAX, true, &mut self.held, &mut self.counts, sink);
            if !ended {
                sink.step(id, None, Step::Chunk(Chunk::End));
            }
        }
    }

    /// Ends the connections of a process that is gone.
    pub fn end_process(&mut self, tgid: u32, sink: &mut dyn Sink) {
        let mut ids: Vec<_> = self.connections.keys().filter(|id| id.tgid == tgid).copied().collect();
        ids.sort_unstable();
        for id in ids {
            self.end(id, sink);
        }
    }

    /// The processes that connections belong to, each once.
    pub fn processes(&self) -> Vec<u32> {
        let mut processes: Vec<u32> = self.connections.keys().map(|id| id.tgid).collect();
        processes.sort_unstable();
        processes.dedup();
        processes
    }

    fn end(&mut self, id: ConnectionId, sink: &mut dyn Sink) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        self.waiting.retain(|waiting| *waiting != id);
        let ended = connection.release(id, u64::MAX, true, &mut self.held, &mut self.counts, sink);
        if !ended {
            sink.step(id, None, Step::Chunk(Chunk::End));
        }
    }

    fn crowd_out(&mut self, sink: &mut dyn Sink) {
        let excess = self.connections.len().saturating_sub(self.limits.connections);
        if excess == 0 {
            return;
        }
        let mut oldest: Vec<_> = self.connections.iter().map(|(id, one)| (one.last_pass, *id)).collect();
        oldest.sort_unstable();
        for (_, id) in oldest.into_iter().take(excess) {
            self.end(id, sink);
            self.counts.crowded_out = self.counts.crowded_out.saturating_add(1);
        }
    }
}

impl Connection {
    /// Hands on what is due after `pass`; with `impatient` everything. True when the connection has ended.
    fn release(
        &mut self,
        id: ConnectionId,
        pass: u64,
        impatient: bool,
        held: &mut usize,
        counts: &mut Counts,
        sink: &mut dyn Sink,
    ) -> bool {
        let mut ended = false;
        while let Some((read_in, event)) = self.held.front() {
            // The program counts from 0 from where it first saw the connection, also when that was under way.
            let due = self.next.unwrap_or(0);
            let missing = event.sequence.saturating_sub(due);
            if missing > 0 && *read_in >= pass && !impatient {
                break;
            }
            let Some((_, event)) = self.held.pop_front() else { break };
            *held = held.saturating_sub(event.size());
            // Of two records with one number, which racing threads may cause, the second is no late one.
            let repeated = event.sequence.checked_add(1) == self.next;
            if self.next.is_some_and(|next| event.sequence < next) && !repeated {
                counts.late = counts.late.saturating_add(1);
                continue;
            }
            counts.missing = counts.missing.saturating_add(missing);
            self.next = Some(event.sequence.saturating_add(1));
            ended |= self.hand_on(id, &event, missing > 0, sink);
        }
        ended
    }

    /// Hands on one record; true when it ends the connection.
    fn hand_on(&mut self, id: ConnectionId, event: &Event, after_hole: bool, sink: &mut dyn Sink) -> bool {
        let mut step = |step| sink.step(id, Some(event), step);
        match &event.body {
            Body::TlsHost(name) => step(Step::Host(name)),
            Body::TlsFd { direction, fd } => step(Step::Fd(*direction, *fd)),
            Body::SocketPeer(peer) => step(Step::Peer(*peer)),
            Body::SocketUnknown => step(Step::Unknown),
            Body::TlsNested(fd) => step(Step::Nested(*fd)),
            Body::TlsNext { fd, head, taken, sent } => {
                step(Step::Next { fd: *fd, head: *head, taken: *taken, sent: *sent });
            }
            Body::TlsWrite(piece) | Body::SocketSend(piece) => {
                let begins = piece.start.saturating_add(piece.offset);
                // Racing threads may count from the same start: then the bytes are not a repetition and no gap.
                let gap = begins.saturating_sub(self.position);
                if gap > 0 || (after_hole && begins < self.position) {
                    step(Step::Chunk(Chunk::Gap(gap)));
                }
                if !piece.bytes.is_empty() {
                    step(Step::Chunk(Chunk::Bytes(&piece.bytes)));
                }
                let taken = piece.offset.saturating_add(piece.bytes.len() as u64);
                let rest = piece.total.saturating_sub(taken);
                // Over budget or unreadable: known to be there, and known not to come.
                if piece.last && rest > 0 {
                    step(Step::Chunk(Chunk::Gap(rest)));
                }
                let reached = if piece.last { piece.total } else { taken };
                self.position = self.position.max(piece.start.saturating_add(reached));
            }
            Body::TlsFree(_) | Body::SocketClose(_) => {
                step(Step::Chunk(Chunk::End));
                return true;
            }
            Body::TlsCall { .. } | Body::TlsTried { .. } | Body::CipherText(_) | Body::CipherOutput(_) => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Ended, Piece};

    const ID: ConnectionId = ConnectionId { tgid: 10, object: 0x1000, born: 5 };

    fn event(sequence: u64, ktime: u64, body: Body) -> Event {
        Event { connection: ID, sequence, ktime, attempt: 1, tid: 10, uid: 10_123, body }
    }

    /// A send of its own.
    fn write(sequence: u64, start: u64, bytes: &[u8]) -> Event {
        let piece = Piece { start, total: bytes.len() as u64, offset: 0, last: true, bytes: bytes.to_vec() };
        event(sequence, 100 + sequence, Body::TlsWrite(piece))
    }

    /// What comes out, as one line.
    #[derive(Default)]
    struct Heard(String);

    impl Sink for Heard {
        fn step(&mut self, connection: ConnectionId, _: Option<&Event>, step: Step<'_>) {
            if connection != ID {
                self.0.push_str(&format!("@{} ", connection.tgid));
            }
            self.0.push_str(&match step {
                Step::Chunk(Chunk::Bytes(bytes)) => format!("{} ", String::from_utf8_lossy(bytes)),
                Step::Chunk(Chunk::Gap(gap)) => format!("gap{gap} "),
                Step::Chunk(Chunk::End) => "end ".into(),
                Step::Host(name) => format!("host:{name} "),
                Step::Fd(direction, fd) => format!("{direction:?}:{fd} "),
                Step::Peer(peer) => format!("peer:{peer:?} "),
                Step::Unknown => "unknown ".into(),
                Step::Nested(fd) => format!("nested:{fd} "),
                Step::Next { fd, .. } => format!("next:{fd} "),
            });
        }
    }

    /// Pushes each inner list in a pass of its own and then makes `more` empty passes.
    fn heard(passes: Vec<Vec<Event>>, more: u64) -> (String, Counts) {
        let mut order = Order::new(Limits::default());
        let mut sink = Heard::default();
        let mut pass = 0;
        for events in passes {
            pass += 1;
            for event in events {
                order.push(pass, event);
            }
            order.end_pass(pass, &mut sink);
        }
        for _ in 0..more {
            pass += 1;
            order.end_pass(pass, &mut sink);
        }
        (sink.0, order.counts())
    }

    fn sends() -> Vec<Event> {
        vec![
            event(0, 90, Body::TlsHost("a.example".into())),
            event(1, 95, Body::TlsFd { direction: Direction::Both, fd: 7 }),
            write(2, 0, b"ab"),
            write(3, 2, b"cd"),
            write(4, 4, b"ef"),
            event(5, 120, Body::TlsFree(Ended::default())),
        ]
    }

    const IN_ORDER: &str = "host:a.example Both:7 ab cd ef end ";

    #[test]
    fn every_order_of_arrival_comes_out_the_same() {
        fn permute(rest: &mut Vec<Event>, taken: &mut Vec<Event>) {
            if rest.is_empty() {
                assert_eq!(heard(vec![taken.clone()], 0), (IN_ORDER.into(), Counts::default()));
                // Spread over two passes, whatever comes late is waited for.
                for cut in 0..taken.len() {
                    let (first, second) = taken.split_at(cut);
                    let (said, counts) = heard(vec![first.to_vec(), second.to_vec()], 0);
                    assert_eq!((said.as_str(), counts), (IN_ORDER, Counts::default()), "{cut}");
                }
                return;
            }
            for at in 0..rest.len() {
                taken.push(rest.remove(at));
                permute(rest, taken);
                rest.insert(at, taken.pop().unwrap());
            }
        }
        permute(&mut sends(), &mut Vec::new());
    }

    #[test]
    fn a_hole_is_a_gap_only_after_a_whole_later_pass() {
        let without =
            |lost: u64| sends().into_iter().filter(|event| event.sequence != lost).collect::<Vec<_>>();
        assert_eq!(heard(vec![without(3)], 0).0, "host:a.example Both:7 ab ");
        let (said, counts) = heard(vec![without(3)], 1);
        assert_eq!(said, "host:a.example Both:7 ab gap2 ef end ");
        assert_eq!(counts.missing, 1);
        // A lost name leaves no gap in the bytes.
        assert_eq!(heard(vec![without(0)], 1).0, "Both:7 ab cd ef end ");
        assert_eq!(heard(vec![without(2)], 1).0, "host:a.example Both:7 gap2 cd ef end ");
    }

    #[test]
    fn what_comes_after_it_was_given_up_is_dropped_and_counted() {
        let mut events = sends();
        let late = events.remove(3);
        let last = events.pop().unwrap();
        let (said, counts) = heard(vec![events, vec![], vec![late], vec![last]], 0);
        assert_eq!(said, "host:a.example Both:7 ab gap2 ef end ");
        assert_eq!(counts, Counts { missing: 1, late: 1, crowded_out: 0 });
    }

    #[test]
    fn equal_numbers_go_by_time() {
        let piece = |bytes: &[u8]| {
            Body::TlsWrite(Piece { start: 0, total: 2, offset: 0, last: true, bytes: bytes.to_vec() })
        };
        let (early, late) = (event(0, 10, piece(b"ab")), event(0, 11, piece(b"cd")));
        let next = write(1, 2, b"ef");
        for events in [[&late, &early, &next], [&next, &late, &early], [&early, &next, &late]] {
            let events: Vec<Event> = events.into_iter().cloned().collect();
            assert_eq!(heard(vec![events], 0), ("ab cd ef ".into(), Counts::default()));
        }
        // In a pass of its own the later one is still no late one.
        assert_eq!(heard(vec![vec![early], vec![late]], 0).0, "ab cd ");
    }

    #[test]
    fn pieces_join_and_what_is_over_budget_is_a_gap() {
        let piece = |sequence, offset, last, bytes: &[u8]| {
            let piece = Piece { start: 0, total: 10, offset, last, bytes: bytes.to_vec() };
            event(sequence, 1, Body::TlsWrite(piece))
        };
        let next = write(2, 10, b"next");
        let all = vec![piece(0, 0, false, b"abc"), piece(1, 3, true, b"def"), next.clone()];
        assert_eq!(heard(vec![all], 0).0, "abc def gap4 next ");
        assert_eq!(heard(vec![vec![piece(0, 0, false, b"abc"), next.clone()]], 1).0, "abc gap7 next ");
        assert_eq!(heard(vec![vec![piece(1, 3, true, b"def"), next]], 1).0, "gap3 def gap4 next ");
        // Unreadable: the piece is there and its bytes are not.
        assert_eq!(heard(vec![vec![piece(0, 0, true, b"")]], 0).0, "gap10 ");
    }

    #[test]
    fn everything_ends_when_it_is_told_to() {
        let other = Event { connection: ConnectionId { tgid: 11, ..ID }, ..write(0, 0, b"other") };
        let mut order = Order::new(Limits::default());
        let mut sink = Heard::default();
        order.push(1, write(0, 0, b"ab"));
        order.push(1, write(2, 4, b"ef"));
        order.push(1, other);
        order.end_pass(1, &mut sink);
        assert!(order.is_waiting());
        assert_eq!(order.processes(), [10, 11]);
        order.end_process(10, &mut sink);
        assert!(!order.is_waiting());
        order.end_all(&mut sink);
        assert_eq!(sink.0.replace("@11 ", ""), "ab other gap2 ef end end ");
        assert!(order.is_empty());
        assert_eq!(order.held, 0);
    }

    #[test]
    fn both_bounds_hold() {
        let mut order = Order::new(Limits { connections: 3, held: 10_000 });
        let mut sink = Heard::default();
        for pass in 1..=50 {
            let connection = ConnectionId { object: pass, ..ID };
            // Number 0 never comes, so that all would be held.
            order.push(pass, Event { connection, ..write(1, 100, &[b'x'; 4000]) });
            order.end_pass(pass, &mut sink);
            assert!(order.len() <= 3);
            assert!(order.held <= 10_000 + 5_000, "{}", order.held);
        }
        assert_eq!(order.counts().crowded_out, 47);
    }
}
