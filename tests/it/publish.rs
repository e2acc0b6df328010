//! Publishing over HTTP and over WebSockets: what is accepted, what it becomes, and what is refused.

use serde_json::{Value, json};

use crate::support::{Answer, TestServer};

/// Publishes a raw body of a type and returns the first thing that a subscriber sees of it.
async fn seen(content_type: &str, body: &[u8]) -> Value {
    let server = TestServer::dev("").await;
    let mut subscriber = server.subscriber("c").await;
    let mut request = server.post("/v1/publish/c", body);
    if !content_type.is_empty() {
        request = request.header("content-type", content_type);
    }
    let answer = request.send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    subscriber.expect("batch").await["publications"][0].clone()
}

async fn refused(server: &TestServer, path: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
    let request =
        headers.iter().fold(server.post(path, body), |request, (name, value)| request.header(name, value));
    request.send().await.code()
}

#[tokio::test]
async fn a_raw_body_becomes_what_its_type_says() {
    for (content_type, body, field, expected) in [
        ("application/json", &b" {\"id\":42} "[..], "data", json!({"id": 42})),
        ("application/vnd.api+json; charset=utf-8", b"[1]", "data", json!([1])),
        ("text/plain", b"{\"id\":42}", "data", json!("{\"id\":42}")),
        ("text/html", b"<b>\xc3\xbc</b>\n", "data", json!("<b>\u{fc}</b>\n")),
        ("application/octet-stream", &[0, 255, 7], "b64", json!("AP8H")),
        ("application/x-www-form-urlencoded", b"{\"id\":42}", "data", json!({"id": 42})),
        ("application/x-www-form-urlencoded", b"a=1&b", "data", json!("a=1&b")),
        ("", b"null", "data", Value::Null),
        ("", b"", "data", json!("")),
        ("text/plain", b"", "data", json!("")),
        ("application/octet-stream", b"", "b64", json!("")),
    ] {
        let publication = seen(content_type, body).await;
        assert_eq!(publication[field], expected, "{content_type}: {publication}");
        assert!(publication["time"].as_u64() > Some(1_700_000_000_000), "{publication}");
    }
}

#[tokio::test]
async fn json_reaches_subscribers_byte_for_byte() {
    let server = TestServer::dev("").await;
    let mut stream = server.sse("channel=c&raw=1").await;
    stream.expect("hello").await;
    let text = "{\"b\": 1.10, \"a\":[1e2,\"\\u00e9\",12345678901234567890123]}";
    server.publish("c", text).await;
    assert_eq!(stream.next().await.unwrap().data, text);
}

#[tokio::test]
async fn what_cannot_be_data_is_refused() {
    let server = TestServer::dev("").await;
    let json = ("content-type", "application/json");
    for (headers, body, code) in [
        (&[json][..], &b"{"[..], "invalid_json"),
        (&[json], b"", "invalid_json"),
        (&[json], b"NaN", "invalid_json"),
        (&[json], b"-Infinity", "invalid_json"),
        (&[json], b"1e999", "number_out_of_range"),
        (&[json], b"{\"a\":[-1e400]}", "number_out_of_range"),
        (&[json], b"\"\xff\"", "invalid_utf8"),
        (&[json], "[".repeat(100_000).as_bytes(), "invalid_json"),
        (&[("content-type", "text/plain")], b"\xc3", "invalid_utf8"),
        (&[("content-type", "image/png")], b"x", "unsupported_media_type"),
        (&[("content-type", "multipart/form-data; boundary=x")], b"x", "unsupported_media_type"),
        (&[json, ("content-encoding", "gzip")], b"1", "unsupported_media_type"),
    ] {
        assert_eq!(refused(&server, "/v1/publish/c", headers, body).await, code, "{headers:?}");
    }
    assert_eq!(
        server.get("/v1/channels").send().await.json(),
        json!({"channels": [], "more": false}),
        "nothing was stored"
    );
}

#[tokio::test]
async fn a_channel_outside_the_grammar_is_refused_in_the_path_and_in_the_body() {
    let server = TestServer::dev("").await;
    for name in ["$sys", "a%20b", "%FF", "a%00b", "%2E%2E", "a%7Bb%7D", &"x".repeat(256)] {
        let code = refused(&server, &format!("/v1/publish/{name}"), &[], b"1").await;
        assert_eq!(code, "channel_invalid", "{name}");
    }
    for name in ["", "..", "a b", "\u{0}"] {
        let body = json!({"channel": name, "data": 1}).to_string();
        assert_eq!(
            refused(&server, "/v1/publish", &[], body.as_bytes()).await,
            "channel_invalid",
            "{name:?}"
        );
    }
    assert_eq!(
        server.publish("a%2Fb:c", "1").await["position"]["offset"],
        1,
        "a name may hold an encoded slash"
    );
}

