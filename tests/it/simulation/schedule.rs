//! What happens next: moments in order, and those of one moment in the order in which they were planned.

use std::collections::BTreeMap;
use std::time::Duration;

use tidings::hub::Time;

/// The plan of a simulation, and its clock: time is the moment of what happened last.
pub(crate) struct Schedule<W> {
    now: Time,
    sequence: u64,
    planned: BTreeMap<(Time, u64), W>,
}

impl<W> Schedule<W> {
    /// Nothing planned, at the start of time.
    pub(crate) fn new() -> Self {
        Schedule { now: Time::ZERO, sequence: 0, planned: BTreeMap::new() }
    }

    /// The time.
    pub(crate) fn now(&self) -> Time {
        self.now
    }

    /// Plans for a moment; for now, if the moment has passed.
    pub(crate) fn at(&mut self, time: Time, what: W) {
        self.sequence += 1;
        self.planned.insert((time.max(self.now), self.sequence), what);
    }

    /// Plans for later.
    pub(crate) fn after(&mut self, duration: Duration, what: W) {
        self.at(self.now.after(duration), what);
    }

    /// What happens next, up to and including `end`; time moves there.
    pub(crate) fn next(&mut self, end: Time) -> Option<W> {
        let entry = self.planned.first_entry().filter(|entry| entry.key().0 <= end)?;
        self.now = entry.key().0;
        Some(entry.remove())
    }

    /// Time moves on, where nothing is planned before.
    pub(crate) fn pass_to(&mut self, time: Time) {
        let next = self.planned.first_key_value().map_or(time, |((at, _), _)| *at);
        self.now = self.now.max(time.min(next));
    }
}
