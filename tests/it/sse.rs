//! Server-sent events: what a browser's EventSource gets, and what it brings back.

mod joins;

use serde_json::{Value, json};

use crate::support::{EventStream, TestServer, auth_config};

#[tokio::test]
async fn hello_comes_first_with_a_cursor_and_then_one_event_per_publication() {
    let server = TestServer::dev("").await;
    let mut stream = server.sse("channel=a&channel=b").await;
    assert_eq!((stream.head.status, stream.head.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(stream.head.header("cache-control"), Some("no-cache, no-transform"));
    let hello = stream.expect("hello").await;
    assert!(hello["session"].as_str().is_some_and(|name| !name.is_empty()), "{hello}");
    let first_cursor = stream.cursor();
    assert!(!first_cursor.is_empty(), "the first cursor comes with hello");
    let position = server.publish("a", "{\"x\":1}").await["position"].clone();
    let event = stream.expect("message").await;
    assert_eq!((&event["channel"], &event["data"]), (&json!("a"), &json!({"x": 1})));
    assert_eq!((&event["epoch"], &event["offset"]), (&position["epoch"], &position["offset"]));
    assert_ne!(stream.cursor(), first_cursor, "the last event of each write has a cursor");
    server.publish("b", "2").await;
    assert_eq!(stream.expect("message").await["channel"], "b");
}

/// Opens the stream again as a browser does: by header, or by query.
async fn reopened(server: &TestServer, by_query: bool, query: &str, cursor: &str) -> EventStream {
    let (name, value) = if by_query { ("last_event_id", "") } else { ("", cursor) };
    reopened_by(server, query, &[(name, cursor)], &[value]).await
}

/// Opens the stream again with options in the query, and with headers.
async fn reopened_by(
    server: &TestServer,
    query: &str,
    options: &[(&str, &str)],
    headers: &[&str],
) -> EventStream {
    let options: String = options.iter().map(|(name, value)| format!("&{name}={value}")).collect();
    let request = server.get(&format!("/sse?{query}{options}"));
    let request = headers.iter().fold(request, |request, value| request.header("last-event-id", value));
    EventStream::open(request).await
}

#[tokio::test]
async fn only_the_last_event_of_a_write_has_a_cursor() {
    let toml = "[namespace.default]\nbatch_window = \"200ms\"\nleading = false";
    let server = TestServer::dev(toml).await;
    let mut stream = server.sse("channel=a&channel=b").await;
    stream.expect("hello").await;
    let first = stream.cursor();
    let items: Vec<String> =
        ["a", "a", "b", "b"].iter().map(|name| json!({"channel": name, "data": 1}).to_string()).collect();
    assert_eq!(server.post("/v1/batch", items.join("\n")).send().await.status, 200);
    let mut ids = Vec::new();
    for _ in 0..items.len() {
        stream.expect("message").await;
        ids.push(stream.last_event_id.clone());
    }
    assert_eq!(ids[..3], [first.clone(), first.clone(), first.clone()], "a cut in here repeats the write");
    assert_ne!(stream.cursor(), first);
    let mut again = reopened(&server, false, "channel=a&channel=b", &first).await;
    again.expect("hello").await;
    for _ in 0..items.len() {
        again.expect("message").await;
    }
    let mut again = reopened(&server, false, "channel=a&channel=b", &stream.cursor()).await;
    again.expect("hello").await;
    server.publish("a", "2").await;
    assert_eq!(again.expect("message").await["data"], 2, "nothing comes twice after a whole write");
}

#[tokio::test]
async fn a_cursor_counts_under_each_of_its_names_and_an_empty_one_is_none() {
    let server = TestServer::dev("").await;
    let mut stream = server.sse("channel=c").await;
    stream.expect("hello").await;
    let old = stream.cursor();
    server.publish("c", "1").await;
    stream.expect("message").await;
    let new = stream.cursor();
    server.publish("c", "2").await;
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], u64);
    let rows: &[Row<'_>] = &[
        (&[("last_event_id", &old)], &[""], 1),
        (&[("lastEventId", &old)], &["", ""], 1),
        (&[("lastEventID", &old)], &[], 1),
        (&[("last_event_id", "")], &["", &old], 1),
        (&[("last_event_id", &old), ("lastEventId", "")], &[], 1),
        // A library repeats the page's own query, and adds what it knows.
        (&[("last_event_id", &old), ("lastEventId", &new)], &[], 2),
        (&[("last_event_id", &old)], &[&new], 2),
    ];
    for (options, headers, first) in rows {
        let mut stream = reopened_by(&server, "channel=c", options, headers).await;
        stream.expect("hello").await;
        assert_eq!(stream.expect("message").await["data"], *first, "{options:?} {headers:?}");
    }
    let mut stream = reopened_by(&server, "channel=c", &[("last_event_id", "")], &[""]).await;
    stream.expect("hello").await;
    server.publish("c", "3").await;
    assert_eq!(stream.expect("message").await["data"], 3, "without a cursor a stream begins at the head");
}

