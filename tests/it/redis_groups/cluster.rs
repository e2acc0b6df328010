//! A cluster whose slots change hands: what moved is found again, and what did not is not disturbed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::FutureExt;
use serde_json::json;

use super::{report, some_traffic, times};
use crate::support::{
    Fleet, Link, RedisCluster, Request, Traffic, TrafficPlan, WebSocket, eventually, within,
};

/// How long a publish to a server that is well may take while another one is replaced.
const UNDISTURBED_MAX: Duration = Duration::from_millis(1_000);

/// Without it, all servers refuse everything while one of them is replaced.
pub(super) const PARTLY: &str = "cluster-require-full-coverage no\n";

/// What changes hands.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// A primary dies, and its replica takes over.
    Death,
    /// A replica takes over in good order.
    Failover,
    /// One slot moves to another primary.
    Move,
}

/// A channel on each of the three primaries.
pub(super) async fn channel_each(cluster: &RedisCluster) -> Vec<String> {
    let mut channels = BTreeMap::new();
    for number in 0.. {
        let name = format!("c{number}");
        channels.entry(cluster.primary_of(&name).await).or_insert(name);
        if channels.len() == 3 {
            break;
        }
    }
    channels.into_values().collect()
}

/// Injects a fault to where the first channel is; returns what proves that it happened.
async fn inject(fault: Fault, cluster: &mut RedisCluster, channels: &[String]) -> String {
    let key = &channels[0];
    let before = cluster.primary_of(key).await;
    match fault {
        Fault::Death => {
            cluster.kill_primary_of(key).await;
            eventually("another owner", async || (cluster.primary_of(key).await != before).then_some(()))
                .await;
        }
        Fault::Failover => drop(cluster.failover_of(key).await),
        Fault::Move => {
            let to = cluster.primary_of(&channels[1]).await;
            let to = if to == before { cluster.primary_of(&channels[2]).await } else { to };
            cluster.move_slot(cluster.slot_of(key).await, before, to).await;
        }
    }
    let after = cluster.primary_of(key).await;
    assert_ne!(after, before, "the channel changed hands");
    format!("{fault:?}: {key} from node {before} to {after}")
}

