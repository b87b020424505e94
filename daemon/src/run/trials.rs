//! The owner's experiment while the watch runs: `telltale try` leaves it in the store, the answers lie beside it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde_json::{Map, Value, json};

use crate::{
    alert::{Alert, evidence::Evidence},
    app::App,
    leak::{Detector, Truth},
    store,
    trial::{ANSWER_FILE, ASKED_FILE, Trial, Watch},
};

/// The open experiment, if there is one, and what it takes to begin and end one.
pub(super) struct Trials {
    folder: PathBuf,
    /// What is looked for besides.
    truth: Truth,
    evidence: Option<Evidence>,
    stamp: Option<(SystemTime, u64)>,
    watch: Option<Watch>,
    /// The last question that was answered.
    answered: u64,
}

/// A connection whose bytes cannot be read: by whom, to whom, and why.
pub(super) type Unread = (App, String, &'static str);

impl Trials {
    pub(super) fn new(folder: &Path, truth: Truth, evidence: Option<Evidence>) -> Trials {
        Trials { folder: folder.to_owned(), truth, evidence, stamp: None, watch: None, answered: 0 }
    }

    /// Whether one is open.
    pub(super) fn is_open(&self) -> bool {
        self.watch.is_some()
    }

    /// Looks whether the owner began one, asks for a verdict, or its time is over. The answer is a sentence for him.
    pub(super) fn look(
        &mut self,
        detector: &mut Detector,
        unread: impl Iterator<Item = Unread>,
        now_ms: u64,
    ) -> Option<String> {
        let file = self.folder.join(ASKED_FILE);
        let stamp = fs::metadata(&file).ok().and_then(|data| Some((data.modified().ok()?, data.len())));
        let is_over = self.watch.as_ref().is_some_and(|watch| !watch.trial().is_open(now_ms));
        if stamp == self.stamp && !is_over {
            return None;
        }
        self.stamp = stamp;
        // Taken away, or no experiment: none is open.
        let asked = fs::read_to_string(&file).ok().and_then(|text| Trial::from_json(&text).ok());
        let asked = asked.filter(|trial| trial.is_open(now_ms));
        let Some(trial) = asked else {
            return self.watch.take().map(|_| {
                self.look_for(detector, None);
                "the experiment of telltale try is over".to_owned()
            });
        };
        if let Some(watch) = self.watch.as_mut().filter(|watch| watch.trial().id == trial.id) {
            if trial.asked > watch.trial().asked {
                watch.ask(trial.asked);
                for (app, host, why) in unread {
                    watch.unreadable(&app, &host, why);
                }
                self.answer(now_ms);
            }
            return None;
        }
        self.look_for(detector, Some(&trial));
        self.watch = Some(Watch::new(trial));
        self.answered = 0;
        self.publish(now_ms);
        Some("an experiment of telltale try is watched for one day".to_owned())
    }

    fn look_for(&self, detector: &mut Detector, trial: Option<&Trial>) {
        let mut truth = self.truth.clone();
        truth.canaries = trial.map(Trial::canaries).unwrap_or_default();
        detector.look_for(&truth);
    }

    /// Looks at what was found.
    pub(super) fn see(&mut self, alerts: &[Alert], now_ms: u64) {
        let Some(watch) = &mut self.watch else { return };
        let new: Vec<_> = alerts.iter().filter_map(|alert| watch.see(alert)).collect();
        if new.is_empty() {
            return;
        }
        let records: Vec<_> = new.iter().map(|outcome| outcome.record(watch.trial(), now_ms)).collect();
        self.keep(records);
        self.publish(now_ms);
    }

    /// An app sent something that was read.
    pub(super) fn readable(&mut self, app: &App) {
        if let Some(watch) = &mut self.watch {
            watch.readable(app);
        }
    }

    /// A connection ended that could not be read.
    pub(super) fn unreadable(&mut self, (app, host, why): &Unread) {
        if let Some(watch) = &mut self.watch {
            watch.unreadable(app, host, why);
        }
    }

    fn answer(&mut self, now_ms: u64) {
        let Some(watch) = &self.watch else { return };
        self.answered = watch.trial().asked;
        let records = watch.outcomes().iter().map(|outcome| outcome.record(watch.trial(), now_ms)).collect();
        self.keep(records);
        self.publish(now_ms);
    }

    fn keep(&self, records: Vec<Map<String, Value>>) {
        let Some(evidence) = &self.evidence else { return };
        for record in records {
            if let Err(error) = evidence.append(record) {
                log::warn!("{error}");
            }
        }
    }

    /// Writes what is known now, for `telltale try` to show.
    fn publish(&self, now_ms: u64) {
        let Some(watch) = &self.watch else { return };
        let trial = watch.trial();
        let outcomes: Vec<_> = watch
            .outcomes()
            .iter()
            .map(|outcome| json!({"sentence": outcome.sentence(), "record": outcome.record(trial, now_ms)}))
            .collect();
        let answer = json!({"id": trial.id, "answered": self.answered, "outcomes": outcomes});
        if let Err(error) = store::write(&self.folder, ANSWER_FILE, answer.to_string().as_bytes()) {
            log::warn!("{error}");
        }
    }
}
