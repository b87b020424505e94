//! Packs address ranges from CSV into the file that `daemon/src/place/ip.rs` reads; the format is described there.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Ranges in one block: an index row serves so many, a look-up walks at most so many.
const BLOCK: usize = 64;
/// Magic, format, checksum, length, eight sections.
const HEAD: usize = 24 + 8 * 8;

/// The rows of one kind of answer.
#[derive(Debug, Default)]
pub struct Rows {
    four: Vec<Row>,
    six: Vec<Row>,
    /// Each answer once, and how many ranges point to it.
    answers: Vec<(String, usize)>,
    known: HashMap<String, usize>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    first: u128,
    last: u128,
    answer: usize,
}

impl Rows {
    /// Adds the rows of a CSV file: first address, last address, answer (the rest of the line). Says which line is wrong.
    ///
    /// # Errors
    /// The line that is no range, in words.
    pub fn add(&mut self, csv: &str) -> Result<(), String> {
        for (index, line) in csv.lines().enumerate() {
            self.add_line(line)
                .ok_or_else(|| format!("line {} is no address range: {line}", index.saturating_add(1)))?;
        }
        Ok(())
    }

    fn add_line(&mut self, line: &str) -> Option<()> {
        let mut fields = line.splitn(3, ',');
        let (first, last, answer) = (fields.next()?, fields.next()?, fields.next()?);
        let answer = self.answer(answer);
        if let (Ok(first), Ok(last)) = (first.parse::<Ipv4Addr>(), last.parse::<Ipv4Addr>()) {
            self.four.push(Row { first: first.to_bits().into(), last: last.to_bits().into(), answer });
        } else {
            let (first, last) = (first.parse::<Ipv6Addr>().ok()?, last.parse::<Ipv6Addr>().ok()?);
            self.six.push(Row { first: first.to_bits(), last: last.to_bits(), answer });
        }
        Some(())
    }

    fn answer(&mut self, text: &str) -> usize {
        let index = *self.known.entry(text.to_owned()).or_insert_with(|| {
            self.answers.push((text.to_owned(), 0));
            self.answers.len().saturating_sub(1)
        });
        if let Some((_, count)) = self.answers.get_mut(index) {
            *count = count.saturating_add(1);
        }
        index
    }

    /// The answers, those with most ranges first, and for each old index its place (from 1) in that order.
    fn ranked(&self) -> (Vec<&str>, Vec<u32>) {
        let mut order: Vec<usize> = (0..self.answers.len()).collect();
        // Equal counts go by text: the same CSV must give the same bytes.
        order.sort_by_key(|&index| self.answers.get(index).map(|(text, count)| (usize::MAX - count, text)));
        let mut places = vec![0; order.len()];
        for (place, &index) in (1_u32..).zip(&order) {
            if let Some(slot) = places.get_mut(index) {
                *slot = place;
            }
        }
        (order.iter().filter_map(|&index| Some(self.answers.get(index)?.0.as_str())).collect(), places)
    }
}

/// Packs both kinds of answer. `text` is the text section: `key=value` lines.
///
/// # Errors
/// In words: ranges that overlap, a country that is not two letters, a network without a number, more than 4 GiB.
pub fn pack(text: &str, mut country: Rows, mut network: Rows) -> Result<Vec<u8>, String> {
    let (codes, code_places) = country.ranked();
    if let Some(odd) = codes.iter().find(|code| code.len() != 2) {
        return Err(format!("`{odd}` is no country code"));
    }
    let countries = codes.concat().into_bytes();
    let (owners, owner_places) = network.ranked();
    let (networks, names) = networks_and_names(&owners)?;
    let sections = [
        text.as_bytes().to_vec(),
        countries,
        networks,
        names,
        table(&mut country.four, &code_places, 4)?,
        table(&mut country.six, &code_places, 16)?,
        table(&mut network.four, &owner_places, 4)?,
        table(&mut network.six, &owner_places, 16)?,
    ];
    let mut head = Vec::new();
    let mut at = HEAD;
    for section in &sections {
        head.extend(small(at)?);
        head.extend(small(section.len())?);
        at = at.saturating_add(section.len());
    }
    let mut checked = (at as u64).to_le_bytes().to_vec();
    checked.extend(head);
    checked.extend(sections.concat());
    let mut file = b"tellplac".to_vec();
    file.extend(1_u32.to_le_bytes());
    file.extend(crc32(&checked).to_le_bytes());
    file.extend(checked);
    Ok(file)
}

/// `45102,"Alibaba (US) Technology Co., Ltd."` → a row of networks and the name.
fn networks_and_names(owners: &[&str]) -> Result<(Vec<u8>, Vec<u8>), String> {
    let (mut networks, mut names) = (Vec::new(), Vec::new());
    for owner in owners {
        let (asn, name) = owner.split_once(',').ok_or_else(|| format!("`{owner}` has no name"))?;
        let asn: u32 = asn.parse().map_err(|_| format!("`{asn}` is no AS number"))?;
        networks.extend(asn.to_le_bytes());
        networks.extend(small(names.len())?);
        let quoted = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        names
            .extend(quoted.map_or_else(|| name.to_owned(), |inner| inner.replace("\"\"", "\"")).into_bytes());
    }
    Ok((networks, names))
}

