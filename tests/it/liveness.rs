//! Who is still there: pings, silence, and peers that left without a word.

use std::time::Duration;

use serde_json::json;

use crate::support::{RawFrame, RawWebSocket, TestServer, within};

const IMPATIENT: &str = "[server]\nping_interval = \"100ms\"\ntimeout = \"400ms\"";
const PING: u8 = 0x89;

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_closed_with_4409() {
    let server = TestServer::dev(IMPATIENT).await;
    let mut socket = RawWebSocket::connect(server.address).await;
    let mut pings = 0;
    let code = loop {
        let frame = socket.frame().await.expect("a close frame comes before the end");
        match frame.close_code() {
            Some(code) => break code,
            None => pings += usize::from(frame.first == PING),
        }
    };
    assert_eq!((code, pings > 0), (4409, true));
}

#[tokio::test]
async fn a_peer_that_is_half_open_is_no_member_any_more_once_its_silence_is_too_long() {
    let server = TestServer::dev(&format!("{IMPATIENT}\n[namespace.room]\npresence = true")).await;
    let mut socket = RawWebSocket::connect(server.address).await;
    socket.send(&RawFrame::text(r#"{"subscribe":{"channel":"room:1"}}"#)).await;
    let members = async |count: u64| {
        let answer = server.get("/v1/channels/room:1/presence").send().await.json();
        (answer["count"] == count).then_some(())
    };
    crate::support::eventually("it to be a member", async || members(1).await).await;
    let begun = std::time::Instant::now();
    crate::support::eventually("it to have left", async || members(0).await).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    server.metric_reaches("tidings_connections", "", 0.0).await;
    drop(socket);
}

#[tokio::test]
async fn a_peer_that_only_takes_what_is_published_is_closed_too() {
    let server = TestServer::dev(IMPATIENT).await;
    let mut socket = RawWebSocket::connect(server.address).await;
    socket.send(&RawFrame::text(r#"{"subscribe":{"channel":"c"}}"#)).await;
    let publisher = async {
        loop {
            server.publish("c", "1").await;
        }
    };
    let closed = async {
        tokio::select! {
            codes = socket.close_codes() => codes,
            () = publisher => unreachable!("it never ends"),
        }
    };
    assert_eq!(within("the end", closed).await, [4409], "bytes that the kernel took are no life");
}

#[tokio::test]
async fn any_received_byte_is_life() {
    let server = TestServer::dev(IMPATIENT).await;
    let pong = RawFrame { first: 0x8a, payload: Vec::new() };
    let text = RawFrame::text(r#"{"ping":{"c":1}}"#);
    for life in [pong, text] {
        let mut socket = RawWebSocket::connect(server.address).await;
        for _ in 0..10 {
            while socket.frame().await.expect("it stays open").first != PING {}
            socket.send(&life).await;
        }
    }
    let mut socket = RawWebSocket::connect(server.address).await;
    // One byte at a time of one long frame, for twice the timeout.
    let frame = RawFrame::text(&json!({"id": 1, "ping": {"c": 1}}).to_string()).bytes();
    for byte in frame {
        socket.send_bytes(&[byte]).await;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let answered = async {
        while !socket.frame().await.expect("it stays open").payload.starts_with(b"{\"id\":1,\"pong\"") {}
    };
    within("the pong", answered).await;
}

#[tokio::test]
async fn a_peer_that_leaves_without_a_word_is_forgotten() {
    let server = TestServer::dev("").await;
    let mut half_closed = RawWebSocket::connect(server.address).await;
    half_closed.send(&RawFrame::text(r#"{"subscribe":{"channel":"c"}}"#)).await;
    half_closed.frame().await;
    let dropped = server.subscriber("c").await;
    let stream = server.sse("channel=c").await;
    server.metric_reaches("tidings_connections", "", 3.0).await;
    tokio::io::AsyncWriteExt::shutdown(&mut half_closed.stream).await.unwrap();
    drop((dropped, stream));
    server.metric_reaches("tidings_connections", "", 0.0).await;
    assert_eq!(server.subscribers("c").await, 0);
}
