//! address → network and country, offline, from one packed file that is read where it lies.
//!
//! `cargo ndk-build place-data` makes the file (`ndk-build/src/place_data.rs` writes it); this is its only reader. It takes any
//! bytes, so that `kernel` can map the file and a look-up touches three or four of its pages; it allocates nothing and
//! believes nothing: a damaged file is an error at opening or an address nothing is known of.
//!
//! # The file, format 1
//! Numbers are little-endian. All offsets count from the start of the file.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | `tellplac` |
//! | 8..12 | format: 1 |
//! | 12..16 | CRC-32 (IEEE 802.3) of everything from byte 16 on |
//! | 16..24 | length of the file |
//! | 24..88 | eight sections, each offset and length as u32, in the order of [`Section`] |
//!
//! - **text**: UTF-8 lines `key=value`: `country_source`, `country_date`, `network_source`, `network_date`, `attribution`.
//! - **countries**: two letters each (ISO 3166-1 alpha-2).
//! - **networks**: AS number and offset of its name within **names**, u32 each; a name ends where the next begins. The
//!   networks with most ranges come first, so that most references to them take one byte or two.
//! - **four range tables** (country and network, IPv4 and IPv6): u32 number of blocks; per block its first address (4 or 16
//!   bytes) and the offset of its bytes after the index (u32); then the blocks. A block is the value of its first address,
//!   then up to 63 pairs of distance to the next start and the value there. Every address up to the next start has
//!   that value; 0 is "not known", n is row n-1 of countries or networks.
//! - A value is a LEB128 number. A distance is `odd << shift`: one byte with the shift in its low seven bits; its top bit set means
//!   odd = 1 (most ranges are a power of two long), otherwise LEB128 `(odd - 3) / 2` follows.
//!
//! Names lie uncompressed: the zip compresses them better than blocks would, and a look-up can lend them out.

use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;

/// What the file begins with.
const MAGIC: &[u8; 8] = b"tellplac";
/// The only format there is.
const FORMAT: u32 = 1;
/// Where what the checksum covers begins.
const CHECKED_FROM: usize = 16;
/// Where the section table begins.
const SECTIONS_AT: usize = 24;
/// RFC 6052 section 2.1: an IPv4 address behind a NAT64 translator, as phones on IPv6-only mobile networks see it.
const NAT64: [u8; 12] = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];

/// The file as the module has it: in the folder that holds `system/bin/telltale`. None when this program lies elsewhere or the module was
/// built without it.
pub fn installed_file() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let file = program.ancestors().nth(3)?.join("telltale-place.bin");
    file.is_file().then_some(file)
}

/// Why a file cannot be used. The cure is always the same: install the module again, or `cargo ndk-build place-data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IpDataError {
    /// It is something else.
    #[error("this is no Telltale address file; install the module again")]
    NotOurs,
    /// It was made for another version.
    #[error("address file of format {0}, this version reads format {FORMAT}; install the module again")]
    Format(u32),
    /// Its length is not what it says.
    #[error("the address file is {found} bytes, it should be {told}; install the module again")]
    Length {
        /// As the file says.
        told: u64,
        /// As it is.
        found: u64,
    },
    /// A section lies outside the file.
    #[error("section {0:?} lies outside the address file; install the module again")]
    Section(Section),
    /// Its bytes are not those that were written.
    #[error("the address file is damaged (checksum); install the module again")]
    Checksum,
}

/// The parts of the file, in the order of its section table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Sources, dates, attribution.
    Text,
    /// Country codes.
    Countries,
    /// AS numbers.
    Networks,
    /// Names of networks.
    Names,
    /// IPv4 → country.
    Country4,
    /// IPv6 → country.
    Country6,
    /// IPv4 → network.
    Network4,
    /// IPv6 → network.
    Network6,
}

const SECTIONS: [Section; 8] = [
    Section::Text,
    Section::Countries,
    Section::Networks,
    Section::Names,
    Section::Country4,
    Section::Country6,
    Section::Network4,
    Section::Network6,
];

/// The network an address belongs to: who operates it, which says nothing about who owns the host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network<'a> {
    /// Autonomous system number.
    pub asn: u32,
    /// The organisation as registered: `Alibaba (US) Technology Co., Ltd.`.
    pub name: &'a str,
}

