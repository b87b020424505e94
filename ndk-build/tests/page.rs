//! The report page in a real browser: looks, speed, keyboard, hostile text, accessibility.
//!
//! Needs Chromium, and for the last of these the axe-core package; says what it skips without them. Screenshots are left in
//! `target/page` to be looked at.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

mod browser;
#[path = "browser/findings.rs"]
mod findings;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use browser::Browser;
use ndk_build::run::Run;
use telltale::report::input::{FIELDS, Input};
use telltale::report::{Sources, page};

fn out() -> PathBuf {
    let dir = ndk_build::context::Context::find().unwrap().target.join("page");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// One browser at a time: side by side they would measure each other.
static ALONE: Mutex<()> = Mutex::new(());

fn browser(what: &str) -> Option<(Browser, MutexGuard<'static, ()>)> {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let browser = Browser::start();
    if browser.is_none() {
        eprintln!("skipped: {what}: no Chromium on this machine (Debian package `chromium`)");
    }
    Some((browser?, alone))
}

/// Writes the page made of these lines.
fn write_page(name: &str, lines: &str) -> PathBuf {
    let mut input = Input::default();
    lines.lines().for_each(|line| input.line(line));
    input.finish(None);
    let sources = Sources {
        country: "DB-IP 2026-06".into(),
        attribution: "Networks by RouteViews and NRO, CC BY 4.0.".into(),
        version: "0.1.0".into(),
    };
    let file = out().join(name);
    std::fs::write(&file, page(&input, &sources, true)).unwrap();
    file
}

fn complaints(browser: &mut Browser) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let events = browser.events("Log.entryAdded");
    all.extend(events.iter().map(|event| event["entry"]["text"].to_string()));
    all
}

#[test]
fn it_looks_right_at_both_sizes_in_both_themes() {
    let Some((mut browser, _alone)) = browser("screenshots") else { return };
    for (name, lines) in [
        ("0", String::new()),
        ("1", findings::lines(1)),
        ("400", findings::lines(400) + &findings::other_lines()),
        ("20000", findings::lines(20_000) + &findings::other_lines()),
    ] {
        let file = write_page(&format!("findings-{name}.html"), &lines);
        for (width, height) in [(360, 800), (1280, 800)] {
            for theme in ["light", "dark"] {
                browser.screen(width, height, theme);
                browser.open(&file);
                let wider = browser.evaluate("document.documentElement.scrollWidth - innerWidth");
                assert!(wider.as_i64().unwrap() <= 0, "{name} at {width}: {wider} pixels too wide");
                browser.screenshot(&out().join(format!("page-{name}-{width}-{theme}.png")), false);
                browser.screenshot(&out().join(format!("whole-{name}-{width}-{theme}.png")), true);
                assert_eq!(complaints(&mut browser), Vec::<String>::new());
            }
        }
    }
}

#[test]
fn twenty_thousand_findings_load_in_two_seconds_and_scroll() {
    let Some((mut browser, _alone)) = browser("load time") else { return };
    let file = write_page("findings-20000-speed.html", &findings::lines(20_000));
    browser.screen(360, 800, "light");
    let started = Instant::now();
    browser.open(&file);
    let took = started.elapsed();
    let size = std::fs::metadata(&file).unwrap().len();
    eprintln!("20,000 findings, {size} bytes: shown after {took:?}");
    assert!(took.as_secs_f64() < 2.0, "{took:?}");
    assert_eq!(browser.evaluate("document.getElementById('count').textContent"), "20,000 of 20,000 findings");
    assert!(browser.evaluate("document.querySelectorAll('#rows li').length").as_u64().unwrap() < 60);
    let text = "const f = document.getElementById('f-text'); f.value = 'folder'; f.dispatchEvent(new Event('input', {bubbles: true}));";
    let started = Instant::now();
    browser.evaluate(text);
    eprintln!("a text filter over them: {:?}", started.elapsed());
    assert!(
        browser
            .evaluate("document.querySelector('#rows .what').textContent")
            .as_str()
            .unwrap()
            .starts_with("folder opened")
    );
}

