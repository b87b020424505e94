//! Encodings of bytes as text: hex, base64 in all its alphabets, percent, UTF-16; and whether bytes read as text at all.
#![forbid(unsafe_code)]

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// Padding is optional, and writers that leave stray bits in the last character are forgiven.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What kinds of character a text is made of, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chars(u16);

impl Chars {
    const DIGIT: u16 = 1;
    const HEX_LOWER: u16 = 1 << 1;
    const HEX_UPPER: u16 = 1 << 2;
    const LOWER: u16 = 1 << 3;
    const PLUS_SLASH: u16 = 1 << 4;
    const DASH_LOW: u16 = 1 << 5;
    const EQUALS: u16 = 1 << 6;
    const PERCENT: u16 = 1 << 7;
    const AMPERSAND: u16 = 1 << 8;
    const NEWLINE: u16 = 1 << 9;
    const BLANK: u16 = 1 << 10;
    const NAME: u16 = 1 << 11;
    const OTHER: u16 = 1 << 12;
    const UPPER: u16 = 1 << 13;
    const LETTERS: u16 = Chars::HEX_LOWER | Chars::HEX_UPPER | Chars::LOWER | Chars::UPPER;

    const TABLE: [u16; 256] = {
        let mut table = [Chars::OTHER; 256];
        let mut byte = 0usize;
        while byte < 256 {
            #[allow(clippy::indexing_slicing)] // evaluated at compile time
            {
                table[byte] = match byte as u8 {
                    b'0'..=b'9' => Chars::DIGIT,
                    b'a'..=b'f' => Chars::HEX_LOWER,
                    b'A'..=b'F' => Chars::HEX_UPPER,
                    b'g'..=b'z' => Chars::LOWER,
                    b'G'..=b'Z' => Chars::UPPER,
                    b'+' | b'/' => Chars::PLUS_SLASH,
                    b'-' | b'_' => Chars::DASH_LOW,
                    b'=' => Chars::EQUALS,
                    b'%' => Chars::PERCENT,
                    b'&' => Chars::AMPERSAND,
                    b'\r' | b'\n' => Chars::NEWLINE,
                    b' ' => Chars::BLANK,
                    b'.' | b'$' | b'*' | b'~' | b':' | b',' | b'[' | b']' => Chars::NAME,
                    _ => Chars::OTHER,
                };
            }
            byte += 1;
        }
        table
    };

    /// One pass that stops at the first character no encoding uses.
    pub(super) fn of(text: &[u8]) -> Chars {
        let mut seen = 0;
        for chunk in text.chunks(16) {
            for byte in chunk {
                seen |= Chars::TABLE.get(usize::from(*byte)).copied().unwrap_or(Chars::OTHER);
            }
            if seen & Chars::OTHER != 0 {
                break;
            }
        }
        Chars(seen)
    }

    fn only(self, allowed: u16) -> bool {
        self.0 & !allowed == 0
    }

    fn has(self, wanted: u16) -> bool {
        self.0 & wanted != 0
    }

    /// Digits and hex letters of one case, with at least one letter.
    pub(super) fn hex(self) -> bool {
        self.only(Chars::DIGIT | Chars::HEX_LOWER) && self.has(Chars::HEX_LOWER)
            || self.only(Chars::DIGIT | Chars::HEX_UPPER) && self.has(Chars::HEX_UPPER)
    }

    /// Digits alone.
    pub(super) fn digits(self) -> bool {
        self.0 == Chars::DIGIT
    }

    /// Only what base64 is written with, and more than hex.
    pub(super) fn base64(self) -> bool {
        const MARKS: u16 =
            Chars::PLUS_SLASH | Chars::DASH_LOW | Chars::EQUALS | Chars::NEWLINE | Chars::BLANK;
        self.only(Chars::DIGIT | Chars::LETTERS | MARKS) && self.has(Chars::LETTERS)
    }

    /// Whether anything in it may be written otherwise than in the standard alphabet of base64.
    fn other_base64(self) -> bool {
        self.has(Chars::DASH_LOW | Chars::NEWLINE | Chars::BLANK | Chars::OTHER)
    }

    /// `a=b&c=d`, as far as the characters go.
    pub(super) fn form(self) -> bool {
        self.has(Chars::EQUALS) && self.has(Chars::AMPERSAND) && !self.has(Chars::BLANK | Chars::NEWLINE)
    }
}

/// Words as people and programmers write them: letters parted by blanks, dashes and underscores, where every capital begins a
/// word. Sixteen characters of base64 are that once in half a million times.
pub(super) fn is_words(text: &[u8], chars: Chars) -> bool {
    let begins_a_word = |pair: &[u8]| !matches!(pair, [b'a'..=b'z' | b'A'..=b'Z', b'A'..=b'Z']);
    chars.only(Chars::LETTERS | Chars::BLANK | Chars::DASH_LOW)
        && (!chars.has(Chars::HEX_UPPER | Chars::UPPER) || text.windows(2).all(begins_a_word))
}

