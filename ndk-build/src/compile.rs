//! `build`: the eBPF object, then the daemon with the object embedded.

use std::fs;

use crate::context::{Context, create_dir};
use crate::error::{Error, Result};
use crate::setup::{self, Need};
use crate::toolchain::Toolchain;
use crate::{no_arguments, say};

/// The name of the eBPF crate's program.
const EBPF_PROGRAM: &str = "telltale-ebpf";
/// The target triple of BPF bytecode, little-endian like every machine Telltale runs on.
const EBPF_TARGET: &str = "bpfel-unknown-none";
/// Instruction set v2: Linux 4.14 has its jumps, but not v3's 32-bit ones (kernel 5.1).
const EBPF_FLAGS: &[&str] = &["-Ctarget-cpu=v2", "-Cdebuginfo=0"];

/// `build`.
pub fn command(context: &Context, rest: &[String]) -> Result<()> {
    no_arguments("build", rest)?;
    setup::ensure(context, &[Need::Host, Need::Ebpf])?;
    ebpf(context)?;
    daemon(context)?;
    say::plain(&context.telltale().display().to_string());
    Ok(())
}

/// Builds the eBPF object. Needs [`Need::Ebpf`].
///
/// # Errors
/// What the compiler said, or the file that could not be written.
pub fn ebpf(context: &Context) -> Result<()> {
    let section = say::Section::start("eBPF object");
    let build_dir = context.target.join("ebpf/cargo");
    ebpf_cargo(context, &Toolchain::find()?)
        .args(["build", "--quiet", "--release", "--locked", "-Zbuild-std=core", "--target", EBPF_TARGET])
        .run()?;
    let built = build_dir.join(EBPF_TARGET).join("release").join(EBPF_PROGRAM);
    let object = context.ebpf_object();
    // Copied only when it differs: its time stamp decides whether the daemon, which embeds it, is built again.
    let bytes = fs::read(&built).map_err(Error::file("read", &built))?;
    if fs::read(&object).ok().as_ref() != Some(&bytes) {
        create_dir(&context.target.join("ebpf"))?;
        crate::context::write(&object, &bytes)?;
    }
    section.end(&format!("{} bytes", bytes.len()));
    Ok(())
}

/// The eBPF toolchain's cargo, set up for the eBPF crate.
pub fn ebpf_cargo(context: &Context, toolchain: &Toolchain) -> crate::run::Run {
    toolchain
        .cargo(context)
        .dir(context.root.join("ebpf"))
        .env("CARGO_TARGET_DIR", context.target.join("ebpf/cargo"))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", setup::bpf_linker_path(context))
        .env("CARGO_ENCODED_RUSTFLAGS", EBPF_FLAGS.join("\x1f"))
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
