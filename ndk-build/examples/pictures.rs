//! Makes the README's pictures of the report page: the demo's requests through `telltale decode` and `telltale report`, and what a
//! headless Chromium shows of that. `cargo run -p ndk-build --example pictures`, after `cargo build -p telltale`.
//!
//! Times are set to fixed ones, so that the same code makes the same pictures.

use std::error::Error;
use std::fs;
use std::path::Path;

use ndk_build::context::Context;
use ndk_build::run::{Run, find_program};
use ndk_build::samples::Sample;
use serde_json::{Map, Value};

/// Largest file that may go into the repository, in bytes.
const LARGEST: u64 = 150_000;

fn main() -> Result<(), Box<dyn Error>> {
    let context = Context::find()?;
    let (samples, dir) = (context.root.join("daemon/tests/samples"), context.target.join("pictures"));
    let (telltale, docs) = (context.target.join("debug/telltale"), context.root.join("docs"));
    fs::create_dir_all(&dir)?;
    fs::create_dir_all(&docs)?;
    let mut names: Vec<String> = fs::read_dir(&samples)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".json").map(str::to_owned))
        .filter(|name| name != "device_truth")
        .collect();
    names.sort();
    let mut lines = String::new();
    for (number, name) in names.iter().enumerate() {
        // One whose body is no text goes another way in the tests.
        let Ok(sample) = Sample::read(&samples, name) else { continue };
        let request = dir.join("request");
        fs::write(&request, &sample.request)?;
        let found = Run::new(&telltale)
            .args(["decode", "--json", "--app", &sample.app, "--host", &sample.host, "--truth"])
            .arg(samples.join("device_truth.json"))
            .arg(&request)
            .output()?;
        for line in found.lines() {
            let mut finding: Map<String, Value> = serde_json::from_str(line)?;
            for field in ["time", "first", "last"] {
                let time = format!("2026-06-01T{:02}:{:02}:00.000Z", 7 + number % 16, number * 7 % 60);
                finding.insert(field.to_owned(), time.into());
            }
            lines.push_str(&format!("{}\n", Value::Object(finding)));
        }
    }
    let (findings, page) = (dir.join("findings.jsonl"), dir.join("page.html"));
    fs::write(&findings, lines)?;
    Run::new(&telltale)
        .args(["report", "--masked", "--evidence"])
        .arg(&findings)
        .arg("--out")
        .arg(&page)
        .run()?;
    for (name, size) in [("page.png", "1280,800"), ("page-phone.png", "360,800")] {
        picture(&page, &docs.join(name), size)?;
    }
    Ok(())
}

fn picture(page: &Path, file: &Path, size: &str) -> Result<(), Box<dyn Error>> {
    let chromium = ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(find_program);
    Run::new(chromium.ok_or("no Chromium on this machine (Debian package `chromium`)")?)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .arg(format!("--window-size={size}"))
        .arg(format!("--screenshot={}", file.display()))
        .arg(format!("file://{}", page.display()))
        .output()?;
    let bytes = fs::metadata(file)?.len();
    if bytes > LARGEST {
        return Err(format!("{} has {bytes} bytes, more than {LARGEST}", file.display()).into());
    }
    Ok(())
}
