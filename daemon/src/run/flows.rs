//! Connections of the kernel → flows of the pipeline: whose they are, where they go, and what comes of their bytes.

mod ask;
mod facts;
mod ladder;
mod sockets;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{coverage::Coverage, trials::Trials};
use crate::{
    alert::{Alert, Ledger, Told, sink::Sink},
    app::{App, AppTable},
    coverage::{Outlook, Reach},
    kernel::Births,
    leak::Crypt,
    pipeline::{Counts, Flow, FlowId, Pipeline, Settings},
    record::{Body, ConnectionId, Direction, Event},
    store,
    stream::{self, Chunk, Step},
};
use ask::{Ask, Born, Kernel};
use ladder::{Ladder, Next};
use sockets::Sockets;

/// The pipeline with what is needed to feed it.
pub(super) struct Flows {
    pipeline: Pipeline,
    apps: Apps,
    open: HashMap<ConnectionId, Open>,
    /// Open connections that sent something since the last pause; under steady load there is none for a long time.
    active: BTreeSet<FlowId>,
    sinks: Vec<Box<dyn Sink>>,
    ask: Box<dyn Ask>,
    seen: Sockets,
    trials: Option<Trials>,
    /// How much of it all is read.
    pub(super) coverage: Coverage,
    /// The first failure to write an alert.
    failed: Option<io::Error>,
}

struct Open {
    flow: FlowId,
    /// Which socket it writes to.
    ladder: Ladder,
}

impl Flows {
    pub(super) fn new(pipeline: Pipeline, packages: PathBuf, sinks: Vec<Box<dyn Sink>>) -> Flows {
        let apps = Apps { table: AppTable::new(), file: packages, changed: None, missing: false };
        let seen = Sockets::new();
        let coverage = Coverage::new();
        Flows {
            pipeline,
            apps,
            open: HashMap::new(),
            active: BTreeSet::new(),
            sinks,
            ask: Box::new(Kernel::new()),
            seen,
            trials: None,
            coverage,
            failed: None,
        }
    }

    /// Gives it the programs' own list of descriptors, without which an answer that comes late is believed.
    pub(super) fn set_births(&mut self, births: Births) {
        self.ask = Box::new(Kernel::with_births(births));
    }

    /// Reads the list of packages if it has changed; a sentence when it cannot be used.
    pub(super) fn refresh_apps(&mut self) -> Option<String> {
        self.apps.refresh()
    }

    /// Adds labels and roles of apps, in the format of `data/packages.toml`.
    pub(super) fn add_known_apps(&mut self, text: &str) -> Result<usize, String> {
        self.apps.table.add_known(text)
    }

    /// What went through, and what became of it.
    pub(super) fn day(&mut self) -> (Counts, Told) {
        (self.pipeline.counts(), self.pipeline.ledger().take_told())
    }

    /// Whether a package of that name is installed.
    pub(super) fn is_installed(&self, name: &str) -> bool {
        self.apps.table.is_installed(name)
    }

    /// Brings to the disk how much of each app's traffic was read.
    pub(super) fn keep_coverage(&mut self) -> Result<(), store::Error> {
        let table = &self.apps.table;
        self.coverage.keep(|app| table.named(&app.app, app.uid).label)
    }

    /// How far one can look into the installed apps, by what they sent and what they run.
    pub(super) fn outlook(&self, runs: &HashMap<String, Reach>) -> Outlook {
        Outlook::of(self.apps.table.packages(), &self.coverage.view(), runs)
    }

    /// What went through since the start.
    pub(super) fn counts(&self) -> Counts {
        self.pipeline.counts()
    }

    /// What was said already.
    pub(super) fn ledger(&mut self) -> &mut Ledger {
        self.pipeline.ledger()
    }

    /// Lets the owner make experiments.
    pub(super) fn set_trials(&mut self, trials: Trials) {
        self.trials = Some(trials);
    }

    /// Looks whether the owner began an experiment or asks for its verdict; a sentence for him.
    pub(super) fn look_at_trial(&mut self) -> Option<String> {
        let trials = self.trials.as_mut()?;
        let was_open = trials.is_open();
        let news = trials.look(&mut self.pipeline.settings().detector, self.seen.unread(), now_ms());
        if !was_open && trials.is_open() {
            self.seen.forget_ended();
        }
        news
    }

    /// The app behind a process.
    pub(super) fn app(&self, uid: u32, pid: u32) -> App {
        self.apps.of(uid, pid)
    }

