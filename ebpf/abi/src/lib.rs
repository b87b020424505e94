//! The records both sides share: what the eBPF program writes and the daemon reads.
//!
//! Fixed-width integers, explicit padding, sizes asserted at compile time. A record is a [`Header`] followed by
//! `len` bytes; only the bytes used are submitted, never a whole buffer. All numbers are in the byte order of the
//! machine both sides run on (little-endian everywhere Telltale runs).
//!
//! Kinds are plain numbers, not an enum: the daemon must be able to read a number it does not know.
#![no_std]
#![forbid(unsafe_code)]

/// Raised whenever the layout or the meaning of a field changes; the daemon refuses records of another version.
pub const ABI_VERSION: u16 = 7;

/// The most bytes that follow one [`Header`]. A power of two, so that one AND bounds a length for the verifier.
pub const MAX_PIECE: usize = 16 * 1024;

/// The most pieces taken of one send. The rest is counted ([`Header::total`]), not copied.
pub const MAX_PIECES: usize = 8;

/// The most bytes taken of one send.
pub const SEND_BUDGET: usize = MAX_PIECE * MAX_PIECES;

/// The longest host name taken, with its closing NUL (RFC 1035 section 2.3.4 allows 255 octets).
pub const MAX_HOST: usize = 256;

/// [`Header::kind`]: what the record tells.
pub mod kind {
    /// The daemon said that it sleeps and there is something to read. Travels on the doorbell ring alone.
    pub const DOORBELL: u16 = 1;
    /// A piece of what a TLS library took to encrypt.
    pub const TLS_WRITE: u16 = 2;
    /// `SSL_set_tlsext_host_name`: the name follows, without NUL.
    pub const TLS_HOST: u16 = 3;
    /// `SSL_set_fd`: an `i32` follows, the socket for both directions.
    pub const TLS_FD: u16 = 4;
    /// `SSL_set_rfd`: an `i32` follows.
    pub const TLS_READ_FD: u16 = 5;
    /// `SSL_set_wfd`: an `i32` follows.
    pub const TLS_WRITE_FD: u16 = 6;
    /// `SSL_free`: the last record of this connection. [`Header::start`](super::Header::start) is all it sent,
    /// [`Header::total`](super::Header::total) what of it was counted and not taken.
    pub const TLS_FREE: u16 = 7;
    /// A piece of what a socket took.
    pub const SOCKET_SEND: u16 = 8;
    /// Where a socket's bytes go from now on: a `struct sockaddr` follows, up to 32 bytes of it.
    pub const SOCKET_PEER: u16 = 9;
    /// A socket is being closed: its last record. [`Header::start`](super::Header::start) is all it sent,
    /// [`Header::total`](super::Header::total) what of it was counted and not taken.
    pub const SOCKET_CLOSE: u16 = 10;
    /// Something was written to a descriptor that nobody saw being opened: is it a socket?
    pub const SOCKET_UNKNOWN: u16 = 11;
    /// A function that may be `SSL_write` has been called: two `u64` follow, the address of its first instruction and that
    /// of the buffer; [`Header::total`](super::Header::total) is the length it was given. Takes no number of the connection.
    pub const TLS_CALL: u16 = 12;
    /// A piece of what an app hands to a cipher to encrypt. [`Header::object`](super::Header::object) is the cipher's context,
    /// [`Header::born`](super::Header::born) when that was set up for this message.
    pub const CIPHER_TEXT: u16 = 13;
    /// The first bytes of what the cipher made of it; [`Header::start`](super::Header::start) counts what it made before,
    /// [`Header::total`](super::Header::total) is what this call made.
    pub const CIPHER_OUTPUT: u16 = 14;
    /// While an `SSL_write` ran its thread wrote to a socket: an `i32` follows, the descriptor. Told when it is another than
    /// the connection's last.
    pub const TLS_NESTED: u16 = 15;
    /// What a thread sent to a stream socket next after an `SSL_write` that itself sent nothing: an `i32` follows, the
    /// descriptor, and the first 8 bytes of the send. [`Header::total`](super::Header::total) is how long the send was,
    /// [`Header::offset`](super::Header::offset) how much the `SSL_write` had taken.
    pub const TLS_NEXT: u16 = 16;
    /// While what may be `SSL_write` ran, its thread sent something to a stream socket: the first 8 bytes of it follow.
    /// [`Header::total`](super::Header::total) is how long the send was. Takes no number of the connection.
    pub const TLS_TRIED: u16 = 17;
}

/// [`Descriptor::class`].
pub mod class {
    /// Nothing known yet.
    pub const UNKNOWN: u32 = 0;
    /// The daemon has been asked.
    pub const ASKED: u32 = 1;
    /// A socket whose bytes leave, or may leave, this machine.
    pub const SOCKET: u32 = 2;
    /// A file, a pipe, a socket that leads nowhere: of no interest.
    pub const IGNORED: u32 = 3;
}