#[tokio::test]
async fn a_cursor_brings_back_everything_since() {
    let server = TestServer::dev("").await;
    for by_query in [false, true] {
        let mut stream = server.sse("channel=a&channel=b").await;
        stream.expect("hello").await;
        let cursor = stream.cursor();
        drop(stream);
        for n in 0..5 {
            server.publish("a", &n.to_string()).await;
            server.publish("b", &n.to_string()).await;
        }
        let mut stream = reopened(&server, by_query, "channel=a&channel=b", &cursor).await;
        stream.expect("hello").await;
        let mut seen = Vec::new();
        while seen.len() < 10 {
            let event = stream.expect("message").await;
            seen.push((event["channel"].as_str().unwrap().to_owned(), event["data"].clone()));
        }
        for channel in ["a", "b"] {
            let data: Vec<&Value> = seen.iter().filter(|(c, _)| c == channel).map(|(_, d)| d).collect();
            assert_eq!(data, [0, 1, 2, 3, 4], "{channel}");
        }
    }
}

#[tokio::test]
async fn a_stream_cut_anywhere_repeats_at_most_its_last_write() {
    let server = TestServer::dev("").await;
    let mut stream = server.sse("channel=c").await;
    stream.expect("hello").await;
    let mut cursor = stream.cursor();
    let mut seen: Vec<u64> = Vec::new();
    for n in 1..=30 {
        server.publish("c", &n.to_string()).await;
        if n % 3 == 0 {
            let event = stream.next().await.unwrap();
            seen.extend(event.json()["offset"].as_u64());
            if !stream.last_event_id.is_empty() {
                cursor = stream.last_event_id.clone();
            }
            stream = reopened(&server, false, "channel=c", &cursor).await;
        }
    }
    while seen.last() != Some(&30) {
        seen.extend(stream.next().await.unwrap().json()["offset"].as_u64());
    }
    seen.dedup();
    let mut distinct = seen.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct, (1..=30).collect::<Vec<_>>(), "nothing is missing: {seen:?}");
}

#[tokio::test]
async fn a_long_way_back_comes_in_order_and_then_live() {
    let server = TestServer::dev("[limits]\nhistory_page_max = 7").await;
    let mut stream = server.sse("channel=c").await;
    stream.expect("hello").await;
    let cursor = stream.cursor();
    for n in 1..=50 {
        server.publish("c", &n.to_string()).await;
    }
    let mut stream = reopened(&server, false, "channel=c", &cursor).await;
    stream.expect("hello").await;
    for n in 1..=60 {
        if n > 50 {
            server.publish("c", &n.to_string()).await;
        }
        assert_eq!(stream.expect("message").await["offset"], n);
    }
}

#[tokio::test]
async fn a_cursor_that_cannot_be_read_is_a_gap_in_every_channel() {
    let server = TestServer::dev("").await;
    server.publish("a", "1").await;
    for cursor in ["42", "AQ", "not-base64!", &"A".repeat(5_000), "AQEDYS1hAAAAAAAAAAAB"] {
        let mut stream = reopened(&server, true, "channel=a&channel=b", cursor).await;
        stream.expect("hello").await;
        for channel in ["a", "b"] {
            let gap = stream.expect("gap").await;
            assert_eq!((&gap["channel"], &gap["reason"]), (&json!(channel), &json!("cursor")), "{cursor}");
        }
        server.publish("a", "2").await;
        assert_eq!(stream.expect("message").await["data"], 2);
    }
}

