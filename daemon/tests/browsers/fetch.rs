//! Gets packages of PyPI and npm that hold a program with its own TLS, each checked against its hash, into `target/browsers`.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use sha2::{Digest as _, Sha256};

/// The one the compiled parts of the packages run in.
pub(crate) const PYTHON: &str = "/usr/bin/python3.11";

/// Where a package comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum From {
    /// A wheel: pip's name for the platform, and the version of Python.
    Pypi(&'static str, &'static str),
    /// The registry of Node.js.
    Npm,
}

/// One version of a package for one machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) from: From,
    pub(crate) sha256: &'static str,
}

impl Package {
    /// The folder with what is in it. None, having said why, when it cannot be fetched here.
    pub(crate) fn unpacked(&self) -> Option<PathBuf> {
        // One test fetches, another finds it fetched.
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let place = match self.from {
            From::Pypi(platform, python) => format!("{platform}-{python}"),
            From::Npm => "npm".to_owned(),
        };
        let folder = folder().join(place).join(format!("{}-{}", self.name.replace('/', "-"), self.version));
        let done = folder.join("fetched");
        if fs::read_to_string(&done).is_ok_and(|hash| hash == self.sha256) {
            return Some(folder);
        }
        if let Err(why) = self.fetch(&folder) {
            println!("skipped: {} {}: {why}", self.name, self.version);
            return None;
        }
        fs::write(done, self.sha256).unwrap();
        Some(folder)
    }

    fn fetch(&self, folder: &Path) -> Result<(), String> {
        let _ = fs::remove_dir_all(folder);
        let into = folder.join("archive");
        fs::create_dir_all(&into).unwrap();
        match self.from {
            From::Pypi(platform, python) => {
                let list = folder.join("wheel.txt");
                fs::write(&list, format!("{}=={} --hash=sha256:{}\n", self.name, self.version, self.sha256))
                    .unwrap();
                said(
                    Command::new(PYTHON)
                        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"])
                        .args(["--require-hashes", "--disable-pip-version-check"])
                        .args(["--python-version", python, "--platform", platform, "-r"])
                        .args([&list, Path::new("-d"), &into]),
                )?;
                unzip(&only(&into)?, folder)?;
            }
            From::Npm => {
                said(
                    Command::new("npm")
                        .args(["pack", "--silent", &format!("{}@{}", self.name, self.version)])
                        .arg("--pack-destination")
                        .arg(&into),
                )?;
                let archive = only(&into)?;
                let hash = Sha256::digest(fs::read(&archive).unwrap());
                let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
                if hash != self.sha256 {
                    return Err(format!("it has another hash: {hash}"));
                }
                said(Command::new("tar").arg("-xzf").args([&archive, Path::new("-C"), folder]))?;
            }
        }
        fs::remove_dir_all(into).unwrap();
        Ok(())
    }
}

/// Where everything lies.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("../browsers")
}

/// Unpacks a zip archive.
pub(crate) fn unzip(archive: &Path, folder: &Path) -> Result<(), String> {
    said(Command::new(PYTHON).args(["-m", "zipfile", "-e"]).args([archive, folder]))
}

/// Unpacks what brotli made, beside it, once.
pub(crate) fn unbrotli(packed: &Path) -> PathBuf {
    let whole = packed.with_extension("");
    if !whole.exists() {
        let new = packed.with_extension("new");
        let mut from = brotli_decompressor::Decompressor::new(File::open(packed).unwrap(), 1 << 16);
        io::copy(&mut from, &mut File::create(&new).unwrap()).unwrap();
        fs::rename(new, &whole).unwrap();
    }
    whole
}

fn only(folder: &Path) -> Result<PathBuf, String> {
    let first = fs::read_dir(folder).unwrap().next().ok_or("nothing was fetched")?;
    Ok(first.unwrap().path())
}

/// Runs a program that must succeed.
fn said(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr);
            Err(format!("{program}: {}", why.lines().last().unwrap_or("no reason given")))
        }
        Err(why) => Err(format!("{program}: {why}")),
    }
}
