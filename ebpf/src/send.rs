//! Hooks on socket sends, at the system-call boundary: collect, never interpret.
//!
//! `raw_syscalls` runs for every call of every process, so the first thing is to leave: a number that is no send costs a
//! load and a few comparisons. What was sent is what the call returned: the entry remembers, the return takes.

use core::{
    hint::cold_path,
    ptr::{read_volatile, write_volatile},
};

use aya_ebpf::{EbpfContext, helpers::generated::bpf_ktime_get_ns, programs::TracePointContext};
use telltale_abi::{Bucket, Descriptor, MAX_PIECE, class, flag, kind, socket};

use crate::{
    CALLS_IN_FLIGHT, DESCRIPTORS, budget,
    emit::{Piece, Writer},
    tls::{opaque_zero, thread},
    user_memory,
};

/// `arch/x86/entry/syscalls/syscall_64.tbl`. A 32-bit task has other numbers, which cannot be told apart here.
#[cfg(bpf_target_arch = "x86_64")]
mod number {
    pub(super) const WRITE: u32 = 1;
    pub(super) const CLOSE: u32 = 3;
    pub(super) const WRITEV: u32 = 20;
    pub(super) const SENDFILE: u32 = 40;
    pub(super) const SOCKET: u32 = 41;
    pub(super) const CONNECT: u32 = 42;
    pub(super) const ACCEPT: u32 = 43;
    pub(super) const SENDTO: u32 = 44;
    pub(super) const SENDMSG: u32 = 46;
    pub(super) const DUP3: u32 = 292;
    pub(super) const ACCEPT4: u32 = 288;
    pub(super) const SENDMMSG: u32 = 307;
    /// The numbers below 64 that are looked at, and `dup2`.
    const LOW: u64 = 1 << WRITE
        | 1 << CLOSE
        | 1 << WRITEV
        | 1 << DUP2
        | 1 << SENDFILE
        | 1 << SOCKET
        | 1 << CONNECT
        | 1 << ACCEPT
        | 1 << SENDTO
        | 1 << SENDMSG;
    pub(super) const DUP2: u32 = 33;

    #[inline(always)]
    pub(super) fn is_looked_at(number: u32) -> bool {
        if number < 64 {
            return LOW >> number & 1 != 0;
        }
        number == SENDMMSG || number == DUP3 || number == ACCEPT4
    }
}

/// `include/uapi/asm-generic/unistd.h`.
#[cfg(bpf_target_arch = "aarch64")]
mod number {
    pub(super) const DUP3: u32 = 24;
    /// There is no `dup2`; `dup3` again.
    pub(super) const DUP2: u32 = 24;
    pub(super) const CLOSE: u32 = 57;
    pub(super) const WRITE: u32 = 64;
    pub(super) const WRITEV: u32 = 66;
    pub(super) const SENDFILE: u32 = 71;
    pub(super) const SOCKET: u32 = 198;
    pub(super) const ACCEPT: u32 = 202;
    pub(super) const CONNECT: u32 = 203;
    pub(super) const SENDTO: u32 = 206;
    pub(super) const SENDMSG: u32 = 211;
    pub(super) const ACCEPT4: u32 = 242;
    pub(super) const SENDMMSG: u32 = 269;
    /// From `CLOSE` on, and from `SOCKET` on.
    const FIRST: u64 = 1 | 1 << (WRITE - CLOSE) | 1 << (WRITEV - CLOSE) | 1 << (SENDFILE - CLOSE);
    const SECOND: u64 = 1
        | 1 << (ACCEPT - SOCKET)
        | 1 << (CONNECT - SOCKET)
        | 1 << (SENDTO - SOCKET)
        | 1 << (SENDMSG - SOCKET)
        | 1 << (ACCEPT4 - SOCKET);

    #[inline(always)]
    pub(super) fn is_looked_at(number: u32) -> bool {
        let (first, second) = (number.wrapping_sub(CLOSE), number.wrapping_sub(SOCKET));
        if first < 64 {
            return FIRST >> first & 1 != 0;
        }
        if second < 64 {
            return SECOND >> second & 1 != 0;
        }
        number == SENDMMSG || number == DUP3
    }
}

use number::*;

/// `EINPROGRESS`, include/uapi/asm-generic/errno.h: a connection that is being made is as good as made.
const IN_PROGRESS: i64 = -115;
/// `AF_INET`, `AF_INET6`, `AF_UNIX`, include/linux/socket.h.
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const AF_UNIX: u64 = 1;
/// `SOCK_TYPE_MASK` and `SOCK_DGRAM`, include/linux/net.h.
const SOCK_TYPE_MASK: u64 = 0xf;
const SOCK_DGRAM: u64 = 2;
/// Bytes of a socket address that are taken: `/dev/socket/dnsproxyd` with its family, or a `sockaddr_in6`.
const ADDRESS: u64 = 32;
/// Bytes of a `struct mmsghdr`.
const MMSGHDR: u64 = 64;

