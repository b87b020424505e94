//! What a bench found, row by row: a figure, the budget it must keep, and the verdict; as a table for people and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::stats::Spread;

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

/// How a row came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Within its budget.
    Met,
    /// Over its budget.
    Red,
    /// Could not be measured here.
    NotRun,
    /// Has no budget: told to compare.
    Told,
}

impl Verdict {
    /// As tables and JSON have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Red => "RED",
            Self::NotRun => "not run",
            Self::Told => "",
        }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    what: String,
    unit: &'static str,
    figure: Option<Spread>,
    budget: Option<Budget>,
    note: String,
}

impl Row {
    /// A figure in `unit`. Without one, as when no repetition was usable, the row says so.
    pub fn new(what: impl Into<String>, unit: &'static str, figure: impl Into<Option<Spread>>) -> Self {
        let figure = figure.into();
        let note = if figure.is_some() { "" } else { "no usable repetition" }.to_owned();
        Self { what: what.into(), unit, figure, budget: None, note }
    }

    /// A figure that does not vary.
    pub fn exact(what: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self::new(what, unit, Spread::exact(value))
    }

    /// A row that could not be measured, and why.
    pub fn not_run(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), unit: "", figure: None, budget: None, note: why.into() }
    }

    /// Sets the budget.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Says more, such as the absolute times behind a ratio.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Whether the budget is kept.
    pub fn verdict(&self) -> Verdict {
        match (self.figure, self.budget) {
            (None, _) => Verdict::NotRun,
            (Some(_), None) => Verdict::Told,
            (Some(figure), Some(budget)) => {
                let met = match budget {
                    Budget::AtMost(most) => figure.median <= most,
                    Budget::AtLeast(least) => figure.median >= least,
                };
                if met { Verdict::Met } else { Verdict::Red }
            }
        }
    }

    /// In one line, for who waits for the table.
    pub fn line(&self) -> String {
        let figure = self.figure_text();
        let parts = [self.what.as_str(), &figure, self.verdict().word(), &self.note];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join("; ")
    }

    fn figure_text(&self) -> String {
        self.figure.map_or_else(String::new, |figure| with_unit(figure.median, self.unit))
    }

    fn range_text(&self) -> String {
        match self.figure {
            Some(figure) if figure.low != figure.high => {
                format!("{}–{}", number(figure.low), number(figure.high))
            }
            _ => String::new(),
        }
    }

    fn budget_text(&self) -> String {
        match self.budget {
            Some(Budget::AtMost(most)) => format!("≤ {}", with_unit(most, self.unit)),
            Some(Budget::AtLeast(least)) => format!("≥ {}", with_unit(least, self.unit)),
            None => String::new(),
        }
    }

    fn json(&self, bench: &str) -> Value {
        let (budget, kind) = match self.budget {
            Some(Budget::AtMost(most)) => (Some(most), Some("at most")),
            Some(Budget::AtLeast(least)) => (Some(least), Some("at least")),
            None => (None, None),
        };
        json!({
            "bench": bench,
            "what": self.what,
            "value": self.figure.map(|figure| figure.median),
            "low": self.figure.map(|figure| figure.low),
            "high": self.figure.map(|figure| figure.high),
            "unit": self.unit,
            "budget": budget,
            "budget_kind": kind,
            "verdict": self.verdict().word(),
            "note": self.note,
        })
    }
}

