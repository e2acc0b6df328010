//! Whoever brings no credential may do what a namespace says, and nothing else.

use serde_json::json;

use super::{publish, server};
use crate::support::{EventStream, Token, WebSocket};

const NEWS: &str =
    "[namespace.news]\nanonymous = [\"subscribe\", \"history\"]\n[namespace.wall]\nanonymous = [\"publish\"]";

#[tokio::test]
async fn without_a_credential_exactly_what_namespaces_allow_is_allowed() {
    let server = server(NEWS).await;
    publish(&server, "news:1", "1").await;
    let mut somebody = server.websocket().await;
    somebody.subscribe("news:1").await;
    assert!(somebody.ask(json!({"history": {"channel": "news:1"}})).await.get("history").is_some());
    assert!(
        somebody.ask(json!({"publish": {"channel": "wall:1", "data": 1}})).await.get("published").is_some()
    );
    for command in [
        json!({"subscribe": {"channel": "wall:1"}}),
        json!({"subscribe": {"channel": "news"}}),
        json!({"subscribe": {"channel": "other"}}),
        json!({"publish": {"channel": "news:1", "data": 1}}),
        json!({"presence": {"channel": "news:1"}}),
        json!({"history": {"channel": "wall:1"}}),
    ] {
        assert_eq!(somebody.refused(command.clone()).await, "channel_not_allowed", "{command}");
    }
    let watched = somebody.ask(json!({"watch": {"groups": [{"tags": ["ticket:1"]}]}})).await;
    assert_eq!(watched["watched"]["denied"], json!(["ticket:1"]), "{watched}");
    EventStream::open(server.get("/sse?channel=news:1")).await.expect("hello").await;
    assert_eq!(server.get("/sse?channel=other").send().await.code(), "channel_not_allowed");
    assert_eq!(server.post("/v1/publish/wall:1", "1").send().await.status, 200);
    assert_eq!(server.post("/v1/publish/news:1", "1").send().await.code(), "channel_not_allowed");
    assert_eq!(server.get("/v1/channels/news:1/history").send().await.status, 200);
    assert_eq!(server.get("/v1/channels").send().await.code(), "operation_not_allowed");
    assert_eq!(server.post("/v1/revoke", r#"{"user":"a"}"#).send().await.code(), "operation_not_allowed");
}

#[tokio::test]
async fn a_bad_credential_is_not_as_good_as_none() {
    let server = server(NEWS).await;
    assert_eq!(
        server.get("/v1/channels/news:1/history").bearer("nonsense").send().await.code(),
        "unauthorized"
    );
    assert_eq!(server.handshake(&[("authorization", "Bearer nonsense")]).await.0, 401);
    let mut socket = WebSocket::connect(server.address, &[]).await;
    socket.expect("hello").await;
    socket.send(json!({"connect": {"token": "nonsense"}})).await;
    let (frames, closed) = socket.closed().await;
    assert_eq!((&frames[0]["error"]["code"], closed.code), (&json!("unauthorized"), 4501));
}

#[tokio::test]
async fn whoever_was_let_in_so_may_bring_a_credential_once() {
    let server = server(NEWS).await;
    let mut socket = server.websocket().await;
    socket.subscribe("news:1").await;
    let token = Token::of("ada").subscribe("room:*").channel("user:ada").sign();
    socket.send(json!({"id": 5, "connect": {"token": token}})).await;
    let ended = socket.expect("unsubscribed").await;
    assert_eq!(ended, json!({"channel": "news:1", "code": "channel_not_allowed"}), "it grants less");
    socket.expect("hello").await;
    assert_eq!(socket.expect("subscribed").await["channel"], "user:ada");
    socket.subscribe("room:1").await;
    assert_eq!(socket.refused(json!({"connect": {"token": token}})).await, "bad_frame");
    let listed = server.get("/v1/connections?user=ada").bearer(crate::support::API_KEY).send().await.json();
    assert_eq!(listed["connections"].as_array().map(Vec::len), Some(1), "{listed}");
}

#[tokio::test]
async fn where_nothing_is_allowed_nobody_is_let_in() {
    let server = server("[namespace.news]\nhistory_size = 1").await;
    assert_eq!(server.get("/v1/channels/news:1/history").send().await.code(), "unauthorized");
    assert_eq!(server.get("/sse?channel=news:1").send().await.code(), "unauthorized");
}