    /// What the pipeline works by.
    pub(super) fn settings(&mut self) -> &mut Settings {
        self.pipeline.settings()
    }

    /// Alerts go there too.
    pub(super) fn add_sink(&mut self, sink: Box<dyn Sink>) {
        self.sinks.push(sink);
    }

    /// Says whose each open connection is, as far as is known now.
    pub(super) fn describe_all(&mut self) {
        for connection in self.coverage.connections() {
            self.describe(connection);
        }
    }

    fn describe(&mut self, connection: ConnectionId) {
        let open = self.open.get(&connection).map(|open| open.flow);
        let Some(flow) = open.or_else(|| self.seen.flow(connection)) else { return };
        let settings = self.pipeline.settings();
        let (users, loopback) = (settings.users.clone(), settings.loopback);
        if let Some(flow) = self.pipeline.flow(flow) {
            self.coverage.describe(connection, flow, &users, loopback);
        }
    }

    /// A connection is over: its last word to the ledger, before the pipeline forgets it.
    fn account(&mut self, connection: ConnectionId) {
        self.describe(connection);
        self.coverage.end(connection);
    }

    /// Where no protocol is known, a message ends when its sender pauses.
    pub(super) fn pause(&mut self) {
        let now = now_ms();
        for flow in std::mem::take(&mut self.active) {
            let alerts = self.pipeline.pause(flow, now);
            self.tell(&alerts);
        }
    }

    /// What went wrong with writing alerts, once.
    pub(super) fn take_failure(&mut self) -> Option<io::Error> {
        self.failed.take()
    }

    fn tell(&mut self, alerts: &[Alert]) {
        if let Some(trials) = &mut self.trials {
            trials.see(alerts, now_ms());
        }
        for alert in alerts {
            for sink in &mut self.sinks {
                if let Err(error) = sink.alert(alert) {
                    self.failed.get_or_insert(error);
                }
            }
        }
    }

    /// What this flow sends can be read. `fd` is its descriptor the first time.
    fn was_read(&mut self, connection: ConnectionId, flow: FlowId, fd: Option<u32>, ktime: u64) {
        let Some(trials) = &mut self.trials else { return };
        let Some(flow) = self.pipeline.flow(flow) else { return };
        if connection.socket().is_none() && (fd.is_some() || trials.is_open()) {
            self.seen.is_read(connection.tgid, fd, flow.host.as_deref(), ktime);
        }
        trials.readable(&flow.app);
    }

    fn flow(&mut self, connection: ConnectionId, event: &Event) -> FlowId {
        if let Some(open) = self.open.get(&connection) {
            return open.flow;
        }
        // Apps may have been installed since.
        if let Some(complaint) = self.apps.refresh() {
            log::warn!("{complaint}");
        }
        let mut flow = Flow::new(self.apps.of(event.uid, connection.tgid), Crypt::Tls);
        flow.attr = "uid:kernel".to_owned();
        let mut ladder = Ladder::default();
        // One that begins with a write was made before: by this process unseen, or by the one it was forked from.
        if matches!(event.body, Body::TlsWrite(_))
            && let Some((original, copied)) = self.forked_from(connection)
        {
            ladder = copied;
            if let Some(known) = self.pipeline.flow(original) {
                (flow.host, flow.host_from) = (known.host.clone(), known.host_from.clone());
            }
        }
        let flow = self.pipeline.open(flow);
        self.open.insert(connection, Open { flow, ladder });
        flow
    }

    /// What is known of the `SSL*` of which this one is the copy, if the process that forked still has it.
    fn forked_from(&mut self, copy: ConnectionId) -> Option<(FlowId, Ladder)> {
        let parent = self.ask.parent(copy.tgid)?;
        let is_it = |id: &ConnectionId| id.tgid == parent && id.object == copy.object && id.born < copy.born;
        self.open.iter().find(|(id, _)| is_it(id)).map(|(_, open)| (open.flow, open.ladder.forked()))
    }

    fn climb(&mut self, connection: ConnectionId, learn: impl FnOnce(&mut Ladder)) {
        if let Some(open) = self.open.get_mut(&connection) {
            learn(&mut open.ladder);
        }
    }

