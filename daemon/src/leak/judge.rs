//! Whether the owner asked for what was sent, and how loud it is to be said: DESIGN's rules over the rows of
//! `data/asked.toml`.

use super::{
    Asked, Context, Crypt, Finding, Kind, Severity, Witness,
    candidate::Candidate,
    data::{Data, Rule},
    fields::Weight,
};

/// What the rules look at besides the candidate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) context: &'a Context<'a>,
    /// The request's path and query.
    pub(crate) target: &'a str,
    /// Inside a recognised telemetry protocol.
    pub(crate) telemetry: bool,
}

/// Whether the owner asked for this kind, and the rule's reason.
pub(crate) fn asked<'d>(data: &'d Data, case: Case<'_>, kind: Kind) -> (Asked, Option<&'d str>) {
    match data.rules.iter().find(|rule| fits(rule, case, kind)) {
        Some(rule) => (rule.asked, Some(&rule.reason)),
        None if case.telemetry => (Asked::No, None),
        None => (Asked::Unknown, None),
    }
}

/// What is the same for every finding of a kind, or of a layer, in one message.
#[derive(Debug, Default)]
pub(crate) struct Rulings<'d> {
    asked: Vec<(Kind, Asked, Option<&'d str>)>,
    ways: Vec<(usize, String, Crypt)>,
}

