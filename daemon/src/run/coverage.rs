//! Feeds the coverage ledger: what the watch knows of a connection, the programs' own counts, what turned out sealed.

use std::{cell::RefCell, fs::File, io::Read as _, path::Path, rc::Rc, time::Instant};

use crate::{
    alert::Alert,
    coverage::{Hourly, Ledger, Limits, Owner, View},
    kernel::Session,
    pipeline::{Flow, Observer},
    record::ConnectionId,
    unwrap::Tree,
    wire::Message,
};

/// Where `EI_CLASS` lies in an ELF file, and what it is in a 32-bit one (elf(5)).
const EI_CLASS: usize = 4;
const ELFCLASS32: u8 = 1;

/// The ledger and what belongs to it.
pub(super) struct Coverage {
    ledger: Rc<RefCell<Ledger>>,
    hourly: Hourly,
    began: Instant,
}

impl Coverage {
    pub(super) fn new() -> Coverage {
        Coverage {
            ledger: Rc::new(RefCell::new(Ledger::new(Limits::default()))),
            hourly: Hourly::new(0),
            began: Instant::now(),
        }
    }

    /// What takes the records as they are read.
    pub(super) fn ledger(&self) -> Rc<RefCell<Ledger>> {
        self.ledger.clone()
    }

    /// Whose a connection is. `loopback`: what this machine sends to itself counts.
    pub(super) fn describe(&self, id: ConnectionId, flow: &Flow, users: &[u32], loopback: bool) {
        let owner = Owner {
            app: &flow.app.name,
            uid: flow.app.uid,
            destination: destination(flow),
            is_32_bit: is_32_bit(id.tgid),
            is_other_users: !users.contains(&flow.app.user),
            stays: flow.loopback && !loopback,
        };
        self.ledger.borrow_mut().describe(id, owner);
    }

    /// A connection leads nowhere but to this machine.
    pub(super) fn stays(&self, id: ConnectionId) {
        self.ledger.borrow_mut().stays(id);
    }

    /// An `SSL*` writes to this descriptor.
    pub(super) fn carried_by(&self, ssl: ConnectionId, fd: u32) {
        self.ledger.borrow_mut().carried_by(ssl, fd);
    }

    /// A connection is over.
    pub(super) fn end(&self, id: ConnectionId) {
        self.ledger.borrow_mut().end(id);
    }

    /// The connections it knows.
    pub(super) fn connections(&self) -> Vec<ConnectionId> {
        self.ledger.borrow().connections()
    }

    /// Asks the programs for their counts: what was sent and not taken is told by no record before the end.
    pub(super) fn count(&self, session: &Session, which: impl Fn(&ConnectionId) -> bool) {
        for id in self.connections().into_iter().filter(which) {
            match session.sent(id) {
                Ok(Some(ended)) => self.ledger.borrow_mut().counted(id, ended),
                Ok(None) => {}
                Err(error) => log::debug!("{error}"),
            }
        }
    }

    /// Everything so far.
    pub(super) fn view(&self) -> View {
        self.ledger.borrow().view()
    }

    /// Whether the hourly line is due.
    pub(super) fn is_hour_over(&self) -> bool {
        self.hourly.is_due(self.now_ms())
    }

    /// The hourly line, once it is due.
    pub(super) fn hourly(&mut self) -> Option<String> {
        let (now, view) = (self.now_ms(), self.view());
        self.hourly.line(now, &view)
    }

    /// Sees every message, for what looks encrypted in it, and passes it on.
    pub(super) fn observer(&self, next: Option<Box<dyn Observer>>) -> Box<dyn Observer> {
        Box::new(Sealed { ledger: self.ledger.clone(), next })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

struct Sealed {
    ledger: Rc<RefCell<Ledger>>,
    next: Option<Box<dyn Observer>>,
}

impl Observer for Sealed {
    fn message(&mut self, flow: &Flow, message: &Message, tree: &Tree, alerts: &[Alert]) {
        if let (Some(opaque), Some(destination)) = (&tree.opaque, destination(flow)) {
            let bytes = opaque.bytes as u64;
            self.ledger.borrow_mut().sealed(&flow.app.name, flow.app.uid, &destination, bytes);
        }
        if let Some(next) = &mut self.next {
            next.message(flow, message, tree, alerts);
        }
    }
}

/// The host, else the address.
fn destination(flow: &Flow) -> Option<String> {
    flow.host.clone().or_else(|| flow.peer.map(|peer| peer.ip().to_canonical().to_string()))
}

/// Whether a process runs a 32-bit program; not when it is gone.
pub(super) fn is_32_bit(pid: u32) -> bool {
    let mut head = [0; EI_CLASS + 1];
    let exe = Path::new("/proc").join(pid.to_string()).join("exe");
    let read = File::open(exe).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head.starts_with(b"\x7fELF") && head.last() == Some(&ELFCLASS32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_no_32_bit_one_and_one_that_is_gone_neither() {
        assert_eq!(is_32_bit(std::process::id()), cfg!(target_pointer_width = "32"));
        assert!(!is_32_bit(u32::MAX));
    }
}