/// Hex digits of either case to bytes; `None` for an odd number or another character.
pub(super) fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// Base64 of any alphabet, padded or not, with or without line ends; a blank is a `+` that a form decoder took.
///
/// `lenient` drops a lone last character, as a text cut in the middle has it.
pub(super) fn unbase64(text: &[u8], lenient: bool) -> Option<Vec<u8>> {
    // The standard alphabet is by far the most frequent: only what it refuses is looked at for the others.
    unbase64_plain(text.trim_ascii(), lenient).or_else(|| unbase64_other(text, lenient))
}

/// The same of a text whose characters are known.
pub(super) fn unbase64_of(text: &[u8], chars: Chars) -> Option<Vec<u8>> {
    if chars.other_base64() { unbase64_other(text, false) } else { unbase64_plain(text, false) }
}

fn unbase64_other(text: &[u8], lenient: bool) -> Option<Vec<u8>> {
    let plain: Vec<u8> = text
        .trim_ascii()
        .iter()
        .filter_map(|byte| match byte {
            b'-' | b' ' => Some(b'+'),
            b'_' => Some(b'/'),
            b'\r' | b'\n' => None,
            other => Some(*other),
        })
        .collect();
    unbase64_plain(&plain, lenient)
}

fn unbase64_plain(text: &[u8], lenient: bool) -> Option<Vec<u8>> {
    let unpadded = text.trim_suffix_bytes(b'=');
    let unpadded = match unpadded.split_last() {
        Some((_, rest)) if lenient && unpadded.len() % 4 == 1 => rest,
        _ => unpadded,
    };
    BASE64.decode(unpadded).ok()
}

/// Trailing bytes of one value cut off.
trait TrimSuffix {
    fn trim_suffix_bytes(&self, byte: u8) -> &[u8];
}

impl TrimSuffix for [u8] {
    fn trim_suffix_bytes(&self, byte: u8) -> &[u8] {
        let end = self.iter().rposition(|b| *b != byte).map_or(0, |at| at + 1);
        self.get(..end).unwrap_or_default()
    }
}

/// Text for people: valid UTF-8, no control characters but white space, and mostly letters, digits and blanks.
///
/// `least` is the fewest bytes that are believed: short random bytes read as text too often.
pub(super) fn reads_as_text(bytes: &[u8], least: usize) -> bool {
    if bytes.len() < least {
        return false;
    }
    let Ok(text) = simdutf8::basic::from_utf8(bytes) else {
        return false;
    };
    let (mut good, mut wide, mut all) = (0usize, 0usize, 0usize);
    for c in text.chars() {
        all += 1;
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | ' ' => good += 1,
            '!'..='~' | '\t' | '\n' | '\r' => {}
            c if c.is_alphanumeric() => wide += 1,
            c if c.is_control()
                || matches!(c, '\u{fffd}' | '\u{fff0}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}') =>
            {
                return false;
            }
            _ => {}
        }
    }
    // Two letters of any script in three; letters beyond ASCII count only where there are several of them, since
    // two random bytes make one now and then.
    let good = if wide >= 3 || wide * 8 < all { good + wide } else { good };
    good * 3 >= all * 2
}

