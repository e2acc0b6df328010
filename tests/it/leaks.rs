//! Whoever comes and goes leaves nothing behind.

mod vanishing;

use futures::StreamExt;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Process, RawFrame, RawWebSocket, Request, TestServer, eventually, sized};

/// One visitor of each kind in turn; all of them have subscribed to `c` before they leave, if they can.
async fn visit(server: &TestServer, kind: usize) {
    match kind % 8 {
        0 => server.subscriber("c").await.close().await,
        1 => drop(server.subscriber("c").await),
        2 => {
            server.sse("channel=c&channel=d").await.next().await;
        }
        3 => {
            let mut socket = server.subscriber("c").await;
            socket.ask(json!({"unsubscribe": {"channel": "c"}})).await;
            socket.send(json!({"subscribe": {"channel": "c"}})).await;
        }
        // Gone before it was greeted.
        4 => drop(RawWebSocket::handshake(server.address, None, &[]).await),
        5 => {
            let mut socket = RawWebSocket::connect(server.address).await;
            socket.send(&RawFrame::text(r#"{"subscribe":{"channel":"c"}}"#)).await;
            socket.send_bytes(&[0x81, 2, b'{', b'}']).await;
            socket.close_codes().await;
        }
        // Half a request, half a body.
        6 => {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(b"POST /v1/publish/c HTTP/1.1\r\nhost: localhost\r\ncontent-le").await.unwrap();
        }
        _ => {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            let head = b"POST /v1/publish/c HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n1";
            stream.write_all(head).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_thousand_visitors_leave_no_connection_and_no_subscriber() {
    let server = TestServer::dev("").await;
    let mut stays = server.subscriber("c").await;
    for round in 0..25 {
        futures::future::join_all((0..40).map(|n| visit(&server, round + n))).await;
        // Some are told something while they leave.
        server.publish("c", &round.to_string()).await;
    }
    server.metric_reaches("tidings_connections", "", 1.0).await;
    eventually("the subscribers to be gone", async || {
        let gone = server.subscribers("c").await == 1 && server.subscribers("d").await == 0;
        gone.then_some(())
    })
    .await;
    let expected: Vec<_> = (0..25).map(|round| json!(round)).collect();
    assert_eq!(stays.data("c", 25).await, expected, "who stays got everything");
    assert_eq!(server.metric("tidings_panics_total", "").await, 0.0);
    drop(stays);
    server.metric_reaches("tidings_connections", "", 0.0).await;
}

/// Descriptors and tasks of the process.
async fn descriptors(id: u32) -> usize {
    std::fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count)
}

#[tokio::test]
async fn a_thousand_connections_give_their_descriptors_back() {
    let process = Process::start(&["dev", "--listen", "127.0.0.1:0"], "");
    let address = process.address().await;
    Request::new(address, "GET", "/livez").send().await;
    let before = descriptors(process.id()).await;
    for _ in 0..20 {
        let mut held = Vec::new();
        for _ in 0..50 {
            held.push(RawWebSocket::connect(address).await);
        }
        drop(held);
    }
    eventually("the descriptors to come back", async || {
        (descriptors(process.id()).await <= before).then_some(())
    })
    .await;
}

/// Comes, subscribes and goes, so often, fifty at a time.
async fn come_and_go(address: std::net::SocketAddr, count: usize) {
    let visit = |n: usize| async move {
        let mut socket = RawWebSocket::connect(address).await;
        let subscribe = json!({"id": 1, "subscribe": {"channel": format!("c{}", n % 100)}});
        socket.send(&RawFrame::text(&subscribe.to_string())).await;
        if n.is_multiple_of(2) {
            socket.frame().await;
        }
    };
    futures::stream::iter(0..count).for_each_concurrent(50, visit).await;
}

#[tokio::test]
async fn whoever_comes_and_goes_leaves_no_memory_behind() {
    let process = Process::start(&["dev", "--listen", "127.0.0.1:0"], "");
    let address = process.address().await;
    let gone = async || {
        eventually("all to be gone", async || {
            (process.metric("tidings_connections", "").await == 0.0).then_some(())
        })
        .await;
        process.resident_bytes()
    };
    come_and_go(address, sized(20_000, 1_000)).await;
    let warm = gone().await;
    come_and_go(address, sized(200_000, 3_000)).await;
    let after = gone().await;
    println!("{} MiB before, {} MiB after", warm >> 20, after >> 20);
    assert!(after < warm + (4 << 20), "{after} bytes, {warm} after the first");
}

#[tokio::test]
async fn whoever_comes_and_goes_leaves_no_task_behind() {
    let server = TestServer::dev("").await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    come_and_go(server.address, 100).await;
    let ended = async || eventually("tasks to end", async || (server.tasks() == 0).then_some(())).await;
    ended().await;
    let before = tasks();
    come_and_go(server.address, 2_000).await;
    ended().await;
    eventually("as many tasks as before", async || (tasks() <= before).then_some(())).await;
}
