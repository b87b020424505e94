//! What the hooks on a TLS library deliver, call by call, on this machine's kernel: real BoringSSL and OpenSSL, both ways
//! of attaching. Every byte that a client sends is known beforehand, and every piece is compared.
//!
//! Needs root, a kernel with uprobes, a binary with the eBPF object and both libraries; where one is missing the tests
//! say `skipped: REASON`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
mod live;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    process::Command,
    time::{Duration, SystemTime},
};

use live::{Client, Library, byte_at, machine::or_skip, session, ways};
use telltale::{
    kernel::{Options, Session},
    record::{Body, ConnectionId, Direction, Event},
    stream::{Chunk, Limits, Order, Step},
};

/// `telltale_abi::SEND_BUDGET` and `MAX_PIECE`, written out: a change of either should be noticed here.
const BUDGET: usize = 128 * 1024;
const PIECE: usize = 16 * 1024;

/// One connection of a client, put in order.
#[derive(Debug, Default, PartialEq)]
struct Stream {
    host: Option<String>,
    fds: Vec<(Direction, i32)>,
    bytes: Vec<u8>,
    /// Where in the stream bytes are missing, and how many.
    gaps: Vec<(u64, u64)>,
    /// The total of each send.
    sends: Vec<u64>,
    ended: bool,
}

/// Orders the events and gives the connections that sent something or named a host, by host.
fn streams(events: &[Event]) -> BTreeMap<String, Stream> {
    let mut order = Order::new(Limits::default());
    let mut all: BTreeMap<ConnectionId, Stream> = BTreeMap::new();
    for event in events {
        order.push(1, event.clone());
    }
    let mut sink = |id: ConnectionId, event: Option<&Event>, step: Step<'_>| {
        let stream = all.entry(id).or_default();
        let position = stream.bytes.len() as u64 + stream.gaps.iter().map(|(_, len)| len).sum::<u64>();
        match step {
            Step::Chunk(Chunk::Bytes(bytes)) => {
                stream.bytes.extend(bytes);
                if let Some(Body::TlsWrite(piece)) = event.map(|event| &event.body)
                    && piece.offset == 0
                {
                    stream.sends.push(piece.total);
                }
            }
            Step::Chunk(Chunk::Gap(len)) => stream.gaps.push((position, len)),
            Step::Chunk(Chunk::End) => stream.ended = true,
            Step::Host(name) => stream.host = Some(name.to_owned()),
            Step::Fd(direction, fd) => stream.fds.push((direction, fd)),
            Step::Nested(_) | Step::Next { .. } | Step::Peer(_) | Step::Unknown => {}
        }
    };
    order.end_pass(1, &mut sink);
    order.end_pass(2, &mut sink);
    all.into_values().filter_map(|stream| Some((stream.host.clone()?, stream))).collect()
}

/// Sends through a hooked library and gives what the hooks delivered.
fn sent(session: &mut Session, library: &Library, steps: &[&str]) -> BTreeMap<String, Stream> {
    streams(&live::capture(session, library, steps))
}

fn pattern(number: usize, range: std::ops::Range<usize>) -> Vec<u8> {
    range.map(|at| byte_at(number, at)).collect()
}

#[test]
fn every_size_arrives_whole_up_to_the_budget() {
    const SIZES: [usize; 10] = [0, 1, 255, 4095, 4096, 4097, 16384, 16385, 100_000, 1 << 20];
    for (way, library) in ways() {
        let Some(mut session) = session(way, &library) else { return };
        for size in SIZES {
            let write = format!("write:1:{size}");
            let found = sent(&mut session, &library, &["open:1", &write, "free:1"]);
            let stream =
                found.get("host1.example").unwrap_or_else(|| panic!("{way:?} {library:?} {size}: {found:?}"));
            let taken = size.min(BUDGET);
            assert_eq!(stream.bytes.len(), taken, "{way:?} {library:?} {size}");
            assert!(stream.bytes == pattern(1, 0..taken), "{way:?} {library:?} {size}: other bytes");
            let gaps = if size > BUDGET { vec![(BUDGET as u64, (size - BUDGET) as u64)] } else { vec![] };
            assert_eq!(stream.gaps, gaps, "{way:?} {library:?} {size}");
            // One call that took everything is one send; 0 bytes are none.
            assert_eq!(stream.sends, if size == 0 { vec![] } else { vec![size as u64] });
            assert!(matches!(stream.fds[..], [(Direction::Both, fd)] if fd > 2), "{:?}", stream.fds);
            assert!(stream.ended);
        }
        session.stop().unwrap();
    }
}

