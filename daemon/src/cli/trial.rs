//! `telltale try`: hands out an experiment, lets the running watch look for it (or starts one), and shows the verdicts.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use lexopt::{Arg, Parser, ValueExt as _};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::UsageError;
use crate::{
    alert::evidence::store::is_in_use,
    store,
    trial::{ANSWER_FILE, ASKED_FILE, RANDOM, Trial},
};

/// Between two looks at the answers.
const LOOK: Duration = Duration::from_millis(200);
/// How long a watch may take to begin, hooks and all.
const BEGINS_WITHIN: Duration = Duration::from_secs(60);
/// How long a watch may take to answer. It answers at once; a phone may be busy.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// How long a watch that was started here may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// Seconds to wait for what is sent late, after everything was done.
const LATE: u64 = 60;
/// Seconds to wait where nobody can say that everything was done.
const ALONE: u64 = 180;

/// Options of `telltale try`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TryOptions {
    /// Where the running watch keeps what it must remember.
    pub store: Option<PathBuf>,
    /// Seconds to watch, without asking whether everything was done.
    pub wait: Option<u64>,
    /// JSON lines instead of sentences.
    pub json: bool,
    /// Options for the watch that is started when none runs.
    pub run: Vec<OsString>,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The watch cannot be started.
    #[error("telltale run cannot be started: {0}")]
    Start(io::Error),
    /// The watch that was started here ended.
    #[error("{0}")]
    Ended(String),
    /// The watch says nothing.
    #[error("the watch does not answer; is {} the store of the running telltale?", .0.display())]
    Silent(PathBuf),
    /// Standard input.
    #[error("reading standard input: {0}")]
    Read(nix::errno::Errno),
    /// Standard output.
    #[error("writing the verdict: {0}")]
    Write(#[from] io::Error),
}

/// Reads the options; none when help is wanted.
///
/// # Errors
/// [`UsageError`] with what is wrong.
pub fn parse(args: &mut Parser) -> Result<Option<TryOptions>, UsageError> {
    let mut options = TryOptions::default();
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("store") => options.store = Some(args.value()?.into()),
            Arg::Long("wait") => options.wait = Some(args.value()?.parse()?),
            Arg::Long("json") => options.json = true,
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            // What comes after `--`.
            Arg::Value(first) => {
                options.run.push(first);
                options.run.extend(args.raw_args()?);
                return Ok(Some(options));
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Some(options))
}

