//! `telltale run`: hooks this machine and tells what leaves it, on one epoll loop.
//!
//! While records come, the rings are read every millisecond or so. When nothing has come for a few passes the daemon says
//! that it sleeps, looks once more after a moment, and then waits without any timer until the doorbell rings.

mod ciphers;
mod control;
mod coverage;
mod files;
mod flows;
mod heartbeat;
mod hooked;
mod host_log;
pub(crate) mod knowledge;
mod losses;
mod nap;
mod outlook;
mod settings;
mod status;
mod trials;
mod wait;

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{EpollEvent, EpollTimeout},
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::getppid,
};
use thiserror::Error;

use crate::{
    alert::{
        evidence::{self, Evidence},
        logd,
        sink::{self, Json, Sink, is_reader_gone},
    },
    cli::{self, Attach, RunOptions, Sends},
    config::Config,
    control::{Address, Request},
    kernel::{AttachPath, KernelError, MappedFile, Options, SendsPath, Session, signal_at_parents_end},
    leak::{self, Detector, Severity, Truth},
    pipeline::{AddressBytes, Addresses, Pipeline, Settings},
    place::ip::{self, IpData},
    sealed::{self, Sealed},
    store,
    stream::{Limits, Order},
    trial,
};
use ciphers::Ciphers;
use control::{Answer, Control};
use files::Files;
use flows::Flows;
use heartbeat::Heartbeat;
use hooked::Hooked;
use knowledge::Knowledge;
use losses::Losses;
pub use nap::Nap;
use settings::{ConfigFile, Look, Mutes};
use status::Status;
use trials::Trials;
use wait::{CONTROL, DOORBELL, FILES, MAPPING, SEARCH, SIGNAL, Sources, timeout, wait_briefly, wait_on};

