//! How long to wait before the next attempt.

use std::time::Duration;

/// The longest pause before the second attempt.
const FIRST: Duration = Duration::from_millis(300);

/// The longest pause at all.
const MOST: Duration = Duration::from_secs(20);

/// Pauses with full jitter: rand(0, min(20 s, 300 ms * 2^n)), so that many clients that failed together do not come
/// back together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after one more failure. `random` goes from 0 to below 1.
    pub(super) fn next(&mut self, random: f64) -> Duration {
        let longest = FIRST.saturating_mul(2_u32.saturating_pow(self.failures)).min(MOST);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_doubles_up_to_20_s() {
        let mut backoff = Backoff::default();
        let longest: Vec<u128> = (0..9).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(longest, [300, 600, 1_200, 2_400, 4_800, 9_600, 19_200, 20_000, 20_000]);
        let mut tried_for_years = Backoff { failures: u32::MAX };
        assert_eq!(tried_for_years.next(1.0), MOST);
    }

    #[test]
    fn the_pause_is_anything_up_to_the_longest() {
        for (random, millis) in [(0.0, 0), (0.5, 150), (1.0, 300)] {
            assert_eq!(Backoff::default().next(random).as_millis(), millis);
        }
    }
}
