//! Channels without history: what is lost of them nothing makes good, so it is told, and told once, and nothing is told that did
//! not happen.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Fleet, Instance, Link, RedisServer, Request, WebSocket, eventually};

/// Channels that somebody listens to.
const CHANNELS: usize = 20;

const NAMESPACE: &str = "[namespace.v]\nhistory_size = 0\n";

fn name(number: usize) -> String {
    format!("v:{number}")
}

async fn listener(instance: &Instance) -> WebSocket {
    let mut socket = WebSocket::connect(instance.address, &[]).await;
    socket.expect("hello").await;
    for number in 0..CHANNELS {
        socket.subscribe(&name(number)).await;
    }
    socket
}

async fn publish(instance: &Instance, channel: &str, body: &str) -> u16 {
    let path = format!("/v1/publish/{channel}");
    Request::new(instance.address, "POST", &path).body(body).send().await.status
}

/// Publishes to the last channel, and reads until that comes; returns the channels of all gaps on the way.
async fn gaps(socket: &mut WebSocket, instance: &Instance) -> Vec<Value> {
    let last = name(CHANNELS - 1);
    eventually("a publish", async || (publish(instance, &last, "1").await == 200).then_some(())).await;
    let mut gaps = Vec::new();
    loop {
        let frame = socket.next_frame().await;
        if let Some(gap) = frame.get("gap") {
            assert_eq!(gap["reason"], "lost", "{frame}");
            gaps.push(gap["channel"].clone());
        }
        if frame["batch"]["channel"] == json!(last) {
            return gaps;
        }
    }
}

/// A fork for a large snapshot, somebody's slow command, a machine that is moved: seconds at most, and nothing is lost.
#[tokio::test]
async fn a_stall_costs_nothing_and_a_longer_one_a_gap_for_each_channel() {
    let redis = RedisServer::start("").await;
    let fleet = Fleet::start(2, &Link::Direct(redis.url()), NAMESPACE, "").await;
    let [instance, other] = &fleet.instances[..] else { unreachable!("there are two") };
    let mut socket = listener(instance).await;
    for (stall, gaps_max) in [(1_500, 0), (3_000, 1)] {
        redis.pause().await;
        tokio::time::sleep(Duration::from_millis(stall)).await;
        redis.resume();
        // Whatever is told of it is told by the time that beacons have come again.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let gaps = gaps(&mut socket, other).await;
        for number in 0..CHANNELS {
            let count = gaps.iter().filter(|channel| **channel == json!(name(number))).count();
            assert!(count <= gaps_max, "{count} gaps of {} after {stall} ms", name(number));
        }
    }
    let links = instance.metric("tidings_broker_interruptions_total", "link_lost").await;
    assert!(links <= 1.0, "{links} links were lost, one of them in the longer stall");
}

#[tokio::test]
async fn what_nobody_can_read_is_one_gap_of_its_channel() {
    let redis = RedisServer::start("").await;
    let fleet = Fleet::start(1, &Link::Direct(redis.url()), NAMESPACE, "").await;
    let instance = &fleet.instances[0];
    let mut socket = listener(instance).await;
    let heard = redis.command(&["PUBLISH", "tidings:{v:3}", "hello"]).await;
    assert_eq!(heard.integer(), 1, "the instance heard it");
    assert_eq!(gaps(&mut socket, instance).await, [json!("v:3")]);
    assert_eq!(instance.metric("tidings_broker_interruptions_total", "link_lost").await, 0.0);
}

/// Every change of `history_size` between none and some passes through this, for as long as a rolling restart takes.
#[tokio::test]
async fn instances_that_disagree_about_a_history_tell_gaps_and_drop_nothing_silently() {
    let redis = RedisServer::start("").await;
    let link = Link::Direct(redis.url());
    let [with, without] = [
        Fleet::start(1, &link, "[namespace.v]\nhistory_size = 100\n", "").await,
        Fleet::start(1, &link, NAMESPACE, "").await,
    ];
    let [with, without] = [&with.instances[0], &without.instances[0]];
    let [mut has, mut has_not] = [listener(with).await, listener(without).await];
    assert_eq!(publish(without, "v:1", "1").await, 200);
    let gap = has.expect("gap").await;
    assert_eq!((&gap["channel"], &gap["reason"]), (&json!("v:1"), &json!("lost")));
    assert_eq!(has_not.data("v:1", 1).await, [json!(1)]);
    assert_eq!(publish(with, "v:1", "2").await, 200);
    let gap = has_not.expect("gap").await;
    assert_eq!((&gap["channel"], &gap["reason"]), (&json!("v:1"), &json!("lost")));
    assert_eq!(has.data("v:1", 1).await, [json!(2)], "it goes on");
    for instance in [with, without] {
        let count = instance.metric("tidings_broker_interruptions_total", "foreign").await;
        assert_eq!(count, 1.0, "operators can see why");
    }
}