/// Why nothing is watched.
#[derive(Debug, Error)]
pub enum RunError {
    /// The kernel side.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A file that was named.
    #[error("{} cannot be read: {source}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Truth or built-in data.
    #[error(transparent)]
    Leak(#[from] leak::Error),
    /// A system call of the loop.
    #[error("{call}: {source}")]
    Call {
        /// Which.
        call: &'static str,
        /// Why it failed.
        source: Errno,
    },
    /// `--parent` names another process than the one that started this one, or that has ended.
    #[error("process {0} of --parent is not the one that started this one, or is gone")]
    Parent(u32),
    /// Alerts cannot be written.
    #[error("writing alerts: {0}")]
    Write(io::Error),
}

/// Watches until SIGTERM, SIGINT or SIGHUP, then takes all hooks off.
///
/// # Errors
/// [`RunError`], each in one line with what to do.
pub fn run(options: &RunOptions) -> Result<(), RunError> {
    // First of all, so that a signal during the start is not missed: it waits in the descriptor.
    let signals = signals()?;
    if let Some(parent) = options.parent {
        end_with(parent)?;
    }
    let mut config_file = ConfigFile::new(options.config.clone(), cli::config_file());
    let (config, mistake) = config_file.read().map_err(|(file, source)| RunError::Read { file, source })?;
    if !logd::start(config.log_level.filter()) {
        host_log::start(config.log_level.filter());
    }
    if let Some(mistake) = mistake {
        say(Severity::Error, &mistake);
    }
    let mut known =
        Knowledge::new(config_file.path().parent().map(|folder| folder.join(ADDITIONS)).as_deref())?;
    let truth = match &options.truth {
        Some(file) => Truth::from_json(&read(file)?)?,
        None => known.phone(&options.sysroot, &config.users),
    };
    let mut notes = known.notes;
    notes.extend(truth.warnings.iter().cloned());
    // Elsewhere nothing is kept unless a folder is named.
    let on_phone = cfg!(target_os = "android").then_some(Path::new(cli::PHONE_STORE));
    let store = options.store.as_deref().or(on_phone);
    let key = match store.map(store::key) {
        Some(Ok(key)) => key,
        // A full disk is no reason to watch nothing: alerts then have ids that other phones' alerts may have too.
        Some(Err(error)) => {
            notes.push(error.to_string());
            [0; 16]
        }
        None => [0; 16],
    };
    let mut settings = Settings::new(Detector::new(&truth, known.data));
    settings.protocols = known.protocols;
    settings.domains = known.domains;
    let (tokens, damaged) = store.map_or_else(Default::default, store::tokens);
    settings.memory = Some(tokens);
    notes.extend(damaged);
    settings.loopback = options.loopback || config.loopback;
    settings.users = config.users.clone();
    let (mut mutes, complaint) = Mutes::new(store);
    notes.extend(complaint);
    settings.alerts = mutes.policy(&config, key);
    settings.sealed = Sealed::new(unsealing(&config));
    let mut config = config;
    match addresses() {
        Ok(addresses) => settings.addresses = addresses,
        Err(why) => notes.push(why),
    }
    let evidence = match store.map(keep_evidence).transpose() {
        Ok(evidence) => evidence,
        Err(why) => {
            notes.push(format!("no evidence is kept: {why}"));
            None
        }
    };
    let observer = evidence.clone().map(|evidence| Box::new(evidence) as _);

    let packages = options.sysroot.join("data/system/packages.list");
    let asked = store.map(|store| store.join(trial::ASKED_FILE));
    let muted = store.map(|store| store.join(store::MUTES_FILE));
    let mut waited_for = vec![config_file.path(), &packages];
    waited_for.extend(asked.as_deref().into_iter().chain(muted.as_deref()));
    let files = Files::watch(&waited_for);
    let mut flows = Flows::new(Pipeline::new(settings), packages, sinks(options.json));
    flows.settings().observer = Some(flows.coverage.observer(observer));
    let mut control = match Control::open(Address::of(store)) {
        Ok(control) => {
            flows.add_sink(control.sink());
            Some(control)
        }
        Err(error) => {
            notes.push(format!("`telltale status` will not be answered: {error}"));
            None
        }
    };
    if let Some(Err(why)) = known.packages.map(|text| flows.add_known_apps(&text)) {
        notes.push(format!("packages.toml is not used: {why}"));
    }
    notes.extend(flows.refresh_apps());
    if let Some(store) = store {
        let (said, damaged) = store::said(store);
        *flows.ledger() = said;
        flows.coverage.go_on(store.join(EVIDENCE));
        notes.extend(damaged);
        flows.set_trials(Trials::new(store, truth, evidence.clone()));
    }

    let attach = options.attach.map(|attach| match attach {
        Attach::Perf => AttachPath::Perf,
        Attach::Tracefs => AttachPath::Tracefs,
    });
    let (own_tls, damaged) = store.map_or_else(Default::default, store::own_tls);
    notes.extend(damaged);
    let mut session = Session::start(&Options {
        attach,
        own_tls,
        memory: options.memory,
        libraries: options.libraries.clone(),
        ring_bytes: options.rings.and_then(|kib| usize::try_from(kib).ok()?.checked_mul(1024)),
    })?;
    session.set_budget(&config.budget())?;
    let hooked = match options.sends {
        Sends::Auto => session.hook_sends().map(drop),
        Sends::Syscalls => session.hook_sends_through(SendsPath::Syscalls),
        Sends::Raw => session.hook_sends_through(SendsPath::Raw),
        Sends::Off => Ok(()),
    };
    if let Err(error) = hooked {
        notes.push(format!("socket sends are not watched: {error}"));
    }
    if let Some(births) = session.births() {
        flows.set_births(births);
    }
    notes.extend(session.hook_also(&config.libraries));
    // Once everything is hooked: `telltale try` takes its answer for the word to begin.
    notes.extend(flows.look_at_trial());
    say_what_is_watched(&session);
    tell_own_tls(&mut session, store);
    for note in notes {
        say(Severity::Info, &note);
    }
    let outlook = outlook::outlook(&session, &flows).words();
    say(Severity::Info, &format!("{outlook}. Nothing yet is not all clear. Check me: telltale try"));
    session.give_back_start();
    let sources = Sources { signals: &signals, files: files.as_ref(), store };
    let (mut kept, mut heart) = (Instant::now(), Heartbeat::new(flows::now_ms()));
    let watched = watch(
        &mut session,
        &mut flows,
        &sources,
        evidence.as_ref(),
        control.as_mut(),
        &mut |flows, session| {
            let changed = reconsider(&mut config_file, options, &mut config, flows, session);
            let muted = mutes.look();
            if changed || muted.is_some() {
                flows.settings().alerts = mutes.policy(&config, key);
            }
            if let Some(complaint) = muted.flatten() {
                say(Severity::Warn, &complaint);
            }
            if let Some(complaint) = flows.refresh_apps() {
                say(Severity::Warn, &complaint);
            }
            if let Some(news) = flows.look_at_trial() {
                say(Severity::Info, &news);
            }
            if heart.is_due(flows::now_ms()) {
                let outlook = outlook::outlook(session, flows);
                let (counts, told) = flows.day();
                say(Severity::Info, &heart.line(flows::now_ms(), counts, told, &outlook));
            }
            if kept.elapsed() >= KEEP {
                kept = Instant::now();
                keep(store, flows, session);
            }
        },
    );
    keep(store, &mut flows, &session);
    // What is left of it; the rest was brought to the disk on the way.
    if let Some(evidence) = &evidence {
        sync(evidence);
    }
    session.stop_searching();
    tell_own_tls(&mut session, store);
    // Whatever ended it: hooks come off.
    let stopped = session.stop();
    watched?;
    Ok(stopped?)
}

/// How soon to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Records come: look again in a moment. How many passes brought nothing.
    Awake(u32),
    /// The doorbell is on; a record that just missed it would be here after [`SETTLE`].
    Settling,
    /// Nothing to do until somebody rings.
    Asleep,
}

