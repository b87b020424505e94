//! Hooks on socket sends, at the system-call boundary: collect, never interpret.
//!
//! What was sent is what the call returned: the entry remembers, the return takes. The return sees to everything but the
//! bytes, which programs of their own hand on (`payload.rs`), so that each stays within 4.14's 4,096 instructions.

use core::ptr::read_volatile;

use aya_ebpf::{EbpfContext, programs::TracePointContext};
use telltale_abi::{Descriptor, MAX_GUESSES, class, flag, kind, socket};

use crate::{
    CALLS_IN_FLIGHT, INSIDE, SENDERS, budget,
    calls::{self, *},
    descriptors::{self, descriptor, is_32_bit, is_ignored, key},
    emit::{Piece, Writer},
    files,
    tls::{self, opaque, opaque_zero, thread},
    under_way, user_memory,
};

/// `EINPROGRESS`, include/uapi/asm-generic/errno.h: a connection that is being made is as good as made.
const IN_PROGRESS: i64 = -115;
/// `AF_INET`, `AF_INET6`, `AF_UNIX`, include/linux/socket.h.
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const AF_UNIX: u64 = 1;
/// `SOCK_TYPE_MASK` and `SOCK_DGRAM`, include/linux/net.h.
const SOCK_TYPE_MASK: u64 = 0xf;
const SOCK_DGRAM: u64 = 2;
/// `F_DUPFD` and `F_DUPFD_CLOEXEC`, include/uapi/linux/fcntl.h.
const F_DUPFD: u64 = 0;
const F_DUPFD_CLOEXEC: u64 = 1030;
/// `CLOSE_RANGE_CLOEXEC`, include/uapi/linux/close_range.h: nothing is closed yet.
const CLOSE_RANGE_CLOEXEC: u64 = 4;
/// Bytes of a socket address that are taken: `/dev/socket/dnsproxyd` with its family, or a `sockaddr_in6`.
const ADDRESS: u64 = 32;

/// In [`InFlight::call`]: by a 32-bit task.
pub(crate) const BY_32_BIT: u32 = 1 << 31;
/// [`InFlight::number`] when the return has taken the call.
const TAKEN: u32 = u32::MAX;

/// Programs that [`returned`] ends in, by their place in `SENDERS`.
pub(crate) mod sender {
    pub(crate) const BUFFER: u32 = 0;
    pub(crate) const VECTOR: u32 = 1;
    pub(crate) const VECTOR_32_BIT: u32 = 2;
    pub(crate) const COUNT: u32 = 3;
}

/// A call under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct InFlight {
    /// The call's number as the kernel has it, or [`TAKEN`].
    pub(crate) number: u32,
    /// What a 64-bit task would call it, with [`BY_32_BIT`].
    pub(crate) call: u32,
    /// The arguments, the socket always first; while bytes are handed on, the slots of `payload::Taking`.
    pub(crate) args: [u64; 7],
    /// `struct msghdr *`; of a `sendmmsg`, the message that is due.
    pub(crate) message: u64,
    /// Messages of a `sendmmsg` that are due.
    pub(crate) messages: u64,
}

impl InFlight {
    /// What a 64-bit task would call it.
    #[inline(always)]
    pub(crate) fn call(&self) -> u32 {
        self.call & !BY_32_BIT
    }

    #[inline(always)]
    pub(crate) fn is_32_bit(&self) -> bool {
        self.call & BY_32_BIT != 0
    }

    /// A socket of this kind, as a [`Descriptor`] of this task has it.
    #[inline(always)]
    fn transport(&self, kind: u32) -> u32 {
        if self.is_32_bit() { kind | socket::BY_32_BIT } else { kind }
    }
}

/// Whose calls a program sees.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tasks {
    /// Everybody's: `raw_syscalls`.
    All,
    /// Those of 64-bit tasks, and only calls that matter: `syscalls:*`.
    Of64Bit,
    /// Everybody's, of which only those of 32-bit tasks matter: `raw_syscalls` beside `syscalls:*`.
    Of32Bit,
}

