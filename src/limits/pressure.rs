//! How full the memory is, and what follows from it.

use std::sync::atomic::{AtomicUsize, Ordering};

/// From here on new connections are refused: what is here needs the rest to go on.
const REFUSING_PERCENT: u128 = 85;

/// From here on the slowest readers are given up, until it is less.
const SHEDDING_PERCENT: u128 = 95;

/// How full the memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is room.
    None,
    /// No room for more connections.
    Refusing,
    /// So many bytes must be freed.
    Shedding(usize),
}

impl Pressure {
    /// What it means to use so much of the budget.
    pub fn of(used: usize, budget: usize) -> Pressure {
        let at = |percent: u128| budget as u128 * percent / 100;
        match used as u128 {
            used if used >= at(SHEDDING_PERCENT) => {
                Pressure::Shedding(usize::try_from(used - at(SHEDDING_PERCENT) + 1).unwrap_or(usize::MAX))
            }
            used if used >= at(REFUSING_PERCENT) => Pressure::Refusing,
            _ => Pressure::None,
        }
    }
}

/// What the process may use, and what it used when it was measured last.
#[derive(Debug, Default)]
pub struct Memory {
    budget: AtomicUsize,
    used: AtomicUsize,
}

impl Memory {
    /// A budget of so many bytes.
    pub fn new(budget: usize) -> Memory {
        Memory { budget: budget.into(), used: 0.into() }
    }

    /// Another budget holds from now on.
    pub fn set_budget(&self, bytes: usize) {
        self.budget.store(bytes, Ordering::Relaxed);
    }

    /// So much is used.
    pub fn measured(&self, bytes: usize) {
        self.used.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that may be used.
    pub fn budget(&self) -> usize {
        self.budget.load(Ordering::Relaxed)
    }

    /// Bytes that are used.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// What follows from it.
    pub fn pressure(&self) -> Pressure {
        Pressure::of(self.used(), self.budget())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_refused_from_85_percent_and_readers_given_up_from_95() {
        for (used, pressure) in [
            (0, Pressure::None),
            (849, Pressure::None),
            (850, Pressure::Refusing),
            (949, Pressure::Refusing),
            (950, Pressure::Shedding(1)),
            (1_200, Pressure::Shedding(251)),
        ] {
            assert_eq!(Pressure::of(used, 1_000), pressure, "{used}");
        }
        assert_eq!(Pressure::of(1 << 40, usize::MAX), Pressure::None);
    }
}
