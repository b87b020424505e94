//! The promises of joining what an app sealed to what left.

use telltale::record::{Body, Cipher, CipherPiece, ConnectionId, Event, Secret};
use telltale::sealed::{HOLD_MS, Held, Limits};

/// Records, searches and time in whatever order: bounded, found only whole, in order and of a process that may have sent it;
/// and after [`HOLD_MS`] nothing is left, and every message is accounted for.
pub fn join(data: &[u8]) {
    const LIMITS: Limits = Limits { messages: 5, bytes: 600, message: 200, calls: 4 };
    const FEWEST: usize = 16;
    let mut held = Held::new(LIMITS);
    let mut now_ms = 0_u64;
    let mut rest = data;
    while let [step, which, start, total, offset, len, tail @ ..] = rest {
        let (bytes, after) = tail.split_at(tail.len().min(usize::from(*len)));
        rest = after;
        let connection = ConnectionId {
            tgid: u32::from(which & 1),
            object: u64::from(which >> 1 & 3),
            born: u64::from(which >> 3 & 3),
        };
        let cipher =
            if which & 0x80 == 0 { Cipher::default() } else { Cipher { nid: 418, key_len: 16, block: 16 } };
        let piece = CipherPiece {
            cipher,
            // Some far beyond what is kept.
            start: u64::from(*start) << if step & 0x40 == 0 { 0 } else { 56 },
            total: u64::from(*total),
            offset: u64::from(*offset),
            ended: step & 0x80 != 0,
            bytes: Secret::new(bytes),
        };
        let body = match step & 7 {
            0..3 => Body::CipherText(piece),
            3..5 => Body::CipherOutput(piece),
            5 => {
                now_ms += u64::from(*total) << 7;
                held.forget(now_ms);
                continue;
            }
            6 if step & 8 != 0 => {
                held.clear();
                assert!(held.is_empty());
                continue;
            }
            _ => {
                let mut end = 0;
                for found in held.find(bytes, |tgid| tgid == u32::from(which & 1)) {
                    assert!(found.range.start >= end && found.range.end <= bytes.len());
                    assert!(found.range.len() >= FEWEST && found.text.len() <= LIMITS.message);
                    assert_eq!(found.tgid, u32::from(which & 1));
                    end = found.range.end;
                }
                continue;
            }
        };
        let event = Event { connection, sequence: 0, ktime: 0, attempt: 0, tid: 1, uid: 1, body };
        held.take(event, now_ms);
        assert!(held.len() <= LIMITS.messages);
        assert!(held.due_ms().is_none_or(|due| due <= now_ms + HOLD_MS));
    }
    held.forget(now_ms + HOLD_MS);
    assert!(held.is_empty() && held.due_ms().is_none() && held.find(data, |_| true).is_empty());
    let counts = held.counts();
    assert_eq!(counts.seen, counts.joined + counts.forgotten);
}
