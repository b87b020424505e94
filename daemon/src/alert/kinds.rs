//! Words and masks for each kind of finding, from `data/kinds.toml`.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

use crate::leak::Kind;

const BUILT_IN: &str = include_str!("../../data/kinds.toml");

/// What is said of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// After "sent": `a search query`.
    pub sent: String,
    /// The same for several: `search queries`.
    pub many: String,
    /// How its value is shown in the log.
    pub mask: Mask,
    /// What it says about the owner.
    pub meaning: String,
    /// Honest reasons for sending it.
    pub innocent: String,
    /// What can be switched off.
    pub off: String,
}

/// How a value is shown where others may read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mask {
    /// Public suffix of the host, and the length.
    Address,
    /// First letter and length.
    Search,
    /// Last two characters.
    Identifier,
    /// The length.
    Length,
    /// As it is.
    Plain,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    kind: BTreeMap<String, Words>,
}

static WORDS: LazyLock<BTreeMap<String, Words>> = LazyLock::new(|| {
    // A test reads the same file and fails when it is wrong.
    let read: Result<File, _> = toml::from_str(BUILT_IN);
    debug_assert!(read.is_ok(), "kinds.toml: {:?}", read.as_ref().err());
    read.map(|file| file.kind).unwrap_or_default()
});

/// The words for a kind; the strictest mask for one that has none.
pub fn words(kind: Kind) -> &'static Words {
    static NONE: LazyLock<Words> = LazyLock::new(|| Words {
        sent: "something about you".into(),
        many: "things about you".into(),
        mask: Mask::Length,
        meaning: String::new(),
        innocent: String::new(),
        off: String::new(),
    });
    WORDS.get(kind.name()).unwrap_or(&NONE)
}

/// What `telltale explain KIND` prints.
pub fn explain(kind: Kind) -> String {
    let words = words(kind);
    let masked = match words.mask {
        Mask::Address => "the public suffix of its host and its length",
        Mask::Search => "its first letter and its length",
        Mask::Identifier => "its last two characters",
        Mask::Length => "its length",
        Mask::Plain => "what it is",
    };
    format!(
        "{}: an app sent {}\n\nWhat it means\n  {}\nInnocent reasons\n  {}\nWhat can be switched off\n  {}\n\
         In the log\n  its value shows as {masked}; the full value is only in --json and in the evidence\n",
        kind.name(),
        words.sent,
        words.meaning,
        words.innocent,
        words.off,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_words_and_no_other_stands_there() {
        for kind in Kind::ALL {
            let words = WORDS.get(kind.name()).unwrap_or_else(|| panic!("{}", kind.name()));
            for text in [&words.sent, &words.many, &words.meaning, &words.innocent, &words.off] {
                assert!(text.len() > 4, "{}", kind.name());
                for never in ["received", "stored", "spied", "|", "="] {
                    assert!(!text.contains(never), "{}: {never} in {text}", kind.name());
                }
            }
        }
        assert_eq!(WORDS.len(), Kind::ALL.len());
    }

    #[test]
    fn lasting_identifiers_and_content_are_never_shown_plainly() {
        use Kind::*;
        for kind in [
            Imei,
            Meid,
            Imsi,
            Iccid,
            Serial,
            Mac,
            AndroidId,
            AdId,
            DeviceIds,
            Account,
            PhoneNumber,
            PersistentId,
        ] {
            assert_eq!(words(kind).mask, Mask::Identifier, "{}", kind.name());
        }
        for kind in [VisitedUrl, VisitedHost, Download] {
            assert_eq!(words(kind).mask, Mask::Address, "{}", kind.name());
        }
        assert_eq!(words(SearchQuery).mask, Mask::Search);
        for kind in
            [Location, WifiName, FolderOpen, Music, Contacts, Clipboard, InstalledApps, AppOpen, ItemView]
        {
            assert_eq!(words(kind).mask, Mask::Length, "{}", kind.name());
        }
    }

    #[test]
    fn an_explanation_says_all_four_things() {
        let text = explain(Kind::SearchQuery);
        for part in
            ["sent a search query", "What it means", "Innocent reasons", "switched off", "first letter"]
        {
            assert!(text.contains(part), "{part}");
        }
    }
}
