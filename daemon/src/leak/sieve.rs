//! Tells in about half a nanosecond per byte which needles a text may hold, and where: hardly any text of telemetry holds a value of
//! the phone, and an automaton over thousands of needles misses the caches at every byte.
//!
//! A needle of `stride + width - 1` bytes or more covers, wherever it lies, one whole window of `width` bytes that begins at a
//! multiple of `stride`. So only those windows of a text are looked up, in a Bloom filter of every window that needles have
//! in their last `stride` places (Wu and Manber's idea with whole windows in place of a shift table). A window that passes leads to
//! the needles that have it.

/// How needles of one range of lengths are looked for.
#[derive(Debug, Clone, Copy)]
struct Class {
    /// The shortest needle of the class; `stride + width - 1`.
    least: usize,
    stride: usize,
    width: usize,
}

/// From the longest needles to the shortest: the longer, the fewer windows of a text are looked at.
const CLASSES: [Class; 3] = [
    Class { least: 15, stride: 8, width: 8 },
    Class { least: 8, stride: 4, width: 5 },
    Class { least: 4, stride: 1, width: 4 },
];

/// Bits per window in the filters: one window in 64 passes the first look-up by chance, one in 4,000 both.
const BITS_PER_WINDOW: usize = 64;
/// The largest filter, in bits: 128 KiB.
const MOST_BITS: usize = 1 << 20;

/// The filters of all classes that have needles, and which needles have a window.
#[derive(Debug, Default)]
pub(crate) struct Sieve {
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    class: Class,
    /// A power of two of words.
    words: Box<[u64]>,
    /// Every window by its hash, in order.
    windows: Box<[Window]>,
}

/// A window of a needle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Window {
    hash: u32,
    needle: u32,
    /// Where in the needle it begins.
    offset: u32,
}

/// A needle that may begin at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) needle: usize,
    pub(crate) start: usize,
}

impl Sieve {
    /// A sieve for these needles, upper and lower case alike. Needles of fewer than four bytes are not found.
    pub(crate) fn new<'n>(needles: impl Iterator<Item = &'n [u8]> + Clone) -> Sieve {
        let mut above = usize::MAX;
        let mut layers = Vec::new();
        for class in CLASSES {
            let lengths = class.least..above;
            let mine = (0..)
                .zip(needles.clone())
                .filter(|(_, needle): &(u32, &[u8])| lengths.contains(&needle.len()));
            above = class.least;
            let count = mine.clone().count().saturating_mul(class.stride);
            if count == 0 {
                continue;
            }
            let bits = count.saturating_mul(BITS_PER_WINDOW).clamp(64, MOST_BITS).next_power_of_two();
            let mut words: Box<[u64]> = vec![0; bits / 64].into();
            let mut windows = Vec::with_capacity(count);
            for (needle, text) in mine {
                // The last windows: names of packages begin alike and end in their own way.
                let first = text.len() - class.least;
                for (offset, window) in (0..).zip(text.windows(class.width)).skip(first) {
                    let hash = hash(load(window, class.width));
                    let (word, bits) = place(hash, words.len());
                    if let Some(word) = words.get_mut(word) {
                        bits.into_iter().for_each(|bit| *word |= 1 << bit);
                    }
                    windows.push(Window { hash: short(hash), needle, offset });
                }
            }
            windows.sort_unstable();
            layers.push(Layer { class, words, windows: windows.into() });
        }
        Sieve { layers }
    }

    /// Bytes of memory it takes.
    pub(crate) fn memory_usage(&self) -> usize {
        let layer = |layer: &Layer| size_of_val(&*layer.words) + size_of_val(&*layer.windows);
        self.layers.iter().map(layer).sum()
    }

    /// Says every needle that one of the windows of `text` belongs to, with the place where it would begin. None is missed that
    /// is there, each is said once; those that are not there are for the caller to tell.
    pub(crate) fn spots(&self, text: &[u8], mut found: impl FnMut(Spot)) {
        for layer in &self.layers {
            // The width is a constant of each call, so that a window is one load and one mask.
            match layer.class.width {
                8 => layer.spots::<8, 8>(text, &mut found),
                5 => layer.spots::<4, 5>(text, &mut found),
                _ => layer.spots::<1, 4>(text, &mut found),
            }
        }
    }
}

impl Layer {
    #[inline(always)]
    fn spots<const STRIDE: usize, const WIDTH: usize>(&self, text: &[u8], found: &mut impl FnMut(Spot)) {
        if text.len() < self.class.least {
            return;
        }
        let mut at = 0;
        while let Some((hash, kept)) = next::<STRIDE, WIDTH>(&self.words, text, &mut at) {
            self.needles(hash, kept, text.len(), found);
        }
        // What is left is shorter than a load: the last eight bytes, shifted.
        let last = match text.last_chunk::<8>() {
            Some(last) => u64::from_le_bytes(*last),
            None => load_short(text),
        };
        let loaded = text.len().saturating_sub(8);
        while at + WIDTH <= text.len() {
            let hash = hash(fold(last >> (8 * (at - loaded)), WIDTH));
            if may_have(&self.words, hash) {
                self.needles(short(hash), at, text.len(), found);
            }
            at += STRIDE;
        }
    }

