//! One client's view of one channel, from where it began: what it saw, and what it was told that it did not see.

use std::collections::{BTreeMap, BTreeSet};

use tidings::hub::Time;
use tidings_protocol::{GapReason, Offset, Position};

use super::Kind;
use crate::history::PublishId;

/// What is wrong with one event.
type Wrong = (Kind, String);

/// The view of one client on one channel.
pub(crate) struct View {
    began: Time,
    /// Where it stands: what comes next follows.
    position: Option<Position>,
    epochs: BTreeMap<String, Seen>,
    /// The last number of each author.
    authors: BTreeMap<u32, u32>,
    /// How many of the publications of a volatile channel lie behind it.
    volatile_next: usize,
    volatile_seen: BTreeSet<PublishId>,
    last_gap: Option<Time>,
    /// The last gap did not say where it ends.
    gap_is_open: bool,
}

/// What was seen of one epoch.
#[derive(Default)]
pub(crate) struct Seen {
    offsets: BTreeSet<Offset>,
    /// First and last offsets that were not promised, or declared lost.
    excused: Vec<(Offset, Offset)>,
}

impl Seen {
    /// The highest offset seen; 0 if none was.
    pub(crate) fn highest(&self) -> Offset {
        self.offsets.last().copied().unwrap_or_default()
    }

    /// Whether the offset was seen or need not have been.
    pub(crate) fn has(&self, offset: Offset) -> bool {
        self.offsets.contains(&offset)
            || self.excused.iter().any(|(first, last)| (*first..=*last).contains(&offset))
    }
}

impl View {
    /// A view of what follows `position`; without one, of a volatile channel.
    pub(crate) fn begin(began: Time, position: Option<Position>) -> Self {
        let mut view = View {
            began,
            position: None,
            epochs: BTreeMap::new(),
            authors: BTreeMap::new(),
            volatile_next: 0,
            volatile_seen: BTreeSet::new(),
            last_gap: None,
            gap_is_open: false,
        };
        if let Some(position) = position {
            view.excuse(&position.epoch.at(Offset(0)), position.offset);
            view.position = Some(position);
        }
        view
    }

    /// Where it stands.
    pub(crate) fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Everything that was seen, by epoch.
    pub(crate) fn epochs(&self) -> impl Iterator<Item = (&String, &Seen)> {
        self.epochs.iter()
    }

    fn excuse(&mut self, from: &Position, last: Offset) {
        let seen = self.epochs.entry(from.epoch.to_string()).or_default();
        seen.excused.push((from.offset, last));
    }

    /// The client comes back with this position: what follows it may come again.
    pub(crate) fn resume(&mut self, position: &Position) -> Result<(), Wrong> {
        self.close_gap(position);
        let Some(at) = self.position.replace(position.clone()) else { return Ok(()) };
        self.authors.clear();
        let was_there =
            self.epochs.get(position.epoch.as_str()).is_some_and(|seen| seen.has(position.offset));
        if at.epoch == position.epoch && at.offset < position.offset && !was_there {
            return Err((Kind::Jump, format!("it resumes at {position}, but has seen only {at}")));
        }
        Ok(())
    }

    /// The client's place is called otherwise from now on. It must be the same place.
    pub(crate) fn continue_as(&mut self, from: &Position, position: &Position) -> Result<(), Wrong> {
        self.close_gap(from);
        self.excuse(&position.epoch.at(Offset(0)), position.offset);
        let at = self.position.replace(position.clone());
        let what = |why: String| Err((Kind::Jump, format!("{from} continues as {position}{why}")));
        match at {
            _ if from.offset != position.offset => what(", which is another place".to_owned()),
            Some(at) if at != *from => what(format!(", but it stood at {at}")),
            _ => Ok(()),
        }
    }

    /// A publication must follow the one before.
    pub(crate) fn deliver(&mut self, position: &Position) -> Result<(), Wrong> {
        self.close_gap(&position.epoch.at(position.offset.previous()));
        let seen = self.epochs.entry(position.epoch.to_string()).or_default();
        seen.offsets.insert(position.offset);
        let Some(at) = self.position.replace(position.clone()) else { return Ok(()) };
        let what = format!("{position} came after {at}");
        match position.offset.cmp(&at.offset.next()) {
            _ if position.epoch != at.epoch => Err((Kind::Jump, what)),
            std::cmp::Ordering::Less => Err((Kind::StepBack, what)),
            std::cmp::Ordering::Greater => Err((Kind::Jump, what)),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }

    /// Without positions the order is that in which the channel carried them.
    pub(crate) fn deliver_volatile(
        &mut self,
        publish: PublishId,
        carried: &[(PublishId, Time)],
    ) -> Result<(), Wrong> {
        // A retry after the broker forgot its keys is carried again.
        let mut ahead = carried.iter().enumerate().skip(self.volatile_next);
        let Some((index, _)) = ahead.find(|(_, (there, _))| *there == publish) else {
            return Err((Kind::StepBack, format!("{publish} came again, or after what followed it")));
        };
        self.volatile_next = index + 1;
        self.volatile_seen.insert(publish);
        Ok(())
    }

    /// An author's publications come in their order; the same one may come again in a new epoch.
    pub(crate) fn keep_order(&mut self, publish: PublishId) -> Result<(), Wrong> {
        let last = self.authors.insert(publish.author, publish.number).unwrap_or(0);
        match publish.number < last {
            true => Err((Kind::OrderInverted, format!("{publish} came after {}.{last}", publish.author))),
            false => Ok(()),
        }
    }

    /// The client was told that what lies between its position and this one is lost.
    pub(crate) fn gap(&mut self, time: Time, reason: GapReason, position: Option<&Position>) {
        self.last_gap = Some(time);
        // Without a position whoever comes back, perhaps to another instance, may hear again what it knows.
        let has_none = self.position.is_none() && reason == GapReason::Lost;
        if has_none || reason == GapReason::Cursor {
            self.volatile_next = 0;
            self.authors.clear();
        }
        self.gap_is_open = true;
        position.into_iter().for_each(|position| self.close_gap(position));
    }

    fn close_gap(&mut self, position: &Position) {
        if !std::mem::take(&mut self.gap_is_open) {
            return;
        }
        if let Some(at) = self.position.replace(position.clone()) {
            if at.epoch == position.epoch {
                return self.excuse(&at, position.offset);
            }
            self.excuse(&at, Offset(u64::MAX));
            // What was lost with the epoch, keys among it, may be published again.
            self.authors.clear();
        }
        self.excuse(&position.epoch.at(Offset(0)), position.offset);
    }

    /// What a volatile channel carried since this view began, and this client neither saw nor was told of: a gap covers
    /// all that was published before it.
    pub(crate) fn missed_volatile(
        &self,
        carried: &[(PublishId, Time)],
        doomed: &BTreeSet<PublishId>,
    ) -> Option<String> {
        let mut since_began = carried.iter().filter(|(_, time)| *time > self.began);
        let (publish, time) = since_began.find(|(publish, time)| {
            let is_known = self.volatile_seen.contains(publish) || doomed.contains(publish);
            !is_known && self.last_gap.is_none_or(|gap| gap < *time)
        })?;
        Some(format!("{publish}, published at {:.3} ms, never came", time.0.as_secs_f64() * 1e3))
    }
}