/// Sockets as records name them: [`Header::object`] is `MARK | transport << 32 | fd`.
pub mod socket {
    /// Set in every socket's name and in no `SSL*`: addresses of user memory end below it.
    pub const MARK: u64 = 1 << 62;
    /// Opened before anybody looked.
    pub const UNKNOWN: u32 = 0;
    /// TCP and what else is a stream.
    pub const STREAM: u32 = 1;
    /// UDP.
    pub const DATAGRAM: u32 = 2;
    /// Of this machine: only the way to netd's resolver is looked at.
    pub const UNIX: u32 = 3;
    /// Added to any of these: its process runs 32-bit code.
    pub const BY_32_BIT: u32 = 4;
    /// Takes [`BY_32_BIT`] off again.
    pub const TRANSPORT: u32 = 3;
    /// Bytes of a connection that are taken before the daemon has said more. A send that begins below it is taken whole.
    pub const FIRST_LIMIT: u64 = super::SPARED;
}

/// [`Header::flags`].
pub mod flag {
    /// No further piece of this send follows. Where `offset + len < total`, the rest was over budget or unreadable.
    pub const LAST: u32 = 1;
    /// The bytes at `offset` could not be read (the page was not there).
    pub const UNREADABLE: u32 = 2;
    /// The cipher has ended this message.
    pub const FINAL: u32 = 4;
}

/// Records of ciphers. Keys and vectors are never read, and nothing of what is decrypted.
pub mod cipher {
    /// The most bytes taken of what one call made: enough to find it again in what leaves.
    pub const HEAD: usize = 64;
    /// The most pieces taken of the text of one call.
    pub const MAX_PIECES: usize = 4;
    /// Text taken of one process within [`WINDOW_SHIFT`]; what is beyond is counted, not copied.
    pub const BUDGET: u64 = 1 << 20;
    /// A budget's window in nanoseconds, as a power of two: about a second.
    pub const WINDOW_SHIFT: u32 = 30;

    /// Where in [`Header::flags`](super::Header::flags) the cipher's number lies (the `NID` of include/openssl/nid.h), 12 bits; 0
    /// when it is not known.
    pub const NID_SHIFT: u32 = 8;
    /// Bits of the number.
    pub const NID_MASK: u32 = 0xfff;
    /// Where the key's length in bytes lies, 6 bits.
    pub const KEY_LEN_SHIFT: u32 = 20;
    /// Bits of the key's length.
    pub const KEY_LEN_MASK: u32 = 0x3f;
    /// Where the block's length in bytes lies, 5 bits.
    pub const BLOCK_SHIFT: u32 = 26;
    /// Bits of the block's length.
    pub const BLOCK_MASK: u32 = 0x1f;
    /// In place of a number: an AEAD, of which only the key's length is known.
    pub const AEAD: u32 = 0xfff;
}

/// What heads every record.
///
/// A connection is `(tgid, object, born)`: addresses are used again, so the time of first sight is part of its name.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// [`ABI_VERSION`].
    pub version: u16,
    /// One of [`kind`].
    pub kind: u16,
    /// Bytes that follow this header, at most [`MAX_PIECE`].
    pub len: u32,
    /// Counts from 1 on each CPU. Linux 4.14 reports success on a full ring: what is missing here was lost.
    pub attempt: u64,
    /// Nanoseconds since boot, without time asleep (`bpf_ktime_get_ns`).
    pub ktime: u64,
    /// Process id.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// The thread's uid, as the initial user namespace counts.
    pub uid: u32,
    /// Bits of [`flag`].
    pub flags: u32,
    /// The `SSL*`, without tag bits; or a socket, see [`socket`].
    pub object: u64,
    /// [`Header::ktime`] of the connection's first sight.
    pub born: u64,
    /// Number of this record within its connection, from 0. Two records may carry the same one when two threads
    /// race on one connection (4.14 has no fetch-and-add); `ktime` tells them apart.
    pub sequence: u64,
    /// Bytes the connection had sent, since `born`, before this send.
    pub start: u64,
    /// Bytes this send took in all.
    pub total: u64,
    /// Where in this send the bytes that follow belong.
    pub offset: u64,
}

/// Bytes of [`Header`].
pub const HEADER_LEN: usize = size_of::<Header>();

/// The whole of a doorbell record.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doorbell {
    /// [`ABI_VERSION`].
    pub version: u16,
    /// [`kind::DOORBELL`].
    pub kind: u16,
    /// Nothing follows: 0.
    pub len: u32,
}

