//! Text from payloads made harmless: nothing in it can end a line, turn its direction, or pass for a field of ours.

use std::{borrow::Cow, fmt::Write as _};

/// Characters that act on what stands around them instead of being seen: controls (C0, DEL, C1), line and paragraph
/// separators, bidirectional controls (Unicode UAX #9 section 2), zero-width and invisible format characters, tags, and
/// private use, which a font may show as anything.
pub(crate) fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}'
            | '\u{e0000}'..='\u{10ffff}')
}

/// Every acting character becomes U+FFFD.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if text.chars().any(acts) {
        Cow::Owned(text.chars().map(|c| if acts(c) { char::REPLACEMENT_CHARACTER } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// A word for the human part of a line: harmless, and without what separates that part from the fields.
pub(crate) fn word(text: &str, most: usize) -> String {
    let plain = |c| match c {
        '|' => '¦',
        '=' => '≈',
        '"' => '\'',
        c if acts(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    let mut out: String = text.chars().take(most).map(plain).collect();
    if text.chars().nth(most).is_some() {
        out.push('…');
    }
    out
}

/// Appends ` key=value`. A value that is empty or holds a blank, a quote, a backslash, `=` or `|` stands in double quotes, in
/// which a backslash comes before a double quote and a backslash.
pub(crate) fn pair(line: &mut String, key: &str, value: &str) {
    let value = harmless(value);
    let quoted = value.is_empty()
        || value.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\\' | '=' | '|'));
    // Writing to a String cannot fail.
    if !quoted {
        let _ = write!(line, " {key}={value}");
        return;
    }
    let _ = write!(line, " {key}=\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            line.push('\\');
        }
        line.push(c);
    }
    line.push('"');
}

/// JSON text with every acting character written as an escape: they can stand only in strings, where escapes are allowed.
pub(crate) fn harmless_json(text: String) -> String {
    // Nearly every line is ASCII, and of that only DEL acts: the writer of JSON has escaped the controls.
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) || !text.chars().any(acts) {
        return text;
    }
    let mut out = String::with_capacity(text.len().saturating_add(32));
    for c in text.chars() {
        if acts(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Pieces of a line of at most `most` bytes. A line is cut at blanks outside quotes, so that no `key=value` is broken; what
/// has no blank is cut at a character. Every piece but the first begins with `… `.
pub fn pieces(line: &str, most: usize) -> Vec<String> {
    const MORE: &str = "… ";
    const LEAST: usize = 16;
    let most = most.max(LEAST);
    if line.len() <= most {
        return vec![line.to_owned()];
    }
    let mut out = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let lead = if out.is_empty() { "" } else { MORE };
        let room = most.saturating_sub(lead.len());
        let at = if rest.len() <= room { rest.len() } else { cut(rest, room) };
        let (piece, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push(format!("{lead}{}", piece.trim_end_matches(' ')));
        rest = after.trim_start_matches(' ');
    }
    out
}

/// The last blank outside quotes that is not past `room`, else the last character boundary. Never 0.
fn cut(text: &str, room: usize) -> usize {
    let (mut quoted, mut escaped, mut blank, mut boundary) = (false, false, 0, 0);
    for (at, c) in text.char_indices() {
        if at > room {
            break;
        }
        boundary = at;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ' ' if !quoted => blank = at,
            _ => {}
        }
    }
    if blank > 0 { blank } else { boundary.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acting_characters_lose_their_power() {
        let bad = "a\r\nb\u{1b}[31mc\u{202e}d\u{2066}e\u{2028}f\u{200b}g\u{feff}h\u{85}i\u{e0041}j\0";
        let good = harmless(bad);
        assert!(!good.chars().any(acts));
        assert_eq!(good.chars().count(), bad.chars().count());
        assert_eq!(harmless("grüße 你好 🙂"), "grüße 你好 🙂");
        assert_eq!(harmless_json(format!("\"{}\"", "\u{202e}\u{e0041}")), "\"\\u202e\\udb40\\udc41\"");
    }

    #[test]
    fn values_are_quoted_when_they_could_be_misread() {
        let mut line = String::new();
        for value in
            ["plain", "", "two words", "a=b", "q\"q", "back\\slash", "x | kind=imei", "line\nkind=imei"]
        {
            pair(&mut line, "k", value);
        }
        assert_eq!(
            line,
            " k=plain k=\"\" k=\"two words\" k=\"a=b\" k=\"q\\\"q\" k=\"back\\\\slash\" k=\"x | kind=imei\" \
             k=\"line\u{fffd}kind=imei\""
        );
    }

    #[test]
    fn a_long_line_breaks_between_fields_only() {
        let mut line = String::from("An app sent something |");
        for number in 0..400 {
            pair(&mut line, &format!("key{number}"), "a value = with blanks");
        }
        let all = pieces(&line, 1000);
        assert!(all.len() > 5);
        for (index, piece) in all.iter().enumerate() {
            assert!(piece.len() <= 1000);
            assert_eq!(piece.matches('"').count() % 2, 0, "{piece}");
            assert_eq!(index > 0, piece.starts_with("… "));
        }
        let joined = all.iter().map(|piece| piece.trim_start_matches("… ")).collect::<Vec<_>>().join(" ");
        assert_eq!(joined, line);
    }

    #[test]
    fn what_has_no_blank_is_cut_at_a_character() {
        let line = "ü".repeat(5000);
        let all = pieces(&line, 999);
        assert!(all.iter().all(|piece| piece.len() <= 999));
        let joined: String = all.iter().map(|piece| piece.trim_start_matches("… ")).collect();
        assert_eq!(joined, line);
        assert_eq!(pieces("short", 999), ["short"]);
    }
}
