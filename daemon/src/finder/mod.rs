//! Finds `SSL_write` in a stripped binary that carries its own BoringSSL, from structure that survives compilers.
//!
//! BoringSSL reports an error as `ERR_put_error(ERR_LIB_SSL, 0, reason, __FILE__, __LINE__)`. In a release build the file
//! name stays in the binary, and the reasons that one function can report are numbers of its API that never change. Among
//! all functions of `ssl_lib.cc` only `SSL_write` can say both "bad length" and "handshake failure". So: find the file name,
//! find the code that refers to it, group it by function, and see which function speaks of those reasons. Further
//! witnesses (the order of the lines, the call through the method table, the neighbours) must agree, exactly one
//! function must qualify, and when in doubt nothing is hooked.
//!
//! Facts: BoringSSL `ssl/ssl_lib.cc` (`SSL_write`, `SSL_set_tlsext_host_name`) and `include/openssl/ssl.h`, `err.h`
//! (reasons); the shape of the code was read off PyPI's `curl_cffi` 0.17.0, whose symbol table is intact. What was found in
//! which binary, and how that was checked, is in `binaries.md` beside this file.
#![forbid(unsafe_code)]

mod arm64;
mod code;
mod functions;
mod image;
#[cfg(not(target_os = "android"))]
mod x86;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use memchr::memmem;

use code::{Body, Scan};
use functions::Functions;
use image::Image;

pub use image::{Arch, Between, build_id};

/// What BoringSSL calls the file that holds `SSL_write`; directories before it differ from build to build. There a zero ends it; here
/// another byte does, or this program would be taken for one that has BoringSSL in it.
const SOURCE: [u8; 12] = *b"/ssl_lib.cc.";
/// Longest file name taken for one; build directories are long, not endless.
const PATH_MAX: usize = 1024;
/// `ERR_LIB_SSL` (include/openssl/err.h).
const ERR_LIB_SSL: u64 = 16;
/// `ERR_R_SHOULD_NOT_HAVE_BEEN_CALLED` (include/openssl/err.h): `SSL_write` on a QUIC connection.
const SHOULD_NOT_HAVE_BEEN_CALLED: u64 = 66;
/// `SSL_R_BAD_LENGTH` and its kin (include/openssl/ssl.h).
const BAD_LENGTH: u64 = 111;
const SSL_HANDSHAKE_FAILURE: u64 = 215;
const UNINITIALIZED: u64 = 226;
const INVALID_SERVERNAME: u64 = 213;
const NULL_SSL_CTX: u64 = 185;
const PROTOCOL_IS_SHUTDOWN: u64 = 194;
/// `SSL_new` complains of a missing context and, in some versions, of a missing method; what is inlined into it, of memory.
const SITES_OF_NEW: usize = 8;
/// `SSL_set_tlsext_host_name` complains of a bad name and, in some versions, of memory.
const SITES_OF_HOST_NAME: usize = 2;
/// What `SSL_write` says of itself, in the order of its source, since the length is checked there (2023).
const WITH_LENGTH: [u64; 3] = [UNINITIALIZED, SSL_HANDSHAKE_FAILURE, BAD_LENGTH];
/// From 2018, before it knew of QUIC, to 2021 (Android 9 to 12): nobody else there refuses after a shutdown.
const WITH_SHUTDOWN: [u64; 3] = [UNINITIALIZED, PROTOCOL_IS_SHUTDOWN, SSL_HANDSHAKE_FAILURE];
/// Between the two (Android 13). `SSL_peek` knows the same reasons, but its own comes last there.
const WITHOUT_LENGTH: [u64; 3] = [SHOULD_NOT_HAVE_BEEN_CALLED, UNINITIALIZED, SSL_HANDSHAKE_FAILURE];
/// The checks of one function stand within this many source lines.
const LINES: u64 = 80;
/// Witnesses beyond the reasons that must agree.
const ENOUGH: usize = 2;
/// `ssl_lib.cc` has some hundred error sites; many more references mean that this is not what it seems.
const REFERENCES_MAX: usize = 4096;

/// Why a binary could not be looked at.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// No ELF file of a kind that is known here.
    #[error("{0}")]
    NotElf(String),
    /// The caller gave up.
    #[error("stopped before the end of the file")]
    Stopped,
}

/// What came of looking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No BoringSSL in it.
    Absent,
    /// BoringSSL is in it, but which function is `SSL_write` is not certain: nothing is to be hooked.
    Refused(String),
    /// Found.
    Found(Found),
}

/// Where the functions are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `SSL_write`.
    pub ssl_write: Place,
    /// `SSL_set_tlsext_host_name`, when it is certain too.
    pub set_host_name: Option<Place>,
    /// `SSL_new`, when it is certain too: from its return on, an address names another connection.
    pub ssl_new: Option<Place>,
    /// What speaks for it, beside the reasons.
    pub witnesses: Vec<Witness>,
}

