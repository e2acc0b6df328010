//! Mutations over HTTP: what they touch, what is one event, what is refused, and what can be asked about them.

use serde_json::{Value, json};

use crate::support::{
    API_KEY, Answer, RedisServer, Request, TestServer, Token, WebSocket, auth_config, eventually,
};

const RULES: &str = r#"
[[rule]]
entity = "ticket"
on = ["create", "delete"]
tags = ["tickets", "ticket:{key}", "org:{row.org}:tickets"]

[[rule]]
entity = "ticket"
on = ["update"]
changed = ["status"]
each = "before,after"
tags = ["ticket:{key}", "tickets:status:{row.status}"]
"#;

/// A ticket is created.
const CREATED: &str =
    r#"{"entity":"ticket","key":42,"op":"create","after":{"org":7},"idempotency_key":"m1"}"#;

/// A log of a server, as seen by requests.
struct Log {
    server: TestServer,
}

impl Log {
    async fn dev(toml: &str) -> Log {
        Log { server: TestServer::dev(toml).await }
    }

    fn post(&self, path: &str, body: &str) -> Request {
        self.server.post(path, body)
    }

    /// Writes, which must succeed; gives the position.
    async fn write(&self, path: &str, body: &str) -> Value {
        position(&self.post(path, body).send().await)
    }

    async fn head(&self) -> Value {
        let answer = self.server.get("/v1/position").send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["position"].clone()
    }

    /// Those of the tags that were touched since.
    async fn touched<'a>(&self, since: &Value, tags: &[&'a str]) -> Vec<&'a str> {
        let items: Vec<Value> = tags.iter().map(|tag| json!({"since": since, "tags": [tag]})).collect();
        let body = json!({ "items": items }).to_string();
        let answer = self.post("/v1/check", &body).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let stale = answer.json()["stale"].clone();
        let indices = stale.as_array().expect("indices").iter();
        indices.map(|index| tags[index.as_u64().expect("an index") as usize]).collect()
    }
}

fn position(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["ack"], "stored");
    answer.json()["position"].clone()
}

#[tokio::test]
async fn a_mutation_touches_what_rules_say_and_nothing_else() {
    let log = Log::dev(RULES).await;
    let tags =
        ["tickets", "ticket:42", "org:7:tickets", "org:*", "*", "ticket:43", "ticket", "tickets:status:open"];
    let begin = log.head().await;
    assert_eq!(log.touched(&begin, &tags).await, [""; 0]);
    let created = log.write("/v1/mutations", CREATED).await;
    assert_eq!(log.touched(&begin, &tags).await, tags[..5]);
    assert_eq!(log.touched(&created, &tags).await, [""; 0]);
    assert_eq!(log.head().await, created);

    let moved = r#"{"entity":"ticket","key":"42","op":"update","before":{"status":"open"},"after":{"status":"done"}}"#;
    log.write("/v1/mutations", moved).await;
    let tags = ["ticket:42", "tickets:status:open", "tickets:status:done", "tickets"];
    assert_eq!(log.touched(&created, &tags).await, tags[..3]);
    let item =
        json!({"items": [{"since": "other-epoch.5", "tags": ["untouched"]}, {"since": created, "tags": []}]});
    let answer = log.post("/v1/check", &item.to_string()).send().await.json();
    assert_eq!(
        (&answer["stale"], &answer["at"]),
        (&json!([0]), &log.head().await),
        "of another numbering nobody knows"
    );
}

#[tokio::test]
async fn several_mutations_of_one_request_are_one_event() {
    let log = Log::dev("").await;
    let begin = log.head().await;
    let events = json!({"events": [
        {"entity": "a", "key": 1, "op": "create"},
        {"entity": "a", "key": 2, "op": "delete", "tags": ["x"]},
    ]});
    let position = log.write("/v1/mutations", &events.to_string()).await;
    assert_eq!(position["offset"], begin["offset"].as_u64().expect("a number") + 1);
    let tags = ["a", "a:1", "a:2", "x", "a:3"];
    assert_eq!(log.touched(&begin, &tags).await, tags[..4]);

    let wrong = json!({"events": [{"entity": "b", "key": 1, "op": "create"}, {"entity": "b c", "key": 1, "op": "create"}]});
    let answer = log.post("/v1/mutations", &wrong.to_string()).send().await;
    assert_eq!((answer.status, &*answer.code()), (422, "tag_invalid"));
    assert_eq!(log.head().await, position, "nothing of it is written");
}

