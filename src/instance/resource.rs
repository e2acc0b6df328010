//! A bounded resource of the instance, under its name in `[limits]`: what one caller may hold of it, and what is said and
//! counted when somebody gets no more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings_protocol::{Code, Problem};
use tracing::warn;

use super::Instance;
use crate::limits::{Caller, Pot, Refused, Taken};
use crate::observe::Metrics;

/// How often one resource warns of refusals.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// A bounded resource. Each caller may hold as much of it as is free.
pub struct Resource {
    /// Who holds how much.
    pub pot: Pot,
    /// The key in `[limits]`.
    limit: &'static str,
    /// What is counted, in the plural.
    unit: &'static str,
    /// The second, since the start, from which it may warn again.
    warn_from: AtomicU64,
}

impl Resource {
    /// A resource of so much, all of it free.
    pub fn new(limit: &'static str, unit: &'static str, total: usize) -> Resource {
        Resource { pot: Pot::new(total), limit, unit, warn_from: AtomicU64::new(0) }
    }

    /// So much for the caller, or the refusal `overloaded`, which is counted.
    pub fn take(&self, instance: &Instance, caller: &Caller, amount: usize) -> Result<Taken, Problem> {
        self.pot.take(caller, amount).map_err(|refused| self.refused(instance, caller, &refused))
    }

    /// So much more for the caller, beside what it has taken already.
    pub fn take_more(
        &self,
        instance: &Instance,
        caller: &Caller,
        taken: &mut Option<Taken>,
        amount: usize,
    ) -> Result<(), Problem> {
        match taken {
            Some(taken) => taken.grow(amount).map_err(|refused| self.refused(instance, caller, &refused)),
            None => self.take(instance, caller, amount).map(|new| *taken = Some(new)),
        }
    }

    /// Shows how much of it is held.
    pub fn show(&self, metrics: &Metrics) {
        metrics.limit(self.limit, self.pot.used(), self.pot.total());
    }

    fn refused(&self, instance: &Instance, caller: &Caller, refused: &Refused) -> Problem {
        let Resource { limit, unit, .. } = *self;
        instance.metrics.rate_limited(refused.scope);
        let now = instance.clock.now();
        let next = now.after(WARN_EVERY).0.as_secs();
        let may_warn = |from: u64| (from <= now.0.as_secs()).then_some(next);
        if self.warn_from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, may_warn).is_ok() {
            let Refused { scope, held, free, total, .. } = refused;
            warn!(
                limit,
                ?caller,
                scope = scope.as_str(),
                held,
                free,
                total,
                "refused: no more is free for this caller"
            );
        }
        refused.problem(Code::Overloaded, limit, unit)
    }
}
