//! Requests composed from the protocol facts, one for every row, transport, identifier and encoding, through the whole pipeline;
//! and one table of how many were recognised, per kind.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test's helpers may fail"
)]

mod identifiers;
mod ordinary;
mod outside;
mod protocols;
mod request;
mod transports;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use serde_json::Value;
use telltale::{
    app::AppTable,
    leak::{Crypt, Data, Detector, Finding, Severity, Truth},
    pipeline::{Flow, Pipeline, Settings},
    stream::Chunk,
};

/// The imagined phone's own identifiers.
const TRUTH: &str = include_str!("../samples/device_truth.json");

/// One thing that must be found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wanted {
    /// Names of kinds, either of which is right, joined by `|`.
    pub(crate) kind: &'static str,
    pub(crate) value: String,
    pub(crate) form: Option<String>,
}

/// Something that travels as it is.
pub(crate) fn want(kind: &'static str, value: impl Into<String>) -> Wanted {
    Wanted { kind, value: value.into(), form: None }
}

/// Something that travels in another form.
pub(crate) fn want_as(kind: &'static str, value: impl Into<String>, form: &str) -> Wanted {
    Wanted { form: Some(form.to_owned()), ..want(kind, value) }
}

/// A value of the phone.
pub(crate) fn own(key: &str) -> String {
    static PHONE: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(TRUTH).unwrap());
    PHONE[key].as_str().unwrap().to_owned()
}

/// The phone, the pipeline and the tally of a test.
pub(crate) struct Bench {
    pipeline: Pipeline,
    /// Per kind: wanted, found, said too loud.
    tally: BTreeMap<&'static str, [usize; 3]>,
    wrong: Vec<String>,
    /// Messages checked.
    pub(crate) cases: usize,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let truth = Truth::from_json(TRUTH).unwrap();
        let detector = Detector::new(&truth, Data::built_in().unwrap());
        let mut settings = Settings::new(detector);
        settings.alerts.merge = false;
        settings.alerts.lines_per_hour = 0;
        Bench { pipeline: Pipeline::new(settings), tally: BTreeMap::new(), wrong: Vec::new(), cases: 0 }
    }

    /// What is found in the writes of one connection.
    pub(crate) fn findings(&mut self, app: &str, host: &str, writes: &[&[u8]]) -> Vec<Finding> {
        let mut flow = Flow::new(AppTable::new().named(app, 10_123), Crypt::Tls);
        flow.host = Some(host.to_owned());
        let id = self.pipeline.open(flow);
        let mut alerts = Vec::new();
        for bytes in writes {
            alerts.extend(self.pipeline.push(id, Chunk::Bytes(bytes), 1));
        }
        alerts.extend(self.pipeline.close(id, 1));
        alerts.into_iter().map(|alert| alert.finding).collect()
    }

    /// Sends, and checks that all that is wanted is found, by that sender, and that no other kind is loud.
    pub(crate) fn check(
        &mut self,
        name: &str,
        (app, host): (&str, &str),
        sent: &[u8],
        wanted: &[Wanted],
        sender: Option<&str>,
    ) {
        let found = self.findings(app, host, &[sent]);
        self.judge(name, &found, wanted, sender);
    }

    pub(crate) fn judge(&mut self, name: &str, found: &[Finding], wanted: &[Wanted], sender: Option<&str>) {
        self.cases += 1;
        let kinds: BTreeSet<&str> = wanted.iter().flat_map(|wanted| wanted.kind.split('|')).collect();
        for wanted in wanted {
            let met = found.iter().any(|finding| {
                wanted.kind.split('|').any(|kind| kind == finding.kind.name())
                    && finding.value == wanted.value
                    && (wanted.form.is_none() || finding.form == wanted.form)
                    && (sender.is_none() || finding.sender.as_deref() == sender)
            });
            let row = self.tally.entry(wanted.kind.split('|').next().unwrap()).or_default();
            row[0] += 1;
            row[1] += usize::from(met);
            if !met {
                let said: Vec<_> = found
                    .iter()
                    .map(|f| (f.kind.name(), &f.value, &f.form, &f.sender, &f.via))
                    .take(6)
                    .collect();
                self.wrong.push(format!("{name}: missed {wanted:?} (sender {sender:?}) in {said:?}"));
            }
        }
        for finding in found {
            if finding.severity >= Severity::Warn && !kinds.contains(finding.kind.name()) {
                self.tally.entry(finding.kind.name()).or_default()[2] += 1;
                self.wrong.push(format!(
                    "{name}: too loud {} {:?} via {} at {}",
                    finding.kind.name(),
                    finding.value,
                    finding.via,
                    finding.at
                ));
            }
        }
    }

    /// Prints the table and fails when anything was missed or too loud.
    pub(crate) fn finish(self, title: &str) {
        println!("{title}: {} requests", self.cases);
        println!("kind                  wanted   found   recall  too loud  precision");
        for (kind, [wanted, found, loud]) in &self.tally {
            let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
            println!(
                "{kind:<20} {wanted:>7} {found:>7} {:>6.1} % {loud:>9} {:>8.1} %",
                percent(*found, *wanted),
                percent(*found, found + loud)
            );
        }
        let wrong = self.wrong.len();
        assert_eq!(
            wrong,
            0,
            "{wrong} wrong:\n{}",
            self.wrong.into_iter().take(40).collect::<Vec<_>>().join("\n")
        );
    }
}