impl<'a> Network<'a> {
    /// The organisation as a sentence would call it: `Alibaba`.
    pub fn short(&self) -> &'a str {
        short_name(self.name)
    }
}

/// A packed address file. `B` is whatever holds its bytes: a mapping, a `Vec<u8>`, a `&'static [u8]`.
#[derive(Debug, Clone)]
pub struct IpData<B> {
    bytes: B,
    sections: [Range<usize>; SECTIONS.len()],
}

impl<B: AsRef<[u8]>> IpData<B> {
    /// Reads the head of the file. The body is not touched: see [`IpData::verify`].
    ///
    /// # Errors
    /// [`IpDataError`] when the head is not that of a file of this format and length.
    pub fn open(bytes: B) -> Result<Self, IpDataError> {
        let all = bytes.as_ref();
        if all.get(..MAGIC.len()) != Some(MAGIC.as_slice()) {
            return Err(IpDataError::NotOurs);
        }
        let format = u32_at(all, 8).ok_or(IpDataError::NotOurs)?;
        if format != FORMAT {
            return Err(IpDataError::Format(format));
        }
        let found = all.len() as u64;
        let told = all.get(16..24).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
        if told != found {
            return Err(IpDataError::Length { told, found });
        }
        let mut sections: [Range<usize>; SECTIONS.len()] = Default::default();
        for (index, (slot, section)) in sections.iter_mut().zip(SECTIONS).enumerate() {
            *slot = section_range(all, index).ok_or(IpDataError::Section(section))?;
        }
        Ok(Self { bytes, sections })
    }

    /// Reads the whole file and compares its checksum: for `doctor` and after an update, not for every start.
    ///
    /// # Errors
    /// [`IpDataError::Checksum`] when it does not fit.
    pub fn verify(&self) -> Result<(), IpDataError> {
        let all = self.bytes.as_ref();
        let told = u32_at(all, 12);
        let found = all.get(CHECKED_FROM..).map(crc32fast::hash);
        if told.is_some() && told == found { Ok(()) } else { Err(IpDataError::Checksum) }
    }

    /// The country the address is said to be in, ISO 3166-1 alpha-2. A claim of [`IpData::country_source`], no measurement.
    pub fn country(&self, address: IpAddr) -> Option<&str> {
        let row = self.value(address, Section::Country4, Section::Country6)?.checked_mul(2)?;
        let code = self.section(Section::Countries).get(row..row.checked_add(2)?)?;
        std::str::from_utf8(code).ok()
    }

    /// The network the address is routed to.
    pub fn network(&self, address: IpAddr) -> Option<Network<'_>> {
        let row = self.value(address, Section::Network4, Section::Network6)?.checked_mul(8)?;
        let networks = self.section(Section::Networks);
        let names = self.section(Section::Names);
        let asn = u32_at(networks, row)?;
        let start = u32_at(networks, row.checked_add(4)?)? as usize;
        let end = u32_at(networks, row.checked_add(12)?).map_or(names.len(), |end| end as usize);
        let name = std::str::from_utf8(names.get(start..end)?).ok()?;
        Some(Network { asn, name })
    }

    /// Who says which country: `DB-IP`.
    pub fn country_source(&self) -> &str {
        self.text("country_source")
    }

    /// The month of the country data: `2026-06`.
    pub fn country_date(&self) -> &str {
        self.text("country_date")
    }

    /// Who says which network: `RouteViews, NRO and DB-IP`.
    pub fn network_source(&self) -> &str {
        self.text("network_source")
    }

    /// The month of the network data: `2026-06`.
    pub fn network_date(&self) -> &str {
        self.text("network_date")
    }

    /// What the licences ask to be shown wherever the data is: one line.
    pub fn attribution(&self) -> &str {
        self.text("attribution")
    }

    fn text(&self, key: &str) -> &str {
        let lines = std::str::from_utf8(self.section(Section::Text)).unwrap_or_default();
        lines.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
    }

    fn section(&self, section: Section) -> &[u8] {
        let range = self.sections.get(section as usize).cloned().unwrap_or_default();
        self.bytes.as_ref().get(range).unwrap_or_default()
    }

    /// The row of the table the address points to.
    fn value(&self, address: IpAddr, four: Section, six: Section) -> Option<usize> {
        let value = match plain(address) {
            IpAddr::V4(ip) => look_up(self.section(four), 4, u128::from(ip.to_bits())),
            IpAddr::V6(ip) => look_up(self.section(six), 16, ip.to_bits()),
        }?;
        usize::try_from(value).ok()?.checked_sub(1)
    }
}

