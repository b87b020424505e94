//! Reads this phone's own identifiers from the files that hold them, through a reader the caller gives: a phone's root,
//! or a folder that looks like one. Every source is optional; what could not be read is named once.

mod about;
mod abx;
mod element;
mod properties;
mod sqlite;

use std::{collections::BTreeMap, io};

pub use about::{Installed, installed, switches};

use super::{data::Data, truth::Truth};
use element::elements;

/// Files of properties, the one that wins first.
const PROPERTY_FILES: &[&str] = &[
    "/default.prop",
    "/system/build.prop",
    "/vendor/build.prop",
    "/vendor/default.prop",
    "/odm/etc/build.prop",
    "/product/build.prop",
];
/// AOSP `init/persistent_properties.cpp`.
const PERSISTENT: &str = "/data/property/persistent_properties";
/// Play services' preferences: `adid_key`.
const GAID: &str = "/data/data/com.google.android.gms/shared_prefs/adid_settings.xml";
/// To Android 10, and from 11 on.
const WIFI: &[&str] =
    &["/data/misc/wifi/WifiConfigStore.xml", "/data/misc/apexdata/com.android.wifi/WifiConfigStore.xml"];
/// The address in use: with MAC randomisation not the factory's, but what apps send.
const WLAN: &str = "/sys/class/net/wlan0/address";
/// Android 5.1 and later: the SIM cards seen, table `siminfo`.
const TELEPHONY: &str = "/data/user_de/0/com.android.providers.telephony/databases/telephony.db";
/// See `data/identifiers.toml`; the first field of every line is a package.
const PACKAGES: &str = "/data/system/packages.list";

/// Why a source gave nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// It could not be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// It is not what it should be.
    #[error("{0}")]
    Format(&'static str),
}

/// What was found, and what was not.
#[derive(Debug, Clone, Default)]
pub struct Gathered {
    /// The phone's own values.
    pub truth: Truth,
    /// `FILE: why`, for each source that is there but gave nothing, and each that should be there.
    pub failures: Vec<String>,
}

/// Gathers what `read` (whole files by absolute path) and `property` (`getprop`; return none when it cannot be asked) give.
/// `users` are the Android users whose Android IDs count, 0 the first.
pub fn gather(
    data: &Data,
    users: &[u32],
    read: &dyn Fn(&str) -> io::Result<Vec<u8>>,
    property: &dyn Fn(&str) -> Option<String>,
) -> Gathered {
    let mut gathered = Gathered::default();
    gathered.properties(data, read, property);
    for user in users {
        let path = format!("/data/system/users/{user}/settings_ssaid.xml");
        gathered.source(&path, read, android_ids);
        gathered.table(&format!("/data/system_ce/{user}/accounts_ce.db"), "accounts", read, account);
    }
    gathered.table(TELEPHONY, "siminfo", read, sim);
    gathered.source(GAID, read, advertising_id);
    let missing = gathered.failures.len();
    let mut stores = 0;
    for path in WIFI {
        stores += usize::from(gathered.source(path, read, networks));
    }
    // One of the two places is always empty.
    if stores > 0 {
        gathered.failures.truncate(missing);
    }
    gathered.source(WLAN, read, |truth, bytes| {
        truth.add("mac", String::from_utf8_lossy(bytes).trim());
        Ok(())
    });
    gathered.source(PACKAGES, read, |truth, bytes| {
        for line in String::from_utf8_lossy(bytes).lines() {
            truth.add_package(line.split(' ').next().unwrap_or(""));
        }
        Ok(())
    });
    gathered
}

impl Gathered {
    /// Reads one file; true when it was of use.
    fn source(
        &mut self,
        path: &str,
        read: &dyn Fn(&str) -> io::Result<Vec<u8>>,
        take: impl FnOnce(&mut Truth, &[u8]) -> Result<(), SourceError>,
    ) -> bool {
        let result = read(path).map_err(SourceError::from).and_then(|bytes| take(&mut self.truth, &bytes));
        if let Err(error) = &result {
            self.failures.push(format!("{path}: {error}"));
        }
        result.is_ok()
    }

