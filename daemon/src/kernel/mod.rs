//! What this kernel can do; load, attach, drain. The only room with Aya, perf, tracefs and `unsafe`.
//!
//! A [`Session`] is one run of the eBPF programs: [`Session::start`] loads them, opens the rings and hooks the
//! libraries; [`Session::drain`] makes one full pass over all CPUs' rings; [`Session::stop`] takes everything off.
//!
//! Rings are our own, not aya's `PerfEventArray`, which wakes with every record. Data rings never wake anybody. When
//! there is nothing left to read, the daemon says so ([`Session::set_asleep`]), looks once more, and waits on the
//! doorbell, which the next record rings once.

mod apk;
mod attach;
mod births;
mod budget;
mod ciphers;
mod cpus;
pub mod doctor;
mod empty;
mod error;
pub mod fetch;
mod libraries;
mod mapped_file;
mod memory;
pub mod netlink;
mod own_pages;
mod own_tls;
pub mod proc_net;
mod program;
mod replaced;
mod ring;
mod self_test;
mod sends;
mod symbols;
mod sys;
mod tls_files;
mod tracefs;
mod watch;

pub use program::object;

use std::{
    collections::HashSet,
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    time::SystemTime,
};

use telltale_abi::{Policy, class};

pub use attach::AttachPath;
pub use births::Births;
pub use budget::Budget;
pub use ciphers::CipherWatch;
pub use empty::EmptyHooks;
pub use error::KernelError;
pub use mapped_file::MappedFile;
pub use memory::MemoryPath;
pub use own_tls::{Memory, NotHooked};
pub use self_test::{Proof, prove, prove_with};
pub use sends::{SendsPath, is_32_bit};
pub use sys::signal_at_parents_end;
pub use tls_files::{TlsFile, TlsState};

use crate::record::{ConnectionId, Ended, Event, RecordError};
use attach::{Attacher, Hook};
use ciphers::Ciphers;
pub use cpus::ring_memory;
use cpus::{CpuRings, ONLINE, cpu_list, ring_pages};
use fetch::{Fetch, Given};
use libraries::{Identity, Mapping, Part, Seen};
use own_tls::OwnTls;
use program::Programs;
use replaced::Lingering;
use ring::{Ring, raw_sample};
use sends::Sends;
use symbols::Functions;
use sys::perf;
use watch::Watch;

/// What to watch, and how.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Forces one way to uprobes; none takes perf where the kernel has it.
    pub attach: Option<AttachPath>,
    /// Hook these libraries and no others; empty: every library that exports `SSL_write` and that some process has
    /// mapped, now or later.
    pub libraries: Vec<PathBuf>,
    /// Bytes of each CPU's data ring, rounded down to a power of two; none: a share of what all may take together.
    pub ring_bytes: Option<usize>,
    /// What earlier sessions found in binaries that carry their own TLS.
    pub own_tls: Memory,
    /// Forces one way to read what apps send; none finds out which one this kernel allows.
    pub memory: Option<MemoryPath>,
}

/// A library whose functions are hooked.
#[derive(Debug)]
pub struct Library {
    /// Where it was found, as the process that had it mapped names it.
    pub path: PathBuf,
    /// The functions hooked.
    pub functions: Vec<&'static str>,
    /// Since when.
    pub since: SystemTime,
    identity: Identity,
    hooks: Vec<Hook>,
}

/// What is wanted of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing: it is no socket, or what it sends does not leave this machine.
    Nothing,
    /// The bytes of each send that begins below this many; beyond they are only counted.
    Bytes(u64),
}

/// One CPU's data ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingFill {
    /// Which CPU.
    pub cpu: u32,
    /// Bytes it holds.
    pub bytes: u64,
    /// The most bytes that waited in it when its turn came.
    pub fullest: u64,
}

