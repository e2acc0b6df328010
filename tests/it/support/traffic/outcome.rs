//! What came of some traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::Ordering;

use super::log::Log;
use crate::history::checker::{self, Violation};
use crate::history::{Event, Record, excerpt};

/// Violations that are shown with what led to them.
const SHOWN_MAX: usize = 3;

/// Counts, and everything that was wrong.
pub(crate) struct Outcome {
    pub(crate) published: u64,
    /// Requests, retries included.
    pub(crate) attempts: u64,
    pub(crate) acked: u64,
    /// Given up, surely not stored.
    pub(crate) refused: u64,
    /// Given up, perhaps stored.
    pub(crate) unknown: u64,
    pub(crate) delivered: u64,
    /// Deliveries of what the same reader had already: event streams repeat after a cut.
    pub(crate) duplicates: u64,
    pub(crate) continued: u64,
    pub(crate) gaps: BTreeMap<&'static str, u64>,
    pub(crate) reconnects: u64,
    /// What no correct server says.
    pub(crate) complaints: Vec<String>,
    pub(crate) violations: Vec<Violation>,
    pub(crate) history: Vec<Record>,
}

impl Outcome {
    pub(super) fn of(log: &Log) -> Outcome {
        let history = log.history();
        let mut outcome = Outcome {
            published: log.published.load(Ordering::Relaxed),
            attempts: log.attempts.load(Ordering::Relaxed),
            acked: log.acked(),
            refused: 0,
            unknown: log.unknown.load(Ordering::Relaxed),
            delivered: 0,
            duplicates: 0,
            continued: 0,
            gaps: BTreeMap::new(),
            reconnects: log.reconnects.load(Ordering::Relaxed),
            complaints: log.complaints(),
            violations: checker::check(&history),
            history: Vec::new(),
        };
        outcome.count(&history);
        outcome.history = history;
        outcome
    }

    fn count(&mut self, history: &[Record]) {
        let mut seen = BTreeSet::new();
        for record in history {
            match &record.event {
                Event::Failed { .. } => self.refused += 1,
                Event::Delivered { client, publish, .. } => {
                    self.delivered += 1;
                    self.duplicates += u64::from(!seen.insert((*client, *publish)));
                }
                Event::Continued { .. } => self.continued += 1,
                Event::Gap { reason, .. } => *self.gaps.entry(reason.as_str()).or_default() += 1,
                _ => {}
            }
        }
    }

    /// Fails where a promise was broken, with what led to it.
    #[track_caller]
    pub(crate) fn demand_promises_kept(&self) {
        let mut text = String::new();
        for violation in self.violations.iter().take(SHOWN_MAX) {
            text += &format!("\n{}{violation}\n", excerpt(&self.history, violation));
        }
        let (violations, complaints) = (self.violations.len(), &self.complaints);
        assert!(
            violations == 0 && complaints.is_empty(),
            "{violations} violations, complaints: {complaints:#?}\n{self}\n{text}"
        );
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { published, attempts, acked, refused, unknown, .. } = self;
        write!(f, "{published} published in {attempts} attempts: ")?;
        writeln!(f, "{acked} acknowledged, {refused} refused, {unknown} unknown")?;
        let Outcome { delivered, duplicates, continued, gaps, reconnects, .. } = self;
        write!(f, "{delivered} delivered, {duplicates} of them again; ")?;
        write!(f, "{continued} continued, gaps: {gaps:?}; {reconnects} reconnects")
    }
}
