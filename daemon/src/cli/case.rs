//! What `telltale export --case` puts beside the records: which phone, which Telltale, which settings, which apps.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::doctor;
use crate::{
    alert::evidence::{case::Case, chain::sha256, derive::derive},
    config, kernel,
    leak::phone,
    place::ip,
    store,
};

/// What is to be known of the owner's switches: there is no source to look the vendor's names up in.
const SWITCHES: &str = "Settings of the phone's first user whose names speak of reports, diagnostics, privacy, consent or advertising, with \
    the values they had when this case was made. What each of them does is not known here beyond the vendor's own name for it. \
    None here means that none was set, or that the files could not be read.";

/// Everything known of this phone and this Telltale, in named parts. What cannot be read says why in its place.
pub(super) fn parts(note: &str, evidence: &Path, packages: &BTreeSet<String>) -> Map<String, Value> {
    let read = |path: &str| fs::read(path);
    let said = |result: io::Result<String>| result.unwrap_or_else(|error| format!("not known: {error}"));
    let text = |path: &Path| said(fs::read_to_string(path).map(|text| text.trim_end().to_owned()));
    let hash = |path: &Path| said(hash_file(path));
    let folder = evidence.parent().unwrap_or(evidence);
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let mut parts = Map::new();
    let mut put = |name: &str, part: Value| parts.insert(name.to_owned(), part);
    put("note", note.into());
    put("made", now.into());
    put(
        "telltale",
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "binary_sha256": said(std::env::current_exe().and_then(|file| hash_file(&file))),
            "ebpf_sha256": kernel::object().map_or_else(|| "none in this binary".to_owned(), sha256),
            "addresses_sha256": ip::installed_file().map_or_else(|| "none installed".to_owned(), |file| hash(&file)),
        }),
    );
    put(
        "phone",
        json!({
            "fingerprint": property("ro.build.fingerprint"),
            "model": property("ro.product.model"),
            "security_patch": property("ro.build.version.security_patch"),
            "kernel": text(Path::new("/proc/version")),
            "boot_id": text(Path::new("/proc/sys/kernel/random/boot_id")),
        }),
    );
    put("config", text(Path::new(config::PHONE_FILE)).into());
    put("mutes", text(&folder.join(store::MUTES_FILE)).into());
    let doctor =
        serde_json::from_str(&doctor::json(&kernel::doctor::examine(store::own_tls(folder).0, None)));
    put("doctor", doctor.unwrap_or_else(|error| error.to_string().into()));
    put("coverage", store::coverage(evidence).map_or_else(|| "none was kept".into(), Value::Object));
    put("switches", json!({"set": phone::switches(&read), "note": SWITCHES}));
    put("apps", apps(packages, &read));
    parts
}

/// Path, version, signers and the APK's SHA-256 of each package.
fn apps(packages: &BTreeSet<String>, read: &dyn Fn(&str) -> io::Result<Vec<u8>>) -> Value {
    let installed = match phone::installed(read) {
        Ok(installed) => installed,
        Err(error) => return format!("not known: {error}").into(),
    };
    let apps = installed.iter().filter(|(name, _)| packages.contains(*name)).map(|(name, app)| {
        let apk = apk(Path::new(&app.path));
        let hash = apk.and_then(|file| hash_file(&file)).unwrap_or_else(|error| format!("not known: {error}"));
        let about = json!({"path": app.path, "version": app.version, "signers_sha256": app.signers, "apk_sha256": hash});
        (name.clone(), about)
    });
    Value::Object(apps.collect())
}

/// The APK of a folder: `base.apk` of an installed app, else the only one there.
fn apk(folder: &Path) -> io::Result<PathBuf> {
    let base = folder.join("base.apk");
    if !folder.is_dir() || base.exists() {
        return Ok(if folder.is_dir() { base } else { folder.to_owned() });
    }
    let files = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut apks = files.filter(|file| file.extension().is_some_and(|extension| extension == "apk"));
    apks.next().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

fn hash_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hasher.update(piece.get(..count).unwrap_or_default()),
        }
    }
}

fn property(name: &str) -> String {
    let output = Command::new("/system/bin/getprop").arg(name).output();
    output.map_or_else(
        |_| "no Android".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// What checking a case gives: the lines to print, and how much is wrong.
pub(super) fn check(case: &Case) -> (String, usize) {
    let part = |name: &str| case.parts.get(name);
    let made = part("made").and_then(Value::as_str).unwrap_or_default();
    let telltale = part("telltale").and_then(|part| part.get("version")).and_then(Value::as_str);
    let telltale = telltale.unwrap_or_default();
    let mut text = format!("a case of {} records, made {made} by Telltale {telltale}\n", case.records.len());
    if let Some(note) = part("note").and_then(Value::as_str).filter(|note| !note.is_empty()) {
        text.push_str(&format!("note: {note}\n"));
    }
    if telltale != env!("CARGO_PKG_VERSION") {
        text.push_str("this is another version: what it derives may differ for that reason\n");
    }
    let derived = derive(&case.records);
    for problem in &case.problems {
        text.push_str(&format!("{problem}\n"));
    }
    for (number, what) in &derived.problems {
        text.push_str(&format!("record {number}: {what}\n"));
    }
    text.push_str(&format!(
        "{} findings derived again from the kept bytes; {} stand where they are said to, by a witness that needs more than the \
         message; {} stand in the bytes beside them; of {} only a hash was kept\n",
        derived.again, derived.in_place, derived.around, derived.hash_only
    ));
    (crate::report::input::clean_lines(&text), case.problems.len().saturating_add(derived.problems.len()))
}
