//! Consumers that do not keep up: nobody else notices, memory stays bounded, and nothing is lost without a word.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::support::{EventStream, RawFrame, RawWebSocket, Request, TestServer};

/// More than sockets and mailboxes hold together.
const FLOOD: usize = 300;

/// One publication of the flood.
fn padded(n: usize) -> String {
    json!({"n": n, "padding": "x".repeat(10_000)}).to_string()
}

async fn flood(server: &TestServer, channel: &str) {
    for n in 1..=FLOOD {
        server.publish(channel, &padded(n)).await;
    }
}

/// A subscriber that reads nothing for now, with small buffers.
async fn stalled(server: &TestServer, channel: &str) -> RawWebSocket {
    let mut socket = RawWebSocket::handshake(server.address, Some(4_096), &[]).await;
    socket.send(&RawFrame::text(&json!({"id": 1, "subscribe": {"channel": channel}}).to_string())).await;
    while server.subscribers(channel).await == 0 {}
    for _ in 0..2 {
        socket.frame().await;
    }
    socket
}

const FAST: &str = "[namespace.default]\nbatch_window = \"10ms\"\nhistory_bytes = \"100MiB\"\n";

#[tokio::test]
async fn who_fell_behind_reads_the_rest_from_history() {
    let server = TestServer::dev(FAST).await;
    let mut slow = stalled(&server, "c").await;
    flood(&server, "c").await;
    let mut next = 1;
    while next <= FLOOD as u64 {
        let frame = slow.frame().await.expect("the connection stays");
        if frame.first != 0x81 {
            continue;
        }
        let frame: Value = serde_json::from_slice(&frame.payload).unwrap();
        let batch = &frame["batch"];
        assert_eq!(batch["first"], next, "no hole and no repetition");
        for publication in batch["publications"].as_array().unwrap() {
            assert_eq!(publication["data"]["n"], next);
            next += 1;
        }
    }
    assert!(server.metric("tidings_slow_consumers_total", "back_filled").await >= 1.0, "it did fall behind");
}

#[tokio::test]
async fn a_stream_that_fell_behind_reads_the_rest_from_history() {
    let server = TestServer::dev(FAST).await;
    let mut slow = server.sse("channel=c").await;
    slow.expect("hello").await;
    flood(&server, "c").await;
    for n in 1..=FLOOD {
        assert_eq!(slow.expect("message").await["data"]["n"], n);
    }
}

#[tokio::test]
async fn who_fell_behind_on_a_volatile_channel_is_told_of_a_gap() {
    let server = TestServer::dev(&format!("{FAST}history_size = 0")).await;
    let mut slow = stalled(&server, "c").await;
    flood(&server, "c").await;
    let mut last = 0;
    let mut skipped = false;
    let mut told = false;
    while last < FLOOD as u64 {
        let frame = slow.frame().await.expect("the connection stays");
        let frame: Value = serde_json::from_slice(&frame.payload).unwrap_or_default();
        if let Some(gap) = frame.get("gap") {
            assert_eq!((&gap["reason"], &gap["position"]), (&json!("overflow"), &Value::Null));
            told = true;
            server.publish("c", &padded(FLOOD)).await;
        }
        for publication in frame["batch"]["publications"].as_array().into_iter().flatten() {
            let n = publication["data"]["n"].as_u64().unwrap();
            skipped |= n != last + 1;
            assert!(told || !skipped, "{n} after {last} without a gap");
            last = n;
        }
    }
    assert!(told && skipped, "the flood was not large enough");
}

