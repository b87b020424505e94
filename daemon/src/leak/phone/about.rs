//! What a case says of the phone besides its identifiers: where each app's APK lies and who signed it, and the owner's own switches
//! about reports and advertising.

use std::{collections::BTreeMap, io};

use sha2::{Digest as _, Sha256};

use super::element::elements;

/// AOSP `services/core/java/com/android/server/pm/Settings.java`.
const PACKAGES: &str = "/data/system/packages.xml";
/// AOSP `SettingsProvider`, of the first user.
const SETTINGS: [&str; 3] = [
    "/data/system/users/0/settings_secure.xml",
    "/data/system/users/0/settings_global.xml",
    "/data/system/users/0/settings_system.xml",
];
/// Parts of names of switches about what is reported: a setting's name says what its maker wants it to say.
const ABOUT_REPORTS: [&str; 10] = [
    "upload_log",
    "upload_debug",
    "experience",
    "diagnostic",
    "usage_report",
    "send_action_app_error",
    "personalized",
    "ad_tracking",
    "consent",
    "privacy",
];

/// Where an app lies and who signed it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Installed {
    /// Its folder, or its APK.
    pub path: String,
    /// The number its maker counts versions with.
    pub version: String,
    /// SHA-256 of each certificate it is signed with.
    pub signers: Vec<String>,
}

/// The installed apps by package.
///
/// # Errors
/// Why the list of packages cannot be read.
pub fn installed(read: &dyn Fn(&str) -> io::Result<Vec<u8>>) -> io::Result<BTreeMap<String, Installed>> {
    let bytes = read(PACKAGES)?;
    let elements = elements(&bytes).map_err(|error| io::Error::other(error.to_string()))?;
    let mut apps: BTreeMap<String, Installed> = BTreeMap::new();
    // A certificate stands whole where it is first used; later only its number.
    let mut certificates: BTreeMap<String, String> = BTreeMap::new();
    let mut current: Option<String> = None;
    for element in elements {
        let get = |name: &str| element.get(name).unwrap_or_default().to_owned();
        match element.name.as_str() {
            "package" => {
                let version =
                    if element.get("version").is_some() { get("version") } else { get("versionCode") };
                apps.insert(get("name"), Installed { path: get("codePath"), version, signers: Vec::new() });
                current = Some(get("name"));
            }
            // What else has signatures in this file: shared uids, keys.
            "updated-package" | "shared-user" | "keyset-settings" => current = None,
            "cert" => {
                if let Some(key) = element.get("key").and_then(unhex) {
                    let hash = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
                    certificates.insert(get("index"), hash);
                }
                let app = current.as_ref().and_then(|name| apps.get_mut(name));
                if let (Some(app), Some(hash)) = (app, certificates.get(&get("index"))) {
                    app.signers.push(hash.clone());
                }
            }
            _ => {}
        }
    }
    Ok(apps)
}

/// The switches about reports and advertising that are set, as `secure/name` and value.
pub fn switches(read: &dyn Fn(&str) -> io::Result<Vec<u8>>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for file in SETTINGS {
        let Some(elements) = read(file).ok().and_then(|bytes| elements(&bytes).ok()) else { continue };
        let table = file.rsplit("settings_").next().unwrap_or_default().trim_end_matches(".xml");
        for element in elements {
            let (name, value) =
                (element.get("name").unwrap_or_default(), element.get("value").unwrap_or_default());
            // Longer values are lists and texts, no switches.
            if value.len() <= 8 && ABOUT_REPORTS.iter().any(|part| name.contains(part)) {
                found.insert(format!("{table}/{name}"), value.to_owned());
            }
        }
    }
    found
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_have_a_path_and_the_certificates_that_were_written_once() {
        let xml = r#"<packages><package name="com.a" codePath="/data/app/com.a-1" version="42"><sigs count="1">
            <cert index="0" key="616263"/></sigs></package><package name="com.b" codePath="/system/app/B" version="7">
            <sigs count="1"><cert index="0"/></sigs></package><shared-user name="x"><sigs><cert index="0"/></sigs></shared-user></packages>"#;
        let apps = installed(&|_| Ok(xml.as_bytes().to_vec())).unwrap();
        // SHA-256 of "abc", FIPS 180-4's example.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(
            apps["com.a"],
            Installed { path: "/data/app/com.a-1".into(), version: "42".into(), signers: vec![abc.into()] }
        );
        assert_eq!(apps["com.b"].signers, [abc]);
        assert!(installed(&|_| Err(io::Error::from(io::ErrorKind::NotFound))).is_err());
    }

    #[test]
    fn switches_are_those_about_reports() {
        let xml = r#"<settings><setting id="1" name="upload_log_pref" value="1"/><setting id="2" name="wifi_on" value="1"/>
            <setting id="3" name="privacy_text" value="a long text that is no switch"/></settings>"#;
        let found = switches(&|file| {
            if file.contains("secure") { Ok(xml.into()) } else { Err(io::ErrorKind::NotFound.into()) }
        });
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [("secure/upload_log_pref".to_owned(), "1".to_owned())]
        );
    }
}
