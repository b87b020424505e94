//! Finds this phone's own values in text and bytes: one sieve over all needles, so that the number of identifiers, hashes and
//! encodings hardly matters to the time it takes; what it lets through is compared.

use super::{
    Kind,
    data::Data,
    needles::{Bounds, Known, Needle, Needles},
    sieve::{Sieve, Spot},
    truth::Truth,
};

/// The most matches looked at in one text: a text made of matches must not cost more than it is worth.
const MAX_MATCHES: usize = 4096;

/// Fewest digits of a number that people write in groups: a telephone number without its country.
const SHORTEST_GROUPED: usize = 9;
/// Longest such text: an ICCID in groups of four and brackets around something.
const LONGEST_GROUPED: usize = 32;

/// A needle found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit<'s> {
    pub(crate) needle: &'s Needle,
    pub(crate) known: &'s Known,
    pub(crate) known_index: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// The needles and the sieve over them.
#[derive(Debug)]
pub(crate) struct Scanner {
    needles: Needles,
    sieve: Sieve,
    shortest: usize,
}

impl Scanner {
    /// Builds the sieve; costs milliseconds, done at start and when a value has changed.
    pub(crate) fn new(truth: &Truth, data: &Data) -> Scanner {
        let needles = Needles::build(truth, data);
        let shortest = needles.needles.iter().map(|needle| needle.pattern.len()).min().unwrap_or(usize::MAX);
        let sieve = Sieve::new(needles.needles.iter().map(|needle| needle.pattern.as_slice()));
        Scanner { needles, sieve, shortest }
    }

    /// The needle that is exactly this text, and what it stands for.
    pub(crate) fn whole(&self, text: &str) -> Option<(&Needle, &Known)> {
        let needle = self.needles.whole(text)?;
        Some((needle, self.needles.known.get(needle.known)?))
    }

    /// The value of a known thing, by its index.
    pub(crate) fn value(&self, known: usize) -> Option<&str> {
        self.needles.known.get(known)?.value.as_deref()
    }

    /// The number of this phone that all of a short text is, written in groups.
    fn grouped(&self, text: &[u8]) -> Option<Hit<'_>> {
        let mut buffer = [0; LONGEST_GROUPED];
        let digits = ungrouped(text, &mut buffer)?;
        let digits = std::str::from_utf8(buffer.get(..digits)?).ok()?;
        let (needle, known) = self.whole(digits)?;
        let is_number = matches!(
            known.kind,
            Kind::PhoneNumber | Kind::Imei | Kind::Imsi | Kind::Iccid | Kind::Mac | Kind::WifiBssid
        );
        is_number.then_some(Hit { needle, known, known_index: needle.known, start: 0, end: text.len() })
    }

    /// How many needles there are, and the size of the sieve in bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.needles.needles.len(), self.sieve.memory_usage())
    }

    /// Everything of this phone in `text`, in order; of two that overlap, the longer.
    pub(crate) fn hits<'s>(&'s self, text: &[u8], out: &mut Vec<Hit<'s>>) {
        out.clear();
        if text.len() < self.shortest {
            return;
        }
        // Empty in nearly every call, and then it takes no memory.
        let mut found = Vec::new();
        self.sieve.spots(text, |Spot { needle, start }| {
            let Some(Needle { pattern, .. }) = self.needles.needles.get(needle) else { return };
            let end = start.saturating_add(pattern.len());
            let same = text.get(start..end).is_some_and(|part| part.eq_ignore_ascii_case(pattern));
            if same && found.len() < MAX_MATCHES {
                found.push((start, needle, end));
            }
        });
        // By place, and of one text in two spellings the one that was known first.
        found.sort_unstable();
        for (start, needle, end) in found {
            let Some(needle) = self.needles.needles.get(needle) else { continue };
            let Some(known) = self.needles.known.get(needle.known) else { continue };
            if needle.exact && text.get(start..end) != Some(needle.pattern.as_slice()) {
                continue;
            }
            if bounded(needle.bounds, text, start, end) {
                out.push(Hit { needle, known, known_index: needle.known, start, end });
            }
        }
        if out.is_empty() {
            out.extend(self.grouped(text));
            return;
        }
        if out.len() > 1 {
            out.sort_by_key(|hit| (hit.start, std::cmp::Reverse(hit.end)));
            let mut reach = 0;
            out.retain(|hit| {
                let new = hit.end > reach;
                reach = reach.max(hit.end);
                new
            });
        }
    }
}

