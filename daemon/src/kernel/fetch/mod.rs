//! Reads the beginning of what apps send without BPF, for kernels on which programs may not read the memory of apps.
//!
//! A uprobe event of tracefs may fetch arguments: `+8(%x1):u64` is the word 8 bytes behind where the second argument points
//! (Documentation/trace/uprobetracer.rst). The kernel copies it with `copy_from_user` in the task's own context, which works
//! with ARM64_PAN, pages in what is not there, and knows no program. So an event on `SSL_write` fetches the `SSL*`, the
//! buffer's address, the length, and [`WORDS`] words of the buffer; perf hands it over as a sample of a tracepoint.
//!
//! This shows what was *offered*. What was taken, and where it belongs, the programs tell as everywhere (they see arguments
//! and return values; only memory is closed to them), and [`Offers`] joins both by thread and `SSL*`. What lies beyond the
//! words is told as not readable and counted as `no-memory-read`. A `r:` event with `$retval` would say what was taken
//! without BPF, but not of which connection, how far in it, and within whose budget.
//!
//! Limits. Linux takes 128 arguments an event (MAX_TRACE_ARGS in kernel/trace/trace_probe.h, 4.14 to 6.18: 125 words beside the
//! three registers are taken; one more is refused by 6.18 and left out without a word by 4.14.177), 4,096 bytes a definition, and perf takes 2,048 bytes a sample
//! (PERF_MAX_TRACE_SIZE, 4.14). Only TLS libraries are read so: what goes through sockets in the clear, a ClientHello, the
//! address in `sendto` and `SSL_write_ex`'s count of what it took (Android's library has no such function) stay unread.
#![forbid(unsafe_code)]

mod join;
mod layout;

use std::{
    collections::HashMap,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

pub use join::Offers;
pub use layout::{Layout, LayoutError, Offer, Sample};

use super::{
    error::KernelError,
    libraries::Identity,
    ring::Ring,
    sys::{CLOCK_MONOTONIC, PerfAttr, attr_flag, perf, perf_enable, perf_event_open, perf_set_output},
    tracefs::{Entry, Tracefs},
};
use crate::record::Event;

/// Words of 8 bytes fetched of what is to be sent.
pub const WORDS: usize = 120;
/// Words fetched of a host's name: RFC 1035 section 2.3.4 allows 255 octets.
const NAME_WORDS: usize = 32;
/// Pages of each processor's ring: room for about 250 calls between two passes.
const PAGES: usize = 64;

/// What a function is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    /// `SSL_write(ssl, buffer, length)`, and `SSL_write_ex`.
    Text,
    /// `SSL_set_tlsext_host_name(ssl, name)`.
    Name,
}

impl Given {
    fn words(self) -> usize {
        match self {
            Given::Text => WORDS,
            Given::Name => NAME_WORDS,
        }
    }
}

/// The events of this session, and their rings.
#[derive(Debug)]
pub(super) struct Fetch {
    tracefs: Tracefs,
    rings: Vec<(u32, Ring)>,
    sites: Vec<Site>,
    /// What samples look like, by the event's number.
    layouts: HashMap<u16, (Given, Layout)>,
    offers: Offers,
    /// Samples that perf had no room for.
    lost: bool,
}

/// A function of a file.
#[derive(Debug)]
struct Site {
    file: Identity,
    entry: Entry,
    /// One for each processor.
    events: Vec<(u32, OwnedFd)>,
}

/// The arguments of an event with so many words, as `uprobe_events` takes them.
pub(super) fn definition(count: usize) -> String {
    // The first three arguments of a function (System V ABI for AMD64; AAPCS64).
    let [object, buffer, length] =
        if cfg!(target_arch = "x86_64") { ["%di", "%si", "%dx"] } else { ["%x0", "%x1", "%x2"] };
    let mut text = format!("object={object}:u64 buffer={buffer}:u64 length={length}:u64");
    for nth in 0..count {
        text.push_str(&format!(" w{nth}=+{}({buffer}):u64", nth.saturating_mul(8)));
    }
    text
}

fn attr(id: u64) -> PerfAttr {
    PerfAttr {
        kind: perf::TYPE_TRACEPOINT,
        config: id,
        sample_type: perf::SAMPLE_TID | perf::SAMPLE_TIME | perf::SAMPLE_RAW,
        sample_period: 1,
        // The clock of the programs' records.
        flags: attr_flag::DISABLED | attr_flag::USE_CLOCKID,
        clockid: CLOCK_MONOTONIC,
        ..PerfAttr::default()
    }
}

impl Fetch {
    /// Opens a ring on each of these processors.
    pub(super) fn open(cpus: &[u32]) -> Result<Fetch, KernelError> {
        let mut fetch = Fetch {
            tracefs: Tracefs::find()?,
            rings: Vec::new(),
            sites: Vec::new(),
            layouts: HashMap::new(),
            offers: Offers::default(),
            lost: false,
        };
        fetch.open_rings(cpus)?;
        Ok(fetch)
    }

    fn open_rings(&mut self, cpus: &[u32]) -> Result<(), KernelError> {
        for cpu in cpus {
            let ring = Ring::collecting(*cpu, PAGES)
                .map_err(KernelError::call("perf_event_open of a ring for fetched arguments"))?;
            self.rings.push((*cpu, ring));
        }
        Ok(())
    }