/// A function's place in a binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Virtual address as in the program headers.
    pub address: u64,
    /// Offset in the file, which is what a uprobe takes.
    pub offset: u64,
}

/// One thing that speaks for a candidate. The reasons themselves are not counted: without them there is no candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Witness {
    /// It also refuses to write on a QUIC connection.
    QuicRefusal,
    /// It reports to the SSL library's error queue.
    ErrorLibrary,
    /// Its error lines stand in the source in the order they must.
    LineOrder,
    /// It calls through a pointer: the connection's method table.
    MethodCall,
    /// Something calls it, or points at it.
    Reached,
    /// The functions beside it come from the same file.
    Neighbours,
}

impl Witness {
    /// A word for tables and logs.
    pub fn word(self) -> &'static str {
        match self {
            Witness::QuicRefusal => "quic-refusal",
            Witness::ErrorLibrary => "error-library",
            Witness::LineOrder => "line-order",
            Witness::MethodCall => "method-call",
            Witness::Reached => "reached",
            Witness::Neighbours => "neighbours",
        }
    }
}

/// Looks for BoringSSL's `SSL_write` in an ELF file (or in the ELF file that lies uncompressed in an APK, given as its
/// part of the bytes).
///
/// Reads the code once; no memory grows with the file.
///
/// # Errors
/// When the bytes are no 64-bit little-endian ELF file for aarch64 or x86-64.
pub fn find(file: &[u8]) -> Result<Verdict, Error> {
    find_between(file, &|_| ControlFlow::Continue(()))
}

/// The same, for large files: whoever mapped the file is told of each stretch of it that has been gone through, and may
/// let its pages go, or give up.
///
/// # Errors
/// As [`find`], and when told to give up.
pub fn find_between(file: &[u8], between: Between<'_>) -> Result<Verdict, Error> {
    let image = Image::parse(file, between)?;
    let verdict = look(&image);
    if image.is_stopped() { Err(Error::Stopped) } else { Ok(verdict) }
}

fn look(image: &Image<'_>) -> Verdict {
    let names = file_names(image);
    if names.is_empty() {
        return Verdict::Absent;
    }
    let scan = Scan::run(image, &names);
    if scan.references.is_empty() {
        // The name alone also stands in debug information and in crash reporters' tables.
        return Verdict::Absent;
    }
    if scan.references.len() > REFERENCES_MAX {
        return Verdict::Refused("too many references to ssl_lib.cc to be its error sites".into());
    }
    let functions = Functions::of(image, &scan);
    let mut by_function: BTreeMap<u64, u64> = BTreeMap::new();
    for &reference in &scan.references {
        if let Some((start, end)) = functions.around(reference) {
            by_function.insert(start, end);
        }
    }
    let bodies: Vec<Body> =
        by_function.iter().filter_map(|(&start, &end)| Body::read(image, start, end, &names)).collect();
    judge(image, &scan, &functions, &bodies)
}

/// Addresses at which BoringSSL's name for the file may begin, as an error site would load them. What stands before it need
/// not end with a zero: the linker may put code or numbers there, whose last bytes even look like letters.
fn file_names(image: &Image<'_>) -> BTreeSet<u64> {
    let mut names = BTreeSet::new();
    let [source @ .., _] = &SOURCE;
    let source = memmem::Finder::new(source);
    for segment in image.segments() {
        for (from, stretch) in image.stretches(*segment) {
            for at in source.find_iter(stretch.bytes) {
                if stretch.bytes.get(at.saturating_add(source.needle().len())) != Some(&0) {
                    continue;
                }
                let at = from.saturating_add(at);
                let before = segment.bytes.get(..at).unwrap_or_default();
                let window = before.get(before.len().saturating_sub(PATH_MAX)..).unwrap_or_default();
                let letters = window.iter().rev().take_while(|byte| matches!(byte, b' '..=b'~')).count();
                let Some(end) = segment.address.checked_add(at as u64) else { continue };
                names.extend(end.saturating_sub(letters as u64)..=end);
            }
        }
    }
    names
}