#[test]
fn the_keyboard_reaches_everything() {
    let Some((mut browser, _alone)) = browser("keyboard") else { return };
    let file = write_page("findings-keyboard.html", &findings::lines(300));
    browser.screen(1280, 800, "light");
    browser.open(&file);
    browser.key("Tab");
    assert_eq!(browser.evaluate("document.activeElement.className"), "skip");
    let mut reached = Vec::new();
    for _ in 0..14 {
        browser.key("Tab");
        let name = browser.evaluate("document.activeElement.id || document.activeElement.tagName");
        reached.push(name.as_str().unwrap_or_default().to_owned());
    }
    for id in ["values", "theme", "f-text", "f-severity", "f-kind", "f-app", "f-owner", "scroll"] {
        assert!(reached.iter().any(|name| name == id), "{id} is not in {reached:?}");
    }
    browser.evaluate("document.getElementById('scroll').focus()");
    browser.key("ArrowDown");
    browser.key("ArrowDown");
    assert_eq!(browser.evaluate("document.activeElement.parentElement.dataset.at"), "1");
    browser.key("End");
    assert_eq!(browser.evaluate("document.activeElement.parentElement.dataset.at"), "299");
    browser.key("Enter");
    assert_eq!(browser.evaluate("document.getElementById('proof').open"), true);
    assert_eq!(browser.evaluate("document.querySelectorAll('#proof-facts dt').length > 12"), true);
    browser.screenshot(&out().join("proof-1280.png"), false);
    browser.key("Escape");
    assert_eq!(browser.evaluate("document.getElementById('proof').open"), false);
    // Masked until asked for.
    assert_eq!(browser.evaluate("document.querySelector('.id .value').textContent.startsWith('…')"), true);
    browser.evaluate("document.getElementById('values').click()");
    assert_eq!(browser.evaluate("document.querySelector('.id .value').textContent.startsWith('…')"), false);
}

#[test]
fn hostile_text_runs_nowhere() {
    let Some((mut browser, _alone)) = browser("hostile text") else { return };
    let file = write_page("findings-hostile.html", &findings::hostile_lines(FIELDS));
    for width in [360, 1280] {
        browser.screen(width, 800, "light");
        browser.open(&file);
        // Through everything that shows text: the list, each proof, the values, the filters.
        browser.evaluate(
            "document.getElementById('values').click();
             for (const button of document.querySelectorAll('#rows button')) { button.click(); document.getElementById('proof').close(); }
             for (const select of document.querySelectorAll('select')) for (const option of [...select.options]) { select.value = option.value; select.dispatchEvent(new Event('input', {bubbles: true})); }
             document.getElementById('filters').reset();",
        );
        assert!(browser.evaluate("document.documentElement.dataset.pwned").is_null());
        assert_eq!(browser.evaluate("document.querySelectorAll('script').length"), 2);
        assert_eq!(browser.evaluate("document.querySelectorAll('img, iframe, object, embed, [onerror], [onload], [onfocus]').length"), 0);
        assert_eq!(
            browser.evaluate(
                "[...document.links].filter((a) => !/^(https:\\/\\/db-ip\\.com|file:)/.test(a.href)).length"
            ),
            0
        );
        assert_eq!(browser.evaluate("document.getElementById('findings').hidden"), false);
        let asked: Vec<String> = browser
            .events("Network.requestWillBeSent")
            .iter()
            .map(|event| event["request"]["url"].to_string())
            .filter(|url| !url.contains("file://"))
            .collect();
        assert_eq!(asked, Vec::<String>::new());
    }
}

#[test]
fn the_policy_refuses_what_escaping_would_miss() {
    let Some((mut browser, _alone)) = browser("content policy") else { return };
    let file = write_page("findings-policy.html", &findings::lines(1));
    // As if a text had slipped through unescaped: the browser itself must not run it.
    let broken = std::fs::read_to_string(&file).unwrap().replace(
        "</main>",
        "<script>document.documentElement.dataset.pwned=1</script><img src=x onerror=\"document.documentElement.dataset.pwned=2\"></main>",
    );
    std::fs::write(&file, broken).unwrap();
    browser.screen(360, 800, "light");
    browser.open(&file);
    assert_eq!(browser.evaluate("document.querySelectorAll('main script, main img').length"), 2);
    assert!(browser.evaluate("document.documentElement.dataset.pwned").is_null());
}

