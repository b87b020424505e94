//! Reads machine code: a quick pass over all of it for references and calls, and a careful one over single functions.
//!
//! The quick pass looks at encodings by mask, because a browser has a hundred megabytes of code; whatever it finds is
//! looked at again with a real disassembler before anything is concluded.

use std::collections::{BTreeMap, BTreeSet};

use super::arm64;
use super::functions::FUNCTION_MAX;
use super::image::{Arch, Image, Segment};
#[cfg(not(target_os = "android"))]
use super::x86;

/// What the quick pass finds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Instructions that load the address of one of the names, sorted.
    pub(super) references: Vec<u64>,
    /// Targets of direct calls in the reach of those references.
    pub(super) called: BTreeSet<u64>,
}

impl Scan {
    pub(super) fn run(image: &Image<'_>, names: &BTreeSet<u64>) -> Self {
        let mut references = Vec::new();
        for segment in image.stretches_of_code() {
            match image.arch {
                #[cfg(not(target_os = "android"))]
                Arch::X86_64 => x86::references(&segment, names, &mut references),
                Arch::Aarch64 => arm64::references(&segment, names, &mut references),
            }
        }
        references.sort_unstable();
        references.dedup();
        let reach = Reach::around(&references);
        let mut called = BTreeSet::new();
        for segment in image.stretches_of_code() {
            calls(image.arch, &segment, &mut |_, target| {
                if reach.holds(target) && may_begin_function(image, target) {
                    called.insert(target);
                }
            });
        }
        Scan { references, called }
    }
}

fn may_begin_function(image: &Image<'_>, address: u64) -> bool {
    match image.arch {
        #[cfg(not(target_os = "android"))]
        Arch::X86_64 => x86::may_begin_function(image, address),
        Arch::Aarch64 => address.is_multiple_of(4),
    }
}

/// The stretches of code in which a function that holds a reference may begin or end.
#[derive(Debug)]
struct Reach(Vec<(u64, u64)>);

impl Reach {
    fn around(sorted: &[u64]) -> Self {
        let mut stretches: Vec<(u64, u64)> = Vec::new();
        for &at in sorted {
            let (from, to) = (at.saturating_sub(FUNCTION_MAX), at.saturating_add(FUNCTION_MAX));
            match stretches.last_mut() {
                Some(last) if from <= last.1 => last.1 = to,
                _ => stretches.push((from, to)),
            }
        }
        Reach(stretches)
    }

    fn holds(&self, address: u64) -> bool {
        let next = self.0.partition_point(|&(from, _)| from <= address);
        next.checked_sub(1).and_then(|i| self.0.get(i)).is_some_and(|&(_, to)| address < to)
    }
}

fn calls(arch: Arch, segment: &Segment<'_>, take: &mut impl FnMut(u64, u64)) {
    match arch {
        #[cfg(not(target_os = "android"))]
        Arch::X86_64 => x86::calls(segment, take),
        Arch::Aarch64 => arm64::calls(segment, take),
    }
}

/// Instructions anywhere in the code that jump from elsewhere to `start..end`, by address.
pub(super) fn direct_jumps(image: &Image<'_>, start: u64, end: u64) -> Vec<u64> {
    let mut found = Vec::new();
    let mut take = |from: u64, target: u64| {
        if (start..end).contains(&target) && !(start..end).contains(&from) {
            found.push(from);
        }
    };
    for segment in image.stretches_of_code() {
        match image.arch {
            #[cfg(not(target_os = "android"))]
            Arch::X86_64 => x86::jumps(&segment, &mut take),
            Arch::Aarch64 => arm64::jumps(&segment, &mut take),
        }
    }
    found
}

/// What a function does, as far as the finder cares.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Reasons it reports, each with the source line where that could be told.
    pub(super) reasons: BTreeMap<u64, Option<u64>>,
    /// Error libraries it reports to.
    pub(super) libraries: BTreeSet<u64>,
    /// Error sites.
    pub(super) sites: usize,
    /// Whether it calls through a pointer.
    pub(super) indirect_call: bool,
}

/// What the finder wants to know of one instruction.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// Argument number (from 0) takes an immediate.
    Set(usize, u64),
    /// Some register takes an address.
    Address(u64),
    CallThroughPointer,
    /// A call or an unconditional jump: the arguments set so far go with it.
    Leave,
    Other,
}

/// `ERR_put_error(library, function, reason, file, line)`.
const LIBRARY: usize = 0;
const REASON: usize = 2;
const LINE: usize = 4;

/// The arguments of the call that is being prepared.
#[derive(Debug, Default)]
struct Pending {
    arguments: [Option<u64>; 5],
    names_the_file: bool,
}

impl Body {
    /// Disassembles one function.
    pub(super) fn read(image: &Image<'_>, start: u64, end: u64, names: &BTreeSet<u64>) -> Option<Self> {
        let bytes = image.code_at(start, end)?;
        let mut body = Body { start, end, ..Body::default() };
        let mut pending = Pending::default();
        let mut take = |step: Step| match step {
            Step::Set(argument, value) => {
                if let Some(slot) = pending.arguments.get_mut(argument) {
                    *slot = Some(value);
                }
            }
            Step::Address(target) => pending.names_the_file |= names.contains(&target),
            Step::CallThroughPointer => {
                body.indirect_call = true;
                pending = Pending::default();
            }
            Step::Leave => {
                body.site(&pending);
                pending = Pending::default();
            }
            Step::Other => {}
        };
        match image.arch {
            #[cfg(not(target_os = "android"))]
            Arch::X86_64 => x86::steps(bytes, start, &mut take),
            Arch::Aarch64 => arm64::steps(bytes, start, &mut take),
        }
        Some(body)
    }

    /// A call or jump: an error site when what goes with it looks like one. Compilers share the tail of several sites,
    /// so that not every one loads everything.
    fn site(&mut self, pending: &Pending) {
        let argument = |number: usize| pending.arguments.get(number).copied().flatten();
        let Some(reason) = argument(REASON) else { return };
        if !pending.names_the_file && argument(LINE).is_none() {
            return;
        }
        self.sites = self.sites.saturating_add(1);
        let line = self.reasons.entry(reason).or_default();
        *line = line.or(argument(LINE));
        self.libraries.extend(argument(LIBRARY));
    }
}
