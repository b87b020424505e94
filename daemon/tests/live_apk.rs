//! A library that a process maps straight out of its APK, as Android does it: hooked where it lies in the archive, and
//! what goes through it is read.
//!
//! Needs what `live_tls.rs` needs; else the test says `skipped: REASON`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing)]

#[allow(dead_code)]
mod live;

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use live::{session, until, ways};
use object::{Object as _, ObjectSegment as _, ObjectSymbol as _};
use telltale::{
    kernel::{Options, Session},
    record::Body,
};

/// Two such libraries lie in the archive; each says that it took everything.
const TOY: &str = "int SSL_write(void *ssl, const void *buffer, int length) { return length; }\n";

/// Maps a page of a file and calls what lies there, when told to.
const LOADER: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
int main(int argc, char **argv) {
    int file = open(argv[1], O_RDONLY | O_CLOEXEC);
    for (int at = 2; at + 1 < argc; at += 2) {
        char *page = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, strtol(argv[at], 0, 10));
        if (page == MAP_FAILED) return 1;
        printf("mapped\n");
        fflush(stdout);
        getchar();
        int (*SSL_write)(void *, const void *, int) = (void *)(page + strtol(argv[at + 1], 0, 10));
        char text[64];
        int length = snprintf(text, sizeof text, "library %d of the archive", at / 2);
        if (SSL_write(file + argv, text, length) != length) return 2;
    }
    return 0;
}
"#;

/// A library whose `SSL_write` has no name, and reports what BoringSSL's reports; what it is given goes to a method of the connection.
const NAMELESS: &str = r#"
#define FILE_NAME "../../src/ssl/ssl_lib.cc"
#define HERE __attribute__((noipa, visibility("hidden")))
struct ssl { int (**method)(void *, const void *, int); void *handshake; int quic, failed; };
__attribute__((used)) static const char filler[1 << 20] = {1};
HERE void put_error(int library, int unused, int reason, const char *file, unsigned line) {}
#ifdef UPDATED
HERE int new_in_this_version(int number) { return number * 7 / 3; }
#endif
HERE int host(void *ssl, const char *name) { if (!name) { put_error(16, 0, 213, FILE_NAME, 2399); return 0; } return 1; }
HERE int nameless(struct ssl *ssl, const void *buffer, int length) {
    if (ssl->quic) { put_error(16, 0, 66, FILE_NAME, 985); return -1; }
    if (!ssl->handshake) { put_error(16, 0, 226, FILE_NAME, 990); return -1; }
    if (ssl->failed) { put_error(16, 0, 215, FILE_NAME, 1005); return -1; }
    if (length < 0) { put_error(16, 0, 111, FILE_NAME, 1011); return -1; }
    return ssl->method[8](ssl, buffer, length);
}
HERE int after(int number) { if (number) { put_error(16, 0, 144, FILE_NAME, 1031); return 0; } return 1; }
int all(struct ssl *ssl) { return host(ssl, 0) + nameless(ssl, ssl, 1) + after(2); }
"#;

/// Maps such a library out of an archive and calls it as a program that sends HTTP would.
const SENDER: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
struct ssl { int (**method)(void *, const void *, int); void *handshake; int quic, failed; };
static int takes(void *ssl, const void *buffer, int length) { return length; }
int main(int argc, char **argv) {
    int file = open(argv[1], O_RDONLY | O_CLOEXEC);
    char *library = mmap(0, atol(argv[3]), PROT_READ | PROT_EXEC, MAP_PRIVATE, file, atol(argv[2]));
    if (library == MAP_FAILED) return 1;
    int (*write)(struct ssl *, const void *, int) = (void *)(library + atol(argv[4]));
    int (*method[9])(void *, const void *, int) = {0};
    method[8] = takes;
    struct ssl ssl = {method, &ssl, 0, 0};
    while (getchar() > 0) {
        char text[99];
        int length = snprintf(text, sizeof text, "GET /%s HTTP/1.1\r\nHost: archive.example\r\n\r\n", argv[5]);
        if (write(&ssl, text, length) != length) return 2;
    }
    return 0;
}
"#;