/// What one pass over the rings brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pass {
    /// Number of the pass, from 1.
    pub number: u64,
    /// Records read.
    pub records: u64,
    /// Of these, records that were no event of ours.
    pub malformed: u64,
    /// Why not, of the last of them.
    pub why: Option<RecordError>,
}

impl Pass {
    /// Takes one record of a ring.
    fn take(&mut self, kind: u32, body: &[u8], sink: &mut dyn FnMut(u64, Event)) {
        // The kernel's own LOST records say nothing on 4.14; losses are attempts less records.
        if kind != perf::RECORD_SAMPLE {
            return;
        }
        self.records = self.records.saturating_add(1);
        match raw_sample(body).map(Event::parse) {
            Some(Ok(event)) => sink(self.number, event),
            Some(Err(error)) => {
                self.malformed = self.malformed.saturating_add(1);
                self.why = Some(error);
                log::debug!("record dropped: {error}");
            }
            None => self.malformed = self.malformed.saturating_add(1),
        }
    }
}

/// What the programs attempted and what arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Records the programs were to write.
    pub attempts: u64,
    /// Records read.
    pub records: u64,
    /// Times the programs woke the daemon.
    pub doorbells: u64,
}

impl Tally {
    /// Records that were lost, provided that the rings have been drained since nothing more was written.
    pub fn lost(&self) -> u64 {
        self.attempts.saturating_sub(self.records)
    }
}

/// A running set of hooks with its rings.
#[derive(Debug)]
pub struct Session {
    libraries: Vec<Library>,
    attacher: Attacher,
    memory: MemoryPath,
    /// Where the programs cannot read.
    fetch: Option<Fetch>,
    cpus: Vec<CpuRings>,
    /// Pages of each data ring.
    pages: usize,
    watch: Option<Watch>,
    seen: Seen,
    lingering: Lingering,
    /// What is hooked.
    hooked: HashSet<Identity>,
    /// Binaries that carry their own TLS.
    own_tls: OwnTls,
    /// Libraries of 32-bit processes, which cannot be hooked.
    unreadable: Vec<PathBuf>,
    passes: u64,
    records: u64,
    /// The data rings are to be exchanged.
    renew: bool,
    sends: Sends,
    /// Libraries are hooked only when they are named.
    only_named: bool,
    /// Processes whose ciphers are watched.
    ciphers: Ciphers,
    /// Processes that have mapped something since this was last asked.
    mappers: HashSet<u32>,
    // Last: programs are unloaded after their hooks are gone.
    programs: Programs,
}

/// Which program hangs on which function: (function, at its return, program).
const HOOKS: [(&str, bool, &str); 10] = [
    // Returns first: a call that began before its entry was hooked must not be taken for another.
    ("SSL_write", true, "ssl_write_return"),
    ("SSL_write_ex", true, "ssl_write_return"),
    ("SSL_write", false, "ssl_write"),
    ("SSL_write_ex", false, "ssl_write_ex"),
    ("SSL_set_tlsext_host_name", false, "ssl_set_host"),
    ("SSL_ctrl", false, "ssl_ctrl"),
    ("SSL_set_fd", false, "ssl_set_fd"),
    ("SSL_set_rfd", false, "ssl_set_rfd"),
    ("SSL_set_wfd", false, "ssl_set_wfd"),
    ("SSL_free", false, "ssl_free"),
];

/// Functions whose arguments are fetched where the programs cannot read.
const FETCHED: [(&str, Given); 2] = [("SSL_write", Given::Text), ("SSL_set_tlsext_host_name", Given::Name)];

impl Session {
    /// Loads the programs, opens the rings, hooks the libraries.
    ///
    /// # Errors
    /// Each of [`KernelError`]: not root, no program embedded, no BPF, no tracefs, a library that is not one.
    pub fn start(options: &Options) -> Result<Session, KernelError> {
        let mut session = Session::bare(options)?;
        if options.memory.is_none() && !memory::has_helper() {
            session.find_memory()?;
        }
        session.remember_own_tls(options.own_tls.clone());
        for path in &options.libraries {
            session.hook_named(path)?;
        }
        if options.libraries.is_empty() {
            // Before looking at what is mapped, so that nothing slips through in between.
            session.watch = Some(Watch::open(&cpu_list(ONLINE)?)?);
            session.start_searching();
            for mapping in libraries::mapped_everywhere() {
                session.consider(&mapping);
            }
        }
        sys::give_back_memory();
        Ok(session)
    }

