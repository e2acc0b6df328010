//! A cluster of which a part is lost: the rest goes on as if nothing were, and what is lost is told.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cluster::{PARTLY, channel_each};
use crate::support::{Answer, Fleet, Link, RedisCluster, Reply, Request, WebSocket, eventually};

/// So long a primary and its replica hang: a server counts as lost after 2 s, and as deaf after twice 2.2 s.
const OUTAGE: Duration = Duration::from_secs(7);

const VOLATILE: &str = "[namespace.volatile]\nhistory_size = 0\npresence = true\n";

async fn publish(fleet: &Fleet, instance: usize, channel: &str) -> Answer {
    let path = format!("/v1/publish/{channel}");
    Request::new(fleet.instances[instance].address, "POST", &path).body("1").send().await
}

/// How the broker is, as `/health` says.
async fn broker_health(fleet: &Fleet) -> (u16, Value) {
    let answer = Request::new(fleet.instances[0].address, "GET", "/health").send().await;
    (answer.status, answer.json()["components"][0].clone())
}

/// Reads until so many publications have come, and which part is lost; returns its name. Nothing else may come.
async fn told_and_counted(socket: &mut WebSocket, publications: usize) -> Value {
    let (mut seen, mut lost) = (0, None);
    while seen < publications || lost.is_none() {
        let frame = socket.next_frame().await;
        match (frame.get("batch"), frame.get("degraded")) {
            (Some(batch), _) => seen += batch["publications"].as_array().expect("a list").len(),
            (None, Some(degraded)) => lost = Some(degraded["component"].clone()),
            (None, None) => panic!("{frame}"),
        }
    }
    assert_eq!(seen, publications);
    lost.expect("it was told")
}

#[tokio::test]
async fn a_primary_that_hangs_costs_its_own_channels_and_no_others() {
    let cluster = RedisCluster::start(PARTLY).await;
    let link = Link::Direct(cluster.url());
    let fleet = Fleet::start(2, &link, VOLATILE, "").await;
    let channels = channel_each(&cluster).await;
    let (lost, others) = channels.split_last().expect("three channels");
    assert_eq!(
        cluster.primary_of("$revoked").await,
        1,
        "which tokens are revoked is known to a primary that stays"
    );
    let mut sockets = Vec::new();
    for instance in &fleet.instances {
        let mut socket = WebSocket::connect(instance.address, &[]).await;
        socket.expect("hello").await;
        for channel in others {
            socket.subscribe(channel).await;
        }
        sockets.push(socket);
    }
    let hangs = [2, 5];
    for node in hangs {
        cluster.nodes[node].pause().await;
    }
    let (begun, mut published, mut refused) = (Instant::now(), 0, 0);
    while begun.elapsed() < OUTAGE {
        for instance in 0..fleet.instances.len() {
            for channel in others {
                let answer = publish(&fleet, instance, channel).await;
                assert_eq!(answer.status, 200, "{channel} after {:?}: {}", begun.elapsed(), answer.text());
            }
            published += 1;
        }
        if begun.elapsed() > Duration::from_millis(2_500) {
            let answer = publish(&fleet, 0, lost).await;
            assert_eq!((answer.status, &*answer.code()), (503, "broker_unavailable"), "it is said at once");
            refused += 1;
        }
    }
    assert!(refused > 0);
    let (status, broker) = broker_health(&fleet).await;
    let detail = broker["detail"].as_str().expect("a text");
    assert_eq!(status, 503);
    assert!(detail.starts_with("1 of 3 servers unreachable"), "{broker}");
    // Somebody who starts now serves what there is.
    let late = Fleet::start(1, &link, VOLATILE, "").await;
    assert_eq!(publish(&late, 0, &others[0]).await.status, 200);
    for socket in &mut sockets {
        // And the one by who came late.
        assert_eq!(told_and_counted(socket, others.len() * published + 1).await, json!("redis"));
    }
    for node in hangs {
        cluster.nodes[node].resume();
    }
    for socket in &mut sockets {
        assert_eq!(socket.expect("restored").await["component"], json!("redis"));
    }
    eventually("the lost part", async || (publish(&fleet, 0, lost).await.status == 200).then_some(())).await;
    eventually("health", async || (broker_health(&fleet).await.0 == 200).then_some(())).await;
}

