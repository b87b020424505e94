//! The daemon for Android: one target, one source, linked by the NDK where there is one and by our own sysroot
//! where there is none.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::run::{Run, find_program};
use crate::setup::{self, Need};
use crate::sysroot::{self, Bionic, MIN_API};
use crate::toolchain::Toolchain;
use crate::{compile, elf_check, no_arguments, say};

/// Rust's name for 64-bit ARM Android.
pub const TARGET: &str = "aarch64-linux-android";

/// What both ways of linking tell the linker.
const LINK_ARGS: &[&str] = &[
    // 16 KiB pages: Android 15 has devices with them, and the file runs on 4 KiB kernels all the same.
    "-z",
    "max-page-size=16384",
    // Relocations in a tenth of the space. Android 9's linker knows RELR under Android's own tag numbers only.
    "--pack-dyn-relocs=android+relr",
    "--use-android-relr-tags",
    // The Redmi Note 8 has Cortex-A53 cores, whose erratum 843419 the linker steps around.
    "--fix-cortex-a53-843419",
    // Functions that came out the same are kept once.
    "--icf=all",
    "--build-id=sha1",
];

/// What keeps the binary within its 4 MiB: optimised for size, and a panic ends the daemon at once instead of unwinding. What it
/// leaves in tracefs then goes when the supervisor has started it again, as after any other violent end.
const SMALL: &[(&str, &str)] = &[
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
];
/// Crates that run over every byte that is sent, and stay optimised for speed.
const FAST_CRATES: &[&str] =
    &["brotli-decompressor", "memchr", "miniz_oxide", "ruzstd", "serde_json", "simdutf8"];

/// Large crates that run seldom, or do little each time: as small as they get.
const COLD_CRATES: &[&str] =
    &["aya", "aya-obj", "netlink-packet-route", "quick-xml", "regex-lite", "toml", "toml_parser", "winnow"];

/// Who links.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Linking {
    /// The NDK's clang, which brings sysroot, start code and unwinder.
    Ndk { clang: PathBuf },
    /// ld.lld with the sysroot this tool makes.
    Own { lld: PathBuf },
}

/// `cargo ndk-build android`.
///
/// # Errors
/// As [`build`]; [`Error::Usage`] for an argument.
pub fn command(ctx: &Context, rest: &[String]) -> Result<()> {
    no_arguments("android", rest)?;
    let binary = build(ctx)?;
    say::plain(&binary.display().to_string());
    Ok(())
}

/// Builds and checks the daemon for Android; gives the path of the binary.
///
/// # Errors
/// [`Error::Missing`] without a linker or the library's source, [`Error::Failed`] from the compiler, [`Error::Check`]
/// when bionic would not run the result.
pub fn build(ctx: &Context) -> Result<PathBuf> {
    setup::ensure(ctx, &[Need::Ebpf, Need::Android])?;
    let object = ebpf_object(ctx)?;
    let toolchain = Toolchain::find()?;
    let linking = Linking::find(|name| std::env::var_os(name))?;
    let section = say::Section::start(&format!("{TARGET}, linked {}", linking.described()));
    let mut flags = linking.flags(ctx, &toolchain)?;
    flags.extend(["-Cstrip=symbols", "-Cforce-unwind-tables=no"].map(str::to_owned));
    flags.extend(remaps(ctx, &toolchain)?);
    // A directory for each way of linking: going from one to the other must not leave half of each behind.
    let target = ctx.target.join(match linking {
        Linking::Ndk { .. } => "android-ndk",
        Linking::Own { .. } => "android",
    });
    let level =
        |name: &&str, level: &str| format!("--config=profile.release.package.{name}.opt-level={level}");
    let fast = FAST_CRATES.iter().map(|name| level(name, "3"));
    let cold = COLD_CRATES.iter().map(|name| level(name, "\"z\""));
    SMALL
        .iter()
        .fold(toolchain.cargo(ctx), |cargo, (name, value)| cargo.env(name, value))
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("TELLTALE_EBPF_OBJECT", object)
        .args(["build", "--quiet", "--locked", "--release", "--package", "telltale", "--bin", "telltale"])
        .args([
            "--target",
            TARGET,
            "-Z",
            "build-std=std,panic_abort",
            "-Z",
            "build-std-features=optimize_for_size",
        ])
        .args(fast)
        .args(cold)
        .run()?;
    let binary = target.join(TARGET).join("release/telltale");
    let summary = elf_check::check_file(&binary, &Bionic::allowed()?)?;
    section.end(&summary.to_string());
    Ok(binary)
}

/// Builds the eBPF object for the handset's processor and says where it is.
///
/// # Errors
/// As [`compile::ebpf_for`].
pub fn ebpf_object(ctx: &Context) -> Result<PathBuf> {
    let object = ctx.ebpf_object_for("aarch64");
    compile::ebpf_for(ctx, "aarch64", &object)?;
    Ok(object)
}

/// Replaces every path of this machine that the compiler would write into the binary, so that the same source
/// gives the same bytes wherever it lies.
///
/// # Errors
/// [`Error::Failed`] when the compiler does not say where its library is.
pub fn remaps(ctx: &Context, toolchain: &Toolchain) -> Result<Vec<String>> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cargo_home = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let sysroot = Run::new(toolchain.rustc()).args(["--print", "sysroot"]).output()?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
    Ok([(ctx.root.as_path(), "/telltale"), (&cargo_home, "/cargo"), (&library, "/rust")]
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
        .to_vec())
}

