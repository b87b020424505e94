//! JSON lines → what a report is made of. Every text in them may come from an app: it is cleaned and cut here, once.
//!
//! Three kinds of line, told apart by `type`; anything else is counted and left out:
//!
//! - none or `finding`: an alert as `--json` writes it, or an evidence record (which carries the same fields),
//! - `coverage`: `since`, `time` and `apps`, each with `app`, `label`, `read`, `unread` (reason → bytes) and `destinations`, as the watch
//!   keeps it beside the evidence; the last such line counts,
//! - `try`: `trial`, `place`, `what`, `verdict`, `app`, `host`, `via`, `why`.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::app::{AppTable, NO_UID};
use crate::coverage::Parts;

/// Longest text kept of one field, in bytes: a page address is shorter, a hostile field is not.
const LONGEST: usize = 2048;

/// What apps are called, where a line names only the package.
static APPS: LazyLock<AppTable> = LazyLock::new(AppTable::new);

/// The fields a finding may have, as `--json` names them. The page's proof shows them under these names.
pub const FIELDS: &[&str] = &[
    "time",
    "severity",
    "kind",
    "value",
    "form",
    "raw",
    "asked",
    "by",
    "app",
    "label",
    "app_version",
    "uid",
    "user",
    "pid",
    "process",
    "sender",
    "host",
    "ip",
    "port",
    "iface",
    "cc",
    "asn",
    "as_org",
    "host_owner",
    "host_owner_cc",
    "protocol",
    "crypt",
    "via",
    "at",
    "attr",
    "seen",
    "first",
    "last",
    "bytes",
    "raw_sha256",
    "why",
    "id",
];

/// One finding: the fields it has, cleaned.
#[derive(Debug, Clone, Default)]
pub struct Finding(Vec<(&'static str, String)>);

impl Finding {
    /// A field; empty when absent.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    /// Another text for a field that it has; an empty one takes the field away.
    pub(super) fn change(&mut self, name: &str, new: impl FnOnce(&str) -> String) {
        if let Some(at) = self.0.iter().position(|(key, _)| *key == name) {
            let text = self.0.get(at).map(|(_, old)| new(old)).unwrap_or_default();
            match self.0.get_mut(at) {
                Some((_, old)) if !text.is_empty() => *old = text,
                _ => drop(self.0.remove(at)),
            }
        }
    }

    /// Whether the app is one the owner looks at pages with.
    pub(super) fn is_of_browser(&self) -> bool {
        is_browser(self.get("app"))
    }

    /// The fields it has.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(key, value)| (*key, value.as_str()))
    }

    /// `E`, `W`, `I` or `D`.
    pub fn severity(&self) -> Severity {
        match self.get("severity").as_bytes().first().map(u8::to_ascii_uppercase) {
            Some(b'E') => Severity::E,
            Some(b'W') => Severity::W,
            Some(b'D') => Severity::D,
            _ => Severity::I,
        }
    }

    /// What to call the app.
    pub fn app(&self) -> &str {
        first_of(&[self.get("label"), self.get("app")], "unknown app")
    }

    /// Who got it: the owner of the host name, else the name or address itself.
    pub fn owner(&self) -> &str {
        first_of(&[self.get("host_owner"), self.get("host"), self.get("ip")], "unknown")
    }

    /// How often it was seen.
    pub fn seen(&self) -> u64 {
        self.get("seen").parse().unwrap_or(1).max(1)
    }
}

/// How loud, from the quietest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Severity {
    /// The peeling.
    D,
    /// The rest.
    #[default]
    I,
    /// Worth a look.
    W,
    /// A lasting identifier joined with content.
    E,
}

impl Severity {
    /// The letter, which is also the class in the style sheet.
    pub fn letter(self) -> &'static str {
        match self {
            Self::D => "D",
            Self::I => "I",
            Self::W => "W",
            Self::E => "E",
        }
    }
}

/// What of an app's traffic could be read.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    /// What to call the app.
    pub app: String,
    /// It is one the owner looks at pages with.
    pub is_browser: bool,
    /// Bytes whose content was read.
    pub read: u64,
    /// Bytes of which only the host is known, or nothing.
    pub unread: u64,
    /// Why, in words.
    pub why: Vec<String>,
    /// Where the unread bytes went.
    pub to: Vec<String>,
}

/// The owner's own experiment.
#[derive(Debug, Clone, Default)]
pub struct Trial {
    /// Which one it belongs to.
    pub trial: String,
    /// Where he put the thing: `private tab`.
    pub place: String,
    /// What he put there: `address`, `search phrase`, …
    pub what: String,
    /// `sent`, `not seen`, `not readable there`.
    pub verdict: String,
    /// To whom and how, when sent; else why not.
    pub how: String,
}

