//! The way to Redis breaks, and what comes by it is not what was sent.

use std::time::{Duration, Instant};

use tidings_protocol::{Payload, encode_stored};

use super::{HEALED_WITHIN, NOTICED_WITHIN, Probe, Scene, Watchers, rounds};
use crate::support::{Link, Outcome, RedisServer, Request, Way, WebSocket, eventually};

/// Nobody was told of anything, and everybody saw all of it once.
fn demand_nothing_noticed(outcome: &Outcome) {
    assert!(outcome.gaps.is_empty() && outcome.continued == 0 && outcome.unknown == 0, "{outcome}");
    assert!(outcome.duplicates == 0 && outcome.reconnects == 0, "{outcome}");
    assert_eq!(outcome.delivered, 9 * outcome.acked, "everybody saw all, once: {outcome}");
}

#[tokio::test]
async fn subscribers_that_are_cut_ten_times_a_second_lose_nothing() {
    let mut scene = Scene::start("CLIENT KILL TYPE pubsub, ten times a second").await;
    for _ in 0..rounds() {
        let before = scene.interruptions("link_lost").await;
        scene.inject();
        let (mut killed, mut ticks) = (0, tokio::time::interval(Duration::from_millis(100)));
        for _ in 0..20 {
            ticks.tick().await;
            killed += scene.redis.kill_pubsub().await;
        }
        assert!(killed >= 9, "{killed} connections were killed");
        eventually("new links", async || {
            (scene.interruptions("link_lost").await >= before + 9.0).then_some(())
        })
        .await;
        scene.prove("three links each were lost at least");
        scene.flow().await;
    }
    demand_nothing_noticed(&scene.end().await);
}

#[tokio::test]
async fn a_cut_between_an_instance_and_redis_loses_nothing() {
    let mut scene = Scene::proxied("cut").await;
    for round in 0..rounds() * 3 {
        scene.inject();
        let proxy = scene.instance(round % 3).proxy.as_ref().expect("it is behind one");
        let (accepted, cut) = (proxy.accepted(), proxy.cut_all());
        assert!(cut >= 2, "{cut} connections were cut");
        eventually("new connections", async || (proxy.accepted() >= accepted + 2).then_some(())).await;
        scene.prove("two connections were cut, and two are new");
        scene.flow().await;
    }
    demand_nothing_noticed(&scene.end().await);
}

#[tokio::test]
async fn an_instance_that_redis_is_silent_to_says_so_and_loses_nothing() {
    let mut scene = Scene::proxied("stall").await;
    for round in 0..rounds() * 2 {
        let address = scene.instance(round % 3).address;
        let mut watchers = Watchers::at(&[address]).await;
        scene.inject();
        let proxy = scene.instance(round % 3).proxy.as_ref().expect("it is behind one");
        let before = proxy.bytes(Way::Down);
        proxy.stall(Way::Down);
        let told = watchers.told("degraded").await;
        assert!(told <= NOTICED_WITHIN, "told of the outage after {told:?}");
        // What is on its way comes late, or never.
        if round % 2 == 1 {
            proxy.cut_all();
        }
        assert!(proxy.bytes(Way::Down) < before + 100_000, "it was silent");
        proxy.flow();
        let back = Instant::now();
        watchers.told("restored").await;
        assert!(back.elapsed() <= HEALED_WITHIN, "back after {:?}", back.elapsed());
        scene.prove("watchers were told");
        scene.flow().await;
    }
    demand_nothing_noticed(&scene.end().await);
}

#[tokio::test]
async fn a_slow_way_is_slow_and_no_outage() {
    let mut scene = Scene::proxied("200 ms of delay").await;
    let mut probe = Probe::new("probe", &scene.fleet);
    for _ in 0..rounds() {
        scene.inject();
        for instance in &scene.fleet.instances {
            let proxy = instance.proxy.as_ref().expect("it is behind one");
            proxy.delay(Way::Down, Duration::from_millis(200));
        }
        for (key, answer, took) in probe.publish().await {
            assert_eq!(answer.status, 200, "{key}: {}", answer.text());
            assert!(took >= Duration::from_millis(200), "{took:?}");
        }
        scene.prove("publishes took 200 ms");
        scene.flow_for(Duration::from_secs(2)).await;
        for instance in &scene.fleet.instances {
            assert!(!instance.process().stderr().contains("degraded"), "{}", instance.process().stderr());
            instance.proxy.as_ref().expect("it is behind one").flow();
        }
        scene.flow().await;
    }
    assert_eq!(scene.interruptions("link_lost").await, 0.0, "no link was given up");
    demand_nothing_noticed(&scene.end().await);
}

