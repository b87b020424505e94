//! A sample of a uprobe event as perf hands it over, read by what tracefs' `format` file says of its fields. Sans I/O.
//!
//! The file has a line for each field: `field:u64 w3; offset:64; size:8; signed:0;`
//! (Documentation/trace/events.rst). Offsets count from the `common_type` that heads every sample.
#![forbid(unsafe_code)]

use super::WORDS;

/// Why a `format` file is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A field is not in it.
    #[error("it has no field {0}")]
    Missing(&'static str),
    /// A field is not as long as it was asked for.
    #[error("field {0} is not {1} bytes long")]
    Size(&'static str, u64),
}

/// Where the fields of an event lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Its number, which heads each of its samples.
    pub id: u16,
    object: usize,
    buffer: usize,
    length: usize,
    /// The words of memory, in order: those that were asked for, all in one.
    words: usize,
    count: usize,
}

/// What a function was given: an object, a buffer, a length, and the words that lie in the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The `SSL*`, without tag bits.
    pub object: u64,
    /// The address of the buffer, as it was given.
    pub buffer: u64,
    /// The length, or whatever lay in that register.
    pub length: u64,
    /// What lay in the buffer. A word that is not there is 0.
    pub words: Vec<u8>,
}

/// A sample with the fields that were asked for: `PERF_SAMPLE_TID`, `PERF_SAMPLE_TIME`, `PERF_SAMPLE_RAW`, in this order
/// (perf_event_open(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample<'a> {
    /// Process id.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// Nanoseconds since boot, without time asleep.
    pub ktime: u64,
    /// The event's fields.
    pub raw: &'a [u8],
}

impl<'a> Sample<'a> {
    /// Reads the body of a PERF_RECORD_SAMPLE; none when it is cut short.
    pub fn parse(body: &'a [u8]) -> Option<Sample<'a>> {
        let (tgid, rest) = body.split_first_chunk::<4>()?;
        let (tid, rest) = rest.split_first_chunk::<4>()?;
        let (ktime, rest) = rest.split_first_chunk::<8>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        Some(Sample {
            tgid: u32::from_ne_bytes(*tgid),
            tid: u32::from_ne_bytes(*tid),
            ktime: u64::from_ne_bytes(*ktime),
            raw: rest.get(..usize::try_from(u32::from_ne_bytes(*len)).ok()?)?,
        })
    }

    /// The number of the event that it is one of.
    pub fn event(&self) -> Option<u16> {
        self.raw.first_chunk().map(|id| u16::from_ne_bytes(*id))
    }
}

impl Layout {
    /// Reads a `format` file of the event that `super::definition` makes with `count` words.
    ///
    /// # Errors
    /// [`LayoutError`]: the file is of another event.
    pub fn parse(text: &str, count: usize) -> Result<Layout, LayoutError> {
        let id = text.lines().find_map(|line| line.strip_prefix("ID:")?.trim().parse().ok());
        let find = |name: &'static str| place(text, name).ok_or(LayoutError::Missing(name));
        let number = |name| match find(name)? {
            (at, 8) => Ok(at),
            _ => Err(LayoutError::Size(name, 8)),
        };
        let count = count.min(WORDS);
        let layout = Layout {
            id: id.ok_or(LayoutError::Missing("ID"))?,
            object: number("object")?,
            buffer: number("buffer")?,
            length: number("length")?,
            words: number("w0")?,
            count,
        };
        // They are declared one after the other, and every kernel lays them out so.
        for nth in 0..count {
            let expected = layout.words.checked_add(nth.saturating_mul(8));
            match place(text, &format!("w{nth}")) {
                Some((at, 8)) if Some(at) == expected => {}
                _ => return Err(LayoutError::Missing("w0 and all words behind it in a row")),
            }
        }
        Ok(layout)
    }

    /// Bytes of the buffer that a sample holds.
    pub fn len(&self) -> usize {
        self.count.saturating_mul(8)
    }

    /// True when it holds none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What a sample tells; none when it is cut short.
    pub fn offer(&self, raw: &[u8]) -> Option<Offer> {
        let number = |at: usize| Some(u64::from_ne_bytes(*raw.get(at..)?.first_chunk()?));
        Some(Offer {
            object: number(self.object)? & UNTAGGED,
            buffer: number(self.buffer)?,
            length: number(self.length)?,
            words: raw.get(self.words..)?.get(..self.len())?.to_vec(),
        })
    }
}

/// Android tags heap pointers in the top byte; the programs name objects without.
const UNTAGGED: u64 = 0x00ff_ffff_ffff_ffff;

/// Offset and size of a field.
fn place(text: &str, name: &str) -> Option<(usize, u64)> {
    text.lines().find_map(|line| {
        let mut parts = line.trim().split(';').map(str::trim);
        let declared = parts.next()?.strip_prefix("field:")?;
        if declared.rsplit_once(' ')?.1 != name {
            return None;
        }
        let offset = parts.next()?.strip_prefix("offset:")?.parse().ok()?;
        let size = parts.next()?.strip_prefix("size:")?.parse().ok()?;
        Some((offset, size))
    })
}

impl Offer {
    /// The first `wanted` bytes of the buffer as far as they are known to be right, if the buffer has so many.
    ///
    /// A word that faults is 0, and the words before and behind it are what they are. All of the buffer is mapped, or the
    /// function that was given it would fault itself; so a word can only fault that begins in the buffer's last page and ends
    /// in the next one. Such a one that is 0 may be none: what was read ends before it.
    pub fn head(&self, wanted: u64) -> &[u8] {
        /// The smallest page there is.
        const PAGE: u64 = 4096;
        const WORD: u64 = 8;
        let doubtful = self.words.as_chunks::<8>().0.iter().enumerate().find(|(nth, word)| {
            let at = self.buffer.wrapping_add((*nth as u64).wrapping_mul(WORD));
            **word == [0; 8] && at % PAGE > PAGE - WORD
        });
        let known = doubtful.map_or(self.words.len(), |(nth, _)| nth.saturating_mul(8));
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        self.words.get(..known.min(wanted)).unwrap_or_default()
    }

