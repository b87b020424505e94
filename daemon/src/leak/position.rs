//! Positions: pairs of numbers that are degrees, as decimals or as whole numbers of millionths, and how far they are from
//! where the phone last was.

use std::{borrow::Cow, fmt};

/// Nearer than this to the last fix, a pair of numbers without telling keys is the phone's position.
const NEAR_KM: f64 = 5.0;
/// Mean radius of the earth (IUGG), kilometres.
const EARTH_KM: f64 = 6371.0;

/// Degrees north and east.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Position {
    pub(crate) lat: f64,
    pub(crate) lon: f64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.lat, self.lon)
    }
}

impl Position {
    /// A position when both are in range and not the 0,0 that stands for "unknown".
    fn new(lat: f64, lon: f64) -> Option<Position> {
        let in_range = lat.abs() <= 90.0 && lon.abs() <= 180.0;
        (in_range && (lat.abs() > 0.001 || lon.abs() > 0.001)).then_some(Position { lat, lon })
    }

    /// Great-circle distance in kilometres (haversine).
    pub(crate) fn distance_km(self, other: Position) -> f64 {
        let half = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
        let flat = self.lat.to_radians().cos() * other.lat.to_radians().cos();
        let a = half(self.lat - other.lat) + flat * half(self.lon - other.lon);
        2.0 * EARTH_KM * a.sqrt().min(1.0).asin()
    }

    /// True when this is about where the phone last was.
    pub(crate) fn is_near(self, fix: Position) -> bool {
        self.distance_km(fix) <= NEAR_KM
    }
}

/// The distance in words.
pub(crate) fn words(kilometres: f64) -> String {
    if kilometres < 1.0 { format!("{:.0} m", kilometres * 1000.0) } else { format!("{kilometres:.1} km") }
}

/// Latitude and longitude from their texts; true beside it when they were whole numbers. Fewer than three decimals are a
/// town at best, and just as well a price.
pub(crate) fn pair(lat: &str, lon: &str) -> Option<(Position, bool)> {
    let (lat, lon) = (&*plain(lat), &*plain(lon));
    if decimals(lat)? >= 3 && decimals(lon)? >= 3 {
        return Position::new(lat.parse().ok()?, lon.parse().ok()?).map(|position| (position, false));
    }
    scaled(lat, lon).next().map(|position| (position, true))
}

/// A number as programs write it, of one as people do: with a decimal comma, or with the letter of its hemisphere. What Java
/// writes of a double, `3.8722252E7` or `-9139337.0`, becomes the number it is.
fn plain(text: &str) -> Cow<'_, str> {
    let text = text.trim_matches(' ');
    if let Some(number) = written_out(text) {
        return number;
    }
    let (digits, south) = match text.as_bytes() {
        [.., b'0'..=b'9'] | [] => (text, false),
        [.., b'N' | b'E' | b'n' | b'e'] => (text.trim_end_matches(char::is_alphabetic).trim_end(), false),
        [.., b'S' | b'W' | b's' | b'w'] => (text.trim_end_matches(char::is_alphabetic).trim_end(), true),
        _ => (text, false),
    };
    if !south && !digits.contains(',') {
        return Cow::Borrowed(digits);
    }
    let sign = if south && !digits.starts_with('-') { "-" } else { "" };
    Cow::Owned(format!("{sign}{}", digits.replacen(',', ".", 1)))
}

fn written_out(text: &str) -> Option<Cow<'_, str>> {
    if let Some(whole) = text.strip_suffix(".0") {
        return Some(Cow::Borrowed(whole));
    }
    let exponent = text.find(['E', 'e'])?;
    let ends = text.get(exponent..)?.ends_with(|c: char| c.is_ascii_digit());
    let number = text.parse::<f64>().ok().filter(|number| ends && number.abs() < 1e10)?;
    Some(Cow::Owned(number.to_string()))
}

/// How a number may say degrees. Two that are not alike are no pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Degrees {
    /// With three decimals or more.
    Decimal,
    /// A whole number of small parts.
    Whole,
}

impl Degrees {
    /// The longest number looked at; the longest decimal has 21 characters, and zeros may stand before a whole number.
    const LONGEST: usize = 40;

    /// What this may be; none for most numbers: times and counters stand side by side in every event.
    pub(crate) fn of(text: &str) -> Option<Degrees> {
        let bytes = text.as_bytes();
        if bytes.len() > Degrees::LONGEST {
            return None;
        }
        match bytes.iter().position(|byte| *byte == b'.') {
            Some(point) => match bytes.get(point..)? {
                b".0" => Degrees::of(text.get(..point)?),
                // As Java writes what is large or small.
                [.., b'E' | b'e', b'0'..=b'9'] | [.., b'E' | b'e', b'-', b'0'..=b'9'] => {
                    written_out(text).and_then(|number| Degrees::of(&number))
                }
                // Two points make a version, 3.2.10.
                decimals => (decimals.len() > 3 && !decimals.iter().skip(1).any(|byte| *byte == b'.'))
                    .then_some(Degrees::Decimal),
            },
            // Eleven characters hold every whole number that is in range.
            None => (bytes.len() <= 11 || matches!(bytes.first(), Some(b'0' | b'-' | b'+')))
                .then_some(Degrees::Whole),
        }
    }
}

/// Like [`pair`], but of what whole numbers may mean the one near `fix`.
pub(crate) fn pair_near(lat: &str, lon: &str, fix: Position) -> Option<Position> {
    let degrees = Degrees::of(lat)?;
    // Below six characters neither of two whole numbers is one that must have six digits.
    if degrees == Degrees::Whole && lat.len().max(lon.len()) < 6 || Degrees::of(lon) != Some(degrees) {
        return None;
    }
    match pair(lat, lon)? {
        (position, false) => Some(position).filter(|position| position.is_near(fix)),
        (_, true) => scaled(&plain(lat), &plain(lon)).find(|position| position.is_near(fix)),
    }
}

