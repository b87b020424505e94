//! Whether bytes that nothing announced may be deflate or brotli at all, told by their first bits: every token of a message that
//! decodes as base64 is asked, and setting up a decoder costs a thousand times more than these bits. What is turned away here the
//! decoder, or the demand that whole text comes out, would have turned away too.
#![forbid(unsafe_code)]

/// Bits from the lowest of the first byte on, as deflate and brotli are read.
struct Bits<'d> {
    data: &'d [u8],
    at: usize,
}

impl Bits<'_> {
    /// The next `count` bits (16 at the most), the first one lowest; none behind the end.
    fn take(&mut self, count: usize) -> Option<u32> {
        let byte = self.at / 8;
        let word = |index: usize| self.data.get(byte + index).copied().map_or(0, u32::from);
        if self.at + count > self.data.len() * 8 {
            return None;
        }
        let word = word(0) | word(1) << 8 | word(2) << 16;
        let bits = word >> (self.at % 8) & ((1 << count) - 1);
        self.at += count;
        Some(bits)
    }

    /// Bytes after the one that the next bit is in.
    fn bytes_left(&self) -> usize {
        self.data.len() - self.at.div_ceil(8).min(self.data.len())
    }
}

/// Raw deflate (RFC 1951) whose first block is compressed and may begin a text.
pub(super) fn may_inflate_to_text(data: &[u8]) -> bool {
    let mut bits = Bits { data, at: 1 };
    match bits.take(2) {
        Some(1) => fixed_text(&mut bits) == Some(true),
        Some(2) => complete_lengths(&mut bits) == Some(true),
        // Section 3.2.3: block type 3 does not exist; a stored block (0) is no compression to guess at.
        _ => false,
    }
}

/// Whether the first symbols of a block of fixed codes (section 3.2.6) are of text.
fn fixed_text(bits: &mut Bits<'_>) -> Option<bool> {
    for place in 0..8 {
        // Huffman codes are packed from their highest bit on (section 3.1.1).
        let code = bits.take(7)?.reverse_bits() >> 25;
        if code < 0b001_1000 {
            // The end of the block, or a copy: of what, at the very beginning?
            return Some(code == 0 || place > 0);
        }
        let code = code << 1 | bits.take(1)?;
        let literal = match code {
            0x30..=0xbf => code - 0x30,
            0xc0..=0xc7 => return Some(place > 0),
            _ => (code << 1 | bits.take(1)?) - 0x190 + 144,
        };
        let control = literal < 0x20 && !matches!(literal, 0x09 | 0x0a | 0x0d) || literal == 0x7f;
        // No UTF-8 text has these bytes (RFC 3629 section 4), nor begins with one that continues a character.
        let no_text = matches!(literal, 0xc0 | 0xc1 | 0xf5..) || place == 0 && matches!(literal, 0x80..=0xbf);
        if control || no_text {
            return Some(false);
        }
    }
    Some(true)
}

/// Whether the code of the code lengths is complete (section 3.2.7): every decoder insists on it.
fn complete_lengths(bits: &mut Bits<'_>) -> Option<bool> {
    bits.take(10)?;
    let count = bits.take(4)? + 4;
    let mut space = 0;
    for _ in 0..count {
        match bits.take(3)? {
            0 => {}
            len => space += 128 >> len,
        }
    }
    Some(space == 128)
}

/// Brotli (RFC 7932) whose first meta-block may give text as long as the data, and fits in it.
pub(super) fn may_be_brotli(data: &[u8]) -> bool {
    brotli_header(&mut Bits { data, at: 0 }) == Some(true)
}

/// Sections 9.1 and 9.2. None where the header is cut.
fn brotli_header(bits: &mut Bits<'_>) -> Option<bool> {
    // WBITS: 0, or 1 and three bits, or 1000 and three bits more, of which 001 is no window.
    if bits.take(1)? == 1 && bits.take(3)? == 0 && bits.take(3)? == 1 {
        return Some(false);
    }
    let last = bits.take(1)? == 1;
    if last && bits.take(1)? == 1 {
        // ISLASTEMPTY: nothing comes out.
        return Some(false);
    }
    let nibbles = bits.take(2)?;
    if nibbles == 3 {
        // Metadata: a bit that must be zero, and as many bytes as it says. Nothing comes out of the last one.
        return Some(!last && bits.take(1)? == 0);
    }
    let mut length = bits.take(16)?;
    for nibble in 0..nibbles {
        let more = bits.take(4)?;
        length |= more << (16 + 4 * nibble);
        if nibble + 1 == nibbles && more == 0 {
            // A length is written no longer than it must be.
            return Some(false);
        }
    }
    let length = length as usize + 1;
    if last {
        return Some(length >= bits.data.len());
    }
    // Uncompressed bytes must all be there.
    Some(bits.take(1)? == 0 || length <= bits.bytes_left())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// What people write, in several scripts and lengths.
    fn texts() -> Vec<String> {
        let latin =
            "The owner of this phone reads the news in the morning, and sends a message to a friend.\r\n";
        let other = "Ελληνικά и русский, 中文 and ça: {\"event\":\"$AppStart\",\"time\":1588291200000}\t";
        [latin, other, "{\"a\":1}", "é", "~"].iter().flat_map(|t| (1..40).map(|n| t.repeat(n))).collect()
    }

    #[test]
    fn whatever_a_writer_makes_of_text_is_let_through() {
        for text in texts() {
            for level in 0..=9 {
                let mut encoder =
                    flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(level));
                encoder.write_all(text.as_bytes()).unwrap();
                let packed = encoder.finish().unwrap();
                let stored = packed[0] >> 1 & 3 == 0;
                assert!(stored || may_inflate_to_text(&packed), "level {level}: {text}");
            }
        }
    }

    #[test]
    fn noise_is_turned_away_mostly() {
        let mut seed = 7u64;
        let (mut deflate, mut brotli) = (0, 0);
        for _ in 0..4000 {
            let noise: Vec<u8> = (0..32)
                .map(|_| {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    (seed >> 32) as u8
                })
                .collect();
            deflate += usize::from(may_inflate_to_text(&noise));
            brotli += usize::from(may_be_brotli(&noise));
            for end in 0..8 {
                may_inflate_to_text(&noise[..end]);
                may_be_brotli(&noise[..end]);
            }
        }
        assert!(deflate < 400 && brotli < 3000, "{deflate} {brotli}");
    }
}
