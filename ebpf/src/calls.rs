//! System calls by number: which are looked at, and what a 32-bit task's numbers mean in 64-bit ones.
//!
//! `raw_syscalls` runs for every call of every process, so the first thing is to leave: a number that means nothing here,
//! in either table, costs a load, a few comparisons and a shift.

/// Numbers as bits.
type Set = [u64; 7];

const fn set(lists: &[&[u32]]) -> Set {
    let mut set = [0; 7];
    let mut list = 0;
    while list < lists.len() {
        let mut at = 0;
        while at < lists[list].len() {
            let number = lists[list][at];
            set[number as usize / 64] |= 1 << (number % 64);
            at += 1;
        }
        list += 1;
    }
    set
}

/// Whether `$number` is in one of the lists: comparisons and a shift, because 4.14 has no place for a table.
macro_rules! is_among {
    ($number:expr; $($list:expr),*) => {{
        const SET: Set = set(&[$($list),*]);
        let number: u32 = $number;
        let word = if number < 128 {
            if number < 64 { const { SET[0] } } else { const { SET[1] } }
        } else if number < 256 {
            if number < 192 { const { SET[2] } } else { const { SET[3] } }
        } else if number < 384 {
            if number < 320 { const { SET[4] } } else { const { SET[5] } }
        } else if number < 448 {
            const { SET[6] }
        } else {
            0
        };
        word >> (number & 63) & 1 != 0
    }};
}

/// `arch/x86/entry/syscalls/syscall_64.tbl`.
#[cfg(bpf_target_arch = "x86_64")]
mod native {
    pub(crate) const WRITE: u32 = 1;
    pub(crate) const CLOSE: u32 = 3;
    pub(crate) const WRITEV: u32 = 20;
    pub(crate) const DUP: u32 = 32;
    pub(crate) const DUP2: u32 = 33;
    pub(crate) const SENDFILE: u32 = 40;
    pub(crate) const SOCKET: u32 = 41;
    pub(crate) const CONNECT: u32 = 42;
    pub(crate) const ACCEPT: u32 = 43;
    pub(crate) const SENDTO: u32 = 44;
    pub(crate) const SENDMSG: u32 = 46;
    pub(crate) const CLONE: u32 = 56;
    pub(crate) const FORK: u32 = 57;
    pub(crate) const VFORK: u32 = 58;
    pub(crate) const EXECVE: u32 = 59;
    pub(crate) const FCNTL: u32 = 72;
    pub(crate) const SPLICE: u32 = 275;
    pub(crate) const ACCEPT4: u32 = 288;
    pub(crate) const DUP3: u32 = 292;
    pub(crate) const SENDMMSG: u32 = 307;
    pub(crate) const OPENAT: u32 = 257;
    pub(crate) const EXECVEAT: u32 = 322;
}

/// `include/uapi/asm-generic/unistd.h`. What that lacks has the number of the call that does the same.
#[cfg(bpf_target_arch = "aarch64")]
mod native {
    pub(crate) const DUP: u32 = 23;
    pub(crate) const DUP3: u32 = 24;
    pub(crate) const DUP2: u32 = DUP3;
    pub(crate) const FCNTL: u32 = 25;
    pub(crate) const OPENAT: u32 = 56;
    pub(crate) const CLOSE: u32 = 57;
    pub(crate) const WRITE: u32 = 64;
    pub(crate) const WRITEV: u32 = 66;
    pub(crate) const SENDFILE: u32 = 71;
    pub(crate) const SPLICE: u32 = 76;
    pub(crate) const SOCKET: u32 = 198;
    pub(crate) const ACCEPT: u32 = 202;
    pub(crate) const CONNECT: u32 = 203;
    pub(crate) const SENDTO: u32 = 206;
    pub(crate) const SENDMSG: u32 = 211;
    pub(crate) const CLONE: u32 = 220;
    pub(crate) const FORK: u32 = CLONE;
    pub(crate) const VFORK: u32 = CLONE;
    pub(crate) const EXECVE: u32 = 221;
    pub(crate) const ACCEPT4: u32 = 242;
    pub(crate) const SENDMMSG: u32 = 269;
    pub(crate) const EXECVEAT: u32 = 281;
}

pub(crate) use native::*;

/// The same everywhere.
pub(crate) const CLONE3: u32 = 435;
pub(crate) const CLOSE_RANGE: u32 = 436;
/// i386's way to all socket calls in one; a number that no task can use.
pub(crate) const SOCKETCALL: u32 = 1 << 20;
/// `sendto` without an address, which only 32-bit tasks have as a call of its own; likewise.
pub(crate) const SEND: u32 = 1 << 21;