#[test]
fn pieces_are_full_but_the_last() {
    for (way, library) in ways() {
        let Some(mut session) = session(way, &library) else { return };
        let events = live::capture(&mut session, &library, &["open:0", "write:0:40000", "write:0:1048576"]);
        let pieces: Vec<_> = events
            .iter()
            .filter_map(|event| match &event.body {
                Body::TlsWrite(piece) => {
                    Some((piece.start, piece.total, piece.offset, piece.bytes.len(), piece.last))
                }
                _ => None,
            })
            .collect();
        let full = PIECE as u64;
        let mut expected = vec![
            (0, 40_000, 0, PIECE, false),
            (0, 40_000, full, PIECE, false),
            (0, 40_000, 2 * full, 40_000 - 2 * PIECE, true),
        ];
        expected.extend((0..8).map(|nth| (40_000, 1 << 20, nth * full, PIECE, nth == 7)));
        assert_eq!(pieces, expected, "{way:?} {library:?}");
        let mut sequences: Vec<_> = events.iter().map(|event| (event.connection, event.sequence)).collect();
        sequences.dedup();
        assert_eq!(sequences.len(), events.len(), "every record has a number of its own");
        session.stop().unwrap();
    }
}

#[test]
fn a_retry_is_reported_once() {
    for (way, library) in ways() {
        let Some(mut session) = session(way, &library) else { return };
        let mut client = Client::start(&library, &["open:3", "write:3:1000000", "write:3:500"]);
        let events = client.watch(&mut session);
        assert!(client.retries() > 0, "the client met no short write");
        let found = streams(&events);
        assert_eq!(found["host3.example"].sends, [1_000_000, 500], "{way:?} {library:?}");
        assert_eq!(found["host3.example"].bytes.len(), BUDGET + 500);
        assert_eq!(found["host3.example"].bytes[BUDGET..], pattern(3, 1_000_000..1_000_500));

        // As Conscrypt does it: a call may take less than it is offered, and what was taken is what was sent.
        let mut client = Client::start(&library, &["open:4", "partial:4", "write:4:1000000"]);
        let events = client.watch(&mut session);
        assert!(client.retries() > 0, "the client met no short write");
        let stream = &streams(&events)["host4.example"];
        assert_eq!(stream.sends.iter().sum::<u64>(), 1_000_000, "{way:?} {library:?}");
        if !library.has_write_ex() {
            // BoringSSL takes one record; OpenSSL finishes the record it had begun and takes another.
            assert_eq!(stream.sends, [vec![16384u64; 61], vec![1_000_000 - 61 * 16384]].concat(), "{way:?}");
        }
        assert!(stream.bytes == pattern(4, 0..1_000_000));
        assert_eq!(stream.gaps, []);
        session.stop().unwrap();
    }
}

#[test]
fn two_threads_and_two_objects_stay_apart() {
    for (way, library) in ways() {
        let Some(mut session) = session(way, &library) else { return };
        let steps = [
            "open:1",
            "open:2",
            "threads:1:300:1000",
            "write:1:10",
            "write:2:20",
            "write:1:30",
            "write:2:40",
            "free:2",
        ];
        let found = sent(&mut session, &library, &steps);
        let sends = |rest: [u64; 2]| [vec![1000; 300], rest.to_vec()].concat();
        for (number, rest, ended) in [(1, [10, 30], false), (2, [20, 40], true)] {
            let stream = &found[&format!("host{number}.example")];
            assert_eq!(stream.sends, sends(rest), "{way:?} {library:?} {number}");
            assert!(stream.bytes == pattern(number, 0..stream.bytes.len()), "{way:?} {library:?} {number}");
            assert_eq!((stream.gaps.len(), stream.ended), (0, ended));
        }
        session.stop().unwrap();
    }
}

