//! Feeds the coverage ledger: what the watch knows of a connection, the programs' own counts, what turned out sealed.

use std::{
    cell::RefCell,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

use serde_json::Value;

use crate::{
    alert::Alert,
    coverage::{Hourly, Ledger, Limits, Owner, View, ViewedApp},
    kernel::Session,
    pipeline::{Flow, Observer},
    record::ConnectionId,
    store,
    unwrap::Tree,
    wire::Message,
};

/// The ledger and what belongs to it.
pub(super) struct Coverage {
    ledger: Rc<RefCell<Ledger>>,
    hourly: Hourly,
    began: Instant,
    kept: Option<Kept>,
}

/// What earlier runs counted, and where all of it is kept.
struct Kept {
    evidence: PathBuf,
    earlier: View,
    /// Since when it was counted.
    since: String,
    /// It has been written: where it is gone then, the owner took it away.
    written: bool,
}

/// What was counted longer ago than evidence is kept is dropped with it.
const OLDEST: Duration = Duration::from_secs(60 * 24 * 60 * 60);

impl Coverage {
    pub(super) fn new() -> Coverage {
        Coverage {
            ledger: Rc::new(RefCell::new(Ledger::new(Limits::default()))),
            hourly: Hourly::new(0),
            began: Instant::now(),
            kept: None,
        }
    }

    /// Goes on from what earlier runs kept in this folder of evidence.
    pub(super) fn go_on(&mut self, evidence: PathBuf) {
        let record = store::coverage(&evidence).unwrap_or_default();
        let since = record.get("since").and_then(Value::as_str).filter(|since| is_recent(since));
        let (earlier, since) = match since {
            Some(since) => (View::from_json(&record), since.to_owned()),
            None => (View::default(), now()),
        };
        self.kept = Some(Kept { evidence, earlier, since, written: false });
    }

    /// Writes what was counted up to now, by this run and earlier ones.
    pub(super) fn keep(&mut self, label: impl Fn(&ViewedApp) -> String) -> Result<(), store::Error> {
        let view = self.view();
        let Some(kept) = &mut self.kept else { return Ok(()) };
        if kept.written && !kept.evidence.join(store::COVERAGE_FILE).exists() {
            (kept.earlier, kept.since) = (View::default(), now());
        }
        let mut sum = kept.earlier.clone();
        sum.add(&view);
        store::keep_coverage(&kept.evidence, sum.to_json(&kept.since, &now(), label))?;
        kept.written = true;
        Ok(())
    }

    /// What takes the records as they are read.
    pub(super) fn ledger(&self) -> Rc<RefCell<Ledger>> {
        self.ledger.clone()
    }

    /// Whose a connection is. `loopback`: what this machine sends to itself counts.
    pub(super) fn describe(&self, id: ConnectionId, flow: &Flow, users: &[u32], loopback: bool) {
        let owner = Owner {
            app: &flow.app.name,
            uid: flow.app.uid,
            host: flow.host.clone(),
            address: address(flow),
            is_other_users: !users.contains(&flow.app.user),
            stays: flow.loopback && !loopback,
        };
        self.ledger.borrow_mut().describe(id, owner);
    }

    /// A connection leads nowhere but to this machine.
    pub(super) fn stays(&self, id: ConnectionId) {
        self.ledger.borrow_mut().stays(id);
    }

    /// An `SSL*` writes at this time to this descriptor.
    pub(super) fn carried_by(&self, ssl: ConnectionId, fd: u32, ktime: u64) {
        self.ledger.borrow_mut().carried_by(ssl, fd, ktime);
    }

    /// A pass over all rings has been looked at.
    pub(super) fn end_pass(&self) {
        self.ledger.borrow_mut().end_pass();
    }

    /// A connection is over.
    pub(super) fn end(&self, id: ConnectionId) {
        self.ledger.borrow_mut().end(id);
    }

    /// The connections it knows.
    pub(super) fn connections(&self) -> Vec<ConnectionId> {
        self.ledger.borrow().connections()
    }

    /// Asks the programs for their counts: what was sent and not taken is told by no record before the end.
    pub(super) fn count(&self, session: &Session, which: impl Fn(&ConnectionId) -> bool) {
        for id in self.connections().into_iter().filter(which) {
            match session.sent(id) {
                Ok(Some(ended)) => self.ledger.borrow_mut().counted(id, ended),
                Ok(None) => {}
                Err(error) => log::debug!("{error}"),
            }
        }
    }

    /// Everything so far.
    pub(super) fn view(&self) -> View {
        self.ledger.borrow().view()
    }

    /// Whether the hourly line is due.
    pub(super) fn is_hour_over(&self) -> bool {
        self.hourly.is_due(self.now_ms())
    }

    /// The hourly line, once it is due.
    pub(super) fn hourly(&mut self) -> Option<String> {
        let (now, view) = (self.now_ms(), self.view());
        self.hourly.line(now, &view)
    }

    /// Sees every message, for what looks encrypted in it, and passes it on.
    pub(super) fn observer(&self, next: Option<Box<dyn Observer>>) -> Box<dyn Observer> {
        Box::new(Sealed { ledger: self.ledger.clone(), next })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

struct Sealed {
    ledger: Rc<RefCell<Ledger>>,
    next: Option<Box<dyn Observer>>,
}

impl Observer for Sealed {
    fn message(&mut self, flow: &Flow, message: &Message, tree: &Tree, alerts: &[Alert]) {
        if let (Some(opaque), Some(destination)) = (&tree.opaque, flow.host.clone().or_else(|| address(flow)))
        {
            let bytes = opaque.bytes as u64;
            self.ledger.borrow_mut().sealed(&flow.app.name, flow.app.uid, &destination, bytes);
        }
        if let Some(next) = &mut self.next {
            next.message(flow, message, tree, alerts);
        }
    }
}

fn address(flow: &Flow) -> Option<String> {
    flow.peer.map(|peer| peer.ip().to_canonical().to_string())
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

fn is_recent(time: &str) -> bool {
    let then = humantime::parse_rfc3339(time);
    then.is_ok_and(|then| SystemTime::now().duration_since(then).unwrap_or_default() < OLDEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::Parts;

    #[test]
    fn what_was_counted_is_kept_until_its_owner_takes_it_away() {
        let folder = tempfile::tempdir().unwrap();
        let run = |bytes: u64| {
            let mut coverage = Coverage::new();
            coverage.go_on(folder.path().to_owned());
            coverage.kept.as_mut().unwrap().earlier.total.read += bytes;
            coverage.kept.as_mut().unwrap().earlier.apps.push(ViewedApp {
                app: format!("a{bytes}"),
                uid: 7,
                parts: Parts::read(bytes),
                destinations: Vec::new(),
            });
            coverage.keep(|app| app.app.clone()).unwrap();
            coverage
        };
        let kept = || View::from_json(&store::coverage(folder.path()).unwrap());
        run(5);
        let mut second = run(6);
        assert_eq!((kept().total.read, kept().apps.len()), (11, 2));
        std::fs::remove_file(folder.path().join(store::COVERAGE_FILE)).unwrap();
        second.keep(|app| app.app.clone()).unwrap();
        assert_eq!(kept().total.read, 0);
        // Two months later nobody adds to it.
        let record =
            View::default().to_json("2001-01-01T00:00:00Z", "2001-01-02T00:00:00Z", |_| String::new());
        store::keep_coverage(folder.path(), record).unwrap();
        let mut coverage = Coverage::new();
        coverage.go_on(folder.path().to_owned());
        assert!(is_recent(&coverage.kept.as_ref().unwrap().since));
    }
}
