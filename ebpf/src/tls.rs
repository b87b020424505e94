//! Hooks on the TLS library: collect, never interpret.
//!
//! What was sent is `buf[0..ret]`, known only when the call returns; a return of 0 or less means that the caller
//! will offer the same bytes again. So the entry remembers, and the return takes.

use core::{arch::asm, hint::cold_path};

use aya_ebpf::{
    EbpfContext,
    bindings::pt_regs,
    helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    programs::{ProbeContext, RetProbeContext},
};
use telltale_abi::{Bucket, Connection, MAX_GUESSES, MAX_PIECE, MAX_PIECES, flag, kind};

use crate::{
    CALLS, CONNECTIONS, INSIDE, budget,
    descriptors::since,
    emit::{Piece, Writer},
    user_memory,
};

/// `SSL_CTRL_SET_TLSEXT_HOSTNAME`, OpenSSL include/openssl/ssl.h.in: there `SSL_set_tlsext_host_name` is a macro.
const SSL_CTRL_SET_TLSEXT_HOSTNAME: i32 = 55;

/// A call under way, by thread and by where its frame lies on the stack.
///
/// The frame tells nested calls apart (TLS inside TLS on one thread, a signal handler), and a call that never
/// returned (thread death, `longjmp`) is overwritten by the next one at that depth, or leaves the LRU map.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct CallKey {
    thread: u64,
    frame: u64,
}

/// What a thread has to do with the TLS library, by which its sends are told to be an `SSL*`'s.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Inside {
    pub(crate) ssl: u64,
    /// [`OUTSIDE`], [`WRITING`], [`NESTED`], [`DUE`] or [`TRIED`].
    pub(crate) stage: u64,
    /// [`DUE`]: bytes the write took.
    pub(crate) total: u64,
}

pub(crate) const OUTSIDE: u64 = 0;
/// In `SSL_write`.
pub(crate) const WRITING: u64 = 1;
/// In `SSL_write`, which has sent something itself.
pub(crate) const NESTED: u64 = 2;
/// Out of an `SSL_write` that sent nothing itself: what it made is in memory, and may be what the thread sends next.
pub(crate) const DUE: u64 = 3;
/// In what may be `SSL_write`.
pub(crate) const TRIED: u64 = 4;

/// What the entry saw.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Call {
    /// Again the key's thread: an LRU map may give this slot away between look-up and use.
    thread: u64,
    /// The `SSL*`; 0 when the return has taken the call.
    ssl: u64,
    buffer: u64,
    /// `SSL_write_ex`: where it says how much it took. 0 for `SSL_write`, whose return value says that.
    written: u64,
}

/// Names a connection: one address may mean another object in another process.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ConnectionKey {
    ssl: u64,
    tgid: u64,
}

/// `SSL_write` and `SSL_write_ex` have begun.
#[inline(always)]
pub(crate) fn write_entered(context: &ProbeContext, extended: bool, stage: u64) -> Option<()> {
    let key = CallKey { thread: thread(), frame: frame(context.regs, true) };
    let call = Call {
        thread: key.thread,
        ssl: user_memory::untagged(context.arg(0)?),
        buffer: user_memory::untagged(context.arg(1)?),
        written: if extended { user_memory::untagged(context.arg(3)?) } else { 0 },
    };
    // Writing in place spares the LRU's lock in the common case, the same thread at the same depth.
    match CALLS.get_ptr_mut(key) {
        // SAFETY: a map value that lives as long as the program runs; if the LRU gave it away, `thread` shows.
        Some(known) => unsafe { *known = call },
        None => CALLS.insert(key, call, 0).ok()?,
    }
    let inside = Inside { ssl: call.ssl, stage, total: opaque_zero() };
    match INSIDE.get_ptr_mut(key.thread) {
        // SAFETY: a map value that lives as long as the program runs.
        Some(known) => unsafe { *known = inside },
        None => INSIDE.insert(key.thread, inside, 0).ok()?,
    }
    Some(())
}