/// Passes without a record, with whole naps between them, before going to sleep.
const QUIET_PASSES: u32 = 5;
/// See [`Session::set_asleep`].
const SETTLE: Duration = Duration::from_millis(10);
/// Between two looks at which CPUs and processes are still there; only when woken anyway.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// A power cut loses no more of the evidence than this while records come; before the loop sleeps all of it is on the disk.
const SYNC: Duration = Duration::from_secs(1);

/// Between two times that the tokens seen are brought to the disk while the watch runs.
const KEEP: Duration = Duration::from_secs(600);
/// The folder beside the configuration with the owner's additions to the built-in data.
const ADDITIONS: &str = "more";
/// The folder in the store with the evidence.
const EVIDENCE: &str = "evidence";
/// The longest list in a line about the watch itself.
const NAMED: usize = 3;

/// Two lines at the start: what is hooked, and what of the rest cannot be read. A third says it in numbers of apps.
fn say_what_is_watched(session: &Session) {
    let count = session.libraries().len();
    let libraries = if count == 1 { "1 library".to_owned() } else { format!("{count} libraries") };
    say(
        Severity::Info,
        &format!(
            "watching {libraries} with TLS (hooked by {}; sends: {})",
            session.attach_path().name(),
            session.sends_path().map_or("off", SendsPath::name)
        ),
    );
    let not = session.unreadable();
    let other = if not.is_empty() { String::new() } else { format!("{}, ", unreadable(not)) };
    let rest = format!(
        "not readable: {other}TLS that apps carry themselves, until it is found and proven (`telltale doctor` names them)"
    );
    match session.memory_path().costs() {
        None => say(Severity::Info, &format!("readable is what apps hand to these libraries; {rest}")),
        Some(costs) => say(Severity::Warn, &format!("{costs}; {rest}")),
    }
}

fn unreadable(libraries: &[PathBuf]) -> String {
    let names: Vec<String> =
        libraries.iter().take(NAMED).map(|library| library.display().to_string()).collect();
    let more = libraries.len().saturating_sub(names.len());
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("TLS of 32-bit processes ({}{more})", names.join(", "))
}

