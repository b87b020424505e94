//! The records both sides share: what the eBPF program writes and the daemon reads.
//!
//! Fixed-width integers, explicit padding, sizes asserted at compile time. A record is a [`Header`] followed by
//! `len` bytes; only the bytes used are submitted, never a whole buffer.
#![no_std]
#![forbid(unsafe_code)]

/// Raised whenever the layout or the meaning of a field changes; the daemon refuses records of another version.
pub const ABI_VERSION: u16 = 1;
