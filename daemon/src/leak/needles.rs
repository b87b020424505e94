//! Every way this phone's own values may travel: spellings, hashes of spellings, encodings of hashes. Built once from the
//! truth; searched by [`super::scan`].

use std::collections::HashMap;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::{
    Kind,
    data::Data,
    fields::Weight,
    truth::{Canary, Truth},
};

/// Values shorter than this count only as whole tokens (identifiers data, `matching.short_values`).
const WHOLE_BELOW: usize = 12;
/// Shorter values are no evidence of anything.
const SHORTEST: usize = 4;
/// Longest needle that is asked for as a whole: SHA-256 in hexadecimal has 64 digits, a value at most 128, twice that in hexadecimal.
const LONGEST_WHOLE: usize = 384;
/// A needle's budget: a phone with hundreds of Android IDs must not fill the memory.
const MAX_NEEDLES: usize = 12_000;

/// What must stand around a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bounds {
    /// Anything.
    Anywhere,
    /// No letter or digit.
    Token,
    /// Nothing that could belong to a longer package name.
    Package,
}

/// One text (or digest) to look for.
#[derive(Debug, Clone)]
pub(crate) struct Needle {
    pub(crate) pattern: Vec<u8>,
    /// Upper and lower case differ (base64, network names, raw digests).
    pub(crate) exact: bool,
    pub(crate) bounds: Bounds,
    /// Index into [`Needles::known`].
    pub(crate) known: usize,
    /// How it travels, when not as text: `md5`.
    pub(crate) form: Option<String>,
    /// For the sentence that says why: ` in base64`.
    pub(crate) spelling: &'static str,
}

/// One value of this phone.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) kind: Kind,
    pub(crate) weight: Weight,
    /// In plain words; none when what was sent is shown as it is (composites).
    pub(crate) value: Option<String>,
    /// What it is called: `IMEI`.
    pub(crate) name: String,
    /// The owner put it there for an experiment.
    pub(crate) canary: bool,
}

/// All needles and what they stand for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Needles {
    pub(crate) known: Vec<Known>,
    pub(crate) needles: Vec<Needle>,
    /// Needle by its text: first those whose case does not matter, in lower case, then the exact ones.
    seen: [HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>; 2],
}

impl Needles {
    /// Every needle of a truth.
    pub(crate) fn build(truth: &Truth, data: &Data) -> Needles {
        let mut all = Needles::default();
        for canary in &truth.canaries {
            all.canary(canary, data);
        }
        // Plain values of everything first, so that the budget never costs one of them.
        let mut hashes = Vec::new();
        for identifier in &data.identifiers {
            for value in identifier.truth.iter().flat_map(|key| truth.values(key)) {
                if is_nothing(value, data) || (identifier.kind == Kind::WifiName && is_common(value, data)) {
                    continue;
                }
                let known = all.known.len();
                all.known.push(Known {
                    kind: identifier.kind,
                    weight: identifier.weight,
                    value: Some(value.clone()),
                    name: identifier.name.clone(),
                    canary: false,
                });
                for spelling in &identifier.plain {
                    for text in spell(value, spelling, data) {
                        all.plain(known, identifier.kind, spelling, &text);
                    }
                }
                for spelling in &identifier.hashed {
                    hashes.extend(spell(value, spelling, data).into_iter().map(|text| (known, text)));
                }
            }
        }
        for package in &truth.packages {
            let known = all.known.len();
            all.known.push(Known {
                kind: Kind::InstalledApps,
                weight: Weight::High,
                value: Some(package.clone()),
                name: "installed app".into(),
                canary: false,
            });
            all.push(package.clone().into_bytes(), true, Bounds::Package, known, None, "");
        }
        for composite in &data.composites {
            for text in combinations(truth, &composite.parts) {
                let known = all.known.len();
                all.known.push(Known {
                    kind: composite.kind,
                    weight: composite.weight,
                    value: None,
                    name: "device id".into(),
                    canary: false,
                });
                for algorithm in &composite.algorithms {
                    all.digest(known, &composite.form, algorithm, text.as_bytes(), &data.encodings);
                }
            }
        }
        for (known, text) in hashes {
            for algorithm in &data.algorithms {
                all.digest(known, algorithm, algorithm, text.as_bytes(), &data.encodings);
            }
        }
        all
    }

