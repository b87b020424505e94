//! Learns of newly mapped files from the kernel: PERF_RECORD_MMAP2 of all processes, instead of looking on a timer.
#![forbid(unsafe_code)]

use std::os::fd::BorrowedFd;

use super::{
    Session,
    error::KernelError,
    libraries::{self, Inode, Mapping},
    ring::Ring,
    sys::perf,
};

/// One ring per CPU that was online at the start.
#[derive(Debug)]
pub(super) struct Watch {
    rings: Vec<Ring>,
}

/// Pages per ring: some hundred mappings, a process start makes about ten.
const PAGES: usize = 8;

impl Watch {
    pub(super) fn open(cpus: &[u32]) -> Result<Watch, KernelError> {
        let rings = cpus.iter().map(|cpu| Ring::mappings(*cpu, PAGES)).collect::<Result<_, _>>();
        let rings =
            rings.map_err(KernelError::call("perf_event_open of a dummy event (PERF_RECORD_MMAP2)"))?;
        Ok(Watch { rings })
    }

    /// What becomes readable when a file is mapped.
    pub(super) fn events(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.rings.iter().map(Ring::event)
    }

    /// Hands on the executable file mappings made since, with their inode's generation. False when some were lost.
    #[must_use]
    pub(super) fn drain(&mut self, mut sink: impl FnMut(Mapping, u64)) -> bool {
        let mut complete = true;
        for ring in &mut self.rings {
            ring.drain(|kind, body| match kind {
                perf::RECORD_MMAP2 => {
                    if let Some((mapping, generation)) = parse(body) {
                        sink(mapping, generation);
                    }
                }
                perf::RECORD_LOST => complete = false,
                _ => {}
            });
        }
        complete
    }
}

impl Session {
    /// Looks at everything that is mapped, as at the start: of some of it the kernel could not tell.
    pub(super) fn look_everywhere(&mut self) {
        log::debug!("not every newly mapped file was told of: all are looked at");
        self.mappers.extend(libraries::processes());
        self.look_for_32_bit();
        if !self.only_named {
            for mapping in libraries::mapped_everywhere() {
                self.consider(&mapping);
            }
        }
    }
}

/// The body of PERF_RECORD_MMAP2 (include/uapi/linux/perf_event.h): pid, tid, addr, len, pgoff, maj, min, ino,
/// ino_generation, prot, flags, filename.
fn parse(body: &[u8]) -> Option<(Mapping, u64)> {
    let u32_at = |at: usize| body.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word));
    let u64_at = |at: usize| body.get(at..)?.first_chunk().map(|word| u64::from_ne_bytes(*word));
    let (start, len) = (u64_at(8)?, u64_at(16)?);
    let inode = Inode { major: u32_at(32)?, minor: u32_at(36)?, number: u64_at(40)? };
    let name = body.get(64..)?.split(|byte| *byte == 0).next()?;
    if inode.number == 0 || name.first() != Some(&b'/') {
        return None;
    }
    let path = String::from_utf8_lossy(name).into_owned();
    let end = start.checked_add(len)?;
    let mapping = Mapping { pid: u32_at(0)?, start, end, offset: u64_at(24)?, inode, path };
    Some((mapping, u64_at(48)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_read() {
        let mut body = Vec::new();
        body.extend(7u32.to_ne_bytes());
        body.extend(8u32.to_ne_bytes());
        for word in [0x1000u64, 0x3000, 0x2000] {
            body.extend(word.to_ne_bytes());
        }
        body.extend(0xfeu32.to_ne_bytes());
        body.extend(1u32.to_ne_bytes());
        body.extend(4242u64.to_ne_bytes());
        body.extend(77u64.to_ne_bytes());
        body.extend([0u8; 8]);
        body.extend(b"/lib/libssl.so\0\0");
        let inode = Inode { major: 0xfe, minor: 1, number: 4242 };
        let mapping = Mapping {
            pid: 7,
            start: 0x1000,
            end: 0x4000,
            offset: 0x2000,
            inode,
            path: "/lib/libssl.so".into(),
        };
        assert_eq!(parse(&body), Some((mapping, 77)));
        for end in 0..65 {
            assert_eq!(parse(&body[..end]), None, "{end}");
        }
    }
}
