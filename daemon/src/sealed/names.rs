//! Ciphers by the numbers that OpenSSL and BoringSSL give them (include/openssl/nid.h).

use crate::record::Cipher;

/// What stands for a number where only the key's length of an AEAD is known.
const AEAD: u16 = telltale_abi::cipher::AEAD as u16;

/// Bytes of a block of AES.
pub(super) const BLOCK: u8 = 16;

/// Number, bytes of key and block, name.
const KNOWN: [(u16, u8, u8, &str); 16] = [
    (418, 16, 16, "aes-128-ecb"),
    (419, 16, 16, "aes-128-cbc"),
    (420, 16, 1, "aes-128-ofb"),
    (422, 24, 16, "aes-192-ecb"),
    (423, 24, 16, "aes-192-cbc"),
    (426, 32, 16, "aes-256-ecb"),
    (427, 32, 16, "aes-256-cbc"),
    (428, 32, 1, "aes-256-ofb"),
    (904, 16, 1, "aes-128-ctr"),
    (905, 24, 1, "aes-192-ctr"),
    (906, 32, 1, "aes-256-ctr"),
    (895, 16, 1, "aes-128-gcm"),
    (898, 24, 1, "aes-192-gcm"),
    (901, 32, 1, "aes-256-gcm"),
    (44, 24, 8, "des-ede3-cbc"),
    (31, 8, 8, "des-cbc"),
];

/// The name, when number and lengths agree.
pub(super) fn name(cipher: Cipher) -> Option<&'static str> {
    if cipher.nid == AEAD {
        // Of 32 bytes there are two: AES-256-GCM and ChaCha20-Poly1305.
        return (cipher.key_len == 16).then_some("aes-128-gcm");
    }
    let known = KNOWN.iter().find(|(nid, key_len, block, _)| {
        (*nid, *key_len, *block) == (cipher.nid, cipher.key_len, cipher.block)
    });
    known.map(|(_, _, _, name)| *name)
}

/// The step of a route: `sealed:aes-128-ecb`, `sealed` when the cipher is not known.
pub(super) fn step(cipher: Cipher) -> String {
    name(cipher).map_or_else(|| "sealed".to_owned(), |name| format!("sealed:{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_believed_only_with_its_lengths() {
        let cipher = |nid, key_len, block| Cipher { nid, key_len, block };
        assert_eq!(step(cipher(418, 16, 16)), "sealed:aes-128-ecb");
        assert_eq!(step(cipher(418, 32, 16)), "sealed");
        assert_eq!(step(cipher(AEAD, 16, 0)), "sealed:aes-128-gcm");
        assert_eq!(step(cipher(AEAD, 32, 0)), "sealed");
        assert_eq!(step(Cipher::default()), "sealed");
    }
}
