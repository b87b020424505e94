//! What each process's descriptors stand for, and since when: a mark must not outlive the file it was made for.
//!
//! A descriptor's mark ends with `close` and whatever else puts another file under its number. What closes many at once
//! (`exec`, `close_range`, a process's end before its id is used again) moves the process's [`Process::since`]: marks that
//! are older count for nothing.

use core::{hint::cold_path, ptr::read_volatile};

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use telltale_abi::{Bucket, Descriptor, Process, class, socket};

use crate::{ANSWERS, DESCRIPTORS, INSIDE, PROCESSES, files, tls::opaque_zero};

/// The key of a thread's descriptor.
#[inline(always)]
pub(crate) fn key(thread: u64, fd: u64) -> u64 {
    (thread >> 32) << 32 | fd & 0xffff_ffff
}

/// Since when a process's marks count; 0 when it was there before anybody looked.
#[inline(always)]
pub(crate) fn since(thread: u64) -> u64 {
    match PROCESSES.get_ptr((thread >> 32) as u32) {
        // SAFETY: a map value that lives as long as the program runs.
        Some(process) => unsafe { (*process).since },
        None => 0,
    }
}

/// From now on none of the process's marks counts.
#[inline(always)]
pub(crate) fn renew(thread: u64) {
    let process = Process { since: now(), is_32_bit: 0, padding: 0 };
    let _ = PROCESSES.insert((thread >> 32) as u32, process, 0);
    files::renew(thread);
}

/// A thread begins to run.
#[inline(always)]
pub(crate) fn born(thread: u64) {
    // Its number may have been that of one that was killed inside the TLS library.
    let _ = INSIDE.remove(thread);
    if thread >> 32 == thread & 0xffff_ffff {
        renew(thread);
    }
}

/// Whether the process runs 32-bit code, whose numbers mean other calls: bit 22 of the task's first word on arm64
/// (`TIF_32BIT`, arch/arm64/include/asm/thread_info.h).
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
pub(crate) fn is_32_bit(_thread: u64) -> bool {
    use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel};
    let mut flags = 0u64;
    // SAFETY: `flags` is eight writable bytes; the helper checks the task's address itself.
    let failed = unsafe {
        bpf_probe_read_kernel((&raw mut flags).cast(), 8, bpf_get_current_task() as *const core::ffi::c_void)
    };
    failed == 0 && flags >> 22 & 1 != 0
}

/// On x86 only the process's ELF file tells: the daemon has looked.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn is_32_bit(thread: u64) -> bool {
    match PROCESSES.get_ptr((thread >> 32) as u32) {
        // SAFETY: a map value that lives as long as the program runs.
        Some(process) => unsafe { (*process).is_32_bit != 0 },
        None => false,
    }
}

/// Whether a descriptor is known to be of no interest: the first question about every write.
#[inline(always)]
pub(crate) fn is_ignored(thread: u64, fd: u64) -> bool {
    if files::is_marked(thread, fd) {
        return true;
    }
    cold_path();
    let Some(known) = DESCRIPTORS.get_ptr(key(thread, fd)) else { return false };
    // SAFETY: a map value that lives as long as the program runs.
    let (class, born) = unsafe { ((*known).class, (*known).born) };
    if class != class::IGNORED || born < since(thread) {
        return false;
    }
    files::mark(thread, fd);
    true
}

/// What is known of a descriptor; new, of `class` and `transport`, when nothing was or what was known is of an earlier file.
#[inline(always)]
pub(crate) fn descriptor(thread: u64, fd: u64, class: u32, transport: u32) -> Option<*mut Descriptor> {
    let key = key(thread, fd);
    if let Some(known) = DESCRIPTORS.get_ptr_mut(key) {
        // SAFETY: a map value that lives as long as the program runs.
        if unsafe { (*known).born } < since(thread) {
            cold_path();
            // SAFETY: as above.
            unsafe { *known = fresh(class, transport) };
        }
        return Some(known);
    }
    DESCRIPTORS.insert(key, fresh(class, transport), 0).ok()?;
    DESCRIPTORS.get_ptr_mut(key)
}

/// A descriptor has come to stand for a new file.
#[inline(always)]
pub(crate) fn opened(thread: u64, fd: u64, class: u32, transport: u32) -> Option<()> {
    let key = key(thread, fd);
    files::forget(key);
    DESCRIPTORS.insert(key, fresh(class, transport), 0).ok()
}

/// A descriptor has come to stand for the same file as another (`dup`), or for one of the same kind (`accept`).
#[inline(always)]
pub(crate) fn copied(thread: u64, from: u64, to: u64) -> Option<()> {
    if from as u32 == to as u32 {
        return None;
    }
    if let Some(known) = DESCRIPTORS.get_ptr(key(thread, from)) {
        // SAFETY: a map value that lives as long as the program runs.
        let (class, transport, born) =
            unsafe { (read_volatile(&raw const (*known).class), (*known).transport, (*known).born) };
        if (class == class::SOCKET || class == class::IGNORED) && born >= since(thread) {
            return opened(thread, to, class, transport);
        }
    }
    forget(key(thread, to))
}

/// A descriptor stands for nothing any more.
#[inline(always)]
pub(crate) fn forget(key: u64) -> Option<()> {
    files::forget(key);
    DESCRIPTORS.remove(key).ok()
}

/// Takes over what the daemon has found out, if it is about this very file.
#[inline(always)]
pub(crate) fn heed(key: u64, state: &mut Descriptor) {
    let Some(answer) = ANSWERS.get_ptr(key) else { return };
    // SAFETY: a map value that lives as long as the program runs.
    let (born, class, limit) = unsafe { ((*answer).born, (*answer).class, (*answer).limit) };
    if born == state.born {
        state.class = class;
        state.limit = limit;
    }
    let _ = ANSWERS.remove(key);
}

#[inline(always)]
fn fresh(class: u32, transport: u32) -> Descriptor {
    let zero = opaque_zero();
    Descriptor {
        class,
        transport,
        limit: socket::FIRST_LIMIT,
        born: now(),
        sequence: zero,
        sent: zero,
        skipped: zero,
        bucket: Bucket { left: zero, filled: zero },
    }
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: a helper call without arguments.
    unsafe { bpf_ktime_get_ns() }
}
