//! What the page calls things: kinds, countries, sizes, masked values.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::{
    alert::{self, Mask},
    leak::Kind,
};

/// Country names by code.
static COUNTRIES: LazyLock<HashMap<String, String>> =
    LazyLock::new(|| toml::from_str(include_str!("../../data/countries.toml")).unwrap_or_default());

/// A kind as the page's reader would say it, in the plural where there are many.
pub fn kind(name: &str) -> &str {
    let Some(kind) = Kind::from_name(name) else { return name };
    match kind {
        Kind::VisitedUrl => "page visited",
        Kind::VisitedHost => "site visited",
        Kind::SearchQuery => "search",
        Kind::SearchEngine => "search engine",
        Kind::Download => "download",
        Kind::ItemView => "item viewed",
        Kind::IncognitoMarker => "private mode marker",
        Kind::Location => "location",
        Kind::AppOpen => "app opened",
        Kind::AppUsageTime => "time in apps",
        Kind::InstalledApps => "list of apps",
        Kind::ScreenView => "screen viewed",
        Kind::ScreenSwipe => "swipe",
        Kind::StatusBar => "status bar use",
        Kind::UiAction => "tap",
        Kind::FolderOpen => "folder opened",
        Kind::Music => "music played",
        Kind::WifiName => "Wi-Fi name",
        Kind::WifiBssid => "Wi-Fi access point",
        Kind::WifiScan => "Wi-Fi networks around",
        Kind::Imei => "IMEI",
        Kind::Meid => "MEID",
        Kind::Imsi => "IMSI",
        Kind::Iccid => "SIM card number",
        Kind::Serial => "serial number",
        Kind::Mac => "MAC address",
        Kind::AndroidId => "Android ID",
        Kind::AdId => "advertising ID",
        Kind::DeviceIds => "several device identifiers",
        Kind::Account => "account",
        Kind::PhoneNumber => "phone number",
        Kind::PersistentId => "identifier that stays",
        Kind::Contacts => "contacts",
        Kind::Clipboard => "clipboard",
        Kind::Carrier => "mobile operator",
        Kind::DeviceModel => "device model",
        Kind::NetworkState => "network state",
        Kind::Crash => "crash report",
        Kind::EncryptedTelemetry => "telemetry nobody else can read",
        #[allow(unreachable_patterns, reason = "a new kind has a name before it has a phrase here")]
        _ => kind.name(),
    }
}

/// Whether a kind names the phone or its owner over and over, so that everything sent with it can be joined.
pub fn is_identifier(name: &str) -> bool {
    matches!(
        Kind::from_name(name),
        Some(
            Kind::Imei
                | Kind::Meid
                | Kind::Imsi
                | Kind::Iccid
                | Kind::Serial
                | Kind::Mac
                | Kind::AndroidId
                | Kind::AdId
                | Kind::DeviceIds
                | Kind::Account
                | Kind::PhoneNumber
                | Kind::PersistentId
        )
    )
}

/// A value as the log would show it: enough to recognise one's own, not enough to learn another's.
pub fn masked(kind: &str, value: &str) -> String {
    let mask = Kind::from_name(kind).map_or(Mask::Length, |kind| alert::words(kind).mask);
    if value.is_empty() { String::new() } else { alert::mask(mask, value) }
}

/// `SG` → `Singapore`; the code itself when it is no country's.
pub fn country(code: &str) -> &str {
    COUNTRIES.get(code).map_or(code, String::as_str)
}

/// `1 app`, `2 apps`, `12,345 apps`.
pub fn count(number: usize, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

/// A number with its thousands set apart.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digits.len().saturating_sub(index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_phrase() {
        for kind_of in Kind::ALL {
            assert!(!kind(kind_of.name()).contains('_'), "{}", kind_of.name());
        }
        assert_eq!(kind("no_such_kind"), "no_such_kind");
    }

    #[test]
    fn masked_values_keep_their_secret() {
        assert_eq!(masked("imei", "490154203237518"), "…18");
        assert_eq!(masked("imei", "1234"), "(4)");
        assert_eq!(masked("search_query", "hiv test near me"), "h… (16)");
        assert_eq!(masked("visited_url", "https://clinic.example.org/hiv-test?id=12"), "….org (41)");
        assert_eq!(masked("location", "38.7,-9.1"), "(9)");
        assert_eq!(masked("network_state", "WIFI"), "WIFI");
        assert_eq!(masked("no_such_kind", "whatever"), "(8)");
        assert_eq!(masked("unknown", ""), "");
    }

    #[test]
    fn countries_and_counts_read_well() {
        assert_eq!((country("SG"), country("XX")), ("Singapore", "XX"));
        assert_eq!(
            (count(1, "app", "apps"), count(12_345, "app", "apps")),
            ("1 app".into(), "12,345 apps".into())
        );
    }
}