/// The IPv4 address inside an IPv6 one where that is what is meant (mapped, NAT64), otherwise the address itself.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else { return address };
    if let Some(four) = six.to_ipv4_mapped() {
        return IpAddr::V4(four);
    }
    match six.octets() {
        [head @ .., a, b, c, d] if head == NAT64 => IpAddr::V4([a, b, c, d].into()),
        _ => address,
    }
}

/// The value of the last range that starts at or before `address`; none before the first or in a damaged table.
fn look_up(table: &[u8], width: usize, address: u128) -> Option<u128> {
    let (count, rest) = table.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*count) as usize;
    let stride = width.checked_add(4)?;
    let (index, data) = rest.split_at_checked(count.checked_mul(stride)?)?;
    let row = |block: usize| {
        let at = block.checked_mul(stride)?;
        let (start, offset) = index.get(at..at.checked_add(stride)?)?.split_at_checked(width)?;
        let mut wide = [0; 16];
        wide.get_mut(..width)?.copy_from_slice(start);
        Some((u128::from_le_bytes(wide), u32_at(offset, 0)? as usize))
    };
    // The number of blocks that start at or before the address.
    let (mut low, mut high) = (0_usize, count);
    while low < high {
        let middle = low.midpoint(high);
        if row(middle)?.0 <= address { low = middle.checked_add(1)? } else { high = middle }
    }
    let (start, offset) = row(low.checked_sub(1)?)?;
    let end = if low < count { row(low)?.1 } else { data.len() };
    in_block(data.get(offset..end)?, start, address)
}

/// Walks one block to the address.
fn in_block(mut block: &[u8], mut start: u128, address: u128) -> Option<u128> {
    let mut value = number(&mut block)?;
    while !block.is_empty() {
        start = start.checked_add(distance(&mut block)?)?;
        if start > address {
            break;
        }
        value = number(&mut block)?;
    }
    Some(value)
}

/// A distance: see the head of this file.
fn distance(bytes: &mut &[u8]) -> Option<u128> {
    let head = byte(bytes)?;
    let unit = 1_u128.checked_shl(u32::from(head & 0x7f))?;
    if head & 0x80 != 0 {
        return Some(unit);
    }
    number(bytes)?.checked_mul(2)?.checked_add(3)?.checked_mul(unit)
}

