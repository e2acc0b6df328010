//! Watching tags over WebSockets and event streams: what was touched is told, once a window, and a lease only after the log
//! confirmed where it stands.

use serde_json::{Value, json};

use crate::support::{
    EventStream, RawFrame, RawWebSocket, RedisServer, TestServer, Token, WebSocket, auth_config,
};

async fn invalidate(server: &TestServer, tags: &[&str]) -> Value {
    let body = json!({ "tags": tags }).to_string();
    let answer = server.post("/v1/invalidate", body).header("content-type", "application/json").send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["position"].clone()
}

/// Watches and returns what is said of it.
async fn watch(socket: &mut WebSocket, groups: Value) -> Value {
    socket.ask(json!({"watch": {"groups": groups}})).await["watched"].clone()
}

#[tokio::test]
async fn whoever_watches_a_tag_or_a_subtree_around_it_is_told_what_was_touched() {
    let server = TestServer::dev("").await;
    let mut socket = server.websocket().await;
    let watched = watch(&mut socket, json!([{"tags": ["ticket:42", "org:*"]}])).await;
    assert_eq!(watched["at"]["offset"], 0);
    assert_eq!((&watched["stale"], &watched["denied"]), (&json!([]), &json!([])));
    let position = invalidate(&server, &["ticket:42", "org:7:users", "other"]).await;
    let told = socket.expect("invalidated").await;
    assert_eq!(told, json!({"at": position, "tags": {"ticket:42": 1, "org:*": 1}}));
    invalidate(&server, &["nobody:1"]).await;
    socket.ask(json!({"unwatch": {"tags": ["ticket:42", "never"]}})).await;
    invalidate(&server, &["ticket:42"]).await;
    let position = invalidate(&server, &["org:8"]).await;
    assert_eq!(socket.expect("invalidated").await, json!({"at": position, "tags": {"org:*": 4}}));
}

#[tokio::test]
async fn mutations_of_one_window_are_one_frame() {
    let server = TestServer::dev("[namespace.default]\nbatch_window = \"500ms\"").await;
    let mut socket = server.websocket().await;
    watch(&mut socket, json!([{"tags": ["a", "b"]}])).await;
    invalidate(&server, &["a"]).await;
    assert_eq!(socket.expect("invalidated").await["tags"], json!({"a": 1}), "the first one leads");
    for tag in ["a", "b", "a", "b", "a"] {
        invalidate(&server, &[tag]).await;
    }
    let mut frames = 0;
    let mut last = json!({});
    while last != json!({"a": 6, "b": 5}) {
        let told = socket.expect("invalidated").await;
        told["tags"].as_object().unwrap().iter().for_each(|(tag, offset)| last[tag] = offset.clone());
        frames += 1;
    }
    assert!(frames <= 3, "{frames} frames for five mutations in one window, or across two");
}

#[tokio::test]
async fn a_basis_tells_what_was_touched_while_nobody_watched() {
    let server = TestServer::dev("").await;
    let basis = invalidate(&server, &["a"]).await;
    invalidate(&server, &["b:1"]).await;
    let mut socket = server.websocket().await;
    let groups = json!([{"since": basis, "tags": ["a", "b:1", "b:*", "c"]}, {"tags": ["d"]}]);
    let watched = watch(&mut socket, groups).await;
    assert_eq!((&watched["at"]["offset"], &watched["stale"]), (&json!(2), &json!(["b:1", "b:*"])));
    let unknown = json!([{"since": "nobodys-epoch.1", "tags": ["never"]}]);
    assert_eq!(
        watch(&mut socket, unknown).await["stale"],
        json!(["never"]),
        "nobody can say that it was not"
    );
    assert_eq!(watch(&mut socket, json!([])).await["at"]["offset"], 2, "a basis for who has nothing yet");
}

#[tokio::test]
async fn a_ping_is_answered_by_a_lease_only_where_something_is_watched() {
    let server = TestServer::dev("").await;
    let mut socket = server.websocket().await;
    socket.send(json!({"ping": {"c": 1}})).await;
    assert_eq!(socket.expect("pong").await, json!({"c": 1}));
    watch(&mut socket, json!([{"tags": ["a"]}])).await;
    assert_eq!(socket.expect("at").await["c"], 1, "the ping may have come with the first watch");
    let position = invalidate(&server, &["b"]).await;
    socket.send(json!({"ping": {"c": 2}})).await;
    assert_eq!(socket.expect("pong").await, json!({"c": 2}));
    assert_eq!(socket.expect("at").await, json!({"position": position, "c": 2}));
}

