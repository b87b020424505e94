//! One connection's bytes in the order they were sent, with its gaps: pure state, time is an argument.
#![forbid(unsafe_code)]

mod order;

pub use order::{Counts, Limits, Order, Sink, Step};

/// What a connection hands on, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// Bytes as the app sent them.
    Bytes(&'a [u8]),
    /// This many bytes were sent but not seen (0: an unknown number). The parser resynchronises.
    Gap(u64),
    /// The connection is over; whatever is unfinished will stay so.
    End,
}
