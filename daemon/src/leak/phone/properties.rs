//! System properties as files keep them: `build.prop` text, and the protobuf of `/data/property/persistent_properties`.

use std::collections::BTreeMap;

/// `name=value` lines; the first of a name counts, as for `ro.` properties.
pub(super) fn build_prop(bytes: &[u8], into: &mut BTreeMap<String, String>) {
    for line in String::from_utf8_lossy(bytes).lines() {
        let line = line.trim();
        if let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            into.entry(name.trim().to_owned()).or_insert_with(|| value.trim().to_owned());
        }
    }
}

/// AOSP `persistent_properties.proto`: field 1 is a record of name (1) and value (2). What is damaged ends the list.
pub(super) fn persistent(bytes: &[u8], into: &mut BTreeMap<String, String>) {
    let mut rest = bytes;
    while let Some((1, record, after)) = field(rest) {
        rest = after;
        let (mut name, mut value) = (None, None);
        let mut inner = record;
        while let Some((number, text, after)) = field(inner) {
            inner = after;
            let text = String::from_utf8_lossy(text).into_owned();
            match number {
                1 => name = Some(text),
                2 => value = Some(text),
                _ => {}
            }
        }
        if let Some((name, value)) = name.zip(value) {
            into.insert(name, value);
        }
    }
}

/// One length-delimited field: its number, its bytes, what follows.
fn field(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (key, rest) = bytes.split_first()?;
    if key & 0x87 != 2 {
        return None;
    }
    let (mut length, mut shift, mut rest) = (0_usize, 0_u32, rest);
    loop {
        let (byte, after) = rest.split_first()?;
        rest = after;
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            break;
        }
        shift = shift.checked_add(7).filter(|shift| *shift < 28)?;
    }
    let (taken, after) = rest.split_at_checked(length)?;
    Some((key >> 3, taken, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_protobuf() {
        let mut all = BTreeMap::new();
        build_prop(b"# c\nro.serialno=f1a2b3c4\nro.serialno=late\n\nbad line\n ro.x = y \n", &mut all);
        assert_eq!(all["ro.serialno"], "f1a2b3c4");
        assert_eq!(all["ro.x"], "y");
        let record = b"\x0a\x1c\x0a\x12persist.radio.imei\x12\x06490154";
        persistent(record, &mut all);
        assert_eq!(all["persist.radio.imei"], "490154");
        for end in 0..record.len() {
            let mut cut = BTreeMap::new();
            persistent(&record[..end], &mut cut);
            assert!(cut.is_empty(), "{end}");
        }
    }
}