/// A LEB128 number; none when it does not fit 128 bits.
fn number(bytes: &mut &[u8]) -> Option<u128> {
    let mut value = 0_u128;
    for shift in (0..128).step_by(7) {
        let next = byte(bytes)?;
        let bits = u128::from(next & 0x7f);
        value |= bits.checked_shl(shift).filter(|moved| moved >> shift == bits)?;
        if next & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

fn section_range(all: &[u8], index: usize) -> Option<Range<usize>> {
    let at = SECTIONS_AT.checked_add(index.checked_mul(8)?)?;
    let start = u32_at(all, at)? as usize;
    let end = start.checked_add(u32_at(all, at.checked_add(4)?)? as usize)?;
    all.get(start..end).map(|_| start..end)
}

/// Words that say what a company is in law, not what it is called.
const LEGAL: &[&str] = &[
    "ab",
    "ag",
    "as",
    "asn",
    "bv",
    "b.v",
    "co",
    "company",
    "corp",
    "corporation",
    "gmbh",
    "inc",
    "kg",
    "limited",
    "llc",
    "ltd",
    "ltda",
    "nv",
    "oy",
    "oyj",
    "plc",
    "pte",
    "pty",
    "pvt",
    "s.a",
    "s.r.l",
    "sa",
    "sas",
    "spa",
    "srl",
];

/// A registered name without its legal form and remarks: `Alibaba (US) Technology Co., Ltd.` → `Alibaba`.
fn short_name(name: &str) -> &str {
    let head = name.split([',', '(']).next().map_or("", str::trim);
    let mut short = if head.is_empty() { name.trim() } else { head };
    while let Some((before, last)) = short.rsplit_once(' ') {
        let bare = last.trim_end_matches('.');
        if !LEGAL.iter().any(|word| word.eq_ignore_ascii_case(bare)) {
            break;
        }
        short = before.trim_end();
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made from `sample-country.csv` and `sample-network.csv` beside it; a test of `ndk-build` makes it again and compares.
    const SAMPLE: &[u8] = include_bytes!("../../tests/place/sample.bin");

    fn sample() -> IpData<&'static [u8]> {
        IpData::open(SAMPLE).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn country_and_network_are_told_apart() {
        let data = sample();
        data.verify().unwrap();
        assert_eq!(data.country(ip("47.74.128.1")), Some("SG"));
        let network = data.network(ip("47.74.128.1")).unwrap();
        assert_eq!(
            (network.asn, network.name, network.short()),
            (45102, "Alibaba (US) Technology Co., Ltd.", "Alibaba")
        );
        assert_eq!((data.country_source(), data.country_date()), ("DB-IP", "2026-06"));
        assert!(data.attribution().contains("https://db-ip.com"), "{}", data.attribution());
    }

    #[test]
    fn a_range_ends_where_the_source_says() {
        let data = sample();
        let at = |text| data.network(ip(text)).map(|network| network.asn);
        assert_eq!(
            (at("1.0.0.0"), at("1.0.0.255"), at("1.0.1.0"), at("0.255.255.255")),
            (Some(13335), Some(13335), None, None)
        );
        assert_eq!((at("1.0.4.0"), at("1.0.7.255"), at("1.0.8.0")), (Some(38803), Some(38803), None));
        assert_eq!((data.country(ip("255.255.255.255")), data.country(ip("10.0.0.1"))), (None, None));
        assert_eq!(at("2001:200::1"), Some(2500));
        assert_eq!(data.country(ip("2001:200::1")), Some("JP"));
        assert_eq!(data.country(ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")), None);
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_the_ipv4_address() {
        let data = sample();
        assert_eq!(data.country(ip("::ffff:47.74.128.1")), Some("SG"));
        assert_eq!(data.country(ip("64:ff9b::47.74.128.1")), Some("SG"));
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error() {
        for length in 0..SAMPLE.len() {
            assert!(IpData::open(&SAMPLE[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_file_with_any_byte_changed_is_found_out_and_harms_nothing() {
        let asked: Vec<IpAddr> =
            ["0.0.0.0", "1.0.0.9", "47.74.128.1", "255.255.255.255", "::", "2001:200::1", "ffff::"]
                .map(ip)
                .into();
        for at in 0..SAMPLE.len() {
            for bit in [0x01, 0x80, 0xff] {
                let mut bytes = SAMPLE.to_vec();
                bytes[at] ^= bit;
                let Ok(data) = IpData::open(bytes) else { continue };
                assert_eq!(data.verify(), Err(IpDataError::Checksum), "byte {at}");
                for address in &asked {
                    let _ = (data.country(*address), data.network(*address));
                }
            }
        }
    }

    #[test]
    fn numbers_too_long_for_128_bits_are_refused() {
        assert_eq!(number(&mut [0xff; 19].as_slice()), None);
        assert_eq!(number(&mut [0x80; 30].as_slice()), None);
        let mut most = [0xff; 19];
        most[18] = 0x03;
        assert_eq!(number(&mut most.as_slice()), Some(u128::MAX));
        assert_eq!(distance(&mut [0x7f, 0x00].as_slice()), None);
        assert_eq!(distance(&mut [0xff].as_slice()), Some(1 << 127));
    }

    #[test]
    fn names_lose_what_a_sentence_does_not_need() {
        for (long, short) in [
            ("Cloudflare, Inc.", "Cloudflare"),
            ("Hurricane Electric LLC", "Hurricane Electric"),
            ("Tencent Building, Kejizhongyi Avenue", "Tencent Building"),
            ("Yandex.Cloud LLC", "Yandex.Cloud"),
            ("Deutsche Telekom AG", "Deutsche Telekom"),
            ("Marina Bay Sands Pte Ltd", "Marina Bay Sands"),
            ("(odd)", "(odd)"),
            ("LLC", "LLC"),
            ("", ""),
        ] {
            assert_eq!(short_name(long), short);
        }
    }
}
