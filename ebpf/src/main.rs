//! What runs inside the kernel: maps and entry points, nothing else.
//!
//! Written for Linux 4.14: no loops, no calls between programs, no global data, only helpers and maps it has.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![allow(unstable_features)]

mod budget;
mod calls;
mod cipher;
mod descriptors;
mod emit;
mod files;
mod payload;
mod send;
mod tls;
mod under_way;
mod user_memory;

use aya_ebpf::{
    macros::{map, tracepoint, uprobe, uretprobe},
    maps::{Array, LruHashMap, PerCpuArray, PerfEventByteArray, ProgramArray},
    programs::{ProbeContext, RetProbeContext, TracePointContext},
};
use send::Tasks;
use telltale_abi::{Answer, Budget, Connection, Counters, Descriptor, Policy, Process, kind};

/// TLS writes under way.
#[map]
static CALLS: LruHashMap<tls::CallKey, tls::Call> = LruHashMap::with_max_entries(4096, 0);

/// TLS connections seen.
#[map]
static CONNECTIONS: LruHashMap<tls::ConnectionKey, Connection> = LruHashMap::with_max_entries(8192, 0);

/// What each process's descriptors stand for, by `tgid << 32 | fd`.
#[map]
static DESCRIPTORS: LruHashMap<u64, Descriptor> = LruHashMap::with_max_entries(16384, 0);

/// What the daemon has found out of descriptors, by the same key.
#[map]
static ANSWERS: LruHashMap<u64, Answer> = LruHashMap::with_max_entries(4096, 0);

/// Descriptors known to be of no interest, by the end of the process's id.
#[map]
static FILES: Array<files::Line> = Array::with_max_entries(files::LINES, 0);

/// Processes that have begun since the start, by id.
#[map]
static PROCESSES: LruHashMap<u32, Process> = LruHashMap::with_max_entries(4096, 0);

/// Threads that are or were last inside a TLS write.
#[map]
static INSIDE: LruHashMap<u64, tls::Inside> = LruHashMap::with_max_entries(4096, 0);

/// The programs that hand on what a send took.
#[map]
static SENDERS: ProgramArray = ProgramArray::with_max_entries(4, 0);

/// System calls under way, by thread.
#[map]
static CALLS_IN_FLIGHT: LruHashMap<u64, send::InFlight> = LruHashMap::with_max_entries(4096, 0);

/// Which threads these are of, by the end of the thread's id.
#[map]
static UNDER_WAY: Array<u32> = Array::with_max_entries(under_way::PLACES, 0);

/// Ciphers of the processes that are looked into.
#[map]
static CIPHERS: LruHashMap<cipher::CipherKey, cipher::Cipher> = LruHashMap::with_max_entries(2048, 0);

/// Calls of a cipher under way, by thread.
#[map]
static CIPHER_CALLS: LruHashMap<u64, cipher::Call> = LruHashMap::with_max_entries(1024, 0);

/// Where a thread is inside the TLS library, whose own encryption is none of an app's.
#[map]
static TLS_CALLS: LruHashMap<u64, cipher::Mark> = LruHashMap::with_max_entries(1024, 0);

/// Text taken of each process.
#[map]
static CIPHER_BUDGETS: LruHashMap<u64, cipher::Budget> = LruHashMap::with_max_entries(256, 0);

/// Buffers that records are put together in.
#[map]
static SCRATCH: PerCpuArray<emit::Scratch> = PerCpuArray::with_max_entries(2, 0);

/// What was attempted.
#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// How much may be taken.
#[map]
static BUDGET: Array<Budget> = Array::with_max_entries(1, 0);

/// What the daemon wants.
#[map]
static POLICY: Array<Policy> = Array::with_max_entries(1, 0);

/// The data rings. They never wake anybody.
#[map]
static RECORDS: PerfEventByteArray = PerfEventByteArray::new(0);

/// The rings that do.
#[map]
static DOORBELL: PerfEventByteArray = PerfEventByteArray::new(0);

#[uprobe]
fn ssl_write(context: ProbeContext) -> u32 {
    done(tls::write_entered(&context, false, tls::WRITING))
}

/// The same for a function that is not yet proven to be `SSL_write`.
#[uprobe]
fn ssl_write_candidate(context: ProbeContext) -> u32 {
    done(tls::candidate_entered(&context))
}

#[uretprobe]
fn ssl_new_return(context: RetProbeContext) -> u32 {
    done(tls::made(&context))
}

#[uprobe]
fn ssl_write_ex(context: ProbeContext) -> u32 {
    done(tls::write_entered(&context, true, tls::WRITING))
}

