//! The Rust toolchain for eBPF and Android: one that brings the standard library's source.
//!
//! Neither target has a prebuilt `core`, so cargo builds it (`-Z build-std`), which needs the source of exactly this
//! compiler's library. rustup's `rust-src` component is that; where it is absent, Debian's `rustc-web`, `cargo-web`
//! and `rust-web-src` are one matching set.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::run::Run;

/// Debian's compiler.
pub const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Debian's cargo.
pub const DEBIAN_CARGO: &str = "/usr/bin/cargo";
/// Proof of Debian's library source, at the path its compiler looks for it.
pub const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust/library/core/src/lib.rs";

/// The LLVM that bpf-linker is built against; it reads the bitcode of this and of older ones.
const LINKER_LLVM: u32 = 22;

/// A compiler and cargo that can build the standard library.
#[derive(Debug, Clone)]
pub struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
}

impl Toolchain {
    /// Chooses one on this machine.
    ///
    /// # Errors
    /// [`Error::Missing`] when there is none, with what to do.
    pub fn find() -> Result<Self> {
        rustup_with_source().or_else(debian).ok_or_else(|| {
            Error::Missing(format!(
                "no Rust toolchain with the standard library's source whose LLVM is {LINKER_LLVM} or older: \
                 run `cargo ndk-build setup` as root, or `rustup component add rust-src`"
            ))
        })
    }

    /// Its cargo, in the clone, allowed the unstable options that building the standard library takes.
    pub fn cargo(&self, context: &Context) -> Run {
        Run::new(&self.cargo)
            .dir(&context.root)
            .env("RUSTC", &self.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("PATH", self.search_path(context))
    }

    /// The compiler.
    pub fn rustc(&self) -> &Path {
        &self.rustc
    }

    /// `PATH` with the clone's own tools and this toolchain first.
    fn search_path(&self, context: &Context) -> OsString {
        let mut dirs = vec![context.target.join("tools/bin")];
        dirs.extend(self.rustc.parent().map(Path::to_owned));
        let old = std::env::var_os("PATH").unwrap_or_default();
        dirs.extend(std::env::split_paths(&old));
        // Joining fails only for a directory with a colon in its name; then the inherited path must do.
        std::env::join_paths(dirs).unwrap_or(old)
    }
}

/// A rustup toolchain with `rust-src`, if there is one that bpf-linker can read.
pub fn rustup_with_source() -> Option<Toolchain> {
    let home = std::env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".rustup")))?;
    let mut found: Vec<PathBuf> = std::fs::read_dir(home.join("toolchains"))
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|dir| dir.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file())
        .collect();
    // Stable before nightly where both have it: sorted by name, `nightly-…` comes before `stable-…`.
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
        .into_iter()
        .map(|dir| Toolchain { cargo: dir.join("bin/cargo"), rustc: dir.join("bin/rustc") })
        .find(usable)
}

fn debian() -> Option<Toolchain> {
    let set = Toolchain { cargo: DEBIAN_CARGO.into(), rustc: DEBIAN_RUSTC.into() };
    (Path::new(DEBIAN_SOURCE).exists() && usable(&set)).then_some(set)
}

/// Whether its programs run and its LLVM is one that bpf-linker reads.
fn usable(toolchain: &Toolchain) -> bool {
    toolchain.cargo.is_file()
        && Run::new(&toolchain.rustc)
            .arg("-vV")
            .output()
            .is_ok_and(|text| llvm_major(&text).is_some_and(|version| version <= LINKER_LLVM))
}

/// The LLVM version in `rustc -vV`'s answer.
fn llvm_major(version: &str) -> Option<u32> {
    let line = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_version_is_read_from_the_compilers_answer() {
        let answer = "rustc 1.96.0\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(llvm_major(answer), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0\n"), None);
    }
}
