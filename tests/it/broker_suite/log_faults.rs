//! What mutation logs go through in Redis: their keys are lost or replaced, or what came last of them, or memory, or replicas.

#[cfg(feature = "ablation")]
use tidings::ablation::{Safeguard, ablate};
use tidings::broker::{BrokerError, BrokerEvent};
use tidings::freshness::Snapshot;
use tidings_protocol::{Ack, GapReason, Offset, Position};

use super::logs::{folded, log, mutation, touch};
use super::subject::{BrokerSubject, Subject};
use crate::support::{Data, RedisCluster, RedisServer, eventually};

const META: &str = "tidings:{$log:a}:m";
const STREAM: &str = "tidings:{$log:a}:s";
const TABLE: &str = "tidings:{$log:a}:v";

const WITH_REPLICA: &str = "[redis]\nreplicas = 1\n";

async fn one_server() -> (RedisServer, BrokerSubject) {
    let server = RedisServer::start("").await;
    let subject = BrokerSubject::redis(&server, "").await;
    (server, subject)
}

async fn pair() -> [RedisServer; 2] {
    let [server, replica] = [RedisServer::start("").await, RedisServer::start("").await];
    replica.replica_of(&server).await;
    [server, replica]
}

/// Writes two mutations that a replica has and two that it has not, the first of these with a key; then the replica's data
/// are the server's. Returns where the first two ended and the others did.
async fn lose_a_tail(subject: &mut BrokerSubject, server: &RedisServer) -> [Position; 2] {
    let replica = RedisServer::start("").await;
    replica.replica_of(server).await;
    touch(subject, "a", &["kept:1"]).await;
    let left = touch(subject, "a", &["kept:2"]).await;
    replica.wait_in_sync(server).await;
    replica.promote().await;
    subject.mutate(mutation("a", &["lost:1"], Some("lost"), Ack::Stored)).await.expect("it is written");
    let lost = touch(subject, "a", &["lost:2"]).await;
    // At the same address, as behind a name that now leads elsewhere.
    server.replica_of(&replica).await;
    server.promote().await;
    [left, lost]
}

#[tokio::test]
async fn a_failover_that_loses_a_tail_leaves_no_slot_above_its_fork() {
    let (server, mut subject) = one_server().await;
    let [left, lost] = lose_a_tail(&mut subject, &server).await;
    let confirmed = eventually("a confirmation", async || subject.confirm("a").await.ok()).await;
    let Snapshot { position, lineage, table } = subject.standing("a").await;
    assert_eq!(confirmed, position);
    assert_ne!(position.epoch, left.epoch);
    assert_eq!((position.offset, lineage.reach(&lost.epoch)), (left.offset, Some(left.offset)));
    assert!(table == folded(table.slots(), &[&["kept:1"], &["kept:2"]]), "what was lost is not in it");

    let again = subject.mutate(mutation("a", &["lost:1"], Some("lost"), Ack::Stored)).await;
    let again = again.expect("its first writing was lost with its key").position;
    assert_eq!(again, Some(position.epoch.at(left.offset.next())));
    let Snapshot { table, .. } = subject.standing("a").await;
    assert!(table == folded(table.slots(), &[&["kept:1"], &["kept:2"], &["lost:1"]]));
}

#[cfg(feature = "ablation")]
#[tokio::test]
async fn without_the_fence_of_writes_two_mutations_have_one_position() {
    ablate(Some(Safeguard::Fence));
    let written = async {
        let (server, mut subject) = one_server().await;
        let [left, _] = lose_a_tail(&mut subject, &server).await;
        (left, touch(&mut subject, "a", &["other"]).await)
    };
    let (left, other) = written.await;
    ablate(None);
    assert_eq!(other, left.epoch.at(left.offset.next()), "where the first one was that is lost");
}

#[cfg(feature = "ablation")]
#[tokio::test]
async fn without_the_fence_of_reads_a_lost_tail_goes_unnoticed() {
    ablate(Some(Safeguard::ReadFence));
    let read = async {
        let (server, mut subject) = one_server().await;
        let [left, _] = lose_a_tail(&mut subject, &server).await;
        let confirmed = eventually("a confirmation", async || subject.confirm("a").await.ok()).await;
        (left, confirmed, subject.standing("a").await)
    };
    let (left, confirmed, Snapshot { position, lineage, .. }) = read.await;
    ablate(None);
    assert_eq!((&confirmed, &position, lineage.reach(&left.epoch)), (&left, &left, None));
}

