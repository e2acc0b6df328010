//! Tokens for single channels: one subscription each, for as long as they hold.

use serde_json::{Value, json};

use super::{publish, server, socket};
use crate::support::{API_KEY, EventStream, SECRET, TestServer, Token};

/// A credential of a connection that may do nothing by itself.
fn bare() -> String {
    Token::of("ada").sign()
}

fn pass(channel: &str) -> Token {
    Token::of("ada").only_for(channel)
}

fn subscribe(channel: &str, token: &str) -> Value {
    json!({"subscribe": {"channel": channel, "token": token}})
}

#[tokio::test]
async fn a_token_lets_its_connection_have_its_channel_and_nothing_else() {
    let server = server("").await;
    let mut ada = socket(&server, &bare()).await;
    assert_eq!(ada.refused(json!({"subscribe": {"channel": "room:7"}})).await, "channel_not_allowed");
    let token = pass("room:7").sign();
    assert_eq!(ada.ask(subscribe("room:7", &token)).await["subscribed"]["channel"], "room:7");
    publish(&server, "room:7", "1").await;
    assert_eq!(ada.data("room:7", 1).await, [json!(1)]);
    for command in [
        json!({"publish": {"channel": "room:7", "data": 1}}),
        json!({"history": {"channel": "room:7"}}),
        json!({"presence": {"channel": "room:7"}}),
        json!({"subscribe": {"channel": "room:8"}}),
    ] {
        assert_eq!(ada.refused(command.clone()).await, "channel_not_allowed", "{command}");
    }
    assert_eq!(ada.refused(subscribe("room:7", &token)).await, "already_subscribed");
    ada.ask(json!({"unsubscribe": {"channel": "room:7"}})).await;
    assert_eq!(
        ada.refused(json!({"subscribe": {"channel": "room:7"}})).await,
        "channel_not_allowed",
        "the token went with its subscription"
    );
    assert!(ada.ask(subscribe("room:7", &token)).await.get("subscribed").is_some(), "it may be given again");
}

#[tokio::test]
async fn a_token_that_is_not_for_this_subscription_is_refused_and_the_connection_goes_on() {
    let server = server("").await;
    let mut ada = socket(&server, &bare()).await;
    for (token, code) in [
        (pass("room:8").sign(), "channel_not_allowed"),
        (Token::of("bob").only_for("room:7").sign(), "unauthorized"),
        (Token::of("").only_for("room:7").sign(), "unauthorized"),
        (Token::of("ada").subscribe("*").sign(), "unauthorized"),
        (pass("room:7").sign_with("another secret of at least 32 bytes!"), "unauthorized"),
        (pass("room:7").expires_in(-1).sign(), "token_expired"),
        (API_KEY.to_owned(), "unauthorized"),
        (SECRET.to_owned(), "unauthorized"),
        (String::new(), "unauthorized"),
    ] {
        assert_eq!(ada.refused(subscribe("room:7", &token)).await, code, "{token}");
    }
    assert_eq!(ada.refused(json!({"subscribe": {"channel": "room:7"}})).await, "channel_not_allowed");
    assert!(ada.ask(subscribe("room:7", &pass("room:7").sign())).await.get("subscribed").is_some());
}

#[tokio::test]
async fn a_token_for_a_channel_opens_nothing() {
    let server = server("").await;
    let token = pass("room:7").sign();
    let bearer = format!("Bearer {token}");
    assert_eq!(server.handshake(&[("authorization", &bearer)]).await.0, 401);
    for request in [
        server.post("/v1/publish/room:7", "1"),
        server.get("/v1/channels/room:7/history"),
        server.get("/sse?channel=room:7"),
        server.get("/v1/position"),
    ] {
        assert_eq!(request.bearer(&token).send().await.code(), "unauthorized");
    }
    let mut ada = socket(&server, &bare()).await;
    assert_eq!(ada.refused(json!({"refresh": {"token": token}})).await, "unauthorized");
}

#[tokio::test]
async fn when_a_token_expires_its_subscription_ends_and_the_connection_goes_on() {
    let server = server("").await;
    let wide = Token::of("ada").subscribe("own:*").sign();
    let mut ada = socket(&server, &wide).await;
    let position = ada.ask(subscribe("room:7", &pass("room:7").expires_in(2).sign())).await;
    let since = position["subscribed"]["position"].clone();
    ada.ask(subscribe("own:1", &pass("own:1").expires_in(2).sign())).await;
    let ended = ada.expect("unsubscribed").await;
    assert_eq!(ended, json!({"channel": "room:7", "code": "token_expired"}));
    publish(&server, "room:7", "1").await;
    publish(&server, "own:1", "2").await;
    assert_eq!(ada.data("own:1", 1).await, [json!(2)], "what its own credential grants stays");
    let token = pass("room:7").sign();
    let again = json!({"subscribe": {"channel": "room:7", "since": since, "token": token}});
    let again = ada.ask(again).await["subscribed"].clone();
    assert_eq!(again["recovered"], true, "with a new token it goes on where it was: {again}");
    assert_eq!(again["publications"][0]["data"], 1);
}

#[tokio::test]
async fn a_narrower_credential_leaves_what_a_token_of_its_own_grants() {
    let server = server("").await;
    let mut ada = socket(&server, &Token::of("ada").subscribe("*").sign()).await;
    ada.ask(subscribe("room:7", &pass("room:7").sign())).await;
    ada.subscribe("room:8").await;
    ada.send(json!({"id": 99, "refresh": {"token": bare()}})).await;
    assert_eq!(ada.expect("unsubscribed").await["channel"], "room:8");
    assert_eq!(ada.next_frame().await["id"], 99);
    publish(&server, "room:7", "1").await;
    assert_eq!(ada.data("room:7", 1).await, [json!(1)]);
}

#[tokio::test]
async fn a_stream_takes_tokens_beside_its_channels() {
    let server = server("").await;
    let open = |channel: &str, token: &str| {
        let body = json!({"subscribe": [{"channel": channel, "token": token}]});
        server.post("/sse", body.to_string()).bearer(&bare())
    };
    assert_eq!(open("room:7", &pass("room:8").sign()).send().await.code(), "channel_not_allowed");
    assert_eq!(open("room:7", "nonsense").send().await.code(), "unauthorized");
    let mut stream = EventStream::open(open("room:7", &pass("room:7").expires_in(2).sign())).await;
    stream.expect("hello").await;
    publish(&server, "room:7", "1").await;
    assert_eq!(stream.expect("message").await["data"], 1);
    let ended = stream.expect("unsubscribed").await;
    assert_eq!(ended, json!({"channel": "room:7", "code": "token_expired"}));
}

#[tokio::test]
async fn an_anonymous_connection_may_bring_a_token_of_any_user() {
    let server = TestServer::serve(&format!(
        "{}\n[namespace.news]\nanonymous = [\"subscribe\"]",
        crate::support::auth_config()
    ))
    .await;
    let mut somebody = server.websocket().await;
    assert!(somebody.ask(subscribe("room:7", &pass("room:7").sign())).await.get("subscribed").is_some());
}
