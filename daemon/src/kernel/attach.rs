//! Hangs a program on an instruction of a file in all processes: through perf's uprobe PMU or through tracefs.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use super::{
    error::KernelError,
    sys::{PerfAttr, perf, perf_enable, perf_event_open, perf_set_bpf},
    tracefs::{Entry, Tracefs},
};

/// Which way to a uprobe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachPath {
    /// The perf `uprobe` PMU, Linux 4.17 and later. Leaves nothing behind, whatever happens.
    Perf,
    /// `uprobe_events` in tracefs: every kernel with CONFIG_UPROBE_EVENTS.
    Tracefs,
}

impl AttachPath {
    /// `perf` or `tracefs`.
    pub fn from_name(name: &str) -> Option<AttachPath> {
        match name {
            "perf" => Some(AttachPath::Perf),
            "tracefs" => Some(AttachPath::Tracefs),
            _ => None,
        }
    }

    /// As `--attach` takes it.
    pub fn name(self) -> &'static str {
        match self {
            AttachPath::Perf => "perf",
            AttachPath::Tracefs => "tracefs",
        }
    }
}

/// The way to uprobes that this session takes.
#[derive(Debug)]
pub(super) enum Attacher {
    Perf { pmu: u32, return_bit: u64, cpu: u32 },
    Tracefs { tracefs: Tracefs, cpu: u32 },
}

/// A program on an instruction. Give it back to [`Attacher::detach`].
#[derive(Debug)]
pub(super) struct Hook {
    event: OwnedFd,
    entry: Option<Entry>,
}

const PMU: &str = "/sys/bus/event_source/devices/uprobe";

impl Attacher {
    /// Prepares `wanted`, or perf where the kernel has it and else tracefs. Also deletes what dead telltale processes
    /// have left in tracefs, whichever way is taken.
    pub(super) fn new(wanted: Option<AttachPath>, cpu: u32) -> Result<Attacher, KernelError> {
        let tracefs = Tracefs::find();
        if let Ok(tracefs) = &tracefs {
            let left = tracefs.sweep()?;
            if left > 0 {
                log::info!("removed {left} uprobe events that an earlier telltale had left");
            }
        }
        let pmu = read_number(&Path::new(PMU).join("type"), "").and_then(|pmu| u32::try_from(pmu).ok());
        match (wanted, pmu) {
            (Some(AttachPath::Tracefs), _) | (None, None) => Ok(Attacher::Tracefs { tracefs: tracefs?, cpu }),
            (Some(AttachPath::Perf), None) => Err(KernelError::NoPmu),
            (_, Some(pmu)) => {
                let bit = read_number(&Path::new(PMU).join("format/retprobe"), "config:").unwrap_or(0);
                Ok(Attacher::Perf { pmu, return_bit: 1u64.checked_shl(bit as u32).unwrap_or(1), cpu })
            }
        }
    }

    /// Which way was taken.
    pub(super) fn path(&self) -> AttachPath {
        match self {
            Attacher::Perf { .. } => AttachPath::Perf,
            Attacher::Tracefs { .. } => AttachPath::Tracefs,
        }
    }

    /// Runs `program` whenever any process executes the instruction at `offset` of `file`, or returns from the
    /// function that begins there.
    pub(super) fn attach(
        &mut self,
        file: BorrowedFd<'_>,
        offset: u64,
        at_return: bool,
        program: BorrowedFd<'_>,
    ) -> Result<Hook, KernelError> {
        match self {
            Attacher::Perf { pmu, return_bit, cpu } => {
                let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))
                    .map_err(|source| KernelError::Call { call: "uprobe path", source: source.into() })?;
                let attr = PerfAttr {
                    kind: *pmu,
                    config: if at_return { *return_bit } else { 0 },
                    config1: path.as_ptr() as u64,
                    config2: offset,
                    ..PerfAttr::default()
                };
                // The kernel copies the path during the call, for which `path` lives.
                let event = perf_event_open(&attr, *cpu)
                    .map_err(KernelError::call("perf_event_open of a uprobe (CONFIG_UPROBE_EVENTS)"))?;
                start(event.as_fd(), program)?;
                Ok(Hook { event, entry: None })
            }
            Attacher::Tracefs { tracefs, cpu } => {
                let entry = tracefs.add(file, offset, at_return)?;
                let attr = PerfAttr {
                    kind: perf::TYPE_TRACEPOINT,
                    config: entry.id,
                    sample_type: perf::SAMPLE_RAW,
                    sample_period: 1,
                    ..PerfAttr::default()
                };
                let attached = perf_event_open(&attr, *cpu)
                    .map_err(KernelError::call("perf_event_open of a uprobe event"))
                    .and_then(|event| start(event.as_fd(), program).map(|()| event));
                match attached {
                    Ok(event) => Ok(Hook { event, entry: Some(entry) }),
                    Err(error) => {
                        // By now the perf descriptor is closed; the error to tell is the first one.
                        let _ = tracefs.remove(&entry);
                        Err(error)
                    }
                }
            }
        }
    }

    /// Takes a hook off and leaves nothing of it behind.
    pub(super) fn detach(&self, hook: Hook) -> Result<(), KernelError> {
        let Hook { event, entry } = hook;
        // In this order: an entry whose perf descriptor is open cannot be deleted.
        drop(event);
        match (self, entry) {
            (Attacher::Tracefs { tracefs, .. }, Some(entry)) => tracefs.remove(&entry),
            _ => Ok(()),
        }
    }
}

/// A program on a tracepoint of the kernel, system-wide, while it lives.
#[derive(Debug)]
pub(super) struct TracepointHook {
    _event: OwnedFd,
}

/// Runs `program` whenever the kernel passes the tracepoint `raw_syscalls:NAME`.
pub(super) fn attach_raw_syscalls(
    name: &str,
    cpu: u32,
    program: BorrowedFd<'_>,
) -> Result<TracepointHook, KernelError> {
    let id = Tracefs::find()?.event_id(&format!("raw_syscalls/{name}"))?;
    let attr = PerfAttr {
        kind: perf::TYPE_TRACEPOINT,
        config: id,
        sample_type: perf::SAMPLE_RAW,
        sample_period: 1,
        ..PerfAttr::default()
    };
    // One event on one CPU is enough: the program hangs on the tracepoint, not on the event.
    let event = perf_event_open(&attr, cpu)
        .map_err(KernelError::call("perf_event_open of raw_syscalls (CONFIG_HAVE_SYSCALL_TRACEPOINTS)"))?;
    start(event.as_fd(), program)?;
    Ok(TracepointHook { _event: event })
}

fn start(event: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), KernelError> {
    perf_set_bpf(event, program)
        .map_err(KernelError::call("ioctl(PERF_EVENT_IOC_SET_BPF) (CONFIG_BPF_EVENTS)"))?;
    perf_enable(event).map_err(KernelError::call("ioctl(PERF_EVENT_IOC_ENABLE)"))
}

fn read_number(path: &Path, prefix: &str) -> Option<u64> {
    let text: io::Result<String> = fs::read_to_string(path);
    text.ok()?.trim().strip_prefix(prefix)?.parse().ok()
}
