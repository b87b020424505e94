//! How long to wait between two passes over the rings while records come.
//!
//! One core that does nothing but write to TLS fills a ring of 512 KiB in 0.8 ms. So there is no nap after a pass that brought many
//! records, and only short ones for a while after that: a pass right behind another finds little, and a whole nap then was what lost
//! records.
#![forbid(unsafe_code)]

use std::time::Duration;

/// Between two passes while records come one by one.
const LONG: Duration = Duration::from_millis(1);
/// Soon after a flood: an eighth of the time in which a ring fills. Sleeps end up to 50 µs later (timer slack).
const SHORT: Duration = Duration::from_micros(100);
/// A pass with so many records is a flood.
const FLOOD: u64 = 16;
/// Short naps after one: some 15 ms of them.
const WARY: u32 = 100;

/// What the passes before have brought.
#[derive(Debug, Default)]
pub struct Nap {
    wary: u32,
    flooded: bool,
}

impl Nap {
    /// How long to wait after a pass that brought so many records.
    pub fn after(&mut self, records: u64) -> Duration {
        self.flooded = records >= FLOOD;
        self.wary = if self.flooded { WARY } else { self.wary.saturating_sub(1) };
        self.length()
    }

    /// The same, asked again.
    pub fn length(&self) -> Duration {
        match (self.flooded, self.wary) {
            (true, _) => Duration::ZERO,
            (false, 0) => LONG,
            (false, _) => SHORT,
        }
    }

    /// Whether the flood is long over.
    pub fn is_calm(&self) -> bool {
        self.wary == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naps_are_short_until_a_flood_is_long_over() {
        let mut nap = Nap::default();
        assert_eq!(nap.after(0), LONG);
        assert_eq!(nap.after(FLOOD - 1), LONG);
        assert_eq!(nap.after(FLOOD), Duration::ZERO);
        for _ in 1..WARY {
            assert_eq!(nap.after(1), SHORT);
            assert!(!nap.is_calm());
        }
        assert_eq!(nap.after(0), LONG);
        assert!(nap.is_calm());
    }
}
