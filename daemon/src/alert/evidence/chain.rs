//! The chain that ties evidence records together: each holds the SHA-256 of the one before it. Pure.

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// What the first record of all points to.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the chain stands: the next record's number, and the hash of the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    next: u64,
    prev: String,
}

impl Default for Chain {
    fn default() -> Self {
        Self { next: 1, prev: GENESIS.to_owned() }
    }
}

impl Chain {
    /// The chain after a line that is known to be whole; none when it is no record.
    pub fn after(line: &[u8]) -> Option<Self> {
        let record: Record = parse(line).ok()?;
        Some(Self { next: record.seq.checked_add(1)?, prev: record.hash })
    }

    /// The line for a record, and the chain after it. The chain itself moves only when the line is safely written.
    pub fn seal(&self, fields: Map<String, Value>) -> (Vec<u8>, Self) {
        let mut record = Map::new();
        record.insert("seq".into(), self.next.into());
        record.insert("prev".into(), self.prev.clone().into());
        record.extend(fields);
        let mut line = Value::Object(record).to_string().into_bytes();
        let after = Self { next: self.next.saturating_add(1), prev: sha256(&line) };
        line.push(b'\n');
        (line, after)
    }
}

/// What the chain needs to know of a record.
struct Record {
    seq: u64,
    prev: String,
    /// What the next record must point to.
    hash: String,
}

fn parse(line: &[u8]) -> Result<Record, &'static str> {
    let Ok(Value::Object(map)) = serde_json::from_slice::<Value>(line) else {
        return Err("is no JSON object");
    };
    let seq = map.get("seq").and_then(Value::as_u64).ok_or("has no number")?;
    let prev = map.get("prev").and_then(Value::as_str).ok_or("names no record before it")?;
    // What stands for a forgotten record passes on the hash that the record had.
    let hash = match map.get("type").and_then(Value::as_str) {
        Some("forgotten") => {
            map.get("sha256").and_then(Value::as_str).ok_or("does not say what it stands for")?.to_owned()
        }
        _ => sha256(line),
    };
    if let Some(why) = map.get("request").and_then(broken_request) {
        return Err(why);
    }
    Ok(Record { seq, prev: prev.to_owned(), hash })
}

/// A kept request must still have the hash that was written beside it.
fn broken_request(request: &Value) -> Option<&'static str> {
    use base64::Engine as _;
    let told = request.get("kept_sha256")?.as_str()?;
    let bytes = match (request.get("text"), request.get("base64")) {
        (Some(text), _) => text.as_str().unwrap_or_default().as_bytes().to_vec(),
        (None, Some(coded)) => {
            base64::engine::general_purpose::STANDARD.decode(coded.as_str().unwrap_or_default()).ok()?
        }
        (None, None) => return None,
    };
    (sha256(&bytes) != told).then_some("holds a request of another SHA-256 than it says")
}

/// Follows a chain line by line.
#[derive(Debug, Default)]
pub struct Follower {
    expected: Option<Chain>,
    /// Records followed.
    pub records: u64,
    /// The first record's number; more than 1 when older ones were given up for space or age.
    pub first: u64,
    /// The hash of the last record: written down elsewhere, it proves that nothing before it changed.
    pub last_hash: String,
}

impl Follower {
    /// Takes the next line, without its end.
    ///
    /// # Errors
    /// What is wrong with it, in words that follow "the record".
    pub fn line(&mut self, line: &[u8]) -> Result<(), String> {
        let record = parse(line)?;
        let expected =
            self.expected.replace(Chain { next: record.seq.saturating_add(1), prev: record.hash.clone() });
        self.records = self.records.saturating_add(1);
        self.last_hash = record.hash;
        match expected {
            None => self.first = record.seq,
            Some(chain) if chain.next != record.seq => {
                return Err(format!(
                    "has number {} where {} was due: records are missing or out of order",
                    record.seq, chain.next
                ));
            }
            Some(chain) if chain.prev != record.prev => {
                return Err(
                    "does not point to the record before it: that one was changed, or this one".into()
                );
            }
            Some(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> Vec<Vec<u8>> {
        let mut chain = Chain::default();
        (0..count)
            .map(|at| {
                let fields = Map::from_iter([("value".to_owned(), Value::from(format!("v{at}")))]);
                let (line, after) = chain.seal(fields);
                chain = after;
                line[..line.len() - 1].to_vec()
            })
            .collect()
    }

    fn follow(lines: &[Vec<u8>]) -> Vec<String> {
        let mut follower = Follower::default();
        lines.iter().filter_map(|line| follower.line(line).err()).collect()
    }

    #[test]
    fn an_untouched_chain_holds_and_any_changed_byte_breaks_it() {
        let good = lines(4);
        assert_eq!(follow(&good), Vec::<String>::new());
        for at in 0..good[1].len() {
            let mut bad = good.clone();
            bad[1][at] ^= 0x01;
            assert!(!follow(&bad).is_empty(), "byte {at}");
        }
    }

    #[test]
    fn a_missing_or_swapped_record_is_noticed() {
        let mut missing = lines(4);
        missing.remove(1);
        assert!(follow(&missing)[0].contains("number 3 where 2 was due"));
        let mut swapped = lines(4);
        swapped.swap(1, 2);
        assert!(!follow(&swapped).is_empty());
    }

    #[test]
    fn a_forgotten_record_leaves_the_chain_whole() {
        let mut chain = lines(3);
        let stand_in = serde_json::json!({"seq": 2, "prev": sha256(&chain[0]), "type": "forgotten", "sha256": sha256(&chain[1])});
        chain[1] = stand_in.to_string().into_bytes();
        assert_eq!(follow(&chain), Vec::<String>::new());
    }
}
