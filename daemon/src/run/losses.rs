//! Records that the rings had no room for: how many, and between when and when; and those that make no sense.

use std::time::{Duration, SystemTime};

use crate::kernel::Pass;

/// Counts what was attempted before a pass over the rings and what had been read after it: a record attempted
/// before must have been read by then, or is lost.
#[derive(Debug)]
pub(super) struct Losses {
    /// Attempts before the pass at hand.
    attempts: Option<u64>,
    told: u64,
    since: SystemTime,
    last: Option<SystemTime>,
    not_understood: u64,
}

impl Losses {
    pub(super) fn new(now: SystemTime) -> Losses {
        Losses { attempts: None, told: 0, since: now, last: None, not_understood: 0 }
    }

    /// Records lost so far, as told.
    pub(super) fn told(&self) -> u64 {
        self.told
    }

    /// When the last of them were told.
    pub(super) fn last(&self) -> Option<SystemTime> {
        self.last
    }

    /// Records that make no sense.
    pub(super) fn not_understood(&self) -> u64 {
        self.not_understood
    }

    /// What a pass brought: a sentence at the first record that makes no sense.
    pub(super) fn look_at(&mut self, pass: &Pass) -> Option<String> {
        let is_first = self.not_understood == 0 && pass.malformed > 0;
        self.not_understood = self.not_understood.saturating_add(pass.malformed);
        is_first.then(|| {
            let why = pass.why.map_or_else(|| "it has no length".to_owned(), |why| why.to_string());
            format!("what the programs in the kernel tell makes no sense: {why}; install Telltale anew")
        })
    }

    /// Before a pass.
    pub(super) fn before(&mut self, attempts: u64) {
        self.attempts = Some(attempts);
    }

    /// After it, with all records read so far: a sentence when some are lost that were not told of.
    pub(super) fn after(&mut self, records: u64, now: SystemTime) -> Option<String> {
        let lost = self.attempts.take()?.saturating_sub(records);
        let new = lost.saturating_sub(self.told);
        let since = std::mem::replace(&mut self.since, now);
        if new == 0 {
            return None;
        }
        self.told = lost;
        self.last = Some(now);
        let seconds = now.duration_since(since).unwrap_or(Duration::ZERO).as_secs_f64();
        let (what, were) = if new == 1 { ("record", "was") } else { ("records", "were") };
        Some(format!(
            "{new} {what} {were} lost in the {seconds:.1} s before {}: apps sent more at once than could be read; {lost} since the start",
            humantime::format_rfc3339_seconds(now)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RecordError;

    #[test]
    fn what_makes_no_sense_is_told_once_and_counted() {
        let mut losses = Losses::new(SystemTime::UNIX_EPOCH);
        assert_eq!(losses.look_at(&Pass::default()), None);
        let odd = Pass { malformed: 2, why: Some(RecordError::Version(3)), ..Pass::default() };
        let said = losses.look_at(&odd).unwrap();
        assert!(said.contains("abi version 3"), "{said}");
        assert_eq!((losses.look_at(&odd), losses.not_understood()), (None, 4));
    }

    #[test]
    fn what_is_lost_is_told_once_with_how_many_and_when() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let later = |seconds| start + Duration::from_secs(seconds);
        let mut losses = Losses::new(start);
        assert_eq!(losses.after(5, later(1)), None);
        losses.before(10);
        // More may have come since.
        assert_eq!(losses.after(12, later(2)), None);
        losses.before(20);
        let said = losses.after(17, later(4)).unwrap();
        assert!(said.starts_with("3 records were lost in the 2.0 s before 2027-01-15T08:00:04Z"), "{said}");
        losses.before(30);
        assert_eq!(losses.after(27, later(5)), None);
        losses.before(31);
        let said = losses.after(27, later(6)).unwrap();
        assert!(said.starts_with("1 record was lost") && said.ends_with("4 since the start"), "{said}");
    }
}
