//! packages.list and process names → the app to name.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::{
    App, NO_UID,
    uid::{self, Kind, Uids},
};

const BUILT_IN: &str = include_str!("../../data/packages.toml");
/// A phone has some hundreds of packages; more than this is no phone's list.
const MAX_LINES: usize = 65_536;
/// Linux allows file names of 255 bytes, and Android package names name folders.
const MAX_NAME: usize = 255;
/// Line numbers named of malformed lines; the rest is counted.
const MAX_NAMED: usize = 8;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    package: Vec<FileRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRow {
    name: String,
    label: Option<String>,
    vendor: Option<String>,
    role: Option<String>,
    #[serde(rename = "note")]
    _note: Option<String>,
    #[serde(rename = "uid")]
    _uid: Option<String>,
    #[serde(rename = "source")]
    _source: Option<String>,
}

#[derive(Debug, Clone)]
struct Known {
    label: Option<String>,
    vendor: Option<String>,
    role: Option<String>,
}

/// Which app a uid and process belong to. Knows nothing at first: see [`AppTable::reload`].
#[derive(Debug)]
pub struct AppTable {
    uids: Uids,
    known: HashMap<String, Known>,
    /// appId → packages, sorted.
    packages: BTreeMap<u32, Vec<String>>,
    versions: HashMap<String, String>,
}

impl Default for AppTable {
    fn default() -> Self {
        AppTable::new()
    }
}

impl AppTable {
    /// A table that knows the packages of `data/packages.toml`, and none of this phone's yet.
    pub fn new() -> AppTable {
        let mut table = AppTable {
            uids: Uids::built_in(),
            known: HashMap::new(),
            packages: BTreeMap::new(),
            versions: HashMap::new(),
        };
        // A test reads the same file and fails when it is wrong.
        let read = table.add_known(BUILT_IN);
        debug_assert!(read.is_ok(), "packages.toml: {read:?}");
        table
    }

    /// Adds labels and roles in the format of `data/packages.toml`; a row replaces the one of the same name.
    ///
    /// # Errors
    /// What is wrong with the file, naming the line; nothing was added then.
    pub fn add_known(&mut self, text: &str) -> Result<usize, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let count = file.package.len();
        for row in file.package {
            self.known.insert(row.name, Known { label: row.label, vendor: row.vendor, role: row.role });
        }
        Ok(count)
    }

    /// Takes the content of `/data/system/packages.list`, of any Android version, in place of what was there. Returns a
    /// sentence when lines could not be used, naming them.
    pub fn reload(&mut self, list: &str) -> Option<String> {
        self.packages.clear();
        self.versions.clear();
        let mut bad = Vec::new();
        for (index, line) in list.lines().enumerate().take(MAX_LINES) {
            if line.trim().is_empty() {
                continue;
            }
            match parse(line) {
                Some((name, uid, version)) => {
                    let names = self.packages.entry(uid::app_id(uid)).or_default();
                    if !names.iter().any(|known| known == name) {
                        names.push(name.to_owned());
                    }
                    if let Some(version) = version {
                        self.versions.insert(name.to_owned(), version.to_owned());
                    }
                }
                None => bad.push(index.saturating_add(1)),
            }
        }
        for names in self.packages.values_mut() {
            names.sort();
        }
        complaint(&bad)
    }

    /// Forgets this phone's packages: the list cannot be read. Apps are then called by their uid.
    pub fn clear(&mut self) {
        self.packages.clear();
        self.versions.clear();
    }

    /// How many packages of this phone are known.
    pub fn len(&self) -> usize {
        self.packages.values().map(Vec::len).sum()
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty()
    }

    /// Every package of this phone, for device truth.
    pub fn packages(&self) -> impl Iterator<Item = &str> {
        self.packages.values().flatten().map(String::as_str)
    }

    /// Whether this phone has a package of that name.
    pub fn is_installed(&self, name: &str) -> bool {
        self.packages.values().any(|names| names.binary_search_by(|known| known.as_str().cmp(name)).is_ok())
    }

    /// The app behind a process. `process` is the first word of `/proc/PID/cmdline`, empty when not known; `parent` is the same
    /// of its parent, which tells whose an isolated process is.
    pub fn app(&self, uid: u32, pid: u32, process: &str, parent: Option<&str>) -> App {
        let process = process.get(..process.len().min(MAX_NAME)).unwrap_or_default().trim_matches('\0');
        let none: &[String] = &[];
        let of = |id: u32| self.packages.get(&id).map_or(none, Vec::as_slice);
        let (packages, found) = match self.uids.kind(uid) {
            Kind::App | Kind::Fixed => {
                let packages = of(uid::app_id(uid));
                (packages, choose(packages, process))
            }
            Kind::SdkSandbox(app) => {
                let packages = of(app);
                (packages, choose(packages, process))
            }
            Kind::Isolated => {
                let found = self.installed(process).or_else(|| self.installed(parent?));
                (none, found)
            }
        };
        let fixed = self.uids.name(uid);
        let name = match found {
            Some(name) => name.to_owned(),
            None if (packages.len() > 1 || fixed.is_some()) && !process.is_empty() => process.to_owned(),
            None => fixed.map_or_else(|| format!("uid {uid}"), |(name, _)| name.to_owned()),
        };
        let packages = match (packages.is_empty(), found) {
            (true, Some(found)) => vec![found.to_owned()],
            _ => packages.to_vec(),
        };
        App {
            version: self.versions.get(&name).cloned(),
            packages,
            pid,
            process: process.to_owned(),
            ..self.named(&name, uid)
        }
    }

    /// An app of which only the package is known: `decode --app`.
    pub fn named(&self, name: &str, uid: u32) -> App {
        let known = self.known.get(name);
        let fixed = self.uids.name(uid).filter(|(fixed, _)| *fixed == name).map(|(_, label)| label);
        App {
            label: known.and_then(|known| known.label.as_deref()).or(fixed).unwrap_or(name).to_owned(),
            role: known.and_then(|known| known.role.clone()),
            vendor: known.and_then(|known| known.vendor.clone()),
            packages: if name.contains('.') { vec![name.to_owned()] } else { Vec::new() },
            user: if uid == NO_UID { 0 } else { uid::user(uid) },
            name: name.to_owned(),
            uid,
            ..App::default()
        }
    }

    /// The installed package a process name begins with: `pkg:sandboxed_process0:org.chromium…`.
    fn installed<'s>(&'s self, process: &str) -> Option<&'s str> {
        let base = process.split(':').next()?;
        self.packages.values().flatten().find(|name| *name == base).map(String::as_str)
    }
}

