//! Which apps' own encryption is looked into: the vendor telemetry of `data/sealed.toml` and what the owner named; never a
//! password manager, a messenger or a bank.

use std::collections::HashMap;

use serde::Deserialize;

use super::State;
use crate::app::App;

const BUILT_IN: &str = include_str!("../../data/sealed.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    watch: Vec<Row>,
    relay: Vec<Row>,
    never: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    package: String,
    why: String,
    #[serde(rename = "source")]
    _source: String,
}

/// Package names, some of which stand for a family.
#[derive(Debug, Clone, Default)]
struct Names {
    exact: HashMap<String, String>,
    /// What the names of a family begin with.
    families: Vec<(String, String)>,
}

/// What the lists say of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Its ciphers are to be watched.
    Watch,
    /// They are not, and this is how that is called.
    Leave(State),
}

/// The lists.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    watch: Names,
    relay: Names,
    never: Names,
}

impl Policy {
    /// The lists of `data/sealed.toml`.
    pub fn built_in() -> Policy {
        // A test reads the same file and fails when it is wrong.
        let read: Result<File, _> = toml::from_str(BUILT_IN);
        debug_assert!(read.is_ok(), "sealed.toml: {:?}", read.as_ref().err());
        let Ok(File { watch, relay, never }) = read else { return Policy::default() };
        let names = |rows: Vec<Row>| {
            let mut names = Names::default();
            rows.into_iter().for_each(|row| names.add(&row.package, &row.why));
            names
        };
        Policy { watch: names(watch), relay: names(relay), never: names(never) }
    }

    /// The same with what the owner names in the configuration.
    pub fn with(mut self, watch: &[String], never: &[String]) -> Policy {
        watch.iter().for_each(|name| self.watch.add(name, "named in the configuration"));
        never.iter().for_each(|name| self.never.add(name, "named in the configuration"));
        self
    }

    /// What is to be done about an app. An app that shares its uid with one that is never looked into is not looked into either.
    pub fn choice(&self, app: &App) -> Choice {
        let mut names = app.packages.iter().chain([&app.name]);
        if names.any(|name| self.never.why(name).is_some()) || self.never.why(base(&app.process)).is_some() {
            return Choice::Leave(State::Never);
        }
        if self.watch.why(&app.name).is_some() { Choice::Watch } else { Choice::Leave(State::Unlisted) }
    }

    /// Whether an app is known to send what others encrypted.
    pub fn is_relay(&self, app: &App) -> bool {
        self.relay.why(&app.name).is_some()
    }

    /// How many apps are watched when they run.
    pub fn len(&self) -> usize {
        self.watch.exact.len().saturating_add(self.watch.families.len())
    }

    /// True when no app is watched.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Names {
    fn add(&mut self, name: &str, why: &str) {
        match name.strip_suffix('*') {
            Some(family) => self.families.push((family.to_owned(), why.to_owned())),
            None => {
                self.exact.insert(name.to_owned(), why.to_owned());
            }
        }
    }

    fn why(&self, name: &str) -> Option<&str> {
        let family = || self.families.iter().find(|(family, _)| name.starts_with(family.as_str()));
        self.exact.get(name).or_else(|| family().map(|(_, why)| why)).map(String::as_str)
    }
}

/// A process's name without what follows the colon.
fn base(process: &str) -> &str {
    process.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::AppTable;

    fn app(name: &str) -> App {
        AppTable::new().named(name, 10_123)
    }

    #[test]
    fn vendor_telemetry_is_watched_and_nothing_else() {
        let policy = Policy::built_in();
        for name in ["com.miui.home", "com.mi.globalbrowser", "com.miui.analytics", "com.xiaomi.xmsf"] {
            assert_eq!(policy.choice(&app(name)), Choice::Watch, "{name}");
        }
        for name in ["com.android.chrome", "org.mozilla.firefox", "com.example.app", "uid 10123", ""] {
            assert_eq!(policy.choice(&app(name)), Choice::Leave(State::Unlisted), "{name}");
        }
        assert!(policy.is_relay(&app("com.miui.analytics")) && !policy.is_relay(&app("com.miui.home")));
    }

    #[test]
    fn never_wins_over_everything() {
        let named = ["com.x8bit.bitwarden", "org.telegram.messenger", "com.example.app"].map(str::to_owned);
        let policy = Policy::built_in().with(&named, &["com.miui.home".to_owned()]);
        for name in ["com.x8bit.bitwarden", "org.telegram.messenger", "com.miui.home", "org.telegram.plus"] {
            assert_eq!(policy.choice(&app(name)), Choice::Leave(State::Never), "{name}");
        }
        assert_eq!(policy.choice(&app("com.example.app")), Choice::Watch);
        // Under one uid with a bank.
        let shared = App {
            packages: vec!["com.example.app".into(), "com.revolut.revolut".into()],
            ..app("com.example.app")
        };
        assert_eq!(policy.choice(&shared), Choice::Leave(State::Never));
        let process = App { process: "com.whatsapp:push".into(), ..app("com.example.app") };
        assert_eq!(policy.choice(&process), Choice::Leave(State::Never));
    }

    #[test]
    fn no_app_is_on_both_lists() {
        let policy = Policy::built_in();
        assert!(policy.len() > 20);
        for name in policy.watch.exact.keys() {
            assert_eq!(policy.never.why(name), None, "{name}");
        }
    }
}
