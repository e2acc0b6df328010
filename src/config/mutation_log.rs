//! `[log.NAME]`: how much a mutation log remembers.
//!
//! `[log.default]` holds for every log that is not configured, and what it says is inherited by the others. `[log]` itself is about
//! the log that people read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidings_protocol::LogName;

use super::kind::{Count, Fault, Kind, Size, unexpected};
use super::raw::Raw;
use super::reader::Reader;
use super::section::section;

section! {
    /// A mutation log (`ns`) numbers what changes, and remembers for every tag when it was touched last.
    /// A log inherits what it does not say from [log.default], and so does one that appears on first use.
    pub struct MutationLog: Named(Log) "log" {
        given
        /// The NAME of `[log.NAME]`.
        name: Arc<str> = Reader::instance_name;
        /// Slots of the table of versions, 8 bytes each, a power of two. The table never forgets; the fewer slots, the more
        /// often a value is read again in vain. In Redis a table that is there keeps its size.
        table_slots: usize as Slots = 1_048_576 in 1_024 to 16_777_216;
        /// Mutations kept one by one: for those the answer is exact, beyond them the table's.
        events: usize as Count = 100_000 in 1 to 10_000_000;
        /// Mutations older than this are kept in the table only.
        events_age: Duration = "1h" in "1s" to "7days";
        /// Bytes of tags kept one by one; the oldest mutations make room.
        events_bytes: usize as Size = "64MiB" in "64KiB" to "16GiB";
    }
}

/// A number that is a power of two.
pub(crate) struct Slots;

impl Kind for Slots {
    type Value = usize;
    const EXPECTED: &'static str = "a power of two such as 1_048_576";

    fn parse(raw: &Raw) -> Result<usize, Fault> {
        let slots = Count::parse(raw).map_err(|_| unexpected::<Slots>(raw))?;
        match slots.is_power_of_two() {
            true => Ok(slots),
            false => Err(unexpected::<Slots>(raw)),
        }
    }

    fn show(slots: &usize) -> Option<String> {
        Count::show(slots)
    }

    fn measure(slots: &usize) -> Option<u128> {
        Count::measure(slots)
    }
}

/// What all mutation logs remember, configured or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Logs {
    default: Arc<MutationLog>,
    named: HashMap<Arc<str>, Arc<MutationLog>>,
}

impl Logs {
    pub(crate) fn new(default: MutationLog, named: Vec<MutationLog>) -> Logs {
        let named = named.into_iter().map(|log| (log.name.clone(), Arc::new(log)));
        Logs { default: Arc::new(default), named: named.collect() }
    }

    /// What is configured for the log: under its name, else the default.
    pub fn of(&self, log: &LogName) -> &Arc<MutationLog> {
        self.named.get(log.as_str()).unwrap_or(&self.default)
    }

    /// The default first, then the others by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<MutationLog>> {
        let mut named: Vec<_> = self.named.values().collect();
        named.sort_by(|a, b| a.name.cmp(&b.name));
        std::iter::once(&self.default).chain(named)
    }
}