#[tokio::test]
async fn a_restart_with_data_continues_the_log_and_its_table() {
    let (mut server, mut subject) = one_server().await;
    let before = touch(&mut subject, "a", &["a"]).await;
    server.restart(Data::Kept).await;
    let after = eventually("a mutation", async || {
        subject.mutate(mutation("a", &["b"], Some("k"), Ack::Stored)).await.ok()?.position
    })
    .await;
    let Snapshot { position, lineage, table } = subject.standing("a").await;
    assert_eq!((&position, position.offset), (&after, before.offset.next()));
    assert_eq!(lineage.reach(&before.epoch), Some(before.offset));
    assert!(table == folded(table.slots(), &[&["a"], &["b"]]));
}

/// Who is the first to look at a log.
#[derive(Clone, Copy, Debug)]
enum First {
    Mutate,
    Snapshot,
    Confirm,
    History,
}

impl First {
    async fn look(self, subject: &mut BrokerSubject, since: &Position) {
        match self {
            First::Mutate => drop(touch(subject, "a", &["after"]).await),
            First::Snapshot => drop(subject.standing("a").await),
            First::Confirm => drop(subject.confirm("a").await.expect("it stands")),
            First::History => {
                let page = subject.read(&log("a").channel(), Some(since)).await;
                assert_eq!((page.gap, page.head), (Some(GapReason::Epoch), Offset(0)));
            }
        }
    }
}

#[tokio::test]
async fn a_log_of_which_something_is_lost_begins_anew_and_knows_nothing_of_what_was() {
    let (server, mut subject) = one_server().await;
    for broken in [
        &["DEL", TABLE][..],
        &["SET", TABLE, "short"],
        &["APPEND", TABLE, "long"],
        &["DEL", META],
        &["HDEL", META, "slots"],
        &["HSET", META, "offset", "garbage"],
        &["DEL", META, TABLE],
        &["FLUSHALL"],
    ] {
        for first in [First::Mutate, First::Snapshot, First::Confirm, First::History] {
            touch(&mut subject, "a", &["before:1"]).await;
            let before = touch(&mut subject, "a", &["before:2"]).await;
            server.command(broken).await;
            first.look(&mut subject, &before).await;
            let expected: &[&[&str]] = if let First::Mutate = first { &[&["after"]] } else { &[] };
            let Snapshot { position, lineage, table } = subject.standing("a").await;
            assert_ne!(position.epoch, before.epoch, "{broken:?} {first:?}");
            assert_eq!(position.offset.0, expected.len() as u64, "{broken:?} {first:?}");
            assert_eq!(lineage.reach(&before.epoch), None, "{broken:?} {first:?}");
            assert!(table == folded(table.slots(), expected), "{broken:?} {first:?}");
        }
    }
}

#[tokio::test]
async fn a_history_that_is_lost_costs_the_table_nothing() {
    let (server, mut subject) = one_server().await;
    let before = touch(&mut subject, "a", &["a"]).await;
    touch(&mut subject, "a", &["b"]).await;
    assert_eq!(server.command(&["DEL", STREAM]).await.integer(), 1);
    let after = touch(&mut subject, "a", &["c"]).await;
    assert_eq!(after, before.epoch.at(Offset(3)));
    let page = subject.read(&log("a").channel(), Some(&before)).await;
    assert_eq!((page.gap, page.end()), (Some(GapReason::Trimmed), after));
    let Snapshot { table, .. } = subject.standing("a").await;
    assert!(table == folded(table.slots(), &[&["a"], &["b"], &["c"]]));
}

#[tokio::test]
async fn what_is_no_table_is_an_error_until_it_is_gone() {
    let (server, mut subject) = one_server().await;
    let before = touch(&mut subject, "a", &["a"]).await;
    server.command(&["DEL", TABLE]).await;
    server.command(&["LPUSH", TABLE, "garbage"]).await;
    let refused = subject.mutate(mutation("a", &["b"], Some("k"), Ack::Stored)).await;
    assert_eq!(refused.map(|_| ()), Err(BrokerError::Unavailable));
    assert_eq!(subject.snapshot("a").await.map(|_| ()), Err(BrokerError::Unavailable));
    assert_eq!(subject.confirm("a").await, Err(BrokerError::Unavailable));
    server.command(&["DEL", TABLE]).await;
    let written = subject.mutate(mutation("a", &["b"], Some("k"), Ack::Stored)).await.expect("it is written");
    let Snapshot { position, table, .. } = subject.standing("a").await;
    assert_eq!((written.position.as_ref(), position.offset), (Some(&position), Offset(1)));
    assert_ne!(position.epoch, before.epoch);
    assert!(table == folded(table.slots(), &[&["b"]]));
}

