//! Where functions begin and end in a stripped binary: the unwind table says it; without one, the targets of calls do.

use super::code::{Scan, direct_jumps};
use super::image::Image;
use super::{BTreeSet, Jumping};

/// A function is not looked at beyond this; `SSL_write` has some hundred bytes.
pub(super) const FUNCTION_MAX: u64 = 16 << 10;

/// The functions of a binary, by where they start: what the unwind table lists (some builds keep it for all functions,
/// some, as Chromium's, for a few) and what is called.
#[derive(Debug)]
pub(super) struct Functions<'a> {
    table: Option<UnwindTable<'a>>,
    /// Targets of calls, near the references only.
    called: &'a BTreeSet<u64>,
}

impl<'a> Functions<'a> {
    pub(super) fn of(image: &Image<'a>, scan: &'a Scan) -> Self {
        Functions { table: UnwindTable::of(image), called: &scan.called }
    }

    /// Start and end of the function that holds an address.
    pub(super) fn around(&self, address: u64) -> Option<(u64, u64)> {
        let (listed, listed_next) = self.table.as_ref().and_then(|table| table.around(address)).unzip();
        let called = self.called.range(..=address).next_back().copied();
        let called_next = self.called.range(address.checked_add(1)?..).next().copied();
        let start = listed.max(called)?;
        let limit = start.saturating_add(FUNCTION_MAX);
        let next = listed_next.flatten().into_iter().chain(called_next).min().unwrap_or(limit);
        (address < limit).then(|| (start, next.min(limit)))
    }

    /// Which function other than the one at `start` jumps to `start..end`.
    pub(super) fn jumping_into(&self, image: &Image<'_>, start: u64, end: u64) -> Jumping {
        let mut from = BTreeSet::new();
        for source in direct_jumps(image, start, end) {
            if let Some((function, _)) = self.around(source)
                && function != start
            {
                from.insert(function);
            }
        }
        match (from.len(), from.first()) {
            (0, _) | (_, None) => Jumping::Nobody,
            (1, Some(&one)) => Jumping::One(one),
            _ => Jumping::Several,
        }
    }
}

/// `.eh_frame_hdr`'s sorted table (Linux Standard Base 5.0, 10.6.2): pairs of function start and unwind record, both
/// relative to the header (`DW_EH_PE_datarel | DW_EH_PE_sdata4`), which is what every linker writes.
#[derive(Debug)]
pub(super) struct UnwindTable<'a> {
    base: u64,
    entries: &'a [[u8; 8]],
}

impl<'a> UnwindTable<'a> {
    fn of(image: &Image<'a>) -> Option<Self> {
        const DATAREL_SDATA4: u8 = 0x3b;
        const UDATA4: u8 = 0x03;
        /// The pointer to `.eh_frame` is four bytes in either of these.
        const POINTER: [u8; 2] = [0x1b, 0x3b];
        let (base, bytes) = image.unwind?;
        let (&[1, pointer, count_form, table_form], rest) = bytes.split_first_chunk::<4>()? else {
            return None;
        };
        if table_form != DATAREL_SDATA4 || count_form != UDATA4 || !POINTER.contains(&pointer) {
            return None;
        }
        let count = usize::try_from(u32::from_le_bytes(*rest.get(4..8)?.first_chunk()?)).ok()?;
        let all = rest.get(8..)?.as_chunks::<8>().0;
        let entries = all.get(..count).unwrap_or(all);
        (!entries.is_empty()).then_some(UnwindTable { base, entries })
    }

    fn start(&self, entry: &[u8; 8]) -> u64 {
        let &[a, b, c, d, ..] = entry;
        self.base.wrapping_add_signed(i64::from(i32::from_le_bytes([a, b, c, d])))
    }

    /// The start at or before an address, and the one after it.
    fn around(&self, address: u64) -> Option<(u64, Option<u64>)> {
        let after = self.entries.partition_point(|entry| self.start(entry) <= address);
        let start = self.start(self.entries.get(after.checked_sub(1)?)?);
        Some((start, self.entries.get(after).map(|entry| self.start(entry))))
    }
}
