//! The owner's own experiment, `telltale try`: texts that exist nowhere else, handed out to be visited, searched for, named
//! and played, and what came of each. Pure: randomness and time are arguments.
#![forbid(unsafe_code)]

mod watch;
mod words;

pub use watch::{Outcome, Verdict, Watch};

use serde_json::{Map, Value, json};

use crate::{
    alert::Alert,
    leak::{self, Kind},
};

/// The file of the store that holds an experiment, written by `telltale try`.
pub const ASKED_FILE: &str = "try.json";
/// What came of it so far, written by the watch.
pub const ANSWER_FILE: &str = "try-seen.json";
/// Random bytes that an experiment is made of.
pub const RANDOM: usize = 16;
/// How long what was handed out is looked for. Telemetry waits for a network, a charger, a full batch.
pub const LASTS_MS: u64 = 24 * 60 * 60 * 1000;
/// Reserved for examples (RFC 2606 section 3): anybody may open its pages, and nobody's pages are there.
const HOST: &str = "example.com";

/// What is handed out, private things first: a browser that has no private tab any more was told of what comes after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// An address to open.
    Address,
    /// Words to search for.
    Phrase,
    /// A folder to make.
    Folder,
    /// A song to play.
    Song,
}

impl What {
    /// Each once, in the order to be tried.
    pub const ALL: [What; 4] = [What::Address, What::Phrase, What::Folder, What::Song];

    /// What it is called in records and on the page.
    pub fn name(self) -> &'static str {
        match self {
            What::Address => "address",
            What::Phrase => "search phrase",
            What::Folder => "folder name",
            What::Song => "song title",
        }
    }

    /// Where it is to be used.
    pub fn place(self) -> &'static str {
        match self {
            What::Address | What::Phrase => "private tab",
            What::Folder => "file manager",
            What::Song => "music player",
        }
    }

    /// What to do with it.
    pub fn task(self) -> &'static str {
        match self {
            What::Address => "Open a private tab and go to this address (that it shows nothing is right):",
            What::Phrase => "In a private tab, search for this:",
            What::Folder => "In the file manager, make a folder of this name and open it:",
            What::Song => "Give any sound file this name, and play it in the music player:",
        }
    }

    /// What a message that carries it says.
    fn kind(self) -> Kind {
        match self {
            What::Address => Kind::VisitedUrl,
            What::Phrase => Kind::SearchQuery,
            What::Folder => Kind::FolderOpen,
            What::Song => Kind::Music,
        }
    }

    /// Roles of the apps it is used in (`data/packages.toml`).
    fn roles(self) -> &'static [&'static str] {
        match self {
            What::Address | What::Phrase => &["browser"],
            What::Folder => &["files"],
            What::Song => &["music"],
        }
    }

    fn from_name(name: &str) -> Option<What> {
        What::ALL.into_iter().find(|what| what.name() == name)
    }
}

/// An experiment: what was handed out, and until when it is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// Tells it from others.
    pub id: String,
    /// When it was made, milliseconds since 1970.
    pub made_ms: u64,
    /// How often a verdict was asked for: a number that grows is a question.
    pub asked: u64,
    /// What was handed out.
    pub texts: Vec<(What, String)>,
}

