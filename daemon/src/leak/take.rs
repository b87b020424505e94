//! The ways a row of the dictionary takes its value out of a field that is not simply text.

use std::collections::BTreeMap;

use super::path::{get, text_of};
use crate::unwrap::{Str, Value};

/// The most packages one usage record is read for.
const MAX_PACKAGES: usize = 512;

/// `key=value` parts joined by `##`: those called `name`, where a trailing `*` is a wildcard. `imei*` leaves out
/// `imei_meid`, which has its own row.
pub(crate) fn parts<'t>(text: &'t str, name: &str) -> Vec<(&'t str, &'t str)> {
    text.split("##")
        .filter_map(|part| part.split_once('='))
        .filter(|(key, _)| match name.strip_suffix('*') {
            Some(prefix) => key.starts_with(prefix) && *key != "imei_meid",
            None => *key == name,
        })
        .collect()
}

/// The values of a field that joins several with commas, without brackets and quotes.
pub(crate) fn joined(text: &str) -> impl Iterator<Item = &str> {
    let marks = |c: char| c.is_whitespace() || matches!(c, '[' | ']' | '"');
    text.split(',').map(move |part| part.trim_matches(marks)).filter(|part| !part.is_empty())
}

/// What a usage record says: `es` is a list of { p: package index, e: 1 opened or 2 left, t: seconds }, `pim` a list of
/// { package: index }.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Packages opened, each once, in order.
    pub(crate) opened: Vec<String>,
    /// Seconds in front, per package in order of leaving.
    pub(crate) seconds: Vec<(String, u64)>,
}

/// Reads a usage record.
pub(crate) fn usage<'v>(record: &'v Value) -> Usage {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut name = |entries: &'v [(Str, Value)]| {
        names.extend(
            entries
                .iter()
                .take(MAX_PACKAGES)
                .filter_map(|(package, index)| Some((text_of(index)?, &**package))),
        );
    };
    match get(record, "pim") {
        Some(Value::Map(entries)) => name(entries),
        Some(Value::List(list)) => {
            for item in list.iter().take(MAX_PACKAGES) {
                if let Value::Map(entries) = item {
                    name(entries);
                }
            }
        }
        _ => {}
    }
    let mut usage = Usage::default();
    let mut since: BTreeMap<&str, u64> = BTreeMap::new();
    let Some(Value::List(events)) = get(record, "es") else { return usage };
    for event in events {
        let field = |key| get(event, key).and_then(text_of);
        let Some(package) = field("p").and_then(|index| names.get(index).copied()) else { continue };
        let time: Option<u64> = field("t").and_then(|text| text.parse().ok());
        match field("e") {
            Some("1") => {
                if let Some(time) = time {
                    since.insert(package, time);
                }
                if usage.opened.len() < MAX_PACKAGES && !usage.opened.iter().any(|known| known == package) {
                    usage.opened.push(package.to_owned());
                }
            }
            Some("2") => {
                let seconds = time.zip(since.remove(package)).and_then(|(end, start)| end.checked_sub(start));
                if let Some(seconds) = seconds.filter(|_| usage.seconds.len() < MAX_PACKAGES) {
                    usage.seconds.push((package.to_owned(), seconds));
                }
            }
            _ => {}
        }
    }
    usage
}

/// The time between `start` and `end` (or `bt` and `et`) in milliseconds, as words.
pub(crate) fn span(map: &Value) -> Option<String> {
    let time = |names: [&str; 2]| -> Option<u64> {
        names.iter().find_map(|name| text_of(get(map, name)?)?.parse().ok())
    };
    let milliseconds = time(["end", "et"])?.checked_sub(time(["start", "bt"])?)?;
    Some(format!("{} s", milliseconds / 1000))
}

/// Package names in a text, each once.
pub(crate) fn packages(text: &str) -> Vec<&str> {
    let mut out: Vec<&str> = Vec::new();
    for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '_')) {
        if is_package(word) && !out.contains(&word) && out.len() < MAX_PACKAGES {
            out.push(word);
        }
    }
    out
}

