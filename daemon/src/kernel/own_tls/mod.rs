//! Binaries that carry their own TLS, without a name for its functions: searched on a thread, hooked on probation, kept only
//! when what is seen there proves them right, and else let alone with a reason.
#![forbid(unsafe_code)]

mod memory;
mod search;
mod trial;

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::SystemTime,
};

pub use memory::Memory;
use memory::{Entry, Places, Standing};
use search::{Answer, LEAST, MOST, Searcher, Subject, Waiting, lock, stand};
use trial::{Finding, Trial};

use super::{
    KernelError, Library, Session, TlsState,
    attach::Hook,
    fetch::Given,
    libraries::{self, Identity, Mapping, Part},
};
use crate::record::{Body, ConnectionId, Event};

/// A binary that carries its own TLS and is not hooked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotHooked {
    /// As the process that had it mapped names it.
    pub path: PathBuf,
    /// Why, for people.
    pub why: String,
}

/// What the session knows of such binaries.
#[derive(Debug, Default)]
pub(super) struct OwnTls {
    searcher: Option<Searcher>,
    memory: Arc<Mutex<Memory>>,
    /// What was handed to the searcher, hooked or refused: no binary twice.
    known: HashSet<Identity>,
    candidates: Vec<Candidate>,
    not_hooked: Vec<NotHooked>,
    /// What was let alone after a trial.
    refused: HashSet<Identity>,
    /// Of calls already traced: which candidate, by process and address.
    sites: HashMap<(u32, u64), Option<Identity>>,
    /// Connections of candidates and of refused ones.
    connections: HashMap<ConnectionId, Identity>,
    /// Records of TLS libraries in this pass: a call's own record may lie in a ring that is read later.
    pass: Vec<Event>,
    news: Vec<String>,
}

/// A function on trial.
#[derive(Debug)]
struct Candidate {
    identity: Identity,
    path: PathBuf,
    key: String,
    file: File,
    /// Where it begins, in the file.
    at: u64,
    /// The hook on its entry that tells of each call.
    entry: Hook,
    /// The others, which stay when it is proven.
    hooks: Vec<Hook>,
    functions: Vec<&'static str>,
    trial: Trial,
}

/// More sites and connections than these are not told apart: everything is forgotten then and learned anew.
const REMEMBERED: usize = 4096;
/// Binaries on trial at once: each costs a record a call.
const TRIALS: usize = 64;

impl OwnTls {
    /// True while some binary is on trial.
    fn tries(&self) -> bool {
        !self.candidates.is_empty()
    }

    /// Binaries on trial.
    pub(super) fn on_trial(&self) -> impl Iterator<Item = (&Path, Identity)> {
        self.candidates.iter().map(|candidate| (candidate.path.as_path(), candidate.identity))
    }

    /// A record: given back when it is to be handed on at once.
    pub(super) fn take(&mut self, event: Event) -> Option<Event> {
        match &event.body {
            Body::TlsCall { at, buffer, len } => {
                let (at, buffer, len) = (*at, *buffer, *len);
                let identity = self.site(event.connection.tgid, at)?;
                if self.connections.len() >= REMEMBERED {
                    self.connections.clear();
                }
                self.connections.insert(event.connection, identity);
                if let Some(candidate) = self.candidate(event.connection) {
                    candidate.trial.called(&event, buffer, len);
                }
                None
            }
            Body::TlsTried { head, sent } => {
                let (head, sent) = (*head, *sent);
                if let Some(candidate) = self.candidate(event.connection) {
                    candidate.trial.sent(&event, head, sent);
                }
                None
            }
            // What a refused one still left in the rings.
            _ if self.connections.get(&event.connection).is_some_and(|one| self.refused.contains(one)) => {
                None
            }
            _ if !self.tries() => Some(event),
            _ if event.connection.socket().is_none() => {
                self.pass.push(event);
                None
            }
            _ => Some(event),
        }
    }

    /// All rings were read: gives what is to be handed on after all, and how the trials stand.
    fn end_pass(&mut self) -> (Vec<Event>, Vec<(Identity, Finding)>) {
        let mut others = Vec::new();
        for event in std::mem::take(&mut self.pass) {
            match (self.candidate(event.connection), &event.body) {
                (None, _) => others.push(event),
                (Some(candidate), Body::TlsWrite(piece)) => {
                    let total = piece.total;
                    let first = (piece.offset == 0).then(|| piece.bytes.clone());
                    candidate.trial.wrote(event, total, first.as_deref());
                }
                (Some(candidate), Body::TlsNext { head, sent, .. }) => {
                    candidate.trial.sent(&event, *head, *sent);
                    candidate.trial.hold(event);
                }
                (Some(candidate), _) => candidate.trial.hold(event),
            }
        }
        let judged = self.candidates.iter_mut().map(|one| (one.identity, one.trial.judge()));
        (others, judged.filter(|(_, finding)| *finding != Finding::Open).collect())
    }

