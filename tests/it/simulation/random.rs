//! Chance, as a seed has it: the same seed, the same choices, on every machine.

use std::time::Duration;

/// The splitmix64 generator (Steele, Lea and Flood 2014): one addition and three multiplications a number.
pub(crate) struct Random(u64);

impl Random {
    /// The choices of one seed.
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0xA076_1D64_78BD_642F) ^ 0xE703_7ED1_A0B4_28DB)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound - 1`; 0 where the bound is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// True `per_mille` times in a thousand.
    pub(crate) fn chance(&mut self, per_mille: usize) -> bool {
        self.below(1_000) < per_mille
    }

    /// From 0 up to, but without, 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        self.below(1 << 20) as f64 / (1 << 20) as f64
    }

    /// A duration between two numbers of milliseconds, to the microsecond.
    pub(crate) fn between(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        let span = (to_ms.saturating_sub(from_ms) * 1_000) as usize;
        Duration::from_micros(from_ms * 1_000 + self.below(span + 1) as u64)
    }

    /// One of several.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}
