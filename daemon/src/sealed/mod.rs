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
