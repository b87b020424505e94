//! The line a person reads in logcat: a sentence, then fixed `key=value` pairs. Values are masked: see `mask`.

use std::fmt;

use super::{
    Alert, asked_name, crypt_name, kinds, mask,
    own_values::{host_without, place_without},
    text::{pair, word},
    witness_name,
};
use crate::{
    app::NO_UID,
    leak::{Asked, Crypt},
};

/// The most characters of a name in the sentence.
const MAX_NAME: usize = 80;

impl fmt::Display for Alert {
    /// The line without severity and tag.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence())?;
        f.write_str(" |")?;
        f.write_str(&self.pairs())
    }
}

impl Alert {
    /// `Mint Browser sent a search query to sa.api.intl.miui.com (Xiaomi domain; …): "h… (22)"`.
    fn sentence(&self) -> String {
        let finding = &self.finding;
        let words = kinds::words(finding.kind);
        let mut out =
            word(if self.app.label.is_empty() { &self.app.name } else { &self.app.label }, MAX_NAME);
        if let Some(sender) = finding.sender.as_ref().filter(|sender| **sender != self.app.name) {
            out.push_str(&format!(" (for {})", word(sender, MAX_NAME)));
        }
        out.push_str(&format!(" sent {}", if self.count > 1 { &words.many } else { &words.sent }));
        if let Some(form) = &finding.form {
            out.push_str(&format!(" as {}", word(form, MAX_NAME)));
        }
        out.push_str(&format!(" to {}", self.destination()));
        if !finding.value.is_empty() {
            out.push_str(&format!(": \"{}\"", mask::mask(words.mask, &finding.value)));
        }
        if self.count > 1 {
            out.push_str(&format!(" and {} more", self.count.saturating_sub(1)));
        }
        if self.held_back > 0 {
            out.push_str(&format!(" ({} further lines of known kinds held back)", self.held_back));
        }
        out
    }

    /// Host, owner of the domain, network and country are four things.
    fn destination(&self) -> String {
        let address = || self.peer.map_or_else(|| "an unknown host".to_owned(), |peer| peer.ip().to_string());
        let name = match &self.host {
            Some(host) if self.host_is_content() => mask::host(&host.name),
            Some(host) => word(&host_without(&host.name, &self.own_values), MAX_NAME),
            None => address(),
        };
        let mut known = Vec::new();
        if let Some(owner) =
            self.host.as_ref().and_then(|host| host.owner.as_ref()).filter(|_| !self.host_is_content())
        {
            known.push(format!("{} domain", word(owner, MAX_NAME)));
        }
        let mut at = Vec::new();
        if let Some(network) = self.network.as_ref().filter(|_| !self.host_is_content()) {
            if let Some(short) = &network.short {
                at.push(format!("{} network", word(short, MAX_NAME)));
            }
            if let Some(cc) = &network.cc {
                at.push(format!(
                    "located {} by {} {}",
                    word(cc, 2),
                    word(&network.cc_source, MAX_NAME),
                    word(&network.cc_date, 10)
                ));
            }
        }
        if !at.is_empty() {
            known.push(at.join(", "));
        }
        if self.finding.crypt == Crypt::None {
            known.push("readable on the way".to_owned());
        }
        if known.is_empty() { name } else { format!("{name} ({})", known.join("; ")) }
    }

    /// Where the owner's own browsing goes says what he looks at: such a host is content.
    fn host_is_content(&self) -> bool {
        self.finding.asked == Asked::Yes && self.app.role.as_deref() == Some("browser")
    }

    fn pairs(&self) -> String {
        let finding = &self.finding;
        let mut out = String::new();
        pair(&mut out, "kind", finding.kind.name());
        pair(&mut out, "app", &self.app.name);
        if let Some(sender) = finding.sender.as_ref().filter(|sender| **sender != self.app.name) {
            pair(&mut out, "sender", sender);
        }
        if self.app.uid != NO_UID {
            pair(&mut out, "uid", &self.app.uid.to_string());
        }
        if self.host_is_content() {
            if let Some(host) = &self.host {
                pair(&mut out, "host", &mask::host(&host.name));
            }
        } else {
            self.destination_pairs(&mut out);
        }
        pair(&mut out, "crypt", crypt_name(finding.crypt));
        pair(&mut out, "via", &place_without(&self.via, &self.own_values));
        if !finding.at.is_empty() {
            pair(&mut out, "at", &place_without(&finding.at, &self.own_values));
        }
        pair(&mut out, "by", witness_name(finding.by));
        pair(&mut out, "asked", asked_name(finding.asked));
        if self.count > 1 {
            pair(&mut out, "count", &self.count.to_string());
        }
        pair(&mut out, "seen", &self.seen.to_string());
        pair(&mut out, "id", &self.id);
        out
    }

    fn destination_pairs(&self, out: &mut String) {
        if let Some(host) = &self.host {
            pair(out, "host", &host_without(&host.name, &self.own_values));
        }
        if let Some(peer) = self.peer {
            pair(out, "ip", &peer.ip().to_string());
        }
        if let Some(network) = &self.network {
            if let Some(cc) = &network.cc {
                pair(out, "cc", cc);
            }
            if let Some(asn) = network.asn {
                pair(out, "asn", &asn.to_string());
            }
        }
        if let Some(owner) = self.host.as_ref().and_then(|host| host.owner.as_ref()) {
            pair(out, "host_owner", owner);
        }
    }
}
