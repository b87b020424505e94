//! What every bench stands on: the programs built for it, and copies of the TLS library that nobody else has hooked.

use std::fs;
use std::path::{Path, PathBuf};

use crate::context::{Context, create_dir, write};
use crate::error::{Error, Result};
use crate::run::Run;
use crate::samples::Sample;
use crate::{clients, compile, say};

use super::helper::{End, Helper, on_cpu, pair};

/// The way to uprobes a bench takes.
pub const WAYS: [&str; 2] = ["perf", "tracefs"];
/// CPUs of the phone, each with its ring.
pub const PHONE_CPUS: usize = 8;
/// What Telltale's last line at the start says.
const WATCHING: &str = "Nothing yet is not all clear";

/// Everything that is prepared before anything is measured.
#[derive(Debug)]
pub struct Bed<'c> {
    /// The clone.
    pub context: &'c Context,
    /// Fewer and shorter repetitions.
    pub quick: bool,
    /// Where the benches leave files.
    pub dir: PathBuf,
}

impl<'c> Bed<'c> {
    /// Builds the daemon, the meter and the clients.
    ///
    /// # Errors
    /// What a compiler said, or a file that could not be written.
    pub fn make(context: &'c Context, quick: bool) -> Result<Self> {
        compile::ebpf(context)?;
        compile::daemon(context)?;
        let section = say::Section::start("what the bench compares it with");
        context
            .cargo()
            .args(["build", "--quiet", "--release", "--package", "telltale", "--example", "meter"])
            .env("TELLTALE_EBPF_OBJECT", context.ebpf_object())
            .run()?;
        clients::build(context)?;
        clients::build_for_bench(context)?;
        let bed = Self { context, quick, dir: context.target.join("bench") };
        create_dir(&bed.dir.join("lib"))?;
        create_dir(&bed.dir.join("sysroot/data/system"))?;
        write(&bed.dir.join("sysroot/data/system/packages.list"), "")?;
        for name in ["libssl.so.0", "libcrypto.so.0"] {
            let original = clients::boringssl_dir().join(name);
            let copy = bed.dir.join("lib").join(name);
            // A hook is on a file. Other programs have their own on the system's; on this copy are only ours.
            let bytes = fs::read(&original).map_err(Error::file("read", &original))?;
            if fs::read(&copy).ok().as_ref() != Some(&bytes) {
                write(&copy, bytes)?;
            }
        }
        section.end("built");
        Ok(bed)
    }

    /// The copy of BoringSSL that the clients call.
    pub fn library(&self) -> PathBuf {
        self.dir.join("lib/libssl.so.0")
    }

    /// `full`, or `quick` where few repetitions are wanted.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// A file with a telemetry request as a phone sends it.
    ///
    /// # Errors
    /// The sample cannot be read, or the file not written.
    pub fn telemetry(&self) -> Result<PathBuf> {
        let path = self.dir.join("telemetry.request");
        let sample = Sample::read(&self.context.root.join("daemon/tests/samples"), "01_visited_url")?;
        write(&path, sample.request)?;
        Ok(path)
    }

    /// The path of a configuration in which nothing that is sent is left out.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn without_budget(&self) -> Result<String> {
        let path = self.dir.join("config/config.toml");
        create_dir(&self.dir.join("config"))?;
        write(&path, "capture_total = 0\n")?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// The client that makes timed calls, on the first CPU.
    ///
    /// # Errors
    /// It does not start.
    pub fn caller(&self) -> Result<Helper> {
        let run = on_cpu(0, clients::path(self.context, "bench-calls"))
            .env("LD_LIBRARY_PATH", self.dir.join("lib"))
            .dir(&self.dir);
        let mut helper = Helper::start(run, End::Input)?;
        helper.wait_for("pid=")?;
        Ok(helper)
    }

    /// The meter, on the second CPU, once it is ready.
    ///
    /// # Errors
    /// It does not start, or cannot hook.
    pub fn meter(&self, words: &[&str]) -> Result<Helper> {
        let run = on_cpu(1, self.context.target.join("release/examples/meter")).args(words);
        let mut helper = Helper::start(run, End::Input)?;
        helper.wait_for("ready")?;
        Ok(helper)
    }

    /// Bytes of all rings on a machine with so many CPUs.
    ///
    /// # Errors
    /// The meter does not say.
    pub fn rings(&self, cpus: usize) -> Result<f64> {
        let said = Run::new(self.context.target.join("release/examples/meter"))
            .args(["rings", &cpus.to_string()])
            .output()?;
        pair(said.trim(), "bytes").ok_or_else(|| Error::Check(format!("the meter said {said}")))
    }

    /// `telltale run` on one library alone, on the second CPU, once its hooks are in.
    ///
    /// # Errors
    /// It does not start, or cannot hook.
    pub fn telltale(&self, library: &Path, words: &[&str]) -> Result<Helper> {
        self.watching(|run| run.arg("--lib").arg(library), words)
    }

    /// `telltale run` on every library in use.
    ///
    /// # Errors
    /// It does not start, or cannot hook.
    pub fn telltale_everywhere(&self, words: &[&str]) -> Result<Helper> {
        self.watching(|run| run, words)
    }

    fn watching(&self, what: impl FnOnce(Run) -> Run, words: &[&str]) -> Result<Helper> {
        let run = what(on_cpu(1, self.context.telltale()).arg("run"))
            .arg("--sysroot")
            .arg(self.dir.join("sysroot"))
            .arg("--truth")
            .arg(self.context.root.join("daemon/tests/samples/device_truth.json"))
            .args(words);
        let mut helper = Helper::start(run, End::Signal("TERM"))?;
        helper.wait_for(WATCHING)?;
        Ok(helper)
    }
}

/// The machine in one line, with what else it was doing: `before` and now.
pub fn machine(before: &str, quick: bool) -> String {
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| {
            line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name.trim().to_owned())
        })
        .unwrap_or_else(|| "unknown processor".into());
    let kernel = read("/proc/sys/kernel/osrelease");
    let date = Run::new("date").args(["-u", "+%Y-%m-%d"]).output().unwrap_or_default();
    let kind = if quick { "quick run, " } else { "" };
    format!(
        "{kind}{}, {} CPUs ({model}), Linux {} {}; load average {before} before and {} after.",
        date.trim(),
        super::helper::cpus(),
        kernel.trim(),
        std::env::consts::ARCH,
        load()
    )
}

/// The load average of the last minute.
pub fn load() -> String {
    read("/proc/loadavg").split(' ').next().unwrap_or("?").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
