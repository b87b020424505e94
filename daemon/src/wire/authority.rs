//! Host names as requests carry them: `Host`, `:authority`, absolute-form and authority-form targets.

/// The host of an authority (`user@Example.COM.:443`), lower case, without userinfo, port, brackets and final dot.
/// None when nothing is left or it holds bytes no host has.
pub fn host_of(authority: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(authority).ok()?.trim();
    let text = text.rsplit_once('@').map_or(text, |(_, host)| host);
    let host = if let Some(rest) = text.strip_prefix('[') {
        // An IPv6 literal (RFC 3986 section 3.2.2); a zone after `%` names an interface of the phone, not the host.
        let literal = rest.split_once(']')?.0;
        literal.split_once('%').map_or(literal, |(address, _)| address)
    } else if text.matches(':').count() > 1 {
        // An IPv6 address that somebody forgot to put into brackets.
        text
    } else {
        text.split_once(':').map_or(text, |(host, _)| host)
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    // 253 is the longest name DNS can carry (RFC 1035 section 2.3.4 less the length bytes).
    let plausible = !host.is_empty()
        && host.len() <= 253
        && !host.bytes().any(|b| b <= b' ' || b == 0x7f || b"/\\?#<>\"".contains(&b));
    plausible.then(|| host.to_lowercase())
}

/// An absolute-form target taken apart (RFC 9112 section 3.2.2): authority, then path and query.
/// None when the target is in another form.
pub(super) fn absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = target.iter().position(|&b| b == b':')?;
    let (scheme, rest) = target.split_at_checked(colon)?;
    let first_is_letter = scheme.first().is_some_and(u8::is_ascii_alphabetic);
    if !first_is_letter || !scheme.iter().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b)) {
        return None;
    }
    let rest = rest.strip_prefix(b"://")?;
    let end = rest.iter().position(|b| b"/?#".contains(b)).unwrap_or(rest.len());
    rest.split_at_checked(end)
}

/// Text as sent; bytes that are not UTF-8 are percent-encoded, so that undoing the encoding gives them back.
pub(super) fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for piece in bytes.utf8_chunks() {
        text.push_str(piece.valid());
        for byte in piece.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_case_port_userinfo_and_brackets() {
        for (sent, host) in [
            ("Example.COM", Some("example.com")),
            ("example.com:8080", Some("example.com")),
            ("example.com.", Some("example.com")),
            ("user:secret@example.com:1", Some("example.com")),
            ("[2001:DB8::1]:443", Some("2001:db8::1")),
            ("[fe80::1%25wlan0]", Some("fe80::1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("192.0.2.7:80", Some("192.0.2.7")),
            ("  example.com ", Some("example.com")),
            ("", None),
            (":443", None),
            ("[::1", None),
            ("a b", None),
        ] {
            assert_eq!(host_of(sent.as_bytes()).as_deref(), host, "{sent}");
        }
        assert_eq!(host_of(&[b'a'; 300]), None);
        assert_eq!(host_of(b"\xff"), None);
    }

    #[test]
    fn absolute_targets_are_taken_apart() {
        let parts = |t: &'static str| {
            absolute(t.as_bytes()).map(|(a, p)| {
                (String::from_utf8_lossy(a).into_owned(), String::from_utf8_lossy(p).into_owned())
            })
        };
        assert_eq!(parts("http://a.example/x?y"), Some(("a.example".into(), "/x?y".into())));
        assert_eq!(parts("https://a.example"), Some(("a.example".into(), String::new())));
        assert_eq!(parts("http://a.example?q"), Some(("a.example".into(), "?q".into())));
        assert_eq!(parts("/path?u=http://b"), None);
        assert_eq!(parts("*"), None);
        assert_eq!(parts("host:443"), None);
    }

    #[test]
    fn bytes_that_are_no_text_can_be_brought_back() {
        assert_eq!(text_of(b"/a\xff\xc3\xa4"), "/a%FFä");
    }
}
