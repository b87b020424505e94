//! Hangs a program on an instruction of a file in all processes: through perf's uprobe PMU or through tracefs.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use super::{
    error::KernelError,
    sys::{PerfAttr, perf, perf_enable, perf_event_open, perf_event_open_in, perf_set_bpf},
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

/// A place in a file that programs are hung on in single processes. Give it back to [`Attacher::remove`].
#[derive(Debug)]
pub(super) struct Spot {
    offset: u64,
    at_return: bool,
    anchor: Option<Hook>,
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
                let cpu = *cpu;
                let event =
                    pmu_event(*pmu, *return_bit, file, offset, at_return, |attr| perf_event_open(attr, cpu))?;
                start(event.as_fd(), program)?;
                Ok(Hook { event, entry: None })
            }
            Attacher::Tracefs { tracefs, cpu } => {
                let cpu = *cpu;
                entry_hook(tracefs, file, offset, at_return, program, |attr| perf_event_open(attr, cpu))
            }
        }
    }

    /// Prepares to run `program` at an instruction, or at a function's return, in single processes: see [`Attacher::attach_in`].
    pub(super) fn spot(
        &mut self,
        file: BorrowedFd<'_>,
        offset: u64,
        at_return: bool,
        program: BorrowedFd<'_>,
    ) -> Result<Spot, KernelError> {
        let anchor = match self {
            Attacher::Perf { .. } => None,
            // A program hangs on an entry once, for all processes whose events are opened on it. The event that holds it there
            // is one of our own process, which never comes by: no instruction is touched for its sake.
            Attacher::Tracefs { tracefs, .. } => {
                Some(entry_hook(tracefs, file, offset, at_return, program, |attr| {
                    perf_event_open_in(attr, std::process::id())
                })?)
            }
        };
        Ok(Spot { offset, at_return, anchor })
    }

    /// Runs the spot's program when threads of one process come by; the instructions of all others stay as they are.
    pub(super) fn attach_in(
        &self,
        process: u32,
        file: BorrowedFd<'_>,
        spot: &Spot,
        program: BorrowedFd<'_>,
    ) -> Result<OwnedFd, KernelError> {
        match (self, spot.anchor.as_ref().and_then(|anchor| anchor.entry.as_ref())) {
            (Attacher::Perf { pmu, return_bit, .. }, _) => {
                let event = pmu_event(*pmu, *return_bit, file, spot.offset, spot.at_return, |attr| {
                    perf_event_open_in(attr, process)
                })?;
                start(event.as_fd(), program)?;
                Ok(event)
            }
            (Attacher::Tracefs { .. }, Some(entry)) => {
                let event = perf_event_open_in(&entry_attr(entry), process)
                    .map_err(KernelError::call("perf_event_open of a uprobe event in a process"))?;
                perf_enable(event.as_fd()).map_err(KernelError::call("ioctl(PERF_EVENT_IOC_ENABLE)"))?;
                Ok(event)
            }
            (Attacher::Tracefs { .. }, None) => Err(KernelError::NoTracefs),
        }
    }

    /// Takes a spot away. The events of all processes on it must be closed before.
    pub(super) fn remove(&self, spot: Spot) -> Result<(), KernelError> {
        spot.anchor.map_or(Ok(()), |anchor| self.detach(anchor))
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

/// An event of perf's uprobe PMU, opened by `open`.
fn pmu_event(
    pmu: u32,
    return_bit: u64,
    file: BorrowedFd<'_>,
    offset: u64,
    at_return: bool,
    open: impl FnOnce(&PerfAttr) -> io::Result<OwnedFd>,
) -> Result<OwnedFd, KernelError> {
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .map_err(|source| KernelError::Call { call: "uprobe path", source: source.into() })?;
    let attr = PerfAttr {
        kind: pmu,
        config: if at_return { return_bit } else { 0 },
        config1: path.as_ptr() as u64,
        config2: offset,
        ..PerfAttr::default()
    };
    // The kernel copies the path during the call, for which `path` lives.
    open(&attr).map_err(KernelError::call("perf_event_open of a uprobe (CONFIG_UPROBE_EVENTS)"))
}

/// A new entry of tracefs with a program on it, held by an event that `open` opens.
fn entry_hook(
    tracefs: &mut Tracefs,
    file: BorrowedFd<'_>,
    offset: u64,
    at_return: bool,
    program: BorrowedFd<'_>,
    open: impl FnOnce(&PerfAttr) -> io::Result<OwnedFd>,
) -> Result<Hook, KernelError> {
    let entry = tracefs.add(file, offset, at_return)?;
    let attached = open(&entry_attr(&entry))
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

fn entry_attr(entry: &Entry) -> PerfAttr {
    PerfAttr {
        kind: perf::TYPE_TRACEPOINT,
        config: entry.id,
        sample_type: perf::SAMPLE_RAW,
        sample_period: 1,
        ..PerfAttr::default()
    }
}

/// A program on a tracepoint of the kernel, system-wide, while it lives.
#[derive(Debug)]
pub(super) struct TracepointHook {
    _event: OwnedFd,
}

/// Runs `program` whenever the kernel passes this tracepoint, named as in tracefs' `events`.
pub(super) fn attach_tracepoint(
    name: &str,
    cpu: u32,
    program: BorrowedFd<'_>,
) -> Result<TracepointHook, KernelError> {
    let id = Tracefs::find()?.event_id(name)?;
    let attr = PerfAttr {
        kind: perf::TYPE_TRACEPOINT,
        config: id,
        sample_type: perf::SAMPLE_RAW,
        sample_period: 1,
        ..PerfAttr::default()
    };
    // One event on one CPU is enough: the program hangs on the tracepoint, not on the event.
    let event = perf_event_open(&attr, cpu)
        .map_err(KernelError::call("perf_event_open of a tracepoint (CONFIG_HAVE_SYSCALL_TRACEPOINTS)"))?;
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