#[test]
fn a_process_that_dies_inside_a_call_leaves_nothing_stale() {
    for (way, library) in ways() {
        let Some(mut session) = session(way, &library) else { return };
        // The call never returned: nothing of it was taken, as far as anybody knows.
        let found = sent(&mut session, &library, &["open:5", "write:5:100", "stuck:5", "exit"]);
        assert_eq!(found["host5.example"].sends, [100], "{way:?} {library:?}");
        assert!(!found["host5.example"].ended);
        let found = sent(&mut session, &library, &["open:5", "write:5:100", "exit"]);
        assert_eq!(found["host5.example"].bytes, pattern(5, 0..100));
        let found = sent(&mut session, &library, &["open:5", "write:5:100", "write:5:50", "free:5"]);
        assert_eq!(found["host5.example"].sends, [100, 50]);
        session.stop().unwrap();
    }
}

#[test]
fn an_address_used_again_is_another_connection() {
    for (way, library) in ways() {
        let Some(mut session) = session(way, &library) else { return };
        let steps = [
            "open:1",
            "write:1:10",
            "free:1",
            "open:2",
            "write:2:20",
            "free:2",
            "open:3",
            "write:3:30",
            "free:3",
        ];
        let found = sent(&mut session, &library, &steps);
        for (number, size) in [(1, 10), (2, 20), (3, 30)] {
            let stream = &found[&format!("host{number}.example")];
            assert_eq!(
                (stream.sends.as_slice(), stream.ended),
                ([size].as_slice(), true),
                "{way:?} {library:?}"
            );
        }
        session.stop().unwrap();
    }
}

#[test]
fn openssl_write_ex_tells_its_length_at_return() {
    for (way, library) in ways().into_iter().filter(|(_, library)| library.has_write_ex()) {
        let Some(mut session) = session(way, &library) else { return };
        let steps = ["open:6", "ex:6:1", "ex:6:4097", "ex:6:100000", "write:6:7", "partial:6", "ex:6:40000"];
        let found = sent(&mut session, &library, &steps);
        let stream = &found["host6.example"];
        assert_eq!(stream.sends, [1, 4097, 100_000, 7, 16384, 16384, 40_000 - 2 * 16384], "{way:?}");
        assert!(stream.bytes == pattern(6, 0..stream.bytes.len()));
        session.stop().unwrap();
    }
}

#[test]
fn what_is_lost_is_counted_and_becomes_gaps() {
    for (way, library) in ways() {
        let Some(mut session) = session(way, &library) else { return };
        // Nobody reads meanwhile: 16 MB into rings of a few.
        let steps = ["open:7", "open:8", "threads:7:4000:2000", "line", "write:7:50", "write:8:60"];
        let mut client = Client::start(&library, &steps);
        client.wait_for_line();
        let mut events = client.drain(&mut session);
        let before = session.tally().unwrap();
        assert!(before.lost() > 0, "{before:?}: the rings took everything");
        client.send_line();
        events.extend(client.watch(&mut session));
        let found = streams(&events);
        for (number, last) in [(7, 50u64), (8, 60)] {
            let stream = &found[&format!("host{number}.example")];
            let missing: u64 = stream.gaps.iter().map(|(_, len)| len).sum();
            assert!(missing > 0, "{way:?} {library:?} {number}");
            assert_eq!(
                stream.bytes.len() as u64 + missing,
                4000 * 2000 + last,
                "{way:?} {library:?} {number}"
            );
            // Every byte that came lies where it belongs.
            let mut at = 0;
            let mut bytes = stream.bytes.as_slice();
            for (gap, len) in stream.gaps.iter().copied().chain([(u64::MAX, 0)]) {
                let run = bytes.len().min((gap - at) as usize);
                assert!(bytes[..run] == pattern(number, at as usize..at as usize + run), "{number} at {at}");
                bytes = &bytes[run..];
                at += run as u64 + len;
            }
        }
        session.stop().unwrap();
    }
}

