//! The command line: which command with which options. Exit codes: 0, 2 for wrong usage, 1 with one clear line otherwise.
#![forbid(unsafe_code)]

mod case;
pub mod decode;
pub mod doctor;
pub mod evidence;
mod har;
pub mod mute;
pub mod status;
pub mod trial;
pub mod watch;

use std::{ffi::OsString, path::PathBuf};

use lexopt::{Arg, Parser, ValueExt as _};

use crate::{config, kernel::MemoryPath, leak::Kind};

/// Where the phone keeps what Telltale must remember.
pub const PHONE_STORE: &str = "/data/adb/telltale";
/// The largest ring that may be asked for.
const MAX_RING_KIB: u32 = 64 << 10;

/// What `--help` prints.
pub const HELP: &str = "\
Telltale tells this phone's owner what each app sends about him, and to whom.

telltale run [--json] [--config FILE] [--store DIR] [--sysroot DIR] [--truth FILE] [--lib PATH]...
             [--attach perf|tracefs] [--sends syscalls|raw|off] [--memory bpf|ftrace|none]
             [--rings KIB] [--loopback]
    Watches what apps send until it is stopped. Alerts go to stderr (on Android to logcat, tag telltale).
    --json        alerts as JSON lines to stdout as well, unmasked: for root's eyes only
    --config FILE options; `telltale config default` prints them with what they mean
    --store DIR   where Telltale keeps what it must remember (default on Android: /data/adb/telltale)
    --sysroot DIR where the phone's files are looked for, DIR/data/system/packages.list, … (default /)
    --truth FILE  this phone's own identifiers as JSON; without it they are read from the phone
    --lib PATH    a TLS library to hook besides those that processes have mapped
    --attach HOW  hook only through perf or only through tracefs
    --sends HOW   socket sends only through the tracepoints syscalls:*, only through raw_syscalls, or off: TLS alone
    --memory HOW  what apps send is read by the programs in the kernel, by ftrace (its beginning alone), or not at all: what
                  is left where a kernel forbids the better way
    --rings KIB   size of each processor's ring, of which the records are read (at most 65536)
    --loopback    count what is sent to this machine itself
    --parent PID  end when this process, which started it, ends in whatever way

telltale decode [--json] [--explain] [--plain] [--truth FILE] [--app PACKAGE] [--host HOST] [--store DIR] [--more DIR]
                FILE|-
    The same on the bytes a client sent on one connection, or on a HAR file's requests: no kernel, no root.
    --plain       the bytes went unencrypted (otherwise: through TLS)
    --more DIR    additions to the built-in data: files as in more/ beside the configuration
    --explain     how each message was taken apart, layer by layer, and why

telltale try [--store DIR] [--wait SECONDS] [--json] [-- OPTION...]
    Your own experiment: an address, a search phrase, a folder name and a song title that exist nowhere else, and where
    they are sent. The running telltale looks for them; where none runs, one is started with the OPTIONs of run.
    --wait        watch that long instead of asking when you are done

telltale watch [--store DIR] [--plain] what is found, live, and the busiest apps; plain lines where no terminal is

telltale mute [list] | [add] PART... | remove NUMBER
    What you do not want to hear of; the evidence keeps it. PART, of which all must fit: --app NAME --host HOST
    --owner OWNER --kind KIND --id ID, and --until DATE

telltale alerts [--since TIME] [--before TIME] [--app NAME] [--kind KIND] [--last N] [--json]
                                       what was found, a line each; --json: unmasked
telltale show ID                       one finding with the whole way from the bytes to the value
telltale report [--out FILE] [--masked] [--last N]
                                       one HTML file to look at; --masked leaves the values out of it
telltale export --jsonl|--csv|--har [--out FILE]
                                       for other programs; a HAR opens in a browser's developer tools
telltale export --share [--out FILE]   records for others to see: identifiers give way to names such as <imei 1>
telltale export --case FILE [--note TEXT] [--app NAME] [--kind KIND] [--since TIME] [--before TIME]
                                       records with all that is known of this phone and Telltale, to hand on as proof
telltale verify [PATH|CASE]            was the evidence changed; of a case every finding is derived again from the bytes
telltale forget --all|--app NAME|--kind KIND|--since TIME|--before TIME
                                       removes records for good, while Telltale is stopped
    All of them read /data/adb/telltale/evidence, or what --evidence FOLDER|FILE names.

telltale status [--json] [--store DIR]
    Asks the running daemon: what is hooked, what was lost, how much each app sent, how much of it is read, and why the rest
    is not.

telltale doctor [--json] [--quick] [--memory HOW]
                                       what this kernel can do for Telltale, tried out
