//! Programs that hand on the bytes of a send: [`returned`](crate::send::returned) has seen to everything else and ends in one
//! of them. A `sendmmsg` goes through its program once for each message.

use core::{
    hint::cold_path,
    ptr::{read_volatile, write_volatile},
};

use aya_ebpf::programs::TracePointContext;
use telltale_abi::{Descriptor, MAX_PIECE, flag, kind};

use crate::{
    CALLS_IN_FLIGHT, DESCRIPTORS, SENDERS,
    calls::{SENDMMSG, SENDMSG, SENDTO},
    descriptors::key,
    emit::{Piece, Writer},
    send::{InFlight, peer, pointer, result_of, sender, smaller, start},
    tls::{opaque_zero, thread},
    user_memory,
};

/// Bytes of a `struct mmsghdr`, in which the message's length is the last word: include/linux/socket.h.
const fn message_len(by_32_bit: bool) -> u64 {
    if by_32_bit { 32 } else { 64 }
}

/// Where in a `struct mmsghdr` the kernel says how much of the message was sent: behind its `struct msghdr`.
const fn sent_at(by_32_bit: bool) -> u64 {
    if by_32_bit { 28 } else { 56 }
}

/// The call that has returned, and what is known of its socket.
#[inline(always)]
fn under_way() -> Option<(*mut InFlight, *mut Descriptor)> {
    let thread = thread();
    let call = CALLS_IN_FLIGHT.get_ptr_mut(thread)?;
    // SAFETY: a map value that lives as long as the program runs.
    let fd = unsafe { (*call).args[FD] };
    Some((call, DESCRIPTORS.get_ptr_mut(key(thread, fd))?))
}

/// `write` and `sendto`.
#[inline(always)]
pub(crate) fn buffer(context: &TracePointContext) -> Option<()> {
    let (known, descriptor) = under_way()?;
    // SAFETY: a map value that lives as long as the program runs.
    let call = unsafe { &mut *known };
    if call.call() == SENDTO && call.args[4] != 0 {
        peer(context, descriptor, call.args[FD], call.args[4], call.args[5]);
    }
    let mut taking = Taking(known);
    taking.set(BUFFER, call.args[1]);
    taking.set(OFFSET, opaque_zero());
    taking.set(TOTAL, result_of(context) as u64);
    // SAFETY: as above.
    let state = unsafe { &mut *descriptor };
    let mut writer = start(state, kind::SOCKET_SEND, taking.get(FD), taking.get(TOTAL))?;
    let _ = taking.stretch(context, state, &mut writer, false)
        && taking.stretch(context, state, &mut writer, false)
        && taking.stretch(context, state, &mut writer, false)
        && taking.stretch(context, state, &mut writer, false)
        && taking.stretch(context, state, &mut writer, false)
        && taking.stretch(context, state, &mut writer, false)
        && taking.stretch(context, state, &mut writer, false)
        && taking.stretch(context, state, &mut writer, true);
    state.sent += taking.get(TOTAL);
    writer.finish(context);
    Some(())
}

/// `writev`, `sendmsg`, and a message of a `sendmmsg`.
#[inline(always)]
pub(crate) fn vector(context: &TracePointContext, by_32_bit: bool) -> Option<()> {
    let (known, descriptor) = under_way()?;
    // SAFETY: a map value that lives as long as the program runs.
    let call = unsafe { &mut *known };
    let made = call.call();
    let result = result_of(context) as u64;
    let mut total = result;
    let (mut at, mut count) = (call.args[1], call.args[2]);
    let header = call.message;
    let mut whole = true;
    if made == SENDMSG || made == SENDMMSG {
        // `struct msghdr`: name, its length, vector, its length, each as long as a pointer.
        let word = if by_32_bit { 4 } else { 8 };
        let name = pointer(header, by_32_bit)?;
        if name != 0 {
            let len = pointer(header + word, by_32_bit)? & 0xffff_ffff;
            peer(context, descriptor, call.args[FD], name, len);
        }
        at = pointer(header + 2 * word, by_32_bit)?;
        count = pointer(header + 3 * word, by_32_bit)?;
        if made == SENDMMSG {
            total = pointer(header + sent_at(by_32_bit), true)?;
            whole = false;
            // Arguments are slots from now on: what the next message needs lies beside them.
            call.message = header + message_len(by_32_bit);
            call.messages -= 1;
        }
    }
    let mut taking = Taking(known);
    taking.set(VECTOR, user_memory::untagged(at));
    taking.set(LEFT, count);
    taking.set(OFFSET, opaque_zero());
    taking.set(TOTAL, total);
    // SAFETY: as above.
    let state = unsafe { &mut *descriptor };
    if total != 0
        && let Some(mut writer) = start(state, kind::SOCKET_SEND, taking.get(FD), total)
    {
        let _ = taking.element(context, state, &mut writer, by_32_bit, false)
            && taking.element(context, state, &mut writer, by_32_bit, false)
            && taking.element(context, state, &mut writer, by_32_bit, false)
            && taking.element(context, state, &mut writer, by_32_bit, false)
            && taking.element(context, state, &mut writer, by_32_bit, false)
            && taking.element(context, state, &mut writer, by_32_bit, false)
            && taking.element(context, state, &mut writer, by_32_bit, false)
            && taking.element(context, state, &mut writer, by_32_bit, true);
        state.sent += taking.get(TOTAL);
        writer.finish(context);
    }
    // SAFETY: as above.
    let left = unsafe { read_volatile(&raw const (*known).messages) };
    if !whole && left != 0 {
        let next = if result - left >= TAKEN {
            sender::COUNT
        } else if by_32_bit {
            sender::VECTOR_32_BIT
        } else {
            sender::VECTOR
        };
        // SAFETY: the loader fills the table with programs of this kind. The kernel goes on so 32 times at the most.
        unsafe { SENDERS.tail_call(context, next) };
    }
    Some(())
}