/// Says what is new about binaries that carry their own TLS, and keeps what was found in them.
fn tell_own_tls(session: &mut Session, store: Option<&Path>) {
    for news in session.own_tls_news() {
        say(Severity::Info, &news);
    }
    if let (Some(folder), Some(memory)) = (store, session.own_tls_learned())
        && let Err(error) = store::keep_own_tls(folder, &memory)
    {
        say(Severity::Warn, &error.to_string());
    }
}

/// Brings the tokens seen to the disk. A failure is said; the next time may go better.
fn keep(store: Option<&Path>, flows: &mut Flows, session: &Session) {
    if let (Some(folder), Some(tokens)) = (store, &flows.settings().memory)
        && let Err(error) = store::keep_tokens(folder, tokens)
    {
        say(Severity::Warn, &error.to_string());
    }
    if let Some(folder) = store
        && let Err(error) = store::keep_said(folder, flows.ledger())
    {
        say(Severity::Warn, &error.to_string());
    }
    flows.coverage.count(session, |_| true);
    flows.describe_all();
    if let Err(error) = flows.keep_coverage() {
        say(Severity::Warn, &error.to_string());
    }
}

/// Whose own encryption is looked into.
fn unsealing(config: &Config) -> sealed::Policy {
    sealed::Policy::built_in().with(&config.unseal, &config.never_unseal)
}

/// Looks whether the configuration has changed, and goes by it from now on; true when it has.
fn reconsider(
    file: &mut ConfigFile,
    options: &RunOptions,
    now: &mut Config,
    flows: &mut Flows,
    session: &Session,
) -> bool {
    match file.look() {
        Look::Same => false,
        Look::Mistake(mistake) => {
            say(Severity::Error, &mistake);
            false
        }
        Look::New(config) => {
            let settings = flows.settings();
            settings.loopback = options.loopback || config.loopback;
            settings.users = config.users.clone();
            settings.sealed.set_policy(unsealing(&config));
            if let Err(error) = session.set_budget(&config.budget()) {
                say(Severity::Warn, &error.to_string());
            }
            if logd::is_started() {
                log::set_max_level(config.log_level.filter());
            }
            say(Severity::Info, "the configuration has changed");
            *now = *config;
            true
        }
    }
}

/// The address data of the module, mapped. None when it was built without it.
fn addresses() -> Result<Option<Addresses>, String> {
    let Some(file) = ip::installed_file() else { return Ok(None) };
    let shown = file.display();
    let mapped = MappedFile::open(&file).map_err(|why| format!("{shown} cannot be read: {why}"))?;
    IpData::open(AddressBytes::new(mapped)).map(Some).map_err(|why| format!("{shown}: {why}"))
}

fn keep_evidence(store: &Path) -> Result<Evidence, evidence::store::StoreError> {
    Evidence::open(
        &store.join(EVIDENCE),
        evidence::store::Limits::default(),
        about_machine(),
        flows::now_ms(),
    )
}

/// What the first record of a run says of the machine: which kernel, which boot, since when it is up.
fn about_machine() -> serde_json::Map<String, serde_json::Value> {
    let files = [
        ("kernel", "/proc/sys/kernel/osrelease"),
        ("boot_id", "/proc/sys/kernel/random/boot_id"),
        ("uptime_s", "/proc/uptime"),
    ];
    files
        .into_iter()
        .filter_map(|(key, file)| {
            Some((key.to_owned(), std::fs::read_to_string(file).ok()?.split_whitespace().next()?.into()))
        })
        .collect()
}

/// Brings evidence to the disk; says so when some could not be kept.
fn sync(evidence: &Evidence) {
    let synced = evidence.sync();
    for why in evidence.take_error().into_iter().chain(synced.err()) {
        say(Severity::Warn, &format!("evidence was lost: {why}"));
    }
}

