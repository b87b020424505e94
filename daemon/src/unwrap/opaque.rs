//! Whether bytes look encrypted: as dense as noise, and of no format that is dense for another reason.
#![forbid(unsafe_code)]

use super::guess;

/// Fewest bytes that density can be told of.
pub(super) const LEAST: usize = 64;
/// Bytes that are counted: more do not change the answer.
const SAMPLE: usize = 4096;
/// Noise has a chi-square of 255 ± 23 over its byte counts, whatever its length; this is over five deviations more.
/// Text of [`LEAST`] bytes already has more than that, longer text very much more.
const NOISE_MAX: usize = 380;

/// Whether the counts of the 256 byte values are as even as noise makes them.
pub(super) fn is_noise(data: &[u8]) -> bool {
    let sample = data.get(..SAMPLE).unwrap_or(data);
    if sample.len() < LEAST || guess::is_media(data) {
        return false;
    }
    let mut counts = [0u32; 256];
    for byte in sample {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    // Sum of (count - expected)^2 / expected, with expected = n/256: 256/n * sum(count^2) - n.
    let squares: usize = counts.iter().map(|count| (*count as usize).pow(2)).sum();
    (squares * 256 / sample.len()).saturating_sub(sample.len()) <= NOISE_MAX
}

/// Whether a content type is dense by nature.
pub(super) fn is_dense_type(content_type: &[u8]) -> bool {
    const DENSE: &[&str] = &[
        "image/",
        "video/",
        "audio/",
        "font/",
        "application/zip",
        "application/x-zip",
        "application/gzip",
        "application/x-gzip",
        "application/x-7z",
        "application/x-rar",
        "application/pdf",
        "application/vnd.android.package",
        "application/java-archive",
        "application/x-bzip",
        "application/zstd",
        "application/vnd.apple.mpegurl",
        "application/dash",
        "application/ogg",
        "application/wasm",
        "application/epub",
        "application/font",
    ];
    let lower = content_type.get(..64).unwrap_or(content_type).to_ascii_lowercase();
    DENSE.iter().any(|dense| lower.starts_with(dense.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise that is the same in every run (xorshift64).
    fn noise(len: usize, mut seed: u64) -> Vec<u8> {
        (0..len)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                (seed >> 32) as u8
            })
            .collect()
    }

    #[test]
    fn noise_is_noise_at_every_length() {
        for len in [64, 65, 100, 256, 1000, 4096, 10_000] {
            let found = (1..=200u64)
                .filter(|seed| is_noise(&noise(len, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))))
                .count();
            assert!(found >= 199, "{found} of 200 at {len}");
        }
        assert!(!is_noise(&noise(LEAST - 1, 7)));
    }

    #[test]
    fn text_json_base64_and_pictures_are_not() {
        let text = "The owner of this phone reads the news in the morning and sends a message to a friend. "
            .repeat(4);
        let json = r#"{"event":"$AppStart","properties":{"$os":"Android","$screen_width":1080},"time":1588291200000}"#;
        use base64::Engine as _;
        let base64 = base64::engine::general_purpose::STANDARD.encode(noise(600, 3));
        let mut jpeg = b"\xff\xd8\xff\xe0".to_vec();
        jpeg.extend(noise(500, 5));
        for data in [text.as_bytes(), json.as_bytes(), base64.as_bytes(), &jpeg, &[0; 500], &[]] {
            assert!(!is_noise(data), "{:?}", data.get(..40));
        }
        assert!(is_dense_type(b"Image/JPEG; q=1") && !is_dense_type(b"application/octet-stream"));
    }
}
