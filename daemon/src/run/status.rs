//! What `telltale status` is answered: what is hooked, since when, what was lost, how much is read and why the rest is not.

use std::{collections::BTreeMap, time::SystemTime};

use serde_json::{Map, Value, json};

use super::losses::Losses;
use crate::{
    coverage::View,
    kernel::{SendsPath, Session},
    sealed, stream,
};

/// Apps and destinations listed; the rest is in the total.
const APPS: usize = 100;
const DESTINATIONS: usize = 50;

/// What the answer is made of.
pub(super) struct Status<'a> {
    pub(super) session: &'a Session,
    pub(super) began: SystemTime,
    pub(super) losses: &'a Losses,
    /// Attempts as of before the last pass.
    pub(super) attempts: u64,
    pub(super) order: stream::Counts,
    /// Connections followed.
    pub(super) connections: usize,
    pub(super) view: View,
    /// Messages that a decoder failed on.
    pub(super) failed: u64,
    /// Processes by what became of looking into their ciphers.
    pub(super) ciphers: BTreeMap<&'static str, usize>,
    /// What they encrypted, in numbers only.
    pub(super) encrypted: sealed::Counts,
}

impl Status<'_> {
    /// One line of JSON.
    pub(super) fn line(&self) -> String {
        let session = self.session;
        let libraries: Vec<Value> = session
            .libraries()
            .iter()
            .map(|library| {
                json!({ "path": library.path.display().to_string(), "functions": library.functions, "since": time(library.since) })
            })
            .collect();
        let unreadable: Vec<String> =
            session.unreadable().iter().map(|path| path.display().to_string()).collect();
        let on_probation: Vec<String> =
            session.on_probation().map(|path| path.display().to_string()).collect();
        let not_hooked: Vec<Value> = session
            .not_hooked()
            .iter()
            .map(|one| json!({ "path": one.path.display().to_string(), "why": one.why }))
            .collect();
        let sealed::Counts { seen, joined, forgotten } = self.encrypted;
        let rings: Vec<Value> = session
            .rings()
            .map(|ring| json!({ "cpu": ring.cpu, "bytes": ring.bytes, "fullest": ring.fullest }))
            .collect();
        let mut lost = json!({ "records": self.losses.told(), "missing_in_order": self.order.missing,
            "not_understood": self.losses.not_understood() });
        if let (Value::Object(lost), Some(last)) = (&mut lost, self.losses.last()) {
            lost.insert("last".into(), time(last).into());
        }
        let apps: Vec<Value> = self
            .view
            .apps
            .iter()
            .take(APPS)
            .map(|app| {
                let mut object = app.parts.to_json();
                let destinations: Vec<Value> = app
                    .destinations
                    .iter()
                    .take(DESTINATIONS)
                    .map(|(name, one)| with(one.to_json(), &[("destination", name.as_str().into())]))
                    .collect();
                object.insert("destinations".into(), destinations.into());
                with(object, &[("app", app.app.as_str().into()), ("uid", app.uid.into())])
            })
            .collect();
        json!({
            "telltale": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "since": time(self.began),
            "attach": session.attach_path().name(),
            "memory": session.memory_path().name(),
            "sends": session.sends_path().map_or("off", SendsPath::name),
            "libraries": libraries,
            "unreadable": unreadable,
            "on_probation": on_probation,
            "not_hooked": not_hooked,
            "ciphers": { "processes": self.ciphers, "messages": { "seen": seen, "joined": joined, "forgotten": forgotten } },
            "rings": rings,
            "records": session.records(),
            "attempts": self.attempts,
            "lost": lost,
            "connections": self.connections,
            "failed_messages": self.failed,
            "coverage": { "total": self.view.total.to_json(), "apps": apps },
        })
        .to_string()
            + "\n"
    }
}

/// The same with these fields before it.
fn with(object: Map<String, Value>, first: &[(&str, Value)]) -> Value {
    let mut all: Map<String, Value> =
        first.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    all.extend(object);
    all.into()
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::{Parts, Reason};

    #[test]
    fn the_parts_that_are_said_are_the_whole_that_is_said() {
        let mut sample = Parts::read(10);
        sample.tls_overhead = 5;
        sample.add_unread(Reason::Quic, 7);
        sample.add_unread(Reason::Lost, 1);
        let said = with(sample.to_json(), &[("app", "a".into())]);
        let expected = json!({ "app": "a", "bytes": 23, "read": 10, "tls_overhead": 5, "unread": { "quic": 7, "lost": 1 } });
        assert_eq!(said.to_string(), expected.to_string());
    }
}
