//! Would bionic run this file? Checks a finished Android binary against what its dynamic linker demands and what
//! the project promises, before anybody flashes it.

use std::fmt;
use std::path::Path;

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _, SectionHeader as _, Sym as _};

use crate::error::{Error, Result};
use crate::sysroot::{Bionic, MIN_API};

/// The only dynamic linker 64-bit Android has at a fixed place.
const INTERPRETER: &[u8] = b"/system/bin/linker64";
/// Size budget of the stripped binary, bytes.
const MAX_SIZE: u64 = 4 << 20;
/// Page size of the largest-paged Android kernels, bytes.
const LARGEST_PAGE: u64 = 16 << 10;
/// RELR under its standard tags (gABI): DT_RELRSZ, DT_RELR, DT_RELRENT. Known to bionic from API 30.
const RELR_TAGS: &[u32] = &[35, 36, 37];

type Header = elf::FileHeader64<LE>;

/// What a file that passed looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Bytes.
    pub size: u64,
    /// Imported symbols.
    pub imports: usize,
    /// Libraries it names as needed, in order.
    pub needed: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = self.size.div_ceil(1024);
        write!(f, "ELF check passed: {kib} KiB, {} imports from {}", self.imports, self.needed.join(" "))
    }
}

/// Checks the file at `path`.
///
/// # Errors
/// [`Error::File`] when it cannot be read, [`Error::Check`] with every rule it breaks.
pub fn check_file(path: &Path, bionic: &Bionic) -> Result<Summary> {
    let bytes = std::fs::read(path).map_err(Error::file("read", path))?;
    check(&bytes, bionic).map_err(|broken| {
        Error::Check(format!("{} would not do on Android:\n  {}", path.display(), broken.join("\n  ")))
    })
}

/// Checks a file's bytes.
///
/// # Errors
/// One sentence for each rule it breaks.
pub fn check(bytes: &[u8], bionic: &Bionic) -> std::result::Result<Summary, Vec<String>> {
    let mut broken = Vec::new();
    let size = bytes.len() as u64;
    if size > MAX_SIZE {
        broken.push(format!("it has {size} bytes; the budget is {MAX_SIZE}"));
    }
    let mut summary = Summary { size, imports: 0, needed: Vec::new() };
    if let Err(error) = read(bytes, bionic, &mut broken, &mut summary) {
        broken.push(format!("it is not a readable ELF64 file: {error}"));
    }
    if broken.is_empty() { Ok(summary) } else { Err(broken) }
}

fn read(
    bytes: &[u8],
    bionic: &Bionic,
    broken: &mut Vec<String>,
    summary: &mut Summary,
) -> object::Result<()> {
    let header = Header::parse(bytes)?;
    let endian = header.endian()?;
    if header.e_machine(endian) != elf::EM_AARCH64 {
        broken.push(format!("it is for machine {}, not for arm64 (183)", header.e_machine(endian)));
    }
    if header.e_type(endian) != elf::ET_DYN {
        broken.push("it is not position independent; Android refuses such programs".to_owned());
    }
    segments(header, bytes, broken)?;
    dynamic(header, bytes, bionic, broken, summary)?;
    symbols(header, bytes, bionic, broken, summary)
}

