//! Feeding a parser that takes what it can and may give bytes back, without recursion.

/// Feeds all bytes to `step`, which says how many it took and which of the bytes taken earlier are to be fed again first.
/// A step may give back only bytes that it will take in another state, so that this ends.
pub(super) fn drive(bytes: &[u8], mut step: impl FnMut(&[u8]) -> (usize, Option<Vec<u8>>)) {
    let mut given_back: Vec<(Vec<u8>, usize)> = Vec::new();
    let mut rest = bytes;
    loop {
        let (used, carry) = match given_back.last() {
            Some((again, at)) => step(again.get(*at..).unwrap_or_default()),
            None if rest.is_empty() => return,
            None => step(rest),
        };
        // A step that neither takes nor gives anything would go on for ever.
        let used = if carry.is_none() { used.max(1) } else { used };
        match given_back.last_mut() {
            Some((again, at)) => {
                *at = at.saturating_add(used);
                if *at >= again.len() {
                    given_back.pop();
                }
            }
            None => rest = rest.get(used..).unwrap_or_default(),
        }
        given_back.extend(carry.filter(|c| !c.is_empty()).map(|c| (c, 0)));
    }
}

#[cfg(test)]
mod tests {
    use super::drive;

    #[test]
    fn bytes_given_back_come_first_and_all_bytes_come() {
        let (mut seen, mut gave) = (Vec::new(), false);
        drive(b"abcdef", |bytes| {
            if !gave && bytes.starts_with(b"c") {
                gave = true;
                return (2, Some(b"XY".to_vec()));
            }
            seen.push(bytes[0]);
            (1, None)
        });
        assert_eq!(seen, b"abXYef");
        let mut steps = 0;
        drive(b"abc", |_| {
            steps += 1;
            (0, None)
        });
        assert_eq!(steps, 3);
    }
}
