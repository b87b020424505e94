//! The rules that make an object loadable on Linux 4.14, each as a check on what [`super::object`] read.
//!
//! What needs the verifier's own walk is in [`super::walk`].

use std::collections::BTreeSet;
use std::fmt;

use super::linux_4_14::{self as linux, ProgramKind};
use super::object::{BpfObject, Instruction, Map, Program, Reference};

/// What was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The object holds no program at all: nothing was checked.
    NothingToCheck,
    /// 4.14 has no such program type.
    ProgramType,
    /// Too many instructions.
    Size,
    /// A way back to an instruction on the way here: 4.14 has no loops ("back-edge", `check_cfg`,
    /// `kernel/bpf/verifier.c`). A jump to an earlier place that closes no loop is fine there: LLVM lays shared endings out so.
    Loop,
    /// Code that no way leads to ("unreachable insn", `check_cfg`).
    Unreachable,
    /// A jump out of the program.
    JumpOutside,
    /// A call of another BPF function, or of a kernel function.
    FunctionCall,
    /// A helper this program type has not in 4.14.
    Helper,
    /// A map type 4.14 lacks, or one it refuses as it is declared.
    MapType,
    /// Global data: 4.14 has no maps for it.
    GlobalData,
    /// An instruction that later kernels added.
    Instruction,
    /// An atomic operation other than a plain add.
    Atomic,
    /// A verifier walked too far: this machine's, or ours that goes as 4.14's does.
    Complexity,
    /// What 4.14's verifier refuses on its walk: it keeps less of what it has learnt than this machine's.
    Walk,
}

/// One breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// The program or map.
    pub of: String,
    /// The instruction, counted from 0 in places of eight bytes.
    pub at: Option<usize>,
    /// Which rule.
    pub rule: Rule,
    /// What was found.
    pub what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.of)?;
        if let Some(at) = self.at {
            write!(f, " at {at}")?;
        }
        write!(f, ": {:?}: {}", self.rule, self.what)
    }
}

/// Checks a whole object; no breach means that 4.14 has everything it asks for.
pub fn check(object: &BpfObject) -> Vec<Breach> {
    let mut found = Vec::new();
    if object.programs.is_empty() {
        found.push(breach("object", None, Rule::NothingToCheck, "it holds no program".into()));
    }
    if object.has_btf_maps {
        let what = "maps are declared in BTF form; declare them with aya-ebpf's `#[map]`".into();
        found.push(breach("object", None, Rule::MapType, what));
    }
    for map in &object.maps {
        check_map(map, &mut found);
    }
    for program in &object.programs {
        check_program(program, &mut found);
        let perf_event = ProgramKind::of_section(&program.section) == Some(ProgramKind::PerfEvent);
        for map in used_maps(object, program) {
            // `check_map_prog_compatibility`, `kernel/bpf/verifier.c`.
            if perf_event
                && matches!(linux::map_type(map.kind), Some("hash" | "percpu_hash"))
                && map.flags & 1 == 1
            {
                let what = format!("perf_event programs need preallocated maps; {} is not", map.name);
                found.push(breach(&program.name, None, Rule::MapType, what));
            }
        }
    }
    found
}

/// The helpers a program calls once the loader has rewritten it.
pub fn helpers(program: &Program) -> BTreeSet<u32> {
    real_instructions(program)
        .filter(|(_, instruction)| is_helper_call(**instruction))
        .map(|(_, instruction)| linux::after_loader(instruction.constant.cast_unsigned()))
        .collect()
}

pub(super) fn breach(of: &str, at: Option<usize>, rule: Rule, what: String) -> Breach {
    Breach { of: of.to_owned(), at, rule, what }
}

fn check_map(map: &Map, found: &mut Vec<Breach>) {
    let mut report = |what: String| found.push(breach(&map.name, None, Rule::MapType, what));
    if linux::map_type(map.kind).is_none() {
        report(format!("map type {} is not in 4.14", map.kind));
    }
    if map.flags & !linux::MAP_FLAGS != 0 {
        report(format!("flags {:#x} are not in 4.14", map.flags & !linux::MAP_FLAGS));
    }
    if linux::is_per_cpu(map.kind) && map.value_size > linux::MAX_PER_CPU_VALUE {
        let (size, limit) = (map.value_size, linux::MAX_PER_CPU_VALUE);
        report(format!("a per-CPU value of {size} bytes; the limit is {limit}"));
    }
}

fn used_maps<'a>(object: &'a BpfObject, program: &'a Program) -> impl Iterator<Item = &'a Map> {
    object.maps.iter().filter(|map| {
        program.references.iter().any(|(_, to)| matches!(to, Reference::Map(name) if *name == map.name))
    })
}

