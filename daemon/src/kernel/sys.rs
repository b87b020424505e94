//! The system calls that no crate wraps: perf_event_open and its ioctls, its ring in memory, BPF map access.
//!
//! Numbers are those of include/uapi/linux/perf_event.h and include/uapi/linux/bpf.h.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

/// `struct perf_event_attr` as of PERF_ATTR_SIZE_VER3, whose last field is the clock since 4.1.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PerfAttr {
    pub(super) kind: u32,
    pub(super) size: u32,
    pub(super) config: u64,
    pub(super) sample_period: u64,
    pub(super) sample_type: u64,
    pub(super) read_format: u64,
    /// The bit field: [`attr_flag`].
    pub(super) flags: u64,
    /// `wakeup_events`, or `wakeup_watermark` with [`attr_flag::WATERMARK`].
    pub(super) wakeup: u32,
    pub(super) bp_type: u32,
    /// For the uprobe PMU the address of the path.
    pub(super) config1: u64,
    /// For the uprobe PMU the offset in the file.
    pub(super) config2: u64,
    pub(super) branch_sample_type: u64,
    pub(super) sample_regs_user: u64,
    pub(super) sample_stack_user: u32,
    /// The clock of PERF_SAMPLE_TIME, with [`attr_flag::USE_CLOCKID`].
    pub(super) clockid: i32,
}

const _: () = assert!(size_of::<PerfAttr>() == 96);

/// What `bpf_ktime_get_ns` reads.
pub(super) const CLOCK_MONOTONIC: i32 = libc::CLOCK_MONOTONIC;

/// Bits of [`PerfAttr::flags`].
pub(super) mod attr_flag {
    pub(in crate::kernel) const DISABLED: u64 = 1 << 0;
    pub(in crate::kernel) const MMAP: u64 = 1 << 8;
    pub(in crate::kernel) const WATERMARK: u64 = 1 << 14;
    pub(in crate::kernel) const MMAP2: u64 = 1 << 23;
    pub(in crate::kernel) const USE_CLOCKID: u64 = 1 << 25;
}

/// `PERF_TYPE_*`, `PERF_COUNT_SW_*`, `PERF_SAMPLE_*`, `PERF_RECORD_*`.
pub(super) mod perf {
    pub(in crate::kernel) const TYPE_SOFTWARE: u32 = 1;
    pub(in crate::kernel) const TYPE_TRACEPOINT: u32 = 2;
    pub(in crate::kernel) const COUNT_SW_DUMMY: u64 = 9;
    pub(in crate::kernel) const COUNT_SW_BPF_OUTPUT: u64 = 10;
    pub(in crate::kernel) const SAMPLE_TID: u64 = 1 << 1;
    pub(in crate::kernel) const SAMPLE_TIME: u64 = 1 << 2;
    pub(in crate::kernel) const SAMPLE_RAW: u64 = 1 << 10;
    pub(in crate::kernel) const RECORD_LOST: u32 = 2;
    pub(in crate::kernel) const RECORD_SAMPLE: u32 = 9;
    pub(in crate::kernel) const RECORD_MMAP2: u32 = 10;
}

const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;
const PERF_EVENT_IOC_SET_OUTPUT: libc::c_ulong = 0x2405;
const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_LOAD: libc::c_long = 5;

/// Opens a perf event of all processes on one CPU.
pub(super) fn perf_event_open(attr: &PerfAttr, cpu: u32) -> io::Result<OwnedFd> {
    perf_event(attr, -1, cpu as libc::c_int)
}

/// Opens a perf event of one process on every CPU.
pub(super) fn perf_event_open_in(attr: &PerfAttr, process: u32) -> io::Result<OwnedFd> {
    let process = libc::pid_t::try_from(process).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    perf_event(attr, process, -1)
}

