//! `bench`: what watching costs, as figures anyone can measure again.
//!
//! One run makes one table. What is compared runs in turns, side by side, and a figure is the median of its turns: the
//! machine may be doing other things, and what it does then falls on all sides. Ratios carry over to other machines, times do
//! not. The budgets are those of the design; a budget that is not kept is a red row.

pub mod bed;
mod calls;
mod ciphers;
mod decode;
pub mod helper;
mod hooks;
mod idle;
mod loss;
mod memory;
mod peer;
pub mod process;
mod size;
pub mod stats;
pub mod table;
pub mod upload;

use crate::context::{Context, read_text, write};
use crate::error::{Error, Result};
use crate::say;
use crate::setup::{self, Need};

use bed::Bed;
use table::{Part, Row, Table};

/// One bench.
struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&Bed<'_>) -> Result<Vec<Row>>,
}

/// Every bench, in the order of the table.
const BENCHES: &[Bench] = &[
    Bench { name: "hooks", about: "What an SSL_write costs more", run: hooks::run },
    Bench { name: "ciphers", about: "What a cipher call of a chosen app costs more", run: ciphers::run },
    Bench { name: "calls", about: "What a system call costs more", run: calls::run },
    Bench { name: "loss", about: "TLS writes at the full speed of one core", run: loss::run },
    Bench { name: "decode", about: "Decoding and detecting", run: decode::run },
    Bench { name: "memory", about: "Memory", run: memory::run },
    Bench { name: "idle", about: "While nothing happens", run: idle::run },
    Bench { name: "size", about: "Size and start", run: size::run },
    Bench { name: "upload", about: "A large upload", run: upload::run },
    Bench { name: "peer", about: "What one would pick instead", run: peer::run },
];

/// What stands around the table in the README.
const README_BEGIN: &str = "<!-- written by `cargo ndk-build bench --readme` -->\n";
const README_END: &str = "<!-- end of the bench table -->\n";

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    quick: bool,
    json: bool,
    readme: bool,
    names: Vec<String>,
}

/// `bench [--quick] [--json] [--readme] [NAME]...`
///
/// # Errors
/// [`Error::Usage`], or what kept everything from being built. What cannot be measured is a row that says so.
pub fn command(context: &Context, rest: &[String]) -> Result<()> {
    let asked = Asked::parse(rest)?;
    setup::ensure(context, &[Need::Host, Need::Ebpf, Need::Clients, Need::Live])?;
    setup::live_kernel()
        .map_err(|reason| Error::Missing(format!("the bench hooks this machine's kernel: {reason}")))?;
    let bed = Bed::make(context, asked.quick)?;
    let before = bed::load();
    let mut parts = Vec::new();
    for bench in asked.chosen() {
        let section = say::Section::start(&format!("{}: {}", bench.name, bench.about));
        let rows = (bench.run)(&bed).unwrap_or_else(|error| {
            let text = error.to_string();
            say::note(&text);
            // The table is for others, whose clone lies elsewhere.
            let text = text.replace(&format!("{}/", context.root.display()), "");
            vec![Row::not_run(bench.name, text.lines().next().unwrap_or_default())]
        });
        rows.iter().for_each(|row| say::note(&row.line()));
        parts.push(Part { name: bench.name, about: bench.about, rows });
        section.end("measured");
    }
    let table = Table { machine: bed::machine(&before, asked.quick), parts };
    if asked.json {
        say::plain(&format!("{:#}", table.json()));
    } else {
        say::plain(&table.markdown());
    }
    if asked.readme {
        let path = context.root.join("README.md");
        let text = read_text(&path)?;
        let new = between(&text, &table.markdown())
            .ok_or_else(|| Error::Check(format!("{} has lost the marks around the table", path.display())))?;
        write(&path, new)?;
    }
    Ok(())
}

impl Asked {
    fn parse(rest: &[String]) -> Result<Self> {
        let mut asked = Self::default();
        for word in rest {
            match word.as_str() {
                "--quick" => asked.quick = true,
                "--json" => asked.json = true,
                "--readme" => asked.readme = true,
                name if BENCHES.iter().any(|bench| bench.name == name) => asked.names.push(name.to_owned()),
                other => {
                    let all: Vec<&str> = BENCHES.iter().map(|bench| bench.name).collect();
                    return Err(Error::Usage(format!(
                        "`bench` takes --quick, --json, --readme and names, not `{other}`; the names are: {}",
                        all.join(", ")
                    )));
                }
            }
        }
        if asked.readme && !asked.names.is_empty() {
            return Err(Error::Usage("`--readme` writes the whole table: it takes no names".into()));
        }
        Ok(asked)
    }

    fn chosen(&self) -> impl Iterator<Item = &'static Bench> {
        BENCHES
            .iter()
            .filter(|bench| self.names.is_empty() || self.names.iter().any(|name| name == bench.name))
    }
}

/// `text` with `table` between its marks; none without the marks.
fn between(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(README_BEGIN)?;
    let (_, after) = rest.split_once(README_END)?;
    Some(format!("{before}{README_BEGIN}\n{table}\n{README_END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Result<Asked> {
        Asked::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn names_and_options_are_told_apart() {
        let both = asked("calls --quick --json").unwrap();
        assert!(both.quick && both.json && !both.readme);
        assert_eq!(both.chosen().map(|bench| bench.name).collect::<Vec<_>>(), ["calls"]);
        assert_eq!(asked("").unwrap().chosen().count(), BENCHES.len());
        for wrong in ["everything", "--fast", "--readme hooks"] {
            assert_eq!(asked(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn the_table_is_replaced_between_its_marks_and_nowhere_else() {
        let text = format!("head\n{README_BEGIN}old\n{README_END}tail\n");
        let new = between(&text, "| new |\n").unwrap();
        assert_eq!(new, format!("head\n{README_BEGIN}\n| new |\n\n{README_END}tail\n"));
        assert_eq!(between(&new, "| new |\n").unwrap(), new);
        assert_eq!(between("no marks", "x"), None);
    }
}