fn check_program(program: &Program, found: &mut Vec<Breach>) {
    let name = &program.name;
    let kind = ProgramKind::of_section(&program.section);
    if kind.is_none() {
        let what = format!("section {:?} names no program type that 4.14 has", program.section);
        found.push(breach(name, None, Rule::ProgramType, what));
    }
    if program.instructions.len() > linux::MAX_INSTRUCTIONS {
        let what =
            format!("{} instructions; the limit is {}", program.instructions.len(), linux::MAX_INSTRUCTIONS);
        found.push(breach(name, None, Rule::Size, what));
    }
    for (at, to) in &program.references {
        match to {
            Reference::Map(_) => {}
            Reference::Data(section) => {
                found.push(breach(name, Some(*at), Rule::GlobalData, format!("refers to {section}")));
            }
            Reference::Function(function) => {
                found.push(breach(
                    name,
                    Some(*at),
                    Rule::FunctionCall,
                    format!("refers to function {function}"),
                ));
            }
        }
    }
    for (at, instruction) in real_instructions(program) {
        for (rule, what) in check_instruction(*instruction, at, program.instructions.len(), kind) {
            found.push(breach(name, Some(at), rule, what));
        }
    }
    check_ways(program, found);
}

/// Instruction classes and fields, `include/uapi/linux/bpf_common.h` and `bpf.h`.
pub(super) mod code {
    pub(in super::super) const CLASS: u8 = 0x07;
    pub(in super::super) const LD: u8 = 0x00;
    pub(in super::super) const LDX: u8 = 0x01;
    pub(in super::super) const ST: u8 = 0x02;
    pub(in super::super) const STX: u8 = 0x03;
    pub(in super::super) const ALU: u8 = 0x04;
    pub(in super::super) const JMP: u8 = 0x05;
    pub(in super::super) const JMP32: u8 = 0x06;
    pub(in super::super) const MODE: u8 = 0xe0;
    pub(in super::super) const MEM: u8 = 0x60;
    pub(in super::super) const ATOMIC: u8 = 0xc0;
    pub(in super::super) const OPERATION: u8 = 0xf0;
    pub(in super::super) const FROM_REGISTER: u8 = 0x08;
    pub(in super::super) const ARSH: u8 = 0xc0;
    pub(in super::super) const END: u8 = 0xd0;
    pub(in super::super) const JA: u8 = 0x00;
    pub(in super::super) const CALL: u8 = 0x80;
    pub(in super::super) const EXIT: u8 = 0x90;
    pub(in super::super) const LAST_JUMP: u8 = 0xd0;
    pub(in super::super) const LOAD_64: u8 = 0x18;
    /// `BPF_FETCH`: the atomic operation also returns the old value.
    pub(in super::super) const FETCH: i32 = 0x01;
}

/// Instructions without the second places of 64-bit loads, which are data.
fn real_instructions(program: &Program) -> impl Iterator<Item = (usize, &Instruction)> {
    let mut skip = false;
    program.instructions.iter().enumerate().filter(move |(_, instruction)| {
        let second_half = std::mem::replace(&mut skip, false);
        skip = !second_half && instruction.code == code::LOAD_64;
        !second_half
    })
}

pub(super) fn is_helper_call(instruction: Instruction) -> bool {
    instruction.code == code::JMP | code::CALL && instruction.source == 0
}

fn check_instruction(
    instruction: Instruction,
    at: usize,
    length: usize,
    kind: Option<ProgramKind>,
) -> Vec<(Rule, String)> {
    let raw = instruction.code;
    let unknown = |what: &str| vec![(Rule::Instruction, format!("{what} (code {raw:#04x}) is not in 4.14"))];
    match raw & code::CLASS {
        code::LD if raw == code::LOAD_64 => match instruction.source {
            // 0: a number; 1: a map's descriptor, filled in by the loader.
            0 | 1 => Vec::new(),
            2 | 6 => vec![(Rule::GlobalData, "loads the address of a map's value".into())],
            4 => vec![(Rule::FunctionCall, "loads the address of a function".into())],
            _ => unknown("this kind of 64-bit load"),
        },
        code::LD => Vec::new(),
        code::LDX | code::ST if raw & code::MODE != code::MEM => unknown("this way of loading or storing"),
        code::LDX | code::ST => Vec::new(),
        code::STX => check_store(instruction),
        code::JMP32 => unknown("a 32-bit jump"),
        code::JMP => check_jump(instruction, at, length, kind),
        // 32- and 64-bit arithmetic remain.
        class => {
            let operation = raw & code::OPERATION;
            let wide = class != code::ALU;
            if operation > code::END || (operation == code::END && wide) {
                unknown("this arithmetic")
            } else if operation == code::ARSH && !wide {
                // "arsh is not supported in 32 bit alu", `kernel/bpf/verifier.c` until 5.0.
                unknown("a 32-bit arithmetic shift")
            } else if instruction.offset != 0 {
                unknown("signed division or a sign-extending move")
            } else {
                Vec::new()
            }
        }
    }
}

