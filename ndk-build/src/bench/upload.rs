//! A large upload beside a telemetry request: what the upload loses, and whether the request is still found.

use std::path::Path;

use crate::clients;
use crate::context::write;
use crate::error::{Error, Result};
use crate::run::Run;

use super::bed::Bed;
use super::helper::{End, Helper, on_cpu, pair};
use super::process;
use super::stats::{Spread, rotation};
use super::table::{Budget, Row, number};

/// What must be found of the telemetry request beside it.
const FOUND: &str = "\"kind\":\"visited_url\"";
/// Bytes of an SSL_write of the upload: what Android's HTTP libraries hand over at the most.
const PIECE: &str = "16384";

pub(super) fn run(bed: &Bed<'_>) -> Result<Vec<Row>> {
    let megabytes: u64 = bed.pick(500, 50);
    let bytes = megabytes * 1_000_000;
    let head = bed.dir.join("upload.request");
    write(
        &head,
        format!(
            "POST /up HTTP/1.1\r\nHost: upload.example.com\r\nContent-Type: image/jpeg\r\nContent-Length: {bytes}\r\n\r\n"
        ),
    )?;
    let turns = bed.pick(5, 3);
    let (mut slower, mut without, mut with, mut cpu) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut found = 0_u32;
    for turn in 0..turns {
        let mut seconds = [f64::NAN; 2];
        for watched in rotation(turn, 2) {
            let server = Server::start(bed)?;
            let daemon = if watched == 1 {
                Some(bed.telltale(&bed.library(), &["--json", "--loopback"])?)
            } else {
                None
            };
            let spent = server.upload_beside_telemetry(bed, &head, bytes)?;
            if let Some(daemon) = daemon {
                cpu.push(100.0 * process::cpu_seconds(daemon.pid()) / spent);
                let said = daemon.stop()?;
                found += u32::from(said.iter().any(|line| line.contains(FOUND)));
            }
            if let Some(place) = seconds.get_mut(watched) {
                *place = spent;
            }
        }
        let [none, telltale] = seconds;
        slower.push(100.0 * (telltale / none - 1.0));
        without.push(megabytes as f64 / none);
        with.push(megabytes as f64 / telltale);
    }
    let median = |samples: &[f64]| Spread::of(samples).map_or(f64::NAN, |spread| spread.median);
    Ok(vec![
        Row::new(format!("an upload of {megabytes} MB takes longer by"), "%", Spread::of(&slower)).note(
            format!(
                "{} MB/s without, {} MB/s with, TLS over the loopback",
                number(median(&without)),
                number(median(&with))
            ),
        ),
        Row::new("processor time of the daemon meanwhile", "% of a core", Spread::of(&cpu))
            .note("its start is counted"),
        Row::exact(
            "runs in which the request beside it was found",
            "%",
            100.0 * f64::from(found) / turns as f64,
        )
        .budget(Budget::AtLeast(100.0)),
    ])
}

/// A TLS server that answers requests.
#[derive(Debug)]
pub struct Server {
    helper: Helper,
    /// Where it listens.
    pub address: String,
}

impl Server {
    /// Starts it.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(bed: &Bed<'_>) -> Result<Self> {
        let run = on_cpu(1, clients::path(bed.context, "tls-collector")).args(["127.0.0.1", "--answer"]);
        let mut helper = Helper::start(run, End::Input)?;
        let line = helper.wait_for("port=")?;
        let port = pair(&line, "port").ok_or_else(|| Error::Check(format!("the server said {line}")))?;
        Ok(Self { helper, address: format!("127.0.0.1:{port}") })
    }

    /// Where it listens.
    pub fn pid(&self) -> u32 {
        self.helper.pid()
    }

    /// Seconds of an upload, half-way through which another process sends a telemetry request.
    fn upload_beside_telemetry(&self, bed: &Bed<'_>, head: &Path, bytes: u64) -> Result<f64> {
        let upload = client(bed, &self.address, "upload.example.com", head).args([
            "--more",
            &bytes.to_string(),
            "--write",
            PIECE,
        ]);
        let mut upload = Helper::start(upload, End::Input)?;
        client(bed, &self.address, "sa.api.intl.miui.com", &bed.telemetry()?).output()?;
        let line = upload.wait_for("seconds=")?;
        upload.stop()?;
        pair(&line, "seconds").ok_or_else(|| Error::Check(format!("the client said {line}")))
    }
}

/// The client that sends a file and waits for the answer, on the first CPU.
pub fn client(bed: &Bed<'_>, address: &str, host: &str, file: &Path) -> Run {
    on_cpu(0, clients::path(bed.context, "tls-client-boringssl"))
        .env("LD_LIBRARY_PATH", bed.dir.join("lib"))
        .args(["--connect", address, "--host", host, "--answered", "--file"])
        .arg(file)
}
