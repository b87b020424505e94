//! How fast messages are taken apart and looked through, beside inflate, base64 and JSON alone on the same bodies; and how many
//! instructions the whole way takes.
//!
//! The bodies and the loops are those of the daemon's own criterion benches: this runs them in turns and reads what they noted.

use std::path::Path;

use serde_json::Value;

use crate::context::{read_text, write};
use crate::error::{Error, Result};
use crate::run::Run;
use crate::say;
use crate::setup::{self, Need};

use super::bed::Bed;
use super::helper::on_cpu;
use super::stats::Spread;
use super::table::{Budget, Row, number};

/// Telemetry, by criterion's group.
const TELEMETRY: [(&str, &str); 4] = [
    ("sensors_50", "Sensors, 50 events"),
    ("sensors_10", "Sensors, 10 events"),
    ("onetrack_40", "OneTrack, 40 events"),
    ("unknown_60", "an unknown collector, 60 events"),
];
/// Traffic that says nothing about anybody.
const ORDINARY: [(&str, &str); 4] = [
    ("json_api", "JSON of an app"),
    ("html", "HTML"),
    ("photo", "a photo"),
    ("photo_in_json", "a photo in JSON"),
];
/// What is measured of each.
const WHOLE: &str = "decode_and_detect";
const ALONE: [(&str, &str); 4] = [
    ("inflate_alone", "inflate"),
    ("base64_alone", "base64"),
    ("json_alone", "JSON"),
    ("skip_alone", "skipping over JSON"),
];
/// Of these: what nothing that reads the body can be faster than, one after the other.
const BOUND: [usize; 2] = [0, 3];
/// The least share of inflate's throughput, per cent.
const LEAST: f64 = 50.0;

pub(super) fn run(bed: &Bed<'_>) -> Result<Vec<Row>> {
    let mut rows = throughput(bed)?;
    rows.push(instructions(bed).unwrap_or_else(|error| {
        let text = error.to_string();
        say::note(&text);
        Row::not_run("instructions of the whole way", text.lines().next().unwrap_or_default())
    }));
    Ok(rows)
}

fn throughput(bed: &Bed<'_>) -> Result<Vec<Row>> {
    let program = build(bed)?;
    let groups: Vec<&str> = TELEMETRY.iter().chain(&ORDINARY).map(|(group, _)| *group).collect();
    let functions: Vec<&str> = ALONE.iter().map(|(name, _)| *name).chain([WHOLE]).collect();
    let filter = format!("^({})/({})$", groups.join("|"), functions.join("|"));
    // Megabytes in a second, by group and function, one for each turn.
    let mut turns: Vec<Vec<Vec<f64>>> = Vec::new();
    for _ in 0..bed.pick(7, 3) {
        let (warm, measure) = bed.pick(("0.1", "0.4"), ("0.05", "0.15"));
        on_cpu(0, &program)
            .env("CARGO_TARGET_DIR", &bed.context.target)
            .args(["--bench", "--warm-up-time", warm, "--measurement-time", measure, "--sample-size", "10"])
            .arg(&filter)
            .output()?;
        let read = |group: &&str| functions.iter().map(|function| speed(bed, group, function)).collect();
        turns.push(groups.iter().map(read).collect());
    }
    let of = |group: usize, function: usize| -> Vec<f64> {
        turns
            .iter()
            .map(|turn| turn.get(group).and_then(|row| row.get(function)).copied().unwrap_or(f64::NAN))
            .collect()
    };
    let median = |group, function| Spread::of(&of(group, function)).map_or(f64::NAN, |spread| spread.median);
    let whole = ALONE.len();
    let telemetry = TELEMETRY.iter().enumerate().map(|(group, (_, what))| {
        let shares: Vec<f64> = of(group, whole)
            .iter()
            .zip(of(group, 0))
            .map(|(whole, inflate)| 100.0 * whole / inflate)
            .collect();
        let alone: Vec<String> = ALONE
            .iter()
            .enumerate()
            .map(|(function, (_, name))| format!("{name} {}", number(median(group, function))))
            .collect();
        let [inflate, skip] = BOUND.map(|function| median(group, function));
        let bound = 100.0 / (1.0 + inflate / skip);
        Row::new(format!("{what}: throughput beside inflate alone"), "%", Spread::of(&shares))
            .budget(Budget::AtLeast(LEAST))
            .note(format!(
                "{} MB/s of inflated bytes; alone: {} MB/s; inflating and skipping over the JSON alone would be {}%",
                number(median(group, whole)),
                alone.join(", "),
                number(bound)
            ))
    });
    let ordinary = ORDINARY.iter().enumerate().map(|(place, (_, what))| {
        Row::new(format!("{what}: throughput"), "MB/s", Spread::of(&of(TELEMETRY.len() + place, whole)))
            .note("of body as sent")
    });
    Ok(telemetry.chain(ordinary).collect())
}

