//! `telltale alerts`, `show`, `export`, `verify`, `forget`, `report`: what was kept, read again. No daemon needed, on the phone or
//! on a PC with a pulled folder.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt as _};
use serde_json::{Map, Value, json};

use super::UsageError;
use crate::alert::evidence::case;
use crate::alert::evidence::share::Names;
use crate::alert::evidence::store::{self, StoreError};
use crate::alert::evidence::verify::verify;
use crate::leak::Kind;
use crate::place::ip::IpData;
use crate::report::input::{FIELDS, Finding, Input};
use crate::report::{Sources, live, page, words};
use crate::store as saved;
use crate::stream::Chunk;
use crate::wire::{Connection, Limits, Message};

/// Where the phone keeps it.
pub const PHONE_DIR: &str = "/data/adb/telltale/evidence";

/// One of the commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceCommand {
    what: What,
    /// A folder of evidence, or a file of JSON lines.
    from: PathBuf,
    /// Where the result goes; standard output when none is named.
    out: Option<PathBuf>,
    wanted: Wanted,
    /// The owner's own words on a case.
    note: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Alerts { json: bool },
    Show,
    Export(Format),
    Verify,
    Forget,
    Report { data: bool, masked: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    JsonLines,
    Csv,
    Har,
    Share,
    Case,
}

/// Which records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Wanted {
    app: Option<String>,
    kind: Option<String>,
    since: Option<String>,
    before: Option<String>,
    id: Option<String>,
    last: Option<usize>,
    all: bool,
}

impl Wanted {
    fn says_nothing(&self) -> bool {
        self.app.is_none()
            && self.kind.is_none()
            && self.since.is_none()
            && self.before.is_none()
            && self.id.is_none()
    }

    /// Everything of an app, and nothing else.
    fn is_whole_app(&self) -> bool {
        self.app.is_some() && Wanted { app: None, ..self.clone() }.says_nothing()
    }

    fn fits(&self, record: &Map<String, Value>) -> bool {
        let text = |key: &str| record.get(key).and_then(Value::as_str).unwrap_or_default();
        let time = text("time");
        self.app.as_deref().is_none_or(|app| text("app").contains(app) || text("label").contains(app))
            && self.kind.as_deref().is_none_or(|kind| text("kind") == kind)
            // Times are RFC 3339 in UTC: a date or the beginning of a time compares as text.
            && self.since.as_deref().is_none_or(|since| time >= since)
            && self.before.as_deref().is_none_or(|before| time < before)
            && self.id.as_deref().is_none_or(|id| text("id") == id)
    }
}