#[tokio::test]
async fn a_cursor_of_another_start_is_a_gap_and_of_other_channels_none() {
    let first = TestServer::dev("").await;
    let mut stream = first.sse("channel=a").await;
    stream.expect("hello").await;
    let cursor = stream.cursor();
    let second = TestServer::dev("").await;
    let mut stream = reopened(&second, false, "channel=a", &cursor).await;
    stream.expect("hello").await;
    assert_eq!(stream.expect("gap").await["reason"], "epoch");
    let mut stream = reopened(&second, false, "channel=other", &cursor).await;
    stream.expect("hello").await;
    second.publish("other", "1").await;
    assert_eq!(
        stream.expect("message").await["data"],
        1,
        "a channel that the cursor lacks starts at the head"
    );
}

#[tokio::test]
async fn nothing_that_is_published_can_end_an_event() {
    let server = TestServer::dev("").await;
    let evil = "a\n\nevent: gap\r\nid: forged\r\rdata: b\u{2028}\n";
    let mut raw = server.sse("channel=c&raw=1").await;
    let mut full = server.sse("channel=c").await;
    raw.expect("hello").await;
    full.expect("hello").await;
    let body = json!({"channel": "c", "data": evil, "id": evil, "key": evil}).to_string();
    assert_eq!(server.post("/v1/publish", body).send().await.status, 200);
    let event = full.expect("message").await;
    for field in ["data", "id", "key"] {
        assert_eq!(event[field], evil, "{field}");
    }
    assert!(raw.next().await.unwrap().data.starts_with("\"a\\n\\nevent: gap"), "JSON stays JSON");
    let text = server.post("/v1/publish/c?id=a%0Aid:%20x", evil).header("content-type", "text/plain");
    assert_eq!(text.send().await.status, 200);
    let lines = evil.replace("\r\n", "\n").replace('\r', "\n");
    assert_eq!(raw.next().await.unwrap().data, lines);
    assert_eq!(full.expect("message").await["data"], evil);
    for (kind, body, data) in [
        ("text/plain", &b""[..], ""),
        ("application/json", b"[1,\n\n2]", "[1,\n\n2]"),
        ("application/octet-stream", b"\n\n", "Cgo="),
    ] {
        server.post("/v1/publish/c", body).header("content-type", kind).send().await;
        assert_eq!(raw.next().await.unwrap().data, data, "{kind}");
    }
    assert_ne!(raw.cursor(), "forged");
}

#[tokio::test]
async fn a_posted_subscription_starts_where_it_says() {
    let server = TestServer::dev("").await;
    for n in 1..=3 {
        server.publish("a", &n.to_string()).await;
    }
    let position = server.publish("a", "4").await["position"].clone();
    let since = json!({"epoch": position["epoch"], "offset": 2});
    let body = json!({"subscribe": [{"channel": "a", "since": since}, {"channel": "b"}]});
    let mut stream = EventStream::open(server.post("/sse", body.to_string())).await;
    stream.expect("hello").await;
    for n in [3, 4] {
        assert_eq!(stream.expect("message").await["data"], n);
    }
    let ahead = json!({"subscribe": [{"channel": "a", "since": {"epoch": position["epoch"], "offset": 9}}]});
    let mut stream = EventStream::open(server.post("/sse", ahead.to_string())).await;
    stream.expect("hello").await;
    assert_eq!(stream.expect("gap").await["reason"], "lost");
}