/// A call under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct InFlight {
    /// The call's number; `u64::MAX` when its return has taken it.
    number: u64,
    /// The arguments; on the return, the slots of [`Taking`].
    args: [u64; 7],
    /// `struct mmsghdr *` of a `sendmmsg`.
    message: u64,
}

/// A call has begun.
#[inline(always)]
pub(crate) fn entered(context: &TracePointContext) -> Option<()> {
    let number = number_of(context);
    if !is_looked_at(number) {
        return None;
    }
    let thread = thread();
    let fd = argument(context, 0);
    let key = key(thread, fd);
    if number == CLOSE {
        return close(context, key, fd);
    }
    if number == WRITE || number == WRITEV || number == SENDFILE {
        // SENDFILE has its socket first, as the others.
        if let Some(known) = DESCRIPTORS.get_ptr_mut(key) {
            // SAFETY: a map value that lives as long as the program runs.
            if unsafe { (*known).class } == class::IGNORED {
                return None;
            }
        }
    }
    if is_32_bit() {
        return None;
    }
    let call = InFlight {
        number: u64::from(number),
        args: [
            fd,
            argument(context, 1),
            argument(context, 2),
            argument(context, 3),
            argument(context, 4),
            argument(context, 5),
            fd,
        ],
        message: user_memory::untagged(argument(context, 1)),
    };
    match CALLS_IN_FLIGHT.get_ptr_mut(thread) {
        // SAFETY: a map value that lives as long as the program runs; a thread is in one call at a time.
        Some(known) => unsafe { *known = call },
        None => CALLS_IN_FLIGHT.insert(thread, call, 0).ok()?,
    }
    Some(())
}

/// A call has returned.
#[inline(always)]
pub(crate) fn returned(context: &TracePointContext) -> Option<()> {
    let number = number_of(context);
    if !is_looked_at(number) || number == CLOSE {
        return None;
    }
    // SAFETY: the return value lies at 16 in both tracepoints' records.
    let result = unsafe { read_volatile(context.as_ptr().cast::<i64>().add(2)) };
    let thread = thread();
    let known = CALLS_IN_FLIGHT.get_ptr_mut(thread)?;
    // SAFETY: a map value that lives as long as the program runs.
    let call = unsafe { &mut *known };
    if call.number != u64::from(number) {
        return None;
    }
    call.number = u64::MAX;
    if number == SOCKET {
        return opened(thread, call, result);
    }
    if number == ACCEPT || number == ACCEPT4 || number == DUP2 || number == DUP3 {
        // Another file under this number from now on.
        if result >= 0 {
            let _ = DESCRIPTORS.remove(self::key(thread, result as u64));
        }
        return None;
    }
    let key = key(thread, call.args[0]);
    if number == CONNECT {
        if result != 0 && result != IN_PROGRESS {
            return None;
        }
        return peer(context, descriptor(key, class::SOCKET)?, call.args[0], call.args[1], call.args[2]);
    }
    if result <= 0 {
        return None;
    }
    let plain = number == WRITE || number == WRITEV || number == SENDFILE;
    let descriptor = descriptor(key, if plain { class::UNKNOWN } else { class::SOCKET })?;
    // SAFETY: a map value that lives as long as the program runs.
    let state = unsafe { &mut *descriptor };
    if state.class == class::UNKNOWN {
        state.class = class::ASKED;
        empty(context, state, kind::SOCKET_UNKNOWN, call.args[0]);
    }
    if state.class == class::IGNORED {
        return None;
    }
    let bytes = if number == SENDMMSG { 0 } else { result as u64 };
    if state.class == class::ASKED
        || state.sent >= state.limit
        || number == SENDFILE
        || !budget::allows(&mut state.bucket, state.sent, bytes)
    {
        state.sent += bytes;
        state.skipped += bytes;
        return None;
    }
    if number == SENDTO && call.args[4] != 0 {
        peer(context, descriptor, call.args[0], call.args[4], call.args[5]);
    }
    // Where the bytes are: one buffer, or a vector of them.
    let vector = number == WRITEV || number == SENDMSG || number == SENDMMSG;
    let mut at = call.args[1];
    let mut count = call.args[2];
    let mut total = result as u64;
    let mut further = opaque_zero();
    if number == SENDMSG || number == SENDMMSG {
        let message = user_memory::untagged(at);
        let name = user_memory::read_u64(message)?;
        if name != 0 {
            let len = user_memory::read_u64(message + 8)? & 0xffff_ffff;
            peer(context, descriptor, call.args[0], name, len);
        }
        at = user_memory::read_u64(message + 16)?;
        count = user_memory::read_u64(message + 24)?;
        if number == SENDMMSG {
            total = user_memory::read_u64(message + MMSGHDR - 8)? & 0xffff_ffff;
            further = result as u64 - 1;
        }
    }
    let mut taking = Taking(known);
    taking.set(BUFFER, if vector { 0 } else { at });
    taking.set(VECTOR, if vector { at } else { 0 });
    taking.set(LEFT, count);
    taking.set(OFFSET, opaque_zero());
    taking.set(TOTAL, total);
    taking.set(FURTHER, further);
    pieces(context, state, &mut taking)?;
    // SAFETY: as above.
    let header = unsafe { read_volatile(&raw const (*known).message) };
    let _ = message(context, state, &mut taking, header + MMSGHDR)
        && message(context, state, &mut taking, header + 2 * MMSGHDR)
        && message(context, state, &mut taking, header + 3 * MMSGHDR);
    Some(())
}

