//! The configuration file: every option with its default, mistakes named by line.
#![forbid(unsafe_code)]

use std::{
    fmt,
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, de::DeserializeOwned};

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
        parse(text)
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
        let mutes = self.mutes.iter().map(ConfigMute::mute).collect();
        Policy { least, lines_per_hour: self.lines_per_hour, mutes, key, ..Policy::default() }
    }
}

/// Reads a file that holds nothing but `[[mute]]` tables.
///
/// # Errors
/// [`Error`] naming the line.
pub fn mutes(text: &str) -> Result<Vec<ConfigMute>, Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, default)]
    #[derive(Default)]
    struct Mutes {
        mute: Vec<ConfigMute>,
    }
    parse(text).map(|mutes: Mutes| mutes.mute)
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        Error {
            line: before.matches('\n').count().saturating_add(1),
            problem: error.message().split('\n').collect::<Vec<_>>().join("; "),
        }
    })
}

impl ConfigMute {
    /// What it mutes.
    pub fn mute(&self) -> Mute {
        Mute {
            app: self.app.clone(),
            host: self.host.as_ref().map(|host| host.to_ascii_lowercase()),
            owner: self.owner.clone(),
            kind: self.kind.map(|kind| kind.0),
            id: self.id.clone(),
            until_ms: self.until.map(|until| until.0),
        }
    }

    /// A mute as the command line gives it.
    ///
    /// # Errors
    /// What is wrong with the kind or the date, or that nothing was named.
    pub fn new(parts: &[(&str, String)]) -> Result<ConfigMute, String> {
        let mut mute = ConfigMute::default();
        for (name, text) in parts {
            if text.is_empty() || text.chars().any(char::is_control) {
                return Err(format!("--{name} has no name in it"));
            }
            let text = text.clone();
            match *name {
                "app" => mute.app = Some(text),
                "host" => mute.host = Some(text),
                "owner" => mute.owner = Some(text),
                "kind" => mute.kind = Some(KindName::try_from(text)?),
                "id" => mute.id = Some(text),
                _ => mute.until = Some(Until::try_from(text)?),
            }
        }
        match parts.iter().any(|(name, _)| *name != "until") {
            true => Ok(mute),
            false => Err("name what to mute: --app, --host, --owner, --kind or --id".to_owned()),
        }
    }

    /// Whether its time is over.
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.until.is_some_and(|until| until.0 <= now_ms)
    }

    fn parts(&self) -> Vec<(&'static str, String)> {
        let until = self.until.map(|until| {
            let time = UNIX_EPOCH.checked_add(Duration::from_millis(until.0)).unwrap_or(UNIX_EPOCH);
            humantime::format_rfc3339_seconds(time).to_string()
        });
        [
            ("app", self.app.clone()),
            ("host", self.host.clone()),
            ("owner", self.owner.clone()),
            ("kind", self.kind.map(|kind| kind.0.name().to_owned())),
            ("id", self.id.clone()),
            ("until", until),
        ]
        .into_iter()
        .filter_map(|(name, text)| Some((name, text?)))
        .collect()
    }

    /// As a table of the file.
    pub fn to_toml(&self) -> String {
        // A JSON string without control characters is a TOML string.
        let line = |(name, text): (&str, String)| format!("{name} = {}\n", serde_json::Value::from(text));
        format!("[[mute]]\n{}", self.parts().into_iter().map(line).collect::<String>())
    }
}

impl fmt::Display for ConfigMute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> =
            self.parts().into_iter().map(|(name, text)| format!("{name} {text}")).collect();
        f.write_str(&parts.join(", "))
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