#[tokio::test]
async fn what_somebody_else_announces_costs_its_channel_a_look_and_nothing_more() {
    /// A foreign announcement of a megabyte, among short ones.
    const LARGE: usize = 1 << 20;
    /// An idle instance needs less than a tenth of it.
    const BYTES_MAX: u64 = 300 << 20;
    let mut scene = Scene::start("garbage among the announcements").await;
    for _ in 0..rounds() {
        let before = scene.interruptions("garbage").await;
        scene.inject();
        let large = "x".repeat(LARGE);
        for word in ["", "hello", "1-a.7 ", "1-a.7 12 {", "- x y", &large] {
            for channel in ["a", "b", "c"] {
                let heard = scene.redis.command(&["PUBLISH", &format!("tidings:{{{channel}}}"), word]).await;
                assert!(heard.integer() <= 3, "{heard:?}");
            }
            scene.redis.command(&["PUBLISH", "tidings:$cluster", word]).await;
            scene.flow().await;
        }
        let garbage = scene.interruptions("garbage").await - before;
        assert!(garbage >= 3.0, "{garbage} pieces were seen");
        scene.prove("every instance counted garbage");
    }
    assert_eq!(scene.interruptions("link_lost").await, 0.0, "no link was given up");
    for instance in &scene.fleet.instances {
        let bytes = instance.process().resident_bytes();
        assert!(bytes < BYTES_MAX, "{bytes} bytes are in memory");
    }
    demand_nothing_noticed(&scene.end().await);
}

#[tokio::test]
async fn a_subscriber_that_redis_closes_because_it_lags_has_all_or_is_told() {
    /// 100 of 300 KiB are more than the buffers of two sockets (6 and 4 MiB) and what Redis keeps for a subscriber.
    const FLOOD: usize = 100;
    let redis = RedisServer::start("client-output-buffer-limit pubsub 1mb 512kb 1\n").await;
    let link = Link::Direct(redis.url());
    let mut scene = Scene::of("closed at the output limit", redis, &link, "").await;
    for _ in 0..rounds() {
        let mut socket = WebSocket::connect(scene.instance(0).address, &[]).await;
        socket.expect("hello").await;
        let mut at = socket.subscribe("flood").await["position"]["offset"].as_u64().expect("a position");
        let (before, links) = (subscribers(&scene).await, scene.interruptions("link_lost").await);
        scene.inject();
        scene.instance(0).process().pause().await;
        let body = "x".repeat(300 << 10);
        for _ in 0..FLOOD {
            let request = Request::new(scene.instance(1).address, "POST", "/v1/publish/flood");
            assert_eq!(request.header("content-type", "text/plain").body(&body).send().await.status, 200);
        }
        eventually("Redis to close it", async || (subscribers(&scene).await < before).then_some(())).await;
        scene.instance(0).process().resume();
        let head = at + FLOOD as u64;
        while at < head {
            let frame = socket.next_frame().await;
            match (frame.get("batch"), frame.get("gap")) {
                (Some(batch), _) => {
                    assert_eq!(batch["first"], at + 1, "a hole that nobody tells of");
                    at = batch["last"].as_u64().expect("a number");
                }
                (_, Some(gap)) => at = gap["position"]["offset"].as_u64().expect("a number"),
                (None, None) => {}
            }
        }
        eventually("a new link", async || (scene.interruptions("link_lost").await > links).then_some(()))
            .await;
        scene.prove("Redis closed a connection of a stopped process, which then counted a lost link");
        scene.flow().await;
    }
    let outcome = scene.end().await;
    assert!(outcome.gaps.is_empty() && outcome.unknown == 0, "{outcome}");
}

/// How many connections Redis announces to.
async fn subscribers(scene: &Scene) -> usize {
    let list = scene.redis.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).await;
    list.text().lines().filter(|line| !line.is_empty()).count()
}

#[tokio::test]
async fn announcements_that_an_instance_cannot_take_in_are_read_from_history() {
    /// Announcements of something long known, many times as many as may wait for an instance here.
    const BURST: &str = "5000";
    const LIMITS: &str = "[limits]\nbroker_announcements_max = 16\n";
    const SCRIPT: &str = "local message = ''
        for byte in string.gmatch(ARGV[2], '%d+') do message = message .. string.char(byte) end
        for _ = 1, ARGV[3] do redis.call('PUBLISH', ARGV[1], message) end";
    let redis = RedisServer::start("").await;
    let link = Link::Direct(redis.url());
    let mut scene = Scene::of("a burst of announcements", redis, &link, LIMITS).await;
    let mut probe = Probe::new("burst", &scene.fleet);
    let mut sockets = Vec::new();
    for instance in &scene.fleet.instances {
        let mut socket = WebSocket::connect(instance.address, &[]).await;
        socket.expect("hello").await;
        socket.subscribe("burst").await;
        sockets.push(socket);
    }
    let position = probe.publish().await[0].1.json()["position"].clone();
    let epoch = position["epoch"].as_str().expect("an epoch");
    let stored = encode_stored(&Payload::text(b"known").expect("text"), None, None);
    let known = format!("{:?}", [format!("{epoch}.1 1 ").as_bytes(), &stored].concat());
    for _ in 0..rounds() {
        let before = scene.interruptions("lag").await;
        scene.inject();
        scene.redis.command(&["EVAL", SCRIPT, "0", "tidings:{burst}", &known, BURST]).await;
        eventually("announcements to be dropped", async || {
            (scene.interruptions("lag").await > before).then_some(())
        })
        .await;
        scene.prove("instances counted a lag");
        probe.stored().await;
        scene.flow().await;
    }
    let count = 3 * (rounds() + 1);
    for socket in &mut sockets {
        socket.data("burst", count).await;
    }
    demand_nothing_noticed(&scene.end().await);
}
