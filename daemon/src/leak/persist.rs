//! Persistence: the same opaque token at the same place over restarts and days, a new one after a reset, the same one from
//! two apps. Pure state with its own bytes; whoever has a file keeps them there.
//!
//! A token itself is never kept, only 16 bytes of its SHA-256 and its last four characters.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::{
    Asked, Context, Finding, Kind, Severity, Witness,
    data::Data,
    judge::{self, Case},
    path::{leaves, render, without_indices},
    record::{Reader, Writer},
    token,
};
use crate::unwrap::{Content, Tree, Value};

/// The most places remembered; beyond them the ones longest not seen are forgotten, a quarter at a time.
pub const MAX_PLACES: usize = 4096;
/// The most tokens followed in one message.
const MAX_PER_MESSAGE: usize = 64;
/// Bytes at the start of the stored form, with its version.
const MAGIC: &[u8; 8] = b"ttpers\x00\x01";
/// Milliseconds in a day.
const DAY_MS: u64 = 86_400_000;
/// A place whose token changes this often within one start holds something else than an identifier.
const RESTLESS: u8 = 2;
/// This many starts, or a day, make a token one that lasts.
const LASTING_STARTS: u16 = 3;

/// What is wrong with stored bytes; the owner loses only what was learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Written by something else, or by another version.
    #[error("the store of tokens is not one of this version; it starts anew")]
    NotOurs,
    /// Cut short or damaged.
    #[error("the store of tokens is damaged at byte {0}; it starts anew")]
    Damaged(usize),
}

/// The tokens seen so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Store {
    /// How often this state has been loaded: tells one run from another where no process id is known.
    runs: u32,
    places: HashMap<u64, Place>,
    /// Places by token.
    by_token: HashMap<[u8; 16], Vec<u64>>,
}

/// One place in one app's messages to one owner.
#[derive(Debug, Clone, PartialEq)]
struct Place {
    app: String,
    owner: u64,
    token: [u8; 16],
    first_ms: u64,
    last_ms: u64,
    starts: u16,
    last_start: u64,
    /// Changes of the token since the last start.
    changes: u8,
    /// How long the token before this one had lasted, when it was one that lasts: (days, starts).
    before: Option<(u32, u16)>,
    /// The last characters of the token before this one.
    before_tail: [u8; 4],
    tail: [u8; 4],
}

impl Place {
    fn days(&self) -> u64 {
        self.last_ms.saturating_sub(self.first_ms) / DAY_MS
    }

    fn lasts(&self) -> bool {
        self.starts >= LASTING_STARTS || (self.starts >= 2 && self.days() >= 1)
    }

    fn is_restless(&self) -> bool {
        self.changes >= RESTLESS
    }
}

/// A token in the message at hand.
struct Seen {
    node: usize,
    at: String,
    text: String,
}

impl Store {
    /// Nothing seen yet.
    pub fn new() -> Store {
        Store::default()
    }

    /// How many places are remembered.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True when nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Takes in one message. Adds what only a memory can say to `findings`: a token that lasts, one that is new where another
    /// one lasted, one that another app sends to the same owner too. Where a finding already names the token, its `why` is
    /// continued instead.
    pub(crate) fn observe(
        &mut self,
        context: &Context<'_>,
        tree: &Tree,
        data: &Data,
        target: &str,
        findings: &mut Vec<Finding>,
    ) {
        let sender = findings.iter().find_map(|finding| finding.sender.clone());
        let app = sender.as_deref().unwrap_or(&context.app.name);
        let host = context.host;
        let owner =
            host.map_or("", |host| host.owner.as_deref().or(host.domain.as_deref()).unwrap_or(&host.name));
        let protocol = tree.protocol.as_ref().map(|telemetry| telemetry.id.clone());
        let start = hash64(&[&context.app.pid.to_le_bytes(), &self.runs.to_le_bytes()]);
        let mut told: Vec<[u8; 16]> = Vec::new();
        for seen in tokens(tree, data) {
            let token = digest(&seen.text);
            let owner_hash = hash64(&[owner.as_bytes()]);
            let key = hash64(&[
                app.as_bytes(),
                owner.as_bytes(),
                protocol.as_deref().unwrap_or("").as_bytes(),
                without_indices(&tree.via(seen.node)).as_bytes(),
                without_indices(&seen.at).as_bytes(),
            ]);
            let fresh = Place {
                app: app.to_owned(),
                owner: owner_hash,
                token,
                first_ms: context.now_ms,
                last_ms: context.now_ms,
                starts: 1,
                last_start: start,
                changes: 0,
                before: None,
                before_tail: [0; 4],
                tail: tail(&seen.text),
            };
            self.touch(key, fresh);
            let Some(words) = self.words(key, app, owner) else { continue };
            if told.contains(&token) {
                continue;
            }
            told.push(token);
            // What the phone's own values or the dictionary already name need no second finding.
            let named = findings.iter_mut().find(|f| {
                f.node == seen.node
                    && f.at == seen.at
                    && (f.value == seen.text || f.raw.as_deref() == Some(&seen.text))
            });
            if let Some(finding) = named {
                finding.why = format!("{}; {}", finding.why, words.text);
                continue;
            }
            let case = Case { context, target, telemetry: protocol.is_some() };
            let (asked, reason) = judge::asked(data, case, Kind::PersistentId);
            let reason = reason.map(|reason| format!("; {reason}")).unwrap_or_default();
            let wanted = matches!(asked, Asked::Yes | Asked::Likely);
            let loud = !wanted && (words.linked || (asked == Asked::No && words.lasts));
            findings.push(Finding {
                kind: Kind::PersistentId,
                value: seen.text,
                form: None,
                raw: None,
                by: Witness::Persistence,
                asked,
                severity: if loud { Severity::Warn } else { Severity::Info },
                sender: sender.clone(),
                protocol: protocol.clone(),
                crypt: context.crypt,
                via: tree.via(seen.node),
                at: seen.at,
                why: format!("{}{reason}", words.text),
                node: seen.node,
            });
        }
    }

