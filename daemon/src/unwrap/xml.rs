//! XML text and XML property lists → [`Value`], through quick-xml. Entities are not expanded but for the five and
//! character references, so that no entity bomb exists; web pages are left alone.
#![forbid(unsafe_code)]

use quick_xml::{
    Reader,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
};

use super::{Str, Value, limits::Budget, limits::Limits};

/// A value and why it is not all of it.
#[derive(Debug, PartialEq)]
pub(super) struct Parsed {
    pub(super) value: Value,
    pub(super) cut: Option<&'static str>,
}

/// One open element.
#[derive(Default)]
struct Open {
    name: Str,
    members: Vec<(Str, Value)>,
    text: String,
}

/// Reads a document. An element is a map of its attributes (`@name`), its elements and its text (`#text`); with
/// nothing but text it is that text. A property list's dict, array and leaves become what they stand for.
pub(super) fn parse(text: &str, budget: &mut Budget) -> Option<Parsed> {
    let head = text.get(..64).unwrap_or(text).to_ascii_lowercase();
    if head.starts_with("<html") || head.starts_with("<!doctype html") {
        return None;
    }
    let items = budget.items();
    let mut reader = Reader::from_str(text);
    let mut stack = vec![Open::default()];
    let mut elements = 0usize;
    let cut = loop {
        let event = match reader.read_event() {
            Ok(event) => event,
            // Ends inside a tag, or is no XML: what was complete before decides.
            Err(_) => break Some(Limits::CUT_SHORT),
        };
        match event {
            Event::Start(start) => {
                if stack.len() > budget.limits().nesting || !budget.take_item() {
                    break Some(Limits::CUT_ITEMS);
                }
                stack.push(open(&start, budget));
            }
            Event::Empty(start) => {
                if !budget.take_item() {
                    break Some(Limits::CUT_ITEMS);
                }
                elements += 1;
                let empty = open(&start, budget);
                close(&mut stack, empty);
            }
            Event::End(_) => match stack.pop() {
                Some(done) if !stack.is_empty() => {
                    elements += 1;
                    close(&mut stack, done);
                }
                _ => break Some(Limits::CUT_SHORT),
            },
            Event::Text(piece) => add_text(&mut stack, &piece),
            Event::CData(piece) => add_text(&mut stack, &piece),
            Event::GeneralRef(entity) => {
                let character = entity.resolve_char_ref().ok().flatten();
                match (character, resolve_predefined_entity(&entity)) {
                    (Some(character), _) => add_text(&mut stack, character.encode_utf8(&mut [0; 4])),
                    (None, Some(known)) => add_text(&mut stack, known),
                    (None, None) => add_text(&mut stack, &format!("&{};", &*entity)),
                }
            }
            Event::Eof => break (stack.len() > 1).then_some(Limits::CUT_SHORT),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    };
    while stack.len() > 1 {
        let done = stack.pop()?;
        close(&mut stack, done);
    }
    let root = stack.pop()?;
    let stray = !root.text.trim().is_empty();
    if elements == 0 || stray || root.members.is_empty() {
        budget.restore_items(items);
        return None;
    }
    Some(Parsed { value: Value::Map(root.members), cut })
}

fn open(start: &BytesStart<'_>, budget: &mut Budget) -> Open {
    let name = start.name().as_ref().into();
    let mut members = Vec::new();
    for attribute in start.attributes().with_checks(false).flatten() {
        if !budget.take_item() {
            break;
        }
        let raw = &attribute.value;
        let value = quick_xml::escape::unescape(raw).map_or_else(|_| raw.to_string(), |v| v.into_owned());
        members.push((format!("@{}", attribute.key.as_ref()).into(), Value::Text(value.into())));
    }
    Open { name, members, text: String::new() }
}

fn add_text(stack: &mut [Open], piece: &str) {
    if let Some(open) = stack.last_mut() {
        open.text.push_str(piece);
    }
}

/// Gives a finished element to the one around it.
fn close(stack: &mut [Open], done: Open) {
    let Open { name, mut members, text } = done;
    let text = text.trim();
    let value = match (&*name, members.is_empty()) {
        ("dict", _) => Value::Map(pairs(members)),
        ("array", _) => Value::List(members.into_iter().map(|(_, value)| value).collect()),
        ("true" | "false", true) if text.is_empty() => Value::Bool(&*name == "true"),
        ("integer" | "real", true) => Value::Number(text.into()),
        (_, true) => Value::Text(text.into()),
        (_, false) => {
            if !text.is_empty() {
                members.push(("#text".into(), Value::Text(text.into())));
            }
            Value::Map(members)
        }
    };
    if let Some(around) = stack.last_mut() {
        around.members.push((name, value));
    }
}

/// `<key>a</key><string>b</string>` of a property list; elements of another kind stay as they are.
fn pairs(members: Vec<(Str, Value)>) -> Vec<(Str, Value)> {
    let mut out = Vec::new();
    let mut key: Option<Str> = None;
    for (name, value) in members {
        match (value, key.take()) {
            (Value::Text(text), None) if &*name == "key" => key = Some(text),
            (value, Some(key)) => out.push((key, value)),
            (value, None) => out.push((name, value)),
        }
    }
    out
}
