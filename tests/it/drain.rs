//! The orderly end of the real process.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    EventStream, FaultProxy, Process, RedisServer, Request, TestServer, Way, WebSocket, eventually,
    free_port, within,
};

const QUICK: &str = "[server]\ndrain_delay = \"500ms\"\ndrain_spread = \"500ms\"\n";

fn start(toml: &str) -> Process {
    Process::start(&["dev", "--listen", "127.0.0.1:0"], toml)
}

#[tokio::test]
async fn a_drain_under_load_loses_nothing_and_exits_with_0() {
    let process = start(QUICK);
    let address = process.address().await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let mut socket = WebSocket::connect(address, &[]).await;
        socket.expect("hello").await;
        socket.subscribe("c").await;
        sockets.push(socket);
    }
    let mut stream = EventStream::open(Request::new(address, "GET", "/sse?channel=c")).await;
    stream.expect("hello").await;
    let publisher = tokio::spawn(async move {
        let mut accepted = 0;
        // Until the first refusal; whoever comes later finds nobody.
        loop {
            let answer =
                Request::new(address, "POST", "/v1/publish/c").body(accepted.to_string()).send().await;
            if answer.status != 200 {
                assert_eq!(answer.code(), "draining");
                return accepted;
            }
            accepted += 1;
        }
    });
    sockets[0].expect("batch").await;
    process.signal(Signal::TERM);
    eventually("readiness to end", async || {
        let answer = Request::new(address, "GET", "/readyz").send().await;
        (answer.status == 503).then(|| assert_eq!(answer.code(), "draining"))
    })
    .await;
    assert_eq!(Request::new(address, "GET", "/livez").send().await.status, 200, "it lives until it ends");
    assert_eq!(Request::new(address, "GET", "/health").send().await.status, 503);
    let mut late = EventStream::open(Request::new(address, "GET", "/sse?channel=c")).await;
    late.expect("hello").await;
    let accepted = within("the last publish", publisher).await.unwrap();
    for (index, socket) in sockets.iter_mut().enumerate() {
        let (frames, closed) = socket.closed().await;
        assert_eq!((closed.code, &closed.reason[..8]), (1012, "draining"));
        if index == 0 {
            let mut later = EventStream::open(Request::new(address, "GET", "/sse?channel=c")).await;
            later.is_turned_away().await;
        }
        let disconnect = &frames.last().unwrap()["disconnect"];
        assert_eq!((&disconnect["code"], &disconnect["reconnect"]), (&json!(1012), &json!(true)));
        assert!(disconnect["after_ms"].as_u64() <= Some(2_000), "{disconnect}");
        let last = frames.iter().rev().find_map(|frame| frame["batch"]["last"].as_u64());
        assert_eq!(last, Some(accepted), "socket {index}: all that was accepted was delivered");
    }
    late.rest().await;
    assert!(late.retry.is_some(), "whoever came while balancers had not noticed leaves with the others");
    let events = stream.rest().await;
    let [.., last, disconnect] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&last.json()["offset"], disconnect.name.as_str()), (&json!(accepted), "disconnect"));
    assert!(stream.retry.is_some());
    let (status, said) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_accepted_in_the_last_moment_is_delivered() {
    for _ in 0..20 {
        let server = TestServer::dev("").await;
        let mut socket = server.subscriber("c").await;
        let mut publishers = Vec::new();
        for _ in 0..4 {
            publishers.push(tokio::spawn(publish_to_the_end(server.websocket().await)));
        }
        socket.expect("batch").await;
        let reader = async move { socket.closed().await };
        let (_, (frames, _)) = tokio::join!(server.drain(), reader);
        let accepted =
            futures::future::join_all(publishers).await.into_iter().map(Result::unwrap).max().flatten();
        let delivered = frames.iter().rev().find_map(|frame| frame["batch"]["last"].as_u64());
        assert!(delivered >= accepted, "{delivered:?} of {accepted:?}");
    }
}

/// Publishes until the connection ends; returns the last offset that was acknowledged.
async fn publish_to_the_end(mut socket: WebSocket) -> Option<u64> {
    let mut last = None;
    loop {
        for id in 0..20 {
            if !socket.try_send(json!({"id": id, "publish": {"channel": "c", "data": 1}})).await {
                return last;
            }
        }
        for _ in 0..20 {
            match socket.next_or_closed().await {
                Ok(frame) => last = last.max(frame["published"]["position"]["offset"].as_u64()),
                Err(_) => return last,
            }
        }
    }
}

