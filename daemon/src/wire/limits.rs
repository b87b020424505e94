//! How much of a connection is kept in memory. Whatever goes past a limit is counted and skipped, never guessed.

/// The bounds of one [`Connection`](super::Connection). What is held for it stays below
/// `head + held + raw` plus fixed tables of a few KiB, whatever is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of request line and header fields kept of one message. Servers refuse far smaller heads
    /// (8 KiB is usual), so that only a hostile or broken client gets here. Default 64 KiB.
    pub head: usize,
    /// Header fields kept of one message. Default 256.
    pub fields: usize,
    /// Bytes of body kept of one message. Default 2 MiB.
    pub body: usize,
    /// Bytes kept of all unfinished messages of one connection together. Default 4 MiB.
    pub held: usize,
    /// HTTP/2 streams open at once. Default 128, above what servers allow (100 is usual).
    pub streams: usize,
    /// Bytes of no known protocol that make one message. Default 64 KiB.
    pub raw: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { head: 64 << 10, fields: 256, body: 2 << 20, held: 4 << 20, streams: 128, raw: 64 << 10 }
    }
}
