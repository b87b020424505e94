//! Uids of apps, each given to one test only: daemons of other tests, in this process and in others, see what is sent too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
    process,
    sync::{Mutex, PoisonError},
};

/// Android's first app (`Process.FIRST_APPLICATION_UID`).
const FIRST: u32 = 10_000;
/// How many one claim may have.
const MOST: u32 = 10;
/// Claims; the last uids of apps are left to tests that want some of an app that does not run.
const CLAIMS: u32 = 990;

/// So many uids in a row, which nobody else gets while this process lives.
pub(crate) fn uids<const COUNT: usize>() -> [u32; COUNT] {
    assert!(COUNT <= MOST as usize);
    // A name without a file is free again as soon as whoever has it has ended, however that was.
    static CLAIMED: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let start = process::id();
    let claim = (0..CLAIMS).map(|nth| (start + nth) % CLAIMS).find_map(|claim| {
        let name = SocketAddr::from_abstract_name(format!("telltale-test-uids-{claim}")).unwrap();
        Some((claim, UnixListener::bind_addr(&name).ok()?))
    });
    let (claim, listener) = claim.unwrap();
    CLAIMED.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
    std::array::from_fn(|nth| FIRST + claim * MOST + nth as u32)
}
