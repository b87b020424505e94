//! The way from a message to its tree: its parts first, then a known protocol's own recipe, then one guess per layer.
#![forbid(unsafe_code)]

use crate::wire::{self, Protocol};

use super::{
    Content, Node, Opaque, Opener, Str, Tree, Value, compress, guess,
    guess::Layer,
    known,
    limits::{Budget, Limits},
    opaque,
    path::{Path, Segment},
    protocols::Protocols,
    seen::Seen,
    text,
};

/// Longest name of a field, part or header in a step.
const NAME_MAX: usize = 64;
/// Longest header value that is kept.
const HEADER_MAX: usize = 4096;
/// How the content types of gRPC-Web begin.
const GRPC_WEB: &[u8] = b"application/grpc-web";
/// Headers that say nothing but how to talk, or that must never be opened.
const CLOSED_HEADERS: &[&str] = &[
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "expect",
    "host",
    "if-modified-since",
    "if-none-match",
    "keep-alive",
    "origin",
    "pragma",
    "proxy-authorization",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
];

/// Peels a message open, within `limits`.
///
/// Never fails: what cannot be opened stays as it is, and [`Node::cut`] says where a limit was in the way.
pub fn peel(message: &wire::Message, protocols: &Protocols, limits: &Limits) -> Tree {
    peeled(Peeler::new(limits, None), message, protocols)
}

/// The same, with the clear text of what the app sealed itself.
pub fn peel_with(
    message: &wire::Message,
    protocols: &Protocols,
    limits: &Limits,
    opener: &mut dyn Opener,
) -> Tree {
    let why_not = opener.why_not();
    let opener = if opener.is_empty() { None } else { Some(opener) };
    let tree = peeled(Peeler::new(limits, opener), message, protocols);
    Tree { unopened: why_not, ..tree }
}

fn peeled(mut peeler: Peeler<'_>, message: &wire::Message, protocols: &Protocols) -> Tree {
    let parts = peeler.parts(message);
    peeler.tree.protocol = known::recognise(&mut peeler, message, &parts, protocols);
    peeler.open_all();
    peeler.settle_sealed();
    peeler.tree.opaque = peeler.opaque(message, &parts);
    peeler.tree
}

/// The tree while it grows.
pub(super) struct Peeler<'o> {
    pub(super) tree: Tree,
    pub(super) budget: Budget,
    /// Per node: its depth, and whether it is still to be looked into.
    marks: Vec<(usize, bool)>,
    /// The nodes the message declares to be protobuf.
    protobuf: Vec<usize>,
    /// What opens the app's own seals.
    pub(super) opener: Option<&'o mut dyn Opener>,
    /// Who sealed what was opened, where that is another app than the sender.
    pub(super) sealed_by: Option<String>,
}

/// Where the parts of a message stand in the tree.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) query: Vec<(String, usize)>,
    pub(super) form: Vec<(String, usize)>,
    pub(super) headers: Vec<(String, usize)>,
    /// The body with its content coding removed.
    pub(super) body: Option<usize>,
}

