//! What an app encrypts itself before it sends it: joined to what left, else forgotten.
//!
//! The hooks on ciphers deliver clear text that may be anything: a report about the owner, a password, a letter. Which of it is
//! this program's business is decided by one question only: did the very bytes that the cipher made of it leave the app? Text is
//! held in memory for [`HOLD_MS`], overwritten when that is over, and never written or logged anywhere unless its cipher text was
//! found in a message that was sent. Then it is a layer of that message.
#![forbid(unsafe_code)]

mod join;
mod names;
mod policy;

pub use join::{Counts, Found, Held, Limits};
pub use policy::{Choice, Policy};

use std::collections::{BTreeMap, HashMap};

use crate::{
    app::App,
    unwrap::{Opened, Opener},
};

/// How long text waits for its cipher text to leave, in milliseconds. Sensors Analytics encrypts an event when it happens and sends it
/// with others up to 15 seconds later (sa-sdk-android, SAConfigOptions.mFlushInterval); most other senders encrypt as they send.
pub const HOLD_MS: u64 = 20_000;

/// What became of looking into a process's ciphers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Its calls are watched.
    Watched,
    /// It is not on the list.
    Unlisted,
    /// It is on the list of apps that are never looked into.
    Never,
    /// It runs 32-bit code, which cannot be hooked on this kernel.
    Bits32,
    /// It has no cipher library that tells the names of its functions.
    NoLibrary,
    /// More such processes than are watched at once, or the kernel refused.
    Refused,
}

impl State {
    /// Why what such a process sealed is not readable, for people.
    pub fn why(self) -> &'static str {
        match self {
            State::Watched => {
                "its calls of the phone's cipher library are watched, and none made this: it may carry a cipher of its own, or this was sealed earlier"
            }
            State::Unlisted => "what this app encrypts is not looked into (option `unseal`)",
            State::Never => "what this app encrypts is never looked into",
            State::Bits32 => "it runs 32-bit code, whose calls of a cipher cannot be watched",
            State::NoLibrary => "it uses no cipher library whose functions can be found",
            State::Refused => "its calls of a cipher could not be watched",
        }
    }

    /// One word for programs.
    pub fn word(self) -> &'static str {
        match self {
            State::Watched => "watched",
            State::Unlisted => "unlisted",
            State::Never => "never",
            State::Bits32 => "32-bit",
            State::NoLibrary => "no-library",
            State::Refused => "refused",
        }
    }
}

/// What is known of the ciphers of running apps: who is looked into, and what they encrypted lately.
#[derive(Debug, Default)]
pub struct Sealed {
    /// What they encrypted lately.
    pub held: Held,
    policy: Policy,
    /// Grows when the policy changes.
    generation: u64,
    processes: HashMap<u32, Process>,
}

#[derive(Debug)]
struct Process {
    app: String,
    state: State,
}

impl Sealed {
    /// With nothing held.
    pub fn new(policy: Policy) -> Sealed {
        Sealed { policy, ..Sealed::default() }
    }

    /// Whose ciphers are looked into.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Goes by another policy from now on: what was decided of processes is to be decided anew.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        self.generation = self.generation.wrapping_add(1);
    }

    /// Another number after each [`Sealed::set_policy`].
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Says what became of looking into a process of an app.
    pub fn set(&mut self, tgid: u32, app: &App, state: State) {
        self.processes.insert(tgid, Process { app: app.name.clone(), state });
    }

    /// The process is gone.
    pub fn gone(&mut self, tgid: u32) {
        self.processes.remove(&tgid);
    }

    /// What became of looking into a process; none when it was not met yet.
    pub fn state(&self, tgid: u32) -> Option<State> {
        self.processes.get(&tgid).map(|process| process.state)
    }

    /// How many of the processes met are looked into, and how many are not, by [`State::word`].
    pub fn tally(&self) -> BTreeMap<&'static str, usize> {
        let mut tally = BTreeMap::new();
        for process in self.processes.values() {
            let count: &mut usize = tally.entry(process.state.word()).or_default();
            *count = count.saturating_add(1);
        }
        tally
    }

    /// Opens what `app` sends: what the same process encrypted, and for a relay what any watched process did.
    pub fn opener(&mut self, app: &App) -> impl Opener + use<'_> {
        let relay = self.policy.is_relay(app);
        Opening { sealed: self, tgid: app.pid, relay }
    }
}

struct Opening<'s> {
    sealed: &'s mut Sealed,
    tgid: u32,
    relay: bool,
}

impl Opener for Opening<'_> {
    fn is_empty(&self) -> bool {
        let watched = self.relay || self.sealed.state(self.tgid) == Some(State::Watched);
        !watched || self.sealed.held.is_empty()
    }

    fn open(&mut self, data: &[u8]) -> Vec<Opened> {
        let (tgid, relay) = (self.tgid, self.relay);
        let found = self.sealed.held.find(data, |of| of == tgid || relay);
        let opened = found.into_iter().map(|found| {
            let other = (found.tgid != tgid).then(|| self.sealed.processes.get(&found.tgid)).flatten();
            Opened {
                range: found.range,
                step: found.step,
                // It has left the phone, as part of this message: from here on it is like any other layer.
                text: found.text.to_vec(),
                cut: found.cut,
                sender: other.map(|process| process.app.clone()),
            }
        });
        opened.collect()
    }

    fn why_not(&self) -> Option<&'static str> {
        self.sealed.state(self.tgid).map(State::why)
    }
}