    /// Sets what is at a place now beside what was there before; `fresh` is how the place looks when it is new.
    fn touch(&mut self, key: u64, fresh: Place) {
        let Some(place) = self.places.get_mut(&key) else {
            self.make_room();
            self.by_token.entry(fresh.token).or_default().push(key);
            self.places.insert(key, fresh);
            return;
        };
        let (token, tail, start, now_ms) = (fresh.token, fresh.tail, fresh.last_start, fresh.last_ms);
        let restarted = place.last_start != start;
        place.last_start = start;
        if place.token == token {
            place.last_ms = place.last_ms.max(now_ms);
            place.starts = place.starts.saturating_add(u16::from(restarted));
            return;
        }
        let old = place.token;
        place.before = place.lasts().then(|| (u32::try_from(place.days()).unwrap_or(u32::MAX), place.starts));
        place.before_tail = place.tail;
        place.changes = if restarted { 0 } else { place.changes.saturating_add(1) };
        (place.token, place.tail, place.first_ms, place.last_ms, place.starts) =
            (token, tail, now_ms, now_ms, 1);
        self.forget_token(old, key);
        self.by_token.entry(token).or_default().push(key);
    }

    fn forget_token(&mut self, token: [u8; 16], key: u64) {
        if let Some(keys) = self.by_token.get_mut(&token) {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.by_token.remove(&token);
            }
        }
    }

    fn make_room(&mut self) {
        if self.places.len() < MAX_PLACES {
            return;
        }
        let mut ages: Vec<(u64, u64)> =
            self.places.iter().map(|(key, place)| (place.last_ms, *key)).collect();
        ages.sort_unstable();
        for (_, key) in ages.into_iter().take(MAX_PLACES / 4) {
            if let Some(place) = self.places.remove(&key) {
                self.forget_token(place.token, key);
            }
        }
    }

    /// What there is to say about the token at a place.
    fn words(&self, key: u64, app: &str, owner: &str) -> Option<Words> {
        let place = self.places.get(&key)?;
        let owner = if owner.is_empty() { "the same host" } else { owner };
        let others = self.by_token.get(&place.token)?.iter().filter_map(|key| self.places.get(key));
        let mut other_apps: Vec<&str> = others
            .filter(|other| other.app != app && other.owner == place.owner)
            .map(|other| other.app.as_str())
            .collect();
        other_apps.sort_unstable();
        other_apps.dedup();
        if place.is_restless() {
            return None;
        }
        if let Some(first) = other_apps.first() {
            let more = other_apps.len() - 1;
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let text = format!(
                "the same token was sent to {owner} by {first}{more} too: it joins what these apps say"
            );
            return Some(Words { text, linked: true, lasts: true });
        }
        if place.starts >= 2 {
            let text = format!(
                "unchanged for {}, {}",
                count(place.days(), "day"),
                count(place.starts.into(), "start")
            );
            return Some(Words { text, linked: false, lasts: place.lasts() });
        }
        let (days, starts) = place.before?;
        let tail: String = place.before_tail.iter().map(|byte| char::from(*byte)).collect();
        let lasted = format!("{}, {}", count(days.into(), "day"), count(starts.into(), "start"));
        let text = format!("new id after reinstall or reset: one ending in {tail} stood here for {lasted}");
        Some(Words { text, linked: false, lasts: false })
    }

    /// The bytes to keep until the next run.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.bytes(MAGIC);
        out.u32(self.runs);
        out.u32(u32::try_from(self.places.len()).unwrap_or(u32::MAX));
        let mut places: Vec<_> = self.places.iter().collect();
        places.sort_unstable_by_key(|(key, _)| **key);
        for (key, place) in places {
            out.u64(*key);
            out.text(&place.app);
            out.u64(place.owner);
            out.bytes(&place.token);
            out.u64(place.first_ms);
            out.u64(place.last_ms);
            out.u16(place.starts);
            out.u64(place.last_start);
            out.u16(place.changes.into());
            let (days, starts) = place.before.unwrap_or_default();
            out.u32(days);
            out.u16(starts);
            out.bytes(&place.before_tail);
            out.bytes(&place.tail);
        }
        let check = digest_bytes(&out.0);
        out.bytes(&check);
        out.0
    }

    /// The state from its bytes; what follows counts as a new run.
    ///
    /// # Errors
    /// [`StoreError`] when they are another version's or damaged: begin with [`Store::new`] and say so once.
    pub fn from_bytes(bytes: &[u8]) -> Result<Store, StoreError> {
        if bytes.get(..MAGIC.len()) != Some(MAGIC) {
            return Err(StoreError::NotOurs);
        }
        let end = bytes.len().saturating_sub(16);
        let (body, check) = bytes.split_at_checked(end).ok_or(StoreError::Damaged(0))?;
        if check != digest_bytes(body) {
            return Err(StoreError::Damaged(end));
        }
        let mut from = Reader::new(body, MAGIC.len());
        Store::read(&mut from).ok_or(StoreError::Damaged(from.at()))
    }

    fn read(from: &mut Reader<'_>) -> Option<Store> {
        let mut store = Store { runs: from.u32()?.wrapping_add(1), ..Store::default() };
        let count = usize::try_from(from.u32()?).ok().filter(|count| *count <= MAX_PLACES)?;
        for _ in 0..count {
            let key = from.u64()?;
            let place = Place {
                app: from.text()?.to_owned(),
                owner: from.u64()?,
                token: from.array()?,
                first_ms: from.u64()?,
                last_ms: from.u64()?,
                starts: from.u16()?,
                last_start: from.u64()?,
                changes: u8::try_from(from.u16()?).ok()?,
                before: Some((from.u32()?, from.u16()?)).filter(|(_, starts)| *starts > 0),
                before_tail: from.array()?,
                tail: from.array()?,
            };
            store.by_token.entry(place.token).or_default().push(key);
            store.places.insert(key, place);
        }
        from.is_at_end().then_some(store)
    }
}

