//! How much of what apps send is taken: a bucket per connection and one for all, so that an upload of photos neither fills
//! the rings nor keeps a core busy. What is over it is counted, and not copied.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use telltale_abi::{Bucket, Rate, SEND_BUDGET, SPARED, TICK_SHIFT};

use crate::BUDGET;

/// Whether a send of `total` bytes may be taken on a connection that has sent `sent` before; if so they are paid for.
///
/// A send is taken whole or not at all, and costs no more than is taken of one. Two CPUs may pay from the common bucket at
/// once and one of the payments be forgotten: it is a budget, not an account.
#[inline(always)]
pub(crate) fn allows(bucket: *mut Bucket, sent: u64, total: u64) -> bool {
    let Some(budget) = BUDGET.get_ptr_mut(0) else { return true };
    // SAFETY: a helper call without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: a map value that lives as long as the program runs.
    let (own, all, common) =
        unsafe { (&raw const (*budget).connection, &raw const (*budget).machine, &raw mut (*budget).bucket) };
    let cost = if total > SEND_BUDGET as u64 { SEND_BUDGET as u64 } else { total };
    let left = fill(bucket, own, now);
    if left < cost {
        return false;
    }
    if sent >= SPARED {
        let left = fill(common, all, now);
        if left < cost {
            return false;
        }
        pay(common, left - cost);
    }
    pay(bucket, left - cost);
    true
}

/// Adds what has come in since the last time; what is in it then.
#[inline(always)]
fn fill(bucket: *mut Bucket, rate: *const Rate, now: u64) -> u64 {
    // SAFETY: both are in map values that live as long as the program runs; volatile because other CPUs and the daemon
    // change them.
    let (burst, per_tick, before, filled) = unsafe {
        (
            read_volatile(&raw const (*rate).burst),
            read_volatile(&raw const (*rate).per_tick),
            read_volatile(&raw const (*bucket).left),
            read_volatile(&raw const (*bucket).filled),
        )
    };
    if burst == 0 {
        return u64::MAX;
    }
    let ticks = (now >> TICK_SHIFT).wrapping_sub(filled >> TICK_SHIFT);
    if ticks == 0 {
        return before;
    }
    // A clock that another CPU has read later gives a huge number: as much as the bucket holds.
    let new = before + ticks * per_tick;
    let left = if ticks >> 32 != 0 || filled == 0 || new > burst { burst } else { new };
    // SAFETY: as above.
    unsafe {
        write_volatile(&raw mut (*bucket).left, left);
        write_volatile(&raw mut (*bucket).filled, now);
    }
    left
}

/// Leaves this much in it.
#[inline(always)]
fn pay(bucket: *mut Bucket, left: u64) {
    // SAFETY: a map value that lives as long as the program runs.
    unsafe { write_volatile(&raw mut (*bucket).left, left) };
}
