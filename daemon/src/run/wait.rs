//! What the loop waits for, and how.
#![forbid(unsafe_code)]

use std::{os::fd::AsFd as _, path::Path, time::Duration};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        signalfd::SignalFd,
        time::TimeSpec,
    },
};

use super::{RunError, control::Control, files::Files};
use crate::kernel::Session;

/// What a descriptor of the loop stands for.
pub(super) const SIGNAL: u64 = 0;
pub(super) const MAPPING: u64 = 1;
pub(super) const DOORBELL: u64 = 2;
pub(super) const FILES: u64 = 3;
pub(super) const CONTROL: u64 = 4;
pub(super) const SEARCH: u64 = 5;

/// What the loop has to do with besides the kernel side.
pub(super) struct Sources<'a> {
    pub(super) signals: &'a SignalFd,
    pub(super) files: Option<&'a Files>,
    /// Where what was found in binaries is kept.
    pub(super) store: Option<&'a Path>,
}

/// Everything that may wake the loop.
pub(super) fn wait_on(
    session: &Session,
    sources: &Sources<'_>,
    control: Option<&Control>,
) -> Result<Epoll, RunError> {
    let failed = |source| RunError::Call { call: "epoll", source };
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
    epoll.add(sources.signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNAL)).map_err(failed)?;
    if let Some(files) = sources.files {
        epoll.add(files, EpollEvent::new(EpollFlags::EPOLLIN, FILES)).map_err(failed)?;
    }
    if let Some(control) = control {
        epoll.add(control, EpollEvent::new(EpollFlags::EPOLLIN, CONTROL)).map_err(failed)?;
    }
    for fd in session.mapping_watches() {
        epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, MAPPING)).map_err(failed)?;
    }
    if let Some(fd) = session.search_watch() {
        epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, SEARCH)).map_err(failed)?;
    }
    for fd in session.doorbells() {
        epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, DOORBELL)).map_err(failed)?;
    }
    Ok(epoll)
}

/// Waits until something is ready, at most so long, and leaves nothing to be waited for: epoll counts in milliseconds, too coarse here.
pub(super) fn wait_briefly(epoll: &Epoll, duration: Duration) -> Result<EpollTimeout, RunError> {
    let mut ready = [PollFd::new(epoll.0.as_fd(), PollFlags::POLLIN)];
    if !duration.is_zero() {
        match ppoll(&mut ready, Some(TimeSpec::from_duration(duration)), None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(source) => return Err(RunError::Call { call: "ppoll", source }),
        }
    }
    Ok(EpollTimeout::ZERO)
}

/// As epoll takes it, in whole milliseconds.
pub(super) fn timeout(duration: Duration) -> EpollTimeout {
    EpollTimeout::try_from(duration).unwrap_or(EpollTimeout::ZERO)
}
