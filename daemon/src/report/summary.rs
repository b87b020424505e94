//! Adds findings up: who learned what, where, when, and by which identifiers it can be joined.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::input::{Finding, Severity};
use super::words;

/// How many findings of a kind, and the worst of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) count: usize,
    pub(super) worst: Severity,
}

impl Tally {
    fn add(&mut self, severity: Severity) {
        self.count = self.count.saturating_add(1);
        self.worst = self.worst.max(severity);
    }
}

/// What one app sent to one owner.
#[derive(Debug, Default)]
pub(super) struct Pair<'a> {
    pub(super) app: &'a str,
    pub(super) owner: &'a str,
    pub(super) owner_cc: &'a str,
    pub(super) kinds: BTreeMap<&'a str, Tally>,
    pub(super) all: Tally,
}

/// What went to servers in one country.
#[derive(Debug, Default)]
pub(super) struct Country<'a> {
    pub(super) code: &'a str,
    pub(super) count: usize,
    pub(super) networks: BTreeMap<&'a str, usize>,
    pub(super) owners: BTreeMap<(&'a str, &'a str), usize>,
}

/// One identifier and everything that can be joined by it.
#[derive(Debug, Default)]
pub(super) struct Identifier<'a> {
    pub(super) kind: &'a str,
    pub(super) value: &'a str,
    pub(super) count: usize,
    pub(super) first: &'a str,
    pub(super) last: &'a str,
    pub(super) apps: BTreeSet<&'a str>,
    pub(super) owners: BTreeSet<&'a str>,
    /// Kinds that were in the same message.
    pub(super) tied: BTreeMap<&'a str, Tally>,
}

/// The sums.
#[derive(Debug, Default)]
pub(super) struct Summary<'a> {
    pub(super) errors: usize,
    pub(super) warnings: usize,
    pub(super) infos: usize,
    pub(super) apps: usize,
    pub(super) owners: usize,
    /// First and last time, as written in the findings.
    pub(super) span: Option<(&'a str, &'a str)>,
    /// Loudest and largest first.
    pub(super) pairs: Vec<Pair<'a>>,
    /// Most findings first; those of unknown country have an empty code.
    pub(super) countries: Vec<Country<'a>>,
    /// Date → findings in each hour.
    pub(super) days: BTreeMap<&'a str, [usize; 24]>,
    /// Those with most tied to them first.
    pub(super) identifiers: Vec<Identifier<'a>>,
}

impl<'a> Summary<'a> {
    /// Adds them all up.
    pub(super) fn of(findings: &'a [Finding]) -> Self {
        let mut summary = Self::default();
        let mut pairs: BTreeMap<(&str, &str), Pair<'_>> = BTreeMap::new();
        let mut countries: BTreeMap<&str, Country<'_>> = BTreeMap::new();
        let (mut apps, mut owners) = (BTreeSet::new(), BTreeSet::new());
        for finding in findings {
            let severity = finding.severity();
            let of_severity = match severity {
                Severity::E => &mut summary.errors,
                Severity::W => &mut summary.warnings,
                _ => &mut summary.infos,
            };
            *of_severity = of_severity.saturating_add(1);
            let (app, owner) = (finding.app(), finding.owner());
            apps.insert(app);
            owners.insert(owner);
            let pair = pairs.entry((app, owner)).or_insert_with(|| Pair { app, owner, ..Pair::default() });
            if pair.owner_cc.is_empty() {
                pair.owner_cc = finding.get("host_owner_cc");
            }
            pair.kinds.entry(finding.get("kind")).or_default().add(severity);
            pair.all.add(severity);

            let code = finding.get("cc");
            let country = countries.entry(code).or_insert_with(|| Country { code, ..Country::default() });
            country.count = country.count.saturating_add(1);
            add_one(&mut country.networks, finding.get("as_org"));
            add_one(&mut country.owners, (owner, finding.get("host_owner_cc")));
            summary.add_time(finding.get("time"));
        }
        summary.apps = apps.len();
        summary.owners = owners.len();
        summary.pairs = pairs.into_values().collect();
        summary
            .pairs
            .sort_by_key(|pair| std::cmp::Reverse((pair.all.worst, pair.kinds.len(), pair.all.count)));
        summary.countries = countries.into_values().collect();
        summary.countries.sort_by_key(|country| std::cmp::Reverse((!country.code.is_empty(), country.count)));
        summary.identifiers = identifiers(findings);
        summary
    }