fn check_store(instruction: Instruction) -> Vec<(Rule, String)> {
    match instruction.code & code::MODE {
        code::MEM => Vec::new(),
        code::ATOMIC if instruction.constant == 0 => Vec::new(),
        code::ATOMIC if instruction.constant & code::FETCH != 0 => {
            vec![(Rule::Atomic, format!("fetching atomic operation {:#x}", instruction.constant))]
        }
        code::ATOMIC => {
            vec![(Rule::Atomic, format!("atomic operation {:#x}; 4.14 can only add", instruction.constant))]
        }
        _ => vec![(Rule::Instruction, format!("store of code {:#04x} is not in 4.14", instruction.code))],
    }
}

fn check_jump(
    instruction: Instruction,
    at: usize,
    length: usize,
    kind: Option<ProgramKind>,
) -> Vec<(Rule, String)> {
    match instruction.code & code::OPERATION {
        code::EXIT => Vec::new(),
        code::CALL if instruction.code & code::FROM_REGISTER != 0 => {
            vec![(Rule::FunctionCall, "calls through a register".into())]
        }
        code::CALL if instruction.source != 0 => vec![(Rule::FunctionCall, "calls another function".into())],
        code::CALL => {
            let asked = instruction.constant.cast_unsigned();
            let called = linux::after_loader(asked);
            match kind {
                Some(kind) if !kind.has_helper(called) => {
                    let what =
                        format!("{} is not there for {kind:?} programs in 4.14", linux::helper_name(called));
                    vec![(Rule::Helper, what)]
                }
                _ => Vec::new(),
            }
        }
        operation if operation > code::LAST_JUMP => {
            vec![(Rule::Instruction, format!("jump of code {:#04x} is not in 4.14", instruction.code))]
        }
        _ => match target(instruction, at) {
            Some(target) if target < length => Vec::new(),
            _ => vec![(Rule::JumpOutside, format!("jumps by {} at {at} of {length}", instruction.offset))],
        },
    }
}

/// Where a jump at `at` goes. `None`: to before the program.
pub(super) fn target(instruction: Instruction, at: usize) -> Option<usize> {
    at.checked_add(1)?.checked_add_signed(isize::from(instruction.offset))
}

/// Where the program may go on after the instruction at `at`.
pub(super) fn successors(instruction: Instruction, at: usize) -> [Option<usize>; 2] {
    let next = at.checked_add(1);
    if instruction.code == code::LOAD_64 {
        return [at.checked_add(2), None];
    }
    if instruction.code & code::CLASS != code::JMP {
        return [next, None];
    }
    match instruction.code & code::OPERATION {
        code::EXIT => [None, None],
        code::CALL => [next, None],
        code::JA => [target(instruction, at), None],
        _ => [next, target(instruction, at)],
    }
}

/// Walks every way through the program, as 4.14's `check_cfg` does, for loops and for code that none leads to.
fn check_ways(program: &Program, found: &mut Vec<Breach>) {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        OnTheWay,
        Done,
    }
    let mut marks = vec![Mark::New; program.instructions.len()];
    // Each step is an instruction and which of its successors is next.
    let mut way = vec![(0_usize, 0_usize)];
    while let Some((at, turn)) = way.pop() {
        let (Some(instruction), Some(mark)) = (program.instructions.get(at), marks.get_mut(at)) else {
            continue;
        };
        let Some(successor) = successors(*instruction, at).get(turn).copied() else {
            *mark = Mark::Done;
            continue;
        };
        *mark = Mark::OnTheWay;
        way.push((at, turn.saturating_add(1)));
        let Some(next) = successor else { continue };
        match marks.get(next) {
            Some(Mark::New) => way.push((next, 0)),
            Some(Mark::OnTheWay) => {
                found.push(breach(&program.name, Some(at), Rule::Loop, format!("loops back to {next}")));
            }
            // Outside: reported as such where the jump is looked at.
            Some(Mark::Done) | None => {}
        }
    }
    let unseen = real_instructions(program).find(|(at, _)| marks.get(*at) == Some(&Mark::New));
    if let Some((at, _)) = unseen {
        found.push(breach(&program.name, Some(at), Rule::Unreachable, "no way leads here".into()));
    }
}
