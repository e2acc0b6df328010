//! Presence across instances that share a Redis.

use std::time::{Duration, Instant};

use super::{ON, Watcher, presence_of};
use crate::support::{Fleet, Link, RedisServer, WebSocket, eventually};

/// So long that whatever happens in a test is no expiry.
const FOR_EVER: &str = "presence_life = \"1h\"";

const QUICK: &str = "[server]\ndrain_delay = \"0s\"\ndrain_spread = \"1ms\"\n";

async fn fleet(redis: &RedisServer, lines: &str) -> Fleet {
    Fleet::start(2, &Link::Direct(redis.url()), &format!("{QUICK}{ON}"), lines).await
}

async fn member(fleet: &Fleet, instance: usize) -> WebSocket {
    let mut socket = WebSocket::connect(fleet.instances[instance].address, &[]).await;
    socket.expect("hello").await;
    socket.subscribe("room").await;
    socket
}

async fn watchers(fleet: &Fleet) -> [Watcher; 2] {
    let [one, other] = [fleet.instances[0].address, fleet.instances[1].address];
    let mut watchers = [Watcher::join(one, &[]).await, Watcher::join(other, &[]).await];
    for watcher in &mut watchers {
        watcher.sees(2).await;
    }
    watchers
}

#[tokio::test]
async fn members_of_all_instances_are_seen_on_each() {
    let redis = RedisServer::start("").await;
    let fleet = fleet(&redis, FOR_EVER).await;
    let mut watchers = watchers(&fleet).await;
    let guests = [member(&fleet, 0).await, member(&fleet, 1).await];
    for watcher in &mut watchers {
        watcher.sees(4).await;
    }
    for instance in &fleet.instances {
        assert_eq!(presence_of(instance.address, "room").await["count"], 4);
    }
    drop(guests);
    for watcher in &mut watchers {
        watcher.sees(2).await;
        assert_eq!(watcher.lost, 0);
    }
}

#[tokio::test]
async fn members_of_an_instance_that_is_killed_leave_when_their_life_is_over() {
    let redis = RedisServer::start("").await;
    let mut fleet = fleet(&redis, "presence_life = \"2s\"").await;
    let [mut stays, dies] = watchers(&fleet).await;
    let _guests = [member(&fleet, 1).await, member(&fleet, 1).await];
    stays.sees(4).await;
    let killed = Instant::now();
    fleet.instances[1].kill9().await;
    stays.sees(1).await;
    // A quarter of a life later at most; the rest is for a machine that is busy.
    assert!(killed.elapsed() < Duration::from_millis(2_500 + 2_000), "{:?}", killed.elapsed());
    assert!(!stays.known.contains_key(&dies.session));
    assert_eq!(presence_of(fleet.instances[0].address, "room").await["count"], 1);
    assert_eq!(stays.lost, 0);
}

#[tokio::test]
async fn members_outlive_many_lives_while_their_instance_lives() {
    let redis = RedisServer::start("").await;
    let fleet = fleet(&redis, "presence_life = \"1s\"").await;
    let [mut watcher, _other] = watchers(&fleet).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        watcher.list().await;
        assert_eq!(watcher.known.len(), 2, "after {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn members_of_an_instance_that_ends_in_good_order_leave_at_once() {
    let redis = RedisServer::start("").await;
    let mut fleet = fleet(&redis, FOR_EVER).await;
    let [mut stays, _goes] = watchers(&fleet).await;
    let mut guests = Vec::new();
    for _ in 0..20 {
        guests.push(member(&fleet, 1).await);
    }
    stays.sees(22).await;
    assert_eq!(fleet.instances[1].terminate().await.code(), Some(0));
    stays.sees(1).await;
    assert_eq!(stays.lost, 0);
}

#[tokio::test]
async fn changes_that_redis_lost_are_said_to_be_lost_and_a_list_tells_the_truth() {
    let redis = RedisServer::start("").await;
    let fleet = fleet(&redis, FOR_EVER).await;
    let [mut watcher, _other] = watchers(&fleet).await;
    assert_eq!(redis.kill_pubsub().await, 2);
    while watcher.lost == 0 {
        let frame = watcher.socket.next_frame().await;
        if frame.get("presence").is_some() {
            watcher.take(&frame);
        }
    }
    let guest = member(&fleet, 1).await;
    watcher.list().await;
    assert_eq!(watcher.known.len(), 3);
    drop(guest);
    watcher.sees(2).await;
}

#[tokio::test]
async fn members_that_redis_forgot_come_back_by_themselves() {
    let redis = RedisServer::start("").await;
    let fleet = fleet(&redis, "presence_life = \"2s\"").await;
    let _watchers = watchers(&fleet).await;
    redis.flush_all().await;
    eventually("both members", async || {
        (presence_of(fleet.instances[0].address, "room").await["count"] == 2).then_some(())
    })
    .await;
}
