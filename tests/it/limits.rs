//! Every bound of the configuration, from both sides.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{
    API_KEY, Answer, EventStream, RawFrame, RawWebSocket, TestServer, Token, WebSocket, auth_config, sized,
    within,
};

/// Sends bytes on a socket of its own and reads what comes until the server closes.
async fn exchange(server: &TestServer, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(bytes).await.ok();
    let mut answer = Vec::new();
    within("the server to close", stream.read_to_end(&mut answer)).await.ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn channels_per_connection() {
    let server = TestServer::dev("[limits]\nchannels_per_connection = 2").await;
    let mut socket = server.subscriber("a").await;
    socket.subscribe("b").await;
    let third = json!({"subscribe": {"channel": "c"}});
    assert_eq!(socket.refused(third).await, "limit_reached");
    server.publish("a", "1").await;
    assert_eq!(socket.data("a", 1).await, [json!(1)], "the connection goes on");
    socket.ask(json!({"unsubscribe": {"channel": "a"}})).await;
    socket.subscribe("c").await;
}

#[tokio::test]
async fn of_a_hundred_thousand_channels_128_are_subscribed_to() {
    let count = sized(100_000, 5_000);
    let server = TestServer::dev("").await;
    let (mut socket, mut reader) = (RawWebSocket::connect(server.address).await, server.websocket().await);
    let subscribe =
        |n: usize| RawFrame::text(&format!("{{\"id\":{n},\"subscribe\":{{\"channel\":\"c{n}\"}}}}"));
    let (mut subscribed, mut refused) = (0, 0);
    for from in (0..count).step_by(500) {
        let some: Vec<u8> = (from..from + 500).flat_map(|n| subscribe(n).bytes()).collect();
        socket.send_bytes(&some).await;
        for _ in 0..500 {
            let frame = socket.frame().await.expect("the connection goes on");
            let text = String::from_utf8_lossy(&frame.payload);
            subscribed += usize::from(text.contains("\"subscribed\""));
            refused += usize::from(text.contains("\"limit_reached\""));
        }
    }
    assert_eq!((subscribed, refused), (128, count - 128));
    reader.subscribe("c1").await;
    server.publish("c1", "1").await;
    assert_eq!(reader.data("c1", 1).await, [json!(1)], "others do not notice");
    assert!(socket.frame().await.is_some_and(|frame| frame.payload.starts_with(b"{\"batch\"")));
}

#[tokio::test]
async fn connections_max() {
    let server = TestServer::dev("[limits]\nconnections_max = 2").await;
    let first = server.websocket().await;
    let _second = server.sse("channel=c").await;
    server.metric_reaches("tidings_connections", "", 2.0).await;
    let (status, body) = server.handshake(&[]).await;
    assert!(status == 503 && body.contains("overloaded"), "{status} {body}");
    assert_eq!(server.get("/readyz").send().await.code(), "overloaded");
    let health = server.get("/health").send().await;
    assert_eq!((health.status, &health.json()["status"]), (503, &json!("degraded")));
    assert_eq!(server.publish("c", "1").await["ack"], "stored", "requests are no connections");
    first.close().await;
    server.metric_reaches("tidings_connections", "", 1.0).await;
    server.websocket().await;
    assert_eq!(server.get("/health").send().await.status, 200);
}

#[tokio::test]
async fn connections_per_second_after_a_burst() {
    // One address gets what leaves as much to others: three of five.
    let limits = "[limits]\nconnections_per_second = 1\nconnections_burst = 5";
    let server = TestServer::serve(&format!("{}{limits}", auth_config())).await;
    let token = format!("Bearer {}", Token::of("ada").subscribe("*").sign());
    for _ in 0..3 {
        WebSocket::connect(server.address, &[("authorization", &token)]).await.expect("hello").await;
    }
    let (status, body) = server.handshake(&[("authorization", &token)]).await;
    assert!(status == 503 && body.contains("overloaded"), "{status} {body}");
    let no_handshake = server.get("/ws").header("authorization", &token).send().await;
    assert_eq!(no_handshake.code(), "upgrade_required", "what is no handshake does not count");
    let stream = || EventStream::open(server.get("/sse?channel=c").header("authorization", &token));
    let mut turned_away = stream().await;
    turned_away.is_turned_away().await;
    crate::support::eventually("a place", async || {
        stream().await.next().await.filter(|event| event.name == "hello").map(drop)
    })
    .await;
    let free = TestServer::dev(limits).await;
    for _ in 0..10 {
        free.websocket().await;
    }
}

#[tokio::test]
async fn headers_that_do_not_come_or_do_not_end() {
    let server = TestServer::dev("[server]\nheader_timeout = \"300ms\"").await;
    assert_eq!(exchange(&server, b"").await, "", "a silent socket is closed");
    exchange(&server, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n").await;
    let mut drip = TcpStream::connect(server.address).await.unwrap();
    let dripped = async {
        while drip.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the dripping socket to be closed", dripped).await;
    let idle = server.get("/livez").bytes();
    assert!(exchange(&server, &idle).await.ends_with("ok\n"), "an idle connection is closed too");
}

#[tokio::test]
async fn header_bytes_and_fields() {
    let server = TestServer::dev("").await;
    let long = |bytes: usize| server.get("/livez").header("x-long", &"x".repeat(bytes)).send();
    assert_eq!(long(7_000).await.status, 200);
    assert_eq!(long(9_000).await.status, 431);
    assert_eq!(long(16_000_000).await.status, 431);
    let many = |count: usize| {
        (0..count).fold(server.get("/livez"), |request, n| request.header(&format!("x-{n}"), "1")).send()
    };
    assert_eq!(many(60).await.status, 200);
    assert_eq!(many(64).await.status, 431);
    let raised = TestServer::dev("[limits]\nheader_bytes_max = \"32KiB\"").await;
    assert_eq!(raised.get("/livez").header("x-long", &"x".repeat(9_000)).send().await.status, 200);
}

#[tokio::test]
async fn a_body_that_does_not_come() {
    let toml = "[server]\nping_interval = \"100ms\"\ntimeout = \"400ms\"\n[limits]\nmessage_bytes_max = 1000";
    let server = TestServer::dev(toml).await;
    let head = format!("POST /v1/publish/c HTTP/1.1\r\nhost: {}\r\n", server.address);
    for body in ["content-length: 10\r\n\r\n12", "transfer-encoding: chunked\r\n\r\n2\r\n12\r\n"] {
        let answer = exchange(&server, format!("{head}{body}").as_bytes()).await;
        assert!(answer.contains("400") && answer.contains("did not come within"), "{answer}");
    }
    let endless = format!("{head}transfer-encoding: chunked\r\n\r\n{}", "1\r\nx\r\n".repeat(10_000));
    let answer = exchange(&server, endless.as_bytes()).await;
    assert!(answer.is_empty() || answer.contains("too_large"), "{answer}");
    assert_eq!(server.publish("c", "1").await["position"]["offset"], 1, "none of them was published");
}

#[tokio::test]
async fn commands_that_wait_are_not_read() {
    let server = TestServer::dev("[limits]\ncommands_pending_max = 1").await;
    let mut socket = RawWebSocket::connect(server.address).await;
    let command = |id| RawFrame::text(&json!({"id": id, "history": {"channel": "c"}}).to_string()).bytes();
    let all: Vec<u8> = (0..1_000).flat_map(command).collect();
    socket.send_bytes(&all).await;
    for id in 0..1_000 {
        let answer = socket.frame().await.unwrap();
        assert!(
            answer.payload.starts_with(format!("{{\"id\":{id},").as_bytes()),
            "all are answered, in order"
        );
    }
}

/// Sends until the server takes no more; returns the bytes that it took.
async fn taken(server: &TestServer, flood: &[u8]) -> usize {
    const ENOUGH: usize = 100 << 20;
    let mut socket = RawWebSocket::handshake(server.address, Some(4_096), &[]).await;
    let mut total = 0;
    while total < ENOUGH {
        match tokio::time::timeout(Duration::from_secs(1), socket.stream.write(flood)).await {
            Ok(written) => total += written.unwrap_or(ENOUGH),
            Err(_) => return total,
        }
    }
    total
}

#[tokio::test]
async fn a_peer_that_never_reads_is_not_read_from_either() {
    let server = TestServer::dev("").await;
    let ping = RawFrame { first: 0x89, payload: vec![b'p'; 125] }.bytes().repeat(1_000);
    let command = RawFrame::text("{\"ping\":{\"c\":1}}").bytes().repeat(1_000);
    let refused = RawFrame::text("{\"nonsense\":1}").bytes().repeat(1_000);
    for (what, flood) in [("pings", ping), ("commands", command), ("nonsense", refused)] {
        let bytes = taken(&server, &flood).await;
        assert!(bytes < 32 << 20, "{bytes} bytes of {what} were taken");
    }
}

#[tokio::test]
async fn a_stranger_sends_no_large_message() {
    let server = TestServer::serve(&auth_config()).await;
    let mut stranger = RawWebSocket::handshake(server.address, None, &[]).await;
    stranger.send(&RawFrame::text(&" ".repeat(12 * 1_024 + 1))).await;
    assert_eq!(stranger.close_codes().await, [1009]);
    let token = Token::of("ada").publish("*").sign();
    let mut socket = WebSocket::connect(server.address, &[]).await;
    socket.send_text(format!("{{\"connect\":{{\"token\":\"{token}\"}}{}}}", " ".repeat(10_000))).await;
    socket.expect("hello").await;
    let large = json!({"publish": {"channel": "c", "data": "x".repeat(900_000)}});
    assert!(socket.ask(large).await.get("published").is_some(), "whoever is known does");
}

#[tokio::test]
async fn token_bytes_max() {
    let server = TestServer::serve(&format!("{}[limits]\ntoken_bytes_max = 300", auth_config())).await;
    let publish = async |token: String| server.post("/v1/publish/c", "1").bearer(&token).send().await;
    let short = Token::of("ada").publish("*").sign();
    assert!(short.len() <= 300);
    assert_eq!(publish(short).await.status, 200);
    let long = Token::of(&"a".repeat(200)).publish("*").sign();
    assert_eq!(publish(long).await.code(), "unauthorized");
    assert_eq!(publish(API_KEY.to_owned()).await.status, 200);
}

#[tokio::test]
async fn channels_max() {
    let limits = "[limits]\nchannels_max = 3\n[namespace.v]\nhistory_size = 0\n[namespace.default]\nhistory_age = \"500ms\"";
    let server = TestServer::dev(limits).await;
    let publish =
        async |channel: &str| -> Answer { server.post(&format!("/v1/publish/{channel}"), "1").send().await };
    let first = publish("a").await.json()["position"].clone();
    assert_eq!(publish("b").await.status, 200);
    assert_eq!(publish("c").await.code(), "limit_reached");
    let mut socket = server.websocket().await;
    socket.subscribe("c").await;
    assert_eq!(publish("v:1").await.status, 200, "a volatile channel does not count");
    assert_eq!(server.get("/v1/channels/c/history").send().await.status, 200, "reading makes no channel");
    crate::support::eventually("room", async || (publish("c").await.status == 200).then_some(())).await;
    assert_eq!(socket.data("c", 1).await, [json!(1)], "whoever waited for it has it");
    let subscribed = socket.resume("a", &first).await;
    assert_eq!(subscribed["recovered"], false, "what was forgotten is a gap");
    assert_eq!(socket.expect("gap").await["reason"], "epoch");
}

#[tokio::test]
async fn idempotency_bytes() {
    let server = TestServer::dev("[limits]\nidempotency_bytes = 1_300").await;
    let publish = async |query: &str| server.post(&format!("/v1/publish/c{query}"), "1").send().await;
    let first = publish("?idempotency_key=a").await.json()["position"].clone();
    publish("?idempotency_key=b").await;
    assert_eq!(publish("?idempotency_key=c").await.code(), "limit_reached");
    assert_eq!(publish("?idempotency_key=a").await.json()["position"], first, "none is forgotten early");
    assert_eq!(publish("").await.status, 200, "without a key there is always room");
}

#[tokio::test]
async fn history_total_bytes() {
    let server = TestServer::dev("[limits]\nhistory_total_bytes = 100_000").await;
    let data = format!("\"{}\"", "x".repeat(1_000));
    let mut heads: Vec<Value> = Vec::new();
    for channel in ["old", "new"] {
        for _ in 0..60 {
            let position = server.publish(channel, &data).await["position"].clone();
            heads.retain(|head| head["channel"] != channel);
            heads.push(json!({"channel": channel, "position": position}));
        }
    }
    let kept = async |channel: &str| {
        let history = server.get(&format!("/v1/channels/{channel}/history")).send().await.json();
        history["publications"].as_array().unwrap().len()
    };
    assert_eq!(kept("new").await, 60, "what was published last is whole");
    let old = kept("old").await;
    assert!(old < 30, "{old} of the oldest are left");
    let mut socket = server.websocket().await;
    let since = json!({"epoch": heads[0]["position"]["epoch"], "offset": 1});
    assert_eq!(socket.resume("old", &since).await["recovered"], false);
    assert_eq!(socket.expect("gap").await["reason"], "trimmed");
}