#[tokio::test]
async fn a_stream_that_cannot_be_is_refused_with_its_reason() {
    let server = TestServer::dev("[limits]\nchannels_per_connection = 3").await;
    for (query, code) in [
        ("", "bad_request"),
        ("channel=", "channel_invalid"),
        ("channel=a%0Ab", "channel_invalid"),
        ("channel=a&channel=b&channel=c&channel=d", "too_many_items"),
    ] {
        assert_eq!(server.get(&format!("/sse?{query}")).send().await.code(), code, "{query}");
    }
    for (body, code) in [
        ("", "bad_request"),
        ("{}", "bad_request"),
        ("{\"subscribe\":[]}", "bad_request"),
        ("{\"subscribe\":[{\"channel\":\"a\",\"since\":1}]}", "bad_request"),
        ("{\"subscribe\":[{\"channel\":\"$a\"}]}", "channel_invalid"),
        ("{\"watch\":[{\"tags\":[\"t\"]}],\"c\":9007199254740992}", "bad_request"),
    ] {
        assert_eq!(server.post("/sse", body).send().await.code(), code, "{body}");
    }
    let latest = "{\"watch\":[{\"tags\":[\"t\"]}],\"c\":9007199254740991}";
    EventStream::open(server.post("/sse", latest)).await.expect("hello").await;
    let mut stream = server.sse("channel=a&channel=a&channel=a&channel=a").await;
    stream.expect("hello").await;
    server.publish("a", "1").await;
    server.publish("a", "2").await;
    assert_eq!(stream.expect("message").await["data"], 1, "a channel named twice comes once");
    assert_eq!(stream.expect("message").await["data"], 2);
}

#[tokio::test]
async fn a_silent_stream_shows_that_it_lives() {
    let server = TestServer::dev("[server]\nping_interval = \"100ms\"\ntimeout = \"200ms\"").await;
    let mut stream = server.sse("channel=c").await;
    stream.expect("hello").await;
    // Four comments take twice the silence after which a socket would be given up.
    for _ in 0..4 {
        stream.heartbeat().await;
    }
    server.publish("c", "1").await;
    assert_eq!(stream.expect("message").await["data"], 1, "who never speaks is not given up");
}

#[tokio::test]
async fn a_server_without_room_answers_200_and_says_when_to_come_back() {
    let server = TestServer::dev("[limits]\nconnections_max = 1").await;
    let mut held = server.sse("channel=c").await;
    held.expect("hello").await;
    let mut turned_away = server.sse("channel=c").await;
    turned_away.is_turned_away().await;
    drop(held);
    server.metric_reaches("tidings_connections", "Sse", 0.0).await;
    server.sse("channel=c").await.expect("hello").await;
}

#[tokio::test]
async fn an_event_source_is_told_when_to_come_back_as_the_server_drains() {
    let server = TestServer::dev("").await;
    let mut stream = server.sse("channel=c").await;
    stream.expect("hello").await;
    server.publish("c", "1").await;
    let (events, ()) = tokio::join!(stream.rest(), server.drain());
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["message", "disconnect"], "what was accepted is delivered");
    let disconnect = events[1].json();
    assert_eq!((&disconnect["code"], &disconnect["reconnect"]), (&json!(1012), &json!(true)));
    assert_eq!(disconnect["after_ms"].as_u64(), stream.retry, "{disconnect}");
    assert!(stream.retry.is_some());
}

#[tokio::test]
async fn bad_credentials_are_refused_before_the_stream_begins() {
    let server = TestServer::serve(&auth_config()).await;
    assert_eq!(server.get("/sse?channel=c").send().await.code(), "unauthorized");
    assert_eq!(server.get("/sse?channel=c").bearer("nonsense").send().await.code(), "unauthorized");
}

#[tokio::test]
async fn who_comes_back_to_a_channel_without_history_is_told_that_something_is_lost() {
    let server = TestServer::dev("[namespace.volatile]\nhistory_size = 0\n").await;
    let mut stream = server.sse("channel=volatile:a&channel=b").await;
    stream.expect("hello").await;
    let cursor = stream.cursor();
    server.publish("volatile:a", "1").await;
    assert_eq!(stream.expect("message").await["channel"], "volatile:a", "nothing is lost for who is new");
    let mut stream = reopened(&server, false, "channel=volatile:a&channel=b", &cursor).await;
    stream.expect("hello").await;
    let gap = stream.expect("gap").await;
    assert_eq!(gap, json!({"channel": "volatile:a", "reason": "lost", "position": null}));
    server.publish("b", "2").await;
    assert_eq!(stream.expect("message").await["data"], 2, "b continues without a gap");
}
