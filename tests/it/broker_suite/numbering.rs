//! What Redis goes through, a real one and the model alike: its data are lost, or what came last of them, or nothing at all;
//! and without the safeguard that tells these apart, they are confused.

#[cfg(feature = "ablation")]
use tidings::ablation::{Safeguard, ablate};
use tidings::broker::{BrokerError, BrokerEvent};
use tidings_protocol::{Ack, GapReason, Offset, Position};

use super::model::ModelSubject;
use super::reading::{ALL, texts};
use super::scene::{RedisScene, Scene};
use super::subject::{BrokerSubject, Subject};
use crate::support::{Data, RedisServer, eventually};

/// What somebody learns who resumes.
#[derive(Debug, PartialEq)]
struct Learnt {
    /// Whether the numbering still has the name that it had.
    same_epoch: bool,
    head: u64,
    gap: Option<GapReason>,
    texts: Vec<String>,
}

/// What a failover came to.
#[derive(Debug, PartialEq)]
struct Failover {
    /// For somebody who had seen everything, before anything else was published.
    who_saw_all: Learnt,
    /// For somebody who had seen what was left, after one more publish.
    who_saw_what_is_left: Learnt,
    /// The next publish: whether it is in the old numbering, and where.
    published: (bool, u64),
}

async fn learnt(subject: &mut impl Subject, since: &Position) -> Learnt {
    let page = subject.history("a", Some(since), ALL).await.expect("it has positions");
    let same_epoch = page.from.epoch == since.epoch;
    Learnt { same_epoch, head: page.head.0, gap: page.gap, texts: texts(&page) }
}

/// Publishes three that a replica has, and `lost` that it has not; then the replica's data are the primary's.
async fn failover(mut scene: impl Scene, lost: u64) -> Failover {
    let mut last = scene.subject().position("a", "1").await;
    for text in ["2", "3"] {
        last = scene.subject().position("a", text).await;
    }
    let left = last.clone();
    scene.cut_replica().await;
    for number in 0..lost {
        last = scene.subject().position("a", &format!("lost {number}")).await;
    }
    scene.take_over().await;
    let subject = scene.subject();
    let who_saw_all = learnt(subject, &last).await;
    let published = eventually("a publish", async || {
        subject.publish("a", "after", Some("after"), Ack::Stored).await.ok()?.position
    })
    .await;
    let who_saw_what_is_left = learnt(subject, &left).await;
    let published = (published.epoch == left.epoch, published.offset.0);
    Failover { who_saw_all, who_saw_what_is_left, published }
}

/// The same of a real Redis, and of the model.
async fn failovers(lost: u64) -> [Failover; 2] {
    [failover(RedisScene::with_replica().await, lost).await, failover(model(), lost).await]
}

fn model() -> ModelSubject {
    ModelSubject::new("")
}

fn right_after_nothing_was_lost() -> Failover {
    Failover {
        who_saw_all: Learnt { same_epoch: false, head: 3, gap: None, texts: vec![] },
        who_saw_what_is_left: continued(),
        published: (false, 4),
    }
}

fn right_after_two_were_lost() -> Failover {
    let all = ["1", "2", "3"].map(str::to_owned).into();
    Failover {
        who_saw_all: Learnt { same_epoch: false, head: 3, gap: Some(GapReason::Epoch), texts: all },
        who_saw_what_is_left: continued(),
        published: (false, 4),
    }
}

fn continued() -> Learnt {
    Learnt { same_epoch: false, head: 4, gap: None, texts: vec!["after".to_owned()] }
}

#[tokio::test]
async fn a_failover_that_loses_nothing_is_continued_under_another_name() {
    for failover in failovers(0).await {
        assert_eq!(failover, right_after_nothing_was_lost());
    }
}

#[tokio::test]
async fn what_a_failover_lost_is_a_gap_and_its_positions_are_given_only_under_another_name() {
    for failover in failovers(2).await {
        assert_eq!(failover, right_after_two_were_lost());
    }
}

/// Where something was stored that a failover lost, and where the next thing was.
#[cfg(feature = "ablation")]
async fn lost_and_next(mut scene: impl Scene) -> [Position; 2] {
    scene.subject().position("a", "kept").await;
    scene.cut_replica().await;
    let lost = scene.subject().position("a", "lost").await;
    scene.take_over().await;
    [lost, scene.subject().position("a", "after").await]
}

