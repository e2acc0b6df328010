//! Redis dies, stops, runs out of memory, forgets.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{HEALED_WITHIN, NOTICED_WITHIN, Probe, Scene, Watchers, rounds};
use crate::support::{EventStream, Request, WebSocket, eventually};

#[tokio::test]
async fn a_redis_that_is_killed_and_comes_back_empty_is_told_of_and_costs_a_gap() {
    let mut scene = Scene::start("kill -9, empty restart").await;
    for round in 0..rounds() {
        let mut probe = Probe::new("probe", &scene.fleet);
        let mut watchers = Watchers::at(&scene.fleet.addresses()).await;
        scene.flow().await;
        let before = scene.redis.replid().await;
        scene.inject();
        scene.redis.kill9();
        let told = refused_until_told(&mut probe, &mut watchers).await;
        assert!(told <= NOTICED_WITHIN, "told of the outage after {told:?}");
        // What some listen to already could be answered without Redis: nobody listens to this.
        let path = format!("/sse?channel=late-{round}");
        let mut late = EventStream::open(Request::new(scene.instance(0).address, "GET", &path)).await;
        // Who comes during an outage is told when to come back.
        late.is_turned_away().await;
        assert!(scene.redis.start_again().await);
        let back = Instant::now();
        watchers.told_of_a_loss().await;
        assert!(back.elapsed() <= HEALED_WITHIN, "healed after {:?}", back.elapsed());
        assert_ne!(scene.redis.replid().await, before);
        scene.prove("another replication id");
        scene.flow().await;
    }
    let outcome = scene.end().await;
    assert!(outcome.gaps["epoch"] >= 27 * rounds() as u64, "nine readers of three channels: {outcome}");
    assert!(outcome.gaps.len() == 1 && outcome.reconnects == 0, "{outcome}");
}

/// Publishes in vain until every watcher knows why; returns how long that took.
async fn refused_until_told(probe: &mut Probe, watchers: &mut Watchers) -> Duration {
    let begun = Instant::now();
    let told = watchers.told("degraded");
    let refused = async {
        loop {
            probe.refused().await;
            // The pace of a patient client: a refusal costs nothing, and comes at once.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = refused => unreachable!("it goes on"),
        _ = told => begun.elapsed(),
    }
}

#[tokio::test]
async fn a_redis_that_stops_for_a_while_leaves_publishes_unknown_and_none_twice() {
    // What is a blip in every run is an outage of ten seconds among many.
    let length = Duration::from_secs(if rounds() > 1 { 10 } else { 3 });
    let mut scene = Scene::start("SIGSTOP").await;
    let mut probe = Probe::new("probe", &scene.fleet);
    for _ in 0..rounds() {
        let mut keys = Vec::new();
        let mut watchers = Watchers::at(&scene.fleet.addresses()).await;
        scene.inject();
        scene.redis.pause().await;
        let stopped = Instant::now();
        keys.extend(probe.refused().await);
        let told = refused_until_told(&mut probe, &mut watchers).await;
        assert!(told <= NOTICED_WITHIN, "told of the outage after {told:?}");
        while stopped.elapsed() < length {
            keys.extend(probe.refused().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        scene.prove("the process was in state T");
        scene.redis.resume();
        let back = Instant::now();
        watchers.told("restored").await;
        assert!(back.elapsed() <= HEALED_WITHIN, "back after {:?}", back.elapsed());
        scene.flow().await;
        for key in &keys {
            probe.retry(key).await;
        }
        let history = probe.history().await;
        for key in keys {
            assert_eq!(history.iter().filter(|data| **data == json!(key)).count(), 1, "{key} in {history:?}");
        }
    }
    let outcome = scene.end().await;
    assert!(outcome.gaps.is_empty() && outcome.continued == 0 && outcome.unknown == 0, "{outcome}");
    assert_eq!(outcome.delivered - outcome.duplicates, 9 * outcome.acked, "everybody saw all: {outcome}");
}

#[tokio::test]
async fn what_finds_no_memory_is_refused_and_never_delivered() {
    let mut scene = Scene::start("out of memory").await;
    let mut probe = Probe::new("probe", &scene.fleet);
    let mut socket = WebSocket::connect(scene.instance(0).address, &[]).await;
    socket.expect("hello").await;
    socket.subscribe("probe").await;
    let mut refused = Vec::new();
    for round in 0..rounds() {
        let before = errors(&scene, "OOM").await;
        scene.inject();
        scene.redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
        for _ in 0..5 {
            for (key, answer, _) in probe.publish().await {
                assert_eq!((answer.status, &*answer.code()), (503, "broker_unavailable"), "{key}");
                refused.push(key);
            }
        }
        scene.redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
        let count = errors(&scene, "OOM").await - before;
        assert!(count >= 15, "{count} refusals");
        scene.prove("Redis counted its refusals");
        probe.retry(&format!("after-{round}")).await;
        scene.flow().await;
        assert_eq!(socket.data("probe", 1).await, [json!(format!("after-{round}"))]);
    }
    let stored: Vec<Value> = (0..rounds()).map(|round| json!(format!("after-{round}"))).collect();
    assert_eq!(probe.history().await, stored, "and none of {refused:?}");
    let outcome = scene.end().await;
    assert!(outcome.gaps.is_empty() && outcome.unknown == 0, "{outcome}");
}

/// How often Redis answered with an error of this name.
async fn errors(scene: &Scene, name: &str) -> u64 {
    let line = scene.redis.info("errorstats", &format!("errorstat_{name}")).await;
    line.strip_prefix("count=").map_or(0, |count| count.parse().expect("a number"))
}

#[tokio::test]
async fn forgotten_keys_are_a_gap_for_everybody() {
    let mut scene = Scene::start("FLUSHALL").await;
    for _ in 0..rounds() {
        let before = scene.epoch("a").await;
        scene.inject();
        scene.redis.flush_all().await;
        scene.flow().await;
        assert_ne!(scene.epoch("a").await, before);
        scene.prove("another epoch");
    }
    let outcome = scene.end().await;
    assert!(outcome.gaps["epoch"] >= 27 * rounds() as u64 && outcome.gaps.len() == 1, "{outcome}");
}

#[tokio::test]
async fn forgotten_scripts_are_told_again_and_nobody_notices() {
    let mut scene = Scene::start("SCRIPT FLUSH").await;
    for _ in 0..rounds() {
        let before = errors(&scene, "NOSCRIPT").await;
        scene.inject();
        scene.redis.script_flush().await;
        eventually("an unknown script", async || (errors(&scene, "NOSCRIPT").await > before).then_some(()))
            .await;
        scene.prove("Redis counted unknown scripts");
        scene.flow().await;
    }
    let outcome = scene.end().await;
    assert!(outcome.gaps.is_empty() && outcome.attempts == outcome.published, "{outcome}");
    assert_eq!((outcome.acked, outcome.duplicates), (outcome.published, 0), "{outcome}");
}