#[tokio::test]
async fn a_table_keeps_its_number_of_slots_whatever_is_configured() {
    let server = RedisServer::start("").await;
    let mut small = BrokerSubject::redis(&server, "[log.default]\ntable_slots = 1_024\n").await;
    touch(&mut small, "a", &["a:b", "c"]).await;
    let mut usual = BrokerSubject::redis(&server, "").await;
    touch(&mut usual, "a", &["d:*", "e"]).await;
    assert_eq!(server.command(&["STRLEN", TABLE]).await.integer(), 8 * 1_024);
    for subject in [&mut small, &mut usual] {
        let Snapshot { table, .. } = subject.standing("a").await;
        assert!(table == folded(1_024, &[&["a:b", "c"], &["d:*", "e"]]));
    }
}

#[tokio::test]
async fn a_log_never_expires() {
    let [server, _replica] = pair().await;
    let mut subject = BrokerSubject::redis(&server, WITH_REPLICA).await;
    let lives = async || {
        let life = async |key| server.command(&["PTTL", key]).await.integer();
        [life(META).await, life(TABLE).await]
    };
    let first = touch(&mut subject, "a", &["a"]).await;
    assert_eq!(lives().await, [-1, -1], "of a mutation");
    subject.read(&log("a").channel(), Some(&first)).await;
    subject.standing("a").await;
    assert_eq!(lives().await, [-1, -1], "of reading");
    subject.confirm("a").await.expect("the replica confirms");
    assert_eq!(lives().await, [-1, -1], "of a confirmation");
}

#[tokio::test]
async fn without_memory_nothing_is_touched_or_announced_and_the_log_can_still_be_confirmed() {
    let [server, _replica] = pair().await;
    let mut subject = BrokerSubject::redis(&server, WITH_REPLICA).await;
    subject.listen_to(&log("a").channel()).await;
    let before = touch(&mut subject, "a", &["a"]).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
    for ack in [Ack::Stored, Ack::Replicated] {
        let refused = subject.mutate(mutation("a", &["b"], Some("k"), ack)).await;
        assert_eq!(refused.map(|_| ()), Err(BrokerError::Unavailable), "{ack:?}");
    }
    assert_eq!(subject.confirm("a").await, Ok(before.clone()));
    let Snapshot { position, table, .. } = subject.standing("a").await;
    assert_eq!(position, before);
    assert!(table == folded(table.slots(), &[&["a"]]));
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let after = subject.mutate(mutation("a", &["b"], Some("k"), Ack::Stored)).await;
    let after = after.expect("there is memory again").position;
    assert_eq!(after, Some(before.epoch.at(before.offset.next())));
    for expected in [before.offset, before.offset.next()] {
        assert_eq!(heard(&mut subject).await.map(|position| position.offset), Some(expected));
    }
}

/// The position of the next mutation of the log that is announced; `None` where something may be lost.
async fn heard(subject: &mut BrokerSubject) -> Option<Position> {
    loop {
        match subject.heard().await {
            BrokerEvent::Publication { channel, epoch, publication } if channel == log("a").channel() => {
                return epoch.zip(publication.offset).map(|(epoch, offset)| epoch.at(offset));
            }
            BrokerEvent::Lost(channel) if channel == log("a").channel() => return None,
            _ => {}
        }
    }
}

/// Pauses a replica that has all there is, and has said so: only something new can show that it is gone.
async fn silence(server: &RedisServer, replica: &RedisServer) {
    let has_said_so = async || {
        let wanted = server.info("replication", "master_repl_offset").await;
        server.info("replication", "slave0").await.contains(&format!("offset={wanted},"))
    };
    eventually("a silent replica without a lag", async || {
        if !has_said_so().await {
            return None;
        }
        replica.pause().await;
        if has_said_so().await {
            return Some(());
        }
        replica.resume();
        None
    })
    .await;
}

