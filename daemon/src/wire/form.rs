//! `application/x-www-form-urlencoded` and query strings: pairs as sent, and the undoing of percent-encoding
//! (WHATWG URL section 5.1, RFC 3986 section 2.1).

use std::borrow::Cow;

/// More pairs than this in one body are no form any more.
pub const PAIRS_MAX: usize = 4096;

/// The raw (still encoded) names and values, in order; a piece without `=` is a name with an empty value.
/// Empty pieces are left out, and so is what comes after [`PAIRS_MAX`] pairs.
pub fn pairs(body: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    body.split(|&b| b == b'&').filter(|piece| !piece.is_empty()).take(PAIRS_MAX).map(|piece| {
        match memchr::memchr(b'=', piece).and_then(|at| piece.split_at_checked(at)) {
            Some((name, value)) => (name, value.get(1..).unwrap_or_default()),
            None => (piece, &[][..]),
        }
    })
}

/// A name or value of a form: percent-encoding undone, `+` turned into a blank.
pub fn decode(raw: &[u8]) -> Cow<'_, [u8]> {
    undo(raw, true)
}

/// Percent-encoding undone and nothing else. A `%` without two hexadecimal digits stays as it is.
pub fn percent_decode(raw: &[u8]) -> Cow<'_, [u8]> {
    undo(raw, false)
}

fn undo(raw: &[u8], plus: bool) -> Cow<'_, [u8]> {
    // Where `+` is itself, the second needle repeats the first. What lies between them is copied whole: bodies of
    // telemetry have one escape in thirty characters.
    let other = if plus { b'+' } else { b'%' };
    let next = |rest: &[u8]| memchr::memchr2(b'%', other, rest);
    if next(raw).is_none() {
        return Cow::Borrowed(raw);
    }
    let mut text = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, escape)) = next(rest).and_then(|at| rest.split_at_checked(at)) {
        text.extend_from_slice(plain);
        rest = match escape {
            [b'+', tail @ ..] => {
                text.push(b' ');
                tail
            }
            [b'%', high, low, tail @ ..] if let (Some(high), Some(low)) = (digit(*high), digit(*low)) => {
                text.push((high << 4) | low);
                tail
            }
            [byte, tail @ ..] => {
                text.push(*byte);
                tail
            }
            [] => escape,
        };
    }
    text.extend_from_slice(rest);
    Cow::Owned(text)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &[u8]) -> Vec<(String, String)> {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        pairs(body).map(|(n, v)| (text(&decode(n)), text(&decode(v)))).collect()
    }

    #[test]
    fn pairs_come_in_order_with_doubles_and_odd_pieces() {
        let want = [("a", "1"), ("a", "2=3"), ("b", ""), ("", "x"), ("c d", "é +")];
        let want: Vec<_> = want.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        assert_eq!(texts(b"a=1&a=2=3&&b&=x&c+d=%C3%a9+%2B"), want);
        assert_eq!(texts(b""), []);
    }

    #[test]
    fn a_broken_escape_stays_as_sent() {
        assert_eq!(&*decode(b"100%&"), b"100%&");
        assert_eq!(&*decode(b"%4"), b"%4");
        assert_eq!(&*decode(b"%zz%41%"), b"%zzA%");
        assert_eq!(&*percent_decode(b"a+b%2b"), b"a+b+");
        assert!(matches!(decode(b"plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn truncation_never_invents_a_pair() {
        let body = b"imei=860000000000001&m=%C3%A9";
        for end in 0..body.len() {
            for (name, value) in pairs(&body[..end]) {
                assert!(body.windows(name.len().max(1)).any(|w| w == name) && value.len() <= 15);
            }
        }
    }

    #[test]
    fn a_body_of_separators_costs_little() {
        assert_eq!(pairs(&[b'&'; 1 << 16]).count(), 0);
        assert_eq!(pairs("a=1&".repeat(PAIRS_MAX * 2).as_bytes()).count(), PAIRS_MAX);
    }
}
