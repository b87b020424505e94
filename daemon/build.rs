//! Embeds the eBPF object: from `TELLTALE_EBPF_OBJECT`, else from `ebpf/telltale.bpf.o` in the target folder.
//!
//! Without one the crate still builds and tests; `telltale run` then says what is missing.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=TELLTALE_EBPF_OBJECT");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let given = env::var_os("TELLTALE_EBPF_OBJECT").map(PathBuf::from);
    let object = given.clone().or_else(|| beside_the_build(&out));
    let code = match object {
        Some(object) => {
            println!("cargo::rerun-if-changed={}", object.display());
            match fs::read(&object) {
                Ok(bytes) => {
                    fs::write(out.join("telltale.bpf.o"), bytes)?;
                    EMBEDDED
                }
                // Named by hand it must be there; the default place may be empty.
                Err(error) if given.is_some() => {
                    let place = format!("TELLTALE_EBPF_OBJECT={}: {error}", object.display());
                    return Err(io::Error::new(error.kind(), place));
                }
                Err(_) => ABSENT,
            }
        }
        None => ABSENT,
    };
    fs::write(out.join("ebpf_object.rs"), code)
}

const EMBEDDED: &str = r#"static EBPF_OBJECT: Option<&[u8]> =
    Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/telltale.bpf.o")));
"#;

const ABSENT: &str = "static EBPF_OBJECT: Option<&[u8]> = None;\n";

/// `target/ebpf/telltale.bpf.o`. OUT_DIR is `target/[TRIPLE/]PROFILE/build/telltale-HASH/out`; only a build for the
/// machine it runs on takes it, because the object reads that machine's registers.
fn beside_the_build(out: &Path) -> Option<PathBuf> {
    if env::var_os("TARGET") != env::var_os("HOST") {
        return None;
    }
    let profile = out.ancestors().nth(3)?;
    let above = profile.parent()?;
    let triple = env::var_os("TARGET")?;
    let target = if above.file_name() == Some(&triple) { above.parent()? } else { above };
    Some(target.join("ebpf").join("telltale.bpf.o"))
}
