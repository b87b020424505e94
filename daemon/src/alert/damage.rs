//! Values from a layer whose own checksum disagrees are not to be relied on: the sender's server could not read it either, and
//! a flipped bit must not put words into an app's mouth.

use crate::{
    leak::{Finding, Severity, Witness},
    unwrap::Tree,
    wire::{End, Message},
};

/// RFC 1952 section 2.3: ten bytes before the data, eight after it.
const LEAST_GZIP: usize = 18;

/// Quietens a finding from a damaged layer. A value of this phone's own is no accident: it stays as loud as it is.
pub(crate) fn quieten(finding: &mut Finding, message: &Message, tree: &Tree) {
    if finding.by == Witness::Truth
        || finding.severity <= Severity::Info
        || !is_damaged(message, tree, finding.node)
    {
        return;
    }
    finding.severity = Severity::Info;
    finding.why.push_str("; the message's own checksum or length disagrees, so the value may be damaged");
}

fn is_damaged(message: &Message, tree: &Tree, node: usize) -> bool {
    // A message of which not all was seen ends early without being damaged: what came before the end is right.
    let whole = message.end == End::Complete && message.body.len() as u64 == message.body_len;
    let mut next = Some(node);
    while let Some((index, found)) = next.and_then(|index| Some((index, tree.nodes.get(index)?))) {
        // What the decompressor itself found, in its words.
        let packed = found.step == "gzip" || found.step == "zlib";
        if found
            .cut
            .is_some_and(|cut| cut.contains("damage") || (whole && packed && cut.contains("ends early")))
        {
            return true;
        }
        if found.step == "gzip"
            && found.cut.is_none()
            && found.parent.is_some_and(|parent| !agrees(tree.bytes(parent), tree.bytes(index)))
        {
            return true;
        }
        next = found.parent.filter(|parent| *parent < index);
    }
    false
}

/// Whether the CRC-32 at the end of a gzip member is that of what came out of it. True where that cannot be told: several
/// members, something behind the last one, or the bytes are not kept.
fn agrees(packed: &[u8], unpacked: &[u8]) -> bool {
    let Some((_, [c0, c1, c2, c3, l0, l1, l2, l3])) =
        packed.split_last_chunk().filter(|_| packed.len() >= LEAST_GZIP)
    else {
        return true;
    };
    let length = u64::from(u32::from_le_bytes([*l0, *l1, *l2, *l3]));
    length != unpacked.len() as u64 || crc32fast::hash(unpacked) == u32::from_le_bytes([*c0, *c1, *c2, *c3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_checksum_is_seen_and_a_missing_one_is_not_made_up() {
        let text = b"what was sent";
        let mut packed = vec![0; 20];
        packed.extend_from_slice(&crc32fast::hash(text).to_le_bytes());
        packed.extend_from_slice(&13_u32.to_le_bytes());
        assert!(agrees(&packed, text));
        assert!(!agrees(&packed, b"what was Sent"));
        assert!(agrees(&packed, b"another length"));
        assert!(agrees(b"", text) && agrees(&packed[20..], text));
    }
}