/// Publishes to a channel all the time until `done`; returns the longest time that one took.
async fn slowest_publish(
    fleet: &Fleet,
    channel: &str,
    done: impl Future<Output = String>,
) -> (Duration, String) {
    let mut slowest = Duration::ZERO;
    let mut done = Box::pin(done);
    loop {
        for instance in &fleet.instances {
            let begun = Instant::now();
            let path = format!("/v1/publish/{channel}");
            let answer = Request::new(instance.address, "POST", &path).body("\"undisturbed\"").send().await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            slowest = slowest.max(begun.elapsed());
        }
        if let Some(proof) = (&mut done).now_or_never() {
            return (slowest, proof);
        }
        tokio::select! {
            proof = &mut done => return (slowest, proof),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
}

#[tokio::test]
async fn what_changes_hands_is_followed_and_what_does_not_is_not_disturbed() {
    let mut cluster = RedisCluster::start(PARTLY).await;
    let fleet = Fleet::start(3, &Link::Direct(cluster.url()), "", "").await;
    let channels = channel_each(&cluster).await;
    let plan =
        TrafficPlan { addresses: fleet.addresses(), channels: channels.clone(), ..TrafficPlan::default() };
    let traffic = Traffic::start(plan).await;
    let mut proofs = Vec::new();
    let count = times(1, 4);
    for _ in 0..count {
        for fault in [Fault::Move, Fault::Failover, Fault::Death] {
            some_traffic(&traffic, 60).await;
            traffic.note(&format!("{fault:?}"));
            // Of another primary than the one that is touched, in another channel than the traffic's.
            let held_elsewhere = undisturbed_channel(&cluster, &channels).await;
            let (slowest, proof) =
                slowest_publish(&fleet, &held_elsewhere, inject(fault, &mut cluster, &channels)).await;
            proofs.push(format!("{proof}; meanwhile elsewhere at most {slowest:?}"));
            assert!(slowest < UNDISTURBED_MAX, "{proofs:?}");
            for node in &mut cluster.nodes {
                if !node.is_alive() {
                    assert!(node.start_again().await);
                }
            }
            cluster.wait_until_whole().await;
        }
    }
    some_traffic(&traffic, 60).await;
    let outcome = traffic.finish().await;
    report("slots change hands", 3 * count, &proofs, &outcome);
    outcome.demand_promises_kept();
    assert!(outcome.continued > 0, "{outcome}");
}

/// A channel that is held by a primary that neither gives nor gets anything.
async fn undisturbed_channel(cluster: &RedisCluster, channels: &[String]) -> String {
    let mut touched = vec![cluster.primary_of(&channels[0]).await, cluster.primary_of(&channels[1]).await];
    touched.dedup();
    for number in 0.. {
        let name = format!("elsewhere{number}");
        if !touched.contains(&cluster.primary_of(&name).await) {
            return name;
        }
    }
    unreachable!("some primary is not touched")
}

#[tokio::test]
async fn many_channels_of_one_connection_are_all_found_again() {
    const CHANNELS: usize = 120;
    let mut cluster = RedisCluster::start(PARTLY).await;
    let fleet = Fleet::start(2, &Link::Direct(cluster.url()), "", "").await;
    let [reader, writer] = [fleet.instances[0].address, fleet.instances[1].address];
    let mut socket = WebSocket::connect(reader, &[]).await;
    socket.expect("hello").await;
    let names: Vec<String> = (0..CHANNELS).map(|number| format!("many:{number}")).collect();
    for name in &names {
        socket.subscribe(name).await;
    }
    let before = cluster.kill_primary_of(&names[0]).await;
    eventually("another owner", async || (cluster.primary_of(&names[0]).await != before).then_some(())).await;
    for name in &names {
        let path = format!("/v1/publish/{name}");
        let publish = || Request::new(writer, "POST", &path).header("idempotency-key", name).body("1");
        eventually("a publish", async || (publish().send().await.status == 200).then_some(())).await;
    }
    let mut missing: std::collections::BTreeSet<&str> = names.iter().map(String::as_str).collect();
    within("all of them", async {
        while !missing.is_empty() {
            let frame = socket.next_frame().await;
            if let Some(name) = frame["batch"]["channel"].as_str().or(frame["gap"]["channel"].as_str()) {
                missing.remove(name);
            }
        }
    })
    .await;
    assert!(socket.ask(json!({"ping": {"c": 1}})).await.get("pong").is_some());
}

/// What a publish needs is where it was; of what it does not need, nothing is asked.
#[tokio::test]
async fn while_a_slot_moves_publishes_go_on_whose_keys_have_not_moved() {
    let cluster = RedisCluster::start(PARTLY).await;
    let fleet = Fleet::start(1, &Link::Direct(cluster.url()), "", "").await;
    let address = fleet.instances[0].address;
    let publish = async |key: Option<&str>| {
        let request = Request::new(address, "POST", "/v1/publish/moves").body("1");
        let request = match key {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        };
        request.send().await
    };
    for number in 0..20 {
        assert_eq!(publish(Some(&number.to_string())).await.status, 200);
    }
    let (slot, from) = (cluster.slot_of("moves").await, cluster.primary_of("moves").await);
    let to = (from + 1) % 3;
    cluster.begin_move(slot, from, to).await;
    for _ in 0..20 {
        let begun = Instant::now();
        let answer = publish(None).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(begun.elapsed() < UNDISTURBED_MAX, "{:?}", begun.elapsed());
    }
    // A key that was used before the slot was opened is there, too.
    assert_eq!(publish(Some("7")).await.status, 200);
    cluster.move_keys(slot, from, to, usize::MAX).await;
    cluster.end_move(slot, from, to).await;
    let last = eventually("a publish at the new place", async || {
        let answer = publish(Some("last")).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(last.json()["position"]["offset"], 41, "20 with keys, 20 without, and this one");
}
