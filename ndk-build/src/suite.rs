//! `test`: everything continuous integration runs, in parts that can also be run alone.
//!
//! What the runners print is read for its counts; the last line is `N passed, N failed, N skipped`. A test that cannot
//! run prints a line that starts with `skipped: ` and the reason. On a machine whose kernel can be hooked a skipped
//! live test is a failure: there is no excuse. A run in which nothing passed fails.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::run::{Run, last_lines};
use crate::setup::{self, Need};
use crate::toolchain::Toolchain;
use crate::{clients, compile, conform, demo, place_data, say, vm, zip};

/// How many checks came out how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Passed.
    pub passed: u32,
    /// Failed.
    pub failed: u32,
    /// Could not run here.
    pub skipped: u32,
}

/// A part of the suite.
struct Part {
    name: &'static str,
    about: &'static str,
    needs: &'static [Need],
    /// Where the kernel can be hooked, a skip in this part is a failure.
    live: bool,
    run: fn(&Context) -> Result<Tally>,
}

/// The integration test that has a part of its own.
const PAGE_TEST: &str = "page";
/// That of programs which carry their own TLS and have to be fetched.
const BROWSER_TESTS: &str = "browsers";

/// Every part, cheapest first, so that what breaks often is known soon.
const PARTS: &[Part] = &[
    Part { name: "fmt", about: "formatting", needs: &[Need::Host], live: false, run: fmt },
    Part { name: "scripts", about: "shell scripts", needs: &[Need::Scripts], live: false, run: scripts },
    Part {
        name: "conform",
        about: "the eBPF object against Linux 4.14",
        needs: &[Need::Host, Need::Ebpf],
        live: true,
        run: conformance,
    },
    Part {
        name: "clippy",
        about: "lints, warnings denied",
        needs: &[Need::Host, Need::Ebpf, Need::Lint],
        live: false,
        run: clippy,
    },
    Part {
        name: "unit",
        about: "unit and integration tests",
        needs: &[Need::Host, Need::Ebpf],
        live: false,
        run: unit,
    },
    Part {
        name: "doc",
        about: "documentation and its examples",
        needs: &[Need::Host],
        live: false,
        run: doc,
    },
    Part {
        name: "page",
        about: "the report in a headless browser",
        needs: &[Need::Host],
        live: true,
        run: page,
    },
    Part {
        name: "live",
        about: "tests that hook this kernel",
        needs: &[Need::Host, Need::Ebpf, Need::Clients, Need::Live],
        live: true,
        run: live,
    },
    Part {
        name: "browsers",
        about: "programs that carry their own TLS",
        needs: &[Need::Host, Need::Ebpf, Need::Clients, Need::Browsers],
        live: true,
        run: browsers,
    },
    Part {
        name: "vm",
        about: "the module in an arm64 machine",
        needs: &[Need::Ebpf, Need::Android, Need::Clients, Need::Vm],
        live: true,
        run: machine,
    },
    Part {
        name: "zip",
        about: "the module to flash, within its size and with nothing Android 9 lacks",
        needs: &[Need::Ebpf, Need::Android],
        live: false,
        run: module,
    },
    Part {
        name: "demo",
        about: "the whole way, once",
        needs: &[Need::Host, Need::Ebpf, Need::Clients, Need::Live],
        live: true,
        run: demonstration,
    },
];

/// `test [PART]...`
pub fn command(context: &Context, rest: &[String]) -> Result<()> {
    let chosen = choose(rest)?;
    let needs: Vec<Need> = chosen.iter().flat_map(|part| part.needs.iter().copied()).collect();
    setup::ensure(context, &needs)?;
    let started = Instant::now();
    let kernel = setup::live_kernel();
    let mut total = Tally::default();
    let mut summary = Vec::new();
    for part in chosen {
        let section = say::Section::start(&format!("{}: {}", part.name, part.about));
        let mut tally = (part.run)(context).unwrap_or_else(|error| {
            say::note(&error.to_string());
            Tally { failed: 1, ..Tally::default() }
        });
        if part.live && kernel.is_ok() && tally.skipped > 0 {
            say::note("this kernel can be hooked: what was skipped counts as failed");
            tally.failed = tally.failed.saturating_add(std::mem::take(&mut tally.skipped));
        }
        section.end(&tally.to_string());
        summary.push(format!("{:<9} {tally}", part.name));
        total.add(tally);
    }
    say::head(&format!("together, in {} s", started.elapsed().as_secs()));
    for line in summary {
        say::note(&line);
    }
    say::plain(&total.to_string());
    total.verdict()
}

