//! Whether this machine can do what a test wants.
#![allow(clippy::panic, clippy::print_stdout)]

use std::fmt::Debug;

use telltale::kernel::KernelError;

/// What could be started; none, having said why, where this machine lacks what it takes. Where the kernel can be hooked the suite counts
/// a skip as a failure, so that nothing hides behind this.
pub(crate) fn or_skip<T>(what: impl Debug, started: Result<T, KernelError>) -> Option<T> {
    match started {
        Ok(started) => Some(started),
        Err(
            error @ (KernelError::NotRoot
            | KernelError::NoProgram
            | KernelError::NoPmu
            | KernelError::NoTracefs
            | KernelError::File { .. }),
        ) => {
            println!("skipped: {what:?}: {error}");
            None
        }
        Err(error) => panic!("{what:?}: {error}"),
    }
}
