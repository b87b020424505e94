//! `vm`: an arm64 machine with Android's layout boots under emulation, the module is installed in it from the zip,
//! and apps under their own uids send through Android's TLS library. What arrives at logd is decoded and checked.
//!
//! The kernel, BusyBox and libraries are Debian's arm64 packages, unpacked into an initramfs; nothing else is
//! downloaded. bionic is not in Debian: without a real Android's /system (`TELLTALE_ANDROID_ROOT`) the
//! same daemon built for glibc stands in, and the result says so.

mod image;
mod logd;
mod packages;
mod widths;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::context::{self, Context};
use crate::error::{Error, Result};
use crate::run::Run;
use crate::samples::Sample;
use crate::setup::{self, Need};
use crate::toolchain::Toolchain;
use crate::{android, no_arguments, say, zip};
use image::Image;
use logd::Line;

/// The stand-in's target: the same machine and kernel interface, another C library.
const STAND_IN_TARGET: &str = "aarch64-unknown-linux-gnu";
/// Debian's cross compiler for the test programs and for linking the stand-in.
const CROSS_GCC: &str = "aarch64-linux-gnu-gcc";
/// Names a directory that holds a real Android's `/system`.
const ANDROID_ROOT: &str = "TELLTALE_ANDROID_ROOT";
/// Names an arm64 kernel image to boot instead of Debian's: one like the handset's shows what only an old kernel refuses.
const KERNEL: &str = "TELLTALE_VM_KERNEL";
/// What bionic consists of, as far as the daemon needs it.
const BIONIC: &[&str] = &[
    "bin/linker64",
    "lib64/libc.so",
    "lib64/libm.so",
    "lib64/libdl.so",
    "lib64/liblog.so",
    "lib64/libc++.so",
];
/// Seconds the machine may take; several times what it needs on an idle machine.
const TIME_LIMIT: &str = "500";

/// What the apps in the machine send: sample, uid, and another package with the same uid.
const SENT: &[(&str, u32, Option<&str>)] = &[
    ("01_visited_url", 10123, None),
    ("02_search_google", 10124, None),
    ("05_install_identifiers", 10125, None),
    ("10_launcher_folder_swipe", 10126, Some("com.miui.systemAdSolution")),
    ("23_news_item", 10127, None),
];
/// The app that seals its report itself, its uid, and the report: what OneTrack says of another app's screen.
const SEALED: (&str, u32, &str) = (
    "com.miui.analytics",
    10128,
    r#"[{"H":{"event":"onetrack_pa","instance_id":"fc704e6b-13c4-4b26-af5e-411f75da84f2","pkg":"com.miui.player"},"B":{"type":1,"class":"com.miui.player.ui.SearchActivity"}}]"#,
);
/// The sample sent once more in each later phase, and the first of the uids it is sent from then.
const AGAIN: (&str, u32) = ("01_visited_url", 10201);
/// How many apps send it later on.
const AGAIN_APPS: u32 = 11;

/// `vm`.
///
/// # Errors
/// [`Error::Check`] with every check that failed, and what else the steps report.
pub fn command(ctx: &Context, rest: &[String]) -> Result<()> {
    no_arguments("vm", rest)?;
    setup::ensure(ctx, &[Need::Ebpf, Need::Android, Need::Clients, Need::Vm])?;
    let root = packages::fetch(ctx)?;
    let android_root = std::env::var_os(ANDROID_ROOT).map(PathBuf::from);
    let daemon = match android_root {
        Some(_) => android::build(ctx)?,
        None => stand_in(ctx)?,
    };
    let image = machine(ctx, &root, &daemon, android_root.as_deref())?;
    let initramfs = ctx.target.join("vm/initramfs.cpio");
    context::write(&initramfs, image.archive()?)?;
    let kernel = match std::env::var_os(KERNEL) {
        Some(path) => PathBuf::from(path),
        None => packages::kernel(&root)?,
    };
    say::note(&format!("kernel: {}", kernel.display()));
    let report = run(&kernel, &initramfs)?;
    let bionic = android_root.is_some();
    say::plain(if bionic { "bionic: RUN" } else { "bionic: NOT RUN (TELLTALE_ANDROID_ROOT is not set)" });
    report.judge(&sent(ctx)?)
}

