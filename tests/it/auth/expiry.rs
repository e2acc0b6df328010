//! What was granted ends when it says: between two batches, while a recovery is read, and while a body is on its way.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{publish, server, socket};
use crate::support::{API_KEY, Answer, EventStream, Token, within};

fn short(seconds: i64) -> String {
    Token::of("ada").subscribe("*").publish("*").watch("*").expires_in(seconds).sign()
}

#[tokio::test]
async fn what_is_published_in_the_window_in_which_a_token_expires_is_not_delivered() {
    let server = server("[namespace.slow]\nbatch_window = \"5s\"\nleading = false").await;
    let token = short(2);
    let mut ada = socket(&server, &token).await;
    ada.subscribe("slow:1").await;
    let mut stream = EventStream::open(server.get("/sse?channel=slow:1").bearer(&token)).await;
    stream.expect("hello").await;
    publish(&server, "slow:1", "1").await;
    let (frames, closed) = ada.closed().await;
    assert_eq!(closed.code, 4401);
    assert!(frames.iter().all(|frame| frame.get("batch").is_none()), "{frames:?}");
    let cursor = stream.cursor();
    let events = stream.rest().await;
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["disconnect"]);
    let disconnect = events[0].json();
    assert_eq!((&disconnect["code"], &disconnect["reconnect"]), (&json!(4401), &json!(true)), "{disconnect}");
    let reason = disconnect["reason"].as_str().expect("a sentence");
    assert!(reason.starts_with("token_expired: "), "an event stream says why it ends: {reason}");
    assert_eq!(stream.last_event_id, cursor, "where it ended is no place of its own");
}

#[tokio::test]
async fn a_client_that_pages_through_what_it_missed_gets_no_page_after_the_end() {
    let server = server("[limits]\nhistory_page_max = 1").await;
    let first = publish(&server, "room:1", "1").await["position"].clone();
    for data in ["2", "3", "4"] {
        publish(&server, "room:1", data).await;
    }
    let mut ada = socket(&server, &short(2)).await;
    let resumed = ada.resume("room:1", &first).await;
    assert_eq!((&resumed["recovered"], &resumed["more"]), (&json!(true), &json!(true)), "{resumed}");
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    ada.try_send(json!({"id": 9, "history": {"channel": "room:1", "since": resumed["position"]}})).await;
    let (frames, closed) = ada.closed().await;
    assert_eq!(closed.code, 4401);
    assert!(frames.iter().all(|frame| frame.get("history").is_none()), "{frames:?}");
}

#[tokio::test]
async fn a_body_that_comes_after_the_end_does_nothing() {
    let server = server("").await;
    let late = [
        ("/v1/publish/room:1", "1"),
        ("/v1/publish", r#"{"channel":"room:1","data":1}"#),
        ("/v1/batch", r#"[{"channel":"room:1","data":1}]"#),
        ("/v1/mutations", r#"{"entity":"ticket","key":1,"op":"create"}"#),
        ("/v1/invalidate", r#"{"tags":["tickets"]}"#),
        ("/v1/check", r#"{"items":[{"since":"a.1","tags":["a"]}]}"#),
    ];
    let token = Token::of("ada").publish("*").watch("*").mutate("*").expires_in(2).sign();
    join_all(late.map(async |(path, body)| {
        let request = server.post(path, "").bearer(&token).header("connection", "close");
        let request = request.header("content-type", "application/json").bytes();
        let length = format!("content-length: {}", body.len());
        let head = String::from_utf8(request).unwrap().replace("content-length: 0", &length);
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // The token is good when the head comes, and not when the body does.
        tokio::time::sleep(Duration::from_millis(2_100)).await;
        stream.write_all(body.as_bytes()).await.unwrap();
        let answer = within("an answer", Answer::read(&mut stream)).await;
        assert!(answer.text().contains("token_expired"), "{path}: {}", answer.text());
    }))
    .await;
    let kept = server.get("/v1/channels/room:1/history").bearer(API_KEY).send().await.json();
    assert_eq!(kept["publications"], json!([]));
}
