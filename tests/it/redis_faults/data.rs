//! Somebody takes away or overwrites what instances keep in Redis, or Redis renames its numbering.

use serde_json::{Value, json};

use super::{Probe, Scene, rounds};
use crate::support::{Link, RedisServer, Reply, WebSocket, eventually};

#[tokio::test]
async fn an_evicted_numbering_is_a_gap_for_everybody_who_stands_in_it() {
    let mut scene = Scene::start("DEL meta").await;
    for _ in 0..rounds() {
        let before = scene.epoch("a").await;
        scene.inject();
        assert_eq!(scene.redis.command(&["DEL", "tidings:{a}:m"]).await.integer(), 1);
        scene.flow().await;
        assert_ne!(scene.epoch("a").await, before);
        scene.prove("another epoch");
    }
    let outcome = scene.end().await;
    assert!(outcome.gaps["epoch"] >= 9 * rounds() as u64 && outcome.gaps.len() == 1, "{outcome}");
}

#[tokio::test]
async fn an_evicted_history_is_a_gap_for_those_who_need_it_and_for_nobody_else() {
    let mut scene = Scene::start("DEL stream").await;
    let mut probe = Probe::new("probe", &scene.fleet);
    for round in 0..rounds() {
        let mut socket = WebSocket::connect(scene.instance(0).address, &[]).await;
        socket.expect("hello").await;
        let channel = format!("quiet-{round}");
        let mut quiet = Probe::new(&channel, &scene.fleet);
        let first = quiet.publish().await[0].1.json()["position"].clone();
        quiet.publish().await;
        scene.inject();
        for key in [format!("tidings:{{{channel}}}:s"), "tidings:{a}:s".to_owned()] {
            assert_eq!(scene.redis.command(&["DEL", &key]).await.integer(), 1, "{key}");
        }
        scene.prove("both keys were there");
        let resumed = socket.resume(&channel, &first).await;
        assert_eq!(resumed["recovered"], false, "{resumed}");
        let gap = socket.expect("gap").await;
        assert_eq!((&gap["reason"], &gap["position"]), (&json!("trimmed"), &resumed["position"]));
        probe.publish().await;
        scene.flow().await;
    }
    let outcome = scene.end().await;
    assert!(outcome.gaps.keys().all(|reason| *reason == "trimmed"), "{outcome}");
}

#[tokio::test]
async fn another_replication_id_without_loss_costs_nothing() {
    let redis = RedisServer::start("repl-backlog-ttl 1\n").await;
    let link = Link::Direct(redis.url());
    let mut scene = Scene::of("the first replica", redis, &link, "").await;
    let replica = RedisServer::start("").await;
    for _ in 0..rounds() {
        let before = scene.redis.replid().await;
        scene.inject();
        replica.replica_of(&scene.redis).await;
        let with_replica = scene.redis.replid().await;
        assert_ne!(with_replica, before);
        scene.flow().await;
        replica.promote().await;
        eventually("the last replica to be forgotten", async || {
            (scene.redis.replid().await != with_replica).then_some(())
        })
        .await;
        scene.prove("two more replication ids");
        scene.flow().await;
    }
    let outcome = scene.end().await;
    assert!(outcome.gaps.is_empty() && outcome.unknown == 0, "{outcome}");
    assert!(outcome.continued >= 27 * rounds() as u64, "nine readers of three channels: {outcome}");
    assert_eq!((outcome.attempts, outcome.delivered), (outcome.published, 9 * outcome.acked), "{outcome}");
}

/// What a new subscriber is told who has everything up to `offset`: the answer, and the reason of the gap after it.
async fn resumed(scene: &Scene, channel: &str, epoch: &Value, offset: u64) -> (Value, Option<String>) {
    let mut socket = WebSocket::connect(scene.instance(0).address, &[]).await;
    socket.expect("hello").await;
    let resumed = socket.resume(channel, &json!({"epoch": epoch, "offset": offset})).await;
    let gap = match resumed["recovered"] == true {
        true => None,
        false => socket.expect("gap").await["reason"].as_str().map(str::to_owned),
    };
    socket.close().await;
    (resumed, gap)
}