telltale explain KIND                  what a kind of finding means, innocent reasons, what can be switched off
telltale config check [FILE]           is the configuration right
telltale config default                every option with its default
telltale --version | --help
";

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Watch.
    Run(RunOptions),
    /// Decode a file.
    Decode(DecodeOptions),
    /// Make an experiment.
    Try(trial::TryOptions),
    /// Watch what is found.
    Watch(watch::WatchOptions),
    /// Mute.
    Mute(mute::MuteCommand),
    /// Read what was kept.
    Evidence(evidence::EvidenceCommand),
    /// Ask the running daemon.
    Status(status::StatusOptions),
    /// Say what the kernel can do.
    Doctor {
        /// As JSON.
        json: bool,
        /// Only whether the main job can be done.
        quick: bool,
        /// The only way to read what apps send.
        memory: Option<MemoryPath>,
    },
    /// Check a configuration file, the phone's own when none is named.
    ConfigCheck(Option<PathBuf>),
    /// Print the default configuration.
    ConfigDefault,
    /// Explain a kind of finding.
    Explain(Kind),
    /// Print the version.
    Version,
    /// Print how to use it.
    Help,
}

/// Options of `telltale run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOptions {
    /// JSON lines to stdout.
    pub json: bool,
    /// Configuration file.
    pub config: Option<PathBuf>,
    /// Where to keep what must be remembered.
    pub store: Option<PathBuf>,
    /// Where the phone's files are looked for.
    pub sysroot: PathBuf,
    /// The phone's identifiers.
    pub truth: Option<PathBuf>,
    /// Further TLS libraries.
    pub libraries: Vec<PathBuf>,
    /// The only way to attach.
    pub attach: Option<Attach>,
    /// How socket sends are watched.
    pub sends: Sends,
    /// The only way to read what apps send.
    pub memory: Option<MemoryPath>,
    /// KiB of each data ring.
    pub rings: Option<u32>,
    /// Count traffic to this machine.
    pub loopback: bool,
    /// End when this process, which started it, ends.
    pub parent: Option<u32>,
}

impl Default for RunOptions {
    fn default() -> Self {
        RunOptions {
            json: false,
            config: None,
            store: None,
            sysroot: PathBuf::from("/"),
            truth: None,
            libraries: Vec::new(),
            attach: None,
            sends: Sends::default(),
            memory: None,
            rings: None,
            loopback: false,
            parent: None,
        }
    }
}

/// How socket sends are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sends {
    /// In the better way that the kernel offers.
    #[default]
    Auto,
    /// Only through the tracepoints `syscalls:*`.
    Syscalls,
    /// Only through `raw_syscalls`.
    Raw,
    /// Not at all: TLS alone.
    Off,
}

/// A way to attach to a function of a library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// The perf uprobe PMU, from Linux 4.17.
    Perf,
    /// `uprobe_events` of tracefs, everywhere.
    Tracefs,
}

/// Options of `telltale decode`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DecodeOptions {
    /// JSON lines instead of lines for people.
    pub json: bool,
    /// Show the layers.
    pub explain: bool,
    /// The bytes went unencrypted.
    pub plain: bool,
    /// The phone's identifiers.
    pub truth: Option<PathBuf>,
    /// Package that sent them.
    pub app: Option<String>,
    /// Host they went to.
    pub host: Option<String>,
    /// Additions to the built-in data.
    pub more: Option<PathBuf>,
    /// Where this phone's key for ids lies.
    pub store: Option<PathBuf>,
    /// The file; none for stdin.
    pub file: Option<PathBuf>,
}

/// Wrong usage: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// An option or its value.
    #[error("{0}; see telltale --help")]
    Option(#[from] lexopt::Error),
    /// No command.
    #[error("no command given; see telltale --help")]
    NoCommand,
    /// A command that is none.
    #[error("{0:?} is no command; see telltale --help")]
    Command(String),
    /// Something is missing.
    #[error("{command} needs {missing}; see telltale --help")]
    Missing {
        /// The command.
        command: &'static str,
        /// What it needs.
        missing: &'static str,
    },
    /// A kind that is none.
    #[error("{0:?} is no kind of finding; there are: {all}", all = kinds())]
    Kind(String),
    /// A mute that is none.
    #[error("{0}; see telltale --help")]
    Mute(String),
    /// A way to attach that is none.
    #[error("--attach takes perf or tracefs, not {0:?}")]
    Attach(String),
    /// A way to watch sends that is none.
    #[error("--sends takes syscalls, raw or off, not {0:?}")]
    Sends(String),
    /// A way to read memory that is none.
    #[error("--memory takes {all}, not {0:?}", all = MemoryPath::ALL.map(MemoryPath::name).join(", "))]
    Memory(String),
    /// A size of rings that is none.
    #[error("--rings takes a number of KiB from 4 to {MAX_RING_KIB}, not {0:?}")]
    Rings(String),
}

