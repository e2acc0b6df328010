//! How the numberings of one channel follow from each other.
//!
//! A numbering ends where its store may have lost what came last. The next one begins at the *fork*, the last offset that
//! is known to be left, and counts on from there: positions at or below the fork mean the same in both, those above it
//! name publications that nobody has any more.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use tidings_protocol::{Epoch, Offset, Position, PositionInvalid};

/// The earlier numberings of a channel, each with the fork at which the next one began; the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    forks: VecDeque<Position>,
}

impl Lineage {
    /// The most numberings that are remembered; a position of an older one is a gap.
    pub const FORKS_MAX: usize = 64;

    /// The numbering that ended at `fork` gave way to another.
    pub fn push(&mut self, fork: Position) {
        if self.forks.len() == Self::FORKS_MAX {
            self.forks.pop_front();
        }
        self.forks.push_back(fork);
    }

    /// Whether the numbering follows from none before it.
    pub fn is_empty(&self) -> bool {
        self.forks.is_empty()
    }

    /// The last offset of an earlier numbering that is still what it was; `None` for one that is not remembered.
    pub fn reach(&self, epoch: &Epoch) -> Option<Offset> {
        let begin = self.forks.iter().position(|fork| fork.epoch == *epoch)?;
        // Each later fork may have cut deeper than the ones before it.
        self.forks.range(begin..).map(|fork| fork.offset).min()
    }

    /// The last offset up to which two numberings are the same that both follow from a third one; `None` where none is known.
    pub fn shared_with(&self, other: &Lineage) -> Option<Offset> {
        let common = |fork: &Position| Some(self.reach(&fork.epoch)?.min(other.reach(&fork.epoch)?));
        self.forks.iter().rev().find_map(common)
    }
}

/// Positions with a space between two: `a.70 b.90`.
impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fork) in self.forks.iter().enumerate() {
            let space = if index > 0 { " " } else { "" };
            write!(f, "{space}{fork}")?;
        }
        Ok(())
    }
}

impl FromStr for Lineage {
    type Err = PositionInvalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut lineage = Lineage::default();
        for fork in text.split_ascii_whitespace() {
            lineage.push(fork.parse()?);
        }
        Ok(lineage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(lineage: &str, epoch: &str) -> Option<u64> {
        let lineage: Lineage = lineage.parse().unwrap();
        lineage.reach(&Epoch::parse(epoch).unwrap()).map(|offset| offset.0)
    }

    #[test]
    fn a_position_counts_up_to_the_lowest_fork_after_it() {
        assert_eq!(reach("a.70 b.90", "a"), Some(70));
        assert_eq!(reach("a.70 b.90", "b"), Some(90));
        assert_eq!(reach("a.70 b.60", "a"), Some(60), "the second loss cut deeper");
        assert_eq!(reach("a.70 b.90", "c"), None);
        assert_eq!(reach("", "a"), None);
    }

    #[test]
    fn numberings_that_follow_from_one_are_the_same_up_to_the_lower_fork() {
        let shared = |one: &str, other: &str| {
            let [one, other]: [Lineage; 2] = [one, other].map(|text| text.parse().unwrap());
            one.shared_with(&other).map(|offset| offset.0)
        };
        assert_eq!(shared("a.70", "a.60"), Some(60));
        assert_eq!(shared("a.70 b.90", "a.75 c.80"), Some(70));
        assert_eq!(shared("a.70 b.90", "a.70 b.95 c.92"), Some(90), "the latest one counts");
        assert_eq!(shared("a.70", "b.70"), None);
        assert_eq!(shared("", "a.70"), None);
    }

    #[test]
    fn the_oldest_numbering_is_forgotten_first_and_the_text_holds_all() {
        let mut lineage = Lineage::default();
        for number in 0..=Lineage::FORKS_MAX as u64 {
            lineage.push(Epoch::parse(&format!("e{number}")).unwrap().at(Offset(number)));
        }
        assert_eq!(lineage.reach(&Epoch::parse("e0").unwrap()), None);
        assert_eq!(lineage.reach(&Epoch::parse("e1").unwrap()), Some(Offset(1)));
        assert_eq!(lineage.to_string().parse(), Ok(lineage));
    }
}
