//! Which socket an `SSL*` writes to, rung by rung: what it was told, what it was seen writing to, what its thread sent next.
#![forbid(unsafe_code)]

/// Bytes of the header of a TLS record (RFC 8446 section 5.1).
const HEADER: u64 = 5;
/// The content type of application data.
const APPLICATION_DATA: u8 = 23;
/// The longest plaintext of one record (RFC 8446 section 5.1).
const RECORD_MAX: u64 = 1 << 14;
/// Encryption makes a record longer by this much: at least a tag of 8 bytes (AES-CCM-8, RFC 6655), at most 256 bytes in
/// TLS 1.3 (RFC 8446 section 5.2); what CBC with its padding adds lies in between.
const GROWTH: std::ops::RangeInclusive<u64> = 8..=256;
/// The same descriptor must have fitted so often: threads send other things too.
const AGREEING: u32 = 2;

/// How the socket was found, the most certain first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum How {
    /// The app said so.
    SetFd,
    /// The library wrote to it inside `SSL_write`.
    Nested,
    /// It is what the `SSL*` wrote to in the process that this one was forked from.
    Forked,
    /// The thread wrote records of the right size to it right after `SSL_write`, twice.
    NextSend,
}

impl How {
    /// As `attr` carries it.
    pub(super) fn word(self) -> &'static str {
        match self {
            How::SetFd => "ssl_set_fd",
            How::Nested => "nested_send",
            How::Forked => "forked",
            How::NextSend => "next_send",
        }
    }
}

/// A send right after an `SSL_write`, by the same thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    /// The descriptor.
    pub(super) fd: i32,
    /// Its first bytes.
    pub(super) head: [u8; 8],
    /// Bytes that the `SSL_write` had taken.
    pub(super) taken: u64,
    /// Bytes that it sent.
    pub(super) sent: u64,
}

impl Next {
    /// Whether this may be those bytes, encrypted: the first record is application data of the right length, and the send
    /// has room for all of them.
    fn fits(&self) -> bool {
        let [kind, 3, _, high, low, ..] = self.head else { return false };
        let record = u64::from(u16::from_be_bytes([high, low]));
        let Some(growth) = record.checked_sub(self.taken.min(RECORD_MAX)) else { return false };
        kind == APPLICATION_DATA
            && GROWTH.contains(&growth)
            && self.sent >= self.taken.saturating_add(HEADER).saturating_add(growth)
    }
}

/// What is known of one `SSL*`'s socket.
#[derive(Debug, Default)]
pub(super) struct Ladder {
    known: Option<(i32, How)>,
    /// The known one has not been taken yet.
    is_new: bool,
    candidate: Option<(i32, u32)>,
}

impl Ladder {
    /// `SSL_set_fd` and `SSL_set_wfd`; below 0 takes it back.
    pub(super) fn set(&mut self, fd: i32) {
        self.found(fd, How::SetFd);
    }

    /// A send inside `SSL_write`: also what `SSL_set_fd` said must give way, for there the bytes go.
    pub(super) fn nested(&mut self, fd: i32) {
        if self.known != Some((fd, How::SetFd)) {
            self.found(fd, How::Nested);
        }
    }

    /// The same `SSL*` in a process forked from the one it was made in: a copy, which writes to a copy of the descriptor.
    pub(super) fn forked(&self) -> Ladder {
        let mut copy = Ladder::default();
        if let Some((fd, _)) = self.known {
            copy.found(fd, How::Forked);
        }
        copy
    }

    /// A send after `SSL_write`.
    pub(super) fn next(&mut self, next: Next) {
        if self.known.is_some_and(|(_, how)| how < How::NextSend) || !next.fits() {
            return;
        }
        let count = match self.candidate {
            Some((fd, count)) if fd == next.fd => count.saturating_add(1),
            _ => 1,
        };
        self.candidate = Some((next.fd, count));
        if count == AGREEING {
            self.found(next.fd, How::NextSend);
        }
    }

    /// The socket, when it was found since the last time.
    pub(super) fn take(&mut self) -> Option<(i32, How)> {
        if std::mem::take(&mut self.is_new) { self.known } else { None }
    }

    fn found(&mut self, fd: i32, how: How) {
        self.known = (fd >= 0).then_some((fd, how));
        self.is_new = self.known.is_some();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(fd: i32, taken: u64, record: u16, sent: u64) -> Next {
        let [high, low] = record.to_be_bytes();
        Next { fd, head: [23, 3, 3, high, low, 0, 0, 0], taken, sent }
    }

    #[test]
    fn a_record_fits_by_type_version_and_length() {
        // TLS 1.3, AES-GCM: a byte of type and 16 of tag. 1.2, AES-GCM: 8 of nonce and 16 of tag.
        for growth in [17, 24] {
            assert!(next(5, 100, 100 + growth, 105 + u64::from(growth)).fits());
        }
        // Several records in one send, and one record of several.
        assert!(next(5, 40_000, 16_384 + 17, 40_000 + 3 * 22).fits());
        assert!(next(5, 100, 117, 5_000).fits());
        for wrong in [next(5, 100, 107, 112), next(5, 100, 357, 400), next(5, 100, 117, 121)] {
            assert!(!wrong.fits(), "{wrong:?}");
        }
        let handshake = Next { head: [22, 3, 3, 0, 117, 0, 0, 0], ..next(5, 100, 117, 122) };
        let text = Next { head: *b"GET / HT", ..next(5, 100, 117, 122) };
        assert!(!handshake.fits() && !text.fits());
    }

    #[test]
    fn what_comes_next_counts_the_second_time() {
        let mut ladder = Ladder::default();
        ladder.next(next(5, 100, 117, 122));
        assert_eq!(ladder.take(), None);
        // Another descriptor in between: it begins anew.
        ladder.next(next(6, 100, 117, 122));
        ladder.next(next(5, 100, 117, 122));
        assert_eq!(ladder.take(), None);
        ladder.next(next(5, 200, 217, 222));
        assert_eq!(ladder.take(), Some((5, How::NextSend)));
        assert_eq!(ladder.take(), None);
    }

    #[test]
    fn a_copy_goes_on_where_its_original_was() {
        let mut ladder = Ladder::default();
        assert_eq!(ladder.forked().take(), None);
        ladder.set(7);
        let mut copy = ladder.forked();
        assert_eq!(copy.take(), Some((7, How::Forked)));
        copy.nested(9);
        assert_eq!((copy.take(), ladder.take()), (Some((9, How::Nested)), Some((7, How::SetFd))));
    }

    #[test]
    fn what_is_more_certain_stands() {
        let mut ladder = Ladder::default();
        ladder.set(7);
        assert_eq!(ladder.take(), Some((7, How::SetFd)));
        ladder.nested(7);
        ladder.next(next(5, 100, 117, 122));
        ladder.next(next(5, 100, 117, 122));
        assert_eq!(ladder.take(), None);
        // It writes elsewhere than it was told.
        ladder.nested(8);
        assert_eq!(ladder.take(), Some((8, How::Nested)));
        ladder.set(-1);
        assert_eq!(ladder.take(), None);
        ladder.next(next(5, 100, 117, 122));
        ladder.next(next(5, 100, 117, 122));
        assert_eq!(ladder.take(), Some((5, How::NextSend)));
    }
}
