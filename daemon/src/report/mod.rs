//! A page to look at: from findings as JSON lines to one HTML file that needs nothing else.
//!
//! The page's template, style and script lie in `magisk-module/webroot`, where a root manager shows them with live data
//! (`telltale report --data`); here they are put together into a file that works from `file://`, with a content policy that
//! allows exactly its own style and script by their hashes. The sections are made here and readable without script; the
//! script adds the list of findings, its filters and the proofs.

#![forbid(unsafe_code)]

mod charts;
mod html;
pub mod input;
mod map;
mod masked;
mod sections;
mod summary;
pub mod words;

use std::borrow::Cow;
use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use self::input::{FIELDS, Finding, Input};
use self::summary::Summary;

const TEMPLATE: &str = include_str!("../../../magisk-module/webroot/index.html");
const STYLE: &str = include_str!("../../../magisk-module/webroot/page.css");
const SCRIPT: &str = include_str!("../../../magisk-module/webroot/page.js");

/// Where what the page says about addresses comes from, and which Telltale made it.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `DB-IP 2026-06`; empty when no address data was used.
    pub country: String,
    /// What the licences of the address data ask to be shown.
    pub attribution: String,
    /// Telltale's version.
    pub version: String,
}

impl Sources {
    /// The sources named by the address file, and this version.
    pub fn of<B: AsRef<[u8]>>(data: Option<&crate::place::ip::IpData<B>>) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        data.map_or_else(
            || Self { version: version.clone(), ..Self::default() },
            |data| Self {
                country: format!("{} {}", data.country_source(), data.country_date()),
                attribution: data.attribution().to_owned(),
                version: version.clone(),
            },
        )
    }
}

/// The whole page. With `full_values` off, values are masked and the file does not hold them, nor the sites a browser opened
/// because its owner asked.
pub fn page(input: &Input, sources: &Sources, full_values: bool) -> String {
    let masked = (!full_values).then(|| masked::masked(input));
    let input = masked.as_ref().unwrap_or(input);
    let summary = Summary::of(&input.findings);
    let sections = sections::all(input, &summary, sources, full_values);
    let data = html::json_for_script(&data(input, sources, full_values).to_string());
    let policy = format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
        hash_source(STYLE),
        hash_source(SCRIPT)
    );
    let (before_sections, rest) = cut(TEMPLATE, "<!--telltale:report-->");
    let (_, after_sections) = cut(rest, "<!--/telltale:report-->");
    let (between, after_data) = cut(after_sections, "<!--telltale:data-->");
    let head = before_sections
        .replace(
            "default-src 'none'; style-src 'self'; script-src 'self'; base-uri 'none'; form-action 'none'",
            &policy,
        )
        .replace("<link rel=\"stylesheet\" href=\"page.css\">", &format!("<style>{STYLE}</style>"));
    let tail = after_data.replace("<script src=\"page.js\"></script>", &format!("<script>{SCRIPT}</script>"));
    format!("{head}{sections}{between}<script type=\"application/json\" id=\"data\">{data}</script>{tail}")
}

/// What the page asks for on the phone: the sections and the findings, as one JSON object.
pub fn live(input: &Input, sources: &Sources) -> Value {
    let summary = Summary::of(&input.findings);
    let mut answer = data(input, sources, true);
    if let Value::Object(map) = &mut answer {
        map.insert("html".into(), sections::all(input, &summary, sources, true).into());
    }
    answer
}

/// What the script needs: the words for the kinds, and the findings as a table whose cells are places in a list of texts (0 is
/// absent). Hosts, routes and apps repeat in nearly every finding: written out, 20,000 of them are 15 MB.
fn data(input: &Input, sources: &Sources, full_values: bool) -> Value {
    let kinds: Map<String, Value> = crate::leak::Kind::ALL
        .iter()
        .map(|kind| (kind.name().to_owned(), words::kind(kind.name()).into()))
        .collect();
    let mut texts = Texts::default();
    texts.place(Cow::Borrowed(""));
    let columns: Vec<&str> =
        FIELDS.iter().copied().filter(|field| full_values || !TELLING.contains(field)).collect();
    let rows: Vec<Vec<usize>> = input
        .findings
        .iter()
        .map(|finding| {
            let fields = columns.iter().map(|field| match *field {
                "severity" => texts.place(Cow::Borrowed(finding.severity().letter())),
                field => texts.place(Cow::Borrowed(finding.get(field))),
            });
            let mut row: Vec<usize> = fields.collect();
            row.extend(made(finding).map(|text| texts.place(text)));
            row
        })
        .collect();
    let columns: Vec<&str> = columns.into_iter().chain(["masked", "owner", "country"]).collect();
    json!({"kinds": kinds, "country_source": sources.country, "columns": columns, "texts": texts.list, "rows": rows})
}

