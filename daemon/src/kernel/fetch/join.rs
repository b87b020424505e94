//! What ftrace saw when a function began, joined to what the programs tell once it has returned. Pure state.
//!
//! The programs know everything of a write but its bytes: whose it is, where in its connection it belongs, and, since they
//! see the return, how much of what was offered was taken. So a record that says "not readable" is looked up here by thread
//! and `SSL*`, and goes on with the bytes that lay in the buffer when the call began. A call that took nothing makes no record,
//! and what it offered is forgotten with the next one. Nested calls (TLS inside TLS) have another `SSL*`.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};

use super::layout::Offer;
use crate::record::{Body, Event, Piece};

/// Calls whose return was not seen that are remembered at once: about a quarter of a MiB.
const PENDING: usize = 256;
/// Names of hosts whose connection has not sent anything.
const NAMES: usize = 256;

/// What was offered and not yet told as taken.
#[derive(Debug, Default)]
pub struct Offers {
    /// By thread and `SSL*`, in order of time.
    calls: HashMap<(u32, u64), VecDeque<(u64, Offer)>>,
    pending: usize,
    /// By process and `SSL*`.
    names: HashMap<(u32, u64), (u64, String)>,
}

impl Offers {
    /// A write has begun.
    pub fn offered(&mut self, tid: u32, ktime: u64, offer: Offer) {
        if self.pending >= PENDING {
            // Threads that never came back, or a ring of records that nobody reads: no reason to guess.
            self.forget();
        }
        let calls = self.calls.entry((tid, offer.object)).or_default();
        let at = calls.partition_point(|(then, _)| *then <= ktime);
        calls.insert(at, (ktime, offer));
        self.pending = self.pending.saturating_add(1);
    }

    /// A connection was told the name of its host.
    pub fn named(&mut self, tgid: u32, ktime: u64, offer: &Offer) {
        let Some(name) = offer.text() else { return };
        if self.names.len() >= NAMES {
            self.names.clear();
        }
        self.names.insert((tgid, offer.object), (ktime, name.to_owned()));
    }

    /// Samples were lost: a later write must not be given the bytes of an earlier one.
    pub fn forget(&mut self) {
        self.calls.clear();
        self.pending = 0;
    }

    /// Calls remembered.
    pub fn len(&self) -> usize {
        self.pending
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.pending == 0
    }

    /// Hands a record on with what is known of it besides: a host's name before the first of its connection, and bytes where
    /// the programs could read none.
    pub fn join(&mut self, event: Event, sink: &mut dyn FnMut(Event)) {
        let id = event.connection;
        if id.socket().is_none()
            && !event.is_cipher()
            && let Some((then, _)) = self.names.get(&(id.tgid, id.object))
            && *then <= event.ktime
            && let Some((_, name)) = self.names.remove(&(id.tgid, id.object))
            // Of an older object at the same address it is the end.
            && !matches!(event.body, Body::TlsFree(_))
        {
            // Equal numbers are in order of time.
            let ktime = event.ktime.saturating_sub(1);
            sink(Event { ktime, body: Body::TlsHost(name), ..event.clone() });
        }
        let Body::TlsWrite(piece) = &event.body else { return sink(event) };
        if !piece.bytes.is_empty() || piece.offset > 0 {
            return sink(event);
        }
        let Some(offer) = self.taken(&event, piece.total) else { return sink(event) };
        let head = offer.head(piece.total);
        let len = head.len() as u64;
        if len == 0 {
            return sink(event);
        }
        let (start, total) = (piece.start, piece.total);
        let whole = len == total;
        let first = Piece { start, total, offset: 0, last: whole, bytes: head.to_vec() };
        if !whole {
            // The number is that of the record, of which there was one: time keeps them in order.
            let rest = Piece { start, total, offset: len, last: true, bytes: Vec::new() };
            let ktime = event.ktime.saturating_add(1);
            let rest = Event { ktime, body: Body::TlsWrite(rest), ..event.clone() };
            sink(Event { body: Body::TlsWrite(first), ..event });
            return sink(rest);
        }
        sink(Event { body: Body::TlsWrite(first), ..event });
    }