fn kinds() -> String {
    Kind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" ")
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// [`UsageError`] with what is wrong.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut args = Parser::from_args(args);
    let command = match args.next()? {
        None => return Err(UsageError::NoCommand),
        Some(Arg::Short('h') | Arg::Long("help")) => Command::Help,
        Some(Arg::Short('V') | Arg::Long("version")) => Command::Version,
        Some(Arg::Value(name)) => match name.to_string_lossy().as_ref() {
            "run" => run(&mut args)?,
            "decode" => decode(&mut args)?,
            "try" => trial::parse(&mut args)?.map_or(Command::Help, Command::Try),
            "watch" => watch::parse(&mut args)?.map_or(Command::Help, Command::Watch),
            "mute" => mute::parse(&mut args)?.map_or(Command::Help, Command::Mute),
            "doctor" => doctor(&mut args)?,
            "status" => ask_status(&mut args)?,
            "config" => config(&mut args)?,
            "explain" => explain(&mut args)?,
            name @ ("alerts" | "show" | "report" | "export" | "verify" | "forget") => {
                evidence::parse(name, &mut args)?.map_or(Command::Help, Command::Evidence)
            }
            "help" => Command::Help,
            "version" => Command::Version,
            other => return Err(UsageError::Command(other.to_owned())),
        },
        Some(other) => return Err(other.unexpected().into()),
    };
    match args.next()? {
        None => Ok(command),
        Some(Arg::Short('h') | Arg::Long("help")) => Ok(Command::Help),
        Some(more) => Err(more.unexpected().into()),
    }
}

fn run(args: &mut Parser) -> Result<Command, UsageError> {
    let mut options = RunOptions::default();
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("json") => options.json = true,
            Arg::Long("config") => options.config = Some(args.value()?.into()),
            Arg::Long("store") => options.store = Some(args.value()?.into()),
            Arg::Long("sysroot") => options.sysroot = args.value()?.into(),
            Arg::Long("truth") => options.truth = Some(args.value()?.into()),
            Arg::Long("lib") => options.libraries.push(args.value()?.into()),
            Arg::Long("attach") => {
                options.attach = Some(match args.value()?.to_string_lossy().as_ref() {
                    "perf" => Attach::Perf,
                    "tracefs" => Attach::Tracefs,
                    other => return Err(UsageError::Attach(other.to_owned())),
                });
            }
            Arg::Long("sends") => {
                options.sends = match args.value()?.to_string_lossy().as_ref() {
                    "syscalls" => Sends::Syscalls,
                    "raw" => Sends::Raw,
                    "off" => Sends::Off,
                    other => return Err(UsageError::Sends(other.to_owned())),
                };
            }
            Arg::Long("memory") => options.memory = Some(memory(args)?),
            Arg::Long("rings") => {
                let text = args.value()?.to_string_lossy().into_owned();
                let kib = text.parse().ok().filter(|kib| (4..=MAX_RING_KIB).contains(kib));
                options.rings = Some(kib.ok_or(UsageError::Rings(text))?);
            }
            Arg::Long("loopback") => options.loopback = true,
            Arg::Long("parent") => options.parent = Some(args.value()?.parse()?),
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Run(options))
}

fn memory(args: &mut Parser) -> Result<MemoryPath, UsageError> {
    let name = args.value()?.to_string_lossy().into_owned();
    MemoryPath::from_name(&name).ok_or(UsageError::Memory(name))
}

fn decode(args: &mut Parser) -> Result<Command, UsageError> {
    let mut options = DecodeOptions::default();
    let mut file: Option<PathBuf> = None;
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("json") => options.json = true,
            Arg::Long("explain") => options.explain = true,
            Arg::Long("plain") => options.plain = true,
            Arg::Long("truth") => options.truth = Some(args.value()?.into()),
            Arg::Long("app") => options.app = Some(args.value()?.string()?),
            Arg::Long("host") => options.host = Some(args.value()?.string()?),
            Arg::Long("store") => options.store = Some(args.value()?.into()),
            Arg::Long("more") => options.more = Some(args.value()?.into()),
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Value(name) if file.is_none() => file = Some(name.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    let file =
        file.ok_or(UsageError::Missing { command: "decode", missing: "a file, or - for standard input" })?;
    options.file = (file.as_os_str() != "-").then_some(file);
    Ok(Command::Decode(options))
}

fn ask_status(args: &mut Parser) -> Result<Command, UsageError> {
    let mut options = status::StatusOptions::default();
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("json") => options.json = true,
            Arg::Long("store") => options.store = Some(args.value()?.into()),
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Status(options))
}