/// `arch/x86/entry/syscalls/syscall_32.tbl`.
#[cfg(bpf_target_arch = "x86_64")]
mod compat {
    pub(super) const FORK: u32 = 2;
    pub(super) const WRITE: u32 = 4;
    pub(super) const CLOSE: u32 = 6;
    pub(super) const EXECVE: u32 = 11;
    pub(super) const DUP: u32 = 41;
    pub(super) const FCNTL: u32 = 55;
    pub(super) const DUP2: u32 = 63;
    pub(super) const SOCKETCALL: u32 = 102;
    pub(super) const CLONE: u32 = 120;
    pub(super) const WRITEV: u32 = 146;
    pub(super) const SENDFILE: u32 = 187;
    pub(super) const VFORK: u32 = 190;
    pub(super) const FCNTL64: u32 = 221;
    pub(super) const SENDFILE64: u32 = 239;
    pub(super) const OPENAT: u32 = 295;
    pub(super) const SPLICE: u32 = 313;
    pub(super) const DUP3: u32 = 330;
    pub(super) const SENDMMSG: u32 = 345;
    pub(super) const EXECVEAT: u32 = 358;
    pub(super) const SOCKET: u32 = 359;
    pub(super) const CONNECT: u32 = 362;
    pub(super) const ACCEPT4: u32 = 364;
    /// i386 has no `accept` beside `socketcall`.
    pub(super) const ACCEPT: u32 = ACCEPT4;
    pub(super) const SENDTO: u32 = 369;
    /// Nor `send`.
    pub(super) const SEND: u32 = SENDTO;
    pub(super) const SENDMSG: u32 = 370;
}

/// `arch/arm/tools/syscall.tbl`, which `arch/arm64` serves to 32-bit tasks.
#[cfg(bpf_target_arch = "aarch64")]
mod compat {
    pub(super) const FORK: u32 = 2;
    pub(super) const WRITE: u32 = 4;
    pub(super) const CLOSE: u32 = 6;
    pub(super) const EXECVE: u32 = 11;
    pub(super) const DUP: u32 = 41;
    pub(super) const FCNTL: u32 = 55;
    /// `dup2` is 63, which is `read` for 64-bit tasks: too often called to be looked at for what bionic never calls
    /// (its `dup2` is `dup3`).
    pub(super) const DUP2: u32 = DUP3;
    /// There is none.
    pub(super) const SOCKETCALL: u32 = WRITE;
    pub(super) const CLONE: u32 = 120;
    pub(super) const WRITEV: u32 = 146;
    pub(super) const SENDFILE: u32 = 187;
    pub(super) const VFORK: u32 = 190;
    pub(super) const FCNTL64: u32 = 221;
    pub(super) const SENDFILE64: u32 = 239;
    pub(super) const SOCKET: u32 = 281;
    pub(super) const CONNECT: u32 = 283;
    pub(super) const ACCEPT: u32 = 285;
    pub(super) const SEND: u32 = 289;
    pub(super) const SENDTO: u32 = 290;
    pub(super) const SENDMSG: u32 = 296;
    pub(super) const OPENAT: u32 = 322;
    pub(super) const SPLICE: u32 = 340;
    pub(super) const DUP3: u32 = 358;
    pub(super) const ACCEPT4: u32 = 366;
    pub(super) const SENDMMSG: u32 = 374;
    pub(super) const EXECVEAT: u32 = 387;
}

/// Looked at when they begin and when they return.
const BOTH_ENDS: &[u32] = &[
    WRITE, WRITEV, SENDFILE, SPLICE, SOCKET, CONNECT, ACCEPT, ACCEPT4, SENDTO, SENDMSG, SENDMMSG, DUP, DUP2,
    DUP3, FCNTL,
];
const BOTH_ENDS_IN_32_BIT: &[u32] = &[
    compat::WRITE,
    compat::WRITEV,
    compat::SENDFILE,
    compat::SENDFILE64,
    compat::SPLICE,
    compat::SOCKET,
    compat::CONNECT,
    compat::ACCEPT,
    compat::ACCEPT4,
    compat::SEND,
    compat::SENDTO,
    compat::SENDMSG,
    compat::SENDMMSG,
    compat::DUP,
    compat::DUP2,
    compat::DUP3,
    compat::FCNTL,
    compat::FCNTL64,
    compat::SOCKETCALL,
];
/// Looked at when they begin: afterwards descriptors stand for nothing any more.
const CLOSING: &[u32] = &[CLOSE, CLOSE_RANGE, EXECVE, EXECVEAT];
const CLOSING_IN_32_BIT: &[u32] = &[compat::CLOSE, CLOSE_RANGE, compat::EXECVE, compat::EXECVEAT];
/// Looked at when it returns: what was opened is no socket. (Both C libraries call nothing else for it.)
const OPENING: &[u32] = &[OPENAT, compat::OPENAT];
/// Looked at when they return: there may be a new process.
const FORKING: &[u32] = &[CLONE, CLONE3, FORK, VFORK];
const FORKING_IN_32_BIT: &[u32] = &[compat::CLONE, CLONE3, compat::FORK, compat::VFORK];