/// A further message of a `sendmmsg`: its first buffer. False when there is none or it cannot be read.
#[inline(always)]
fn message(context: &TracePointContext, state: &mut Descriptor, taking: &mut Taking, header: u64) -> bool {
    let left = taking.get(FURTHER);
    if left == 0 {
        cold_path();
        return false;
    }
    taking.set(FURTHER, left - 1);
    let Some(total) = user_memory::read_u64(header + MMSGHDR - 8) else { return false };
    let total = total & 0xffff_ffff;
    let Some(vector) = user_memory::read_u64(header + 16) else { return false };
    let Some(base) = user_memory::read_u64(vector) else { return false };
    let Some(len) = user_memory::read_u64(vector + 8) else { return false };
    let Some(mut writer) = start(state, kind::SOCKET_SEND, taking.get(FD), total) else { return false };
    one(context, state, &mut writer, base, smaller(len, total), 0, flag::LAST);
    state.sent += total;
    writer.finish(context);
    true
}

/// Hands on what one send took, in up to eight pieces.
#[inline(always)]
fn pieces(context: &TracePointContext, state: &mut Descriptor, taking: &mut Taking) -> Option<()> {
    let total = taking.get(TOTAL);
    if total == 0 {
        return None;
    }
    let mut writer = start(state, kind::SOCKET_SEND, taking.get(FD), total)?;
    let _ = taking.step(context, state, &mut writer, false)
        && taking.step(context, state, &mut writer, false)
        && taking.step(context, state, &mut writer, false)
        && taking.step(context, state, &mut writer, false)
        && taking.step(context, state, &mut writer, false)
        && taking.step(context, state, &mut writer, false)
        && taking.step(context, state, &mut writer, false)
        && taking.step(context, state, &mut writer, true);
    state.sent += taking.get(TOTAL);
    writer.finish(context);
    Some(())
}

/// A send being handed on. Its numbers lie in the map, not in registers: the verifier forgets them from step to step,
/// so that all ways through a step are one way for the next.
struct Taking(*mut InFlight);

const FD: usize = 0;
/// The one buffer; 0 when there is a vector.
const BUFFER: usize = 1;
/// `struct iovec *`, moved on with each step.
const VECTOR: usize = 2;
/// Elements left in it.
const LEFT: usize = 3;
/// Bytes handed on.
const OFFSET: usize = 4;
/// Bytes of the send.
const TOTAL: usize = 5;
/// Messages left of a `sendmmsg`.
const FURTHER: usize = 6;

impl Taking {
    #[inline(always)]
    fn get(&self, slot: usize) -> u64 {
        // SAFETY: one of the seven slots of a map value that lives as long as the program runs.
        unsafe { read_volatile((&raw const (*self.0).args).cast::<u64>().add(slot)) }
    }

    #[inline(always)]
    fn set(&mut self, slot: usize, value: u64) {
        // SAFETY: as above.
        unsafe { write_volatile((&raw mut (*self.0).args).cast::<u64>().add(slot), value) };
    }

    /// Hands on the next piece; false when there is no further one.
    #[inline(always)]
    fn step(
        &mut self,
        context: &TracePointContext,
        state: &mut Descriptor,
        writer: &mut Writer,
        end: bool,
    ) -> bool {
        let (offset, vector) = (self.get(OFFSET), self.get(VECTOR));
        let rest = self.get(TOTAL) - offset;
        let (base, len) = if vector == 0 {
            (self.get(BUFFER) + offset, smaller(rest, MAX_PIECE as u64))
        } else {
            let left = self.get(LEFT);
            if left == 0 {
                cold_path();
                return false;
            }
            self.set(LEFT, left - 1);
            self.set(VECTOR, vector + 16);
            let (Some(base), Some(len)) = (user_memory::read_u64(vector), user_memory::read_u64(vector + 8))
            else {
                cold_path();
                return false;
            };
            (base, smaller(len, rest))
        };
        self.set(OFFSET, offset + len);
        // An empty buffer in a vector is no piece.
        if len != 0 {
            let last = if end || len == rest { flag::LAST } else { 0 };
            one(context, state, writer, base, len, offset, last);
        }
        self.get(OFFSET) < self.get(TOTAL)
    }
}

