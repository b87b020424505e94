//! What was found in binaries that carry their own TLS, so that none is searched twice: by build id, or by a hash of the
//! contents where there is none. Lines of text, one a binary, written whole by the store.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::finder::{self, Verdict};

/// Heads the file; another one begins anew. The number goes up whenever the finder would judge otherwise.
const HEAD: &str = "telltale own tls 3";
/// Binaries remembered; a phone has some hundred of this size. Beyond, the oldest are forgotten.
const MOST: usize = 4096;
/// Bytes hashed at a time.
const STRETCH: usize = 1 << 20;
/// Bytes at the function's start by which a remembered place is recognised before it is hooked again.
pub(super) const FIRST_BYTES: usize = 64;

/// What is known of binaries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// In the order they were learned.
    entries: Vec<(String, Entry)>,
    changed: bool,
}

/// What is known of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// No BoringSSL in it.
    Absent,
    /// It is in it, but which function is which is not certain: why.
    Unsure(String),
    /// Found by structure.
    Found(Places, Standing),
}

/// Offsets within the ELF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) write: u64,
    pub(super) set_host: Option<u64>,
    pub(super) new: Option<u64>,
    /// Hash of what stands at `write`.
    pub(super) first: u64,
}

/// What its calls have shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing yet.
    Untried,
    /// It is `SSL_write`.
    Proven,
    /// It is not, or could not be shown to be: why.
    Refused(String),
}

impl Memory {
    /// Reads what [`Memory::to_text`] wrote. A damaged line is left out; another version's text gives an empty memory.
    pub fn from_text(text: &str) -> Memory {
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            return Memory::default();
        }
        let entries = lines.filter_map(parse).take(MOST).collect();
        Memory { entries, changed: false }
    }

    /// As text.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEAD}\n");
        let hex = |place: Option<u64>| place.map_or_else(|| "-".to_owned(), |place| format!("{place:x}"));
        for (key, entry) in &self.entries {
            // Writing to a String cannot fail.
            let _ = match entry {
                Entry::Absent => writeln!(text, "{key}\tabsent"),
                Entry::Unsure(why) => writeln!(text, "{key}\tunsure\t{}", one_line(why)),
                Entry::Found(places, standing) => {
                    let Places { write, set_host, new, first } = places;
                    let (word, why) = match standing {
                        Standing::Untried => ("untried", ""),
                        Standing::Proven => ("proven", ""),
                        Standing::Refused(why) => ("refused", why.as_str()),
                    };
                    let (set_host, new) = (hex(*set_host), hex(*new));
                    let why = one_line(why);
                    writeln!(text, "{key}\tfound\t{write:x}\t{set_host}\t{new}\t{first:x}\t{word}\t{why}")
                }
            };
        }
        text
    }

    /// True once after something was learned.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// How many binaries are known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|(known, _)| known == key).map(|(_, entry)| entry)
    }

    pub(super) fn put(&mut self, key: &str, entry: Entry) {
        self.changed = true;
        match self.entries.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => *known = entry,
            None => {
                if self.entries.len() >= MOST {
                    self.entries.remove(0);
                }
                self.entries.push((key.to_owned(), entry));
            }
        }
    }

    /// Its calls have shown something.
    pub(super) fn stand(&mut self, key: &str, now: Standing) {
        if let Some((_, Entry::Found(_, standing))) = self.entries.iter_mut().find(|(known, _)| known == key)
        {
            *standing = now;
            self.changed = true;
        }
    }
}

/// The name a binary goes by: its build id with its length, since what was stripped differently keeps the id.
/// `between` is told of each stretch that was read.
pub(super) fn key(file: &[u8], between: &dyn Fn(&[u8])) -> String {
    let mut key = String::with_capacity(80);
    let (mark, id) =
        match finder::build_id(file).filter(|id| id.len() >= 8 && id.iter().any(|byte| *byte != 0)) {
            Some(id) => ('b', id),
            None => {
                let mut hash = Sha256::new();
                for stretch in file.chunks(STRETCH) {
                    hash.update(stretch);
                    between(stretch);
                }
                ('h', hash.finalize().to_vec())
            }
        };
    key.push(mark);
    for byte in id.iter().take(64) {
        let _ = write!(key, "{byte:02x}");
    }
    let _ = write!(key, "-{:x}", file.len());
    key
}