#[tokio::test]
async fn the_json_form_carries_data_or_bytes_and_every_option() {
    let server = TestServer::dev("").await;
    let mut subscriber = server.subscriber("c").await;
    let body = json!({"channel": "c", "data": {"a": 1}, "id": "i", "key": "k", "idempotency_key": "secret"});
    let answer = server.post("/v1/publish", body.to_string()).send().await;
    assert_eq!((answer.status, &answer.json()["ack"]), (200, &json!("stored")));
    let publication = subscriber.expect("batch").await["publications"][0].clone();
    assert_eq!((&publication["id"], &publication["key"]), (&json!("i"), &json!("k")));
    assert!(!publication.to_string().contains("secret"), "the key is not for subscribers: {publication}");
    server.post("/v1/publish", r#"{"channel":"c","b64":"AP8H"}"#).send().await;
    assert_eq!(subscriber.expect("batch").await["publications"][0]["b64"], "AP8H");
    for (body, code) in [
        (r#"{"channel":"c"}"#, "bad_request"),
        (r#"{"channel":"c","data":1,"b64":""}"#, "bad_request"),
        (r#"{"channel":"c","b64":"AP8"}"#, "bad_request"),
        (r#"{"channel":7,"data":1}"#, "bad_request"),
        (r#"{"channel":"c","data":1,"ack":"perhaps"}"#, "bad_request"),
        (r#"{"channel":"c","data":1,"id":""}"#, "bad_request"),
        (r#"{"channel":"c","data":1e999}"#, "number_out_of_range"),
        (r#"{"channel":"c","data":1"#, "invalid_json"),
        ("[]", "bad_request"),
        ("", "invalid_json"),
    ] {
        assert_eq!(refused(&server, "/v1/publish", &[], body.as_bytes()).await, code, "{body}");
    }
}

#[tokio::test]
async fn options_come_in_the_query_and_in_headers() {
    let server = TestServer::dev("").await;
    let mut subscriber = server.subscriber("c").await;
    server.post("/v1/publish/c?id=q1&key=q2", "1").send().await;
    let headers = server.post("/v1/publish/c", "2").header("tidings-id", "h1").header("tidings-key", "h2");
    headers.send().await;
    let first = subscriber.expect("batch").await["publications"][0].clone();
    let second = subscriber.expect("batch").await["publications"][0].clone();
    assert_eq!((&first["id"], &first["key"]), (&json!("q1"), &json!("q2")));
    assert_eq!((&second["id"], &second["key"]), (&json!("h1"), &json!("h2")));
    for path in
        ["/v1/publish/c?ack=perhaps", "/v1/publish/c?id=", &format!("/v1/publish/c?key={}", "k".repeat(256))]
    {
        assert_eq!(refused(&server, path, &[], b"1").await, "bad_request", "{path}");
    }
}

#[tokio::test]
async fn an_ack_is_given_as_asked_or_refused() {
    let server = TestServer::dev("").await;
    for (path, status, ack, offset) in [
        ("/v1/publish/c", 200, "stored", json!(1)),
        ("/v1/publish/c?ack=stored", 200, "stored", json!(2)),
        ("/v1/publish/c?ack=none", 202, "none", Value::Null),
    ] {
        let answer = server.post(path, "1").send().await;
        let body = answer.json();
        assert_eq!(
            (answer.status, &body["ack"], &body["position"]["offset"]),
            (status, &json!(ack), &offset)
        );
    }
    assert_eq!(refused(&server, "/v1/publish/c?ack=replicated", &[], b"1").await, "ack_not_possible");
    assert_eq!(
        refused(&server, "/v1/publish/c", &[("tidings-ack", "replicated")], b"1").await,
        "ack_not_possible"
    );
    let after = server.publish("c", "1").await;
    assert_eq!(after["position"]["offset"], 4, "`none` was stored all the same, `replicated` was not");
}

#[tokio::test]
async fn a_retry_under_the_same_key_is_stored_once() {
    let server = TestServer::dev("").await;
    let publish = async |channel: &str, key: &str, body: &str| -> Answer {
        server.post(&format!("/v1/publish/{channel}"), body).header("idempotency-key", key).send().await
    };
    let first = publish("c", "k", "1").await.json();
    let repeated = json!({"position": first["position"], "ack": "stored", "duplicate": true});
    assert_eq!(publish("c", "k", "1").await.json(), repeated, "the first answer, and that it is one");
    let in_query = server.post("/v1/publish/c?idempotency_key=k", "1").send().await;
    assert_eq!(in_query.json(), repeated, "header and query are the same key");
    assert_eq!(publish("c", "k", "2").await.code(), "idempotency_mismatch");
    assert_eq!(publish("c", "other", "1").await.json()["position"]["offset"], 2);
    assert_eq!(publish("d", "k", "2").await.json()["position"]["offset"], 1, "keys belong to a channel");
    assert_eq!(publish("c", "", "1").await.code(), "bad_request");
}

#[tokio::test]
async fn retries_at_the_same_time_are_stored_once() {
    let server = TestServer::dev("").await;
    let retries = (0..20).map(|_| server.post("/v1/publish/c?idempotency_key=k", "1").send());
    let answers = futures::future::join_all(retries).await;
    for answer in &answers {
        assert_eq!(answer.json()["position"]["offset"], 1, "{}", answer.text());
    }
    assert_eq!(server.publish("c", "1").await["position"]["offset"], 2);
}

#[tokio::test]
async fn a_key_is_forgotten_after_its_window() {
    let server = TestServer::dev("[limits]\nidempotency_window = \"100ms\"").await;
    let publish = async || server.post("/v1/publish/c?idempotency_key=k", "1").send().await.json();
    let first = publish().await["position"]["offset"].clone();
    crate::support::eventually("the key to be forgotten", async || {
        (publish().await["position"]["offset"] != first).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_batch_gives_each_item_its_own_result() {
    let server = TestServer::dev("").await;
    let items = [
        r#"{"channel":"c","data":1}"#,
        r#"{"channel":"$c","data":1}"#,
        r#"{"channel":"c","data":1e999}"#,
        r#"{"channel":"c","data":2}"#,
        "7",
    ];
    for (body, first) in [(format!("[{}]", items.join(",")), 1), (items.join("\n\n") + "\r\n", 3)] {
        let answer = server.post("/v1/batch", body).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let results = answer.json()["results"].clone();
        assert_eq!(results[0]["position"]["offset"], first);
        assert_eq!(results[1]["error"]["code"], "channel_invalid");
        assert_eq!(results[2]["error"]["code"], "number_out_of_range");
        assert_eq!(results[3]["position"]["offset"], first + 1);
        assert_eq!(results[4]["error"]["code"], "bad_request");
        assert_eq!(results.as_array().map(Vec::len), Some(5));
    }
}

#[tokio::test]
async fn item_i_of_a_keyed_batch_has_the_key_k_i() {
    let server = TestServer::dev("").await;
    let body = r#"[{"channel":"c","data":"a"},{"channel":"c","data":"b"},{"channel":"c","data":"c","idempotency_key":"own"}]"#;
    let batch = async || server.post("/v1/batch", body).header("idempotency-key", "k").send().await.json();
    let first = batch().await;
    let again = batch().await;
    for index in 0..3 {
        let (first, again) = (&first["results"][index], &again["results"][index]);
        assert_eq!(
            (&again["position"], &again["duplicate"]),
            (&first["position"], &json!(true)),
            "stored once"
        );
    }
    let long = server.post("/v1/batch", body).header("idempotency-key", &"k".repeat(249)).send().await;
    assert_eq!(long.code(), "bad_request", "the keys of its items would be too long");
    let unheard = server.post("/v1/batch?ack=replicated", r#"[{"channel":"c","data":1}]"#).send().await;
    assert_eq!(
        unheard.json()["results"][0]["error"]["code"],
        "ack_not_possible",
        "`ack` counts for all items"
    );
    for (key, data, offset) in [("k#0", "\"a\"", 1), ("k#1", "\"b\"", 2), ("own", "\"c\"", 3)] {
        let request = server.post("/v1/publish/c", data).header("content-type", "application/json");
        let single = request.header("idempotency-key", key).send().await.json();
        assert_eq!(single["position"]["offset"], offset, "{key}");
    }
    assert_eq!(
        refused(&server, "/v1/publish/c", &[("idempotency-key", "k#1")], b"x").await,
        "idempotency_mismatch"
    );
}

#[tokio::test]
async fn a_batch_that_is_none_is_refused_whole() {
    let server = TestServer::dev("[limits]\nrequest_items_max = 2").await;
    let item = r#"{"channel":"c","data":1}"#;
    for (body, code) in [
        (String::new(), "bad_request"),
        ("[]".to_owned(), "bad_request"),
        ("\n".repeat(100_000), "bad_request"),
        (format!("[{item},"), "invalid_json"),
        (format!("[{item},{item},{item}]"), "too_many_items"),
        (format!("{item}\n{item}\n{item}"), "too_many_items"),
        (format!("[{}0]", "0,".repeat(100_000)), "too_many_items"),
    ] {
        assert_eq!(refused(&server, "/v1/batch", &[], body.as_bytes()).await, code);
    }
    assert_eq!(refused(&server, "/v1/batch", &[], b"[\"\xff\"]").await, "invalid_utf8");
    assert_eq!(server.publish("c", "1").await["position"]["offset"], 1, "no item was stored");
}

#[tokio::test]
async fn data_at_the_limit_is_accepted_and_one_byte_more_is_not() {
    let server = TestServer::dev("[limits]\nmessage_bytes_max = 1000\nrequest_bytes_max = 5000").await;
    let text = |bytes: usize| "x".repeat(bytes);
    let publish = async |path: &str, kind: &str, body: String| {
        server.post(path, body).header("content-type", kind).send().await
    };
    assert_eq!(publish("/v1/publish/c", "text/plain", text(1000)).await.status, 200);
    assert_eq!(publish("/v1/publish/c", "text/plain", text(1001)).await.code(), "too_large");
    let quoted = |bytes: usize| format!("\"{}\"", text(bytes - 2));
    let form = |data: String| format!("{{\"channel\":\"c\",\"data\":{data}}}");
    assert_eq!(publish("/v1/publish", "application/json", form(quoted(1000))).await.status, 200);
    assert_eq!(publish("/v1/publish", "application/json", form(quoted(1001))).await.code(), "too_large");
    let batch = publish("/v1/batch", "application/json", form(quoted(1001))).await.json();
    assert_eq!(batch["results"][0]["error"]["code"], "too_large");
    assert_eq!(publish("/v1/batch", "application/json", text(5001)).await.code(), "too_large");

    let mut socket = server.websocket().await;
    let command = |bytes: usize| json!({"publish": {"channel": "c", "data": text(bytes - 2)}});
    assert_eq!(socket.ask(command(1000)).await["published"]["position"]["offset"], 3);
    assert_eq!(socket.refused(command(1001)).await, "too_large");
    socket.subscribe("c").await;
}

#[tokio::test]
async fn a_socket_publishes_as_http_does() {
    let server = TestServer::dev("").await;
    let mut socket = server.websocket().await;
    let keyed = json!({"publish": {"channel": "c", "data": 1, "idempotency_key": "k"}});
    let first = socket.ask(keyed.clone()).await["published"].clone();
    assert_eq!((&first["position"]["offset"], &first["ack"]), (&json!(1), &json!("stored")));
    let repeated = json!({"position": first["position"], "ack": "stored", "duplicate": true});
    assert_eq!(socket.ask(keyed).await["published"], repeated);
    assert_eq!(server.post("/v1/publish/c?idempotency_key=k", "1").send().await.json(), repeated);
    for (command, code) in [
        (json!({"publish": {"channel": "c", "data": 2, "idempotency_key": "k"}}), "idempotency_mismatch"),
        (json!({"publish": {"channel": "c", "data": 2, "ack": "replicated"}}), "ack_not_possible"),
        (json!({"publish": {"channel": "c"}}), "bad_frame"),
        (json!({"publish": {"channel": "a b", "data": 1}}), "channel_invalid"),
    ] {
        assert_eq!(socket.refused(command.clone()).await, code, "{command}");
    }
    socket.send(json!({"publish": {"channel": "c", "data": 3}})).await;
    let next = socket.ask(json!({"publish": {"channel": "c", "data": 4}})).await;
    assert_eq!(
        next["published"]["position"]["offset"], 3,
        "without an id there is no reply, and it is done all the same"
    );
}

#[tokio::test]
async fn the_options_of_a_request_hold_for_a_json_body_too() {
    let server = TestServer::dev("").await;
    let mut subscriber = server.subscriber("c").await;
    let body = "{\"channel\":\"c\",\"data\":1}";
    let answer = server.post("/v1/publish?id=from-query&ack=none", body).send().await;
    assert_eq!((answer.status, answer.json()["ack"].clone()), (202, json!("none")));
    assert_eq!(subscriber.expect("batch").await["publications"][0]["id"], "from-query");
}
