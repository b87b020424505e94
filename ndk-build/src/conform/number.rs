//! What 4.14's verifier knows of a number in a register: bounds with and without sign, and single bits.
//!
//! It keeps less than today's: `reg_set_min_max` and `adjust_scalar_min_max_vals` of `kernel/bpf/verifier.c` say what is learnt where,
//! `kernel/bpf/tnum.c` what becomes of bits.

/// A number as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    /// Without sign.
    pub(super) min: u64,
    pub(super) max: u64,
    /// With sign.
    least: i64,
    most: i64,
    /// Bits known to be 1.
    ones: u64,
    /// Bits that are not known.
    open: u64,
}

/// How two numbers are compared, for a jump: `BPF_JEQ` and its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    SignedGreater,
    SignedGreaterOrEqual,
    SignedLess,
    SignedLessOrEqual,
    /// Of single bits: nothing is learnt.
    Bits,
}

/// Arithmetic of which something is learnt; of all else nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Add,
    Subtract,
    Multiply,
    And,
    Or,
    ShiftLeft,
    ShiftRight,
    Other,
}

impl Number {
    pub(super) const UNKNOWN: Self =
        Self { min: 0, max: u64::MAX, least: i64::MIN, most: i64::MAX, ones: 0, open: u64::MAX };

    pub(super) const fn known(value: u64) -> Self {
        let signed = value.cast_signed();
        Self { min: value, max: value, least: signed, most: signed, ones: value, open: 0 }
    }

    /// Its value, when it is known.
    pub(super) fn value(&self) -> Option<u64> {
        (self.open == 0).then_some(self.ones)
    }

    pub(super) fn may_be_negative(&self) -> bool {
        self.least < 0
    }

    /// The smallest with sign.
    pub(super) fn least(&self) -> i64 {
        self.least
    }

    /// Whether everything `other` may be is among what this may be.
    pub(super) fn holds(&self, other: &Self) -> bool {
        self.min <= other.min
            && self.max >= other.max
            && self.least <= other.least
            && self.most >= other.most
            && other.open & !self.open == 0
            && other.ones & !self.open == self.ones
    }

    /// Bounds that cannot be: of a branch that is never taken.
    fn is_impossible(&self) -> bool {
        let torn = self.open == 0 && (self.min != self.max || self.least != self.most);
        torn || self.min > self.max || self.least > self.most
    }

    /// The lowest `bytes` bytes of it, without sign.
    pub(super) fn cut(mut self, bytes: u32) -> Self {
        let bits = bytes.saturating_mul(8);
        let Some(mask) = 1u64.checked_shl(bits).map(|above| above.wrapping_sub(1)) else { return self };
        self.ones &= mask;
        self.open &= mask;
        if self.min & !mask == self.max & !mask {
            self.min &= mask;
            self.max &= mask;
        } else {
            (self.min, self.max) = (0, mask);
        }
        (self.least, self.most) = (self.min.cast_signed(), self.max.cast_signed());
        self
    }

    /// What the bits say about the bounds.
    fn bound(&mut self) {
        let sign = i64::MIN.cast_unsigned();
        self.least = self.least.max((self.ones | self.open & sign).cast_signed());
        self.most = self.most.min((self.ones | self.open & !sign).cast_signed());
        self.min = self.min.max(self.ones);
        self.max = self.max.min(self.ones | self.open);
    }

    /// What the bounds with and without sign say about each other.
    fn combine(&mut self) {
        if self.least >= 0 || self.most < 0 {
            self.min = self.min.max(self.least.cast_unsigned());
            self.max = self.max.min(self.most.cast_unsigned());
        } else if self.max.cast_signed() >= 0 {
            self.max = self.max.min(self.most.cast_unsigned());
        } else if self.min.cast_signed() < 0 {
            self.min = self.min.max(self.least.cast_unsigned());
        } else {
            return;
        }
        (self.least, self.most) = (self.min.cast_signed(), self.max.cast_signed());
    }