#[test]
fn a_library_mapped_later_is_hooked_and_its_successor_too() {
    for (way, library) in ways() {
        let Some(probe) = session(way, &library) else { return };
        probe.stop().unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let copy = folder.path().join(library.path().file_name().unwrap());
        let mut session = Session::start(&Options { attach: Some(way), ..Options::default() }).unwrap();
        // Replaced as an update does it: another file under the same name, while the old one may be in use.
        for round in ["old", "new"] {
            let fresh = folder.path().join(round);
            fs::copy(library.path(), &fresh).unwrap();
            fs::rename(&fresh, &copy).unwrap();
            let replaced = SystemTime::now();
            let steps = ["line", "open:9", "write:9:77"];
            let mut client = Client::start_with(&library, &steps, folder.path());
            let hooked = live::until(Duration::from_secs(40), || {
                session.follow_mappings();
                session.libraries().iter().any(|known| known.path == copy && known.since > replaced)
            });
            assert!(hooked, "{way:?} {library:?} {round}: {:?}", session.libraries());
            client.send_line();
            let found = streams(&client.watch(&mut session));
            assert_eq!(found["host9.example"].bytes, pattern(9, 0..77), "{way:?} {library:?} {round}");
        }
        session.stop().unwrap();
    }
}

#[test]
fn a_library_of_which_the_kernel_had_no_room_to_tell_is_hooked_all_the_same() {
    let Some((way, library)) = ways().into_iter().next() else { return };
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join(library.path().file_name().unwrap());
    fs::copy(library.path(), &copy).unwrap();
    let started = Session::start(&Options { attach: Some(way), ..Options::default() });
    let Some(mut session) = or_skip(way, started) else { return };
    // Each start tells of three files and more, in a hundred bytes each: on every CPU more than its 32 KiB. Nobody reads meanwhile.
    let burst = "for cpu in $(seq 0 $(($(nproc --all) - 1))); do taskset -c $cpu sh -c \
        'n=0; while [ $n -lt 200 ]; do /bin/true; n=$((n + 1)); done' || :; done 2>/dev/null";
    assert!(Command::new("sh").args(["-c", burst]).status().unwrap().success());
    let mut client = Client::start_with(&library, &["line", "open:9", "write:9:77"], folder.path());
    client.wait_for_line();
    // That something was left out is told with the next that is mapped; then everything is looked at.
    let hooked = live::until(Duration::from_secs(120), || {
        session.follow_mappings();
        assert!(Command::new("/bin/true").status().unwrap().success());
        session.libraries().iter().any(|known| known.path == copy)
    });
    assert!(hooked, "{:?}", session.libraries());
    client.send_line();
    let found = streams(&client.watch(&mut session));
    assert_eq!(found["host9.example"].bytes, pattern(9, 0..77));
    session.stop().unwrap();
}

#[test]
fn the_doorbell_rings_once_and_only_for_a_sleeper() {
    for (way, library) in ways() {
        let Some(mut session) = session(way, &library) else { return };
        sent(&mut session, &library, &["open:1", "write:1:10"]);
        assert_eq!(session.tally().unwrap().doorbells, 0, "{way:?} {library:?}");
        session.set_asleep(true).unwrap();
        let mut client =
            Client::start(&library, &["open:1", "write:1:10", "write:1:10", "write:1:10", "free:1"]);
        assert!(live::rings(&session, Duration::from_secs(5)), "{way:?} {library:?}");
        client.watch(&mut session);
        assert_eq!(session.tally().unwrap().doorbells, 1, "{way:?} {library:?}");
        session.stop().unwrap();
    }
}
