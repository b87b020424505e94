//! Recognises a known telemetry protocol and runs its own recipe, which goes before every guess.
#![forbid(unsafe_code)]

use std::{borrow::Cow, cell::RefCell};

use crate::wire;

use super::{
    Content, Telemetry, Value, aes, compress,
    guess::{self, Layer},
    json,
    limits::Budget,
    peel::{Parts, Peeler},
    protocols::{Crc, Key, Protocols, Row, Step, When},
    text,
};

/// The protocol of a message, its payload decoded into the tree where it can be read.
pub(super) fn recognise<'m>(
    peeler: &mut Peeler<'_>,
    message: &'m wire::Message,
    parts: &'m Parts,
    protocols: &'m Protocols,
) -> Option<Telemetry> {
    let request = Request { message, parts, tried: RefCell::default(), hashes: RefCell::default() };
    let proven: Vec<&Row> =
        protocols.rows.iter().filter(|row| row.crc.iter().any(|crc| request.proves(peeler, crc))).collect();
    for row in &proven {
        if let Some(decoded) = request.decode(peeler, row) {
            return Some(request.telemetry(peeler, row, true, Some(decoded)));
        }
    }
    let host = message.host.as_deref().unwrap_or_default();
    let mut named: Vec<&Row> = protocols.for_host(host).filter(|row| request.fits(row)).collect();
    if named.is_empty() && proven.is_empty() {
        named = protocols.rows.iter().filter(|row| request.fits_elsewhere(row)).collect();
    }
    let is_proven = |row: &Row| proven.iter().any(|p| p.id == row.id);
    named.retain(|row| !is_proven(row));
    // A row whose recipe works is the right one; else one that says it is sure; else the first that fits.
    for row in &named {
        if let Some(decoded) = request.decode(peeler, row) {
            return Some(request.telemetry(peeler, row, false, Some(decoded)));
        }
    }
    let candidates = || proven.iter().chain(&named).copied();
    let sure = candidates().find(|row| row.when.iter().any(|when| request.holds(peeler, when)));
    let row = sure.or_else(|| candidates().find(|row| row.sealed.is_none()))?;
    Some(request.telemetry(peeler, row, is_proven(row), None))
}

struct Request<'m> {
    message: &'m wire::Message,
    parts: &'m Parts,
    /// What recipes gave that need no key and whose row did not take it: rows of one family differ in what they do with it.
    tried: RefCell<Vec<Tried<'m>>>,
    /// Java's hash of the text of a node.
    hashes: RefCell<Vec<(usize, i32)>>,
}

/// The node a recipe began at, its steps, and what came of them.
type Tried<'m> = (usize, &'m [Step], Option<Vec<Layer>>);

impl<'m> Request<'m> {
    /// Method, path and fields as the row has them; the host is the caller's.
    fn fits(&self, row: &Row) -> bool {
        let message = self.message;
        (row.methods.is_empty() || row.methods.contains(&message.method))
            && (row.needs_one_of.is_empty() || row.needs_one_of.iter().any(|field| self.has_field(field)))
            && (row.headers.is_empty() || row.headers.iter().any(|name| message.header(name).is_some()))
            && row.path_regex.as_ref().is_none_or(|path| path.is_match(&message.target))
    }

    /// The same on a host no row names: all of the row's fields must be there, and they must be enough to tell.
    fn fits_elsewhere(&self, row: &Row) -> bool {
        !row.hosts.is_empty()
            && row.fields.len() >= 4
            && row.fields.iter().all(|field| self.has_field(field))
            && self.fits(row)
    }

    fn has_field(&self, name: &str) -> bool {
        self.parts.form.iter().chain(&self.parts.query).any(|(n, _)| n == name)
    }

    /// The node a recipe begins at.
    fn node(&self, step: &Step) -> Option<usize> {
        let of = |list: &[(String, usize)], names: &str| {
            names.split('|').find_map(|name| list.iter().find(|(n, _)| n == name).map(|(_, i)| *i))
        };
        match step {
            Step::Form(name) => of(&self.parts.form, name),
            Step::Query(name) => of(&self.parts.query, name),
            Step::Header(name) => of(&self.parts.headers, name),
            Step::Body => self.parts.body,
            _ => None,
        }
    }

    fn text<'t>(&self, peeler: &'t Peeler<'_>, step: &Step) -> Option<&'t str> {
        std::str::from_utf8(peeler.bytes(self.node(step)?)).ok()
    }

