//! Bytes by what became of them.

/// Why bytes that were sent were not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// TLS of a 32-bit process, which the kernel's hooks do not take.
    Tls32Bit,
    /// TLS of a library that is not hooked, mostly one that an app carries in itself.
    TlsNotHooked,
    /// QUIC: encrypted in the app itself.
    Quic,
    /// The app encrypts what it hands to TLS, or sends it encrypted in a way of its own.
    EncryptedInside,
    /// More than the owner wants read, see `capture_total` in the configuration.
    Budget,
    /// The rings were full.
    Lost,
    /// The kernel could not read the app's memory.
    NoMemoryRead,
    /// Sent before it was known where the descriptor leads.
    JoinedLate,
    /// Another user's: not looked at.
    OtherUser,
}

impl Reason {
    /// All of them, the gravest for the owner first.
    pub const ALL: [Reason; 9] = [
        Reason::TlsNotHooked,
        Reason::Tls32Bit,
        Reason::Quic,
        Reason::EncryptedInside,
        Reason::Budget,
        Reason::Lost,
        Reason::NoMemoryRead,
        Reason::JoinedLate,
        Reason::OtherUser,
    ];

    /// As in `telltale status`.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Tls32Bit => "tls-32bit",
            Reason::TlsNotHooked => "tls-not-hooked",
            Reason::Quic => "quic",
            Reason::EncryptedInside => "encrypted-inside",
            Reason::Budget => "budget",
            Reason::Lost => "lost",
            Reason::NoMemoryRead => "no-memory-read",
            Reason::JoinedLate => "joined-late",
            Reason::OtherUser => "other-user",
        }
    }

    /// In a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Reason::Tls32Bit => "encrypted by a 32-bit app",
            Reason::TlsNotHooked => "encrypted by TLS that is not hooked",
            Reason::Quic => "QUIC",
            Reason::EncryptedInside => "encrypted by the app itself",
            Reason::Budget => "more than is read of one upload",
            Reason::Lost => "lost",
            Reason::NoMemoryRead => "memory that could not be read",
            Reason::JoinedLate => "sent before the connection was known",
            Reason::OtherUser => "another user's",
        }
    }

    fn slot(self) -> usize {
        self as usize
    }
}

/// Bytes that were sent, by what became of them. What it is made of is all there is: the parts are the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parts {
    /// Plaintext that was read.
    pub read: u64,
    /// What TLS added to plaintext that is counted here: handshake, record headers, checksums, padding.
    pub tls_overhead: u64,
    unread: [u64; Reason::ALL.len()],
}

impl Parts {
    /// Only this many read.
    pub fn read(bytes: u64) -> Parts {
        Parts { read: bytes, ..Parts::default() }
    }

    /// Only this many, not read.
    pub fn unread(reason: Reason, bytes: u64) -> Parts {
        let mut parts = Parts::default();
        parts.add_unread(reason, bytes);
        parts
    }

    /// Not read for this reason.
    pub fn get(&self, reason: Reason) -> u64 {
        self.unread.get(reason.slot()).copied().unwrap_or(0)
    }

    /// Not read for any reason.
    pub fn all_unread(&self) -> u64 {
        self.unread.iter().fold(0, |sum, one| sum.saturating_add(*one))
    }

    /// Plaintext, read or not, and what stands for it where it is not known.
    pub fn content(&self) -> u64 {
        self.read.saturating_add(self.all_unread())
    }

    /// Everything.
    pub fn whole(&self) -> u64 {
        self.content().saturating_add(self.tls_overhead)
    }

    /// The reasons there are, the greatest first.
    pub fn reasons(&self) -> Vec<(Reason, u64)> {
        let mut found: Vec<_> = Reason::ALL
            .into_iter()
            .map(|reason| (reason, self.get(reason)))
            .filter(|(_, bytes)| *bytes > 0)
            .collect();
        found.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        found
    }

    /// Adds bytes that were not read.
    pub fn add_unread(&mut self, reason: Reason, bytes: u64) {
        if let Some(part) = self.unread.get_mut(reason.slot()) {
            *part = part.saturating_add(bytes);
        }
    }

    /// Adds another account.
    pub fn add(&mut self, other: &Parts) {
        self.read = self.read.saturating_add(other.read);
        self.tls_overhead = self.tls_overhead.saturating_add(other.tls_overhead);
        for (part, more) in self.unread.iter_mut().zip(other.unread) {
            *part = part.saturating_add(more);
        }
    }

    /// What is left of it without another account.
    pub(super) fn without(&self, other: &Parts) -> Parts {
        let mut left = *self;
        left.read = left.read.saturating_sub(other.read);
        left.tls_overhead = left.tls_overhead.saturating_sub(other.tls_overhead);
        for (part, less) in left.unread.iter_mut().zip(other.unread) {
            *part = part.saturating_sub(less);
        }
        left
    }

    /// Takes up to `bytes` out of one reason; how many there were.
    pub(super) fn take(&mut self, reason: Reason, bytes: u64) -> u64 {
        let Some(part) = self.unread.get_mut(reason.slot()) else { return 0 };
        let taken = bytes.min(*part);
        *part = part.saturating_sub(taken);
        taken
    }

    /// What was read turns out to be unreadable for this reason, up to `bytes` of it.
    pub(super) fn unread_after_all(&mut self, reason: Reason, bytes: u64) {
        let moved = bytes.min(self.read);
        self.read = self.read.saturating_sub(moved);
        self.add_unread(reason, moved);
    }
}