impl<'d> Rulings<'d> {
    /// The ruling on a kind, asked for once.
    pub(crate) fn asked(
        &mut self,
        kind: Kind,
        rule: impl FnOnce() -> (Asked, Option<&'d str>),
    ) -> (Asked, Option<&'d str>) {
        if let Some((_, asked, reason)) = self.asked.iter().find(|(known, ..)| *known == kind) {
            return (*asked, *reason);
        }
        let (asked, reason) = rule();
        self.asked.push((kind, asked, reason));
        (asked, reason)
    }

    /// The route to a layer and the innermost protection on it, followed once.
    pub(crate) fn way(&mut self, node: usize, find: impl FnOnce() -> (String, Crypt)) -> (String, Crypt) {
        if let Some((_, via, crypt)) = self.ways.iter().find(|(known, ..)| *known == node) {
            return (via.clone(), *crypt);
        }
        let (via, crypt) = find();
        self.ways.push((node, via.clone(), crypt));
        (via, crypt)
    }
}

fn fits(rule: &Rule, case: Case<'_>, kind: Kind) -> bool {
    let host = case.context.host;
    let host_role = host.and_then(|host| host.role.as_deref());
    let host_name = host.map_or("", |host| host.name.as_str());
    let owner = host.and_then(|host| host.owner.as_deref());
    let app = case.context.app;
    let any_host = rule.host_roles.is_empty() && rule.hosts.is_empty() && rule.host_words.is_empty();
    rule.telemetry == case.telemetry
        && (rule.kinds.is_empty() || rule.kinds.contains(&kind))
        && (rule.app_roles.is_empty() && rule.app_words.is_empty()
            || app.role.as_deref().is_some_and(|role| any_glob(&rule.app_roles, role))
            || has_word(&app.name, &rule.app_words))
        && (any_host
            || host_role.is_some_and(|role| any_glob(&rule.host_roles, role))
            || rule.hosts.iter().any(|wanted| is_host(host_name, wanted))
            || has_word(host_name, &rule.host_words))
        && (rule.paths.is_empty() || rule.paths.iter().any(|path| case.target.contains(path.as_str())))
        && (!rule.same_owner
            || app.vendor.as_deref().zip(owner).is_some_and(|(vendor, owner)| same_owner(vendor, owner)))
}

/// True when one of the words is a part between the dots of a host's or package's name, or begins one and digits or a dash
/// follow: `maps` of `maps2.example.org`.
pub(crate) fn has_word(name: &str, words: &[String]) -> bool {
    let is = |part: &str, word: &String| {
        part.strip_prefix(word.as_str())
            .is_some_and(|rest| !rest.starts_with(|c: char| c != '-' && !c.is_ascii_digit()))
    };
    !words.is_empty() && name.split('.').any(|part| words.iter().any(|word| is(part, word)))
}

/// `AOSP/Xiaomi` made an app of Xiaomi's.
fn same_owner(vendor: &str, owner: &str) -> bool {
    vendor.split(['/', ' ', '(']).any(|part| part.eq_ignore_ascii_case(owner))
        || vendor.eq_ignore_ascii_case(owner)
}

/// True when `host` is `wanted` or below it.
pub(crate) fn is_host(host: &str, wanted: &str) -> bool {
    host.strip_suffix(wanted).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// True when one of the texts is `text`; a trailing `*` is a wildcard.
fn any_glob(texts: &[String], text: &str) -> bool {
    texts.iter().any(|wanted| match wanted.strip_suffix('*') {
        Some(prefix) => text.starts_with(prefix),
        None => wanted == text,
    })
}

/// How loud this is on its own; what several findings say together is for [`join`].
pub(crate) fn severity(data: &Data, case: Case<'_>, candidate: &Candidate<'_>, asked: Asked) -> Severity {
    let telling = match asked {
        Asked::Yes | Asked::Likely => false,
        Asked::No => true,
        Asked::Unknown => matches!(candidate.by, Witness::Truth | Witness::Dictionary),
    };
    let quiet = candidate.weight == Weight::Low || candidate.own_words || on_itself(data, case, candidate);
    if telling && !quiet { Severity::Warn } else { Severity::Info }
}

/// An app's report on itself: its own start, screens, taps, crash. What the launcher, System UI, the settings and the file
/// manager report on themselves is what the owner does with the phone.
fn on_itself(data: &Data, case: Case<'_>, candidate: &Candidate<'_>) -> bool {
    use Kind::{AppOpen, AppUsageTime, Crash, ScreenSwipe, ScreenView, StatusBar, UiAction};
    if candidate.others
        || !matches!(
            candidate.kind,
            AppOpen | AppUsageTime | Crash | ScreenSwipe | ScreenView | StatusBar | UiAction
        )
    {
        return false;
    }
    let app = case.context.app;
    let own = |name: &str| app.name == name || app.packages.iter().any(|package| package == name);
    let reporter = candidate.sender.unwrap_or(&app.name);
    let role = app.role.as_deref().filter(|_| own(reporter));
    let telling = any_glob(&data.report_packages, reporter)
        || role.is_some_and(|role| any_glob(&data.report_roles, role));
    !telling
}

/// A lasting identifier and content in one message: the content is then said to be about somebody.
pub(crate) fn join(findings: &mut [Finding]) {
    // Those already joined keep the sentence they have.
    let loud = |finding: &&mut Finding| finding.severity == Severity::Warn;
    let Some(identifier) = findings.iter().find(|f| f.severity >= Severity::Warn && is_identifier(f.kind))
    else {
        return;
    };
    let with = format!("; the same message names the phone or its owner ({})", identifier.kind.name());
    for finding in findings.iter_mut().filter(loud) {
        if is_content(finding.kind) {
            finding.severity = Severity::Error;
            finding.why.push_str(&with);
        }
    }
}

/// Kinds whose values stay with the phone or its owner.
pub(crate) fn is_identifier(kind: Kind) -> bool {
    use Kind::{
        Account, AdId, AndroidId, DeviceIds, Iccid, Imei, Imsi, Mac, Meid, PersistentId, PhoneNumber, Serial,
    };
    matches!(
        kind,
        Account
            | AdId
            | AndroidId
            | DeviceIds
            | Iccid
            | Imei
            | Imsi
            | Mac
            | Meid
            | PersistentId
            | PhoneNumber
            | Serial
    )
}

/// Kinds whose values may hold, as a part, a text that the owner looks for.
pub(super) fn has_parts(kind: Kind) -> bool {
    matches!(kind, Kind::VisitedUrl | Kind::SearchQuery | Kind::FolderOpen | Kind::Music)
}

/// Address, search, place, app list.
fn is_content(kind: Kind) -> bool {
    use Kind::{Download, InstalledApps, Location, SearchQuery, VisitedHost, VisitedUrl, WifiScan};
    matches!(kind, Download | InstalledApps | Location | SearchQuery | VisitedHost | VisitedUrl | WifiScan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{app::App, leak::Crypt, place::Host};

    fn ask(app_role: &str, host_role: &str, host: &str, telemetry: bool, kind: Kind) -> Asked {
        let data = Data::built_in().unwrap();
        let app = App { role: Some(app_role.into()), vendor: Some("Xiaomi".into()), ..App::default() };
        let host = Host {
            name: host.into(),
            role: (!host_role.is_empty()).then(|| host_role.into()),
            owner: (!host.contains("example")).then(|| "Xiaomi".into()),
            ..Host::default()
        };
        let context = Context { app: &app, host: Some(&host), crypt: Crypt::Tls, now_ms: 0 };
        asked(&data, Case { context: &context, target: "/", telemetry }, kind).0
    }

    #[test]
    fn what_the_owner_asked_for_and_what_not() {
        for (app, role, host, telemetry, kind, wanted) in [
            ("browser", "", "www.google.com", false, Kind::SearchQuery, Asked::Yes),
            ("browser", "", "clinic.example.org", false, Kind::VisitedUrl, Asked::Yes),
            ("browser", "", "api.browser.miui.com", false, Kind::VisitedUrl, Asked::Unknown),
            ("browser", "analytics_sensors", "sa.api.intl.miui.com", false, Kind::VisitedUrl, Asked::No),
            ("browser", "analytics_sensors", "sa.api.intl.miui.com", true, Kind::VisitedUrl, Asked::No),
            ("game", "map", "tiles.example", false, Kind::Location, Asked::Likely),
            ("game", "ads", "ads.example", false, Kind::Location, Asked::No),
            ("account", "", "account.xiaomi.com", false, Kind::Account, Asked::Yes),
            ("update", "", "update.miui.com", false, Kind::Imei, Asked::Likely),
            ("game", "", "api.example", false, Kind::Imei, Asked::Unknown),
            ("game", "", "api.example", false, Kind::Crash, Asked::Likely),
            ("game", "", "notgoogle.com", false, Kind::SearchQuery, Asked::Unknown),
        ] {
            assert_eq!(
                ask(app, role, host, telemetry, kind),
                wanted,
                "{app} {role} {host} {telemetry} {kind:?}"
            );
        }
    }
}