/// The daemon for the same machine with glibc, around the same sources and the same eBPF object.
fn stand_in(ctx: &Context) -> Result<PathBuf> {
    let object = android::ebpf_object(ctx)?;
    let section = say::Section::start(&format!("{STAND_IN_TARGET}, in place of bionic"));
    let toolchain = Toolchain::find()?;
    let target = ctx.target.join("vm/cargo");
    toolchain
        .cargo(ctx)
        .env("CARGO_TARGET_DIR", &target)
        .env("TELLTALE_EBPF_OBJECT", object)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", CROSS_GCC)
        .args(["build", "--quiet", "--locked", "--release", "--package", "telltale", "--bin", "telltale"])
        .args(["--target", STAND_IN_TARGET, "-Z", "build-std=std,panic_unwind"])
        .run()?;
    section.end("built");
    Ok(target.join(STAND_IN_TARGET).join("release/telltale"))
}

/// Compiles one C program of `ndk-build/clients/` for the machine.
fn client(ctx: &Context, root: &Path, name: &str) -> Result<PathBuf> {
    let program = ctx.target.join("vm/clients").join(name);
    context::create_dir(&ctx.target.join("vm/clients"))?;
    let libraries = root.join("usr/lib/aarch64-linux-gnu/android");
    Run::new(CROSS_GCC)
        .args([
            "-std=gnu11",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pthread",
            "-I/usr/include/android",
            "-o",
        ])
        .arg(&program)
        .arg(ctx.root.join(format!("ndk-build/clients/{name}.c")))
        .arg(format!("-L{}", libraries.display()))
        .args(["-Wl,--as-needed,--allow-shlib-undefined", "-l:libssl.so.0", "-l:libcrypto.so.0"])
        .output()?;
    Ok(program)
}

fn sent(ctx: &Context) -> Result<Vec<(Sample, u32)>> {
    let dir = ctx.root.join("daemon/tests/samples");
    SENT.iter().map(|(name, uid, _)| Ok((Sample::read(&dir, name)?, *uid))).collect()
}

/// Everything the machine has.
fn machine(ctx: &Context, root: &Path, daemon: &Path, android_root: Option<&Path>) -> Result<Image> {
    let mut image = Image::default();
    image.file("init", 0o755, include_str!("guest/init.sh"));
    image.file("manager.sh", 0o755, include_str!("guest/manager.sh"));
    image.file("checks.sh", 0o755, include_str!("guest/checks.sh"));
    image.copy("bin/busybox", 0o755, &root.join("bin/busybox"))?;
    image.link("system/bin/sh", "/bin/busybox");
    image.file("telltale.zip", 0o644, zip::module(ctx, daemon, None)?);

    // glibc's loader has a fixed path; its libraries go where that loader looks first.
    let lib = root.join("lib/aarch64-linux-gnu");
    image.copy("lib/ld-linux-aarch64.so.1", 0o755, &lib.join("ld-linux-aarch64.so.1"))?;
    for name in ["libc.so.6", "libm.so.6", "libgcc_s.so.1"] {
        image.copy(&format!("lib/{name}"), 0o755, &lib.join(name))?;
    }
    image.copy("lib/libstdc++.so.6", 0o755, &root.join("usr/lib/aarch64-linux-gnu/libstdc++.so.6"))?;
    // Android 9 has its TLS library here, under the name without a number.
    for name in ["libssl.so", "libcrypto.so"] {
        let from = root.join(format!("usr/lib/aarch64-linux-gnu/android/{name}.0"));
        image.copy(&format!("system/lib64/{name}"), 0o644, &from)?;
        image.link(&format!("lib/{name}.0"), &format!("/system/lib64/{name}"));
    }
    for name in ["tls-client", "tls-collector", "sealed-client", "logd"] {
        image.copy(&format!("system/bin/{name}"), 0o755, &client(ctx, root, name)?)?;
    }
    for (name, program) in widths::clients(ctx)? {
        image.copy(&format!("system/bin/{name}"), 0o755, &program)?;
    }
    image.link("system/bin/log", "/system/bin/logd");
    image.file("system/bin/getprop", 0o755, include_str!("guest/getprop.sh"));
    if let Some(android) = android_root {
        for name in BIONIC {
            image.copy(&format!("system/{name}"), 0o755, &android.join("system").join(name))?;
        }
    }
    apps(ctx, &mut image)?;
    Ok(image)
}

