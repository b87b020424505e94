//! `demo`: the whole way, once, on this machine's kernel.
//!
//! Processes with apps' uids send requests through real TLS libraries to a collector on the loopback; `telltale run` watches
//! from the kernel. What is shown is what the daemon prints, and the command fails when one of the findings that the
//! samples promise did not come, or when the collector took something else than was sent.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::context::{Context, create_dir, write};
use crate::error::{Error, Result};
use crate::run::{Run, end_child, read_lines};
use crate::samples::Sample;
use crate::setup::{self, Need};
use crate::{clients, compile, no_arguments, say};

/// What is sent, in this order: a sample and the client that sends it.
///
/// The first says nothing about anybody and must stay quiet; it goes first so that an alert about it would be there
/// by the time the others' are.
const SENDINGS: &[(&str, &str)] = &[
    ("91_neg_random_base64", "tls-client-boringssl"),
    ("01_visited_url", "tls-client-boringssl"),
    ("02_search_google", "tls-client-boringssl"),
    ("05_install_identifiers", "tls-client-boringssl"),
    ("08_sensors_js_gif", "tls-client-boringssl"),
    ("23_news_item", "tls-client-openssl"),
];

/// How long a client waits before it connects. Its library is new to this machine's memory, as an app's may be that is just
/// started: an app takes longer than this to its first request, and the daemon has to have hooked the library by then.
const CLIENT_WAIT_MS: &str = "400";
/// How long the daemon may take until it says what it watches.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long after the last request the last alert may come.
const ALERTS_WITHIN: Duration = Duration::from_secs(15);
/// How long the daemon may take to end once told to.
const END_WITHIN: Duration = Duration::from_secs(10);

/// `demo`.
pub fn command(context: &Context, rest: &[String]) -> Result<()> {
    no_arguments("demo", rest)?;
    setup::ensure(context, &[Need::Host, Need::Ebpf, Need::Clients, Need::Live])?;
    show(context)
}

/// Builds what is needed and shows it. Needs what [`command`] asks for.
///
/// # Errors
/// [`Error::Missing`] when this kernel cannot be hooked from here; [`Error::Check`] when an alert that must come did
/// not, or one came that must not.
pub fn show(context: &Context) -> Result<()> {
    setup::live_kernel()
        .map_err(|reason| Error::Missing(format!("the demo hooks this machine's kernel: {reason}")))?;
    compile::ebpf(context)?;
    compile::daemon(context)?;
    clients::build(context)?;

    let section = say::Section::start("demo: apps send, Telltale watches");
    let stage = Stage::set(context)?;
    let collector = Collector::start(context)?;
    let mut watch = Watch::start(context, &stage)?;
    for actor in &stage.actors {
        actor.send(context, &collector)?;
        watch.drain(&stage);
    }
    watch.until_satisfied(&stage);
    let leaving = watch.end(&stage)?;
    let taken = collector.end();
    section.end("done");

    let mut wrong = watch.wrong(&stage);
    wrong.extend(leaving);
    for actor in &stage.actors {
        wrong.extend(actor.check_taken(&taken)?);
    }
    if !wrong.is_empty() {
        return Err(Error::Check(format!("the demo did not show what it should:\n  {}", wrong.join("\n  "))));
    }
    say::plain(&watch.summary(&stage, taken.len()));
    Ok(())
}

/// An app of the demo: who sends what.
struct Actor {
    sample: Sample,
    client: &'static str,
    uid: u32,
    /// The file with the request's bytes.
    request: PathBuf,
}

/// Everything that is prepared before anything runs.
struct Stage {
    /// Stands for the phone's `/`.
    sysroot: PathBuf,
    /// The imagined phone's identifiers.
    truth: PathBuf,
    /// Where the daemon keeps its evidence: left to be looked at, `telltale report --evidence target/demo/store/evidence`.
    store: PathBuf,
    actors: Vec<Actor>,
}