/// A call has begun; its record holds as many arguments.
#[inline(always)]
pub(crate) fn entered(context: &TracePointContext, tasks: Tasks, arguments: usize) -> Option<()> {
    let number = number_of(context);
    let matters = match tasks {
        Tasks::All => calls::begins_in_any(number),
        Tasks::Of64Bit => true,
        Tasks::Of32Bit => calls::begins_in_32_bit(number),
    };
    if !matters {
        return None;
    }
    let thread = thread();
    let first = argument(context, 0, arguments);
    // Before anything else: most writes are to files. A 32-bit task's call of that number is none that is looked at.
    if tasks != Tasks::Of32Bit && (number == WRITE || number == WRITEV) && is_ignored(thread, first) {
        return None;
    }
    let by_32_bit = tasks != Tasks::Of64Bit && is_32_bit(thread);
    let mut args = [
        first,
        argument(context, 1, arguments),
        argument(context, 2, arguments),
        argument(context, 3, arguments),
        argument(context, 4, arguments),
        argument(context, 5, arguments),
        opaque_zero(),
    ];
    let mut call = number;
    if by_32_bit {
        call = calls::from_32_bit(number);
        for arg in &mut args {
            *arg &= 0xffff_ffff;
        }
        #[cfg(bpf_target_arch = "x86_64")]
        if call == SOCKETCALL {
            call = calls::from_socketcall(args[0]);
            socketcall_arguments(&mut args)?;
        }
        if call == SEND {
            call = opaque(SENDTO);
            args[4] = 0;
        }
        if (call == WRITE || call == WRITEV) && is_ignored(thread, args[0]) {
            return None;
        }
    } else if tasks == Tasks::Of32Bit || (tasks == Tasks::All && !calls::begins(number)) {
        return None;
    }
    if call == 0 {
        return None;
    }
    if call == CLOSE {
        return close(context, thread, args[0]);
    }
    // An `exec` that fails, as a search along PATH does, only makes the daemon be asked again.
    if call == EXECVE || call == EXECVEAT || (call == CLOSE_RANGE && args[2] & CLOSE_RANGE_CLOEXEC == 0) {
        descriptors::renew(thread);
        return None;
    }
    if call == CLOSE_RANGE || (call == FCNTL && args[1] != F_DUPFD && args[1] != F_DUPFD_CLOEXEC) {
        return None;
    }
    if call == SPLICE {
        args[0] = args[2];
    }
    let message = user_memory::untagged(args[1]);
    let flags = if by_32_bit { BY_32_BIT } else { 0 };
    let call = InFlight { number, call: call | flags, args, message, messages: opaque_zero() };
    match CALLS_IN_FLIGHT.get_ptr_mut(thread) {
        // SAFETY: a map value that lives as long as the program runs; a thread is in one call at a time.
        Some(known) => unsafe { *known = call },
        None => CALLS_IN_FLIGHT.insert(thread, call, 0).ok()?,
    }
    under_way::begin(thread);
    Some(())
}

/// The arguments of a `socketcall` lie in memory, four bytes each: six at the most, three at the least of those looked at.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn socketcall_arguments(args: &mut [u64; 7]) -> Option<()> {
    let at = args[1];
    let [first, second, third] = user_memory::read_words::<3>(at)?;
    let [fourth, fifth, sixth] = user_memory::read_words::<3>(at + 12).unwrap_or_default();
    *args = [first, second, third, fourth, fifth, sixth, 0].map(u64::from);
    Some(())
}

