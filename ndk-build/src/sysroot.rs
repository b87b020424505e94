//! A sysroot for `aarch64-linux-android` made on the spot: link stubs for bionic, start code and an unwinder.
//!
//! Linking a dynamic program needs from a C library only its names and symbol versions. `data/bionic.toml` lists
//! the ones Telltale may use; each library there becomes an empty shared object that offers exactly those. The
//! start code and unwinder are the crate in `ndk-build/sysroot/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use object::write::{Object, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};

use crate::context::{self, Context};
use crate::error::{Error, Result};
use crate::run::Run;

/// The oldest Android served: 9, what the Redmi Note 8 shipped with.
pub const MIN_API: u32 = 28;

/// The text of `data/bionic.toml`; embedded, because the check on a finished binary must never use another list
/// than the stubs it was linked against.
const ALLOW_LIST: &str = include_str!("../data/bionic.toml");

/// One name bionic exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Symbol version, such as `LIBC_P`.
    pub version: String,
    /// First API level that has it on arm64.
    pub api: u32,
    /// Data rather than a function.
    pub object: bool,
}

/// What a binary may import: library name (`libc.so`) → symbol → what bionic says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bionic {
    libraries: BTreeMap<String, BTreeMap<String, Export>>,
}

impl Bionic {
    /// The allow-list of this clone.
    ///
    /// # Errors
    /// [`Error::Check`] naming the row that does not parse or that Android 9 does not have.
    pub fn allowed() -> Result<Self> {
        Self::parse(ALLOW_LIST)
    }

    fn parse(text: &str) -> Result<Self> {
        let bad = |what: String| Error::Check(format!("ndk-build/data/bionic.toml: {what}"));
        let table: toml::Table = text.parse().map_err(|error| bad(format!("{error}")))?;
        let mut libraries = BTreeMap::new();
        for (soname, rows) in table {
            let rows = rows.as_table().ok_or_else(|| bad(format!("`{soname}` is not a table")))?;
            let mut exports = BTreeMap::new();
            for (name, row) in rows {
                let export = Export::parse(row)
                    .ok_or_else(|| bad(format!("`{soname}`: `{name}` lacks version or api")))?;
                if export.api > MIN_API {
                    return Err(bad(format!(
                        "`{name}` appeared in API {}, and API {MIN_API} is served",
                        export.api
                    )));
                }
                exports.insert(name.clone(), export);
            }
            libraries.insert(soname, exports);
        }
        Ok(Self { libraries })
    }

    /// The library and row of a symbol.
    pub fn find(&self, symbol: &str) -> Option<(&str, &Export)> {
        self.libraries.iter().find_map(|(soname, exports)| Some((soname.as_str(), exports.get(symbol)?)))
    }

    /// Whether a binary may name this library as needed.
    pub fn has_library(&self, soname: &str) -> bool {
        self.libraries.contains_key(soname)
    }
}

impl Export {
    fn parse(row: &toml::Value) -> Option<Self> {
        Some(Self {
            version: row.get("version")?.as_str()?.to_owned(),
            api: row.get("api")?.as_integer()?.try_into().ok()?,
            object: row.get("object").and_then(toml::Value::as_bool).unwrap_or(false),
        })
    }
}

/// Makes the link stubs in `dir`, one shared object per library of the allow-list, with `linker` (ld.lld).
///
/// # Errors
/// [`Error::File`] when `dir` cannot be written, [`Error::Failed`] with the linker's words.
pub fn write_stubs(bionic: &Bionic, linker: &Path, dir: &Path) -> Result<()> {
    context::create_dir(dir)?;
    for (soname, exports) in &bionic.libraries {
        let object = dir.join(format!("{soname}.o"));
        let script = dir.join(format!("{soname}.map"));
        context::write(&object, stub_object(exports)?)?;
        context::write(&script, version_script(exports))?;
        Run::new(linker)
            .args(["-shared", "--hash-style=both", "-soname", soname])
            .arg(format!("--version-script={}", script.display()))
            .arg("-o")
            .arg(dir.join(soname))
            .arg(&object)
            .output()?;
        for path in [object, script] {
            fs::remove_file(&path).map_err(Error::file("remove", path))?;
        }
    }
    Ok(())
}

