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
mod budget;
mod ciphers;
pub mod doctor;
mod empty;
mod error;
mod libraries;
mod mapped_file;
mod memory;
pub mod netlink;
mod own_tls;
mod program;
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
    fs::{self, File},
    io,
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
    time::SystemTime,
};

use telltale_abi::{Policy, class};

pub use attach::AttachPath;
pub use budget::Budget;
pub use ciphers::CipherWatch;
pub use empty::EmptyHooks;
pub use error::KernelError;
pub use mapped_file::MappedFile;
pub use memory::MemoryPath;
pub use own_tls::{Memory, NotHooked};
pub use self_test::{Proof, prove, prove_with};
pub use sends::SendsPath;
pub use tls_files::{TlsFile, TlsState};

use crate::record::{ConnectionId, Ended, Event};
use attach::{Attacher, Hook};
use ciphers::Ciphers;
use libraries::{Identity, Mapping, Part, Seen};
use own_tls::OwnTls;
use program::Programs;
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
    cpus: Vec<CpuRings>,
    /// Pages of each data ring.
    pages: usize,
    watch: Option<Watch>,
    seen: Seen,
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

#[derive(Debug)]
struct CpuRings {
    cpu: u32,
    data: Ring,
    doorbell: Ring,
    /// Records read of this CPU.
    records: u64,
    /// Of the last look: attempts on this CPU, and records read.
    looked: (u64, u64),
    /// At the last look there had been attempts, and nothing read.
    silent: bool,
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

/// Which CPUs run.
const ONLINE: &str = "/sys/devices/system/cpu/online";
/// All data rings together take at most this: the daemon's memory is bounded on eight CPUs as on two.
const RINGS_TOTAL: usize = 6 * 1024 * 1024;
/// One data ring takes at least and at most this.
const RING_RANGE: (usize, usize) = (256 * 1024, 2 * 1024 * 1024);

impl Session {
    /// Loads the programs, opens the rings, hooks the libraries.
    ///
    /// # Errors
    /// Each of [`KernelError`]: not root, no program embedded, no BPF, no tracefs, a library that is not one.
    pub fn start(options: &Options) -> Result<Session, KernelError> {
        let mut session = Session::bare(options)?;
        if options.memory.is_none() {
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
            cpus: Vec::new(),
            pages,
            watch: None,
            seen: Seen::default(),
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
        let mut sink_others = |number, event| {
            if let Some(event) = own_tls.take(event) {
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
        if let Some(watch) = &mut self.watch {
            watch.drain(|mapping, generation| {
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
        if !mappings.is_empty() {
            sys::give_back_memory();
        }
        self.libraries.len().saturating_sub(before)
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
        let mut result = self.ciphers.stop(&self.attacher).and(trials);
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

    fn open_rings(&mut self, cpu: u32) -> Result<(), KernelError> {
        let data =
            Ring::silent(cpu, self.pages).map_err(KernelError::call("perf_event_open of a data ring"))?;
        let doorbell = Ring::waking(cpu).map_err(KernelError::call("perf_event_open of a doorbell"))?;
        self.programs.set_ring("RECORDS", cpu, data.event())?;
        self.programs.set_ring("DOORBELL", cpu, doorbell.event())?;
        self.cpus.push(CpuRings { cpu, data, doorbell, records: 0, looked: (0, 0), silent: false });
        Ok(())
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
                // Our own program names the file that the finder looks for.
                if let Ok(identity) = part.identity(&file)
                    && !libraries::is_own(identity)
                {
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
        self.hooked.insert(identity);
        self.libraries.push(Library {
            path,
            functions: found.into_keys().collect(),
            since: SystemTime::now(),
            hooks,
        });
        Ok(Hooked::New)
    }

    /// CPUs on which records are attempted while none comes out of their ring, at two looks in a row: they were away and back
    /// between two looks, which newer kernels do not forgive a ring.
    fn deaf_cpus(&mut self) -> Result<Vec<u32>, KernelError> {
        let counters = self.programs.counters()?;
        let mut deaf = Vec::new();
        for rings in &mut self.cpus {
            let attempts = usize::try_from(rings.cpu).ok().and_then(|cpu| counters.get(cpu));
            let now = (attempts.map_or(0, |cpu| cpu.attempts), rings.records);
            let read = now.1 != rings.looked.1;
            if rings.silent && !read {
                log::info!("nothing comes out of the ring of CPU {}: it is opened afresh", rings.cpu);
                deaf.push(rings.cpu);
            }
            rings.silent = !read && now.0 != rings.looked.0;
            rings.looked = now;
        }
        Ok(deaf)
    }

    /// Opens rings on CPUs that have come online since, and again on those that were away. Returns true when the
    /// descriptors of [`Session::doorbells`] have changed.
    ///
    /// # Errors
    /// The list of CPUs cannot be read, or a ring cannot be opened.
    pub fn follow_cpus(&mut self) -> Result<bool, KernelError> {
        let online = cpu_list(ONLINE)?;
        let gone = self.cpus.iter().any(|rings| !online.contains(&rings.cpu));
        let new: Vec<u32> =
            online.iter().copied().filter(|cpu| !self.cpus.iter().any(|rings| rings.cpu == *cpu)).collect();
        let deaf = self.deaf_cpus()?;
        if !gone && new.is_empty() && deaf.is_empty() {
            return Ok(false);
        }
        // A ring whose CPU went away answers no more on some kernels even when the CPU is back: open it afresh then.
        self.cpus.retain(|rings| online.contains(&rings.cpu) && !deaf.contains(&rings.cpu));
        for cpu in new.into_iter().chain(deaf) {
            self.open_rings(cpu)?;
        }
        Ok(true)
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

/// Bytes of one data ring: a power of two.
fn ring_bytes(cpus: usize) -> usize {
    let (least, most) = RING_RANGE;
    let share = RINGS_TOTAL.checked_div(cpus).unwrap_or(least).clamp(least, most);
    1usize.checked_shl(share.ilog2()).unwrap_or(least)
}

/// Bytes of all data rings together on a machine that may have so many CPUs.
pub fn ring_memory(cpus: usize) -> usize {
    ring_bytes(cpus).saturating_mul(cpus)
}

/// Pages of one data ring: what is wished, at least one, or its share.
fn ring_pages(wished: Option<usize>, cpus: usize) -> usize {
    let pages = wished.unwrap_or_else(|| ring_bytes(cpus)) / sys::page_size();
    1usize.checked_shl(pages.max(1).ilog2()).unwrap_or(1)
}

/// Reads a list such as `0-3,5`.
fn cpu_list(path: &str) -> Result<Vec<u32>, KernelError> {
    let text = fs::read_to_string(path).map_err(KernelError::file("read", path))?;
    parse_cpu_list(text.trim()).ok_or_else(|| {
        KernelError::file("read", path)(io::Error::new(io::ErrorKind::InvalidData, "not a list of CPUs"))
    })
}

fn parse_cpu_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        // NR_CPUS is 8192 at the most (lib/Kconfig.debug and arch Kconfigs).
        if last >= 8192 {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_read() {
        assert_eq!(parse_cpu_list("0-3,5"), Some(vec![0, 1, 2, 3, 5]));
        assert_eq!(parse_cpu_list("0"), Some(vec![0]));
        assert_eq!(parse_cpu_list(""), Some(vec![]));
        assert_eq!(parse_cpu_list("0-x"), None);
        assert_eq!(parse_cpu_list("0-4000000000"), None);
    }

    #[test]
    fn rings_are_powers_of_two_within_their_share() {
        for cpus in [0, 1, 2, 3, 8, 64] {
            let bytes = ring_bytes(cpus);
            assert!(bytes.is_power_of_two());
            assert!(bytes >= RING_RANGE.0 && bytes <= RING_RANGE.1);
        }
        assert_eq!(ring_bytes(8), 512 * 1024);
    }
}
