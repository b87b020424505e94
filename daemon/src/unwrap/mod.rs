//! Peels a message's encodings into a tree of layers. Every depth, size, ratio and amount of work is bounded.
#![forbid(unsafe_code)]

mod aes;
mod compress;
mod explain;
mod guess;
mod json;
mod known;
mod limits;
mod msgpack;
mod opaque;
mod path;
mod peel;
mod protobuf;
mod protocols;
mod route;
mod seen;
mod text;
mod unannounced;
mod unseal;
mod xml;

use std::ops::Range;

#[cfg(test)]
mod tests;

pub use limits::Limits;
pub use path::{Path, Segment};
pub use peel::{peel, peel_with};
pub use protocols::{Error, Protocols};
pub(crate) use seen::{Seen, Slots, mixed};

/// A message peeled open. Node 0 is the message itself; a child comes after its parent.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// The layers.
    pub nodes: Vec<Node>,
    /// The known telemetry protocol, when one was recognised.
    pub protocol: Option<Telemetry>,
    /// A body (or one field of it) that looks encrypted and fits no known format.
    pub opaque: Option<Opaque>,
    /// Why what the app sealed in it could not be opened, when that is known.
    pub unopened: Option<&'static str>,
}

/// Knows the clear text of what an app sealed with a cipher of its own: see [`crate::sealed`].
pub trait Opener {
    /// True when it knows of nothing now, so that looking is spared.
    fn is_empty(&self) -> bool;

    /// The texts whose cipher text stands in `data`, in the order they stand there and never over each other.
    fn open(&mut self, data: &[u8]) -> Vec<Opened>;

    /// Why there may be sealed data that it does not know.
    fn why_not(&self) -> Option<&'static str>;
}

/// Clear text of a part of some data.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    /// Where its cipher text lies.
    pub range: Range<usize>,
    /// The step of the route: `sealed:aes-128-ecb`.
    pub step: String,
    /// The text.
    pub text: Vec<u8>,
    /// What is missing of it, in plain words.
    pub cut: Option<&'static str>,
    /// The app that sealed it, when that is another than the one that sends it.
    pub sender: Option<String>,
}

/// Data that looks encrypted and fits no known format. Pictures, media and archives are not meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opaque {
    /// The node that holds it.
    pub node: usize,
    /// Its size in bytes.
    pub bytes: usize,
    /// What makes it look encrypted.
    pub why: &'static str,
}

/// One layer.
#[derive(Debug, Clone)]
pub struct Node {
    /// The layer this was taken from; none for the message itself.
    pub parent: Option<usize>,
    /// Where in the parent's value it stood (`[0].properties.x`), empty for the whole of it.
    pub at: String,
    /// The route token: `http1`, `query:q`, `header:cookie`, `form:data_list`, `base64`, `gzip`, `json`, `aes-128-ecb`, …
    pub step: String,
    /// What came out.
    pub content: Content,
    /// Why this step was taken, for `--explain`.
    pub why: &'static str,
    /// The limit that cut this layer short, in plain words; also said when the layer itself ends early.
    pub cut: Option<&'static str>,
    /// True when the children say all that this layer says (JSON text and its value, base64 text and its
    /// bytes): a search may pass over it.
    pub covered: bool,
}

/// A layer's content.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Bytes; text where it is valid UTF-8.
    Bytes(Vec<u8>),
    /// A structured value (JSON, protobuf, MessagePack, XML, …).
    Value(Value),
}

/// The text of keys and leaves; read it as `&str`, make it with `.into()`. Up to 24 bytes lie in it without a heap
/// block: most keys and numbers of telemetry do, and allocating them was half the time of peeling.
pub type Str = compact_str::CompactString;

/// A structured value of any format. Numbers keep the text they were sent as.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// null
    Null,
    /// true or false
    Bool(bool),
    /// A number, as sent.
    Number(Str),
    /// Text.
    Text(Str),
    /// Bytes that are not text.
    Bytes(Box<[u8]>),
    /// A list.
    List(Vec<Value>),
    /// Keys and values in the order sent; duplicates stay.
    Map(Vec<(Str, Value)>),
}

/// A telemetry protocol recognised from `data/protocols.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Telemetry {
    /// Row id, `sensors_form`.
    pub id: String,
    /// Name to show.
    pub name: String,
    /// The node whose value the dictionary speaks of, when it could be decoded.
    pub payload: Option<usize>,
    /// Further nodes that the dictionary speaks of: the clear texts of sealed events.
    pub opened: Vec<usize>,
    /// The node the protocol's own recipe begins at, read or not.
    pub start: Option<usize>,
    /// Why its content cannot be read, when it cannot.
    pub unreadable: Option<String>,
    /// True when what cannot be read says nothing about the owner: a key, not a report.
    pub no_content: bool,
    /// True when a checksum in the message itself proves the protocol (Sensors `crc`).
    pub proven: bool,
    /// What can be said of a message that cannot be read, in a few words: `2 payloads`. Empty otherwise.
    pub summary: String,
    /// The rest of what is known without reading it: (`payloads`, `2`), (`pkv`, `3`), (`bytes`, `912`), (`sender`, …).
    pub facts: Vec<(String, String)>,
}