/// Per-CPU counters, the value of the map `COUNTERS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Records that were to be written on this CPU; the number of the last one.
    pub attempts: u64,
    /// Doorbells rung.
    pub doorbells: u64,
}

/// What a descriptor of a process stands for, the value of the map `DESCRIPTORS`; the key is `tgid << 32 | fd`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// One of [`class`].
    pub class: u32,
    /// [`socket::UNKNOWN`] to [`socket::UNIX`], with [`socket::BY_32_BIT`].
    pub transport: u32,
    /// Bytes are taken while fewer than this many were sent; beyond, they are only counted.
    pub limit: u64,
    /// See [`Header::born`].
    pub born: u64,
    /// The next record's [`Header::sequence`].
    pub sequence: u64,
    /// Bytes sent so far.
    pub sent: u64,
    /// Bytes of these that were counted and not taken, because nobody wanted them or for the budget's sake.
    pub skipped: u64,
    /// What of the connection's budget is left.
    pub bucket: Bucket,
}

/// What the daemon has found out of a descriptor, the value of the map `ANSWERS`; the key is that of [`Descriptor`]. The
/// program takes it over with the next send: only the program writes [`Descriptor`]s, so that no count is ever set back.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// [`Descriptor::born`] of the one it is about: the number may stand for another file by now.
    pub born: u64,
    /// [`Descriptor::limit`].
    pub limit: u64,
    /// [`Descriptor::class`].
    pub class: u32,
    /// Always 0.
    pub padding: u32,
}

/// What is known of a process, the value of the map `PROCESSES`; the key is its id.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// [`Header::ktime`] since which its descriptors and connections are its own: what was first seen earlier belonged to
    /// a process that had this id before, or to another program in this one.
    pub since: u64,
    /// 1 when it runs 32-bit code. Only where the task itself does not tell (x86).
    pub is_32_bit: u32,
    /// Always 0.
    pub padding: u32,
}

/// A TLS connection, the value of the map `CONNECTIONS`; the key is the `SSL*` and the process id, eight bytes each.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// See [`Header::born`].
    pub born: u64,
    /// The next record's [`Header::sequence`].
    pub sequence: u64,
    /// Bytes sent so far.
    pub sent: u64,
    /// As [`Descriptor::skipped`].
    pub skipped: u64,
    /// What of its budget is left.
    pub bucket: Bucket,
    /// The descriptor it was last told to write to or seen writing to, plus 1; 0 for none.
    pub socket: u64,
    /// How many [`kind::TLS_NEXT`] were written for it.
    pub guesses: u64,
}

/// After so many [`kind::TLS_NEXT`] a connection's next sends are no longer looked for.
pub const MAX_GUESSES: u64 = 8;

/// What may still be taken: fills with time, empties with what is taken.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket {
    /// Bytes.
    pub left: u64,
    /// [`Header::ktime`] up to which it has been filled; 0 in one that was never used, which is full.
    pub filled: u64,
}

/// How a [`Bucket`] fills.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    /// Bytes it holds at the most; 0: no bound at all.
    pub burst: u64,
    /// Bytes that it gains in 2^[`TICK_SHIFT`] nanoseconds.
    pub per_tick: u64,
}

/// A tick of [`Rate`] is this power of two of nanoseconds: about a millisecond.
pub const TICK_SHIFT: u32 = 20;

/// How much is taken of what apps send, the value of the map `BUDGET`. What is over it is counted.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// Each connection's.
    pub connection: Rate,
    /// That of all connections together, for what is beyond the first [`SPARED`] bytes of each.
    pub machine: Rate,
    /// What of the latter is left.
    pub bucket: Bucket,
}

/// The first bytes of a connection are taken however much others send: most requests are shorter.
pub const SPARED: u64 = 64 * 1024;

/// What the daemon tells the program, the value of the map `POLICY`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// 1 while the daemon sleeps and wants the doorbell; the program sets it to 0 when it rings.
    pub asleep: u32,
    /// Always 0.
    pub padding: u32,
}

const _: () = {
    assert!(size_of::<Header>() == 88);
    assert!(align_of::<Header>() == 8);
    assert!(size_of::<Doorbell>() == 8);
    assert!(size_of::<Counters>() == 16);
    assert!(size_of::<Policy>() == 8);
    assert!(size_of::<Descriptor>() == 64);
    assert!(size_of::<Connection>() == 64);
    assert!(size_of::<Answer>() == 24);
    assert!(size_of::<Process>() == 16);
    assert!(size_of::<Budget>() == 48);
    assert!(MAX_PIECE.is_power_of_two());
    assert!(SEND_BUDGET >= 128 * 1024);
    // One perf record stays under 64 KiB and a per-CPU map value under 32 KiB.
    assert!(HEADER_LEN + MAX_PIECE < 32 * 1024);
};