impl Stage {
    fn set(context: &Context) -> Result<Self> {
        let dir = context.target.join("demo");
        let sysroot = dir.join("sysroot");
        create_dir(&sysroot.join("data/system"))?;
        let samples = context.root.join("daemon/tests/samples");
        let mut actors = Vec::new();
        // uids of apps (10000 and up), different from one demo to the next: another one on this machine, or what it
        // left in a log, must not be taken for ours.
        let first_uid = 10_000_u32.saturating_add((std::process::id() % 600).saturating_mul(16));
        for (uid, (name, client)) in (first_uid..).zip(SENDINGS) {
            let sample = Sample::read(&samples, name)?;
            let request = dir.join(format!("{name}.request"));
            write(&request, &sample.request)?;
            actors.push(Actor { sample, client, uid, request });
        }
        // packages.list of Android 9: name, uid, debuggable, data directory, seinfo, groups.
        let list: String = actors
            .iter()
            .map(|actor| {
                let (app, uid) = (&actor.sample.app, actor.uid);
                format!("{app} {uid} 0 /data/user/0/{app} default:targetSdkVersion=28 3003\n")
            })
            .collect();
        write(&sysroot.join("data/system/packages.list"), list)?;
        let store = dir.join("store");
        // What the last demo left; where that is nothing, nothing is to be removed.
        let _ = std::fs::remove_dir_all(&store);
        Ok(Self { sysroot, truth: samples.join("device_truth.json"), store, actors })
    }

    fn actor_of(&self, uid: u64) -> Option<&Actor> {
        self.actors.iter().find(|actor| u64::from(actor.uid) == uid)
    }
}

impl Actor {
    /// Sends the request from a process of the app's uid.
    fn send(&self, context: &Context, collector: &Collector) -> Result<()> {
        say::note(&format!(
            "{} (uid {}) sends {} through {}",
            self.sample.app, self.uid, self.sample.name, self.client
        ));
        Run::new(clients::path(context, self.client))
            .args(["--connect", &format!("127.0.0.1:{}", collector.port), "--host", &self.sample.host])
            .args(["--uid", &self.uid.to_string(), "--wait", CLIENT_WAIT_MS, "--file"])
            .arg(&self.request)
            .output()
            .map(drop)
    }

    /// Whether the collector took exactly what was sent, under the right name.
    fn check_taken(&self, taken: &[String]) -> Result<Option<String>> {
        let sum = Run::new("sha256sum").arg(&self.request).output()?;
        let sum = sum.split(' ').next().unwrap_or_default();
        let line = format!("sni={} bytes={} sha256={sum}", self.sample.host, self.sample.request.len());
        Ok((!taken.contains(&line))
            .then(|| format!("{}: the collector did not take it as it was sent", self.sample.name)))
    }
}

/// The TLS server that the clients send to.
struct Collector {
    child: Child,
    /// It ends when this is closed.
    stdin: Option<ChildStdin>,
    port: u16,
    lines: Receiver<String>,
}

impl Collector {
    fn start(context: &Context) -> Result<Self> {
        let mut child =
            Run::new(clients::path(context, "tls-collector")).arg("127.0.0.1").spawn(|command| {
                command.stdin(Stdio::piped()).stdout(Stdio::piped());
            })?;
        let (sender, lines) = channel();
        read_lines(child.stdout.take(), move |line| drop(sender.send(line)));
        let stdin = child.stdin.take();
        let port = lines
            .recv_timeout(READY_WITHIN)
            .ok()
            .and_then(|line| line.strip_prefix("port=")?.parse().ok())
            .ok_or_else(|| Error::Check("the collector did not start".into()))?;
        Ok(Self { child, stdin, port, lines })
    }

    /// Ends it and gives what it reported.
    fn end(mut self) -> Vec<String> {
        // A connection's line comes after its last byte, so wait for one per client, but not for ever.
        let mut taken = Vec::new();
        while taken.len() < SENDINGS.len() {
            match self.lines.recv_timeout(END_WITHIN) {
                Ok(line) => taken.push(line),
                Err(_) => break,
            }
        }
        drop(self.stdin.take());
        taken
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.stdin.take());
        end_child(&mut self.child, Duration::from_secs(2));
    }
}