/// Sends commands in one segment, and reads until a frame says where a log stands; returns that.
async fn at_after(socket: &mut RawWebSocket, commands: &[Value]) -> Value {
    let frames = commands.iter().map(|command| RawFrame::text(&command.to_string()).bytes());
    socket.send_bytes(&frames.collect::<Vec<_>>().concat()).await;
    loop {
        let frame = socket.frame().await.expect("the connection goes on");
        let Ok(frame) = serde_json::from_slice::<Value>(&frame.payload) else { continue };
        if let Some(at) = frame.get("at") {
            return at.clone();
        }
    }
}

#[tokio::test]
async fn a_ping_in_one_segment_with_the_first_watch_of_a_log_is_answered_by_a_lease() {
    let server = TestServer::dev("").await;
    let ping = |c: u64| json!({"ping": {"c": c}});
    let watch = |ns: &str| json!({"id": 1, "watch": {"ns": ns, "groups": [{"tags": ["a"]}]}});
    for (name, commands) in [
        ("ping last", [json!({"id": 2, "history": {"channel": "c"}}), watch("default"), ping(7)]),
        ("ping first", [ping(7), watch("default"), json!({"id": 2, "history": {"channel": "c"}})]),
    ] {
        let mut socket = RawWebSocket::connect(server.address).await;
        assert_eq!(at_after(&mut socket, &commands).await["c"], 7, "{name}");
        let other = [ping(8), watch("shop"), ping(9)];
        let mut at = at_after(&mut socket, &other).await;
        while (&at["ns"], &at["c"]) != (&json!("shop"), &json!(9)) {
            at = at_after(&mut socket, &[]).await;
        }
    }
}

#[tokio::test]
async fn an_own_mutation_does_not_count_and_one_that_hides_behind_it_does() {
    let server = TestServer::dev("").await;
    let before = invalidate(&server, &["other"]).await;
    let hidden = invalidate(&server, &["a", "b"]).await;
    let own = invalidate(&server, &["a", "c"]).await;
    let mut socket = server.websocket().await;
    let group = |since: &Value, tags: &[&str]| json!([{"since": since, "except": own, "tags": tags}]);
    assert_eq!(watch(&mut socket, group(&before, &["a", "b", "c"])).await["stale"], json!(["a", "b"]));
    assert_eq!(watch(&mut socket, group(&hidden, &["a", "b", "c"])).await["stale"], json!([]));
    let items = json!({"items": [
        {"since": before, "except": own, "tags": ["a"]},
        {"since": before, "except": own, "tags": ["c"]},
        {"since": hidden, "except": own, "tags": ["a", "b", "c"]},
        {"since": hidden, "tags": ["a"]},
    ]});
    let checked = server.post("/v1/check", items.to_string()).send().await.json();
    assert_eq!((&checked["stale"], &checked["at"]), (&json!([0, 3]), &own));
}

#[tokio::test]
async fn a_position_of_another_log_or_of_the_future_is_no_basis() {
    let server = TestServer::dev("").await;
    let body = json!({"ns": "shop", "tags": ["a"]}).to_string();
    let shop = server.post("/v1/invalidate", body).send().await.json()["position"].clone();
    let own = invalidate(&server, &["a"]).await;
    let ahead = json!({"epoch": own["epoch"], "offset": 7});
    let mut socket = server.websocket().await;
    for (since, stale) in [(&shop, json!(["b"])), (&ahead, json!(["b"])), (&own, json!([]))] {
        assert_eq!(watch(&mut socket, json!([{"since": since, "tags": ["b"]}])).await["stale"], stale);
        let item = json!({"items": [{"since": since, "tags": ["b"]}]}).to_string();
        let checked = server.post("/v1/check", item).send().await.json();
        assert_eq!(checked["stale"].as_array().unwrap().len(), stale.as_array().unwrap().len(), "{since}");
    }
}

#[tokio::test]
async fn a_check_of_many_tags_is_answered_as_of_one_position() {
    let server = TestServer::dev("").await;
    let basis = invalidate(&server, &["other"]).await;
    let at = invalidate(&server, &["t:70", "t:999"]).await;
    let item = |n: usize| json!({"since": basis, "tags": vec![format!("t:{n}"); 64]});
    let items = json!({"items": (0..1_000).map(item).collect::<Vec<_>>()}).to_string();
    let checked = server.post("/v1/check", items).send().await.json();
    assert_eq!((&checked["stale"], &checked["at"]), (&json!([70, 999]), &at));
}

