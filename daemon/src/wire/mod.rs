//! Protocols on byte slices: from a connection's chunks to the messages an app sent. No I/O, everything bounded.
#![forbid(unsafe_code)]

mod authority;
pub mod client_hello;
mod connection;
pub mod dns;
pub mod dnsproxyd;
pub mod form;
mod grpc;
mod h2;
mod http1;
mod limits;
pub mod multipart;
pub mod quic;
mod replay;
#[cfg(test)]
mod testing;
mod websocket;

pub use authority::host_of;
pub use connection::{Connection, Speaks};
pub use grpc::COMPRESSED as GRPC_COMPRESSED;
pub use h2::UNKNOWN_FIELD;
pub use limits::Limits;

/// What a parser makes of the bytes it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed<T> {
    /// All of it is there.
    Complete(T),
    /// The beginning fits; the rest has not come yet.
    NeedMore,
    /// These bytes are something else.
    Malformed,
}

/// One message as an app sent it: an HTTP request, a WebSocket message, a gRPC call, or bytes of no known protocol.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Which protocol carried it.
    pub protocol: Protocol,
    /// Request method; empty where the protocol has none.
    pub method: String,
    /// Path and query as sent (`/sa?project=x`); empty where the protocol has none. Never the absolute form.
    pub target: String,
    /// `Host`, `:authority` or the authority of an absolute-form target, lower case, without the port.
    pub host: Option<String>,
    /// Header fields in order, names in lower case, values as sent.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body with its transfer coding removed (content coding is `unwrap`'s).
    pub body: Vec<u8>,
    /// Bytes of the body as sent; more than `body.len()` when it was cut.
    pub body_len: u64,
    /// Whether all of it was seen.
    pub end: End,
}

impl Message {
    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_slice())
    }
}

/// The protocol that carried a message; its name is the route's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    H2,
    /// One WebSocket message.
    WebSocket,
    /// One gRPC message.
    Grpc,
    /// Bytes of no known protocol.
    #[default]
    Raw,
}

impl Protocol {
    /// The token in `via=`.
    pub fn token(self) -> &'static str {
        match self {
            Protocol::Http1 => "http1",
            Protocol::H2 => "h2",
            Protocol::WebSocket => "websocket",
            Protocol::Grpc => "grpc",
            Protocol::Raw => "raw",
        }
    }
}

/// Whether a message was seen whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// Every byte.
    #[default]
    Complete,
    /// The connection ended, or bytes were lost, before the message was over.
    Cut,
    /// Longer than what is kept of one message.
    Limit,
}
