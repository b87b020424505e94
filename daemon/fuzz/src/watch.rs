//! The promises of what the watch keeps account with and is asked by: requests, and the coverage ledger.

use std::collections::BTreeMap;

use telltale::control::{LONGEST, Request, refusal};
use telltale::coverage::{Ledger, Limits, Owner};
use telltale::record::{Body, ConnectionId, Ended, Event, Piece};

/// A request is read once its line is whole, however it was cut; a refusal is one short line.
pub fn request(data: &[u8]) {
    let whole = Request::parse(data);
    if let Err(error) = &whole {
        let said = refusal(&error.to_string());
        assert!(said.len() < LONGEST && said.matches('\n').count() == 1);
    }
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    for cut in 0..end.min(LONGEST) {
        assert_eq!(Request::parse(&data[..cut]), Ok(None));
    }
    if let Ok(Some(request)) = whole {
        assert_eq!(Request::parse(request.line().as_bytes()), Ok(Some(request)));
    }
}

/// Whatever is told in whatever order: within its limits, every byte of a socket in one part, and the end changes nothing.
pub fn ledger(data: &[u8]) {
    const LIMITS: Limits = Limits { connections: 6, destinations: 5, apps: 3 };
    let mut ledger = Ledger::new(LIMITS);
    let mut sent: BTreeMap<ConnectionId, u64> = BTreeMap::new();
    let mut births = [0u64; 8];
    for step in data.chunks_exact(4) {
        let (which, fd) = (step[0], u64::from(step[1] & 3));
        let born = births[(step[1] & 7) as usize];
        // `socket::MARK` with a stream, else an `SSL*`.
        let is_socket = step[1] & 4 == 0;
        let object = if is_socket { 1 << 62 | 1 << 32 | fd } else { 0x1000 + fd };
        let connection = ConnectionId { tgid: 7, object, born };
        let (amount, more) = (u64::from(step[2]), u64::from(step[3]));
        let mut take = |ledger: &mut Ledger, body: Body, reached: u64| {
            let event = Event { connection, sequence: 0, ktime: 0, attempt: 0, tid: 7, uid: 1, body };
            ledger.take(&event);
            let known = sent.entry(connection).or_default();
            *known = (*known).max(reached);
        };
        match which % 8 {
            0..=2 => {
                let total = amount.max(1);
                let bytes = vec![step[2]; (total / (1 + u64::from(which % 3))) as usize];
                let piece = Piece { start: more, total, offset: 0, last: which % 2 == 0, bytes };
                let body = if is_socket { Body::SocketSend(piece) } else { Body::TlsWrite(piece) };
                take(&mut ledger, body, more + total);
            }
            3 if is_socket => take(&mut ledger, Body::SocketUnknown, 0),
            4 => {
                let ended = Ended { sent: amount + more, skipped: amount };
                let body = if is_socket { Body::SocketClose(ended) } else { Body::TlsFree(ended) };
                take(&mut ledger, body, amount + more);
                ledger.end(connection);
                // The number is used again, for another connection.
                births[(step[1] & 7) as usize] += 1;
            }
            5 => ledger.end(connection),
            6 if which & 8 != 0 => ledger.end_pass(),
            6 => ledger.carried_by(connection, u32::from(step[2] & 3), more),
            _ => {
                let app = format!("app{}", step[2] % 5);
                let name = Some(format!("{}.example", step[3] % 9));
                let (host, address) = if more & 2 != 0 { (name, None) } else { (None, name) };
                ledger.describe(
                    connection,
                    Owner { app: &app, uid: 1, host, address, is_other_users: more & 1 != 0, stays: false },
                );
            }
        }
        assert!(ledger.connections().len() <= LIMITS.connections);
    }
    let view = ledger.view();
    assert_eq!(view.apps.iter().map(|app| app.parts.whole()).sum::<u64>(), view.total.whole());
    let of_sockets = sent.iter().filter(|(id, _)| id.socket().is_some()).map(|(_, sent)| sent).sum::<u64>();
    if sent.keys().all(|id| id.socket().is_some()) {
        // What is read twice by records that contradict each other is counted twice; nothing goes missing.
        assert!(view.total.whole() >= of_sockets, "{view:?} {of_sockets}");
    }
    for id in ledger.connections() {
        ledger.end(id);
    }
    (0..3).for_each(|_| ledger.end_pass());
    assert!(ledger.connections().is_empty());
    assert_eq!(ledger.view().total.whole(), view.total.whole());
}
