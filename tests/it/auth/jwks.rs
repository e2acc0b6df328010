//! Keys of issuers: fetched from where the configuration says, kept, fetched again, and missed only so often.

use serde_json::{Value, json};

use super::issuer::{Issuer, token};
use crate::support::{TestServer, WebSocket, eventually, free_port};

async fn server(url: &str, more: &str) -> TestServer {
    TestServer::serve(&format!("[auth.jwks]\nurl = \"{url}\"\n{more}")).await
}

async fn status(server: &TestServer, token: &str) -> u16 {
    server.post("/v1/publish/room:1", "1").bearer(token).send().await.status
}

/// The part of `/health` that speaks of issuers, and the whole's status.
async fn health(server: &TestServer) -> (u16, Value) {
    let answer = server.get("/health").send().await;
    let report = answer.json();
    let mut parts = report["components"].as_array().expect("a list").iter();
    let part = parts.find(|part| part["component"] == "jwks");
    (answer.status, part.cloned().unwrap_or_default())
}

#[tokio::test]
async fn keys_are_fetched_once_and_serve_every_way_in() {
    let issuer = Issuer::start(&["k-1"]).await;
    let server = server(&issuer.url(), "").await;
    for _ in 0..20 {
        assert_eq!(status(&server, &token("k-1", None)).await, 200);
    }
    super::socket(&server, &token("k-1", None)).await.subscribe("room:1").await;
    let mut socket = WebSocket::connect(server.address, &[]).await;
    socket.send(json!({"connect": {"token": token("k-1", None)}})).await;
    socket.expect("hello").await;
    assert_eq!(issuer.asked(), 1, "they are kept");
    let (whole, part) = health(&server).await;
    assert_eq!((whole, &part["status"], &part["detail"]), (200, &json!("ok"), &json!("1 keys")));
}

#[tokio::test]
async fn a_key_that_comes_later_is_found_and_names_that_are_made_up_cost_one_question() {
    let issuer = Issuer::start(&["k-1"]).await;
    let server = server(&issuer.url(), "refresh = \"1h\"").await;
    assert_eq!(status(&server, &token("k-1", None)).await, 200);
    for made_up in 0..100 {
        assert_eq!(status(&server, &token(&format!("made-up-{made_up}"), None)).await, 401);
    }
    assert_eq!(issuer.asked(), 1, "it was asked a moment ago");
}

#[tokio::test]
async fn keys_are_fetched_again_and_one_that_is_gone_holds_no_more() {
    let issuer = Issuer::start(&["k-1"]).await;
    let server = server(&issuer.url(), "refresh = \"1s\"").await;
    assert_eq!(status(&server, &token("k-1", None)).await, 200);
    issuer.publish(&["k-2"]);
    eventually("the new key", async || (status(&server, &token("k-2", None)).await == 200).then_some(()))
        .await;
    assert_eq!(status(&server, &token("k-1", None)).await, 401);
}

#[tokio::test]
async fn an_issuer_that_fails_leaves_its_keys_and_is_seen_in_health() {
    let issuer = Issuer::start(&["k-1"]).await;
    let server = server(&issuer.url(), "refresh = \"1s\"\n[limits]\njwks_bytes_max = \"4KiB\"").await;
    assert_eq!(status(&server, &token("k-1", None)).await, 200);
    let large = json!({ "keys": [], "more": "x".repeat(5_000) }).to_string();
    for (answer, body) in
        [("500 Broken", "{}"), ("200 OK", "<html>"), ("200 OK", "{\"keys\":[]}"), ("200 OK", &large)]
    {
        issuer.answer(answer, body);
        eventually("health to tell", async || (health(&server).await.0 == 503).then_some(())).await;
        let (_, part) = health(&server).await;
        assert_eq!(part["status"], "degraded", "{part}");
        assert!(part["detail"].as_str().is_some_and(|detail| detail.starts_with("1 of 1 failing")), "{part}");
        assert_eq!(status(&server, &token("k-1", None)).await, 200, "the keys that were known stay");
        issuer.publish(&["k-1"]);
        eventually("health", async || (health(&server).await.0 == 200).then_some(())).await;
    }
}

#[tokio::test]
async fn nothing_is_fetched_from_where_a_token_or_an_answer_leads() {
    let (issuer, other) = (Issuer::start(&["k-1"]).await, Issuer::start(&["evil"]).await);
    let server = server(&issuer.url(), "refresh = \"1s\"").await;
    assert_eq!(status(&server, &token("k-1", Some(&other.url()))).await, 200, "jku is not read");
    assert_eq!(status(&server, &token("evil", Some(&other.url()))).await, 401);
    issuer.redirect(&other.url());
    eventually("health to tell", async || (health(&server).await.0 == 503).then_some(())).await;
    assert_eq!(status(&server, &token("evil", None)).await, 401);
    assert_eq!(other.asked(), 0);
}

#[tokio::test]
async fn a_server_starts_without_its_issuer_and_takes_its_tokens_as_soon_as_it_is_there() {
    let nobody = format!("http://127.0.0.1:{}/jwks", free_port());
    let issuer = Issuer::start(&["k-1"]).await;
    let server = TestServer::serve(&format!(
        "[auth.jwks]\nurl = [\"{nobody}\", \"{}\"]\nrefresh = \"1s\"",
        issuer.url()
    ))
    .await;
    assert_eq!(status(&server, &token("k-1", None)).await, 200, "the other one answers");
    let (whole, part) = health(&server).await;
    assert_eq!(whole, 503, "{part}");
    assert!(part["detail"].as_str().is_some_and(|detail| detail.starts_with("1 of 2 failing")), "{part}");
}