/// What the daemon printed.
enum Said {
    /// A line for people.
    Line(String),
    /// A line for programs.
    Json(String),
}

/// The running daemon and what it has said so far.
struct Watch {
    child: Child,
    said: Receiver<Said>,
    started: Instant,
    /// Alerts about the demo's apps, as JSON.
    alerts: Vec<Value>,
    /// How many lines for people were shown.
    shown: usize,
    /// Lines about other programs of this machine, which are nobody's business here.
    others: usize,
    /// The end of what it said that is no alert, for when it fails.
    status: Vec<String>,
}

impl Watch {
    fn start(context: &Context, stage: &Stage) -> Result<Self> {
        let run = Run::new(context.telltale())
            .args(["run", "--json", "--loopback", "--sysroot"])
            .arg(&stage.sysroot)
            .arg("--truth")
            .arg(&stage.truth)
            .arg("--store")
            .arg(&stage.store);
        let command = run.shown().to_owned();
        say::note(&command);
        let mut child = run.spawn(|command| {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        })?;
        let (sender, said) = channel();
        let json_sender: Sender<Said> = sender.clone();
        read_lines(child.stderr.take(), move |line| drop(sender.send(Said::Line(line))));
        read_lines(child.stdout.take(), move |line| drop(json_sender.send(Said::Json(line))));
        let mut watch = Self {
            child,
            said,
            started: Instant::now(),
            alerts: Vec::new(),
            shown: 0,
            others: 0,
            status: Vec::new(),
        };
        // It says what it watches once its hooks are in.
        match watch.said.recv_timeout(READY_WITHIN) {
            Ok(said) => watch.take(said, stage),
            Err(_) => return Err(watch.failed(&command, "said nothing")),
        }
        thread::sleep(Duration::from_millis(200));
        watch.drain(stage);
        if let Ok(Some(status)) = watch.child.try_wait() {
            return Err(watch.failed(&command, &status.to_string()));
        }
        Ok(watch)
    }

    fn failed(&mut self, command: &str, how: &str) -> Error {
        Error::Failed { command: command.to_owned(), status: how.to_owned(), tail: self.status.join("\n") }
    }

    /// Takes what was said up to now.
    fn drain(&mut self, stage: &Stage) {
        while let Ok(said) = self.said.try_recv() {
            self.take(said, stage);
        }
    }

    fn take(&mut self, said: Said, stage: &Stage) {
        match said {
            Said::Json(line) => {
                let Ok(json) = serde_json::from_str::<Value>(&line) else {
                    self.status.push(format!("no JSON: {line}"));
                    return;
                };
                let ours = json.get("uid").and_then(Value::as_u64).and_then(|uid| stage.actor_of(uid));
                if ours.is_some() && json.get("kind").is_some() {
                    self.alerts.push(json);
                }
            }
            Said::Line(line) => match uid_of(&line) {
                Some(uid) if stage.actor_of(uid).is_none() => self.others = self.others.saturating_add(1),
                Some(_) => {
                    self.shown = self.shown.saturating_add(1);
                    say::plain(&line);
                }
                None => {
                    say::plain(&line);
                    self.status.push(line);
                }
            },
        }
    }

