//! Joining by cipher text, holes, order, forgetting and bounds.

use super::*;
use crate::record::Secret;

const AES: Cipher = Cipher { nid: 418, key_len: 16, block: 16 };

fn id(object: u64) -> ConnectionId {
    ConnectionId { tgid: 10, object, born: object }
}

fn event(id: ConnectionId, body: Body) -> Event {
    Event { connection: id, sequence: 0, ktime: 0, attempt: 0, tid: 1, uid: 10_123, body }
}

fn text(object: u64, start: u64, bytes: &[u8]) -> Event {
    let total = bytes.len() as u64;
    let piece = CipherPiece { cipher: AES, start, total, offset: 0, ended: false, bytes: Secret::new(bytes) };
    event(id(object), Body::CipherText(piece))
}

fn output(object: u64, start: u64, bytes: &[u8], ended: bool) -> Event {
    let head = &bytes[..bytes.len().min(64)];
    let total = bytes.len() as u64;
    let piece = CipherPiece { cipher: AES, start, total, offset: 0, ended, bytes: Secret::new(head) };
    event(id(object), Body::CipherOutput(piece))
}

/// Bytes that look like cipher text, others for every seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// One message of 20 bytes of text and 32 of cipher text, under way at `now_ms`.
fn held(held: &mut Held, object: u64, now_ms: u64) -> Vec<u8> {
    let sealed = noise(object, 32);
    held.take(text(object, 0, format!("text of message {object:>4}").as_bytes()), now_ms);
    held.take(output(object, 0, &sealed[..16], false), now_ms);
    held.take(output(object, 16, &sealed[16..], true), now_ms);
    sealed
}

fn any(_: u32) -> bool {
    true
}

#[test]
fn what_leaves_is_found_wherever_it_stands_and_what_does_not_is_not() {
    let mut all = Held::new(Limits::default());
    let first = held(&mut all, 1, 0);
    let second = held(&mut all, 2, 0);
    held(&mut all, 3, 0);
    let sent = [&noise(90, 7)[..], &second, &noise(91, 16), &first, b"end"].concat();
    let found = all.find(&sent, any);
    let summary: Vec<_> = found.iter().map(|f| (f.range.clone(), f.text.as_slice(), f.cut)).collect();
    assert_eq!(
        summary,
        [(7..39, &b"text of message    2"[..], None), (55..87, &b"text of message    1"[..], None)]
    );
    assert_eq!(found[0].step, "sealed:aes-128-ecb");
    assert_eq!(all.find(&sent, |tgid| tgid == 11), [], "another process sent it");
    assert_eq!(all.find(&noise(92, 500), any), []);
    assert_eq!(all.counts(), Counts { seen: 3, joined: 2, forgotten: 0 });
    all.clear();
    assert_eq!(all.counts(), Counts { seen: 3, joined: 2, forgotten: 1 });
}

#[test]
fn records_may_come_in_any_order_and_in_any_pieces() {
    let sealed = noise(7, 100);
    let parts = [
        text(7, 0, b"one "),
        text(7, 4, b"two "),
        text(7, 8, b"three"),
        output(7, 0, &sealed[..5], false),
        output(7, 5, &sealed[5..20], false),
        output(7, 20, &sealed[20..], true),
    ];
    for turn in 0..parts.len() {
        let mut all = Held::new(Limits::default());
        let mut turned = parts.to_vec();
        turned.rotate_left(turn);
        turned.into_iter().for_each(|part| all.take(part, 0));
        let found = all.find(&sealed, any);
        assert_eq!(found.len(), 1, "{turn}");
        assert_eq!((found[0].text.as_slice(), found[0].cut), (&b"one two three"[..], None), "{turn}");
    }
}

#[test]
fn a_hole_in_the_text_and_an_early_end_are_said() {
    let sealed = noise(7, 64);
    let mut all = Held::new(Limits::default());
    all.take(text(7, 4, b"two"), 0);
    all.take(output(7, 0, &sealed, true), 0);
    assert_eq!(all.find(&sealed, any)[0].cut, Some(CUT_HOLE));
    all.take(text(7, 0, b"one "), 0);
    assert_eq!(all.find(&sealed, any)[0].cut, None);
    assert_eq!(all.find(&sealed[..40], any)[0].cut, Some(CUT_SHORT));
    assert_eq!(all.find(&sealed[..LEAST - 1], any), [], "too little to prove anything");
}

#[test]
fn equal_beginnings_are_told_apart_by_what_follows() {
    // As a cipher without a vector makes them of texts that begin alike.
    let (mut one, mut other) = (noise(1, 96), noise(1, 96));
    one[80..].copy_from_slice(&noise(2, 16));
    other[80..].copy_from_slice(&noise(3, 16));
    let mut all = Held::new(Limits::default());
    for (object, sealed) in [(1, &one), (2, &other)] {
        all.take(text(object, 0, format!("number {object}").as_bytes()), 0);
        all.take(output(object, 0, &sealed[..80], false), 0);
        all.take(output(object, 80, &sealed[80..], true), 0);
    }
    assert_eq!(all.find(&one, any)[0].text.as_slice(), b"number 1");
    assert_eq!(all.find(&other, any)[0].text.as_slice(), b"number 2");
}

#[test]
fn after_its_time_text_is_forgotten_whether_or_not_anything_comes() {
    let mut all = Held::new(Limits::default());
    let first = held(&mut all, 1, 1_000);
    let second = held(&mut all, 2, 5_000);
    assert_eq!(all.due_ms(), Some(1_000 + HOLD_MS));
    all.forget(1_000 + HOLD_MS - 1);
    assert_eq!(all.len(), 2);
    all.forget(1_000 + HOLD_MS);
    assert_eq!((all.find(&first, any).len(), all.find(&second, any).len()), (0, 1));
    all.forget(5_000 + HOLD_MS);
    assert!(all.is_empty() && all.heads.is_empty() && all.order.is_empty());
    assert_eq!((all.bytes, all.due_ms()), (0, None));
}

#[test]
fn every_bound_holds() {
    let limits = Limits { messages: 8, bytes: 4_000, message: 1_000, calls: 4 };
    let mut all = Held::new(limits);
    for object in 0..500 {
        all.take(text(object, 0, &[b'x'; 700]), object);
        all.take(text(object, 700, &[b'y'; 700]), object);
        all.take(text(object, u64::MAX - 700, &[b'z'; 700]), object);
        for call in 0..20 {
            all.take(output(object, call * 16, &noise(object * 100 + call, 16), false), object);
        }
        assert!(all.len() <= 8 && all.bytes <= 4_000 && all.order.len() <= 8 && all.heads.len() <= 8);
    }
    let last = all.messages.values().map(|message| (message.text.len(), message.output.len())).max();
    assert_eq!(last, Some((1_000, 4)));
    assert_eq!(all.bytes, all.messages.values().map(|message| message.text.len()).sum::<usize>());
}

#[test]
fn nothing_held_is_ever_shown() {
    let mut all = Held::new(Limits::default());
    let sealed = held(&mut all, 1, 0);
    let shown = format!("{all:?} {:?}", all.find(&sealed, any));
    let number = b"text".map(|byte| byte.to_string()).join(", ");
    assert!(!shown.contains("text of") && !shown.contains(&number), "{shown}");
}