/// What a masked page leaves out.
const TELLING: &[&str] = &["value", "raw", "why"];

/// The columns that are no fields: the masked value, the owner, the country in words.
fn made(finding: &Finding) -> [Cow<'_, str>; 3] {
    let country = match finding.get("cc") {
        "" => Cow::Borrowed(""),
        code => Cow::Owned(format!("{} ({code})", words::country(code))),
    };
    [words::masked(finding.get("kind"), finding.get("value")).into(), Cow::Borrowed(finding.owner()), country]
}

/// Each text once.
#[derive(Default)]
struct Texts<'a> {
    list: Vec<Cow<'a, str>>,
    places: HashMap<Cow<'a, str>, usize>,
}

impl<'a> Texts<'a> {
    fn place(&mut self, text: Cow<'a, str>) -> usize {
        let next = self.list.len();
        let place = *self.places.entry(text.clone()).or_insert(next);
        if place == next {
            self.list.push(text);
        }
        place
    }
}

/// The text before and after a mark; all of it and nothing where the mark is missing (a test sees to it that none is).
fn cut<'a>(text: &'a str, mark: &str) -> (&'a str, &'a str) {
    text.split_once(mark).unwrap_or((text, ""))
}

/// CSP level 3, section 2.3.1: the hash of an inline element's exact text.
fn hash_source(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(lines: &str) -> Input {
        let mut input = Input::default();
        lines.lines().for_each(|line| input.line(line));
        input.finish(None);
        input
    }

    #[test]
    fn the_template_has_every_mark_once() {
        for mark in [
            "<!--telltale:report-->",
            "<!--/telltale:report-->",
            "<!--telltale:data-->",
            "<link rel=\"stylesheet\" href=\"page.css\">",
            "<script src=\"page.js\"></script>",
            "style-src 'self'; script-src 'self'",
        ] {
            assert_eq!(TEMPLATE.matches(mark).count(), 1, "{mark}");
        }
        assert!(!SCRIPT.contains("</script") && !STYLE.contains("</style"));
    }

    #[test]
    fn a_page_needs_nothing_else_and_allows_only_its_own_script() {
        let page = page(&input(""), &Sources::default(), true);
        assert!(!page.contains("'self'") && !page.contains("unsafe-inline"));
        assert!(!page.contains("page.css\"") && !page.contains("page.js\""));
        assert!(page.contains("not all clear"));
        assert_eq!(page.matches("<script>").count(), 1);
        // No inline handler and no style attribute: the policy would refuse them.
        assert!(!TEMPLATE.contains(" style=") && !TEMPLATE.contains(" onclick="));
    }

    #[test]
    fn hostile_text_in_every_field_is_text() {
        let hostile = "</script><img src=x onerror=alert(1)>\"'><svg onload=alert(1)>";
        let mut line = Map::new();
        for field in FIELDS {
            line.insert((*field).to_owned(), hostile.into());
        }
        let line = Value::Object(line).to_string();
        let input = input(&line);
        for text in
            [page(&input, &Sources::default(), true), live(&input, &Sources::default())["html"].to_string()]
        {
            assert!(!text.contains("<img") && !text.contains("<svg onload"), "{text}");
        }
    }

    #[test]
    fn a_masked_page_does_not_hold_the_values() {
        let line = r#"{"time":"2026-11-21T09:00:00Z","severity":"E","kind":"imei","value":"490154203237518","raw":"490154203237518","why":"is 490154203237518","app":"a","host":"h"}"#;
        let input = input(line);
        let masked = page(&input, &Sources::default(), false);
        assert!(!masked.contains("490154203237518") && masked.contains("…18"));
        assert!(page(&input, &Sources::default(), true).contains("490154203237518"));
    }
}