/// Whether a 64-bit task's call is looked at when it begins.
#[inline(always)]
pub(crate) fn begins(number: u32) -> bool {
    is_among!(number; BOTH_ENDS, CLOSING)
}

/// Whether a 32-bit task's call is looked at when it begins.
#[inline(always)]
pub(crate) fn begins_in_32_bit(number: u32) -> bool {
    is_among!(number; BOTH_ENDS_IN_32_BIT, CLOSING_IN_32_BIT)
}

/// Whether any task's call is looked at when it begins.
#[inline(always)]
pub(crate) fn begins_in_any(number: u32) -> bool {
    is_among!(number; BOTH_ENDS, CLOSING, BOTH_ENDS_IN_32_BIT, CLOSING_IN_32_BIT)
}

/// Whether any task's call is looked at when it returns.
#[inline(always)]
pub(crate) fn returns(number: u32) -> bool {
    is_among!(number; BOTH_ENDS, FORKING, BOTH_ENDS_IN_32_BIT, FORKING_IN_32_BIT, OPENING)
}

/// Whether a call that has returned may have made a process, in a 64-bit task.
#[inline(always)]
pub(crate) fn is_fork(number: u32) -> bool {
    number == CLONE || number == CLONE3 || number == FORK || number == VFORK
}

/// The same in a 32-bit task.
#[inline(always)]
pub(crate) fn is_fork_in_32_bit(number: u32) -> bool {
    number == compat::CLONE || number == CLONE3 || number == compat::FORK || number == compat::VFORK
}

/// Whether a call that has returned has opened a file, if its task is of the right kind: `Some` of whether that is 32-bit.
#[inline(always)]
pub(crate) fn is_open(number: u32) -> Option<bool> {
    if number == OPENAT {
        Some(false)
    } else if number == compat::OPENAT {
        Some(true)
    } else {
        None
    }
}

/// What a 32-bit task's call is called in a 64-bit one; [`SOCKETCALL`] for that, 0 for what is not looked at.
#[inline(always)]
pub(crate) fn from_32_bit(number: u32) -> u32 {
    // One comparison after the other, through a register the compiler cannot see into: it would make a table of it.
    let mut found = 0;
    let mut is = |compat: u32, native: u32| {
        if number == compat {
            found = crate::tls::opaque(native);
        }
    };
    if cfg!(bpf_target_arch = "x86_64") {
        is(compat::SOCKETCALL, SOCKETCALL);
    }
    is(compat::WRITE, WRITE);
    is(compat::CLOSE, CLOSE);
    is(compat::WRITEV, WRITEV);
    is(compat::SENDFILE, SENDFILE);
    is(compat::SENDFILE64, SENDFILE);
    is(compat::SPLICE, SPLICE);
    is(compat::SOCKET, SOCKET);
    is(compat::CONNECT, CONNECT);
    is(compat::ACCEPT, ACCEPT);
    is(compat::ACCEPT4, ACCEPT4);
    is(compat::SEND, SEND);
    is(compat::SENDTO, SENDTO);
    is(compat::SENDMSG, SENDMSG);
    is(compat::SENDMMSG, SENDMMSG);
    is(compat::DUP, DUP);
    is(compat::DUP2, DUP2);
    is(compat::DUP3, DUP3);
    is(compat::FCNTL, FCNTL);
    is(compat::FCNTL64, FCNTL);
    is(CLOSE_RANGE, CLOSE_RANGE);
    is(compat::EXECVE, EXECVE);
    is(compat::EXECVEAT, EXECVE);
    found
}

/// `SYS_*` of `include/uapi/linux/net.h`: what a `socketcall` of this number is called by itself.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn from_socketcall(call: u64) -> u32 {
    let mut found = 0;
    let mut is = |number: u64, native: u32| {
        if call == number {
            found = crate::tls::opaque(native);
        }
    };
    is(1, SOCKET);
    is(3, CONNECT);
    is(5, ACCEPT);
    is(9, SEND);
    is(11, SENDTO);
    is(16, SENDMSG);
    is(18, ACCEPT4);
    is(20, SENDMMSG);
    found
}
