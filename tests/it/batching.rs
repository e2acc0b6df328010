//! Batching: what leaves at once, what waits for its window, and how few writes that takes.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::TestServer;

/// Long enough that a busy machine does not blur it.
const WINDOW: Duration = Duration::from_millis(1_000);

async fn server(namespace: &str) -> TestServer {
    TestServer::dev(&format!("[namespace.default]\nbatch_window = \"1s\"\n{namespace}")).await
}

#[tokio::test]
async fn the_first_after_a_quiet_window_leaves_at_once_and_the_rest_waits_for_its_end() {
    let server = server("").await;
    let mut socket = server.subscriber("c").await;
    let begun = Instant::now();
    server.publish("c", "1").await;
    assert_eq!(socket.expect("batch").await["last"], 1);
    assert!(begun.elapsed() < WINDOW / 2, "the leading edge came after {:?}", begun.elapsed());
    for n in 2..=5 {
        server.publish("c", &n.to_string()).await;
    }
    let mut batches = vec![socket.expect("batch").await];
    while batches.last().unwrap()["last"] != 5 {
        batches.push(socket.expect("batch").await);
    }
    // The window's end may fall between two of them.
    assert!(batches.len() <= 2, "{batches:?}");
    assert!(begun.elapsed() < WINDOW * 3, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_strict_window_holds_the_first_back_too() {
    let server = server("leading = false").await;
    let mut socket = server.subscriber("c").await;
    let mut waits = Vec::new();
    for n in 0..3 {
        let begun = Instant::now();
        server.publish("c", &n.to_string()).await;
        socket.expect("batch").await;
        waits.push(begun.elapsed());
    }
    // Only the first can be published just before a window's end; each other begins with a fresh window.
    assert!(waits[1..].iter().all(|wait| *wait > WINDOW / 2), "{waits:?}");
    assert!(waits.iter().all(|wait| *wait < WINDOW * 2), "{waits:?}");
}

#[tokio::test]
async fn immediate_waits_for_nothing_and_joins_nothing() {
    let server = server("batch_mode = \"immediate\"").await;
    let mut socket = server.subscriber("c").await;
    let begun = Instant::now();
    for n in 1..=20 {
        server.publish("c", &n.to_string()).await;
    }
    for n in 1..=20 {
        let batch = socket.expect("batch").await;
        assert_eq!((&batch["first"], &batch["last"]), (&json!(n), &json!(n)));
    }
    assert!(begun.elapsed() < WINDOW * 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn namespaces_batch_each_in_its_own_way() {
    let server =
        server("[namespace.fast]\nbatch_mode = \"immediate\"\n[namespace.slow]\nleading = false").await;
    let mut socket = server.subscriber("slow:1").await;
    socket.subscribe("fast:1").await;
    // A window begins here, so that the next publication does not fall on its end.
    server.publish("slow:1", "0").await;
    socket.expect("batch").await;
    server.publish("slow:1", "1").await;
    server.publish("fast:1", "2").await;
    assert_eq!(socket.expect("batch").await["channel"], "fast:1");
    assert_eq!(socket.expect("batch").await["channel"], "slow:1");
}

#[tokio::test]
async fn many_channels_take_one_leading_and_one_tick_write_per_window() {
    const CHANNELS: usize = 100;
    let server = server("").await;
    let mut stream = {
        let query: Vec<String> = (0..CHANNELS).map(|n| format!("channel=c{n}")).collect();
        server.sse(&query.join("&")).await
    };
    stream.expect("hello").await;
    let mut cursors = vec![stream.cursor()];
    let begun = Instant::now();
    let items: Vec<String> =
        (0..CHANNELS).map(|n| json!({"channel": format!("c{n}"), "data": n}).to_string()).collect();
    assert_eq!(server.post("/v1/batch", items.join("\n")).send().await.status, 200);
    for _ in 0..CHANNELS {
        stream.expect("message").await;
        // The last event of each write has a cursor of its own.
        if Some(&stream.last_event_id) != cursors.last() {
            cursors.push(stream.last_event_id.clone());
        }
    }
    let windows = begun.elapsed().as_millis().div_ceil(WINDOW.as_millis()) as usize + 1;
    let writes = cursors.len();
    assert!(writes <= 2 * windows, "{CHANNELS} channels took {writes} writes in {windows} windows");
}

#[tokio::test]
async fn a_full_batch_does_not_wait_for_its_window() {
    let toml =
        "[limits]\nbatch_publications_max = 10\n[namespace.default]\nbatch_window = \"10s\"\nleading = false";
    let server = TestServer::dev(toml).await;
    let mut socket = server.subscriber("c").await;
    for n in 1..=25 {
        server.publish("c", &n.to_string()).await;
    }
    let mut sizes = Vec::new();
    for _ in 0..2 {
        sizes.push(socket.expect("batch").await["publications"].as_array().unwrap().len());
    }
    assert!(sizes.iter().all(|size| *size <= 10), "{sizes:?}");
}

#[tokio::test]
async fn all_subscribers_share_the_bytes_of_a_batch() {
    let server = TestServer::dev("").await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(server.subscriber("c").await);
    }
    server.publish("c", "\"shared\"").await;
    let first = sockets[0].expect("batch").await;
    for socket in &mut sockets[1..] {
        assert_eq!(socket.expect("batch").await, first);
    }
    assert_eq!(server.metric("tidings_batches_total", "").await, 1.0);
    assert_eq!(server.metric("tidings_messages_delivered_total", "WebSocket").await, 20.0);
}
