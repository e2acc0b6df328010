//! Caches that are never stale, from seeds: the real machines of three instances between a model of Redis and clients with the
//! real ledger, whose values come from a database with a lagging replica through caches of others. A judge who knows all looks
//! at everything that is served without asking.
//!
//! `TIDINGS_SEEDS=100000` runs more of them, `TIDINGS_FRESH_SEED=7` one of them with everything that happened in it.

#[cfg(feature = "ablation")]
mod ablation;
mod client;
mod closing;
mod judge;
mod mishaps;
mod origin;
mod report;
mod values;
mod world;
mod writers;

use std::collections::BTreeSet;

use closing::Closing;
#[cfg(feature = "ablation")]
use judge::Promise;
use report::{Report, run_all};
pub(crate) use world::CachePlan;
use world::Setting;

use crate::simulation::faults::Fault;

/// Seeds that once showed a defect; they are always run.
const SEEDS_OF_DEFECTS: [u64; 1] = [23];

/// Values that are served without asking, in each seed.
const SERVES_MIN: u64 = 1_000;

/// How often each fault happens in so many seeds.
const FAULTS_MIN: u64 = 1_000;
const FAULTS_MIN_SEEDS: u64 = 300;

/// What clients of channels go through, and those of caches do not, or otherwise.
const ELSEWHERE: [Fault; 12] = [
    Fault::CutMidway,
    Fault::Vanish,
    Fault::SlowReading,
    Fault::Unsubscribe,
    Fault::MailboxOverflow,
    Fault::CursorLost,
    Fault::TailWithoutLine,
    Fault::DroppedAttaching,
    Fault::DroppedListening,
    Fault::DroppedReading,
    Fault::DroppedLeaving,
    Fault::StreamDropped,
];

/// Worlds of these seeds.
fn settings(seeds: impl IntoIterator<Item = u64>, off: Option<Closing>) -> Vec<Setting> {
    seeds.into_iter().map(|seed| Setting { seed, off, is_calm: false, is_told: false }).collect()
}

#[test]
fn no_cache_is_stale() {
    if let Some(seed) = number_from_environment("TIDINGS_FRESH_SEED") {
        return replay(seed);
    }
    let count = number_from_environment("TIDINGS_SEEDS").unwrap_or(300);
    let seeds: BTreeSet<u64> = (0..count).chain(SEEDS_OF_DEFECTS).collect();
    let report = run_all(&settings(seeds, None), || ());
    println!("{report}");
    assert!(report.failures.is_empty(), "promises are broken:\n{}", report.describe_failures());
    assert_served(&report);
    for (fault, times) in report.faults.iter().filter(|(fault, _)| !ELSEWHERE.contains(fault)) {
        assert!(
            times * FAULTS_MIN_SEEDS >= FAULTS_MIN * report.seeds.min(FAULTS_MIN_SEEDS),
            "{fault:?} happens only {times} times"
        );
    }
}

#[test]
fn without_faults_everybody_is_told_within_a_window() {
    let settings: Vec<Setting> =
        (0..10).map(|seed| Setting { seed, off: None, is_calm: true, is_told: false }).collect();
    let report = run_all(&settings, || ());
    println!("{report}");
    assert!(report.failures.is_empty(), "promises are broken:\n{}", report.describe_failures());
    assert_served(&report);
}

fn assert_served(report: &Report) {
    let (seed, serves) = report.served_least.expect("there are seeds");
    assert!(serves >= SERVES_MIN, "seed {seed} serves only {serves} values");
}

/// Runs one seed, prints everything that happened, and fails if it broke a promise.
fn replay(seed: u64) {
    let outcomes = world::run(Setting { seed, off: None, is_calm: false, is_told: true });
    for violation in &outcomes.violations {
        println!("{violation}");
    }
    assert!(outcomes.violations.is_empty(), "seed {seed} breaks promises: see above");
}

fn number_from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}: it must be a number")))
}
