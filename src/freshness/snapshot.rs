//! A mutation log as its broker keeps it, at one moment.

use tidings_protocol::Position;

use super::VersionTable;
use crate::hub::Lineage;

/// All that must be known of a log to go on from here.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Where the log stands: every mutation up to here is in the table, and none after it.
    pub position: Position,
    /// The numberings before this one.
    pub lineage: Lineage,
    /// What was touched.
    pub table: VersionTable,
}
