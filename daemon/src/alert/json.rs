//! The same as a JSON line, unmasked: for root only.

use serde::Serialize;

use crate::app::NO_UID;

use super::{Alert, asked_name, crypt_name, letter, text::harmless_json, witness_name};

/// The fields in their order. An absent field is left out.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    severity: char,
    kind: &'a str,
    value: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    form: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a str>,
    asked: &'a str,
    by: &'a str,
    app: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_version: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    packages: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<u32>,
    #[serde(skip_serializing_if = "is_zero")]
    pid: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    process: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iface: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cc: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asn: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_org: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_owner: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_owner_cc: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'a str>,
    crypt: &'a str,
    via: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    at: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    attr: &'a str,
    seen: u64,
    first: String,
    last: String,
    bytes: u64,
    raw_sha256: &'a str,
    why: &'a str,
    id: &'a str,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Alert {
    /// One JSON object without a line's end. Characters that act on a terminal are escaped.
    pub fn json(&self) -> String {
        let finding = &self.finding;
        let host = self.host.as_ref();
        let network = self.network.as_ref();
        let uid = (self.app.uid != NO_UID).then_some(&self.app);
        let line = Line {
            time: time(self.time_ms),
            severity: letter(finding.severity),
            kind: finding.kind.name(),
            value: &finding.value,
            form: finding.form.as_deref(),
            raw: finding.raw.as_deref(),
            asked: asked_name(finding.asked),
            by: witness_name(finding.by),
            app: &self.app.name,
            app_version: self.app.version.as_deref(),
            packages: &self.app.packages,
            uid: uid.map(|app| app.uid),
            user: uid.map(|app| app.user),
            pid: self.app.pid,
            process: &self.app.process,
            sender: finding.sender.as_deref(),
            host: host.map(|host| host.name.as_str()),
            ip: self.peer.map(|peer| peer.ip().to_string()),
            port: self.peer.map(|peer| peer.port()),
            iface: self.iface.as_deref(),
            cc: network.and_then(|network| network.cc.as_deref()),
            asn: network.and_then(|network| network.asn),
            as_org: network.and_then(|network| network.as_org.as_deref()),
            host_owner: host.and_then(|host| host.owner.as_deref()),
            host_owner_cc: host.and_then(|host| host.owner_cc.as_deref()),
            protocol: finding.protocol.as_deref(),
            crypt: crypt_name(finding.crypt),
            via: &self.via,
            at: &finding.at,
            attr: &self.attr,
            seen: self.seen,
            first: time(self.first_ms),
            last: time(self.time_ms),
            bytes: self.bytes,
            raw_sha256: &self.raw_sha256,
            why: &finding.why,
            id: &self.id,
        };
        // Only a map with keys that are no text could fail here.
        harmless_json(serde_json::to_string(&line).unwrap_or_default())
    }
}

/// RFC 3339 in UTC with milliseconds; the end of year 9999 for anything later.
pub(crate) fn time(ms: u64) -> String {
    const LAST: u64 = 253_402_300_799_999;
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms.min(LAST));
    humantime::format_rfc3339_millis(time).to_string()
}