    /// Takes the rows of one table, those that stand only in its write-ahead log among them.
    fn table(
        &mut self,
        path: &str,
        name: &str,
        read: &dyn Fn(&str) -> io::Result<Vec<u8>>,
        take: impl Fn(&mut Truth, &sqlite::Row),
    ) {
        // An empty log, or none, is the rule.
        let log = read(&format!("{path}-wal")).ok();
        self.source(path, read, |truth, bytes| {
            let rows = sqlite::rows(bytes, log.as_deref(), name)?;
            rows.iter().for_each(|row| take(truth, row));
            Ok(())
        });
    }

    fn properties(
        &mut self,
        data: &Data,
        read: &dyn Fn(&str) -> io::Result<Vec<u8>>,
        property: &dyn Fn(&str) -> Option<String>,
    ) {
        let mut files = BTreeMap::new();
        let mut reached = false;
        for path in PROPERTY_FILES {
            if let Ok(bytes) = read(path) {
                reached = true;
                properties::build_prop(&bytes, &mut files);
            }
        }
        if let Ok(bytes) = read(PERSISTENT) {
            reached = true;
            properties::persistent(&bytes, &mut files);
        }
        for identifier in &data.identifiers {
            let Some(key) = identifier.truth.first() else { continue };
            for name in identifier.read.iter().filter_map(|source| source.strip_prefix("prop:")) {
                let value = property(name).inspect(|_| reached = true).or_else(|| files.get(name).cloned());
                // Two IMEIs may stand in one property.
                for value in value.iter().flat_map(|value| value.split(',')) {
                    self.truth.add(key, value);
                }
            }
        }
        if !reached {
            self.failures.push("system properties: none could be read".into());
        }
    }
}

/// The number of a Mi account. Names of other accounts are addresses that their owner types into many a form himself.
fn account(truth: &mut Truth, row: &sqlite::Row) {
    if row.get("type").is_some_and(|kind| kind == "com.xiaomi") {
        truth.add("mi_account", row.get("name").map_or("", String::as_str));
    }
}

fn sim(truth: &mut Truth, row: &sqlite::Row) {
    for (column, key) in [("icc_id", "iccid"), ("imsi", "imsi"), ("number", "phone")] {
        if let Some(value) = row.get(column) {
            truth.add(key, value);
        }
    }
}

fn android_ids(truth: &mut Truth, bytes: &[u8]) -> Result<(), SourceError> {
    for element in elements(bytes)? {
        // The row `userkey` is the key the others are made with.
        if element.name == "setting" && element.get("name") != Some("userkey") {
            let value = element.get("value").unwrap_or("");
            if (8..=16).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                truth.add("android_id", value);
            }
        }
    }
    Ok(())
}

fn advertising_id(truth: &mut Truth, bytes: &[u8]) -> Result<(), SourceError> {
    for element in elements(bytes)? {
        if element.get("name") == Some("adid_key") {
            truth.add("gaid", &element.text);
        }
    }
    Ok(())
}

fn networks(truth: &mut Truth, bytes: &[u8]) -> Result<(), SourceError> {
    for element in elements(bytes)? {
        match element.get("name") {
            Some("SSID") => {
                if let Some(name) = network_name(element.text.trim()) {
                    truth.add("ssid", &name);
                }
            }
            Some("BSSID") if super::shape::is_mac(element.text.trim()) => {
                truth.add("bssid", element.text.trim());
            }
            _ => {}
        }
    }
    Ok(())
}