/// Which of the packages with one uid a process is: its own name, before a colon (`pkg:remote`), or the longest package its
/// name begins with (`com.miui.securitycenter.remote`). None when the name tells nothing.
fn choose<'p>(packages: &'p [String], process: &str) -> Option<&'p str> {
    if let [only] = packages {
        return Some(only);
    }
    let base = process.split(':').next().unwrap_or_default();
    let begins = |name: &&String| {
        base.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    packages.iter().filter(begins).max_by_key(|name| name.len()).map(String::as_str)
}

/// Package, uid and version code of a line. Six fields since Android 4.4, eight since 10, ten since 12; what comes after those
/// that are known is passed over.
fn parse(line: &str) -> Option<(&str, u32, Option<&str>)> {
    let mut fields = line.split_ascii_whitespace();
    let name = fields.next().filter(|name| name.len() <= MAX_NAME && !name.chars().any(char::is_control))?;
    let uid = fields.next()?.parse().ok()?;
    // debuggable, data folder, seinfo, gids
    if !matches!(fields.next()?, "0" | "1") || !fields.next()?.starts_with('/') {
        return None;
    }
    fields.next()?;
    fields.next()?;
    // profileable, version code
    let version = fields.nth(1).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
    Some((name, uid, version))
}

fn complaint(bad: &[usize]) -> Option<String> {
    if bad.is_empty() {
        return None;
    }
    let named: Vec<String> = bad.iter().take(MAX_NAMED).map(usize::to_string).collect();
    let more = bad.len().saturating_sub(MAX_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let lines = if bad.len() == 1 { "line" } else { "lines" };
    Some(format!("packages.list: {lines} {}{more} not understood and passed over", named.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as the Android versions write them (system/core libpackagelistparser; perfetto's tests of the same file).
    const LIST: &str = "\
com.mi.globalbrowser.mini 10123 0 /data/user/0/com.mi.globalbrowser.mini default:targetSdkVersion=28 3003
com.android.settings 1000 0 /data/user_de/0/com.android.settings platform:privapp none
com.android.systemui 1000 0 /data/user_de/0/com.android.systemui platform:privapp none 0 28
com.miui.securitycenter 1000 0 /data/user/0/com.miui.securitycenter platform:privapp 1065,3002 0 40001 1 @system
com.android.chrome 10200 0 /data/user/0/com.android.chrome default:targetSdkVersion=33 3003 0 573516133 1 com.android.vending extra fields
com.example.one 10300 1 /data/user/0/com.example.one default none
com.example.two 10300 0 /data/user/0/com.example.two default none
";

    fn table() -> AppTable {
        let mut table = AppTable::new();
        assert_eq!(table.reload(LIST), None);
        table
    }

    #[test]
    fn every_built_in_package_has_a_source_and_stands_once() {
        let mut table = AppTable::new();
        let before = table.known.len();
        assert_eq!(table.add_known(BUILT_IN), Ok(before));
        assert!(before > 80);
        assert_eq!(BUILT_IN.lines().filter(|line| line.starts_with("source = \"")).count(), before);
    }

    #[test]
    fn the_app_is_found_by_uid_and_process() {
        let table = table();
        assert_eq!(table.len(), 7);
        for (uid, process, parent, name) in [
            (10123, "", None, "com.mi.globalbrowser.mini"),
            (10123, "com.mi.globalbrowser.mini:push", None, "com.mi.globalbrowser.mini"),
            (99_910_123, "x", None, "com.mi.globalbrowser.mini"),
            (20123, "com.mi.globalbrowser.mini_sdk", None, "com.mi.globalbrowser.mini"),
            (1000, "com.android.systemui", None, "com.android.systemui"),
            (1000, "com.android.settings:remote", None, "com.android.settings"),
            (1000, "com.miui.securitycenter.remote", None, "com.miui.securitycenter"),
            (1000, "com.android.settingsx", None, "com.android.settingsx"),
            (1000, "system_server", None, "system_server"),
            (1000, "", None, "system"),
            (10300, "com.example.two", None, "com.example.two"),
            (10300, "", None, "uid 10300"),
            (10300, "helper", None, "helper"),
            (
                99003,
                "com.android.chrome:sandboxed_process0:org.chromium.content.app.SandboxedProcessService0:0",
                None,
                "com.android.chrome",
            ),
            (99003, "app_process", Some("com.android.chrome"), "com.android.chrome"),
            (99003, "com.evil.app:sandboxed_process0", Some("zygote64"), "uid 99003"),
            (10999, "com.unknown", None, "uid 10999"),
            (0, "", None, "root"),
            (1029, "", None, "clat"),
            (u32::MAX, "", None, "uid 4294967295"),
        ] {
            assert_eq!(table.app(uid, 7, process, parent).name, name, "{uid} {process}");
        }
    }

    #[test]
    fn labels_roles_versions_and_users_come_along() {
        let table = table();
        let app = table.app(1_010_123, 42, "com.mi.globalbrowser.mini", None);
        assert_eq!((app.label.as_str(), app.role.as_deref()), ("Mint Browser", Some("browser")));
        assert_eq!((app.vendor.as_deref(), app.user, app.pid), (Some("Xiaomi"), 10, 42));
        assert_eq!(table.app(10200, 1, "", None).version.as_deref(), Some("573516133"));
        let shared = table.app(1000, 1, "com.android.settings", None);
        assert_eq!(
            shared.packages,
            ["com.android.settings", "com.android.systemui", "com.miui.securitycenter"]
        );
        assert_eq!(shared.role.as_deref(), Some("settings"));
        assert_eq!(table.app(10300, 1, "", None).label, "uid 10300");
    }

    #[test]
    fn malformed_lines_are_named_once_and_the_rest_is_used() {
        let mut table = AppTable::new();
        let list = format!(
            "{LIST}garbage\ncom.x ten 0 /d s g\n\ncom.y 10400 0 /d default\ncom.z 10500 0 /d default none\n"
        );
        assert_eq!(
            table.reload(&list).as_deref(),
            Some("packages.list: lines 8, 9, 11 not understood and passed over")
        );
        assert_eq!(table.app(10500, 0, "", None).name, "com.z");
        assert_eq!(table.len(), 8);
        table.clear();
        assert_eq!(table.app(10123, 0, "com.mi.globalbrowser.mini", None).name, "uid 10123");
    }

    #[test]
    fn any_text_is_survived() {
        let mut table = AppTable::new();
        for end in 0..LIST.len() {
            let _ = table.reload(LIST.get(..end).unwrap());
        }
        let _ = table.reload(&"\u{0}\n \n".repeat(1000));
        assert!(table.is_empty());
    }
}
