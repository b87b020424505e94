//! Processors that run, come and go, and the rings that each of them has.
#![forbid(unsafe_code)]

use std::{fs, io};

use super::{KernelError, Session, ring::Ring, sys, watch::Watch};

/// Which CPUs run.
pub(super) const ONLINE: &str = "/sys/devices/system/cpu/online";
/// All data rings together take at most this: the daemon's memory is bounded on eight CPUs as on two.
const RINGS_TOTAL: usize = 6 * 1024 * 1024;
/// One data ring takes at least and at most this.
const RING_RANGE: (usize, usize) = (256 * 1024, 2 * 1024 * 1024);

#[derive(Debug)]
pub(super) struct CpuRings {
    pub(super) cpu: u32,
    pub(super) data: Ring,
    pub(super) doorbell: Ring,
    /// Records read of this CPU.
    pub(super) records: u64,
    /// Of the last look: attempts on this CPU, and records read.
    pub(super) looked: (u64, u64),
    /// At the last look there had been attempts, and nothing read.
    pub(super) silent: bool,
}

impl Session {
    /// Opens the rings of a processor.
    pub(super) fn open_rings(&mut self, cpu: u32) -> Result<(), KernelError> {
        let data =
            Ring::silent(cpu, self.pages).map_err(KernelError::call("perf_event_open of a data ring"))?;
        let doorbell = Ring::waking(cpu).map_err(KernelError::call("perf_event_open of a doorbell"))?;
        self.programs.set_ring("RECORDS", cpu, data.event())?;
        self.programs.set_ring("DOORBELL", cpu, doorbell.event())?;
        self.cpus.push(CpuRings { cpu, data, doorbell, records: 0, looked: (0, 0), silent: false });
        Ok(())
    }

    /// CPUs on which records are attempted while none comes out of their ring, at two looks in a row: they were away and back
    /// between two looks, which newer kernels do not forgive a ring.
    fn deaf_cpus(&mut self) -> Result<Vec<u32>, KernelError> {
        let counters = self.programs.counters()?;
        let mut deaf = Vec::new();
        for rings in &mut self.cpus {
            let attempts = usize::try_from(rings.cpu).ok().and_then(|cpu| counters.get(cpu));
            let now = (attempts.map_or(0, |cpu| cpu.attempts), rings.records);
            let read = now.1 != rings.looked.1;
            if rings.silent && !read {
                log::info!("nothing comes out of the ring of CPU {}: it is opened afresh", rings.cpu);
                deaf.push(rings.cpu);
            }
            rings.silent = !read && now.0 != rings.looked.0;
            rings.looked = now;
        }
        Ok(deaf)
    }

    /// Opens rings on CPUs that have come online since, and again on those that were away. Returns true when the
    /// descriptors of [`Session::doorbells`] have changed.
    ///
    /// # Errors
    /// The list of CPUs cannot be read, or a ring cannot be opened.
    pub fn follow_cpus(&mut self) -> Result<bool, KernelError> {
        let online = cpu_list(ONLINE)?;
        let gone = self.cpus.iter().any(|rings| !online.contains(&rings.cpu));
        let new: Vec<u32> =
            online.iter().copied().filter(|cpu| !self.cpus.iter().any(|rings| rings.cpu == *cpu)).collect();
        let deaf = self.deaf_cpus()?;
        if !gone && new.is_empty() && deaf.is_empty() {
            return Ok(false);
        }
        // A ring whose CPU went away answers no more on some kernels even when the CPU is back: open it afresh then.
        self.cpus.retain(|rings| online.contains(&rings.cpu) && !deaf.contains(&rings.cpu));
        if let Some(fetch) = &mut self.fetch {
            fetch.follow(&online, &deaf)?;
        }
        for cpu in new.into_iter().chain(deaf) {
            self.open_rings(cpu)?;
        }
        // Likewise what tells of mapped files; of those that were mapped meanwhile nobody has told.
        if self.watch.is_some() {
            self.watch = Some(Watch::open(&online)?);
            self.look_everywhere();
        }
        Ok(true)
    }
}

/// Bytes of one data ring: a power of two.
fn ring_bytes(cpus: usize) -> usize {
    let (least, most) = RING_RANGE;
    let share = RINGS_TOTAL.checked_div(cpus).unwrap_or(least).clamp(least, most);
    1usize.checked_shl(share.ilog2()).unwrap_or(least)
}

/// Bytes of all data rings together on a machine that may have so many CPUs.
pub fn ring_memory(cpus: usize) -> usize {
    ring_bytes(cpus).saturating_mul(cpus)
}

/// Pages of one data ring: what is wished, at least one, or its share.
pub(super) fn ring_pages(wished: Option<usize>, cpus: usize) -> usize {
    let pages = wished.unwrap_or_else(|| ring_bytes(cpus)) / sys::page_size();
    1usize.checked_shl(pages.max(1).ilog2()).unwrap_or(1)
}

/// Reads a list such as `0-3,5`.
pub(super) fn cpu_list(path: &str) -> Result<Vec<u32>, KernelError> {
    let text = fs::read_to_string(path).map_err(KernelError::file("read", path))?;
    parse_cpu_list(text.trim()).ok_or_else(|| {
        KernelError::file("read", path)(io::Error::new(io::ErrorKind::InvalidData, "not a list of CPUs"))
    })
}

fn parse_cpu_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        // NR_CPUS is 8192 at the most (lib/Kconfig.debug and arch Kconfigs).
        if last >= 8192 {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_read() {
        assert_eq!(parse_cpu_list("0-3,5"), Some(vec![0, 1, 2, 3, 5]));
        assert_eq!(parse_cpu_list("0"), Some(vec![0]));
        assert_eq!(parse_cpu_list(""), Some(vec![]));
        assert_eq!(parse_cpu_list("0-x"), None);
        assert_eq!(parse_cpu_list("0-4000000000"), None);
    }

    #[test]
    fn rings_are_powers_of_two_within_their_share() {
        for cpus in [0, 1, 2, 3, 8, 64] {
            let bytes = ring_bytes(cpus);
            assert!(bytes.is_power_of_two());
            assert!(bytes >= RING_RANGE.0 && bytes <= RING_RANGE.1);
        }
        assert_eq!(ring_bytes(8), 512 * 1024);
    }
}