/// A file that is no experiment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no experiment of telltale try: {0}")]
pub struct NoTrial(&'static str);

impl Trial {
    /// A new one. `random` comes from the kernel.
    pub fn new(random: &[u8; RANDOM], now_ms: u64) -> Trial {
        let mut bytes = random.iter().copied();
        let mut next = move || bytes.next().unwrap_or(0);
        let mut word = || words::WORDS.get(usize::from(next())).copied().unwrap_or("amber");
        let address = (word(), word(), word());
        let phrase = (word(), word(), word());
        let folder = (word(), word(), word());
        let song = (word(), word(), word());
        let id = random.iter().skip(12).map(|byte| format!("{byte:02x}")).collect();
        let texts = vec![
            (What::Address, format!("{HOST}/{}-{}-{}", address.0, address.1, address.2)),
            (What::Phrase, format!("{} {} {}", phrase.0, phrase.1, phrase.2)),
            (What::Folder, title(folder)),
            (What::Song, title(song)),
        ];
        Trial { id, made_ms: now_ms, asked: 0, texts }
    }

    /// What the detector is to look for.
    pub fn canaries(&self) -> Vec<leak::Canary> {
        self.texts.iter().map(|(what, text)| leak::Canary { kind: what.kind(), text: text.clone() }).collect()
    }

    /// Whether it is still looked for. A clock set back does not end it.
    pub fn is_open(&self, now_ms: u64) -> bool {
        now_ms < self.made_ms.saturating_add(LASTS_MS)
    }

    /// Which of its texts a finding carries.
    pub fn carried(&self, alert: &Alert) -> Option<What> {
        let finding = &alert.finding;
        let sent = [Some(finding.value.as_str()), finding.raw.as_deref()];
        let sent: Vec<String> = sent.into_iter().flatten().map(squeezed).collect();
        self.texts.iter().find_map(|(what, text)| {
            // Of an address the path makes it unique.
            let text = text.strip_prefix(HOST).unwrap_or(text);
            let unique = squeezed(text);
            sent.iter().any(|sent| sent.contains(&unique)).then_some(*what)
        })
    }

    /// As the file of the store holds it.
    pub fn to_json(&self) -> String {
        let texts: Map<String, Value> =
            self.texts.iter().map(|(what, text)| (what.name().to_owned(), text.clone().into())).collect();
        json!({"id": self.id, "made_ms": self.made_ms, "asked": self.asked, "texts": texts}).to_string()
    }

    /// Reads that.
    ///
    /// # Errors
    /// [`NoTrial`] with what is missing.
    pub fn from_json(text: &str) -> Result<Trial, NoTrial> {
        let value: Value = serde_json::from_str(text).map_err(|_| NoTrial("it is not JSON"))?;
        let number = |key| value.get(key).and_then(Value::as_u64);
        let texts = value.get("texts").and_then(Value::as_object).ok_or(NoTrial("it has no texts"))?;
        let mut texts: Vec<(What, String)> = texts
            .iter()
            .filter_map(|(name, text)| Some((What::from_name(name)?, text.as_str()?.to_owned())))
            // A short text would be found everywhere.
            .filter(|(_, text)| (12..=128).contains(&text.len()) && text.is_ascii())
            .collect();
        texts.sort();
        Ok(Trial {
            id: value.get("id").and_then(Value::as_str).ok_or(NoTrial("it has no id"))?.to_owned(),
            made_ms: number("made_ms").ok_or(NoTrial("it has no made_ms"))?,
            asked: number("asked").unwrap_or(0),
            texts,
        })
    }
}

/// `Amber Falcon Quilt`: a title as people write it.
fn title(words: (&str, &str, &str)) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    format!("{} {} {}", capital(words.0), capital(words.1), capital(words.2))
}

/// Letters and digits alone, in lower case: `Brass+Otter%20Quilt` is `brassotterquilt`.
fn squeezed(text: &str) -> String {
    let mut plain = text.to_ascii_lowercase();
    for escape in ["%2520", "%252b", "%20", "%2b", "%2d"] {
        plain = plain.replace(escape, "");
    }
    plain.retain(|c| c.is_ascii_alphanumeric());
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_made_of_random_bytes_of_its_own_and_easily_typed() {
        let random: [u8; RANDOM] = std::array::from_fn(|at| u8::try_from(at * 13 % 256).unwrap());
        let trial = Trial::new(&random, 5);
        let [(What::Address, address), (What::Phrase, phrase), (What::Folder, folder), (What::Song, song)] =
            &trial.texts[..]
        else {
            panic!("{trial:?}")
        };
        assert!(address.starts_with("example.com/") && !address.contains(' '), "{address}");
        assert_eq!((phrase.split(' ').count(), song.split(' ').count()), (3, 3));
        assert!(folder.split(' ').all(|word| word.starts_with(|c: char| c.is_ascii_uppercase())), "{folder}");
        for at in 0..12 {
            let mut other = random;
            other[at] ^= 0x5a;
            let changed = Trial::new(&other, 5);
            let differing = trial.texts.iter().zip(&changed.texts).filter(|(a, b)| a != b).count();
            assert_eq!(differing, 1, "byte {at} belongs to one text");
        }
        assert_eq!(Trial::from_json(&trial.to_json()), Ok(trial.clone()));
        assert!(trial.is_open(LASTS_MS) && !trial.is_open(LASTS_MS + 5));
    }

    #[test]
    fn a_file_that_is_none_is_named() {
        for (text, part) in [("", "JSON"), ("{}", "texts"), (r#"{"texts":{}}"#, "id")] {
            assert!(Trial::from_json(text).unwrap_err().to_string().contains(part), "{text}");
        }
        let short = r#"{"id":"a","made_ms":1,"texts":{"address":"x","unknown":"copper lantern meadow"}}"#;
        assert!(Trial::from_json(short).unwrap().texts.is_empty());
    }
}
