//! The registry of errors: every code that can occur is provoked, with its status, over HTTP and on sockets.

use std::collections::BTreeSet;

use serde_json::json;
use tidings_protocol::Code;

use crate::support::{API_KEY, Request, TestServer, Token, WebSocket, auth_config};

/// Codes that nothing from outside provokes yet, and why.
const NOT_YET: &[(Code, &str)] = &[
    (Code::RateLimited, "no requests are counted over time"),
    (Code::Internal, "is a defect"),
    (Code::BrokerUnavailable, "the memory broker is always there"),
    (Code::ReplicationUnconfirmed, "the memory broker has no replicas"),
    (Code::OutcomeUnknown, "the memory broker always knows"),
];

/// Codes that only commands can meet.
const SOCKETS_ONLY: &[Code] =
    &[Code::BadFrame, Code::UnknownCommand, Code::AlreadySubscribed, Code::NotSubscribed];

/// Codes whose answer is hyper's, before any of our code sees the request: a status and no body.
const STATUS_ONLY: &[Code] = &[Code::HeadersTooLarge];

const LIMITS: &str = "[limits]\nmessage_bytes_max = 1000\nrequest_items_max = 1\nchannels_max = 3\nchannels_per_connection = 1\n[namespace.v]\nhistory_size = 0\n";