/// The digits of a number or a hardware address that is written in groups: `+351 912 345 678`, `34ce.0012.3456`.
fn ungrouped(text: &[u8], buffer: &mut [u8; LONGEST_GROUPED]) -> Option<usize> {
    if !(SHORTEST_GROUPED..=LONGEST_GROUPED).contains(&text.len()) {
        return None;
    }
    let mut separators = 0;
    for (index, byte) in text.iter().enumerate() {
        match GROUPED.get(usize::from(*byte)) {
            Some(Grouped::Digit) => {}
            Some(Grouped::Separator) => separators += 1,
            Some(Grouped::Plus) if index <= 1 => {}
            _ => return None,
        }
    }
    if separators == 0 || text.len() - separators < SHORTEST_GROUPED {
        return None;
    }
    let mut digits = 0;
    for byte in text.iter().filter(|byte| GROUPED.get(usize::from(**byte)) != Some(&Grouped::Separator)) {
        *buffer.get_mut(digits)? = *byte;
        digits += 1;
    }
    Some(digits)
}

/// What a character is in a number that is written in groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grouped {
    Digit,
    Separator,
    Plus,
    Other,
}

const GROUPED: [Grouped; 256] = {
    let mut table = [Grouped::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        #[allow(clippy::indexing_slicing)] // evaluated at compile time
        {
            table[byte] = match byte as u8 {
                b'0'..=b'9' | b'A'..=b'F' | b'a'..=b'f' => Grouped::Digit,
                b' ' | b'-' | b'.' | b'(' | b')' | b'/' | b':' => Grouped::Separator,
                b'+' => Grouped::Plus,
                _ => Grouped::Other,
            };
        }
        byte += 1;
    }
    table
};

