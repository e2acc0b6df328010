//! Rates and numbers of connections, at every level, from both sides.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    API_KEY, Answer, EventStream, RawFrame, RawWebSocket, TestServer, Token, WebSocket, auth_config,
    eventually,
};

/// A server that demands credentials, with these limits and a second's burst.
async fn server(limits: &str) -> TestServer {
    TestServer::serve(&format!("{}[limits]\nrate_burst = \"1s\"\n{limits}", auth_config())).await
}

fn token(user: &str, tenant: &str) -> String {
    Token::of(user).tenant(tenant).subscribe("*").publish("*").mutate("*").sign()
}

async fn publish(server: &TestServer, token: &str) -> Answer {
    server.post("/v1/publish/c", "1").bearer(token).send().await
}

async fn socket(server: &TestServer, token: &str) -> WebSocket {
    let bearer = format!("Bearer {token}");
    let mut socket = WebSocket::connect(server.address, &[("authorization", &bearer)]).await;
    socket.expect("hello").await;
    socket
}

/// Publishes until it is refused; returns how many were accepted, and the refusal.
async fn until_refused(server: &TestServer, token: &str) -> (usize, Answer) {
    for accepted in 0..50 {
        let answer = publish(server, token).await;
        if answer.status != 200 {
            return (accepted, answer);
        }
    }
    panic!("50 were accepted");
}

#[tokio::test]
async fn whoever_publishes_too_fast_is_told_when_to_come_back_and_others_go_on() {
    let (ada, bob) = (token("ada", "acme"), token("bob", "acme"));
    let other = token("ada", "other");
    for (limit, scope, unharmed) in [
        ("user_publishes_per_second", "user", vec![&bob, &other]),
        ("tenant_publishes_per_second", "tenant", vec![&other]),
        ("instance_publishes_per_second", "instance", vec![]),
    ] {
        let server = server(&format!("{limit} = 3")).await;
        let first = publish(&server, &ada).await;
        let name = format!("{scope}-publishes");
        let says = |answer: &Answer, header: &str| {
            let list = answer.header(header).unwrap_or_default().to_owned();
            let entry = list.split(", ").find(|entry| entry.contains(&name)).map(str::to_owned);
            entry.unwrap_or_else(|| panic!("{header} of {answer:?}"))
        };
        assert_eq!(says(&first, "ratelimit-policy"), format!("\"{name}\";q=3;w=1"));
        assert_eq!(says(&first, "ratelimit"), format!("\"{name}\";r=2;t=1"));
        let (accepted, refused) = until_refused(&server, &ada).await;
        assert!((2..=5).contains(&accepted), "{accepted} and the first");
        assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limited"));
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert!(refused.json()["detail"].as_str().unwrap().contains(&format!("limits.{limit}, which is 3")));
        assert_eq!(says(&refused, "ratelimit"), format!("\"{name}\";r=0;t=1"));
        assert_eq!(server.metric("tidings_rate_limited_total", scope).await, 1.0);
        for neighbour in unharmed {
            assert_eq!(publish(&server, neighbour).await.status, 200, "{limit}");
        }
        let head = server.post("/v1/publish/c", "1").bearer(API_KEY);
        eventually("the rate", async || (head.clone().send().await.status == 200).then_some(())).await;
    }
}

#[tokio::test]
async fn what_is_not_limited_says_nothing() {
    let server = server("user_publishes_per_second = 0\nuser_commands_per_second = 0").await;
    for _ in 0..20 {
        let answer = publish(&server, &token("ada", "acme")).await;
        assert_eq!(
            (answer.status, answer.header("ratelimit"), answer.header("ratelimit-policy")),
            (200, None, None)
        );
    }
}

#[tokio::test]
async fn a_key_has_a_rate_of_its_own() {
    let server = server("key_publishes_per_second = 2").await;
    let (accepted, refused) = until_refused(&server, API_KEY).await;
    assert!((2..=4).contains(&accepted), "{accepted}");
    assert!(refused.header("ratelimit").unwrap().contains("\"key-publishes\";r=0"));
    assert_eq!(publish(&server, &token("ada", "acme")).await.status, 200);
}

