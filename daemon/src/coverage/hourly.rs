//! Once an hour: how much of what was sent could not be read, and whose it was. Looked at when something is sent, so that an
//! idle phone sleeps on.

use std::collections::HashMap;

use super::{Parts, View, size};

/// Between two lines.
const HOUR_MS: u64 = 3_600_000;
/// Apps named in a line.
const NAMED: usize = 3;

/// What was said last.
#[derive(Debug)]
pub struct Hourly {
    said_ms: u64,
    total: Parts,
    /// Content and unread of each app, as of the last line.
    apps: HashMap<(String, u32), (u64, u64)>,
}

impl Hourly {
    /// The first line is due an hour after this, milliseconds of any clock that does not go back.
    pub fn new(now_ms: u64) -> Hourly {
        Hourly { said_ms: now_ms, total: Parts::default(), apps: HashMap::new() }
    }

    /// Whether a line is due; only then is a view worth its making.
    pub fn is_due(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.said_ms) >= HOUR_MS
    }

    /// The line about what was sent since the last one; none when that is nothing.
    pub fn line(&mut self, now_ms: u64, view: &View) -> Option<String> {
        let minutes = now_ms.saturating_sub(self.said_ms).div_euclid(60_000);
        self.said_ms = now_ms;
        let content = view.total.content().saturating_sub(self.total.content());
        let unread = view.total.all_unread().saturating_sub(self.total.all_unread());
        self.total = view.total;
        let mut worst = Vec::new();
        let mut apps = HashMap::new();
        for app in &view.apps {
            let key = (app.app.clone(), app.uid);
            let now = (app.parts.content(), app.parts.all_unread());
            let before = self.apps.get(&key).copied().unwrap_or_default();
            let (sent, unread) = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
            apps.insert(key, now);
            if unread > 0 {
                worst.push((unread, sent, app));
            }
        }
        self.apps = apps;
        if content == 0 {
            return None;
        }
        worst.sort_by_key(|(unread, ..)| std::cmp::Reverse(*unread));
        let named: Vec<String> = worst
            .iter()
            .take(NAMED)
            .map(|(unread, sent, app)| {
                let why = app.parts.reasons().first().map_or("", |(reason, _)| reason.name());
                format!("{} {} of {} ({why})", app.app, size(*unread), size(*sent))
            })
            .collect();
        let most =
            if named.is_empty() { String::new() } else { format!("; most of it: {}", named.join(", ")) };
        Some(format!(
            "in {minutes} min apps sent {}, of which {} could not be read ({} %){most}",
            size(content),
            size(unread),
            percent(unread, content),
        ))
    }
}

/// Whole per cent, rounded up, so that something is never nothing.
pub(crate) fn percent(part: u64, whole: u64) -> u64 {
    let percent = (u128::from(part) * 100).div_ceil(u128::from(whole.max(1)));
    u64::try_from(percent).unwrap_or(100).min(100)
}
