//! HPACK (RFC 7541), decoding only, for a listener that may have missed the beginning.
//!
//! A dynamic index counts back from the newest entry, so that whoever joins late still resolves every entry that was
//! inserted since, and knows of every older one only that he does not know it. None of the crates at hand can do that:
//! `loona-hpack` (and `fluke-hpack`, `hpack-patched`, its ancestors) stops the block at an unknown index and rebuilds its
//! Huffman table for every string (21 µs for a path of 75 characters, against 0.6 µs), `httlib-hpack` panics on a cut
//! integer, `h2` keeps its decoder to itself. The Huffman code is `httlib-huffman`'s: table driven, no unsafe.

use std::collections::VecDeque;

use httlib_huffman::DecoderSpeed;

/// The table size before any update (RFC 9113 section 6.5.2, SETTINGS_HEADER_TABLE_SIZE).
const TABLE_DEFAULT: usize = 4096;
/// The largest table kept. A sender that uses a larger one makes the oldest entries unknown, not wrong.
const TABLE_MAX: usize = 64 << 10;
/// What every entry costs beside its text (RFC 7541 section 4.1).
const ENTRY_OVERHEAD: usize = 32;

/// A name or value: none when it stands in a table that was not seen being filled.
type Text = Option<Vec<u8>>;
/// A field as it stands in the table.
type Entry<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// The state of one direction of one connection.
#[derive(Debug)]
pub(super) struct Decoder {
    /// Newest first.
    table: VecDeque<(Text, Text)>,
    size: usize,
    max: usize,
    /// Entries older than the ones in the table exist or may exist.
    late: bool,
}

/// Why a block could not be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

impl Decoder {
    /// From the first block of a connection on, or `late`, from some later block on.
    pub(super) fn new(late: bool) -> Self {
        // More than the sender's table holds does no harm: it never refers to what it evicted.
        Decoder { table: VecDeque::new(), size: 0, max: if late { TABLE_MAX } else { TABLE_DEFAULT }, late }
    }

    /// Blocks were lost: every entry's index is unknown.
    pub(super) fn forget(&mut self) {
        self.table.clear();
        self.size = 0;
        self.max = TABLE_MAX;
        self.late = true;
    }

    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        self.size
    }

    /// Reads a whole block, field by field. A block that cannot be read to its end makes the table unknown, because
    /// insertions may have been missed; the fields before stay good.
    pub(super) fn decode(
        &mut self,
        block: &[u8],
        mut field: impl FnMut(Option<&[u8]>, Option<&[u8]>),
    ) -> Result<(), Broken> {
        let mut rest = block;
        while !rest.is_empty() {
            if self.one(&mut rest, &mut field).is_none() {
                self.forget();
                return Err(Broken);
            }
        }
        Ok(())
    }

    fn one(&mut self, rest: &mut &[u8], field: &mut impl FnMut(Option<&[u8]>, Option<&[u8]>)) -> Option<()> {
        let &first = rest.first()?;
        match first {
            // Indexed (section 6.1).
            0x80.. => {
                let index = integer(rest, 7)?;
                let (name, value) = self.get(index)?;
                field(name, value);
            }
            // Literal with incremental indexing (section 6.2.1).
            0x40.. => {
                let (name, value) = self.literal(rest, 6)?;
                field(name.as_deref(), Some(&value));
                self.insert(name, Some(value));
            }
            // Table size update (section 6.3).
            0x20.. => {
                let size = integer(rest, 5)?;
                if size > TABLE_MAX {
                    self.late = true;
                }
                self.max = size.min(TABLE_MAX);
                self.evict();
            }
            // Literal without indexing and never indexed (sections 6.2.2 and 6.2.3).
            _ => {
                let (name, value) = self.literal(rest, 4)?;
                field(name.as_deref(), Some(&value));
            }
        }
        Some(())
    }

    fn literal(&mut self, rest: &mut &[u8], prefix: u32) -> Option<(Text, Vec<u8>)> {
        let name = match integer(rest, prefix)? {
            0 => Some(string(rest)?),
            index => self.get(index)?.0.map(<[u8]>::to_vec),
        };
        Some((name, string(rest)?))
    }

    /// The entry of that index; none for index 0, which does not exist.
    fn get(&mut self, index: usize) -> Option<Entry<'_>> {
        let index = index.checked_sub(1)?;
        if let Some(&(name, value)) = STATIC_TABLE.get(index) {
            return Some((Some(name.as_bytes()), Some(value.as_bytes())));
        }
        let index = index.checked_sub(STATIC_TABLE.len())?;
        if index >= self.table.len() && !self.late {
            // An index that cannot be: this table is not the sender's. Nothing in it can be trusted.
            self.forget();
        }
        Some(self.table.get(index).map_or((None, None), |(n, v)| (n.as_deref(), v.as_deref())))
    }

    fn insert(&mut self, name: Text, value: Text) {
        self.size = self.size.saturating_add(cost(&name, &value));
        self.table.push_front((name, value));
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.max {
            let Some((name, value)) = self.table.pop_back() else { break };
            self.size = self.size.saturating_sub(cost(&name, &value));
        }
    }
}

