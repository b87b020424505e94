//! Figures out of samples that other programs on the machine have disturbed: medians, and ratios of what ran side by side.

/// What several repetitions gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The figure.
    pub median: f64,
    /// A quarter of the repetitions gave less.
    pub low: f64,
    /// A quarter gave more.
    pub high: f64,
}

impl Spread {
    /// A figure that does not vary.
    pub fn exact(value: f64) -> Self {
        Self { median: value, low: value, high: value }
    }

    /// Of the samples that are numbers; none without any.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.iter().copied().filter(|sample| sample.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self { median: at(&sorted, 0.5)?, low: at(&sorted, 0.25)?, high: at(&sorted, 0.75)? })
    }
}

/// The value below which `share` of the sorted samples lie, between two of them where it falls so.
fn at(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * (sorted.len().checked_sub(1)?) as f64;
    let (below, part) = (place.floor(), place.fract());
    let first = *sorted.get(below as usize)?;
    let second = sorted.get(below as usize + 1).copied().unwrap_or(first);
    Some(first + (second - first) * part)
}

/// One repetition: the same work without hooks, with empty ones, and with Telltale's, one right after the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Turn {
    /// Without hooks.
    pub none: f64,
    /// With programs that do nothing.
    pub empty: f64,
    /// With Telltale.
    pub telltale: f64,
}

impl Turn {
    /// What Telltale adds, as a multiple of what empty programs add; none where they added nothing to speak of.
    pub fn ratio(&self) -> Option<f64> {
        let floor = self.empty - self.none;
        (floor > 0.0).then(|| (self.telltale - self.none) / floor)
    }
}

/// The ratios of all turns: each compares what ran next to each other, so that a load that comes and goes falls on both sides.
pub fn ratios(turns: &[Turn]) -> Option<Spread> {
    Spread::of(&turns.iter().filter_map(Turn::ratio).collect::<Vec<_>>())
}

/// The median of one side of all turns.
pub fn median_of(turns: &[Turn], side: impl Fn(&Turn) -> f64) -> f64 {
    Spread::of(&turns.iter().map(side).collect::<Vec<_>>()).map_or(f64::NAN, |spread| spread.median)
}

/// The order in which repetition `turn` goes through `count` variants: each comes first, last and in between equally often.
pub fn rotation(turn: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |place| (place + turn) % count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_quarters_are_found() {
        let spread = Spread::of(&[5.0, 1.0, 3.0, f64::NAN, 2.0, 4.0]).unwrap();
        assert_eq!(spread, Spread { median: 3.0, low: 2.0, high: 4.0 });
        assert_eq!(Spread::of(&[1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(Spread::of(&[7.0]), Some(Spread::exact(7.0)));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_load_that_falls_on_one_turn_does_not_change_the_ratio() {
        let quiet = Turn { none: 100.0, empty: 200.0, telltale: 250.0 };
        let loaded = Turn { none: 300.0, empty: 600.0, telltale: 750.0 };
        let disturbed = Turn { none: 100.0, empty: 900.0, telltale: 250.0 };
        assert_eq!(ratios(&[quiet, loaded, quiet, disturbed, loaded]).unwrap().median, 1.5);
        assert_eq!(Turn { none: 5.0, empty: 5.0, telltale: 9.0 }.ratio(), None);
        assert_eq!(median_of(&[quiet, loaded, quiet], |turn| turn.empty), 200.0);
    }

    #[test]
    fn every_variant_takes_every_place() {
        let orders: Vec<Vec<usize>> = (0..3).map(|turn| rotation(turn, 3).collect()).collect();
        assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
    }
}