/// Hands on one piece of at most [`MAX_PIECE`] bytes.
#[inline(always)]
fn one(
    context: &TracePointContext,
    state: &mut Descriptor,
    writer: &mut Writer,
    from: u64,
    len: u64,
    offset: u64,
    last: u32,
) {
    let len = smaller(len, MAX_PIECE as u64);
    // SAFETY: `bytes` has room for MAX_PIECE.
    let readable = len != 0 && unsafe { user_memory::read(writer.bytes(), user_memory::untagged(from), len) };
    let (len, flags) = if readable { (len, last) } else { (0, last | flag::UNREADABLE) };
    writer.submit(context, &Piece { len, offset, sequence: state.sequence, flags });
    state.sequence += 1;
}

/// `socket` returned: what kind of file the number stands for now.
#[inline(always)]
fn opened(thread: u64, call: &InFlight, result: i64) -> Option<()> {
    if result < 0 {
        return None;
    }
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
    DESCRIPTORS.insert(key(thread, result as u64), fresh(class, transport), 0).ok()
}

/// `close` begins: afterwards the number may stand for something else.
#[inline(always)]
fn close(context: &TracePointContext, key: u64, fd: u64) -> Option<()> {
    let known = DESCRIPTORS.get_ptr_mut(key)?;
    // SAFETY: a map value that lives as long as the program runs.
    let state = unsafe { &mut *known };
    if state.class == class::SOCKET && state.sequence != 0 {
        empty(context, state, kind::SOCKET_CLOSE, fd);
    }
    DESCRIPTORS.remove(key).ok()
}

/// Tells where a socket's bytes go from now on.
#[inline(always)]
fn peer(
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
    if state.class == class::IGNORED && state.transport != socket::UNIX {
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
fn start(state: &Descriptor, record: u16, fd: u64, total: u64) -> Option<Writer> {
    let object = socket::MARK | u64::from(state.transport) << 32 | fd & 0xffff_ffff;
    Writer::start(record, object, state.born, state.sent, total)
}

/// What is known of a descriptor; new, of `class`, when nothing was.
#[inline(always)]
fn descriptor(key: u64, class: u32) -> Option<*mut Descriptor> {
    if let Some(known) = DESCRIPTORS.get_ptr_mut(key) {
        return Some(known);
    }
    DESCRIPTORS.insert(key, fresh(class, socket::UNKNOWN), 0).ok()?;
    DESCRIPTORS.get_ptr_mut(key)
}

#[inline(always)]
fn fresh(class: u32, transport: u32) -> Descriptor {
    let zero = opaque_zero();
    // SAFETY: a helper call without arguments.
    let born = unsafe { bpf_ktime_get_ns() };
    Descriptor {
        class,
        transport,
        limit: socket::FIRST_LIMIT,
        born,
        sequence: zero,
        sent: zero,
        skipped: zero,
        bucket: Bucket { left: zero, filled: zero },
    }
}

#[inline(always)]
fn key(thread: u64, fd: u64) -> u64 {
    (thread >> 32) << 32 | fd & 0xffff_ffff
}

#[inline(always)]
fn smaller(one: u64, other: u64) -> u64 {
    if one < other { one } else { other }
}

/// The call's number: 8 bytes into the record, of which `syscalls:*` fills four.
#[inline(always)]
fn number_of(context: &TracePointContext) -> u32 {
    // SAFETY: inside the tracepoint's record, which the verifier bounds.
    unsafe { read_volatile(context.as_ptr().cast::<u32>().add(2)) }
}

#[inline(always)]
fn argument(context: &TracePointContext, index: usize) -> u64 {
    // SAFETY: the six arguments lie from 16 on; every caller's index is below 6.
    unsafe { read_volatile(context.as_ptr().cast::<u64>().add(2 + index)) }
}

/// Whether the task runs 32-bit code, whose numbers mean other calls: bit 22 of the task's first word on arm64
/// (`TIF_32BIT`, arch/arm64/include/asm/thread_info.h).
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
fn is_32_bit() -> bool {
    use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel};
    let mut flags = 0u64;
    // SAFETY: `flags` is eight writable bytes; the helper checks the task's address itself.
    let failed = unsafe {
        bpf_probe_read_kernel((&raw mut flags).cast(), 8, bpf_get_current_task() as *const core::ffi::c_void)
    };
    failed != 0 || flags >> 22 & 1 != 0
}

/// On x86 only the process's ELF file tells, which cannot be read here.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn is_32_bit() -> bool {
    false
}
