//! The batcher of one channel decides which publications leave together and when.
//!
//! ```text
//!            publication after a quiet window: sealed at once (leading edge)
//!   Quiet ──────────────────────────────────────────────────────────────────▶ Busy
//!     ▲                                                                        │ publications wait
//!     └───────────── a window passes in which nothing was sealed ◀─────────────┘ for the window's end
//! ```
//!
//! It knows nothing of subscribers: who gets a batch, and whether a connection waits for its tick, is decided elsewhere.

use std::sync::Arc;
use std::time::Duration;

use tidings_protocol::{Channel, Epoch, Publication};

use super::{Batch, Time};

/// How a namespace batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRules {
    /// How long publications may wait for each other; `None` sends each at once.
    pub window: Option<Duration>,
    /// Whether the first publication after a quiet window leaves at once.
    pub leading: bool,
    /// A batch is sealed early at this many publications.
    pub publications_max: usize,
    /// A batch is sealed early at this many bytes.
    pub bytes_max: usize,
}

/// A batch ready to go.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The batch.
    pub batch: Arc<Batch>,
    /// When its receivers write it.
    pub urgency: Urgency,
}

/// When a batch should be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// At once.
    Now,
    /// At once by connections that had no leading write in the window that ends here; by others then.
    Leading {
        /// The end of the window.
        until: Time,
    },
    /// With everything else that this tick brings.
    Tick,
}

/// Publications of one channel on their way into a batch.
#[derive(Debug)]
pub struct Batcher {
    channel: Channel,
    rules: Arc<BatchRules>,
    epoch: Option<Epoch>,
    pending: Vec<Arc<Publication>>,
    pending_bytes: usize,
    quiet_from: Time,
}

impl Batcher {
    /// A batcher for a quiet channel.
    pub fn new(channel: Channel, rules: Arc<BatchRules>) -> Self {
        Batcher { channel, rules, epoch: None, pending: Vec::new(), pending_bytes: 0, quiet_from: Time::ZERO }
    }

    /// Takes a publication in; returns what is sealed by that, and when the rest is due if this call began a wait.
    pub fn push(
        &mut self,
        epoch: Option<Epoch>,
        publication: Arc<Publication>,
        now: Time,
    ) -> (Vec<Sealed>, Option<Time>) {
        let mut sealed = Vec::new();
        if !self.continues(&epoch, &publication) {
            // A batch never spans a hole: each subscriber finds the hole by comparing ranges.
            sealed.extend(self.seal(Urgency::Now, now));
        }
        self.epoch = epoch;
        self.pending_bytes += publication.json_len();
        self.pending.push(publication);

        let Some(window) = self.rules.window else {
            sealed.extend(self.seal(Urgency::Now, now));
            return (sealed, None);
        };
        let until = now.window_end(window);
        if self.pending.len() >= self.rules.publications_max || self.pending_bytes >= self.rules.bytes_max {
            sealed.extend(self.seal(Urgency::Now, now));
        } else if self.pending.len() == 1 && self.rules.leading && now >= self.quiet_from {
            sealed.extend(self.seal(Urgency::Leading { until }, now));
        }
        let waits = self.pending.len() == 1;
        (sealed, waits.then_some(until))
    }

    /// Seals what waits, if anything does.
    pub fn seal(&mut self, urgency: Urgency, now: Time) -> Option<Sealed> {
        if self.pending.is_empty() {
            return None;
        }
        self.quiet_from = now.after(self.rules.window.unwrap_or_default());
        self.pending_bytes = 0;
        let publications = std::mem::take(&mut self.pending);
        let batch = Batch::new(self.channel.clone(), self.epoch.clone(), publications);
        Some(Sealed { batch: Arc::new(batch), urgency })
    }

