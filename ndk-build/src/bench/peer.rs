//! What one would pick instead: the same telemetry requests through mitmproxy, and beside Telltale.
//!
//! mitmproxy stands between app and server: it needs a certificate the app trusts, and a proxy setting or a network that leads
//! through it. Here it is spared both: the client checks no certificate, and mitmproxy knows where to pass things on to.

use std::net::TcpListener;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::run::Run;
use crate::say;
use crate::setup::{self, Need};

use super::bed::Bed;
use super::helper::{End, Helper, on_cpu, pair};
use super::process;
use super::stats::{Spread, rotation};
use super::table::{Row, number};
use super::upload::{Server, client};

/// The newest that runs on Debian 12's Python.
const MITMPROXY: &str = "11.0.2";
const HOST: &str = "sa.api.intl.miui.com";

pub(super) fn run(bed: &Bed<'_>) -> Result<Vec<Row>> {
    let requests: u32 = bed.pick(2000, 300);
    let mitmdump = mitmproxy(bed)?;
    let mut seconds: [Vec<f64>; 3] = Default::default();
    let mut memory: [Vec<f64>; 3] = Default::default();
    for turn in 0..bed.pick(5, 3) {
        for way in rotation(turn, 3) {
            let server = Server::start(bed)?;
            let (helper, address) = match way {
                0 => (None, server.address.clone()),
                1 => (Some(bed.telltale(&bed.library(), &["--json", "--loopback"])?), server.address.clone()),
                _ => {
                    let (helper, address) = through(&mitmdump, &server)?;
                    (Some(helper), address)
                }
            };
            let run =
                client(bed, &address, HOST, &bed.telemetry()?).args(["--repeat", &requests.to_string()]);
            let said = run.output()?;
            let spent = pair(said.trim(), "seconds").unwrap_or(f64::NAN);
            let peak = helper.as_ref().and_then(|helper| process::kib(helper.pid(), "VmHWM"));
            helper.map(Helper::stop).transpose()?;
            if let (Some(seconds), Some(memory)) = (seconds.get_mut(way), memory.get_mut(way)) {
                seconds.push(spent);
                memory.push(peak.unwrap_or(f64::NAN) / 1024.0);
            }
        }
    }
    let [alone, telltale, proxy] = seconds;
    let [_, telltale_memory, proxy_memory] = memory;
    let times = |with: &[f64]| {
        Spread::of(&with.iter().zip(&alone).map(|(with, alone)| with / alone).collect::<Vec<_>>())
    };
    let median = |samples: &[f64]| Spread::of(samples).map_or(f64::NAN, |spread| spread.median);
    let what = format!("{} telemetry requests", number(requests.into()));
    Ok(vec![
        Row::new(format!("{what} beside Telltale"), "× the time without", times(&telltale)).note(format!(
            "{} s without, {} s",
            number(median(&alone)),
            number(median(&telltale))
        )),
        Row::new(format!("{what} through mitmproxy {MITMPROXY}"), "× the time without", times(&proxy))
            .note(format!("{} s; it breaks the app's TLS open, Telltale does not", number(median(&proxy)))),
        Row::new("largest resident set of Telltale", "MiB", Spread::of(&telltale_memory)),
        Row::new("largest resident set of mitmproxy", "MiB", Spread::of(&proxy_memory)),
    ])
}

/// mitmdump in front of the server, keeping every flow in memory no longer than it needs to write it to a file.
fn through(mitmdump: &PathBuf, server: &Server) -> Result<(Helper, String)> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = free.map_err(|error| Error::Check(format!("no free port: {error}")))?.port();
    let run = on_cpu(1, mitmdump)
        .args(["--mode", &format!("reverse:https://{}", server.address), "--listen-host", "127.0.0.1"])
        .args(["--listen-port", &port.to_string(), "--ssl-insecure", "--save-stream-file", "/dev/null"])
        .args(["--set", "keep_host_header=true", "--set", "http2=false", "--set", "flow_detail=0"]);
    let mut helper = Helper::start(run, End::Signal("TERM"))?;
    helper.wait_for("listening at")?;
    Ok((helper, format!("127.0.0.1:{port}")))
}

/// mitmproxy in an environment of its own below `target/`, fetched once.
fn mitmproxy(bed: &Bed<'_>) -> Result<PathBuf> {
    setup::ensure(bed.context, &[Need::Bench])?;
    let dir = bed.dir.join("mitmproxy").join(MITMPROXY);
    let program = dir.join("bin/mitmdump");
    if !program.is_file() {
        let section = say::Section::start(&format!("mitmproxy {MITMPROXY} from PyPI, to compare with"));
        Run::new("/usr/bin/python3").args(["-m", "venv"]).arg(&dir).output()?;
        let pip = Run::new(dir.join("bin/pip")).args(["install", "--quiet", "--disable-pip-version-check"]);
        pip.arg(format!("mitmproxy=={MITMPROXY}")).output()?;
        section.end("installed");
    }
    Ok(program)
}
