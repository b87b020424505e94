//! Keeps credentials out of alerts, JSON and evidence alike: cookies, authorisation, userinfo in addresses, tokens and codes in
//! their queries.

use std::borrow::Cow;

use crate::leak::{Finding, Witness};

/// What stands for a secret that was taken out.
const REMOVED: &str = "***";

/// Parts of parameter names whose values open something.
const SECRET_PARTS: &[&str] = &[
    "token",
    "passw",
    "pwd",
    "secret",
    "session",
    "sessid",
    "auth",
    "signature",
    "apikey",
    "api_key",
    "credential",
    "otp",
    "ticket",
    "cookie",
    "jwt",
    "csrf",
    "xsrf",
    "saml",
];
/// Names that are secrets only when they are the whole name.
const SECRET_NAMES: &[&str] = &["code", "sid", "sig", "pin", "key", "pass", "hash", "nonce", "state", "otc"];

/// Takes credentials out of a finding; false when nothing may be left of it.
pub(super) fn clean(finding: &mut Finding) -> bool {
    let header = |name: &str| finding.via.split('>').any(|step| step == name);
    if header("header:authorization") || header("header:proxy-authorization") {
        return false;
    }
    // The owner's own identifier in a cookie is worth an alert; any other part of a cookie opens something.
    if header("header:cookie") && finding.by != Witness::Truth {
        return false;
    }
    let last =
        finding.at.rsplit(['.', '[', '"']).find(|part| !part.is_empty() && *part != "]").unwrap_or_default();
    let step =
        finding.via.rsplit('>').next().and_then(|step| step.split_once(':')).map_or("", |(_, name)| name);
    if [last, step].into_iter().any(is_password) {
        return false;
    }
    if let Cow::Owned(cleaned) = address(&finding.value) {
        finding.value = cleaned;
    }
    if let Some(raw) = &mut finding.raw
        && let Cow::Owned(cleaned) = address(raw)
    {
        *raw = cleaned;
    }
    true
}

/// Names of fields whose value is a password, whatever else it may look like.
fn is_password(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["passw", "pwd", "passphrase", "secret"].iter().any(|part| name.contains(part))
        || name == "pin"
        || name == "otp"
}

/// An address without userinfo, and with the values of secret parameters replaced. Text that holds no address stays.
fn address(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else { return Cow::Borrowed(text) };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let tail = parameters(tail);
    if host.len() == authority.len() && matches!(tail, Cow::Borrowed(_)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{scheme}://{host}{tail}"))
}

fn parameters(tail: &str) -> Cow<'_, str> {
    let Some(start) = tail.find(['?', '#']) else { return Cow::Borrowed(tail) };
    let (path, query) = tail.split_at_checked(start).unwrap_or((tail, ""));
    let mut changed = false;
    let mut out = String::from(path);
    for part in query.split_inclusive(['?', '#', '&', ';']) {
        let (body, end) = match part.strip_suffix(['?', '#', '&', ';']) {
            Some(body) => (body, part.get(body.len()..).unwrap_or_default()),
            None => (part, ""),
        };
        match body.split_once('=') {
            Some((name, value)) if !value.is_empty() && is_secret(name) => {
                changed = true;
                out.push_str(name);
                out.push('=');
                out.push_str(REMOVED);
            }
            _ => out.push_str(body),
        }
        out.push_str(end);
    }
    if changed { Cow::Owned(out) } else { Cow::Borrowed(tail) }
}

/// Whether a field of that name holds what opens something.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.contains(&name.as_str()) || SECRET_PARTS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::tests::finding;
    use crate::leak::Kind;

    #[test]
    fn addresses_lose_userinfo_tokens_and_codes() {
        for (sent, kept) in [
            ("https://ana:hunter2@mail.example.org/in", "https://mail.example.org/in"),
            ("https://a.org/cb?code=4/0Ab&scope=mail", "https://a.org/cb?code=***&scope=mail"),
            ("https://a.org/#access_token=ey.J&x=1", "https://a.org/#access_token=***&x=1"),
            ("https://a.org/p?PHPSESSID=77;q=cats", "https://a.org/p?PHPSESSID=***;q=cats"),
            ("https://a.org/p?id=12&token=", "https://a.org/p?id=12&token="),
            ("https://clinic.example.org/hiv-test?id=12", "https://clinic.example.org/hiv-test?id=12"),
            ("divorce lawyer near me", "divorce lawyer near me"),
            ("https://a@b@c.org?password=x", "https://c.org?password=***"),
        ] {
            assert_eq!(address(sent), kept, "{sent}");
        }
    }

    #[test]
    fn nothing_is_left_of_headers_that_open_something() {
        let with = |via: &str, by: Witness| {
            let mut finding = finding(Kind::PersistentId, "abcdef0123456789");
            (finding.via, finding.by) = (via.into(), by);
            clean(&mut finding)
        };
        assert!(!with("http1>header:authorization>base64", Witness::Truth));
        assert!(!with("http1>header:cookie", Witness::Shape));
        assert!(with("http1>header:cookie", Witness::Truth));
        assert!(!with("http1>form:password", Witness::Shape));
        assert!(with("http1>form:data_list>base64>gzip>json", Witness::Dictionary));
        let mut field = finding(Kind::Account, "x");
        field.at = "user.passwd".into();
        assert!(!clean(&mut field));
    }
}