fn scaled(lat: &str, lon: &str) -> impl Iterator<Item = Position> {
    let numbers = lat.parse::<i64>().ok().zip(lon.parse::<i64>().ok());
    // Below a tenth of a degree on both axes whole numbers are counters, not places.
    let numbers = numbers.filter(|(lat, lon)| lat.unsigned_abs().max(lon.unsigned_abs()) >= 100_000);
    #[expect(clippy::cast_precision_loss, reason = "in-range degrees times 1e7 fit 53 bits")]
    let numbers = numbers.map(|(lat, lon)| (lat as f64, lon as f64));
    [1e6, 1e7].into_iter().filter_map(move |scale| {
        let (lat, lon) = numbers?;
        Position::new(lat / scale, lon / scale)
    })
}

/// Decimals of a plain number; none when it is no number.
fn decimals(text: &str) -> Option<usize> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    (!whole.is_empty() && digits.len() <= 20 && plain(whole) && plain(fraction)).then_some(fraction.len())
}

/// Pairs of decimals next to each other in a text such as a path or a query: `38.72225,-9.13934`, either order.
pub(crate) fn pair_in_text(text: &str, fix: Position) -> Option<Position> {
    if text.len() > 4096 || !has_two_decimals(text.as_bytes()) {
        return None;
    }
    let mut before: Option<&str> = None;
    let words = text.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'));
    // ISO 6709, as phones write it into pictures, has nothing between the two but the sign: +38.7223-009.1393.
    let words = words.flat_map(|word| match word.rfind('-') {
        Some(sign) if sign > 0 => [word.get(..sign), word.get(sign..)],
        _ => [Some(word), None],
    });
    for word in words.flatten() {
        if word.is_empty() {
            continue;
        }
        if decimals(word).is_none_or(|count| count < 3) {
            before = None;
            continue;
        }
        if let Some(first) = before {
            let found = pair_near(first, word, fix).or_else(|| pair_near(word, first, fix));
            if found.is_some() {
                return found;
            }
        }
        before = Some(word);
    }
    None
}

/// Whether a text has two numbers of three decimals at all: hardly any has, and this is all that is read of the others.
fn has_two_decimals(text: &[u8]) -> bool {
    let decimals =
        |dot: &usize| text.get(dot + 1..dot + 4).is_some_and(|digits| digits.iter().all(u8::is_ascii_digit));
    memchr::memchr_iter(b'.', text).filter(decimals).nth(1).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISBON: Position = Position { lat: 38.722_252, lon: -9.139_337 };

    #[test]
    fn decimals_and_whole_numbers() {
        assert_eq!(pair("38.722252", "-9.139337").unwrap(), (LISBON, false));
        assert_eq!(pair("38722252", "-9139337").unwrap(), (LISBON, true));
        assert_eq!(pair("387222520", "-91393370").unwrap(), (LISBON, true));
        for (lat, lon) in [
            ("38,722252", "-9,139337"),
            ("38.722252N", "9.139337W"),
            ("38.722252 N", "9.139337 w"),
            ("3.8722252E1", "-9.139337E0"),
        ] {
            assert_eq!(pair(lat, lon).unwrap(), (LISBON, false), "{lat} {lon}");
        }
        assert_eq!(LISBON.to_string(), "38.722252,-9.139337");
        for (lat, lon) in [
            ("38.72", "-9.13"),
            ("0.0000", "0.0000"),
            ("91.0001", "1.0001"),
            ("12", "13"),
            ("x", "y"),
            ("", ""),
        ] {
            assert_eq!(pair(lat, lon), None, "{lat} {lon}");
        }
    }

    #[test]
    fn most_numbers_are_no_degrees() {
        for (text, degrees) in [
            ("38.722252", Some(Degrees::Decimal)),
            ("-9139337", Some(Degrees::Whole)),
            ("3.2.100", None),
            ("3.8722252E1", Some(Degrees::Decimal)),
            ("3.8722252E7", Some(Degrees::Whole)),
            ("-9139337.0", Some(Degrees::Whole)),
            ("1.5E9.E9", None),
            ("38.72", None),
            ("1795255200123", None),
        ] {
            assert_eq!(Degrees::of(text), degrees, "{text}");
        }
        assert!(pair_near("38.722252", "-9.139337", LISBON).is_some());
        assert!(pair_near("38722252", "-9139337", LISBON).is_some());
        assert!(pair_near("3.8722252E7", "-9139337.0", LISBON).is_some());
        assert!(pair_near("38.722252", "-9139337", LISBON).is_none());
    }

    #[test]
    fn distance() {
        let porto = Position { lat: 41.157_944, lon: -8.629_105 };
        let distance = LISBON.distance_km(porto);
        assert!((270.0..280.0).contains(&distance), "{distance}");
        assert!(!LISBON.is_near(porto) && LISBON.is_near(LISBON));
        assert_eq!(words(0.2), "200 m");
        assert_eq!(words(12.34), "12.3 km");
    }

    #[test]
    fn a_pair_in_a_path_counts_only_near_the_fix() {
        assert!(pair_in_text("/v1/38.7221,-9.1390/now", LISBON).is_some());
        assert!(pair_in_text("/v1/-9.1390/38.7221", LISBON).is_some());
        assert!(pair_in_text("+38.7223-009.1393/", LISBON).is_some());
        assert!(pair_in_text("/v1/48.7221,2.1390", LISBON).is_none());
        assert!(pair_in_text("/v1/38.7,-9.1", LISBON).is_none());
    }
}
