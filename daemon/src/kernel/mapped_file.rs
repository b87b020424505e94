//! A file mapped read-only: its pages are read when a look-up touches them, and can be dropped again at any time.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    num::NonZeroUsize,
    os::fd::AsRawFd,
    path::Path,
    ptr::NonNull,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::sys::page_size;

/// The bytes of a file, as long as this lives. The file must only ever be replaced by renaming another over it: one that is cut short
/// would end the process with SIGBUS when what was cut off is read. For files of which that cannot be known there is
/// [`MappedFile::of_others`].
#[derive(Debug)]
pub struct MappedFile {
    base: NonNull<u8>,
    length: NonZeroUsize,
    _guard: Option<Guard>,
}

// SAFETY: the mapping is private and read-only; nothing is ever written through it.
unsafe impl Send for MappedFile {}
// SAFETY: as above; any number of threads may read.
unsafe impl Sync for MappedFile {}

impl MappedFile {
    /// Maps all of the file.
    ///
    /// # Errors
    /// The system's reason; an empty file cannot be mapped.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(&File::open(path)?)
    }

    /// The same with a file that is open already.
    ///
    /// # Errors
    /// As [`MappedFile::open`].
    pub fn of(file: &File) -> io::Result<Self> {
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let length = NonZeroUsize::new(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        // SAFETY: a new private mapping wherever the kernel puts it; no existing memory is touched. The descriptor may be
        // closed afterwards (mmap(2)).
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length.get(),
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self { base, length, _guard: None })
    }

    /// The same with a file that somebody else may cut short meanwhile: what is gone then reads as zeros.
    ///
    /// # Errors
    /// As [`MappedFile::open`]; and when several such files are mapped already.
    pub fn of_others(file: &File) -> io::Result<Self> {
        let mut mapped = Self::of(file)?;
        mapped._guard = Some(Guard::over(mapped.as_ref())?);
        Ok(mapped)
    }

    /// Lets the pages of a part of it go: they no longer count as this process's memory, and are read again when needed.
    pub fn let_go(&self, part: &[u8]) {
        let own = self.as_ref().as_ptr_range();
        let part = part.as_ptr_range();
        if part.start < own.start || part.end > own.end {
            return;
        }
        let page = page_size();
        let start = part.start.addr() & !page.wrapping_sub(1);
        let Some(length) = part.end.addr().checked_sub(start) else { return };
        // SAFETY: whole pages of our own read-only private mapping of a file, which was never written through: reading
        // them again brings the same bytes. The start is not before `base`, which is page-aligned.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
}

/// The address range of a mapping whose missing pages are to read as zeros.
#[derive(Debug)]
struct Guard(&'static Slot);

#[derive(Debug)]
struct Slot {
    start: AtomicUsize,
    /// 0: free.
    end: AtomicUsize,
}

static SLOTS: [Slot; 4] = [const { Slot { start: AtomicUsize::new(0), end: AtomicUsize::new(0) } }; 4];
/// What took SIGBUS before: Rust's own, which tells of a stack that ran over.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

impl Guard {
    fn over(bytes: &[u8]) -> io::Result<Self> {
        take_sigbus()?;
        let range = bytes.as_ptr_range();
        for slot in &SLOTS {
            let taken =
                slot.start.compare_exchange(0, range.start.addr(), Ordering::AcqRel, Ordering::Relaxed);
            if taken.is_ok() {
                slot.end.store(range.end.addr(), Ordering::Release);
                return Ok(Guard(slot));
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.end.store(0, Ordering::Release);
        self.0.start.store(0, Ordering::Release);
    }
}

/// Puts [`zeros_instead`] before whatever takes SIGBUS, once.
fn take_sigbus() -> io::Result<()> {
    static TAKEN: OnceLock<Result<(), i32>> = OnceLock::new();
    let taken = TAKEN.get_or_init(|| {
        // The handler asks for it later, where nothing may be made for the first time.
        page_size();
        // SAFETY: a plain C structure for which all zeros is a value.
        let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: asks only; `before` has room for the answer.
        let asked = unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut before) };
        if asked != 0 {
            return Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL));
        }
        let mut action = before;
        BEFORE.get_or_init(|| before);
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = zeros_instead;
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: `zeros_instead` has the form that SA_SIGINFO asks for and calls only what a signal handler may.
        let set = unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) };
        if set == 0 { Ok(()) } else { Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)) }
    });
    taken.map_err(io::Error::from_raw_os_error)
}

/// A page of a guarded mapping lies beyond the end its file has by now: puts a page of zeros there. Anything else goes to
/// whoever took the signal before.
extern "C" fn zeros_instead(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands a siginfo to a SA_SIGINFO handler.
    let info_of = unsafe { &*info };
    // SAFETY: for SIGBUS it holds an address.
    let address = unsafe { info_of.si_addr() }.addr();
    let guarded = SLOTS.iter().any(|slot| {
        (slot.start.load(Ordering::Acquire)..slot.end.load(Ordering::Acquire)).contains(&address)
    });
    if guarded {
        let page = page_size();
        let at = address & !page.wrapping_sub(1);
        // SAFETY: replaces one page of a mapping of our own, which nobody could read any more, by zeros. mmap is a plain
        // system call, which a handler may make.
        let put = unsafe {
            libc::mmap(
                at as *mut libc::c_void,
                page,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        if put != libc::MAP_FAILED {
            return;
        }
    }
    let before = BEFORE.get();
    if let Some(before) = before.filter(|before| before.sa_flags & libc::SA_SIGINFO != 0) {
        type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
        // SAFETY: with SA_SIGINFO the kernel took this word as the address of such a function.
        let handler: Handler =
            unsafe { std::mem::transmute::<libc::sighandler_t, Handler>(before.sa_sigaction) };
        return handler(signal, info, context);
    }
    // SAFETY: back to what it does by default; the instruction faults again after the return.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `length` bytes from `base` are mapped readable until `self` is dropped, and nobody writes to them.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.length.get()) }
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // SAFETY: exactly what `open` mapped; every borrow of it ended with `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_has_the_file_s_bytes_and_outlives_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"some bytes").unwrap();
        let mapped = MappedFile::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(mapped.as_ref(), b"some bytes");
        assert!(MappedFile::open(&path).is_err());
        std::fs::write(&path, b"").unwrap();
        assert!(MappedFile::open(&path).is_err());
    }

    #[test]
    fn what_is_cut_off_meanwhile_reads_as_zeros_and_the_rest_as_before() {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &vec![7; 64 << 10]).unwrap();
        let mapped = MappedFile::of_others(&file).unwrap();
        assert!(mapped.as_ref().iter().all(|byte| *byte == 7));
        mapped.let_go(&mapped.as_ref()[100..50_000]);
        file.set_len(20_000).unwrap();
        let bytes = mapped.as_ref();
        assert!(bytes[..20_000].iter().all(|byte| *byte == 7));
        assert!(bytes[20_000..].iter().all(|byte| *byte == 0));
        // Of the same thread and of another.
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(mapped.as_ref()[60_000], 0));
        });
    }

    #[test]
    fn only_so_many_are_guarded_at_once_and_each_is_freed() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(5000).unwrap();
        for _ in 0..20 {
            let mapped = MappedFile::of_others(&file);
            assert!(mapped.is_ok_and(|mapped| mapped.as_ref().len() == 5000));
        }
    }
}