struct Words {
    text: String,
    linked: bool,
    lasts: bool,
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The tokens of a message, with their places.
fn tokens(tree: &Tree, data: &Data) -> Vec<Seen> {
    let mut out: Vec<Seen> = Vec::new();
    for (node, layer) in tree.nodes.iter().enumerate() {
        let (part, name) = layer.step.split_once(':').unwrap_or((layer.step.as_str(), ""));
        match &layer.content {
            Content::Bytes(bytes)
                if matches!(part, "query" | "form" | "part" | "header") && !layer.covered =>
            {
                let text = std::str::from_utf8(bytes).unwrap_or("").trim();
                if token::is_key(name, data) && token::is_opaque(text) {
                    out.push(Seen { node, at: String::new(), text: text.to_owned() });
                }
            }
            Content::Value(value) if part != "header" => {
                leaves(value, &mut Vec::new(), &mut |steps, leaf| {
                    let Value::Text(text) = leaf else { return };
                    let key = token::last_key(steps).unwrap_or("");
                    if out.len() < MAX_PER_MESSAGE && token::is_opaque(text) && token::is_key(key, data) {
                        out.push(Seen { node, at: render(steps), text: text.trim().to_owned() });
                    }
                });
            }
            _ => {}
        }
        if out.len() >= MAX_PER_MESSAGE {
            break;
        }
    }
    out
}

fn digest(text: &str) -> [u8; 16] {
    digest_bytes(text.as_bytes())
}

fn digest_bytes(bytes: &[u8]) -> [u8; 16] {
    let digest = Sha256::digest(bytes);
    let mut out = [0; 16];
    for (to, from) in out.iter_mut().zip(digest) {
        *to = from;
    }
    out
}

fn hash64(parts: &[&[u8]]) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut out = [0; 8];
    for (to, from) in out.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    u64::from_le_bytes(out)
}

/// The last four characters; dots for those that are no plain ASCII.
fn tail(text: &str) -> [u8; 4] {
    let mut out = [b'.'; 4];
    for (to, from) in out.iter_mut().rev().zip(text.bytes().rev()) {
        *to = if from.is_ascii_graphic() { from } else { b'.' };
    }
    out
}