/// What may be `SSL_write` has begun: says where and with what, so that the daemon can judge.
#[inline(always)]
pub(crate) fn candidate_entered(context: &ProbeContext) -> Option<()> {
    write_entered(context, false, TRIED)?;
    let ssl = user_memory::untagged(context.arg(0)?);
    let buffer = user_memory::untagged(context.arg(1)?);
    let len: i32 = context.arg(2)?;
    let connection = connection(ssl, thread())?;
    let mut writer = start(kind::TLS_CALL, ssl, connection, len as u64)?;
    // SAFETY: `bytes` has room and is aligned: it follows the header, whose size is a multiple of 8.
    let sequence = unsafe {
        let bytes = writer.bytes().cast::<u64>();
        *bytes = instruction(context.regs);
        *bytes.add(1) = buffer;
        (*connection).sequence
    };
    writer.submit(context, &Piece { len: 16, offset: 0, sequence, flags: flag::LAST });
    writer.finish(context);
    Some(())
}

/// `SSL_write` and `SSL_write_ex` have returned.
#[inline(always)]
pub(crate) fn write_returned(context: &RetProbeContext) -> Option<()> {
    let key = CallKey { thread: thread(), frame: frame(context.regs, false) };
    let known = CALLS.get_ptr_mut(key)?;
    // SAFETY: a map value that lives as long as the program runs.
    let call = unsafe { *known };
    if call.ssl == 0 || call.thread != key.thread {
        cold_path();
        return None;
    }
    // SAFETY: as above. A call is taken once, so that nothing is ever reported twice.
    unsafe { (*known).ssl = 0 };

    let mut stage = OUTSIDE;
    if let Some(inside) = INSIDE.get_ptr_mut(key.thread) {
        // SAFETY: a map value that lives as long as the program runs.
        unsafe {
            // TLS inside TLS on one thread: the outer one's bytes went into the inner one.
            if (*inside).ssl == call.ssl {
                stage = core::mem::replace(&mut (*inside).stage, OUTSIDE);
            }
        }
    }
    let returned: i32 = context.ret();
    if returned <= 0 {
        return None;
    }
    let total = if call.written == 0 { returned as u64 } else { user_memory::read_u64(call.written)? };
    if total == 0 {
        return None;
    }

    let connection = connection(call.ssl, key.thread)?;
    // SAFETY: a map value that lives as long as the program runs.
    let unknown = unsafe { (*connection).socket == 0 && (*connection).guesses < MAX_GUESSES };
    // Looked up again: 4.14 takes a pointer that may be null and was kept on the stack for a number.
    if (stage == WRITING || stage == TRIED)
        && unknown
        && let Some(inside) = INSIDE.get_ptr_mut(key.thread)
    {
        // SAFETY: as above.
        unsafe {
            (*inside).stage = DUE;
            (*inside).total = total;
        }
    }
    // SAFETY: a map value that lives as long as the program runs. Two threads in one `SSL*` break the library's own
    // rules; if they do it anyway, numbers repeat and the time stamps tell.
    unsafe {
        if !budget::allows(&mut (*connection).bucket, (*connection).sent, total) {
            (*connection).sent += total;
            (*connection).skipped += total;
            return None;
        }
    }
    // SAFETY: as above.
    let sequence = unsafe { (*connection).sequence };
    let mut writer = start(kind::TLS_WRITE, call.ssl, connection, total)?;
    let mut taken = Taken { buffer: call.buffer, total, offset: 0, sequence, flags: 0 };
    // One after the other, not in a loop: 4.14 refuses every backward jump.
    let _ = taken.full_piece(&mut writer, context)
        && taken.full_piece(&mut writer, context)
        && taken.full_piece(&mut writer, context)
        && taken.full_piece(&mut writer, context)
        && taken.full_piece(&mut writer, context)
        && taken.full_piece(&mut writer, context)
        && taken.full_piece(&mut writer, context);
    taken.last_piece(&mut writer, context);
    // SAFETY: as above.
    unsafe {
        (*connection).sequence = taken.sequence;
        (*connection).sent += total;
    }
    writer.finish(context);
    Some(())
}

