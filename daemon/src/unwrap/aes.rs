//! AES-128 of telemetry whose key travels in the same request (MiStat 2 and 3). Not a cipher for anything else.
#![forbid(unsafe_code)]

use cbc::cipher::{BlockModeDecrypt, KeyInit, KeyIvInit, block_padding::Pkcs7};

/// AES-128-ECB with PKCS#7 padding; `None` when key length, data length or padding is wrong.
pub(super) fn ecb(key: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    ecb::Decryptor::<aes::Aes128>::new_from_slice(key).ok()?.decrypt_padded_vec::<Pkcs7>(data).ok()
}

/// AES-128-CBC with PKCS#7 padding; `None` when key, vector or data length or padding is wrong.
pub(super) fn cbc(key: &[u8], iv: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    cbc::Decryptor::<aes::Aes128>::new_from_slices(key, iv).ok()?.decrypt_padded_vec::<Pkcs7>(data).ok()
}

/// MD5 in lower-case hex.
pub(super) fn md5_hex(text: &[u8]) -> String {
    use md5::Digest as _;
    md5::Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
