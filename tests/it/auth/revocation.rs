//! Revoked credentials hold no more, on any way, from the moment that an operator says so.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{knock, publish, server, socket};
use crate::support::{API_KEY, EventStream, RawFrame, RawWebSocket, TestServer, Token};

/// Until when a revocation must have its effect.
const AT_ONCE: Duration = Duration::from_secs(1);

async fn revoke(server: &TestServer, body: Value) -> Value {
    let answer = server.post("/v1/revoke", body.to_string()).bearer(API_KEY).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!((&answer["complete"], &answer["kept"]), (&json!(true), &json!(true)), "{answer}");
    answer
}

fn ada() -> Token {
    Token::of("ada").subscribe("room:*").publish("room:*").watch("*").mutate("*").issued(10)
}

/// Whether a token is good on every way in, or on none.
async fn holds(server: &TestServer, token: &str) -> bool {
    let mut held = Vec::new();
    for request in [
        server.post("/v1/publish/room:1", "1"),
        server.post("/v1/mutations", r#"{"entity":"ticket","key":1,"op":"create"}"#),
        server.post("/v1/check", r#"{"items":[]}"#),
        server.get("/v1/channels/room:1/history"),
        server.get("/v1/channels/room:1/presence"),
        server.get("/v1/position"),
    ] {
        let answer = request.bearer(token).send().await;
        held.push(answer.status == 200);
        assert!(answer.status == 200 || answer.code() == "unauthorized", "{}", answer.text());
    }
    let stream = EventStream::open(server.get("/sse?channel=room:1").bearer(token)).await;
    held.push(stream.head.status == 200);
    let bearer = format!("Bearer {token}");
    held.push(knock(server.address, &[("authorization", &bearer)]).await.status == 101);
    let offered = format!("tidings.v1.json, bearer.{token}");
    held.push(knock(server.address, &[("sec-websocket-protocol", &offered)]).await.status == 101);
    let mut socket = RawWebSocket::handshake(server.address, None, &[]).await;
    socket.send(&RawFrame::text(&json!({"connect": {"token": token}}).to_string())).await;
    let first = String::from_utf8(socket.frame().await.expect("an answer").payload).expect("text");
    held.push(first.contains("hello"));
    assert!(held.iter().all(|way| *way == held[0]), "{held:?}");
    held[0]
}

#[tokio::test]
async fn a_users_tokens_hold_no_more_on_any_way_and_later_ones_do() {
    let server = server("[namespace.room]\npresence = true").await;
    let old = ada().sign();
    assert!(holds(&server, &old).await);
    let without_time = Token::of("ada").subscribe("room:*").publish("room:*").watch("*").mutate("*");
    assert!(holds(&server, &without_time.sign()).await);
    revoke(&server, json!({"user": "ada"})).await;
    assert!(!holds(&server, &old).await);
    assert!(!holds(&server, &without_time.sign()).await, "nobody can tell when it was issued");
    assert!(!holds(&server, &ada().issued(0).sign()).await, "nor whether it came before within the second");
    assert!(holds(&server, &ada().issued(-2).sign()).await);
    let bob = Token::of("bob").subscribe("room:*").publish("room:*").watch("*").mutate("*").issued(10);
    assert!(holds(&server, &bob.sign()).await);
}

#[tokio::test]
async fn connections_end_at_once_whatever_they_are_doing() {
    let server = server("[namespace.room]\npresence = true").await;
    let token = ada().sign();
    let mut live = socket(&server, &token).await;
    live.ask(json!({"subscribe": {"channel": "room:1", "presence": true}})).await;
    live.expect("presence").await;
    live.ask(json!({"watch": {"groups": [{"tags": ["ticket:*"]}]}})).await;
    let mut stream = EventStream::open(server.get("/sse?channel=room:2").bearer(&token)).await;
    stream.expect("hello").await;
    let mut later = socket(&server, &ada().issued(-2).sign()).await;
    let mut refreshed = socket(&server, &token).await;
    refreshed.ask(json!({"refresh": {"token": ada().issued(-2).sign()}})).await;
    let mut bob = socket(&server, &Token::of("bob").subscribe("room:*").issued(10).sign()).await;
    bob.subscribe("room:1").await;
    let begun = Instant::now();
    let answer = revoke(&server, json!({"user": "ada"})).await;
    assert_eq!(answer["disconnected"], 2, "{answer}");
    let (frames, closed) = live.closed().await;
    // That somebody joined may come before it.
    let last = frames.last().expect("a reason");
    assert_eq!((closed.code, &last["error"]["code"]), (4501, &json!("unauthorized")), "{frames:?}");
    assert!(stream.rest().await.iter().all(|event| event.name != "message"));
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    later.subscribe("room:1").await;
    refreshed.subscribe("room:1").await;
    publish(&server, "room:1", "7").await;
    assert_eq!(bob.data("room:1", 1).await, [json!(7)]);
    let members = server.get("/v1/channels/room:1/presence").bearer(API_KEY).send().await.json();
    assert_eq!(members["count"], 3, "who was ended is there no more: {members}");
}

#[tokio::test]
async fn one_token_is_revoked_by_its_name() {
    let server = server("").await;
    let (one, other) = (ada().id("t-1").sign(), ada().id("t-2").sign());
    let (mut first, mut second) = (socket(&server, &one).await, socket(&server, &other).await);
    revoke(&server, json!({"token_id": "t-1"})).await;
    assert_eq!(first.closed().await.1.code, 4501);
    assert_eq!(second.refused(json!({"refresh": {"token": one}})).await, "unauthorized");
    second.subscribe("room:1").await;
    let answer = server.post("/v1/publish/room:1", "1").bearer(&one).send().await;
    assert_eq!(answer.code(), "unauthorized");
    assert_eq!(server.post("/v1/publish/room:1", "1").bearer(&other).send().await.status, 200);
}

#[tokio::test]
async fn a_token_for_a_channel_is_revoked_too_and_ends_its_subscription_alone() {
    let server = server("").await;
    let mut bob = socket(&server, &Token::of("bob").subscribe("own:*").issued(-2).sign()).await;
    bob.subscribe("own:1").await;
    let pass = Token::of("bob").only_for("room:7").id("c-1").issued(10).sign();
    let other = Token::of("bob").only_for("room:8").id("c-2").issued(10).sign();
    let subscribe = |channel: &str, token: &str| json!({"subscribe": {"channel": channel, "token": token}});
    bob.ask(subscribe("room:7", &pass)).await;
    bob.ask(subscribe("room:8", &other)).await;
    revoke(&server, json!({"token_id": "c-1"})).await;
    assert_eq!(bob.expect("unsubscribed").await, json!({"channel": "room:7", "code": "unauthorized"}));
    assert_eq!(bob.refused(subscribe("room:7", &pass)).await, "unauthorized");
    revoke(&server, json!({"user": "bob"})).await;
    assert_eq!(bob.expect("unsubscribed").await, json!({"channel": "room:8", "code": "unauthorized"}));
    publish(&server, "room:7", "1").await;
    publish(&server, "own:1", "2").await;
    assert_eq!(bob.data("own:1", 1).await, [json!(2)]);
}

#[tokio::test]
async fn an_api_key_is_not_revoked_by_the_name_of_a_user() {
    let server = server("").await;
    assert_eq!(revoke(&server, json!({"user": "backend"})).await["disconnected"], 0);
    publish(&server, "room:1", "1").await;
}

#[tokio::test]
async fn only_operators_revoke_and_only_what_can_be_meant() {
    let server = server("[namespace.room]\npresence = true\n[limits]\nrevocations_max = 2").await;
    let ask = |body: &str, credential: &str| server.post("/v1/revoke", body).bearer(credential).send();
    assert_eq!(server.post("/v1/revoke", r#"{"user":"ada"}"#).send().await.code(), "unauthorized");
    assert_eq!(ask(r#"{"user":"ada"}"#, &ada().sign()).await.code(), "operation_not_allowed");
    let long = json!({ "user": "x".repeat(1_025) }).to_string();
    for (body, code) in [
        ("{", "invalid_json"),
        ("{}", "bad_request"),
        (r#"{"user":""}"#, "bad_request"),
        (r#"{"token_id":""}"#, "bad_request"),
        (r#"{"user":"ada","token_id":"t"}"#, "bad_request"),
        (r#"{"users":"ada"}"#, "bad_request"),
        (r#"{"user":7}"#, "bad_request"),
        (&long, "bad_request"),
    ] {
        assert_eq!(ask(body, API_KEY).await.code(), code, "{body}");
    }
    assert!(holds(&server, &ada().sign()).await, "nothing of that was done");
    for user in ["a", "b", "a"] {
        revoke(&server, json!({ "user": user })).await;
    }
    assert_eq!(ask(r#"{"user":"c"}"#, API_KEY).await.code(), "limit_reached", "none is forgotten for it");
}