/// The installed apps, what they send, and who they are.
fn apps(ctx: &Context, image: &mut Image) -> Result<()> {
    let samples = sent(ctx)?;
    let mut packages: BTreeMap<String, u32> = BTreeMap::new();
    let mut script = String::from("send_samples() {\n");
    for (sample, uid) in &samples {
        packages.insert(sample.app.clone(), *uid);
        script.push_str(&format!("    send {uid} {} {}\n", sample.name, sample.host));
        image.file(&format!("samples/{}", sample.name), 0o644, sample.request.clone());
    }
    script.push_str("}\n");
    script.push_str(&widths::script());
    packages.extend(widths::packages());
    for (_, uid, other) in SENT {
        if let Some(other) = other {
            packages.insert((*other).to_owned(), *uid);
        }
    }
    let (app, uid, report) = SEALED;
    packages.insert(app.to_owned(), uid);
    image.file("sealed-report", 0o644, report);
    script.push_str(&format!("SEALED_UID={uid}\n"));
    let (again, first_uid) = AGAIN;
    for uid in (first_uid..).zip(0..AGAIN_APPS).map(|(uid, _)| uid) {
        packages.insert(format!("com.example.later{uid}"), uid);
    }
    let host = samples.iter().find(|(sample, _)| sample.name == again).map_or("", |(sample, _)| &sample.host);
    script.push_str(&format!("AGAIN={again}\nAGAIN_HOST={host}\n"));
    image.file("samples.sh", 0o644, script);
    // Android: frameworks/base, services/core/java/com/android/server/pm/Settings.java, writePackageListLPr.
    let list: String = packages
        .iter()
        .map(|(name, uid)| format!("{name} {uid} 0 /data/user/0/{name} default:targetSdkVersion=28 3003\n"))
        .collect();
    image.file("data/system/packages.list", 0o640, list);
    Ok(())
}

/// What came out of the machine.
#[derive(Debug, Default)]
struct Report {
    passed: Vec<String>,
    failed: Vec<String>,
    /// Lines at logd, by phase.
    lines: BTreeMap<String, Vec<Line>>,
    /// Of what was sent in clear, by programs of both widths.
    plain: widths::Said,
    ended: bool,
}

/// Boots the machine and listens to it until it switches off.
fn run(kernel: &Path, initramfs: &Path) -> Result<Report> {
    let section = say::Section::start("arm64 machine");
    let mut report = Report::default();
    // A Cortex-A53, as in the handset: no PAN, no UAO, no LSE.
    let status = Run::new("timeout")
        .args([
            TIME_LIMIT,
            "qemu-system-aarch64",
            "-M",
            "virt",
            "-cpu",
            "cortex-a53",
            "-smp",
            "2",
            "-m",
            "1024",
        ])
        .args(["-nic", "none", "-nographic", "-no-reboot", "-kernel"])
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyAMA0 quiet panic=-1"])
        .lines(|line| report.take(line))?;
    section.end(&format!("switched off ({status})"));
    Ok(report)
}

impl Report {
    /// Takes in one line of the console.
    fn take(&mut self, console: &str) {
        let Some(message) = console.trim().strip_prefix("@@ ") else {
            say::note(console);
            return;
        };
        let (word, rest) = message.split_once(' ').unwrap_or((message, ""));
        match word {
            "ok" => {
                say::note(&format!("ok   {rest}"));
                self.passed.push(rest.to_owned());
            }
            "FAIL" => {
                say::note(&format!("FAIL {rest}"));
                self.failed.push(rest.to_owned());
            }
            "logd" => {
                let (phase, record) = rest.split_once(' ').unwrap_or((rest, ""));
                match Line::recorded(record) {
                    Ok(line) => {
                        say::note(&format!("logcat, {phase}: {line}"));
                        self.lines.entry(phase.to_owned()).or_default().push(line);
                    }
                    Err(what) => self.failed.push(format!("{phase}: logd would not take a line: {what}")),
                }
            }
            "arrived" => {
                say::note(&format!("arrived: {rest}"));
                self.plain.arrived(rest);
            }
            "status" => self.failed.extend(self.plain.status(rest).err()),
            "end" => self.ended = true,
            _ => self.failed.push(format!("the machine said something unknown: {message}")),
        }
    }

