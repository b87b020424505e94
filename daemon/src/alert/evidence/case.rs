//! A case: records to hand to somebody else, in one file of JSON lines that shows every change. Pure.
//!
//! The first line (`type` `case`) holds what is known of the phone and of Telltale, in named parts with the SHA-256 of each;
//! then follow the evidence's own lines as they are, chain and all, with a stand-in for each that is left out; the last line
//! (`case_end`) has the SHA-256 of the first and of every record. It shows what was changed after it was made, not who made it:
//! its own SHA-256, told to somebody else in time, proves the rest.

use serde_json::{Map, Value, json};

use super::chain::{Follower, sha256};

/// What the first line begins with.
const BEGINS: &[u8] = b"{\"type\":\"case\",";
/// The form written here.
const FORMAT: u64 = 1;

/// A case that was read, with everything that is wrong with it.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// What is known of the phone and of Telltale.
    pub parts: Map<String, Value>,
    /// The records.
    pub records: Vec<Map<String, Value>>,
    /// What is wrong, each naming its line or part.
    pub problems: Vec<String>,
}

/// Whether a file is one.
pub fn is_case(bytes: &[u8]) -> bool {
    bytes.starts_with(BEGINS)
}

/// Puts one together.
pub fn seal(parts: &Map<String, Value>, records: &[Vec<u8>]) -> Vec<u8> {
    let hashes: Map<String, Value> =
        parts.iter().map(|(name, part)| (name.clone(), sha256(part.to_string().as_bytes()).into())).collect();
    let head = json!({"type": "case", "format": FORMAT, "parts": parts, "sha256": hashes}).to_string();
    let of_records: Vec<String> = records.iter().map(|record| sha256(record)).collect();
    let end = json!({"type": "case_end", "head": sha256(head.as_bytes()), "records": of_records}).to_string();
    let lines =
        [head.as_bytes()].into_iter().chain(records.iter().map(Vec::as_slice)).chain([end.as_bytes()]);
    lines.flat_map(|line| [line, b"\n"].concat()).collect()
}

/// The stand-in for a record that is left out: it keeps the chain whole.
pub fn stand_in(line: &[u8]) -> Option<Vec<u8>> {
    let record: Map<String, Value> = serde_json::from_slice(line).ok()?;
    if record.get("type").is_some_and(|kind| kind == "forgotten") {
        return Some(line.to_vec());
    }
    let (seq, prev) = (record.get("seq")?, record.get("prev")?);
    Some(
        json!({"seq": seq, "prev": prev, "type": "forgotten", "sha256": sha256(line)})
            .to_string()
            .into_bytes(),
    )
}

/// Reads one and names what is wrong with it.
pub fn open(bytes: &[u8]) -> Case {
    let mut case = Case::default();
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    if lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    } else {
        case.problems.push("the file does not end with a whole line".to_owned());
    }
    let object = |line: &[u8]| serde_json::from_slice::<Map<String, Value>>(line).ok();
    let [first, records @ .., last] = lines.as_slice() else {
        case.problems.push("the file has no end".to_owned());
        return case;
    };
    let head = object(first).unwrap_or_default();
    let end = object(last).filter(|end| end.get("type").is_some_and(|kind| kind == "case_end"));
    if end.is_none() {
        case.problems.push(format!("line {}, the end of the case, is not as it was written", lines.len()));
    }
    let end = end.unwrap_or_default();
    if head.get("format").and_then(Value::as_u64) != Some(FORMAT) {
        case.problems.push("line 1 is no case that this Telltale can read".to_owned());
    }
    let hashes = head.get("sha256").and_then(Value::as_object);
    case.parts = head.get("parts").and_then(Value::as_object).cloned().unwrap_or_default();
    let before = case.problems.len();
    for (name, part) in &case.parts {
        let told = hashes.and_then(|hashes| hashes.get(name)).and_then(Value::as_str);
        if told != Some(&sha256(part.to_string().as_bytes())) {
            case.problems.push(format!("line 1, the part {name:?} is not as it was written"));
        }
    }
    if end.get("head").and_then(Value::as_str) != Some(&sha256(first)) && case.problems.len() == before {
        case.problems.push("line 1 is not as it was written".to_owned());
    }
    let empty = Vec::new();
    let told = end.get("records").and_then(Value::as_array).unwrap_or(&empty);
    if told.len() != records.len() && !end.is_empty() {
        case.problems.push(format!("there are {} records where {} were written", records.len(), told.len()));
    }
    let mut follower = Follower::default();
    for (at, line) in records.iter().enumerate() {
        let number = at.saturating_add(2);
        if told.get(at).is_some_and(|hash| hash.as_str() != Some(&sha256(line))) {
            case.problems.push(format!("line {number} is not as it was written"));
        }
        if let Err(what) = follower.line(line) {
            case.problems.push(format!("line {number}: the record {what}"));
        }
        case.records.extend(object(line));
    }
    case
}
