//! Makes the README's pictures of the report page: what the demo has just sent, through `telltale report`, as a headless Chromium
//! shows it. `cargo run -p ndk-build --example pictures`, after `cargo ndk-build demo` and `cargo build -p telltale`.

use std::error::Error;
use std::fs;
use std::path::Path;

use ndk_build::context::Context;
use ndk_build::run::{Run, find_program};

/// Largest file that may go into the repository, in bytes.
const LARGEST: u64 = 150_000;

fn main() -> Result<(), Box<dyn Error>> {
    let context = Context::find()?;
    let evidence = context.target.join("demo/store/evidence");
    if !evidence.is_dir() {
        return Err(format!("no {}: run `cargo ndk-build demo` first", evidence.display()).into());
    }
    let (page, docs) = (context.target.join("demo/page.html"), context.root.join("docs"));
    fs::create_dir_all(&docs)?;
    Run::new(context.target.join("debug/telltale"))
        .args(["report", "--masked", "--evidence"])
        .arg(&evidence)
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
