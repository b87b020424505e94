//! Since when the programs know what a descriptor stands for: by this an answer about "descriptor 7" that was had late is told
//! to be about the same socket, or about another one that got the number since.

use std::{
    mem::offset_of,
    os::fd::{AsFd, OwnedFd},
};

use telltale_abi::Descriptor;

use super::sys;

/// The programs' own list of descriptors, to be asked at any time.
#[derive(Debug)]
pub struct Births(OwnedFd);

impl Births {
    pub(super) fn new(map: OwnedFd) -> Births {
        Births(map)
    }

    /// When a process's descriptor was first seen as what it is now, nanoseconds since boot; none when it was closed, or never
    /// seen.
    pub fn of(&self, tgid: u32, fd: u32) -> Option<u64> {
        let key = u64::from(tgid) << 32 | u64::from(fd);
        let value = sys::hash_lookup::<{ size_of::<Descriptor>() }>(self.0.as_fd(), key).ok().flatten()?;
        let born = value.get(offset_of!(Descriptor, born)..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*born))
    }
}
