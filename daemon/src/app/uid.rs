//! What a uid means on Android, from `data/uids.toml`.

use std::collections::HashMap;

use serde::Deserialize;

const BUILT_IN: &str = include_str!("../../data/uids.toml");
/// Uids of one Android user (frameworks/base `UserHandle.PER_USER_RANGE`).
const PER_USER: u32 = 100_000;
/// A sandbox for advertising code has the appId of its app plus this (frameworks/base `Process.FIRST_SDK_SANDBOX_UID`).
const SDK_SANDBOX: u32 = 10_000;

/// The Android user a uid belongs to: 0 is the owner, 10 and more are others and work profiles, 999 is MIUI's second set of apps.
pub fn user(uid: u32) -> u32 {
    uid / PER_USER
}

/// The appId of a uid: the same for an app under every user.
pub fn app_id(uid: u32) -> u32 {
    uid % PER_USER
}

/// How the app behind a uid is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// By its appId in packages.list.
    App,
    /// The app with this appId, in which other makers' code runs apart.
    SdkSandbox(u32),
    /// A process without a name of its own: by process name or parent.
    Isolated,
    /// A fixed uid.
    Fixed,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    range: Vec<Range>,
    name: Vec<Name>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    from: u32,
    to: u32,
    kind: String,
    #[serde(rename = "note")]
    _note: Option<String>,
    #[serde(rename = "source")]
    _source: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    id: u32,
    name: String,
    label: String,
    #[serde(rename = "source")]
    _source: String,
}

/// The rules.
#[derive(Debug, Default)]
pub(super) struct Uids {
    ranges: Vec<Range>,
    names: HashMap<u32, (String, String)>,
}

impl Uids {
    pub(super) fn built_in() -> Uids {
        // A test reads the same file and fails when it is wrong.
        let read: Result<File, _> = toml::from_str(BUILT_IN);
        debug_assert!(read.is_ok(), "uids.toml: {:?}", read.as_ref().err());
        read.map_or_else(
            |_| Uids::default(),
            |file| Uids {
                ranges: file.range,
                names: file.name.into_iter().map(|row| (row.id, (row.name, row.label))).collect(),
            },
        )
    }

    pub(super) fn kind(&self, uid: u32) -> Kind {
        let id = app_id(uid);
        let row = self.ranges.iter().find(|row| (row.from..=row.to).contains(&id));
        match row.map(|row| row.kind.as_str()) {
            Some("app") => Kind::App,
            Some("sdk_sandbox") => Kind::SdkSandbox(id.saturating_sub(SDK_SANDBOX)),
            Some("isolated" | "app_zygote_isolated") => Kind::Isolated,
            _ => Kind::Fixed,
        }
    }

    /// Name and label of a fixed uid.
    pub(super) fn name(&self, uid: u32) -> Option<(&str, &str)> {
        self.names.get(&app_id(uid)).map(|(name, label)| (name.as_str(), label.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic() {
        let uids = Uids::built_in();
        assert!(!uids.ranges.is_empty() && !uids.names.is_empty());
        for (uid, user_id, id, kind) in [
            (0, 0, 0, Kind::Fixed),
            (1000, 0, 1000, Kind::Fixed),
            (10123, 0, 10123, Kind::App),
            (1_010_123, 10, 10123, Kind::App),
            (99_910_123, 999, 10123, Kind::App),
            (20123, 0, 20123, Kind::SdkSandbox(10123)),
            (99001, 0, 99001, Kind::Isolated),
            (90101, 0, 90101, Kind::Isolated),
            (1_099_001, 10, 99001, Kind::Isolated),
            (u32::MAX, 42949, 67295, Kind::Fixed),
        ] {
            assert_eq!((user(uid), app_id(uid), uids.kind(uid)), (user_id, id, kind), "{uid}");
        }
        assert_eq!(uids.name(1_001_000).map(|(name, _)| name), Some("system"));
    }
}
