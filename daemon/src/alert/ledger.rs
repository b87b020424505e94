//! What was said already: merges findings of the same class, applies mutes, and keeps the number of lines bearable without
//! ever hiding a new kind.

use std::collections::{HashMap, HashSet};

use super::{Alert, class};
use crate::leak::{Kind, Severity};

/// Findings of one kind in one message beyond which one line stands for all.
const MANY: usize = 3;
/// Values remembered of what was listed; beyond, all are forgotten and may be listed once more.
const MAX_VALUES: usize = 64 * 1024;
/// Classes remembered; beyond, the one longest silent is forgotten.
const MAX_CLASSES: usize = 16 * 1024;
/// Ten lines at W and above on an ordinary day are bearable; some room is left for what is new.
pub const REPEATS_PER_DAY: u32 = 7;
const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// A finding the owner does not want to hear of. Every part that is given must fit; one without any part fits nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mute {
    /// Package or name of the app.
    pub app: Option<String>,
    /// Host name, or the end of one at a label boundary.
    pub host: Option<String>,
    /// Owner of the host, any case.
    pub owner: Option<String>,
    /// Kind of finding.
    pub kind: Option<Kind>,
    /// Id of a finding's class.
    pub id: Option<String>,
    /// Until when, milliseconds since 1970; for good when left out.
    pub until_ms: Option<u64>,
}

impl Mute {
    fn fits(&self, alert: &Alert, now_ms: u64) -> bool {
        let named = self.app.is_some()
            || self.host.is_some()
            || self.owner.is_some()
            || self.kind.is_some()
            || self.id.is_some();
        let app = |name: &String| alert.app.name == *name || alert.app.packages.contains(name);
        let host = |name: &String| {
            let sent_to = alert.host.as_ref().map_or("", |host| host.name.as_str());
            sent_to.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let owner = |name: &String| {
            alert
                .host
                .as_ref()
                .and_then(|host| host.owner.as_ref())
                .is_some_and(|owner| owner.eq_ignore_ascii_case(name))
        };
        named
            && self.until_ms.is_none_or(|until| now_ms < until)
            && self.app.as_ref().is_none_or(app)
            && self.host.as_ref().is_none_or(host)
            && self.owner.as_ref().is_none_or(owner)
            && self.kind.is_none_or(|kind| kind == alert.finding.kind)
            && self.id.as_ref().is_none_or(|id| *id == alert.id)
    }
}

/// What deserves a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whether findings of the same class merge; without, every finding is shown once, as `decode` wants it.
    pub merge: bool,
    /// The quietest that gets a line.
    pub least: Severity,
    /// Lines in an hour; beyond, only a kind never told before and what is new at W and above for its app. 0: no limit.
    pub lines_per_hour: u32,
    /// Lines at W and above in a day that tell again of what was told before; beyond, they are counted. Goes with
    /// `lines_per_hour`: 0 there is no limit here.
    pub repeats_per_day: u32,
    /// What the owner does not want to hear of.
    pub mutes: Vec<Mute>,
    /// This phone's key for ids. Without one of its own, ids would tell everybody which classes they stand for.
    pub key: [u8; 16],
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            merge: true,
            least: Severity::Info,
            lines_per_hour: 60,
            repeats_per_day: REPEATS_PER_DAY,
            mutes: Vec::new(),
            key: [0; 16],
        }
    }
}

/// The memory of what was said. Bounded; time is an argument and may jump.
#[derive(Debug, Default)]
pub struct Ledger {
    pub(super) classes: HashMap<u64, Entry>,
    /// App and kind of every line shown so far, as hashes.
    pub(super) shown: HashSet<u64>,
    /// Kinds of every line shown so far, as hashes.
    pub(super) kinds: HashSet<u64>,
    /// Class and value of what was listed, as hashes: values are not kept.
    listed: HashSet<u64>,
    hour: u64,
    lines: u32,
    day: u64,
    repeats: u32,
    held_back: u64,
    told: Told,
}

/// What became of findings since it was last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Told {
    /// Classes never seen before.
    pub new: u64,
    /// Lines shown.
    pub lines: u64,
    /// Lines that were due and not shown because there were too many.
    pub held_back: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) seen: u64,
    pub(super) first_ms: u64,
    pub(super) last_ms: u64,
    pub(super) said_ms: u64,
}

