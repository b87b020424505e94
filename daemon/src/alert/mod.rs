//! What deserves a line, and in which words: masks, merging, mutes, limits, log lines and JSON lines.
#![forbid(unsafe_code)]

mod class;
mod damage;
pub mod evidence;
mod json;
mod kinds;
mod ledger;
mod line;
pub mod logd;
mod mask;
mod memory;
mod own_values;
mod secrets;
pub mod sink;
#[cfg(test)]
mod tests;
mod text;

use std::{fmt::Write as _, net::SocketAddr};

use sha2::{Digest as _, Sha256};

pub use kinds::{Mask, Words, explain, words};
pub use ledger::{Ledger, Mute, Policy, REPEATS_PER_DAY, Told};
pub use memory::Damaged;
pub use text::pieces;
pub(crate) use {json::time, text::harmless};

pub(crate) use {
    damage::quieten,
    mask::{host as mask_host, mask},
    own_values::{host_without, note_own_values, own_texts, place_without},
};

use crate::{
    app::App,
    leak::{Asked, Crypt, Finding, Kind, Severity, Witness},
    pipeline::Flow,
    place::Host,
    wire::Message,
};

/// What the address data says of the other end. Network and country are two things, and claims of their source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Network {
    /// Country the server is said to be in, ISO 3166-1 alpha-2.
    pub cc: Option<String>,
    /// Who says so: `DB-IP`.
    pub cc_source: String,
    /// Month of that data: `2026-11`.
    pub cc_date: String,
    /// Autonomous system number.
    pub asn: Option<u32>,
    /// Its organisation as a sentence would call it: `Alibaba`.
    pub short: Option<String>,
    /// Its organisation as registered.
    pub as_org: Option<String>,
}

/// A finding with everything that is known around it: who, to whom, how, and whether it is worth a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// When it was sent, milliseconds since 1970 as the phone's clock has it.
    pub time_ms: u64,
    /// What was found. Secrets have been taken out of its value.
    pub finding: Finding,
    /// Who sent it.
    pub app: App,
    /// To which host.
    pub host: Option<Host>,
    /// To which address and port.
    pub peer: Option<SocketAddr>,
    /// What is known of that address.
    pub network: Option<Network>,
    /// The interface it left by.
    pub iface: Option<String>,
    /// The route with what carried it, `tls>http1>form:data_list>base64>gzip>json`.
    pub via: String,
    /// How app, peer and host were found.
    pub attr: String,
    /// Bytes of the message's body as sent.
    pub bytes: u64,
    /// SHA-256 of that body, of the request's target when there is none; in hexadecimal.
    pub raw_sha256: String,
    /// Messages with a finding of this class so far, this one included.
    pub seen: u64,
    /// When the first was sent.
    pub first_ms: u64,
    /// Values that this line stands for: more than 1 when a message held many of a kind.
    pub count: usize,
    /// Six characters that stay the same for the same app, host owner, kind, protocol and place, on this phone.
    pub id: String,
    /// Whether it deserves a line now. The rest is counted and belongs in the evidence only.
    pub shown: bool,
    /// Whether it is listed as JSON: what deserves a line, and besides every value that is new in its class, also where
    /// lines merge.
    pub listed: bool,
    /// Lines that were due since the last one and not shown because there were too many.
    pub held_back: u64,
    /// The phone's own values in host or place, lower case: a line leaves them out.
    pub own_values: Vec<String>,
}

/// The hash of a message's body, or of its target when it has none: what joins its findings.
pub(crate) fn raw_sha256(message: &Message) -> String {
    let raw = if message.body.is_empty() { message.target.as_bytes() } else { &message.body };
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(raw) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

impl Alert {
    /// Joins a finding to what is known of its flow. None for what must never be shown: parts of credentials.
    ///
    /// [`Alert::raw_sha256`] is left empty: it is the same for all findings of a message, see [`raw_sha256`].
    pub(crate) fn new(
        mut finding: Finding,
        flow: &Flow,
        message: &Message,
        host: Option<&Host>,
        host_from: &str,
        network: Option<&Network>,
        now_ms: u64,
    ) -> Option<Alert> {
        if !secrets::clean(&mut finding) {
            return None;
        }
        let via = match flow.crypt {
            Crypt::Tls => format!("tls>{}", finding.via),
            _ => finding.via.clone(),
        };
        let mut attr = flow.attr.clone();
        if host.is_some() && !host_from.is_empty() {
            if !attr.is_empty() {
                attr.push(' ');
            }
            attr.push_str("host:");
            attr.push_str(host_from);
        }
        Some(Alert {
            time_ms: now_ms,
            app: flow.app.clone(),
            host: host.cloned(),
            peer: flow.peer,
            network: network.cloned(),
            iface: flow.iface.clone(),
            via,
            attr,
            bytes: message.body_len,
            raw_sha256: String::new(),
            seen: 1,
            first_ms: now_ms,
            count: 1,
            id: String::new(),
            shown: true,
            listed: true,
            held_back: 0,
            own_values: Vec::new(),
            finding,
        })
    }

    /// What it says.
    pub fn kind(&self) -> Kind {
        self.finding.kind
    }

    /// How loud it is.
    pub fn severity(&self) -> Severity {
        self.finding.severity
    }

    /// Who is told: the owner of the host, else its domain, its name, the address.
    pub fn recipient(&self) -> String {
        let host = self.host.as_ref();
        host.and_then(|host| host.owner.clone())
            .or_else(|| host.and_then(|host| host.domain.clone()))
            .or_else(|| host.map(|host| host.name.clone()))
            .or_else(|| self.peer.map(|peer| peer.ip().to_string()))
            .unwrap_or_default()
    }
}

/// The letter of a severity, as logcat and JSON show it.
pub fn letter(severity: Severity) -> char {
    match severity {
        Severity::Debug => 'D',
        Severity::Info => 'I',
        Severity::Warn => 'W',
        Severity::Error => 'E',
    }
}

fn crypt_name(crypt: Crypt) -> &'static str {
    match crypt {
        Crypt::None => "none",
        Crypt::Tls => "tls",
        Crypt::Sealed => "sealed",
        Crypt::KeyInMessage => "key-in-message",
    }
}

fn witness_name(witness: Witness) -> &'static str {
    match witness {
        Witness::Truth => "truth",
        Witness::Dictionary => "dictionary",
        Witness::Shape => "shape",
        Witness::Persistence => "persistence",
    }
}

fn asked_name(asked: Asked) -> &'static str {
    match asked {
        Asked::Yes => "yes",
        Asked::Likely => "likely",
        Asked::Unknown => "unknown",
        Asked::No => "no",
    }
}