/// A call has returned.
#[inline(always)]
pub(crate) fn returned(context: &TracePointContext) -> Option<()> {
    let number = number_of(context);
    if !calls::returns(number) {
        return None;
    }
    let result = result_of(context);
    let thread = thread();
    if result == 0 && (calls::is_fork(number) || calls::is_fork_in_32_bit(number)) {
        // In the child, whichever of the two it was.
        let by_32_bit = is_32_bit(thread);
        if (by_32_bit && calls::is_fork_in_32_bit(number)) || (!by_32_bit && calls::is_fork(number)) {
            descriptors::born(thread);
        }
        return None;
    }
    if !under_way::end(thread) {
        // Most calls that return here are writes to files, which were let pass when they began.
        let in_32_bit = calls::is_open(number)?;
        if result >= 0 && is_32_bit(thread) == in_32_bit {
            files::mark(thread, result as u64);
        }
        return None;
    }
    let known = CALLS_IN_FLIGHT.get_ptr_mut(thread)?;
    // SAFETY: a map value that lives as long as the program runs.
    let in_flight = unsafe { &mut *known };
    if in_flight.number != number {
        return None;
    }
    in_flight.number = TAKEN;
    let call = in_flight.call();
    if result < 0 && !(call == CONNECT && result == IN_PROGRESS) {
        return None;
    }
    let fd = in_flight.args[0];
    if call == SOCKET {
        return made(thread, in_flight, result);
    }
    if call == ACCEPT || call == ACCEPT4 || call == DUP || call == DUP2 || call == DUP3 || call == FCNTL {
        return descriptors::copied(thread, fd, result as u64);
    }
    let is_send = call == SENDTO || call == SENDMSG || call == SENDMMSG;
    let class = if is_send || call == CONNECT { class::SOCKET } else { class::UNKNOWN };
    let descriptor = descriptor(thread, fd, class, in_flight.transport(socket::UNKNOWN))?;
    if call == CONNECT {
        return peer(context, descriptor, fd, in_flight.args[1], in_flight.args[2]);
    }
    if result == 0 {
        return None;
    }
    // SAFETY: a map value that lives as long as the program runs.
    let state = unsafe { &mut *descriptor };
    if state.class == class::UNKNOWN {
        state.class = class::ASKED;
        empty(context, state, kind::SOCKET_UNKNOWN, fd);
    } else if state.class != class::IGNORED {
        descriptors::heed(key(thread, fd), state);
    }
    if state.class == class::IGNORED {
        return None;
    }
    let bytes = if call == SENDMMSG { opaque_zero() } else { result as u64 };
    let opaque_call = call == SENDFILE || call == SPLICE;
    if state.transport & socket::TRANSPORT != socket::DATAGRAM && call != SENDMMSG && !opaque_call {
        encrypted(context, thread, in_flight, state, bytes);
    }
    let wanted = state.class != class::ASKED && state.sent < state.limit && !opaque_call;
    // How long the messages of a `sendmmsg` are is not known yet: about a packet each.
    let cost = if call == SENDMMSG { (result as u64) << 10 } else { bytes };
    if !wanted || !budget::allows(&mut state.bucket, state.sent, cost) {
        state.sent += bytes;
        state.skipped += bytes;
        if call == SENDMMSG {
            in_flight.messages = result as u64;
            // SAFETY: the loader fills the table with programs of this kind.
            unsafe { SENDERS.tail_call(context, sender::COUNT) };
        }
        return None;
    }
    in_flight.messages = if call == SENDMMSG { result as u64 } else { 1 };
    let program = if call == WRITE || call == SENDTO {
        sender::BUFFER
    } else if in_flight.is_32_bit() {
        sender::VECTOR_32_BIT
    } else {
        sender::VECTOR
    };
    // SAFETY: as above.
    unsafe { SENDERS.tail_call(context, program) };
    // It is not there: counted all the same.
    state.sent += bytes;
    state.skipped += bytes;
    None
}

/// `socket` returned: what kind of file the number stands for now.
#[inline(always)]
fn made(thread: u64, call: &InFlight, result: i64) -> Option<()> {
    let (family, kind) = (call.args[0], call.args[1] & SOCK_TYPE_MASK);
    let inet = family == AF_INET || family == AF_INET6;
    let transport = if family == AF_UNIX {
        socket::UNIX
    } else if kind == SOCK_DGRAM {
        socket::DATAGRAM
    } else {
        socket::STREAM
    };
    let class = if inet { class::SOCKET } else { class::IGNORED };
    descriptors::opened(thread, result as u64, class, call.transport(transport))
}