    /// Adds what only the host can check, and says what failed.
    fn judge(mut self, sent: &[(Sample, u32)]) -> Result<()> {
        if !self.ended {
            self.failed.push("the machine did not come to its end".to_owned());
        }
        let lines = self.lines.get("samples").map_or(&[][..], Vec::as_slice);
        self.failed.extend(sent.iter().flat_map(|(sample, uid)| missing(sample, *uid, lines)));
        self.failed.extend(unread(self.lines.get("sealed").map_or(&[][..], Vec::as_slice)));
        match self.plain.wrong(sent, self.lines.get("plain").map_or(&[][..], Vec::as_slice)) {
            wrong if wrong.is_empty() => {
                say::note("ok   widths");
                self.passed.push("widths".to_owned());
            }
            wrong => self.failed.extend(wrong),
        }
        let priorities: BTreeSet<char> = self.lines.values().flatten().map(|line| line.priority).collect();
        for priority in ['I', 'W', 'E'] {
            if !priorities.contains(&priority) {
                self.failed
                    .push(format!("`adb logcat -s telltale:I` would show no line of priority {priority}"));
            }
        }
        for line in self.lines.values().flatten().filter(|line| line.tag != "telltale" || line.uid != 0) {
            self.failed.push(format!("a line with another tag or sender (uid {}): {line}", line.uid));
        }
        if self.failed.is_empty() {
            say::plain(&format!("arm64 machine: {} checks passed", self.passed.len()));
            return Ok(());
        }
        Err(Error::Check(format!("the arm64 machine found:\n  {}", self.failed.join("\n  "))))
    }
}

/// What is missing of the report that an app sealed itself.
fn unread(lines: &[Line]) -> Option<String> {
    let (app, uid, _) = SEALED;
    let uid = uid.to_string();
    let read = lines.iter().any(|line| {
        line.field("uid") == Some(&*uid)
            && line.field("kind") == Some("screen_view")
            && line.field("crypt") == Some("sealed")
    });
    (!read).then(|| format!("no line reads what {app} (uid {uid}) sealed itself"))
}

/// The expected kinds of a sample that no line names together with its uid.
fn missing(sample: &Sample, uid: u32, lines: &[Line]) -> Vec<String> {
    let uid = uid.to_string();
    let named: BTreeSet<&str> = lines
        .iter()
        .filter(|line| line.field("uid") == Some(&*uid))
        .filter_map(|line| line.field("kind"))
        .collect();
    sample
        .findings
        .iter()
        .filter(|finding| !finding.kinds.iter().any(|kind| named.contains(kind.as_str())))
        .map(|finding| format!("{}: no line says {} of uid {uid}", sample.name, finding.kinds.join(" or ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Expected;

    fn sample() -> Sample {
        let finding = Expected { kinds: vec!["imei".into()], value: "1".into(), form: None };
        Sample {
            name: "05".into(),
            app: "a".into(),
            host: "h".into(),
            request: vec![],
            findings: vec![finding],
            loudest: None,
        }
    }

    /// The recorder's line for one datagram.
    fn recorded(priority: u8, text: &str) -> String {
        let mut bytes = vec![0; 11];
        bytes.push(priority);
        bytes.extend(b"telltale\0");
        bytes.extend(text.as_bytes());
        bytes.push(0);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn good() -> Report {
        let mut report = Report { plain: widths::good(), ..Report::default() };
        for (priority, text) in [(4, "a | kind=x"), (5, "b | kind=imei app=a uid=10125"), (6, "c | kind=y")] {
            report.take(&format!("@@ logd samples 0 7 {}", recorded(priority, text)));
        }
        report.take(&format!(
            "@@ logd sealed 0 7 {}",
            recorded(5, "d | kind=screen_view uid=10128 crypt=sealed")
        ));
        report.take("@@ ok install");
        report.take("@@ end\r");
        report
    }

    #[test]
    fn a_good_run_passes() {
        good().judge(&[(sample(), 10125)]).unwrap();
    }

    #[test]
    fn each_thing_that_is_wrong_is_named() {
        for (console, words) in [
            ("@@ FAIL boot: no daemon", "boot: no daemon"),
            ("@@ logd samples 0 7 00", "logd would not take a line"),
            ("@@ logd samples 10123 7 00000000000000000000000474656c6c74616c65006800", "(uid 10123)"),
            ("@@ what", "something unknown"),
        ] {
            let mut report = good();
            report.take(console);
            let error = report.judge(&[(sample(), 10125)]).unwrap_err().to_string();
            assert!(error.contains(words), "{error} should say {words}");
        }
        let error = good().judge(&[(sample(), 10124)]).unwrap_err().to_string();
        assert!(error.contains("05: no line says imei of uid 10124"), "{error}");
        let error = Report::default().judge(&[]).unwrap_err().to_string();
        assert!(error.contains("did not come to its end") && error.contains("priority E"), "{error}");
    }
}