/// What a call took, and how far it has been handed on.
pub(crate) struct Taken {
    pub(crate) buffer: u64,
    pub(crate) total: u64,
    pub(crate) offset: u64,
    pub(crate) sequence: u64,
    /// Bits that all pieces carry.
    pub(crate) flags: u32,
}

impl Taken {
    /// Hands on a piece of [`MAX_PIECE`] bytes if more than that is left and it can be read.
    #[inline(always)]
    pub(crate) fn full_piece(&mut self, writer: &mut Writer, context: &impl EbpfContext) -> bool {
        const LEN: u64 = MAX_PIECE as u64;
        if self.total - self.offset <= LEN {
            // Not that it were rare: it makes the compiler lay the pieces one behind the other and what follows them
            // last, so that every jump goes forward.
            cold_path();
            return false;
        }
        // SAFETY: `bytes` has room for MAX_PIECE.
        if !unsafe { user_memory::read(writer.bytes(), self.buffer + self.offset, LEN) } {
            cold_path();
            return false;
        }
        let flags = self.flags;
        writer.submit(context, &Piece { len: LEN, offset: self.offset, sequence: self.sequence, flags });
        self.offset += LEN;
        self.sequence += 1;
        true
    }

    /// Hands on what is left, up to [`MAX_PIECE`] bytes, or that it cannot be read.
    #[inline(always)]
    pub(crate) fn last_piece(&mut self, writer: &mut Writer, context: &impl EbpfContext) {
        let rest = self.total - self.offset;
        let len = if rest > MAX_PIECE as u64 { MAX_PIECE as u64 } else { rest };
        // SAFETY: `bytes` has room for MAX_PIECE.
        let readable = unsafe { user_memory::read(writer.bytes(), self.buffer + self.offset, len) };
        let (len, flags) = if readable { (len, flag::LAST) } else { (0, flag::LAST | flag::UNREADABLE) };
        let flags = flags | self.flags;
        writer.submit(context, &Piece { len, offset: self.offset, sequence: self.sequence, flags });
        self.sequence += 1;
    }
}

const _: () = assert!(MAX_PIECES == 8, "write_returned asks for seven full pieces and a last one");

/// `SSL_set_tlsext_host_name(ssl, name)`, as BoringSSL exports it.
#[inline(always)]
pub(crate) fn host_set(context: &ProbeContext, name: u64) -> Option<()> {
    let ssl = user_memory::untagged(context.arg(0)?);
    let name = user_memory::untagged(name);
    if name == 0 {
        return None;
    }
    let connection = connection(ssl, thread())?;
    let mut writer = start(kind::TLS_HOST, ssl, connection, 0)?;
    // SAFETY: `bytes` has room for more than MAX_HOST.
    if let Some(len) = unsafe { user_memory::read_host(writer.bytes(), name) } {
        // SAFETY: a map value.
        let sequence = unsafe { (*connection).sequence };
        writer.submit(context, &Piece { len, offset: 0, sequence, flags: flag::LAST });
        // SAFETY: a map value.
        unsafe { (*connection).sequence = sequence + 1 };
    }
    writer.finish(context);
    Some(())
}

/// OpenSSL's `SSL_ctrl(ssl, command, kind, name)` when it sets the host name.
#[inline(always)]
pub(crate) fn controlled(context: &ProbeContext) -> Option<()> {
    let command: i32 = context.arg(1)?;
    if command != SSL_CTRL_SET_TLSEXT_HOSTNAME {
        return None;
    }
    host_set(context, context.arg(3)?)
}