impl Ledger {
    /// Decides about the findings of one message, sent now: fills in `id`, `seen`, `first_ms`, `count`, `shown`,
    /// `listed` and `held_back`.
    pub fn judge(&mut self, policy: &Policy, alerts: &mut [Alert], now_ms: u64) {
        let mut due = HashMap::new();
        for alert in alerts.iter_mut() {
            let class = class::class(&policy.key, alert);
            alert.id = class::id(class);
            // A message counts once for a class, however often it says the same.
            let (seen, first_ms, is_due) = *due.entry(class).or_insert_with(|| self.count(class, now_ms));
            (alert.seen, alert.first_ms) = (seen, first_ms);
            if !policy.merge {
                (alert.seen, alert.first_ms) = (1, now_ms);
            }
            let wanted = alert.finding.severity >= policy.least
                && !policy.mutes.iter().any(|mute| mute.fits(alert, now_ms));
            alert.shown = wanted && (is_due || !policy.merge);
            // Outside the condition, so that every value is remembered.
            let new = self.is_new(class::with_value(&policy.key, class, &alert.finding.value));
            alert.listed = wanted && (is_due || new || !policy.merge);
        }
        if policy.merge {
            join(alerts);
        }
        for alert in alerts.iter_mut().filter(|alert| alert.shown) {
            self.limit(policy, alert, now_ms);
        }
    }

    /// What became of findings since this was last called.
    pub fn take_told(&mut self) -> Told {
        std::mem::take(&mut self.told)
    }

    /// How many classes are remembered.
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    fn is_new(&mut self, value: u64) -> bool {
        if self.listed.len() >= MAX_VALUES {
            self.listed.clear();
        }
        self.listed.insert(value)
    }

    fn count(&mut self, class: u64, now_ms: u64) -> (u64, u64, bool) {
        if self.classes.len() >= MAX_CLASSES && !self.classes.contains_key(&class) {
            let silent = self.classes.iter().min_by_key(|(_, entry)| entry.last_ms).map(|(class, _)| *class);
            silent.map(|class| self.classes.remove(&class));
        }
        let new = Entry { seen: 0, first_ms: now_ms, last_ms: now_ms, said_ms: now_ms };
        let entry = self.classes.entry(class).or_insert(new);
        self.told.new = self.told.new.saturating_add(u64::from(entry.seen == 0));
        entry.seen = entry.seen.saturating_add(1);
        entry.last_ms = now_ms;
        let due = match entry.seen {
            1 | 10 | 100 => true,
            // A clock set back makes the next one due as well: better once too often.
            2..=99 => false,
            _ => now_ms.abs_diff(entry.said_ms) >= DAY_MS,
        };
        if due {
            entry.said_ms = now_ms;
        }
        (entry.seen, entry.first_ms, due)
    }

    fn limit(&mut self, policy: &Policy, alert: &mut Alert, now_ms: u64) {
        if policy.lines_per_hour == 0 || !policy.merge {
            return;
        }
        let (hour, day) = (now_ms / HOUR_MS, now_ms / DAY_MS);
        if hour != self.hour {
            (self.hour, self.lines) = (hour, 0);
        }
        if day != self.day {
            (self.day, self.repeats) = (day, 0);
        }
        let of_app = class::of_app(&policy.key, &alert.app.name, alert.finding.kind);
        let of_kind = class::of_app(&policy.key, "", alert.finding.kind);
        let room = self.shown.len() < MAX_CLASSES;
        let loud = alert.finding.severity >= Severity::Warn;
        let new_kind = !self.kinds.contains(&of_kind);
        let new = new_kind || (room && !self.shown.contains(&of_app));
        let repeats = loud && alert.seen > 1 && !new;
        let crowded = self.lines >= policy.lines_per_hour && !(new_kind || (new && loud));
        if crowded || (repeats && self.repeats >= policy.repeats_per_day) {
            alert.shown = false;
            self.held_back = self.held_back.saturating_add(1);
            self.told.held_back = self.told.held_back.saturating_add(1);
            return;
        }
        if room {
            self.shown.insert(of_app);
        }
        self.kinds.insert(of_kind);
        self.repeats = self.repeats.saturating_add(u32::from(repeats));
        self.lines = self.lines.saturating_add(1);
        self.told.lines = self.told.lines.saturating_add(1);
        alert.held_back = std::mem::take(&mut self.held_back);
    }
}

/// One line for a value, however often a message holds it, and one for more than [`MANY`] values of a kind. The first is
/// the loudest: it stays, with the number.
fn join(alerts: &mut [Alert]) {
    type Group = (Kind, Option<String>);
    let group = |alert: &Alert| -> Group { (alert.finding.kind, alert.finding.sender.clone()) };
    let mut values: HashMap<Group, HashSet<String>> = HashMap::new();
    for alert in alerts.iter_mut().filter(|alert| alert.shown) {
        alert.shown = values.entry(group(alert)).or_default().insert(alert.finding.value.clone());
    }
    let mut said = HashSet::new();
    for alert in alerts.iter_mut().filter(|alert| alert.shown) {
        let group = group(alert);
        match values.get(&group).map(HashSet::len) {
            Some(count) if count > MANY => {
                alert.count = count;
                alert.shown = said.insert(group);
            }
            _ => {}
        }
    }
}