fn choose(names: &[String]) -> Result<Vec<&'static Part>> {
    if names.is_empty() {
        return Ok(PARTS.iter().collect());
    }
    let find = |name: &String| {
        PARTS.iter().find(|part| part.name == name).ok_or_else(|| {
            let all: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
            Error::Usage(format!("there is no part `{name}`; the parts are: {}", all.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

impl Tally {
    /// One check that passed.
    const PASS: Self = Self { passed: 1, failed: 0, skipped: 0 };

    fn add(&mut self, other: Self) {
        self.passed = self.passed.saturating_add(other.passed);
        self.failed = self.failed.saturating_add(other.failed);
        self.skipped = self.skipped.saturating_add(other.skipped);
    }

    /// Whether a run that came out so is a success.
    fn verdict(self) -> Result<()> {
        match self {
            Self { failed: 1.., .. } => Err(Error::Check("tests failed".into())),
            Self { passed: 0, .. } => Err(Error::Check("nothing was tested".into())),
            Self { .. } => Ok(()),
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Counts steps of which each either succeeds quietly or shows what it printed.
fn steps(steps: Vec<Run>) -> Tally {
    let mut tally = Tally::default();
    for step in steps {
        match step.output() {
            Ok(_) => tally.add(Tally::PASS),
            Err(error) => {
                say::note(&error.to_string());
                tally.add(Tally { failed: 1, ..Tally::default() });
            }
        }
    }
    tally
}

/// The crates that are no members of the workspace.
fn other_crates(context: &Context) -> Vec<PathBuf> {
    ["ebpf", "daemon/fuzz"]
        .map(|dir| context.root.join(dir).join("Cargo.toml"))
        .into_iter()
        .filter(|manifest| manifest.is_file())
        .collect()
}

fn fmt(context: &Context) -> Result<Tally> {
    let mut all = vec![context.cargo().args(["fmt", "--all", "--check"])];
    for manifest in other_crates(context) {
        all.push(context.cargo().args(["fmt", "--check", "--manifest-path"]).arg(manifest));
    }
    Ok(steps(all))
}

fn clippy(context: &Context) -> Result<Tally> {
    let host =
        context.cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-Dwarnings"]);
    // The eBPF crate's lints need its own target's `core`, so they come from the toolchain that builds it.
    let ebpf = compile::ebpf_cargo(context, &Toolchain::find()?, std::env::consts::ARCH).args([
        "clippy",
        "--quiet",
        "--release",
        "--locked",
        "--",
        "-Dwarnings",
    ]);
    Ok(steps(vec![host, ebpf]))
}

fn doc(context: &Context) -> Result<Tally> {
    let pages = context
        .cargo()
        .args(["doc", "--quiet", "--workspace", "--no-deps"])
        .env("RUSTDOCFLAGS", "-Dwarnings");
    let mut tally = steps(vec![pages]);
    tally.add(cargo_test(context.cargo().args(["test", "--workspace", "--no-fail-fast", "--doc"]))?);
    Ok(tally)
}

fn unit(context: &Context) -> Result<Tally> {
    // Built first so that tests see the object that is embedded everywhere else.
    compile::ebpf(context)?;
    // So that look-ups are compared with the whole of the source data.
    place_data::make(context)?;
    let (_, others) = integration_tests(context);
    let mut run = context.cargo().args(["test", "--workspace", "--no-fail-fast", "--lib", "--bins"]);
    let elsewhere = |name: &String| name == PAGE_TEST || name == BROWSER_TESTS;
    for name in others.into_iter().filter(|name| !elsewhere(name)) {
        run = run.args(["--test", &name]);
    }
    cargo_test(run)
}

fn page(context: &Context) -> Result<Tally> {
    // A browser is large and not everywhere to be had: without one these tests say that they were skipped.
    if let Err(reason) = setup::ensure(context, &[Need::Page]) {
        say::note(&reason.to_string());
    }
    cargo_test(context.cargo().args([
        "test",
        "--package",
        "ndk-build",
        "--no-fail-fast",
        "--test",
        PAGE_TEST,
    ]))
}

fn browsers(context: &Context) -> Result<Tally> {
    if let Err(reason) = setup::live_kernel() {
        say::note(&format!("skipped: browsers: {reason}"));
        return Ok(Tally { skipped: 1, ..Tally::default() });
    }
    compile::ebpf(context)?;
    cargo_test(browser_tests(context))
}

fn browser_tests(context: &Context) -> Run {
    context.cargo().args(["test", "--package", "telltale", "--no-fail-fast", "--test", BROWSER_TESTS])
}

/// `browsers [--all]`: the part of the suite alone, with the table it makes; `--all` fetches what is large, too.
pub fn browsers_command(context: &Context, rest: &[String]) -> Result<()> {
    let all = match rest {
        [] => false,
        [flag] if flag == "--all" => true,
        _ => return Err(Error::Usage("`browsers` takes only `--all`".into())),
    };
    setup::ensure(context, &[Need::Host, Need::Ebpf, Need::Clients, Need::Browsers])?;
    setup::live_kernel().map_err(Error::Check)?;
    compile::ebpf(context)?;
    let run = browser_tests(context);
    let tally = cargo_test(if all { run.env("TELLTALE_BROWSERS", "all") } else { run })?;
    let table = context.root.join("target/browsers/table.md");
    say::plain(&fs::read_to_string(table).unwrap_or_default());
    say::plain(&tally.to_string());
    tally.verdict()
}

fn live(context: &Context) -> Result<Tally> {
    if let Err(reason) = setup::live_kernel() {
        say::note(&format!("skipped: live tests: {reason}"));
        return Ok(Tally { skipped: 1, ..Tally::default() });
    }
    compile::ebpf(context)?;
    clients::build(context)?;
    let (names, _) = integration_tests(context);
    if names.is_empty() {
        return Err(Error::Check("no live tests found: daemon/tests/live*.rs".into()));
    }
    let mut run = context.cargo().args(["test", "--package", "telltale", "--no-fail-fast"]);
    for name in names {
        run = run.args(["--test", &name]);
    }
    cargo_test(run)
}

fn conformance(context: &Context) -> Result<Tally> {
    compile::ebpf(context)?;
    let mut outcome = conform::check(context)?;
    outcome.breaches.extend(conform::check_handset(context)?);
    for breach in &outcome.breaches {
        say::note(&breach.to_string());
    }
    if let Some(reason) = &outcome.verifier_skipped {
        say::note(&format!("skipped: verifier: {reason}"));
    }
    let failed = u32::try_from(outcome.breaches.len()).unwrap_or(u32::MAX);
    Ok(Tally {
        passed: if failed == 0 { outcome.programs } else { 0 },
        failed,
        skipped: u32::from(outcome.verifier_skipped.is_some()),
    })
}

fn demonstration(context: &Context) -> Result<Tally> {
    if let Err(reason) = setup::live_kernel() {
        say::note(&format!("skipped: demo: {reason}"));
        return Ok(Tally { skipped: 1, ..Tally::default() });
    }
    demo::show(context)?;
    Ok(Tally::PASS)
}

fn machine(context: &Context) -> Result<Tally> {
    vm::command(context, &[])?;
    Ok(Tally::PASS)
}

fn module(context: &Context) -> Result<Tally> {
    zip::command(context, &[])?;
    Ok(Tally::PASS)
}

fn scripts(context: &Context) -> Result<Tally> {
    let mut found = Vec::new();
    for dir in ["magisk-module", "ndk-build/src/vm/guest", ".ci"] {
        shell_scripts(&context.root.join(dir), &mut found);
    }
    let all = found.into_iter().map(|(path, shell)| {
        Run::new("shellcheck")
            .arg("--external-sources")
            .arg(format!("--shell={shell}"))
            .arg(path)
            .dir(&context.root)
    });
    Ok(steps(all.collect()))
}

/// Finds scripts below `dir` by what they begin with, or by name: Magisk sources some that have no first line.
fn shell_scripts(dir: &Path, found: &mut Vec<(PathBuf, &'static str)>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            shell_scripts(&path, found);
            continue;
        }
        let text = fs::read(&path).unwrap_or_default();
        let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if first.starts_with(b"#!") && first.ends_with(b"bash") {
            found.push((path, "bash"));
        } else if (first.starts_with(b"#!") && first.ends_with(b"sh"))
            || path.extension() == Some(OsStr::new("sh"))
        {
            // BusyBox's ash and Android's mksh both know what dash knows.
            found.push((path, "dash"));
        }
    }
}

/// The names of the workspace's integration tests: those that hook the kernel (`live…`), and the others.
fn integration_tests(context: &Context) -> (Vec<String>, Vec<String>) {
    let mut names: Vec<String> = ["daemon", "ndk-build", "ebpf/abi"]
        .iter()
        .flat_map(|package| {
            fs::read_dir(context.root.join(package).join("tests")).into_iter().flatten().flatten()
        })
        .filter_map(|entry| {
            let path = entry.path();
            // A test is a file, or a folder with a main.rs; other folders hold what tests share.
            let is_test = path.extension() == Some(OsStr::new("rs")) || path.join("main.rs").is_file();
            is_test.then(|| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()))?
        })
        .collect();
    names.sort();
    names.into_iter().partition(|name| name.starts_with("live"))
}

/// Runs cargo's tests and counts what their runners report; shows failures whole and skips with their reasons.
fn cargo_test(run: Run) -> Result<Tally> {
    let mut reader = RunnerOutput::default();
    let mut log = String::new();
    let status = run.args(["--", "--show-output"]).lines(|line| {
        reader.line(line);
        say::passing(line);
        log.push_str(line);
        log.push('\n');
    })?;
    say::passed();
    for reason in &reader.reasons {
        say::note(reason);
    }
    let mut tally = reader.tally();
    if !status.success() {
        let telling: Vec<&str> = log.lines().filter(|line| !line.ends_with("... ok")).collect();
        say::note(&last_lines(&telling.join("\n"), 200));
        // A test that does not compile, or a runner that died, reports no count of its own.
        if tally.failed == 0 {
            tally.failed = 1;
        }
    }
    Ok(tally)
}

/// Reads what Rust's test runner prints.
#[derive(Debug, Default)]
struct RunnerOutput {
    counted: Tally,
    reasons: Vec<String>,
}

impl RunnerOutput {
    fn line(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            // test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; …
            let number = |word: &str| {
                let before = counts.split(word).next()?;
                before.trim_end().rsplit(' ').next()?.parse::<u32>().ok()
            };
            self.counted.add(Tally {
                passed: number(" passed").unwrap_or(0),
                failed: number(" failed").unwrap_or(0),
                skipped: number(" ignored").unwrap_or(0),
            });
        } else if line.starts_with("skipped: ") {
            self.reasons.push(line.to_owned());
        }
    }

    /// The counts, with tests that reported themselves skipped moved from passed: the runner has no word for them.
    fn tally(&self) -> Tally {
        let skipped = u32::try_from(self.reasons.len()).unwrap_or(u32::MAX).min(self.counted.passed);
        Tally {
            passed: self.counted.passed.saturating_sub(skipped),
            failed: self.counted.failed,
            skipped: self.counted.skipped.saturating_add(skipped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally_of(text: &str) -> Tally {
        let mut reader = RunnerOutput::default();
        text.lines().for_each(|line| reader.line(line));
        reader.tally()
    }

    #[test]
    fn the_runners_counts_are_added_up() {
        let text = "\
test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
some line
test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(tally_of(text), Tally { passed: 15, failed: 2, skipped: 1 });
    }

    #[test]
    fn a_test_that_says_it_was_skipped_did_not_pass() {
        let text =
            "---- hooks ----\nskipped: not root\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured";
        assert_eq!(tally_of(text), Tally { passed: 1, failed: 0, skipped: 1 });
    }

    #[test]
    fn failing_and_testing_nothing_are_both_failures() {
        assert!(Tally { passed: 5, failed: 1, skipped: 0 }.verdict().is_err());
        assert!(Tally { passed: 0, failed: 0, skipped: 9 }.verdict().is_err());
        assert!(Tally { passed: 1, failed: 0, skipped: 9 }.verdict().is_ok());
    }

    #[test]
    fn the_last_line_is_plain() {
        assert_eq!(Tally { passed: 1, failed: 2, skipped: 3 }.to_string(), "1 passed, 2 failed, 3 skipped");
    }

    #[test]
    fn an_unknown_part_is_wrong_usage() {
        assert_eq!(choose(&["nonsense".to_owned()]).err().map(|error| error.exit_code()), Some(2));
        assert_eq!(choose(&["fmt".to_owned()]).map(|parts| parts.len()).ok(), Some(1));
    }
}