/// `SSL_set_fd`, `SSL_set_rfd`, `SSL_set_wfd`.
#[inline(always)]
pub(crate) fn fd_set(context: &ProbeContext, record: u16) -> Option<()> {
    let ssl = user_memory::untagged(context.arg(0)?);
    let fd: i32 = context.arg(1)?;
    let connection = connection(ssl, thread())?;
    let mut writer = start(record, ssl, connection, 0)?;
    // SAFETY: `bytes` has room and is aligned: it follows the header, whose size is a multiple of 8.
    let sequence = unsafe {
        *writer.bytes().cast::<i32>() = fd;
        if record != kind::TLS_READ_FD {
            // -1, for none, becomes 0, for none.
            (*connection).socket = (fd + 1) as u64;
        }
        (*connection).sequence
    };
    writer.submit(context, &Piece { len: size_of::<i32>() as u64, offset: 0, sequence, flags: flag::LAST });
    // SAFETY: a map value.
    unsafe { (*connection).sequence = sequence + 1 };
    writer.finish(context);
    Some(())
}

/// While `ssl` was being written to, its thread wrote to a socket.
#[inline(always)]
pub(crate) fn nested(context: &impl EbpfContext, ssl: u64, thread: u64, fd: u64) -> Option<()> {
    let connection = connection(ssl, thread)?;
    // SAFETY: a map value that lives as long as the program runs.
    let connection = unsafe { &mut *connection };
    if connection.socket == fd + 1 {
        return None;
    }
    connection.socket = fd + 1;
    let mut writer = start(kind::TLS_NESTED, ssl, connection, 0)?;
    // SAFETY: `bytes` has room and is aligned: it follows the header, whose size is a multiple of 8.
    unsafe { *writer.bytes().cast::<u32>() = fd as u32 };
    writer.submit(context, &Piece { len: 4, offset: 0, sequence: connection.sequence, flags: flag::LAST });
    connection.sequence += 1;
    writer.finish(context);
    Some(())
}

/// While what may be `SSL_write` ran, its thread sent `sent` bytes to a stream socket, `head` first.
#[inline(always)]
pub(crate) fn tried(context: &impl EbpfContext, ssl: u64, thread: u64, head: u64, sent: u64) -> Option<()> {
    let connection = connection(ssl, thread)?;
    let mut writer = start(kind::TLS_TRIED, ssl, connection, sent)?;
    // SAFETY: `bytes` has room and is aligned: it follows the header, whose size is a multiple of 8; and a map value.
    let sequence = unsafe {
        *writer.bytes().cast::<u64>() = head;
        (*connection).sequence
    };
    writer.submit(context, &Piece { len: 8, offset: 0, sequence, flags: flag::LAST });
    writer.finish(context);
    Some(())
}

/// After `ssl` had taken `taken` bytes its thread sent `sent` to a stream socket, `head` first.
#[inline(always)]
pub(crate) fn next(
    context: &impl EbpfContext,
    ssl: u64,
    thread: u64,
    fd: u64,
    head: u64,
    taken: u64,
    sent: u64,
) -> Option<()> {
    let connection = connection(ssl, thread)?;
    // SAFETY: a map value that lives as long as the program runs.
    let connection = unsafe { &mut *connection };
    connection.guesses += 1;
    let mut writer = start(kind::TLS_NEXT, ssl, connection, sent)?;
    // SAFETY: `bytes` has room and is aligned: it follows the header, whose size is a multiple of 8.
    unsafe {
        let bytes = writer.bytes().cast::<u32>();
        *bytes = fd as u32;
        *bytes.add(1) = head as u32;
        *bytes.add(2) = (head >> 32) as u32;
    }
    writer
        .submit(context, &Piece { len: 12, offset: taken, sequence: connection.sequence, flags: flag::LAST });
    connection.sequence += 1;
    writer.finish(context);
    Some(())
}

/// `SSL_free`. An object that was never seen costs one look-up.
#[inline(always)]
pub(crate) fn freed(context: &ProbeContext) -> Option<()> {
    ended(context, context.arg(0)?)
}

/// `SSL_new` has returned: whatever lay at this address before is over. For libraries whose `SSL_free` is not known.
#[inline(always)]
pub(crate) fn made(context: &RetProbeContext) -> Option<()> {
    ended(context, context.ret())
}