/// What the program headers say: interpreter, thread locals, alignment, protection, the ident note.
fn segments(header: &Header, bytes: &[u8], broken: &mut Vec<String>) -> object::Result<()> {
    let endian = header.endian()?;
    let (mut interpreter, mut ident) = (None, None);
    for segment in header.program_headers(endian, bytes)? {
        let flags = segment.p_flags(endian);
        match segment.p_type(endian) {
            elf::PT_INTERP => interpreter = segment.interpreter(endian, bytes)?,
            elf::PT_TLS if segment.p_memsz(endian) > 0 => broken.push(format!(
                "it has {} bytes of ELF thread locals, which Android 8 and 9 fill with chance",
                segment.p_memsz(endian)
            )),
            elf::PT_LOAD => {
                if segment.p_align(endian) < LARGEST_PAGE {
                    broken.push(format!(
                        "the segment at {:#x} is aligned to {:#x}; kernels with 16 KiB pages refuse it",
                        segment.p_vaddr(endian),
                        segment.p_align(endian)
                    ));
                }
                if flags & elf::PF_W != 0 && flags & elf::PF_X != 0 {
                    broken.push(format!(
                        "the segment at {:#x} is writable and executable",
                        segment.p_vaddr(endian)
                    ));
                }
            }
            elf::PT_GNU_STACK if flags & elf::PF_X != 0 => {
                broken.push("it asks for an executable stack".to_owned());
            }
            elf::PT_NOTE => {
                for note in segment.notes(endian, bytes)?.into_iter().flatten() {
                    let note = note?;
                    if note.name() == b"Android" && note.n_type(endian) == 1 {
                        ident = note.desc().first_chunk::<4>().map(|level| u32::from_le_bytes(*level));
                    }
                }
            }
            _ => {}
        }
    }
    if interpreter != Some(INTERPRETER) {
        let found = interpreter.map_or("none".into(), String::from_utf8_lossy);
        broken.push(format!("its interpreter is {found}, not /system/bin/linker64"));
    }
    match ident {
        None => broken.push("it has no Android ident note".to_owned()),
        Some(api) if api > MIN_API => {
            broken.push(format!("its ident note asks for API {api}; {MIN_API} is served"));
        }
        Some(_) => {}
    }
    Ok(())
}

/// What the dynamic section says: needed libraries, relocation formats, search paths.
fn dynamic(
    header: &Header,
    bytes: &[u8],
    bionic: &Bionic,
    broken: &mut Vec<String>,
    summary: &mut Summary,
) -> object::Result<()> {
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let Some((entries, strings)) = sections.dynamic(endian, bytes)? else {
        broken.push("it has no dynamic section".to_owned());
        return Ok(());
    };
    let strings = sections.strings(endian, bytes, strings)?;
    let mut relr = false;
    for entry in entries {
        let Some(tag) = entry.tag32(endian) else { continue };
        match tag {
            elf::DT_NEEDED => {
                let name = String::from_utf8_lossy(entry.string(endian, strings)?).into_owned();
                if !bionic.has_library(&name) {
                    broken.push(format!("it needs {name}, which is not in the allow-list"));
                }
                summary.needed.push(name);
            }
            elf::DT_TEXTREL => broken.push("it relocates its own code (DT_TEXTREL)".to_owned()),
            elf::DT_RPATH | elf::DT_RUNPATH => {
                broken.push("it carries a library search path".to_owned());
            }
            tag if RELR_TAGS.contains(&tag) => relr = true,
            _ => {}
        }
    }
    if relr {
        broken
            .push("its RELR relocations have the standard tags, which Android knows from API 30".to_owned());
    }
    Ok(())
}

/// What the sections say: imports and their versions, and whether it is stripped.
fn symbols(
    header: &Header,
    bytes: &[u8],
    bionic: &Bionic,
    broken: &mut Vec<String>,
    summary: &mut Summary,
) -> object::Result<()> {
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    for section in sections.iter() {
        let name = sections.section_name(endian, section)?;
        if section.sh_type(endian) == elf::SHT_SYMTAB || name.starts_with(b".debug_") {
            broken.push(format!("it is not stripped: it has {}", String::from_utf8_lossy(name)));
        }
    }
    let imports = sections.symbols(endian, bytes, elf::SHT_DYNSYM)?;
    if imports.is_empty() {
        // The loader could still import by DT_SYMTAB; what cannot be checked does not pass.
        broken.push("it has no dynamic symbol table to check".to_owned());
        return Ok(());
    }
    let versions = sections.versions(endian, bytes)?;
    for (index, symbol) in imports.enumerate() {
        if index.0 == 0 || !symbol.is_undefined(endian) {
            continue;
        }
        summary.imports = summary.imports.saturating_add(1);
        let name = String::from_utf8_lossy(symbol.name(endian, imports.strings())?).into_owned();
        let Some((_, export)) = bionic.find(&name) else {
            broken.push(format!("it imports `{name}`, which is not in the allow-list"));
            continue;
        };
        // Without a version bionic takes its default one, which is the listed one.
        let Some(table) = &versions else { continue };
        let Some(version) = table.version(table.version_index(endian, index))? else { continue };
        if version.name() != export.version.as_bytes() {
            let asked = String::from_utf8_lossy(version.name()).into_owned();
            broken.push(format!("it imports `{name}` as {asked}; bionic has it as {}", export.version));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