#[tokio::test]
async fn requests_mutations_and_bytes_are_counted_too() {
    let ada = token("ada", "acme");
    for (limits, path, body, accepted) in [
        ("user_commands_per_second = 3", "/v1/publish/c", "1", 3..=5),
        ("user_mutations_per_second = 2", "/v1/invalidate/t", "", 2..=4),
        ("tenant_mutations_per_second = 2", "/v1/invalidate/t", "", 2..=4),
        (
            "tenant_bytes_per_second = 100",
            "/v1/publish/c",
            "\"0123456789012345678901234567890123456789\"",
            2..=3,
        ),
    ] {
        let server = server(limits).await;
        let mut count = 0;
        let refused = loop {
            let answer = server.post(path, body).bearer(&ada).send().await;
            if answer.status != 200 {
                break answer;
            }
            count += 1;
        };
        assert!(accepted.contains(&count), "{count} with {limits}");
        assert_eq!(refused.code(), "rate_limited", "{limits}");
    }
}

#[tokio::test]
async fn items_of_a_batch_are_counted_one_by_one() {
    let server = server("user_publishes_per_second = 4").await;
    let items = [r#"{"channel":"c","data":1}"#; 10].join("\n");
    let answer = server.post("/v1/batch", items).bearer(&token("ada", "acme")).send().await;
    let results = answer.json()["results"].as_array().unwrap().clone();
    let refused = results.iter().filter(|result| result["error"]["code"] == "rate_limited").count();
    assert_eq!((answer.status, results.len(), refused), (200, 10, 6));
    assert!(results[..4].iter().all(|result| result["ack"] == "stored"), "{results:?}");
}

#[tokio::test]
async fn a_socket_that_publishes_too_fast_gets_errors_and_goes_on() {
    let server = server("user_publishes_per_second = 3").await;
    let mut socket = socket(&server, &token("ada", "acme")).await;
    let mut refused = 0;
    for _ in 0..10 {
        let reply = socket.ask(json!({"publish": {"channel": "c", "data": 1}})).await;
        if let Some(error) = reply.get("error") {
            assert_eq!((&error["code"], &error["retryable"]), (&json!("rate_limited"), &json!(true)));
            refused += 1;
        }
    }
    assert!((5..=7).contains(&refused), "{refused} of 10");
    socket.subscribe("c").await;
}

#[tokio::test]
async fn a_socket_that_commands_too_fast_gets_errors_and_is_closed_if_it_floods_on() {
    let server = server("connection_commands_per_second = 20").await;
    let mut socket = socket(&server, &token("ada", "acme")).await;
    let mut codes = Vec::new();
    for _ in 0..25 {
        let reply = socket.ask(json!({"history": {"channel": "c"}})).await;
        codes.extend(reply["error"]["code"].as_str().map(str::to_owned));
    }
    assert!(!codes.is_empty() && codes.iter().all(|code| code == "rate_limited"), "{codes:?}");
    eventually("the rate", async || {
        socket.ask(json!({"history": {"channel": "c"}})).await.get("history").cloned()
    })
    .await;
    for _ in 0..400 {
        socket.try_send(json!({"id": 1, "history": {"channel": "c"}})).await;
    }
    let (frames, closed) = socket.closed().await;
    assert_eq!((closed.code, &closed.reason[..13]), (4429, "rate_limited:"));
    let disconnect = &frames.last().unwrap()["disconnect"];
    assert_eq!(disconnect["reconnect"], true);
    assert!(disconnect["after_ms"].as_u64() >= Some(1_000), "{disconnect}");
    assert!(server.metric("tidings_rate_limited_total", "connection").await >= 256.0);
}

#[tokio::test]
async fn a_socket_that_sends_bytes_too_fast_is_read_more_slowly_and_loses_nothing() {
    let server = server("connection_bytes_per_second = \"200KiB\"").await;
    let mut socket = socket(&server, &token("ada", "acme")).await;
    let begun = Instant::now();
    let data = "x".repeat(100 << 10);
    for id in 0..6 {
        socket.send(json!({"id": id, "publish": {"channel": "c", "data": data}})).await;
    }
    for id in 0..6 {
        let reply = socket.next_frame().await;
        assert_eq!((&reply["id"], reply.get("published").is_some()), (&json!(id), true), "{reply}");
    }
    // 600 KiB at 200 a second, of which 200 were saved up.
    assert!(begun.elapsed() > Duration::from_millis(1_500), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn connections_at_once_are_counted_by_user_and_tenant() {
    for (limit, other) in [("user_connections_max", "bob"), ("tenant_connections_max", "ada")] {
        let server = server(&format!("{limit} = 2")).await;
        let ada = token("ada", "acme");
        let first = socket(&server, &ada).await;
        let mut stream = EventStream::open(server.get("/sse?channel=c").bearer(&ada)).await;
        stream.expect("hello").await;
        let bearer = format!("Bearer {ada}");
        let (status, body) = server.handshake(&[("authorization", &bearer)]).await;
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &problem["code"]), (429, &json!("limit_reached")), "{body}");
        let mut turned_away = EventStream::open(server.get("/sse?channel=c").bearer(&ada)).await;
        turned_away.is_turned_away().await;
        let mut late = WebSocket::connect(server.address, &[]).await;
        late.send(json!({"connect": {"token": ada}})).await;
        let (frames, closed) = late.closed().await;
        assert_eq!((&frames[0]["error"]["code"], closed.code), (&json!("limit_reached"), 4429));
        socket(&server, &token(other, "other")).await;
        first.close().await;
        eventually("a place", async || {
            (server.handshake(&[("authorization", &bearer)]).await.0 == 101).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn connections_are_counted_by_address() {
    let server = TestServer::dev("[limits]\naddress_connections_max = 2").await;
    let first = server.websocket().await;
    let _second = server.websocket().await;
    assert_eq!(server.handshake(&[]).await.0, 429);
    assert_eq!(server.publish("c", "1").await["ack"], "stored", "requests are no connections");
    first.close().await;
    eventually("a place", async || (server.handshake(&[]).await.0 == 101).then_some(())).await;
    assert!(server.metric("tidings_rate_limited_total", "address").await >= 1.0);

    let server = TestServer::dev("[limits]\naddress_connections_per_second = 1\nrate_burst = \"2s\"").await;
    let answers =
        [server.handshake(&[]).await.0, server.handshake(&[]).await.0, server.handshake(&[]).await.0];
    assert_eq!(answers, [101, 101, 429]);
}

#[tokio::test]
async fn pings_are_commands_too() {
    let server = server("connection_commands_per_second = 20").await;
    let token = format!("Bearer {}", token("ada", "acme"));
    let mut flood = RawWebSocket::handshake(server.address, None, &[("authorization", &token)]).await;
    flood.send_bytes(&RawFrame::text("{\"ping\":{\"c\":1}}").bytes().repeat(2_000)).await;
    assert_eq!(flood.close_codes().await, [4429]);
}

#[tokio::test]
async fn a_refused_refresh_changes_nothing_of_what_limits_count() {
    let server = server("user_publishes_per_second = 2\nuser_connections_max = 2").await;
    let (ada, guest) = (token("ada", "acme"), Token::of("").publish("*").sign());
    let (mut first, _second) = (socket(&server, &ada).await, socket(&server, &ada).await);
    let publish = json!({"publish": {"channel": "c", "data": 1}});
    for other in [&guest, &token("bob", "acme"), &token("ada", "other")] {
        let refused = first.ask(json!({"refresh": {"token": other}})).await;
        assert_eq!(refused["error"]["code"], "unauthorized", "{refused}");
    }
    let mut accepted = 0;
    for _ in 0..10 {
        accepted += usize::from(first.ask(publish.clone()).await["published"].is_object());
    }
    assert!((2..=4).contains(&accepted), "{accepted} of ada's two a second");
    let bearer = format!("Bearer {ada}");
    assert_eq!(server.handshake(&[("authorization", &bearer)]).await.0, 429, "her places are taken still");
    let granted = first.ask(json!({"refresh": {"token": ada}})).await;
    assert!(granted["refreshed"].is_object(), "{granted}");
}
