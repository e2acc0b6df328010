//! What a client asks of a log, in commands of a size that the server takes (R61).

use std::collections::BTreeMap;

use crate::{Offset, Position, Tag, WatchGroup};

/// The most tags of one command.
pub(super) const TAGS_MAX: usize = 1_000;

/// A `watch` to be sent. Its answer is handed to [`Ledger::watched`](super::Ledger::watched) with the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Counts this ledger's watches, from 1.
    pub id: u64,
    /// What to watch, by what is known of it.
    pub groups: Vec<WatchGroup>,
}

/// The groups of as many commands as it takes. An answer names a stale tag without saying as of which position, so no
/// command names a tag twice.
pub(super) fn commands(mut wanted: Vec<(Position, Tag)>) -> Vec<Vec<WatchGroup>> {
    fn place((since, tag): &(Position, Tag)) -> (&str, Offset, &Tag) {
        (since.epoch.as_str(), since.offset, tag)
    }

    wanted.sort_by(|one, other| place(one).cmp(&place(other)));
    wanted.dedup();
    let mut named: BTreeMap<Tag, usize> = BTreeMap::new();
    let mut rounds: Vec<Vec<(Position, Tag)>> = Vec::new();
    for (since, tag) in wanted {
        let round = named.entry(tag.clone()).or_default();
        if *round == rounds.len() {
            rounds.push(Vec::new());
        }
        rounds[*round].push((since, tag));
        *round += 1;
    }
    rounds.iter().flat_map(|round| round.chunks(TAGS_MAX)).map(groups).collect()
}

/// Tags that are known as of the same position are one group.
fn groups(wanted: &[(Position, Tag)]) -> Vec<WatchGroup> {
    let mut groups: Vec<WatchGroup> = Vec::new();
    for (since, tag) in wanted {
        match groups.last_mut().filter(|group| group.since.as_ref() == Some(since)) {
            Some(group) => group.tags.push(tag.clone()),
            None => groups.push(WatchGroup { since: Some(since.clone()), tags: vec![tag.clone()] }),
        }
    }
    groups
}