    /// What the bounds say about the bits: those above the highest in which they differ.
    fn narrow(&mut self) {
        let below = 64 - (self.min ^ self.max).leading_zeros();
        let open = 1u64.checked_shl(below).map_or(u64::MAX, |above| above.wrapping_sub(1));
        let ones = self.min & !open;
        let both = self.open & open;
        self.ones = (self.ones | ones) & !both;
        self.open = both;
    }

    fn without_signed_bounds(&mut self) {
        (self.least, self.most) = (i64::MIN, i64::MAX);
    }

    fn without_bounds(&mut self) {
        self.without_signed_bounds();
        (self.min, self.max) = (0, u64::MAX);
    }

    fn set_bits(&mut self, ones: u64, open: u64) {
        (self.ones, self.open) = (ones & !open, open);
    }

    /// The sum; the same for the offset of a pointer and the number added to it.
    pub(super) fn plus(mut self, other: &Self) -> Self {
        match (self.least.checked_add(other.least), self.most.checked_add(other.most)) {
            (Some(least), Some(most)) => (self.least, self.most) = (least, most),
            _ => self.without_signed_bounds(),
        }
        match (self.min.checked_add(other.min), self.max.checked_add(other.max)) {
            (Some(min), Some(max)) => (self.min, self.max) = (min, max),
            _ => (self.min, self.max) = (0, u64::MAX),
        }
        let ones = self.ones.wrapping_add(other.ones);
        let carried = self.open.wrapping_add(other.open).wrapping_add(ones) ^ ones;
        self.set_bits(ones, carried | self.open | other.open);
        self
    }

    /// The difference, likewise.
    pub(super) fn minus(mut self, other: &Self) -> Self {
        match (self.least.checked_sub(other.most), self.most.checked_sub(other.least)) {
            (Some(least), Some(most)) => (self.least, self.most) = (least, most),
            _ => self.without_signed_bounds(),
        }
        match (self.min.checked_sub(other.max), self.max.checked_sub(other.min)) {
            (Some(min), Some(max)) => (self.min, self.max) = (min, max),
            _ => (self.min, self.max) = (0, u64::MAX),
        }
        let ones = self.ones.wrapping_sub(other.ones);
        let borrowed = ones.wrapping_add(self.open) ^ ones.wrapping_sub(other.open);
        self.set_bits(ones, borrowed | self.open | other.open);
        self
    }

    fn times(mut self, other: &Self) -> Self {
        let small = u64::from(u32::MAX);
        let known = self.value().zip(other.value());
        if self.may_be_negative() || other.may_be_negative() || self.max > small || other.max > small {
            self.without_bounds();
        } else {
            (self.min, self.max) = (self.min.wrapping_mul(other.min), self.max.wrapping_mul(other.max));
            self.without_signed_bounds();
        }
        match known {
            Some((one, two)) => Self::known(one.wrapping_mul(two)),
            // 4.14 follows bits here too, which nobody has needed yet.
            None => {
                self.set_bits(0, u64::MAX);
                self
            }
        }
    }

    fn and(mut self, other: &Self) -> Self {
        if let Some((one, two)) = self.value().zip(other.value()) {
            return Self::known(one & two);
        }
        let negative = self.may_be_negative() || other.may_be_negative();
        let ones = self.ones & other.ones;
        self.open = (self.ones | self.open) & (other.ones | other.open) & !ones;
        self.ones = ones;
        (self.min, self.max) = (ones, self.max.min(other.max));
        self.take_sign(negative);
        self
    }

    fn or(mut self, other: &Self) -> Self {
        if let Some((one, two)) = self.value().zip(other.value()) {
            return Self::known(one | two);
        }
        let negative = self.may_be_negative() || other.may_be_negative();
        let ones = self.ones | other.ones;
        self.open = (self.open | other.open) & !ones;
        self.ones = ones;
        (self.min, self.max) = (self.min.max(other.min), self.ones | self.open);
        self.take_sign(negative);
        self
    }

