//! What this kernel can do for Telltale: every ability is tried, not looked up by version, and said with what it costs to
//! be without it.

use std::{fs, io, path::Path};

use aya::{
    maps::MapType,
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported},
};

use super::{
    AttachPath, KernelError, Memory, MemoryPath, ONLINE, Options, Proof, SendsPath, Session, TlsFile,
    ciphers, cpu_list, netlink,
    netlink::{LinkSocket, Links, SocketQuery},
    prove, prove_with,
    ring::Ring,
    sends, tls_files,
};

/// How an ability is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Tried, and it works.
    Works,
    /// Tried, and it does not.
    Missing,
    /// A fact without a verdict.
    Known,
}

impl State {
    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            State::Works => "works",
            State::Missing => "missing",
            State::Known => "known",
        }
    }
}

/// One ability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was tried.
    pub name: &'static str,
    /// How it went.
    pub state: State,
    /// What was found, or why it is missing.
    pub found: String,
    /// What it costs to be without it; empty when it works.
    pub costs: &'static str,
}

/// Everything that was found.
#[derive(Debug, Clone)]
pub struct Examination {
    /// The abilities, in the order they build on each other.
    pub checks: Vec<Check>,
    /// TLS in the files that processes have mapped now.
    pub tls: Vec<TlsFile>,
    /// Why the main job cannot be done, in one sentence; none when it can.
    pub refusal: Option<String>,
    /// The way to uprobes that `run` takes.
    pub attach: Option<AttachPath>,
    /// How `run` reads what apps send.
    pub memory: Option<MemoryPath>,
}

/// Only whether Telltale can run: hooks fire, and whether what is sent can be read. `memory` forces one way to do so.
///
/// # Errors
/// One sentence with what is in the way.
pub fn quick(memory: Option<MemoryPath>) -> Result<Proof, String> {
    let proof = prove_with(None, memory).map_err(|error| error.to_string())?;
    match proof.complaint() {
        None => Ok(proof),
        Some(complaint) => Err(complaint.to_owned()),
    }
}

/// Tries everything. Takes seconds: programs are searched for TLS of their own, unless a watch has done so before, which
/// `own_tls` says.
pub fn examine(own_tls: Memory, memory: Option<MemoryPath>) -> Examination {
    let quick = quick(memory);
    let mut list = List::default();
    system(&mut list);
    bpf(&mut list);
    perf(&mut list);
    for way in [AttachPath::Tracefs, AttachPath::Perf] {
        hooks(&mut list, way);
    }
    let proof = quick.as_ref().ok();
    what_is_sent(&mut list, proof);
    list.tried(
        "what apps encrypt themselves",
        ciphers::survey(),
        "telemetry that an app seals before TLS is named, not read",
    );
    tracepoints(&mut list);
    network(&mut list);
    Examination {
        checks: list.0,
        tls: tls_files::survey(Some(own_tls)),
        attach: proof.map(|proof| proof.attach),
        memory: proof.map(|proof| proof.memory),
        refusal: quick.err(),
    }
}

#[derive(Default)]
struct List(Vec<Check>);

impl List {
    fn known(&mut self, name: &'static str, found: impl Into<String>) {
        self.0.push(Check { name, state: State::Known, found: found.into(), costs: "" });
    }

    fn tried(&mut self, name: &'static str, result: Result<String, String>, costs: &'static str) {
        let (state, found, costs) = match result {
            Ok(found) => (State::Works, found, ""),
            Err(why) => (State::Missing, why, costs),
        };
        self.0.push(Check { name, state, found, costs });
    }
}

/// A file's first line, for what the kernel says in one.
fn line(path: &str) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    Ok(text.trim_end_matches(['\0', '\n']).lines().next().unwrap_or_default().trim().to_owned())
}

fn system(list: &mut List) {
    let release = line("/proc/sys/kernel/osrelease").unwrap_or_else(|why| why);
    list.known("kernel", format!("Linux {release} on {}", std::env::consts::ARCH));
    let root = nix::unistd::geteuid();
    let is_root = if root.is_root() { Ok("uid 0".to_owned()) } else { Err(format!("uid {root}")) };
    list.tried("root", is_root, "everything: only root may hook other processes");
    let domain = line("/proc/self/attr/current").unwrap_or_default();
    list.known("security domain", if domain.is_empty() { "none" } else { domain.as_str() });
    let cpus =
        cpu_list(ONLINE).map_or_else(|error| error.to_string(), |cpus| format!("{} running", cpus.len()));
    list.known("processors", cpus);
    list.known("32-bit processes", bits_32());
}

