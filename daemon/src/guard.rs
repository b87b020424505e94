//! One message must never take the whole watch down: a panic while a message is taken apart ends with that message.
//!
//! Our own parsers do not panic, but the decoders they call hold assertions of their own. Where a panic ends the program (the
//! Android build) this changes nothing; there the fuzz targets of every decoder stand in for it.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `work` gives; none when it panicked. What it changed until then stays as it was left: the caller's state must be
/// right after every step, not only after all of them.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

#[cfg(test)]
#[cfg(panic = "unwind")]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_with_the_message_it_came_from() {
        let mut done = Vec::new();
        for number in 0..3 {
            done.push(guarded(|| {
                assert!(number != 1, "a decoder's own assertion");
                number
            }));
        }
        assert_eq!(done, [Some(0), None, Some(2)]);
    }
}
