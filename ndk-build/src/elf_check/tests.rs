//! A composed ELF file that passes, and for each rule the same file with that one thing wrong.

use super::*;

const LOAD_ALIGN: u64 = 0x4000;

/// What a composed file says; `Default` passes the check.
struct Spec {
    kind: u16,
    machine: u16,
    interpreter: &'static str,
    needed: Vec<&'static str>,
    imports: Vec<&'static str>,
    version: &'static str,
    dynamic: Vec<u64>,
    tls: Option<u64>,
    align: u64,
    load_flags: u32,
    stack_flags: u32,
    ident: Option<u32>,
    symtab: bool,
    dynsym: bool,
    padding: usize,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            kind: elf::ET_DYN,
            machine: elf::EM_AARCH64,
            interpreter: "/system/bin/linker64",
            needed: vec!["libc.so", "liblog.so"],
            imports: vec!["malloc", "open"],
            version: "LIBC",
            dynamic: vec![],
            tls: None,
            align: LOAD_ALIGN,
            load_flags: elf::PF_R | elf::PF_X,
            stack_flags: elf::PF_R | elf::PF_W,
            ident: Some(28),
            symtab: false,
            dynsym: true,
            padding: 0,
        }
    }
}

/// Appends strings and says where they begin.
struct Strings(Vec<u8>);

