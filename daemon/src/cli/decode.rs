//! `telltale decode`: the pipeline on the bytes a client sent on one connection, or on the requests of a HAR file. No kernel, no root.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{DecodeOptions, har};
use crate::{
    alert::{
        Alert, Policy,
        sink::{Json, Lines, Sink, is_reader_gone},
    },
    app::{AppTable, NO_UID},
    leak::{self, Crypt, Detector, Severity, Truth},
    pipeline::{Flow, Observer, Pipeline, Settings},
    run::knowledge::Knowledge,
    store,
    stream::Chunk,
    unwrap::Tree,
    wire::Message,
};

/// Bytes read at once.
const PIECE: usize = 64 * 1024;

/// The most read of a HAR file, which must be in memory as a whole.
const LARGEST_HAR: u64 = 256 << 20;

/// Why nothing could be decoded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or standard input.
    #[error("{} cannot be read: {error}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
    /// The phone's key.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The truth file or data that is part of the program.
    #[error(transparent)]
    Leak(#[from] leak::Error),
    /// Standard output or error.
    #[error("writing: {0}")]
    Write(io::Error),
}

/// Decodes and prints: JSON lines or lines as logcat shows them, each finding once, to stdout. A reader that goes away early is no failure.
///
/// # Errors
/// [`Error`] with what could not be read or written.
pub fn decode(options: &DecodeOptions) -> Result<(), Error> {
    match decode_to(options, &mut BufWriter::new(io::stdout().lock()), &mut io::stderr()) {
        Err(Error::Write(error)) if is_reader_gone(&error) => Ok(()),
        done => done,
    }
}

fn decode_to(options: &DecodeOptions, out: &mut impl Write, notes: &mut impl Write) -> Result<(), Error> {
    let truth = match &options.truth {
        Some(file) => Truth::from_json(&read(file)?)?,
        None => Truth::default(),
    };
    let mut decoder = Decoder::new(options, &truth, notes)?;
    let mut input: Box<dyn Read> = match &options.file {
        Some(file) => Box::new(File::open(file).map_err(|error| Error::Read { file: file.clone(), error })?),
        None => Box::new(io::stdin().lock()),
    };
    let mut sink: Box<dyn Sink + '_> = if options.json { Box::new(Json(out)) } else { Box::new(Lines(out)) };
    decoder.read(&mut *input, &mut *sink)?;
    if let (Some(folder), Some(tokens)) = (&options.store, &decoder.pipeline.settings().memory) {
        store::keep_tokens(folder, tokens)?;
    }
    Ok(())
}

/// The pipeline as the options want it, and how its input is told apart. The fuzzer holds one, too.
#[derive(Debug)]
pub struct Decoder {
    options: DecodeOptions,
    apps: AppTable,
    /// What it works by, what it said already.
    pub pipeline: Pipeline,
}

impl Decoder {
    /// Reads everything the options name but the input and the truth. What is not as it should be is said in `notes`.
    ///
    /// # Errors
    /// [`Error`] with the file that cannot be read, or what `notes` gives when it cannot be written.
    pub fn new(options: &DecodeOptions, truth: &Truth, notes: &mut impl Write) -> Result<Decoder, Error> {
        for warning in &truth.warnings {
            writeln!(notes, "telltale: {warning}").map_err(Error::Write)?;
        }
        let key = match &options.store {
            Some(folder) => store::key(folder)?,
            None => [0; 16],
        };
        let mut known = Knowledge::new(options.more.as_deref())?;
        let mut apps = AppTable::new();
        if let Some(why) = known.packages.as_deref().and_then(|text| apps.add_known(text).err()) {
            known.notes.push(format!("packages.toml is not used: {why}"));
        }
        for note in &known.notes {
            writeln!(notes, "telltale: {note}").map_err(Error::Write)?;
        }
        let mut settings = Settings::new(Detector::new(truth, known.data));
        settings.protocols = known.protocols;
        settings.domains = known.domains;
        settings.alerts =
            Policy { merge: false, least: Severity::Debug, lines_per_hour: 0, key, ..Policy::default() };
        if let Some(folder) = &options.store {
            let (tokens, why) = store::tokens(folder);
            if let Some(why) = why {
                writeln!(notes, "telltale: {why}").map_err(Error::Write)?;
            }
            settings.memory = Some(tokens);
        }
        if options.explain {
            settings.observer = Some(Box::new(Explainer));
        }
        Ok(Decoder { options: options.clone(), apps, pipeline: Pipeline::new(settings) })
    }

