//! Many seeds on all cores, and what came of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::bugs::Bug;
use super::faults::FaultCounts;
use super::world;
use crate::history::checker::{self, Kind, Violation};
use crate::history::{Event, excerpt};

/// Failed seeds that are described; the others are only counted.
const DESCRIBED_MAX: usize = 3;

/// What came of many seeds.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) seeds: u64,
    pub(crate) events: u64,
    pub(crate) deliveries: u64,
    pub(crate) acks: u64,
    /// Places that went on under another name.
    pub(crate) continued: u64,
    /// Declared gaps, by reason.
    pub(crate) gaps: BTreeMap<&'static str, u64>,
    pub(crate) faults: FaultCounts,
    /// Seeds with violations, and the histories around the first of each.
    pub(crate) failures: BTreeMap<u64, (Vec<Violation>, String)>,
}

/// Runs seeds on all cores. `prepare` is called on each thread before: it may switch something off for it.
pub(crate) fn run_seeds(seeds: &[u64], bug: Option<Bug>, prepare: Option<fn()>) -> Report {
    let next = AtomicUsize::new(0);
    let work = || {
        prepare.unwrap_or(|| ())();
        let mut report = Report::default();
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            report.run(*seed, bug);
        }
        report
    };
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let reports = workers.into_iter().map(|worker| worker.join().expect("a history ran to its end"));
        reports.reduce(Report::merge).unwrap_or_default()
    })
}

/// Runs one seed, prints everything that happened, and fails if it broke a promise.
pub(crate) fn replay(seed: u64) {
    let outcomes = world::run(seed, None);
    for record in &outcomes.history {
        println!("{record}");
    }
    let violations = checker::check(&outcomes.history);
    for violation in &violations {
        println!("{violation}");
    }
    assert!(violations.is_empty(), "seed {seed} breaks promises: see above");
}

impl Report {
    fn run(&mut self, seed: u64, bug: Option<Bug>) {
        let outcomes = world::run(seed, bug);
        self.seeds += 1;
        self.events += outcomes.events;
        self.faults.add(&outcomes.faults);
        for record in &outcomes.history {
            match &record.event {
                Event::Delivered { .. } => self.deliveries += 1,
                Event::Acked { .. } => self.acks += 1,
                Event::Continued { .. } => self.continued += 1,
                Event::Gap { reason, .. } => *self.gaps.entry(reason.as_str()).or_default() += 1,
                _ => {}
            }
        }
        let violations = checker::check(&outcomes.history);
        if let Some(first) = violations.first() {
            let shown = excerpt(&outcomes.history, first);
            self.failures.insert(seed, (violations, shown));
        }
    }

    fn merge(mut self, other: Report) -> Report {
        self.seeds += other.seeds;
        self.events += other.events;
        self.deliveries += other.deliveries;
        self.acks += other.acks;
        self.continued += other.continued;
        self.faults.add(&other.faults);
        for (reason, count) in other.gaps {
            *self.gaps.entry(reason).or_default() += count;
        }
        self.failures.extend(other.failures);
        self
    }

    /// How many violations of each kind there were.
    pub(crate) fn violations(&self) -> BTreeMap<Kind, usize> {
        let mut kinds = BTreeMap::new();
        for violation in self.failures.values().flat_map(|(violations, _)| violations) {
            *kinds.entry(violation.kind).or_default() += 1;
        }
        kinds
    }

    /// The first failed seeds, with what led to their first violation.
    pub(crate) fn describe_failures(&self) -> String {
        let mut text = format!("{} of {} seeds: {:?}\n", self.failures.len(), self.seeds, self.violations());
        for (seed, (violations, shown)) in self.failures.iter().take(DESCRIBED_MAX) {
            text += &format!("\nTIDINGS_SEED={seed}\n{shown}");
            for violation in violations.iter().take(5) {
                text += &format!("{violation}\n");
            }
        }
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { seeds, events, acks, deliveries, continued, .. } = self;
        writeln!(f, "{seeds} seeds, {events} events, {acks} acknowledged, {deliveries} delivered")?;
        writeln!(f, "gaps: {:?}, {continued} places continued", self.gaps)?;
        let faults: Vec<String> =
            self.faults.iter().map(|(fault, times)| format!("{fault:?} {times}")).collect();
        write!(f, "faults: {}", faults.join(", "))
    }
}