    fn take_sign(&mut self, negative: bool) {
        if negative {
            self.without_signed_bounds();
        } else {
            (self.least, self.most) = (self.min.cast_signed(), self.max.cast_signed());
        }
        self.bound();
    }

    fn shifted(mut self, by: u32, left: bool) -> Self {
        self.without_signed_bounds();
        if left {
            if self.max.leading_zeros() < by {
                (self.min, self.max) = (0, u64::MAX);
            } else {
                (self.min, self.max) = (self.min << by, self.max << by);
            }
            self.set_bits(self.ones << by, self.open << by);
        } else {
            (self.min, self.max) = (self.min >> by, self.max >> by);
            self.set_bits(self.ones >> by, self.open >> by);
        }
        self.bound();
        self
    }

    /// What comes of arithmetic, on 32 bits when not `wide`.
    pub(super) fn after(self, operation: Operation, other: Self, wide: bool) -> Self {
        let cut = |number: Self| if wide { number } else { number.cut(4) };
        let (one, two) = (cut(self), cut(other));
        if two.is_impossible() {
            return Self::UNKNOWN;
        }
        let shift =
            two.value().and_then(|by| u32::try_from(by).ok()).filter(|by| *by < if wide { 64 } else { 32 });
        let result = match operation {
            Operation::Add => one.plus(&two),
            Operation::Subtract => one.minus(&two),
            Operation::And => one.and(&two),
            Operation::Multiply if two.value().is_some() => one.times(&two),
            Operation::Or if two.value().is_some() => one.or(&two),
            Operation::ShiftLeft | Operation::ShiftRight => match shift {
                Some(by) => one.shifted(by, operation == Operation::ShiftLeft),
                None => Self::UNKNOWN,
            },
            _ => Self::UNKNOWN,
        };
        cut(result).settled()
    }

    /// What bounds and bits say about each other.
    pub(super) fn settled(mut self) -> Self {
        self.combine();
        self.narrow();
        self
    }

    /// What is known of it where the comparison with `value` holds, and where it does not.
    pub(super) fn compared(self, how: Comparison, value: u64) -> (Self, Self) {
        let not = |opposite| {
            let (holds, fails) = self.compared(opposite, value);
            (fails, holds)
        };
        let (mut holds, mut fails) = (self, self);
        let signed = value.cast_signed();
        match how {
            Comparison::Equal => holds = Self::known(value),
            Comparison::Unequal => fails = Self::known(value),
            Comparison::Greater => {
                fails.max = fails.max.min(value);
                holds.min = holds.min.max(value.wrapping_add(1));
            }
            Comparison::GreaterOrEqual => {
                fails.max = fails.max.min(value.wrapping_sub(1));
                holds.min = holds.min.max(value);
            }
            Comparison::SignedGreater => {
                fails.most = fails.most.min(signed);
                holds.least = holds.least.max(signed.wrapping_add(1));
            }
            Comparison::SignedGreaterOrEqual => {
                fails.most = fails.most.min(signed.wrapping_sub(1));
                holds.least = holds.least.max(signed);
            }
            Comparison::Less => return not(Comparison::GreaterOrEqual),
            Comparison::LessOrEqual => return not(Comparison::Greater),
            Comparison::SignedLess => return not(Comparison::SignedGreaterOrEqual),
            Comparison::SignedLessOrEqual => return not(Comparison::SignedGreater),
            Comparison::Bits => {}
        }
        let settled = |number: Self| {
            let mut number = number.settled();
            number.bound();
            number
        };
        (settled(holds), settled(fails))
    }

