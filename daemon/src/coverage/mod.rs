//! How much of what apps send is read, and why the rest is not: per app and destination, in parts that add up.
//!
//! A [`Ledger`] is pure state. It takes every record as it comes, in any order, and is told what others have found out: whose a
//! connection is ([`Ledger::describe`]), which socket an `SSL*` writes to ([`Ledger::carried_by`]), what the kernel's own
//! count is ([`Ledger::counted`]). [`Ledger::view`] adds it up.
#![forbid(unsafe_code)]

mod connection;
mod hourly;
mod kept;
mod ledger;
mod outlook;
mod parts;
mod size;

#[cfg(test)]
mod tests;

pub use hourly::Hourly;
pub(crate) use hourly::percent;
pub use ledger::{Ledger, Limits, Owner, View, ViewedApp};
pub use outlook::{Outlook, Reach};
pub use parts::{Parts, Reason};
pub use size::size;
