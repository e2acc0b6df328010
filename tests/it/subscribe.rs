//! Subscribing over WebSockets: who gets what, in which order, and until when.

use serde_json::json;

use crate::support::TestServer;

#[tokio::test]
async fn every_subscriber_gets_every_publication_in_order_and_once() {
    let server = TestServer::dev("").await;
    let mut first = server.subscriber("c").await;
    let mut second = server.subscriber("c").await;
    let mut other = server.subscriber("d").await;
    for n in 0..200 {
        server.publish("c", &n.to_string()).await;
    }
    let expected: Vec<_> = (0..200).map(|n| json!(n)).collect();
    assert_eq!(first.data("c", 200).await, expected);
    assert_eq!(second.data("c", 200).await, expected);
    server.publish("d", "\"mine\"").await;
    assert_eq!(other.data("d", 1).await, [json!("mine")]);
}

#[tokio::test]
async fn a_batch_names_its_range_and_continues_the_subscription() {
    let server = TestServer::dev("").await;
    let mut socket = server.websocket().await;
    let subscribed = socket.subscribe("c").await;
    let epoch = subscribed["position"]["epoch"].clone();
    assert_eq!(subscribed["position"]["offset"], 0, "a channel with nothing in it is at 0");
    assert!(subscribed.get("recovered").is_none(), "only who resumes has recovered: {subscribed}");
    let mut next = 1;
    for n in 1..=20 {
        server.publish("c", &n.to_string()).await;
    }
    while next <= 20 {
        let batch = socket.expect("batch").await;
        let count = batch["publications"].as_array().unwrap().len();
        assert_eq!((&batch["epoch"], &batch["first"]), (&epoch, &json!(next)));
        assert_eq!(batch["last"], next + count - 1);
        next += count;
    }
}

#[tokio::test]
async fn a_volatile_channel_has_no_positions() {
    let server = TestServer::dev("[namespace.v]\nhistory_size = 0").await;
    let mut socket = server.websocket().await;
    let subscribed = socket.subscribe("v:1").await;
    assert_eq!(subscribed["position"], json!(null));
    let published = server.publish("v:1", "1").await;
    assert_eq!(published["position"], json!(null));
    let batch = socket.expect("batch").await;
    assert_eq!(batch["publications"][0]["data"], 1);
    for field in ["epoch", "first", "last"] {
        assert!(batch.get(field).is_none(), "{batch}");
    }
    assert_eq!(socket.refused(json!({"history": {"channel": "v:1"}})).await, "history_disabled");
    assert_eq!(server.get("/v1/channels/v:1/history").send().await.code(), "history_disabled");
}

#[tokio::test]
async fn a_subscription_is_held_once_and_given_back_once() {
    let server = TestServer::dev("").await;
    let mut socket = server.websocket().await;
    let subscribe = json!({"subscribe": {"channel": "c"}});
    let unsubscribe = json!({"unsubscribe": {"channel": "c"}});
    assert_eq!(socket.refused(unsubscribe.clone()).await, "not_subscribed");
    socket.subscribe("c").await;
    assert_eq!(socket.refused(subscribe).await, "already_subscribed");
    assert_eq!(socket.ask(unsubscribe.clone()).await["unsubscribed"], json!({"channel": "c"}));
    assert_eq!(socket.refused(unsubscribe).await, "not_subscribed");
    server.publish("c", "1").await;
    let position = socket.subscribe("c").await["position"].clone();
    assert_eq!(position["offset"], 1, "nothing came in between: the next frame answers the subscribe");
}

#[tokio::test]
async fn replies_keep_the_order_of_commands_and_only_named_commands_are_answered() {
    let server = TestServer::dev("").await;
    let mut socket = server.websocket().await;
    for id in 0..50 {
        let command = match id % 4 {
            0 => json!({"id": id, "subscribe": {"channel": format!("c{id}")}}),
            1 => json!({"id": id, "history": {"channel": "h"}}),
            2 => json!({"id": id, "nonsense": {}}),
            _ => json!({"id": id, "publish": {"channel": "p", "data": id}}),
        };
        socket.send(command).await;
        socket.send(json!({"publish": {"channel": "p", "data": "quiet"}})).await;
    }
    for id in 0..50 {
        assert_eq!(socket.next_frame().await["id"], id);
    }
}

#[tokio::test]
async fn a_ping_is_answered_with_its_own_clock() {
    let server = TestServer::dev("").await;
    let mut socket = server.websocket().await;
    let pong = socket.ask(json!({"ping": {"c": 9_007_199_254_740_991_u64}})).await;
    assert_eq!(pong["pong"]["c"], 9_007_199_254_740_991_u64);
    socket.send(json!({"ping": {"c": 7}})).await;
    assert_eq!(socket.next_frame().await, json!({"pong": {"c": 7}}));
}