/// Whether Android would take it for a package's name: parts joined by dots, each of letters, digits and `_` after a letter
/// (android.content.pm.PackageParser.validateName). The system itself has a name without a dot.
pub(crate) fn is_package_name(text: &str) -> bool {
    let parts = text.split('.').count();
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    text == "android" || ((2..=8).contains(&parts) && text.len() <= 128 && text.split('.').all(part))
}

/// True for a name such as `com.example.app`: at least two dots or a well-known first part, and no web address.
pub(crate) fn is_package(text: &str) -> bool {
    let first = [
        "com", "org", "net", "io", "de", "ru", "cn", "fr", "uk", "jp", "kr", "in", "br", "tv", "me", "app",
        "dev", "eu", "it", "es", "pl", "nl", "us", "co", "pt", "at", "be", "ch", "cz", "dk", "fi", "gr",
        "hu", "no", "ro", "se", "tr", "ua", "by", "kz", "ir", "il", "ae", "id", "th", "vn", "my", "sg", "ph",
        "tw", "hk", "au", "nz", "ca", "mx", "ar", "cl", "za", "ng", "air", "ai", "info", "biz", "mobi",
        "tech",
    ];
    is_package_name(text) && text.split('.').next().is_some_and(|part| first.contains(&part))
}

/// True for a query parameter that says something about the device.
pub(crate) fn is_device_parameter(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "imei",
        "meid",
        "mac",
        "oaid",
        "gaid",
        "vaid",
        "aaid",
        "udid",
        "uuid",
        "androidid",
        "deviceid",
        "serial",
        "imsi",
        "clientinfo",
        "deviceinfo",
        "clientid",
        "adid",
        "did",
    ];
    let bare: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    NAMES.iter().any(|known| bare == *known || (known.len() > 3 && bare.starts_with(known)))
}

/// An address without `user:password@`: what is shown must not hold a password.
pub(crate) fn without_userinfo(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(authority);
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{host}{tail}"),
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leak::testing::value;

    #[test]
    fn parts_by_name_and_wildcard() {
        let text = "android_id=a##imei=1##imei_old=2##imei_meid=m##mac=";
        assert_eq!(parts(text, "imei*"), [("imei", "1"), ("imei_old", "2")]);
        assert_eq!(parts(text, "imei_meid"), [("imei_meid", "m")]);
        assert_eq!(parts(text, "mac"), [("mac", "")]);
    }

    #[test]
    fn usage_records_give_packages_and_seconds() {
        let record = value(
            r#"{"es":[{"p":0,"e":1,"t":10},{"p":0,"e":2,"t":95},{"p":3,"e":1,"t":100},{"p":9,"e":1,"t":1},{"p":3,"e":2,"t":5}],
                "pim":[{"com.a.b":0},{"com.c.d":3}]}"#,
        );
        let usage = usage(&record);
        assert_eq!(usage.opened, ["com.a.b", "com.c.d"]);
        assert_eq!(usage.seconds, [("com.a.b".to_owned(), 85)]);
        assert_eq!(super::usage(&value("{}")), Usage::default());
    }

    #[test]
    fn packages_are_told_from_addresses_and_versions() {
        assert_eq!(
            packages("com.whatsapp,org.mozilla.firefox|1.2.3 Www.x com.whatsapp"),
            ["com.whatsapp", "org.mozilla.firefox"]
        );
        for text in ["1.2.3", "example", "java.lang.String", "www.example.com", "com.", "com..x", "com.9x"] {
            assert!(!is_package(text), "{text}");
        }
    }

    #[test]
    fn an_address_loses_its_password() {
        assert_eq!(without_userinfo("https://a:b@h.example/x?y=@"), "https://h.example/x?y=@");
        assert_eq!(without_userinfo("https://h.example/@x"), "https://h.example/@x");
        assert_eq!(without_userinfo("nothing"), "nothing");
    }

    #[test]
    fn a_span_is_in_seconds() {
        assert_eq!(span(&value(r#"{"start":1000,"end":61000}"#)).as_deref(), Some("60 s"));
        assert_eq!(span(&value(r#"{"start":2,"end":1}"#)), None);
    }
}