/// One range table.
fn table(rows: &mut [Row], places: &[u32], width: usize) -> Result<Vec<u8>, String> {
    rows.sort_by_key(|row| row.first);
    let starts = starts(rows, places)?;
    let (mut index, mut data) = (Vec::new(), Vec::new());
    for block in starts.chunks(BLOCK) {
        let mut before = None;
        for &(start, value) in block {
            match before {
                None => {
                    index.extend(start.to_le_bytes().into_iter().take(width));
                    index.extend(small(data.len())?);
                }
                Some(before) => distance(start.saturating_sub(before), &mut data),
            }
            number(value.into(), &mut data);
            before = Some(start);
        }
    }
    let mut table = small(starts.len().div_ceil(BLOCK))?.to_vec();
    table.extend(index);
    table.extend(data);
    Ok(table)
}

/// Where the answer changes, and to what: 0 where a gap begins, neighbours with the same answer joined. Where one range runs into
/// the next (the source has such a pair), the one that starts later holds; a range inside another is refused.
fn starts(rows: &[Row], places: &[u32]) -> Result<Vec<(u128, u32)>, String> {
    let mut starts: Vec<(u128, u32)> = Vec::with_capacity(rows.len());
    let mut push = |start, value| {
        if starts.last().is_none_or(|&(_, last)| last != value) {
            starts.push((start, value));
        }
    };
    let mut next = 0_u128;
    for row in rows {
        let after = row.last.saturating_add(1);
        if row.last < row.first || after <= next {
            return Err(format!("a range lies inside another at {:#x}", row.first));
        }
        if row.first > next {
            push(next, 0);
        }
        push(row.first, places.get(row.answer).copied().unwrap_or(0));
        next = after;
    }
    push(next, 0);
    Ok(starts)
}

fn distance(distance: u128, out: &mut Vec<u8>) {
    // A distance is never 0, so the shift fits seven bits.
    let shift = distance.trailing_zeros();
    let odd = distance.checked_shr(shift).unwrap_or(1);
    let head = (shift & 0x7f) as u8;
    if odd == 1 {
        out.push(head | 0x80);
    } else {
        out.push(head);
        number(odd.saturating_sub(3) / 2, out);
    }
}

fn number(mut value: u128, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn small(value: usize) -> Result<[u8; 4], String> {
    u32::try_from(value).map(u32::to_le_bytes).map_err(|_| "the data does not fit 4 GiB".to_owned())
}

/// CRC-32 of IEEE 802.3, bit by bit: a few megabytes once a month, and this crate has no dependencies.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(
            crc ^ u32::from(byte),
            |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(csv: &str) -> Rows {
        let mut rows = Rows::default();
        rows.add(csv).unwrap();
        rows
    }

    #[test]
    fn the_checksum_is_the_usual_one() {
        // The check value of CRC-32/ISO-HDLC in the catalogue of parametrised CRC algorithms.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_line_that_is_no_range_is_named() {
        let error = Rows::default().add("1.0.0.0,1.0.0.255,AU\nnonsense\n").unwrap_err();
        assert_eq!(error, "line 2 is no address range: nonsense");
    }

    #[test]
    fn ranges_in_ranges_and_odd_answers_are_refused() {
        let network = || rows("1.0.0.0,1.0.0.9,1,X");
        let inside = rows("1.0.0.0,1.0.0.255,AU\n1.0.0.128,1.0.0.255,CN");
        assert!(pack("", inside, network()).unwrap_err().contains("inside"));
        assert!(pack("", rows("1.0.0.0,1.0.0.255,AUS"), network()).unwrap_err().contains("`AUS`"));
        assert!(pack("", rows(""), rows("1.0.0.0,1.0.0.9,x,X")).unwrap_err().contains("`x`"));
    }

    #[test]
    fn neighbours_with_one_answer_become_one_range() {
        let rows = rows("1.0.0.0,1.0.0.255,AU\n1.0.1.0,1.0.1.255,AU\n1.0.3.0,1.0.3.255,AU");
        let starts = starts(&rows.four, &[1]).unwrap();
        assert_eq!(starts, [(0, 0), (0x0100_0000, 1), (0x0100_0200, 0), (0x0100_0300, 1), (0x0100_0400, 0)]);
    }

    #[test]
    fn of_two_ranges_that_overlap_the_later_start_holds() {
        let rows = rows("1.0.0.0,1.0.1.255,AU\n1.0.1.0,1.0.2.255,CN");
        let starts = starts(&rows.four, &[1, 2]).unwrap();
        assert_eq!(starts, [(0, 0), (0x0100_0000, 1), (0x0100_0100, 2), (0x0100_0300, 0)]);
    }
}
