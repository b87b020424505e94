//! Every rule is broken once, in a real ELF object, and must be noticed; an object that breaks none must pass.

use object::write::{Object, Relocation, SectionId, Symbol, SymbolId, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind,
    SymbolScope,
};

use super::object::BpfObject;
use super::rules::{self, Rule};
use super::{complexity, linux_4_14};

/// One instruction place: code, destination and source register, offset, constant.
const fn place(code: u8, registers: u8, offset: i16, constant: i32) -> [u8; 8] {
    let ([o0, o1], [c0, c1, c2, c3]) = (offset.to_le_bytes(), constant.to_le_bytes());
    [code, registers, o0, o1, c0, c1, c2, c3]
}

const RETURN_ZERO: [u8; 8] = place(0xb7, 0, 0, 0);
const EXIT: [u8; 8] = place(0x95, 0, 0, 0);
const LOAD_64: [[u8; 8]; 2] = [place(0x18, 1, 0, 0), [0; 8]];
/// `R_BPF_64_64` and `R_BPF_64_32`, Documentation/bpf/llvm_reloc.rst.
const FILL_IN_LOAD: u32 = 1;
const FILL_IN_CALL: u32 = 10;

const fn helper(id: i32) -> [u8; 8] {
    place(0x85, 0, 0, id)
}

