//! Pages of files that only the start needed: readers of TOML, ELF and symbol tables, the compiler of rows. They stay in the resident set until the
//! machine is short of memory, unless they are let go.
#![allow(unsafe_code)]

use std::{
    ffi::{c_int, c_void},
    fs, io,
    ops::Range,
};

use object::elf;

/// Lets go all pages of files that the dynamic linker mapped for this program and that were never written to: code and constants, its
/// own and those of libraries. They stay in the page cache; what is touched again comes back from there, a few pages at a time.
///
/// # Errors
/// `/proc/self/smaps` cannot be read.
pub(super) fn let_go() -> io::Result<()> {
    let segments = constant_segments();
    for range in unwritten(&fs::read_to_string("/proc/self/smaps")?) {
        // What other threads map and unmap meanwhile is none of this.
        if !segments.iter().any(|segment| segment.start <= range.start && range.end <= segment.end) {
            continue;
        }
        let length = range.end.saturating_sub(range.start);
        // SAFETY: these are code and constants of loaded libraries, of which none is ever unloaded here. The kernel says that they are
        // private mappings of a file without write permission, of which not one page, here or in swap, differs from the
        // file (a linker may have copied or relocated some: those are left alone). Dropping such pages is what the kernel itself does
        // when memory is short: the next access reads the same bytes again (madvise(2), MADV_DONTNEED). At worst a
        // breakpoint that a tracer set in this very moment is lost.
        let done = unsafe { libc::madvise(range.start as *mut c_void, length, libc::MADV_DONTNEED) };
        if done < 0 {
            // Locked pages cannot be dropped; then they stay.
            log::debug!("madvise({range:x?}): {}", io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Where the segments without write permission of this program and its libraries lie, in whole pages.
fn constant_segments() -> Vec<Range<usize>> {
    unsafe extern "C" fn add(object: *mut libc::dl_phdr_info, _size: usize, found: *mut c_void) -> c_int {
        // SAFETY: the linker hands over a description that is valid during this call (dl_iterate_phdr(3)).
        let object = unsafe { &*object };
        // SAFETY: this is what is handed to dl_iterate_phdr below, and nobody else has it meanwhile.
        let found = unsafe { &mut *found.cast::<Vec<Range<usize>>>() };
        if object.dlpi_phdr.is_null() {
            return 0;
        }
        // SAFETY: the program headers of a loaded object, as many as it says, which stay as long as it is loaded.
        let headers = unsafe { std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
        let page = super::sys::page_size().max(1);
        for header in headers {
            if header.p_type == libc::PT_LOAD && header.p_flags & elf::PF_W == 0 {
                let start = (object.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
                let end = start.wrapping_add(header.p_memsz as usize);
                found.push(start / page * page..end.div_ceil(page).saturating_mul(page));
            }
        }
        0
    }
    let mut found: Vec<Range<usize>> = Vec::new();
    // SAFETY: the function takes what it is given, and unwinds nowhere.
    unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut found).cast()) };
    found
}

/// The mappings of `smaps` (proc(5)) whose pages are all still those of a file.
fn unwritten(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut candidate: Option<(Range<usize>, Facts)> = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        if let Some(name) = first.strip_suffix(':') {
            if let Some((_, facts)) = &mut candidate {
                let none = words.next() == Some("0");
                match name {
                    "Anonymous" => facts.none_own = none,
                    "Swap" => facts.none_swapped = none,
                    "Rss" => facts.resident = !none,
                    _ => {}
                }
            }
            continue;
        }
        found.extend(candidate.take().filter(|(_, facts)| facts.may_go()).map(|(range, _)| range));
        let permissions = words.next().unwrap_or_default();
        let is_file = words.nth(3).is_some_and(|path| path.starts_with('/'));
        if is_file && matches!(permissions, "r-xp" | "r--p" | "--xp") {
            candidate = range(first).map(|range| (range, Facts::default()));
        }
    }
    found.extend(candidate.filter(|(_, facts)| facts.may_go()).map(|(range, _)| range));
    found
}

/// What is known of a mapping. A line that is missing is no permission.
#[derive(Debug, Default)]
struct Facts {
    /// It has no page of its own in memory.
    none_own: bool,
    /// Nor in swap: what was written there would be lost.
    none_swapped: bool,
    /// There is something to let go.
    resident: bool,
}

impl Facts {
    fn may_go(&self) -> bool {
        self.none_own && self.none_swapped && self.resident
    }
}

fn range(text: &str) -> Option<Range<usize>> {
    let (start, end) = text.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(head: &str, anonymous: u32, swap: u32) -> String {
        format!(
            "{head}\nSize:  8 kB\nRss:  8 kB\nPss:  8 kB\nAnonymous:  {anonymous} kB\nSwap:  {swap} kB\nVmFlags: rd mr\n"
        )
    }

    #[test]
    fn only_whole_files_that_nothing_was_written_to_are_let_go() {
        let smaps = [
            mapping("1000-3000 r-xp 00000000 fd:00 12   /system/bin/telltale", 0, 0),
            mapping("3000-5000 r--p 00002000 fd:00 12   /system/bin/telltale", 4, 0),
            mapping("5000-7000 r--p 00002000 fd:00 12   /system/bin/telltale", 0, 4),
            mapping("7000-9000 rw-p 00004000 fd:00 12   /system/bin/telltale", 0, 0),
            mapping("9000-b000 r--s 00004000 fd:00 12   /a/ring", 0, 0),
            mapping("b000-d000 r-xp 00000000 00:00 0    [vdso]", 0, 0),
            mapping("d000-f000 r--p 00000000 00:00 0 ", 0, 0),
            "f000-10000 r--p 00000000 fd:00 12 /cut\nRss: 4 kB\nAnonymous: 0 kB\n".to_owned(),
            mapping("10000-12000 r--p 00000000 fd:00 13 /system/lib64/with a blank.so", 0, 0),
        ];
        assert_eq!(unwritten(&smaps.concat()), [0x1000..0x3000, 0x1_0000..0x1_2000]);
        for end in 0..smaps.concat().len() {
            unwritten(&smaps.concat()[..end]);
        }
    }

    #[test]
    fn this_program_goes_on_with_its_pages_let_go() {
        let resident = || {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("RssFile:")).unwrap();
            line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        let constant = include_bytes!("../../data/domains.toml");
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        let (before, pages) = (sum(constant), resident());
        let_go().unwrap();
        assert!(resident() < pages);
        assert_eq!(sum(constant), before);
    }
}
