//! uid and pid → app: packages, process names, users, isolated processes, relays.
#![forbid(unsafe_code)]

mod table;
mod uid;

pub use table::AppTable;
pub use uid::{app_id, user};

/// The uid of an app of which only the name is known; what Linux itself calls no uid (`(uid_t)-1`).
pub const NO_UID: u32 = u32::MAX;

/// The app a message is attributed to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct App {
    /// The package to name; the process name where several packages share the uid, `uid 10123` when nothing is known.
    pub name: String,
    /// Every package that has this uid, sorted.
    pub packages: Vec<String>,
    /// What to call it in a sentence: `Mint Browser`, else `name`.
    pub label: String,
    /// Linux uid.
    pub uid: u32,
    /// Android user (`uid / 100000`).
    pub user: u32,
    /// Process id, 0 when not known.
    pub pid: u32,
    /// Process name (`/proc/PID/cmdline`), empty when not known.
    pub process: String,
    /// Role from `data/packages.toml`: `browser`, `launcher`, `push_relay`, …
    pub role: Option<String>,
    /// Vendor from the same row.
    pub vendor: Option<String>,
    /// Version, when known.
    pub version: Option<String>,
}
