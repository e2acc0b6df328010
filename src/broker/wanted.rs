//! The channels that an instance wants to hear of, on their way from its event loop to whoever listens for it.
//!
//! Of each channel only the last word counts, so that nothing is refused or dropped: what waits is bounded by the channels
//! that are wanted, and those that are listened to. Pure.

use indexmap::{IndexMap, IndexSet};
use tidings_protocol::Channel;

/// See the module.
#[derive(Debug, Default)]
pub struct Wanted {
    last_number: u64,
    /// Those that whoever listens knows to be wanted.
    taken: IndexSet<Channel>,
    /// What it does not know yet: the number of the last call that wants the channel; `None` where nobody does any more.
    changes: IndexMap<Channel, Option<u64>>,
}

impl Wanted {
    /// The channel is wanted, or is not any more. Returns the number of the call for a channel that is wanted.
    pub fn set(&mut self, channel: &Channel, wanted: bool) -> Option<u64> {
        self.last_number += 1;
        let number = wanted.then_some(self.last_number);
        if wanted || self.taken.contains(channel) {
            self.changes.insert(channel.clone(), number);
        } else {
            // Nobody ever heard that it was wanted.
            self.changes.swap_remove(channel);
        }
        number
    }

    /// What changed since the last look, for whoever listens.
    pub fn take(&mut self) -> IndexMap<Channel, Option<u64>> {
        let changes = std::mem::take(&mut self.changes);
        for (channel, number) in &changes {
            match number {
                Some(_) => drop(self.taken.insert(channel.clone())),
                None => drop(self.taken.swap_remove(channel)),
            }
        }
        changes
    }

    /// Whether [`Wanted::take`] would give something.
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// The channels that are wanted now.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        let known = self.taken.iter().filter(|channel| !self.changes.contains_key(*channel));
        known.chain(self.changes.iter().filter(|(_, number)| number.is_some()).map(|(channel, _)| channel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::parse(name).unwrap()
    }

    fn taken(wanted: &mut Wanted) -> Vec<(String, Option<u64>)> {
        wanted.take().into_iter().map(|(channel, number)| (channel.to_string(), number)).collect()
    }

    #[test]
    fn of_each_channel_the_last_word_counts() {
        let mut wanted = Wanted::default();
        for (name, is_wanted) in [("a", true), ("b", true), ("a", false), ("a", true)] {
            wanted.set(&channel(name), is_wanted);
        }
        assert_eq!(wanted.channels().count(), 2);
        assert_eq!(taken(&mut wanted), [("b".to_owned(), Some(2)), ("a".to_owned(), Some(4))]);
        assert!(!wanted.has_changes() && wanted.channels().count() == 2);
        wanted.set(&channel("a"), false);
        assert_eq!(wanted.channels().map(Channel::as_str).collect::<Vec<_>>(), ["b"]);
        assert_eq!(taken(&mut wanted), [("a".to_owned(), None)]);
    }

    #[test]
    fn what_comes_and_goes_unheard_leaves_nothing() {
        let mut wanted = Wanted::default();
        for number in 0..1_000 {
            let name = channel(&number.to_string());
            wanted.set(&name, true);
            wanted.set(&name, false);
        }
        assert!(!wanted.has_changes());
        assert!(wanted.taken.is_empty() && wanted.changes.is_empty());
    }

    #[test]
    fn a_channel_that_is_wanted_again_has_a_new_number() {
        let mut wanted = Wanted::default();
        let first = wanted.set(&channel("a"), true);
        wanted.take();
        wanted.set(&channel("a"), false);
        let second = wanted.set(&channel("a"), true);
        assert!(first < second);
        assert_eq!(taken(&mut wanted), [("a".to_owned(), second)]);
    }
}