/// A `sendmmsg` of which nothing is taken, or nothing more: up to 16 messages in one go.
#[inline(always)]
pub(crate) fn count(context: &TracePointContext) -> Option<()> {
    let (known, descriptor) = under_way()?;
    // SAFETY: map values that live as long as the program runs.
    let (call, state) = unsafe { (&mut *known, &mut *descriptor) };
    let by_32_bit = call.is_32_bit();
    let mut one = || {
        if call.messages == 0 {
            cold_path();
            return false;
        }
        call.messages -= 1;
        let Some(sent) = pointer(call.message + sent_at(by_32_bit), true) else {
            cold_path();
            return false;
        };
        call.message += message_len(by_32_bit);
        state.sent += sent;
        state.skipped += sent;
        true
    };
    let more = one() && one() && one() && one() && one() && one() && one() && one();
    let more = more && one() && one() && one() && one() && one() && one() && one() && one();
    if more && call.messages != 0 {
        // SAFETY: as above.
        unsafe { SENDERS.tail_call(context, sender::COUNT) };
    }
    Some(())
}

/// Messages taken of one `sendmmsg`; what comes after them is counted. One go each, of 32: those left suffice for 170 more messages.
const TAKEN: u64 = 20;

/// A send being handed on. Its numbers lie in the map, not in registers: the verifier forgets them from step to step,
/// so that all ways through a step are one way for the next.
struct Taking(*mut InFlight);

const FD: usize = 0;
/// The one buffer.
const BUFFER: usize = 1;
/// `struct iovec *`, moved on with each step.
const VECTOR: usize = 2;
/// Elements left in it.
const LEFT: usize = 3;
/// Bytes handed on.
const OFFSET: usize = 4;
/// Bytes of the send.
const TOTAL: usize = 5;

impl Taking {
    #[inline(always)]
    fn get(&self, slot: usize) -> u64 {
        // SAFETY: one of the slots of a map value that lives as long as the program runs.
        unsafe { read_volatile((&raw const (*self.0).args).cast::<u64>().add(slot)) }
    }

    #[inline(always)]
    fn set(&mut self, slot: usize, value: u64) {
        // SAFETY: as above.
        unsafe { write_volatile((&raw mut (*self.0).args).cast::<u64>().add(slot), value) };
    }

    /// Hands on the next stretch of one buffer; false when there is no further one.
    #[inline(always)]
    fn stretch(
        &mut self,
        context: &TracePointContext,
        state: &mut Descriptor,
        writer: &mut Writer,
        end: bool,
    ) -> bool {
        let offset = self.get(OFFSET);
        let len = smaller(self.get(TOTAL) - offset, MAX_PIECE as u64);
        self.hand_on(context, state, writer, self.get(BUFFER) + offset, len, end)
    }

    /// Hands on the next element of a vector; false when there is no further one.
    #[inline(always)]
    fn element(
        &mut self,
        context: &TracePointContext,
        state: &mut Descriptor,
        writer: &mut Writer,
        by_32_bit: bool,
        end: bool,
    ) -> bool {
        let (left, at) = (self.get(LEFT), self.get(VECTOR));
        if left == 0 {
            cold_path();
            return false;
        }
        let word = if by_32_bit { 4 } else { 8 };
        self.set(LEFT, left - 1);
        self.set(VECTOR, at + 2 * word);
        let (Some(base), Some(len)) = (pointer(at, by_32_bit), pointer(at + word, by_32_bit)) else {
            cold_path();
            return false;
        };
        let len = smaller(len, self.get(TOTAL) - self.get(OFFSET));
        // An empty element is no piece.
        len == 0 || self.hand_on(context, state, writer, base, len, end)
    }

    /// Hands on one piece of at most [`MAX_PIECE`] bytes; false when it was the last.
    #[inline(always)]
    fn hand_on(
        &mut self,
        context: &TracePointContext,
        state: &mut Descriptor,
        writer: &mut Writer,
        from: u64,
        len: u64,
        end: bool,
    ) -> bool {
        let offset = self.get(OFFSET);
        self.set(OFFSET, offset + len);
        let last = if end || offset + len >= self.get(TOTAL) { flag::LAST } else { 0 };
        let len = smaller(len, MAX_PIECE as u64);
        // SAFETY: `bytes` has room for MAX_PIECE.
        let readable =
            len != 0 && unsafe { user_memory::read(writer.bytes(), user_memory::untagged(from), len) };
        let (len, flags) = if readable { (len, last) } else { (0, last | flag::UNREADABLE) };
        writer.submit(context, &Piece { len, offset, sequence: state.sequence, flags });
        state.sequence += 1;
        last == 0
    }
}
