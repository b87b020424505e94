//! The phone's own values where a line shows more than the value that it tells of: an IMEI that is a label of the host, a Wi-Fi's
//! name that is a key on the way to something else.

use super::{
    Alert,
    kinds::{Mask, words},
    mask::{MIN_IDENTIFIER, place},
};
use crate::leak::{Kind, Witness};

/// Fewer characters than this are also parts of ordinary names.
const MIN_OWN: usize = 4;

/// Notes them in the alerts of one message.
pub(crate) fn note_own_values(alerts: &mut [Alert]) {
    let found = alerts.iter().map(|alert| &alert.finding).filter(|finding| finding.by == Witness::Truth);
    let mut own = own_texts(found.flat_map(|finding| {
        let texts = [Some(&finding.value), finding.raw.as_ref()].into_iter().flatten();
        texts.map(|text| (finding.kind, text.as_str()))
    }));
    if own.is_empty() {
        return;
    }
    let shown: Vec<String> = alerts.iter().map(shown).collect();
    // Nearly always none is there: one look through all of it says so.
    let all = shown.join("\n");
    own.retain(|text| all.contains(text.as_str()));
    for (alert, shown) in alerts.iter_mut().zip(shown) {
        alert.own_values = own.iter().filter(|text| shown.contains(text.as_str())).cloned().collect();
    }
}

/// Where a line shows more than the value, lower case.
fn shown(alert: &Alert) -> String {
    let host = alert.host.as_ref().map_or("", |host| host.name.as_str());
    format!("{host} {} {}", alert.via, alert.finding.at).to_ascii_lowercase()
}

/// The phone's own values as [`host_without`] and [`place_without`] look for them; those that are shown as they are left out.
pub(crate) fn own_texts<'v>(values: impl Iterator<Item = (Kind, &'v str)>) -> Vec<String> {
    let mut own: Vec<String> = Vec::new();
    for (_, value) in values.filter(|(kind, _)| words(*kind).mask != Mask::Plain) {
        let text = value.to_ascii_lowercase();
        // A phone number without its plus, an address without its colons: as a host's label can hold it.
        own.push(text.chars().filter(|c| c.is_ascii_alphanumeric()).collect());
        own.push(text);
    }
    own.retain(|text| text.len() >= MIN_OWN);
    // The longest first: a shorter one may be a part of it.
    own.sort_unstable_by(|one, other| (other.len(), other).cmp(&(one.len(), one)));
    own.dedup();
    own
}

/// A host's name with `*` for the phone's own values in it. A word, `xiaomi` for the owner's Wi-Fi, may be part of anybody's
/// host; a number is his alone.
pub(crate) fn host_without(name: &str, own_values: &[String]) -> String {
    let is_number =
        |text: &&String| text.len() >= MIN_IDENTIFIER && text.contains(|c: char| c.is_ascii_digit());
    own_values.iter().filter(is_number).fold(name.to_owned(), |name, own| without(&name, own))
}

/// [`place`] with `*` for the phone's own values in it.
pub(crate) fn place_without(text: &str, own_values: &[String]) -> String {
    own_values.iter().fold(place(text), |text, own| without(&text, own))
}

/// The text with `*` for this, which is lower case, in whichever case it stands there.
fn without(text: &str, own: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // Lower case of ASCII alone leaves every byte where it is.
    while let Some(at) = rest.to_ascii_lowercase().find(own) {
        out.push_str(rest.get(..at).unwrap_or_default());
        out.push('*');
        rest = rest.get(at.saturating_add(own.len())..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}