fn watch(
    session: &mut Session,
    flows: &mut Flows,
    sources: &Sources<'_>,
    evidence: Option<&Evidence>,
    mut control: Option<&mut Control>,
    housekeeping: &mut dyn FnMut(&mut Flows, &Session),
) -> Result<(), RunError> {
    let mut epoll = wait_on(session, sources, control.as_deref())?;
    let began = SystemTime::now();
    let mut losses = Losses::new(began);
    let mut attempts = 0;
    let mut order = Order::new(Limits::default());
    let mut ciphers = Ciphers::new(session, flows);
    let mut pace = Pace::Awake(0);
    let mut nap = Nap::default();
    let (mut looked, mut synced) = (Instant::now(), Instant::now());
    let mut hooked = Hooked::default();
    let mut ready = [EpollEvent::empty(); 16];
    loop {
        let timeout = match pace {
            Pace::Awake(_) => wait_briefly(&epoll, nap.length())?,
            Pace::Settling => timeout(SETTLE),
            Pace::Asleep => ciphers.timeout(flows).map_or(EpollTimeout::NONE, timeout),
        };
        let count = match epoll.wait(&mut ready, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(source) => return Err(RunError::Call { call: "epoll_wait", source }),
        };
        let is_ready = |what| ready.iter().take(count).any(|event| event.data() == what);
        if is_ready(SIGNAL) && matches!(sources.signals.read_signal(), Ok(Some(_))) {
            break;
        }
        let (rang, mapped) = (is_ready(DOORBELL), is_ready(MAPPING));
        if is_ready(SEARCH) {
            session.follow_searches();
        }
        if mapped {
            let known = session.unreadable().len();
            let new = session.follow_mappings();
            ciphers.follow_mappings(session, flows);
            if let Some(added @ [_, ..]) = session.unreadable().get(known..) {
                say(Severity::Info, &format!("not readable: {}", unreadable(added)));
            }
            if new > 0 {
                say(
                    Severity::Info,
                    &format!("watching {} libraries with TLS, {new} new", session.libraries().len()),
                );
            }
        }

        let changed = is_ready(FILES) && sources.files.is_some_and(Files::changed);

        // Before sleep, and now and then while there is no end of records.
        let house = pace != Pace::Asleep && looked.elapsed() >= HOUSEKEEPING;
        let asked = is_ready(CONTROL);
        if house || asked || pace == Pace::Settling {
            // Before the pass: what these counts tell of has then been read or is lost.
            attempts = session.tally()?.attempts;
            losses.before(attempts);
        }
        let hour = flows.coverage.is_hour_over();
        if asked || hour {
            flows.coverage.count(session, |_| true);
        }
        let pass = ciphers.drain(session, &mut order, flows);
        order.end_pass(pass.number, flows);
        flows.coverage.end_pass();
        for (connection, wanted) in flows.take_answers() {
            if let Err(error) = session.answer(connection, wanted) {
                log::debug!("{error}");
            }
        }
        if changed {
            // After the pass: what was sent before the owner asked for a verdict belongs to it.
            housekeeping(flows, session);
        }
        if let Some(odd) = losses.look_at(&pass) {
            say(Severity::Error, &odd);
        }
        if let Some(lost) = losses.after(session.records(), SystemTime::now()) {
            say(Severity::Warn, &lost);
        }
        if pass.records > 0 || is_ready(SEARCH) {
            tell_own_tls(session, sources.store);
        }
        if let Some(error) = flows.take_failure() {
            // A reader of the alerts that goes away ends the watch as Ctrl-C would.
            return if is_reader_gone(&error) { Ok(()) } else { Err(RunError::Write(error)) };
        }
        if let Some(control) = control.as_deref_mut() {
            if asked {
                flows.describe_all();
                let sealed = &flows.settings().sealed;
                let (ciphers, encrypted) = (sealed.tally(), sealed.held.counts());
                control.serve(&mut |request| match request {
                    Request::Watch => Answer::Alerts,
                    Request::Status => Answer::Once(
                        Status {
                            session,
                            began,
                            losses: &losses,
                            attempts,
                            order: order.counts(),
                            connections: order.len(),
                            view: flows.coverage.view(),
                            failed: flows.counts().failed,
                            ciphers: ciphers.clone(),
                            encrypted,
                        }
                        .line(),
                    ),
                });
            }
            control.tell();
        }
        if hour {
            flows.describe_all();
            if let Some(line) = flows.coverage.hourly() {
                say(Severity::Info, &line);
            }
        }
        let busy = pass.records > 0 || order.is_waiting() || ciphers.is_waiting();
        nap.after(pass.records);
        pace = match pace {
            _ if busy || rang => {
                if !matches!(pace, Pace::Awake(_)) {
                    session.set_asleep(false)?;
                }
                Pace::Awake(0)
            }
            Pace::Awake(quiet) if quiet < QUIET_PASSES => {
                Pace::Awake(quiet.saturating_add(u32::from(nap.is_calm())))
            }
            Pace::Awake(_) => {
                flows.pause();
                // Lines that Android's log did not take.
                log::logger().flush();
                session.set_asleep(true)?;
                Pace::Settling
            }
            Pace::Settling | Pace::Asleep => Pace::Asleep,
        };

        if let Some(evidence) = evidence
            && (pace != Pace::Asleep || mapped)
        {
            hooked.keep(session, evidence);
        }

        if let Some(evidence) = evidence
            && evidence.is_pending()
            && (!matches!(pace, Pace::Awake(_)) || synced.elapsed() >= SYNC)
        {
            synced = Instant::now();
            sync(evidence);
        }

        if house {
            looked = Instant::now();
            housekeeping(flows, session);
            ciphers.tidy(session, flows);
            for process in order.processes() {
                if !flows::is_alive(process) && !ciphers.holds_back(process) {
                    flows.coverage.count(session, |id| id.tgid == process);
                    order.end_process(process, flows);
                }
            }
            if session.follow_cpus()? {
                epoll = wait_on(session, sources, control.as_deref())?;
            }
        }
    }
    // What was sent up to now is still told.
    for _ in 0..2 {
        let pass = ciphers.drain(session, &mut order, flows);
        order.end_pass(pass.number, flows);
    }
    order.end_all(flows);
    match flows.take_failure() {
        Some(error) if !is_reader_gone(&error) => Err(RunError::Write(error)),
        _ => Ok(()),
    }
}

