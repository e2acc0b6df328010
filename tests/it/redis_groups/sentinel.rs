//! A group whose primary changes: nothing replicated is lost, and of the rest nothing without a word.

use std::time::{Duration, Instant};

use tidings_protocol::Ack;

use super::{report, some_traffic, times};
use crate::support::{Fleet, Link, Outcome, SentinelGroup, Traffic, TrafficPlan};

/// From a fault to the next acknowledged publish: the sentinels need two seconds to be sure and to agree.
const RECOVERY_MAX: Duration = Duration::from_secs(9);

/// What is done to the primary.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// It dies, and its replicas have all it had.
    Death,
    /// It dies, and its replicas have not heard of it for a while.
    DeathWithItsTail,
    /// Another server is made the primary, without much care.
    HastyFailover,
    /// Another server is made the primary, while nobody can write.
    PlannedFailover,
}

/// Traffic that wants replicas, and traffic that does not.
struct Both {
    stored: Traffic,
    replicated: Traffic,
}

impl Both {
    async fn start(fleet: &Fleet) -> Both {
        let plan = |ack, channels: [&str; 2]| TrafficPlan {
            addresses: fleet.addresses(),
            channels: channels.map(str::to_owned).to_vec(),
            publishers: 2,
            sockets: 3,
            streams: 2,
            ack,
            ..TrafficPlan::default()
        };
        let stored = Traffic::start(plan(Ack::Stored, ["stored:a", "stored:b"])).await;
        let replicated = Traffic::start(plan(Ack::Replicated, ["replicated:a", "replicated:b"])).await;
        Both { stored, replicated }
    }

    fn note(&self, what: &str) {
        self.stored.note(what);
        self.replicated.note(what);
    }

    async fn finish(self) -> [Outcome; 2] {
        [self.stored.finish().await, self.replicated.finish().await]
    }
}

/// Injects a fault; returns what proves that it happened.
async fn inject(fault: Fault, group: &mut SentinelGroup, both: &Both) -> String {
    let before = group.primary().await;
    let id = group.servers[before].replid().await;
    if fault == Fault::DeathWithItsTail {
        group.cut_replicas_off().await;
        some_traffic(&both.stored, 10).await;
    }
    both.note(&format!("{fault:?}"));
    let begun = Instant::now();
    let after = match fault {
        Fault::Death | Fault::DeathWithItsTail => {
            group.servers[before].kill9();
            group.other_primary_than(before).await
        }
        Fault::HastyFailover => group.failover().await,
        Fault::PlannedFailover => {
            let paused = group.servers[before].command(&["CLIENT", "PAUSE", "4000", "WRITE"]).await;
            assert_eq!(paused.text(), "OK");
            for replica in (0..group.servers.len()).filter(|index| *index != before) {
                group.servers[replica].wait_in_sync(&group.servers[before]).await;
            }
            group.failover().await
        }
    };
    let elected = begun.elapsed();
    some_traffic(&both.stored, 1).await;
    let recovered = begun.elapsed();
    assert!(recovered < RECOVERY_MAX, "{fault:?}: {recovered:?} until something could be published again");
    let now = group.servers[after].replid().await;
    assert_ne!(now, id, "the numbering of writes changed");
    if !group.servers[before].is_alive() {
        group.revive(before).await;
    } else if group.servers[before].role().await == "master" {
        // The sentinels would do so some ten seconds later.
        group.servers[before].replica_of(&group.servers[after]).await;
    }
    group.wait_until_complete().await;
    some_traffic(&both.replicated, 10).await;
    format!(
        "server {before} → {after} after {elected:?}, published again after {recovered:?}, {id:.8} → {now:.8}"
    )
}

async fn faults(fault: Fault, usual: usize) -> [Outcome; 2] {
    let count = times(usual, 1);
    let mut group = SentinelGroup::start("").await;
    let fleet = Fleet::start(3, &Link::Direct(group.url()), "", "replicas = 2").await;
    let both = Both::start(&fleet).await;
    let mut proofs = Vec::new();
    for _ in 0..count {
        some_traffic(&both.stored, 30).await;
        some_traffic(&both.replicated, 10).await;
        proofs.push(inject(fault, &mut group, &both).await);
    }
    let outcomes = both.finish().await;
    for (ack, outcome) in ["stored", "replicated"].into_iter().zip(&outcomes) {
        report(&format!("{fault:?}, ack {ack}"), count, &proofs, outcome);
        outcome.demand_promises_kept();
        let followed = outcome.continued > 0 || outcome.gaps.contains_key("epoch");
        assert!(followed, "readers followed the numbering: {outcome}");
    }
    outcomes
}

#[tokio::test]
async fn a_primary_that_dies_is_followed_by_a_replica_that_has_what_it_confirmed() {
    faults(Fault::Death, 1).await;
}

#[tokio::test]
async fn a_tail_that_dies_with_its_primary_is_a_gap_for_everybody_who_saw_it() {
    let [stored, replicated] = faults(Fault::DeathWithItsTail, 1).await;
    assert!(stored.gaps["epoch"] > 0, "{stored}");
    assert!(replicated.gaps.keys().all(|reason| *reason == "epoch"), "{replicated}");
}

#[tokio::test]
async fn a_hasty_failover_loses_nothing_that_was_confirmed_and_nothing_without_a_word() {
    faults(Fault::HastyFailover, 1).await;
}

#[tokio::test]
async fn a_planned_failover_is_a_gap_for_nobody() {
    for outcome in faults(Fault::PlannedFailover, 1).await {
        assert!(outcome.gaps.is_empty(), "{outcome}");
    }
}
