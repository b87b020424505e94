//! `build`: the eBPF object, then the daemon with the object embedded.

use std::fs;
use std::path::{Path, PathBuf};

use crate::context::{Context, create_dir, write};
use crate::error::{Error, Result};
use crate::run::Run;
use crate::setup::{self, Need};
use crate::toolchain::Toolchain;
use crate::{no_arguments, say};

/// The name of the eBPF crate's program.
const EBPF_PROGRAM: &str = "telltale";
/// The target triple of BPF bytecode, little-endian like every machine Telltale runs on. Flags and instruction set
/// are in `ebpf/.cargo/config.toml`, so that a plain `cargo build` in that folder makes the same object.
const EBPF_TARGET: &str = "bpfel-unknown-none";

/// `build`.
pub fn command(context: &Context, rest: &[String]) -> Result<()> {
    no_arguments("build", rest)?;
    setup::ensure(context, &[Need::Host, Need::Ebpf])?;
    ebpf(context)?;
    daemon(context)?;
    say::plain(&context.telltale().display().to_string());
    Ok(())
}

/// Builds the eBPF object for this machine. Needs [`Need::Ebpf`].
///
/// # Errors
/// What the compiler said, or the file that could not be written.
pub fn ebpf(context: &Context) -> Result<()> {
    ebpf_for(context, std::env::consts::ARCH, &context.ebpf_object())
}

/// Builds the eBPF object for machines of `arch` (Rust's name: `x86_64`, `aarch64`; the programs read that machine's
/// registers) and leaves it in `object`. Needs [`Need::Ebpf`].
///
/// # Errors
/// What the compiler said, or the file that could not be written.
pub fn ebpf_for(context: &Context, arch: &str, object: &Path) -> Result<()> {
    let section = say::Section::start(&format!("eBPF object for {arch}"));
    let cargo = ebpf_cargo(context, &Toolchain::find()?, arch);
    cargo.args(["build", "--quiet", "--release", "--locked", "--manifest-path", "Cargo.toml"]).run()?;
    let built = ebpf_dir(context, arch).join(EBPF_TARGET).join("release").join(EBPF_PROGRAM);
    // Copied only when it differs: its time stamp decides whether the daemon, which embeds it, is built again.
    let bytes = fs::read(&built).map_err(Error::file("read", &built))?;
    if fs::read(object).ok().as_ref() != Some(&bytes) {
        create_dir(object.parent().unwrap_or(object))?;
        write(object, &bytes)?;
    }
    section.end(&format!("{} bytes", bytes.len()));
    Ok(())
}

/// The eBPF toolchain's cargo, in the eBPF crate, set up to build it for machines of `arch`.
pub fn ebpf_cargo(context: &Context, toolchain: &Toolchain, arch: &str) -> Run {
    toolchain
        .cargo(context)
        .dir(context.root.join("ebpf"))
        .env("CARGO_TARGET_DIR", ebpf_dir(context, arch))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", setup::bpf_linker_path(context))
        .env("AYA_BPF_TARGET_ARCH", arch)
}

/// One build directory per machine type: the same crates come out different.
fn ebpf_dir(context: &Context, arch: &str) -> PathBuf {
    context.target.join("ebpf").join(arch)
}

/// Builds the daemon for this machine around the object that [`ebpf`] left.
///
/// # Errors
/// What the compiler said.
pub fn daemon(context: &Context) -> Result<()> {
    let section = say::Section::start("telltale for this machine");
    context
        .cargo()
        .args(["build", "--quiet", "--release", "--package", "telltale"])
        .env("TELLTALE_EBPF_OBJECT", context.ebpf_object())
        .run()?;
    section.end("built");
    Ok(())
}
