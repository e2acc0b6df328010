//! Resuming: everything between a position and now, or a gap that says why not.

use serde_json::{Value, json};

use crate::support::TestServer;

fn at(position: &Value, offset: u64) -> Value {
    json!({"epoch": position["epoch"], "offset": offset})
}

/// Publishes `1..=count` and returns the last position.
async fn filled(server: &TestServer, channel: &str, count: u64) -> Value {
    let mut position = Value::Null;
    for n in 1..=count {
        position = server.publish(channel, &n.to_string()).await["position"].clone();
    }
    position
}

fn offsets(publications: &Value) -> Vec<u64> {
    publications.as_array().unwrap().iter().map(|p| p["offset"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_position_is_continued_without_a_hole() {
    let server = TestServer::dev("").await;
    let head = filled(&server, "c", 10).await;
    for (since, expected) in [(10, vec![]), (7, vec![8, 9, 10]), (0, (1..=10).collect())] {
        let mut socket = server.websocket().await;
        let subscribed = socket.resume("c", &at(&head, since)).await;
        assert_eq!(subscribed["recovered"], true, "{subscribed}");
        assert_eq!(subscribed["more"], false);
        assert_eq!(subscribed["position"], head);
        assert_eq!(offsets(&subscribed["publications"]), expected);
        assert_eq!(socket.ask(json!({"ping": {"c": 1}})).await["pong"]["c"], 1, "no gap followed");
    }
    let mut socket = server.websocket().await;
    let text = format!("{}.7", head["epoch"].as_str().unwrap());
    let subscribed = socket.resume("c", &json!(text)).await;
    assert_eq!(offsets(&subscribed["publications"]), [8, 9, 10], "the text form says the same");
    server.publish("c", "11").await;
    assert_eq!(socket.expect("batch").await["first"], 11);
}

/// Resumes at `since`; asserts that a gap with this reason follows and that live goes on after the head.
async fn check_gap(server: &TestServer, since: &Value, reason: &str) {
    let mut socket = server.websocket().await;
    let subscribed = socket.resume("c", since).await;
    assert_eq!(subscribed["recovered"], false, "{subscribed}");
    assert_eq!(subscribed["publications"], json!([]));
    let gap = socket.expect("gap").await;
    assert_eq!((&gap["channel"], &gap["reason"]), (&json!("c"), &json!(reason)));
    assert_eq!(gap["position"], subscribed["position"], "both name the head");
    let next = server.publish("c", "0").await["position"]["offset"].clone();
    assert_eq!(next, gap["position"]["offset"].as_u64().unwrap() + 1);
    assert_eq!(socket.expect("batch").await["first"], next, "live goes on after the gap");
}

#[tokio::test]
async fn resume_past_trimmed_history_declares_a_gap() {
    let server = TestServer::dev("[namespace.default]\nhistory_size = 3").await;
    let head = filled(&server, "c", 10).await;
    check_gap(&server, &at(&head, 6), "trimmed").await;
    let mut socket = server.websocket().await;
    let subscribed = socket.resume("c", &at(&head, 8)).await;
    assert_eq!(offsets(&subscribed["publications"]), [9, 10, 11], "what is still kept is a whole recovery");
}

#[tokio::test]
async fn resume_ahead_of_the_head_declares_a_gap() {
    let server = TestServer::dev("").await;
    let head = filled(&server, "c", 2).await;
    check_gap(&server, &at(&head, 3), "lost").await;
}

#[tokio::test]
async fn a_position_of_another_start_is_a_gap() {
    let first = TestServer::dev("").await;
    let position = filled(&first, "c", 2).await;
    first.drain().await;
    let second = TestServer::dev("").await;
    filled(&second, "c", 5).await;
    check_gap(&second, &position, "epoch").await;
    let never = json!({"epoch": "no-such-epoch", "offset": 2});
    check_gap(&second, &never, "epoch").await;
}

#[tokio::test]
async fn resume_on_a_volatile_channel_declares_a_gap() {
    let server = TestServer::dev("[namespace.default]\nhistory_size = 0").await;
    let mut socket = server.websocket().await;
    let subscribed = socket.resume("c", &json!("1-a.5")).await;
    assert_eq!((&subscribed["recovered"], &subscribed["position"]), (&json!(false), &Value::Null));
    let gap = socket.expect("gap").await;
    assert_eq!((&gap["reason"], &gap["position"]), (&json!("lost"), &Value::Null));
}

#[tokio::test]
async fn a_long_recovery_comes_in_pages_and_live_batches_wait_for_it() {
    let server = TestServer::dev("[limits]\nhistory_page_max = 10").await;
    let head = filled(&server, "c", 35).await;
    let mut socket = server.websocket().await;
    let subscribed = socket.resume("c", &at(&head, 0)).await;
    assert_eq!((&subscribed["recovered"], &subscribed["more"]), (&json!(true), &json!(true)));
    let mut seen = offsets(&subscribed["publications"]);
    let mut position = subscribed["position"].clone();
    assert_eq!(position["offset"], 10);
    server.publish("c", "36").await;
    loop {
        let page = socket.ask(json!({"history": {"channel": "c", "since": position}})).await;
        seen.extend(offsets(&page["history"]["publications"]));
        position = page["history"]["position"].clone();
        if page["history"]["more"] == false {
            break;
        }
    }
    assert_eq!(seen, (1..=36).collect::<Vec<_>>());
    server.publish("c", "37").await;
    assert_eq!(socket.expect("batch").await["first"], 37);
}

#[tokio::test]
async fn too_much_going_by_while_a_client_pages_is_a_gap() {
    let server = TestServer::dev("[limits]\nhistory_page_max = 1\nmailbox_bytes = 1000").await;
    let head = filled(&server, "c", 3).await;
    let mut socket = server.websocket().await;
    assert_eq!(socket.resume("c", &at(&head, 0)).await["more"], true);
    let data = format!("\"{}\"", "x".repeat(600));
    server.publish("c", &data).await;
    server.publish("c", &data).await;
    let gap = socket.expect("gap").await;
    assert_eq!((&gap["reason"], &gap["position"]["offset"]), (&json!("overflow"), &json!(5)));
    server.publish("c", "6").await;
    assert_eq!(socket.expect("batch").await["first"], 6);
}

#[tokio::test]
async fn history_gives_the_newest_or_what_follows_a_position() {
    let server = TestServer::dev("[limits]\nhistory_page_max = 5").await;
    let head = filled(&server, "c", 8).await;
    let mut socket = server.websocket().await;
    let epoch = head["epoch"].as_str().unwrap();
    for (since, limit, expected, more) in [
        (None, None, vec![4, 5, 6, 7, 8], false),
        (None, Some(2), vec![7, 8], false),
        (Some(2), Some(3), vec![3, 4, 5], true),
        (Some(2), Some(1_000_000), vec![3, 4, 5, 6, 7], true),
        (Some(8), None, vec![], false),
        (None, Some(0), vec![], false),
    ] {
        let mut command = json!({"channel": "c"});
        let mut query = String::new();
        if let Some(since) = since {
            command["since"] = at(&head, since);
            query += &format!("since={epoch}.{since}&");
        }
        if let Some(limit) = limit {
            command["limit"] = limit.into();
            query += &format!("limit={limit}");
        }
        let on_socket = socket.ask(json!({"history": command})).await["history"].clone();
        let over_http = server.get(&format!("/v1/channels/c/history?{query}")).send().await.json();
        assert_eq!(on_socket, over_http, "{query}");
        assert_eq!(offsets(&on_socket["publications"]), expected, "{query}");
        assert_eq!(on_socket["more"], more, "{query}");
    }
    for query in ["since=7", "since=", "limit=-1", "limit=abc", "limit=99999999999999999999"] {
        let answer = server.get(&format!("/v1/channels/c/history?{query}")).send().await;
        assert_eq!(answer.code(), "bad_request", "{query}");
    }
}

#[tokio::test]
async fn history_grows_old() {
    let server = TestServer::dev("[namespace.default]\nhistory_age = \"100ms\"").await;
    let head = filled(&server, "c", 3).await;
    crate::support::eventually("history to expire", async || {
        let history = server.get("/v1/channels/c/history").send().await.json();
        (history["publications"] == json!([])).then_some(())
    })
    .await;
    check_gap(&server, &at(&head, 1), "trimmed").await;
}