#[test]
fn without_a_root_manager_the_module_page_says_so() {
    let Some((mut browser, _alone)) = browser("module page") else { return };
    let webroot =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../magisk-module/webroot").canonicalize().unwrap();
    // `file://` is no origin, so 'self' would refuse the page's own files; the manager serves them from one.
    let dir = tempfile::tempdir().unwrap();
    for name in ["index.html", "page.css", "page.js"] {
        let text = std::fs::read_to_string(webroot.join(name)).unwrap();
        std::fs::write(dir.path().join(name), text.replace("'self'", "file:")).unwrap();
    }
    browser.screen(360, 800, "dark");
    browser.open(&dir.path().join("index.html"));
    let said = browser.evaluate("document.getElementById('state').textContent");
    assert!(said.as_str().unwrap().starts_with("No live data here"), "{said}");

    let mut input = Input::default();
    findings::lines(50).lines().for_each(|line| input.line(line));
    input.finish(None);
    let answer =
        serde_json::to_string(&telltale::report::live(&input, &Sources::default()).to_string()).unwrap();
    let bridge = |call: &str| {
        format!(
            "window.ksu = {{exec: (command, options, callback) => {{ window.asked = command; setTimeout(() => window[callback]({call}), 0); }}}};"
        )
    };
    for (call, expected) in [
        (format!("0, {answer}, ''"), "50 of 50 findings"),
        ("1, '', 'no evidence yet'".to_owned(), "no evidence yet"),
        ("0, 'not json', ''".to_owned(), "could not be read"),
    ] {
        let id = browser
            .call("Page.addScriptToEvaluateOnNewDocument", serde_json::json!({"source": bridge(&call)}));
        browser.open(&dir.path().join("index.html"));
        let said =
            browser.evaluate("new Promise((done) => setTimeout(() => done(document.body.innerText), 200))");
        assert!(said.as_str().unwrap().contains(expected), "{expected}: {said}");
        assert!(browser.evaluate("window.asked").as_str().unwrap().contains("telltale report --data"));
        browser.call("Page.removeScriptToEvaluateOnNewDocument", id);
    }
}

/// The accessibility checker, by version and hash.
const AXE: (&str, &str) = (
    "axe-core@4.14.1",
    "1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b734f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5",
);

/// Its script; `None` when it is not here and cannot be fetched.
fn axe() -> Option<String> {
    let (wanted, hash) = AXE;
    let file = out().join(format!("{}.tgz", wanted.replace('@', "-")));
    if !file.is_file() {
        ndk_build::run::find_program("npm")?;
        Run::new("npm").args(["pack", "--silent", wanted]).dir(out()).output().ok()?;
    }
    let sum = Run::new("sha512sum").arg(&file).output().unwrap();
    assert_eq!(
        sum.split_whitespace().next(),
        Some(hash),
        "{} is another file than was pinned",
        file.display()
    );
    Some(Run::new("tar").arg("-xzOf").arg(&file).arg("package/axe.min.js").output().unwrap())
}

#[test]
fn the_accessibility_checker_finds_nothing_serious() {
    let Some((mut browser, _alone)) = browser("accessibility") else { return };
    let Some(script) = axe() else {
        eprintln!("skipped: accessibility: {} is not in target/page and npm cannot fetch it", AXE.0);
        return;
    };
    for (name, lines) in [("none", String::new()), ("many", findings::lines(400) + &findings::other_lines())]
    {
        let file = write_page(&format!("findings-axe-{name}.html"), &lines);
        for (width, theme) in [(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")] {
            browser.screen(width, 800, theme);
            browser.open(&file);
            browser.evaluate(&format!("{script};0"));
            let passed = browser.evaluate("axe.run().then((all) => all.passes.length)");
            assert!(passed.as_u64().unwrap() > 15, "only {passed} rules looked at anything");
            for opened in [false, true] {
                if opened {
                    browser.evaluate("document.querySelector('#rows button')?.click()");
                }
                let found = browser.evaluate(
                    "axe.run().then((all) => all.violations.map((v) => [v.impact, v.id, v.nodes.slice(0, 3).map((n) => n.html)]))",
                );
                let found = found.as_array().unwrap();
                let serious = |rule: &&serde_json::Value| rule[0] == "serious" || rule[0] == "critical";
                let bad: Vec<_> = found.iter().filter(serious).collect();
                assert!(bad.is_empty(), "{name}, {width} {theme}, proof open {opened}: {bad:#?}");
                for rule in found {
                    eprintln!("accessibility, {}: {} {}", rule[0], rule[1], rule[2][0]);
                }
            }
        }
    }
}