/// Why a command could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The evidence.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is kept beside it.
    #[error(transparent)]
    Saved(#[from] saved::Error),
    /// There is none.
    #[error("{} does not exist; name a folder of evidence or a file of JSON lines with --evidence", .0.display())]
    Nothing(PathBuf),
    /// The result.
    #[error("{} cannot be written: {error}", file.display())]
    Write {
        /// Where to.
        file: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// A case.
    #[error("{} cannot be read: {error}", file.display())]
    Read {
        /// Where from.
        file: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// No record has that id.
    #[error("no finding has the id {0}; `telltale alerts` lists them")]
    NoSuchId(String),
    /// The evidence does not hold.
    #[error("the evidence was changed or is damaged: {0} problems")]
    Changed(usize),
    /// A page is no text for a terminal.
    #[error("a page is no text for a terminal; name a file with --out")]
    Terminal,
}

/// Reads the options of the command of that name.
///
/// # Errors
/// [`UsageError`] with what is wrong.
pub fn parse(name: &str, args: &mut Parser) -> Result<Option<EvidenceCommand>, UsageError> {
    let (mut json, mut data, mut masked, mut format) = (false, false, false, None);
    let mut wanted = Wanted::default();
    let (mut from, mut out, mut note) = (None, None, String::new());
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("evidence") => from = Some(PathBuf::from(args.value()?)),
            Arg::Long("out") if matches!(name, "export" | "report") => {
                out = Some(PathBuf::from(args.value()?))
            }
            Arg::Long("app") if name != "verify" => wanted.app = Some(args.value()?.string()?),
            Arg::Long("kind") if name != "verify" => {
                let kind = args.value()?.string()?;
                Kind::from_name(&kind).ok_or_else(|| UsageError::Kind(kind.clone()))?;
                wanted.kind = Some(kind);
            }
            Arg::Long("since") if name != "verify" => wanted.since = Some(args.value()?.string()?),
            Arg::Long("before") if name != "verify" => wanted.before = Some(args.value()?.string()?),
            Arg::Long("last") if matches!(name, "alerts" | "report") => {
                wanted.last = Some(args.value()?.parse()?)
            }
            Arg::Long("json") if name == "alerts" => json = true,
            Arg::Long("data") if name == "report" => data = true,
            Arg::Long("masked") if name == "report" => masked = true,
            Arg::Long("all") if name == "forget" => wanted.all = true,
            Arg::Long("jsonl") if name == "export" => format = Some(Format::JsonLines),
            Arg::Long("csv") if name == "export" => format = Some(Format::Csv),
            Arg::Long("share") if name == "export" => format = Some(Format::Share),
            Arg::Long("case") if name == "export" => {
                format = Some(Format::Case);
                out = Some(PathBuf::from(args.value()?));
            }
            Arg::Long("note") if name == "export" => note = args.value()?.string()?,
            Arg::Long("har") if name == "export" => format = Some(Format::Har),
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            Arg::Value(id) if name == "show" && wanted.id.is_none() => wanted.id = Some(id.string()?),
            Arg::Value(path) if name == "verify" && from.is_none() => from = Some(path.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    let missing = |command, missing| UsageError::Missing { command, missing };
    let what = match name {
        "alerts" => What::Alerts { json },
        "show" if wanted.id.is_none() => {
            return Err(missing("show", "an id, as `telltale alerts` lists them"));
        }
        "show" => What::Show,
        "export" => {
            What::Export(format.ok_or(missing("export", "--jsonl, --csv, --har, --share or --case FILE"))?)
        }
        "verify" => What::Verify,
        "forget" if wanted.says_nothing() && !wanted.all => {
            return Err(missing("forget", "what: --app, --kind, --since, --before, or --all"));
        }
        "forget" => What::Forget,
        _ => What::Report { data, masked },
    };
    let from = from.unwrap_or_else(|| PathBuf::from(PHONE_DIR));
    Ok(Some(EvidenceCommand { what, from, out, wanted, note }))
}

/// Does it.
///
/// # Errors
/// [`Error`] with what to do.
pub fn run(command: &EvidenceCommand) -> Result<(), Error> {
    // A root manager's page asks before there is anything.
    if !command.from.exists() && !matches!(command.what, What::Report { data: true, .. }) {
        return Err(Error::Nothing(command.from.clone()));
    }
    match command.what {
        What::Verify => check(command),
        What::Forget => {
            let count = forget(command)?;
            command.write(&format!("{count} records forgotten; the chain still holds: telltale verify\n"))
        }
        What::Alerts { json } => command.write(&alerts(command, json)?),
        What::Show => command.write(&show(command)?),
        What::Export(format) => command.write(&export(command, format)?),
        What::Report { data, masked } => {
            let input = command.input()?;
            let sources = Sources::of(address_file().as_ref());
            if data {
                return command.write(&live(&input, &sources).to_string());
            }
            if command.out.is_none() && io::stdout().is_terminal() {
                return Err(Error::Terminal);
            }
            command.write(&page(&input, &sources, !masked))
        }
    }
}

/// Forgets the wanted findings, and the messages they came from: those hold what the findings said.
fn forget(command: &EvidenceCommand) -> Result<usize, Error> {
    let fits = |record: &Map<String, Value>| {
        let kind = record.get("type").and_then(Value::as_str).unwrap_or("finding");
        matches!(kind, "finding" | "message") && (command.wanted.all || command.wanted.fits(record))
    };
    let messages: HashSet<String> = command
        .records()?
        .iter()
        .filter(|record| fits(record))
        .filter_map(|record| Some(record.get("raw_sha256")?.as_str()?.to_owned()))
        .collect();
    let of_message = |record: &Map<String, Value>| {
        record.get("type").is_some_and(|kind| kind == "message")
            && record.get("raw_sha256").and_then(Value::as_str).is_some_and(|hash| messages.contains(hash))
    };
    let count = store::forget(&command.from, |record| fits(record) || of_message(record))?;
    let coverage = command.from.join(saved::COVERAGE_FILE);
    if command.wanted.all && coverage.exists() {
        std::fs::remove_file(&coverage).map_err(|error| Error::Write { file: coverage, error })?;
    } else if command.wanted.is_whole_app()
        && let Some(mut record) = saved::coverage(&command.from)
        && let Some(Value::Array(apps)) = record.get_mut("apps")
    {
        // To whom it sent, and how much.
        apps.retain(|app| !app.as_object().is_some_and(|app| command.wanted.fits(app)));
        saved::keep_coverage(&command.from, record)?;
    }
    Ok(count)
}

/// What `--version` says: this program, and the address data with what its licence asks to be shown.
pub fn version() -> String {
    let sources = Sources::of(address_file().as_ref());
    let mut text = format!("telltale {}\n", sources.version);
    if !sources.country.is_empty() {
        text.push_str(&format!("address data: {}\n{}\n", sources.country, sources.attribution));
    }
    text
}

/// The packed address file as the module has it: beside `system/bin/telltale`'s own folder.
fn address_file() -> Option<IpData<Vec<u8>>> {
    let file = crate::place::ip::installed_file()?;
    IpData::open(std::fs::read(file).ok()?).ok()
}

impl EvidenceCommand {
    /// Hands on every line, oldest first.
    fn lines(&self, mut each: impl FnMut(&[u8])) -> Result<(), Error> {
        for file in if self.from.exists() { store::files(&self.from)? } else { Vec::new() } {
            store::read(&file)?
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .for_each(&mut each);
        }
        Ok(())
    }

    /// Every wanted record. Lines that are no records are left out; `verify` names them.
    fn records(&self) -> Result<Vec<Map<String, Value>>, Error> {
        let mut records = Vec::new();
        self.lines(|line| {
            records.extend(serde_json::from_slice(line).ok().filter(|record| self.wanted.fits(record)));
        })?;
        Ok(records)
    }

    /// Every record as it stands in the evidence, or its stand-in when it is not wanted, and the packages that findings name.
    fn case_records(&self) -> Result<(Vec<Vec<u8>>, BTreeSet<String>), Error> {
        let text = |record: &Map<String, Value>, key: &str| {
            record.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let is_finding = |record: &Map<String, Value>| text(record, "type") == "finding";
        let found = self.records()?;
        let wanted = found.iter().filter(|record| is_finding(record));
        let messages: HashSet<String> = wanted.clone().map(|record| text(record, "raw_sha256")).collect();
        let packages = wanted.flat_map(|record| {
            let listed = record.get("packages").and_then(Value::as_array).into_iter().flatten();
            listed.filter_map(Value::as_str).map(str::to_owned).chain([text(record, "app")])
        });
        let packages = packages.collect();
        let mut records = Vec::new();
        self.lines(|line| {
            let Ok(record) = serde_json::from_slice::<Map<String, Value>>(line) else { return };
            let keep = match text(&record, "type").as_str() {
                "finding" => self.wanted.fits(&record),
                "message" => messages.contains(&text(&record, "raw_sha256")),
                // What the watch says of itself belongs to every case.
                _ => true,
            };
            let kept = if keep { Some(line.to_vec()) } else { case::stand_in(line) };
            records.extend(kept);
        })?;
        Ok((records, packages))
    }

    /// What a report is made of, with the number of lines that are no records.
    fn input(&self) -> Result<Input, Error> {
        let mut input = Input::default();
        self.lines(|line| match serde_json::from_slice(line) {
            Ok(record) if self.wanted.fits(&record) => input.record(&record),
            Ok(_) => {}
            Err(_) => input.odd_lines = input.odd_lines.saturating_add(1),
        })?;
        if let Some(coverage) = saved::coverage(&self.from) {
            input.record(&coverage);
        }
        input.finish(self.wanted.last);
        Ok(input)
    }

    /// To the file that was named, for nobody else's eyes, or to standard output.
    fn write(&self, text: &str) -> Result<(), Error> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let written = match &self.out {
            Some(file) => std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(file)
                .and_then(|mut file| file.write_all(text.as_bytes())),
            None => {
                let mut out = io::stdout().lock();
                out.write_all(text.as_bytes()).and_then(|()| out.flush())
            }
        };
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                let file = self.out.clone().unwrap_or_else(|| PathBuf::from("standard output"));
                Err(Error::Write { file, error })
            }
            _ => Ok(()),
        }
    }
}

fn alerts(command: &EvidenceCommand, json: bool) -> Result<String, Error> {
    let input = command.input()?;
    let mut text = String::new();
    for finding in input.findings.iter().rev() {
        if json {
            let fields: Map<String, Value> =
                finding.fields().map(|(key, value)| (key.to_owned(), value.into())).collect();
            let _ = writeln!(text, "{}", Value::Object(fields));
            continue;
        }
        let _ = writeln!(text, "{}", line(finding));
    }
    if text.is_empty() && !json {
        text.push_str("no finding fits; nothing yet is not all clear\n");
    }
    Ok(text)
}

/// A finding in one line, its value masked.
pub(super) fn line(finding: &Finding) -> String {
    format!(
        "{} {} {}  {} → {}: {} {}",
        finding.get("time"),
        finding.severity().letter(),
        finding.get("id"),
        finding.app(),
        finding.owner(),
        words::kind(finding.get("kind")),
        words::masked(finding.get("kind"), finding.get("value")),
    )
}

/// The newest finding of an id, and the whole way from the bytes to its value.
fn show(command: &EvidenceCommand) -> Result<String, Error> {
    let id = command.wanted.id.clone().unwrap_or_default();
    let all = EvidenceCommand { wanted: Wanted::default(), ..command.clone() }.records()?;
    let Some(record) = all.iter().rev().find(|record| record.get("id").and_then(Value::as_str) == Some(&id))
    else {
        return Err(Error::NoSuchId(id));
    };
    let mut input = Input::default();
    input.record(record);
    let mut text = String::new();
    for (key, value) in input.findings.iter().flat_map(Finding::fields) {
        let _ = writeln!(text, "{key:<14} {value}");
    }
    let same = |other: &&Map<String, Value>| {
        other.get("type").is_some_and(|kind| kind == "message")
            && other.get("raw_sha256") == record.get("raw_sha256")
    };
    for (key, value) in ["range", "around"].iter().filter_map(|key| Some((key, record.get(*key)?))) {
        let _ = writeln!(text, "{key:<14} {}", clean_json(value));
    }
    if let Some(message) = all.iter().rev().find(same) {
        let _ =
            writeln!(text, "\nThe message, {}", clean_json(message.get("captured").unwrap_or(&Value::Null)));
        for layer in message.get("layers").and_then(Value::as_array).into_iter().flatten() {
            let _ = writeln!(text, "  {}", clean_json(layer));
        }
        for key in ["withheld", "request"] {
            if let Some(value) = message.get(key) {
                let _ = writeln!(text, "{key}: {}", clean_json(value));
            }
        }
    }
    Ok(text)
}

/// JSON for a terminal: what could act on one is replaced.
fn clean_json(value: &Value) -> String {
    crate::report::input::clean(&value.to_string())
}

fn check(command: &EvidenceCommand) -> Result<(), Error> {
    if command.from.is_file() {
        let read = |error| Error::Read { file: command.from.clone(), error };
        let bytes = std::fs::read(&command.from).map_err(read)?;
        if case::is_case(&bytes) {
            let (text, problems) = super::case::check(&case::open(&bytes));
            command.write(&text)?;
            return if problems == 0 { Ok(()) } else { Err(Error::Changed(problems)) };
        }
    }
    let verdict = verify(&command.from)?;
    let mut text = String::new();
    for problem in &verdict.problems {
        let _ =
            writeln!(text, "{}, line {}: the record {}", problem.file.display(), problem.line, problem.what);
    }
    let _ = writeln!(
        text,
        "{} records from number {}; last SHA-256 {}",
        verdict.records, verdict.first, verdict.last_hash
    );
    if verdict.problems.is_empty() {
        text.push_str("each points to the one before it\n");
        return command.write(&text);
    }
    command.write(&text)?;
    Err(Error::Changed(verdict.problems.len()))
}

fn export(command: &EvidenceCommand, format: Format) -> Result<String, Error> {
    match format {
        Format::JsonLines => {
            Ok(command.records()?.into_iter().map(|record| format!("{}\n", Value::Object(record))).collect())
        }
        Format::Share => {
            let records = command.records()?;
            let mut names = Names::default();
            records.iter().for_each(|record| names.learn(record));
            Ok(records.iter().map(|record| format!("{}\n", Value::Object(names.share(record)))).collect())
        }
        Format::Case => {
            let (records, packages) = command.case_records()?;
            let parts = super::case::parts(&command.note, &command.from, &packages);
            Ok(String::from_utf8_lossy(&case::seal(&parts, &records)).into_owned())
        }
        Format::Csv => {
            let mut text = format!("{}\r\n", FIELDS.join(","));
            for finding in command.input()?.findings.iter().rev() {
                let row: Vec<String> = FIELDS.iter().map(|field| cell(finding.get(field))).collect();
                text.push_str(&row.join(","));
                text.push_str("\r\n");
            }
            Ok(text)
        }
        Format::Har => {
            let entries: Vec<Value> = command.records()?.iter().filter_map(har_entry).collect();
            let creator = json!({"name": "Telltale", "version": env!("CARGO_PKG_VERSION")});
            let log = json!({"log": {"version": "1.2", "creator": creator, "entries": entries,
                "comment": "Only requests of recognised telemetry protocols are kept, secrets taken out; answers are never read."}});
            Ok(format!("{log}\n"))
        }
    }
}

/// A CSV cell (RFC 4180) that no spreadsheet takes for a formula.
fn cell(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t']) { "'" } else { "" };
    if guard.is_empty() && !text.contains([',', '"', '\n', '\r']) {
        return text.to_owned();
    }
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

/// HAR 1.2 of a kept request; none for records without one.
fn har_entry(record: &Map<String, Value>) -> Option<Value> {
    let request = record.get("request")?;
    let bytes = match request.get("text") {
        Some(text) => text.as_str()?.as_bytes().to_vec(),
        None => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(request.get("base64")?.as_str()?).ok()?
        }
    };
    let mut messages: Vec<Message> = Vec::new();
    let mut connection = Connection::new(Limits::default());
    connection.push(Chunk::Bytes(&bytes), &mut messages);
    connection.push(Chunk::End, &mut messages);
    let message = messages.into_iter().next()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers: Vec<Value> =
        message.headers.iter().map(|(name, value)| json!({"name": name, "value": text(value)})).collect();
    let url = format!("https://{}{}", message.host.as_deref().unwrap_or("unknown"), message.target);
    let mime = message.header("content-type").map(text).unwrap_or_default();
    Some(json!({
        "startedDateTime": record.get("time"), "time": 0,
        "request": {
            "method": message.method, "url": url, "httpVersion": "HTTP/1.1", "cookies": [], "headers": headers,
            "queryString": [], "headersSize": -1, "bodySize": message.body_len,
            "postData": {"mimeType": mime, "text": text(&message.body)},
        },
        "response": {
            "status": 0, "statusText": "", "httpVersion": "", "cookies": [], "headers": [],
            "content": {"size": 0, "mimeType": ""}, "redirectURL": "", "headersSize": -1, "bodySize": -1,
        },
        "cache": {}, "timings": {"send": 0, "wait": 0, "receive": 0},
        "comment": format!("SHA-256 as captured: {}", record.get("captured")?.get("sha256")?.as_str()?),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Option<EvidenceCommand>, UsageError> {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        parse(name, &mut Parser::from_args(rest.split_whitespace()))
    }

    fn evidence() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let lines = [
            r#"{"seq":1,"prev":"0","type":"message","time":"2026-11-20T10:00:00Z","raw_sha256":"m","captured":{"bytes":9,"sha256":"c"},"request":{"text":"POST /sa?x=1 HTTP/1.1\r\nhost: a.example\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nhi"}}"#,
            r#"{"seq":2,"prev":"0","type":"finding","time":"2026-11-20T10:00:00Z","severity":"warn","kind":"music","value":"=1+1, \"x\"","app":"com.a","host":"a.example","raw_sha256":"m","id":"k1"}"#,
            r#"{"seq":3,"prev":"0","type":"finding","time":"2026-11-21T10:00:00Z","severity":"info","kind":"imei","value":"490154203237518","app":"com.b","id":"k2"}"#,
        ];
        std::fs::write(dir.path().join("000001.jsonl"), lines.map(|line| format!("{line}\n")).concat())
            .unwrap();
        dir
    }

    fn command(line: &str, dir: &tempfile::TempDir) -> EvidenceCommand {
        EvidenceCommand { from: dir.path().to_owned(), ..parsed(line).unwrap().unwrap() }
    }

    #[test]
    fn wrong_usage_is_named() {
        for (line, part) in [
            ("show", "an id"),
            ("export", "--jsonl"),
            ("forget", "--all"),
            ("alerts --kind nonsense", "nonsense"),
            ("alerts --masked", "--masked"),
            ("verify --app a", "--app"),
            ("report file", "file"),
            ("alerts --last many", "many"),
        ] {
            let error = parsed(line).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
        assert_eq!(parsed("report --help").unwrap(), None);
    }

    #[test]
    fn alerts_are_filtered_and_masked() {
        let dir = evidence();
        let all = alerts(&command("alerts", &dir), false).unwrap();
        assert_eq!(all.lines().count(), 2);
        assert!(all.contains("…18") && !all.contains("490154203237518"), "{all}");
        let some = alerts(&command("alerts --since 2026-11-21 --app com.b", &dir), false).unwrap();
        assert_eq!(some.lines().count(), 1);
        assert!(alerts(&command("alerts --kind carrier", &dir), false).unwrap().contains("not all clear"));
        assert!(
            alerts(&command("alerts --json --kind imei", &dir), true).unwrap().contains("490154203237518")
        );
    }

    #[test]
    fn show_gives_the_finding_and_its_message() {
        let dir = evidence();
        let text = show(&command("show k1", &dir)).unwrap();
        assert!(
            text.contains("music") && text.contains("\"sha256\":\"c\"") && text.contains("POST /sa"),
            "{text}"
        );
        assert!(show(&command("show k9", &dir)).unwrap_err().to_string().contains("k9"));
    }

    #[test]
    fn exports_are_what_other_programs_read() {
        let dir = evidence();
        let csv = export(&command("export --csv", &dir), Format::Csv).unwrap();
        assert!(csv.contains("\"'=1+1, \"\"x\"\"\""), "{csv}");
        let har: Value =
            serde_json::from_str(&export(&command("export --har", &dir), Format::Har).unwrap()).unwrap();
        let request = &har["log"]["entries"][0]["request"];
        assert_eq!(
            (&request["url"], &request["postData"]["text"]),
            (&json!("https://a.example/sa?x=1"), &json!("hi"))
        );
        let lines = export(&command("export --jsonl --app com.b", &dir), Format::JsonLines).unwrap();
        assert_eq!(lines.lines().count(), 1);
    }

    #[test]
    fn forgetting_a_kind_takes_its_message_along() {
        let dir = evidence();
        assert_eq!(forget(&command("forget --kind music", &dir)).unwrap(), 2);
        let left = std::fs::read_to_string(dir.path().join("000001.jsonl")).unwrap();
        assert!(
            !left.contains("=1+1") && !left.contains("POST /sa") && left.contains("490154203237518"),
            "{left}"
        );
    }

    #[test]
    fn forgetting_an_app_takes_its_row_of_the_coverage_along() {
        let dir = evidence();
        let file = dir.path().join(saved::COVERAGE_FILE);
        let coverage = r#"{"type":"coverage","apps":[{"app":"com.a","read":1,"destinations":[{"destination":"a.example"}]},{"app":"com.b","read":2}]}"#;
        std::fs::write(&file, coverage).unwrap();
        // Of one kind, the app's other traffic still counts.
        forget(&command("forget --app com.a --kind music", &dir)).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), coverage);
        forget(&command("forget --app com.a", &dir)).unwrap();
        let left = std::fs::read_to_string(&file).unwrap();
        assert!(!left.contains("a.example") && left.contains("com.b"), "{left}");
    }

    #[test]
    fn a_report_and_its_data_come_from_the_same_records() {
        let dir = evidence();
        let out = dir.path().join("page.html");
        let coverage = r#"{"type":"coverage","apps":[{"app":"a","read":1,"unread":{"quic":9},"destinations":[{"destination":"only-here.example","unread":{"quic":9}}]}]}"#;
        std::fs::write(dir.path().join(saved::COVERAGE_FILE), coverage).unwrap();
        let line = format!("report --masked --out {}", out.display());
        run(&command(&line, &dir)).unwrap();
        let page = std::fs::read_to_string(&out).unwrap();
        assert!(page.contains("2 apps") && !page.contains("490154203237518"));
        assert!(page.contains("QUIC (9 B)") && page.contains("only-here.example"));
        std::fs::write(dir.path().join("000002.jsonl"), b"no record\n\xff\n").unwrap();
        assert_eq!(command("report", &dir).input().unwrap().odd_lines, 2);
        let absent = EvidenceCommand { from: "/no/such/folder".into(), ..command("report", &dir) };
        assert!(run(&absent).unwrap_err().to_string().contains("--evidence"));
    }
}
