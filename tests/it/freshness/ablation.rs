//! Each closing is needed: with one of them open, values are served or kept that promises forbid.
//!
//! `cargo test --features ablation --test it freshness::ablation -- --nocapture` prints the table.

use tidings::ablation::{Safeguard, ablate};

use super::{Closing, Promise, run_all, settings};

/// Enough that each closing is missed.
const SEEDS: u64 = 60;

/// What is left open, and the promise that must be seen to break.
enum Open {
    Nothing,
    Way(Closing, Promise),
    /// A safeguard of the server, and how to switch it off.
    Guard(Safeguard, fn(), Promise),
}

#[rustfmt::skip]
const TABLE: [Open; 17] = [
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
    Open::Way(Closing::BodyAfter, Promise::Basis),
];

#[test]
fn every_closing_is_needed() {
    println!("{:<14} {:>7} {:>6} {:>6}  broken promises", "left open", "serves", "seeds", "failed");
    for open in TABLE {
        let (name, prepare, off): (String, fn(), _) = match open {
            Open::Nothing => ("nothing".to_owned(), || ablate(None), None),
            Open::Way(closing, _) => (closing.to_string(), || ablate(None), Some(closing)),
            Open::Guard(safeguard, prepare, _) => (format!("{safeguard:?}"), prepare, None),
        };
        let report = run_all(&settings(0..SEEDS, off), prepare);
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
