//! A number of bytes in words, wherever one is said.
#![forbid(unsafe_code)]

/// A number of bytes a person can read: decimal units, one digit.
pub fn size(bytes: u64) -> String {
    let steps = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match steps.iter().find(|(step, _)| bytes >= *step) {
        Some((step, unit)) => format!("{:.1} {unit}", bytes as f64 / *step as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        let said = [0, 999, 1_500, 2_000_000, 3_400_000_000].map(size);
        assert_eq!(said, ["0 B", "999 B", "1.5 kB", "2.0 MB", "3.4 GB"]);
    }
}
