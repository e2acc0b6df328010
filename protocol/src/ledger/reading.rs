//! What a client says of a value that it read.

use std::collections::BTreeSet;

use crate::{Position, Tag};

/// A value that was read, as far as the books are concerned.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// What it depends on: nothing, if it never changes; `None` where nobody said.
    pub tags: Option<BTreeSet<Tag>>,
    /// Where the log stood when the read began, as [`begin`](super::Ledger::begin) said.
    pub begun: Option<Position>,
    /// The basis that came with the value, which counts more.
    pub told: Option<Position>,
    /// The own mutation whose answer the value is from: it reflects that. The basis is from before the transaction then.
    pub except: Option<Position>,
}
