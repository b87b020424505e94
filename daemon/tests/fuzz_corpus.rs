//! Runs what the fuzz targets do on their committed corpora and on many mutations of them, so that a machine
//! without a fuzzer checks the same promises.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a failed test panics")]

#[path = "../fuzz/src/decode.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate uses it as a library")]
mod decode;

#[path = "../fuzz/src/kernel.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate uses it as a library")]
mod kernel;

#[path = "../fuzz/src/finder.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate uses it as a library")]
mod finder;

#[path = "../fuzz/src/kept.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate uses it as a library")]
mod kept;

#[path = "../fuzz/src/sealed.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate uses it as a library")]
mod sealed;

#[path = "../fuzz/src/unwrap.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate uses it as a library")]
mod unwrap;

#[path = "../fuzz/src/watch.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate uses it as a library")]
mod watch;

#[path = "../fuzz/src/wire.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate uses it as a library")]
mod wire;

use std::path::Path;

/// Every target: folder of its corpus, what it does, and how many mutations to try.
type Target = (&'static str, fn(&[u8]), usize);

const TARGETS: &[Target] = &[
    ("record", kernel::record, 20_000),
    ("netlink", kernel::netlink, 20_000),
    ("fetch", kernel::fetch, 20_000),
    ("finder", finder::elf, 5_000),
    ("proc_net", kernel::proc_net, 5_000),
    ("http1", wire::http1, 5_000),
    ("h2", wire::h2, 5_000),
    ("websocket", wire::websocket, 5_000),
    ("connection", wire::connection, 20_000),
    ("client_hello", wire::hello, 20_000),
    // AES without optimisation takes its time.
    ("quic", wire::quic_initial, 500),
    ("dns", wire::dns_query, 20_000),
    ("dnsproxyd", wire::dnsproxyd_commands, 20_000),
    ("form", wire::form_pairs, 20_000),
    ("multipart", wire::multipart_parts, 20_000),
    ("place_ip", kept::addresses, 2_000),
    ("evidence_redact", kept::redaction, 5_000),
    // Reads the data files anew each time.
    ("phone_files", kept::phone_files, 30),
    ("control_request", watch::request, 20_000),
    ("coverage_ledger", watch::ledger, 20_000),
    ("sealed_join", sealed::join, 20_000),
    // Each of these peels a whole message.
    ("unwrap_peel", unwrap::any, 100),
    ("unwrap_text", unwrap::text, 200),
    ("unwrap_deflate", unwrap::deflate, 200),
    ("unwrap_brotli", unwrap::brotli, 100),
    ("unwrap_zstd", unwrap::zstd, 100),
    ("unwrap_records", unwrap::records, 200),
    ("unwrap_protocols", unwrap::protocols, 30),
    ("decode", decode::whole, 100),
];

/// xorshift64*: the same mutations on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(value).expect("31 bits") % bound.max(1)
    }
}

fn mutate(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(7) {
            0 => bytes.truncate(at),
            1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            2 if !bytes.is_empty() => {
                bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'\r', b'\n', b' '][random.below(8)]
            }
            3 => bytes.insert(at, u8::try_from(random.below(256)).expect("a byte")),
            4 if !bytes.is_empty() => drop(bytes.remove(at)),
            5 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                let end = (at + random.below(16)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes.truncate(8192);
    bytes
}

#[test]
fn every_target_keeps_its_promises_on_its_corpus_and_on_mutations_of_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for &(name, run, mutations) in TARGETS {
        let mut files: Vec<_> = std::fs::read_dir(folder.join(name))
            .unwrap_or_else(|e| panic!("corpus {name}: {e}"))
            .map(|entry| entry.expect("a corpus entry").path())
            .collect();
        files.sort();
        let corpus: Vec<Vec<u8>> = files.iter().map(|f| std::fs::read(f).expect("a corpus file")).collect();
        assert!(!corpus.is_empty(), "corpus {name} is empty");
        for bytes in &corpus {
            run(bytes);
        }
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for turn in 0..mutations {
            let bytes = mutate(&mut random, &corpus);
            // So that a failure names the input.
            let failed = std::panic::catch_unwind(|| run(&bytes)).is_err();
            assert!(!failed, "target {name}, mutation {turn}: {}", bytes.escape_ascii());
        }
    }
}
