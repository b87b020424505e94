//! `conform`: would Linux 4.14 take the built eBPF object?
//!
//! Most of it is decided on the file alone, so it needs no old kernel: rules for what that kernel lacks, and a walk through each
//! program that forgets what its verifier forgets. How many instructions a whole verifier walks is asked of this machine's kernel
//! by loading the object, which needs root.

pub mod linux_4_14;
mod number;
pub mod object;
pub mod rules;
pub mod walk;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::run::{Run, is_root};
use crate::setup::{self, Need};
use crate::{compile, no_arguments, say};
use object::BpfObject;
use rules::{Breach, Rule};

/// The handset's machine type, as Rust names it.
const HANDSET: &str = "aarch64";

/// What the check came to.
#[derive(Debug)]
pub struct Outcome {
    /// Programs looked at.
    pub programs: u32,
    /// Why the verifier was not asked, when it was not.
    pub verifier_skipped: Option<String>,
    /// Everything that was found.
    pub breaches: Vec<Breach>,
}

/// `conform`.
pub fn command(context: &Context, rest: &[String]) -> Result<()> {
    no_arguments("conform", rest)?;
    setup::ensure(context, &[Need::Host, Need::Ebpf])?;
    compile::ebpf(context)?;
    let mut outcome = check(context)?;
    outcome.breaches.extend(check_handset(context)?);
    if let Some(reason) = &outcome.verifier_skipped {
        say::note(&format!("skipped: verifier: {reason}"));
    }
    if outcome.breaches.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = outcome.breaches.iter().map(|breach| format!("  {breach}")).collect();
    Err(Error::Check(format!("Linux 4.14 would refuse this object:\n{}", lines.join("\n"))))
}

/// Checks the object that [`compile::ebpf`] left and shows the table of its programs.
///
/// # Errors
/// When the object cannot be read or this machine's kernel refuses it. Breaches are no error here.
pub fn check(context: &Context) -> Result<Outcome> {
    let path = context.ebpf_object();
    let bytes = std::fs::read(&path).map_err(Error::file("read", &path))?;
    let object =
        BpfObject::parse(&bytes).map_err(|error| Error::Check(format!("{}: {error}", path.display())))?;
    let mut breaches = on_file(&object);
    let (processed, verifier_skipped) = if is_root() {
        (processed_instructions(context)?, None)
    } else {
        (BTreeMap::new(), Some("not root".into()))
    };
    breaches.extend(complexity(&object, &processed, verifier_skipped.is_none()));
    say::plain(&table(&object, &processed));
    let programs = u32::try_from(object.programs.len()).unwrap_or(u32::MAX);
    Ok(Outcome { programs, verifier_skipped, breaches })
}

/// Checks the object for arm64, the handset's, by its file alone: this machine's verifier would judge reads of another
/// machine's registers.
///
/// # Errors
/// When it cannot be built or read. Breaches are no error here.
pub fn check_handset(context: &Context) -> Result<Vec<Breach>> {
    let path = context.ebpf_object_for(HANDSET);
    compile::ebpf_for(context, HANDSET, &path)?;
    let bytes = std::fs::read(&path).map_err(Error::file("read", &path))?;
    let object =
        BpfObject::parse(&bytes).map_err(|error| Error::Check(format!("{}: {error}", path.display())))?;
    let mut breaches = on_file(&object);
    for breach in &mut breaches {
        breach.of = format!("{HANDSET}: {}", breach.of);
    }
    Ok(breaches)
}

/// Everything that the file alone tells. A walk through what breaks the other rules would tell nothing.
fn on_file(object: &BpfObject) -> Vec<Breach> {
    let breaches = rules::check(object);
    if breaches.is_empty() { walk::check(object) } else { breaches }
}

/// Loads every program into this machine's kernel, through the loader the daemon uses, and reads how many instructions its
/// verifier walked. The loading is a program of its own (`examples/processed.rs`), so that this tool can be built without the loader.
fn processed_instructions(context: &Context) -> Result<BTreeMap<String, u32>> {
    context.cargo().args(["build", "--quiet", "--package", "ndk-build", "--example", "processed"]).run()?;
    let output =
        Run::new(context.target.join("debug/examples/processed")).arg(context.ebpf_object()).output()?;
    Ok(output
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(n, name)| Some((name.to_owned(), n.parse().ok()?)))
        .collect())
}

/// Programs that made the verifier walk too far, or that it was never asked about.
fn complexity(object: &BpfObject, processed: &BTreeMap<String, u32>, asked: bool) -> Vec<Breach> {
    let limit = linux_4_14::MAX_PROCESSED;
    let programs = object.programs.iter().filter(|_| asked);
    programs
        .filter_map(|program| {
            let what = match processed.get(&program.name) {
                None => "the verifier's count is missing".to_owned(),
                Some(count) if *count > limit => {
                    format!("{count} instructions processed; the limit is {limit}")
                }
                Some(_) => return None,
            };
            Some(Breach { of: program.name.clone(), at: None, rule: Rule::Complexity, what })
        })
        .collect()
}

fn table(object: &BpfObject, processed: &BTreeMap<String, u32>) -> String {
    let mut text = format!("{:<32} {:>6} {:>10}  helpers\n", "program", "insns", "processed");
    for program in &object.programs {
        let walked = processed.get(&program.name).map_or_else(|| "-".to_owned(), u32::to_string);
        let helpers: Vec<String> = rules::helpers(program).into_iter().map(linux_4_14::helper_name).collect();
        let count = program.instructions.len();
        let _ = writeln!(text, "{:<32} {count:>6} {walked:>10}  {}", program.name, helpers.join(" "));
    }
    for map in &object.maps {
        let kind = linux_4_14::map_type(map.kind).unwrap_or("unknown");
        let _ = writeln!(text, "map {:<28} {kind}, {} bytes a value", map.name, map.value_size);
    }
    text
}

#[cfg(test)]
mod tests;
