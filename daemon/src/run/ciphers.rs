//! Whose ciphers are watched, as processes come and go, and what they deliver on its way to the pipeline.
//!
//! An app encrypts first and sends then, often on another thread and processor. So that everything that was encrypted before a send is
//! known when the send is looked at, what watched processes send is held back for one pass over the rings.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use super::flows::{Flows, is_alive};
use crate::{
    kernel::{CipherWatch, Pass, Session},
    record::Event,
    sealed::{Choice, State},
    stream::Order,
};

/// What is decided, and what is held back.
pub(super) struct Ciphers {
    /// Each process met, with the uid it had then.
    met: HashMap<u32, u32>,
    watched: HashSet<u32>,
    /// What watched processes sent, read in the last pass.
    held_back: Vec<Event>,
    /// Of the policy that was decided by.
    generation: u64,
    began: Instant,
    /// A failure that has been told.
    told: bool,
}

impl Ciphers {
    /// Looks at every process there is.
    pub(super) fn new(session: &mut Session, flows: &mut Flows) -> Ciphers {
        let mut ciphers = Ciphers {
            met: HashMap::new(),
            watched: HashSet::new(),
            held_back: Vec::new(),
            generation: flows.settings().sealed.generation(),
            began: Instant::now(),
            told: false,
        };
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids: Vec<u32> =
            processes.filter_map(|process| process.file_name().to_str()?.parse().ok()).collect();
        for pid in pids {
            ciphers.consider(pid, None, session, flows);
        }
        ciphers
    }

    /// Looks at the processes that have mapped something: a new app, or a library that was not there before.
    pub(super) fn follow_mappings(&mut self, session: &mut Session, flows: &mut Flows) {
        for pid in session.take_mappers() {
            self.consider(pid, None, session, flows);
        }
    }

    /// One pass over the rings. What was encrypted is taken in; what watched processes sent follows with the next pass.
    pub(super) fn drain(&mut self, session: &mut Session, order: &mut Order, flows: &mut Flows) -> Pass {
        let now = self.now_ms();
        let due = std::mem::take(&mut self.held_back);
        let mut new: Vec<(u32, u32)> = Vec::new();
        let ledger = flows.coverage.ledger();
        let mut ledger = ledger.borrow_mut();
        let held = &mut flows.settings().sealed.held;
        let had = !held.is_empty();
        held.forget(now);
        if had && held.is_empty() {
            // The rings hold what was written last until they have come round: they are given back for fresh ones.
            session.renew_rings();
            log::debug!("nothing that apps encrypted is held any more: {:?}", held.counts());
        }
        let pass = session.drain(&mut |pass, event| {
            if event.is_cipher() {
                return held.take(event, now);
            }
            ledger.take(&event);
            let (pid, uid) = (event.connection.tgid, event.uid);
            if self.met.get(&pid) != Some(&uid) {
                self.met.insert(pid, uid);
                new.push((pid, uid));
            }
            if self.watched.contains(&pid) { self.held_back.push(event) } else { order.push(pass, event) }
        });
        drop(ledger);
        for event in due {
            order.push(pass.number, event);
        }
        for (pid, uid) in new {
            self.consider(pid, Some(uid), session, flows);
        }
        pass
    }

    /// True while something is held back: another pass is due.
    pub(super) fn is_waiting(&self) -> bool {
        !self.held_back.is_empty()
    }

    /// How long the loop may sleep before something must be forgotten; none when nothing is held.
    pub(super) fn timeout(&self, flows: &mut Flows) -> Option<Duration> {
        let due = flows.settings().sealed.held.due_ms()?;
        Some(Duration::from_millis(due.saturating_sub(self.now_ms()).saturating_add(1)))
    }

    /// True while something of this process is held back.
    pub(super) fn holds_back(&self, process: u32) -> bool {
        self.held_back.iter().any(|event| event.connection.tgid == process)
    }

    /// Lets go of processes that are gone, and decides anew about all when the configuration has changed.
    pub(super) fn tidy(&mut self, session: &mut Session, flows: &mut Flows) {
        let generation = flows.settings().sealed.generation();
        let anew = std::mem::replace(&mut self.generation, generation) != generation;
        let pids: Vec<u32> = self.met.keys().copied().collect();
        for pid in pids {
            if !is_alive(pid) {
                self.met.remove(&pid);
                self.leave(pid, session);
                flows.settings().sealed.gone(pid);
            } else if anew {
                self.consider(pid, None, session, flows);
            }
        }
    }

    fn consider(&mut self, pid: u32, uid: Option<u32>, session: &mut Session, flows: &mut Flows) {
        let Some(uid) = uid.or_else(|| uid_of(pid)) else { return };
        self.met.insert(pid, uid);
        let app = flows.app(uid, pid);
        let state = match flows.settings().sealed.policy().choice(&app) {
            Choice::Leave(state) => {
                self.leave(pid, session);
                state
            }
            Choice::Watch => match session.watch_ciphers(pid) {
                Ok(CipherWatch::Watched) => {
                    if self.watched.insert(pid) {
                        log::debug!("watching what {} (pid {pid}) encrypts", app.name);
                    }
                    State::Watched
                }
                Ok(CipherWatch::NoLibrary) => State::NoLibrary,
                Ok(CipherWatch::Bits32) => State::Bits32,
                Ok(CipherWatch::Full) => State::Refused,
                Ok(CipherWatch::Gone) => return self.leave(pid, session),
                Err(error) => {
                    if !std::mem::replace(&mut self.told, true) {
                        log::warn!("what {} encrypts cannot be looked at: {error}", app.name);
                    }
                    State::Refused
                }
            },
        };
        flows.settings().sealed.set(pid, &app, state);
    }

    fn leave(&mut self, pid: u32, session: &mut Session) {
        if self.watched.remove(&pid) {
            session.unwatch_ciphers(pid);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The uid a process runs under.
fn uid_of(pid: u32) -> Option<u32> {
    // The folder itself belongs to the process's effective uid whether or not it may be traced.
    fs::metadata(Path::new("/proc").join(pid.to_string())).ok().map(|data| data.uid())
}