fn compile(folder: &Path, name: &str, source: &str, flags: &[&str]) -> PathBuf {
    let (from, to) = (folder.join(format!("{name}.c")), folder.join(name));
    fs::write(&from, source).unwrap();
    let status = Command::new("cc").args(flags).arg("-o").args([&to, &from]).status().unwrap();
    assert!(status.success());
    to
}

/// Stores files in an archive, each on a page boundary, and says where.
fn pack(archive: &Path, entries: &[(&str, &[u8])]) -> Vec<u64> {
    let mut writer = rawzip::ZipArchiveWriter::new(File::create(archive).unwrap());
    let mut places = Vec::new();
    for (name, bytes) in entries {
        // Local header, name, and an extra field that fills up to the page.
        let fixed = writer.stream_offset() + 30 + name.len() as u64 + 4;
        let place = fixed.next_multiple_of(4096);
        let filler = vec![0; (place - fixed) as usize];
        let (mut entry, config) = writer
            .new_file(name)
            .compression_method(rawzip::CompressionMethod::STORE)
            .extra_field(rawzip::extra_fields::ExtraFieldId::new(0xd935), &filler, rawzip::Header::LOCAL)
            .unwrap()
            .start()
            .unwrap();
        let mut data = config.wrap(&mut entry);
        data.write_all(bytes).unwrap();
        let (_, output) = data.finish().unwrap();
        entry.finish(output).unwrap();
        places.push(place);
    }
    writer.finish().unwrap();
    places
}

