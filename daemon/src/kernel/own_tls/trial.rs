//! Whether a function that was found by its structure really is `SSL_write`: judged by what it is called with, by the TLS
//! records that its process sends meanwhile, and by what its buffers hold. Pure state; times are the kernel's.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use crate::record::{ConnectionId, Event};

/// What was concluded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// Not enough was seen.
    Open,
    /// It is `SSL_write`.
    Proven,
    /// It is not, or cannot be shown to be: why.
    Refused(String),
}

/// A function on trial, with what it delivered so far.
#[derive(Debug, Default)]
pub(super) struct Trial {
    calls: u32,
    /// Calls that no program makes of `SSL_write`.
    odd: u32,
    /// Returns that say more was taken than was given.
    too_much: u32,
    /// Writes that a TLS record of fitting size left the thread with, meanwhile or soon after.
    fits: u32,
    /// Writes that hold HTTP.
    recognised: u32,
    writes: VecDeque<Write>,
    sends: VecDeque<Sent>,
    /// Calls of which no return is known: several of a thread when one pass over the rings finds them all.
    under_way: VecDeque<Call>,
    held: Vec<Event>,
    held_bytes: usize,
}

/// A call that is under way.
#[derive(Debug, Clone, Copy)]
struct Call {
    connection: ConnectionId,
    tid: u32,
    ktime: u64,
    len: i32,
}

/// A call that took something.
#[derive(Debug, Clone, Copy)]
struct Write {
    tgid: u32,
    tid: u32,
    from: u64,
    to: u64,
    bytes: u64,
}

/// A send to a stream socket that begins with a record of application data.
#[derive(Debug, Clone, Copy)]
struct Sent {
    tgid: u32,
    tid: u32,
    ktime: u64,
    /// What the record's header says of its length.
    record: u64,
    /// Bytes of the send.
    bytes: u64,
}

/// Calls, writes and sends remembered at once.
const REMEMBERED: usize = 64;
/// Calls after which something must have been shown.
const PATIENCE: u32 = 96;
/// What no program does to `SSL_write` may happen by accident; so often it does not.
const ODD: u32 = 3;
/// A record may leave this long after the call returned, nanoseconds.
const AFTER: u64 = 2_000_000_000;
/// The most plaintext in one record (RFC 8446 section 5.1).
const RECORD: u64 = 1 << 14;
/// What a record adds to its plaintext: ChaCha20-Poly1305 of TLS 1.2 16 bytes (RFC 7905), TLS 1.3 17 and more (RFC 8446
/// section 5.2), AES-GCM of TLS 1.2 24 (RFC 5288), CBC up to 80 (RFC 5246 section 6.2.3.2 with SHA-384).
const ADDED: std::ops::RangeInclusive<u64> = 16..=80;
/// The largest length that is taken for one.
const LENGTH: i32 = 1 << 26;
/// The first pages are never mapped (vm.mmap_min_addr).
const LOWEST: u64 = 1 << 16;
/// Bytes held back until the end of the trial; what comes beyond is dropped.
const HELD: usize = 1 << 20;

impl Trial {
    /// It was called.
    pub(super) fn called(&mut self, event: &Event, buffer: u64, len: i32) {
        self.calls = self.calls.saturating_add(1);
        let ssl = event.connection.object;
        let plausible = ssl >= LOWEST
            && ssl.is_multiple_of(8)
            && (0..=LENGTH).contains(&len)
            && (len == 0 || buffer >= LOWEST);
        if !plausible {
            self.odd = self.odd.saturating_add(1);
        }
        let call = Call { connection: event.connection, tid: event.tid, ktime: event.ktime, len };
        remember(&mut self.under_way, call);
    }

    /// It returned having taken `total` bytes, which begin with `bytes`; `event` is held until the end of the trial.
    pub(super) fn wrote(&mut self, event: Event, total: u64, first: Option<&[u8]>) {
        if let Some(first) = first
            && let Some(call) = self.call_of(&event)
        {
            if i64::from(call.len) < i64::try_from(total).unwrap_or(i64::MAX) {
                self.too_much = self.too_much.saturating_add(1);
            }
            self.recognised = self.recognised.saturating_add(u32::from(is_http(first, total)));
            let tgid = event.connection.tgid;
            let write = Write { tgid, tid: event.tid, from: call.ktime, to: event.ktime, bytes: total };
            remember(&mut self.writes, write);
        }
        self.hold(event);
    }

