//! The only writer of records: fills a header, numbers the attempt on its CPU, submits, rings the doorbell.

use core::{
    ptr::{addr_of_mut, read_volatile, write_volatile},
    slice,
};

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_ktime_get_ns},
};
use telltale_abi::{ABI_VERSION, Counters, Doorbell, HEADER_LEN, Header, MAX_PIECE, kind};

use crate::{COUNTERS, DOORBELL, POLICY, RECORDS, SCRATCH, user_memory::bounded};

/// Where a record is put together. Only the bytes used are ever touched.
#[repr(C)]
pub(crate) struct Scratch {
    /// The thread that is using it, as `bpf_get_current_pid_tgid` has it; 0 when free.
    owner: u64,
    header: Header,
    bytes: [u8; MAX_PIECE],
}

/// One piece's own fields.
pub(crate) struct Piece {
    /// Bytes that lie in the scratch buffer, up to [`MAX_PIECE`].
    pub(crate) len: u64,
    /// See [`Header::offset`].
    pub(crate) offset: u64,
    /// See [`Header::sequence`].
    pub(crate) sequence: u64,
    /// See [`Header::flags`].
    pub(crate) flags: u32,
}

/// A record being written. Ends with [`Writer::finish`].
pub(crate) struct Writer {
    scratch: *mut Scratch,
    counters: *mut Counters,
    owner: u64,
}

impl Writer {
    /// Takes a scratch buffer and fills what is the same in all pieces of one send, of a connection first seen at `born`
    /// that has `sent` so many bytes.
    ///
    /// Up to 4.14 a program runs with preemption off. Newer kernels may preempt a uprobe program half-way and run
    /// another on the same CPU: hence an owner mark, a second buffer, and a look at the mark before submitting.
    /// When both are taken the attempt is counted, which makes it a loss the daemon sees.
    #[inline(always)]
    pub(crate) fn start(record: u16, object: u64, born: u64, sent: u64, total: u64) -> Option<Self> {
        let counters = COUNTERS.get_ptr_mut(0)?;
        let mut scratch = SCRATCH.get_ptr_mut(0)?;
        // SAFETY: a map value lives as long as the program runs; volatile because another program may interrupt.
        if unsafe { read_volatile(addr_of_mut!((*scratch).owner)) } != 0 {
            scratch = SCRATCH.get_ptr_mut(1)?;
            // SAFETY: as above.
            if unsafe { read_volatile(addr_of_mut!((*scratch).owner)) } != 0 {
                // SAFETY: as above; this CPU's own counter.
                unsafe { (*counters).attempts += 1 };
                return None;
            }
        }
        // SAFETY: plain helper calls without arguments.
        let (owner, uid) = unsafe { (bpf_get_current_pid_tgid(), bpf_get_current_uid_gid() as u32) };
        // SAFETY: the buffer is ours from the mark on; every field is inside the map value.
        unsafe {
            write_volatile(addr_of_mut!((*scratch).owner), owner);
            let header = addr_of_mut!((*scratch).header);
            (*header).version = ABI_VERSION;
            (*header).kind = record;
            (*header).tgid = (owner >> 32) as u32;
            (*header).tid = owner as u32;
            (*header).uid = uid;
            (*header).object = object;
            (*header).born = born;
            (*header).start = sent;
            (*header).total = total;
        }
        Some(Writer { scratch, counters, owner })
    }

    /// Where the piece's bytes belong: room for [`MAX_PIECE`].
    #[inline(always)]
    pub(crate) fn bytes(&self) -> *mut u8 {
        // SAFETY: takes an address inside the map value, reads nothing.
        unsafe { addr_of_mut!((*self.scratch).bytes).cast() }
    }

    /// Submits the header and `piece.len` bytes (0 allowed).
    #[inline(always)]
    pub(crate) fn submit(&mut self, context: &impl EbpfContext, piece: &Piece) {
        // SAFETY: fields of map values that live as long as the program runs; the buffer is marked as ours.
        let intact = unsafe {
            (*self.counters).attempts += 1;
            let header = addr_of_mut!((*self.scratch).header);
            (*header).attempt = (*self.counters).attempts;
            (*header).ktime = bpf_ktime_get_ns();
            (*header).len = piece.len as u32;
            (*header).flags = piece.flags;
            (*header).sequence = piece.sequence;
            (*header).offset = piece.offset;
            read_volatile(addr_of_mut!((*self.scratch).owner)) == self.owner
        };
        if !intact {
            return;
        }
        let len = if piece.len == 0 { HEADER_LEN } else { HEADER_LEN + bounded(piece.len) as usize };
        // SAFETY: header and bytes lie one behind the other in one map value, and `len` is bounded by both.
        let record = unsafe { slice::from_raw_parts(addr_of_mut!((*self.scratch).header).cast::<u8>(), len) };
        RECORDS.output(context, record, 0);
    }

    /// Gives the buffer back and wakes the daemon if it sleeps.
    #[inline(always)]
    pub(crate) fn finish(self, context: &impl EbpfContext) {
        // SAFETY: our own mark in a map value.
        unsafe {
            if read_volatile(addr_of_mut!((*self.scratch).owner)) == self.owner {
                write_volatile(addr_of_mut!((*self.scratch).owner), 0);
            }
        }
        let Some(policy) = POLICY.get_ptr_mut(0) else { return };
        // SAFETY: a map value that the daemon writes as whole words.
        if unsafe { read_volatile(addr_of_mut!((*policy).asleep)) } == 0 {
            return;
        }
        // SAFETY: as above. Two CPUs may both see 1; a second ring costs a wake-up and nothing else.
        unsafe {
            write_volatile(addr_of_mut!((*policy).asleep), 0);
            (*self.counters).doorbells += 1;
        }
        let bell = Doorbell { version: ABI_VERSION, kind: kind::DOORBELL, len: 0 };
        // SAFETY: `Doorbell` has no padding, so all of its bytes are initialised.
        let record = unsafe { slice::from_raw_parts((&raw const bell).cast::<u8>(), size_of::<Doorbell>()) };
        DOORBELL.output(context, record, 0);
    }
}