#[tokio::test]
async fn comebacks_are_spread() {
    let process = start(QUICK);
    let address = process.address().await;
    let mut sockets = Vec::new();
    for _ in 0..50 {
        let mut socket = WebSocket::connect(address, &[]).await;
        socket.expect("hello").await;
        sockets.push(socket);
    }
    process.signal(Signal::INT);
    let mut pauses: Vec<u64> = Vec::new();
    for socket in &mut sockets {
        let (frames, _) = socket.closed().await;
        pauses.extend(frames.last().and_then(|frame: &Value| frame["disconnect"]["after_ms"].as_u64()));
    }
    pauses.sort_unstable();
    assert_eq!(pauses.len(), 50);
    let widest = pauses.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(widest < Some(300), "no two neighbours are far apart: {pauses:?}");
    assert_eq!(process.ended().await.0.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let process = start("[server]\ndrain_delay = \"1h\"");
    let address = process.address().await;
    let mut socket = WebSocket::connect(address, &[]).await;
    socket.expect("hello").await;
    process.signal(Signal::TERM);
    eventually("readiness to end", async || {
        (Request::new(address, "GET", "/readyz").send().await.status == 503).then_some(())
    })
    .await;
    process.signal(Signal::TERM);
    let (status, said) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{said}");
}

#[tokio::test]
async fn peers_that_do_not_take_part_cannot_hold_up_the_end() {
    use tokio::io::AsyncWriteExt;
    let process = start(
        "[server]\ndrain_delay = \"0s\"\ndrain_spread = \"0s\"\nheader_timeout = \"500ms\"\ntimeout = \"2s\"\nping_interval = \"1s\"",
    );
    let address = process.address().await;
    let silent = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut half = tokio::net::TcpStream::connect(address).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nHost").await.unwrap();
    let mut body = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!("POST /v1/publish/c HTTP/1.1\r\nhost: {address}\r\ncontent-length: 10\r\n\r\n12");
    body.write_all(head.as_bytes()).await.unwrap();
    let deaf = crate::support::RawWebSocket::handshake(address, Some(4_096), &[]).await;
    let begun = std::time::Instant::now();
    process.signal(Signal::TERM);
    let (status, said) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}: {said}", begun.elapsed());
    drop((silent, half, body, deaf));
}

#[tokio::test]
async fn few_connections_leave_evenly_over_the_whole_spread() {
    let process = start("[server]\ndrain_delay = \"0s\"\ndrain_spread = \"1s\"\n");
    let address = process.address().await;
    let mut sockets = Vec::new();
    for _ in 0..5 {
        let mut socket = WebSocket::connect(address, &[]).await;
        socket.expect("hello").await;
        sockets.push(socket);
    }
    let begun = std::time::Instant::now();
    process.signal(Signal::TERM);
    let mut ended = Vec::new();
    for socket in &mut sockets {
        socket.closed().await;
        ended.push(begun.elapsed());
    }
    assert!(ended.iter().max() >= Some(&Duration::from_millis(700)), "the last leaves late: {ended:?}");
    assert_eq!(process.ended().await.0.code(), Some(0));
}

#[tokio::test]
async fn a_body_that_does_not_move_holds_up_nothing() {
    use tokio::io::AsyncWriteExt;
    let process = start("[server]\ndrain_delay = \"0s\"\ndrain_spread = \"0s\"\n");
    let address = process.address().await;
    let mut body = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!("POST /v1/publish/c HTTP/1.1\r\nhost: {address}\r\ncontent-length: 10\r\n\r\n12");
    body.write_all(head.as_bytes()).await.unwrap();
    process.signal(Signal::TERM);
    let (status, said) = process.ended().await;
    assert!(status.code() == Some(0) && said.contains("drained"), "{said}");
    assert!(!said.contains("still open"), "{said}");
}

/// Without the wait for what is under way, the publish would be stored after its subscribers are gone, or cut off.
#[tokio::test]
async fn a_publish_under_way_is_answered_and_delivered_before_connections_close() {
    let redis = RedisServer::start("").await;
    let proxy = FaultProxy::start(redis.address()).await;
    let toml = format!("[redis]\nurl = \"{}\"\n[server]\ndrain_delay = \"0s\"\n", proxy.url());
    let process = Process::start(&["dev", "--listen", "127.0.0.1:0"], &toml);
    let address = process.address().await;
    let mut socket = WebSocket::connect(address, &[]).await;
    socket.expect("hello").await;
    socket.subscribe("c").await;
    proxy.delay(Way::Up, Duration::from_millis(600));
    let before = proxy.bytes(Way::Up);
    let publish = tokio::spawn(Request::new(address, "POST", "/v1/publish/c").body("1").send());
    eventually("the publish to be on its way", async || (proxy.bytes(Way::Up) > before + 100).then_some(()))
        .await;
    process.signal(Signal::TERM);
    let answer = within("an answer", publish).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let (frames, closed) = socket.closed().await;
    assert_eq!(closed.code, 1012);
    assert!(frames.iter().any(|frame| frame["batch"]["publications"][0]["data"] == 1), "{frames:?}");
    assert_eq!(process.ended().await.0.code(), Some(0));
}

#[tokio::test]
async fn a_server_that_has_not_reached_redis_answers_probes_and_refuses_the_rest() {
    let redis = RedisServer::start("").await;
    let proxy = FaultProxy::start(redis.address()).await;
    proxy.delay(Way::Down, Duration::from_millis(700));
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let address = listen.parse().unwrap();
    let toml = format!("[redis]\nurl = \"{}\"\n", proxy.url());
    let process = Process::start(&["dev", "--listen", &listen], &toml);
    let ask = async |path: &str| Request::new(address, "GET", path).try_send().await.ok();
    eventually("the port to answer", async || ask("/livez").await.filter(|answer| answer.status == 200))
        .await;
    for path in ["/readyz", "/v1/channels"] {
        let answer = ask(path).await.expect("an answer while it starts");
        assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"), "{path}");
    }
    proxy.flow();
    eventually("readiness", async || ask("/readyz").await.filter(|answer| answer.status == 200)).await;
    drop(process);
}