#[inline(always)]
fn ended(context: &impl EbpfContext, ssl: u64) -> Option<()> {
    let key = ConnectionKey { ssl: user_memory::untagged(ssl), tgid: thread() >> 32 };
    let connection = CONNECTIONS.get_ptr_mut(key)?;
    // SAFETY: a map value that lives as long as the program runs.
    let skipped = unsafe { (*connection).skipped };
    if let Some(mut writer) = start(kind::TLS_FREE, key.ssl, connection, skipped) {
        // SAFETY: a map value.
        let sequence = unsafe { (*connection).sequence };
        writer.submit(context, &Piece { len: 0, offset: 0, sequence, flags: flag::LAST });
        writer.finish(context);
    }
    CONNECTIONS.remove(key).ok()
}

/// A record of this connection.
#[inline(always)]
fn start(record: u16, ssl: u64, connection: *mut Connection, total: u64) -> Option<Writer> {
    // SAFETY: a map value that lives as long as the program runs.
    let (born, sent) = unsafe { ((*connection).born, (*connection).sent) };
    Writer::start(record, ssl, born, sent, total)
}

/// The connection of an `SSL*`, new when it was not known.
#[inline(always)]
fn connection(ssl: u64, thread: u64) -> Option<*mut Connection> {
    let key = ConnectionKey { ssl, tgid: thread >> 32 };
    let known = CONNECTIONS.get_ptr_mut(key);
    // SAFETY: a map value that lives as long as the program runs. One that is older than the process is another's.
    if known.is_some_and(|known| unsafe { (*known).born } >= since(thread)) {
        return known;
    }
    let zero = opaque_zero();
    // SAFETY: a helper call without arguments.
    let born = unsafe { bpf_ktime_get_ns() };
    let bucket = Bucket { left: zero, filled: zero };
    let new =
        Connection { born, sequence: zero, sent: zero, skipped: zero, bucket, socket: zero, guesses: zero };
    if CONNECTIONS.insert(key, new, 0).is_err() {
        cold_path();
        return None;
    }
    CONNECTIONS.get_ptr_mut(key)
}

/// 0 that the compiler knows nothing of: two zeros side by side become a call of `memset`, and 4.14 has no calls.
#[inline(always)]
pub(crate) fn opaque_zero() -> u64 {
    let zero;
    // SAFETY: sets one register.
    unsafe { asm!("{0} = 0", out(reg) zero, options(pure, nomem, nostack)) };
    zero
}

/// `value`, of which the compiler knows nothing: numbers chosen one by one would become a table, and 4.14 has no place
/// for one.
#[inline(always)]
pub(crate) fn opaque(value: u32) -> u32 {
    let mut value = u64::from(value);
    // SAFETY: changes nothing.
    unsafe { asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack)) };
    value as u32
}

#[inline(always)]
pub(crate) fn thread() -> u64 {
    // SAFETY: a helper call without arguments.
    unsafe { bpf_get_current_pid_tgid() }
}

/// Where the call's frame lies: the stack pointer as the caller has it after the return.
#[inline(always)]
pub(crate) fn frame(registers: *mut pt_regs, at_entry: bool) -> u64 {
    #[cfg(bpf_target_arch = "x86_64")]
    // SAFETY: `registers` is the program's context, which the verifier knows. The return address is still on the
    // stack at entry and has been popped at return.
    unsafe {
        (*registers).rsp.wrapping_add(if at_entry { 8 } else { 0 })
    }
    #[cfg(bpf_target_arch = "aarch64")]
    {
        let _ = at_entry;
        // SAFETY: as above; the return address is in a register, so both are the same.
        unsafe { (*registers).sp }
    }
}

/// The address of the instruction that a uprobe sits on.
#[inline(always)]
fn instruction(registers: *mut pt_regs) -> u64 {
    #[cfg(bpf_target_arch = "x86_64")]
    // SAFETY: `registers` is the program's context, which the verifier knows.
    unsafe {
        (*registers).rip
    }
    #[cfg(bpf_target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        (*registers).pc
    }
}