    fn continues(&self, epoch: &Option<Epoch>, publication: &Publication) -> bool {
        let Some(last) = self.pending.last() else { return true };
        *epoch == self.epoch && publication.offset == last.offset.map(|offset| offset.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_protocol::{Offset, Payload};

    fn ms(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    fn publication(offset: u64) -> Arc<Publication> {
        let payload = Payload::text(b"x").unwrap();
        Arc::new(Publication { offset: Some(Offset(offset)), time: 0, id: None, key: None, payload })
    }

    fn batcher(rules: BatchRules) -> Batcher {
        Batcher::new(Channel::parse("c").unwrap(), Arc::new(rules))
    }

    fn rules() -> BatchRules {
        BatchRules {
            window: Some(Duration::from_millis(100)),
            leading: true,
            publications_max: 512,
            bytes_max: 1 << 18,
        }
    }

    /// Pushes `offset` at `at`; returns the sealed ranges with their urgency, and when the rest is due.
    fn push(
        batcher: &mut Batcher,
        epoch: &str,
        offset: u64,
        at: u64,
    ) -> (Vec<(u64, u64, Urgency)>, Option<Time>) {
        let (sealed, due) = batcher.push(Some(Epoch::parse(epoch).unwrap()), publication(offset), ms(at));
        (sealed.iter().map(range).collect(), due)
    }

    fn range(sealed: &Sealed) -> (u64, u64, Urgency) {
        let span = sealed.batch.span.as_ref().unwrap();
        (span.first.0, span.last.0, sealed.urgency)
    }

    #[test]
    fn the_first_after_a_quiet_window_leaves_at_once_and_the_rest_waits_for_its_end() {
        let mut batcher = batcher(rules());
        let leading = |until| Urgency::Leading { until: ms(until) };
        assert_eq!(push(&mut batcher, "a", 1, 130), (vec![(1, 1, leading(200))], None));
        assert_eq!(push(&mut batcher, "a", 2, 140), (vec![], Some(ms(200))));
        assert_eq!(push(&mut batcher, "a", 3, 150), (vec![], None), "the wait has begun already");
        assert_eq!(batcher.seal(Urgency::Tick, ms(200)).as_ref().map(range), Some((2, 3, Urgency::Tick)));
        assert_eq!(push(&mut batcher, "a", 4, 299), (vec![], Some(ms(300))), "not quiet for a whole window");
        batcher.seal(Urgency::Tick, ms(300));
        assert_eq!(push(&mut batcher, "a", 5, 400), (vec![(5, 5, leading(500))], None));
    }

    #[test]
    fn without_a_leading_edge_everything_waits() {
        let mut batcher = batcher(BatchRules { leading: false, ..rules() });
        assert_eq!(push(&mut batcher, "a", 1, 130), (vec![], Some(ms(200))));
    }

    #[test]
    fn without_a_window_nothing_waits() {
        let mut batcher = batcher(BatchRules { window: None, ..rules() });
        assert_eq!(push(&mut batcher, "a", 1, 130), (vec![(1, 1, Urgency::Now)], None));
        assert_eq!(push(&mut batcher, "a", 2, 130), (vec![(2, 2, Urgency::Now)], None));
    }

    #[test]
    fn a_full_batch_does_not_wait() {
        let mut batcher = batcher(BatchRules { leading: false, publications_max: 2, ..rules() });
        push(&mut batcher, "a", 1, 130);
        assert_eq!(push(&mut batcher, "a", 2, 131), (vec![(1, 2, Urgency::Now)], None));
        assert_eq!(push(&mut batcher, "a", 3, 132), (vec![], Some(ms(200))));
    }

    #[test]
    fn a_batch_spans_neither_a_hole_nor_two_epochs() {
        let mut batcher = batcher(BatchRules { leading: false, ..rules() });
        push(&mut batcher, "a", 1, 130);
        assert_eq!(push(&mut batcher, "a", 3, 131), (vec![(1, 1, Urgency::Now)], Some(ms(200))));
        assert_eq!(push(&mut batcher, "b", 4, 132), (vec![(3, 3, Urgency::Now)], Some(ms(200))));
    }
}
