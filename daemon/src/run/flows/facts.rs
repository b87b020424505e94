//! What sockets tell of the connections on them, by descriptor and by when each socket was first seen: a number is used again as
//! soon as it is free, and what the old socket told must not name the new one, in whatever order their records are looked at.
#![forbid(unsafe_code)]

use std::{collections::HashMap, net::SocketAddr};

use crate::record::ConnectionId;

/// Sockets of one number that are remembered at once: those whose `SSL*` may still be looked at.
const VERSIONS: usize = 4;
/// Numbers remembered at the most.
const REMEMBERED: usize = 4096;

/// What a socket tells of the connection on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The other end.
    pub(super) peer: Option<SocketAddr>,
    /// The name in its ClientHello.
    pub(super) server_name: Option<String>,
}

/// Everything that sockets have told.
#[derive(Debug, Default)]
pub(super) struct KnownSockets(HashMap<(u32, u32), Vec<Version>>);

/// One of the sockets that a number stood for.
#[derive(Debug)]
struct Version {
    born: u64,
    ended: Option<u64>,
    facts: Facts,
}

impl KnownSockets {
    /// What is known of a socket, to be added to; none for what is no socket.
    pub(super) fn of(&mut self, connection: ConnectionId) -> Option<&mut Facts> {
        let key = (connection.tgid, connection.socket()?.fd);
        if self.0.len() >= REMEMBERED && !self.0.contains_key(&key) {
            self.0.clear();
        }
        let versions = self.0.entry(key).or_default();
        let at = versions.partition_point(|version| version.born < connection.born);
        if versions.get(at).is_none_or(|version| version.born != connection.born) {
            versions.insert(at, Version { born: connection.born, ended: None, facts: Facts::default() });
        }
        let excess = versions.len().saturating_sub(VERSIONS);
        // The oldest go first; one that is older than all of them is not worth remembering.
        versions.drain(..excess);
        versions.get_mut(at.checked_sub(excess)?).map(|version| &mut version.facts)
    }

    /// A socket was closed at this time, or at some time unknown.
    pub(super) fn ended(&mut self, connection: ConnectionId, ktime: Option<u64>) {
        let Some(socket) = connection.socket() else { return };
        let key = (connection.tgid, socket.fd);
        let Some(versions) = self.0.get_mut(&key) else { return };
        match ktime {
            Some(ktime) => {
                let mine = |version: &&mut Version| version.born == connection.born;
                if let Some(version) = versions.iter_mut().find(mine) {
                    version.ended = Some(ktime);
                }
            }
            None => versions.retain(|version| version.born != connection.born),
        }
        if versions.is_empty() {
            self.0.remove(&key);
        }
    }

    /// What the socket tells that a process's descriptor stood for at this time.
    pub(super) fn at(&self, tgid: u32, fd: u32, ktime: u64) -> Option<&Facts> {
        let versions = self.0.get(&(tgid, fd))?;
        let last = versions.partition_point(|version| version.born <= ktime).checked_sub(1)?;
        let version = versions.get(last)?;
        version.ended.is_none_or(|ended| ktime <= ended).then_some(&version.facts)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_abi::socket;

    fn id(tgid: u32, fd: u32, born: u64) -> ConnectionId {
        ConnectionId { tgid, object: socket::MARK | u64::from(socket::STREAM) << 32 | u64::from(fd), born }
    }

    fn name(known: &mut KnownSockets, id: ConnectionId, name: &str) {
        known.of(id).unwrap().server_name = Some(name.to_owned());
    }

    fn named(known: &KnownSockets, fd: u32, ktime: u64) -> Option<&str> {
        known.at(10, fd, ktime)?.server_name.as_deref()
    }

    #[test]
    fn a_number_used_again_is_another_socket() {
        let mut known = KnownSockets::default();
        name(&mut known, id(10, 5, 100), "old");
        name(&mut known, id(10, 5, 200), "new");
        assert_eq!(
            [named(&known, 5, 99), named(&known, 5, 150), named(&known, 5, 250)],
            [None, Some("old"), Some("new")]
        );
        // Another process's, and another number.
        assert_eq!((known.at(11, 5, 250), known.at(10, 6, 250)), (None, None));
    }

    #[test]
    fn an_end_that_is_told_late_ends_the_old_one_alone() {
        let mut known = KnownSockets::default();
        name(&mut known, id(10, 5, 100), "old");
        name(&mut known, id(10, 5, 200), "new");
        known.ended(id(10, 5, 100), Some(180));
        assert_eq!(
            [named(&known, 5, 170), named(&known, 5, 190), named(&known, 5, 200)],
            [Some("old"), None, Some("new")]
        );
        // So does one without a time, and a fact that comes after the end changes nothing of the new one.
        known.ended(id(10, 5, 100), None);
        name(&mut known, id(10, 5, 100), "late");
        assert_eq!((named(&known, 5, 150), named(&known, 5, 250)), (Some("late"), Some("new")));
    }

    #[test]
    fn it_stays_small() {
        let mut known = KnownSockets::default();
        for born in 1..100 {
            name(&mut known, id(10, 5, born), "x");
        }
        assert_eq!(known.len(), VERSIONS);
        // Older than all that is remembered: nothing is said of it, and nothing lost.
        assert!(known.of(id(10, 5, 1)).is_none());
        assert_eq!(known.len(), VERSIONS);
        for fd in 6..10_000 {
            name(&mut known, id(10, fd, 1), "x");
            assert!(known.len() <= REMEMBERED + VERSIONS);
        }
        assert!(known.of(ConnectionId { tgid: 10, object: 0x1000, born: 1 }).is_none());
    }
}