/// What a stream's send has to do with TLS: which `SSL*` it is of, and how much of it is worth having.
#[inline(always)]
fn encrypted(
    context: &TracePointContext,
    thread: u64,
    call: &InFlight,
    state: &mut Descriptor,
    bytes: u64,
) -> Option<()> {
    let fd = call.args[0] & 0xffff_ffff;
    if let Some(inside) = INSIDE.get_ptr_mut(thread) {
        // SAFETY: a map value that lives as long as the program runs.
        let inside = unsafe { &mut *inside };
        let mut stage = inside.stage;
        if stage == tls::TRIED
            && let Some(head) = head(call)
        {
            tls::tried(context, inside.ssl, thread, head, bytes);
            // Application data of TLS (RFC 8446 section 5.1): the rest is as in any `SSL_write`.
            if head & 0xffff == 0x0317 {
                stage = tls::WRITING;
            }
        }
        if stage == tls::WRITING || stage == tls::NESTED {
            inside.stage = tls::NESTED;
            // What it sends here is what it was given there, encrypted. Only a ClientHello says more, and comes first.
            if state.sent != 0 {
                state.limit = opaque_zero();
            }
            tls::nested(context, inside.ssl, thread, fd);
        } else if stage == tls::DUE {
            inside.stage = tls::OUTSIDE;
            if let Some(head) = head(call) {
                tls::next(context, inside.ssl, thread, fd, head, inside.total, bytes);
            }
        }
    }
    // As long as nothing was taken of it: later it is known.
    if state.class != class::SOCKET || state.sent != state.skipped || state.limit == 0 || bytes < 9 {
        return None;
    }
    // A TLS record is a type, a major version of 3, a minor one, and a length (RFC 8446 section 5.1).
    let head = head(call)?;
    let (record_type, major, handshake) = (head & 0xff, head >> 8 & 0xff, head >> 40 & 0xff);
    if major != 3 || !(20..=23).contains(&record_type) {
        return None;
    }
    if record_type == 22 && handshake == 1 {
        // A ClientHello: as far as it goes and no further. Its length is three bytes, of which the last is not in `head`.
        let record = (head >> 24 & 0xff) << 8 | (head >> 32 & 0xff);
        let message = (head >> 48 & 0xff) << 16 | (head >> 56 & 0xff) << 8;
        let len = if record < message + 4 { message + 512 } else { record + 5 };
        state.limit = state.sent + smaller(len, socket::FIRST_LIMIT);
        return None;
    }
    // Under way already: what it is, and how much. The rest is only counted.
    state.limit = opaque_zero();
    let mut writer = start(state, kind::SOCKET_SEND, fd, bytes)?;
    // SAFETY: `bytes` has room and is aligned: it follows the header, whose size is a multiple of 8.
    unsafe { *writer.bytes().cast::<u64>() = head };
    writer.submit(context, &Piece { len: 8, offset: 0, sequence: state.sequence, flags: flag::LAST });
    state.sequence += 1;
    // The caller counts the send, as one that is not taken; these bytes were.
    state.skipped = state.skipped.wrapping_sub(8);
    writer.finish(context);
    None
}

const _: () = assert!(MAX_GUESSES > 2, "two of them must agree");

/// The first eight bytes of a send.
#[inline(always)]
fn head(call: &InFlight) -> Option<u64> {
    let (made, at) = (call.call(), call.args[1]);
    let buffer = if made == WRITE || made == SENDTO {
        at
    } else {
        let vector = if made == WRITEV {
            at
        } else if call.is_32_bit() {
            pointer(at + 8, true)?
        } else {
            pointer(at + 16, false)?
        };
        pointer(vector, call.is_32_bit())?
    };
    user_memory::read_u64(user_memory::untagged(buffer))
}

/// The pointer or length that lies at `at` in the task's memory.
#[inline(always)]
pub(crate) fn pointer(at: u64, by_32_bit: bool) -> Option<u64> {
    let at = user_memory::untagged(at);
    if by_32_bit {
        user_memory::read_words::<1>(at).map(|[word]| u64::from(word))
    } else {
        user_memory::read_u64(at)
    }
}

