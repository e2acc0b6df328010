//! How full the memory is, and what follows from it.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

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

/// Those that hold most, until they hold `bytes` together.
pub fn most<T>(mut holders: Vec<(usize, T)>, bytes: usize) -> Vec<(usize, T)> {
    holders.sort_unstable_by_key(|(held, _)| Reverse(*held));
    let mut sum = 0;
    let needed = holders.iter().take_while(|(held, _)| {
        let is_needed = sum < bytes;
        sum += held;
        is_needed
    });
    let needed = needed.count();
    holders.truncate(needed);
    holders
}

/// How long what was given up may take to leave the process.
const LEAVING_TIME: Duration = Duration::from_secs(3);

/// What was given up and has not left the process yet: nobody else is given up for it.
///
/// An allocator may keep what is freed, and use it for what comes next. So what has not left in time is taken to be free
/// inside the process: more is given up only when the process grows again. Moments are counted from the start.
#[derive(Debug, Default)]
pub struct Relief {
    leaving: usize,
    until: Duration,
    used: usize,
    /// What the process has, of which some is free inside.
    kept: usize,
}

impl Relief {
    /// How much must be given up, where so much is used of the budget.
    pub fn needed(&mut self, used: usize, budget: usize, now: Duration) -> usize {
        self.leaving = self.leaving.saturating_sub(self.used.saturating_sub(used));
        self.used = used;
        let Pressure::Shedding(excess) = Pressure::of(used, budget) else {
            (self.leaving, self.kept) = (0, 0);
            return 0;
        };
        if self.leaving > 0 && now >= self.until {
            (self.leaving, self.kept) = (0, used);
        }
        // Beyond the budget nothing is taken to be free.
        let grown = if used < budget && self.kept > 0 { used.saturating_sub(self.kept) } else { excess };
        excess.min(grown).saturating_sub(self.leaving)
    }

    /// So much was given up.
    pub fn note(&mut self, bytes: usize, now: Duration) {
        if bytes > 0 {
            self.leaving += bytes;
            self.until = now + LEAVING_TIME;
        }
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

    #[test]
    fn those_that_hold_most_go_first_and_no_more_of_them_than_need_be() {
        let holders = vec![(300, 'a'), (900, 'b'), (500, 'c')];
        for (bytes, expected) in [(0, ""), (1, "b"), (900, "b"), (1_000, "bc"), (10_000, "bca")] {
            let names: String = most(holders.clone(), bytes).into_iter().map(|(_, name)| name).collect();
            assert_eq!(names, expected, "{bytes}");
        }
    }

    #[test]
    fn nobody_else_is_given_up_for_what_is_on_its_way_out() {
        let ms = Duration::from_millis;
        let mut relief = Relief::default();
        assert_eq!(relief.needed(900, 1_000, ms(0)), 0);
        assert_eq!(relief.needed(959, 1_000, ms(100)), 10);
        relief.note(30, ms(100));
        assert_eq!(relief.needed(959, 1_000, ms(200)), 0, "it has not left yet");
        assert_eq!(relief.needed(999, 1_000, ms(300)), 20, "and more came meanwhile");
        relief.note(20, ms(300));
        assert_eq!(relief.needed(979, 1_000, ms(400)), 0, "20 left, and 30 will");
        // The allocator keeps them: they are free for what comes next.
        assert_eq!(relief.needed(979, 1_000, ms(3_300)), 0);
        assert_eq!(relief.needed(985, 1_000, ms(3_400)), 6, "the process grows");
        assert_eq!(relief.needed(1_010, 1_000, ms(3_500)), 61, "nothing is free beyond the budget");
        assert_eq!(relief.needed(940, 1_000, ms(3_600)), 0);
        assert_eq!(relief.needed(959, 1_000, ms(3_700)), 10, "from the beginning");
    }
}