    /// The call that returned with this: the thread's last before it. What the thread called earlier has returned too.
    fn call_of(&mut self, event: &Event) -> Option<Call> {
        let mut last: Option<Call> = None;
        self.under_way.retain(|call| {
            let past = (call.connection.tgid, call.tid) == (event.connection.tgid, event.tid)
                && call.ktime <= event.ktime;
            if past && last.is_none_or(|known| known.ktime < call.ktime) {
                last = Some(*call);
            }
            !past
        });
        last.filter(|call| call.connection == event.connection)
    }

    /// Holds what else belongs to a connection of its.
    pub(super) fn hold(&mut self, event: Event) {
        let size = event.size();
        if self.held_bytes.saturating_add(size) <= HELD {
            self.held_bytes = self.held_bytes.saturating_add(size);
            self.held.push(event);
        }
    }

    /// Its thread sent this to a stream socket, while it ran or next after it.
    pub(super) fn sent(&mut self, event: &Event, head: [u8; 8], bytes: u64) {
        // Application data (RFC 8446 section 5.1).
        if let [23, 3, 0..=4, high, low, ..] = head {
            let record = u64::from(u16::from_be_bytes([high, low]));
            let (tgid, tid, ktime) = (event.connection.tgid, event.tid, event.ktime);
            remember(&mut self.sends, Sent { tgid, tid, ktime, record, bytes });
        }
    }

    /// Weighs what is there.
    pub(super) fn judge(&mut self) -> Finding {
        self.compare();
        if self.too_much >= ODD {
            return Finding::Refused(format!(
                "{} of {} calls said to have taken more than they were given",
                self.too_much, self.calls
            ));
        }
        if self.odd >= ODD {
            return Finding::Refused(format!(
                "{} of {} calls had arguments that SSL_write does not take",
                self.odd, self.calls
            ));
        }
        let proven = self.fits >= 2
            || (self.fits >= 1 && self.recognised >= 1)
            // Where socket sends are not seen, or another thread does the sending.
            || self.recognised >= 3;
        if proven {
            return Finding::Proven;
        }
        if self.calls >= PATIENCE {
            return Finding::Refused(format!(
                "in {} calls no TLS record of fitting size left the thread ({} fitted), and no HTTP was seen ({})",
                self.calls, self.fits, self.recognised
            ));
        }
        Finding::Open
    }

    /// What was held, once the trial is over.
    pub(super) fn release(&mut self) -> Vec<Event> {
        self.held_bytes = 0;
        std::mem::take(&mut self.held)
    }

    /// What was seen, in words.
    pub(super) fn account(&self) -> String {
        format!(
            "{} calls, {} TLS records of fitting size, {} writes of HTTP",
            self.calls, self.fits, self.recognised
        )
    }

    /// Matches writes with sends, each once. What did not fit may still: the rings come one after the other.
    fn compare(&mut self) {
        let (sends, fits) = (&mut self.sends, &mut self.fits);
        self.writes.retain(|write| {
            let fitting = sends.iter().position(|sent| {
                (sent.tgid, sent.tid) == (write.tgid, write.tid)
                    && (write.from..=write.to.saturating_add(AFTER)).contains(&sent.ktime)
                    && sent.may_hold(write.bytes)
            });
            let Some(at) = fitting else { return true };
            sends.remove(at);
            *fits = fits.saturating_add(1);
            false
        });
    }
}

impl Sent {
    /// Whether its first record, or all its records if it takes several, may hold so many bytes.
    fn may_hold(&self, bytes: u64) -> bool {
        /// Type, version and length.
        const HEADER: u64 = 5;
        let count = bytes.div_ceil(RECORD).max(1);
        let least = bytes.saturating_add(count.saturating_mul(*ADDED.start()));
        let most = bytes.saturating_add(count.saturating_mul(*ADDED.end()));
        let length = if count == 1 {
            self.record
        } else {
            // The socket may take a long row in several sends: then only its first record is full.
            if self.record < RECORD {
                return false;
            }
            self.bytes.saturating_sub(count.saturating_mul(HEADER))
        };
        (least..=most).contains(&length)
    }
}

