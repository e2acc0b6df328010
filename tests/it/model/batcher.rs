//! A batcher's promises: nothing is lost, the order stays, no batch spans a hole, nothing waits beyond its window.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tidings::hub::{BatchRules, Batcher, Sealed, Time, Urgency};

use super::{channel, config, epoch, ms, publication};

/// One publication: how long after the last one, of how many bytes, and whether something before it is missing.
#[derive(Clone, Debug)]
struct Push {
    after_ms: u64,
    bytes: usize,
    before: Before,
}

#[derive(Clone, Copy, Debug)]
enum Before {
    Nothing,
    Hole,
    Epoch,
}

fn push() -> impl Strategy<Value = Push> {
    let before = prop_oneof![8 => Just(Before::Nothing), 1 => Just(Before::Hole), 1 => Just(Before::Epoch)];
    let after_ms = prop_oneof![0..20_u64, 0..300_u64];
    (after_ms, 0..200_usize, before).prop_map(|(after_ms, bytes, before)| Push { after_ms, bytes, before })
}

fn rules() -> impl Strategy<Value = BatchRules> {
    let window =
        prop::option::weighted(0.9, prop::sample::select(vec![10, 100, 250]).prop_map(Duration::from_millis));
    (window, any::<bool>(), 1..12_usize, 1..2_000_usize).prop_map(
        |(window, leading, publications_max, bytes_max)| BatchRules {
            window,
            leading,
            publications_max,
            bytes_max,
        },
    )
}

/// A batcher whose windows are ended in time, and what came out of it when.
struct Driven {
    batcher: Batcher,
    due: BTreeSet<Time>,
    sealed: Vec<(Time, Sealed)>,
}

impl Driven {
    fn end_windows(&mut self, until: Time) {
        while let Some(due) = self.due.pop_first() {
            if due > until {
                self.due.insert(due);
                return;
            }
            self.sealed.extend(self.batcher.seal(Urgency::Tick, due).map(|sealed| (due, sealed)));
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn everything_leaves_in_order_within_its_window_and_no_batch_spans_a_hole(
        rules in rules(),
        pushes in prop::collection::vec(push(), 1..80),
    ) {
        let rules = Arc::new(rules);
        let batcher = Batcher::new(channel("c"), rules.clone());
        let mut driven = Driven { batcher, due: BTreeSet::new(), sealed: Vec::new() };
        let (mut now, mut number, mut offset) = (ms(0), 0, 0);
        let mut pushed = Vec::new();
        for Push { after_ms, bytes, before } in pushes {
            now = now.after(Duration::from_millis(after_ms));
            driven.end_windows(now);
            match before {
                Before::Nothing => offset += 1,
                Before::Hole => offset += 3,
                Before::Epoch => (number, offset) = (number + 1, 1),
            }
            let publication = Arc::new(publication(Some(offset), bytes));
            let (sealed, due) = driven.batcher.push(Some(epoch(number)), publication, now);
            driven.sealed.extend(sealed.into_iter().map(|sealed| (now, sealed)));
            driven.due.extend(due);
            pushed.push((number, offset, now));
        }
        driven.end_windows(now.after(Duration::from_secs(1)));
        check(&driven.sealed, &pushed, &rules)?;
    }
}

fn check(
    sealed: &[(Time, Sealed)],
    pushed: &[(u64, u64, Time)],
    rules: &BatchRules,
) -> Result<(), TestCaseError> {
    let mut rest = pushed.iter();
    let mut leading = BTreeMap::new();
    for (at, Sealed { batch, urgency }) in sealed {
        let span = batch.span.as_ref().expect("the channel has positions");
        let range = span.last.0 - span.first.0 + 1;
        prop_assert_eq!(range, batch.publications.len() as u64, "{:?} covers a hole", batch);
        prop_assert!(batch.publications.len() <= rules.publications_max, "{:?} is too long", batch);
        let last = batch.publications.last().expect("a batch is not empty").json_len();
        prop_assert!(batch.bytes - last < rules.bytes_max, "{:?} should have left before its last", batch);
        for publication in &batch.publications {
            let (number, offset, came) = rest.next().expect("no more came out than went in");
            prop_assert_eq!(
                (&epoch(*number), *offset),
                (&span.epoch, publication.offset.expect("a place").0)
            );
            let latest = rules.window.map_or(*came, |window| came.window_end(window));
            prop_assert!(*at <= latest, "offset {} came at {:?} and left at {:?}", offset, came, at);
        }
        if let Urgency::Leading { until } = urgency {
            prop_assert!(rules.leading, "{:?} left early", batch);
            prop_assert!(
                leading.insert(*until, ()).is_none(),
                "two leading batches in the window that ends at {:?}",
                until
            );
        }
    }
    prop_assert!(rest.next().is_none(), "something is still waiting");
    Ok(())
}
