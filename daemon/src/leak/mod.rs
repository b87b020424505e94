//! What a value reveals about the owner: device truth, telemetry dictionaries, key vocabulary, persistence.
#![forbid(unsafe_code)]

mod candidate;
mod data;
mod detector;
#[cfg(test)]
mod detector_tests;
mod dictionary;
mod fields;
mod judge;
mod memo;
mod needles;
mod own_words;
mod path;
pub mod persist;
#[cfg(test)]
mod persist_tests;
pub mod phone;
mod position;
mod record;
#[cfg(test)]
mod rows_tests;
mod scan;
mod settle;
mod shape;
mod sieve;
mod take;
#[cfg(test)]
mod testing;
mod token;
mod truth;

pub use data::Data;
pub use detector::Detector;
pub use truth::{Canary, Truth};

use crate::{app::App, place::Host};

/// What can be wrong with what the owner or the program brings along.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The truth file is no JSON object.
    #[error("the truth file is not JSON: {0}; it is an object such as {{\"imei1\": \"…\"}}")]
    TruthNotJson(String),
    /// A key of the truth file has a value of another type.
    #[error("the truth file's {key} must be {expected}")]
    TruthField {
        /// The key.
        key: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A data file is not TOML.
    #[error("{file} is not TOML: {problem}")]
    NotToml {
        /// The file's name.
        file: String,
        /// What the parser says.
        problem: String,
    },
    /// A row of a data file is wrong.
    #[error("{file}, [[{table}]] number {row}: {field} {problem}")]
    Row {
        /// The file's name.
        file: String,
        /// The table's name.
        table: String,
        /// Which of them, from 1.
        row: usize,
        /// The field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What is known of a message besides its bytes.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// The app that sent it.
    pub app: &'a App,
    /// The host it went to, when known.
    pub host: Option<&'a Host>,
    /// How it travelled.
    pub crypt: Crypt,
    /// Milliseconds since 1970, as the phone's clock has it.
    pub now_ms: u64,
}

/// How a message was protected on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Crypt {
    /// Readable by everybody on the way.
    None,
    /// TLS.
    Tls,
    /// The app's own cipher inside.
    Sealed,
    /// The app's own cipher, with the key in the same message.
    KeyInMessage,
}

/// A fact: this message carries this kind of thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub kind: Kind,
    /// In plain words; for a hashed identifier the phone's own value.
    pub value: String,
    /// How it travelled when not as it is: `md5`, `sha256`, `sha1 of imei+android_id+serial`, …
    pub form: Option<String>,
    /// What was on the wire, where that differs from `value`.
    pub raw: Option<String>,
    /// The witness.
    pub by: Witness,
    /// Whether the owner asked for it.
    pub asked: Asked,
    /// How loud.
    pub severity: Severity,
    /// The true sender behind a courier, when the message names it.
    pub sender: Option<String>,
    /// The telemetry protocol's id.
    pub protocol: Option<String>,
    /// The outermost to the innermost protection.
    pub crypt: Crypt,
    /// The route, `http1>form:data_list>base64>gzip>json` (without the leading `tls>`; the flow knows that).
    pub via: String,
    /// Where in the last layer's value, `[0].properties.url`.
    pub at: String,
    /// One sentence: why this is said.
    pub why: String,
    /// The node of the tree it was found in.
    pub node: usize,
}

/// Who says so, from the strongest to the weakest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Witness {
    /// This phone's own value or a hash or encoding of it.
    Truth,
    /// A known protocol's known field.
    Dictionary,
    /// A telling key with a value of that shape.
    Shape,
    /// The same opaque token over restarts and days.
    Persistence,
}

/// Whether the owner asked for what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// It is the request itself.
    Yes,
    /// This host's role needs this kind.
    Likely,
    /// Nothing is known.
    Unknown,
    /// A telemetry protocol, or another owner than the request is about.
    No,
}

/// How loud a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// D: the peeling.
    Debug,
    /// I: the rest.
    Info,
    /// W: worth a look.
    Warn,
    /// E: one message joins a lasting identifier with content.
    Error,
}

macro_rules! kinds {
    ($($variant:ident $name:literal),+ $(,)?) => {
        /// The kinds of thing a message can say about its owner.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum Kind { $($variant),+ }
        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant),+];
            /// The name in alerts, rules and data files.
            pub fn name(self) -> &'static str { match self { $(Kind::$variant => $name),+ } }
            /// The kind of that name.
            pub fn from_name(name: &str) -> Option<Kind> { match name { $($name => Some(Kind::$variant),)+ _ => None } }
        }
    };
}

kinds! {
    VisitedUrl "visited_url", VisitedHost "visited_host", SearchQuery "search_query", SearchEngine "search_engine",
    Download "download", ItemView "item_view", IncognitoMarker "incognito_marker", Location "location",
    AppOpen "app_open", AppUsageTime "app_usage_time", InstalledApps "installed_apps", ScreenView "screen_view",
    ScreenSwipe "screen_swipe", StatusBar "status_bar", UiAction "ui_action", FolderOpen "folder_open",
    Music "music", WifiName "wifi_name", WifiBssid "wifi_bssid", WifiScan "wifi_scan", Imei "imei", Meid "meid",
    Imsi "imsi", Iccid "iccid", Serial "serial", Mac "mac", AndroidId "android_id", AdId "ad_id",
    DeviceIds "device_ids", Account "account", PhoneNumber "phone_number", PersistentId "persistent_id",
    Contacts "contacts", Clipboard "clipboard", Carrier "carrier", DeviceModel "device_model",
    NetworkState "network_state", Crash "crash", EncryptedTelemetry "encrypted_telemetry",
}
