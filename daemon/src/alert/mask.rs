//! Values as the log may show them. logd serves every process of the system uid, the vendor's bug reporter among them.

use super::{
    kinds::Mask,
    text::{harmless, word},
};
use crate::place;

/// The longest value shown as it is; nothing that is told plainly is longer.
const MAX_PLAIN: usize = 48;
/// Identifiers shorter than this would give too much away by two characters.
pub(super) const MIN_IDENTIFIER: usize = 6;
/// A field name with more digits than this could be a number of somebody's.
const MAX_DIGITS: usize = 4;

/// The value as shown between the quotes of a line.
pub(crate) fn mask(mask: Mask, value: &str) -> String {
    let length = value.chars().count();
    match mask {
        Mask::Search => match value.chars().next() {
            Some(first) => format!("{}… ({length})", word(&first.to_string(), 1)),
            None => "(0)".to_owned(),
        },
        Mask::Address => match suffix(value) {
            Some(suffix) => format!("….{} ({length})", word(&suffix, MAX_PLAIN)),
            None => format!("({length})"),
        },
        Mask::Identifier if length >= MIN_IDENTIFIER => {
            let last: String = value.chars().skip(length.saturating_sub(2)).collect();
            format!("…{}", word(&last, 2))
        }
        Mask::Plain if is_plain(value) => word(value, MAX_PLAIN),
        Mask::Plain | Mask::Identifier | Mask::Length => format!("({length})"),
    }
}

/// A host name for the log where the host itself says what the owner looked at.
pub(crate) fn host(name: &str) -> String {
    suffix(name).map_or_else(|| "*".to_owned(), |suffix| format!("*.{}", word(&suffix, MAX_PLAIN)))
}

/// The public suffix of the host in an address. The registrable domain would be the visited site's name itself.
fn suffix(address: &str) -> Option<String> {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let host = authority.rsplit('@').next()?;
    let host = if host.starts_with('[') { host } else { host.split(':').next()? };
    let host = host.to_ascii_lowercase();
    if !host.contains('.') {
        return None;
    }
    let suffix = place::public_suffix(&host).filter(|suffix| suffix.len() < host.len())?;
    // What the list has only by a rule for anything, `*.ck`, can be somebody's own.
    let digits = suffix.chars().filter(char::is_ascii_digit).count();
    (digits <= MAX_DIGITS).then(|| suffix.to_owned())
}

/// True for what programs call things, `desktop_swipe` or `2 payloads`: anything else could be somebody's own.
fn is_plain(value: &str) -> bool {
    let word = |text: &str| {
        let digits = text.chars().filter(char::is_ascii_digit).count();
        digits <= MAX_DIGITS && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
    };
    let counted =
        |(number, unit): (&str, &str)| number.bytes().all(|byte| byte.is_ascii_digit()) && word(unit);
    value.len() <= MAX_PLAIN && (word(value) || value.split_once(' ').is_some_and(counted))
}

/// A route or place in a message for the log: keys of the message that are no plain field names could be its content (a
/// package, an address, a network's name as a key) and become `*`.
pub(super) fn place(text: &str) -> String {
    let plain = unquoted(text);
    let step = |step: &str| {
        step.split(':')
            .map(|part| part.split('.').map(key).collect::<Vec<_>>().join("."))
            .collect::<Vec<_>>()
            .join(":")
    };
    harmless(&plain.split('>').map(step).collect::<Vec<_>>().join(">")).into_owned()
}

/// `["a.b"]`, as keys are written that are no plain names, becomes `[*]`.
fn unquoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, quoted)) = rest.split_once("[\"") {
        out.push_str(before);
        out.push_str("[*]");
        let mut escaped = false;
        let end = quoted.char_indices().find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        rest = end.and_then(|(at, _)| quoted.get(at..)?.strip_prefix("\"]")).unwrap_or("");
    }
    out.push_str(rest);
    out
}

fn key(text: &str) -> String {
    let (name, index) = text.split_at_checked(text.find('[').unwrap_or(text.len())).unwrap_or((text, ""));
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '$' | '@' | '#');
    let digits = name.chars().filter(char::is_ascii_digit).count();
    let is_name = name.len() <= 40 && name.chars().all(allowed) && digits <= MAX_DIGITS;
    let is_index = index.chars().all(|c| c.is_ascii_digit() || matches!(c, '[' | ']' | '*'));
    let name = if is_name { name } else { "*" };
    if is_index { format!("{name}{index}") } else { "*".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mask_shows_what_it_may_and_no_more() {
        for (how, value, shown) in [
            (Mask::Search, "divorce lawyer near me", "d… (22)"),
            (Mask::Search, "", "(0)"),
            (Mask::Search, "\u{202e}x", "\u{fffd}… (2)"),
            (Mask::Address, "https://clinic.example.org/hiv-test?id=12", "….org (41)"),
            (Mask::Address, "https://user:pass@a.example.co.uk:8443/x", "….co.uk (40)"),
            (Mask::Address, "clinic.example.org", "….org (18)"),
            (Mask::Address, "http://192.0.2.9/x", "(18)"),
            (Mask::Address, "/just/a/path", "(12)"),
            (Mask::Address, "org", "(3)"),
            (Mask::Address, "https://a.channel=490154203237518", "(33)"),
            (Mask::Address, "https://a.b.490154203237518.ck/", "(31)"),
            (Mask::Address, "https://printer.lan/", "(20)"),
            (Mask::Identifier, "490154203237518", "…18"),
            (Mask::Identifier, "12345", "(5)"),
            (Mask::Length, "Secret stuff", "(12)"),
            (Mask::Plain, "google", "google"),
            (Mask::Plain, "desktop_swipe_left_or_right", "desktop_swipe_left_or_right"),
            (Mask::Plain, "https://my.engine/?q=", "(21)"),
            (Mask::Plain, "my engine", "(9)"),
            (Mask::Plain, "490154203237518", "(15)"),
            (Mask::Plain, "91234 bytes", "91234 bytes"),
        ] {
            assert_eq!(mask(how, value), shown, "{how:?} {value}");
        }
    }

    #[test]
    fn places_keep_field_names_and_drop_content_used_as_keys() {
        for (text, shown) in [
            ("", ""),
            ("[0].properties.search_word", "[0].properties.search_word"),
            ("tls>http1>form:data_list>base64>gzip>json", "tls>http1>form:data_list>base64>gzip>json"),
            ("http1>json:[0].data>base64>json", "http1>json:[0].data>base64>json"),
            (
                "tls>http1>form:stat_value>hex>aes-128-ecb>json",
                "tls>http1>form:stat_value>hex>aes-128-ecb>json",
            ),
            ("B[0].pim[1][\"com.example.dating\"]", "B[0].pim[1][*]"),
            ("x[\"a\\\"] kind\"].y", "x[*].y"),
            ("a.490154203237518", "a.*"),
            ("networks.My Wi-Fi", "networks.*"),
            ("header:user-agent", "header:user-agent"),
        ] {
            assert_eq!(place(text), shown, "{text}");
        }
    }
}