    /// The candidate that a connection belongs to.
    fn candidate(&mut self, connection: ConnectionId) -> Option<&mut Candidate> {
        let identity = self.connections.get(&connection)?;
        self.candidates.iter_mut().find(|one| one.identity == *identity)
    }

    /// Which candidate the instruction at an address of a process belongs to.
    fn site(&mut self, tgid: u32, at: u64) -> Option<Identity> {
        if let Some(known) = self.sites.get(&(tgid, at)) {
            return *known;
        }
        // The low bits are those of the file; most often they say enough, and the process may be gone already.
        const IN_PAGE: u64 = 0xfff;
        let mut fitting = self.candidates.iter().filter(|one| one.at & IN_PAGE == at & IN_PAGE);
        let found = match (fitting.next(), fitting.next()) {
            (one, None) => one.map(|one| one.identity),
            _ => self.mapped_at(tgid, at),
        };
        if self.sites.len() >= REMEMBERED {
            self.sites.clear();
        }
        self.sites.insert((tgid, at), found);
        found
    }

    fn mapped_at(&self, tgid: u32, at: u64) -> Option<Identity> {
        let maps = fs::read_to_string(Path::new("/proc").join(tgid.to_string()).join("maps")).ok()?;
        let mapping = maps
            .lines()
            .filter_map(|line| libraries::parse(tgid, line))
            .find(|mapping| (mapping.start..mapping.end).contains(&at))?;
        let offset = at.checked_sub(mapping.start)?.checked_add(mapping.offset)?;
        let is_it = |one: &&Candidate| one.identity.inode == mapping.inode.number && one.at == offset;
        self.candidates.iter().find(is_it).map(|one| one.identity)
    }

    /// It is proven: its connections are as any other.
    fn forget(&mut self, identity: Identity) {
        self.sites.retain(|_, known| *known != Some(identity));
        self.connections.retain(|_, known| *known != identity);
    }

    fn refuse(&mut self, path: PathBuf, why: String) {
        self.news.push(format!(
            "{} carries its own TLS and is not hooked: {why}; what it sends is counted as tls-not-hooked",
            path.display()
        ));
        self.not_hooked.push(NotHooked { path, why });
    }
}

/// What can be done about a binary's own TLS; none when there is none, or it cannot be searched.
pub(super) fn look(
    file: File,
    part: Part,
    path: &Path,
    identity: Identity,
    memory: &Mutex<Memory>,
) -> Option<TlsState> {
    if !(LEAST..=MOST).contains(&part.length) {
        return None;
    }
    let subject = Subject { identity, file, part, path: path.to_owned() };
    match search::search(subject, memory, &AtomicBool::new(false)).ok()?.entry {
        Entry::Absent => None,
        Entry::Unsure(why) => Some(TlsState::Unsure(why)),
        Entry::Found(_, Standing::Untried) => Some(TlsState::Static),
        Entry::Found(_, Standing::Proven) => Some(TlsState::Proven),
        Entry::Found(_, Standing::Refused(why)) => Some(TlsState::Disproved(why)),
    }
}

impl Session {
    /// Begins with what an earlier session found in binaries; call it before anything is hooked.
    pub(super) fn remember_own_tls(&mut self, memory: Memory) {
        *lock(&self.own_tls.memory) = memory;
    }

    /// What was found in binaries, if anything was learned since the last call and nothing more is about to be: to be kept
    /// for the next start.
    pub fn own_tls_learned(&self) -> Option<Memory> {
        if self.own_tls.searcher.as_ref().is_some_and(Searcher::is_busy) {
            return None;
        }
        let mut memory = lock(&self.own_tls.memory);
        memory.take_changed().then(|| memory.clone())
    }

    /// Binaries that carry their own TLS and are not hooked, with the reason: each once.
    pub fn not_hooked(&self) -> &[NotHooked] {
        &self.own_tls.not_hooked
    }

    /// Binaries whose function is hooked on probation, as the processes name them.
    pub fn on_probation(&self) -> impl Iterator<Item = &Path> {
        self.own_tls.candidates.iter().map(|candidate| candidate.path.as_path())
    }

