//! `telltale doctor` in words and as JSON: one line per ability, then the TLS that processes use, then the verdict.
#![forbid(unsafe_code)]

use serde_json::{Value, json};

use crate::kernel::{
    AttachPath, MemoryPath, TlsState,
    doctor::{Check, Examination, State},
};

/// The one sentence of `--quick` when Telltale can run.
pub fn can_run(attach: AttachPath, memory: MemoryPath) -> String {
    let what = memory.costs().map_or_else(
        || ", and what was sent can be read".to_owned(),
        |costs| format!(", but not all of what was sent can be read: {costs}"),
    );
    format!("this kernel can run Telltale: hooks through {} fire{what}\n", attach.name())
}

/// For people.
pub fn text(found: &Examination) -> String {
    let mut text = String::new();
    let width = found.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for Check { name, state, found, costs } in &found.checks {
        let mark = match state {
            State::Works => "works  ",
            State::Missing => "MISSING",
            State::Known => "       ",
        };
        text.push_str(&format!("{mark}  {name:width$}  {found}"));
        if !costs.is_empty() {
            text.push_str(&format!("; without it: {costs}"));
        }
        text.push('\n');
    }
    text.push_str("\nTLS in use now:\n");
    if found.tls.is_empty() {
        text.push_str("  none; apps are hooked when they load it\n");
    }
    for file in &found.tls {
        let processes = if file.processes == 1 {
            "1 process".to_owned()
        } else {
            format!("{} processes", file.processes)
        };
        text.push_str(&format!("  {}, {processes}: {}\n", file.path.display(), words(&file.state)));
    }
    text.push('\n');
    match (&found.refusal, found.attach) {
        (Some(refusal), _) => text.push_str(&format!("cannot run: {refusal}\n")),
        (None, attach) => text.push_str(&can_run(
            attach.unwrap_or(AttachPath::Tracefs),
            found.memory.unwrap_or(MemoryPath::Nothing),
        )),
    }
    text
}

fn words(state: &TlsState) -> String {
    match state {
        TlsState::Hookable => "can be hooked".to_owned(),
        TlsState::Bits32 => {
            "not readable: 32-bit, which this kernel's hooks do not take; sends are counted".to_owned()
        }
        TlsState::Static => {
            "carries its own TLS, found by its structure: hooked on probation, kept when its calls prove it"
                .to_owned()
        }
        TlsState::Proven => "carries its own TLS, found by its structure and proven: hooked".to_owned(),
        TlsState::Disproved(why) => {
            format!("not hooked: carries its own TLS, and what was seen there did not prove it ({why})")
        }
        TlsState::Unsure(why) => {
            format!("not hooked: carries its own TLS, and where it writes is not certain ({why})")
        }
    }
}

/// For programs, one object.
pub fn json(found: &Examination) -> String {
    let checks: Vec<Value> = found
        .checks
        .iter()
        .map(|check| {
            json!({ "name": check.name, "state": check.state.word(), "found": check.found, "costs": check.costs })
        })
        .collect();
    let tls: Vec<Value> = found
        .tls
        .iter()
        .map(|file| {
            json!({
                "path": file.path.display().to_string(),
                "state": file.state.word(),
                "processes": file.processes,
                "why": words(&file.state),
            })
        })
        .collect();
    let mut object = verdict(found.attach.zip(found.memory), found.refusal.as_deref());
    if let Value::Object(fields) = &mut object {
        fields.insert("checks".into(), checks.into());
        fields.insert("tls".into(), tls.into());
    }
    object.to_string() + "\n"
}

/// The part of it that `--quick --json` prints.
pub fn quick_json(ways: Option<(AttachPath, MemoryPath)>, refusal: Option<&str>) -> String {
    verdict(ways, refusal).to_string() + "\n"
}

fn verdict(ways: Option<(AttachPath, MemoryPath)>, refusal: Option<&str>) -> Value {
    let mut verdict = json!({ "telltale": env!("CARGO_PKG_VERSION"), "can_run": refusal.is_none() });
    if let Value::Object(fields) = &mut verdict {
        if let Some(refusal) = refusal {
            fields.insert("reason".into(), refusal.into());
        }
        if let Some((attach, memory)) = ways {
            fields.insert("attach".into(), attach.name().into());
            fields.insert("memory".into(), memory.name().into());
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::TlsFile;

    fn examination(refusal: Option<&str>) -> Examination {
        let check = |name, state, costs| Check { name, state, found: "so".into(), costs };
        let file = |path: &str, state, processes| TlsFile { path: path.into(), state, processes };
        Examination {
            checks: vec![
                check("kernel", State::Known, ""),
                check("root", State::Works, ""),
                check("bpf JIT", State::Missing, "slower"),
            ],
            tls: vec![
                file("/system/lib64/libssl.so", TlsState::Hookable, 12),
                file("/system/lib/libssl.so", TlsState::Bits32, 1),
                file("/data/app/x/libflutter.so", TlsState::Static, 1),
                file("/data/app/y/libz.so", TlsState::Unsure("two candidates".into()), 1),
            ],
            refusal: refusal.map(str::to_owned),
            attach: refusal.is_none().then_some(AttachPath::Perf),
            memory: refusal.is_none().then_some(MemoryPath::Bpf),
        }
    }

    #[test]
    fn every_line_has_its_verdict_and_what_it_costs() {
        let text = text(&examination(None));
        for part in [
            "works    root     so\n",
            "MISSING  bpf JIT  so; without it: slower\n",
            "libssl.so, 12 processes: can be hooked\n",
            "/system/lib/libssl.so, 1 process: not readable: 32-bit",
            "its own TLS, found by its structure",
            "(two candidates)",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(text.ends_with(
            "\nthis kernel can run Telltale: hooks through perf fire, and what was sent can be read\n"
        ));
        let blind = Examination { memory: Some(MemoryPath::Nothing), ..examination(None) };
        let text = super::text(&blind);
        let last = text.lines().last().unwrap();
        assert!(
            last.starts_with("this kernel can run Telltale: ") && last.contains("but not what"),
            "{last}"
        );
        assert!(super::text(&examination(Some("no uprobes"))).ends_with("\ncannot run: no uprobes\n"));
    }

    #[test]
    fn programs_get_the_same() {
        let good: Value = serde_json::from_str(&json(&examination(None))).unwrap();
        assert_eq!((&good["can_run"], &good["attach"]), (&json!(true), &json!("perf")));
        assert_eq!(good["memory"], "bpf");
        assert_eq!(good["checks"][2]["state"], "missing");
        assert_eq!(good["tls"][1]["state"], "32-bit");
        let bad: Value = serde_json::from_str(&quick_json(None, Some("no uprobes"))).unwrap();
        assert_eq!((&bad["can_run"], &bad["reason"]), (&json!(false), &json!("no uprobes")));
        assert!(bad.get("attach").is_none());
    }
}