/// Builds the daemon's own bench and says where it is.
fn build(bed: &Bed<'_>) -> Result<String> {
    let said = bed
        .context
        .cargo()
        .args(["bench", "--quiet", "--package", "telltale", "--bench", "unwrap", "--no-run"])
        .arg("--message-format=json")
        .env("TELLTALE_EBPF_OBJECT", bed.context.ebpf_object())
        .output()?;
    let messages = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs = messages.filter_map(|message| {
        let is_bench = message.pointer("/target/name")?.as_str()? == "unwrap";
        is_bench.then(|| message.get("executable")?.as_str().map(str::to_owned))?
    });
    programs.next().ok_or_else(|| Error::Check("cargo did not say where it left the bench".into()))
}

/// What criterion noted last: megabytes in a second. Not a number when it did not run this one.
fn speed(bed: &Bed<'_>, group: &str, function: &str) -> f64 {
    let dir = bed.context.target.join("criterion").join(group).join(function).join("new");
    read_speed(&dir).unwrap_or(f64::NAN)
}

fn read_speed(dir: &Path) -> Option<f64> {
    let json = |file: &str| -> Option<Value> { serde_json::from_str(&read_text(&dir.join(file)).ok()?).ok() };
    let nanoseconds = json("estimates.json")?.pointer("/median/point_estimate")?.as_f64()?;
    let bytes = json("benchmark.json")?.pointer("/throughput/Bytes")?.as_f64()?;
    Some(bytes / nanoseconds * 1e3)
}

/// Instructions for a KiB of inflated telemetry through the whole pipeline, as `telltale decode` goes through it: the difference
/// between many requests and few, so that the start counts for nothing.
fn instructions(bed: &Bed<'_>) -> Result<Row> {
    setup::ensure(bed.context, &[Need::Bench])?;
    let request = bed.telemetry()?;
    let (few, many) = (4, bed.pick(104, 24));
    let counted = |times: usize| -> Result<f64> {
        let bytes = std::fs::read(&request).map_err(Error::file("read", &request))?;
        let file = bed.dir.join(format!("{times}.requests"));
        write(&file, bytes.repeat(times))?;
        let out = bed.dir.join("callgrind.out");
        let mut collected = None;
        let run = Run::new("valgrind")
            .args(["--tool=callgrind", &format!("--callgrind-out-file={}", out.display())])
            .arg(bed.context.telltale())
            .args(["decode", "--json"])
            .arg(&file);
        let command = run.shown().to_owned();
        let status = run.lines(|line| {
            if let Some((_, count)) = line.split_once("Collected : ") {
                collected = count.trim().parse::<f64>().ok();
            }
        })?;
        collected.filter(|_| status.success()).ok_or_else(|| Error::Failed {
            command,
            status: status.to_string(),
            tail: String::new(),
        })
    };
    let each = (counted(many)? - counted(few)?) / (many - few) as f64;
    let inflated = inflated(&request)?;
    Ok(Row::exact("instructions of the whole way, per KiB inflated", "", each / (inflated / 1024.0)).note(
        format!(
            "{} for one telemetry request of {} bytes inflated, by callgrind",
            number(each),
            number(inflated)
        ),
    ))
}

/// Bytes of JSON in the telemetry request: form, base64, gzip.
fn inflated(request: &Path) -> Result<f64> {
    let script = "sed -n 's/.*data_list=//p' \"$1\" | sed 's/%2B/+/g; s/%2F/\\//g; s/%3D/=/g' | base64 -d | gzip -dc | wc -c";
    let said = Run::new("sh").args(["-c", script, "sh"]).arg(request).output()?;
    said.trim().parse().map_err(|_| Error::Check(format!("{} holds no data_list", request.display())))
}
