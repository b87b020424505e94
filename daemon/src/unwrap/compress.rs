//! Decompression within bounds: gzip, zlib, raw deflate, brotli, zstd. What a cut stream gave is kept.
//!
//! miniz_oxide for deflate: no unsafe code, kept up, and driven here piece by piece so that a bomb stops at the limit.
#![forbid(unsafe_code)]

use std::io::Read;

use miniz_oxide::inflate::{
    TINFLStatus,
    core::{DecompressorOxide, decompress, inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF},
};

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{
    limits::{Budget, Limits},
    unannounced,
};

/// Largest window of a zstd frame that is opened: what RFC 8878 section 3.1.1.1.2 asks every decoder to support.
const ZSTD_WINDOW: u64 = 8 << 20;
/// Most bytes one zstd block decodes to (RFC 8878 section 3.1.1.2.4).
const ZSTD_BLOCK: usize = 128 * 1024;

/// What came out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inflated {
    pub(super) bytes: Vec<u8>,
    /// Why it is not all of it.
    pub(super) cut: Option<&'static str>,
    /// Input that was read.
    pub(super) used: usize,
}

/// Free output that the decoder wants for its fast path: a copy is 258 bytes at the most (RFC 1951 section 3.2.5).
const OUTPUT_SLACK: usize = 288;
/// Fewest bytes that are tried without a magic.
const LEAST_UNANNOUNCED: usize = 24;
/// By how much packing may have lengthened a short text.
const SHRINK_SLACK: usize = 16;
/// The stream is damaged: what came before the damage is shown.
const CUT_DAMAGED: &str = "is damaged: what came before the damage is shown";
/// The stream's own checks disagree.
const CUT_LENGTH: &str = "its own length does not agree: it may be damaged";
const CUT_CHECK: &str = "its own checksum does not agree: it may be damaged";

/// The length of a gzip header (RFC 1952 section 2.3), when there is one.
fn gzip_header(data: &[u8]) -> Option<usize> {
    let flags = match data {
        [0x1f, 0x8b, 8, flags, _, _, _, _, _, _, ..] if flags & 0xe0 == 0 => *flags,
        _ => return None,
    };
    let mut at = 10;
    if flags & 4 != 0 {
        let len = data.get(at..at + 2)?;
        at += 2 + usize::from(u16::from_le_bytes(len.try_into().ok()?));
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            at += memchr::memchr(0, data.get(at..)?)? + 1;
        }
    }
    if flags & 2 != 0 {
        at += 2;
    }
    (at <= data.len()).then_some(at)
}

/// Whether data begins with a gzip header.
pub(super) fn is_gzip(data: &[u8]) -> bool {
    gzip_header(data).is_some()
}

/// Whether data begins with a zlib header (RFC 1950 section 2.2) without a preset dictionary.
pub(super) fn is_zlib(data: &[u8]) -> bool {
    match data {
        [cmf, flg, _, ..] => {
            cmf & 0x0f == 8
                && cmf >> 4 <= 7
                && flg & 0x20 == 0
                && u16::from_be_bytes([*cmf, *flg]).is_multiple_of(31)
        }
        _ => false,
    }
}

/// Whether data begins with a zstd frame (RFC 8878 section 3.1.1).
pub(super) fn is_zstd(data: &[u8]) -> bool {
    data.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
}