#[tokio::test]
async fn what_is_no_command_is_refused_and_the_connection_survives() {
    let server = TestServer::dev("").await;
    let mut socket = server.websocket().await;
    let many = format!("{{{}}}", (0..40).map(|n| format!("\"k{n}\":1")).collect::<Vec<_>>().join(","));
    for (text, id, code) in [
        ("", json!(null), "bad_frame"),
        ("{", json!(null), "bad_frame"),
        ("[]", json!(null), "bad_frame"),
        ("null", json!(null), "bad_frame"),
        ("NaN", json!(null), "bad_frame"),
        ("{}", json!(null), "bad_frame"),
        (&"[".repeat(100_000), json!(null), "bad_frame"),
        (&many, json!(null), "bad_frame"),
        ("{\"id\":1}", json!(1), "bad_frame"),
        ("{\"id\":-1,\"ping\":{\"c\":1}}", json!(null), "bad_frame"),
        ("{\"id\":9007199254740992,\"ping\":{\"c\":1}}", json!(null), "bad_frame"),
        ("{\"id\":\"1\",\"ping\":{\"c\":1}}", json!(null), "bad_frame"),
        ("{\"id\":2,\"subscribe\":{\"channel\":\"c\"},\"ping\":{\"c\":1}}", json!(2), "bad_frame"),
        ("{\"id\":3,\"batch\":{}}", json!(3), "bad_frame"),
        ("{\"id\":4,\"subscribe\":null}", json!(4), "bad_frame"),
        ("{\"id\":4,\"subscribe\":{\"channel\":\"c\",\"since\":7}}", json!(4), "bad_frame"),
        ("{\"id\":4,\"history\":{\"channel\":\"c\",\"limit\":-1}}", json!(4), "bad_frame"),
        ("{\"id\":5,\"dance\":{}}", json!(5), "unknown_command"),
        ("{\"id\":6,\"presence\":{\"channel\":\"c\"}}", json!(6), "presence_disabled"),
        ("{\"id\":7,\"connect\":{\"token\":\"x\"}}", json!(7), "bad_frame"),
    ] {
        socket.send_text(text).await;
        let frame = socket.next_frame().await;
        let shown: String = text.chars().take(60).collect();
        assert_eq!((&frame["error"]["code"], &frame["id"]), (&json!(code), &id), "{shown}: {frame}");
        assert!(frame["error"]["message"].as_str().is_some_and(|m| m.len() < 300), "{frame}");
    }
    socket.subscribe("c").await;
}

#[tokio::test]
async fn subscribing_and_unsubscribing_while_others_publish_never_repeats_or_skips() {
    let server = TestServer::dev("[namespace.default]\nbatch_window = \"10ms\"").await;
    let mut socket = server.websocket().await;
    let publisher = async {
        for n in 0..300 {
            server.publish("c", &n.to_string()).await;
        }
    };
    let subscriber = async {
        let mut since = socket.subscribe("c").await["position"].clone();
        while since["offset"].as_u64() < Some(300) {
            socket.send(json!({"id": 1, "unsubscribe": {"channel": "c"}})).await;
            socket.send(json!({"id": 2, "subscribe": {"channel": "c", "since": since}})).await;
            loop {
                let frame = socket.next_frame().await;
                if let Some(batch) = frame.get("batch") {
                    assert_eq!(batch["first"].as_u64(), since["offset"].as_u64().map(|last| last + 1));
                    since["offset"] = batch["last"].clone();
                } else if let Some(subscribed) = frame.get("subscribed") {
                    let publications = subscribed["publications"].as_array().unwrap();
                    let known = subscribed["position"]["offset"].as_u64().unwrap();
                    // What came in a batch after the command was sent comes again: the position was the older one.
                    assert_eq!(subscribed["recovered"], true);
                    assert!(known >= since["offset"].as_u64().unwrap(), "{frame} after {since}");
                    assert!(
                        publications.windows(2).all(|w| w[0]["offset"].as_u64() < w[1]["offset"].as_u64())
                    );
                    since = subscribed["position"].clone();
                    break;
                } else {
                    assert!(frame.get("unsubscribed").is_some(), "{frame}");
                }
            }
        }
    };
    tokio::join!(publisher, subscriber);
}

#[tokio::test]
async fn one_connection_holds_many_channels() {
    let server = TestServer::dev("[limits]\nchannels_per_connection = 5000").await;
    let mut socket = server.websocket().await;
    for n in 0..3000 {
        socket.send(json!({"id": n, "subscribe": {"channel": format!("c{n}")}})).await;
        if n % 50 == 49 {
            for _ in 0..50 {
                assert!(socket.next_frame().await.get("subscribed").is_some());
            }
        }
    }
    server.publish("c2999", "\"last\"").await;
    server.publish("c0", "\"first\"").await;
    assert_eq!(socket.data("c2999", 1).await, [json!("last")]);
    assert_eq!(socket.data("c0", 1).await, [json!("first")]);
}
