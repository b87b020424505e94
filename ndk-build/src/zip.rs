//! `zip`: the module as it is flashed, the same bytes from the same source wherever and whenever it is made.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::context::{self, Context};
use crate::error::{Error, Result};
use crate::{android, no_arguments, place_data, say};

/// Size budget of the zip, bytes.
const MAX_SIZE: usize = 10 << 20;
/// Where the daemon lies in the module; a manager that mounts `system/` puts it on everybody's PATH.
const DAEMON: &str = "system/bin/telltale";
/// The address data, in the module's folder: the daemon looks for it three folders above itself.
const ADDRESSES: &str = "telltale-place.bin";
/// Where the managers look for a newer version of the module.
const UPDATE_VARIABLE: &str = "TELLTALE_UPDATE_URL";

/// What the zip holds: path in it → bytes. Sorted, so that its order never depends on the file system.
type Files = BTreeMap<String, Vec<u8>>;

/// `zip`.
///
/// # Errors
/// As [`build`]; [`Error::Usage`] for an argument.
pub fn command(ctx: &Context, rest: &[String]) -> Result<()> {
    no_arguments("zip", rest)?;
    let daemon = android::build(ctx)?;
    place_data::make(ctx)?;
    let update_url = std::env::var(UPDATE_VARIABLE).ok();
    let zip = build(ctx, &daemon, update_url.as_deref())?;
    say::plain(&zip.display().to_string());
    Ok(())
}

/// Packs the module around `daemon` into `target/telltale-VERSION.zip`, with its checksum beside it; with an
/// `update_url` (the directory releases are published in) also the `update.json` that managers ask for there.
///
/// # Errors
/// [`Error::File`] for what cannot be read or written, [`Error::Check`] when the zip is over its budget.
pub fn build(ctx: &Context, daemon: &Path, update_url: Option<&str>) -> Result<PathBuf> {
    let version = env!("CARGO_PKG_VERSION");
    let name = format!("telltale-{version}.zip");
    let bytes = module(ctx, daemon, update_url)?;
    if bytes.len() > MAX_SIZE {
        return Err(Error::Check(format!("{name} has {} bytes; the budget is {MAX_SIZE}", bytes.len())));
    }
    let path = ctx.target.join(&name);
    context::write(&path, &bytes)?;
    let sum = hex(&Sha256::digest(&bytes));
    context::write(&ctx.target.join(format!("{name}.sha256")), format!("{sum}  {name}\n"))?;
    if let Some(url) = update_url {
        let url = url.trim_end_matches('/');
        let json = format!(
            "{{\n  \"version\": \"v{version}\",\n  \"versionCode\": {},\n  \"zipUrl\": \"{url}/{name}\",\n  \
             \"changelog\": \"{url}/changelog.md\"\n}}\n",
            version_code(version)?
        );
        context::write(&ctx.target.join("update.json"), json)?;
    }
    say::note(&format!("{} KiB, sha256 {sum}", bytes.len().div_ceil(1024)));
    Ok(path)
}

/// The zip's bytes, written nowhere.
///
/// # Errors
/// [`Error::File`] for what cannot be read.
pub fn module(ctx: &Context, daemon: &Path, update_url: Option<&str>) -> Result<Vec<u8>> {
    pack(&module_files(ctx, daemon, env!("CARGO_PKG_VERSION"), update_url)?)
}

/// Everything that goes into the zip.
fn module_files(ctx: &Context, daemon: &Path, version: &str, update_url: Option<&str>) -> Result<Files> {
    let mut files = Files::new();
    let module = ctx.root.join("magisk-module");
    collect(&module, "", &mut files)?;
    let prop = files
        .get("module.prop")
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .ok_or_else(|| Error::Missing(format!("{} has no module.prop", module.display())))?;
    let prop = fill_in(prop, version, update_url)?;
    files.insert("module.prop".to_owned(), prop.into_bytes());
    for (name, path) in [
        (DAEMON, daemon.to_owned()),
        ("config.toml", ctx.root.join("daemon/data/config.toml")),
        ("LICENSE-APACHE", ctx.root.join("LICENSE-APACHE")),
        ("LICENSE-MIT", ctx.root.join("LICENSE-MIT")),
    ] {
        files.insert(name.to_owned(), fs::read(&path).map_err(Error::file("read", path))?);
    }
    // Made by `zip` itself where the data can be had; the module works without it and says less.
    let addresses = ctx.target.join("place").join(ADDRESSES);
    if addresses.is_file() {
        files.insert(ADDRESSES.to_owned(), fs::read(&addresses).map_err(Error::file("read", addresses))?);
    }
    Ok(files)
}

/// Adds the files below `dir` under their relative paths.
fn collect(dir: &Path, prefix: &str, files: &mut Files) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::file("read", dir))? {
        let entry = entry.map_err(Error::file("read", dir))?;
        let path = entry.path();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files)?;
        } else {
            files.insert(name, fs::read(&path).map_err(Error::file("read", path))?);
        }
    }
    Ok(())
}