/// `close` begins: afterwards the number may stand for something else.
#[inline(always)]
fn close(context: &TracePointContext, thread: u64, fd: u64) -> Option<()> {
    let key = key(thread, fd);
    let Some(known) = crate::DESCRIPTORS.get_ptr_mut(key) else {
        files::forget(key);
        return None;
    };
    // SAFETY: a map value that lives as long as the program runs.
    let state = unsafe { &mut *known };
    if state.class == class::SOCKET && state.sequence != 0 {
        empty(context, state, kind::SOCKET_CLOSE, fd);
    }
    descriptors::forget(key)
}

/// Tells where a socket's bytes go from now on.
#[inline(always)]
pub(crate) fn peer(
    context: &TracePointContext,
    descriptor: *mut Descriptor,
    fd: u64,
    address: u64,
    len: u64,
) -> Option<()> {
    // SAFETY: a map value that lives as long as the program runs.
    let state = unsafe { &mut *descriptor };
    let len = smaller(len & 0xffff_ffff, ADDRESS);
    if len < 8 {
        return None;
    }
    if state.class == class::IGNORED && state.transport & socket::TRANSPORT != socket::UNIX {
        return None;
    }
    let mut writer = start(state, kind::SOCKET_PEER, fd, 0)?;
    // SAFETY: `bytes` has room for MAX_PIECE.
    if unsafe { user_memory::read(writer.bytes(), user_memory::untagged(address), len) } {
        // SAFETY: the record's own bytes, inside the map value.
        let is_resolver = unsafe {
            let bytes = writer.bytes();
            read_volatile(bytes) == AF_UNIX as u8
                && read_volatile(bytes.add(2)) == b'/'
                && read_volatile(bytes.add(14)) == b'd'
                && read_volatile(bytes.add(15)) == b'n'
                && read_volatile(bytes.add(16)) == b's'
        };
        if is_resolver {
            // netd's socket: look-ups go there in clear text. No other UNIX socket leaves the phone.
            state.class = class::SOCKET;
        }
        if state.class != class::IGNORED {
            writer.submit(context, &Piece { len, offset: 0, sequence: state.sequence, flags: flag::LAST });
            state.sequence += 1;
        }
    }
    writer.finish(context);
    Some(())
}

/// A record without bytes.
#[inline(always)]
fn empty(context: &TracePointContext, state: &mut Descriptor, record: u16, fd: u64) {
    let Some(mut writer) = start(state, record, fd, state.skipped) else { return };
    writer.submit(context, &Piece { len: 0, offset: 0, sequence: state.sequence, flags: flag::LAST });
    state.sequence += 1;
    writer.finish(context);
}

#[inline(always)]
pub(crate) fn start(state: &Descriptor, record: u16, fd: u64, total: u64) -> Option<Writer> {
    let object = socket::MARK | u64::from(state.transport) << 32 | fd & 0xffff_ffff;
    Writer::start(record, object, state.born, state.sent, total)
}

#[inline(always)]
pub(crate) fn smaller(one: u64, other: u64) -> u64 {
    if one < other { one } else { other }
}

/// The call's number: 8 bytes into the record, of which `syscalls:*` fills four.
#[inline(always)]
fn number_of(context: &TracePointContext) -> u32 {
    // SAFETY: inside the tracepoint's record, which the verifier bounds.
    unsafe { read_volatile(context.as_ptr().cast::<u32>().add(2)) }
}

/// What the call returned: at 16 in both tracepoints' records.
#[inline(always)]
pub(crate) fn result_of(context: &TracePointContext) -> i64 {
    // SAFETY: as above.
    unsafe { read_volatile(context.as_ptr().cast::<i64>().add(2)) }
}

/// An argument of the call; 0 for one that the record does not hold.
#[inline(always)]
fn argument(context: &TracePointContext, index: usize, held: usize) -> u64 {
    if index >= held {
        return opaque_zero();
    }
    // SAFETY: the arguments lie from 16 on, as many as are held.
    unsafe { read_volatile(context.as_ptr().cast::<u64>().add(2 + index)) }
}