fn perf_event(attr: &PerfAttr, process: libc::pid_t, cpu: libc::c_int) -> io::Result<OwnedFd> {
    let attr = PerfAttr { size: size_of::<PerfAttr>() as u32, ..*attr };
    let no_group = -1 as libc::c_int;
    // SAFETY: `attr` is a valid perf_event_attr of the size it says; the kernel reads it and keeps no pointer.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            process,
            cpu,
            no_group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor the kernel has just made for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Starts an event.
pub(super) fn perf_enable(event: BorrowedFd<'_>) -> io::Result<()> {
    perf_ioctl(event, PERF_EVENT_IOC_ENABLE, 0)
}

/// Runs `program` on every hit of a uprobe or tracepoint event.
pub(super) fn perf_set_bpf(event: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    perf_ioctl(event, PERF_EVENT_IOC_SET_BPF, program.as_raw_fd())
}

/// Sends an event's records to the ring of another on the same processor.
pub(super) fn perf_set_output(event: BorrowedFd<'_>, ring: BorrowedFd<'_>) -> io::Result<()> {
    perf_ioctl(event, PERF_EVENT_IOC_SET_OUTPUT, ring.as_raw_fd())
}

fn perf_ioctl(event: BorrowedFd<'_>, request: libc::c_ulong, argument: i32) -> io::Result<()> {
    // SAFETY: all these requests take a plain number, no pointer. (`as _`: Android's libc has the request as c_int.)
    if unsafe { libc::ioctl(event.as_raw_fd(), request as _, argument) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// `union bpf_attr` for map access, as of Linux 4.14.
#[repr(C)]
struct MapAccess {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// One bpf(2) call on an element of a map.
///
/// # Safety
/// `key` must point to as many bytes as the map's keys have. `value` must point to as many as the kernel reads, or writes, for this
/// command: the value size, for per-CPU maps rounded up to 8 and times the number of possible CPUs.
unsafe fn map_access(
    command: libc::c_long,
    map: BorrowedFd<'_>,
    key: *const u8,
    value: *const u8,
) -> io::Result<()> {
    let access =
        MapAccess { map: map.as_raw_fd() as u32, padding: 0, key: key as u64, value: value as u64, flags: 0 };
    // SAFETY: `access` outlives the call; what it points to is the caller's duty, stated above.
    bpf_result(unsafe { libc::syscall(libc::SYS_bpf, command, &raw const access, size_of::<MapAccess>()) })
}

/// Writes one element of an array map with keys of 4 bytes. `value` must be of the map's value size.
pub(super) fn map_update<const N: usize>(map: BorrowedFd<'_>, key: u32, value: &[u8; N]) -> io::Result<()> {
    // SAFETY: key and value outlive the call and are as long as the map's (this room's callers know their maps).
    unsafe { map_access(BPF_MAP_UPDATE_ELEM, map, (&raw const key).cast(), value.as_ptr()) }
}

/// Reads one element of an array map with keys of 4 bytes. `value` must be as long as what the kernel returns:
/// the value size, for per-CPU maps rounded up to 8 and times the number of possible CPUs.
pub(super) fn map_lookup(map: BorrowedFd<'_>, key: u32, value: &mut [u8]) -> io::Result<()> {
    // SAFETY: key and value outlive the call; the length of `value` is the caller's duty, stated above.
    unsafe { map_access(BPF_MAP_LOOKUP_ELEM, map, (&raw const key).cast(), value.as_mut_ptr()) }
}

/// Reads an element of a hash map with keys of 8 bytes and values of `N`; none when there is none.
pub(super) fn hash_lookup<const N: usize>(map: BorrowedFd<'_>, key: u64) -> io::Result<Option<[u8; N]>> {
    hash_lookup_words(map, [key])
}

/// The same with keys of `K` words of 8 bytes.
pub(super) fn hash_lookup_words<const K: usize, const N: usize>(
    map: BorrowedFd<'_>,
    key: [u64; K],
) -> io::Result<Option<[u8; N]>> {
    let mut value = [0u8; N];
    // SAFETY: key and value outlive the call and are as long as the map's (this room's callers know their maps).
    match unsafe { map_access(BPF_MAP_LOOKUP_ELEM, map, key.as_ptr().cast(), value.as_mut_ptr()) } {
        Ok(()) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes an element of a hash map with keys of 8 bytes and values of `N`.
pub(super) fn hash_update<const N: usize>(map: BorrowedFd<'_>, key: u64, value: &[u8; N]) -> io::Result<()> {
    // SAFETY: as above.
    unsafe { map_access(BPF_MAP_UPDATE_ELEM, map, (&raw const key).cast(), value.as_ptr()) }
}

/// Types of BPF programs (`enum bpf_prog_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum ProgramKind {
    /// Also uprobes.
    Kprobe = 2,
    Tracepoint = 5,
}

/// `union bpf_attr` for loading a program, as of Linux 4.14.
#[repr(C)]
struct ProgramLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// Loads a program that returns 0 and does nothing else. `kernel_version` is `LINUX_VERSION_CODE`.
pub(super) fn load_empty_program(kind: ProgramKind, kernel_version: u32) -> io::Result<OwnedFd> {
    // `r0 = 0; exit`, as `struct bpf_insn` lies in memory (include/uapi/linux/bpf.h).
    let instructions: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let load = ProgramLoad {
        kind: kind as u32,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        licence: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version,
        flags: 0,
    };
    // SAFETY: instructions and licence outlive the call, which copies them; the length is that of `load`.
    let fd =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<ProgramLoad>()) };
    bpf_result(fd)?;
    // SAFETY: a descriptor the kernel has just made for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn bpf_result(returned: libc::c_long) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives freed memory back to the system. Loading the programs and reading symbol tables take tens of MiB for a moment, of
/// which the GNU C library would keep what lies below anything still in use. Android's allocators give back by themselves.
pub(super) fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches free memory only, and locks its arenas as malloc does.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets the other threads of the machine go first, for processor time and for reading, without being starved by them: for
/// the calling thread alone.
pub(super) fn yield_to_others() -> io::Result<()> {
    /// A tenth of the share of an ordinary thread (sched(7)); at 19 a busy machine never gets to it.
    const NICE: libc::c_int = 10;
    /// `IOPRIO_CLASS_BE` with the lowest level in it (include/uapi/linux/ioprio.h).
    const LAST: libc::c_int = 2 << 13 | 7;
    /// `IOPRIO_WHO_PROCESS`, a thread.
    const WHO_PROCESS: libc::c_int = 1;
    const THIS_THREAD: libc::c_int = 0;
    // SAFETY: numbers only. On Linux a priority belongs to a thread (setpriority(2), C library/kernel differences).
    let nice = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if nice < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: numbers only.
    let last = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, THIS_THREAD, LAST) };
    if last < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Has the kernel send this process a signal when its parent ends, however it ends. (nix has this for Linux, not for Android.)
///
/// # Errors
/// None that is known: the signal's number is right.
pub fn signal_at_parents_end(signal: nix::sys::signal::Signal) -> nix::Result<()> {
    // SAFETY: numbers only (PR_SET_PDEATHSIG(2const)).
    let failed = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong) };
    if failed != 0 { Err(nix::errno::Errno::last()) } else { Ok(()) }
}

/// Bytes of one page.
pub(super) fn page_size() -> usize {
    // SAFETY: no memory involved.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// A perf event with its ring in memory (`struct perf_event_mmap_page` and the data pages behind it).
#[derive(Debug)]
pub(super) struct RingMemory {
    event: OwnedFd,
    base: NonNull<u8>,
    page: usize,
    data_len: usize,
}

// SAFETY: the mapping belongs to this value alone and is used through `&mut self` or atomics.
unsafe impl Send for RingMemory {}

/// Offsets of `data_head` and `data_tail` in `struct perf_event_mmap_page`.
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;

impl RingMemory {
    /// Maps `pages` data pages (a power of two) of `event`.
    pub(super) fn map(event: OwnedFd, pages: usize) -> io::Result<Self> {
        let page = page_size();
        let data_len = page.saturating_mul(pages);
        // SAFETY: a new shared mapping wherever the kernel puts it; no existing memory is touched.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                page.saturating_add(data_len),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                event.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(RingMemory { event, base, page, data_len })
    }

    /// The descriptor to wait on.
    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Bytes of records it holds.
    pub(super) fn size(&self) -> u64 {
        self.data_len as u64
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: `offset` is one of the two constants above, inside the first page.
        let word = unsafe { self.base.add(offset) };
        // SAFETY: aligned to 8, mapped as long as `self`, and only ever accessed atomically by both sides.
        unsafe { AtomicU64::from_ptr(word.as_ptr().cast()) }
    }

    /// How far the kernel has written. What lies before it may be read.
    pub(super) fn head(&self) -> u64 {
        // Acquire: pairs with the kernel's write barrier before it moves data_head.
        self.word(DATA_HEAD).load(Ordering::Acquire)
    }

    /// How far we have read.
    pub(super) fn tail(&self) -> u64 {
        self.word(DATA_TAIL).load(Ordering::Relaxed)
    }

    /// Gives everything before `tail` back to the kernel.
    pub(super) fn release(&mut self, tail: u64) {
        // Release: our reads are done before the kernel may write there again.
        self.word(DATA_TAIL).store(tail, Ordering::Release);
    }

    /// The ring's bytes `from..from + len` as one or two slices, for what the kernel has written and we have not yet
    /// given back; none when `len` is larger than the ring.
    pub(super) fn written(&self, from: u64, len: usize) -> Option<(&[u8], &[u8])> {
        if len > self.data_len {
            return None;
        }
        let at = (from % self.data_len as u64) as usize;
        let first = len.min(self.data_len - at);
        // SAFETY: the data pages begin behind the first page.
        let data = unsafe { self.base.add(self.page) };
        // SAFETY: `at` is inside the data pages.
        let head = unsafe { data.add(at) };
        // SAFETY: `at + first` is inside the data pages, and the kernel writes nothing between tail and head.
        let head = unsafe { std::slice::from_raw_parts(head.as_ptr(), first) };
        // SAFETY: the rest, `len - first`, is less than the data pages hold; as above.
        let rest = unsafe { std::slice::from_raw_parts(data.as_ptr(), len - first) };
        Some((head, rest))
    }
}

impl Drop for RingMemory {
    fn drop(&mut self) {
        // SAFETY: our own mapping with the length it was made with; nothing borrowed from it outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.page.saturating_add(self.data_len)) };
    }
}