/// gzip, all members. `None` when it is none or nothing could be read.
pub(super) fn gunzip(data: &[u8], budget: &mut Budget) -> Option<Inflated> {
    let mut all: Option<Inflated> = None;
    let mut at = 0;
    while let Some(header) = data.get(at..).and_then(gzip_header) {
        let body = data.get(at + header..).unwrap_or_default();
        // A last member says at the end of the data how long it is: then no second round is needed.
        let said = data.last_chunk::<4>().map_or(0, |size| u32::from_le_bytes(*size) as usize);
        // All members are one layer.
        let left = budget.limits().layer_bytes.saturating_sub(all.as_ref().map_or(0, |all| all.bytes.len()));
        let Some(member) = inflate_sized(body, said, left, budget) else {
            if let Some(all) = all.as_mut().filter(|_| left == 0) {
                all.cut = all.cut.or(Some(Limits::CUT_BYTES));
            }
            break;
        };
        let trailer = at + header + member.used;
        let mut cut = member.cut;
        if cut.is_none() {
            // RFC 1952 section 2.3.1: CRC32, then ISIZE, the length modulo 2^32.
            let after = data.get(trailer..).unwrap_or_default();
            cut = match after.split_first_chunk::<4>().map(|(crc, rest)| (crc, rest.first_chunk::<4>())) {
                Some((_, Some(size))) if u32::from_le_bytes(*size) != member.bytes.len() as u32 => {
                    Some(CUT_LENGTH)
                }
                Some((crc, Some(_))) if u32::from_le_bytes(*crc) != crc32fast::hash(&member.bytes) => {
                    Some(CUT_CHECK)
                }
                Some((_, Some(_))) => None,
                _ => Some(Limits::CUT_SHORT),
            };
        }
        at = trailer + 8;
        match &mut all {
            Some(before) => {
                before.bytes.extend_from_slice(&member.bytes);
                before.cut = before.cut.or(cut);
                before.used = at;
            }
            None => all = Some(Inflated { bytes: member.bytes, cut, used: at }),
        }
        // A wrong check leaves the next member where it is; the rest ends the data.
        if cut.is_some_and(|cut| cut != CUT_CHECK && cut != CUT_LENGTH) {
            break;
        }
    }
    all
}

/// zlib. `None` when it is none or nothing could be read.
pub(super) fn unzlib(data: &[u8], budget: &mut Budget) -> Option<Inflated> {
    if !is_zlib(data) {
        return None;
    }
    let inflated = inflate(data.get(2..)?, budget)?;
    Some(Inflated { used: inflated.used + 2, ..inflated })
}

/// Raw deflate (RFC 1951). `None` when nothing could be read.
pub(super) fn inflate(data: &[u8], budget: &mut Budget) -> Option<Inflated> {
    inflate_sized(data, 0, usize::MAX, budget)
}

/// The same of at most `left` bytes, where something says how long the output will be. It is believed as far as telemetry
/// shrinks, no further.
fn inflate_sized(data: &[u8], said: usize, left: usize, budget: &mut Budget) -> Option<Inflated> {
    let room = budget.room(data.len()).min(left);
    if room == 0 || !budget.work(data.len()) {
        return None;
    }
    // Telemetry shrinks to about a quarter: most bodies need no second round.
    let usual = data.len().saturating_mul(5);
    let first = if said > usual { said.min(data.len().saturating_mul(32)) } else { usual };
    let mut out = vec![0; first.saturating_add(OUTPUT_SLACK).min(room)];
    let mut state = DecompressorOxide::new();
    let (mut read, mut written) = (0, 0);
    let cut = loop {
        let rest = data.get(read..).unwrap_or_default();
        let (status, used, made) =
            decompress(&mut state, rest, &mut out, written, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF);
        read += used;
        written += made;
        match status {
            TINFLStatus::Done => break None,
            TINFLStatus::HasMoreOutput if out.len() < room => {
                let size = out.len().saturating_mul(2).min(room);
                out.resize(size, 0);
            }
            TINFLStatus::HasMoreOutput => break Some(Limits::CUT_BYTES),
            TINFLStatus::FailedCannotMakeProgress | TINFLStatus::NeedsMoreInput => {
                break Some(Limits::CUT_SHORT);
            }
            _ => break Some(CUT_DAMAGED),
        }
    };
    out.truncate(written);
    finish(out, cut, read, budget)
}

/// Raw deflate that nothing announced: only a stream that is whole, uses up its bytes and gives text.
pub(super) fn inflate_unannounced(data: &[u8], budget: &mut Budget) -> Option<Inflated> {
    if data.len() < LEAST_UNANNOUNCED || !unannounced::may_inflate_to_text(data) {
        return None;
    }
    let out = inflate(data, budget)?;
    whole_text(&out, data.len()).then_some(out)
}

