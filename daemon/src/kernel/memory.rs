//! How the memory of apps is read: what was sent lies there, and not every kernel lets a program look.
//!
//! From Linux 5.5 programs have a helper for it (112). Before that helper 4 reads whatever the processor lets the kernel
//! read, which is all of an app's memory, unless the kernel has ARM64_PAN and the processor UAO (the class of Redmi K20 and
//! Mi 10): there every read answers `EFAULT`. So it is tried on a known buffer at the start.
#![forbid(unsafe_code)]

use std::borrow::Cow;

use aya::{
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported},
};
use object::{Object as _, ObjectSection as _};

/// How the memory of apps is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryPath {
    /// By the programs: all of it.
    Bpf,
    /// By arguments that ftrace fetches: the beginning of what is handed to TLS libraries. See [`super::fetch`].
    Ftrace,
    /// Not at all: who sends, to whom and how much, but not what.
    Nothing,
}

impl MemoryPath {
    /// All of them, the best first.
    pub const ALL: [MemoryPath; 3] = [MemoryPath::Bpf, MemoryPath::Ftrace, MemoryPath::Nothing];

    /// As `--memory` takes it.
    pub fn name(self) -> &'static str {
        match self {
            MemoryPath::Bpf => "bpf",
            MemoryPath::Ftrace => "ftrace",
            MemoryPath::Nothing => "none",
        }
    }

    /// `bpf`, `ftrace` or `none`.
    pub fn from_name(name: &str) -> Option<MemoryPath> {
        MemoryPath::ALL.into_iter().find(|one| one.name() == name)
    }

    /// What it means for the owner where it is not the best one.
    pub fn costs(self) -> Option<&'static str> {
        match self {
            MemoryPath::Bpf => None,
            MemoryPath::Ftrace => Some(
                "this kernel does not let programs read the memory of apps (ARM64_PAN before Linux 5.5): of each write to a TLS library the first 960 bytes are read through ftrace, the rest is counted; of what goes out elsewhere you learn who sends, to which address and how much, but not what",
            ),
            MemoryPath::Nothing => Some(
                "this kernel does not let programs read the memory of apps (ARM64_PAN before Linux 5.5): you learn who sends, to which address and how much, but not what, and host names only from the kernel's own tables",
            ),
        }
    }
}

/// Whether the kernel has the helper that is made for it; then nothing need be tried.
pub(super) fn has_helper() -> bool {
    matches!(is_helper_supported(ProgramType::KProbe, BpfHelper::BPF_FUNC_probe_read_user), Ok(true))
}

/// `call 112` and `call 114`, `bpf_probe_read_user` and its sibling for strings, as `struct bpf_insn` lies in memory.
const READS: [[u8; 8]; 2] = [[0x85, 0, 0, 0, 112, 0, 0, 0], [0x85, 0, 0, 0, 114, 0, 0, 0]];
/// `r0 = -14`: what those calls answer where the processor forbids the read.
const EFAULT: [u8; 8] = [0xb7, 0, 0, 0, 0xf2, 0xff, 0xff, 0xff];

/// The object with every read of apps' memory failing as it does on such a kernel: for those who want to see what is left
/// there, and for tests.
pub(super) fn blinded(object: &[u8]) -> Cow<'_, [u8]> {
    let Ok(file) = object::File::parse(object) else { return Cow::Borrowed(object) };
    let mut blind = object.to_vec();
    let code = file.sections().filter(|section| section.kind() == object::SectionKind::Text);
    for (at, len) in code.filter_map(|section| section.file_range()) {
        let range = usize::try_from(at).ok().zip(usize::try_from(at.saturating_add(len)).ok());
        let Some(code) = range.and_then(|(from, to)| blind.get_mut(from..to)) else { continue };
        for instruction in code.as_chunks_mut::<8>().0 {
            if READS.contains(instruction) {
                *instruction = EFAULT;
            }
        }
    }
    Cow::Owned(blind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_named_as_the_command_line_takes_them() {
        for path in MemoryPath::ALL {
            assert_eq!(MemoryPath::from_name(path.name()), Some(path));
            assert_eq!(path.costs().is_none(), path == MemoryPath::Bpf);
        }
        assert_eq!(MemoryPath::from_name("helper4"), None);
        let said = format!("first {} bytes", super::super::fetch::WORDS * 8);
        assert!(MemoryPath::Ftrace.costs().is_some_and(|costs| costs.contains(&said)));
    }

    #[test]
    fn a_blinded_object_has_no_read_left_and_is_the_same_elsewhere() {
        let Some(object) = super::super::object() else {
            return println!("skipped: this binary was built without the eBPF program");
        };
        let blind = blinded(object);
        assert_eq!(blind.len(), object.len());
        let calls = |bytes: &[u8]| bytes.as_chunks::<8>().0.iter().filter(|one| READS.contains(one)).count();
        assert!(calls(object) > 10);
        assert_eq!(calls(&blind), 0);
        let changed = object.as_chunks::<8>().0.iter().zip(blind.as_chunks::<8>().0).filter(|(a, b)| a != b);
        assert!(changed.clone().all(|(was, is)| READS.contains(was) && *is == EFAULT));
        assert_eq!(changed.count(), calls(object));
        assert_eq!(blinded(b"no object").as_ref(), b"no object");
    }
}
