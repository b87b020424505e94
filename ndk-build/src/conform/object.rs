//! Reads a BPF object file: its programs, what they refer to, and its maps. No judgement, no I/O.

use std::fmt;

use object::read::elf::{ElfFile64, ElfSection64};
use object::{
    LittleEndian, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind,
};

/// What lies in an object file.
#[derive(Debug, Default)]
pub struct BpfObject {
    /// Its programs, in the order of the file.
    pub programs: Vec<Program>,
    /// Its maps.
    pub maps: Vec<Map>,
    /// Sections that become maps of global data when the object is loaded, and are not empty.
    pub data_sections: Vec<String>,
    /// Whether it describes its maps in BTF form, which this reader does not decode.
    pub has_btf_maps: bool,
}

/// One program.
#[derive(Debug)]
pub struct Program {
    /// The function's name.
    pub name: String,
    /// The section it lies in; a loader reads the program's type from it.
    pub section: String,
    /// Its instructions; a 64-bit load takes two places.
    pub instructions: Vec<Instruction>,
    /// Places the loader fills in: index of the instruction, and what it refers to.
    pub references: Vec<(usize, Reference)>,
}

/// One eight-byte instruction place (`struct bpf_insn`, `include/uapi/linux/bpf.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation and class.
    pub code: u8,
    /// Destination register.
    pub destination: u8,
    /// Source register; for some operations a flag.
    pub source: u8,
    /// Jump distance or memory offset.
    pub offset: i16,
    /// Constant.
    pub constant: i32,
}

/// What an instruction refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A map, by name.
    Map(String),
    /// Global data, by section.
    Data(String),
    /// A function, by name.
    Function(String),
}

/// One map (`struct bpf_map_def`, the form without BTF).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// Its name.
    pub name: String,
    /// `enum bpf_map_type`.
    pub kind: u32,
    /// Bytes in one key.
    pub key_size: u32,
    /// Bytes in one value.
    pub value_size: u32,
    /// `BPF_F_*`.
    pub flags: u32,
}

/// The file is no BPF object, or damaged.
#[derive(Debug)]
pub struct BadObject(String);

impl fmt::Display for BadObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a BPF object that can be read: {}", self.0)
    }
}

impl From<object::Error> for BadObject {
    fn from(error: object::Error) -> Self {
        Self(error.to_string())
    }
}

type File<'a> = ElfFile64<'a, LittleEndian>;
type Section<'a, 'f> = ElfSection64<'a, 'f, LittleEndian>;

impl BpfObject {
    /// Reads an object file's bytes.
    ///
    /// # Errors
    /// [`BadObject`] when the bytes are no little-endian 64-bit ELF file, or a program's symbol lies outside its section.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadObject> {
        let file = File::parse(bytes)?;
        let mut object = Self::default();
        for section in file.sections() {
            let name = section.name()?;
            if name == ".maps" {
                object.has_btf_maps = true;
            } else if name == "maps" || name.starts_with("maps/") {
                object.maps.extend(maps(&file, &section)?);
            } else if is_data(name) && section.size() > 0 {
                object.data_sections.push(name.to_owned());
            } else if section.kind() == object::SectionKind::Text && name != ".text" {
                // What lies in .text is no program but functions for programs to call.
                object.programs.extend(programs(&file, &section, name)?);
            }
        }
        Ok(object)
    }
}

/// Section names that loaders turn into maps of global data.
fn is_data(name: &str) -> bool {
    [".rodata", ".data", ".bss"].iter().any(|prefix| name.starts_with(prefix))
}

fn maps(file: &File<'_>, section: &Section<'_, '_>) -> Result<Vec<Map>, BadObject> {
    let data = section.data()?;
    let mut maps = Vec::new();
    for symbol in file.symbols().filter(|symbol| symbol.section_index() == Some(section.index())) {
        if symbol.kind() == SymbolKind::Section {
            continue;
        }
        let name = symbol.name()?.to_owned();
        let start = usize::try_from(symbol.address()).unwrap_or(usize::MAX);
        // type, key_size, value_size, max_entries, map_flags: five 32-bit words.
        let words = data
            .get(start..)
            .and_then(|rest| rest.first_chunk::<20>())
            .ok_or_else(|| BadObject(format!("map {name} is cut short")))?;
        let mut word = words.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
        let (Some(kind), Some(key_size), Some(value_size), Some(_entries), Some(flags)) =
            (word.next(), word.next(), word.next(), word.next(), word.next())
        else {
            return Err(BadObject(format!("map {name} is cut short")));
        };
        maps.push(Map { name, kind, key_size, value_size, flags });
    }
    Ok(maps)
}

fn programs(
    file: &File<'_>,
    section: &Section<'_, '_>,
    section_name: &str,
) -> Result<Vec<Program>, BadObject> {
    let data = section.data()?;
    let mut programs = Vec::new();
    for symbol in file.symbols() {
        if symbol.section_index() != Some(section.index()) || symbol.kind() != SymbolKind::Text {
            continue;
        }
        let name = symbol.name()?.to_owned();
        let (start, end) = (symbol.address(), symbol.address().saturating_add(symbol.size()));
        let code = usize::try_from(start)
            .ok()
            .zip(usize::try_from(end).ok())
            .and_then(|(start, end)| data.get(start..end))
            .ok_or_else(|| BadObject(format!("function {name} lies outside {section_name}")))?;
        let (places, rest) = code.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(BadObject(format!("function {name} ends within an instruction")));
        }
        let instructions = places.iter().map(|place| Instruction::decode(*place)).collect();
        let mut references = Vec::new();
        for (at, relocation) in section.relocations() {
            let RelocationTarget::Symbol(target) = relocation.target() else { continue };
            if !(start..end).contains(&at) {
                continue;
            }
            let place = usize::try_from(at.saturating_sub(start) / 8).unwrap_or(usize::MAX);
            references.push((place, reference(file, target)?));
        }
        programs.push(Program { name, section: section_name.to_owned(), instructions, references });
    }
    Ok(programs)
}

/// What the symbol of a relocation stands for.
fn reference(file: &File<'_>, index: object::SymbolIndex) -> Result<Reference, BadObject> {
    let symbol = file.symbol_by_index(index)?;
    let name = symbol.name().unwrap_or_default().to_owned();
    let Some(section) = symbol.section_index() else { return Ok(Reference::Function(name)) };
    let section = file.section_by_index(section)?;
    let section_name = section.name()?;
    Ok(if section_name == ".maps" || section_name == "maps" || section_name.starts_with("maps/") {
        Reference::Map(name)
    } else if section.kind() == object::SectionKind::Text {
        Reference::Function(if name.is_empty() { section_name.to_owned() } else { name })
    } else {
        Reference::Data(section_name.to_owned())
    })
}

impl Instruction {
    /// Decodes one place: code, registers (source in the upper half), offset, constant; all little-endian.
    pub fn decode([code, registers, offset_low, offset_high, constant @ ..]: [u8; 8]) -> Self {
        Self {
            code,
            destination: registers & 0xf,
            source: registers >> 4,
            offset: i16::from_le_bytes([offset_low, offset_high]),
            constant: i32::from_le_bytes(constant),
        }
    }
}
