//! The promises of the finder, which reads files that any app brings: no panic, what is found lies in the file, and giving up is
//! no verdict.

use std::ops::ControlFlow;

use telltale::finder::{Verdict, build_id, find, find_between};

/// An ELF file, or something that claims to be one.
pub fn elf(data: &[u8]) {
    let verdict = find(data);
    if let Ok(Verdict::Found(found)) = &verdict {
        for place in [Some(found.ssl_write), found.set_host_name, found.ssl_new].into_iter().flatten() {
            assert!(place.offset < data.len() as u64);
        }
    }
    let given_up = find_between(data, &|_| ControlFlow::Break(()));
    assert!(given_up.is_err() || given_up == verdict);
    assert!(build_id(data).is_none_or(|id| id.len() <= data.len()));
}
