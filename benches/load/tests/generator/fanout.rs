//! Publications, and subscribers that get them or not.

use clap::Parser;
use tidings_load::{FanoutArgs, FanoutReport, LoadError, fanout};

use super::support::{Fault, server_with};

const CLIENTS: u64 = 8;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    fanout: FanoutArgs,
}

fn args(options: &str) -> FanoutArgs {
    let options = format!("fanout --clients {CLIENTS} --rate 100 --seconds 1 --settle 1 {options}");
    Cli::parse_from(options.split_whitespace()).fanout
}

/// The report of a run against a server with `fault`, on both transports in turn.
fn check(fault: Fault, options: &str, expect: impl Fn(&FanoutReport)) {
    for transport in ["ws", "sse"] {
        let url = server_with(fault);
        let report = fanout(&args(&format!("--url {url} --transport {transport} {options}"))).unwrap();
        assert_eq!((report.published, report.expected), (100, CLIENTS * 100), "{report}");
        assert_eq!(report.errors, 0, "{report}");
        expect(&report);
    }
}

#[test]
fn a_faithful_server_passes_with_half_its_clients_cut() {
    check(Fault::None, "--cut-percent 50", |report| {
        assert!(report.has_passed(), "{report}");
        assert_eq!(
            (report.delivered, report.cuts, report.reconnects, report.resumed),
            (800, 4, 4, 4),
            "{report}"
        );
        assert_eq!(report.steady.count + report.catch_up.count, 800, "{report}");
        assert!(report.catch_up.count > 0, "{report}");
    });
}

#[test]
fn a_dropped_publication_is_lost_for_everybody() {
    check(Fault::Drop(40), "", |report| {
        assert!(!report.has_passed(), "{report}");
        assert_eq!((report.lost, report.discontinuities, report.gaps), (CLIENTS, CLIENTS, 0), "{report}");
        assert_eq!(report.delivered, CLIENTS * 99, "{report}");
    });
}

#[test]
fn a_dropped_last_publication_is_lost_too() {
    check(Fault::Drop(100), "", |report| assert_eq!(report.lost, CLIENTS, "{report}"));
}

#[test]
fn a_repeated_publication_is_a_duplicate_for_everybody() {
    check(Fault::Repeat(40), "", |report| {
        assert!(!report.has_passed(), "{report}");
        assert_eq!((report.duplicates, report.repeats, report.lost), (CLIENTS, 0, 0), "{report}");
    });
}

#[test]
fn an_altered_payload_is_foreign() {
    check(Fault::Alter(40), "", |report| {
        assert!(!report.has_passed(), "{report}");
        assert_eq!((report.foreign, report.lost), (CLIENTS, CLIENTS), "{report}");
    });
}

#[test]
fn a_declared_gap_is_counted_apart_from_silent_loss() {
    check(Fault::Declare(40), "", |report| {
        assert!(!report.has_passed(), "{report}");
        assert_eq!((report.gaps, report.missing_in_gaps), (CLIENTS, CLIENTS), "{report}");
        assert_eq!((report.lost, report.discontinuities), (0, 0), "{report}");
    });
}

#[test]
fn an_epoch_that_changes_without_a_word_is_noticed() {
    check(Fault::ChangeEpoch(40), "", |report| {
        assert!(!report.has_passed(), "{report}");
        // There and back again.
        assert_eq!(report.discontinuities, 2 * CLIENTS, "{report}");
    });
}

#[test]
fn who_does_not_reach_a_server_goes_on_at_the_next() {
    for transport in ["ws", "sse"] {
        let url = server_with(Fault::None);
        let report = fanout(&args(&format!("--url http://127.0.0.1:1 --url {url} --transport {transport}")));
        let report = report.unwrap();
        assert!(report.has_passed(), "{report}");
        // Every other subscriber begins at the server that is not there, and so does the publisher.
        assert_eq!((report.errors, report.publish_retries), (CLIENTS / 2, 1), "{report}");
        assert_eq!((report.published, report.delivered), (100, CLIENTS * 100), "{report}");
    }
}

#[test]
fn publications_go_where_they_are_told_to() {
    let [url, other] = [server_with(Fault::None), server_with(Fault::None)];
    let report = fanout(&args(&format!("--url {url} --publish-url {other}"))).unwrap();
    assert_eq!((report.published, report.delivered, report.lost), (100, 0, CLIENTS * 100), "{report}");
    let report =
        fanout(&args(&format!("--url {url} --publish-url http://127.0.0.1:1 --publish-url {url}"))).unwrap();
    assert!(report.has_passed(), "{report}");
    assert_eq!((report.publish_retries, report.delivered), (1, CLIENTS * 100), "{report}");
}

#[test]
fn a_server_that_is_not_there_is_an_error_that_says_so() {
    let refused = fanout(&args("--url http://127.0.0.1:1 --join-timeout 1"));
    assert!(matches!(&refused, Err(LoadError::Peer(reason)) if reason.contains("connect")), "{refused:?}");
}