#[tokio::test]
async fn what_is_missing_in_a_history_or_cannot_be_read_is_a_gap() {
    let mut scene = Scene::start("a soiled history").await;
    for round in 0..rounds() {
        let channel = format!("soiled-{round}");
        let stream = format!("tidings:{{{channel}}}:s");
        let mut probe = Probe::new(&channel, &scene.fleet);
        let epoch = probe.publish().await[0].1.json()["position"]["epoch"].clone();
        probe.publish().await;

        scene.inject();
        assert_eq!(scene.redis.command(&["XDEL", &stream, "3-0"]).await.integer(), 1);
        let (page, _) = resumed(&scene, &channel, &epoch, 0).await;
        let publications = page["publications"].as_array().expect("a list").len();
        assert_eq!(
            (&page["recovered"], &page["more"], publications),
            (&json!(true), &json!(true), 2),
            "{page}"
        );
        let (page, reason) = resumed(&scene, &channel, &epoch, 2).await;
        assert_eq!((&page["position"]["offset"], reason.as_deref()), (&json!(6), Some("lost")), "{page}");
        scene.prove("an entry in the middle was removed");

        scene.inject();
        assert_eq!(scene.redis.command(&["XDEL", &stream, "6-0"]).await.integer(), 1);
        let (page, reason) = resumed(&scene, &channel, &epoch, 5).await;
        assert_eq!((&page["position"]["offset"], reason.as_deref()), (&json!(6), Some("lost")), "{page}");
        scene.prove("the last entry was removed");

        scene.inject();
        assert_eq!(scene.redis.command(&["DEL", &stream]).await.integer(), 1);
        let entry = ["XADD", &stream, "6-0", "p", "9999999999999 garbage"];
        assert_eq!(scene.redis.command(&entry).await.text(), "6-0");
        let (page, reason) = resumed(&scene, &channel, &epoch, 5).await;
        assert_eq!((&page["position"]["offset"], reason.as_deref()), (&json!(6), Some("lost")), "{page}");
        probe.publish().await;
        let (page, reason) = resumed(&scene, &channel, &epoch, 6).await;
        assert_eq!((page["publications"].as_array().map(Vec::len), reason), (Some(3), None), "{page}");
        scene.prove("an entry was no publication");
    }
    let outcome = scene.end().await;
    assert!(outcome.gaps.is_empty() && outcome.attempts == outcome.published, "{outcome}");
}

#[tokio::test]
async fn what_is_not_ours_in_the_place_of_a_key_is_an_error_or_begun_anew() {
    let mut scene = Scene::start("other things in the place of keys").await;
    for round in 0..rounds() {
        let channel = format!("replaced-{round}");
        let (meta, stream) = (format!("tidings:{{{channel}}}:m"), format!("tidings:{{{channel}}}:s"));
        let mut probe = Probe::new(&channel, &scene.fleet);
        probe.publish().await;

        scene.inject();
        scene.redis.command(&["SET", &stream, "garbage"]).await;
        assert_eq!(probe.history_status().await, 503);
        probe.stored().await;
        assert_eq!(probe.history().await.len(), 3, "what came since");
        scene.prove("the stream was a string");

        scene.inject();
        assert!(scene.redis.command(&["XADD", &stream, "*", "p", "garbage"]).await.text().ends_with("-0"));
        probe.stored().await;
        assert_eq!(probe.history().await.len(), 3, "what came since");
        scene.prove("the stream had an entry far ahead");

        scene.inject();
        scene.redis.command(&["SET", &meta, "garbage"]).await;
        probe.refused().await;
        assert_eq!(probe.history_status().await, 503);
        for broken in
            [vec!["DEL", &meta], vec!["HSET", &meta, "offset", "garbage"], vec!["HDEL", &meta, "bytes"]]
        {
            assert!(matches!(scene.redis.command(&broken).await, Reply::Integer(_)), "{broken:?}");
            probe.stored().await;
            assert_eq!(probe.history().await.len(), 3, "a numbering of its own after {broken:?}");
        }
        scene.prove("the numbering was a string, and then broken");
    }
    let outcome = scene.end().await;
    assert!(outcome.gaps.is_empty() && outcome.attempts == outcome.published, "{outcome}");
}