#[tokio::test]
async fn commands_of_64_kib_are_taken_however_small_publications_are() {
    let server = TestServer::dev("[limits]\nmessage_bytes_max = \"1KiB\"").await;
    let mut socket = WebSocket::connect(server.address, &[]).await;
    let hello = socket.expect("hello").await;
    assert_eq!((&hello["message_bytes_max"], &hello["command_bytes_max"]), (&json!(1_024), &json!(65_536)));
    let tags: Vec<String> = (0..1_000).map(|n| format!("{}{n:03}", "x".repeat(50))).collect();
    assert_eq!(watch(&mut socket, json!([{"tags": tags}])).await["denied"], json!([]));
    let publish = json!({"publish": {"channel": "c", "data": "x".repeat(1_025)}});
    assert_eq!(socket.refused(publish).await, "too_large");
}

#[tokio::test]
async fn a_subtree_that_took_the_place_of_tags_is_taken_back() {
    let server = TestServer::dev("[limits]\ntags_per_connection = 3").await;
    let mut socket = server.websocket().await;
    watch(&mut socket, json!([{"tags": ["t:1", "t:2", "x"]}])).await;
    let watched = watch(&mut socket, json!([{"tags": ["y"]}])).await;
    assert_eq!((&watched["escalated"], &watched["denied"]), (&json!(["t:*"]), &json!([])), "not everything");
    socket.ask(json!({"unwatch": {"tags": ["t:*"], "escalated": ["x"]}})).await;
    invalidate(&server, &["t:9"]).await;
    assert_eq!(socket.expect("invalidated").await["tags"], json!({"t:*": 1}));
    socket.ask(json!({"unwatch": {"tags": [], "escalated": ["t:*"]}})).await;
    watch(&mut socket, json!([{"tags": ["t:1"]}])).await;
    invalidate(&server, &["t:9"]).await;
    invalidate(&server, &["t:1", "x"]).await;
    assert_eq!(socket.expect("invalidated").await["tags"], json!({"t:1": 3, "x": 3}));
}

#[tokio::test]
async fn whoever_comes_back_is_told_over_how_long_to_spread_what_it_reads_again() {
    let server = TestServer::dev("[fresh]\nrefetch_rate = 10").await;
    let basis = invalidate(&server, &["other"]).await;
    let mut others = Vec::new();
    for _ in 0..5 {
        let mut other = server.websocket().await;
        watch(&mut other, json!([{"tags": ["a"]}])).await;
        others.push(other);
    }
    invalidate(&server, &["a"]).await;
    let mut socket = server.websocket().await;
    let watched = watch(&mut socket, json!([{"since": basis, "tags": ["a"]}])).await;
    assert_eq!(watched["spread_ms"], 600, "six watchers, ten reads a second");
    let watched = watch(&mut socket, json!([{"since": watched["at"], "tags": ["a"]}])).await;
    assert_eq!(watched.get("spread_ms"), None);
}

#[tokio::test]
async fn tags_that_are_not_granted_are_denied_and_a_narrower_credential_takes_them_back() {
    let server = TestServer::serve(&auth_config()).await;
    let bearer = format!("Bearer {}", Token::of("ada").watch("a:*").watch("b").sign());
    let mut socket = WebSocket::connect(server.address, &[("authorization", &bearer)]).await;
    socket.expect("hello").await;
    let watched = watch(&mut socket, json!([{"tags": ["a", "a:1", "b", "b:1", "*"]}])).await;
    assert_eq!(watched["denied"], json!(["b:1", "*"]));
    let narrower = Token::of("ada").watch("b").sign();
    assert!(socket.ask(json!({"refresh": {"token": narrower}})).await.get("refreshed").is_some());
    let reset = socket.expect("reset").await;
    assert_eq!((&reset["scope"], &reset["reason"]), (&json!("tags"), &json!("auth")));
    assert_eq!(reset["tags"], json!(["a", "a:1"]));
}

#[tokio::test]
async fn tags_beyond_the_bound_are_watched_by_a_subtree_around_them() {
    let server = TestServer::dev("[limits]\ntags_per_connection = 3").await;
    let mut socket = server.websocket().await;
    watch(&mut socket, json!([{"tags": ["t:1", "t:2", "x"]}])).await;
    let watched = watch(&mut socket, json!([{"tags": ["t:3"]}])).await;
    assert_eq!((&watched["escalated"], &watched["denied"]), (&json!(["t:*"]), &json!([])));
    invalidate(&server, &["t:2"]).await;
    assert_eq!(socket.expect("invalidated").await["tags"], json!({"t:*": 1}));
    let too_many = json!({"watch": {"groups": [{"tags": ["1", "2", "3", "4"]}]}});
    assert_eq!(socket.refused(too_many).await, "too_many_items");
    let bad = json!({"watch": {"groups": [{"tags": ["good", "b d"]}]}});
    assert_eq!(socket.refused(bad).await, "tag_invalid");
}

