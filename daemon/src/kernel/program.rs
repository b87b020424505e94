//! The eBPF object: embedded at build time, loaded through aya, its maps and programs handed out as descriptors.
#![allow(unsafe_code)]

use std::{
    borrow::Cow,
    mem::offset_of,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData},
    programs::{Program, TracePoint, UProbe},
};
use telltale_abi::{Answer, Budget, Connection, Counters, Descriptor, Policy, Process};

use super::{
    error::KernelError,
    memory::{self, MemoryPath},
    sys,
};
use crate::record::{ConnectionId, Ended};

// `EBPF_OBJECT: Option<&[u8]>`, aligned as an ELF reader wants it.
include!(concat!(env!("OUT_DIR"), "/ebpf_object.rs"));

/// Every uprobe program of the object, by its function's name in `ebpf/src/main.rs`.
pub(super) const UPROBES: [&str; 11] = [
    "ssl_write",
    "ssl_write_candidate",
    "ssl_new_return",
    "ssl_write_ex",
    "ssl_write_return",
    "ssl_set_host",
    "ssl_ctrl",
    "ssl_set_fd",
    "ssl_set_rfd",
    "ssl_set_wfd",
    "ssl_free",
];

/// The programs that hang on ciphers, loaded when the first app is looked into.
pub(super) const CIPHERS: [&str; 10] = [
    "cipher_init",
    "cipher_init_encrypt",
    "cipher_init_decrypt",
    "cipher_update",
    "cipher_final",
    "cipher_seal",
    "cipher_cbc",
    "cipher_return",
    "tls_enter",
    "tls_leave",
];

/// The programs that the one at the end of a call ends in, by their place in `SENDERS`.
const SENDERS: [&str; 4] = ["send_buffer", "send_vector", "send_vector_32_bit", "send_count"];

/// The loaded object.
#[derive(Debug)]
pub(super) struct Programs {
    ebpf: Ebpf,
    possible_cpus: usize,
}

fn load_uprobes(ebpf: &mut Ebpf, names: &[&'static str]) -> Result<(), KernelError> {
    for &name in names {
        let program = ebpf.program_mut(name).ok_or(KernelError::Missing("programs for uprobes"))?;
        let program: &mut UProbe =
            program.try_into().map_err(|source| KernelError::Program { name, source })?;
        program.load().map_err(|source| KernelError::Program { name, source })?;
    }
    Ok(())
}

/// The eBPF object that this binary carries.
pub fn object() -> Option<&'static [u8]> {
    EBPF_OBJECT
}

impl Programs {
    /// Loads the maps and all programs, which do not even try to read memory that is to be read in another way.
    pub(super) fn load(possible_cpus: usize, memory: MemoryPath) -> Result<Programs, KernelError> {
        let object = EBPF_OBJECT.ok_or(KernelError::NoProgram)?;
        let object = if memory == MemoryPath::Bpf { Cow::Borrowed(object) } else { memory::blinded(object) };
        // No BTF: the phone has none, and a host that has some must not take another way.
        let mut ebpf = EbpfLoader::new().btf(None).load(&object)?;
        load_uprobes(&mut ebpf, &UPROBES)?;
        Ok(Programs { ebpf, possible_cpus })
    }

    /// Loads the programs for ciphers.
    pub(super) fn load_ciphers(&mut self) -> Result<(), KernelError> {
        load_uprobes(&mut self.ebpf, &CIPHERS)
    }

    /// Loads the programs that those for socket sends end in. Without them TLS is watched all the same.
    pub(super) fn load_senders(&mut self) -> Result<(), KernelError> {
        for (place, name) in (0..).zip(SENDERS) {
            let program = self.tracepoint(name)?.as_raw_fd().to_ne_bytes();
            sys::map_update(self.map("SENDERS")?, place, &program)
                .map_err(KernelError::call("bpf(BPF_MAP_UPDATE_ELEM) of the programs for sends"))?;
        }
        Ok(())
    }