/// How long a publication takes to a neighbour: of a hundred, all but the slowest.
async fn p99_to(server: &TestServer, neighbour: &mut crate::support::WebSocket) -> Duration {
    let mut times = Vec::new();
    for n in 0..100 {
        let begun = Instant::now();
        server.publish("d", &n.to_string()).await;
        assert_eq!(neighbour.data("d", 1).await, [json!(n)]);
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times[98]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_a_byte_at_a_time_and_of_nothing_do_not_slow_down_their_neighbour() {
    let server = TestServer::dev(&FAST.replace("100MiB", "10MiB")).await;
    let mut neighbour = server.subscriber("d").await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(stalled(&server, "c").await);
    }
    // Half of them read a byte now and then; the window of the others is closed.
    let drip = tokio::spawn(async move {
        loop {
            for socket in slow.iter_mut().step_by(2) {
                socket.stream.read_u8().await.ok();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let (mut ratios, address) = (Vec::new(), server.address);
    // A machine with other work to do makes one round slow, not three.
    while ratios.len() < 3 && ratios.last().is_none_or(|ratio| *ratio > 2.0) {
        let alone = p99_to(&server, &mut neighbour).await;
        let flood = tokio::spawn(async move {
            loop {
                Request::new(address, "POST", "/v1/publish/c").body(padded(1)).send().await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let beside = p99_to(&server, &mut neighbour).await;
        flood.abort();
        ratios.push(beside.as_secs_f64() / alone.as_secs_f64());
    }
    assert!(ratios.last() <= Some(&2.0), "p99 beside slow readers against alone: {ratios:?}");
    drip.abort();
}

/// Floods until the server gives up on the reader.
async fn flood_until_closed(server: &TestServer, kind: &str) {
    while server.metric("tidings_connections", kind).await > 0.0 {
        let items = vec![json!({"channel": "c", "data": "x".repeat(100_000)}).to_string(); 20];
        server.post("/v1/batch", items.join("\n")).send().await;
    }
}

const IMPATIENT: &str = "[server]\nwrite_timeout = \"300ms\"\n[namespace.default]\nbatch_window = \"10ms\"";

#[tokio::test]
async fn a_reader_that_accepts_nothing_is_given_up_and_its_neighbour_is_not() {
    let server = TestServer::dev(IMPATIENT).await;
    let slow = stalled(&server, "c").await;
    let mut neighbour = server.subscriber("d").await;
    let watch = async {
        while server.metric("tidings_connections_closed_total", "slow_consumer").await == 0.0 {
            let items = vec![json!({"channel": "c", "data": "x".repeat(100_000)}).to_string(); 20];
            server.post("/v1/batch", items.join("\n")).send().await;
            server.publish("d", "1").await;
            assert_eq!(neighbour.data("d", 1).await, [json!(1)]);
        }
    };
    crate::support::within("the stalled reader to be given up", watch).await;
    assert_eq!(server.subscribers("c").await, 0);
    drop(slow);
}

#[tokio::test]
async fn a_stream_that_accepts_nothing_is_given_up_with_its_socket() {
    let toml = format!("{IMPATIENT}\n[limits]\nconnections_max = 5")
        .replace("[server]", "[server]\nping_interval = \"100ms\"\ntimeout = \"500ms\"");
    let server = TestServer::dev(&toml).await;
    let mut slow = server.sse("channel=c").await;
    slow.expect("hello").await;
    crate::support::within("the stream to be given up", flood_until_closed(&server, "Sse")).await;
    // The connection task must not keep the socket: the peer sees its end without reading what is buffered.
    crate::support::eventually("the socket to be closed", async || slow.is_reset().await.then_some(())).await;
}

#[tokio::test]
async fn an_answer_that_nobody_reads_does_not_hold_its_socket_for_ever() {
    let toml = "[server]\nping_interval = \"100ms\"\ntimeout = \"500ms\"\n[namespace.default]\nhistory_bytes = \"100MiB\"";
    let server = TestServer::dev(toml).await;
    let items = vec![json!({"channel": "c", "data": "x".repeat(100_000)}).to_string(); 9];
    server.post("/v1/batch", items.join("\n")).send().await;
    // Enough requests in one go that their answers fill every buffer.
    let mut stuck = EventStream::open(server.get("/v1/channels/c/history")).await;
    let request = server.get("/v1/channels/c/history").bytes();
    stuck.send(&request.repeat(20)).await;
    crate::support::eventually("the socket to be closed", async || stuck.is_reset().await.then_some(()))
        .await;
}