    /// What the owner was handed, in every form: as he types it and as programs write it, the bytes of that in base64 at
    /// any place of a longer text, in hexadecimal and in UTF-16, and every hash of it.
    fn canary(&mut self, canary: &Canary, data: &Data) {
        let known = self.known.len();
        self.known.push(Known {
            kind: canary.kind,
            weight: Weight::High,
            value: Some(canary.text.clone()),
            name: "what `telltale try` handed out".into(),
            canary: true,
        });
        let (plain, hashed) = canary_spellings(&canary.text);
        for text in &plain {
            self.push(text.clone().into_bytes(), false, Bounds::Anywhere, known, None, "");
        }
        for text in plain.iter().chain(&hashed) {
            let bytes = text.as_bytes();
            for part in base64_parts(bytes) {
                self.push(part.into_bytes(), true, Bounds::Anywhere, known, Some("base64".into()), "");
            }
            self.push(hex(bytes).into_bytes(), false, Bounds::Anywhere, known, Some("hex".into()), "");
            for order in [u16::to_le_bytes, u16::to_be_bytes] {
                let wide: Vec<u8> = text.encode_utf16().flat_map(order).collect();
                self.push(wide, true, Bounds::Anywhere, known, Some("utf-16".into()), "");
            }
        }
        for text in &hashed {
            for algorithm in &data.algorithms {
                self.digest(known, algorithm, algorithm, text.as_bytes(), &data.encodings);
            }
        }
    }

    fn plain(&mut self, known: usize, kind: Kind, spelling: &str, text: &str) {
        let exact = kind == Kind::WifiName;
        // An Android ID without its zeros is short for what it is; a number may be part of any longer number.
        let part_of_another = matches!(spelling, "no_leading_zeros" | "decimal" | "meid_decimal");
        let token = text.len() < WHOLE_BELOW || part_of_another || exact;
        let bounds = if token { Bounds::Token } else { Bounds::Anywhere };
        let form = match spelling {
            "digits14" => Some("without its check digit".to_owned()),
            "decimal" | "meid_decimal" => Some("decimal".to_owned()),
            _ => None,
        };
        self.push(text.as_bytes().to_vec(), exact, bounds, known, form.clone(), "");
        if text.len() >= WHOLE_BELOW && form.is_none() {
            let encoded = STANDARD_NO_PAD.encode(text);
            self.push(encoded.into_bytes(), true, Bounds::Anywhere, known, Some("base64".into()), "");
            let digits = hex(text.as_bytes());
            self.push(digits.into_bytes(), false, Bounds::Anywhere, known, Some("hex".into()), "");
        }
        // An advertising ID is a UUID, and protobuf and MessagePack carry those as 16 bytes.
        if let Some(bytes) = uuid(text).filter(|_| spelling == "no_dashes") {
            for encoded in [STANDARD_NO_PAD.encode(bytes), URL_SAFE_NO_PAD.encode(bytes)] {
                self.push(encoded.into_bytes(), true, Bounds::Token, known, Some("base64".into()), "");
            }
            self.push(bytes.to_vec(), true, Bounds::Anywhere, known, Some("raw bytes".into()), "");
        }
        if text.contains(':') {
            let escaped = text.replace(':', "%3A");
            self.push(escaped.into_bytes(), false, Bounds::Anywhere, known, None, "");
        }
    }

    fn digest(&mut self, known: usize, form: &str, algorithm: &str, input: &[u8], encodings: &[String]) {
        let digest: Vec<u8> = match algorithm {
            "md5" => Md5::digest(input).to_vec(),
            "sha1" => Sha1::digest(input).to_vec(),
            "sha256" => Sha256::digest(input).to_vec(),
            _ => return,
        };
        let form = Some(form.to_owned());
        for encoding in encodings {
            let (pattern, exact, bounds, spelling) = match encoding.as_str() {
                "hex" => (hex(&digest).into_bytes(), false, Bounds::Anywhere, ""),
                "base64" => {
                    (STANDARD_NO_PAD.encode(&digest).into_bytes(), true, Bounds::Anywhere, " in base64")
                }
                "base64url" => {
                    (URL_SAFE_NO_PAD.encode(&digest).into_bytes(), true, Bounds::Anywhere, " in base64")
                }
                "base64url16" if algorithm == "sha1" => {
                    let text = URL_SAFE_NO_PAD.encode(&digest);
                    let Some(start) = text.get(..16) else { continue };
                    (
                        start.as_bytes().to_vec(),
                        true,
                        Bounds::Token,
                        ", the first 16 characters of its base64",
                    )
                }
                "middle16" if algorithm == "md5" => {
                    let text = hex(&digest);
                    let Some(middle) = text.get(8..24) else { continue };
                    (middle.as_bytes().to_vec(), false, Bounds::Token, ", the middle 16 digits of it")
                }
                "raw" => (digest.clone(), true, Bounds::Anywhere, " as raw bytes"),
                _ => continue,
            };
            self.push(pattern, exact, bounds, known, form.clone(), spelling);
            // Java's BigInteger and `%032X` drop leading zeros.
            let text = hex(&digest);
            let short = text.trim_start_matches('0');
            if encoding == "hex" && short.len() < text.len() && short.len() >= 24 {
                let padded = text.get(text.len().saturating_sub(short.len().max(32))..).unwrap_or(short);
                for pattern in [short, padded] {
                    let pattern = pattern.as_bytes().to_vec();
                    self.push(
                        pattern,
                        false,
                        Bounds::Token,
                        known,
                        form.clone(),
                        " without its leading zeros",
                    );
                }
            }
        }
    }

