//! Layers of clear text under what an app sealed with a cipher of its own, wherever its cipher text stands: as it is, in hex or in
//! base64, beside a vector or a tag, several in a row.
#![forbid(unsafe_code)]

use super::{
    Content, Opened, Telemetry,
    guess::Layer,
    peel::Peeler,
    text::{self, Chars},
};

/// Fewest bytes that a cipher text has.
const LEAST: usize = 16;
/// Bytes of vector and tag that may stand around a cipher text; what holds no more besides says nothing else.
const AROUND: usize = 64;

impl Peeler<'_> {
    /// Opens what is sealed in a node of bytes.
    pub(super) fn unseal_node(&mut self, index: usize) {
        let data = self.take_bytes(index);
        self.unseal(index, "", &data);
        self.put_bytes(index, data);
    }

    /// Adds the clear text of what stands sealed in `data`, which lies `at` a place of node `index`; false when nothing does.
    pub(super) fn unseal(&mut self, index: usize, at: &str, data: &[u8]) -> bool {
        let opened = self.open_sealed(data);
        if !opened.is_empty() {
            self.add_opened(index, at, opened, data.len());
            return true;
        }
        if self.opener.is_none() {
            return false;
        }
        let Some((step, decoded)) = self.decoded(data) else { return false };
        let opened = self.open_sealed(&decoded);
        if opened.is_empty() {
            return false;
        }
        let len = decoded.len();
        let layer = Layer::new(step, Content::Bytes(decoded), "it decodes to what the app sealed");
        if let Some(inner) = self.add(index, at.to_owned(), step.to_owned(), layer) {
            self.close(inner);
            self.add_opened(inner, "", opened, len);
        }
        true
    }

    fn open_sealed(&mut self, data: &[u8]) -> Vec<Opened> {
        let Some(opener) = self.opener.as_deref_mut() else { return Vec::new() };
        if data.len() < LEAST || !self.budget.work(data.len()) {
            return Vec::new();
        }
        opener.open(data)
    }

    /// The bytes of text that is nothing but hex or base64.
    fn decoded(&mut self, data: &[u8]) -> Option<(&'static str, Vec<u8>)> {
        if data.len() < LEAST * 4 / 3 || !self.budget.work(data.len()) {
            return None;
        }
        let chars = Chars::of(data);
        if chars.hex() {
            return Some(("hex", text::unhex(data)?));
        }
        chars.base64().then(|| text::unbase64(data, false)).flatten().map(|bytes| ("base64", bytes))
    }

    fn add_opened(&mut self, index: usize, at: &str, opened: Vec<Opened>, len: usize) {
        let sealed: usize = opened.iter().map(|one| one.range.len()).sum();
        for Opened { step, text, cut, sender, .. } in opened {
            if !self.budget.take_bytes(text.len()) {
                return;
            }
            self.sealed_by = self.sealed_by.take().or(sender);
            let layer = Layer {
                step: "sealed",
                content: Content::Bytes(text),
                why: "the app encrypted this text, and what its cipher made of it was sent",
                cut,
                covers: len.saturating_sub(sealed) <= AROUND,
            };
            self.add(index, at.to_owned(), step, layer);
        }
    }

    /// Once all is open: what of a sealed protocol could be read after all, and why the rest could not.
    pub(super) fn settle_sealed(&mut self) {
        let Some(mut telemetry) = self.tree.protocol.take() else { return };
        let payloads = self.sealed_payloads();
        if telemetry.unreadable.is_some() && !payloads.is_empty() {
            settle(&mut telemetry, payloads);
        }
        let named = telemetry.facts.iter().any(|(name, _)| name == "sender");
        if let Some(sender) = self.sealed_by.take().filter(|_| !named) {
            telemetry.facts.push(("sender".to_owned(), sender));
        }
        self.tree.protocol = Some(telemetry);
    }

    /// The structured values that the outermost sealed texts hold as a whole.
    fn sealed_payloads(&self) -> Vec<usize> {
        let nodes = &self.tree.nodes;
        let is_sealed = |index: usize| nodes.get(index).is_some_and(|node| node.step.starts_with("sealed"));
        let within_sealed = |index: usize| {
            let mut parent = nodes.get(index).and_then(|node| node.parent);
            while let Some(above) = parent {
                if is_sealed(above) {
                    return true;
                }
                parent = nodes.get(above).and_then(|node| node.parent);
            }
            false
        };
        let outermost = (0..nodes.len()).filter(|index| is_sealed(*index) && !within_sealed(*index));
        let value_below = |mut at: usize| loop {
            if matches!(nodes.get(at).map(|node| &node.content), Some(Content::Value(_))) {
                return Some(at);
            }
            let below = nodes.iter().enumerate().skip(at.saturating_add(1));
            at = below
                .filter(|(_, node)| node.parent == Some(at) && node.at.is_empty())
                .map(|(n, _)| n)
                .next()?;
        };
        outermost.filter_map(value_below).collect()
    }
}

/// Takes the opened payloads into what is said of the protocol.
fn settle(telemetry: &mut Telemetry, mut payloads: Vec<usize>) {
    let counted =
        telemetry.facts.iter_mut().find(|(name, _)| telemetry.summary.contains(name.trim_end_matches('s')));
    let sealed = counted.as_ref().and_then(|(_, count)| count.parse::<usize>().ok()).unwrap_or(1);
    let left = sealed.saturating_sub(payloads.len());
    if left == 0 {
        telemetry.unreadable = None;
        telemetry.summary.clear();
    } else if let Some((name, count)) = counted {
        let noun = if left == 1 { name.trim_end_matches('s') } else { name };
        telemetry.summary = format!("{left} of {sealed} {noun}");
        *count = left.to_string();
    }
    if telemetry.payload.is_none() {
        telemetry.payload = Some(payloads.remove(0));
    }
    telemetry.opened = payloads;
}
