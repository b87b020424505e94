//! The keys of Initial packets and what is done with them (RFC 9001 sections 5.2 to 5.4, RFC 9369 section 3.3).

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes_gcm::Aes128Gcm;
use aes_gcm::aead::{AeadInOut, Nonce, Tag};
use hkdf::Hkdf;
use sha2::Sha256;

use super::Version;

/// RFC 9001 section 5.2.
const SALT_V1: [u8; 20] = [
    0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc,
    0xbb, 0x7f, 0x0a,
];
/// RFC 9369 section 3.3.1.
const SALT_V2: [u8; 20] = [
    0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9,
    0xbd, 0x2e, 0xd9,
];
const TAG: usize = 16;
const SAMPLE: usize = 16;

/// What opens a client's Initial packets.
pub(super) struct Keys {
    aead: Aes128Gcm,
    iv: [u8; 12],
    header: Aes128,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// Derived from the destination connection id of the client's first Initial.
    pub(super) fn of_client(version: Version, destination: &[u8]) -> Self {
        let (salt, labels) = match version {
            Version::V1 => (SALT_V1, ["quic key", "quic iv", "quic hp"]),
            Version::V2 => (SALT_V2, ["quicv2 key", "quicv2 iv", "quicv2 hp"]),
        };
        let initial = Hkdf::<Sha256>::new(Some(&salt), destination);
        let mut secret = [0; 32];
        expand_label(&initial, "client in", &mut secret);
        let (mut key, mut iv, mut header) = ([0; 16], [0; 12], [0; 16]);
        if let Ok(client) = Hkdf::<Sha256>::from_prk(&secret) {
            let [key_label, iv_label, header_label] = labels;
            expand_label(&client, key_label, &mut key);
            expand_label(&client, iv_label, &mut iv);
            expand_label(&client, header_label, &mut header);
        }
        Keys { aead: Aes128Gcm::new(&key.into()), iv, header: Aes128::new(&header.into()) }
    }

    /// Removes header protection and encryption. Gives the packet number and the frames; none when the packet is not one
    /// of these keys.
    pub(super) fn open(&self, packet: &[u8], number_at: usize, largest: u64) -> Option<(u64, Vec<u8>)> {
        // The sample stands where the payload would begin after a number of four bytes (section 5.4.2).
        let sample = packet.get(number_at.checked_add(4)?..)?.get(..SAMPLE)?;
        let mut mask = [0; 16];
        mask.copy_from_slice(sample);
        let mut block = mask.into();
        self.header.encrypt_block(&mut block);
        let [first_mask, number_mask @ ..] = <[u8; 16]>::from(block);
        let (protected, payload) = packet.split_at_checked(number_at)?;
        let first = packet.first()? ^ (first_mask & 0x0f);
        let number_length = usize::from(first & 3).saturating_add(1);
        let (number, sealed) = payload.split_at_checked(number_length)?;

        let mut header = protected.to_vec();
        if let Some(byte) = header.first_mut() {
            *byte = first;
        }
        header.extend(number.iter().zip(number_mask).map(|(b, m)| b ^ m));
        let truncated = header.get(number_at..)?.iter().fold(0u64, |n, &b| (n << 8) | u64::from(b));
        let number = full_number(largest, truncated, number_length);

        let mut nonce = self.iv;
        for (byte, part) in nonce.iter_mut().rev().zip(number.to_le_bytes()) {
            *byte ^= part;
        }
        let (text, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG)?)?;
        let tag = <[u8; TAG]>::try_from(tag).ok()?;
        let mut text = text.to_vec();
        let (nonce, tag): (Nonce<Aes128Gcm>, Tag<Aes128Gcm>) = (nonce.into(), tag.into());
        self.aead.decrypt_inout_detached(&nonce, &header, text.as_mut_slice().into(), &tag).ok()?;
        Some((number, text))
    }
}

/// HKDF-Expand-Label with an empty context (RFC 8446 section 7.1).
fn expand_label(secret: &Hkdf<Sha256>, label: &str, out: &mut [u8]) {
    let length = u16::try_from(out.len()).unwrap_or_default().to_be_bytes();
    let label_length = [u8::try_from(label.len().saturating_add(6)).unwrap_or_default()];
    // Fails only for more than 255 blocks of output; the longest here is one.
    let _ = secret.expand_multi_info(&[&length, &label_length, b"tls13 ", label.as_bytes(), &[0]], out);
}

/// The packet number nearest to the one expected next (RFC 9000 appendix A.3).
fn full_number(largest: u64, truncated: u64, length: usize) -> u64 {
    let window = 1u64.checked_shl(u32::try_from(length.saturating_mul(8)).unwrap_or(32)).unwrap_or(u64::MAX);
    let expected = largest.saturating_add(1);
    let candidate = (expected & !window.saturating_sub(1)) | truncated;
    let half = window / 2;
    if candidate.saturating_add(half) <= expected && candidate < (1 << 62) - window {
        candidate.saturating_add(window)
    } else if candidate > expected.saturating_add(half) && candidate >= window {
        candidate.saturating_sub(window)
    } else {
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::full_number;

    #[test]
    fn packet_numbers_as_in_rfc_9000_appendix_a3() {
        assert_eq!(full_number(0xa82f_30ea, 0x9b32, 2), 0xa82f_9b32);
        assert_eq!(full_number(0, 2, 4), 2);
        assert_eq!(full_number(0xff, 0, 1), 0x100);
        assert_eq!(full_number(0x100, 0xff, 1), 0xff);
    }
}
