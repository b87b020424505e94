//! What a page that may be shown around leaves out besides the values: the phone's own ones where they are part of a host or a
//! key, and which sites its owner opened.

use std::sync::LazyLock;

use super::input::{Finding, Input};
use crate::{
    alert::{host_without, mask_host, own_texts, place_without},
    leak::Kind,
    place::Domains,
};

/// The fields that say where something went.
const DESTINATION: &[&str] = &["ip", "port", "cc", "asn", "as_org", "host_owner", "host_owner_cc"];

static DOMAINS: LazyLock<Domains> = LazyLock::new(Domains::built_in);

/// The same without what `alert` keeps out of log lines.
pub(super) fn masked(input: &Input) -> Input {
    let mut input = input.clone();
    let known = input.findings.iter().filter(|finding| finding.get("by") == "truth");
    let own = own_texts(known.flat_map(|finding| {
        let kind = Kind::from_name(finding.get("kind"));
        let texts = ["value", "raw"].map(|field| finding.get(field));
        kind.into_iter().flat_map(move |kind| texts.map(|text| (kind, text)))
    }));
    for finding in &mut input.findings {
        mask(finding, &own);
    }
    for row in &mut input.coverage {
        let is_browser = row.is_browser;
        let is_site = |host: &str| is_browser && !collects(host);
        let hide = |host: &String| if is_site(host) { mask_host(host) } else { host_without(host, &own) };
        row.to = row.to.iter().map(hide).collect();
        row.to.dedup();
    }
    for trial in &mut input.trials {
        trial.how = host_without(&trial.how, &own);
    }
    input
}

/// Whether a host is known for nothing but collecting: nobody looks at it, and it is what the page is about.
fn collects(host: &str) -> bool {
    let role = DOMAINS.host(host).role.unwrap_or_default();
    role.starts_with("analytics") || matches!(role.as_str(), "ads" | "log" | "diagnostics" | "tv_acr")
}

fn mask(finding: &mut Finding, own: &[String]) {
    for place in ["via", "at"] {
        finding.change(place, |text| place_without(text, own));
    }
    // What the owner's own browser opens because he asked is what he looks at.
    if finding.get("asked") == "yes" && finding.is_of_browser() {
        finding.change("host", mask_host);
        for field in DESTINATION {
            finding.change(field, |_| String::new());
        }
    } else {
        finding.change("host", |host| host_without(host, own));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Sources, page};

    #[test]
    fn own_values_and_opened_sites_are_not_in_the_file() {
        let mut input = Input::default();
        for line in [
            r#"{"severity":"W","kind":"imei","value":"490154203237518","by":"truth","app":"a","host":"490154203237518.t.example","via":"tls>http1>header:host"}"#,
            r#"{"severity":"W","kind":"wifi_name","value":"Lisboa-Home","by":"truth","app":"a","host":"t.example","at":"nets.Lisboa-Home.x"}"#,
            r#"{"severity":"I","kind":"visited_url","value":"https://clinic.example/","by":"shape","asked":"yes","app":"com.android.chrome","host":"clinic.example","host_owner":"Clinic","ip":"192.0.2.7"}"#,
            r#"{"severity":"W","kind":"visited_url","value":"https://clinic.example/","by":"dictionary","asked":"no","app":"com.android.chrome","host":"sa.api.intl.miui.com","host_owner":"Xiaomi"}"#,
            r#"{"type":"coverage","apps":[{"app":"com.android.chrome","unread":{"tls-not-hooked":70},"destinations":[{"destination":"forum.clinic.example","unread":{"tls-not-hooked":30}},{"destination":"tracking.intl.miui.com","unread":{"tls-not-hooked":40}}]}]}"#,
        ] {
            input.line(line);
        }
        input.finish(None);
        let page = page(&input, &Sources::default(), false);
        for text in ["490154203237518", "Lisboa-Home", "clinic.example", "Clinic", "192.0.2.7"] {
            assert!(!page.contains(text), "{text}");
        }
        assert!(page.contains("*.t.example") && page.contains("sa.api.intl.miui.com"));
        assert!(page.contains("tracking.intl.miui.com"));
    }
}