#[tokio::test]
async fn a_primary_whose_replica_is_silent_confirms_nothing() {
    let [server, replica] = pair().await;
    let mut subject = BrokerSubject::redis(&server, WITH_REPLICA).await;
    let first = subject.mutate(mutation("a", &["a"], None, Ack::Replicated)).await.expect("it is confirmed");
    let first = first.position.expect("it has a position");
    assert_eq!(subject.confirm("a").await, Ok(first.clone()));
    silence(&server, &replica).await;
    let unconfirmed = |at: &Position| BrokerError::ReplicationUnconfirmed(Some(Box::new(at.clone())));
    assert_eq!(subject.confirm("a").await, Err(unconfirmed(&first)));
    let second = subject.mutate(mutation("a", &["b"], Some("k"), Ack::Replicated)).await;
    let stored = first.epoch.at(first.offset.next());
    assert_eq!(second.map(|_| ()), Err(unconfirmed(&stored)));
    replica.resume();
    let again = eventually("a confirmed retry", async || {
        subject.mutate(mutation("a", &["b"], Some("k"), Ack::Replicated)).await.ok()
    })
    .await;
    assert_eq!((again.position.as_ref(), again.ack), (Some(&stored), Ack::Replicated));
    assert_eq!(subject.confirm("a").await, Ok(stored));
}

#[tokio::test]
async fn a_primary_that_another_one_took_over_from_confirms_nothing() {
    let [server, replica] = pair().await;
    let mut cut_off = BrokerSubject::redis(&server, WITH_REPLICA).await;
    touch(&mut cut_off, "a", &["a"]).await;
    replica.wait_in_sync(&server).await;
    replica.promote().await;
    let mut successor = BrokerSubject::redis(&replica, "").await;
    let beyond = touch(&mut successor, "a", &["b"]).await;
    assert!(matches!(cut_off.confirm("a").await, Err(BrokerError::ReplicationUnconfirmed(_))));
    assert_eq!(successor.confirm("a").await, Ok(beyond));
}

#[tokio::test]
async fn what_a_lost_link_did_not_bring_is_read_from_the_log_or_said_to_be_lost() {
    let (server, mut subject) = one_server().await;
    subject.listen_to(&log("a").channel()).await;
    let first = touch(&mut subject, "a", &["a"]).await;
    assert_eq!(heard(&mut subject).await, Some(first.clone()));
    let at = |offset| Some(first.epoch.at(Offset(offset)));

    server.pause().await;
    assert!(subject.mutate(mutation("a", &["b"], Some("2"), Ack::Stored)).await.is_err());
    server.resume();
    eventually("a mutation", async || {
        subject.mutate(mutation("a", &["b"], Some("2"), Ack::Stored)).await.ok()
    })
    .await;
    touch(&mut subject, "a", &["c"]).await;
    assert_eq!([heard(&mut subject).await, heard(&mut subject).await], [at(2), at(3)], "none is missing");

    assert!(server.kill_pubsub().await > 0);
    touch(&mut subject, "a", &["d"]).await;
    server.command(&["DEL", STREAM]).await;
    let last = touch(&mut subject, "a", &["e"]).await;
    // The first of the two may have come by the old link.
    let mut next = heard(&mut subject).await;
    if next == at(4) {
        next = heard(&mut subject).await;
    }
    assert!(next.is_none() || next == at(5), "{next:?}");
    let page = subject.resume_log("a", &last).await;
    assert_eq!((page.end(), page.gap), (last, None));

    server.flush_all().await;
    let anew = touch(&mut subject, "a", &["f"]).await;
    while let Some(position) = heard(&mut subject).await {
        assert_eq!(position, anew, "of the new numbering nothing comes before the loss is said");
    }
}

#[tokio::test]
async fn a_log_in_a_cluster_is_followed_to_where_it_moves() {
    let cluster = RedisCluster::start("").await;
    let key = log("a").channel();
    let node = cluster.nodes[cluster.primary_of(key.as_str()).await].address();
    let mut subject = BrokerSubject::redis_at(&cluster.url(), node, WITH_REPLICA).await;
    subject.listen_to(&key).await;
    let first = subject.mutate(mutation("a", &["a"], None, Ack::Replicated)).await.expect("it is confirmed");
    let first = first.position.expect("it has a position");
    assert_eq!(heard(&mut subject).await, Some(first.clone()));

    let from = cluster.primary_of(key.as_str()).await;
    cluster.move_slot(cluster.slot_of(key.as_str()).await, from, (from + 1) % 3).await;
    let second = eventually("a mutation", async || {
        subject.mutate(mutation("a", &["b"], Some("k"), Ack::Stored)).await.ok()?.position
    })
    .await;
    let Snapshot { position, lineage, table } = subject.standing("a").await;
    assert_eq!((&position, position.offset), (&second, first.offset.next()));
    assert_eq!(lineage.reach(&first.epoch), Some(first.offset));
    assert!(table == folded(table.slots(), &[&["a"], &["b"]]), "it moved as a whole");
    eventually("the mutation or its loss to be told", async || {
        heard(&mut subject).await.is_none_or(|heard| heard == second).then_some(())
    })
    .await;
}
