//! What this phone's identifiers really are: read from a truth file, or gathered on the phone by `leak::phone`.

use std::collections::BTreeMap;

use super::{Error, Kind};

/// The keys a truth file may have besides `lat`, `lon` and `packages`; `data/identifiers.toml` says what each is.
pub(crate) const KEYS: &[&str] = &[
    "imei1",
    "imei2",
    "imei",
    "meid",
    "android_id",
    "gaid",
    "oaid",
    "vaid",
    "aaid",
    "mac",
    "mac_bt",
    "serial",
    "imsi",
    "iccid",
    "mi_account",
    "account",
    "phone",
    "ssid",
    "bssid",
];

/// The most values kept of one key: a phone has one Android ID per signing key, and dozens of known networks.
const MAX_VALUES: usize = 256;
/// The most package names kept.
const MAX_PACKAGES: usize = 2048;
/// Longer values are no identifiers.
const MAX_LENGTH: usize = 128;

/// This phone's own values. Every part may be missing; nothing is invented for it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Truth {
    values: BTreeMap<&'static str, Vec<String>>,
    /// The last known position, degrees north and degrees east.
    pub position: Option<(f64, f64)>,
    /// The packages installed.
    pub packages: Vec<String>,
    /// What `telltale try` handed out and now waits for.
    pub canaries: Vec<Canary>,
    /// What could not be used and why, each named once.
    pub warnings: Vec<String>,
}

/// A text that exists nowhere else, so that wherever it is sent it was taken from where the owner put it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// What a message that carries it says.
    pub kind: Kind,
    /// `example.com/otter-brass-73`, `copper lantern meadow`: words of ASCII.
    pub text: String,
}

impl Truth {
    /// Reads the JSON of a truth file: an object whose keys are those of `KEYS` (text, a number, or a list of them),
    /// `lat` and `lon` in degrees, and `packages`. A key that is not known becomes a warning, once.
    ///
    /// # Errors
    /// [`Error::TruthNotJson`] when it is no JSON object, [`Error::TruthField`] when a key has a value of another type.
    pub fn from_json(text: &str) -> Result<Truth, Error> {
        let root: serde_json::Value =
            serde_json::from_str(text).map_err(|error| Error::TruthNotJson(error.to_string()))?;
        let serde_json::Value::Object(fields) = root else {
            return Err(Error::TruthNotJson("it is not an object".into()));
        };
        let mut truth = Truth::default();
        let (mut lat, mut lon) = (None, None);
        for (key, value) in &fields {
            match key.as_str() {
                "lat" => lat = degrees(key, value, 90.0)?,
                "lon" => lon = degrees(key, value, 180.0)?,
                "packages" => {
                    for package in texts(key, value)? {
                        truth.add_package(&package);
                    }
                }
                _ => {
                    let values = texts(key, value)?;
                    if !values.iter().fold(known(key), |is, value| is && truth.add(key, value)) {
                        truth
                            .warnings
                            .push(format!("the truth file's key {key} is not known and was passed over"));
                    }
                }
            }
        }
        truth.position = lat.zip(lon);
        if lat.is_some() != lon.is_some() {
            truth.warnings.push("the truth file has only one of lat and lon".into());
        }
        Ok(truth)
    }

    /// Adds a value of one of `KEYS`; false when there is no such key. Empty, overlong and repeated values are dropped.
    pub fn add(&mut self, key: &str, value: &str) -> bool {
        let Some(key) = KEYS.iter().find(|known| **known == key) else { return false };
        let value = value.trim();
        let values = self.values.entry(key).or_default();
        if !value.is_empty()
            && value.len() <= MAX_LENGTH
            && values.len() < MAX_VALUES
            && !values.iter().any(|v| v == value)
        {
            values.push(value.to_owned());
        }
        true
    }

    /// Adds an installed package's name.
    pub fn add_package(&mut self, name: &str) {
        if name.contains('.') && name.len() <= MAX_LENGTH && self.packages.len() < MAX_PACKAGES {
            self.packages.push(name.to_owned());
        }
    }

    /// The values of a key.
    pub fn values(&self, key: &str) -> &[String] {
        self.values.get(key).map_or(&[], Vec::as_slice)
    }

    /// True when nothing at all is known.
    pub fn is_empty(&self) -> bool {
        self.values.values().all(Vec::is_empty) && self.position.is_none() && self.packages.is_empty()
    }
}

fn known(key: &str) -> bool {
    KEYS.contains(&key)
}

fn degrees(key: &str, value: &serde_json::Value, bound: f64) -> Result<Option<f64>, Error> {
    use serde_json::Value;
    let number = match value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match number {
        Some(degrees) if degrees.abs() <= bound => Ok(Some(degrees)),
        _ => Err(Error::TruthField { key: key.into(), expected: "degrees, such as 38.72" }),
    }
}

fn texts(key: &str, value: &serde_json::Value) -> Result<Vec<String>, Error> {
    use serde_json::Value;
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Number(number) => Ok(vec![number.to_string()]),
        Value::Array(list) => {
            let mut all = Vec::new();
            for item in list {
                if item.is_array() {
                    return Err(Error::TruthField { key: key.into(), expected: "text or a list of texts" });
                }
                all.extend(texts(key, item)?);
            }
            Ok(all)
        }
        Value::Bool(_) | Value::Object(_) if known(key) || key == "packages" => {
            Err(Error::TruthField { key: key.into(), expected: "text or a list of texts" })
        }
        Value::Bool(_) | Value::Object(_) => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_truth_is_read_whole() {
        let truth = Truth::from_json(include_str!("../../tests/samples/device_truth.json")).unwrap();
        assert_eq!(truth.values("imei1"), ["490154203237518"]);
        assert_eq!(truth.values("phone"), ["+351912345678"]);
        assert_eq!(truth.position, Some((38.722_252, -9.139_337)));
        assert_eq!(truth.packages.len(), 4);
        assert!(truth.warnings.is_empty(), "{:?}", truth.warnings);
    }

    #[test]
    fn every_key_is_optional_and_an_unknown_one_is_named_once() {
        let truth = Truth::from_json(
            r#"{"colour":["red","blue"],"ssid":["A-net","B-net"],"imsi":null,"mi_account":77}"#,
        )
        .unwrap();
        assert_eq!(truth.warnings.len(), 1);
        assert!(truth.warnings[0].contains("colour"));
        assert_eq!(truth.values("ssid"), ["A-net", "B-net"]);
        assert_eq!(truth.values("mi_account"), ["77"]);
        assert!(truth.values("imsi").is_empty());
        assert!(Truth::from_json("{}").unwrap().is_empty());
    }

    #[test]
    fn a_wrong_type_names_its_key() {
        for bad in
            [r#"{"imei1":true}"#, r#"{"lat":"north"}"#, r#"{"packages":{"a":1}}"#, r#"{"ssid":[["x"]]}"#]
        {
            let error = Truth::from_json(bad).unwrap_err().to_string();
            assert!(["imei1", "lat", "packages", "ssid"].iter().any(|key| error.contains(key)), "{error}");
        }
        assert!(matches!(Truth::from_json("[]"), Err(Error::TruthNotJson(_))));
        assert!(matches!(Truth::from_json("{"), Err(Error::TruthNotJson(_))));
    }
}
