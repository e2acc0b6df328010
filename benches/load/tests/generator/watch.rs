//! Mutations, and clients that are told of them or not.

use clap::Parser;
use tidings_load::{Host, LoadError, WatchArgs, WatchReport, watch};

use super::support::{Fault, server_with};

/// Told by each of 200 tags: 8 clients that watch 50 tags each.
const WATCHERS: u64 = 2;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    watch: WatchArgs,
}

/// A run against a server with `fault`: 3 mutations while it is quiet, then `rate` in a second.
fn run(fault: Fault, rate: u32) -> Result<WatchReport, LoadError> {
    let sizes = "watch --rounds 1 --clients 8 --tags 200 --tags-per-client 50 --quiet 3 --seconds 1";
    let options = format!("{sizes} --settle 1 --rate {rate} --url {}", server_with(fault));
    watch(&Cli::parse_from(options.split_whitespace()).watch, &Host::default())
}

fn counts(report: &WatchReport) -> Vec<(u64, u64)> {
    report.rows.iter().map(|row| (row.delivered, row.lost)).collect()
}

#[test]
fn whoever_watches_is_told_of_every_mutation() {
    let report = run(Fault::None, 100).unwrap();
    assert!(report.has_passed(), "{report}");
    assert_eq!(counts(&report), [(3 * WATCHERS, 0), (100 * WATCHERS, 0)], "{report}");
    let row = &report.rows[1];
    assert!(row.p50_ms.median > 0.0 && row.per_second.median > 50.0, "{report}");
    assert!(row.mutation_us.is_none(), "nobody said which process it is: {report}");
    assert!(report.to_string().contains("p99 <= 120: kept"), "{report}");
}

#[test]
fn a_mutation_that_is_not_told_is_lost_for_everybody_who_watches() {
    let report = run(Fault::Drop(40), 100).unwrap();
    assert!(!report.has_passed(), "{report}");
    assert_eq!(counts(&report), [(3 * WATCHERS, 0), (99 * WATCHERS, WATCHERS)], "{report}");
}

#[test]
fn what_is_told_twice_ends_the_run() {
    let refused = run(Fault::Repeat(40), 100);
    assert!(
        matches!(&refused, Err(LoadError::Peer(why)) if why.contains("touched by nobody")),
        "{refused:?}"
    );
}

#[test]
fn a_tag_that_would_be_touched_twice_at_once_is_refused() {
    let refused = run(Fault::None, 201);
    assert!(matches!(&refused, Err(LoadError::Usage(why)) if why.contains("--tags is 200")), "{refused:?}");
}