    /// Decodes what a client sent on one connection, or the requests of a HAR file, to the end of `input`.
    ///
    /// # Errors
    /// [`Error::Read`] and [`Error::Write`] with the operating system's reason.
    pub fn read(&mut self, input: &mut dyn Read, sink: &mut dyn Sink) -> Result<(), Error> {
        let mut piece = vec![0; PIECE];
        let length = self.some(input, &mut piece)?;
        let mut first = piece.get(..length).unwrap_or_default().to_vec();
        if har::may_begin(&first) {
            input.take(LARGEST_HAR).read_to_end(&mut first).map_err(|error| self.unreadable(error))?;
            if let Some(requests) = har::requests(&first) {
                for request in requests {
                    self.connection(request.host, request.plain, &request.bytes, &mut io::empty(), sink)?;
                }
                return Ok(());
            }
        }
        self.connection(None, false, &first, input, sink)
    }

    /// One connection: what was read of it already, then the rest.
    fn connection(
        &mut self,
        host: Option<String>,
        plain: bool,
        first: &[u8],
        rest: &mut dyn Read,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let mut write =
            |alerts: Vec<Alert>| alerts.iter().try_for_each(|alert| sink.alert(alert)).map_err(Error::Write);
        let id = self.pipeline.open(flow(&self.options, &self.apps, host, plain));
        write(self.pipeline.push(id, Chunk::Bytes(first), now_ms()))?;
        let mut piece = vec![0; PIECE];
        loop {
            let length = self.some(rest, &mut piece)?;
            if length == 0 {
                break;
            }
            write(self.pipeline.push(id, Chunk::Bytes(piece.get(..length).unwrap_or_default()), now_ms()))?;
        }
        write(self.pipeline.close(id, now_ms()))
    }

    /// Some bytes, none at the end.
    fn some(&self, input: &mut dyn Read, piece: &mut [u8]) -> Result<usize, Error> {
        loop {
            match input.read(piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done.map_err(|error| self.unreadable(error)),
            }
        }
    }

    fn unreadable(&self, error: io::Error) -> Error {
        let file = self.options.file.clone().unwrap_or_else(|| PathBuf::from("standard input"));
        Error::Read { file, error }
    }
}

/// A connection as the options describe it, or as a saved request's address does.
fn flow(options: &DecodeOptions, apps: &AppTable, host: Option<String>, plain: bool) -> Flow {
    let app = options.app.as_deref().unwrap_or("unknown");
    let crypt = if options.plain || plain { Crypt::None } else { Crypt::Tls };
    let mut flow = Flow::new(apps.named(app, NO_UID), crypt);
    if let Some(host) = &options.host {
        (flow.host, flow.host_from) = (Some(host.to_ascii_lowercase()), "given".to_owned());
    } else if host.is_some() {
        (flow.host, flow.host_from) = (host, "request".to_owned());
    }
    if options.app.is_some() {
        flow.attr = "app:given".to_owned();
    }
    flow
}

fn read(file: &Path) -> Result<String, Error> {
    std::fs::read_to_string(file).map_err(|error| Error::Read { file: file.to_owned(), error })
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Prints how each message was taken apart, to stderr: the tree of layers with their sizes and why each was opened.
/// Content is not shown.
struct Explainer;

impl Observer for Explainer {
    fn message(&mut self, _: &Flow, message: &Message, tree: &Tree, alerts: &[Alert]) {
        let mut text = format!("{} message, {} bytes of body\n", message.protocol.token(), message.body_len);
        for line in tree.outline().lines() {
            let index = line.split_whitespace().next().and_then(|number| number.parse().ok());
            let found = alerts.iter().filter(|alert| Some(alert.finding.node) == index).count();
            let found = if found > 0 { format!(" <- findings: {found}") } else { String::new() };
            text.push_str(&format!("  {line}{found}\n"));
        }
        // Explanations are for whoever reads stderr; nobody does when it is closed.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}
