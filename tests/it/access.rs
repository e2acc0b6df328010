//! Who gets in and what they may do: keys, tokens on every way in, refresh and expiry, origins, and what stays secret.

use serde_json::json;

use crate::support::{
    API_KEY, Closed, EventStream, RawFrame, RawWebSocket, TestServer, Token, WebSocket, auth_config,
};

async fn server(toml: &str) -> TestServer {
    TestServer::serve(&format!("{}\n{toml}", auth_config())).await
}

fn ada() -> Token {
    Token::of("ada").subscribe("room:*").publish("room:*")
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn an_api_key_may_do_what_its_entry_says() {
    let server = server("").await;
    let answer = server.post("/v1/publish/c", "1").bearer(API_KEY).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(server.get("/v1/channels").bearer(API_KEY).send().await.status, 200);
    assert_eq!(server.get("/v1/channels/c/history").bearer(API_KEY).send().await.status, 200);
    assert_eq!(server.get("/sse?channel=c").bearer(API_KEY).send().await.code(), "channel_not_allowed");
    assert_eq!(server.get("/v1/channels").bearer(&ada().sign()).send().await.code(), "operation_not_allowed");
}

#[tokio::test]
async fn a_token_may_do_what_it_grants_and_nothing_else() {
    let server = server("").await;
    let token = ada().history(&["room:1"]).sign();
    let publish =
        async |channel: &str| server.post(&format!("/v1/publish/{channel}"), "1").bearer(&token).send().await;
    assert_eq!(publish("room:1").await.status, 200);
    assert_eq!(publish("other").await.code(), "channel_not_allowed");
    assert_eq!(server.get("/v1/channels/room:1/history").bearer(&token).send().await.status, 200);
    assert_eq!(
        server.get("/v1/channels/room:2/history").bearer(&token).send().await.code(),
        "channel_not_allowed"
    );
    let mut socket = WebSocket::connect(server.address, &[("authorization", &bearer(&token))]).await;
    socket.expect("hello").await;
    socket.subscribe("room:2").await;
    for command in [
        json!({"subscribe": {"channel": "other"}}),
        json!({"publish": {"channel": "other", "data": 1}}),
        json!({"history": {"channel": "room:2"}}),
        json!({"presence": {"channel": "other"}}),
    ] {
        assert_eq!(socket.refused(command.clone()).await, "channel_not_allowed", "{command}");
    }
    let batch = server.post("/v1/batch", r#"[{"channel":"room:1","data":1},{"channel":"x","data":1}]"#);
    let results = batch.bearer(&token).send().await.json()["results"].clone();
    assert_eq!(results[0]["ack"], "stored");
    assert_eq!(results[1]["error"]["code"], "channel_not_allowed");
}

#[tokio::test]
async fn a_token_comes_by_header_by_command_by_subprotocol_and_by_cookie() {
    let server = server("[server]\nallowed_origins = [\"https://app.example.com\"]").await;
    let token = ada().sign();
    let cookie = format!("theme=dark; tidings_token={token}");
    let listed = ("origin", "https://app.example.com");
    for headers in [
        vec![("authorization", bearer(&token))],
        vec![("sec-websocket-protocol", format!("tidings.v1.json, bearer.{token}"))],
        vec![("cookie", cookie.clone()), (listed.0, listed.1.to_owned())],
        vec![("cookie", cookie.clone()), ("sec-fetch-site", "same-origin".to_owned())],
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut socket = WebSocket::connect(server.address, &headers).await;
        socket.expect("hello").await;
        socket.subscribe("room:1").await;
    }
    let mut socket = WebSocket::connect(server.address, &[]).await;
    socket.send(json!({"connect": {"token": token}})).await;
    socket.expect("hello").await;
    socket.subscribe("room:1").await;

    for headers in [
        vec![("cookie", cookie.as_str())],
        vec![("cookie", cookie.as_str()), ("sec-fetch-site", "cross-site")],
    ] {
        let mut socket = RawWebSocket::handshake(server.address, None, &headers).await;
        socket.send(&RawFrame::text(r#"{"id":1,"subscribe":{"channel":"room:1"}}"#)).await;
        let answer = String::from_utf8(socket.frame().await.unwrap().payload).unwrap();
        assert!(
            answer.contains("unauthorized"),
            "a cookie that any page can send is no credential: {answer}"
        );
    }
    let foreign = [("cookie", cookie.as_str()), ("origin", "https://evil.example.com")];
    assert_eq!(server.handshake(&foreign).await.0, 403);
    let publish = server.post("/v1/publish/room:1", "1").header("cookie", &cookie);
    assert_eq!(
        publish.header(listed.0, listed.1).send().await.code(),
        "unauthorized",
        "cookies publish nothing"
    );
}

#[tokio::test]
async fn a_stream_takes_the_same_credentials() {
    let server = server("[server]\nallowed_origins = [\"https://app.example.com\"]").await;
    let token = ada().sign();
    let cookie = format!("tidings_token={token}");
    let stream = server.get("/sse?channel=room:1");
    for request in [
        stream.clone().bearer(&token),
        stream.clone().header("cookie", &cookie).header("origin", "https://app.example.com"),
        stream.clone().header("cookie", &cookie).header("sec-fetch-site", "same-origin"),
    ] {
        EventStream::open(request).await.expect("hello").await;
    }
    assert_eq!(stream.header("cookie", &cookie).send().await.code(), "unauthorized");
    let posted = server.post("/sse", r#"{"subscribe":[{"channel":"room:1"}]}"#);
    EventStream::open(posted.clone().bearer(&token)).await.expect("hello").await;
    for (name, value) in [("origin", "https://app.example.com"), ("sec-fetch-site", "same-origin")] {
        let posted = posted.clone().header("cookie", &cookie).header(name, value);
        assert_eq!(posted.send().await.code(), "unauthorized", "cookies count where nothing is posted");
    }
    assert_eq!(server.get("/sse?channel=x").bearer(&token).send().await.code(), "channel_not_allowed");
    let in_url = server.get(&format!("/sse?channel=room:1&token={token}")).send().await;
    assert_eq!(in_url.code(), "unauthorized", "a token in a URL would end in logs");
}

#[tokio::test]
async fn granted_channels_are_subscribed_without_asking() {
    let server = server("").await;
    let token = Token::of("ada").channel("user:ada").publish("*").sign();
    let mut socket = WebSocket::connect(server.address, &[]).await;
    socket.send(json!({"connect": {"token": token}})).await;
    socket.expect("hello").await;
    assert_eq!(socket.expect("subscribed").await["channel"], "user:ada");
    socket.send(json!({"publish": {"channel": "user:ada", "data": 1}})).await;
    assert_eq!(socket.data("user:ada", 1).await, [json!(1)]);
    let mut stream = EventStream::open(server.get("/sse").bearer(&token)).await;
    stream.expect("hello").await;
    socket.send(json!({"publish": {"channel": "user:ada", "data": 2}})).await;
    assert_eq!(stream.expect("message").await["data"], 2);
}

#[tokio::test]
async fn every_bad_credential_gets_the_same_401() {
    let server = server("").await;
    let no_expiry = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.AAAA";
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDB9.";
    let mut bodies = std::collections::HashSet::new();
    for token in [
        "x",
        "td_",
        "td_wrong",
        no_expiry,
        unsigned,
        &ada().sign_with("another secret of at least 32 bytes!"),
        &ada().sign()[1..],
        &format!("{}x", ada().sign()),
        &format!("{API_KEY}x"),
        &Token::of("ada").subscribe("a*b").sign(),
        &"x".repeat(7_000),
    ] {
        for path in ["/v1/publish/room:1", "/v1/publish", "/v1/batch"] {
            let answer = server.post(path, "1").bearer(token).send().await;
            assert_eq!(answer.code(), "unauthorized", "{path} {token}");
            bodies.insert(answer.text());
        }
        for path in ["/sse?channel=room:1", "/v1/channels", "/v1/channels/c/history"] {
            let answer = server.get(path).bearer(token).send().await;
            assert_eq!(answer.code(), "unauthorized", "{path} {token}");
            bodies.insert(answer.text());
        }
        let (status, body) = server.handshake(&[("authorization", &bearer(token))]).await;
        assert_eq!(status, 401, "{token}");
        bodies.insert(body);
    }
    for request in
        [server.post("/v1/publish/c", "1"), server.get("/sse?channel=c"), server.get("/v1/channels")]
    {
        let answer = request.send().await;
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{answer:?}");
        bodies.insert(answer.text());
    }
    assert_eq!(bodies.len(), 1, "one body for every cause: {bodies:#?}");
    let expired = server.post("/v1/publish/room:1", "1").bearer(&ada().expires_in(-1).sign()).send().await;
    assert_eq!(expired.code(), "token_expired", "only who signed it learns that it was good");
}

#[tokio::test]
async fn a_socket_without_a_good_credential_is_closed_for_good() {
    let server = server("[server]\nhello_timeout = \"300ms\"").await;
    let connect = |token: &str| json!({"id": 1, "connect": {"token": token}});
    let (frames, closed) = connected(&server, Some(connect("nonsense"))).await;
    assert_eq!((&frames[0]["error"]["code"], closed.code), (&json!("unauthorized"), 4501));
    assert!(closed.reason.starts_with("unauthorized"), "{closed:?}");
    let (frames, closed) = connected(&server, Some(connect(&ada().expires_in(-1).sign()))).await;
    assert_eq!((&frames[0]["error"]["code"], closed.code), (&json!("token_expired"), 4401));
    let (frames, closed) = connected(&server, None).await;
    assert_eq!((&frames[0]["error"]["code"], closed.code), (&json!("unauthorized"), 4501));
    let ask = json!({"id": 7, "publish": {"channel": "room:1", "data": 1}});
    let (frames, closed) = connected(&server, Some(ask)).await;
    assert_eq!((&frames[0]["id"], &frames[0]["error"]["code"]), (&json!(7), &json!("unauthorized")));
    assert_eq!(closed.code, 4501, "asking without connecting gives no more time");
}

/// Connects without a credential, says one thing, and reads to the end.
async fn connected(
    server: &TestServer,
    command: Option<serde_json::Value>,
) -> (Vec<serde_json::Value>, Closed) {
    let mut socket = WebSocket::connect(server.address, &[]).await;
    if let Some(command) = command {
        socket.send(command).await;
    }
    socket.closed().await
}

#[tokio::test]
async fn a_refresh_replaces_the_grant_of_the_same_user_only() {
    let server = server("").await;
    let token = Token::of("ada").subscribe("a").subscribe("b").sign();
    let mut socket = WebSocket::connect(server.address, &[("authorization", &bearer(&token))]).await;
    socket.expect("hello").await;
    socket.subscribe("a").await;
    socket.subscribe("b").await;
    let refresh = |token: String| json!({"refresh": {"token": token}});
    assert_eq!(socket.refused(refresh("nonsense".to_owned())).await, "unauthorized");
    assert_eq!(socket.refused(refresh(ada().expires_in(-1).sign())).await, "token_expired");
    let other = Token::of("bob").subscribe("*").sign();
    assert_eq!(socket.refused(refresh(other)).await, "unauthorized");
    let publish = async |channel: &str| {
        server.post(&format!("/v1/publish/{channel}"), "1").bearer(API_KEY).send().await;
    };
    publish("b").await;
    assert_eq!(socket.data("b", 1).await, [json!(1)], "a refused refresh changes nothing");

    let narrower = Token::of("ada").subscribe("a").subscribe("c").expires_in(7_200).sign();
    socket.send(json!({"id": 99, "refresh": {"token": narrower}})).await;
    assert_eq!(socket.expect("unsubscribed").await, json!({"channel": "b", "code": "channel_not_allowed"}));
    let refreshed = socket.next_frame().await;
    assert!(refreshed["id"] == 99 && refreshed["refreshed"]["exp"].is_u64(), "{refreshed}");
    publish("b").await;
    publish("a").await;
    assert_eq!(socket.data("a", 1).await, [json!(1)], "nothing of b came");
    assert_eq!(socket.refused(json!({"subscribe": {"channel": "b"}})).await, "channel_not_allowed");
    socket.subscribe("c").await;
}

#[tokio::test]
async fn when_a_token_expires_its_connections_end() {
    let server = server("").await;
    let token = ada().expires_in(2).sign();
    let mut socket = WebSocket::connect(server.address, &[("authorization", &bearer(&token))]).await;
    socket.expect("hello").await;
    socket.subscribe("room:1").await;
    let mut refreshed = WebSocket::connect(server.address, &[("authorization", &bearer(&token))]).await;
    refreshed.expect("hello").await;
    refreshed.ask(json!({"refresh": {"token": ada().sign()}})).await;
    let request = server.get("/sse?channel=room:1").bearer(&token);
    let mut stream = EventStream::open(request).await;
    stream.expect("hello").await;
    let (frames, closed) = socket.closed().await;
    assert_eq!(closed.code, 4401);
    assert_eq!(frames.last().unwrap()["error"]["code"], "token_expired");
    stream.rest().await;
    refreshed.subscribe("room:1").await;
    server.metric_reaches("tidings_connections", "", 1.0).await;
}
