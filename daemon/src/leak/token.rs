//! What may be an identifier that nobody knows: a long opaque word under a key that does not say what else it is.

use super::{data::Data, path::Step, shape::is_uuid};

/// Shorter words can be guessed, longer ones are data.
const LENGTH: std::ops::RangeInclusive<usize> = 16..=128;
/// Fewer different characters make a pattern, not a token.
const DISTINCT: usize = 8;

/// The innermost key on the way to a place.
pub(crate) fn last_key<'v>(steps: &[Step<'v>]) -> Option<&'v str> {
    steps.iter().rev().find_map(|step| match step {
        Step::Key(key) => Some(*key),
        Step::Index(_) => None,
    })
}

/// False for keys whose values are constant in every copy of an app, secret, or new each time.
pub(crate) fn is_key(key: &str, data: &Data) -> bool {
    let ends = |end: &String| {
        let start = key.len().checked_sub(end.len());
        start.and_then(|start| key.get(start..)).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
    };
    !data.not_tokens.iter().any(|known| known.eq_ignore_ascii_case(key))
        && !data.not_token_ends.iter().any(ends)
}

/// True for a UUID, and for a word of letters and digits mixed that is neither a name, a date, an address nor a JWT.
pub(crate) fn is_opaque(text: &str) -> bool {
    let text = text.trim();
    if !LENGTH.contains(&text.len()) || text.starts_with("eyJ") {
        return false;
    }
    let (mut letters, mut digits, mut seen) = (0_usize, 0_usize, 0_u128);
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'a'..=b'z' | b'A'..=b'Z' => letters += 1,
            b'-' | b'_' | b'=' | b'+' | b'~' => {}
            _ => return false,
        }
        seen |= 1 << (byte & 127);
    }
    let distinct = seen.count_ones() as usize;
    if is_uuid(text) {
        return distinct >= 4;
    }
    // A name such as `page_load_event_start_2` has few digits; a token of 16 has one in four on average.
    letters >= 4 && digits * 8 >= text.len() && distinct >= DISTINCT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_told_from_other_words() {
        for text in [
            "a5edad80-d9d1-4c54-aa77-739dc3d2bee8",
            "9f3c2b7a1d4e5f60",
            "Zm9vYmFyMTIzNDU2Nzg5MA==",
            "d7K2n9QxL4vR8tYb1w",
        ] {
            assert!(is_opaque(text), "{text}");
        }
        for text in [
            "page_load_event_finish_2",
            "2026-11-21 10:00:00",
            "https://example.com/1234567890",
            "eyJhbGciOiJIUzI1NiJ9",
            "com.example.app123456789",
            "00000000-0000-0000-0000-000000000000",
            "1234567890123456789",
            "short1",
            "aaaaaaaa11111111",
        ] {
            assert!(!is_opaque(text), "{text}");
        }
        let data = Data::built_in().unwrap();
        for (key, wanted) in [
            ("device_uid", true),
            ("install", true),
            ("api_key", false),
            ("accessToken", false),
            ("SID", false),
        ] {
            assert_eq!(is_key(key, &data), wanted, "{key}");
        }
    }
}