impl<'o> Peeler<'o> {
    fn new(limits: &Limits, opener: Option<&'o mut dyn Opener>) -> Peeler<'o> {
        Peeler {
            tree: Tree::default(),
            budget: Budget::new(limits),
            marks: Vec::new(),
            protobuf: Vec::new(),
            opener,
            sealed_by: None,
        }
    }

    /// Adds a node; `None` and a note on the parent when there is no room for it.
    pub(super) fn add(&mut self, parent: usize, at: String, step: String, layer: Layer) -> Option<usize> {
        let depth = self.marks.get(parent).map_or(0, |(depth, _)| depth + 1);
        let index = self.tree.nodes.len();
        let limits = self.budget.limits();
        if depth > limits.depth || index >= limits.nodes {
            if let Some(node) = self.tree.nodes.get_mut(parent) {
                node.cut = node.cut.or(Some(Limits::CUT_NODES));
            }
            return None;
        }
        if layer.covers
            && at.is_empty()
            && let Some(node) = self.tree.nodes.get_mut(parent)
        {
            node.covered = true;
        }
        let Layer { content, why, cut, .. } = layer;
        self.tree.nodes.push(Node { parent: Some(parent), at, step, content, why, cut, covered: false });
        self.marks.push((depth, true));
        Some(index)
    }

    /// Leaves a node as it is from now on.
    pub(super) fn close(&mut self, index: usize) {
        if let Some((_, open)) = self.marks.get_mut(index) {
            *open = false;
        }
    }

    pub(super) fn bytes(&self, index: usize) -> &[u8] {
        match self.tree.nodes.get(index).map(|node| &node.content) {
            Some(Content::Bytes(bytes)) => bytes,
            _ => &[],
        }
    }

    fn parts(&mut self, message: &wire::Message) -> Parts {
        let mut parts = Parts::default();
        self.tree.nodes.push(Node {
            parent: None,
            at: String::new(),
            step: message.protocol.token().to_owned(),
            content: Content::Bytes(Vec::new()),
            why: "the message",
            cut: (message.end != wire::End::Complete).then_some("the message was not seen whole"),
            covered: true,
        });
        self.marks.push((0, false));
        self.target(&message.target, &mut parts);
        for (name, value) in &message.headers {
            self.header(name, value, &mut parts);
        }
        if !message.body.is_empty() {
            self.body(message, &mut parts);
        }
        parts
    }

    fn target(&mut self, target: &str, parts: &mut Parts) {
        if target.is_empty() {
            return;
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let layer = Layer {
            covers: false,
            ..Layer::new("path", bytes_of(path.as_bytes()), "the path of the request")
        };
        if let Some(index) = self.add(0, String::new(), "path".to_owned(), layer) {
            self.close(index);
            if let Some(decoded) = super::text::unpercent(path) {
                let layer = Layer::new(
                    "percent",
                    bytes_of(decoded.as_bytes()),
                    "percent signs with two hex digits each",
                );
                if let Some(index) = self.add(index, String::new(), "percent".to_owned(), layer) {
                    self.close(index);
                }
            }
        }
        let query = query.split('#').next().unwrap_or_default();
        self.fields(0, "query", query.as_bytes(), "a parameter of the query", &mut parts.query);
    }

    /// The pairs of a query or form as children of `parent`.
    fn fields(
        &mut self,
        parent: usize,
        kind: &str,
        text: &[u8],
        why: &'static str,
        into: &mut Vec<(String, usize)>,
    ) {
        for (name, value) in wire::form::pairs(text) {
            let name = name_of(&wire::form::decode(name));
            let value = wire::form::decode(value).into_owned();
            let layer = Layer::new("form", Content::Bytes(value), why);
            match self.add(parent, String::new(), format!("{kind}:{name}"), layer) {
                Some(index) => into.push((name, index)),
                None => return,
            }
        }
    }

    fn header(&mut self, name: &str, value: &[u8], parts: &mut Parts) {
        let step = format!("header:{}", name_of(name.as_bytes()));
        if name == "cookie" {
            let value = Value::Map(cookies(value));
            let layer = Layer::new("cookie", Content::Value(value), "cookies, one by one");
            if let Some(index) = self.add(0, String::new(), step, layer) {
                parts.headers.push((name.to_owned(), index));
            }
            return;
        }
        let kept = value.get(..HEADER_MAX).unwrap_or(value);
        let cut = (kept.len() < value.len()).then_some("longer than what is kept of one header");
        let layer = Layer { cut, ..Layer::new("header", bytes_of(kept), "a header of the request") };
        if let Some(index) = self.add(0, String::new(), step, layer) {
            parts.headers.push((name.to_owned(), index));
            if CLOSED_HEADERS.contains(&name) {
                self.close(index);
            }
        }
    }

    fn body(&mut self, message: &wire::Message, parts: &mut Parts) {
        let layer = Layer::new("body", bytes_of(&message.body), "the body as sent");
        let Some(mut index) = self.add(0, String::new(), "body".to_owned(), layer) else {
            return;
        };
        let coding = if message.protocol == Protocol::Grpc { "grpc-encoding" } else { "content-encoding" };
        let codings =
            message.header(coding).map(String::from_utf8_lossy).unwrap_or_default().to_ascii_lowercase();
        for coding in codings.rsplit(',') {
            let data = self.take_bytes(index);
            let layer = content_coding(coding.trim(), &data, &mut self.budget);
            self.put_bytes(index, data);
            let Some(layer) = layer else { continue };
            let step = layer.step.to_owned();
            self.close(index);
            match self.add(index, String::new(), step, layer) {
                Some(inner) => index = inner,
                None => return,
            }
        }
        parts.body = Some(index);
        let content_type = message.header("content-type").unwrap_or_default();
        if message.protocol == Protocol::Grpc || memchr::memmem::find(content_type, b"protobuf").is_some() {
            self.protobuf.push(index);
        }
        let data = self.take_bytes(index);
        if message.protocol != Protocol::Grpc && starts_with_ignoring_case(content_type, GRPC_WEB) {
            self.grpc_web(index, content_type, &data);
        } else if starts_with_ignoring_case(content_type, b"multipart/") {
            self.multipart(index, content_type, &data, &mut parts.form);
        } else if looks_like_form(
            &data,
            starts_with_ignoring_case(content_type, b"application/x-www-form-urlencoded"),
        ) {
            self.fields(index, "form", &data, "a field of the form in the body", &mut parts.form);
            self.close(index);
        }
        self.put_bytes(index, data);
    }

    /// The messages of a gRPC-Web body: a flag and a length before each, with base64 over all of it in its text form
    /// (gRPC-Web protocol, "Protocol differences vs gRPC over HTTP2").
    fn grpc_web(&mut self, parent: usize, content_type: &[u8], data: &[u8]) {
        let is_text =
            starts_with_ignoring_case(content_type.get(GRPC_WEB.len()..).unwrap_or_default(), b"-text");
        let decoded = is_text.then(|| text::unbase64(data, true)).flatten();
        let mut rest = decoded.as_deref().unwrap_or(data);
        while let Some(([flag, length @ ..], body)) = rest.split_first_chunk::<5>() {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            let cut = (body.len() < length).then_some(Limits::CUT_SHORT);
            let (message, after) = body.split_at_checked(length).unwrap_or((body, &[]));
            rest = after;
            // The last one holds trailers.
            if *flag & 0x80 != 0 || message.is_empty() {
                continue;
            }
            let layer =
                Layer { cut, ..Layer::new("grpc-web", bytes_of(message), "a message of the gRPC-Web body") };
            let Some(index) = self.add(parent, String::new(), "grpc-web".to_owned(), layer) else { return };
            self.close(parent);
            if *flag & 1 == 0 {
                self.protobuf.push(index);
            }
        }
    }

    /// The parts of a multipart body; their names go `into` the fields of the form, which they are (RFC 7578).
    fn multipart(
        &mut self,
        parent: usize,
        content_type: &[u8],
        data: &[u8],
        into: &mut Vec<(String, usize)>,
    ) {
        for part in wire::multipart::parts(content_type, data) {
            self.close(parent);
            let name = name_of(part.name().unwrap_or_default().as_bytes());
            let cut = (!part.complete).then_some(Limits::CUT_SHORT);
            let layer =
                Layer { cut, ..Layer::new("part", bytes_of(part.body), "a part of the multipart body") };
            match self.add(parent, String::new(), format!("part:{name}"), layer) {
                Some(index) => into.push((name, index)),
                None => return,
            }
        }
    }

    /// The bytes of a node, taken out while a step adds nodes; [`Peeler::put_bytes`] brings them back.
    pub(super) fn take_bytes(&mut self, index: usize) -> Vec<u8> {
        match self.tree.nodes.get_mut(index).map(|node| &mut node.content) {
            Some(Content::Bytes(bytes)) => std::mem::take(bytes),
            _ => Vec::new(),
        }
    }

    pub(super) fn put_bytes(&mut self, index: usize, bytes: Vec<u8>) {
        if let Some(node) = self.tree.nodes.get_mut(index) {
            node.content = Content::Bytes(bytes);
        }
    }

    /// The body, or a form field or part of it, when it looks encrypted and stayed closed.
    fn opaque(&self, message: &wire::Message, parts: &Parts) -> Option<Opaque> {
        if opaque::is_dense_type(message.header("content-type").unwrap_or_default()) {
            return None;
        }
        let has_child = |index: usize| self.tree.nodes.iter().any(|node| node.parent == Some(index));
        let within =
            |node: &Node| node.parent.is_some() && node.parent == parts.body && node.step.contains(':');
        let fields =
            self.tree.nodes.iter().enumerate().filter(|(_, node)| within(node)).map(|(index, _)| index);
        parts.body.into_iter().chain(fields).filter(|index| !has_child(*index)).find_map(|node| {
            let bytes = self.bytes(node);
            if bytes.len() < opaque::LEAST {
                return None;
            }
            if opaque::is_noise(bytes) {
                return Some(Opaque {
                    node,
                    bytes: bytes.len(),
                    why: "as even as noise, and of no known format",
                });
            }
            let decoded = text::encoded_noise(bytes)?;
            Some(Opaque { node, bytes: decoded, why: "text that decodes to what is as even as noise" })
        })
    }

    /// Looks into every open node, those found on the way included.
    fn open_all(&mut self) {
        let mut index = 0;
        while let Some((_, open)) = self.marks.get(index).copied() {
            if open {
                self.open(index);
            }
            index += 1;
        }
    }

    fn open(&mut self, index: usize) {
        let Some(node) = self.tree.nodes.get_mut(index) else { return };
        let content = std::mem::replace(&mut node.content, Content::Bytes(Vec::new()));
        match &content {
            Content::Bytes(data) if self.unseal(index, "", data) => {}
            Content::Bytes(data) => {
                let declared = self.protobuf.contains(&index);
                let declared = declared.then(|| guess::protobuf(data, true, &mut self.budget)).flatten();
                if let Some(layer) = declared.or_else(|| guess::bytes(data, &mut self.budget)) {
                    self.add(index, String::new(), layer.step.to_owned(), layer);
                }
            }
            Content::Value(value) => {
                self.leaves(index, value, &mut Path::default(), &mut Seen::default());
            }
        }
        if let Some(node) = self.tree.nodes.get_mut(index) {
            node.content = content;
        }
    }

    /// Looks into the texts and bytes of a value. Texts that were `seen` hold nothing.
    fn leaves<'v>(&mut self, index: usize, value: &'v Value, path: &mut Path<'v>, seen: &mut Seen<'v>) {
        match value {
            Value::List(members) => {
                for (number, member) in members.iter().enumerate() {
                    self.member(index, Segment::Index(number), member, path, seen);
                }
            }
            Value::Map(members) => {
                for (key, member) in members {
                    self.member(index, Segment::Key(key), member, path, seen);
                }
            }
            leaf => self.leaf(index, None, leaf, path, seen),
        }
    }

    /// The same below `step`, which is taken only where the way matters: of nearly every text nothing comes.
    fn member<'v>(
        &mut self,
        index: usize,
        step: Segment<'v>,
        value: &'v Value,
        path: &mut Path<'v>,
        seen: &mut Seen<'v>,
    ) {
        match value {
            Value::List(_) | Value::Map(_) => {
                path.push(step);
                self.leaves(index, value, path, seen);
                path.pop();
            }
            Value::Text(_) | Value::Bytes(_) => self.leaf(index, Some(step), value, path, seen),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn leaf<'v>(
        &mut self,
        index: usize,
        step: Option<Segment<'v>>,
        leaf: &'v Value,
        path: &mut Path<'v>,
        seen: &mut Seen<'v>,
    ) {
        let bytes = match leaf {
            Value::Text(text) => text.as_bytes(),
            Value::Bytes(data) => data,
            _ => return,
        };
        if self.opener.is_some() && self.unseal(index, &path.with(step), bytes) {
            return;
        }
        let layer = match leaf {
            Value::Text(text) if seen.has(text) => None,
            Value::Text(text) => {
                let layer = guess::text(text, &mut self.budget);
                if layer.is_none() {
                    seen.note(text);
                }
                layer
            }
            _ => guess::bytes(bytes, &mut self.budget),
        };
        if let Some(layer) = layer {
            self.add(index, path.with(step), layer.step.to_owned(), layer);
        }
    }
}

fn bytes_of(bytes: &[u8]) -> Content {
    Content::Bytes(bytes.to_vec())
}

/// A name as a step may carry it: text, bounded, without what would forge a route or a line.
fn name_of(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    if text.len() <= NAME_MAX && text.bytes().all(|b| b.is_ascii_graphic() && b != b'>') {
        return text.into_owned();
    }
    text.chars().take(NAME_MAX).map(|c| if c.is_control() || c == '>' { '\u{fffd}' } else { c }).collect()
}

/// `a=b; c=d` (RFC 6265 section 4.2.1).
fn cookies(value: &[u8]) -> Vec<(Str, Value)> {
    let text = String::from_utf8_lossy(value);
    let pairs = text.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.map(|(name, value)| (name.into(), Value::Text(value.trim_matches('"').into()))).collect()
}

/// One content coding removed (RFC 9110 section 8.4.1); gRPC uses the same names.
fn content_coding(coding: &str, data: &[u8], budget: &mut Budget) -> Option<Layer> {
    const WHY: &str = "the message names this content coding";
    let (step, out) = match coding {
        "gzip" | "x-gzip" => ("gzip", compress::gunzip(data, budget)?),
        // The name means zlib; some senders leave its header out.
        "deflate" => match compress::unzlib(data, budget) {
            Some(out) => ("zlib", out),
            None => ("deflate", compress::inflate(data, budget)?),
        },
        "br" => ("brotli", compress::unbrotli(data, budget)?),
        "zstd" => ("zstd", compress::unzstd(data, budget)?),
        _ => return None,
    };
    Some(Layer::inflated(step, out, WHY))
}

/// Whether a body is a form: `declared` ones need a name first, others also look like nothing else.
fn looks_like_form(data: &[u8], declared: bool) -> bool {
    let head = data.get(..NAME_MAX).unwrap_or(data);
    let Some(equals) = memchr::memchr(b'=', head) else {
        return false;
    };
    let name = head.get(..equals).unwrap_or_default();
    let named = !name.is_empty()
        && name.iter().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'$' | b'[' | b']' | b'%' | b'+')
        });
    // A lone field is told from base64 by what follows the equals sign: padding ends the text.
    let lone = || data.get(equals + 1).is_some_and(|first| *first != b'=');
    named
        && (declared
            || data.iter().all(|b| b.is_ascii_graphic()) && (memchr::memchr(b'&', data).is_some() || lone()))
}

fn starts_with_ignoring_case(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}