/// An unknown name counts as empty: too little makes entries stay longer than at the sender, which is harmless.
fn cost(name: &Text, value: &Text) -> usize {
    let length = |text: &Text| text.as_ref().map_or(0, Vec::len);
    ENTRY_OVERHEAD.saturating_add(length(name)).saturating_add(length(value))
}

/// An integer with an N-bit prefix (section 5.1); none when it is cut or above 2^28, which nothing here can mean.
fn integer(rest: &mut &[u8], prefix: u32) -> Option<usize> {
    let (&first, mut tail) = rest.split_first()?;
    let mask = 0xffu8.checked_shr(8u32.saturating_sub(prefix))?;
    let mut value = usize::from(first & mask);
    if value == usize::from(mask) {
        let mut shift = 0u32;
        loop {
            let (&byte, after) = tail.split_first()?;
            tail = after;
            value = value.checked_add(usize::from(byte & 0x7f).checked_shl(shift)?)?;
            if byte & 0x80 == 0 {
                break;
            }
            shift = shift.saturating_add(7);
            if shift > 21 {
                return None;
            }
        }
    }
    *rest = tail;
    Some(value)
}

/// A string literal (section 5.2).
fn string(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let huffman = rest.first()? & 0x80 != 0;
    let length = integer(rest, 7)?;
    let (raw, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    if !huffman {
        return Some(raw.to_vec());
    }
    // No code is shorter than 5 bits.
    let mut text = Vec::with_capacity(raw.len().saturating_mul(8) / 5);
    httlib_huffman::decode(raw, &mut text, DecoderSpeed::FiveBits).ok()?;
    Some(text)
}

/// RFC 7541 appendix A.
#[rustfmt::skip]
const STATIC_TABLE: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::super::super::testing::hex;
    use super::*;

    fn fields(decoder: &mut Decoder, block: &[u8]) -> Vec<String> {
        let mut out = Vec::new();
        let text = |t: Option<&[u8]>| t.map_or("?".to_owned(), |t| String::from_utf8_lossy(t).into_owned());
        let _ = decoder.decode(block, |n, v| out.push(format!("{}: {}", text(n), text(v))));
        out
    }

    /// RFC 7541 appendix C.3 (without Huffman) and C.4 (with), the same three requests.
    const PLAIN: [&str; 3] = [
        "828684410f7777772e6578616d706c652e636f6d",
        "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
    ];
    const HUFFMAN: [&str; 3] = [
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    ];

    #[test]
    fn the_requests_of_appendix_c() {
        for set in [PLAIN, HUFFMAN] {
            let mut decoder = Decoder::new(false);
            let got: Vec<_> = set.iter().map(|block| fields(&mut decoder, &hex(block))).collect();
            assert_eq!(got[0], [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"]);
            assert_eq!(got[1][3..], [":authority: www.example.com", "cache-control: no-cache"]);
            assert_eq!(
                got[2],
                [
                    ":method: GET",
                    ":scheme: https",
                    ":path: /index.html",
                    ":authority: www.example.com",
                    "custom-key: custom-value"
                ]
            );
            // C.3.3 gives the table's size after the third request.
            assert_eq!(decoder.held(), 164);
        }
    }

    /// RFC 7541 appendix C.6: responses with a table of 256 bytes, so that entries are evicted.
    #[test]
    fn eviction_as_in_appendix_c6() {
        let mut decoder = Decoder::new(false);
        decoder.max = 256;
        let blocks = [
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
            "4883640effc1c0bf",
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27\
             087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        ];
        let got: Vec<_> = blocks.iter().map(|b| fields(&mut decoder, &hex(b))).collect();
        assert_eq!(got[1][0], ":status: 307");
        assert_eq!(got[1][3], "location: https://www.example.com");
        assert_eq!(got[2][5], "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
        assert_eq!(decoder.held(), 215);
    }

    #[test]
    fn joined_late_old_entries_are_unknown_and_new_ones_right() {
        let mut decoder = Decoder::new(true);
        assert_eq!(fields(&mut decoder, &hex(HUFFMAN[1]))[3..], ["?: ?", "cache-control: no-cache"]);
        let third = fields(&mut decoder, &hex(HUFFMAN[2]));
        assert_eq!(third[3..], ["?: ?", "custom-key: custom-value"]);
        // Index 62 and 63 are now custom-key and cache-control; a literal may borrow a name that is not known.
        assert_eq!(
            fields(&mut decoder, &[0xbe, 0xbf, 0xc0, 0x7f, 0x01, 0x01, b'x', 0xbe]),
            ["custom-key: custom-value", "cache-control: no-cache", "?: ?", "?: x", "?: x"]
        );
    }

    #[test]
    fn an_impossible_index_makes_the_table_unknown() {
        let mut decoder = Decoder::new(false);
        fields(&mut decoder, &hex(PLAIN[0]));
        assert_eq!(fields(&mut decoder, &[0xc5, 0xbe]), ["?: ?", "?: ?"]);
    }

    #[test]
    fn a_block_cut_anywhere_keeps_what_came_before_and_forgets_the_table() {
        let block = hex(HUFFMAN[2]);
        for end in 0..block.len() {
            let mut decoder = Decoder::new(true);
            let whole = fields(&mut Decoder::new(true), &block);
            let cut = fields(&mut decoder, &block[..end]);
            assert!(whole.starts_with(&cut), "cut at {end}: {cut:?}");
        }
        let mut decoder = Decoder::new(false);
        fields(&mut decoder, &hex(PLAIN[0]));
        assert_eq!(decoder.decode(&hex(PLAIN[1])[..8], |_, _| ()), Err(Broken));
        assert_eq!(fields(&mut decoder, &[0xbe]), ["?: ?"]);
    }

    #[test]
    fn tables_and_integers_are_bounded() {
        let mut decoder = Decoder::new(false);
        // A size update to 2^21 (more than is kept), then entries of about 100 bytes.
        assert!(decoder.decode(&[0x3f, 0xe1, 0xff, 0x7f], |_, _| ()).is_ok());
        let entry = [&[0x40, 0x01, b'n', 0x64][..], &[b'v'; 100]].concat();
        for _ in 0..2000 {
            fields(&mut decoder, &entry);
        }
        assert!(decoder.held() <= TABLE_MAX);
        assert_eq!(
            fields(&mut decoder, &[0xff, 0x80, 0x10]),
            ["?: ?"],
            "evicted here, perhaps not at the sender"
        );
        assert_eq!(decoder.decode(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], |_, _| ()), Err(Broken));
        assert_eq!(decoder.decode(&[0x80], |_, _| ()), Err(Broken), "index 0 does not exist");
    }
}
