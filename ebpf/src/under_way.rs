//! Which threads are inside a system call whose return matters: one look into an array tells every other return to leave.
//!
//! A place holds the id of the one thread, of all whose ids end alike, that is inside such a call. Where ids stay below
//! [`PLACES`], as on phones (`PID_MAX_DEFAULT`, include/linux/threads.h), no two threads share one. Where they do and both
//! are inside a call the place says [`MANY`] from then on, and each of them looks the longer way.

use core::{
    hint::cold_path,
    ptr::{read_volatile, write_volatile},
};

use crate::UNDER_WAY;

/// A power of two.
pub(crate) const PLACES: u32 = 32 * 1024;
/// No thread's id: these are positive.
const MANY: u32 = u32::MAX;

#[inline(always)]
fn place(thread: u64) -> Option<*mut u32> {
    UNDER_WAY.get_ptr_mut(thread as u32 & (PLACES - 1))
}

/// A thread has begun such a call.
#[inline(always)]
pub(crate) fn begin(thread: u64) {
    let Some(place) = place(thread) else { return };
    // SAFETY: a map value that lives as long as the program runs.
    unsafe {
        let there = read_volatile(place);
        let tid = thread as u32;
        write_volatile(place, if there == 0 || there == tid { tid } else { MANY });
    }
}

/// Whether a thread may be inside such a call, which then ends. A thread that was killed inside one leaves its mark to the next
/// of the same id.
#[inline(always)]
pub(crate) fn end(thread: u64) -> bool {
    let Some(place) = place(thread) else { return true };
    // SAFETY: as above.
    let there = unsafe { read_volatile(place) };
    if there == 0 {
        return false;
    }
    cold_path();
    if there == thread as u32 {
        // SAFETY: as above.
        unsafe { write_volatile(place, 0) };
        return true;
    }
    there == MANY
}