    fn push(
        &mut self,
        pattern: Vec<u8>,
        exact: bool,
        bounds: Bounds,
        known: usize,
        form: Option<String>,
        spelling: &'static str,
    ) {
        if pattern.len() < SHORTEST || self.needles.len() >= MAX_NEEDLES {
            return;
        }
        let key = if exact { pattern.clone() } else { pattern.to_ascii_lowercase() };
        // The first to claim a text keeps it: plain before hashed, a device's own before what is built from it.
        let [folded, verbatim] = &mut self.seen;
        let seen = if exact { verbatim } else { folded };
        if let std::collections::hash_map::Entry::Vacant(free) = seen.entry(key.into()) {
            free.insert(self.needles.len());
            self.needles.push(Needle { pattern, exact, bounds, known, form, spelling });
        }
    }

    /// The needle that is exactly this text.
    pub(crate) fn whole(&self, text: &str) -> Option<&Needle> {
        // Asked of every identifier that the dictionary names: nothing as long as no needle is needs a copy.
        let mut buffer = [0; LONGEST_WHOLE];
        let lower = buffer.get_mut(..text.len())?;
        lower.copy_from_slice(text.as_bytes());
        let [folded, verbatim] = &self.seen;
        let index = verbatim.get(&*lower).or_else(|| {
            lower.make_ascii_lowercase();
            folded.get(&*lower)
        })?;
        self.needles.get(*index)
    }
}

/// How a canary is written: as part of anything, and whole, as it would be hashed.
fn canary_spellings(text: &str) -> (Vec<String>, Vec<String>) {
    if let Some((host, path)) = text.split_once('/') {
        let whole = ["https://", "http://", "", "https://www.", "www."]
            .iter()
            .flat_map(|scheme| ["", "/"].map(|end| format!("{scheme}{host}/{path}{end}")))
            .chain([path.to_owned(), format!("/{path}")]);
        // What makes it unique; any spelling of the address holds it.
        return (vec![path.to_owned()], whole.collect());
    }
    let plain = [" ", "+", "%20", "%2520", "%2B", "_", "-", ""].map(|between| text.replace(' ', between));
    let cases = [str::to_owned, str::to_ascii_lowercase, str::to_ascii_uppercase];
    let mut whole: Vec<String> = Vec::new();
    for spelling in plain.iter().take(3).flat_map(|text| cases.map(|case| case(text))) {
        if !whole.contains(&spelling) {
            whole.push(spelling);
        }
    }
    (plain.to_vec(), whole)
}

/// What a text always looks like in base64, at each of the three places it may have in a longer one. The ends, which
/// depend on the neighbours, are left out.
fn base64_parts(bytes: &[u8]) -> Vec<String> {
    (0..3)
        .filter_map(|before: usize| {
            let padded: Vec<u8> = std::iter::repeat_n(0, before).chain(bytes.iter().copied()).collect();
            let whole = STANDARD_NO_PAD.encode(&padded);
            // Characters that hold a bit of what stands before, and the last when it is not full.
            let first = (before * 8).div_ceil(6);
            let last = padded.len() * 8 / 6;
            whole.get(first..last).map(str::to_owned)
        })
        .collect()
}

/// True for a value that says "there is none".
pub(crate) fn is_nothing(value: &str, data: &Data) -> bool {
    let value = value.trim();
    data.nothing.iter().any(|nothing| nothing.eq_ignore_ascii_case(value))
        || value.bytes().all(|byte| matches!(byte, b'0' | b'-' | b':' | b'.'))
}

fn is_common(name: &str, data: &Data) -> bool {
    name.chars().count() < SHORTEST
        || data.common_names.iter().any(|common| common.eq_ignore_ascii_case(name))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The bytes of a UUID written without dashes.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32)?;
    Some(number.to_be_bytes())
}

