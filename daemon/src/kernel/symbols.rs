//! Finds functions in an ELF library: exported name → offset in the file, which is what uprobes want.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, fs::File};

use super::libraries::Part;
use memchr::memmem;
use object::{
    Endianness,
    elf::{FileHeader32, FileHeader64, PT_LOAD, SHN_UNDEF, STT_FUNC},
    read::{
        ReadCache, ReadRef,
        elf::{FileHeader, ProgramHeader, SectionHeader, Sym},
    },
};

/// What was found in one file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Functions {
    /// Of the names asked for, those defined here, with their file offsets.
    At(BTreeMap<&'static str, u64>),
    /// Nothing can be hooked: not ELF, or not of this machine's word size.
    Other(&'static str),
}

/// Looks up `names` in the dynamic and the full symbol table. Where `needed` is not among a table's names, the table is
/// not read any further.
pub(super) fn find(file: &File, part: Part, needed: &str, names: &[&'static str]) -> Functions {
    let cache = ReadCache::new(file);
    let bytes = cache.range(part.offset, part.length);
    // Malformed tables are treated as absent: a file that its own loader reads otherwise is no library to us.
    match read::<FileHeader64<Endianness>, _>(bytes, needed, names) {
        Some(mut found) => {
            found.values_mut().for_each(|offset| *offset = offset.saturating_add(part.offset));
            Functions::At(found)
        }
        None => Functions::Other("not a 64-bit ELF file"),
    }
}

/// Whether this is a library of 32-bit processes that has `name`: nothing of it can be hooked here, but it can be named.
pub(super) fn is_32_bit_with(file: &File, part: Part, name: &'static str) -> bool {
    let cache = ReadCache::new(file);
    read::<FileHeader32<Endianness>, _>(cache.range(part.offset, part.length), name, &[name])
        .is_some_and(|found| found.contains_key(name))
}

fn read<'a, H: FileHeader<Endian = Endianness>, R: ReadRef<'a>>(
    data: R,
    needed: &str,
    names: &[&'static str],
) -> Option<BTreeMap<&'static str, u64>> {
    let header = H::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, data).ok()?;
    let sections = header.sections(endian, data).ok()?;
    let mut found = BTreeMap::new();
    for section in sections.iter() {
        let kind = section.sh_type(endian);
        if kind != object::elf::SHT_DYNSYM && kind != object::elf::SHT_SYMTAB {
            continue;
        }
        // Most files hold none of the names: a look at the text of all names is quicker than one at each symbol.
        let strings = sections.section(object::SectionIndex(section.sh_link(endian) as usize)).ok()?;
        let strings = strings.data(endian, data).ok()?;
        if memmem::find(strings, needed.as_bytes()).is_none() {
            continue;
        }
        let Ok(Some(symbols)) = section.symbols(endian, data, &sections, object::SectionIndex(0)) else {
            continue;
        };
        for symbol in symbols.iter() {
            if symbol.st_shndx(endian) == SHN_UNDEF || symbol.st_type() != STT_FUNC {
                continue;
            }
            let Ok(name) = symbol.name(endian, symbols.strings()) else { continue };
            let Some(name) = names.iter().find(|wanted| wanted.as_bytes() == name) else { continue };
            let address: u64 = symbol.st_value(endian).into();
            let offset = segments.iter().find_map(|segment| {
                let into = address.checked_sub(segment.p_vaddr(endian).into())?;
                let inside = segment.p_type(endian) == PT_LOAD && into < segment.p_filesz(endian).into();
                if inside { segment.p_offset(endian).into().checked_add(into) } else { None }
            });
            if let Some(offset) = offset {
                found.entry(*name).or_insert(offset);
            }
        }
    }
    Some(found)
}