#[uretprobe]
fn ssl_write_return(context: RetProbeContext) -> u32 {
    done(tls::write_returned(&context))
}

#[uprobe]
fn ssl_set_host(context: ProbeContext) -> u32 {
    done(context.arg(1).and_then(|name| tls::host_set(&context, name)))
}

#[uprobe]
fn ssl_ctrl(context: ProbeContext) -> u32 {
    done(tls::controlled(&context))
}

#[uprobe]
fn ssl_set_fd(context: ProbeContext) -> u32 {
    done(tls::fd_set(&context, kind::TLS_FD))
}

#[uprobe]
fn ssl_set_rfd(context: ProbeContext) -> u32 {
    done(tls::fd_set(&context, kind::TLS_READ_FD))
}

#[uprobe]
fn ssl_set_wfd(context: ProbeContext) -> u32 {
    done(tls::fd_set(&context, kind::TLS_WRITE_FD))
}

#[uprobe]
fn ssl_free(context: ProbeContext) -> u32 {
    done(tls::freed(&context))
}

#[uprobe]
fn cipher_init(context: ProbeContext) -> u32 {
    done(context.arg(5).and_then(|encrypts| cipher::initialised(&context, encrypts)))
}

#[uprobe]
fn cipher_init_encrypt(context: ProbeContext) -> u32 {
    done(cipher::initialised(&context, 1))
}

#[uprobe]
fn cipher_init_decrypt(context: ProbeContext) -> u32 {
    done(cipher::initialised(&context, 0))
}

#[uprobe]
fn cipher_update(context: ProbeContext) -> u32 {
    done(cipher::updated(&context))
}

#[uprobe]
fn cipher_final(context: ProbeContext) -> u32 {
    done(cipher::ended(&context))
}

#[uprobe]
fn cipher_seal(context: ProbeContext) -> u32 {
    done(cipher::sealed(&context))
}

#[uprobe]
fn cipher_cbc(context: ProbeContext) -> u32 {
    done(cipher::chained(&context))
}

#[uretprobe]
fn cipher_return(context: RetProbeContext) -> u32 {
    done(cipher::returned(&context))
}

#[uprobe]
fn tls_enter(context: ProbeContext) -> u32 {
    done(cipher::tls_entered(&context))
}

#[uretprobe]
fn tls_leave(context: RetProbeContext) -> u32 {
    done(cipher::tls_left(&context))
}

#[tracepoint]
fn sys_enter(context: TracePointContext) -> u32 {
    done(send::entered(&context, Tasks::All, 6))
}

/// For `syscalls:*`, whose records hold as many arguments as the call has: a program that reads beyond is refused.
#[tracepoint]
fn call_with_1(context: TracePointContext) -> u32 {
    done(send::entered(&context, Tasks::Of64Bit, 1))
}

#[tracepoint]
fn call_with_2(context: TracePointContext) -> u32 {
    done(send::entered(&context, Tasks::Of64Bit, 2))
}

#[tracepoint]
fn call_with_3(context: TracePointContext) -> u32 {
    done(send::entered(&context, Tasks::Of64Bit, 3))
}

#[tracepoint]
fn call_with_4(context: TracePointContext) -> u32 {
    done(send::entered(&context, Tasks::Of64Bit, 4))
}

#[tracepoint]
fn call_with_6(context: TracePointContext) -> u32 {
    done(send::entered(&context, Tasks::Of64Bit, 6))
}

/// `raw_syscalls:sys_enter` beside them: `syscalls:*` never fires for a 32-bit task.
#[tracepoint]
fn sys_enter_32_bit(context: TracePointContext) -> u32 {
    done(send::entered(&context, Tasks::Of32Bit, 6))
}

#[tracepoint]
fn sys_exit(context: TracePointContext) -> u32 {
    done(send::returned(&context))
}

#[tracepoint]
fn send_buffer(context: TracePointContext) -> u32 {
    done(payload::buffer(&context))
}

#[tracepoint]
fn send_vector(context: TracePointContext) -> u32 {
    done(payload::vector(&context, false))
}

#[tracepoint]
fn send_vector_32_bit(context: TracePointContext) -> u32 {
    done(payload::vector(&context, true))
}

#[tracepoint]
fn send_count(context: TracePointContext) -> u32 {
    done(payload::count(&context))
}

/// What every program returns: 0, nothing for perf's own ring.
#[inline(always)]
fn done(_: Option<()>) -> u32 {
    0
}

/// The kernel lends its helpers only to programs with a licence it knows.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