#[tokio::test]
async fn logs_are_apart_and_bounded() {
    let server = TestServer::dev("[limits]\nlogs_max = 1").await;
    let mut socket = server.websocket().await;
    let watched = socket.ask(json!({"watch": {"ns": "shop", "groups": [{"tags": ["a"]}]}})).await;
    assert_eq!(watched["watched"]["ns"], "shop");
    invalidate(&server, &["a"]).await;
    let body = json!({"ns": "shop", "tags": ["a"]}).to_string();
    let position = server.post("/v1/invalidate", body).send().await.json()["position"].clone();
    let expected = json!({"ns": "shop", "at": position, "tags": {"a": 1}});
    assert_eq!(socket.expect("invalidated").await, expected);
    let watch = |log: &str| json!({"watch": {"ns": log, "groups": []}});
    assert_eq!(socket.ask(watch("another")).await["watched"]["at"]["offset"], 0, "it holds nothing");
    assert_eq!(socket.refused(watch("third")).await, "limit_reached");
}

#[tokio::test]
async fn a_stream_watches_and_has_a_lease_where_it_says_its_clock() {
    let server = TestServer::dev("[fresh]\nlease = \"1s\"").await;
    let basis = invalidate(&server, &["a"]).await;
    invalidate(&server, &["b"]).await;
    let body = json!({"watch": [{"since": basis, "tags": ["a", "b"]}], "c": 5_000}).to_string();
    let mut stream = EventStream::open(server.post("/sse", body)).await;
    stream.expect("hello").await;
    assert_eq!(stream.expect("watched").await["stale"], json!(["b"]));
    let first = stream.expect("at").await["c"].as_u64().unwrap();
    let second = stream.expect("at").await["c"].as_u64().unwrap();
    assert!(first >= 5_000 && second >= first + 333, "{first}, {second}: a third of the lease apart");
    invalidate(&server, &["a"]).await;
    loop {
        let event = stream.read_event().await.expect("the stream goes on");
        if event.name == "invalidated" {
            assert_eq!(event.json()["tags"], json!({"a": 3}));
            break;
        }
    }
}

#[tokio::test]
async fn a_native_stream_watches_by_its_url() {
    let server = TestServer::dev("").await;
    let basis = invalidate(&server, &["a"]).await;
    let since = format!("{}.{}", basis["epoch"].as_str().unwrap(), basis["offset"]);
    invalidate(&server, &["b:1"]).await;
    let path = format!("/sse?channel=c&watch=a&watch=b:*&since={since}");
    let mut stream = EventStream::open(server.get(&path)).await;
    stream.expect("hello").await;
    assert_eq!(stream.expect("watched").await["stale"], json!(["b:*"]));
    let at = stream.expect("at").await;
    assert!(at.get("c").is_none(), "a client without a clock has no lease: {at}");
    for (path, code) in
        [("/sse?watch=a+b", "tag_invalid"), ("/sse?watch=a&since=x", "bad_request"), ("/sse", "bad_request")]
    {
        assert_eq!(server.get(path).send().await.code(), code, "{path}");
    }
}

#[tokio::test]
async fn instances_that_share_a_redis_share_their_logs() {
    let redis = RedisServer::start("").await;
    let config = format!("[redis]\nurl = \"{}\"", redis.url());
    let (here, there) = (TestServer::dev(&config).await, TestServer::dev(&config).await);
    let mut socket = here.websocket().await;
    let watched = watch(&mut socket, json!([{"tags": ["a"]}])).await;
    let position = invalidate(&there, &["a"]).await;
    assert_eq!(position["epoch"], watched["at"]["epoch"]);
    assert_eq!(socket.expect("invalidated").await["tags"], json!({"a": 1}));
    let mut late = there.websocket().await;
    let stale = watch(&mut late, json!([{"since": watched["at"], "tags": ["a", "b"]}])).await;
    assert_eq!(stale["stale"], json!(["a"]));
    late.send(json!({"ping": {"c": 9}})).await;
    late.expect("pong").await;
    assert_eq!(late.expect("at").await, json!({"position": position, "c": 9}));
    let checked =
        json!({"items": [{"since": watched["at"], "tags": ["a"]}, {"since": position, "tags": ["a"]}]});
    assert_eq!(here.post("/v1/check", checked.to_string()).send().await.json()["stale"], json!([0]));
}