/// The ways to write a value that a spelling's name stands for (`data/identifiers.toml`).
fn spell(value: &str, spelling: &str, data: &Data) -> Vec<String> {
    let one = |text: String| vec![text];
    match spelling {
        "as_is" => one(value.to_owned()),
        "lower" => one(value.to_ascii_lowercase()),
        "upper" => one(value.to_ascii_uppercase()),
        "quoted" => one(format!("\"{value}\"")),
        "digits14" => {
            value.get(..14).filter(|_| value.len() == 15).map(|v| one(v.into())).unwrap_or_default()
        }
        "no_dashes" => {
            let bare = value.replace('-', "");
            if bare == value {
                Vec::new()
            } else {
                vec![bare.to_ascii_lowercase(), bare.to_ascii_uppercase()]
            }
        }
        "colons" => mac(value, ":"),
        "dashes" => mac(value, "-"),
        "bare" => mac(value, ""),
        "unpadded" => unpadded(value),
        "no_leading_zeros" => {
            let short = value.trim_start_matches('0');
            if short.len() < value.len() && short.len() >= 8 { one(short.into()) } else { Vec::new() }
        }
        "decimal" => match u64::from_str_radix(value, 16) {
            Ok(number) if number > 9_999_999_999 => {
                vec![number.to_string(), number.cast_signed().to_string()]
            }
            _ => Vec::new(),
        },
        "meid_decimal" => meid_decimal(value).map(one).unwrap_or_default(),
        _ => phone(value, spelling, data),
    }
}

/// A MAC address's six octets joined by `separator`, in both cases.
fn mac(value: &str, separator: &str) -> Vec<String> {
    octets(value).map(|octets| both_cases(&octets.join(separator))).unwrap_or_default()
}

/// Joined by colons, without leading zeros; nothing when there are none.
fn unpadded(value: &str) -> Vec<String> {
    let Some(octets) = octets(value) else { return Vec::new() };
    let short = octets.each_ref().map(|octet| octet.strip_prefix('0').unwrap_or(octet));
    let text = short.join(":");
    // Below that it could be a time of day and its parts.
    if (12..17).contains(&text.len()) { both_cases(&text) } else { Vec::new() }
}

fn octets(value: &str) -> Option<[String; 6]> {
    let digits: String = value.chars().filter(char::is_ascii_hexdigit).collect();
    let octet = |index: usize| digits.get(2 * index..2 * index + 2).map(str::to_owned);
    let all: Vec<String> = (0..6).filter_map(octet).collect();
    all.try_into().ok().filter(|_| digits.len() == 12)
}

fn both_cases(text: &str) -> Vec<String> {
    vec![text.to_ascii_lowercase(), text.to_ascii_uppercase()]
}

/// 3GPP2 X.S0008: the first 8 hexadecimal digits as 10 decimal ones, the last 6 as 8.
fn meid_decimal(value: &str) -> Option<String> {
    let (manufacturer, serial) = (value.get(..8)?, value.get(8..14)?);
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(format!("{:010}{:08}", number(manufacturer)?, number(serial)?))
}

fn phone(value: &str, spelling: &str, data: &Data) -> Vec<String> {
    let digits: String = value.chars().filter(char::is_ascii_digit).collect();
    if !(7..=15).contains(&digits.len()) {
        return Vec::new();
    }
    // Codes are prefix-free (E.164), so at most one fits; without the + nothing says that there is one.
    let national = value
        .starts_with('+')
        .then(|| data.country_codes.iter().find_map(|code| digits.strip_prefix(code.as_str())))
        .flatten()
        .filter(|rest| rest.len() >= 6);
    match (spelling, national) {
        ("e164", _) => vec![format!("+{digits}")],
        ("digits", _) => vec![digits],
        ("zero_zero", _) => vec![format!("00{digits}")],
        ("national", Some(rest)) => vec![rest.to_owned()],
        ("national_zero", Some(rest)) => vec![format!("0{rest}")],
        _ => Vec::new(),
    }
}

/// Every joining of one value per part. `imei` stands for each IMEI.
fn combinations(truth: &Truth, parts: &[String]) -> Vec<String> {
    let mut all = vec![String::new()];
    for part in parts {
        let keys: &[&str] = if part == "imei" { &["imei1", "imei2", "imei"] } else { &[part.as_str()] };
        let values: Vec<&String> = keys.iter().flat_map(|key| truth.values(key)).take(16).collect();
        all = all
            .iter()
            .flat_map(|start| values.iter().map(move |value| format!("{start}{value}")))
            .take(64)
            .collect();
    }
    all
}