    /// Gives back what only the start needed: free memory, and pages of files that will hardly be read again.
    pub fn give_back_start(&self) {
        sys::give_back_memory();
        if let Err(error) = own_pages::let_go() {
            log::debug!("/proc/self/smaps: {error}");
        }
    }

    /// Programs and rings, with nothing hooked yet.
    ///
    /// # Errors
    /// As [`Session::start`].
    pub fn bare(options: &Options) -> Result<Session, KernelError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(KernelError::NotRoot);
        }
        // Before 5.11 maps and rings count against this limit.
        let unlimited = nix::sys::resource::RLIM_INFINITY;
        if let Err(error) =
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_MEMLOCK, unlimited, unlimited)
        {
            log::debug!("setrlimit(RLIMIT_MEMLOCK): {error}");
        }
        let online = cpu_list(ONLINE)?;
        let possible = cpu_list("/sys/devices/system/cpu/possible")?;
        let first = online.first().copied().unwrap_or(0);
        let memory = options.memory.unwrap_or(MemoryPath::Bpf);
        let programs = Programs::load(possible.len(), memory)?;
        let attacher = Attacher::new(options.attach, first)?;
        let pages = ring_pages(options.ring_bytes, possible.len());
        let mut session = Session {
            libraries: Vec::new(),
            attacher,
            memory,
            fetch: if memory == MemoryPath::Ftrace { Some(Fetch::open(&online)?) } else { None },
            cpus: Vec::new(),
            pages,
            watch: None,
            seen: Seen::default(),
            lingering: Lingering::default(),
            hooked: HashSet::new(),
            own_tls: OwnTls::default(),
            unreadable: Vec::new(),
            sends: Sends::default(),
            only_named: !options.libraries.is_empty(),
            ciphers: Ciphers::default(),
            mappers: HashSet::new(),
            passes: 0,
            records: 0,
            renew: false,
            programs,
        };
        for cpu in online {
            session.open_rings(cpu)?;
        }
        Ok(session)
    }

    /// Says what is wanted of a socket: what the program asked, or what was learned since. It takes effect with the next
    /// send, unless the number stands for another file by then.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn answer(&self, connection: ConnectionId, wanted: Wanted) -> Result<(), KernelError> {
        let (class, limit) = match wanted {
            Wanted::Nothing => (class::IGNORED, 0),
            Wanted::Bytes(limit) => (class::SOCKET, limit),
        };
        self.programs.answer(connection, class, limit)
    }

    /// Bounds how much is taken of what apps send, from now on. Without this nothing bounds it but the rings.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set_budget(&self, budget: &Budget) -> Result<(), KernelError> {
        self.programs.set_budget(budget.rates())
    }

    /// What a connection has sent up to now, also what no record tells of; none when the programs no longer know it.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn sent(&self, connection: ConnectionId) -> Result<Option<Ended>, KernelError> {
        self.programs.sent(connection)
    }

    /// Since when descriptors stand for what they do; none while socket sends are not watched, which is how it is known.
    pub fn births(&self) -> Option<Births> {
        self.watches_sends().then(|| self.programs.births().ok()).flatten().map(Births::new)
    }

    /// The way to uprobes that was taken.
    pub fn attach_path(&self) -> AttachPath {
        self.attacher.path()
    }

    /// How what apps send is read.
    pub fn memory_path(&self) -> MemoryPath {
        self.memory
    }

    /// What is hooked.
    pub fn libraries(&self) -> &[Library] {
        &self.libraries
    }

    /// TLS libraries of 32-bit processes, seen mapped and not hooked: each once.
    pub fn unreadable(&self) -> &[PathBuf] {
        &self.unreadable
    }

    /// Hooks these libraries too. One that cannot be hooked is told in a sentence and left.
    pub fn hook_also(&mut self, libraries: &[PathBuf]) -> Vec<String> {
        libraries
            .iter()
            .filter_map(|path| self.hook_named(path).err())
            .map(|error| error.to_string())
            .collect()
    }

    /// Descriptors that become readable when a program rings: see [`Session::set_asleep`].
    pub fn doorbells(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.cpus.iter().map(|rings| rings.doorbell.event())
    }

    /// Descriptors that become readable when some process has mapped a file: see [`Session::follow_mappings`].
    pub fn mapping_watches(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.watch.iter().flat_map(Watch::events)
    }

    /// One full pass over all CPUs' rings: everything that was there when each ring's turn came goes to `sink`, with
    /// the number of the pass.
    pub fn drain(&mut self, sink: &mut dyn FnMut(u64, Event)) -> Pass {
        self.passes = self.passes.saturating_add(1);
        let mut pass = Pass { number: self.passes, ..Pass::default() };
        let renew = std::mem::take(&mut self.renew);
        let own_tls = &mut self.own_tls;
        let joins = self.fetch.is_some();
        let mut unread = Vec::new();
        let mut sink_others = |number, event| {
            if joins {
                unread.push(event);
            } else if let Some(event) = own_tls.take(event) {
                sink(number, event);
            }
        };
        for rings in &mut self.cpus {
            let before = pass.records;
            rings.doorbell.drain(|_, _| {});
            rings.data.drain(|kind, body| pass.take(kind, body, &mut sink_others));
            if renew {
                let fresh = Ring::silent(rings.cpu, self.pages)
                    .map_err(KernelError::call("perf_event_open of a data ring"));
                let set = fresh.and_then(|ring| {
                    self.programs.set_ring("RECORDS", rings.cpu, ring.event())?;
                    Ok(ring)
                });
                match set {
                    Ok(fresh) => {
                        let mut old = std::mem::replace(&mut rings.data, fresh);
                        // What was written until the programs had the other one.
                        old.drain(|kind, body| pass.take(kind, body, &mut sink_others));
                    }
                    Err(error) => log::debug!("{error}"),
                }
            }
            rings.records = rings.records.saturating_add(pass.records.saturating_sub(before));
        }
        if let Some(fetch) = &mut self.fetch {
            fetch.drain();
            for event in unread {
                fetch.join(event, &mut |event| {
                    if let Some(event) = own_tls.take(event) {
                        sink(pass.number, event);
                    }
                });
            }
        }
        self.end_own_tls_pass(&mut |event| sink(pass.number, event));
        self.records = self.records.saturating_add(pass.records);
        pass
    }

    /// With the next pass every data ring is given back to the kernel for a fresh one, so that nothing of what was in it stays in
    /// memory. A record that is written in that very moment may be lost, and is counted then.
    pub fn renew_rings(&mut self) {
        self.renew = true;
    }

    /// Tells the programs whether the next record is to ring the doorbell.
    ///
    /// A record may be written while this takes effect and not ring: after `set_asleep(true)` wait a few milliseconds
    /// on the doorbell, make one more pass, and only then wait without end. (Neither side has a full barrier between
    /// its write and its read; a store is visible everywhere long before that.)
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set_asleep(&self, asleep: bool) -> Result<(), KernelError> {
        self.programs.set_policy(Policy { asleep: u32::from(asleep), padding: 0 })
    }

    /// The data rings and how full they were.
    pub fn rings(&self) -> impl Iterator<Item = RingFill> {
        self.cpus.iter().map(|rings| {
            let (bytes, fullest) = rings.data.fill();
            RingFill { cpu: rings.cpu, bytes, fullest }
        })
    }

    /// Records read so far; [`Session::tally`] without asking the kernel.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// What was attempted and what arrived so far.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn tally(&self) -> Result<Tally, KernelError> {
        let mut tally = Tally { records: self.records, ..Tally::default() };
        for cpu in self.programs.counters()? {
            tally.attempts = tally.attempts.saturating_add(cpu.attempts);
            tally.doorbells = tally.doorbells.saturating_add(cpu.doorbells);
        }
        Ok(tally)
    }

    /// Hooks the libraries that processes have mapped since the last call. Returns how many are new.
    ///
    /// Where the kernel had more to tell than its ring holds, everything that is mapped is looked at once more.
    pub fn follow_mappings(&mut self) -> usize {
        let before = self.libraries.len();
        let mut mappings = Vec::new();
        let asks_for_kinds = self.asks_for_kinds();
        let mut in_32_bit = HashSet::new();
        let mut complete = true;
        if let Some(watch) = &mut self.watch {
            complete = watch.drain(|mapping, generation| {
                self.mappers.insert(mapping.pid);
                if asks_for_kinds && self.sends.is_32_bit(&mapping, generation) {
                    in_32_bit.insert(mapping.pid);
                }
                if self.only_named {
                    return;
                }
                // Look at the name and the inode first: most mappings are of files known long since.
                if libraries::may_hold_tls(&mapping.path) && self.seen.is_new(&mapping, Some(generation)) {
                    mappings.push((mapping, generation));
                }
            });
        }
        for pid in in_32_bit {
            self.runs_32_bit(pid);
        }
        for (mapping, _) in &mappings {
            self.hook_mapped(mapping);
        }
        if !complete {
            self.look_everywhere();
        }
        let new = self.libraries.len().saturating_sub(before);
        if !mappings.is_empty() {
            self.unhook_replaced();
            sys::give_back_memory();
        }
        new
    }

    /// Processes that have mapped a file since this was last asked: new ones, and known ones with something new.
    pub fn take_mappers(&mut self) -> HashSet<u32> {
        std::mem::take(&mut self.mappers)
    }

    /// Watches what a process encrypts, from now on. Asked again, it looks for libraries that were mapped since.
    ///
    /// # Errors
    /// The kernel refused a program or a hook; then nothing of this process is watched.
    pub fn watch_ciphers(&mut self, process: u32) -> Result<CipherWatch, KernelError> {
        self.ciphers.watch(process, &mut self.programs, &mut self.attacher)
    }

    /// Stops watching what a process encrypts, also when it is gone.
    pub fn unwatch_ciphers(&mut self, process: u32) {
        self.ciphers.unwatch(process);
    }

    /// Takes all hooks off, and returns the first error; what it is about may be left in `uprobe_events`.
    ///
    /// # Errors
    /// An entry of tracefs could not be deleted.
    pub fn stop(mut self) -> Result<(), KernelError> {
        self.unhook()
    }

    fn unhook(&mut self) -> Result<(), KernelError> {
        self.sends.clear();
        let trials = self.end_trials();
        let fetched = self.fetch.as_mut().map_or(Ok(()), Fetch::stop);
        let mut result = self.ciphers.stop(&self.attacher).and(trials).and(fetched);
        for library in self.libraries.drain(..) {
            // Last hooked, first off: entries before returns.
            for hook in library.hooks.into_iter().rev() {
                let detached = self.attacher.detach(hook);
                if result.is_ok() {
                    result = detached;
                }
            }
        }
        result
    }

    /// A library given by name: whatever is wrong with it is an error.
    fn hook_named(&mut self, path: &PathBuf) -> Result<(), KernelError> {
        let refuse = |reason: &str| KernelError::Library { path: path.clone(), reason: reason.to_owned() };
        let file =
            File::open(path).map_err(|error| refuse(&format!("{error}; give the path of a TLS library")))?;
        let part = Part::whole(&file).map_err(KernelError::file("stat", path))?;
        match self.hook(&file, part, path.clone())? {
            Hooked::New | Hooked::Known => Ok(()),
            Hooked::No(reason) => Err(refuse(reason)),
            Hooked::Nameless => {
                let identity = part.identity(&file).map_err(KernelError::file("stat", path))?;
                self.search_now(file, part, path.clone(), identity)?.map_or(Ok(()), |why| Err(refuse(&why)))
            }
        }
    }

    fn consider(&mut self, mapping: &Mapping) {
        if libraries::may_hold_tls(&mapping.path) && self.seen.is_new(mapping, None) {
            self.hook_mapped(mapping);
        }
    }

    /// A file that some process has mapped: most are no TLS library, and one that cannot be hooked is told and left.
    fn hook_mapped(&mut self, mapping: &Mapping) {
        // The process may have ended by now.
        let Some(file) = libraries::open(mapping) else { return self.seen.forget(mapping) };
        // What is mapped of an APK may be compiled code or data of its own.
        let Some((path, part)) = libraries::part(&file, mapping) else { return };
        match self.hook(&file, part, path.clone()) {
            Ok(Hooked::New) => log::info!("watching {}", path.display()),
            Ok(Hooked::Known) => {}
            Ok(Hooked::Nameless) => {
                if let Ok(identity) = part.identity(&file) {
                    self.search_later(mapping, part, path, identity);
                }
            }
            Ok(Hooked::No(_)) => {
                if symbols::is_32_bit_with(&file, part, "SSL_write") && !self.unreadable.contains(&path) {
                    self.unreadable.push(path);
                }
            }
            Err(error) => log::warn!("cannot watch {}: {error}", path.display()),
        }
    }

    fn hook(&mut self, file: &File, part: Part, path: PathBuf) -> Result<Hooked, KernelError> {
        let identity = part.identity(file).map_err(KernelError::file("stat", &path))?;
        if self.hooked.contains(&identity) {
            return Ok(Hooked::Known);
        }
        let names = HOOKS.map(|(function, _, _)| function);
        let found = match symbols::find(file, part, "SSL_write", &names) {
            Functions::At(found) => found,
            Functions::Other(reason) => return Ok(Hooked::No(reason)),
        };
        if !found.contains_key("SSL_write") {
            return Ok(Hooked::Nameless);
        }
        let mut hooks = Vec::new();
        let mut failed = None;
        for (function, at_return, program) in HOOKS {
            let Some(&offset) = found.get(function) else { continue };
            let program = self.programs.uprobe(program)?;
            match self.attacher.attach(file.as_fd(), offset, at_return, program) {
                Ok(hook) => hooks.push(hook),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if let Some(error) = failed {
            // All or nothing: half a library would be told as a whole one.
            for hook in hooks.into_iter().rev() {
                let _ = self.attacher.detach(hook);
            }
            return Err(error);
        }
        for (function, given) in FETCHED {
            if let Some(&offset) = found.get(function) {
                self.fetch_from(identity, file, offset, given, &path);
            }
        }
        self.hooked.insert(identity);
        self.libraries.push(Library {
            path,
            functions: found.into_keys().collect(),
            since: SystemTime::now(),
            identity,
            hooks,
        });
        Ok(Hooked::New)
    }

    /// Fetches what a function is given, where the programs cannot read it. Without that its calls are told as not readable.
    fn fetch_from(&mut self, identity: Identity, file: &File, offset: u64, given: Given, path: &Path) {
        if let Some(fetch) = &mut self.fetch
            && let Err(error) = fetch.add(identity, file.as_fd(), offset, given)
        {
            log::warn!("what {} is given cannot be read: {error}", path.display());
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Err(error) = self.unhook() {
            log::warn!("{error}");
        }
    }
}

/// What became of a library.
enum Hooked {
    New,
    Known,
    /// It has no `SSL_write` to be seen; it may have one without a name.
    Nameless,
    No(&'static str),
}