/// Puts an object file together piece by piece.
struct Maker(Object<'static>);

impl Maker {
    fn new() -> Self {
        Self(Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little))
    }

    /// An object whose one program, in `section`, is `body` followed by a proper end.
    fn of(section: &str, body: &[[u8; 8]]) -> Self {
        let mut maker = Self::new();
        maker.program(section, "subject", body);
        maker
    }

    fn section(&mut self, name: &str, kind: SectionKind) -> SectionId {
        self.0.add_section(Vec::new(), name.as_bytes().to_vec(), kind)
    }

    fn symbol(&mut self, section: SectionId, name: &str, kind: SymbolKind, bytes: &[u8]) -> SymbolId {
        let value = self.0.append_section_data(section, bytes, 8);
        self.0.add_symbol(Symbol {
            name: name.as_bytes().to_vec(),
            value,
            size: bytes.len().try_into().unwrap(),
            kind,
            scope: SymbolScope::Dynamic,
            weak: false,
            section: SymbolSection::Section(section),
            flags: SymbolFlags::None,
        })
    }

    fn program(&mut self, section: &str, name: &str, body: &[[u8; 8]]) -> (SectionId, SymbolId) {
        let bytes = [body, &[RETURN_ZERO, EXIT]].concat().concat();
        let section = self.section(section, SectionKind::Text);
        (section, self.symbol(section, name, SymbolKind::Text, &bytes))
    }

    fn map(&mut self, name: &str, kind: u32, value_size: u32, flags: u32) -> SymbolId {
        let section = self.section("maps", SectionKind::Data);
        let words = [kind, 4, value_size, 16, flags, 0, 0];
        self.symbol(section, name, SymbolKind::Data, &words.map(u32::to_le_bytes).concat())
    }

    /// Makes the instruction at `at` of `section` refer to `target`.
    fn refer(&mut self, section: SectionId, at: u64, target: SymbolId, how: u32) {
        let flags = RelocationFlags::Elf { r_type: how };
        let relocation = Relocation { offset: at * 8, symbol: target, addend: 0, flags };
        self.0.add_relocation(section, relocation).unwrap();
    }

    fn read(&self) -> BpfObject {
        BpfObject::parse(&self.0.write().unwrap()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The rules it breaks.
    fn broken(&self) -> Vec<Rule> {
        let mut rules: Vec<Rule> = rules::check(&self.read()).into_iter().map(|breach| breach.rule).collect();
        rules.sort();
        rules.dedup();
        rules
    }
}

fn breaks(section: &str, body: &[[u8; 8]]) -> Vec<Rule> {
    Maker::of(section, body).broken()
}

#[test]
fn an_object_that_keeps_the_rules_passes() {
    let mut maker = Maker::new();
    let body = [&LOAD_64[..], &[helper(14), helper(25), place(0x05, 0, 0, 0), place(0xdb, 0, 0, 0)]].concat();
    let (section, _) = maker.program("uprobe", "subject", &body);
    let ring = maker.map("RING", 4, 4, 0);
    maker.refer(section, 0, ring, FILL_IN_LOAD);
    assert_eq!(maker.broken(), []);
    let object = maker.read();
    assert_eq!(object.programs[0].instructions.len(), 8);
    assert_eq!(Vec::from_iter(rules::helpers(&object.programs[0])), [14, 25]);
    assert_eq!(object.maps[0].name, "RING");
}

#[test]
fn an_empty_object_is_no_success() {
    assert_eq!(Maker::new().broken(), [Rule::NothingToCheck]);
}

#[test]
fn a_program_type_that_4_14_lacks() {
    assert_eq!(breaks("raw_tracepoint/sys_enter", &[]), [Rule::ProgramType]);
    assert_eq!(breaks("fentry/do_exit", &[]), [Rule::ProgramType]);
    assert_eq!(breaks("tracepoint/raw_syscalls/sys_enter", &[]), []);
}

#[test]
fn one_instruction_too_many() {
    let most = linux_4_14::MAX_INSTRUCTIONS - 2;
    assert_eq!(breaks("uprobe", &vec![RETURN_ZERO; most]), []);
    assert_eq!(breaks("uprobe", &vec![RETURN_ZERO; most + 1]), [Rule::Size]);
}

#[test]
fn a_loop() {
    let jump = |offset| place(0x05, 0, offset, 0);
    let jump_if = |offset| place(0x15, 0, offset, 0);
    assert_eq!(breaks("uprobe", &[RETURN_ZERO, jump_if(-2)]), [Rule::Loop]);
    assert_eq!(breaks("uprobe", &[jump_if(-1)]), [Rule::Loop], "to itself");
    assert_eq!(
        breaks("uprobe", &[RETURN_ZERO, jump_if(1), jump_if(-3), RETURN_ZERO]),
        [Rule::Loop],
        "in a branch"
    );
    assert_eq!(breaks("uprobe", &[jump(2), RETURN_ZERO, EXIT, jump_if(-3)]), [], "back, but not in a circle");
}

#[test]
fn code_that_no_way_leads_to() {
    assert_eq!(breaks("uprobe", &[place(0x05, 0, 1, 0), RETURN_ZERO]), [Rule::Unreachable]);
}

#[test]
fn a_jump_out_of_the_program() {
    assert_eq!(breaks("uprobe", &[RETURN_ZERO, place(0x15, 0, 1, 0)]), []);
    assert_eq!(breaks("uprobe", &[RETURN_ZERO, place(0x15, 0, 2, 0)]), [Rule::JumpOutside]);
    assert_eq!(breaks("uprobe", &[RETURN_ZERO, place(0x15, 0, -3, 0)]), [Rule::JumpOutside]);
}

#[test]
fn a_call_of_another_function() {
    assert_eq!(breaks("uprobe", &[place(0x85, 0x10, 0, 1)]), [Rule::FunctionCall], "BPF to BPF");
    assert_eq!(breaks("uprobe", &[place(0x85, 0x20, 0, 1)]), [Rule::FunctionCall], "kernel function");
    assert_eq!(breaks("uprobe", &[place(0x8d, 0, 0, 1)]), [Rule::FunctionCall], "through a register");
    let mut maker = Maker::new();
    let (section, _) = maker.program("uprobe", "subject", &[place(0x85, 0x10, 0, -1)]);
    let (_, callee) = maker.program(".text", "memcpy", &[]);
    maker.refer(section, 0, callee, FILL_IN_CALL);
    assert_eq!(maker.broken(), [Rule::FunctionCall]);
    let named = rules::check(&maker.read()).iter().any(|breach| breach.to_string().contains("memcpy"));
    assert!(named, "the callee's name helps to find the call");
}

#[test]
fn a_helper_that_4_14_lacks_or_has_for_others_only() {
    assert_eq!(breaks("uprobe", &[helper(181)]), [Rule::Helper], "bpf_loop");
    assert_eq!(breaks("uprobe", &[helper(130)]), [Rule::Helper], "bpf_ringbuf_output");
    assert_eq!(breaks("uprobe", &[helper(47)]), [Rule::Helper], "bpf_get_socket_uid");
    assert_eq!(breaks("classifier", &[helper(47)]), []);
    assert_eq!(breaks("cgroup_skb/egress", &[helper(25)]), [Rule::Helper], "bpf_perf_event_output");
}

#[test]
fn helpers_are_judged_after_the_loader_has_replaced_them() {
    assert_eq!(breaks("uprobe", &[helper(112), helper(113), helper(114), helper(115)]), []);
    assert_eq!(
        breaks("classifier", &[helper(112)]),
        [Rule::Helper],
        "packets have no probe_read to fall back to"
    );
    let object = Maker::of("uprobe", &[helper(112), helper(114)]).read();
    assert_eq!(Vec::from_iter(rules::helpers(&object.programs[0])), [4, 45]);
}

#[test]
fn a_map_that_4_14_lacks_or_refuses() {
    let with_map = |section: &str, kind, size, flags| {
        let mut maker = Maker::new();
        let (section, _) = maker.program(section, "subject", &LOAD_64);
        let map = maker.map("MAP", kind, size, flags);
        maker.refer(section, 0, map, FILL_IN_LOAD);
        maker.broken()
    };
    assert_eq!(with_map("uprobe", 27, 0, 0), [Rule::MapType], "ring buffer");
    assert_eq!(with_map("uprobe", 1, 8, 1 << 7), [Rule::MapType], "read-only flag");
    assert_eq!(with_map("uprobe", 6, 32 * 1024 + 1, 0), [Rule::MapType], "per-CPU value too large");
    assert_eq!(with_map("uprobe", 6, 32 * 1024, 0), []);
    assert_eq!(with_map("uprobe", 1, 8, 1), []);
    assert_eq!(with_map("perf_event", 1, 8, 1), [Rule::MapType], "not preallocated");
}

#[test]
fn maps_in_a_form_the_check_cannot_read() {
    let mut maker = Maker::of("uprobe", &[]);
    let section = maker.section(".maps", SectionKind::Data);
    maker.symbol(section, "MAP", SymbolKind::Data, &[0; 32]);
    assert_eq!(maker.broken(), [Rule::MapType]);
}

#[test]
fn global_data() {
    for data in [".rodata", ".rodata.str1.1", ".data", ".bss"] {
        let mut maker = Maker::new();
        let (section, _) = maker.program("uprobe", "subject", &LOAD_64);
        let kind = if data == ".bss" { SectionKind::UninitializedData } else { SectionKind::Data };
        let data_section = maker.section(data, kind);
        let symbol = if data == ".bss" {
            maker.0.append_section_bss(data_section, 8, 8);
            maker.0.section_symbol(data_section)
        } else {
            maker.symbol(data_section, "GLOBAL", SymbolKind::Data, &[1; 8])
        };
        maker.refer(section, 0, symbol, FILL_IN_LOAD);
        assert_eq!(maker.broken(), [Rule::GlobalData], "{data}");
    }
    assert_eq!(
        breaks("uprobe", &[place(0x18, 0x21, 0, 0), [0; 8]]),
        [Rule::GlobalData],
        "address of a map's value"
    );
}

#[test]
fn instructions_of_later_kernels() {
    let later: [([u8; 8], &str); 9] = [
        (place(0x16, 0, 0, 0), "32-bit jump"),
        (place(0x06, 0, 0, 0), "long jump"),
        (place(0x91, 0, 0, 0), "sign-extending load"),
        (place(0xd7, 0, 0, 16), "unconditional byte swap"),
        (place(0x37, 0, 1, 2), "signed division"),
        (place(0xbf, 0, 8, 0), "sign-extending move"),
        (place(0xc4, 0, 0, 1), "32-bit arithmetic shift"),
        (place(0xe5, 0, 0, 0), "may_goto"),
        (place(0x18, 0x31, 0, 0), "address of a kernel variable"),
    ];
    for (instruction, what) in later {
        let body = if instruction[0] == 0x18 { vec![instruction, [0; 8]] } else { vec![instruction] };
        assert_eq!(breaks("uprobe", &body), [Rule::Instruction], "{what}");
    }
    assert_eq!(breaks("uprobe", &[place(0xa5, 0, 0, 0), place(0xdc, 0, 0, 16), place(0xc7, 0, 0, 1)]), []);
}

#[test]
fn atomics_other_than_a_plain_add() {
    assert_eq!(breaks("uprobe", &[place(0xdb, 0, 0, 0)]), []);
    assert_eq!(breaks("uprobe", &[place(0xdb, 0, 0, 0x01)]), [Rule::Atomic], "fetch and add");
    assert_eq!(breaks("uprobe", &[place(0xdb, 0, 0, 0xe1)]), [Rule::Atomic], "exchange");
    assert_eq!(breaks("uprobe", &[place(0xdb, 0, 0, 0xf1)]), [Rule::Atomic], "compare and exchange");
    assert_eq!(breaks("uprobe", &[place(0xdb, 0, 0, 0x50)]), [Rule::Atomic], "and");
}

#[test]
fn the_second_half_of_a_64_bit_load_is_no_instruction() {
    // Its bytes would read as a jump backwards.
    assert_eq!(breaks("uprobe", &[place(0x18, 0, 0, 7), [0x05, 0, 0xff, 0xff, 0, 0, 0, 0]]), []);
}

#[test]
fn a_verifier_that_walks_too_far_or_was_not_asked() {
    let object = Maker::of("uprobe", &[]).read();
    let counted = |count| complexity(&object, &[("subject".to_owned(), count)].into(), true).len();
    assert_eq!((counted(30_000), counted(30_001)), (0, 1));
    assert_eq!(complexity(&object, &[].into(), true).len(), 1, "no count for a program");
    assert_eq!(complexity(&object, &[].into(), false).len(), 0, "no root: said elsewhere");
}

#[test]
fn damaged_files_are_refused_and_never_panic() {
    let whole = Maker::of("uprobe", &[helper(14)]).0.write().unwrap();
    for length in 0..whole.len() {
        if let Ok(object) = BpfObject::parse(&whole[..length]) {
            rules::check(&object);
        }
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        if let Ok(object) = BpfObject::parse(&damaged) {
            rules::check(&object);
        }
    }
    assert!(BpfObject::parse(b"\x7fELF").is_err());
}
