//! Many seeds on all cores, and what came of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::judge::{Promise, Violation};
use super::world::{Setting, run};
use crate::simulation::faults::FaultCounts;

/// Failed seeds that are described; the others are only counted.
const DESCRIBED_MAX: usize = 5;

/// What came of many seeds.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) seeds: u64,
    pub(crate) events: u64,
    pub(crate) serves: u64,
    /// The seed in which the fewest values were served, and how many.
    pub(crate) served_least: Option<(u64, u64)>,
    pub(crate) faults: FaultCounts,
    pub(crate) failures: BTreeMap<u64, Vec<Violation>>,
}

/// Runs settings on all cores. `prepare` is called on each thread before: it may switch something off for it.
pub(crate) fn run_all(settings: &[Setting], prepare: fn()) -> Report {
    let next = AtomicUsize::new(0);
    let work = || {
        prepare();
        let mut report = Report::default();
        while let Some(setting) = settings.get(next.fetch_add(1, Ordering::Relaxed)) {
            report.run(*setting);
        }
        report
    };
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let reports = workers.into_iter().map(|worker| worker.join().expect("a world ran to its end"));
        reports.reduce(Report::merge).unwrap_or_default()
    })
}

impl Report {
    fn run(&mut self, setting: Setting) {
        let outcomes = run(setting);
        self.seeds += 1;
        self.events += outcomes.events;
        self.serves += outcomes.serves;
        self.note_serves(Some((setting.seed, outcomes.serves)));
        self.faults.add(&outcomes.faults);
        if !outcomes.violations.is_empty() {
            self.failures.insert(setting.seed, outcomes.violations);
        }
    }

    fn note_serves(&mut self, serves: Option<(u64, u64)>) {
        self.served_least =
            [self.served_least, serves].into_iter().flatten().min_by_key(|(_, serves)| *serves);
    }

    /// What came of both.
    pub(crate) fn merge(mut self, other: Report) -> Report {
        self.seeds += other.seeds;
        self.events += other.events;
        self.serves += other.serves;
        self.note_serves(other.served_least);
        self.faults.add(&other.faults);
        self.failures.extend(other.failures);
        self
    }

    /// How many violations of each promise there were.
    pub(crate) fn violations(&self) -> BTreeMap<Promise, usize> {
        let mut promises = BTreeMap::new();
        for violation in self.failures.values().flatten() {
            *promises.entry(violation.promise).or_default() += 1;
        }
        promises
    }

    /// The first failed seeds, with their first violations.
    pub(crate) fn describe_failures(&self) -> String {
        let mut text = format!("{} of {} seeds: {:?}\n", self.failures.len(), self.seeds, self.violations());
        for (seed, violations) in self.failures.iter().take(DESCRIBED_MAX) {
            text += &format!("TIDINGS_FRESH_SEED={seed}\n");
            for violation in violations.iter().take(3) {
                text += &format!("  {violation}\n");
            }
        }
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { seeds, events, serves, .. } = self;
        let least = self.served_least.map_or(0, |(_, serves)| serves);
        writeln!(
            f,
            "{seeds} seeds, {events} events, {serves} values served without asking, {least} or more in each seed"
        )?;
        let faults = self.faults.iter().filter(|(_, times)| *times > 0);
        let faults: Vec<String> = faults.map(|(fault, times)| format!("{fault:?} {times}")).collect();
        write!(f, "faults: {}", faults.join(", "))
    }
}