    fn holds(&self, peeler: &Peeler<'_>, when: &When) -> bool {
        self.text(peeler, &when.field).is_some_and(|text| text == when.value)
    }

    /// Whether the checksum in the message agrees with what it is over.
    fn proves(&self, peeler: &Peeler<'_>, crc: &Crc) -> bool {
        let Some(Ok(said)) = self
            .text(peeler, &crc.value)
            .and_then(|text| text.strip_prefix(crc.prefix.as_str()))
            .map(|text| text.trim().parse::<i32>())
        else {
            return false;
        };
        // The hash of an empty text is 0 and proves nothing.
        self.node(&crc.of).is_some_and(|node| self.hash(peeler, node) == Some(said))
    }

    fn hash(&self, peeler: &Peeler<'_>, node: usize) -> Option<i32> {
        let mut hashes = self.hashes.borrow_mut();
        if let Some((_, hash)) = hashes.iter().find(|(known, _)| *known == node) {
            return Some(*hash);
        }
        let text = std::str::from_utf8(peeler.bytes(node)).ok().filter(|text| !text.is_empty())?;
        let hash = text::java_hash(text);
        hashes.push((node, hash));
        Some(hash)
    }

    /// Runs the row's recipes; the first that gives a value wins.
    fn decode(&self, peeler: &mut Peeler<'_>, row: &'m Row) -> Option<(usize, Vec<Layer>)> {
        if row.readable_if.as_ref().is_some_and(|when| !self.holds(peeler, when)) {
            return None;
        }
        row.recipes.iter().find_map(|recipe| {
            let (first, rest) = recipe.split_first()?;
            let start = self.node(first)?;
            let layers = match self.earlier(start, rest) {
                Some(outcome) => outcome,
                None => {
                    let data = peeler.take_bytes(start);
                    let layers = self.run(peeler, row, &data, rest);
                    peeler.put_bytes(start, data);
                    layers
                }
            };
            let envelope = match (
                &row.sealed,
                layers.as_ref().and_then(|layers| layers.last()).map(|layer| &layer.content),
            ) {
                (None, _) => true,
                (Some(sealed), Some(Content::Value(value))) => has_keys(value, &sealed.keys),
                (Some(_), _) => false,
            };
            if !envelope && !rest.iter().any(Step::needs_key) {
                self.tried.borrow_mut().push((start, rest, layers));
                return None;
            }
            layers.filter(|_| envelope).map(|layers| (start, layers))
        })
    }

    /// What the same steps gave another row that did not take it.
    fn earlier(&self, start: usize, steps: &[Step]) -> Option<Option<Vec<Layer>>> {
        let mut tried = self.tried.borrow_mut();
        let index = tried.iter().position(|(node, known, _)| *node == start && *known == steps)?;
        Some(tried.swap_remove(index).2)
    }

    fn run(&self, peeler: &mut Peeler<'_>, row: &Row, start: &[u8], steps: &[Step]) -> Option<Vec<Layer>> {
        let mut layers: Vec<Layer> = Vec::with_capacity(steps.len());
        for step in steps {
            if let Some(layer) = undisguised(step, innermost(&layers, start)?) {
                layers.push(layer);
            }
            let data = innermost(&layers, start)?;
            if !peeler.budget.work(data.len()) {
                return None;
            }
            let made = match step {
                Step::AesEcb(key) => {
                    let keys = self.keys(peeler, row, key, 0)?;
                    let plain = keys.iter().find_map(|key| aes::ecb(key, data).filter(|p| opens(p)))?;
                    Layer::new(
                        "aes-128-ecb",
                        Content::Bytes(plain),
                        "the key is made of fields of the same form",
                    )
                }
                Step::AesCbc(key, iv) => {
                    let keys = self.keys(peeler, row, key, 0)?;
                    let ivs = self.keys(peeler, row, iv, 0)?;
                    // Key and vector are written in the same case; a vector of the wrong one spoils only letters
                    // of the first block, which may then pass for JSON: such pairs come last.
                    let same = keys.iter().zip(&ivs);
                    let mixed = keys.iter().flat_map(|key| ivs.iter().map(move |iv| (key, iv)));
                    let mut opened = same.chain(mixed).filter_map(|(key, iv)| aes::cbc(key, iv, data));
                    let plain = opened.find(|p| opens(p))?;
                    Layer::new("aes-128-cbc", Content::Bytes(plain), "the key travels in the same request")
                }
                other => match plain_step(other, data, &mut peeler.budget)? {
                    Some(layer) => layer,
                    None => continue,
                },
            };
            layers.push(made);
        }
        layers.last().is_some_and(|layer| matches!(layer.content, Content::Value(_))).then_some(layers)
    }

