//! Each safeguard is needed: with one of them off, the simulation's histories break promises that hold with all on.
//!
//! `cargo test --features ablation --test it ablation -- --nocapture` prints the table; with `TIDINGS_ABLATION=Beacon` one row.

use tidings::ablation::{Safeguard, ablate};

use crate::history::checker::Kind;
use crate::simulation::run_seeds;

/// Enough that each safeguard is missed many times.
const SEEDS: u64 = 60;

/// A safeguard, how to switch it off, and what must be seen then.
type Row = (&'static str, fn(), Option<Kind>);

const TABLE: [Row; 10] = [
    ("none", || ablate(None), None),
    ("ListenBeforeRead", || ablate(Some(Safeguard::ListenBeforeRead)), Some(Kind::Behind)),
    ("RangeCheck", || ablate(Some(Safeguard::RangeCheck)), Some(Kind::Jump)),
    ("GapOnOverflow", || ablate(Some(Safeguard::GapOnOverflow)), Some(Kind::Behind)),
    ("EpochOnRestart", || ablate(Some(Safeguard::EpochOnRestart)), Some(Kind::TwoPayloads)),
    ("Fence", || ablate(Some(Safeguard::Fence)), Some(Kind::TwoPayloads)),
    ("ReadFence", || ablate(Some(Safeguard::ReadFence)), Some(Kind::Behind)),
    ("Beacon", || ablate(Some(Safeguard::Beacon)), Some(Kind::Behind)),
    ("Interest", || ablate(Some(Safeguard::Interest)), Some(Kind::Behind)),
    ("Lag", || ablate(Some(Safeguard::Lag)), Some(Kind::Missed)),
];

#[test]
fn every_safeguard_is_needed() {
    let seeds: Vec<u64> = (0..SEEDS).collect();
    println!("{:<18} {:>5} {:>6}  violations", "switched off", "seeds", "failed");
    let only = std::env::var("TIDINGS_ABLATION").ok();
    let is_asked = |(name, ..): &Row| only.as_deref().is_none_or(|only| only == *name);
    for (name, prepare, expected) in TABLE.into_iter().filter(is_asked) {
        let report = run_seeds(&seeds, None, Some(prepare));
        let violations = report.violations();
        println!("{name:<18} {:>5} {:>6}  {violations:?}", report.seeds, report.failures.len());
        match expected {
            None => assert!(violations.is_empty(), "{}", report.describe_failures()),
            Some(kind) => assert!(violations.contains_key(&kind), "without {name} nothing is {kind:?}"),
        }
    }
}
