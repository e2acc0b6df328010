//! Instances end in good order, one after the other, or at once.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Scene, rounds};
use crate::support::{Link, RedisServer, Request, WebSocket, eventually, within};

/// A drain that balancers have time to notice, and tests to wait for.
const DRAIN: &str = "[server]\ndrain_delay = \"300ms\"\ndrain_spread = \"500ms\"\n";

/// The drain's own time, and what the last farewells may take.
const DRAINED_WITHIN: Duration = Duration::from_secs(5);

async fn scene(fault: &'static str, toml: &str) -> Scene {
    let redis = RedisServer::start("").await;
    let link = Link::Direct(redis.url());
    Scene::of(fault, redis, &link, toml).await
}

/// Ends an instance and starts it again; what it says on the way is as agreed.
async fn restart(scene: &mut Scene, index: usize) {
    let address = scene.instance(index).address;
    let mut socket = WebSocket::connect(address, &[]).await;
    socket.expect("hello").await;
    let begun = Instant::now();
    let process = scene.fleet.instances[index].take_process();
    process.signal(Signal::TERM);
    eventually("readiness to end", async || {
        let answer = Request::new(address, "GET", "/readyz").send().await;
        (answer.status == 503 && answer.code() == "draining").then_some(())
    })
    .await;
    let (frames, closed) = socket.closed().await;
    assert_eq!((closed.code, &closed.reason[..8]), (1012, "draining"));
    assert!(frames.last().expect("a last word")["disconnect"]["after_ms"].is_u64(), "{frames:?}");
    let (status, said) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("drained") && begun.elapsed() <= DRAINED_WITHIN, "{:?}: {said}", begun.elapsed());
    scene.fleet.instances[index].start_again().await;
}

#[tokio::test]
async fn a_rolling_restart_under_load_loses_nothing_and_repeats_nothing() {
    let mut scene = scene("rolling restart", DRAIN).await;
    for _ in 0..rounds() {
        for index in 0..3 {
            scene.inject();
            restart(&mut scene, index).await;
            scene.prove("ready no more, closed with 1012, ended with 0");
            scene.flow().await;
        }
    }
    assert_eq!(scene.interruptions("silence").await, 0.0, "whoever takes leave is not missed");
    let outcome = scene.end().await;
    assert!(outcome.gaps.is_empty() && outcome.continued == 0 && outcome.unknown == 0, "{outcome}");
    assert!(outcome.reconnects >= 9 * rounds() as u64, "everybody moved: {outcome}");
    assert_eq!((outcome.acked, outcome.duplicates), (outcome.published, 0), "{outcome}");
    assert_eq!(outcome.delivered, 9 * outcome.acked, "everybody saw all, once: {outcome}");
}

#[tokio::test]
async fn an_instance_ends_in_good_order_though_redis_is_gone() {
    let mut scene = scene("SIGTERM during an outage", DRAIN).await;
    scene.inject();
    scene.redis.kill9();
    restart_during_outage(&mut scene).await;
    scene.prove("Redis was dead");
    scene.flow().await;
    let outcome = scene.end().await;
    assert_eq!(outcome.gaps.keys().collect::<Vec<_>>(), [&"epoch"], "{outcome}");
}

async fn restart_during_outage(scene: &mut Scene) {
    let begun = Instant::now();
    let (status, said) = {
        let process = scene.fleet.instances[0].take_process();
        process.signal(Signal::TERM);
        within("the end of a drain", process.ended()).await
    };
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(begun.elapsed() <= DRAINED_WITHIN, "{:?}: {said}", begun.elapsed());
    assert!(scene.redis.start_again().await);
    scene.fleet.instances[0].start_again().await;
}

#[tokio::test]
async fn a_second_signal_ends_at_once_and_the_others_make_it_good() {
    let mut scene = scene("a second signal", "[server]\ndrain_delay = \"1h\"\n").await;
    for round in 0..rounds() {
        let index = round % 3;
        scene.inject();
        let address = scene.instance(index).address;
        let process = scene.fleet.instances[index].take_process();
        process.signal(Signal::TERM);
        eventually("readiness to end", async || {
            (Request::new(address, "GET", "/readyz").send().await.status == 503).then_some(())
        })
        .await;
        process.signal(Signal::TERM);
        let (status, said) = process.ended().await;
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.contains("second signal"), "{said}");
        scene.prove("it ended at the second signal");
        scene.fleet.instances[index].start_again().await;
        scene.flow().await;
    }
    let outcome = scene.end().await;
    assert!(outcome.gaps.is_empty() && outcome.unknown == 0, "{outcome}");
    assert_eq!(outcome.delivered - outcome.duplicates, 9 * outcome.acked, "everybody saw all: {outcome}");
}