fn judge(image: &Image<'_>, scan: &Scan, functions: &Functions<'_>, bodies: &[Body]) -> Verdict {
    let mut candidates = speaking_of(bodies, WITH_LENGTH);
    for older in [WITH_SHUTDOWN, WITHOUT_LENGTH] {
        if candidates.is_empty() {
            candidates = speaking_of(bodies, older);
            candidates.retain(|(_, body)| lines_in_order(body, older));
        }
    }
    let (index, body) = match candidates.as_slice() {
        [one] => *one,
        [] => {
            return Verdict::Refused(
                "BoringSSL is in it, but no function reports what SSL_write reports".to_owned(),
            );
        }
        several => {
            return Verdict::Refused(format!("{} functions report what SSL_write reports", several.len()));
        }
    };
    let Some(entry) = entry(image, scan, functions, body) else {
        return Verdict::Refused("several functions share the error paths of SSL_write".into());
    };
    let mut hot = None;
    if entry != body.start {
        hot = functions
            .around(entry)
            .and_then(|(start, end)| Body::read(image, start, end, &BTreeSet::new()))
            .filter(|hot| hot.start == entry);
        if hot.is_none() {
            return Verdict::Refused("the function before SSL_write's error paths cannot be read".into());
        }
    }
    let method_call = body.indirect_call || hot.as_ref().is_some_and(|hot| hot.indirect_call);
    let mut witnesses = Vec::new();
    let mut see = |fact: bool, witness| {
        if fact {
            witnesses.push(witness);
        }
    };
    see(body.reasons.contains_key(&SHOULD_NOT_HAVE_BEEN_CALLED), Witness::QuicRefusal);
    see(body.libraries.contains(&ERR_LIB_SSL), Witness::ErrorLibrary);
    let shapes = [WITH_LENGTH, WITH_SHUTDOWN, WITHOUT_LENGTH];
    see(shapes.into_iter().any(|shape| lines_in_order(body, shape)), Witness::LineOrder);
    see(method_call, Witness::MethodCall);
    see(scan.called.contains(&entry), Witness::Reached);
    see(has_neighbours(bodies, index), Witness::Neighbours);
    if !method_call || witnesses.len() <= ENOUGH {
        return Verdict::Refused(format!(
            "one function reports what SSL_write reports, but only this speaks for it: {}",
            witnesses.iter().map(|w| w.word()).collect::<Vec<_>>().join(", ")
        ));
    }
    let Some(ssl_write) = place(image, entry) else {
        return Verdict::Refused("SSL_write would lie outside the file".into());
    };
    Verdict::Found(Found {
        ssl_write,
        set_host_name: only(image, scan, functions, bodies, INVALID_SERVERNAME, SITES_OF_HOST_NAME),
        ssl_new: only(image, scan, functions, bodies, NULL_SSL_CTX, SITES_OF_NEW),
        witnesses,
    })
}

/// The only function of the file that reports this reason, with at most so many complaints in all. `SSL_set_tlsext_host_name`
/// alone complains of an invalid server name; `SSL_new` begins with refusing to work without a context.
fn only(
    image: &Image<'_>,
    scan: &Scan,
    functions: &Functions<'_>,
    bodies: &[Body],
    reason: u64,
    sites: usize,
) -> Option<Place> {
    let mut found = bodies.iter().filter(|body| body.reasons.contains_key(&reason) && body.sites <= sites);
    let one = found.next()?;
    if found.next().is_some() { None } else { place(image, entry(image, scan, functions, one)?) }
}

/// Where the function begins that holds these error sites: a compiler may put a function's error paths elsewhere, and the
/// function is then what jumps there. None when several do. Error paths alone call nothing through a pointer, so that what
/// does is the function itself, and a jump to it a call from the end of another.
fn entry(image: &Image<'_>, scan: &Scan, functions: &Functions<'_>, body: &Body) -> Option<u64> {
    if body.indirect_call || scan.called.contains(&body.start) {
        return Some(body.start);
    }
    match functions.jumping_into(image, body.start, body.end) {
        Jumping::Nobody => Some(body.start),
        Jumping::One(start) => Some(start),
        Jumping::Several => None,
    }
}

fn place(image: &Image<'_>, address: u64) -> Option<Place> {
    Some(Place { address, offset: image.offset_of(address)? })
}

fn speaking_of(bodies: &[Body], reasons: [u64; 3]) -> Vec<(usize, &Body)> {
    bodies
        .iter()
        .enumerate()
        .filter(|(_, body)| reasons.iter().all(|reason| body.reasons.contains_key(reason)))
        .collect()
}

/// Whether the reasons are given on lines that follow each other closely, in that order.
fn lines_in_order(body: &Body, reasons: [u64; 3]) -> bool {
    let lines = reasons.map(|reason| body.reasons.get(&reason).copied().flatten());
    let [Some(first), Some(second), Some(third)] = lines else { return false };
    first < second && second < third && third - first < LINES
}

/// The linker keeps a file's functions together.
fn has_neighbours(bodies: &[Body], index: usize) -> bool {
    /// The functions beside `SSL_write` are some hundred bytes long.
    const NEAR: u64 = 0x2000;
    let Some(own) = bodies.get(index) else { return false };
    let before = index.checked_sub(1).and_then(|i| bodies.get(i));
    let after = bodies.get(index.saturating_add(1));
    before.is_some_and(|b| own.start.saturating_sub(b.end) < NEAR)
        && after.is_some_and(|b| b.start.saturating_sub(own.end) < NEAR)
}

/// Which functions jump into a stretch of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Jumping {
    Nobody,
    One(u64),
    Several,
}

#[cfg(test)]
mod tests;