fn remember<T>(list: &mut VecDeque<T>, one: T) {
    if list.len() >= REMEMBERED {
        list.pop_front();
    }
    list.push_back(one);
}

/// Whether a write holds HTTP: a request's head, the preface of HTTP/2, or whole HTTP/2 frames.
fn is_http(bytes: &[u8], total: u64) -> bool {
    const METHODS: [&[u8]; 8] =
        [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ", b"DELETE ", b"PATCH ", b"CONNECT "];
    /// RFC 9113 section 3.4.
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let first_line = || bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    bytes.starts_with(PREFACE)
        || (METHODS.iter().any(|method| bytes.starts_with(method)) && first_line().ends_with(b" HTTP/1.1"))
        || are_frames(bytes, total)
}

/// Whether a write is one or more whole HTTP/2 frames (RFC 9113 section 4.1) and nothing else.
fn are_frames(mut bytes: &[u8], total: u64) -> bool {
    if bytes.len() as u64 != total {
        return false;
    }
    let mut any = false;
    while let [a, b, c, kind, _flags, stream, _, _, _, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        // DATA to CONTINUATION, the reserved bit unset, and a payload that is all there.
        if *kind > 9 || stream & 0x80 != 0 {
            return false;
        }
        let Some(next) = rest.get(length..) else { return false };
        bytes = next;
        any = true;
    }
    any && bytes.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Body, Piece};

    const SSL: u64 = 0x5555_0000;
    const MS: u64 = 1_000_000;

    fn event(tid: u32, ktime: u64, body: Body) -> Event {
        let connection = ConnectionId { tgid: 10, object: SSL, born: 1 };
        Event { connection, sequence: 0, ktime, attempt: 1, tid, uid: 10_123, body }
    }

    /// A call at `at` that takes everything and returns a millisecond later.
    fn write(trial: &mut Trial, at: u64, bytes: &[u8]) {
        let len = bytes.len() as i32;
        trial.called(&event(11, at, Body::TlsCall { at: 0, buffer: 0x7000_0000, len }), 0x7000_0000, len);
        let total = bytes.len() as u64;
        let piece = Piece { start: 0, total, offset: 0, last: true, bytes: bytes.to_vec() };
        trial.wrote(event(11, at + MS, Body::TlsWrite(piece)), total, Some(bytes));
    }

    /// A send of one record for so many bytes of plaintext in TLS 1.3.
    fn send(trial: &mut Trial, tid: u32, at: u64, plain: usize) {
        let [high, low] = (plain as u16 + 17).to_be_bytes();
        trial.sent(&event(tid, at, Body::SocketUnknown), [23, 3, 3, high, low, 1, 2, 3], plain as u64 + 22);
    }

    #[test]
    fn two_records_of_fitting_size_on_the_thread_prove_it() {
        let mut trial = Trial::default();
        // Inside the call, as with a socket BIO.
        send(&mut trial, 11, 100 * MS + 1, 300);
        write(&mut trial, 100 * MS, &[7; 300]);
        assert_eq!(trial.judge(), Finding::Open);
        // After it, as with a memory BIO.
        write(&mut trial, 200 * MS, &[7; 40]);
        send(&mut trial, 11, 202 * MS, 40);
        assert_eq!(trial.judge(), Finding::Proven);
        assert_eq!(trial.release().len(), 2);
    }

    #[test]
    fn several_calls_in_one_pass_are_told_apart() {
        let mut trial = Trial::default();
        let calls = [(100, 105_u64), (200, 17), (300, 64)];
        // The rings hand over all calls first: the returns wait for the end of the pass.
        for (at, bytes) in calls {
            trial.called(&event(11, at * MS, Body::SocketUnknown), 0x7000_0000, bytes as i32);
            send(&mut trial, 11, at * MS + 1, bytes as usize);
        }
        // Another thread's call is another call, and one that took nothing has no return.
        trial.called(&event(12, 101 * MS, Body::SocketUnknown), 0x7000_0000, 1);
        trial.called(&event(11, 150 * MS, Body::SocketUnknown), 0x7000_0000, 17);
        for (at, bytes) in calls {
            trial.wrote(event(11, (at + 1) * MS, Body::SocketUnknown), bytes, Some(b"x"));
            // The rest of a long one comes as pieces of its own.
            trial.wrote(event(11, (at + 1) * MS, Body::SocketUnknown), bytes, None);
        }
        assert_eq!(trial.judge(), Finding::Proven);
        assert_eq!((trial.too_much, trial.fits), (0, 3));
    }

    #[test]
    fn records_of_other_sizes_times_and_processes_prove_nothing() {
        let mut trial = Trial::default();
        for round in 0..PATIENCE - 1 {
            let at = u64::from(round + 1) * 10_000 * MS;
            write(&mut trial, at, &[7; 300]);
            send(&mut trial, 11, at + 1, 900);
            send(&mut trial, 11, at - 1, 300);
            send(&mut trial, 11, at + 3_000 * MS, 300);
            send(&mut trial, 12, at + 1, 300);
            // Of fitting size, and no application data.
            trial.sent(&event(11, at + 1, Body::SocketUnknown), [22, 3, 3, 1, 61, 0, 0, 0], 322);
            trial.sent(&event(11, at + 1, Body::SocketUnknown), *b"GET / HT", 300);
            assert_eq!(trial.judge(), Finding::Open, "{round}");
        }
        write(&mut trial, u64::MAX / 2, &[7; 300]);
        assert!(matches!(trial.judge(), Finding::Refused(_)));
    }

    #[test]
    fn http_counts_with_one_record_or_alone_three_times() {
        let request = b"GET /a HTTP/1.1\r\nHost: b\r\n\r\n";
        let mut trial = Trial::default();
        write(&mut trial, MS, request);
        assert_eq!(trial.judge(), Finding::Open);
        send(&mut trial, 11, MS + 1, request.len());
        assert_eq!(trial.judge(), Finding::Proven);

        let mut trial = Trial::default();
        let mut preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        preface.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        write(&mut trial, MS, &preface);
        write(&mut trial, 2 * MS, &[0, 0, 0, 4, 1, 0, 0, 0, 0]);
        assert_eq!(trial.judge(), Finding::Open);
        write(&mut trial, 3 * MS, &[0, 0, 2, 0, 1, 0, 0, 0, 1, b'o', b'k']);
        assert_eq!(trial.judge(), Finding::Proven);
    }

    #[test]
    fn what_ssl_write_never_gets_or_does_refuses_it() {
        let mut trial = Trial::default();
        for at in 1..=u64::from(ODD) {
            trial.called(&event(11, at, Body::SocketUnknown), 5, -3);
        }
        assert!(matches!(trial.judge(), Finding::Refused(why) if why.contains("3 of 3")));

        let mut trial = Trial::default();
        for at in (1..=2 * u64::from(ODD)).step_by(2) {
            assert_eq!(trial.judge(), Finding::Open);
            trial.called(&event(11, at, Body::SocketUnknown), 0x7000_0000, 10);
            trial.wrote(event(11, at + 1, Body::SocketUnknown), 11, Some(&[0; 11]));
        }
        assert!(matches!(trial.judge(), Finding::Refused(why) if why.contains("more than they were given")));
    }

    #[test]
    fn a_record_fits_what_it_may_hold() {
        let sent = |record, bytes| Sent { tgid: 1, tid: 1, ktime: 1, record, bytes };
        for (added, fits) in [(15, false), (16, true), (17, true), (24, true), (80, true), (81, false)] {
            assert_eq!(sent(300 + added, 305 + added).may_hold(300), fits, "{added}");
        }
        // Three records.
        let long = 2 * RECORD + 100;
        assert!(sent(RECORD + 17, long + 3 * 22).may_hold(long));
        assert!(!sent(RECORD + 17, long + 900).may_hold(long));
        assert!(!sent(100, long + 3 * 22).may_hold(long));
        assert!(!sent(u64::MAX, u64::MAX).may_hold(u64::MAX / 2));
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut trial = Trial::default();
        for _ in 0..40 {
            let bytes = vec![0; 64 << 10];
            let piece = Piece { start: 0, total: 1 << 16, offset: 0, last: true, bytes };
            trial.hold(event(11, 1, Body::TlsWrite(piece)));
        }
        let held = trial.release();
        assert!(held.iter().map(Event::size).sum::<usize>() <= HELD && held.len() > 10);
    }
}
