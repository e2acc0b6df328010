//! Freshness: what was touched, who watches it, and what a client may still call fresh.
//!
//! Pure like the hub: time is an argument, outcomes are values. See [`Log`] for how an instance holds a mutation log.

mod confirm;
mod log;
mod recent;
mod rules;
mod snapshot;
mod table;
mod waiting;
mod watch;

pub use log::{Allowance, Log, Need, News, Rewrite, Tell};
pub use recent::Event;
pub use rules::{By, Rules, Unrendered};
pub use snapshot::Snapshot;
pub use table::{VersionTable, slots_touched};
pub use waiting::{Waiting, has_reached};
