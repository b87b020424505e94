//! Peels a message's encodings into a tree of layers. Every depth, size, ratio and amount of work is bounded.
#![forbid(unsafe_code)]

/// A message peeled open. Node 0 is the message itself; a child comes after its parent.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// The layers.
    pub nodes: Vec<Node>,
    /// The known telemetry protocol, when one was recognised.
    pub protocol: Option<Telemetry>,
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
    /// The limit that cut this layer short, in plain words.
    pub cut: Option<&'static str>,
}

/// A layer's content.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Bytes; text where it is valid UTF-8.
    Bytes(Vec<u8>),
    /// A structured value (JSON, protobuf, MessagePack, XML, …).
    Value(Value),
}

/// A structured value of any format. Numbers keep the text they were sent as.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// null
    Null,
    /// true or false
    Bool(bool),
    /// A number, as sent.
    Number(Box<str>),
    /// Text.
    Text(Box<str>),
    /// Bytes that are not text.
    Bytes(Box<[u8]>),
    /// A list.
    List(Vec<Value>),
    /// Keys and values in the order sent; duplicates stay.
    Map(Vec<(Box<str>, Value)>),
}

/// A telemetry protocol recognised from `data/protocols.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// Row id, `sensors_form`.
    pub id: String,
    /// Name to show.
    pub name: String,
    /// The node whose value the dictionary speaks of, when it could be decoded.
    pub payload: Option<usize>,
    /// Why its content cannot be read, when it cannot.
    pub unreadable: Option<String>,
    /// True when a checksum in the message itself proves the protocol (Sensors `crc`).
    pub proven: bool,
}
