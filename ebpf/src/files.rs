//! Descriptors known to be of no interest, for the first question about every `write`: one look into an array answers it.
//!
//! What `openat` returns is marked at once: most files are written to and closed before anybody could say what they are.
//! A mark tells process, descriptor and the epoch in which it was made. Whatever gives a number another meaning wipes its
//! mark; what renews a whole process (`exec`, `close_range`, a new one under an old id) begins a new epoch, at the price of
//! the marks of the few processes that share its line. A mark that is missing only costs the longer way.

use core::{
    arch::asm,
    ptr::{read_volatile, write_volatile},
};

use crate::{FILES, descriptors::key};

/// Lines of marks, and marks in each: powers of two.
pub(crate) const LINES: u32 = 256;
const MARKS: usize = 128;
/// Descriptors from here on are never marked: their numbers leave room for the epoch.
const MARKED: u64 = 1 << FD_BITS;
const FD_BITS: u32 = 10;

/// The marks of all processes whose ids end alike.
#[repr(C)]
pub(crate) struct Line {
    /// The descriptor's [`key`] with the epoch; 0 for none.
    marks: [u64; MARKS],
    /// In the upper 22 bits, so that none of a descriptor's is touched; it wraps.
    epoch: u32,
    padding: u32,
}

/// Where the mark of a descriptor lies, and what it is if it is there.
#[inline(always)]
fn place(thread: u64, fd: u64) -> Option<(*mut u64, u64)> {
    // A number with more than its 32 bits is one of those.
    if fd >= MARKED {
        return None;
    }
    let line = line(thread)?;
    let mut at = fd;
    // Where it is used and out of the compiler's sight: 4.14 forgets the bounds of a number that was on the stack.
    // SAFETY: two register operations without memory access.
    unsafe { asm!("{0} &= {1}", "{0} <<= 3", inout(reg) at, const MARKS - 1, options(nomem, nostack)) };
    // SAFETY: a map value that lives as long as the program runs; `at` is a multiple of 8 inside its marks.
    unsafe {
        let mark = (&raw mut (*line).marks).cast::<u8>().add(at as usize).cast();
        let epoch = read_volatile(&raw const (*line).epoch);
        Some((mark, key(thread, fd) | u64::from(epoch)))
    }
}

#[inline(always)]
fn line(thread: u64) -> Option<*mut Line> {
    FILES.get_ptr_mut((thread >> 32) as u32 & (LINES - 1))
}

/// Whether a thread's descriptor is marked.
#[inline(always)]
pub(crate) fn is_marked(thread: u64, fd: u64) -> bool {
    match place(thread, fd) {
        // SAFETY: inside a map value that lives as long as the program runs; marks are written as whole words.
        Some((mark, value)) => unsafe { read_volatile(mark) == value },
        None => false,
    }
}

/// A descriptor of a thread that is about to use it is of no interest.
#[inline(always)]
pub(crate) fn mark(thread: u64, fd: u64) {
    if let Some((mark, value)) = place(thread, fd) {
        // SAFETY: as above.
        unsafe { write_volatile(mark, value) };
    }
}

/// A number has come to stand for something else, or for nothing.
#[inline(always)]
pub(crate) fn forget(key: u64) {
    if let Some((mark, _)) = place(key, key & 0xffff_ffff) {
        // SAFETY: as above.
        unsafe { write_volatile(mark, 0) };
    }
}

/// None of the process's marks counts any more.
#[inline(always)]
pub(crate) fn renew(thread: u64) {
    if let Some(line) = line(thread) {
        // 4.14's one atomic instruction, which this target's `core` lacks: two CPUs may renew at once.
        // SAFETY: a map value that lives as long as the program runs; `epoch` is aligned.
        unsafe {
            asm!("lock *(u32 *)({0} + 0) += {1}", in(reg) &raw mut (*line).epoch, in(reg) 1u64 << FD_BITS);
        }
    }
}