    /// The text up to its NUL; none when that is not in it, or what lies before is no text.
    pub fn text(&self) -> Option<&str> {
        let known = self.head(u64::MAX);
        let end = known.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(known.get(..end)?).ok().filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `events/telltale/e/format` of Linux 6.18 on x86-64, for an event defined with four words.
    const FORMAT_6_18: &str = include_str!("../../../tests/tracefs/format-6.18-x86_64");

    fn raw(layout: &Layout, object: u64, buffer: u64, length: u64, words: &[u64]) -> Vec<u8> {
        let mut raw = vec![0; layout.words + layout.len()];
        raw[..2].copy_from_slice(&layout.id.to_ne_bytes());
        for (at, value) in [(layout.object, object), (layout.buffer, buffer), (layout.length, length)] {
            raw[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        }
        for (nth, word) in words.iter().enumerate() {
            let at = layout.words + nth * 8;
            raw[at..at + 8].copy_from_slice(&word.to_ne_bytes());
        }
        raw
    }

    fn offer(buffer: u64, words: &[u64]) -> Offer {
        let words = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        Offer { object: 1, buffer, length: 1, words }
    }

    #[test]
    fn a_format_file_says_where_everything_lies() {
        let layout = Layout::parse(FORMAT_6_18, 4).unwrap();
        assert_eq!((layout.object, layout.buffer, layout.length, layout.words), (16, 24, 32, 40));
        assert_eq!(layout.len(), 32);
        let text = u64::from_ne_bytes(*b"GET / HT");
        let raw = raw(&layout, 0xb400_0000_0000_1000, 0x2000, 20, &[text; 4]);
        let offer = layout.offer(&raw).unwrap();
        assert_eq!((offer.object, offer.buffer, offer.length), (0x1000, 0x2000, 20));
        assert_eq!(offer.head(20), b"GET / HTGET / HTGET ");
        for end in 0..raw.len() {
            assert_eq!(layout.offer(&raw[..end]), None, "{end}");
        }
    }

    #[test]
    fn a_format_file_of_another_event_is_refused() {
        assert_eq!(Layout::parse("", 4), Err(LayoutError::Missing("ID")));
        assert_eq!(Layout::parse("ID: 7\n", 4), Err(LayoutError::Missing("object")));
        let short = FORMAT_6_18.replace("u64 length;\toffset:32;\tsize:8", "u32 length;\toffset:32;\tsize:4");
        assert_eq!(Layout::parse(&short, 4), Err(LayoutError::Size("length", 8)));
        let gap = FORMAT_6_18.replace("w2;\toffset:56", "w2;\toffset:60");
        assert!(Layout::parse(&gap, 4).is_err());
        assert!(Layout::parse(FORMAT_6_18, 5).is_err());
        for end in 0..FORMAT_6_18.len() {
            // Cut anywhere it is refused, or is whole but for what nobody needs.
            if let Ok(layout) = Layout::parse(&FORMAT_6_18[..end], 4) {
                assert_eq!(layout, Layout::parse(FORMAT_6_18, 4).unwrap());
            }
        }
    }

    #[test]
    fn a_sample_is_read_whole_or_not() {
        let mut body = Vec::new();
        for word in [10u32, 11] {
            body.extend(word.to_ne_bytes());
        }
        body.extend(99u64.to_ne_bytes());
        body.extend(6u32.to_ne_bytes());
        body.extend([7, 0, 1, 2, 3, 4]);
        // Perf pads.
        let padded = [&body[..], &[0; 3]].concat();
        let sample = Sample::parse(&padded).unwrap();
        assert_eq!((sample.tgid, sample.tid, sample.ktime, sample.event()), (10, 11, 99, Some(7)));
        assert_eq!(sample.raw, [7, 0, 1, 2, 3, 4]);
        for end in 0..body.len() {
            assert_eq!(Sample::parse(&body[..end]), None, "{end}");
        }
    }

    #[test]
    fn a_word_over_a_pages_end_that_may_have_faulted_ends_what_is_known() {
        let word = u64::from_ne_bytes(*b"abcdefgh");
        // The second word begins three bytes before the page's end.
        let at = 0x7000 - 11;
        assert_eq!(offer(at, &[word, word, word]).head(24).len(), 24);
        assert_eq!(offer(at, &[word, 0, word]).head(24), b"abcdefgh");
        assert_eq!(offer(at, &[word, 0, word]).head(5), b"abcde");
        // Zeros that lie in one page are zeros that were sent.
        assert_eq!(offer(0x6000, &[word, 0, word]).head(24).len(), 24);
        // The word that ends with the page, and the one that begins the next.
        assert_eq!(offer(0x7000 - 8, &[0, 0]).head(16).len(), 16);
    }

    #[test]
    fn a_name_ends_with_its_nul() {
        let name = |bytes: &[u8; 8]| offer(0x1000, &[u64::from_ne_bytes(*bytes)]);
        assert_eq!(name(b"a.test\0x").text(), Some("a.test"));
        assert_eq!(name(b"longname").text(), None);
        assert_eq!(name(b"\0ongname").text(), None);
        assert_eq!(name(b"\xff\xfe\0\0\0\0\0\0").text(), None);
    }
}
