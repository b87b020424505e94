//! Reads the rows of one table from a SQLite database and its write-ahead log, as bytes (sqlite.org/fileformat2.html).
//!
//! Own reader: the crates that read SQLite without its C library are unkept or want a file of their own, and here a few short
//! tables of accounts and SIM cards are all there is to read. Everything is bounded; what is damaged ends the reading.

use std::collections::{BTreeMap, HashMap};

use super::SourceError;

/// "SQLite format 3" and a zero (section 1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Bytes before the first page's b-tree header.
const HEADER: usize = 100;
/// Bytes before the first frame of a write-ahead log, and before each frame's page (section 4.1).
const WAL_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The most pages visited and rows kept, and the largest record put together.
const MAX_PAGES: usize = 4096;
const MAX_ROWS: usize = 1024;
const MAX_RECORD: usize = 64 * 1024;

/// A row: columns with their text; numbers in decimal, nothing for NULL and BLOB.
pub(super) type Row = BTreeMap<String, String>;

/// The rows of the table `name`.
///
/// # Errors
/// [`SourceError::Format`] when it is no database or has no such table. A damaged page merely ends the reading.
pub(super) fn rows(main: &[u8], wal: Option<&[u8]>, name: &str) -> Result<Vec<Row>, SourceError> {
    let database = Database::open(main, wal).ok_or(SourceError::Format("is no SQLite database"))?;
    let schema = ["type", "name", "tbl_name", "rootpage", "sql"].map(str::to_owned);
    let table = database
        .table(1, &schema)
        .into_iter()
        .find(|row| {
            row.get("type").is_some_and(|kind| kind == "table") && row.get("name").is_some_and(|n| n == name)
        })
        .ok_or(SourceError::Format("has no table of the name looked for"))?;
    let root = table.get("rootpage").and_then(|root| root.parse().ok());
    let columns = columns(table.get("sql").map_or("", String::as_str));
    root.map(|root| database.table(root, &columns))
        .ok_or(SourceError::Format("names no first page of its table"))
}

/// The names of the columns of a `CREATE TABLE` statement.
fn columns(sql: &str) -> Vec<String> {
    let inside =
        sql.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).map_or("", |(inside, _)| inside);
    let mut parts = vec![String::new()];
    let mut depth = 0_i32;
    for c in inside.chars() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        match (c, depth, parts.last_mut()) {
            (',', 0, _) => parts.push(String::new()),
            (_, _, Some(last)) => last.push(c),
            (_, _, None) => {}
        }
    }
    let constraint = |word: &str| {
        ["CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"].iter().any(|c| word.eq_ignore_ascii_case(c))
    };
    let name = |part: &String| {
        let word = part.split(|c: char| c.is_whitespace() || c == '(').find(|word| !word.is_empty())?;
        let bare = word.trim_matches(|c| matches!(c, '"' | '`' | '\'' | '[' | ']'));
        (!constraint(word)).then(|| bare.to_owned())
    };
    parts.iter().filter_map(name).collect()
}

struct Database<'d> {
    main: &'d [u8],
    /// Pages that the log has newer than the database.
    newer: HashMap<usize, &'d [u8]>,
    page_size: usize,
    /// Bytes of a page that are used.
    usable: usize,
    /// 1 UTF-8, 2 UTF-16 little-endian, 3 big-endian.
    encoding: u32,
}

