//! Where the phone is, in a message: two neighbouring numbers, or a pair in a text, near its own position.

use super::{Field, Search, is_open};
use crate::{
    leak::{
        Kind, Witness,
        candidate::{Candidate, Place, Reason},
        fields::Weight,
        path::{Step, render},
        position::{self, Degrees, Position},
        settle::Spotted,
        token::last_key,
    },
    unwrap::Value,
};

impl<'a> Search<'a> {
    /// Two neighbouring numbers that are where the phone is.
    pub(super) fn siblings(&mut self, node: usize, value: &Value, steps: &[Step<'_>]) {
        let Some(fix) = self.detector.fix else { return };
        match value {
            Value::Map(entries) => {
                let numbers = entries.iter().filter_map(|(key, value)| Some((&**key, number(value)?)));
                self.neighbours(node, steps, fix, numbers);
            }
            Value::List(items) if items.len() <= 8 => {
                let numbers = items.iter().filter_map(|value| Some(("", number(value)?)));
                self.neighbours(node, steps, fix, numbers);
            }
            _ => {}
        }
    }

    /// The same for two neighbouring fields of a query, a form or the head, whatever they are called.
    pub(super) fn field_neighbours(&mut self, fields: &[Field<'a>]) {
        let Some(fix) = self.detector.fix else { return };
        for pair in fields.windows(2) {
            let [first, second] = pair else { continue };
            if !(is_open(first) || first.part == "header") || first.part != second.part {
                continue;
            }
            let near = |lat, lon| position::pair_near(lat, lon, fix);
            let Some(found) = near(first.text, second.text).or_else(|| near(second.text, first.text)) else {
                continue;
            };
            let place = Place { node: first.node, at: first.at.clone() };
            self.located(place, found, fix, format!("{},{}", first.text, second.text), (first.name, ""));
        }
    }

    fn neighbours<'v>(
        &mut self,
        node: usize,
        steps: &[Step<'_>],
        fix: Position,
        numbers: impl Iterator<Item = (&'v str, &'v str)>,
    ) {
        let mut before = None;
        for (key, second) in numbers {
            let degrees = Degrees::of(second);
            let Some((first_key, first, first_degrees)) = before.replace((key, second, degrees)) else {
                continue;
            };
            if degrees.is_none() || degrees != first_degrees {
                continue;
            }
            let near = |lat, lon| position::pair_near(lat, lon, fix);
            let Some(found) = near(first, second).or_else(|| near(second, first)) else { continue };
            let at = if first_key.is_empty() {
                render(steps)
            } else {
                let mut steps = steps.to_vec();
                steps.push(Step::Key(first_key));
                render(&steps)
            };
            let sent = format!("{first},{second}");
            self.located(Place { node, at }, found, fix, sent, (first_key, ""));
        }
    }

    pub(super) fn text_position(&mut self, node: usize, steps: &[Step<'_>], text: &str, fix: Position) {
        if let Some(found) = position::pair_in_text(text, fix) {
            let key = last_key(steps).or_else(|| self.field_name(node)).unwrap_or("");
            self.located(Place { node, at: render(steps) }, found, fix, String::new(), (key, text));
        }
    }

    /// A place near where the phone is, under `key` and in the text `around` it.
    fn located(
        &mut self,
        place: Place,
        found: Position,
        fix: Position,
        sent: String,
        (key, around): (&str, &str),
    ) {
        let value = found.to_string();
        self.truths.push(Spotted {
            loose: false,
            candidate: Candidate {
                kind: Kind::Location,
                raw: (!sent.is_empty() && sent != value).then_some(sent.into()),
                value: value.into(),
                form: None,
                by: Witness::Truth,
                weight: Weight::High,
                place,
                why: Reason::Near(found.distance_km(fix)).into(),
                sender: None,
                others: false,
                own_words: self.own.is_own(key, around),
                position: Some(found),
            },
        });
    }
}

/// Lets the phone's own position speak for a place found by another witness.
pub(super) fn near(candidate: &mut Candidate<'_>, position: Position, fix: Option<Position>) {
    let Some(fix) = fix.filter(|fix| position.is_near(*fix)) else { return };
    candidate.by = Witness::Truth;
    candidate.why.1 = Some(Reason::Near(position.distance_km(fix)));
}

/// A number, also one written as text.
fn number(value: &Value) -> Option<&str> {
    match value {
        Value::Number(text) => Some(text),
        Value::Text(text) if text.len() <= 20 && matches!(text.as_bytes(), [b'0'..=b'9' | b'-', ..]) => {
            Some(text)
        }
        _ => None,
    }
}