    /// The needles that have this window, where they would begin.
    #[cold]
    fn needles(&self, hash: u32, at: usize, len: usize, found: &mut impl FnMut(Spot)) {
        let first = self.windows.partition_point(|window| window.hash < hash);
        let same = self.windows.iter().skip(first).take_while(|window| window.hash == hash);
        let begins = same.filter_map(|window| {
            let start = at.checked_sub(window.offset as usize)?;
            (start < len).then_some(Spot { needle: window.needle as usize, start })
        });
        begins.for_each(found);
    }
}

/// The next window that passes, from `at` on: its hash and where it is. Apart from what is done with it, so that nothing but this
/// is in the registers.
#[inline(never)]
fn next<const STRIDE: usize, const WIDTH: usize>(
    words: &[u64],
    text: &[u8],
    at: &mut usize,
) -> Option<(u32, usize)> {
    let mut here = *at;
    let mut kept = None;
    while let Some(window) = text.get(here..).and_then(|rest| rest.first_chunk::<8>()) {
        let hash = hash(fold(u64::from_le_bytes(*window), WIDTH));
        here += STRIDE;
        if may_have(words, hash) {
            kept = Some((short(hash), here - STRIDE));
            break;
        }
    }
    *at = here;
    kept
}

/// Whether a needle may have the window of this hash. One bit after the other: the first turns away nearly all, and each is one
/// instruction where both in one mask take six.
#[inline(always)]
fn may_have(words: &[u64], hash: u64) -> bool {
    let (word, [first, second]) = place(hash, words.len());
    words.get(word).is_some_and(|word| word >> first & 1 != 0 && word >> second & 1 != 0)
}

#[inline(always)]
fn hash(window: u64) -> u64 {
    // 2^64 divided by the golden ratio (Knuth, section 6.4); the fold lets the last bytes of a window reach every bit used.
    (window ^ window >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The word a window belongs to, and its two bits in it.
#[inline(always)]
fn place(hash: u64, words: usize) -> (usize, [u64; 2]) {
    ((hash >> 44) as usize & (words - 1), [hash >> 58, hash >> 38 & 63])
}

/// What windows are ordered by.
fn short(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The first `width` bytes, case folded: a bit that upper and lower case differ in is set in every byte, letter or not.
#[inline(always)]
fn fold(window: u64, width: usize) -> u64 {
    const CASE: u64 = u64::MAX / 255 * 0x20;
    (window | CASE) & (u64::MAX >> (64 - 8 * width))
}

fn load(window: &[u8], width: usize) -> u64 {
    fold(load_short(window), width)
}

/// At most eight bytes, the first one lowest.
fn load_short(window: &[u8]) -> u64 {
    window.iter().take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// xorshift64: the same in every run.
    fn noise(seed: &mut u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    #[test]
    fn a_needle_of_any_length_is_kept_at_any_place_in_any_case() {
        let mut seed = 0x9e37_79b9_7f4a_7c15;
        for len in 4..70 {
            let needle: Vec<u8> = (0..len).map(|_| b'a' + (noise(&mut seed) % 26) as u8).collect();
            let sieve =
                Sieve::new([b"fill-in-one".as_slice(), &needle, b"a-much-longer-one-than-most"].into_iter());
            for at in 0..40 {
                for tail in [0, 1, 7, 30] {
                    let mut text: Vec<u8> = (0..at).map(|_| (noise(&mut seed) >> 20) as u8).collect();
                    text.extend(needle.to_ascii_uppercase());
                    text.extend((0..tail).map(|_| (noise(&mut seed) >> 20) as u8));
                    let mut spots = Vec::new();
                    sieve.spots(&text, |spot| spots.push(spot));
                    let kept = spots.iter().filter(|spot| **spot == Spot { needle: 1, start: at }).count();
                    assert_eq!(kept, 1, "length {len} at {at} of {}: {spots:?}", text.len());
                }
            }
        }
    }

    #[test]
    fn hardly_anything_of_other_text_is_kept() {
        let mut seed = 7;
        let needles: Vec<String> =
            (0..2000).map(|_| format!("{:016x}{:016x}", noise(&mut seed), noise(&mut seed))).collect();
        let sieve = Sieve::new(needles.iter().map(String::as_bytes));
        let text: String = (0..4000).map(|_| format!("{:016x}", noise(&mut seed))).collect();
        let mut spots = Vec::new();
        sieve.spots(text.as_bytes(), |spot| spots.push(spot));
        assert!(spots.len() < 4, "{} in {} bytes", spots.len(), text.len());
        assert!(sieve.memory_usage() <= MOST_BITS / 8 + needles.len() * 8 * 12);
    }
}
