//! Compiles the C clients that send through real TLS libraries, and the collector they send to.
//!
//! They are C because the libraries they must call are: a wrapper crate would come between the hook and what it hooks.

use std::path::PathBuf;

use crate::context::{Context, create_dir};
use crate::error::Result;
use crate::run::Run;
use crate::setup::{self, Need};
use crate::{no_arguments, say};

/// One program to compile.
struct Client {
    /// Its name in `target/clients/`.
    name: &'static str,
    /// Its source in `ndk-build/clients/`.
    source: &'static str,
    library: Library,
}

/// Which TLS library a client is compiled and linked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Library {
    BoringSsl,
    OpenSsl,
}

const CLIENTS: &[Client] = &[
    Client { name: "tls-client-boringssl", source: "tls-client.c", library: Library::BoringSsl },
    Client { name: "tls-client-openssl", source: "tls-client.c", library: Library::OpenSsl },
    Client { name: "tls-collector", source: "tls-collector.c", library: Library::OpenSsl },
];

/// The program that makes the calls the bench times.
const BENCH_CALLS: Client =
    Client { name: "bench-calls", source: "bench-calls.c", library: Library::BoringSsl };
/// The library it calls where what is behind the functions does not matter.
pub const BENCH_LIBRARY: &str = "bench-library.so";

/// Where [`build`] leaves the program called `name`.
pub fn path(context: &Context, name: &str) -> PathBuf {
    context.target.join("clients").join(name)
}

/// `clients`.
pub fn command(context: &Context, rest: &[String]) -> Result<()> {
    no_arguments("clients", rest)?;
    setup::ensure(context, &[Need::Clients])?;
    build(context)?;
    for client in CLIENTS {
        say::plain(&path(context, client.name).display().to_string());
    }
    Ok(())
}

/// Compiles every client that is older than its source, or than what it includes. Needs [`Need::Clients`].
///
/// # Errors
/// What the compiler said.
pub fn build(context: &Context) -> Result<()> {
    CLIENTS.iter().try_for_each(|client| compile(context, client))
}

/// Compiles what the bench calls besides. Needs [`Need::Clients`].
///
/// # Errors
/// What the compiler said.
pub fn build_for_bench(context: &Context) -> Result<()> {
    compile(context, &BENCH_CALLS)?;
    let source = context.root.join("ndk-build/clients/bench-library.c");
    let library = path(context, BENCH_LIBRARY);
    if is_newer(&library, &source) {
        return Ok(());
    }
    compiler().args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output().map(drop)
}

/// Where Debian keeps Android's TLS library: out of the linker's way, under names without a development link.
pub fn boringssl_dir() -> PathBuf {
    PathBuf::from(format!("/usr/lib/{}-linux-gnu/android", std::env::consts::ARCH))
}

fn compiler() -> Run {
    Run::new("cc").args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"])
}

fn compile(context: &Context, client: &Client) -> Result<()> {
    create_dir(&context.target.join("clients"))?;
    let source = context.root.join("ndk-build/clients").join(client.source);
    let program = path(context, client.name);
    let headers = ["tls-psk.h", "tls-server.h"].map(|name| source.with_file_name(name));
    if headers.iter().chain([&source]).all(|source| is_newer(&program, source)) {
        return Ok(());
    }
    say::note(&format!("compiling {}", client.name));
    linked(compiler().arg("-o").arg(&program).arg(&source), client.library).output().map(drop)
}

/// Adds what it takes to compile and link against `library`.
fn linked(compiler: Run, library: Library) -> Run {
    match library {
        Library::OpenSsl => compiler.args(["-lssl", "-lcrypto"]),
        Library::BoringSsl => {
            let dir = boringssl_dir();
            let dir = dir.display();
            compiler
                .arg("-I/usr/include/android")
                .args([format!("-L{dir}"), format!("-Wl,-rpath,{dir}")])
                .args(["-l:libssl.so.0", "-l:libcrypto.so.0"])
        }
    }
}

fn is_newer(made: &std::path::Path, source: &std::path::Path) -> bool {
    let changed = |path: &std::path::Path| std::fs::metadata(path).and_then(|meta| meta.modified());
    matches!((changed(made), changed(source)), (Ok(made), Ok(source)) if made > source)
}