    /// A tracepoint program, loaded when it was not.
    pub(super) fn tracepoint(&mut self, name: &'static str) -> Result<BorrowedFd<'_>, KernelError> {
        let program = self.ebpf.program_mut(name).ok_or(KernelError::Missing("programs for sends"))?;
        let program: &mut TracePoint =
            program.try_into().map_err(|source| KernelError::Program { name, source })?;
        if program.fd().is_err() {
            program.load().map_err(|source| KernelError::Program { name, source })?;
        }
        let fd = program.fd().map_err(|source| KernelError::Program { name, source })?;
        Ok(fd.as_fd())
    }

    /// Says that a process runs 32-bit code.
    pub(super) fn runs_32_bit(&self, pid: u32) -> Result<(), KernelError> {
        let map = self.map("PROCESSES")?;
        let mut value = [0u8; size_of::<Process>()];
        match sys::map_lookup(map, pid, &mut value) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
                return Err(KernelError::call("bpf(BPF_MAP_LOOKUP_ELEM) of a process")(error));
            }
            _ => {}
        }
        if let Some(word) = value.get_mut(offset_of!(Process, is_32_bit)..).and_then(<[u8]>::first_chunk_mut)
        {
            *word = 1u32.to_ne_bytes();
        }
        sys::map_update(map, pid, &value).map_err(KernelError::call("bpf(BPF_MAP_UPDATE_ELEM) of a process"))
    }

    /// Says of what class a socket is and how many of its bytes are wanted, beside what the program writes itself.
    pub(super) fn answer(&self, connection: ConnectionId, class: u32, limit: u64) -> Result<(), KernelError> {
        let Some(socket) = connection.socket() else { return Ok(()) };
        let key = u64::from(connection.tgid) << 32 | u64::from(socket.fd);
        let Answer { born, limit, class, padding } =
            Answer { born: connection.born, limit, class, padding: 0 };
        let mut value = [0u8; size_of::<Answer>()];
        let words = [born, limit, u64::from(class) | u64::from(padding) << 32];
        for (bytes, word) in value.chunks_exact_mut(8).zip(words) {
            // Little-endian as every machine this runs on: `class` comes before the padding.
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        sys::hash_update(self.map("ANSWERS")?, key, &value)
            .map_err(KernelError::call("bpf(BPF_MAP_UPDATE_ELEM) of an answer"))
    }

    /// A uprobe program.
    pub(super) fn uprobe(&self, name: &'static str) -> Result<BorrowedFd<'_>, KernelError> {
        match self.ebpf.program(name) {
            Some(Program::UProbe(program)) => {
                let fd = program.fd().map_err(|source| KernelError::Program { name, source })?;
                Ok(fd.as_fd())
            }
            _ => Err(KernelError::Missing("TLS programs")),
        }
    }

    fn map(&self, name: &'static str) -> Result<BorrowedFd<'_>, KernelError> {
        let data: &MapData = match self.ebpf.map(name) {
            Some(
                Map::PerfEventArray(data)
                | Map::Array(data)
                | Map::PerCpuArray(data)
                | Map::LruHashMap(data)
                | Map::ProgramArray(data),
            ) => data,
            _ => return Err(KernelError::Missing(name)),
        };
        Ok(data.fd().as_fd())
    }

    /// Gives the programs `ring` to write to on `cpu`: `RECORDS` or `DOORBELL`.
    pub(super) fn set_ring(
        &self,
        map: &'static str,
        cpu: u32,
        ring: BorrowedFd<'_>,
    ) -> Result<(), KernelError> {
        sys::map_update(self.map(map)?, cpu, &ring.as_raw_fd().to_ne_bytes())
            .map_err(KernelError::call("bpf(BPF_MAP_UPDATE_ELEM) of a perf ring"))
    }

    /// Tells the programs what the daemon wants.
    pub(super) fn set_policy(&self, policy: Policy) -> Result<(), KernelError> {
        let Policy { asleep, padding } = policy;
        let mut value = [0u8; size_of::<Policy>()];
        let (first, rest) = value.split_at_mut(4);
        first.copy_from_slice(&asleep.to_ne_bytes());
        rest.copy_from_slice(&padding.to_ne_bytes());
        sys::map_update(self.map("POLICY")?, 0, &value)
            .map_err(KernelError::call("bpf(BPF_MAP_UPDATE_ELEM) of the policy"))
    }

    /// Tells the programs how much to take. What was paid for up to now is forgotten.
    pub(super) fn set_budget(&self, budget: Budget) -> Result<(), KernelError> {
        let Budget { connection, machine, bucket } = budget;
        let words = [
            connection.burst,
            connection.per_tick,
            machine.burst,
            machine.per_tick,
            bucket.left,
            bucket.filled,
        ];
        let mut value = [0u8; size_of::<Budget>()];
        for (bytes, word) in value.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        sys::map_update(self.map("BUDGET")?, 0, &value)
            .map_err(KernelError::call("bpf(BPF_MAP_UPDATE_ELEM) of the budget"))
    }

    /// What a connection has sent up to now; none when the programs no longer know it.
    pub(super) fn sent(&self, connection: ConnectionId) -> Result<Option<Ended>, KernelError> {
        let ConnectionId { tgid, object, born } = connection;
        if let Some(socket) = connection.socket() {
            let key = u64::from(tgid) << 32 | u64::from(socket.fd);
            let value = sys::hash_lookup::<{ size_of::<Descriptor>() }>(self.map("DESCRIPTORS")?, key)
                .map_err(KernelError::call("bpf(BPF_MAP_LOOKUP_ELEM) of a descriptor"))?;
            let places =
                [offset_of!(Descriptor, born), offset_of!(Descriptor, sent), offset_of!(Descriptor, skipped)];
            return Ok(value.and_then(|value| ended(&value, places, born)));
        }
        let key = [object, u64::from(tgid)];
        let value = sys::hash_lookup_words::<2, { size_of::<Connection>() }>(self.map("CONNECTIONS")?, key)
            .map_err(KernelError::call("bpf(BPF_MAP_LOOKUP_ELEM) of a connection"))?;
        let places =
            [offset_of!(Connection, born), offset_of!(Connection, sent), offset_of!(Connection, skipped)];
        Ok(value.and_then(|value| ended(&value, places, born)))
    }

    /// The list of descriptors, to be read beside the session.
    pub(super) fn births(&self) -> Result<OwnedFd, KernelError> {
        self.map("DESCRIPTORS")?
            .try_clone_to_owned()
            .map_err(KernelError::call("fcntl(F_DUPFD_CLOEXEC) of the list of descriptors"))
    }

    /// The counters of each possible CPU.
    pub(super) fn counters(&self) -> Result<Vec<Counters>, KernelError> {
        let mut value = vec![0u8; self.possible_cpus.saturating_mul(size_of::<Counters>())];
        sys::map_lookup(self.map("COUNTERS")?, 0, &mut value)
            .map_err(KernelError::call("bpf(BPF_MAP_LOOKUP_ELEM) of the counters"))?;
        let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
        let counters = value.chunks_exact(size_of::<Counters>()).map(|one| {
            let (attempts, doorbells) = one.split_at(8);
            Counters { attempts: word(attempts), doorbells: word(doorbells) }
        });
        Ok(counters.collect())
    }
}

/// The fields at these places of a map's value: when it was first seen, bytes sent, bytes not taken. None when it is another's.
fn ended(value: &[u8], places: [usize; 3], born: u64) -> Option<Ended> {
    let word = |at: usize| Some(u64::from_ne_bytes(*value.get(at..)?.first_chunk()?));
    let [first, sent, skipped] = places;
    if word(first)? != born {
        return None;
    }
    Some(Ended { sent: word(sent)?, skipped: word(skipped)? })
}