    /// What the write that this record tells of was offered: the last call of its thread before.
    fn taken(&mut self, event: &Event, total: u64) -> Option<Offer> {
        let key = (event.tid, event.connection.object);
        let calls = self.calls.get_mut(&key)?;
        let begun = calls.partition_point(|(then, _)| *then <= event.ktime);
        let last = calls.drain(..begun).next_back();
        self.pending = self.pending.saturating_sub(begun);
        if calls.is_empty() {
            self.calls.remove(&key);
        }
        // It cannot have taken more than it was offered: then it is another's.
        last.map(|(_, offer)| offer).filter(|offer| u64::from(offer.length as u32) >= total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::ConnectionId,
        stream::{Chunk, Limits, Order, Step},
    };

    const ID: ConnectionId = ConnectionId { tgid: 10, object: 0x1000, born: 5 };

    fn offer(object: u64, text: &[u8], length: u64) -> Offer {
        let mut words = text.to_vec();
        words.resize(text.len().next_multiple_of(8), b'.');
        Offer { object, buffer: 0x4000, length, words }
    }

    /// A write as the programs tell it that cannot read.
    fn told(sequence: u64, ktime: u64, start: u64, total: u64) -> Event {
        let piece = Piece { start, total, offset: 0, last: true, bytes: Vec::new() };
        Event {
            connection: ID,
            sequence,
            ktime,
            attempt: 1,
            tid: 11,
            uid: 10_123,
            body: Body::TlsWrite(piece),
        }
    }

    /// What comes of these records, in order, as one line.
    fn heard(offers: &mut Offers, events: impl IntoIterator<Item = Event>) -> String {
        let mut order = Order::new(Limits::default());
        for event in events {
            offers.join(event, &mut |event| order.push(1, event));
        }
        let mut line = String::new();
        let mut sink = |_: ConnectionId, _: Option<&Event>, step: Step<'_>| {
            line.push_str(&match step {
                Step::Chunk(Chunk::Bytes(bytes)) => format!("{} ", String::from_utf8_lossy(bytes)),
                Step::Chunk(Chunk::Gap(gap)) => format!("gap{gap} "),
                Step::Host(name) => format!("host:{name} "),
                other => format!("{other:?} "),
            });
        };
        order.end_pass(1, &mut sink);
        order.end_pass(2, &mut sink);
        line.trim_end().to_owned()
    }

    #[test]
    fn what_was_taken_is_what_was_offered_up_to_there() {
        let mut offers = Offers::default();
        offers.offered(11, 100, offer(ID.object, b"GET / HTTP/1.1", 14));
        assert_eq!(heard(&mut offers, [told(0, 101, 0, 14)]), "GET / HTTP/1.1");
        offers.offered(11, 102, offer(ID.object, b"0123456789abcdef", 5000));
        offers.offered(11, 104, offer(ID.object, b"tail", 4));
        let events = [told(1, 103, 14, 5000), told(2, 105, 5014, 4)];
        assert_eq!(heard(&mut offers, events), "gap14 0123456789abcdef gap4984 tail");
        assert!(offers.is_empty());
    }

    #[test]
    fn a_call_that_took_nothing_is_offered_again_and_told_once() {
        let mut offers = Offers::default();
        for ktime in [100, 110, 120] {
            offers.offered(11, ktime, offer(ID.object, b"again", 5));
        }
        // Part of what was offered was taken.
        assert_eq!(heard(&mut offers, [told(0, 121, 0, 3)]), "aga");
        assert_eq!(heard(&mut offers, [told(1, 122, 3, 2)]), "gap3 gap2");
    }

    #[test]
    fn others_calls_are_others() {
        let mut offers = Offers::default();
        // Another thread, another object around this one, and a call that begins only later.
        offers.offered(12, 100, offer(ID.object, b"other thread", 12));
        offers.offered(11, 101, offer(0x2000, b"inner", 5));
        offers.offered(11, 200, offer(ID.object, b"later", 5));
        assert_eq!(heard(&mut offers, [told(0, 150, 0, 5)]), "gap5");
        assert_eq!(heard(&mut offers, [told(1, 201, 5, 5)]), "gap5 later");
        // More was taken than this call offered: it cannot be the one.
        offers.offered(11, 300, offer(ID.object, b"short", 5));
        assert_eq!(heard(&mut offers, [told(2, 301, 10, 6)]), "gap10 gap6");
    }

    #[test]
    fn nothing_is_guessed_after_a_loss_or_beyond_the_bound() {
        let mut offers = Offers::default();
        offers.offered(11, 100, offer(ID.object, b"lost?", 5));
        offers.forget();
        assert_eq!(heard(&mut offers, [told(0, 101, 0, 5)]), "gap5");
        for tid in 0..u32::try_from(PENDING).unwrap() * 3 {
            offers.offered(tid, 100, offer(ID.object, b"x", 1));
            assert!(offers.len() <= PENDING);
        }
    }

    #[test]
    fn a_hosts_name_comes_before_what_is_sent_to_it_and_once() {
        let mut offers = Offers::default();
        offers.named(10, 90, &offer(ID.object, b"a.test\0\0", 0));
        offers.offered(11, 100, offer(ID.object, b"hello", 5));
        assert_eq!(heard(&mut offers, [told(0, 101, 0, 5)]), "host:a.test hello");
        assert_eq!(heard(&mut offers, [told(1, 111, 5, 5)]), "gap5 gap5");
        // One process's name is not another's, and what was named later is another object.
        offers.named(9, 90, &offer(ID.object, b"b.test\0\0", 0));
        offers.named(10, 190, &offer(ID.object, b"c.test\0\0", 0));
        assert_eq!(heard(&mut offers, [told(2, 121, 10, 1)]), "gap10 gap1");
    }
}
