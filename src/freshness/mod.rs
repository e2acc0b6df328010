//! Freshness: what was touched, who watches it, and what a client may still call fresh.
//!
//! Pure like the hub: time is an argument, outcomes are values.

mod snapshot;
mod table;

pub use snapshot::Snapshot;
pub use table::{VersionTable, slots_touched};
