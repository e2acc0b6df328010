//! What can happen to a Redis, to the way there and to the instances on it, one test a fault: real processes under load,
//! with proof that the fault happened, and the whole history judged.
//!
//! Each fault is injected once; `TIDINGS_FAULTS=20 cargo test --test it -- redis_faults --nocapture` repeats each so often
//! and prints a line of counts for each.

mod credentials;
mod data;
mod garbage;
mod instances;
mod links;
mod outages;
mod probe;
mod restarts;
mod scene;
mod slow_link;
mod volatile;

use std::time::Duration;

use probe::{Probe, Watchers};
use scene::{Scene, rounds};

/// Within this time whoever is connected is told of an outage.
const NOTICED_WITHIN: Duration = Duration::from_millis(2_500);

/// Within this time an instance answers a publish, whatever Redis does.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// Within this time after an outage everybody is told what it cost, or has all of it.
const HEALED_WITHIN: Duration = Duration::from_secs(5);