/// A name in quotes is text; without them it is the name's bytes in hexadecimal.
fn network_name(text: &str) -> Option<String> {
    if let Some(name) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return Some(name.to_owned());
    }
    let digits = text.as_bytes();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2));
    let bytes: Option<Vec<u8>> = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
    String::from_utf8(bytes?).ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn phone(files: &[(&str, &str)]) -> Gathered {
        let files: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
        let read =
            |path: &str| files.get(path).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        gather(&Data::built_in().unwrap(), &[0, 10], &read, &|name| {
            (name == "gsm.imei").then(|| "490154203237518,356938035643809".into())
        })
    }

    #[test]
    fn a_whole_phone() {
        let ssaid = "<settings version=\"-1\"><setting id=\"0\" name=\"userkey\" value=\"AABB\" package=\"android\"/>\
            <setting id=\"1\" name=\"10093\" value=\"9f3c2b7a1d4e5f60\" package=\"com.a\"/></settings>";
        let wifi = "<WifiConfigStoreData><Network><WifiConfiguration><string name=\"ConfigKey\">x</string>\
            <string name=\"SSID\">&quot;Lisboa-Home-5G&quot;</string><null name=\"BSSID\"/>\
            <string name=\"SSID\">436166c3a9</string></WifiConfiguration></Network></WifiConfigStoreData>";
        let found = phone(&[
            ("/data/system_ce/0/accounts_ce.db", "no database"),
            ("/system/build.prop", "ro.serialno=f1a2b3c4\n"),
            ("/data/system/users/0/settings_ssaid.xml", ssaid),
            ("/data/misc/wifi/WifiConfigStore.xml", wifi),
            (GAID, "<map><string name=\"adid_key\">3b6d7f2a-91c4-4e0b-8a57-6c1d2e3f4a5b</string></map>"),
            (WLAN, "34:ce:00:12:34:56\n"),
            (
                PACKAGES,
                "com.whatsapp 10123 0 /data/user/0/com.whatsapp default:targetSdkVersion=28 none\nandroid.x 1000 0 /d s 1\n",
            ),
        ]);
        let truth = &found.truth;
        assert_eq!(truth.values("imei1"), ["490154203237518", "356938035643809"]);
        assert_eq!(truth.values("serial"), ["f1a2b3c4"]);
        assert_eq!(truth.values("android_id"), ["9f3c2b7a1d4e5f60"]);
        assert_eq!(truth.values("ssid"), ["Lisboa-Home-5G", "Café"]);
        assert_eq!(truth.values("gaid"), ["3b6d7f2a-91c4-4e0b-8a57-6c1d2e3f4a5b"]);
        assert_eq!(truth.values("mac"), ["34:ce:00:12:34:56"]);
        assert_eq!(truth.packages, ["com.whatsapp", "android.x"]);
        let failed = |path: &str| found.failures.iter().filter(|line| line.starts_with(path)).count();
        assert_eq!(found.failures.len(), 4, "{:?}", found.failures);
        for path in [
            "/data/system/users/10/settings_ssaid.xml",
            "/data/system_ce/0/accounts_ce.db: is no SQLite",
            "/data/system_ce/10/accounts_ce.db",
            TELEPHONY,
        ] {
            assert_eq!(failed(path), 1, "{path}: {:?}", found.failures);
        }
    }

    #[test]
    fn accounts_and_sim_cards_come_from_their_databases() {
        let read = |path: &str| -> io::Result<Vec<u8>> {
            match path {
                "/data/system_ce/0/accounts_ce.db" => {
                    Ok(include_bytes!("../../../tests/phone/accounts_ce.db").to_vec())
                }
                TELEPHONY => Ok(include_bytes!("../../../tests/phone/telephony.db").to_vec()),
                _ if path.ends_with("telephony.db-wal") => {
                    Ok(include_bytes!("../../../tests/phone/telephony.db-wal").to_vec())
                }
                _ => Err(io::Error::from(io::ErrorKind::NotFound)),
            }
        };
        let found = gather(&Data::built_in().unwrap(), &[0], &read, &|_| None);
        let truth = &found.truth;
        assert_eq!(truth.values("mi_account"), ["6012345678"]);
        assert_eq!(truth.values("iccid"), ["8935101234567890124"]);
        assert_eq!(truth.values("imsi"), ["268011234567890"]);
        assert_eq!(truth.values("phone"), ["+351912345678"]);
        assert!(!found.failures.iter().any(|line| line.contains(".db")), "{:?}", found.failures);
    }

    #[test]
    fn a_bare_phone_names_each_missing_source_once() {
        let found = phone(&[("/data/system/users/0/settings_ssaid.xml", "no xml <")]);
        assert_eq!(found.truth.values("imei1").len(), 2);
        let mut names: Vec<_> = found.failures.iter().map(|line| line.split(": ").next().unwrap()).collect();
        assert_eq!(names.len(), 10, "{names:?}");
        names.dedup();
        assert_eq!(names.len(), 10);
    }
}