#[tokio::test]
async fn a_retry_is_the_same_event_and_another_body_is_refused() {
    let log = Log::dev(RULES).await;
    let with_key = |body: &str| log.post("/v1/mutations", body).header("idempotency-key", "k");
    let first = log.write("/v1/mutations", CREATED).await;
    assert_eq!(log.write("/v1/mutations", CREATED).await, first);
    let spelled_otherwise = r#"{"events":[{"op":"create","idempotency_key":"m1","key":"42","entity":"ticket","after":{"org":7}}]}"#;
    assert_eq!(log.write("/v1/mutations", spelled_otherwise).await, first);
    let unlike = with_key(CREATED).send().await;
    assert_eq!(position(&unlike), first, "what the body says of itself counts");
    let other = log.post("/v1/mutations", &CREATED.replace("\"org\":7", "\"org\":8")).send().await;
    assert_eq!(other.code(), "idempotency_mismatch");

    let invalidation = log.post("/v1/invalidate", r#"{"tags":["a"]}"#).header("idempotency-key", "i");
    let written = position(&invalidation.clone().send().await);
    assert_eq!(position(&invalidation.clone().send().await), written);
    assert_eq!(invalidation.body(r#"{"tags":["b"]}"#).send().await.code(), "idempotency_mismatch");

    let batch = r#"{"events":[{"entity":"a","key":1,"op":"update","idempotency_key":"x"},{"entity":"a","key":2,"op":"update","idempotency_key":"y"}]}"#;
    let written = log.write("/v1/mutations", batch).await;
    assert_eq!(log.write("/v1/mutations", batch).await, written);
    let named = batch.replacen('{', r#"{"idempotency_key":"b1","#, 1);
    let named_position = log.write("/v1/mutations", &named).await;
    assert_ne!(named_position, written, "its own key counts over those of its mutations");
    assert_eq!(log.write("/v1/mutations", &named).await, named_position);
}

#[tokio::test]
async fn tags_are_invalidated_by_a_body_or_by_the_path() {
    let log = Log::dev("").await;
    let begin = log.head().await;
    log.write("/v1/invalidate", r#"{"tags":["a:*","b","b"]}"#).await;
    log.write("/v1/invalidate/c%2Fd:1", "").await;
    let tags = ["a", "a:1:2", "b", "c/d:1", "c"];
    assert_eq!(log.touched(&begin, &tags).await, tags[..4]);
    let shop = log.write("/v1/invalidate/e?ns=shop", "").await;
    assert_eq!(log.touched(&begin, &["e"]).await, [""; 0], "another log's");
    let head = log.server.get("/v1/position?ns=shop").send().await.json();
    assert_eq!((&head["position"], &shop["offset"]), (&shop, &json!(1)));
}

#[tokio::test]
async fn what_cannot_be_written_or_asked_is_refused_and_leaves_nothing() {
    let log = Log::dev(&format!(
        "{RULES}[limits]\nrequest_items_max = 2\ntags_per_event_max = 2\nmutation_tags_max = 5\nlogs_max = 1"
    ))
    .await;
    let tags = |count: usize| (0..count).map(|n| format!("\"t{n}\"")).collect::<Vec<_>>().join(",");
    let event =
        |key: u32| format!(r#"{{"entity":"a","key":{key},"op":"create","tags":["x{key}","y{key}"]}}"#);
    let item = |tag: &str| format!(r#"{{"since":"e.1","tags":["{tag}"]}}"#);
    log.write("/v1/invalidate/a?ns=one", "").await;
    let begin = log.head().await;
    for (path, body, code) in [
        ("/v1/mutations", "{".to_owned(), "invalid_json"),
        ("/v1/mutations", "{}".to_owned(), "bad_request"),
        ("/v1/mutations", "\u{fffd}".to_owned(), "invalid_json"),
        ("/v1/mutations?ack=perhaps", CREATED.to_owned(), "bad_request"),
        ("/v1/mutations", CREATED.replace("\"org\":7", "\"org\":\"a b\""), "tag_invalid"),
        ("/v1/mutations", CREATED.replace("\"org\":7", "\"org\":\"*\""), "tag_invalid"),
        ("/v1/mutations", CREATED.replace("\"org\":7", "\"organisation\":7"), "tag_invalid"),
        ("/v1/mutations", CREATED.replace("m1", ""), "bad_request"),
        ("/v1/mutations", CREATED.replace("m1", &"m".repeat(256)), "bad_request"),
        (
            "/v1/mutations",
            format!(r#"{{"entity":"a","key":1,"op":"create","tags":[{}]}}"#, tags(3)),
            "too_many_items",
        ),
        (
            "/v1/mutations",
            format!(r#"{{"events":[{},{},{}]}}"#, event(1), event(1), event(1)),
            "too_many_items",
        ),
        ("/v1/mutations", format!(r#"{{"events":[{},{}]}}"#, event(1), event(2)), "too_many_items"),
        ("/v1/invalidate", r#"{"tags":[]}"#.to_owned(), "bad_request"),
        ("/v1/invalidate", format!(r#"{{"tags":[{}]}}"#, tags(3)), "too_many_items"),
        ("/v1/invalidate", r#"{"tags":["a*"]}"#.to_owned(), "tag_invalid"),
        ("/v1/invalidate/a%20b", String::new(), "tag_invalid"),
        ("/v1/invalidate/%FF", String::new(), "tag_invalid"),
        ("/v1/invalidate/a?ns=a:b", String::new(), "bad_request"),
        ("/v1/invalidate/a?ns=two", String::new(), "limit_reached"),
        ("/v1/check", "[]".to_owned(), "bad_request"),
        ("/v1/check", r#"{"items":[{"tags":["a"]}]}"#.to_owned(), "bad_request"),
        ("/v1/check", format!(r#"{{"items":[{}]}}"#, item("a*")), "tag_invalid"),
        ("/v1/check", format!(r#"{{"items":[{0},{0},{0}]}}"#, item("a")), "too_many_items"),
        ("/v1/check", format!(r#"{{"items":[{{"since":"e.1","tags":[{}]}}]}}"#, tags(3)), "too_many_items"),
    ] {
        let answer = log.post(path, &body).send().await;
        assert_eq!(answer.code(), code, "{path} {body}: {}", answer.text());
    }
    let empty = log.server.get("/v1/position?ns=two").send().await.json();
    assert_eq!(empty["position"]["offset"], 0, "whoever asks after a log makes none");
    let items =
        format!(r#"{{"ns":"two","items":[{{"since":{},"tags":["a"]}},{}]}}"#, empty["position"], item("a"));
    let checked = log.post("/v1/check", &items).send().await.json();
    assert_eq!(checked["stale"], serde_json::json!([1]), "nothing was ever touched there");
    assert_eq!(log.head().await, begin, "nothing was written");
    log.write("/v1/mutations", &format!(r#"{{"events":[{},{}]}}"#, event(1), event(1))).await;
}

#[tokio::test]
async fn a_credential_writes_and_asks_after_its_own_tags_alone() {
    let server = TestServer::serve(&auth_config()).await;
    let writer = Token::of("ada").mutate("ticket:*").sign();
    let reader = Token::of("bob").watch("ticket:*").sign();
    let nothing = Token::of("eve").sign();
    let mutation = |entity: &str| format!(r#"{{"entity":"{entity}","key":1,"op":"create"}}"#);
    let question = |tag: &str| format!(r#"{{"items":[{{"since":"e.1","tags":["{tag}"]}}]}}"#);
    for (credential, path, body, code) in [
        (writer.as_str(), "/v1/mutations", mutation("ticket"), None),
        (&writer, "/v1/mutations", mutation("user"), Some("tag_not_allowed")),
        (&writer, "/v1/invalidate/ticket:*", String::new(), None),
        (&writer, "/v1/invalidate/*", String::new(), Some("tag_not_allowed")),
        (&writer, "/v1/check", question("ticket:1"), Some("tag_not_allowed")),
        (&reader, "/v1/check", question("ticket:1"), None),
        (&reader, "/v1/check", question("user:1"), Some("tag_not_allowed")),
        (&reader, "/v1/mutations", mutation("ticket"), Some("tag_not_allowed")),
        (API_KEY, "/v1/mutations", mutation("user"), None),
        (API_KEY, "/v1/check", question("user:1"), None),
        ("", "/v1/mutations", mutation("ticket"), Some("unauthorized")),
        ("", "/v1/check", question("a"), Some("unauthorized")),
    ] {
        let answer = server.post(path, &body).bearer(credential).send().await;
        match code {
            None => assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text()),
            Some(code) => assert_eq!(answer.code(), code, "{path} {body}"),
        }
    }
    let position = async |token: &str| server.get("/v1/position").bearer(token).send().await;
    assert_eq!((position(&reader).await.status, position(&writer).await.status), (200, 200));
    assert_eq!(position(&nothing).await.code(), "tag_not_allowed");
    let nothing_asked = server.post("/v1/check", r#"{"items":[]}"#).bearer(&nothing).send().await;
    assert_eq!(nothing_asked.code(), "tag_not_allowed", "{nothing_asked:?}");
    assert_eq!(server.get("/v1/position").send().await.code(), "unauthorized");
}

#[tokio::test]
async fn cloud_events_are_mutations_in_all_their_forms() {
    let log = Log::dev("").await;
    let begin = log.head().await;
    let structured = r#"{"specversion":"1.0","id":"1","source":"/crm","type":"crm.ticket.updated","subject":"42","data":{"tags":["x"]}}"#;
    let structured =
        log.post("/v1/mutations", structured).header("content-type", "application/cloudevents+json");
    let written = position(&structured.clone().send().await);
    assert_eq!(position(&structured.send().await), written, "source and id make a retry");
    let binary = |id: &str| {
        let body = r#"{"op":"create","after":{}}"#;
        let headers = [
            ("ce-specversion", "1.0"),
            ("ce-source", "/crm"),
            ("ce-type", "t"),
            ("ce-subject", "note:1"),
            ("content-type", "application/json"),
        ];
        let request = headers
            .into_iter()
            .fold(log.post("/v1/mutations", body), |request, (name, value)| request.header(name, value));
        request.header("ce-id", id)
    };
    assert_ne!(position(&binary("2").send().await), written);
    assert_eq!(binary("1").send().await.code(), "idempotency_mismatch", "one source has one event of a name");
    let batch = r#"[{"specversion":"1.0","id":"3","source":"/crm","type":"crm.user.deleted","subject":"7"},
        {"specversion":"1.0","id":"4","source":"/crm","type":"crm.user.deleted","subject":"8"}]"#;
    let batched =
        log.post("/v1/mutations", batch).header("content-type", "application/cloudevents-batch+json");
    let written = position(&batched.clone().send().await);
    assert_eq!(
        (&written["offset"], position(&batched.send().await)),
        (&json!(3), written.clone()),
        "all of them are one event"
    );
    let tags = ["ticket:42", "x", "note", "note:1", "user", "user:7", "user:8", "ticket"];
    assert_eq!(log.touched(&begin, &tags).await, tags[..7]);

    let mixed = batch.replacen("\"subject\":\"7\"", "\"subject\":\"7\",\"ns\":\"shop\"", 1);
    for (content_type, body, code) in [
        ("application/cloudevents+json", "{\"specversion\":\"1.0\"}", "bad_request"),
        ("application/cloudevents-batch+json", "[]", "bad_request"),
        ("application/cloudevents+xml", "<a/>", "unsupported_media_type"),
        (
            "application/cloudevents-batch+json",
            &mixed.replacen("\"id\":\"4\"", "\"id\":\"4\",\"ns\":\"other\"", 1),
            "bad_request",
        ),
    ] {
        let answer = log.post("/v1/mutations", body).header("content-type", content_type).send().await;
        assert_eq!(answer.code(), code, "{body}");
    }
}

#[tokio::test]
async fn cloud_events_are_publishes_on_the_channel_of_their_subject() {
    let server = TestServer::dev("").await;
    let mut subscriber = server.subscriber("room:7").await;
    let event = |id: &str, subject: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/a","type":"t","subject":"{subject}","data":{{"n":1.50}}}}"#
        )
    };
    let structured = |id: &str, subject: &str| {
        server.post("/v1/publish", event(id, subject)).header("content-type", "application/cloudevents+json")
    };
    let first = position(&structured("1", "room:7").send().await);
    assert_eq!(position(&structured("1", "room:7").send().await), first);
    assert_eq!(subscriber.expect("batch").await["publications"][0]["data"].to_string(), r#"{"n":1.5}"#);
    assert_eq!(structured("2", "a b").send().await.code(), "channel_invalid");

    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-id", "3"),
        ("ce-source", "/a"),
        ("ce-type", "t"),
        ("ce-subject", "room:7"),
        ("content-type", "text/plain"),
    ];
    let binary = binary
        .into_iter()
        .fold(server.post("/v1/publish", "hello"), |request, (name, value)| request.header(name, value));
    assert_eq!(position(&binary.send().await)["offset"], 2);
    assert_eq!(subscriber.expect("batch").await["publications"][0]["data"], "hello");

    let batch = format!("[{},{},{}]", event("4", "room:7"), event("5", "a b"), event("4", "room:7"));
    let answer = server
        .post("/v1/publish", batch)
        .header("content-type", "application/cloudevents-batch+json")
        .send()
        .await;
    let results = answer.json()["results"].clone();
    assert_eq!(results[0]["position"]["offset"], 3);
    assert_eq!(results[1]["error"]["code"], "channel_invalid");
    assert_eq!((&results[2]["position"], &results[2]["duplicate"]), (&results[0]["position"], &json!(true)));
}

#[tokio::test]
async fn an_answer_says_what_is_known() {
    let log = Log::dev("").await;
    let answer = log.post("/v1/invalidate/a?ack=none", "").send().await;
    assert_eq!((answer.status, answer.json()), (202, json!({"position": null, "ack": "none"})));
    let answer = log.post("/v1/invalidate/a", "").header("tidings-ack", "replicated").send().await;
    assert_eq!((answer.status, &*answer.code()), (409, "ack_not_possible"));
    assert_eq!(log.head().await["offset"], 1, "only the first is written");
    assert_eq!(log.server.metric("tidings_mutations_total", "").await, 1.0);
    assert_eq!(log.server.metric("tidings_mutation_tags_total", "").await, 1.0);
}

#[tokio::test]
async fn where_there_are_replicas_they_have_a_mutation_before_it_is_acknowledged() {
    let [primary, replica] = [RedisServer::start("").await, RedisServer::start("").await];
    replica.replica_of(&primary).await;
    let server = TestServer::dev(&format!("[redis]\nurl = \"{}\"\nreplicas = 1\n", primary.url())).await;
    let invalidate = |query: &str| server.post(&format!("/v1/invalidate/a{query}"), "").send();
    let answer = invalidate("").await;
    assert_eq!((answer.status, &answer.json()["ack"]), (200, &json!("replicated")), "{}", answer.text());
    let head = server.get("/v1/position").send().await.json();
    assert_eq!(head["position"], answer.json()["position"]);

    replica.pause().await;
    let answer = invalidate("").await;
    assert_eq!((answer.status, &*answer.code()), (503, "replication_unconfirmed"));
    assert!(answer.json()["position"].is_object(), "{}", answer.text());
    assert_eq!(invalidate("?ack=stored").await.json()["ack"], "stored");
    replica.resume();
}

#[tokio::test]
async fn who_watches_is_told_of_a_mutation() {
    let log = Log::dev("").await;
    let mut socket: WebSocket = log.server.websocket().await;
    let watched = socket.ask(json!({"watch": {"groups": [{"tags": ["ticket:42", "tickets"]}]}})).await;
    assert!(watched.get("watched").is_some(), "{watched}");
    let written = log.write("/v1/mutations", r#"{"entity":"ticket","key":42,"op":"update"}"#).await;
    let told = socket.expect("invalidated").await;
    assert_eq!((&told["at"], &told["tags"]), (&written, &json!({"ticket:42": written["offset"]})));
}

#[tokio::test]
async fn a_server_that_drains_takes_no_mutations() {
    let server = TestServer::dev("[server]\ndrain_delay = \"0s\"\ndrain_spread = \"500ms\"\n").await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(server.websocket().await);
    }
    let request = server.post("/v1/invalidate/a", "");
    assert_eq!(request.clone().send().await.status, 200);
    let drain = tokio::spawn(server.drain());
    let answer = eventually("a refusal", async || {
        let answer = request.clone().send().await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert_eq!(answer.code(), "draining");
    drop(held);
    drain.await.expect("it ends");
}

#[tokio::test]
async fn a_field_or_option_that_does_nothing_is_refused_where_it_would_leave_values_stale() {
    let log = Log::dev("").await;
    let begin = log.head().await;
    for (path, body, why) in [
        // The row's own id: its second change within ten minutes was no mutation.
        ("/v1/mutations", r#"{"entity":"ticket","key":42,"op":"update","id":"42"}"#, "idempotency_key"),
        ("/v1/mutations?id=42", r#"{"entity":"ticket","key":42,"op":"update"}"#, "idempotency_key"),
        ("/v1/mutations", r#"{"entity":"ticket","key":42,"op":"update","tag":["a"]}"#, "unknown field"),
        ("/v1/invalidate", r#"{"tag":"ticket:42"}"#, "unknown field"),
        ("/v1/invalidate", r#"{"tags":["ticket:42"],"id":"1"}"#, "unknown field"),
        ("/v1/invalidate?tag=a", r#"{"tags":["ticket:42"]}"#, "no option"),
        ("/v1/invalidate/ticket:42?log=shop", "", "no option"),
        ("/v1/check?since=a.1", r#"{"items":[]}"#, "no option"),
        ("/v1/check", r#"{"items":[{"since":"a.1","tag":"a"}]}"#, "unknown field"),
    ] {
        let answer = log.post(path, body).send().await;
        let text = answer.text();
        assert!(answer.code() == "bad_request" && text.contains(why), "{path} {body}: {text}");
    }
    assert_eq!(log.head().await, begin, "nothing was written");
}

#[tokio::test]
async fn a_log_is_named_by_the_query_or_by_the_body() {
    let log = Log::dev("").await;
    let begin = log.head().await;
    let shop = log.write("/v1/invalidate?ns=shop", r#"{"tags":["item:1"]}"#).await;
    let created = log.write("/v1/mutations?ns=shop", r#"{"entity":"item","key":2,"op":"create"}"#).await;
    assert_eq!((&shop["offset"], &created["offset"]), (&json!(1), &json!(2)));
    assert_eq!(log.head().await, begin, "the default log has none of it");
    let since = json!({"epoch": shop["epoch"], "offset": 0});
    let question = json!({"items": [{"since": since, "tags": ["item:1"]}]}).to_string();
    let asked = log.post("/v1/check?ns=shop", &question).send().await.json();
    assert_eq!(asked["stale"], json!([0]), "what was touched in that log");
    for (path, body) in [
        ("/v1/invalidate?ns=shop", r#"{"ns":"default","tags":["item:1"]}"#.to_owned()),
        ("/v1/mutations?ns=shop", r#"{"ns":"default","entity":"item","key":2,"op":"create"}"#.to_owned()),
        ("/v1/check?ns=shop", question.replacen('{', r#"{"ns":"default","#, 1)),
    ] {
        assert_eq!(log.post(path, &body).send().await.code(), "bad_request", "{path} {body}");
    }
}

#[tokio::test]
async fn an_idempotency_key_is_its_users_own() {
    let server = TestServer::serve(&auth_config()).await;
    let token = |user: &str, tags: &str| Token::of(user).publish("room:*").mutate(tags).sign();
    let (eve, backend) = (token("eve", "eve:*"), token("backend", "*"));
    let invalidate = |token: &str, tag: &str| {
        server.post(&format!("/v1/invalidate/{tag}?idempotency_key=tx-917"), "").bearer(token).send()
    };
    assert_eq!(invalidate(&eve, "eve:1").await.status, 200);
    let since = server.get("/v1/position").bearer(&backend).send().await.json()["position"].clone();
    assert_eq!(invalidate(&backend, "ticket:42").await.status, 200, "eve's key is not the backend's");
    let question = json!({"items": [{"since": since, "tags": ["ticket:42"]}]}).to_string();
    let checked = server.post("/v1/check", &question).bearer(API_KEY).send().await.json();
    assert_eq!(checked["stale"], json!([0]), "the backend's mutation is told");
    let publish = async |token: &str, data: &str| {
        let answer =
            server.post("/v1/publish/room:1", data).bearer(token).header("idempotency-key", "order-17");
        answer.send().await.json()["position"]["offset"].clone()
    };
    let (ada, bob) = (token("ada", "x"), token("bob", "x"));
    assert_eq!(publish(&ada, "1").await, 1);
    assert_eq!(publish(&bob, "1").await, 2, "equal bytes of another user are no repeat");
    assert_eq!(publish(&ada, "1").await, 1, "a repeat of one's own is");
    let mut socket = WebSocket::connect(server.address, &[("authorization", &format!("Bearer {bob}"))]).await;
    socket.expect("hello").await;
    let again = json!({"publish": {"channel": "room:1", "data": 1, "idempotency_key": "order-17"}});
    let published = socket.ask(again).await;
    assert_eq!(published["published"]["position"]["offset"], 2, "by whichever transport: {published}");
}
