//! How many of the installed apps can be looked into: by what they sent, and before they have sent anything, by what they run.

use std::collections::HashMap;

use super::View;

/// How far into what an app sends one can look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// More of what it sends can be read than not.
    Content,
    /// Where it sends to and how much; what it sends mostly not.
    Hosts,
    /// Not even where to.
    Nothing,
}

/// The installed apps by how far one can look into them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outlook {
    /// See [`Reach::Content`].
    pub content: usize,
    /// See [`Reach::Hosts`].
    pub hosts: usize,
    /// See [`Reach::Nothing`].
    pub nothing: usize,
    /// Nobody knows yet: they have sent nothing, and either do not run or have mapped no TLS.
    pub open: usize,
}

impl Outlook {
    /// Judges each of these apps by what it has sent, else by what it runs (the worse, when it runs both).
    pub fn of<'a>(
        apps: impl Iterator<Item = &'a str>,
        view: &View,
        runs: &HashMap<String, Reach>,
    ) -> Outlook {
        let sent = view.reach();
        let mut outlook = Outlook::default();
        for app in apps {
            let count = match sent.get(app).or_else(|| runs.get(app)) {
                Some(Reach::Content) => &mut outlook.content,
                Some(Reach::Hosts) => &mut outlook.hosts,
                Some(Reach::Nothing) => &mut outlook.nothing,
                None => &mut outlook.open,
            };
            *count = count.saturating_add(1);
        }
        outlook
    }

    /// All of them.
    pub fn apps(&self) -> usize {
        [self.hosts, self.nothing, self.open].into_iter().fold(self.content, usize::saturating_add)
    }

    /// `watching 212 apps; content readable for 61, hosts only for 143, nothing for 8`, with what is not known yet.
    pub fn words(&self) -> String {
        let apps = match self.apps() {
            0 => return "watching every process; which apps are installed is not known".to_owned(),
            1 => "1 app".to_owned(),
            count => format!("{count} apps"),
        };
        let mut words = format!(
            "watching {apps}; content readable for {}, hosts only for {}, nothing for {}",
            self.content, self.hosts, self.nothing
        );
        if self.open > 0 {
            words.push_str(&format!(", not known yet for {}", self.open));
        }
        words
    }
}

impl View {
    /// How far one could look into each app that has sent something, by its name.
    fn reach(&self) -> HashMap<&str, Reach> {
        let mut parts: HashMap<&str, (u64, u64, bool)> = HashMap::new();
        for app in &self.apps {
            let entry = parts.entry(&app.app).or_default();
            entry.0 = entry.0.saturating_add(app.parts.read);
            entry.1 = entry.1.saturating_add(app.parts.all_unread());
            entry.2 |= app.destinations.iter().any(|(name, _)| name != super::ledger::UNKNOWN);
        }
        let judged = parts.into_iter().map(|(app, (read, unread, named))| {
            let reach = match (read > unread, named) {
                (true, _) => Reach::Content,
                (false, true) => Reach::Hosts,
                (false, false) => Reach::Nothing,
            };
            (app, reach)
        });
        judged.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::{Parts, Reason, ViewedApp};

    fn app(name: &str, read: u64, unread: u64, destination: &str) -> ViewedApp {
        let mut parts = Parts::read(read);
        parts.add_unread(Reason::TlsNotHooked, unread);
        ViewedApp { app: name.into(), uid: 1, parts, destinations: vec![(destination.into(), parts)] }
    }

    #[test]
    fn what_was_sent_counts_before_what_is_run() {
        let view = View {
            total: Parts::default(),
            apps: vec![
                app("reads", 10, 3, "a.example"),
                app("hides", 3, 10, "a.example"),
                app("where", 0, 10, "unknown"),
                app("two", 1, 5, "unknown"),
                app("two", 9, 0, "192.0.2.1"),
                app("not installed", 9, 0, "a.example"),
            ],
        };
        let runs = [
            ("hides", Reach::Content),
            ("quiet", Reach::Content),
            ("quiet32", Reach::Hosts),
            ("gone", Reach::Nothing),
        ];
        let runs = runs.map(|(name, reach)| (name.to_owned(), reach)).into();
        let apps = ["reads", "hides", "where", "two", "quiet", "quiet32", "stopped"];
        let outlook = Outlook::of(apps.into_iter(), &view, &runs);
        assert_eq!(outlook, Outlook { content: 3, hosts: 2, nothing: 1, open: 1 });
        assert_eq!(outlook.apps(), apps.len());
        assert_eq!(
            outlook.words(),
            "watching 7 apps; content readable for 3, hosts only for 2, nothing for 1, not known yet for 1"
        );
    }

    #[test]
    fn it_says_no_number_that_nobody_knows() {
        assert!(!Outlook::default().words().contains('0'));
        let all = Outlook { content: 61, hosts: 143, nothing: 8, open: 0 };
        assert_eq!(
            all.words(),
            "watching 212 apps; content readable for 61, hosts only for 143, nothing for 8"
        );
    }
}