/// Percent-encoding undone, when there is any, all of it is valid and the result is text.
pub(super) fn unpercent(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    memchr::memchr(b'%', bytes)?;
    let all_valid = memchr::memchr_iter(b'%', bytes).all(|at| {
        matches!(bytes.get(at + 1..at + 3), Some([a, b]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
    });
    if !all_valid {
        return None;
    }
    let decoded = crate::wire::form::percent_decode(bytes).into_owned();
    let decoded = String::from_utf8(decoded).ok()?;
    (!decoded.chars().any(|c| c.is_control() && !c.is_ascii_whitespace())).then_some(decoded)
}

/// UTF-16 text to UTF-8: with a byte order mark, or where every other byte of the most part is zero.
/// The name of the encoding comes with it.
pub(super) fn unutf16(bytes: &[u8]) -> Option<(String, &'static str)> {
    let (body, little) = match bytes {
        [0xff, 0xfe, rest @ ..] => (rest, true),
        [0xfe, 0xff, rest @ ..] => (rest, false),
        _ => (bytes, zero_is_high_byte(bytes)?),
    };
    let (units, rest) = body.as_chunks::<2>();
    if units.is_empty() || !rest.is_empty() {
        return None;
    }
    let units = units.iter().map(|u| if little { u16::from_le_bytes(*u) } else { u16::from_be_bytes(*u) });
    let text: String = char::decode_utf16(units).collect::<Result<_, _>>().ok()?;
    let name = if little { "utf-16le" } else { "utf-16be" };
    (!text.chars().any(|c| c.is_control() && !c.is_ascii_whitespace())).then_some((text, name))
}

/// Fewest characters in a row that are taken for 16-bit text between other bytes.
const LEAST_RUN: usize = 8;

/// The runs of 16-bit ASCII between other bytes, a line each: records of fixed form hold text so, and nothing announces it.
pub(super) fn utf16_runs(bytes: &[u8]) -> Option<String> {
    if memchr::memchr_iter(0, bytes).take(LEAST_RUN).count() < LEAST_RUN {
        return None;
    }
    let mut out = String::new();
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= 2 * LEAST_RUN - 1) {
        // A run begins before a zero: of noise and pictures hardly anything else is looked at.
        match rest.get(1..).and_then(|rest| memchr::memchr(0, rest)) {
            Some(0) => {}
            Some(skip) => {
                at += skip;
                continue;
            }
            None => break,
        }
        let (pairs, _) = rest.as_chunks::<2>();
        let run = pairs.iter().take_while(|[low, high]| matches!(low, b' '..=b'~') && *high == 0);
        let length = run.clone().count();
        if length + 1 < LEAST_RUN {
            at += (2 * length).max(1);
            continue;
        }
        let text: String = run.map(|[low, _]| char::from(*low)).collect();
        // The last character of a big-endian run is not followed by its zero.
        let last = rest.get(2 * length).filter(|byte| matches!(byte, b' '..=b'~'));
        let big = at.checked_sub(1).and_then(|before| bytes.get(before)) == Some(&0);
        if length >= LEAST_RUN {
            out.push_str(&text);
            out.push('\n');
        }
        if let Some(last) = last.filter(|_| big && length + 1 >= LEAST_RUN) {
            out.push_str(&text);
            out.push(char::from(*last));
            out.push('\n');
        }
        at += (2 * length).max(1);
    }
    (!out.is_empty()).then_some(out)
}

/// Whether 16-bit text without a mark is little-endian; `None` when it is not 16-bit text.
fn zero_is_high_byte(bytes: &[u8]) -> Option<bool> {
    if bytes.len() < 16 {
        return None;
    }
    let (units, _) = bytes.as_chunks::<2>();
    // Nine in ten: a text in Chinese has none, and is then found by its mark or not at all.
    let fewest_misses = units.len() / 10;
    let (mut not_little, mut not_big) = (0usize, 0usize);
    for some in units.chunks(64) {
        for [first, second] in some {
            not_little += usize::from(*second != 0 || *first == 0);
            not_big += usize::from(*first != 0 || *second == 0);
        }
        if not_little > fewest_misses && not_big > fewest_misses {
            return None;
        }
    }
    match (not_little <= fewest_misses, not_big <= fewest_misses) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

/// Java's `String.hashCode`: h = 31·h + unit over the UTF-16 units, wrapping (java.lang.String).
pub(super) fn java_hash(text: &str) -> i32 {
    if !text.is_ascii() {
        return text.encode_utf16().fold(0, |h: i32, unit| h.wrapping_mul(31).wrapping_add(i32::from(unit)));
    }
    // Eight characters at a step: the plain form waits for one multiplication per character.
    const POWERS: [i32; 8] = {
        let mut powers = [1i32; 8];
        let mut at = 7;
        while at > 0 {
            #[allow(clippy::indexing_slicing)] // evaluated at compile time
            {
                powers[at - 1] = powers[at].wrapping_mul(31);
            }
            at -= 1;
        }
        powers
    };
    const STEP: i32 = POWERS[0].wrapping_mul(31);
    let (eights, rest) = text.as_bytes().as_chunks::<8>();
    let hash = eights.iter().fold(0i32, |h, eight| {
        let add = eight
            .iter()
            .zip(POWERS)
            .fold(0i32, |sum, (byte, power)| sum.wrapping_add(i32::from(*byte).wrapping_mul(power)));
        h.wrapping_mul(STEP).wrapping_add(add)
    });
    rest.iter().fold(hash, |h, byte| h.wrapping_mul(31).wrapping_add(i32::from(*byte)))
}

/// Whether a floating-point number is one that people use: not the bits of an integer or of text.
pub(super) fn human_size(number: f64) -> bool {
    number.is_finite() && (number == 0.0 || (1e-6..1e13).contains(&number.abs()))
}

/// The size of the noise that text decodes to, when it is base64 or hex of noise.
pub(super) fn encoded_noise(bytes: &[u8]) -> Option<usize> {
    let chars = Chars::of(bytes);
    let decoded = if chars.hex() {
        unhex(bytes)?
    } else if chars.base64() {
        unbase64(bytes, true)?
    } else {
        return None;
    };
    super::opaque::is_noise(&decoded).then_some(decoded.len())
}
