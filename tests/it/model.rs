//! The hub's machines against naive models, over random histories. `PROPTEST_CASES` says how many; 256 by default.

mod batcher;
mod mailbox;
mod resume;
mod share;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use proptest::test_runner::Config;
use tidings::hub::Time;
use tidings_protocol::{Channel, Epoch, Offset, Payload, Publication};

/// The default number of cases, and no files about failures: a failure prints its smallest history.
fn config() -> Config {
    Config { failure_persistence: None, ..Config::default() }
}

fn ms(ms: u64) -> Time {
    Time(Duration::from_millis(ms))
}

fn channel(name: &str) -> Channel {
    Channel::parse(name).expect("a legal name")
}

fn epoch(number: u64) -> Epoch {
    Epoch::parse(&format!("e{number}")).expect("a legal epoch")
}

/// A publication of so many bytes; its place is given by whoever keeps it.
fn publication(offset: Option<u64>, bytes: usize) -> Publication {
    let payload = Payload::text("x".repeat(bytes).as_bytes()).expect("it is UTF-8");
    Publication { offset: offset.map(Offset), time: 0, id: None, key: None, payload }
}

fn offsets(publications: &[Arc<Publication>]) -> Vec<u64> {
    publications.iter().map(|publication| publication.offset.expect("it has a place").0).collect()
}