impl Strings {
    fn add(&mut self, text: &str) -> u32 {
        let at = self.0.len() as u32;
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        at
    }
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn halves(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

impl Spec {
    fn bytes(&self) -> Vec<u8> {
        let mut names = Strings(vec![0]);
        let mut dynamic = Vec::new();
        for needed in &self.needed {
            dynamic.extend([u64::from(elf::DT_NEEDED), u64::from(names.add(needed))]);
        }
        for tag in &self.dynamic {
            dynamic.extend([*tag, 0]);
        }
        dynamic.extend([0, 0]);

        // Elf64_Sym: name, info (STB_GLOBAL | STT_FUNC), other, shndx, value, size. The first is null.
        let mut dynsym = vec![0_u8; 24];
        let mut versym = vec![0_u8; 2];
        for import in &self.imports {
            dynsym.extend(names.add(import).to_le_bytes());
            dynsym.extend([0x12, 0, 0, 0]);
            dynsym.extend([0; 16]);
            versym.extend(2_u16.to_le_bytes());
        }
        // One Elf64_Verneed (version 1, one entry, file, offset of the entry, end) and its Elf64_Vernaux with index 2.
        let (file, version) = (names.add("libc.so"), names.add(self.version));
        let mut verneed = halves(&[1 | 1 << 16, file, 16, 0]);
        verneed.extend(halves(&[elf::hash(self.version.as_bytes()), 2 << 16, version, 0]));

        let mut body = Vec::new();
        let base = 64 + 56 * 6;
        let mut place = |bytes: &[u8]| {
            body.resize(body.len().next_multiple_of(8), 0);
            let at = base + body.len() as u64;
            body.extend_from_slice(bytes);
            (at, bytes.len() as u64)
        };
        let interpreter = place(&[self.interpreter.as_bytes(), b"\0"].concat());
        let note = self.ident.map(|api| {
            let note = [halves(&[8, 4, 1]), b"Android\0".to_vec(), halves(&[api])].concat();
            place(&note)
        });
        let dynamic = place(&words(&dynamic));
        let sections = [
            (".dynstr", elf::SHT_STRTAB, 0, place(&names.0)),
            (".dynsym", if self.dynsym { elf::SHT_DYNSYM } else { elf::SHT_PROGBITS }, 1, place(&dynsym)),
            (".dynamic", elf::SHT_DYNAMIC, 1, dynamic),
            (".gnu.version", elf::SHT_GNU_VERSYM, 2, place(&versym)),
            (".gnu.version_r", elf::SHT_GNU_VERNEED, 1, place(&verneed)),
            (".symtab", if self.symtab { elf::SHT_SYMTAB } else { elf::SHT_PROGBITS }, 1, place(&[0; 24])),
        ];
        let mut section_names = Strings(vec![0]);
        let mut headers = vec![0_u8; 64];
        for (name, kind, link, (at, size)) in sections {
            // Elf64_Shdr: name, type, flags, addr, offset, size, link, info, addralign, entsize.
            headers.extend(halves(&[section_names.add(name), kind]));
            headers.extend(words(&[0, 0, at, size]));
            headers.extend(halves(&[link, u32::from(kind == elf::SHT_GNU_VERNEED)]));
            let entry = match kind {
                elf::SHT_DYNSYM | elf::SHT_SYMTAB => 24,
                elf::SHT_DYNAMIC => 16,
                _ => 0,
            };
            headers.extend(words(&[8, entry]));
        }
        let name = section_names.add(".shstrtab");
        let (at, size) = place(&section_names.0);
        headers.extend(halves(&[name, elf::SHT_STRTAB]));
        headers.extend(words(&[0, 0, at, size, 0, 1, 0]));
        let (section_headers, _) = place(&headers);
        body.resize(body.len() + self.padding, 0);

        // Elf64_Phdr: type and flags, offset, vaddr, paddr, filesz, memsz, align.
        let segment = |kind: u32, flags: u32, (at, size): (u64, u64), align: u64| {
            [halves(&[kind, flags]), words(&[at, at, at, size, size, align])].concat()
        };
        let segments = [
            segment(elf::PT_INTERP, elf::PF_R, interpreter, 1),
            segment(elf::PT_LOAD, self.load_flags, (0, 64), self.align),
            segment(elf::PT_DYNAMIC, elf::PF_R, dynamic, 8),
            segment(elf::PT_GNU_STACK, self.stack_flags, (0, 0), 16),
            segment(elf::PT_TLS, elf::PF_R, (0, self.tls.unwrap_or(0)), 8),
            note.map_or_else(
                || segment(elf::PT_NULL, 0, (0, 0), 4),
                |note| segment(elf::PT_NOTE, elf::PF_R, note, 4),
            ),
        ];
        // Elf64_Ehdr.
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend(halves(&[u32::from(self.kind) | u32::from(self.machine) << 16, 1]));
        file.extend(words(&[0, 64, section_headers]));
        file.extend(halves(&[0]));
        for half in [64_u16, 56, 6, 64, 8, 7] {
            file.extend(half.to_le_bytes());
        }
        file.extend(segments.concat());
        file.extend(body);
        file
    }
}

fn verdict(spec: Spec) -> std::result::Result<Summary, Vec<String>> {
    check(&spec.bytes(), &Bionic::allowed().unwrap())
}

/// The one rule `spec` breaks, which must be the one that `words` are about.
#[track_caller]
fn breaks(spec: Spec, words: &str) {
    let broken = verdict(spec).expect_err("the check must refuse this file");
    assert!(matches!(&*broken, [one] if one.contains(words)), "{broken:?} should be one, about: {words}");
}

#[test]
fn a_good_file_passes_and_is_summed_up() {
    let summary = verdict(Spec::default()).unwrap();
    assert_eq!(summary.imports, 2);
    assert_eq!(summary.needed, ["libc.so", "liblog.so"]);
    assert!(summary.to_string().ends_with("2 imports from libc.so liblog.so"), "{summary}");
}

#[test]
fn another_machine() {
    breaks(Spec { machine: elf::EM_X86_64, ..Spec::default() }, "machine 62");
}

#[test]
fn a_position_dependent_program() {
    breaks(Spec { kind: elf::ET_EXEC, ..Spec::default() }, "not position independent");
}

#[test]
fn a_linux_interpreter() {
    breaks(
        Spec { interpreter: "/lib/ld-linux-aarch64.so.1", ..Spec::default() },
        "interpreter is /lib/ld-linux",
    );
}

#[test]
fn a_library_android_does_not_have() {
    breaks(Spec { needed: vec!["libc.so", "libgcc_s.so.1"], ..Spec::default() }, "needs libgcc_s.so.1");
}

#[test]
fn an_import_outside_the_list() {
    breaks(Spec { imports: vec!["malloc", "memfd_create"], ..Spec::default() }, "imports `memfd_create`");
}

#[test]
fn an_import_under_another_version() {
    breaks(Spec { imports: vec!["malloc"], version: "LIBC_R", ..Spec::default() }, "`malloc` as LIBC_R");
}

#[test]
fn elf_thread_locals() {
    breaks(Spec { tls: Some(8), ..Spec::default() }, "8 bytes of ELF thread locals");
}

#[test]
fn relr_under_the_standard_tags_only() {
    breaks(Spec { dynamic: vec![36, 35, 37], ..Spec::default() }, "RELR");
    // DT_ANDROID_RELR, DT_ANDROID_RELRSZ, DT_ANDROID_RELRENT (bionic, libc/include/elf.h).
    verdict(Spec { dynamic: vec![0x6fff_e000, 0x6fff_e001, 0x6fff_e003], ..Spec::default() }).unwrap();
}

#[test]
fn text_relocations_and_search_paths() {
    breaks(Spec { dynamic: vec![u64::from(elf::DT_TEXTREL)], ..Spec::default() }, "DT_TEXTREL");
    breaks(Spec { dynamic: vec![u64::from(elf::DT_RUNPATH)], ..Spec::default() }, "search path");
}

#[test]
fn four_kib_alignment() {
    breaks(Spec { align: 0x1000, ..Spec::default() }, "aligned to 0x1000");
}

#[test]
fn writable_code_and_executable_stack() {
    breaks(
        Spec { load_flags: elf::PF_R | elf::PF_W | elf::PF_X, ..Spec::default() },
        "writable and executable",
    );
    breaks(Spec { stack_flags: elf::PF_R | elf::PF_W | elf::PF_X, ..Spec::default() }, "executable stack");
}

#[test]
fn no_ident_note_or_one_of_a_newer_android() {
    breaks(Spec { ident: None, ..Spec::default() }, "no Android ident note");
    breaks(Spec { ident: Some(30), ..Spec::default() }, "asks for API 30");
}

#[test]
fn symbols_left_in() {
    breaks(Spec { symtab: true, ..Spec::default() }, "not stripped: it has .symtab");
}

#[test]
fn nothing_to_check_is_no_pass() {
    breaks(Spec { dynsym: false, ..Spec::default() }, "no dynamic symbol table");
}

#[test]
fn over_the_size_budget() {
    breaks(Spec { padding: 4 << 20, ..Spec::default() }, "the budget is 4194304");
}

#[test]
fn no_cut_file_passes_or_panics() {
    let whole = Spec::default().bytes();
    let bionic = Bionic::allowed().unwrap();
    for length in 0..whole.len() {
        assert!(check(&whole[..length], &bionic).is_err(), "{length} of {} bytes passed", whole.len());
    }
}