/// `module.prop` with the version of this workspace, and where to look for a newer one.
fn fill_in(prop: &str, version: &str, update_url: Option<&str>) -> Result<String> {
    let mut filled = String::new();
    for line in prop.lines() {
        match line {
            "version=" => filled.push_str(&format!("version=v{version}")),
            "versionCode=" => filled.push_str(&format!("versionCode={}", version_code(version)?)),
            line => filled.push_str(line),
        }
        filled.push('\n');
    }
    if let Some(url) = update_url {
        filled.push_str(&format!("updateJson={}/update.json\n", url.trim_end_matches('/')));
    }
    Ok(filled)
}

/// The number managers compare: two digits each for minor and patch.
fn version_code(version: &str) -> Result<u32> {
    let parts: Option<Vec<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
    match parts.as_deref() {
        Some([major, minor @ 0..=99, patch @ 0..=99]) if *major < 10_000 => {
            Ok(major * 10_000 + minor * 100 + patch)
        }
        _ => Err(Error::Check(format!(
            "version {version} is not MAJOR.MINOR.PATCH with minor and patch below 100"
        ))),
    }
}

fn pack(files: &Files) -> Result<Vec<u8>> {
    let failed = |error: &dyn std::fmt::Display| Error::Check(format!("cannot pack the zip: {error}"));
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        let executable = name == DAEMON || name.ends_with(".sh") || name.ends_with("/update-binary");
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(9))
            // The first moment a zip can name: the time of packing must not be in it.
            .last_modified_time(DateTime::DEFAULT)
            .unix_permissions(if executable { 0o755 } else { 0o644 });
        zip.start_file(name.as_str(), options).map_err(|error| failed(&error))?;
        zip.write_all(bytes).map_err(|error| failed(&error))?;
    }
    Ok(zip.finish().map_err(|error| failed(&error))?.into_inner())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn packed(update_url: Option<&str>) -> zip::ZipArchive<Cursor<Vec<u8>>> {
        let ctx = Context::find().unwrap();
        let daemon = ctx.root.join("LICENSE-MIT");
        let files = module_files(&ctx, &daemon, "1.2.3", update_url).unwrap();
        zip::ZipArchive::new(Cursor::new(pack(&files).unwrap())).unwrap()
    }

    fn text(zip: &mut zip::ZipArchive<Cursor<Vec<u8>>>, name: &str) -> String {
        let mut text = String::new();
        zip.by_name(name).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn it_holds_what_the_managers_look_for_with_the_right_modes_and_no_time() {
        let mut zip = packed(None);
        for (name, mode) in [
            ("META-INF/com/google/android/update-binary", 0o755),
            ("META-INF/com/google/android/updater-script", 0o644),
            ("action.sh", 0o755),
            ("common.sh", 0o755),
            ("config.toml", 0o644),
            ("customize.sh", 0o755),
            ("module.prop", 0o644),
            ("service.sh", 0o755),
            ("system/bin/telltale", 0o755),
            ("uninstall.sh", 0o755),
        ] {
            let file = zip.by_name(name).unwrap_or_else(|_| panic!("{name} is missing"));
            assert_eq!(file.unix_mode().map(|found| found & 0o777), Some(mode), "{name}");
            assert_eq!(file.last_modified(), Some(DateTime::DEFAULT), "{name}");
        }
        let names: Vec<String> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
        assert!(names.is_sorted(), "{names:?}");
    }

    #[test]
    fn module_prop_begins_with_the_id_and_carries_the_version() {
        let prop = text(&mut packed(None), "module.prop");
        assert!(prop.starts_with("id=telltale\n"), "{prop}");
        assert!(prop.contains("\nversion=v1.2.3\nversionCode=10203\n"), "{prop}");
        assert!(!prop.contains("updateJson"), "{prop}");
        // A manager shows what stands behind the first `=`; an empty value shows as nothing.
        assert!(prop.lines().all(|line| line.split_once('=').is_some_and(|(_, value)| !value.is_empty())));
    }

    #[test]
    fn a_published_module_says_where_newer_ones_are() {
        let prop = text(&mut packed(Some("https://example.org/telltale/")), "module.prop");
        assert!(prop.ends_with("\nupdateJson=https://example.org/telltale/update.json\n"), "{prop}");
    }

    #[test]
    fn versions_grow_in_the_number_managers_compare() {
        assert_eq!(version_code("0.1.0").unwrap(), 100);
        assert!(version_code("0.2.0").unwrap() > version_code("0.1.99").unwrap());
        assert!(version_code("1.100.0").is_err());
        assert!(version_code("1.0").is_err());
    }

    #[test]
    fn packing_twice_gives_the_same_bytes() {
        let ctx = Context::find().unwrap();
        let files = module_files(&ctx, &ctx.root.join("LICENSE-MIT"), "1.2.3", None).unwrap();
        assert_eq!(pack(&files).unwrap(), pack(&files).unwrap());
    }
}