/// Processes whose TLS cannot be hooked, some by name.
fn bits_32() -> String {
    const NAMED: usize = 5;
    let mut names: Vec<String> = sends::processes_in_32_bit()
        .into_iter()
        .map(|pid| line(&format!("/proc/{pid}/comm")).unwrap_or_default())
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    names.truncate(NAMED);
    match count {
        0 => "none".to_owned(),
        _ => format!("{count}, whose TLS hooks do not take: {}", names.join(", ")),
    }
}

fn bpf(list: &mut List) {
    let lost = "what is sent cannot be read: Telltale cannot run (CONFIG_BPF_SYSCALL, CONFIG_BPF_EVENTS)";
    for (name, kind, costs) in [
        ("bpf program for uprobes", ProgramType::KProbe, lost),
        ("bpf program for tracepoints", ProgramType::TracePoint, "sends outside TLS libraries are not seen"),
    ] {
        let answer = is_program_supported(kind).map_err(|error| chain(&error));
        list.tried(name, yes(answer), costs);
    }
    for (name, kind) in [
        ("bpf map: array", MapType::Array),
        ("bpf map: per-CPU array", MapType::PerCpuArray),
        ("bpf map: LRU hash", MapType::LruHash),
        ("bpf map: perf event array", MapType::PerfEventArray),
    ] {
        let answer = is_map_supported(kind).map_err(|error| chain(&error));
        list.tried(name, yes(answer), lost);
    }
    let helper = |helper| is_helper_supported(ProgramType::KProbe, helper).map_err(|error| chain(&error));
    let reads = match (helper(BpfHelper::BPF_FUNC_probe_read_user), helper(BpfHelper::BPF_FUNC_probe_read)) {
        (Ok(true), _) => Ok("bpf_probe_read_user (helper 112)".to_owned()),
        (_, Ok(true)) => {
            Ok("bpf_probe_read (helper 4); whether it reads apps' memory is tried below".to_owned())
        }
        (Err(why), _) | (_, Err(why)) => Err(why),
        _ => Err("neither helper 112 nor helper 4".to_owned()),
    };
    list.tried("read of user memory", reads, "who sends is seen, but not what");
    let jit = match line("/proc/sys/net/core/bpf_jit_enable").as_deref() {
        Ok("0") => Err("switched off (net.core.bpf_jit_enable is 0)".to_owned()),
        Ok(_) => Ok("on".to_owned()),
        Err(_) => Err("this kernel interprets every instruction (CONFIG_BPF_JIT)".to_owned()),
    };
    list.tried("bpf JIT", jit, "each hook takes a few times longer; it works all the same");
}

fn perf(list: &mut List) {
    let cpu = cpu_list(ONLINE).ok().and_then(|cpus| cpus.first().copied()).unwrap_or(0);
    let opened = |result: io::Result<Ring>| match result {
        Ok(_) => Ok("opened and closed again".to_owned()),
        Err(error) => Err(format!("perf_event_open: {error}")),
    };
    list.tried("perf ring", opened(Ring::silent(cpu, 1)), "no way out of the kernel: Telltale cannot run");
    list.tried(
        "perf records of new mappings",
        opened(Ring::mappings(cpu, 1)),
        "TLS libraries that apps load later are not noticed",
    );
    if let Ok(paranoid) = line("/proc/sys/kernel/perf_event_paranoid") {
        list.known("perf_event_paranoid", format!("{paranoid} (does not bind root)"));
    }
}

/// Whether what is sent can be read, as it turned out.
fn what_is_sent(list: &mut List, proof: Option<&Proof>) {
    const NAME: &str = "what apps send can be read";
    let Some(proof) = proof else {
        return list.tried(NAME, Err("no hook fires".to_owned()), "nothing of what is sent is seen");
    };
    match proof.memory.costs() {
        None => list.tried(NAME, Ok("by the programs, all of it".to_owned()), ""),
        Some(costs) => {
            let why = "a read of our own memory, out of a hook, was refused".to_owned();
            list.tried(NAME, Err(why), costs);
        }
    }
}

