//! Each closing is needed: with one of them open, values are served or kept that promises forbid.
//!
//! `TIDINGS_SEEDS=60 cargo test --features ablation --test it freshness::ablation -- --nocapture` prints the table of so many
//! seeds; without it each closing is open until it was missed once.

use tidings::ablation::{Safeguard, ablate};

use super::report::Report;
use super::{Closing, Promise, number_from_environment, run_all, settings};

/// In so many seeds each closing is missed; they are the ones in which nothing is, while all are closed.
const SEEDS: u64 = 300;

/// Seeds that are run before somebody looks whether the closing was missed.
const SEEDS_AT_ONCE: u64 = 2;

/// What is left open, and the promise that must be seen to break.
enum Open {
    Nothing,
    Way(Closing, Promise),
    /// A safeguard of the server, and how to switch it off.
    Guard(Safeguard, fn(), Promise),
}

#[rustfmt::skip]
const TABLE: [Open; 22] = [
    Open::Nothing,
    Open::Way(Closing::BasisBefore, Promise::Lease),
    Open::Way(Closing::InFlight, Promise::Lease),
    Open::Guard(Safeguard::WatchSince, || ablate(Some(Safeguard::WatchSince)), Promise::Lease),
    Open::Guard(Safeguard::LogRepair, || ablate(Some(Safeguard::LogRepair)), Promise::Told),
    Open::Guard(Safeguard::HeadProbe, || ablate(Some(Safeguard::HeadProbe)), Promise::Lease),
    Open::Way(Closing::Lease, Promise::Lease),
    Open::Way(Closing::WallClock, Promise::Lease),
    Open::Guard(Safeguard::Fence, || ablate(Some(Safeguard::Fence)), Promise::Told),
    Open::Guard(Safeguard::Rewrite, || ablate(Some(Safeguard::Rewrite)), Promise::Stored),
    Open::Way(Closing::Wait, Promise::Lease),
    Open::Way(Closing::Outbox, Promise::Lease),
    Open::Way(Closing::CommitFirst, Promise::Lease),
    Open::Way(Closing::ReplicaBasis, Promise::Lease),
    Open::Way(Closing::SharedBasis, Promise::Lease),
    Open::Way(Closing::HeaderBasis, Promise::Lease),
    Open::Way(Closing::AnswerBasis, Promise::Basis),
    Open::Way(Closing::ExceptUnproven, Promise::Told),
    Open::Way(Closing::ExceptEarly, Promise::Told),
    Open::Guard(Safeguard::Exception, || ablate(Some(Safeguard::Exception)), Promise::Told),
    Open::Way(Closing::NoTags, Promise::Lease),
    Open::Way(Closing::ForcedJoins, Promise::Forced),
];

#[test]
fn every_closing_is_needed() {
    let seeds = number_from_environment("TIDINGS_SEEDS");
    println!("{:<14} {:>7} {:>6} {:>6}  broken promises", "left open", "serves", "seeds", "failed");
    for open in TABLE {
        let (name, prepare, off): (String, fn(), _) = match open {
            Open::Nothing => ("nothing".to_owned(), || ablate(None), None),
            Open::Way(closing, _) => (closing.to_string(), || ablate(None), Some(closing)),
            Open::Guard(safeguard, prepare, _) => (format!("{safeguard:?}"), prepare, None),
        };
        let report = match open {
            Open::Nothing => run_all(&settings(0..seeds.unwrap_or(SEEDS_AT_ONCE), off), prepare),
            Open::Way(_, promise) | Open::Guard(_, _, promise) => missed(promise, seeds, off, prepare),
        };
        let broken = report.violations();
        println!(
            "{name:<14} {:>7} {:>6} {:>6}  {broken:?}",
            report.serves,
            report.seeds,
            report.failures.len()
        );
        match open {
            Open::Nothing => assert!(broken.is_empty(), "{}", report.describe_failures()),
            Open::Way(_, promise) | Open::Guard(_, _, promise) => {
                assert!(broken.contains_key(&promise), "with {name} open nothing breaks {promise:?}");
            }
        }
    }
}

/// Runs so many seeds, or as many as it takes until the promise is broken.
fn missed(promise: Promise, seeds: Option<u64>, off: Option<Closing>, prepare: fn()) -> Report {
    if let Some(seeds) = seeds {
        return run_all(&settings(0..seeds, off), prepare);
    }
    let mut report = Report::default();
    while report.seeds < SEEDS && !report.violations().contains_key(&promise) {
        let next = report.seeds..report.seeds + SEEDS_AT_ONCE;
        report = report.merge(run_all(&settings(next, off), prepare));
    }
    report
}