/// How many subscribers a server counts on the pub/sub channel of a channel.
async fn subscribers(cluster: &RedisCluster, node: usize, channel: &str) -> i64 {
    let name = format!("tidings:{{{channel}}}");
    let reply = cluster.nodes[node].command(&["PUBSUB", "SHARDNUMSUB", &name]).await;
    let [_, Reply::Integer(count)] = reply.list() else { panic!("{reply:?}") };
    *count
}

/// A server that gives a slot away ends the subscriptions to what is in it, and says so to nobody who asks. It may have the
/// slot back before any instance sees that it was gone.
#[tokio::test]
async fn subscriptions_that_a_server_ended_are_a_gap_and_made_again() {
    let cluster = RedisCluster::start(PARTLY).await;
    let fleet = Fleet::start(1, &Link::Direct(cluster.url()), VOLATILE, "").await;
    let address = fleet.instances[0].address;
    let (channel, other) = ("volatile:moved", "volatile:stays");
    let (from, slot) = (cluster.primary_of(channel).await, cluster.slot_of(channel).await);
    let to = (from + 1) % 3;
    let mut sockets = Vec::new();
    for channel in [channel, other] {
        let mut socket = WebSocket::connect(address, &[]).await;
        socket.expect("hello").await;
        socket.subscribe(channel).await;
        sockets.push(socket);
    }
    let [moved, stays] = &mut sockets[..] else { unreachable!("there are two") };
    assert_eq!(subscribers(&cluster, from, channel).await, 1);
    cluster.move_slot(slot, from, to).await;
    cluster.move_slot(slot, to, from).await;
    assert_eq!(subscribers(&cluster, from, channel).await, 0, "the server ended it");
    let gap = moved.expect("gap").await;
    assert_eq!((&gap["channel"], &gap["reason"]), (&json!(channel), &json!("lost")));
    for channel in [channel, other] {
        assert_eq!(publish(&fleet, 0, channel).await.status, 200);
    }
    assert_eq!(moved.data(channel, 1).await, [json!(1)]);
    let frame = stays.next_frame().await;
    assert!(frame.get("batch").is_some(), "nothing else is disturbed: {frame}");
}

/// How often a node refused a command with this.
async fn refusals(cluster: &RedisCluster, node: usize, name: &str) -> u64 {
    let line = cluster.nodes[node].info("errorstats", &format!("errorstat_{name}")).await;
    line.strip_prefix("count=").map_or(0, |count| count.parse().expect("a number"))
}

/// A slot with many keys moves for seconds: some are here, some there, and others nowhere yet.
#[tokio::test]
async fn a_channel_is_found_while_its_slot_moves() {
    let cluster = RedisCluster::start(PARTLY).await;
    let fleet = Fleet::start(1, &Link::Direct(cluster.url()), VOLATILE, "").await;
    let history = async |channel: &str| {
        let path = format!("/v1/channels/{channel}/history");
        Request::new(fleet.instances[0].address, "GET", &path).send().await
    };
    let (kept, volatile) = ("kept", "volatile:kept");
    assert_eq!(publish(&fleet, 0, kept).await.status, 200);
    let places = async |channel| {
        let (slot, from) = (cluster.slot_of(channel).await, cluster.primary_of(channel).await);
        (slot, from, (from + 1) % 3)
    };

    // Nothing of it is kept, and the slot moves.
    let (slot, from, to) = places(volatile).await;
    cluster.begin_move(slot, from, to).await;
    let answer = publish(&fleet, 0, volatile).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    cluster.end_move(slot, from, to).await;
    let (slot, from, to) = places(kept).await;
    cluster.begin_move(slot, from, to).await;
    assert_eq!(cluster.move_keys(slot, from, to, 1).await, 1, "one of several");

    // The rest follows in less time than an answer may take.
    let (answer, ()) = tokio::join!(history(kept), async {
        eventually("a refusal", async || (refusals(&cluster, from, "TRYAGAIN").await > 0).then_some(()))
            .await;
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        assert!(cluster.move_keys(slot, from, to, 100).await >= 1, "the others");
    });
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["publications"].as_array().expect("a list").len(), 1);
    assert_eq!(history(kept).await.status, 200, "all of it is there already, and the slot is not");
    assert!(refusals(&cluster, from, "ASK").await > 0, "it was asked for elsewhere");
    cluster.end_move(slot, from, to).await;
    assert_eq!(publish(&fleet, 0, kept).await.json()["position"]["offset"], json!(2), "nothing began anew");
}