fn requests(server: &TestServer) -> Vec<(Code, Request)> {
    let key = |request: Request| request.bearer(API_KEY);
    let token = Token::of("ada").subscribe("a").sign();
    let expired = Token::of("ada").expires_in(-1).sign();
    let json =
        |body: &str| key(server.post("/v1/publish/a", body)).header("content-type", "application/json");
    let keyed = |body: &str| json(body).header("idempotency-key", "k");
    vec![
        (Code::BadRequest, key(server.post("/v1/publish/a?ack=perhaps", "1"))),
        (Code::BadRequest, key(server.post("/v1/publish", "{}"))),
        (Code::BadRequest, key(server.get("/ws")).header("upgrade", "websocket")),
        (Code::UpgradeRequired, key(server.get("/ws"))),
        (Code::PresenceDisabled, key(server.get("/v1/channels/a/presence"))),
        (Code::InvalidJson, json("{")),
        (Code::Unauthorized, server.post("/v1/publish/a", "1")),
        (Code::Unauthorized, server.get("/sse?channel=a")),
        (Code::TokenExpired, server.get("/sse?channel=a").bearer(&expired)),
        (Code::TokenExpired, server.get("/v1/channels").bearer(&expired)),
        (
            Code::OriginNotAllowed,
            key(server.get("/v1/channels")).header("origin", "https://evil.example.com"),
        ),
        (Code::OriginNotAllowed, server.get("/ws").header("origin", "null")),
        (Code::ChannelNotAllowed, server.post("/v1/publish/a", "1").bearer(&token)),
        (Code::ChannelNotAllowed, server.get("/sse?channel=b").bearer(&token)),
        (Code::OperationNotAllowed, server.get("/v1/channels").bearer(&token)),
        (Code::NotFound, server.get("/nothing")),
        (Code::NotFound, server.post("/v1/publish/a/b", "1")),
        (Code::MethodNotAllowed, server.get("/v1/publish/a")),
        (Code::MethodNotAllowed, Request::new(server.address, "DELETE", "/sse")),
        (Code::HistoryDisabled, key(server.get("/v1/channels/v:1/history"))),
        (Code::AckNotPossible, key(server.post("/v1/publish/a?ack=replicated", "1"))),
        (Code::TooLarge, json(&"1".repeat(1_001))),
        (Code::TooManyItems, key(server.post("/v1/batch", "1\n2"))),
        (Code::TooManyItems, server.get("/sse?channel=a&channel=b").bearer(&token)),
        (Code::UnsupportedMediaType, json("1").header("content-type", "image/png")),
        (Code::UnsupportedMediaType, json("1").header("content-encoding", "gzip")),
        (Code::ChannelInvalid, key(server.post("/v1/publish/$a", "1"))),
        (Code::ChannelInvalid, server.get("/sse?channel=$a").bearer(&token)),
        (Code::TagInvalid, key(server.post("/v1/invalidate/a*", ""))),
        (Code::TagInvalid, key(server.post("/v1/mutations", r#"{"entity":"a b","key":"1","op":"update"}"#))),
        (Code::TagNotAllowed, server.post("/v1/invalidate/a", "").bearer(&token)),
        (
            Code::TagNotAllowed,
            server.post("/v1/check", r#"{"items":[{"since":"e.1","tags":["a"]}]}"#).bearer(&token),
        ),
        (Code::NumberOutOfRange, json("1e999")),
        (Code::InvalidUtf8, json("\"\u{fffd}\"").body(b"\"\xff\"")),
        (Code::IdempotencyMismatch, keyed("2")),
        (Code::HeadersTooLarge, server.get("/livez").header("x-long", &"x".repeat(9_000))),
        (Code::LimitReached, key(server.post("/v1/publish/c", "1"))),
    ]
}

#[tokio::test]
async fn every_code_that_can_occur_over_http_does_with_its_status() {
    let server = TestServer::serve(&format!("{}{LIMITS}", auth_config())).await;
    for channel in ["a", "b"] {
        let publish = server.post(&format!("/v1/publish/{channel}"), "1").bearer(API_KEY);
        assert_eq!(publish.header("idempotency-key", "k").send().await.status, 200);
    }
    let mut provoked = BTreeSet::new();
    for (code, request) in requests(&server) {
        let answer = request.send().await;
        assert_eq!(answer.status, code.status(), "{code}: {}", answer.text());
        if !STATUS_ONLY.contains(&code) {
            assert_eq!(answer.code(), code.slug());
        }
        provoked.insert(code.slug());
    }
    provoked.extend([full().await, draining().await]);
    let other: BTreeSet<_> =
        NOT_YET.iter().map(|(code, _)| code).chain(SOCKETS_ONLY).map(|code| code.slug()).collect();
    let missing: Vec<_> = Code::ALL
        .iter()
        .map(|code| code.slug())
        .filter(|slug| !provoked.contains(slug) && !other.contains(slug))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}

/// A server with room for one connection, and one connection.
async fn full() -> &'static str {
    let server = TestServer::dev("[limits]\nconnections_max = 1").await;
    let _held = server.websocket().await;
    let (status, body) = server.handshake(&[]).await;
    assert!(status == 503 && body.contains("overloaded"), "{status} {body}");
    "overloaded"
}

/// A server on its way out.
async fn draining() -> &'static str {
    let server = TestServer::dev("[server]\ndrain_delay = \"1h\"").await;
    let ready = server.get("/readyz");
    let drain = tokio::spawn(server.drain());
    crate::support::eventually("the drain to begin", async || {
        (ready.clone().send().await.status == 503).then_some(())
    })
    .await;
    assert_eq!(ready.send().await.code(), "draining");
    drain.abort();
    "draining"
}

#[tokio::test]
async fn every_code_that_can_occur_on_a_socket_does_and_the_socket_survives() {
    let server = TestServer::serve(&format!("{}{LIMITS}", auth_config())).await;
    let token = Token::of("ada").subscribe("a").subscribe("b").subscribe("v:*").publish("*").sign();
    let expired = Token::of("ada").expires_in(-1).sign();
    let mut socket =
        WebSocket::connect(server.address, &[("authorization", &format!("Bearer {token}"))]).await;
    socket.expect("hello").await;
    socket.ask(json!({"publish": {"channel": "a", "data": 1, "idempotency_key": "k"}})).await;
    socket.ask(json!({"publish": {"channel": "b", "data": 1}})).await;
    socket.subscribe("b").await;
    let deep: serde_json::Value = (0..130).fold(json!(1), |inner, _| json!([inner]));
    for (code, command) in [
        (Code::BadFrame, json!({"subscribe": {}})),
        (Code::UnknownCommand, json!({"dance": {}})),
        (Code::BadFrame, json!({"publish": {"channel": "a", "data": 1, "id": ""}})),
        (Code::Unauthorized, json!({"refresh": {"token": "x"}})),
        (Code::TokenExpired, json!({"refresh": {"token": expired}})),
        (Code::ChannelNotAllowed, json!({"subscribe": {"channel": "c"}})),
        (Code::HistoryDisabled, json!({"history": {"channel": "v:1"}})),
        (Code::PresenceDisabled, json!({"presence": {"channel": "a"}})),
        (Code::AckNotPossible, json!({"publish": {"channel": "a", "data": 1, "ack": "replicated"}})),
        (Code::AlreadySubscribed, json!({"subscribe": {"channel": "b"}})),
        (Code::NotSubscribed, json!({"unsubscribe": {"channel": "a"}})),
        (Code::TooLarge, json!({"publish": {"channel": "a", "data": "x".repeat(1_000)}})),
        (Code::ChannelInvalid, json!({"subscribe": {"channel": "$a"}})),
        (Code::InvalidJson, json!({"publish": {"channel": "a", "data": deep}})),
        (Code::IdempotencyMismatch, json!({"publish": {"channel": "a", "data": 2, "idempotency_key": "k"}})),
        (Code::LimitReached, json!({"publish": {"channel": "c", "data": 1}})),
        (Code::LimitReached, json!({"subscribe": {"channel": "a"}})),
    ] {
        let frame = socket.ask(command.clone()).await;
        let error = &frame["error"];
        assert_eq!(error["code"], code.slug(), "{command}: {frame}");
        assert_eq!(error["retryable"], code.retryable(), "{frame}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{frame}");
    }
    socket.send_text(r#"{"id":1,"publish":{"channel":"a","data":1e999}}"#).await;
    assert_eq!(socket.expect("error").await["code"], Code::NumberOutOfRange.slug());
    assert!(
        socket.ask(json!({"ping": {"c": 1}})).await.get("pong").is_some(),
        "the socket survives them all"
    );
}
