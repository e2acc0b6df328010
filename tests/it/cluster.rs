//! Instances that know each other, and operations on connections that reach all of them.

mod bus;
mod commands;
mod fleet;
mod operations;

use serde_json::json;

use crate::support::{API_KEY, Request, TestServer, Token, WebSocket, auth_config, eventually};

async fn server() -> TestServer {
    TestServer::serve(&auth_config()).await
}

fn token(user: &str) -> String {
    Token::of(user).subscribe("room:*").sign()
}

/// A socket of a user, and the name of its session.
async fn socket(server: &TestServer, user: &str) -> (WebSocket, String) {
    let bearer = format!("Bearer {}", token(user));
    let mut socket = WebSocket::connect(server.address, &[("authorization", &bearer)]).await;
    let hello = socket.expect("hello").await;
    (socket, hello["session"].as_str().expect("a name").to_owned())
}

#[tokio::test]
async fn an_instance_sees_itself_as_it_is() {
    let server =
        TestServer::serve(&format!("[server]\nadvertise = \"rt-1.internal:80\"\n{}", auth_config())).await;
    let (held, session) = socket(&server, "ada").await;
    let view = server.get("/v1/cluster").bearer(API_KEY).send().await.json();
    let instance = &view["instances"][0];
    assert_eq!(view["instances"].as_array().map(Vec::len), Some(1), "{view}");
    assert_eq!(instance["address"], "rt-1.internal:80");
    assert_eq!(instance["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&instance["connections"], &instance["silent"]), (&json!(1), &json!(false)), "{view}");
    assert!(instance["uptime_ms"].is_u64() && instance["silent_ms"] == 0, "{view}");
    let id = instance["id"].as_str().expect("a name");
    assert!(session.starts_with(&format!("{id}-")), "{session} is a session of {id}");
    assert_eq!(server.metric("tidings_cluster_instances", "").await, 1.0);
    assert_eq!(server.metric("tidings_cluster_silent", "").await, 0.0);
    held.close().await;
    eventually("nobody to be connected", async || {
        let view = server.get("/v1/cluster").bearer(API_KEY).send().await.json();
        (view["instances"][0]["connections"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_another_address_it_shows_where_it_listens_and_no_two_starts_are_one() {
    let (one, other) = (TestServer::dev("").await, TestServer::dev("").await);
    let view =
        async |server: &TestServer| server.get("/v1/cluster").send().await.json()["instances"][0].clone();
    let (a, b) = (view(&one).await, view(&other).await);
    assert_eq!((&a["address"], &b["address"]), (&json!(one.address), &json!(other.address)));
    assert_ne!(a["id"], b["id"]);
}

#[tokio::test]
async fn operators_requests_are_refused_to_everybody_else() {
    let server = server().await;
    let requests = || {
        [
            server.get("/v1/cluster"),
            server.get("/v1/connections"),
            server.post("/v1/disconnect", r#"{"user":"ada"}"#),
        ]
    };
    for request in requests() {
        assert_eq!(request.clone().send().await.code(), "unauthorized");
        let answer = request.bearer(&token("ada")).send().await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "operation_not_allowed"));
        assert!(answer.text().contains("admin = true"), "{}", answer.text());
    }
    for request in requests() {
        assert_eq!(request.bearer(API_KEY).send().await.status, 200);
    }
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_what_to_do() {
    let server = server().await;
    let key = |request: Request| request.bearer(API_KEY);
    let long = json!({"user": "ada", "reason": "x".repeat(101)}).to_string();
    for (body, code, words) in [
        ("{", "invalid_json", "write {"),
        ("[]", "bad_request", "write {"),
        ("{}", "bad_request", "neither"),
        (r#"{"user":"ada","session":"x-1"}"#, "bad_request", "leave one of them out"),
        (r#"{"user":""}"#, "bad_request", "name a `session`"),
        (r#"{"user":"ada","code":1}"#, "bad_request", "unknown field `code`"),
        (r#"{"user":7}"#, "bad_request", "write {"),
        (&long, "bad_request", "room for 100"),
    ] {
        let answer = key(server.post("/v1/disconnect", body)).send().await;
        assert_eq!(answer.code(), code, "{body}");
        assert!(answer.json()["detail"].as_str().expect("words").contains(words), "{}", answer.text());
    }
    assert_eq!(key(server.post("/v1/disconnect", " ".repeat(5_000))).send().await.code(), "too_large");
    for query in ["limit=x", "limit=-1", "users=ada"] {
        let answer = key(server.get(&format!("/v1/connections?{query}"))).send().await;
        assert_eq!(answer.code(), "bad_request", "{query}");
        assert!(answer.text().contains("`user` and `limit`"), "{}", answer.text());
    }
}