/// Brotli that nothing announced, on the same terms.
pub(super) fn unbrotli_unannounced(data: &[u8], budget: &mut Budget) -> Option<Inflated> {
    if !(LEAST_UNANNOUNCED..=64 * 1024).contains(&data.len()) || !unannounced::may_be_brotli(data) {
        return None;
    }
    let out = unbrotli(data, budget)?;
    whole_text(&out, data.len()).then_some(out)
}

fn whole_text(out: &Inflated, input: usize) -> bool {
    out.cut.is_none()
        && out.used == input
        && out.bytes.len() + SHRINK_SLACK >= input
        && (super::text::reads_as_text(&out.bytes, LEAST_UNANNOUNCED)
            || super::guess::frames_json(&out.bytes))
}

/// Brotli (RFC 7932): it has no magic, so it is tried only where something says so.
pub(super) fn unbrotli(data: &[u8], budget: &mut Budget) -> Option<Inflated> {
    read_all(brotli_decompressor::Decompressor::new(data, 4096), data.len(), budget)
}

/// zstd (RFC 8878), all frames, block by block: a block gives 128 KiB at the most, so that a bomb stops in time.
pub(super) fn unzstd(data: &[u8], budget: &mut Budget) -> Option<Inflated> {
    let room = budget.room(data.len());
    if room == 0 || !is_zstd(data) || !budget.work(data.len()) {
        return None;
    }
    let mut rest = data;
    let mut bytes = Vec::new();
    let mut cut = None;
    while is_zstd(rest) && cut.is_none() {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(ZSTD_WINDOW);
        if frame.init(&mut rest).is_err() {
            cut = Some(CUT_DAMAGED);
            break;
        }
        let blocks = room.saturating_sub(bytes.len()) / ZSTD_BLOCK + 1;
        cut = match frame.decode_blocks(&mut rest, BlockDecodingStrategy::UptoBlocks(blocks)) {
            Ok(true) => None,
            Ok(false) => Some(Limits::CUT_BYTES),
            Err(_) => Some(if rest.is_empty() { Limits::CUT_SHORT } else { CUT_DAMAGED }),
        };
        if !frame.is_finished() {
            // The decoder keeps a window back until the last block: an empty one (RFC 8878 section 3.1.1.2) ends it.
            let _ = frame.decode_blocks([1u8, 0, 0].as_slice(), BlockDecodingStrategy::UptoBlocks(1));
        }
        bytes.extend(frame.collect().unwrap_or_default());
    }
    if bytes.len() > room {
        bytes.truncate(room);
        cut = Some(Limits::CUT_BYTES);
    }
    let used = data.len() - rest.len();
    finish(bytes, cut, used, budget)
}

/// Reads a decoder to its end, its limit or its first error.
fn read_all(mut decoder: impl Read, input: usize, budget: &mut Budget) -> Option<Inflated> {
    let room = budget.room(input);
    if room == 0 || !budget.work(input) {
        return None;
    }
    let mut out = vec![0; input.saturating_mul(5).saturating_add(64).min(room)];
    let mut written = 0;
    let cut = loop {
        let Some(free) = out.get_mut(written..).filter(|free| !free.is_empty()) else {
            if out.len() >= room {
                break Some(Limits::CUT_BYTES);
            }
            let size = out.len().saturating_mul(2).min(room);
            out.resize(size, 0);
            continue;
        };
        match decoder.read(free) {
            Ok(0) => break None,
            Ok(len) => written += len,
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => break Some(Limits::CUT_SHORT),
            Err(_) => break Some(CUT_DAMAGED),
        }
    };
    out.truncate(written);
    finish(out, cut, input, budget)
}

/// Pays for the output; a failure that gave nothing is no layer.
fn finish(bytes: Vec<u8>, cut: Option<&'static str>, used: usize, budget: &mut Budget) -> Option<Inflated> {
    let paid = budget.take_bytes(bytes.len()) && budget.work(bytes.len());
    (paid && !(bytes.is_empty() && cut.is_some())).then_some(Inflated { bytes, cut, used })
}