    /// Finds where the connection goes, before bytes are looked at that were written at this time, when its socket has been found
    /// since the last ones; then gives the descriptor.
    fn find_peer(&mut self, connection: ConnectionId, ktime: u64) -> Option<u32> {
        let open = self.open.get_mut(&connection)?;
        let (number, how) = open.ladder.take()?;
        let (fd, flow) = (u32::try_from(number).ok()?, open.flow);
        self.coverage.carried_by(connection, fd, ktime);
        let facts = self.seen.facts(connection.tgid, fd, ktime).cloned().unwrap_or_default();
        let peer = facts.peer.or_else(|| {
            let led = self.ask.peer(connection.tgid, fd)?;
            // The number may stand for another socket by now.
            let is_it = match self.ask.born(connection.tgid, fd) {
                Born::Unwatched => true,
                Born::Gone => false,
                Born::At(born) => born <= ktime,
            };
            is_it.then_some(led.peer)
        });
        if let Some(name) = facts.server_name {
            self.pipeline.update(flow, |flow| {
                if flow.host.is_none() {
                    flow.host = Some(name);
                    flow.host_from = "sni".to_owned();
                }
            });
        }
        if let Some(peer) = peer {
            self.pipeline.update(flow, |flow| {
                flow.peer = Some(peer);
                flow.loopback = peer.ip().to_canonical().is_loopback();
                flow.attr = format!("uid:kernel peer:{}", how.word());
            });
        }
        Some(fd)
    }
}

impl stream::Sink for Flows {
    fn step(&mut self, connection: ConnectionId, event: Option<&Event>, step: Step<'_>) {
        if connection.socket().is_some() {
            return self.socket_step(connection, event, step);
        }
        let now = now_ms();
        if let Step::Chunk(Chunk::End) = step {
            self.account(connection);
            if let Some(open) = self.open.remove(&connection) {
                self.active.remove(&open.flow);
                let alerts = self.pipeline.close(open.flow, now);
                self.tell(&alerts);
            }
            return;
        }
        let Some(event) = event else { return };
        let flow = self.flow(connection, event);
        match step {
            Step::Host(name) => {
                let name = name.to_ascii_lowercase();
                self.pipeline.update(flow, |flow| {
                    flow.host = Some(name);
                    flow.host_from = "sni".to_owned();
                });
            }
            Step::Fd(Direction::Read, _) | Step::Peer(_) | Step::Unknown => {}
            Step::Fd(_, fd) => self.climb(connection, |ladder| ladder.set(fd)),
            Step::Nested(fd) => self.climb(connection, |ladder| ladder.nested(fd)),
            Step::Next { fd, head, taken, sent } => {
                self.climb(connection, |ladder| ladder.next(Next { fd, head, taken, sent }));
            }
            Step::Chunk(chunk) => {
                let fd = self.find_peer(connection, event.ktime);
                self.was_read(connection, flow, fd, event.ktime);
                let alerts = self.pipeline.push(flow, chunk, now);
                self.tell(&alerts);
                self.active.insert(flow);
            }
        }
    }
}

/// uid and pid → app, by the phone's list of packages.
struct Apps {
    table: AppTable,
    file: PathBuf,
    /// The list's time stamp when it was read; none when there was none to read.
    changed: Option<SystemTime>,
    /// That it cannot be read has been said.
    missing: bool,
}

impl Apps {
    fn refresh(&mut self) -> Option<String> {
        let changed = fs::metadata(&self.file).and_then(|data| data.modified());
        if let (Ok(now), Some(then)) = (&changed, self.changed)
            && *now == then
        {
            return None;
        }
        match fs::read_to_string(&self.file) {
            Ok(list) => {
                (self.changed, self.missing) = (changed.ok(), false);
                self.table.reload(&list).map(|problem| format!("{}: {problem}", self.file.display()))
            }
            Err(error) => {
                let news = self.changed.take().is_some() || !self.missing;
                self.missing = true;
                self.table.clear();
                news.then(|| {
                    format!("{} cannot be read ({error}): apps are named by uid", self.file.display())
                })
            }
        }
    }

    fn of(&self, uid: u32, pid: u32) -> App {
        let parent = parent(pid).map(process_name);
        self.table.app(uid, pid, &process_name(pid), parent.as_deref())
    }
}

/// The first word of a process's command line, empty when it is gone.
fn process_name(pid: u32) -> String {
    let line = fs::read(process(pid).join("cmdline")).unwrap_or_default();
    let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(first).into_owned()
}

/// Field 4 of `/proc/PID/stat` (proc_pid_stat(5)).
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(process(pid).join("stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn process(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// True while the process is there.
pub(super) fn is_alive(pid: u32) -> bool {
    process(pid).exists()
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
