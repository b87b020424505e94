//! Tells in about a nanosecond per byte where a text cannot hold any needle, so that the automaton reads only the rest: hardly any
//! text of telemetry holds a value of the phone, and an automaton over thousands of needles misses the caches at every byte.
//!
//! A needle of `stride + width - 1` bytes or more covers, wherever it lies, one whole window of `width` bytes that begins at a
//! multiple of `stride`. So only those windows of a text are looked up, in a Bloom filter of every window that needles have
//! in their first `stride` places (Wu and Manber's idea with whole windows in place of a shift table).

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

/// The filters of all classes that have needles.
#[derive(Debug, Default)]
pub(crate) struct Sieve {
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    class: Class,
    /// A power of two of words.
    words: Box<[u64]>,
    /// The longest needle of the class.
    longest: usize,
}

impl Sieve {
    /// A sieve for these needles, upper and lower case alike. Needles of fewer than four bytes are not found.
    pub(crate) fn new<'n>(needles: impl Iterator<Item = &'n [u8]> + Clone) -> Sieve {
        let mut above = usize::MAX;
        let mut layers = Vec::new();
        for class in CLASSES {
            let lengths = class.least..above;
            let mine = needles.clone().filter(|needle| lengths.contains(&needle.len()));
            above = class.least;
            let longest = mine.clone().map(<[u8]>::len).max().unwrap_or(0);
            if longest == 0 {
                continue;
            }
            let bits = mine.clone().count().saturating_mul(class.stride * BITS_PER_WINDOW);
            let bits = bits.clamp(64, MOST_BITS).next_power_of_two();
            let mut layer = Layer { class, words: vec![0; bits / 64].into(), longest };
            for needle in mine {
                for window in needle.windows(class.width).take(class.stride) {
                    layer.insert(load(window, class.width));
                }
            }
            layers.push(layer);
        }
        Sieve { layers }
    }

    /// Bytes of memory it takes.
    pub(crate) fn memory_usage(&self) -> usize {
        self.layers.iter().map(|layer| layer.words.len() * 8).sum()
    }

    /// Adds the parts of `text` in which a needle may lie, in order and apart from each other.
    pub(crate) fn parts(&self, text: &[u8], out: &mut Vec<(usize, usize)>) {
        for layer in &self.layers {
            // The width is a constant of each call, so that a window is one load and one mask.
            match layer.class.width {
                8 => layer.parts::<8, 8>(text, out),
                5 => layer.parts::<4, 5>(text, out),
                _ => layer.parts::<1, 4>(text, out),
            }
        }
        if out.len() > 1 {
            out.sort_unstable();
            out.dedup_by(|next, before| {
                let joins = next.0 <= before.1;
                if joins {
                    before.1 = before.1.max(next.1);
                }
                joins
            });
        }
    }
}

impl Layer {
    /// The word a window belongs to, and its two bits in it.
    fn bits(&self, window: u64) -> (usize, u64) {
        // 2^64 divided by the golden ratio (Knuth, section 6.4); the fold lets the last bytes of a window reach every bit used.
        let hash = (window ^ window >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let word = (hash >> 44) as usize & (self.words.len() - 1);
        (word, 1 << (hash >> 58) | 1 << (hash >> 38 & 63))
    }

    fn insert(&mut self, window: u64) {
        let (word, bits) = self.bits(window);
        if let Some(word) = self.words.get_mut(word) {
            *word |= bits;
        }
    }

    #[inline]
    fn may_have(&self, window: u64) -> bool {
        let (word, bits) = self.bits(window);
        self.words.get(word).is_some_and(|word| word & bits == bits)
    }

    fn parts<const STRIDE: usize, const WIDTH: usize>(&self, text: &[u8], out: &mut Vec<(usize, usize)>) {
        if text.len() < self.class.least {
            return;
        }
        let mut at = 0;
        while let Some(window) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            if self.may_have(fold(u64::from_le_bytes(*window), WIDTH)) {
                self.around(at, text.len(), out);
            }
            at += STRIDE;
        }
        while let Some(window) = text.get(at..at + WIDTH) {
            if self.may_have(load(window, WIDTH)) {
                self.around(at, text.len(), out);
            }
            at += STRIDE;
        }
    }

    /// Everything that a needle around the window at `at` could cover.
    #[cold]
    fn around(&self, at: usize, len: usize, out: &mut Vec<(usize, usize)>) {
        let part = (at.saturating_sub(self.longest), at.saturating_add(self.longest).min(len));
        match out.last_mut() {
            Some(last) if last.0 <= part.0 && part.0 <= last.1 => last.1 = last.1.max(part.1),
            _ => out.push(part),
        }
    }
}

/// The first `width` bytes, case folded: a bit that upper and lower case differ in is set in every byte, letter or not.
fn fold(window: u64, width: usize) -> u64 {
    const CASE: u64 = u64::MAX / 255 * 0x20;
    (window | CASE) & (u64::MAX >> (64 - 8 * width))
}

fn load(window: &[u8], width: usize) -> u64 {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(window) {
        *to = *from;
    }
    fold(u64::from_le_bytes(bytes), width)
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
                    let mut parts = Vec::new();
                    sieve.parts(&text, &mut parts);
                    let kept = parts.iter().any(|(from, to)| *from <= at && at + len <= *to);
                    assert!(kept, "length {len} at {at} of {}: {parts:?}", text.len());
                    assert!(parts.windows(2).all(|pair| pair[0].1 < pair[1].0), "{parts:?}");
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
        let mut parts = Vec::new();
        sieve.parts(text.as_bytes(), &mut parts);
        let kept: usize = parts.iter().map(|(from, to)| to - from).sum();
        assert!(kept < text.len() / 10, "{kept} of {}", text.len());
        assert!(sieve.memory_usage() <= MOST_BITS / 8);
    }
}
