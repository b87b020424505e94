//! Every read of another program's memory, with lengths the 4.14 verifier can follow.
//!
//! The loader turns `bpf_probe_read_user*` (helpers 112, 114) into `bpf_probe_read*` (4, 45) where the kernel is
//! older than 5.5; there these read user memory as long as the processor has no PAN.

use core::{arch::asm, ffi::c_void, hint::cold_path, mem::MaybeUninit};

use aya_ebpf::helpers::generated::{bpf_probe_read_user, bpf_probe_read_user_str};
use telltale_abi::{MAX_HOST, MAX_PIECE};

/// The address without its top byte: Android tags heap pointers from version 11 on (`0xb400…`), and a tagged address
/// is no key: the same object may be named with and without its tag.
#[inline(always)]
pub(crate) fn untagged(address: u64) -> u64 {
    address & 0x00ff_ffff_ffff_ffff
}

/// `len` as it is when it lies in `1..=MAX_PIECE`, in a form that needs no earlier knowledge of it.
///
/// 4.14 refuses a length that may be zero, learns nothing from `!= 0`, and forgets the bounds of a number that was
/// spilled to the stack. So the bounds are made afresh where they are used, out of the compiler's sight.
#[inline(always)]
pub(crate) fn bounded(len: u64) -> u64 {
    let mut bounded = len;
    // Not `pure`: the compiler would take one result for two places and keep it on the stack in between, where 4.14
    // forgets its bounds.
    // SAFETY: three register operations without memory access.
    unsafe {
        asm!(
            "{0} += -1",
            "{0} &= {mask}",
            "{0} += 1",
            inout(reg) bounded,
            mask = const MAX_PIECE - 1,
            options(nomem, nostack)
        );
    }
    bounded
}

/// Copies `len` bytes (`1..=MAX_PIECE`) from the current process. False when a page of it is not there.
///
/// # Safety
/// `to` must have room for [`MAX_PIECE`] bytes.
#[inline(always)]
pub(crate) unsafe fn read(to: *mut u8, from: u64, len: u64) -> bool {
    // SAFETY: `to` has room for whatever `bounded` returns; the helper checks `from` itself.
    unsafe { bpf_probe_read_user(to.cast(), bounded(len) as u32, from as *const c_void) == 0 }
}

/// Copies a C string; its length without NUL, none when it is empty or not readable.
///
/// # Safety
/// `to` must have room for [`MAX_HOST`] bytes.
#[inline(always)]
pub(crate) unsafe fn read_host(to: *mut u8, from: u64) -> Option<u64> {
    // SAFETY: `to` has room for MAX_HOST bytes; the helper checks `from` itself.
    let len = unsafe { bpf_probe_read_user_str(to.cast(), MAX_HOST as u32, from as *const c_void) };
    if len > 1 { Some(len as u64 - 1) } else { None }
}

/// The `u64` at `from`.
#[inline(always)]
pub(crate) fn read_u64(from: u64) -> Option<u64> {
    let mut value = 0u64;
    // SAFETY: `value` is eight writable bytes; the helper checks `from` itself.
    let failed = unsafe {
        bpf_probe_read_user((&raw mut value).cast(), size_of::<u64>() as u32, from as *const c_void)
    };
    if failed != 0 {
        cold_path();
        return None;
    }
    Some(value)
}

/// The `N` numbers of 32 bits that lie at `from`.
#[inline(always)]
pub(crate) fn read_words<const N: usize>(from: u64) -> Option<[u32; N]> {
    let mut words = MaybeUninit::<[u32; N]>::uninit();
    // SAFETY: `words` has room for what is asked for; the helper checks `from` itself.
    let failed = unsafe {
        bpf_probe_read_user(words.as_mut_ptr().cast(), size_of::<[u32; N]>() as u32, from as *const c_void)
    };
    if failed != 0 {
        cold_path();
        return None;
    }
    // SAFETY: the helper has written all of it.
    Some(unsafe { words.assume_init() })
}
