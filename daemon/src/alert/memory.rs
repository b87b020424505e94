//! What was said already, over restarts: the ledger as bytes. Values and names are in it only as keyed hashes.

use sha2::{Digest as _, Sha256};

use super::ledger::{Entry, Ledger};

/// The first eight bytes; the last two digits count formats.
const MAGIC: u64 = u64::from_le_bytes(*b"tellsd01");
/// A list longer than any that is written.
const LONGEST: u64 = 1 << 17;

/// Bytes that are no ledger, or not as they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is damaged; what was said before may be said once more")]
pub struct Damaged;

impl Ledger {
    /// As bytes: 64-bit numbers, little-endian, the lists each after its length, and half of a SHA-256 over them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut numbers = vec![MAGIC, length(self.classes.len())];
        let mut classes: Vec<_> = self.classes.iter().collect();
        classes.sort_unstable_by_key(|(class, _)| **class);
        for (class, entry) in classes {
            numbers.extend([*class, entry.seen, entry.first_ms, entry.last_ms, entry.said_ms]);
        }
        for list in [&self.shown, &self.kinds] {
            numbers.push(length(list.len()));
            let mut sorted: Vec<u64> = list.iter().copied().collect();
            sorted.sort_unstable();
            numbers.extend(sorted);
        }
        let mut bytes: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
        let check = Sha256::digest(&bytes);
        bytes.extend_from_slice(check.get(..16).unwrap_or_default());
        bytes
    }

    /// The ledger from its bytes.
    ///
    /// # Errors
    /// [`Damaged`], also for bytes that are something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Ledger, Damaged> {
        let (body, check) = bytes.split_at_checked(bytes.len().saturating_sub(16)).ok_or(Damaged)?;
        if Sha256::digest(body).get(..16) != Some(check) {
            return Err(Damaged);
        }
        let mut numbers = body.chunks(8).filter_map(|chunk| chunk.try_into().ok()).map(u64::from_le_bytes);
        let mut next = || numbers.next().ok_or(Damaged);
        if next()? != MAGIC {
            return Err(Damaged);
        }
        let mut ledger = Ledger::default();
        for _ in 0..bounded(next()?)? {
            let class = next()?;
            let entry = Entry { seen: next()?, first_ms: next()?, last_ms: next()?, said_ms: next()? };
            ledger.classes.insert(class, entry);
        }
        for list in [&mut ledger.shown, &mut ledger.kinds] {
            for _ in 0..bounded(next()?)? {
                list.insert(next()?);
            }
        }
        Ok(ledger)
    }
}

fn length(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(LONGEST)
}

fn bounded(length: u64) -> Result<u64, Damaged> {
    if length < LONGEST { Ok(length) } else { Err(Damaged) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_as_it_was_and_any_damage_is_noticed() {
        let mut ledger = Ledger::default();
        for class in 1..4 {
            let entry = Entry { seen: class, first_ms: 2, last_ms: 3, said_ms: 4 };
            ledger.classes.insert(class * 7, entry);
        }
        ledger.shown.extend([5, 6]);
        ledger.kinds.insert(9);
        let bytes = ledger.to_bytes();
        let back = Ledger::from_bytes(&bytes).unwrap();
        assert_eq!(
            (&back.classes, &back.shown, &back.kinds),
            (&ledger.classes, &ledger.shown, &ledger.kinds)
        );
        for length in 0..bytes.len() {
            assert!(Ledger::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 4;
            assert!(Ledger::from_bytes(&bad).is_err(), "{at}");
        }
        assert!(Ledger::from_bytes(b"").is_err());
    }
}