    /// The candidates for a key: a digest is written in upper or lower case.
    fn keys(&self, peeler: &mut Peeler<'_>, row: &Row, name: &str, depth: usize) -> Option<Vec<Vec<u8>>> {
        // A key made by steps may use keys; a row that goes in circles ends here.
        if depth > 4 {
            return None;
        }
        match &row.keys.iter().find(|(known, _)| known == name)?.1 {
            Key::Fixed(bytes) => Some(vec![bytes.clone()]),
            Key::Md5 { text, first } => {
                let digest = aes::md5_hex(self.fill(peeler, text)?.as_bytes());
                let lower = digest.get(..*first)?;
                Some(vec![lower.to_ascii_uppercase().into_bytes(), lower.to_owned().into_bytes()])
            }
            Key::Steps(steps) => {
                let (first, rest) = steps.split_first()?;
                let mut data = peeler.bytes(self.node(first)?).to_vec();
                for step in rest {
                    data = match step {
                        Step::AesEcb(key) => {
                            let keys = self.keys(peeler, row, key, depth + 1)?;
                            keys.iter().find_map(|key| aes::ecb(key, &data))?
                        }
                        Step::AesCbc(key, iv) => {
                            let keys = self.keys(peeler, row, key, depth + 1)?;
                            let ivs = self.keys(peeler, row, iv, depth + 1)?;
                            keys.iter().find_map(|key| ivs.iter().find_map(|iv| aes::cbc(key, iv, &data)))?
                        }
                        other => {
                            match plain_step(other, &data, &mut peeler.budget)?.map(|layer| layer.content) {
                                Some(Content::Bytes(bytes)) => bytes,
                                Some(Content::Value(_)) => return None,
                                None => data,
                            }
                        }
                    };
                }
                Some(vec![data])
            }
        }
    }

    /// `{field}` replaced by the form field of that name.
    fn fill(&self, peeler: &Peeler<'_>, template: &str) -> Option<String> {
        let mut filled = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}')?;
            filled.push_str(before);
            filled.push_str(self.text(peeler, &Step::Form(name.to_owned()))?);
            rest = after;
        }
        filled.push_str(rest);
        Some(filled)
    }

    fn telemetry(
        &self,
        peeler: &mut Peeler<'_>,
        row: &Row,
        proven: bool,
        decoded: Option<(usize, Vec<Layer>)>,
    ) -> Telemetry {
        let mut telemetry = Telemetry { proven, no_content: row.no_content, ..Telemetry::default() };
        (telemetry.id, telemetry.name) = (row.id.clone(), row.name.clone());
        let start = decoded
            .as_ref()
            .map(|(start, _)| *start)
            .or_else(|| row.recipes.iter().find_map(|recipe| self.node(recipe.first()?)).or(self.parts.body));
        telemetry.start = start;
        if let Some((start, layers)) = decoded {
            peeler.close(start);
            let mut at = Some(start);
            for layer in layers {
                let Some(parent) = at else { break };
                peeler.close(parent);
                at = peeler.add(parent, String::new(), layer.step.to_owned(), layer);
            }
            telemetry.payload = at;
        }
        if telemetry.payload.is_none() || row.sealed.is_some() {
            telemetry.unreadable.clone_from(&row.unreadable);
        }
        if let (Some(sealed), Some(payload)) = (&row.sealed, telemetry.payload)
            && let Some(Content::Value(value)) = peeler.tree.nodes.get(payload).map(|node| &node.content)
        {
            let count = members(value, &sealed.count).map(|v| match v {
                Value::List(list) => list.len(),
                _ => 1,
            });
            let count = count.sum::<usize>();
            let noun = if count == 1 { sealed.count.trim_end_matches('s') } else { &sealed.count };
            telemetry.summary = format!("{count} {noun}");
            telemetry.facts.push((sealed.count.clone(), count.to_string()));
            for name in &sealed.show {
                let text = members(value, name).find_map(|value| match value {
                    Value::Number(text) | Value::Text(text) => Some(text.to_string()),
                    _ => None,
                });
                telemetry.facts.extend(text.map(|text| (name.clone(), text)));
            }
        }
        if telemetry.unreadable.is_some()
            && let Some(start) = start
        {
            let bytes = peeler.bytes(start).len();
            telemetry.facts.push(("bytes".to_owned(), bytes.to_string()));
            // Sealed data is not for guessing; it is opened or it stays closed.
            peeler.unseal_node(start);
            peeler.close(start);
        }
        if let Some(sender) = row.sender.as_ref().and_then(|step| self.text(peeler, step)) {
            telemetry.facts.push(("sender".to_owned(), sender.to_owned()));
        }
        telemetry
    }
}