fn hooks(list: &mut List, way: AttachPath) {
    let (name, costs) = match way {
        AttachPath::Tracefs => {
            let root = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
                .into_iter()
                .find(|root| Path::new(root).join("uprobe_events").exists());
            let place = root.ok_or_else(|| {
                "neither /sys/kernel/tracing nor /sys/kernel/debug/tracing has uprobe_events".to_owned()
            });
            let writable = place.and_then(|root| {
                let file = format!("{root}/uprobe_events");
                match fs::OpenOptions::new().append(true).open(&file) {
                    Ok(_) => Ok(format!("{file} can be written")),
                    Err(error) => Err(format!("{file}: {error}")),
                }
            });
            list.tried("tracefs", writable, "hooks need the perf uprobe PMU then (Linux 4.17 and later)");
            ("hooks through tracefs fire", "hooks need the perf uprobe PMU then (Linux 4.17 and later)")
        }
        AttachPath::Perf => (
            "hooks through the perf uprobe PMU fire",
            "hooks go through tracefs, which needs tidying up after a crash; Telltale does that",
        ),
    };
    let result = match prove(Some(way)) {
        Ok(proof) => match proof.complaint() {
            None => Ok("hooked ourselves, called, and saw the call and its return".to_owned()),
            Some(complaint) => Err(complaint.to_owned()),
        },
        Err(KernelError::NoPmu) => Err("this kernel has none (Linux 4.17 and later)".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    list.tried(name, result, costs);
}

fn tracepoints(list: &mut List) {
    let first = sends::FIRST;
    let mut taken = false;
    for path in [first, first.other()] {
        let (name, costs) = match path {
            SendsPath::Raw => (
                "socket sends through raw_syscalls",
                "without the other way, what apps send outside TLS libraries is not seen; with it, what 32-bit apps send",
            ),
            SendsPath::Syscalls => {
                ("socket sends through syscalls:*", "no other way when another program holds raw_syscalls")
            }
        };
        let tried =
            Session::bare(&Options::default()).and_then(|mut session| session.hook_sends_through(path));
        let result = match tried {
            Ok(()) if taken => Ok("hooked and unhooked".to_owned()),
            Ok(()) => {
                taken = true;
                let why = if path == first { "" } else { ": the other is refused" };
                Ok(format!("hooked and unhooked; this way is taken{why}"))
            }
            Err(error) => Err(chain(&error)),
        };
        list.tried(name, result, costs);
    }
}

fn network(list: &mut List) {
    let sockets = SocketQuery::open().and_then(|mut query| query.all());
    list.tried(
        "sock_diag",
        named(sockets.map(|sockets| format!("{} sockets", sockets.len()))),
        "the address at the other end stays unknown; host names are still there",
    );
    let links = LinkSocket::open().and_then(|mut socket| {
        let mut links = Links::default();
        socket.refresh(&mut links)?;
        Ok(links.iter().count())
    });
    list.tried(
        "rtnetlink",
        named(links.map(|count| format!("{count} network interfaces"))),
        "whether something went by Wi-Fi, mobile or VPN is not said",
    );
}

fn named(result: Result<String, netlink::Error>) -> Result<String, String> {
    result.map_err(|error| error.to_string())
}

fn yes(answer: Result<bool, String>) -> Result<String, String> {
    match answer? {
        true => Ok("the kernel took one".to_owned()),
        false => Err("the kernel knows none".to_owned()),
    }
}

/// An error with what lies behind it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(source) = below {
        let said = source.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        below = source.source();
    }
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_what_it_costs() {
        let mut list = List::default();
        list.tried("a", Ok("b".into()), "c");
        list.tried("d", Err("e".into()), "f");
        let [works, missing] = &list.0[..] else { panic!() };
        assert_eq!((works.state, works.found.as_str(), works.costs), (State::Works, "b", ""));
        assert_eq!((missing.state, missing.found.as_str(), missing.costs), (State::Missing, "e", "f"));
    }

    #[test]
    fn an_error_is_said_with_its_reason_in_one_line() {
        let error = KernelError::call("bpf")(io::Error::from_raw_os_error(libc::EPERM));
        let said = chain(&error);
        assert!(said.starts_with("bpf: ") && said.contains("root") && !said.contains('\n'), "{said}");
    }
}