/// The signals that end the watch, as a descriptor.
fn signals() -> Result<SignalFd, RunError> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block().map_err(|source| RunError::Call { call: "pthread_sigmask", source })?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|source| RunError::Call { call: "signalfd", source })
}

/// Has the kernel send SIGTERM when the process that started this one ends, however it ends.
fn end_with(parent: u32) -> Result<(), RunError> {
    signal_at_parents_end(Signal::SIGTERM)
        .map_err(|source| RunError::Call { call: "prctl(PR_SET_PDEATHSIG)", source })?;
    // It may have ended before that: nobody would tell us any more.
    let is_there = u32::try_from(getppid().as_raw()).is_ok_and(|now| now == parent);
    if is_there { Ok(()) } else { Err(RunError::Parent(parent)) }
}

fn read(file: &Path) -> Result<String, RunError> {
    fs::read_to_string(file).map_err(|source| RunError::Read { file: file.to_owned(), source })
}

/// Where alerts go.
fn sinks(json: bool) -> Vec<Box<dyn Sink>> {
    let lines: Box<dyn Sink> =
        if logd::is_started() { Box::new(sink::Log) } else { Box::new(sink::Lines(io::stderr())) };
    let mut sinks = vec![lines];
    if json {
        sinks.push(Box::new(Json(io::stdout())));
    }
    sinks
}

/// A line about the watch itself. Nothing can be done when stderr is gone.
fn say(severity: Severity, line: &str) {
    if logd::is_started() {
        return sink::log_line(severity, line);
    }
    let mut text = Vec::new();
    let _ = sink::write_line(&mut text, severity, line);
    let _ = io::stderr().write_all(&text);
}
