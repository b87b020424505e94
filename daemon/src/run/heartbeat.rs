//! One line a day that says that the watch lives and what it saw: with the next event, so that nobody is woken for it.

use crate::{alert::Told, coverage::Outlook, pipeline::Counts};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// When the last line was due, and what had been counted then.
#[derive(Debug)]
pub(super) struct Heartbeat {
    began_ms: u64,
    last_ms: u64,
    counts: Counts,
}

impl Heartbeat {
    /// Begins to count days.
    pub(super) fn new(now_ms: u64) -> Heartbeat {
        Heartbeat { began_ms: now_ms, last_ms: now_ms, counts: Counts::default() }
    }

    /// Whether a day is over. A clock set back begins a new one.
    pub(super) fn is_due(&mut self, now_ms: u64) -> bool {
        if now_ms < self.last_ms {
            (self.began_ms, self.last_ms) = (now_ms, now_ms);
        }
        now_ms.saturating_sub(self.last_ms) >= DAY_MS
    }

    /// The line, and another day begins.
    pub(super) fn line(&mut self, now_ms: u64, counts: Counts, told: Told, outlook: &Outlook) -> String {
        let days = now_ms.saturating_sub(self.began_ms) / DAY_MS;
        let days = if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
        let messages = counts.messages.saturating_sub(self.counts.messages);
        let findings = counts.findings.saturating_sub(self.counts.findings);
        (self.last_ms, self.counts) = (now_ms, counts);
        format!(
            "{}. It runs for {days}: since the last such line {messages} messages could be read, {findings} findings in \
             them, {} of a class not seen before; {} lines about known ones held back (`telltale alerts` has all). \
             Nothing new is not all clear. Check me: telltale try",
            outlook.words(),
            told.new,
            told.held_back
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_one_line_and_counts_since_the_last() {
        let mut heart = Heartbeat::new(1000);
        assert!(!heart.is_due(999 + DAY_MS));
        assert!(heart.is_due(1000 + DAY_MS));
        let counts = Counts { messages: 50, findings: 7, ..Counts::default() };
        let told = Told { new: 3, lines: 5, held_back: 2 };
        let outlook = Outlook { content: 61, hosts: 143, nothing: 8, open: 0 };
        let line = heart.line(1000 + DAY_MS, counts, told, &outlook);
        for part in [
            "watching 212 apps; content readable for 61, hosts only for 143, nothing for 8. ",
            "for 1 day",
            "50 messages",
            "7 findings",
            "3 of a class",
            "2 lines",
            "telltale try",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(!heart.is_due(1001 + DAY_MS));
        let counts = Counts { messages: 60, findings: 7, ..Counts::default() };
        let line = heart.line(1000 + 2 * DAY_MS, counts, Told::default(), &outlook);
        assert!(
            line.contains("for 2 days") && line.contains("10 messages") && line.contains("0 findings"),
            "{line}"
        );
        // Set back: no flood of lines, no day for ever.
        assert!(!heart.is_due(5));
        assert!(heart.is_due(5 + DAY_MS));
    }
}