/// A hash of the first bytes of the function at `offset`; none outside the file.
pub(super) fn first(file: &[u8], offset: u64) -> Option<u64> {
    let from = usize::try_from(offset).ok()?;
    let bytes = file.get(from..from.checked_add(FIRST_BYTES)?)?;
    Sha256::digest(bytes).first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

impl Entry {
    /// What the finder said, as it is remembered.
    pub(super) fn of(file: &[u8], verdict: Verdict) -> Entry {
        match verdict {
            Verdict::Absent => Entry::Absent,
            Verdict::Refused(why) => Entry::Unsure(why),
            Verdict::Found(found) => match first(file, found.ssl_write.offset) {
                None => Entry::Unsure("SSL_write would lie at the very end of the file".to_owned()),
                Some(first) => Entry::Found(
                    Places {
                        write: found.ssl_write.offset,
                        set_host: found.set_host_name.map(|place| place.offset),
                        new: found.ssl_new.map(|place| place.offset),
                        first,
                    },
                    Standing::Untried,
                ),
            },
        }
    }
}

fn parse(line: &str) -> Option<(String, Entry)> {
    let mut fields = line.split('\t');
    let key = fields.next().filter(|key| key.len() > 8)?.to_owned();
    let entry = match fields.next()? {
        "absent" => Entry::Absent,
        "unsure" => Entry::Unsure(fields.next()?.to_owned()),
        "found" => {
            let mut number = || fields.next().map(|field| u64::from_str_radix(field, 16).ok());
            let (write, set_host, new, first) = (number()??, number()?, number()?, number()??);
            let standing = match (fields.next()?, fields.next()?) {
                ("untried", _) => Standing::Untried,
                ("proven", _) => Standing::Proven,
                ("refused", why) => Standing::Refused(why.to_owned()),
                _ => return None,
            };
            Entry::Found(Places { write, set_host, new, first }, standing)
        }
        _ => return None,
    };
    Some((key, entry))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places { write: 0x9d_a9, set_host: Some(0x10), new: None, first: u64::MAX }
    }

    fn full() -> Memory {
        let mut memory = Memory::default();
        memory.put("b0011223344556677-20", Entry::Absent);
        memory.put("b0011223344556678-20", Entry::Unsure("two\tof\nthem".into()));
        for (nth, standing) in [Standing::Untried, Standing::Proven, Standing::Refused("no record".into())]
            .into_iter()
            .enumerate()
        {
            memory.put(&format!("h001122334455667{nth}-20"), Entry::Found(places(), standing));
        }
        memory
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut memory = full();
        assert!(memory.take_changed() && !memory.take_changed());
        let mut again = Memory::from_text(&memory.to_text());
        assert!(!again.take_changed());
        // Blanks are the only thing that changes.
        assert_eq!(again.get("b0011223344556678-20"), Some(&Entry::Unsure("two of them".into())));
        memory.put("b0011223344556678-20", Entry::Unsure("two of them".into()));
        memory.take_changed();
        assert_eq!(again, memory);
    }

    #[test]
    fn damage_costs_a_line_and_another_version_everything() {
        let text = full().to_text();
        for end in 0..text.len() {
            assert!(Memory::from_text(&text[..end]).len() <= 5);
        }
        assert_eq!(Memory::from_text(&text.replace("absent", "abscent")).len(), 4);
        assert!(Memory::from_text(&text.replace("tls 3", "tls 2")).is_empty());
    }

    #[test]
    fn what_calls_have_shown_is_kept_and_the_oldest_are_forgotten() {
        let mut memory = full();
        memory.stand("h0011223344556670-20", Standing::Proven);
        assert_eq!(memory.get("h0011223344556670-20"), Some(&Entry::Found(places(), Standing::Proven)));
        for nth in 0..MOST {
            memory.put(&format!("b{nth:020x}"), Entry::Absent);
        }
        assert_eq!(memory.len(), MOST);
        assert_eq!(memory.get("h0011223344556670-20"), None);
    }

    #[test]
    fn a_binary_without_a_build_id_goes_by_its_contents() {
        let one = key(&[1; 100], &|_| ());
        assert!(one.starts_with('h') && one.ends_with("-64"));
        assert_ne!(one, key(&[2; 100], &|_| ()));
        assert_eq!(first(&[1; 100], 50), None);
        assert_eq!(first(&[1; 100], u64::MAX), None);
        assert!(first(&[1; 100], 36).is_some());
    }
}
