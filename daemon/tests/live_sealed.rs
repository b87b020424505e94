//! What the hooks on ciphers deliver, call by call, on this machine's kernel and Android's libcrypto, both ways of attaching; and
//! that a process which was not chosen runs its library's code as it lies in the file.
//!
//! Needs what `live_tls.rs` needs; where something is missing the tests say `skipped: REASON`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[allow(dead_code)]
mod live;

use std::{fs, os::unix::fs::FileExt, process::Command};

use live::{Client, Library, compile, machine::or_skip, ways};
use telltale::{
    kernel::{AttachPath, CipherWatch, Options, Session},
    record::{Body, Cipher, CipherPiece, Event},
};

const AES_128_ECB: Cipher = Cipher { nid: 418, key_len: 16, block: 16 };
const AES_128_CTR: Cipher = Cipher { nid: 904, key_len: 16, block: 1 };

fn client(steps: &[&str]) -> Client {
    Client::of(Command::new(compile("sealed-client", "boringssl")).args(steps))
}

/// Both ways of attaching; empty, having said why, where this machine cannot.
fn sessions() -> Vec<(AttachPath, Session)> {
    let mut sessions = Vec::new();
    for (way, library) in ways() {
        if !matches!(library, Library::BoringSsl(_)) {
            continue;
        }
        let started = Session::bare(&Options { attach: Some(way), ..Options::default() });
        sessions.extend(or_skip(way, started).map(|session| (way, session)));
    }
    sessions
}

/// Runs a client whose ciphers are watched from its first `line` on.
fn watched(session: &mut Session, steps: &[&str]) -> Vec<Event> {
    let mut client = client(&[&["line"], steps].concat());
    client.wait_for_line();
    assert_eq!(session.watch_ciphers(client.pid()).unwrap(), CipherWatch::Watched);
    client.send_line();
    let events = client.watch(session);
    session.unwatch_ciphers(client.pid());
    events
}

/// One message of a cipher: its text, its output's heads with their places, and whether it was ended.
#[derive(Debug, Default, PartialEq)]
struct Message {
    cipher: Cipher,
    text: Vec<u8>,
    total: u64,
    heads: Vec<(u64, u64, Vec<u8>)>,
    ended: bool,
}

fn messages(events: &[Event]) -> Vec<Message> {
    let mut found: Vec<((u64, u64), Message)> = Vec::new();
    let mut sorted: Vec<&Event> = events.iter().filter(|event| event.is_cipher()).collect();
    sorted.sort_by_key(|event| event.ktime);
    for event in sorted {
        let id = (event.connection.object, event.connection.born);
        if !found.iter().any(|(known, _)| *known == id) {
            found.push((id, Message::default()));
        }
        let (_, message) = found.iter_mut().find(|(known, _)| *known == id).unwrap();
        match &event.body {
            Body::CipherText(CipherPiece { cipher, start, total, offset, bytes, .. }) => {
                assert_eq!(start + offset, message.text.len() as u64);
                message.cipher = *cipher;
                message.text.extend_from_slice(bytes);
                message.total = start + total;
            }
            Body::CipherOutput(CipherPiece { start, total, bytes, ended, .. }) => {
                message.heads.push((*start, *total, bytes.to_vec()));
                message.ended |= ended;
            }
            _ => {}
        }
    }
    found.into_iter().map(|(_, message)| message).collect()
}

#[test]
fn text_and_output_arrive_as_the_app_had_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("long");
    let long: Vec<u8> = (0..40_000u32).map(|at| (at * 7 + (at >> 8)) as u8).collect();
    fs::write(&file, &long).unwrap();
    let file = format!("file:{}", file.display());
    for (way, mut session) in sessions() {
        // One call of Java's Cipher.doFinal: whole blocks at the update, the padded one at the end.
        let found = messages(&watched(&mut session, &["text:a report on the owner", "evp:ecb:0"]));
        let [one] = &found[..] else { panic!("{way:?}: {found:?}") };
        assert_eq!(
            (one.cipher, one.text.as_slice()),
            (AES_128_ECB, &b"a report on the owner"[..]),
            "{way:?}"
        );
        let sizes: Vec<_> =
            one.heads.iter().map(|(start, total, bytes)| (*start, *total, bytes.len())).collect();
        assert_eq!((sizes.as_slice(), one.ended), (&[(0, 16, 16), (16, 16, 16)][..], true), "{way:?}");

        // In pieces, through the names that native code uses.
        let found = messages(&watched(&mut session, &[&file, "native:ctr:7000"]));
        let [one] = &found[..] else { panic!("{way:?}: {found:?}") };
        assert_eq!((one.cipher, one.text == long), (AES_128_CTR, true), "{way:?}");
        let places: Vec<_> =
            one.heads.iter().map(|(start, total, head)| (*start, *total, head.len())).collect();
        let mut expected: Vec<_> = (0..5).map(|nth| (nth * 7000, 7000, 64)).collect();
        expected.extend([(35_000, 5000, 64), (40_000, 0, 0)]);
        assert_eq!(places, expected, "{way:?}");

        // Into the memory it lies in: what comes out must not be taken for what went in.
        let found = messages(&watched(&mut session, &["text:a report on the owner", "place"]));
        let [one] = &found[..] else { panic!("{way:?}: {found:?}") };
        assert_eq!(one.text, b"a report on the owner", "{way:?}");
        assert_ne!(one.heads[0].2, b"a report on the ");

        // Sealed at once, and the old way.
        for step in ["gcm", "legacy"] {
            let found = messages(&watched(&mut session, &["text:a report on the owner", step]));
            let [one] = &found[..] else { panic!("{way:?} {step}: {found:?}") };
            assert!(one.text.starts_with(b"a report on the owner"), "{way:?} {step}");
            let total = if step == "gcm" { 21 + 16 } else { 32 };
            assert!(matches!(one.heads[..], [(0, made, _)] if made == total), "{way:?} {step}: {one:?}");
            assert!(one.ended);
        }
        session.stop().unwrap();
    }
}

