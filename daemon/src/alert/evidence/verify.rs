//! Checks kept evidence: is every record whole, and does each point to the one before it.

use std::path::{Path, PathBuf};

use super::chain::{Chain, Follower};
use super::store::{StoreError, files, read};

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it, in words that follow "the record".
    pub what: String,
}

/// What checking found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Records read.
    pub records: u64,
    /// Number of the first; more than 1 when older ones were given up for space or age.
    pub first: u64,
    /// SHA-256 of the last record: written down elsewhere, it pins everything before it.
    pub last_hash: String,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
}

/// Reads all evidence at `path`, a folder or one file.
///
/// # Errors
/// [`StoreError`] when it cannot be listed or read at all. A damaged archive is a problem of the verdict.
pub fn verify(path: &Path) -> Result<Verdict, StoreError> {
    let mut follower = Follower::default();
    let mut verdict = Verdict::default();
    for file in files(path)? {
        let bytes = match read(&file) {
            Ok(bytes) => bytes,
            Err(error) if path.is_dir() => {
                verdict.problems.push(Problem { file, line: 0, what: error.to_string() });
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut lines = bytes.split(|byte| *byte == b'\n').enumerate().peekable();
        while let Some((index, line)) = lines.next() {
            let is_last = lines.peek().is_none();
            if line.is_empty() && is_last {
                continue;
            }
            // Pulled while it was being written: the end of the open segment may be half a record.
            let torn = is_last && Chain::after(line).is_none();
            let outcome =
                if torn { Err("is not whole (the file ends in it)".to_owned()) } else { follower.line(line) };
            if let Err(what) = outcome {
                verdict.problems.push(Problem { file: file.clone(), line: index.saturating_add(1), what });
            }
        }
    }
    verdict.records = follower.records;
    verdict.first = follower.first;
    verdict.last_hash = follower.last_hash;
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::super::store::{Limits, Store};
    use super::*;

    #[test]
    fn one_changed_byte_is_named_with_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), Limits::default(), serde_json::Map::new()).unwrap();
        for at in 0..5 {
            store.append([("value".to_owned(), format!("value {at}").into())].into_iter().collect()).unwrap();
        }
        drop(store);
        let good = verify(dir.path()).unwrap();
        assert_eq!((good.records, good.first, good.problems.len()), (6, 1, 0));
        let file = dir.path().join("000001.jsonl");
        let text = std::fs::read_to_string(&file).unwrap().replace("value 2", "value 9");
        std::fs::write(&file, text).unwrap();
        let bad = verify(dir.path()).unwrap();
        // Record 4 was changed; record 5 no longer points to it.
        let [problem] = bad.problems.as_slice() else { panic!("{:?}", bad.problems) };
        assert_eq!((problem.file.as_path(), problem.line), (file.as_path(), 5));
        assert!(problem.what.contains("does not point"));
    }

    #[test]
    fn a_damaged_archive_is_a_problem_and_the_rest_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { segment: 300, ..Limits::default() };
        let mut store = Store::open(dir.path(), limits, serde_json::Map::new()).unwrap();
        for at in 0..9 {
            store.append([("value".to_owned(), format!("value {at}").into())].into_iter().collect()).unwrap();
        }
        drop(store);
        let file = dir.path().join("000002.jsonl.gz");
        std::fs::write(&file, b"no archive").unwrap();
        let bad = verify(dir.path()).unwrap();
        assert!(bad.problems.iter().any(|problem| problem.file == file));
        assert!(bad.records > 2);
        assert!(verify(&dir.path().join("absent")).is_err());
    }
}
