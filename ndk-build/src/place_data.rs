//! `place-data`: fetches the address data by version and hash, and packs it into one file for the zip.
//!
//! Alerts then name the network and the country of a server. Where the data cannot be fetched (no npm, no network) everything else
//! is built all the same, and this says that country and network will be missing.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::context::{Context, create_dir, read_text, write};
use crate::error::{Error, Result};
use crate::place_pack::{Rows, pack};
use crate::run::{Run, find_program};
use crate::setup::{self, Need};
use crate::{no_arguments, say};

/// The data file that pins the packages, from the clone's root.
const PINS: &str = "daemon/data/ip_packages.toml";

/// One pinned package.
#[derive(Debug)]
pub struct Package(HashMap<String, String>);

impl Package {
    /// The text of a field; empty when the row has none.
    pub fn field(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    /// The package file as npm names it: `@scope/name` → `scope-name-VERSION.tgz`.
    pub fn file_name(&self) -> String {
        let name = self.field("name").trim_start_matches('@').replace('/', "-");
        format!("{name}-{}.tgz", self.field("version"))
    }
}

/// `place-data`.
pub fn command(context: &Context, rest: &[String]) -> Result<()> {
    no_arguments("place-data", rest)?;
    match make(context)? {
        Some(file) => say::plain(&file.display().to_string()),
        None => say::note("made nothing"),
    }
    Ok(())
}

/// Makes the packed file, unless it is there and made from the same pins. `None`: the data could not be fetched, and the user was told.
///
/// # Errors
/// A package whose hash is another than pinned, or rows that cannot be packed.
pub fn make(context: &Context) -> Result<Option<PathBuf>> {
    let dir = context.target.join("place");
    let file = dir.join("telltale-place.bin");
    let pins = read_text(&context.root.join(PINS))?;
    let made_from = dir.join("made-from.toml");
    if file.is_file() && fs::read_to_string(&made_from).is_ok_and(|old| old == pins) {
        return Ok(Some(file));
    }
    if let Err(reason) = setup::ensure(context, &[Need::Data]) {
        say::note(&reason.to_string());
    }
    let section = say::Section::start("address data");
    let packages = packages(&pins)?;
    create_dir(&dir)?;
    for package in &packages {
        if let Err(why) = fetch(&dir, package) {
            // A wrong hash is no missing network: somebody should look.
            if matches!(why, Error::Check(_)) {
                return Err(why);
            }
            say::note(&format!("{why}\ncountry and network of servers will be missing from alerts"));
            return Ok(None);
        }
    }
    let bytes = pack_packages(&packages, |package, csv| {
        Run::new("tar").arg("-xzOf").arg(dir.join(package.file_name())).arg(format!("package/{csv}")).output()
    })?;
    write(&file, &bytes)?;
    write(&made_from, &pins)?;
    section.end(&format!("{} bytes", bytes.len()));
    Ok(Some(file))
}

/// Packs the CSV files that `read` gives for each package.
///
/// # Errors
/// [`Error::Check`] with what is wrong in them, and whatever `read` says.
pub fn pack_packages(
    packages: &[Package],
    read: impl Fn(&Package, &str) -> Result<String>,
) -> Result<Vec<u8>> {
    let mut text = String::new();
    let mut attribution = Vec::new();
    let (mut country, mut network) = (Rows::default(), Rows::default());
    for package in packages {
        let rows = match package.field("gives") {
            "country" => &mut country,
            "network" => &mut network,
            other => return Err(Error::Check(format!("{PINS}: gives = \"{other}\" is not known"))),
        };
        for family in ["ipv4", "ipv6"] {
            let csv = format!("{}-{family}.csv", package.field("csv"));
            rows.add(&read(package, &csv)?).map_err(|why| Error::Check(format!("{csv}: {why}")))?;
        }
        for (key, field) in [("source", "said_by"), ("date", "date"), ("version", "version")] {
            text.push_str(&format!("{}_{key}={}\n", package.field("gives"), package.field(field)));
        }
        attribution.push(package.field("attribution"));
    }
    text.push_str(&format!("attribution={}\n", attribution.join(". ")));
    pack(&text, country, network).map_err(Error::Check)
}

/// Fetches one package unless it is there, and compares its hash.
fn fetch(dir: &Path, package: &Package) -> Result<()> {
    let file = dir.join(package.file_name());
    if !file.is_file() {
        if find_program("npm").is_none() {
            return Err(Error::Missing("npm is not installed: the address data cannot be fetched".into()));
        }
        let wanted = format!("{}@{}", package.field("name"), package.field("version"));
        say::note(&format!("fetching {wanted}"));
        Run::new("npm")
            .args(["pack", "--silent", "--pack-destination"])
            .arg(dir)
            .arg(&wanted)
            .dir(dir)
            .output()?;
    }
    let sum = Run::new("sha512sum").arg(&file).output()?;
    if sum.split_whitespace().next() == Some(package.field("sha512")) {
        return Ok(());
    }
    let _ = fs::remove_file(&file);
    Err(Error::Check(format!(
        "{} is not the file that {PINS} pins: its SHA-512 is another. It was removed; if the next try gives the same, do not use it.",
        package.file_name()
    )))
}

/// The rows of the data file.
///
/// # Errors
/// [`Error::Check`] when it is not the TOML its head describes.
pub fn packages(toml: &str) -> Result<Vec<Package>> {
    let wrong = |why: String| Error::Check(format!("{PINS}: {why}"));
    let mut table: toml::Table = toml.parse().map_err(|error| wrong(format!("{error}")))?;
    let rows: Option<Vec<HashMap<_, _>>> = table.remove("package").and_then(|rows| rows.try_into().ok());
    rows.map(|rows| rows.into_iter().map(Package).collect())
        .ok_or_else(|| wrong("no [[package]] of text fields".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned() -> Vec<Package> {
        packages(include_str!("../../daemon/data/ip_packages.toml")).unwrap()
    }

    #[test]
    fn every_package_is_pinned_and_attributed() {
        let packages = pinned();
        assert_eq!(packages.len(), 2);
        for package in packages {
            let hash = package.field("sha512");
            assert!(hash.len() == 128 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
            for key in ["gives", "name", "version", "csv", "said_by", "date", "attribution", "source"] {
                assert!(!package.field(key).is_empty(), "{key} of {}", package.field("name"));
            }
        }
    }

    #[test]
    fn the_sample_rows_give_the_committed_file() {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../daemon/tests/place");
        let bytes = pack_packages(&pinned(), |package, csv| {
            let name = csv.replace(package.field("csv"), package.field("gives"));
            read_text(&samples.join(format!("sample-{name}")))
        })
        .unwrap();
        let file = samples.join("sample.bin");
        // A changed format needs a new sample; the reader's tests then say whether it is read.
        if std::env::var_os("TELLTALE_WRITE_SAMPLE").is_some() {
            write(&file, &bytes).unwrap();
        }
        assert!(fs::read(&file).unwrap() == bytes, "sample.bin is not what these rows give");
    }

    #[test]
    fn a_package_with_another_hash_is_refused_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let package = pinned().remove(0);
        let file = dir.join(package.file_name());
        fs::write(&file, b"other bytes").unwrap();
        let error = fetch(dir, &package).unwrap_err();
        assert!(matches!(&error, Error::Check(text) if text.contains("SHA-512")), "{error}");
        assert!(!file.exists());
    }
}