impl Linking {
    /// The NDK that `env` names, the newest of the SDK it names, else our own sysroot.
    fn find(env: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let named =
            ["ANDROID_NDK_HOME", "ANDROID_NDK_ROOT"].into_iter().find_map(|name| Some((name, env(name)?)));
        if let Some((name, ndk)) = named {
            let clang = ndk_clang(Path::new(&ndk)).ok_or_else(|| {
                Error::Missing(format!(
                    "{name} is {}, but there is no NDK: unset it to build without one",
                    Path::new(&ndk).display()
                ))
            })?;
            return Ok(Self::Ndk { clang });
        }
        let sdk = ["ANDROID_HOME", "ANDROID_SDK_ROOT"].into_iter().find_map(&env);
        if let Some(clang) = sdk.and_then(|sdk| newest_ndk(Path::new(&sdk))) {
            return Ok(Self::Ndk { clang });
        }
        let lld = ["ld.lld-22", "ld.lld"].into_iter().find_map(find_program).ok_or_else(|| {
            Error::Missing("ld.lld is not installed (package lld-22): run `cargo ndk-build setup`".to_owned())
        })?;
        Ok(Self::Own { lld })
    }

    fn described(&self) -> String {
        match self {
            Self::Ndk { clang } => format!("by the NDK ({})", clang.display()),
            Self::Own { .. } => "without an NDK".to_owned(),
        }
    }

    /// The compiler flags for linking; prepares the sysroot where it is ours.
    fn flags(&self, ctx: &Context, toolchain: &Toolchain) -> Result<Vec<String>> {
        match self {
            Self::Ndk { clang } => {
                let mut flags = vec![format!("-Clinker={}", clang.display())];
                flags.extend(LINK_ARGS.iter().map(|arg| format!("-Clink-arg=-Wl,{arg}")));
                Ok(flags)
            }
            Self::Own { lld } => {
                let stubs = ctx.target.join("android-sysroot/lib");
                sysroot::write_stubs(&Bionic::allowed()?, lld, &stubs)?;
                let remaps = remaps(ctx, toolchain)?.join("\x1f");
                let start =
                    sysroot::build_start(ctx, toolchain.cargo(ctx).env("CARGO_ENCODED_RUSTFLAGS", remaps))?;
                let mut flags =
                    vec![format!("-Clinker={}", lld.display()), "-Clinker-flavor=ld.lld".to_owned()];
                flags.extend(LINK_ARGS.iter().map(|arg| format!("-Clink-arg={arg}")));
                flags.push("-Clink-arg=--dynamic-linker=/system/bin/linker64".to_owned());
                flags.push("-Clink-arg=--no-allow-shlib-undefined".to_owned());
                flags.extend([&stubs, &start].map(|dir| format!("-Clink-arg=-L{}", dir.display())));
                Ok(flags)
            }
        }
    }
}

/// The NDK's compiler driver for our API level; it knows where its sysroot and linker are.
fn ndk_clang(ndk: &Path) -> Option<PathBuf> {
    let clang = ndk.join(format!("toolchains/llvm/prebuilt/linux-x86_64/bin/{TARGET}{MIN_API}-clang"));
    clang.is_file().then_some(clang)
}

/// The newest NDK that an Android SDK has installed side by side.
fn newest_ndk(sdk: &Path) -> Option<PathBuf> {
    let version = |path: &Path| -> Option<Vec<u32>> {
        path.file_name()?.to_str()?.split('.').map(|part| part.parse().ok()).collect()
    };
    let mut ndks: Vec<PathBuf> =
        std::fs::read_dir(sdk.join("ndk")).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    ndks.sort_by_key(|path| version(path));
    ndks.iter().rev().find_map(|ndk| ndk_clang(ndk))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake_ndk(dir: &Path) -> PathBuf {
        let clang = dir.join("toolchains/llvm/prebuilt/linux-x86_64/bin/aarch64-linux-android28-clang");
        crate::context::create_dir(clang.parent().unwrap()).unwrap();
        crate::context::write(&clang, "").unwrap();
        clang
    }

    #[test]
    fn a_named_ndk_is_used_and_the_newest_of_an_sdk() {
        let dir = tempfile::tempdir().unwrap();
        let clang = fake_ndk(&dir.path().join("r27"));
        let named =
            |name: &str| (name == "ANDROID_NDK_HOME").then(|| dir.path().join("r27").into_os_string());
        assert_eq!(Linking::find(named).unwrap(), Linking::Ndk { clang });

        fake_ndk(&dir.path().join("sdk/ndk/9.1.2"));
        let newest = fake_ndk(&dir.path().join("sdk/ndk/27.0.1"));
        let sdk = |name: &str| (name == "ANDROID_HOME").then(|| dir.path().join("sdk").into_os_string());
        assert_eq!(Linking::find(sdk).unwrap(), Linking::Ndk { clang: newest });
    }

    #[test]
    fn a_named_directory_that_is_no_ndk_is_not_passed_over_in_silence() {
        let env = |name: &str| (name == "ANDROID_NDK_HOME").then(|| OsString::from("/nonexistent"));
        let error = Linking::find(env).unwrap_err();
        assert!(error.to_string().contains("ANDROID_NDK_HOME is /nonexistent"), "{error}");
    }

    #[test]
    fn the_ndk_gets_the_same_linker_arguments_through_its_driver() {
        let ctx = Context::find().unwrap();
        let toolchain = Toolchain::find().unwrap();
        let flags = Linking::Ndk { clang: "/ndk/clang".into() }.flags(&ctx, &toolchain).unwrap();
        assert_eq!(flags.first().map(String::as_str), Some("-Clinker=/ndk/clang"));
        assert!(flags.contains(&"-Clink-arg=-Wl,--use-android-relr-tags".to_owned()), "{flags:?}");
        assert!(
            flags.windows(2).any(|pair| pair == ["-Clink-arg=-Wl,-z", "-Clink-arg=-Wl,max-page-size=16384"])
        );
    }
}
