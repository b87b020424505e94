//! Reads records out of a perf ring: wrap-around, record headers, and giving the room back to the kernel.
#![forbid(unsafe_code)]

use std::{io, os::fd::BorrowedFd};

use zeroize::Zeroize as _;

use super::sys::{CLOCK_MONOTONIC, PerfAttr, RingMemory, attr_flag, perf, perf_enable, perf_event_open};

/// Bytes of `struct perf_event_header`.
const RECORD_HEADER: usize = 8;

/// One CPU's ring.
#[derive(Debug)]
pub(super) struct Ring {
    memory: RingMemory,
    /// Where a record that wraps around is put together.
    joined: Vec<u8>,
    /// The most bytes that ever waited in it.
    fullest: u64,
}

impl Ring {
    /// A ring that eBPF programs write to on `cpu` and that never wakes anybody.
    pub(super) fn silent(cpu: u32, pages: usize) -> io::Result<Ring> {
        // The kernel caps the watermark at the ring's size, so at worst it wakes nobody once per lap.
        Self::open(cpu, pages, PerfAttr { flags: attr_flag::WATERMARK, wakeup: u32::MAX, ..output() })
    }

    /// A ring that wakes with every record.
    pub(super) fn waking(cpu: u32) -> io::Result<Ring> {
        Self::open(cpu, 1, PerfAttr { wakeup: 1, ..output() })
    }

    /// A ring of PERF_RECORD_MMAP2, one for each executable mapping made on `cpu`.
    pub(super) fn mappings(cpu: u32, pages: usize) -> io::Result<Ring> {
        // Records that are no samples wake by watermark alone.
        let attr = PerfAttr {
            kind: perf::TYPE_SOFTWARE,
            config: perf::COUNT_SW_DUMMY,
            flags: attr_flag::MMAP | attr_flag::MMAP2 | attr_flag::WATERMARK,
            wakeup: 1,
            ..PerfAttr::default()
        };
        Self::open(cpu, pages, attr)
    }

    /// A ring that other events on `cpu` are directed to, and that never wakes anybody.
    pub(super) fn collecting(cpu: u32, pages: usize) -> io::Result<Ring> {
        let attr = PerfAttr {
            kind: perf::TYPE_SOFTWARE,
            config: perf::COUNT_SW_DUMMY,
            // Events may only be directed to a ring of the same clock.
            flags: attr_flag::WATERMARK | attr_flag::USE_CLOCKID,
            clockid: CLOCK_MONOTONIC,
            wakeup: u32::MAX,
            ..PerfAttr::default()
        };
        Self::open(cpu, pages, attr)
    }

    fn open(cpu: u32, pages: usize, attr: PerfAttr) -> io::Result<Ring> {
        let event = perf_event_open(&PerfAttr { flags: attr.flags | attr_flag::DISABLED, ..attr }, cpu)?;
        let memory = RingMemory::map(event, pages)?;
        perf_enable(memory.event())?;
        Ok(Ring { memory, joined: Vec::new(), fullest: 0 })
    }

    /// The descriptor to hand to a BPF map or to wait on.
    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.memory.event()
    }

    /// Hands every record that is there now to `sink` (type, body behind the header), and returns how many.
    pub(super) fn drain(&mut self, mut sink: impl FnMut(u32, &[u8])) -> u64 {
        let head = self.memory.head();
        let mut at = self.memory.tail();
        self.fullest = self.fullest.max(head.saturating_sub(at));
        let mut records = 0u64;
        while at < head {
            let Some((kind, size)) = self.header(at) else { break };
            if size < RECORD_HEADER || size as u64 > head - at {
                break;
            }
            let Some((first, rest)) = self.memory.written(at, size) else { break };
            let record = if rest.is_empty() {
                first
            } else {
                self.joined.clear();
                self.joined.extend_from_slice(first);
                self.joined.extend_from_slice(rest);
                &self.joined
            };
            sink(kind, record.get(RECORD_HEADER..).unwrap_or_default());
            // What an app encrypts may be none of our business. (The ring itself can only be read.)
            self.joined.zeroize();
            records = records.saturating_add(1);
            at = at.saturating_add(size as u64);
            // Record by record, so that a writer in a hurry finds room as early as possible.
            self.memory.release(at);
        }
        // Only reached early on a ring that makes no sense; start afresh rather than read on in the middle.
        self.memory.release(head);
        records
    }

    /// Bytes it holds, and the most that ever waited in it.
    pub(super) fn fill(&self) -> (u64, u64) {
        (self.memory.size(), self.fullest)
    }

    /// Type and size of the record at `at`. The header itself never wraps: records are multiples of 8.
    fn header(&self, at: u64) -> Option<(u32, usize)> {
        let (header, _) = self.memory.written(at, RECORD_HEADER)?;
        let kind = u32::from_ne_bytes(*header.first_chunk()?);
        let size = u16::from_ne_bytes(*header.last_chunk()?);
        Some((kind, usize::from(size)))
    }
}

/// The software event that `bpf_perf_event_output` writes to.
fn output() -> PerfAttr {
    PerfAttr {
        kind: perf::TYPE_SOFTWARE,
        config: perf::COUNT_SW_BPF_OUTPUT,
        sample_type: perf::SAMPLE_RAW,
        sample_period: 1,
        ..PerfAttr::default()
    }
}

/// What a program submitted, out of the body of a PERF_RECORD_SAMPLE with PERF_SAMPLE_RAW: a `u32` length, then that
/// many bytes (with perf's padding).
pub(super) fn raw_sample(body: &[u8]) -> Option<&[u8]> {
    let (len, bytes) = body.split_first_chunk::<4>()?;
    bytes.get(..u32::from_ne_bytes(*len) as usize)
}
