//! The tree for `--explain`: every layer with its size, a short look at it, and why the step was taken.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use super::{Content, Node, Tree, Value};

/// Longest text that is shown of a layer.
const PREVIEW_MAX: usize = 40;

impl Tree {
    /// One line per layer, children indented under their parent, each with its number, size, a preview of at most 40
    /// characters (text only, control and direction characters replaced) and the reason. Structure is shown, not data.
    pub fn explain(&self) -> String {
        self.text(true)
    }

    /// The same without a look at the data, for where credentials must not be shown.
    pub fn outline(&self) -> String {
        self.text(false)
    }

    fn text(&self, glance: bool) -> String {
        let mut out = String::new();
        let mut depths: Vec<usize> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let parent = node.parent.and_then(|parent| depths.get(parent));
            depths.push(parent.map_or(0, |depth| depth + 1));
        }
        // Nodes lie in the order they were found; people read a tree from the top down.
        let mut todo: Vec<usize> = vec![0];
        while let Some(index) = todo.pop() {
            let Some(node) = self.nodes.get(index) else { continue };
            self.line(&mut out, index, node, depths.get(index).copied().unwrap_or(0), glance);
            let children = self.nodes.iter().enumerate().filter(|(_, child)| child.parent == Some(index));
            let first = todo.len();
            todo.extend(children.map(|(child, _)| child).filter(|child| *child > index));
            if let Some(new) = todo.get_mut(first..) {
                new.reverse();
            }
        }
        if let Some(telemetry) = &self.protocol {
            let _ = write!(out, "protocol {} ({})", telemetry.id, telemetry.name);
            if telemetry.proven {
                out.push_str(", proven by its own checksum");
            }
            if let Some(payload) = telemetry.payload {
                let _ = write!(out, ", payload in {payload}");
            }
            if let Some(why) = &telemetry.unreadable {
                let _ = write!(out, ", not readable: {why}");
            }
            for (name, value) in &telemetry.facts {
                let _ = write!(out, "; {name} {}", preview(value));
            }
            out.push('\n');
        }
        if let Some(opaque) = &self.opaque {
            let _ =
                writeln!(out, "looks encrypted: {} bytes in {}: {}", opaque.bytes, opaque.node, opaque.why);
        }
        out
    }

    fn line(&self, out: &mut String, index: usize, node: &Node, depth: usize, glance: bool) {
        let _ = write!(out, "{index:>3} {:indent$}{}", "", preview(&node.step), indent = depth * 2);
        if !node.at.is_empty() {
            let _ = write!(out, " at {}", preview(&node.at));
        }
        match &node.content {
            Content::Bytes(bytes) if node.parent.is_none() && bytes.is_empty() => {}
            Content::Bytes(bytes) => {
                let _ = write!(out, ", {} bytes", bytes.len());
                if bytes.is_empty() || !glance {
                    // Nothing to look at.
                } else if node.step.ends_with("authorization") {
                    out.push_str(", not shown");
                } else if let Ok(text) = std::str::from_utf8(bytes) {
                    let _ = write!(out, " \"{}\"", preview(text));
                } else {
                    out.push_str(", binary");
                }
            }
            Content::Value(value) => {
                let _ = write!(out, ", {}", shape(value));
            }
        }
        let _ = write!(out, ": {}", node.why);
        if let Some(cut) = node.cut {
            let _ = write!(out, " [{cut}]");
        }
        out.push('\n');
    }
}

/// What a value is, without its data.
fn shape(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "true or false".to_owned(),
        Value::Number(_) => "a number".to_owned(),
        Value::Text(text) => format!("text of {} bytes", text.len()),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Value::List(members) => format!("list of {} with {} leaves", members.len(), leaves(value)),
        Value::Map(members) => format!("map of {} with {} leaves", members.len(), leaves(value)),
    }
}

fn leaves(value: &Value) -> usize {
    match value {
        Value::List(members) => members.iter().map(leaves).sum(),
        Value::Map(members) => members.iter().map(|(_, member)| leaves(member)).sum(),
        _ => 1,
    }
}

/// The beginning of a text on one line, without characters that move the cursor or turn the direction.
fn preview(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}');
    let mut chars = text.chars();
    let mut short: String = chars
        .by_ref()
        .take(PREVIEW_MAX)
        .map(|c| if c.is_control() || turns(c) { '\u{fffd}' } else { c })
        .collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}