/// Three figures are as many as a bench can vouch for.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 10_000.0 => grouped(value.round() as i64),
        size if size >= 100.0 || value == value.trunc() => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn grouped(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::from(if value < 0 { "-" } else { "" });
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn with_unit(value: f64, unit: &str) -> String {
    match unit {
        "" => number(value),
        "×" | "%" => format!("{}{unit}", number(value)),
        _ => format!("{} {unit}", number(value)),
    }
}

/// The rows of one bench.
#[derive(Debug)]
pub struct Part {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// What it found.
    pub rows: Vec<Row>,
}

/// Everything one run found, and where.
#[derive(Debug)]
pub struct Table {
    /// One line: the machine, its kernel, what else it did.
    pub machine: String,
    /// Bench by bench.
    pub parts: Vec<Part>,
}

impl Table {
    /// How many rows came out so.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.parts.iter().flat_map(|part| &part.rows).filter(|row| row.verdict() == verdict).count()
    }

    /// As Markdown, which a terminal shows well enough: columns are padded.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n", self.machine);
        for part in &self.parts {
            let _ = write!(text, "\n**{}**\n\n", part.about);
            let mut lines =
                vec![["what", "figure", "quartiles", "budget", "verdict", "beside it"].map(str::to_owned)];
            lines.extend(part.rows.iter().map(|row| {
                let verdict = row.verdict().word().to_owned();
                let what = row.what.clone();
                [what, row.figure_text(), row.range_text(), row.budget_text(), verdict, row.note.clone()]
            }));
            write_columns(&mut text, &lines);
        }
        let _ = write!(text, "\n{}\n", self.summary());
        text
    }

    /// The last line: how many rows came out how.
    pub fn summary(&self) -> String {
        let [met, red, not] =
            [Verdict::Met, Verdict::Red, Verdict::NotRun].map(|verdict| self.count(verdict));
        format!("{met} budgets met, {red} red, {not} rows not run")
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> =
            self.parts.iter().flat_map(|part| part.rows.iter().map(|row| row.json(part.name))).collect();
        json!({ "machine": self.machine, "rows": rows })
    }
}

/// Writes a Markdown table whose columns are as wide as their widest cell; the last one is not padded.
fn write_columns<const N: usize>(text: &mut String, lines: &[[String; N]]) {
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N.saturating_sub(1)).map(width).collect();
    for (number, line) in lines.iter().enumerate() {
        for (column, cell) in line.iter().enumerate() {
            let width = widths.get(column).copied().unwrap_or(0);
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            text.push_str(&"| --- ".repeat(N));
            text.push_str("|\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_the_budget() {
        let row = |value| Row::exact("x", "×", value);
        assert_eq!(row(2.0).budget(Budget::AtMost(2.0)).verdict(), Verdict::Met);
        assert_eq!(row(2.1).budget(Budget::AtMost(2.0)).verdict(), Verdict::Red);
        assert_eq!(row(49.0).budget(Budget::AtLeast(50.0)).verdict(), Verdict::Red);
        assert_eq!(row(1.0).verdict(), Verdict::Told);
        assert_eq!(Row::not_run("x", "no root").budget(Budget::AtMost(1.0)).verdict(), Verdict::NotRun);
        assert_eq!(Row::new("x", "×", None).verdict(), Verdict::NotRun);
    }

    #[test]
    fn figures_keep_three_digits() {
        let shown = [0.123, 1.0, 1.666, 12.34, 123.4, 9_999.0, 301_000.0, -12_345.0].map(number);
        assert_eq!(shown, ["0.12", "1", "1.67", "12.3", "123", "9999", "301,000", "-12,345"]);
    }

    #[test]
    fn a_red_row_stands_in_the_table_and_in_the_summary() {
        let spread = Spread { median: 2.345, low: 2.1, high: 2.6 };
        let rows = vec![
            Row::new("per write", "×", spread).budget(Budget::AtMost(2.0)).note("empty +1 µs"),
            Row::not_run("other", "no valgrind"),
        ];
        let table =
            Table { machine: "A machine.".into(), parts: vec![Part { name: "hooks", about: "Hooks", rows }] };
        let text = table.markdown();
        assert!(
            text.contains("| per write | 2.35×  | 2.10–2.60 | ≤ 2×   | RED     | empty +1 µs |"),
            "{text}"
        );
        assert!(text.ends_with("0 budgets met, 1 red, 1 rows not run\n"), "{text}");
        let json = table.json();
        assert_eq!(json["rows"][0]["verdict"], "RED");
        assert_eq!(json["rows"][0]["budget_kind"], "at most");
        assert_eq!(json["rows"][1]["value"], Value::Null);
    }
}