    /// Sentences about binaries that carry their own TLS, since the last call.
    pub fn own_tls_news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.own_tls.news)
    }

    /// Readable when a binary has been searched: see [`Session::follow_searches`]. None where only named libraries are
    /// hooked: those are searched at once.
    pub fn search_watch(&self) -> Option<BorrowedFd<'_>> {
        self.own_tls.searcher.as_ref().map(Searcher::ready)
    }

    /// Hooks, on probation or for good, what was found in binaries since the last call. Returns how many are new.
    pub fn follow_searches(&mut self) -> usize {
        let answers = self.own_tls.searcher.as_ref().map(Searcher::take).unwrap_or_default();
        let mut new = 0_usize;
        for answer in answers {
            let answer = match answer {
                Ok(answer) => answer,
                Err(gone) => {
                    // The next process that maps it gives another chance.
                    self.own_tls.known.remove(&gone.identity);
                    self.seen.forget(&gone.mapping);
                    continue;
                }
            };
            let path = answer.subject.path.clone();
            match self.settle(answer) {
                Ok(true) => new = new.saturating_add(1),
                Ok(false) => {}
                Err(error) => self.own_tls.refuse(path, error.to_string()),
            }
        }
        new
    }

    /// Starts the thread that searches. Without it everything else works.
    pub(super) fn start_searching(&mut self) {
        match Searcher::start(Arc::clone(&self.own_tls.memory)) {
            Ok(searcher) => self.own_tls.searcher = Some(searcher),
            Err(error) => log::warn!("binaries are not searched for TLS of their own: {error}"),
        }
    }

    /// Ends the search; what is left in the queue waits for the next start.
    pub fn stop_searching(&mut self) {
        self.own_tls.searcher = None;
    }

    /// Puts a binary without exported functions into the queue, once.
    pub(super) fn search_later(&mut self, mapping: &Mapping, part: Part, path: PathBuf, identity: Identity) {
        if !(LEAST..=MOST).contains(&part.length) || !self.own_tls.known.insert(identity) {
            return;
        }
        if let Some(searcher) = &self.own_tls.searcher {
            searcher.ask(Waiting { identity, mapping: mapping.clone(), part, path });
        }
    }

    /// The same at once, for a binary that was named. A sentence when nothing can be hooked there.
    pub(super) fn search_now(
        &mut self,
        file: File,
        part: Part,
        path: PathBuf,
        identity: Identity,
    ) -> Result<Option<String>, KernelError> {
        self.own_tls.known.insert(identity);
        let subject = Subject { identity, file, part, path };
        let answer = match search::search(subject, &self.own_tls.memory, &AtomicBool::new(false)) {
            Ok(answer) => answer,
            Err(why) => return Ok(Some(why.to_string())),
        };
        let refusal = match &answer.entry {
            Entry::Absent => Some("it exports no SSL_write and has no BoringSSL in it".to_owned()),
            Entry::Unsure(why) | Entry::Found(_, Standing::Refused(why)) => {
                Some(format!("it carries its own TLS, and {why}"))
            }
            Entry::Found(..) => None,
        };
        if refusal.is_none() {
            self.settle(answer)?;
        }
        Ok(refusal)
    }

    /// Acts on what was found. True when it is hooked.
    fn settle(&mut self, answer: Answer) -> Result<bool, KernelError> {
        let Answer { subject, key, entry, .. } = answer;
        match entry {
            Entry::Absent => Ok(false),
            Entry::Unsure(why) | Entry::Found(_, Standing::Refused(why)) => {
                self.own_tls.refuse(subject.path, why);
                Ok(false)
            }
            Entry::Found(places, standing) => {
                let proven = standing == Standing::Proven;
                if !proven && self.own_tls.candidates.len() >= TRIALS {
                    self.own_tls.refuse(subject.path, "too many binaries are on probation".to_owned());
                    return Ok(false);
                }
                self.hook_places(subject, key, places, proven)?;
                Ok(true)
            }
        }
    }

    fn hook_places(
        &mut self,
        subject: Subject,
        key: String,
        places: Places,
        proven: bool,
    ) -> Result<(), KernelError> {
        let Subject { identity, file, part, path } = subject;
        let in_file = |place: u64| place.saturating_add(part.offset);
        let entry = if proven { "ssl_write" } else { "ssl_write_candidate" };
        // Returns first, as everywhere; the function's entry last, so that nothing is seen before all is in place.
        let wanted = [
            ("SSL_new", places.new, true, "ssl_new_return"),
            ("SSL_set_tlsext_host_name", places.set_host, false, "ssl_set_host"),
            ("SSL_write", Some(places.write), true, "ssl_write_return"),
            ("SSL_write", Some(places.write), false, entry),
        ];
        let (mut hooks, mut functions) = (Vec::new(), Vec::new());
        for (function, place, at_return, program) in wanted {
            let Some(place) = place else { continue };
            let hooked = self
                .programs
                .uprobe(program)
                .and_then(|program| self.attacher.attach(file.as_fd(), in_file(place), at_return, program));
            match hooked {
                Ok(hook) => hooks.push(hook),
                Err(error) => {
                    self.detach_all(hooks);
                    return Err(error);
                }
            }
            if !functions.contains(&function) {
                functions.push(function);
            }
        }
        let fetched = [(Some(places.write), Given::Text), (places.set_host, Given::Name)];
        for (place, given) in fetched {
            if let Some(place) = place {
                self.fetch_from(identity, &file, in_file(place), given, &path);
            }
        }
        if proven {
            self.own_tls.news.push(format!("watching {}, which carries its own TLS", path.display()));
            self.libraries.push(Library { path, since: SystemTime::now(), functions, identity, hooks });
            return Ok(());
        }
        let Some(entry) = hooks.pop() else { return Ok(()) };
        self.own_tls.news.push(format!(
            "{} carries its own TLS: hooked where its structure says, on probation",
            path.display()
        ));
        let at = in_file(places.write);
        let trial = Trial::default();
        let candidate = Candidate { identity, path, key, file, at, entry, hooks, functions, trial };
        self.own_tls.candidates.push(candidate);
        Ok(())
    }

    /// All rings were read: hands on what waited for that, and ends the trials that can be decided.
    pub(super) fn end_own_tls_pass(&mut self, sink: &mut dyn FnMut(Event)) {
        if !self.own_tls.tries() {
            return;
        }
        let (others, findings) = self.own_tls.end_pass();
        others.into_iter().for_each(&mut *sink);
        for (identity, finding) in findings {
            let Some(index) = self.own_tls.candidates.iter().position(|one| one.identity == identity) else {
                continue;
            };
            let candidate = self.own_tls.candidates.swap_remove(index);
            match finding {
                Finding::Open => self.own_tls.candidates.push(candidate),
                Finding::Proven => {
                    self.own_tls.forget(identity);
                    self.keep(candidate, sink);
                }
                Finding::Refused(why) => {
                    self.own_tls.refused.insert(identity);
                    self.let_alone(candidate, &why);
                }
            }
        }
    }

    /// It is `SSL_write`: hooked as any other from now on, and what was held is handed on.
    fn keep(&mut self, mut candidate: Candidate, sink: &mut dyn FnMut(Event)) {
        let account = candidate.trial.account();
        candidate.trial.release().into_iter().for_each(sink);
        let Candidate { identity, path, key, file, at, entry, mut hooks, functions, .. } = candidate;
        let ordinary = self
            .programs
            .uprobe("ssl_write")
            .and_then(|program| self.attacher.attach(file.as_fd(), at, false, program));
        match ordinary {
            // The new one first: for a moment both remember the same call.
            Ok(hook) => {
                hooks.push(hook);
                self.detach_all(vec![entry]);
            }
            Err(error) => {
                log::debug!("{}: the hook of the probation stays: {error}", path.display());
                hooks.push(entry);
            }
        }
        stand(&self.own_tls.memory, &key, Standing::Proven);
        self.own_tls.news.push(format!("watching {}: its own TLS is proven ({account})", path.display()));
        self.libraries.push(Library { path, since: SystemTime::now(), functions, identity, hooks });
    }

    /// It is not, or cannot be shown to be.
    fn let_alone(&mut self, candidate: Candidate, why: &str) {
        let Candidate { identity, path, key, entry, mut hooks, .. } = candidate;
        hooks.push(entry);
        self.detach_all(hooks);
        if let Some(fetch) = &mut self.fetch
            && let Err(error) = fetch.remove(identity)
        {
            log::warn!("{error}");
        }
        stand(&self.own_tls.memory, &key, Standing::Refused(why.to_owned()));
        self.own_tls.refuse(path, why.to_owned());
    }

    /// The file of a trial is gone: it ends without a judgement, and the binary may come again. True when there was one.
    pub(super) fn end_trial_of(&mut self, identity: Identity) -> bool {
        self.own_tls.known.remove(&identity);
        self.own_tls.refused.remove(&identity);
        self.own_tls.forget(identity);
        let Some(at) = self.own_tls.candidates.iter().position(|one| one.identity == identity) else {
            return false;
        };
        let Candidate { entry, mut hooks, .. } = self.own_tls.candidates.swap_remove(at);
        hooks.push(entry);
        self.detach_all(hooks);
        true
    }

    /// Takes the hooks of all trials off: the session ends.
    pub(super) fn end_trials(&mut self) -> Result<(), KernelError> {
        // Its thread first.
        self.own_tls.searcher = None;
        let mut result = Ok(());
        for candidate in std::mem::take(&mut self.own_tls.candidates) {
            for hook in candidate.hooks.into_iter().chain([candidate.entry]).rev() {
                let detached = self.attacher.detach(hook);
                if result.is_ok() {
                    result = detached;
                }
            }
        }
        result
    }

    pub(super) fn detach_all(&self, hooks: Vec<Hook>) {
        for hook in hooks.into_iter().rev() {
            if let Err(error) = self.attacher.detach(hook) {
                log::warn!("{error}");
            }
        }
    }
}