    fn add_time(&mut self, time: &'a str) {
        let Some((date, rest)) = time.split_once(['T', ' ']) else { return };
        self.span = Some(match self.span {
            None => (time, time),
            Some((first, last)) => (first.min(time), last.max(time)),
        });
        let hour = rest.get(..2).and_then(|hour| hour.parse::<usize>().ok());
        if let Some(slot) = hour.and_then(|hour| self.days.entry(date).or_default().get_mut(hour)) {
            *slot = slot.saturating_add(1);
        }
    }
}

fn add_one<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(1);
}

/// The identifiers, and what stood in one message with them.
fn identifiers(findings: &[Finding]) -> Vec<Identifier<'_>> {
    let mut messages: HashMap<&str, Vec<&Finding>> = HashMap::new();
    for finding in findings.iter().filter(|finding| !finding.get("raw_sha256").is_empty()) {
        messages.entry(finding.get("raw_sha256")).or_default().push(finding);
    }
    let mut found: BTreeMap<(&str, &str), Identifier<'_>> = BTreeMap::new();
    for finding in findings.iter().filter(|finding| words::is_identifier(finding.get("kind"))) {
        let (kind, value, time) = (finding.get("kind"), finding.get("value"), finding.get("time"));
        let new = || Identifier { kind, value, first: time, last: time, ..Identifier::default() };
        let identifier = found.entry((kind, value)).or_insert_with(new);
        identifier.count = identifier.count.saturating_add(1);
        identifier.first = identifier.first.min(time);
        identifier.last = identifier.last.max(time);
        identifier.apps.insert(finding.app());
        identifier.owners.insert(finding.owner());
        for other in messages.get(finding.get("raw_sha256")).into_iter().flatten() {
            if (other.get("kind"), other.get("value")) != (kind, value) {
                identifier.tied.entry(other.get("kind")).or_default().add(other.severity());
            }
        }
    }
    let mut list: Vec<_> = found.into_values().collect();
    list.sort_by_key(|identifier| {
        std::cmp::Reverse((identifier.apps.len(), identifier.tied.len(), identifier.count))
    });
    list
}

#[cfg(test)]
mod tests {
    use super::super::input::Input;
    use super::*;

    fn findings() -> Vec<Finding> {
        let mut input = Input::default();
        for line in [
            r#"{"time":"2026-11-20T23:10:00Z","severity":"E","kind":"visited_url","value":"u","app":"b","host":"h","host_owner":"Xiaomi","host_owner_cc":"CN","cc":"SG","as_org":"Alibaba","raw_sha256":"m1"}"#,
            r#"{"time":"2026-11-20T23:10:00Z","severity":"E","kind":"android_id","value":"9f","app":"b","host":"h","host_owner":"Xiaomi","host_owner_cc":"CN","cc":"SG","as_org":"Alibaba","raw_sha256":"m1"}"#,
            r#"{"time":"2026-11-21T01:00:00Z","severity":"W","kind":"android_id","value":"9f","app":"c","host":"x.example","raw_sha256":"m2"}"#,
        ] {
            input.line(line);
        }
        input.finish(None);
        input.findings
    }

    #[test]
    fn an_identifier_gathers_what_was_sent_with_it() {
        let findings = findings();
        let summary = Summary::of(&findings);
        let [identifier] = summary.identifiers.as_slice() else { panic!("{:?}", summary.identifiers) };
        assert_eq!((identifier.count, identifier.apps.len(), identifier.owners.len()), (2, 2, 2));
        assert_eq!(identifier.tied.keys().copied().collect::<Vec<_>>(), ["visited_url"]);
    }

    #[test]
    fn sums_add_up() {
        let findings = findings();
        let summary = Summary::of(&findings);
        assert_eq!((summary.errors, summary.warnings, summary.apps, summary.owners), (2, 1, 2, 2));
        assert_eq!(summary.days["2026-11-20"][23], 2);
        assert_eq!(summary.days["2026-11-21"][1], 1);
        assert_eq!(summary.countries[0].code, "SG");
        assert_eq!(summary.countries.iter().map(|country| country.count).sum::<usize>(), 3);
        assert_eq!(summary.pairs[0].owner, "Xiaomi");
        assert_eq!(summary.span, Some(("2026-11-20T23:10:00Z", "2026-11-21T01:00:00Z")));
    }
}