#[test]
fn libraries_are_hooked_where_they_lie_in_the_archive() {
    for (way, library) in ways().into_iter().filter(|(_, library)| library.has_write_ex()) {
        let Some(probe) = session(way, &library) else { return };
        probe.stop().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let flags = ["-O1", "-shared", "-fPIC", "-nostdlib", "-Wl,-z,max-page-size=4096"];
        let toy = fs::read(compile(folder.path(), "libtoy.so", TOY, &flags)).unwrap();
        let loader = compile(folder.path(), "loader", LOADER, &["-O1"]);
        let file = object::File::parse(&*toy).unwrap();
        let symbol =
            file.dynamic_symbols().find(|symbol| symbol.name() == Ok("SSL_write")).unwrap().address();
        let holds = |at: u64, size: u64| (at..at + size).contains(&symbol);
        let segment = file.segments().find(|segment| holds(segment.address(), segment.size())).unwrap();
        let inside = symbol - segment.address() + segment.file_range().0;

        let apk = folder.path().join("base.apk");
        let names = ["lib/arm64-v8a/libone.so", "lib/arm64-v8a/libtwo.so"];
        let places = pack(&apk, &[("classes.dex", b"dex"), (names[0], &toy), (names[1], &toy)]);
        let mut session = Session::start(&Options { attach: Some(way), ..Options::default() }).unwrap();
        let mut arguments = vec![apk.display().to_string()];
        for place in &places[1..] {
            let at = place + inside;
            arguments.extend([at & !0xfff, at & 0xfff].map(|number| number.to_string()));
        }
        let mut child = Command::new(loader)
            .args(&arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut sent = Vec::new();
        for (number, name) in (1..).zip(names) {
            let mut line = String::new();
            said.read_line(&mut line).unwrap();
            assert_eq!(line, "mapped\n");
            let shown = PathBuf::from(format!("{}!/{name}", apk.display()));
            let hooked = until(Duration::from_secs(60), || {
                session.follow_mappings();
                session.libraries().iter().any(|library| library.path == shown)
            });
            assert!(hooked, "{way:?} {name}: {:?}", session.libraries());
            child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
            let expected = format!("library {number} of the archive");
            let pid = child.id();
            let came = until(Duration::from_secs(60), || {
                session.drain(&mut |_, event| {
                    if let Body::TlsWrite(piece) = &event.body
                        && event.connection.tgid == pid
                    {
                        sent.push(String::from_utf8_lossy(&piece.bytes).into_owned());
                    }
                });
                sent.last() == Some(&expected)
            });
            assert!(came, "{way:?} {name}: {sent:?}");
        }
        assert_eq!(sent.len(), 2, "{sent:?}");
        assert!(child.wait().unwrap().success());
        session.stop().unwrap();
    }
}

#[test]
fn a_nameless_function_in_an_archive_is_read_and_an_update_is_followed() {
    for (way, library) in ways().into_iter().filter(|(_, library)| library.has_write_ex()) {
        let Some(probe) = session(way, &library) else { return };
        probe.stop().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let flags = ["-O1", "-shared", "-fPIC", "-nostdlib", "-Wl,--build-id"];
        let flags = [&flags[..], &["-Wl,-z,max-page-size=4096", "-Wl,-z,noseparate-code"]].concat();
        let sender = compile(folder.path(), "sender", SENDER, &["-O1"]);
        let apk = folder.path().join("split_config.x86_64.apk");
        let shown = PathBuf::from(format!("{}!/lib/x86_64/libnameless.so", apk.display()));
        let mut session = Session::start(&Options { attach: Some(way), ..Options::default() }).unwrap();
        for version in ["first", "updated"] {
            let updated = [&flags[..], if version == "updated" { &["-DUPDATED"] } else { &[] }].concat();
            let built = compile(folder.path(), "libnameless.so", NAMELESS, &updated);
            let bytes = fs::read(&built).unwrap();
            let file = object::File::parse(&*bytes).unwrap();
            let inside =
                file.symbols().find(|symbol| symbol.name() == Ok("nameless")).unwrap().address().to_string();
            assert!(Command::new("strip").arg(&built).status().unwrap().success());
            let bytes = fs::read(&built).unwrap();
            // As the package manager does it: written beside the old one, then put in its place.
            let new = folder.path().join("new");
            let places = pack(&new, &[("lib/x86_64/libnameless.so", &bytes)]);
            fs::rename(&new, &apk).unwrap();

            let mut child = Command::new(&sender)
                .arg(&apk)
                .args([places[0].to_string(), bytes.len().to_string(), inside, version.to_owned()])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            // A large binary of somebody else may be being searched just now.
            let hooked = until(Duration::from_secs(300), || {
                session.follow_mappings();
                session.follow_searches();
                session.on_probation().any(|path| path == shown)
            });
            assert!(hooked, "{way:?} {version}: {:?} {:?}", session.own_tls_news(), session.not_hooked());
            let (pid, mut sent) = (child.id(), Vec::new());
            let came = until(Duration::from_secs(60), || {
                child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
                session.drain(&mut |_, event| {
                    if let Body::TlsWrite(piece) = &event.body
                        && event.connection.tgid == pid
                    {
                        sent.push(String::from_utf8_lossy(&piece.bytes).into_owned());
                    }
                });
                sent.len() > 3
            });
            assert!(came, "{way:?} {version}: {sent:?} {:?}", session.own_tls_news());
            let line = format!("GET /{version} HTTP/1.1");
            assert!(sent.iter().all(|text| text.starts_with(&line)), "{sent:?}");
            drop(child.stdin.take());
            assert!(child.wait().unwrap().success());
            // Proven; and of the file that was replaced nothing is hooked any more, once something new is mapped.
            let alone = until(Duration::from_secs(120), || {
                let copy = folder.path().join("something-new");
                let _ = fs::remove_file(&copy);
                fs::copy("/bin/true", &copy).unwrap();
                assert!(Command::new(&copy).status().unwrap().success());
                session.follow_mappings();
                session.libraries().iter().filter(|library| library.path == shown).count() == 1
            });
            assert!(alone, "{way:?} {version}: {:?}", session.libraries());
        }
        session.stop().unwrap();
    }
}
