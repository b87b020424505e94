//! What a 32-bit process sends, on this machine's kernel: a real i386 program with its own system calls and the older socketcall,
//! each through `syscalls:*` (with `raw_syscalls` beside it) and through `raw_syscalls`.
//!
//! Needs what `live_sends.rs` needs, a compiler, and a kernel that runs i386 programs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[allow(dead_code)]
#[path = "live/sends.rs"]
mod sends;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sends::{Servers, WAYS, ordered, session, watch};
use telltale::record::ConnectionId;

/// Compiles `ndk-build/clients/i386-sends.c`, which needs no header and no library.
fn program() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ndk-build/clients/i386-sends.c");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("i386-sends");
    // Under a name of its own first: another run may be using the old one.
    let fresh = program.with_extension(std::process::id().to_string());
    let flags = [
        "-m32",
        "-static",
        "-nostdlib",
        "-ffreestanding",
        "-no-pie",
        "-fno-pie",
        "-fno-stack-protector",
        "-O1",
    ];
    let output = Command::new("cc").args(flags).arg("-o").arg(&fresh).arg(&source).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&fresh, &program).unwrap();
    program
}

fn start(program: &Path, servers: &Servers) -> Option<Child> {
    let port = |index: usize| servers.addresses[index].rsplit(':').next().unwrap().to_owned();
    let started =
        Command::new(program).args([port(0), port(2)]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    match started {
        Ok(mut child) => {
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n");
            Some(child)
        }
        Err(error) => {
            println!("skipped: this kernel runs no i386 program: {error}");
            None
        }
    }
}

const TCP: &str = "write;zero;one;two;three;four;send;sendto;zero;one;two;zero;one;two;";
const UDP: &str = "datagram;again;zero;zero;one;zero;one;two;";

#[test]
fn a_32_bit_process_is_read_through_its_own_numbers() {
    if !cfg!(target_arch = "x86_64") {
        println!("skipped: the client is for i386");
        return;
    }
    let program = program();
    for way in WAYS {
        // There before the hooks, and come after them.
        for before in [true, false] {
            let servers = Servers::start();
            let accepted = servers.accept(0, 2);
            let early = if before { start(&program, &servers) } else { None };
            let Some(mut session) = session(way) else { return };
            let late = early.is_none();
            let Some(mut child) = early.or_else(|| start(&program, &servers)) else { return };
            // It is known by its file: one that was there was looked for, of another the kernel tells when that is mapped.
            let started = Instant::now();
            while late && !session.take_mappers().contains(&child.id()) {
                assert!(started.elapsed() < Duration::from_secs(60), "{way:?}: nothing is told of it");
                session.follow_mappings();
            }
            child.stdin.take().unwrap().write_all(b"\n").unwrap();
            let sent = ordered(watch(&mut session, &mut child));
            assert_eq!(child.wait().unwrap().code(), Some(0), "{way:?}");
            let got: Vec<String> =
                accepted.join().unwrap().into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect();
            assert_eq!(got, [TCP, "second;"]);
            assert_eq!(servers.received(), UDP.as_bytes());
            let texts: Vec<_> = sent.values().map(|one| String::from_utf8_lossy(&one.bytes)).collect();
            for text in [TCP, "second;", UDP] {
                assert!(
                    texts.iter().any(|seen| seen == text),
                    "{way:?} {before}: {text} is not in {texts:?}"
                );
            }
            assert!(sent.values().all(|one| one.gap == 0 && (one.bytes.is_empty() || one.ended)), "{sent:?}");
            let known = |id: &ConnectionId| id.socket().is_some_and(|socket| socket.by_32_bit);
            assert!(sent.iter().all(|(id, one)| one.bytes.is_empty() || known(id)), "{sent:?}");
            let to = |port: &str| {
                sent.values().flat_map(|one| &one.peers).flatten().any(|peer| peer.to_string() == port)
            };
            assert!(to(&servers.addresses[0]) && to(&servers.addresses[2]), "{sent:?}");
            session.stop().unwrap();
        }
    }
}
