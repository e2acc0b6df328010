//! Whole histories from seeds: the real pure machines of three instances between a model of the Redis that they share and
//! model links, judged by a checker.
//!
//! `TIDINGS_SEEDS=100000` runs more of them, `TIDINGS_SEED=7` one of them with everything that happened in it.

use std::collections::BTreeSet;

mod alone;
pub(crate) mod broker;
mod bugs;
pub(crate) mod channels;
mod client;
pub(crate) mod cluster;
mod connection;
pub(crate) mod context;
pub(crate) mod faults;
pub(crate) mod instance;
pub(crate) mod link;
mod publisher;
pub(crate) mod random;
mod report;
mod schedule;
pub(crate) mod session_rules;
mod socket_client;
mod stream_client;
mod world;

pub(crate) use alone::Alone;
pub(crate) use bugs::Bug;
pub(crate) use report::run_seeds;

use faults::Fault;

use crate::history::Record;

/// Everything that happens in the world of one seed.
pub(crate) fn history_of(seed: u64) -> Vec<Record> {
    world::run(seed, None).history
}

/// Seeds that once showed a defect; they are always run.
///
/// - 98: a session read history before its instance knew where the channel stands, and missed what lies between.
/// - 26: nobody was told what a channel without positions lost until it was listened to again.
/// - 623, 853: a session had read what its instance had not and Redis lost then, and was told only with what followed.
/// - 2307, 4774: a head that was told while another one was awaited was forgotten.
const SEEDS_OF_DEFECTS: [u64; 6] = [26, 98, 623, 853, 2307, 4774];

/// Each fault must have happened this often in the normal run.
const FAULTS_MIN: u64 = 1_000;

/// Each fault of Redis as a whole: once a history.
const OUTAGES_MIN: u64 = 300;

#[test]
fn no_history_breaks_a_promise() {
    if let Some(seed) = number_from_environment("TIDINGS_SEED") {
        return report::replay(seed);
    }
    let count = number_from_environment("TIDINGS_SEEDS").unwrap_or(300);
    let seeds: BTreeSet<u64> = (0..count).chain(SEEDS_OF_DEFECTS).collect();
    let seeds: Vec<u64> = seeds.into_iter().collect();
    let report = run_seeds(&seeds, None, None);
    println!("{report}");
    assert!(report.failures.is_empty(), "promises are broken:\n{}", report.describe_failures());
    if count >= 300 {
        for (fault, times) in report.faults.iter().filter(|(fault, _)| !fault.is_of_caches()) {
            let least = if fault.is_of_all() { OUTAGES_MIN } else { FAULTS_MIN };
            assert!(times >= least, "{fault:?} happened only {times} times in {count} histories");
        }
    }
}

#[test]
fn one_seed_gives_one_history() {
    let [first, second] = [world::run(7, None), world::run(7, None)];
    assert!(first.history == second.history, "two runs of seed 7 differ");
    assert!(first.faults.iter().any(|(fault, times)| fault == Fault::Cut && times > 0));
    assert!(world::run(8, None).history != first.history, "seeds 7 and 8 give the same history");
}

#[test]
fn every_defect_of_the_driver_is_called_by_its_name() {
    let seeds: Vec<u64> = (0..30).collect();
    for (bug, kind) in Bug::ALL {
        let violations = run_seeds(&seeds, Some(bug), None).violations();
        println!("{bug:?}: {violations:?}");
        assert!(
            violations.contains_key(&kind),
            "{bug:?} must be seen as {kind:?}, was seen as {violations:?}"
        );
    }
}

fn number_from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}: it must be a number")))
}
