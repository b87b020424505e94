//! Where things are: the clone, its build directory, the cargo that started us.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::run::Run;

/// The places every command needs.
#[derive(Debug)]
pub struct Context {
    /// The root of the clone.
    pub root: PathBuf,
    /// Its build directory. Everything the tool makes lies in it; deleting it is always safe.
    pub target: PathBuf,
    /// The cargo that runs the host's builds: the one that started us.
    cargo: PathBuf,
    /// rustup's name for the toolchain it belongs to, if rustup chose it.
    toolchain: Option<String>,
}

impl Context {
    /// Finds the clone this tool was built from.
    ///
    /// # Errors
    /// [`Error::Missing`] when that directory is gone.
    pub fn find() -> Result<Self> {
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package
            .parent()
            .filter(|root| root.join("Cargo.toml").is_file())
            .ok_or_else(|| Error::Missing(format!("{} is no clone of Telltale", package.display())))?
            .to_owned();
        let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
        let toolchain = std::env::var("RUSTUP_TOOLCHAIN").ok();
        Ok(Self { target: root.join("target"), root, cargo, toolchain })
    }

    /// The cargo that started us, in the clone, building into the clone's own `target/`.
    pub fn cargo(&self) -> Run {
        let run = Run::new(&self.cargo).dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        match &self.toolchain {
            Some(name) => run.env("RUSTUP_TOOLCHAIN", name),
            None => run,
        }
    }

    /// The eBPF object every build of the daemon embeds.
    pub fn ebpf_object(&self) -> PathBuf {
        self.target.join("ebpf/telltale.bpf.o")
    }

    /// The eBPF object for machines of `arch`.
    pub fn ebpf_object_for(&self, arch: &str) -> PathBuf {
        self.target.join(format!("ebpf/telltale-{arch}.bpf.o"))
    }

    /// The daemon for this machine.
    pub fn telltale(&self) -> PathBuf {
        self.target.join("release/telltale")
    }
}

/// Creates `dir` and the directories above it.
///
/// # Errors
/// [`Error::File`] with the directory's name.
pub fn create_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(Error::file("create", dir))
}

/// Reads a text file.
///
/// # Errors
/// [`Error::File`] with the file's name.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::file("read", path))
}

/// Writes a file, replacing what was there.
///
/// # Errors
/// [`Error::File`] with the file's name.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, bytes).map_err(Error::file("write", path))
}
