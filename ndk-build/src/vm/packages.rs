//! arm64 packages from Debian without touching the host's own package manager: apt with a state directory of its
//! own under `target/` and the sources that this machine has, and unpacking instead of installing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::context::{self, Context};
use crate::error::{Error, Result};
use crate::run::Run;
use crate::say;

/// The package whose dependency is the current kernel: the one for virtual machines, a third of the size of the full one,
/// with the serial console built in.
const KERNEL: &str = "linux-image-cloud-arm64";

/// What the machine consists of.
const PACKAGES: &[&str] = &["android-libboringssl", "busybox-static", "libc6", "libgcc-s1", "libstdc++6"];

/// Downloads and unpacks what the machine consists of, once, and gives the directory that holds it.
///
/// # Errors
/// [`Error::Failed`] with apt's words when there is no network, [`Error::File`] for the disk.
pub(super) fn fetch(ctx: &Context) -> Result<PathBuf> {
    let dir = ctx.target.join("vm/debian");
    let root = dir.join("root");
    let complete = dir.join("complete");
    if complete.is_file() {
        return Ok(root);
    }
    let section = say::Section::start("arm64 kernel and libraries from Debian (once)");
    let _ = fs::remove_dir_all(&dir);
    for name in ["state/lists/partial", "cache/archives/partial", "packages", "root"] {
        context::create_dir(&dir.join(name))?;
    }
    context::write(&dir.join("status"), "")?;
    apt(&dir, "apt-get", &["update"])?;
    let kernel = newest_kernel(&apt(&dir, "apt-cache", &["depends", KERNEL])?)?;
    let mut download = vec!["download", &kernel];
    download.extend(PACKAGES);
    apt(&dir, "apt-get", &download)?;
    let packages = dir.join("packages");
    for entry in fs::read_dir(&packages).map_err(Error::file("read", &packages))? {
        let path = entry.map_err(Error::file("read", &packages))?.path();
        Run::new("dpkg-deb").arg("-x").arg(&path).arg(&root).output()?;
    }
    context::write(&complete, kernel)?;
    section.end("unpacked");
    Ok(root)
}

/// The kernel image below `root`.
///
/// # Errors
/// [`Error::Missing`] when the package did not bring one.
pub(super) fn kernel(root: &Path) -> Result<PathBuf> {
    let boot = root.join("boot");
    fs::read_dir(&boot)
        .map_err(Error::file("read", &boot))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")))
        .ok_or_else(|| Error::Missing(format!("no kernel in {}", boot.display())))
}

/// Runs one of apt's programs on the state in `dir`.
fn apt(dir: &Path, program: &str, words: &[&str]) -> Result<String> {
    let options = [
        ("Dir::State", dir.join("state")),
        ("Dir::State::status", dir.join("status")),
        ("Dir::Cache", dir.join("cache")),
    ];
    let mut run = Run::new(program).dir(dir.join("packages")).env("LC_ALL", "C");
    for (name, path) in options {
        run = run.arg("-o").arg(format!("{name}={}", path.display()));
    }
    // Without a sandbox user: apt's own may not be able to enter the clone.
    for option in [
        "APT::Architecture=arm64",
        "APT::Architectures::=arm64",
        "APT::Sandbox::User=",
        "Acquire::Languages=none",
        "Acquire::Retries=3",
    ] {
        run = run.args(["-o", option]);
    }
    run.args(words).output()
}

/// The kernel package that `apt-cache depends` names.
fn newest_kernel(depends: &str) -> Result<String> {
    depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .map(str::to_owned)
        .ok_or_else(|| Error::Missing(format!("Debian's package {KERNEL} names no kernel:\n{depends}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_what_the_metapackage_depends_on() {
        let answer = "linux-image-cloud-arm64\n  Depends: linux-image-6.1.0-50-cloud-arm64\n";
        assert_eq!(newest_kernel(answer).unwrap(), "linux-image-6.1.0-50-cloud-arm64");
        assert!(newest_kernel("linux-image-cloud-arm64\n").is_err());
    }
}