#[test]
fn more_than_a_process_may_have_taken_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large");
    fs::write(&file, vec![b'x'; 900_000]).unwrap();
    let file = format!("file:{}", file.display());
    for (way, mut session) in sessions() {
        let found = messages(&watched(&mut session, &[&file, "evp:ecb:65536"]));
        assert_eq!(found[0].text.len(), 900_000, "{way:?}: within the budget");
        let steps =
            [&file, "native:ecb:0", &file, "native:ecb:0", &file, "evp:ecb:900000", &file, "evp:ecb:0"];
        let events = watched(&mut session, &steps);
        let taken: usize = events
            .iter()
            .map(|event| match &event.body {
                Body::CipherText(piece) => piece.bytes.len(),
                _ => 0,
            })
            .sum();
        // One call gives 64 KiB at the most, and a process about a MiB in a second.
        assert!((1..=4 * 65_536).contains(&taken), "{way:?}: {taken}");
        session.stop().unwrap();
    }
}

#[test]
fn what_is_decrypted_and_what_tls_encrypts_is_not_taken() {
    for (way, mut session) in sessions() {
        // This TLS encrypts with EVP_EncryptUpdate itself.
        let steps =
            ["text:nobody's business", "decrypt", "rsa", "open:host.example", "text:GET / HTTP/1.1", "send"];
        let events = watched(&mut session, &steps);
        let found = messages(&events);
        assert_eq!(found, [], "{way:?}");
        // And after it an app's own encryption is taken as before.
        let steps = ["open:host.example", "text:one", "send", "text:the owner's report", "evp:cbc:0", "send"];
        let found = messages(&watched(&mut session, &steps));
        let [one] = &found[..] else { panic!("{way:?}: {found:?}") };
        assert_eq!(one.text, b"the owner's report", "{way:?}");
        session.stop().unwrap();
    }
}

/// The first byte of a function of libcrypto as a process runs it.
fn instruction(pid: u32, offset: u64) -> u8 {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let line = maps.lines().find(|line| line.contains("libcrypto.so.0") && line.contains(" r-xp ")).unwrap();
    let mut fields = line.split_whitespace();
    let start = u64::from_str_radix(fields.next().unwrap().split('-').next().unwrap(), 16).unwrap();
    let file = u64::from_str_radix(fields.nth(1).unwrap(), 16).unwrap();
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut byte = [0];
    memory.read_exact_at(&mut byte, start + offset - file).unwrap();
    byte[0]
}

/// Where EVP_EncryptUpdate begins in the file: its address, less how far its segment's address lies from its place in the file.
fn encrypt_update(library: &str) -> u64 {
    let said = |program: &str, option: &str| {
        let output = Command::new(program).args([option, library]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    let symbols = said("nm", "-D");
    let line = symbols.lines().find(|line| line.ends_with(" EVP_EncryptUpdate")).unwrap();
    let address = hex(line.split(' ').next().unwrap());
    let segments = said("readelf", "-lW");
    let code = segments.lines().find(|line| line.contains("LOAD") && line.contains("R E")).unwrap();
    let fields: Vec<&str> = code.split_whitespace().collect();
    address - (hex(fields[2]) - hex(fields[1]))
}

#[test]
fn in_a_process_that_was_not_chosen_no_instruction_is_touched() {
    let library = format!("/usr/lib/{}-linux-gnu/android/libcrypto.so.0", std::env::consts::ARCH);
    for (way, mut session) in sessions() {
        let offset = encrypt_update(&library);
        let mut in_file = [0];
        fs::File::open(&library).unwrap().read_exact_at(&mut in_file, offset).unwrap();
        let steps = ["line", "text:mine", "evp:ecb:0", "line"];
        let (mut chosen, mut other) = (client(&steps), client(&steps));
        chosen.wait_for_line();
        other.wait_for_line();
        assert_eq!(session.watch_ciphers(chosen.pid()).unwrap(), CipherWatch::Watched);
        assert_ne!(instruction(chosen.pid(), offset), in_file[0], "{way:?}");
        assert_eq!(instruction(other.pid(), offset), in_file[0], "{way:?}");
        // Not even when it is started later, or runs the function.
        let mut third = client(&steps);
        third.wait_for_line();
        for client in [&mut chosen, &mut other, &mut third] {
            client.send_line();
            client.wait_for_line();
        }
        assert_eq!(instruction(other.pid(), offset), in_file[0], "{way:?}");
        assert_eq!(instruction(third.pid(), offset), in_file[0], "{way:?}");
        assert_eq!(messages(&chosen.drain(&mut session)).len(), 1, "{way:?}");
        assert_eq!(messages(&other.drain(&mut session)).len(), 0, "{way:?}");
        // Let go of, it runs as before.
        session.unwatch_ciphers(chosen.pid());
        assert_eq!(instruction(chosen.pid(), offset), in_file[0], "{way:?}");
        for client in [&mut chosen, &mut other, &mut third] {
            client.send_line();
        }
        session.stop().unwrap();
    }
}

#[test]
fn processes_without_a_cipher_and_gone_ones_are_told() {
    for (way, mut session) in sessions() {
        let own = std::process::id();
        assert_eq!(session.watch_ciphers(own).unwrap(), CipherWatch::NoLibrary, "{way:?}");
        let mut ended = client(&["text:x"]);
        let pid = ended.pid();
        ended.watch(&mut session);
        assert_eq!(session.watch_ciphers(pid).unwrap(), CipherWatch::Gone, "{way:?}");
        session.stop().unwrap();
    }
}
