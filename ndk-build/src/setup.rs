//! What the commands need from the machine, and how it gets there.
//!
//! One table says what is needed, for what, by which command and how to tell that it is there. Every command asks for its own rows
//! before it starts; when nothing is missing that costs a few file look-ups and touches neither network nor
//! package manager.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::run::{Run, find_program, is_root, last_lines};
use crate::say;
use crate::toolchain;

/// What a command wants to do, as far as the machine has to provide for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Compile the host's own programs.
    Host,
    /// Compile the eBPF object.
    Ebpf,
    /// Lint the eBPF crate.
    Lint,
    /// Hook this machine's kernel.
    Live,
    /// Compile and run the TLS clients and the collector.
    Clients,
    /// Check shell scripts.
    Scripts,
    /// Compile for the handset and pack the module.
    Android,
    /// Boot a handset-like kernel under emulation.
    Vm,
    /// Look at the report as a reader would.
    Page,
    /// Programs that carry their own TLS: a browser, and Python packages.
    Browsers,
    /// Fetch packages of data.
    Data,
    /// Compare with what else could be used, and count instructions.
    Bench,
}

/// How to tell that a row is satisfied without asking the package manager.
#[derive(Debug, Clone, Copy)]
enum Proof {
    /// This file exists.
    File(&'static str),
    /// This program is in `PATH` (or where administration tools lie).
    Program(&'static str),
    /// The C compiler finds this library file.
    Library(&'static str),
}

/// One thing the machine must have.
#[derive(Debug)]
struct Row {
    /// Debian's name for the package.
    package: &'static str,
    /// What it is for, as the user reads it.
    why: &'static str,
    /// Which needs ask for it.
    needs: &'static [Need],
    proof: Proof,
}

const STD_SOURCE: &str =
    "the standard library's source and the compiler that matches it, for eBPF and Android";

/// The rows a rustup toolchain with `rust-src` makes unnecessary.
const STANDS_IN_FOR: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"];

/// Everything the commands need beyond cargo itself. A new command adds its rows here.
const ROWS: &[Row] = &[
    Row {
        package: "gcc",
        why: "links Rust programs, compiles the TLS clients",
        needs: &[Need::Host, Need::Clients],
        proof: Proof::Program("cc"),
    },
    Row {
        package: "libc6-dev",
        why: "C library headers and start files",
        needs: &[Need::Host, Need::Clients],
        proof: Proof::Library("crt1.o"),
    },
    Row {
        package: "rustc-web",
        why: STD_SOURCE,
        needs: &[Need::Ebpf, Need::Android],
        proof: Proof::File(toolchain::DEBIAN_RUSTC),
    },
    Row {
        package: "cargo-web",
        why: STD_SOURCE,
        needs: &[Need::Ebpf, Need::Android],
        proof: Proof::File(toolchain::DEBIAN_CARGO),
    },
    Row {
        package: "rust-web-src",
        why: STD_SOURCE,
        needs: &[Need::Ebpf, Need::Android],
        proof: Proof::File(toolchain::DEBIAN_SOURCE),
    },
    Row {
        package: "rust-web-clippy",
        why: "lints that match that compiler, for the eBPF crate",
        needs: &[Need::Lint],
        proof: Proof::File("/usr/bin/clippy-driver"),
    },
    Row {
        package: "llvm-22-dev",
        why: "what bpf-linker is built against",
        needs: &[Need::Ebpf],
        proof: Proof::File("/usr/lib/llvm-22/bin/llvm-config"),
    },
    Row {
        package: "libpolly-22-dev",
        why: "part of LLVM that bpf-linker links",
        needs: &[Need::Ebpf],
        proof: Proof::File("/usr/lib/llvm-22/lib/libPolly.a"),
    },
    Row {
        package: "zlib1g-dev",
        why: "part of LLVM that bpf-linker links",
        needs: &[Need::Ebpf],
        proof: Proof::Library("libz.so"),
    },
    Row {
        package: "libzstd-dev",
        why: "part of LLVM that bpf-linker links",
        needs: &[Need::Ebpf],
        proof: Proof::Library("libzstd.so"),
    },
    Row {
        package: "g++",
        why: "the C++ library that bpf-linker links",
        needs: &[Need::Ebpf],
        proof: Proof::Library("libstdc++.so"),
    },
    Row {
        package: "android-libboringssl",
        why: "Android's own TLS library, to send through",
        needs: &[Need::Clients],
        proof: Proof::Library("android/libssl.so.0"),
    },
    Row {
        package: "android-libboringssl-dev",
        why: "its headers",
        needs: &[Need::Clients],
        proof: Proof::File("/usr/include/android/openssl/ssl.h"),
    },
    Row {
        package: "libssl-dev",
        why: "OpenSSL, the other TLS library to send through",
        needs: &[Need::Clients],
        proof: Proof::File("/usr/include/openssl/ssl.h"),
    },
    Row {
        package: "shellcheck",
        why: "checks the module's shell scripts",
        needs: &[Need::Scripts],
        proof: Proof::Program("shellcheck"),
    },
    Row {
        package: "busybox-static",
        why: "the shell that runs the module's scripts on a phone",
        needs: &[Need::Scripts],
        proof: Proof::Program("busybox"),
    },
    Row {
        package: "qemu-system-arm",
        why: "emulates an arm64 machine",
        needs: &[Need::Vm],
        proof: Proof::Program("qemu-system-aarch64"),
    },
    Row {
        package: "gcc-aarch64-linux-gnu",
        why: "compiles the clients for that machine",
        needs: &[Need::Vm],
        proof: Proof::Program("aarch64-linux-gnu-gcc"),
    },
    Row {
        package: "libc6-dev-arm64-cross",
        why: "C library headers and start files for that machine",
        needs: &[Need::Vm],
        proof: Proof::File("/usr/aarch64-linux-gnu/lib/crt1.o"),
    },
    Row {
        package: "gcc-arm-linux-gnueabihf",
        why: "compiles 32-bit clients, which that machine runs too",
        needs: &[Need::Vm],
        proof: Proof::Program("arm-linux-gnueabihf-gcc"),
    },
    Row {
        package: "libc6-dev-armhf-cross",
        why: "their C library's headers and start files",
        needs: &[Need::Vm],
        proof: Proof::File("/usr/arm-linux-gnueabihf/lib/crt1.o"),
    },
    Row {
        package: "chromium",
        why: "shows the report: looks, speed, keyboard, hostile text",
        needs: &[Need::Page, Need::Browsers],
        proof: Proof::Program("chromium"),
    },
    Row {
        package: "npm",
        why: "fetches the address data, the checker of the report's accessibility, and packages that carry a browser",
        needs: &[Need::Data, Need::Page, Need::Browsers],
        proof: Proof::Program("npm"),
    },
    Row {
        package: "python3-pip",
        why: "fetches Python packages that carry their own TLS",
        needs: &[Need::Browsers],
        proof: Proof::File("/usr/lib/python3/dist-packages/pip"),
    },
    Row {
        package: "python3",
        why: "clients of live tests",
        needs: &[Need::Live, Need::Browsers],
        proof: Proof::File("/usr/bin/python3"),
    },
    Row {
        package: "curl",
        why: "a client of live tests",
        needs: &[Need::Live],
        proof: Proof::Program("curl"),
    },
    Row {
        package: "iproute2",
        why: "network namespaces for live tests",
        needs: &[Need::Live],
        proof: Proof::Program("ip"),
    },
    Row {
        package: "nftables",
        why: "counts what leaves, to compare with",
        needs: &[Need::Live],
        proof: Proof::Program("nft"),
    },
    Row {
        package: "openssl",
        why: "a certificate for a test server",
        needs: &[Need::Live],
        proof: Proof::Program("openssl"),
    },
    Row {
        package: "bpftrace",
        why: "what one would write by hand instead, to compare with",
        needs: &[Need::Bench],
        proof: Proof::Program("bpftrace"),
    },
    Row {
        package: "valgrind",
        why: "counts instructions, the same in every run",
        needs: &[Need::Bench],
        proof: Proof::Program("valgrind"),
    },
    Row {
        package: "python3-venv",
        why: "holds mitmproxy, to compare with",
        needs: &[Need::Bench],
        proof: Proof::File("/usr/share/python-wheels"),
    },
    Row {
        package: "lld-22",
        why: "links for the handset without an NDK",
        needs: &[Need::Android],
        proof: Proof::File("/usr/lib/llvm-22/bin/ld.lld"),
    },
];

/// bpf-linker's version: the newest that is built against the LLVM that Debian's packages carry.
const BPF_LINKER: &str = "0.13.0";
/// What `sh` sees when tracefs is there.
const TRACEFS: &[&str] = &["/sys/kernel/tracing/uprobe_events", "/sys/kernel/debug/tracing/uprobe_events"];

/// `setup [--allow-removal]`: everything for every command.
pub fn command(context: &Context, rest: &[String]) -> Result<()> {
    let allow_removal = match rest {
        [] => false,
        [flag] if flag == "--allow-removal" => true,
        _ => return Err(Error::Usage("`setup` takes only `--allow-removal`".into())),
    };
    let all = [
        Need::Host,
        Need::Ebpf,
        Need::Lint,
        Need::Live,
        Need::Clients,
        Need::Scripts,
        Need::Android,
        Need::Vm,
        Need::Page,
        Need::Browsers,
        Need::Data,
        Need::Bench,
    ];
    provide(context, &all, allow_removal)?;
    say::note("everything needed is here");
    Ok(())
}

/// Makes sure that what `needs` ask for is on this machine, installing what is missing.
///
/// # Errors
/// [`Error::Missing`] with exactly what to install when that cannot be done from here.
pub fn ensure(context: &Context, needs: &[Need]) -> Result<()> {
    // A throwaway machine may lose a package to a conflict; a person's own machine only when he says so.
    provide(context, needs, std::env::var_os("CI").is_some())
}

fn provide(context: &Context, needs: &[Need], allow_removal: bool) -> Result<()> {
    let missing = missing_rows(needs);
    if !missing.is_empty() {
        install(&missing, allow_removal)?;
    }
    if needs.contains(&Need::Ebpf) {
        bpf_linker(context)?;
    }
    if needs.contains(&Need::Live) {
        mount_tracefs();
    }
    Ok(())
}

/// Where `bpf-linker` lies once [`ensure`] has seen to [`Need::Ebpf`].
pub fn bpf_linker_path(context: &Context) -> PathBuf {
    context.target.join("tools/bin/bpf-linker")
}

fn missing_rows(needs: &[Need]) -> Vec<&'static Row> {
    let own_source = toolchain::rustup_with_source().is_some();
    ROWS.iter()
        .filter(|row| row.needs.iter().any(|need| needs.contains(need)))
        .filter(|row| !(own_source && STANDS_IN_FOR.contains(&row.package)))
        .filter(|row| !is_there(row.proof))
        .collect()
}

fn is_there(proof: Proof) -> bool {
    match proof {
        Proof::File(path) => Path::new(path).exists(),
        Proof::Program(name) => find_program(name).is_some(),
        Proof::Library(name) => library_dirs().iter().any(|dir| dir.join(name).exists()),
    }
}

/// The directories in which the C compiler looks for libraries, named here because asking it takes longer than all other look-ups.
fn library_dirs() -> Vec<PathBuf> {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let mut dirs = vec![format!("/usr/lib/{triplet}"), "/usr/lib64".into(), "/usr/lib".into(), "/lib".into()];
    // libstdc++'s development file lies beside the compiler that brought it.
    for compiler in std::fs::read_dir(format!("/usr/lib/gcc/{triplet}")).into_iter().flatten().flatten() {
        dirs.push(compiler.path().to_string_lossy().into_owned());
    }
    dirs.into_iter().map(PathBuf::from).collect()
}

fn install(missing: &[&Row], allow_removal: bool) -> Result<()> {
    say::note("this machine lacks:");
    for row in missing {
        say::note(&format!("  {:<26} {}", row.package, row.why));
    }
    let packages: Vec<&str> = missing.iter().map(|row| row.package).collect();
    let by_hand = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    if find_program("apt-get").is_none() {
        return Err(Error::Missing(format!(
            "this machine has no apt; install what these Debian packages hold, then try again:\n  {}\n\
             (a rustup toolchain with `rust-src` stands in for {})",
            packages.join(" "),
            "rustc-web, cargo-web and rust-web-src"
        )));
    }
    if !is_root() {
        return Err(Error::Missing(format!("installing needs root; as root run:\n  {by_hand}")));
    }
    let section = say::Section::start(&format!("installing {} packages", packages.len()));
    // The lists may be there already and fresh: asking for them first would cost every run a minute on a slow line.
    let outcome = apt_install(&packages, allow_removal).or_else(|first| {
        if matches!(&first, Error::Missing(_)) {
            return Err(first);
        }
        say::note("refreshing the package lists");
        apt(&["update"])?;
        apt_install(&packages, allow_removal).or_else(|_| apt_install(&packages, allow_removal))
    });
    outcome.map_err(|error| match error {
        Error::Missing(_) => error,
        other => Error::Missing(format!(
            "{other}\n\napt could not install what is needed. By hand:\n  {by_hand}\n\
             The Rust and LLVM 22 packages are in Debian 12 (bookworm) with its security updates. Elsewhere: \
             `rustup component add rust-src` and LLVM 22 from apt.llvm.org."
        )),
    })?;
    let still: Vec<&str> = missing.iter().filter(|row| !is_there(row.proof)).map(|row| row.package).collect();
    if !still.is_empty() {
        return Err(Error::Missing(format!(
            "apt reports success, but these are not where they should be: {}",
            still.join(" ")
        )));
    }
    section.end("installed");
    Ok(())
}

fn apt_install(packages: &[&str], allow_removal: bool) -> Result<()> {
    let mut words = vec!["install", "-y", "--no-install-recommends"];
    if !allow_removal {
        words.push("--no-remove");
    }
    words.extend(packages);
    apt(&words).map_err(|error| match &error {
        Error::Failed { tail, .. } if tail.contains("remove is disabled") => Error::Missing(format!(
            "{error}\n\napt would have to remove the packages named above. If that is fine:\n  \
             cargo ndk-build setup --allow-removal"
        )),
        _ => error,
    })
}

/// Runs apt-get without questions, waiting for another apt to finish and trying downloads again.
fn apt(words: &[&str]) -> Result<()> {
    let run = Run::new("apt-get")
        .args(["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3", "-o", "Dpkg::Use-Pty=0"])
        .args(words)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C");
    let command = run.shown().to_owned();
    let mut log = String::new();
    let status = run.lines(|line| {
        if ["Get:", "Unpacking", "Setting up", "Hit:"].iter().any(|word| line.starts_with(word)) {
            say::passing(line);
        }
        log.push_str(line);
        log.push('\n');
    })?;
    say::passed();
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed { command, status: status.to_string(), tail: last_lines(&log, 30) })
}

/// Builds bpf-linker into the clone, once.
fn bpf_linker(context: &Context) -> Result<()> {
    let root = context.target.join("tools");
    // cargo's own record of what it installed there; the binary alone would not tell its version.
    let record = std::fs::read_to_string(root.join(".crates.toml")).unwrap_or_default();
    if record.contains(&format!("\"bpf-linker {BPF_LINKER} ")) && bpf_linker_path(context).is_file() {
        return Ok(());
    }
    let section = say::Section::start(&format!(
        "building bpf-linker {BPF_LINKER}: links the eBPF object (once, about a minute)"
    ));
    let started = Instant::now();
    let run = context
        .cargo()
        .args([
            "install",
            "bpf-linker",
            "--locked",
            "--force",
            "--no-default-features",
            "--features",
            "llvm-22",
        ])
        .arg("--version")
        .arg(format!("={BPF_LINKER}"))
        .arg("--root")
        .arg(&root)
        .env("LLVM_PREFIX", "/usr/lib/llvm-22")
        // Not into the workspace's own build directory: a plain `cargo build` beside us would wait for it.
        .env("CARGO_TARGET_DIR", root.join("build"));
    let command = run.shown().to_owned();
    let mut log = String::new();
    let mut crates = 0_u32;
    let status = run.lines(|line| {
        if line.trim_start().starts_with("Compiling") {
            crates = crates.saturating_add(1);
            say::passing(&format!("{crates} crates, {} s", started.elapsed().as_secs()));
        }
        log.push_str(line);
        log.push('\n');
    })?;
    say::passed();
    if !status.success() {
        return Err(Error::Failed { command, status: status.to_string(), tail: last_lines(&log, 40) });
    }
    // Half a gigabyte nobody needs again.
    let _ = std::fs::remove_dir_all(root.join("build"));
    section.end("built");
    Ok(())
}

/// Whether this kernel can be hooked from here: root, and a tracefs with uprobes.
///
/// # Errors
/// The reason, in words for the user, when not.
pub fn live_kernel() -> std::result::Result<(), String> {
    if !is_root() {
        return Err("not root".into());
    }
    if !TRACEFS.iter().any(|path| Path::new(path).exists()) {
        return Err(
            "no tracefs with uprobe_events (kernel without CONFIG_UPROBE_EVENTS, or tracefs not mounted)"
                .into(),
        );
    }
    Ok(())
}

/// Mounts tracefs where it is absent. Failing is no error: what hooks the kernel says so itself.
fn mount_tracefs() {
    if TRACEFS.iter().any(|path| Path::new(path).exists()) || !is_root() {
        return;
    }
    let mounted = Run::new("mount").args(["-t", "tracefs", "tracefs", "/sys/kernel/tracing"]).output();
    match mounted {
        Ok(_) => say::note("mounted tracefs on /sys/kernel/tracing: uprobes are set through it"),
        Err(error) => say::note(&format!("tracefs is not mounted and could not be: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_says_what_for_and_who_needs_it() {
        for row in ROWS {
            assert!(!row.why.is_empty() && !row.needs.is_empty(), "{}", row.package);
            assert!(
                ROWS.iter().filter(|other| other.package == row.package).count() == 1,
                "{} twice",
                row.package
            );
        }
    }

    #[test]
    fn a_missing_file_program_or_library_is_missed() {
        assert!(!is_there(Proof::File("/no/such/file")));
        assert!(!is_there(Proof::Program("no-such-program-here")));
        assert!(!is_there(Proof::Library("libno-such-library.so")));
        assert!(is_there(Proof::Program("sh")));
    }

    #[test]
    fn a_command_is_asked_only_for_its_own_rows() {
        for row in missing_rows(&[Need::Scripts]) {
            assert_eq!(row.package, "shellcheck");
        }
    }
}