    /// What is known of two numbers that are equal.
    pub(super) fn met(mut self, other: &Self) -> Self {
        (self.min, self.max) = (self.min.max(other.min), self.max.min(other.max));
        (self.least, self.most) = (self.least.max(other.least), self.most.min(other.most));
        self.set_bits(self.ones | other.ones, self.open & other.open);
        self.bound();
        let mut met = self.settled();
        met.bound();
        met
    }
}

impl Comparison {
    /// The same comparison with its sides exchanged.
    pub(super) fn exchanged(self) -> Self {
        match self {
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::SignedGreater => Self::SignedLess,
            Self::SignedGreaterOrEqual => Self::SignedLessOrEqual,
            Self::SignedLess => Self::SignedGreater,
            Self::SignedLessOrEqual => Self::SignedGreaterOrEqual,
            same => same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that eight bits may be, as a number known as well as `from..=to` makes it.
    fn between(from: u64, to: u64) -> Number {
        let (at_least, _) = Number::UNKNOWN.compared(Comparison::GreaterOrEqual, from);
        at_least.compared(Comparison::LessOrEqual, to).0
    }

    fn may_be(number: &Number, value: u64) -> bool {
        number.holds(&Number::known(value))
    }

    type Exact = fn(u64, u64) -> u64;

    #[test]
    fn what_is_learnt_never_leaves_out_what_may_be() {
        let operations: [(Operation, Exact); 7] = [
            (Operation::Add, |a, b| a.wrapping_add(b)),
            (Operation::Subtract, |a, b| a.wrapping_sub(b)),
            (Operation::Multiply, |a, b| a.wrapping_mul(b)),
            (Operation::And, |a, b| a & b),
            (Operation::Or, |a, b| a | b),
            (Operation::ShiftLeft, |a, b| a << b),
            (Operation::ShiftRight, |a, b| a >> b),
        ];
        for (from, to) in [(0, 5), (3, 9), (7, 7), (u64::MAX - 3, u64::MAX), (1 << 31, (1 << 31) + 3)] {
            for other in [0, 1, 3, 8, 31] {
                for (operation, exact) in operations {
                    let known = between(from, to).after(operation, Number::known(other), true);
                    let narrow = between(from, to).after(operation, Number::known(other), false);
                    for value in from..=to {
                        assert!(may_be(&known, exact(value, other)), "{operation:?} {value} {other}");
                        let cut = exact(value & 0xffff_ffff, other) & 0xffff_ffff;
                        assert!(may_be(&narrow, cut), "{operation:?} {value} {other} in 32 bits");
                        if to == u64::MAX {
                            break;
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn comparisons_bound_both_ways() {
        let (below, above) = Number::UNKNOWN.compared(Comparison::Less, 64);
        assert_eq!((below.min, below.max, above.min), (0, 63, 64));
        assert!(!below.may_be_negative() && above.may_be_negative());
        let (positive, _) = Number::UNKNOWN.compared(Comparison::SignedGreater, -1i64 as u64);
        assert_eq!(positive.max, i64::MAX as u64);
        let (same, _) = Number::UNKNOWN.compared(Comparison::Equal, 7);
        assert_eq!(same.value(), Some(7));
        assert_eq!(Number::UNKNOWN.compared(Comparison::Bits, 7), (Number::UNKNOWN, Number::UNKNOWN));
    }

    #[test]
    fn the_bounds_of_the_length_of_a_read_are_followed() {
        // `len - 1 & 0x3fff + 1`, as user_memory.rs of the programs makes it.
        let bounded = Number::UNKNOWN
            .after(Operation::Add, Number::known(u64::MAX), true)
            .after(Operation::And, Number::known(0x3fff), true)
            .after(Operation::Add, Number::known(1), true);
        assert_eq!((bounded.min, bounded.max, bounded.may_be_negative()), (1, 0x4000, false));
        assert_eq!(Number::UNKNOWN.cut(4).max, u64::from(u32::MAX));
        assert!(Number::UNKNOWN.holds(&bounded) && !bounded.holds(&Number::UNKNOWN));
    }
}