fn doctor(args: &mut Parser) -> Result<Command, UsageError> {
    let (mut json, mut quick, mut forced) = (false, false, None);
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("json") => json = true,
            Arg::Long("quick") => quick = true,
            Arg::Long("memory") => forced = Some(memory(args)?),
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Doctor { json, quick, memory: forced })
}

fn config(args: &mut Parser) -> Result<Command, UsageError> {
    let missing = UsageError::Missing { command: "config", missing: "check or default" };
    match args.next()?.ok_or(missing)? {
        Arg::Value(what) if what == "default" => Ok(Command::ConfigDefault),
        Arg::Value(what) if what == "check" => match args.next()? {
            None => Ok(Command::ConfigCheck(None)),
            Some(Arg::Value(file)) => Ok(Command::ConfigCheck(Some(file.into()))),
            Some(other) => Err(other.unexpected().into()),
        },
        other => Err(other.unexpected().into()),
    }
}

fn explain(args: &mut Parser) -> Result<Command, UsageError> {
    match args
        .next()?
        .ok_or(UsageError::Missing { command: "explain", missing: "a kind, such as search_query" })?
    {
        Arg::Value(name) => {
            let name = name.string()?;
            Kind::from_name(&name).map(Command::Explain).ok_or(UsageError::Kind(name))
        }
        other => Err(other.unexpected().into()),
    }
}

/// The file that `config check` looks at when none is named.
pub fn config_file() -> PathBuf {
    PathBuf::from(config::PHONE_FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, UsageError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn commands_and_their_options() {
        let Ok(Command::Run(run)) =
            parsed("run --json --lib /a.so --lib=/b.so --sysroot /s --attach tracefs --loopback --truth t")
        else {
            panic!()
        };
        assert!(run.json && run.loopback);
        assert_eq!(run.libraries, [PathBuf::from("/a.so"), PathBuf::from("/b.so")]);
        assert_eq!((run.attach, run.sysroot), (Some(Attach::Tracefs), PathBuf::from("/s")));
        let Ok(Command::Decode(decode)) = parsed("decode --json --app com.x --host h.org -") else {
            panic!()
        };
        assert_eq!(
            (decode.app.as_deref(), decode.host.as_deref(), decode.file),
            (Some("com.x"), Some("h.org"), None)
        );
        let Ok(Command::Run(run)) = parsed("run --rings 64") else { panic!() };
        assert_eq!(run.rings, Some(64));
        let status = status::StatusOptions { json: true, store: Some("/s".into()) };
        assert_eq!(parsed("status --json --store /s").unwrap(), Command::Status(status));
        let doctor = |json, quick, memory| Command::Doctor { json, quick, memory };
        assert_eq!(parsed("doctor --json").unwrap(), doctor(true, false, None));
        let blind = Some(MemoryPath::Nothing);
        assert_eq!(parsed("doctor --quick --memory none").unwrap(), doctor(false, true, blind));
        assert!(parsed("run --memory all").unwrap_err().to_string().contains("bpf, ftrace, none"));
        assert_eq!(parsed("config check f.toml").unwrap(), Command::ConfigCheck(Some("f.toml".into())));
        assert_eq!(parsed("explain imei").unwrap(), Command::Explain(Kind::Imei));
        for help in ["--help", "-h", "run --help", "decode -h", "doctor --help"] {
            assert_eq!(parsed(help).unwrap(), Command::Help, "{help}");
        }
    }

    #[test]
    fn wrong_usage_is_named() {
        for (line, part) in [
            ("", "no command"),
            ("walk", "\"walk\""),
            ("run --jsn", "--jsn"),
            ("run --lib", "--lib"),
            ("run file", "file"),
            ("run --attach kprobe", "kprobe"),
            ("run --sends maybe", "maybe"),
            ("run --rings 3", "\"3\""),
            ("run --rings many", "many"),
            ("status now", "now"),
            ("decode", "file"),
            ("decode a b", "b"),
            ("config", "check or default"),
            ("explain", "kind"),
            ("explain everything", "visited_url"),
            ("--version now", "now"),
        ] {
            let error = parsed(line).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn help_names_every_option() {
        for option in [
            "--json",
            "--config",
            "--store",
            "--sysroot",
            "--truth",
            "--lib",
            "--attach",
            "--sends",
            "--loopback",
            "--parent",
            "--rings",
            "--plain",
            "--explain",
            "--quick",
        ] {
            assert!(HELP.contains(option), "{option}");
        }
    }
}
