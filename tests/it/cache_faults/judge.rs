//! Who must know what by when: a value that is served as fresh reflects every mutation that was acknowledged longer than a
//! lease ago. A lease is all that a client may be behind that was cut off.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use super::database::{Seen, Thing};

/// Stale serves that are told in words.
const WORDS_MAX: usize = 10;

/// Counts what was served. All times are of one clock.
pub(super) struct Judge {
    lease: Duration,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    things: HashMap<Thing, Acknowledged>,
    verdict: Verdict,
}

/// The mutations of one thing.
#[derive(Default)]
struct Acknowledged {
    /// The version that everybody must know.
    due: u64,
    /// Later ones, with the moments of their acknowledgements, in that order.
    recent: VecDeque<(Duration, u64)>,
}

/// What was served so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    /// Values served as fresh.
    pub(super) served: u64,
    /// Those of them that missed a mutation which they had to reflect.
    pub(super) stale: u64,
    pub(super) acknowledged: u64,
    /// The first stale ones, in words.
    pub(super) words: Vec<String>,
}

impl Judge {
    pub(super) fn new(lease: Duration) -> Judge {
        Judge { lease, books: Mutex::default() }
    }

    /// A mutation was acknowledged at this moment, which made things what they are here.
    pub(super) fn acknowledged(&self, changed: &Seen, at: Duration) {
        let mut books = self.books.lock().expect("nobody panics here");
        books.verdict.acknowledged += 1;
        for (thing, version) in changed {
            books.things.entry(*thing).or_default().recent.push_back((at, *version));
        }
    }

    /// A value was served as fresh at this moment.
    pub(super) fn served(&self, client: usize, value: &Seen, at: Duration) {
        let mut books = self.books.lock().expect("nobody panics here");
        books.verdict.served += 1;
        let missed = value.iter().find_map(|(thing, version)| {
            let due = books.things.get_mut(thing)?.due_at(at.checked_sub(self.lease)?);
            (due > *version).then(|| format!("{client} served {thing:?} of version {version}, {due} was due"))
        });
        if let Some(words) = missed {
            books.verdict.stale += 1;
            if books.verdict.words.len() < WORDS_MAX {
                books.verdict.words.push(format!("{words} at {at:?}"));
            }
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.books.lock().expect("nobody panics here").verdict.clone()
    }
}

impl Acknowledged {
    /// The highest version acknowledged up to this moment, or to an earlier answer's.
    fn due_at(&mut self, moment: Duration) -> u64 {
        let passed = self.recent.partition_point(|(at, _)| *at <= moment);
        for (_, version) in self.recent.drain(..passed) {
            self.due = self.due.max(version);
        }
        self.due
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidings_protocol::{Effect, Envelope, Frame, Freshness, Ledger, Reading, Stored, decode_frame};

    use super::super::database::Database;
    use super::*;

    const LEASE_MS: u64 = 2_000;

    fn told(ledger: &mut Ledger<u8>, id: u64, frame: serde_json::Value) {
        let Ok(Some(Envelope { frame, .. })) = decode_frame(&frame.to_string()) else {
            panic!("no frame: {frame}")
        };
        match frame {
            Frame::Watched(frame) => ledger.watched(id, &frame),
            Frame::Invalidated(frame) => ledger.invalidated(&frame),
            Frame::At(frame) => ledger.at(&frame),
            other => panic!("{other:?}"),
        }
    }

    /// Books in which a row is valid, with a lease up to [`LEASE_MS`].
    fn ledger(row: Thing) -> Ledger<u8> {
        let mut ledger = Ledger::new();
        ledger.connected(LEASE_MS);
        let asked = |effects: &[Effect<u8>], id| {
            effects.iter().any(|effect| matches!(effect, Effect::Watch(watch) if watch.id == id))
        };
        assert!(asked(&ledger.effects(), 1), "where the log stands");
        ledger.pinged(0);
        let at = |offset: u64| json!({"epoch": "e", "offset": offset});
        told(&mut ledger, 1, json!({"watched": {"at": at(1), "stale": [], "denied": [], "escalated": []}}));
        told(&mut ledger, 0, json!({"at": {"position": at(1), "c": 0}}));
        let basis = ledger.begin(1);
        let tags = Some([row.tag()].into());
        let reading = Reading { tags, begun: basis, ..Reading::default() };
        assert_eq!(ledger.stored(1, reading), Stored::Kept);
        assert!(asked(&ledger.effects(), 2), "whether the row was touched");
        told(&mut ledger, 2, json!({"watched": {"at": at(1), "stale": [], "denied": [], "escalated": []}}));
        ledger
    }

    /// What is judged of a client that serves for two leases, and is told of a mutation in between or not.
    fn judged(is_told: bool) -> Verdict {
        let (database, judge) = (Database::new(2, 1), Judge::new(Duration::from_millis(LEASE_MS)));
        let row = Thing::Row(1);
        let (value, mut ledger) = (database.read(&[row]), ledger(row));
        for now in (2..2 * LEASE_MS).step_by(100) {
            let at = Duration::from_millis(now);
            if now == 102 {
                judge.acknowledged(&database.change(1, 0), at);
                let tags = if is_told { json!({"row:1": 2}) } else { json!({}) };
                let position = json!({"epoch": "e", "offset": 2});
                told(&mut ledger, 0, json!({"invalidated": {"at": position, "tags": tags}}));
            }
            ledger.pinged(now);
            told(&mut ledger, 0, json!({"at": {"position": {"epoch": "e", "offset": 2}, "c": now}}));
            if ledger.check(&1, now) == Freshness::Fresh {
                judge.served(0, &value, at);
            }
        }
        judge.verdict()
    }

    #[test]
    fn a_client_whose_invalidations_are_dropped_is_found_to_serve_what_is_stale() {
        let verdict = judged(false);
        // From 102 + 2,000 ms on, every 100 ms.
        assert_eq!((verdict.served, verdict.stale), (40, 19), "{verdict:?}");
        assert_eq!(verdict.words[0], "0 served Row(1) of version 0, 1 was due at 2.102s");
        assert_eq!(verdict.words.len(), WORDS_MAX);
    }

    #[test]
    fn a_client_that_is_told_serves_nothing_stale() {
        let verdict = judged(true);
        assert_eq!((verdict.served, verdict.stale), (1, 0), "{verdict:?}");
    }
}