#[cfg(feature = "ablation")]
#[tokio::test]
async fn without_the_fence_of_writes_positions_are_given_twice() {
    // Off for this thread, on which the scripts are made.
    ablate(Some(Safeguard::Fence));
    let both = [lost_and_next(RedisScene::with_replica().await).await, lost_and_next(model()).await];
    ablate(None);
    for [lost, next] in both {
        assert_eq!(next, lost, "one position, two publications");
    }
}

#[cfg(feature = "ablation")]
#[tokio::test]
async fn without_the_fence_of_reads_nobody_learns_of_a_failover_before_the_next_publish() {
    ablate(Some(Safeguard::ReadFence));
    let [nothing, two] = [failovers(0).await, failovers(2).await];
    ablate(None);
    for failover in nothing {
        assert_ne!(failover, right_after_nothing_was_lost());
        assert!(failover.who_saw_all.same_epoch, "{failover:?}");
    }
    for failover in two {
        assert_ne!(failover, right_after_two_were_lost());
        assert!(failover.who_saw_all.same_epoch, "{failover:?}");
    }
}

async fn restart_without_data(mut scene: impl Scene) {
    let before = scene.subject().position("a", "1").await;
    scene.subject().listen("a").await;
    scene.restart(Data::Gone).await;
    let subject = scene.subject();
    while !matches!(subject.heard().await, BrokerEvent::Lost(_)) {}
    let after = eventually("a publish", async || {
        subject.publish("a", "2", Some("k"), Ack::Stored).await.ok()?.position
    })
    .await;
    assert_eq!((after.offset, after.epoch == before.epoch), (Offset(1), false));
    assert_eq!(learnt(subject, &before).await.gap, Some(GapReason::Epoch));
}

#[tokio::test]
async fn a_restart_without_data_begins_a_numbering_and_who_listens_is_told() {
    restart_without_data(RedisScene::single().await).await;
    restart_without_data(model()).await;
}

async fn restart_with_data(mut scene: impl Scene) {
    let before = scene.subject().position("a", "1").await;
    scene.subject().listen("a").await;
    scene.restart(Data::Kept).await;
    let subject = scene.subject();
    let after = eventually("a publish", async || {
        subject.publish("a", "2", Some("k"), Ack::Stored).await.ok()?.position
    })
    .await;
    assert_eq!((after.offset, after.epoch == before.epoch), (Offset(2), false));
    let learnt = learnt(subject, &before).await;
    assert_eq!((learnt.gap, learnt.texts), (None, vec!["2".to_owned()]));
    loop {
        match subject.heard().await {
            BrokerEvent::Publication { epoch, publication, .. } => {
                let heard = epoch.zip(publication.offset).map(|(epoch, offset)| epoch.at(offset));
                break assert_eq!(heard, Some(after));
            }
            // Sessions are made to look: they find that the new numbering continues the old one.
            BrokerEvent::Lost(_)
            | BrokerEvent::Listening { .. }
            | BrokerEvent::State(_)
            | BrokerEvent::Told(_)
            | BrokerEvent::Interrupted(_) => {}
        }
    }
}

#[tokio::test]
async fn a_restart_with_data_is_continued_and_who_listens_misses_nothing() {
    restart_with_data(RedisScene::single().await).await;
    restart_with_data(model()).await;
}

/// Of a real Redis alone: the model has no primary that would be a replica for a while.
#[tokio::test]
async fn a_primary_that_was_demoted_is_out_of_reach_until_it_is_one_again() {
    let [server, other] = [RedisServer::start("").await, RedisServer::start("").await];
    let mut subject = BrokerSubject::redis(&server, "").await;
    subject.position("a", "1").await;
    server.replica_of(&other).await;
    // It answers pings, and would pass announcements on.
    while !matches!(subject.heard().await, BrokerEvent::State(state) if !state.is_up()) {}
    let refused = subject.publish("a", "2", None, Ack::Stored).await;
    assert_eq!(refused.map(|_| ()), Err(BrokerError::Unavailable));
    server.promote().await;
    while !matches!(subject.heard().await, BrokerEvent::State(state) if state.is_up()) {}
    assert_eq!(subject.position("a", "3").await.offset, Offset(1), "the other one was empty");
}