/// Does it.
///
/// # Errors
/// [`Error`] with what to do.
pub fn run(options: &TryOptions) -> Result<(), Error> {
    let on_phone = cfg!(target_os = "android").then(|| PathBuf::from(super::PHONE_STORE));
    let (folder, borrowed) = match options.store.clone().or(on_phone) {
        Some(folder) => (folder, None),
        // Elsewhere than on the phone nothing is kept unless a folder is named.
        None => {
            let folder = env::temp_dir().join(format!("telltale-try-{}", std::process::id()));
            (folder.clone(), Some(Borrowed(folder)))
        }
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let random: [u8; RANDOM] = store::random()?;
    let trial = Trial::new(&random, u64::try_from(now).unwrap_or(u64::MAX));
    let mut experiment = Experiment { folder, trial, json: options.json, shown: Vec::new() };
    let runs = is_in_use(&experiment.folder.join("evidence"));
    experiment.publish()?;
    let mut watch = if runs { None } else { Some(Watch::start(&experiment.folder, &options.run)?) };
    let done = experiment.conduct(options, watch.as_mut());
    // A running watch goes on looking; the one started here ends, and then nobody would.
    if let Some(watch) = &mut watch {
        watch.end();
        experiment.withdraw();
    }
    drop(borrowed);
    done
}

/// A folder that is taken away again.
struct Borrowed(PathBuf);

impl Drop for Borrowed {
    fn drop(&mut self) {
        // It may never have been made; and nothing else can be done here.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The watch that was started for the experiment.
struct Watch {
    child: Child,
    last_line: Arc<Mutex<String>>,
}

impl Watch {
    fn start(store: &Path, options: &[OsString]) -> Result<Watch, Error> {
        let mut child = Command::new(env::current_exe().map_err(Error::Start)?)
            .arg("run")
            .arg("--store")
            .arg(store)
            // Killed, this process could not end it.
            .args(["--parent", &std::process::id().to_string()])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::Start)?;
        let last_line = Arc::new(Mutex::new(String::new()));
        if let Some(said) = child.stderr.take() {
            let last = Arc::clone(&last_line);
            // Ends with the child, whose end of the pipe closes then.
            thread::spawn(move || {
                for line in BufReader::new(said).lines().map_while(Result::ok) {
                    *last.lock().unwrap_or_else(PoisonError::into_inner) = line;
                }
            });
        }
        Ok(Watch { child, last_line })
    }

    /// Its last words, when it has ended.
    fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten()?;
        let last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some(last.trim_start_matches("telltale: ").to_owned())
    }

    fn end(&mut self) {
        let ended = |watch: &mut Watch| watch.child.try_wait().is_ok_and(|status| status.is_some());
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let since = Instant::now();
        while !ended(self) && since.elapsed() < ENDS_WITHIN {
            thread::sleep(LOOK);
        }
        if !ended(self) {
            // The next start cleans up after it; both fail only when it is gone already.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

struct Experiment {
    folder: PathBuf,
    trial: Trial,
    json: bool,
    /// Sentences about what was sent that were said already.
    shown: Vec<String>,
}

impl Experiment {
    fn publish(&self) -> Result<(), Error> {
        Ok(store::write(&self.folder, ASKED_FILE, self.trial.to_json().as_bytes())?)
    }

    fn withdraw(&self) {
        for file in [ASKED_FILE, ANSWER_FILE] {
            // Not there is as good.
            let _ = fs::remove_file(self.folder.join(file));
        }
    }

    fn conduct(&mut self, options: &TryOptions, mut watch: Option<&mut Watch>) -> Result<(), Error> {
        self.until(watch.as_deref_mut(), BEGINS_WITHIN, |_| true)?;
        self.hand_out()?;
        if let Some(seconds) = options.wait {
            self.watch_for(watch.as_deref_mut(), Some(seconds), false)?;
        } else {
            self.prompt(
                "\nPress Enter when you have done what you want to try. What is sent is shown at once.\n",
            )?;
            if self.watch_for(watch.as_deref_mut(), None, true)? == Pressed::Never {
                self.watch_for(watch.as_deref_mut(), Some(ALONE), false)?;
            } else {
                self.prompt(&format!("Waiting {LATE} seconds for what is sent late; Enter ends it.\n"))?;
                self.watch_for(watch.as_deref_mut(), Some(LATE), true)?;
            }
        }
        self.trial.asked = self.trial.asked.saturating_add(1);
        self.publish()?;
        let runs_on = watch.is_none();
        let asked = self.trial.asked;
        let answer = self.until(watch, ANSWERS_WITHIN, |answer| {
            answer.get("answered").and_then(Value::as_u64) == Some(asked)
        })?;
        self.verdict(&answer, runs_on)
    }

    /// What the watch wrote about this experiment.
    fn answer(&self) -> Option<Value> {
        let text = fs::read_to_string(self.folder.join(ANSWER_FILE)).ok()?;
        let answer: Value = serde_json::from_str(&text).ok()?;
        (answer.get("id")?.as_str()? == self.trial.id).then_some(answer)
    }

    fn until(
        &self,
        mut watch: Option<&mut Watch>,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, Error> {
        let since = Instant::now();
        loop {
            if let Some(answer) = self.answer().filter(&wanted) {
                return Ok(answer);
            }
            if let Some(last) = watch.as_deref_mut().and_then(Watch::ended) {
                return Err(Error::Ended(last));
            }
            if since.elapsed() > limit {
                return Err(Error::Silent(self.folder.clone()));
            }
            thread::sleep(LOOK);
        }
    }

    fn hand_out(&self) -> Result<(), Error> {
        if self.json {
            let texts: serde_json::Map<String, Value> = self
                .trial
                .texts
                .iter()
                .map(|(what, text)| (what.name().into(), text.clone().into()))
                .collect();
            return say(&format!("{}\n", json!({"id": self.trial.id, "texts": texts})));
        }
        let mut text = String::from(
            "Four things that exist nowhere else. Wherever one of them goes, it went from your phone.\n",
        );
        for (number, (what, own)) in (1..).zip(&self.trial.texts) {
            text.push_str(&format!("\n {number}  {}\n        {own}\n", what.task()));
        }
        say(&text)
    }

    /// Shows what is sent until the time is over or Enter is pressed.
    fn watch_for(
        &mut self,
        mut watch: Option<&mut Watch>,
        seconds: Option<u64>,
        enter: bool,
    ) -> Result<Pressed, Error> {
        let until = seconds.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
        while until.is_none_or(|until| Instant::now() < until) {
            if let Some(last) = watch.as_deref_mut().and_then(Watch::ended) {
                return Err(Error::Ended(last));
            }
            self.show_sent()?;
            if !enter {
                thread::sleep(LOOK);
                continue;
            }
            match pressed()? {
                Pressed::NotYet => {}
                pressed => return Ok(pressed),
            }
        }
        Ok(Pressed::NotYet)
    }

    fn prompt(&self, text: &str) -> Result<(), Error> {
        if self.json { Ok(()) } else { say(text) }
    }

    fn show_sent(&mut self) -> Result<(), Error> {
        let answer = self.answer().unwrap_or(Value::Null);
        for (sentence, record) in outcomes(&answer) {
            let is_sent = record.get("verdict").and_then(Value::as_str) == Some("sent");
            if is_sent && !self.json && !self.shown.contains(&sentence) {
                say(&format!("  {sentence}\n"))?;
                self.shown.push(sentence);
            }
        }
        Ok(())
    }

    fn verdict(&self, answer: &Value, runs_on: bool) -> Result<(), Error> {
        let mut text = String::new();
        if self.json {
            for (_, record) in outcomes(answer) {
                text.push_str(&format!("{record}\n"));
            }
            return say(&text);
        }
        text.push_str("\nVerdict:\n");
        for (sentence, _) in outcomes(answer) {
            text.push_str(&format!("  {sentence}\n"));
        }
        text.push_str("Not seen is no all clear: telemetry may wait for hours.");
        text.push_str(if runs_on {
            " It is watched for one day more; `telltale report` shows what comes.\n"
        } else {
            " With `telltale run` running it is watched for a day.\n"
        });
        say(&text)
    }
}

fn outcomes(answer: &Value) -> impl Iterator<Item = (String, &Value)> {
    let all = answer.get("outcomes").and_then(Value::as_array);
    all.into_iter()
        .flatten()
        .filter_map(|outcome| Some((outcome.get("sentence")?.as_str()?.to_owned(), outcome.get("record")?)))
}

/// Whether Enter was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pressed {
    Yes,
    NotYet,
    /// Nobody is there to press it.
    Never,
}

/// Waits a moment for Enter.
fn pressed() -> Result<Pressed, Error> {
    let input = io::stdin();
    let mut fds = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
    let wait = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO);
    if poll(&mut fds, wait).unwrap_or(0) == 0 {
        return Ok(Pressed::NotYet);
    }
    // Not through the buffer of `io::stdin`, in which a second line would wait unseen by `poll`.
    let mut byte = [0];
    loop {
        match nix::unistd::read(&input, &mut byte) {
            Ok(0) => return Ok(Pressed::Never),
            Ok(_) if byte == *b"\n" => return Ok(Pressed::Yes),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(Error::Read(error)),
        }
    }
}

fn say(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