    /// Waits until everything that must come has come, or the time for it is over.
    fn until_satisfied(&mut self, stage: &Stage) {
        let end = Instant::now() + ALERTS_WITHIN;
        while !self.missing(stage).is_empty() {
            match self.said.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(said) => self.take(said, stage),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn alerts_about<'a>(&'a self, actor: &'a Actor) -> impl Iterator<Item = &'a Value> {
        let text = |alert: &Value, field| alert.get(field).and_then(Value::as_str).map(str::to_owned);
        self.alerts.iter().filter(move |alert| {
            alert.get("uid").and_then(Value::as_u64) == Some(u64::from(actor.uid))
                && text(alert, "app").as_ref() == Some(&actor.sample.app)
                && text(alert, "host").as_ref() == Some(&actor.sample.host)
        })
    }

    /// Findings that the samples promise and that were not reported.
    fn missing(&self, stage: &Stage) -> Vec<String> {
        let all = stage
            .actors
            .iter()
            .flat_map(|actor| actor.sample.findings.iter().map(move |finding| (actor, finding)));
        all.filter(|(actor, finding)| !self.alerts_about(actor).any(|alert| finding.is_met_by(alert)))
            .map(|(actor, finding)| {
                let (name, app, kind) = (&actor.sample.name, &actor.sample.app, finding.kinds.join(" or "));
                format!(
                    "{name}: no alert that {app} sent {kind} {:?} to {}",
                    finding.value, actor.sample.host
                )
            })
            .collect()
    }

    /// Everything that is not as the samples say.
    fn wrong(&self, stage: &Stage) -> Vec<String> {
        let mut wrong = self.missing(stage);
        for actor in stage.actors.iter().filter(|actor| actor.sample.loudest == Some('I')) {
            for alert in self
                .alerts
                .iter()
                .filter(|alert| alert.get("uid").and_then(Value::as_u64) == Some(actor.uid.into()))
            {
                if !matches!(alert.get("severity").and_then(Value::as_str), Some("I" | "D")) {
                    wrong.push(format!(
                        "{}: an alert where there is nothing to tell: {alert}",
                        actor.sample.name
                    ));
                }
            }
        }
        if self.shown == 0 {
            wrong.push("the daemon wrote no alert line for people".into());
        }
        wrong
    }

    /// Tells the daemon to end; gives what was wrong about how it did.
    fn end(&mut self, stage: &Stage) -> Result<Option<String>> {
        Run::new("kill").args(["-TERM", &self.child.id().to_string()]).output()?;
        let wrong = match end_child(&mut self.child, END_WITHIN) {
            Some(status) if status.success() => None,
            Some(status) => Some(format!("after SIGTERM the daemon ended with {status}")),
            None => Some(format!("the daemon did not end within {} s of SIGTERM", END_WITHIN.as_secs())),
        };
        // Its pipes are closed now, so the readers end and this does, too.
        while let Ok(said) = self.said.recv_timeout(Duration::from_secs(2)) {
            self.take(said, stage);
        }
        Ok(wrong)
    }

    fn summary(&self, stage: &Stage, connections: usize) -> String {
        let kinds: BTreeSet<&str> =
            self.alerts.iter().filter_map(|alert| alert.get("kind").and_then(Value::as_str)).collect();
        let quiet = stage.actors.iter().filter(|actor| actor.sample.findings.is_empty()).count();
        let promised: usize = stage.actors.iter().map(|actor| actor.sample.findings.len()).sum();
        let findings = self.alerts.len();
        let others = match self.others {
            0 => String::new(),
            count => {
                format!(" {count} further lines were about other programs on this machine and are not shown.")
            }
        };
        format!(
            "\nWhat was seen: {connections} processes with apps' uids each made one TLS connection, through Android's BoringSSL or \
             through OpenSSL, to a collector on this machine that confirms name, length and hash of what each sent. From the \
             kernel alone, without a certificate or a proxy, Telltale reported {findings} findings in {} s ({}), among them all \
             {promised} that the samples promise, each under the right app, uid and host. {quiet} of the senders told nothing \
             about anybody, and nothing was reported about it.{others}",
            self.started.elapsed().as_secs(),
            Vec::from_iter(kinds).join(", "),
        )
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        end_child(&mut self.child, Duration::ZERO);
    }
}

/// The uid in an alert line's `key=value` part.
fn uid_of(line: &str) -> Option<u64> {
    let (_, pairs) = line.rsplit_once(" | ")?;
    pairs.split(' ').find_map(|pair| pair.strip_prefix("uid=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_uid_is_read_from_the_pairs_and_not_from_the_words() {
        let line = "W telltale: App sent uid=5 to host | kind=imei app=a uid=10123 host=h";
        assert_eq!(uid_of(line), Some(10123));
        assert_eq!(uid_of("I telltale: watching 2 libraries"), None);
    }

    #[test]
    fn every_sending_is_a_sample_of_this_repository() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../daemon/tests/samples");
        for (name, _) in SENDINGS {
            Sample::read(&dir, name).unwrap();
        }
    }
}
