//! The parts of an ELF file that the finder looks at: what is loaded, what is code, where the unwind table is.

use std::cell::Cell;
use std::ops::ControlFlow;

use object::elf::{EM_AARCH64, ET_DYN, ET_EXEC, FileHeader64, PF_X, PT_GNU_EH_FRAME, PT_LOAD, PT_NOTE};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, LittleEndian};

use super::Error;

/// The instruction set of a binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit Arm
    Aarch64,
    /// 64-bit x86
    #[cfg(not(target_os = "android"))]
    X86_64,
}

/// A loaded part of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment<'a> {
    pub(super) address: u64,
    pub(super) offset: u64,
    pub(super) bytes: &'a [u8],
    pub(super) code: bool,
}

/// Told of each stretch of bytes that has been gone through; whether to go on.
pub type Between<'a> = &'a dyn Fn(&[u8]) -> ControlFlow<()>;

/// A parsed file.
pub(super) struct Image<'a> {
    pub(super) arch: Arch,
    segments: Vec<Segment<'a>>,
    /// Address and bytes of `.eh_frame_hdr`.
    pub(super) unwind: Option<(u64, &'a [u8])>,
    between: Between<'a>,
    stopped: Cell<bool>,
}

/// A large segment is gone through in stretches of this many bytes, so that a mapped file's pages can be let go again.
const STRETCH: usize = if cfg!(test) { 64 << 10 } else { 4 << 20 };
/// Stretches overlap, for what lies across their border: instructions, and the two that load an address together.
const OVERLAP: usize = 4 << 10;

/// More program headers than this are not looked at; linkers write about a dozen.
const HEADERS_MAX: usize = 64;

impl<'a> Image<'a> {
    pub(super) fn parse(file: &'a [u8], between: Between<'a>) -> Result<Self, Error> {
        let bad = |what: &str| Error::NotElf(format!("not a 64-bit ELF file for this purpose: {what}"));
        let header = FileHeader64::<Endianness>::parse(file).map_err(|e| bad(&e.to_string()))?;
        let endian = header.endian().map_err(|e| bad(&e.to_string()))?;
        if endian != Endianness::Little {
            return Err(bad("big-endian"));
        }
        let arch = match header.e_machine(endian) {
            EM_AARCH64 => Arch::Aarch64,
            #[cfg(not(target_os = "android"))]
            object::elf::EM_X86_64 => Arch::X86_64,
            other => return Err(bad(&format!("machine {other}"))),
        };
        if !matches!(header.e_type(endian), ET_DYN | ET_EXEC) {
            return Err(bad("neither a library nor a program"));
        }
        let headers = header.program_headers(endian, file).map_err(|e| bad(&e.to_string()))?;
        let mut segments = Vec::new();
        let mut unwind = None;
        for program in headers.iter().take(HEADERS_MAX) {
            // A segment that claims more than the file holds is cut short or dropped, as the loader would fault there.
            let Ok(bytes) = program.data(endian, file) else { continue };
            match program.p_type(endian) {
                PT_LOAD => segments.push(Segment {
                    address: program.p_vaddr(endian),
                    offset: program.p_offset(endian),
                    bytes,
                    code: program.p_flags(endian) & PF_X != 0,
                }),
                PT_GNU_EH_FRAME => unwind = Some((program.p_vaddr(endian), bytes)),
                _ => {}
            }
        }
        Ok(Image { arch, segments, unwind, between, stopped: Cell::new(false) })
    }

    /// True when whoever asked has lost interest: what was found is incomplete.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    /// A segment in overlapping stretches, in order, and where each lies in it.
    pub(super) fn stretches(&self, segment: Segment<'a>) -> impl Iterator<Item = (usize, Segment<'a>)> {
        let mut from = 0;
        let mut last: &[u8] = &[];
        std::iter::from_fn(move || {
            if !last.is_empty() && (self.between)(last).is_break() {
                self.stopped.set(true);
            }
            let rest = segment.bytes.get(from..).filter(|rest| !rest.is_empty() && !self.is_stopped())?;
            let bytes = rest.get(..STRETCH).unwrap_or(rest);
            let address = segment.address.wrapping_add(from as u64);
            let offset = segment.offset.wrapping_add(from as u64);
            let stretch = (from, Segment { address, offset, bytes, code: segment.code });
            last = bytes;
            // The last stretch ends where the segment does.
            from = if bytes.len() < rest.len() {
                from.saturating_add(STRETCH - OVERLAP)
            } else {
                segment.bytes.len()
            };
            Some(stretch)
        })
    }

    /// All code, in stretches.
    pub(super) fn stretches_of_code(&self) -> impl Iterator<Item = Segment<'a>> {
        self.code().flat_map(|segment| self.stretches(*segment)).map(|(_, stretch)| stretch)
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = &Segment<'a>> {
        self.segments.iter()
    }

    pub(super) fn code(&self) -> impl Iterator<Item = &Segment<'a>> {
        self.segments.iter().filter(|segment| segment.code)
    }

    /// Code from `start` on, at most up to `end`.
    pub(super) fn code_at(&self, start: u64, end: u64) -> Option<&'a [u8]> {
        let segment = self.code().find(|segment| segment.holds(start))?;
        let from = usize::try_from(start.checked_sub(segment.address)?).ok()?;
        let length = usize::try_from(end.checked_sub(start)?).ok()?;
        let rest = segment.bytes.get(from..)?;
        Some(rest.get(..length).unwrap_or(rest))
    }

    pub(super) fn offset_of(&self, address: u64) -> Option<u64> {
        let segment = self.code().find(|segment| segment.holds(address))?;
        segment.offset.checked_add(address.checked_sub(segment.address)?)
    }
}

impl Segment<'_> {
    fn holds(&self, address: u64) -> bool {
        address.checked_sub(self.address).is_some_and(|into| into < self.bytes.len() as u64)
    }
}

/// The linker's build id, by which what was found is remembered (`NT_GNU_BUILD_ID`).
pub fn build_id(file: &[u8]) -> Option<Vec<u8>> {
    let header = FileHeader64::<LittleEndian>::parse(file).ok()?;
    let endian = header.endian().ok()?;
    for program in header.program_headers(endian, file).ok()?.iter().take(HEADERS_MAX) {
        if program.p_type(endian) != PT_NOTE {
            continue;
        }
        let Ok(Some(mut notes)) = program.notes(endian, file) else { continue };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == b"GNU" && note.n_type(endian) == object::elf::NT_GNU_BUILD_ID {
                return Some(note.desc().to_vec());
            }
        }
    }
    None
}
