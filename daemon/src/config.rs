//! The configuration file: every option with its default, mistakes named by line.
#![forbid(unsafe_code)]

use std::{path::PathBuf, time::UNIX_EPOCH};

use serde::Deserialize;

use crate::{
    alert::{Mute, Policy},
    kernel::Budget,
    leak::{Kind, Severity},
};

/// Every option with its default and what it means; what `telltale config default` prints and the module installs.
pub const DEFAULT: &str = include_str!("../data/config.toml");
/// Where it lies on the phone.
pub const PHONE_FILE: &str = "/data/adb/telltale/config.toml";

/// The options.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The quietest line that goes to the log.
    pub log_level: Level,
    /// Whether uninstalling leaves everything behind; the module's scripts read it.
    pub keep_on_uninstall: bool,
    /// TLS libraries to hook besides those in use.
    pub libraries: Vec<PathBuf>,
    /// Whether traffic to this machine itself counts.
    pub loopback: bool,
    /// Android users whose messages are looked at.
    pub users: Vec<u32>,
    /// Packages whose own encryption is looked into besides those of `data/sealed.toml`.
    pub unseal: Vec<String>,
    /// Packages whose own encryption is never looked into.
    pub never_unseal: Vec<String>,
    /// Lines in an hour, 0 for no limit.
    pub lines_per_hour: u32,
    /// KiB of one connection that are read at once.
    pub capture_burst: u32,
    /// KiB of one connection that are read in a second after that.
    pub capture_per_second: u32,
    /// KiB of all connections that are read in a second, 0 for no bound.
    pub capture_total: u32,
    /// What the owner does not want to hear of.
    #[serde(rename = "mute")]
    pub mutes: Vec<ConfigMute>,
}

/// How loud a line must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

impl Level {
    /// As the `log` crate has it.
    pub fn filter(self) -> log::LevelFilter {
        match self {
            Level::Error => log::LevelFilter::Error,
            Level::Warn => log::LevelFilter::Warn,
            Level::Info => log::LevelFilter::Info,
            Level::Debug => log::LevelFilter::Debug,
        }
    }
}

/// A `[[mute]]` table as written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigMute {
    app: Option<String>,
    host: Option<String>,
    owner: Option<String>,
    kind: Option<KindName>,
    id: Option<String>,
    until: Option<Until>,
}

/// A kind by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct KindName(Kind);

/// The end of a mute, milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Until(u64);

impl TryFrom<String> for KindName {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        Kind::from_name(&name)
            .map(KindName)
            .ok_or_else(|| format!("{name:?} is no kind of finding; telltale explain lists them"))
    }
}

impl TryFrom<String> for Until {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let full = if text.contains([' ', 'T']) { text.clone() } else { format!("{text}T00:00:00Z") };
        let time = humantime::parse_rfc3339_weak(&full)
            .map_err(|_| format!("{text:?} is no date such as \"2027-01-31\""))?;
        let since = time.duration_since(UNIX_EPOCH).map_err(|_| format!("{text:?} is before 1970"))?;
        Ok(Until(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            log_level: Level::Info,
            keep_on_uninstall: false,
            libraries: Vec::new(),
            loopback: false,
            users: vec![0],
            unseal: Vec::new(),
            never_unseal: Vec::new(),
            lines_per_hour: 60,
            capture_burst: 1024,
            capture_per_second: 256,
            capture_total: 2048,
            mutes: Vec::new(),
        }
    }
}

/// A mistake in the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct Error {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

impl Config {
    /// Reads the file's text.
    ///
    /// # Errors
    /// [`Error`] naming the line; the defaults are to be used then.
    pub fn parse(text: &str) -> Result<Config, Error> {
        toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            Error {
                line: before.matches('\n').count().saturating_add(1),
                problem: error.message().split('\n').collect::<Vec<_>>().join("; "),
            }
        })
    }

    /// How much of what apps send is taken under this configuration.
    pub fn budget(&self) -> Budget {
        let bytes = |kib: u32| u64::from(kib) << 10;
        Budget {
            burst: bytes(self.capture_burst),
            per_second: bytes(self.capture_per_second),
            total_per_second: bytes(self.capture_total),
        }
    }

    /// What deserves a line under this configuration.
    pub fn policy(&self, key: [u8; 16]) -> Policy {
        let least = match self.log_level {
            Level::Error => Severity::Error,
            Level::Warn => Severity::Warn,
            Level::Info => Severity::Info,
            Level::Debug => Severity::Debug,
        };
        let mutes = self.mutes.iter().map(|mute| Mute {
            app: mute.app.clone(),
            host: mute.host.as_ref().map(|host| host.to_ascii_lowercase()),
            owner: mute.owner.clone(),
            kind: mute.kind.map(|kind| kind.0),
            id: mute.id.clone(),
            until_ms: mute.until.map(|until| until.0),
        });
        Policy { merge: true, least, lines_per_hour: self.lines_per_hour, mutes: mutes.collect(), key }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_defaults_are_the_defaults_and_complete() {
        assert_eq!(Config::parse(DEFAULT), Ok(Config::default()));
        assert_eq!(Config::parse(""), Ok(Config::default()));
        let Config {
            log_level: _,
            keep_on_uninstall: _,
            libraries: _,
            loopback: _,
            users: _,
            unseal: _,
            never_unseal: _,
            lines_per_hour: _,
            capture_burst: _,
            capture_per_second: _,
            capture_total: _,
            mutes: _,
        } = Config::default();
        for key in [
            "log_level",
            "keep_on_uninstall",
            "libraries",
            "loopback",
            "users",
            "unseal",
            "never_unseal",
            "lines_per_hour",
            "capture_burst",
            "capture_per_second",
            "capture_total",
            "# [[mute]]",
        ] {
            assert!(DEFAULT.lines().any(|line| line.starts_with(key)), "{key}");
        }
    }

    #[test]
    fn the_default_budget_is_the_programs_default() {
        assert_eq!(Config::default().budget(), Budget::default());
    }

    #[test]
    fn the_commented_example_is_right() {
        let example: String = DEFAULT
            .lines()
            .skip_while(|line| *line != "# [[mute]]")
            .map(|line| format!("{}\n", line.trim_start_matches("# ")))
            .collect();
        let config = Config::parse(&example).unwrap();
        let mute = &config.policy([0; 16]).mutes[0];
        assert_eq!(mute.kind, Some(Kind::SearchQuery));
        assert_eq!(mute.until_ms, Some(1_801_353_600_000));
    }

    #[test]
    fn a_mistake_is_named_by_line() {
        for (text, line, part) in [
            ("log_level = \"info\"\nlog_levle = 1\n", 2, "log_levle"),
            ("\n\nlog_level = \"loud\"\n", 3, "loud"),
            ("loopback = maybe", 1, ""),
            ("users = [0]\n[[mute]]\nkind = \"serch\"\n", 3, "serch"),
            ("[[mute]]\nuntil = \"soon\"\n", 2, "soon"),
            ("lines_per_hour = -1", 1, ""),
            ("x = \"unclosed\ny = 1\n", 1, ""),
        ] {
            let error = Config::parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.problem.contains(part), "{text}: {error}");
            assert!(!error.to_string().contains('\n'));
        }
    }
}