impl<'d> Database<'d> {
    fn open(main: &'d [u8], wal: Option<&'d [u8]>) -> Option<Database<'d>> {
        if main.get(..MAGIC.len())? != MAGIC {
            return None;
        }
        let page_size = match u16_at(main, 16)? {
            1 => 65_536,
            size if size >= 512 && size.is_power_of_two() => usize::from(size),
            _ => return None,
        };
        let usable = page_size.checked_sub(usize::from(*main.get(20)?)).filter(|usable| *usable >= 480)?;
        let encoding = u32_at(main, 56)?;
        let newer = wal.and_then(|wal| committed(wal, page_size)).unwrap_or_default();
        Some(Database { main, newer, page_size, usable, encoding })
    }

    fn page(&self, number: usize) -> Option<&'d [u8]> {
        if let Some(page) = self.newer.get(&number) {
            return Some(page);
        }
        let start = number.checked_sub(1)?.checked_mul(self.page_size)?;
        self.main.get(start..start.checked_add(self.page_size)?)
    }

    /// The rows below a root page, in the order of their ids.
    fn table(&self, root: usize, columns: &[String]) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut todo = vec![root];
        let mut visited = 0;
        while let Some(number) = todo.pop() {
            visited += 1;
            if visited > MAX_PAGES || rows.len() >= MAX_ROWS {
                break;
            }
            // A page that is not there or no table's loses its rows, not the others'.
            let _ = self.visit(number, columns, &mut todo, &mut rows);
        }
        rows
    }

    fn visit(
        &self,
        number: usize,
        columns: &[String],
        todo: &mut Vec<usize>,
        rows: &mut Vec<Row>,
    ) -> Option<()> {
        let page = self.page(number)?;
        let start = if number == 1 { HEADER } else { 0 };
        let cells = usize::from(u16_at(page, start + 3)?);
        let cell = |index: usize, first: usize| Some(usize::from(u16_at(page, start + first + 2 * index)?));
        match page.get(start)? {
            0x05 => {
                let mut children: Vec<usize> = (0..cells)
                    .filter_map(|index| usize::try_from(u32_at(page, cell(index, 12)?)?).ok())
                    .collect();
                children.push(usize::try_from(u32_at(page, start + 8)?).ok()?);
                children.truncate(MAX_PAGES.saturating_sub(todo.len()));
                todo.extend(children.into_iter().rev());
            }
            0x0d => {
                for index in 0..cells.min(MAX_ROWS.saturating_sub(rows.len())) {
                    let row = cell(index, 8)
                        .and_then(|at| self.record(page, at))
                        .and_then(|r| self.row(&r, columns));
                    rows.extend(row);
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// A leaf cell's record, with what of it stands on overflow pages (section 1.6).
    fn record(&self, page: &[u8], at: usize) -> Option<Vec<u8>> {
        let (size, rest) = varint(page.get(at..self.usable)?)?;
        let (_, rest) = varint(rest)?;
        let size = usize::try_from(size).ok().filter(|size| *size <= MAX_RECORD)?;
        let most = self.usable - 35;
        if size <= most {
            return Some(rest.get(..size)?.to_vec());
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let spread = least + (size - least) % (self.usable - 4);
        let local = if spread <= most { spread } else { least };
        let mut record = rest.get(..local)?.to_vec();
        let mut next = usize::try_from(u32_at(rest, local)?).ok()?;
        // Each page adds to the record, so that a chain that goes in circles ends too.
        while record.len() < size {
            let page = self.page(next)?;
            next = usize::try_from(u32_at(page, 0)?).ok()?;
            let part = page.get(4..self.usable)?;
            record.extend_from_slice(part.get(..size - record.len()).unwrap_or(part));
        }
        Some(record)
    }

    /// A record's columns (section 2.1).
    fn row(&self, record: &[u8], columns: &[String]) -> Option<Row> {
        let (length, mut types) = varint(record)?;
        let length = usize::try_from(length).ok()?;
        types = types.get(..length.checked_sub(record.len() - types.len())?)?;
        let mut body = record.get(length..)?;
        let mut row = Row::new();
        for column in columns {
            // A table that was altered has rows with fewer columns.
            let Some((kind, rest)) = varint(types) else { break };
            types = rest;
            let size = match kind {
                0 | 8 | 9 => 0,
                1..=4 => kind,
                5 => 6,
                6 | 7 => 8,
                12.. => (kind - 12) / 2,
                _ => return Some(row),
            };
            let (value, rest) = body.split_at_checked(usize::try_from(size).ok()?)?;
            body = rest;
            let text = match kind {
                8 => Some("0".to_owned()),
                9 => Some("1".to_owned()),
                1..=6 => Some(integer(value).to_string()),
                13.. if kind % 2 == 1 => self.text(value),
                _ => None,
            };
            row.extend(text.map(|text| (column.clone(), text)));
        }
        Some(row)
    }

    fn text(&self, bytes: &[u8]) -> Option<String> {
        let wide = |from: fn([u8; 2]) -> u16| {
            String::from_utf16(&bytes.as_chunks::<2>().0.iter().map(|pair| from(*pair)).collect::<Vec<_>>())
                .ok()
        };
        match self.encoding {
            2 => wide(u16::from_le_bytes),
            3 => wide(u16::from_be_bytes),
            _ => String::from_utf8(bytes.to_vec()).ok(),
        }
    }
}

/// The pages of a write-ahead log up to its last commit, the newest of each (section 4.3).
fn committed(wal: &[u8], page_size: usize) -> Option<HashMap<usize, &[u8]>> {
    // 0x377f0682 or …83: the last bit tells how the checksums are made.
    if u32_at(wal, 0)? | 1 != 0x377f_0683 || usize::try_from(u32_at(wal, 8)?).ok()? != page_size {
        return None;
    }
    let salt = wal.get(16..24)?;
    let (mut pages, mut waiting) = (HashMap::new(), Vec::new());
    let frames = wal.get(WAL_HEADER..)?.chunks_exact(FRAME_HEADER + page_size);
    // Frames of an older round have other salts.
    for frame in frames.take(MAX_PAGES).take_while(|frame| frame.get(8..16) == Some(salt)) {
        waiting.push((usize::try_from(u32_at(frame, 0)?).ok()?, frame.get(FRAME_HEADER..)?));
        if u32_at(frame, 4)? != 0 {
            pages.extend(waiting.drain(..));
        }
    }
    Some(pages)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// Seven bits a byte, most significant first; the ninth byte gives eight.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(9) {
        if index == 8 {
            return Some((value << 8 | u64::from(*byte), bytes.get(9..)?));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

/// A big-endian two's complement number of up to eight bytes.
fn integer(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    bytes.iter().fold(if negative { -1 } else { 0 }, |value: i64, byte| value << 8 | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by SQLite 3.40.1: a table as AOSP's AccountsDb makes it, 300 rows over several pages, one name of 3,000 bytes.
    const ACCOUNTS: &[u8] = include_bytes!("../../../tests/phone/accounts_ce.db");
    /// The same program with `journal_mode=WAL`: the last change stands only in the log.
    const TELEPHONY: &[u8] = include_bytes!("../../../tests/phone/telephony.db");
    const TELEPHONY_LOG: &[u8] = include_bytes!("../../../tests/phone/telephony.db-wal");

    #[test]
    fn rows_over_several_pages_and_overflow_pages() {
        let rows = rows(ACCOUNTS, None, "accounts").unwrap();
        assert_eq!(rows.len(), 300);
        assert_eq!((rows[0]["name"].as_str(), rows[0]["type"].as_str()), ("6012345678", "com.xiaomi"));
        assert!(rows.iter().any(|row| row["name"].len() == 3000 && row["name"].ends_with('x')));
        assert_eq!(rows[299]["name"], "user299@example.org");
    }

    #[test]
    fn the_log_is_newer_than_the_database() {
        let number =
            |log| rows(TELEPHONY, log, "siminfo").unwrap().first().and_then(|row| row.get("number").cloned());
        assert_eq!(number(Some(TELEPHONY_LOG)).as_deref(), Some("+351912345678"));
        assert_ne!(number(None).as_deref(), Some("+351912345678"));
    }

    #[test]
    fn no_database_and_no_table_are_said() {
        assert!(rows(b"SQLite format 2\0", None, "x").is_err());
        assert!(rows(ACCOUNTS, None, "nothing").is_err());
        assert_eq!(
            columns(
                "CREATE TABLE a (_id INTEGER PRIMARY KEY, \"name\" TEXT NOT NULL, d DEC(1,2), UNIQUE(name,d))"
            ),
            ["_id", "name", "d"]
        );
    }

    #[test]
    fn what_is_cut_or_damaged_ends_the_reading_quietly() {
        for end in (0..ACCOUNTS.len()).step_by(61) {
            let _ = rows(&ACCOUNTS[..end], None, "accounts");
        }
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..600 {
            let mut damaged = TELEPHONY.to_vec();
            let mut log = TELEPHONY_LOG.to_vec();
            for _ in 0..8 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = usize::try_from(state >> 33).unwrap();
                let length = damaged.len();
                damaged[at % length] = (state >> 8) as u8;
                let length = log.len();
                log[at / 3 % length] = (state >> 16) as u8;
            }
            let _ = rows(&damaged, Some(&log), "siminfo");
        }
    }
}