    /// Fetches what the function at `offset` of a file is given, from now on.
    pub(super) fn add(
        &mut self,
        identity: Identity,
        file: BorrowedFd<'_>,
        offset: u64,
        given: Given,
    ) -> Result<(), KernelError> {
        let entry = self.tracefs.add_with(file, offset, false, &definition(given.words()))?;
        let watched = self.watch(&entry, given);
        match watched {
            Ok(events) => {
                self.sites.push(Site { file: identity, entry, events });
                Ok(())
            }
            Err(error) => {
                // By now its perf descriptors are closed; the error to tell is the first one.
                let _ = self.tracefs.remove(&entry);
                Err(error)
            }
        }
    }

    fn watch(&mut self, entry: &Entry, given: Given) -> Result<Vec<(u32, OwnedFd)>, KernelError> {
        let (path, text) = self.tracefs.format(entry)?;
        let layout = Layout::parse(&text, given.words()).map_err(|wrong| {
            KernelError::file("read", path)(std::io::Error::new(std::io::ErrorKind::InvalidData, wrong))
        })?;
        self.layouts.insert(layout.id, (given, layout));
        self.rings.iter().map(|(cpu, ring)| Ok((*cpu, event(entry, *cpu, ring)?))).collect()
    }

    /// Takes the events of a file off.
    pub(super) fn remove(&mut self, file: Identity) -> Result<(), KernelError> {
        let (gone, stay) = std::mem::take(&mut self.sites).into_iter().partition(|site| site.file == file);
        self.sites = stay;
        self.take_off(gone)
    }

    /// Takes all events off.
    pub(super) fn stop(&mut self) -> Result<(), KernelError> {
        let sites = std::mem::take(&mut self.sites);
        self.take_off(sites)
    }

    fn take_off(&self, sites: Vec<Site>) -> Result<(), KernelError> {
        let mut result = Ok(());
        for Site { entry, events, .. } in sites {
            // In this order: an entry whose perf descriptors are open cannot be deleted.
            drop(events);
            let removed = self.tracefs.remove(&entry);
            if result.is_ok() {
                result = removed;
            }
        }
        result
    }

    /// Processors have come and gone: rings on those that run now, afresh where they are `deaf`.
    pub(super) fn follow(&mut self, online: &[u32], deaf: &[u32]) -> Result<(), KernelError> {
        let stays = |cpu: &u32| online.contains(cpu) && !deaf.contains(cpu);
        for site in &mut self.sites {
            site.events.retain(|(cpu, _)| stays(cpu));
        }
        self.rings.retain(|(cpu, _)| stays(cpu));
        let new: Vec<u32> =
            online.iter().copied().filter(|cpu| !self.rings.iter().any(|(known, _)| known == cpu)).collect();
        self.open_rings(&new)?;
        for (cpu, ring) in self.rings.iter().filter(|(cpu, _)| new.contains(cpu)) {
            for site in &mut self.sites {
                site.events.push((*cpu, event(&site.entry, *cpu, ring)?));
            }
        }
        Ok(())
    }

    /// Reads what was offered. To be called when the programs' records have been read, each of which comes after its offer.
    pub(super) fn drain(&mut self) {
        let Fetch { rings, layouts, offers, lost, .. } = self;
        for (_, ring) in rings {
            ring.drain(|kind, body| match kind {
                perf::RECORD_SAMPLE => {
                    let Some(sample) = Sample::parse(body) else { return };
                    let known = sample.event().and_then(|id| layouts.get(&id));
                    let Some((given, layout)) = known else { return };
                    let Some(offer) = layout.offer(sample.raw) else { return };
                    match given {
                        Given::Text => offers.offered(sample.tid, sample.ktime, offer),
                        Given::Name => offers.named(sample.tgid, sample.ktime, &offer),
                    }
                }
                perf::RECORD_LOST => {
                    offers.forget();
                    if !std::mem::replace(lost, true) {
                        log::debug!("more was written at once than the rings for fetched arguments hold");
                    }
                }
                _ => {}
            });
        }
    }

    /// Joins a record of the programs with what was offered.
    pub(super) fn join(&mut self, event: Event, sink: &mut dyn FnMut(Event)) {
        self.offers.join(event, sink);
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            log::warn!("{error}");
        }
    }
}

/// An event on one processor, whose samples go to that processor's ring.
fn event(entry: &Entry, cpu: u32, ring: &Ring) -> Result<OwnedFd, KernelError> {
    let event = perf_event_open(&attr(entry.id), cpu)
        .map_err(KernelError::call("perf_event_open of a uprobe event with arguments"))?;
    perf_set_output(event.as_fd(), ring.event())
        .and_then(|()| perf_enable(event.as_fd()))
        .map_err(KernelError::call("ioctl(PERF_EVENT_IOC_SET_OUTPUT) of a uprobe event with arguments"))?;
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_within_what_every_kernel_takes() {
        let text = definition(WORDS);
        assert!(text.split(' ').count() <= 128, "MAX_TRACE_ARGS");
        // With the event's name and the path before it (WRITE_BUFSIZE, kernel/trace/trace_probe.c).
        assert!(text.len() + 128 < 4094, "{}", text.len());
        // Registers and words with what heads a sample (PERF_MAX_TRACE_SIZE, include/linux/trace_events.h of 4.14).
        const { assert!(16 + (3 + WORDS) * 8 + 8 < 2048) };
        assert!(text.ends_with(&format!(
            ":u64 w{}=+{}(%{}):u64",
            WORDS - 1,
            (WORDS - 1) * 8,
            text.split("(%").nth(1).unwrap().split(')').next().unwrap()
        )));
    }
}