/// The bytes that the next step is for.
fn innermost<'l>(layers: &'l [Layer], start: &'l [u8]) -> Option<&'l [u8]> {
    match layers.last().map(|layer| &layer.content) {
        None => Some(start),
        Some(Content::Bytes(bytes)) => Some(bytes),
        Some(Content::Value(_)) => None,
    }
}

/// What some senders put around what a step is for: percent signs once more, text in 16 bits.
fn undisguised(step: &Step, data: &[u8]) -> Option<Layer> {
    let percent = match step {
        // Neither alphabet has a percent sign.
        Step::Base64 | Step::Hex => memchr::memchr(b'%', data).is_some(),
        Step::Json if matches!(data, [0 | 0xfe | 0xff, ..] | [_, 0, ..]) => return guess::utf16(data),
        Step::Json => data.first() == Some(&b'%'),
        _ => false,
    };
    if !percent {
        return None;
    }
    let text = text::unpercent(std::str::from_utf8(data).ok()?)?;
    Some(Layer::new("percent", Content::Bytes(text.into_bytes()), "percent signs inside percent signs"))
}

/// Whether a decrypted text is one: the wrong key passes the padding once in 256 times.
fn opens(plain: &[u8]) -> bool {
    compress::is_gzip(plain) || matches!(plain.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// A step that needs no key. `Some(None)`: nothing to do here; `None`: it does not fit.
#[allow(clippy::option_option)]
fn plain_step(step: &Step, data: &[u8], budget: &mut Budget) -> Option<Option<Layer>> {
    const WHY: &str = "this protocol's recipe says so";
    Some(Some(match step {
        Step::Base64 => Layer::new("base64", Content::Bytes(text::unbase64(data, true)?), WHY),
        Step::Hex => Layer::new("hex", Content::Bytes(text::unhex(data.trim_ascii())?), WHY),
        Step::Gunzip if compress::is_gzip(data) => {
            Layer::inflated("gzip", compress::gunzip(data, budget)?, WHY)
        }
        // Some ports of these SDKs pack with zlib and call it gzip.
        Step::Gunzip if compress::is_zlib(data) => match compress::unzlib(data, budget) {
            Some(out) if out.cut.is_none() => Layer::inflated("zlib", out, WHY),
            _ => return Some(None),
        },
        Step::Gunzip => return Some(None),
        Step::Json => {
            let text = match simdutf8::basic::from_utf8(data) {
                Ok(text) => Cow::Borrowed(text),
                Err(_) => String::from_utf8_lossy(data),
            };
            let parsed = json::parse(text.trim_start_matches('\u{feff}'), budget)?;
            let covers = parsed.cut.is_none();
            Layer { step: "json", content: Content::Value(parsed.value), why: WHY, cut: parsed.cut, covers }
        }
        Step::Before(byte) => {
            let end = memchr::memchr(*byte, data)?;
            Layer::new("before", Content::Bytes(data.get(..end)?.to_vec()), WHY)
        }
        Step::Form(_) | Step::Query(_) | Step::Header(_) | Step::Body => return None,
        Step::AesEcb(_) | Step::AesCbc(..) => return None,
    }))
}

/// The values of a key in a map or in the maps of a list.
fn members<'v>(value: &'v Value, key: &'v str) -> impl Iterator<Item = &'v Value> {
    let maps: &[Value] = match value {
        Value::List(list) => list,
        other => std::slice::from_ref(other),
    };
    maps.iter().filter_map(move |map| match map {
        Value::Map(members) => members.iter().find(|(k, _)| **k == *key).map(|(_, v)| v),
        _ => None,
    })
}

fn has_keys(value: &Value, keys: &[String]) -> bool {
    !keys.is_empty() && keys.iter().all(|key| members(value, key).next().is_some())
}
