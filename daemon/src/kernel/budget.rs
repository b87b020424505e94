//! How much of what apps send is taken into the rings: in the owner's units here, in the programs' units there.
#![forbid(unsafe_code)]

use telltale_abi::{Bucket, Budget as Rates, Rate, SEND_BUDGET, SPARED, TICK_SHIFT};

/// Bounds on what is taken. What is over them is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of one connection that are taken at once, at least 128 KiB: what is taken of one send.
    pub burst: u64,
    /// Bytes of one connection in a second after that.
    pub per_second: u64,
    /// Bytes of all connections in a second, beside the first 64 KiB of each. 0: no bound at all, also on one connection.
    pub total_per_second: u64,
}

impl Default for Budget {
    /// Two MiB in a second keep one small core busy for some tenths of it; one request with a picture fits the burst.
    fn default() -> Budget {
        Budget { burst: 1 << 20, per_second: 256 << 10, total_per_second: 2 << 20 }
    }
}

impl Budget {
    /// Seconds of the common rate that may be used at once.
    const COMMON_BURST_SECONDS: u64 = 2;

    /// As the programs count.
    pub(super) fn rates(&self) -> Rates {
        if self.total_per_second == 0 {
            return Rates::default();
        }
        // What costs more than a bucket holds would never be taken.
        let least = SPARED.max(SEND_BUDGET as u64);
        let connection = Rate { burst: self.burst.max(least), per_tick: per_tick(self.per_second) };
        let machine = Rate {
            burst: self.total_per_second.saturating_mul(Self::COMMON_BURST_SECONDS).max(least),
            per_tick: per_tick(self.total_per_second),
        };
        Rates { connection, machine, bucket: Bucket::default() }
    }
}

/// Rounded up, so that a bucket always fills.
fn per_tick(per_second: u64) -> u64 {
    let tick = 1u128 << TICK_SHIFT;
    let bytes = (u128::from(per_second) * tick).div_ceil(1_000_000_000);
    u64::try_from(bytes).unwrap_or(u64::MAX).min(u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_in_the_programs_units_and_never_zero() {
        let rates = Budget::default().rates();
        assert_eq!(rates.connection.burst, 1 << 20);
        // 256 KiB/s × 1.048576 ms.
        assert_eq!(rates.connection.per_tick, 275);
        assert_eq!(rates.machine, Rate { burst: 4 << 20, per_tick: 2200 });
        let least = Budget { burst: 0, per_second: 1, total_per_second: 1 }.rates();
        assert_eq!(least.connection, Rate { burst: SEND_BUDGET as u64, per_tick: 1 });
        assert_eq!(Budget { total_per_second: 0, ..Budget::default() }.rates(), Rates::default());
        let most = Budget { burst: u64::MAX, per_second: u64::MAX, total_per_second: u64::MAX }.rates();
        assert_eq!(most.connection.per_tick, u64::from(u32::MAX));
    }
}
