//! What a record's time is worth: the time since the phone was started goes on whatever the clock on the wall is set to, and the
//! difference of the two shows when that was set.

use serde_json::{Map, Value};

/// Linux's time since it was started, sleep included (proc_uptime(5)).
const UPTIME: &str = "/proc/uptime";
/// Both clocks drift, and are not read in the same moment.
const DRIFT_MS: u64 = 2000;

/// The two clocks as they stood at the start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// Time on the wall at the phone's start, milliseconds since 1970; none where there is no such file.
    started_ms: Option<i64>,
}

impl Clock {
    /// Reads both.
    pub(super) fn new(now_ms: u64) -> Clock {
        Clock { started_ms: boot_ms().map(|boot_ms| difference(now_ms, boot_ms)) }
    }

    /// What a record says of its time.
    pub(super) fn fields(&self, now_ms: u64) -> Map<String, Value> {
        boot_ms().map(|boot_ms| self.at(now_ms, boot_ms)).unwrap_or_default()
    }

    fn at(&self, now_ms: u64, boot_ms: u64) -> Map<String, Value> {
        let step = difference(now_ms, boot_ms).saturating_sub(self.started_ms.unwrap_or_default());
        let clock = match (self.started_ms, step) {
            (None, _) => "unknown".to_owned(),
            (_, step) if step.unsigned_abs() <= DRIFT_MS => "not set since the start".to_owned(),
            (_, step) => format!(
                "set {} s {} since the start",
                step.unsigned_abs() / 1000,
                if step > 0 { "on" } else { "back" }
            ),
        };
        Map::from_iter([("boot_ms".to_owned(), boot_ms.into()), ("clock".to_owned(), clock.into())])
    }
}

fn difference(now_ms: u64, boot_ms: u64) -> i64 {
    i64::try_from(now_ms).unwrap_or(i64::MAX).saturating_sub(i64::try_from(boot_ms).unwrap_or(i64::MAX))
}

fn boot_ms() -> Option<u64> {
    let text = std::fs::read_to_string(UPTIME).ok()?;
    let (seconds, hundredths) = text.split(' ').next()?.split_once('.')?;
    let hundredths: u64 = hundredths.get(..2)?.parse().ok()?;
    seconds.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(hundredths.checked_mul(10)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_told_from_one_that_drifts() {
        let clock = Clock { started_ms: Some(1_000_000) };
        let said = |now_ms, boot_ms| clock.at(now_ms, boot_ms)["clock"].as_str().unwrap().to_owned();
        assert_eq!(said(1_500_900, 500_000), "not set since the start");
        assert_eq!(said(1_600_000, 500_000), "set 100 s on since the start");
        assert_eq!(said(1_200_000, 500_000), "set 300 s back since the start");
        assert!(boot_ms().is_some_and(|ms| ms > 0));
    }
}