impl Trial {
    /// Whether what `new` says stands for what this said: a later verdict for an earlier one, what was sent for "not seen",
    /// a way once.
    fn is_replaced_by(&self, new: &Trial) -> bool {
        let same = !self.trial.is_empty() && self.trial == new.trial && self.what == new.what;
        same && (self.verdict != "sent" || self.how == new.how)
    }
}

/// Everything a report is made of.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// The findings, newest first.
    pub findings: Vec<Finding>,
    /// Coverage per app, that with the most unread bytes first.
    pub coverage: Vec<Coverage>,
    /// From when to when coverage was counted, RFC 3339; empty when not known.
    pub coverage_span: [String; 2],
    /// Experiments in the order given.
    pub trials: Vec<Trial>,
    /// Lines that were nothing of these.
    pub odd_lines: usize,
}

impl Input {
    /// Reads one line.
    pub fn line(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        let Ok(Value::Object(map)) = serde_json::from_str::<Value>(line) else {
            self.odd_lines = self.odd_lines.saturating_add(1);
            return;
        };
        self.record(&map);
    }

    /// Takes one record.
    pub fn record(&mut self, map: &Map<String, Value>) {
        let text = |key: &str| map.get(key).and_then(plain).unwrap_or_default();
        match text("type").as_str() {
            "" | "finding" if map.contains_key("kind") => {
                let fields = FIELDS.iter().filter_map(|&key| Some((key, map.get(key).and_then(plain)?)));
                let mut finding = Finding(fields.filter(|(_, value)| !value.is_empty()).collect());
                if finding.get("label").is_empty() && !finding.get("app").is_empty() {
                    let label = APPS.named(finding.get("app"), NO_UID).label;
                    finding.0.push(("label", label));
                }
                self.findings.push(finding);
            }
            "coverage" => self.coverage(map),
            "try" => {
                let sent = text("verdict") == "sent";
                let how = [("by ", "app"), ("to ", "host"), ("as ", "via"), ("", "why")];
                let how = how.map(|(word, key)| (word, text(key)));
                let how = how.iter().filter(|(_, value)| !value.is_empty()).map(|(word, value)| {
                    if word.is_empty() && sent { format!("({value})") } else { format!("{word}{value}") }
                });
                let how = how.collect::<Vec<_>>().join(" ");
                let (trial, what, verdict) = (text("trial"), text("what"), text("verdict"));
                let new = Trial { trial, place: text("place"), what, verdict, how };
                let is_old =
                    |old: &Trial| old.trial == new.trial && old.what == new.what && old.verdict == "sent";
                if new.trial.is_empty() || new.verdict == "sent" || !self.trials.iter().any(is_old) {
                    self.trials.retain(|old| !old.is_replaced_by(&new));
                    self.trials.push(new);
                }
            }
            // The store's own book-keeping: no finding, nothing odd.
            "message" | "forgotten" | "start" | "library" => {}
            _ => self.odd_lines = self.odd_lines.saturating_add(1),
        }
    }

    fn coverage(&mut self, map: &Map<String, Value>) {
        self.coverage_span = ["since", "time"].map(|key| map.get(key).and_then(plain).unwrap_or_default());
        let rows =
            map.get("apps").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
        self.coverage = rows
            .map(|row| {
                let text = |key: &str| row.get(key).and_then(plain).unwrap_or_default();
                let parts = Parts::from_json(row);
                let listed = row.get("destinations").and_then(Value::as_array).into_iter().flatten();
                let is_unread =
                    |one: &&Value| one.as_object().is_some_and(|one| Parts::from_json(one).all_unread() > 0);
                let to = listed.filter(is_unread);
                Coverage {
                    app: first_of(&[&text("label"), &text("app")], "unknown app").to_owned(),
                    is_browser: is_browser(&text("app")),
                    read: parts.read,
                    unread: parts.all_unread(),
                    why: parts
                        .reasons()
                        .iter()
                        .map(|(reason, bytes)| {
                            format!("{} ({})", reason.words(), crate::coverage::size(*bytes))
                        })
                        .collect(),
                    to: to.filter_map(|one| plain(one.get("destination")?)).collect(),
                }
            })
            .filter(|row| row.read > 0 || row.unread > 0)
            .collect();
    }

    /// Puts the newest finding first and keeps at most `last` of them.
    pub fn finish(&mut self, last: Option<usize>) {
        self.findings.retain(|finding| finding.severity() > Severity::D);
        self.findings.sort_by(|a, b| b.get("time").cmp(a.get("time")));
        self.findings.truncate(last.unwrap_or(usize::MAX));
    }
}