/// A relocatable object that defines every name, with nothing behind it.
fn stub_object(exports: &BTreeMap<String, Export>) -> Result<Vec<u8>> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Aarch64, Endianness::Little);
    let text = object.add_section(Vec::new(), b".text".to_vec(), SectionKind::Text);
    let data = object.add_section(Vec::new(), b".data".to_vec(), SectionKind::Data);
    object.set_section_data(text, vec![0; 4], 4);
    object.set_section_data(data, vec![0; 8], 8);
    for (name, export) in exports {
        let (kind, section, size) =
            if export.object { (SymbolKind::Data, data, 8) } else { (SymbolKind::Text, text, 0) };
        object.add_symbol(Symbol {
            name: name.clone().into_bytes(),
            value: 0,
            size,
            kind,
            scope: SymbolScope::Dynamic,
            weak: false,
            section: SymbolSection::Section(section),
            flags: SymbolFlags::None,
        });
    }
    object.write().map_err(|error| Error::Check(format!("cannot write a link stub: {error}")))
}

/// The linker script that gives each name its symbol version; later versions inherit from earlier ones.
fn version_script(exports: &BTreeMap<String, Export>) -> String {
    let mut versions: BTreeMap<(u32, &str), Vec<&str>> = BTreeMap::new();
    let mut first_api: BTreeMap<&str, u32> = BTreeMap::new();
    for export in exports.values() {
        let api = first_api.entry(&export.version).or_insert(export.api);
        *api = (*api).min(export.api);
    }
    for (name, export) in exports {
        let api = first_api.get(export.version.as_str()).copied().unwrap_or(export.api);
        versions.entry((api, &export.version)).or_default().push(name);
    }
    let mut script = String::new();
    let mut parent = "";
    for ((_, version), names) in &versions {
        let rest = if parent.is_empty() { " local: *;" } else { "" };
        script.push_str(&format!("{version} {{ global: {};{rest} }} {parent};\n", names.join("; ")));
        parent = version;
    }
    script
}

/// Compiles start code and unwinder into `libunwind.a` and gives the directory it lies in. `cargo` is the cargo
/// that will compile the daemon, so that both come from one compiler.
///
/// # Errors
/// [`Error::Failed`] when the compiler refuses.
pub fn build_start(ctx: &Context, cargo: Run) -> Result<PathBuf> {
    let target = ctx.target.join("android-sysroot");
    cargo
        .dir(ctx.root.join("ndk-build/sysroot"))
        .env("CARGO_TARGET_DIR", &target)
        .args(["build", "--quiet", "--locked", "--release", "--target", crate::android::TARGET])
        .args(["-Z", "build-std=core"])
        .run()?;
    Ok(target.join(crate::android::TARGET).join("release"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::{Object as _, ObjectSymbol as _};

    #[test]
    fn the_list_of_this_clone_parses_and_holds_what_every_rust_program_imports() {
        let bionic = Bionic::allowed().unwrap();
        for name in ["__libc_init", "malloc", "epoll_wait", "syscall"] {
            assert_eq!(bionic.find(name).map(|(soname, _)| soname), Some("libc.so"), "{name}");
        }
        assert_eq!(bionic.find("dl_iterate_phdr").map(|(soname, _)| soname), Some("libdl.so"));
        assert_eq!(bionic.find("no_such_function"), None);
    }

    #[test]
    fn a_name_that_android_9_lacks_is_refused_with_its_level() {
        let error =
            Bionic::parse("[\"libc.so\"]\nmemfd_create = { version = \"LIBC_R\", api = 30 }").unwrap_err();
        assert!(error.to_string().contains("`memfd_create` appeared in API 30"), "{error}");
    }

    #[test]
    fn a_row_without_version_is_named() {
        let error = Bionic::parse("[\"libc.so\"]\nopen = { api = 21 }").unwrap_err();
        assert!(error.to_string().contains("`open` lacks version or api"), "{error}");
    }

    #[test]
    fn each_name_stands_under_its_version_and_versions_inherit() {
        let bionic = Bionic::parse(
            "[\"libc.so\"]\nopen = { version = \"LIBC\", api = 21 }\nstat = { version = \"LIBC\", api = 23 }\n\
             getrandom = { version = \"LIBC_P\", api = 28 }",
        )
        .unwrap();
        let script = version_script(&bionic.libraries["libc.so"]);
        assert_eq!(script, "LIBC { global: open; stat; local: *; } ;\nLIBC_P { global: getrandom; } LIBC;\n");
    }

    #[test]
    fn a_stub_object_defines_functions_and_data() {
        let bionic = Bionic::parse(
            "[\"libc.so\"]\nopen = { version = \"LIBC\", api = 21 }\n\
             environ = { version = \"LIBC\", api = 21, object = true }",
        )
        .unwrap();
        let bytes = stub_object(&bionic.libraries["libc.so"]).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let kind = |name: &str| file.symbol_by_name(name).map(|symbol| symbol.kind());
        assert_eq!(kind("open"), Some(SymbolKind::Text));
        assert_eq!(kind("environ"), Some(SymbolKind::Data));
    }
}