fn bounded(bounds: Bounds, text: &[u8], start: usize, end: usize) -> bool {
    let before = start.checked_sub(1).and_then(|index| text.get(index)).copied();
    let after = text.get(end).copied();
    // Bytes from 0x80 on are letters of other scripts in UTF-8, and lengths and tags in binary records.
    let letter = |b: u8| b.is_ascii_alphanumeric() || (b >= 0x80 && std::str::from_utf8(text).is_ok());
    let word = |byte: Option<u8>| byte.is_some_and(letter);
    match bounds {
        Bounds::Anywhere => true,
        Bounds::Token => !word(before) && !word(after),
        Bounds::Package => {
            let next = text.get(end.saturating_add(1)).copied();
            let joined = |byte: Option<u8>| word(byte) || byte == Some(b'_');
            let longer_before = joined(before) || before == Some(b'.');
            let longer_after = joined(after) || (after == Some(b'.') && joined(next));
            !longer_before && !longer_after
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanner() -> Scanner {
        let truth = Truth::from_json(include_str!("../../tests/samples/device_truth.json")).unwrap();
        Scanner::new(&truth, &Data::built_in().unwrap())
    }

    fn found(text: &str) -> Vec<(Kind, String, Option<String>)> {
        let scanner = scanner();
        let mut hits = Vec::new();
        scanner.hits(text.as_bytes(), &mut hits);
        hits.iter()
            .map(|hit| (hit.known.kind, hit.known.value.clone().unwrap_or_default(), hit.needle.form.clone()))
            .collect()
    }

    #[test]
    fn plain_values_in_their_spellings() {
        for (text, kind, value) in [
            ("imei=490154203237518;", Kind::Imei, "490154203237518"),
            ("4901542032375101", Kind::Imei, "490154203237518"),
            ("34:CE:00:12:34:56", Kind::Mac, "34:ce:00:12:34:56"),
            ("34-ce-00-12-34-56", Kind::Mac, "34:ce:00:12:34:56"),
            ("34ce00123456", Kind::Mac, "34:ce:00:12:34:56"),
            ("34%3ace%3A00%3A12%3A34%3A56", Kind::Mac, "34:ce:00:12:34:56"),
            ("9F3C2B7A1D4E5F60", Kind::AndroidId, "9f3c2b7a1d4e5f60"),
            ("3b6d7f2a91c44e0b8a576c1d2e3f4a5b", Kind::AdId, "3b6d7f2a-91c4-4e0b-8a57-6c1d2e3f4a5b"),
            ("(F1A2B3C4)", Kind::Serial, "f1a2b3c4"),
            ("u=6012345678&", Kind::Account, "6012345678"),
            ("tel:+351912345678", Kind::PhoneNumber, "+351912345678"),
            ("912345678", Kind::PhoneNumber, "+351912345678"),
            ("(+351) 912-345-678", Kind::PhoneNumber, "+351912345678"),
            ("912 345 678", Kind::PhoneNumber, "+351912345678"),
            ("49-015420-323751-8", Kind::Imei, "490154203237518"),
            ("34CE.0012.3456", Kind::Mac, "34:ce:00:12:34:56"),
            ("at Lisboa-Home-5G now", Kind::WifiName, "Lisboa-Home-5G"),
            ("a42bb0112233", Kind::WifiBssid, "a4:2b:b0:11:22:33"),
            ("11474093754110861152", Kind::AndroidId, "9f3c2b7a1d4e5f60"),
            ("NDkwMTU0MjAzMjM3NTE4", Kind::Imei, "490154203237518"),
            ("com.whatsapp", Kind::InstalledApps, "com.whatsapp"),
        ] {
            let all = found(text);
            assert!(all.iter().any(|(k, v, _)| *k == kind && v == value), "{text}: {all:?}");
            assert_eq!(all.len(), 1, "{text}: {all:?}");
        }
    }

    #[test]
    fn a_short_value_inside_a_longer_word_is_nothing() {
        for text in [
            "af1a2b3c4",
            "f1a2b3c45",
            "160123456789",
            "9123456780",
            "912 345 6780",
            "912 345 678 x",
            "lisboa-home-5g",
            "com.whatsapp.w4b",
            "xcom.whatsapp",
        ] {
            assert!(found(text).is_empty(), "{text}: {:?}", found(text));
        }
        assert_eq!(found("com.whatsapp.").len(), 1);
    }

    #[test]
    fn every_hash_in_every_encoding_and_case() {
        let digest = Md5::digest(b"490154203237518");
        use base64::{Engine, engine::general_purpose as b64};
        use md5::{Digest, Md5};
        let hex = super::super::needles::hex(&digest);
        let base64 = b64::STANDARD.encode(digest);
        let url = b64::URL_SAFE_NO_PAD.encode(digest);
        for text in
            [hex.clone(), hex.to_uppercase(), base64, url, hex[8..24].to_owned(), hex[8..24].to_uppercase()]
        {
            assert_eq!(found(&text), [(Kind::Imei, "490154203237518".into(), Some("md5".into()))], "{text}");
        }
        let scanner = scanner();
        let mut hits = Vec::new();
        let mut bytes = vec![1, 2, 3];
        bytes.extend_from_slice(&digest);
        bytes.push(9);
        scanner.hits(&bytes, &mut hits);
        assert_eq!(hits.len(), 1);
        let (needles, bytes) = scanner.size();
        println!("{needles} needles, sieve {} KiB", bytes / 1024);
        assert!(bytes < 2 << 20, "{bytes}");
    }

    #[test]
    fn two_hashes_joined_with_a_comma_are_both_found() {
        let all = found("0eaed834a1e6f4b2bf0c024e0013dea1,13CB93B3E2CFC9A2BD29E1B6BB4A0F69");
        assert_eq!(all.len(), 1, "{all:?}");
        use md5::{Digest, Md5};
        let second = super::super::needles::hex(&Md5::digest(b"356938035643809")).to_uppercase();
        assert_eq!(found(&format!("0eaed834a1e6f4b2bf0c024e0013dea1,{second}")).len(), 2);
    }

    #[test]
    fn the_composite_is_shown_as_it_was_sent() {
        let all = found("D3D06E6B995F4281C00B188104533BBC3813A5DF");
        assert_eq!(all, [(Kind::DeviceIds, String::new(), Some("sha1 of imei+android_id+serial".into()))]);
    }
}