fn is_browser(app: &str) -> bool {
    APPS.named(app, NO_UID).role.as_deref() == Some("browser")
}

fn first_of<'a>(candidates: &[&'a str], otherwise: &'a str) -> &'a str {
    candidates.iter().copied().find(|text| !text.is_empty()).unwrap_or(otherwise)
}

/// A scalar as clean text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(clean(text)),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// Text that cannot steer the page it is shown in: no control characters, no bidi marks, bounded.
pub fn clean(text: &str) -> String {
    let mut cleaned: String = text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect();
    if cleaned.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|&at| cleaned.is_char_boundary(at)).unwrap_or(0);
        cleaned.truncate(end);
        cleaned.push('…');
    }
    cleaned
}

/// The same for text of several lines.
pub fn clean_lines(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", clean(line))).collect()
}

/// Control characters, and those that reorder or hide the text around them (Unicode TR36, section 2.3 and 3.4).
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(lines: &[&str]) -> Input {
        let mut input = Input::default();
        lines.iter().for_each(|line| input.line(line));
        input.finish(None);
        input
    }

    #[test]
    fn the_three_kinds_of_line_are_told_apart() {
        let input = input(&[
            r#"{"time":"2026-11-21T09:00:00Z","severity":"W","kind":"location","app":"com.miui.home","port":443}"#,
            r#"{"type":"finding","time":"2026-11-21T10:00:00Z","severity":"info","kind":"music","label":"Music"}"#,
            r#"{"type":"coverage","apps":[{"app":"a","uid":1,"read":5,"unread":{"quic":7},"destinations":[{"destination":"h","unread":{"quic":7}},{"destination":"i","read":5}]},{"app":"idle","uid":2}]}"#,
            r#"{"type":"try","place":"private tab","what":"address","verdict":"sent","app":"b","host":"h"}"#,
            r#"{"type":"start","prev":"00"}"#,
            r#"{"type":"library","path":"/system/lib64/libssl.so"}"#,
            "not json",
            "[1]",
            r#"{"type":"other"}"#,
            "",
        ]);
        assert_eq!(input.findings.len(), 2);
        assert_eq!((input.findings[0].get("kind"), input.findings[0].app()), ("music", "Music"));
        // A package with a name that is known.
        assert_eq!(input.findings[1].app(), APPS.named("com.miui.home", NO_UID).label);
        assert_ne!(input.findings[1].app(), "com.miui.home");
        assert_eq!((input.findings[1].get("port"), input.findings[1].severity()), ("443", Severity::W));
        assert_eq!(
            (&input.coverage[0].why[..], &input.coverage[0].to[..]),
            (&["QUIC (7 B)".into()][..], &["h".into()][..])
        );
        assert_eq!(input.coverage.len(), 1);
        assert_eq!(input.trials[0].how, "by b to h");
        assert_eq!(input.odd_lines, 3);
    }

    #[test]
    fn what_steers_text_is_replaced_and_long_text_cut() {
        assert_eq!(clean("a\u{202e}b\nc\u{7f}d\u{200b}"), "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}");
        let long = clean(&"é".repeat(3000));
        assert!(long.len() <= LONGEST + 3 && long.ends_with('…'));
    }

    #[test]
    fn a_later_verdict_stands_for_an_earlier_one() {
        let line = |what: &str, verdict: &str, host: &str| {
            format!(
                r#"{{"type":"try","trial":"t","what":"{what}","verdict":"{verdict}","app":"b","host":"{host}"}}"#
            )
        };
        let lines = [
            line("address", "not seen", ""),
            line("address", "sent", "h"),
            line("address", "sent", "h"),
            line("address", "sent", "i"),
            line("address", "not seen", ""),
            line("song title", "not readable there", ""),
            line("song title", "not seen", ""),
        ];
        let input = input(&lines.each_ref().map(String::as_str));
        let told: Vec<_> =
            input.trials.iter().map(|trial| (trial.verdict.as_str(), trial.how.as_str())).collect();
        assert_eq!(told, [("sent", "by b to h"), ("sent", "by b to i"), ("not seen", "by b")]);
    }

    #[test]
    fn the_last_coverage_counts_and_old_findings_can_be_left_out() {
        let mut input = input(&[
            r#"{"type":"coverage","apps":[{"app":"a","read":5}]}"#,
            r#"{"type":"coverage","since":"2026-11-21T09:00:00Z","apps":[{"app":"a","read":9}]}"#,
            r#"{"time":"1","kind":"music"}"#,
            r#"{"time":"2","kind":"music"}"#,
        ]);
        assert_eq!((input.coverage.len(), input.coverage[0].read), (1, 9));
        input.finish(Some(1));
        assert_eq!(input.findings[0].get("time"), "2");
    }
}
