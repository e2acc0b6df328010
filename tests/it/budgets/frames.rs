//! Frames of a socket: each is counted, whether it is a command or not.

use serde_json::json;

use super::{server, token};
use crate::support::{RawFrame, RawWebSocket, TestServer, Token, WebSocket};

async fn raw(server: &TestServer, token: Option<&str>) -> RawWebSocket {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
    RawWebSocket::handshake(server.address, None, &headers).await
}

async fn socket(server: &TestServer, token: &str) -> WebSocket {
    let mut socket =
        WebSocket::connect(server.address, &[("authorization", &format!("Bearer {token}"))]).await;
    socket.expect("hello").await;
    socket
}

/// A connection may send ten frames at once.
const FEW: &str = "[limits]\nrate_burst = \"10s\"\nconnection_commands_per_second = 1";

/// More than it may send, and than 256 beyond that.
const FLOOD: usize = 1_000;

#[tokio::test]
async fn a_flood_of_frames_ends_its_connection_whatever_they_are() {
    let server = server(FEW).await;
    let ada = token("ada");
    let mut neighbour = socket(&server, &token("bob")).await;
    for (what, frame) in [
        ("texts that are no commands", RawFrame::text("{}")),
        ("texts that are no JSON", RawFrame::text("x")),
        ("commands", RawFrame::text("{\"ping\":{\"c\":1}}")),
        ("pings", RawFrame { first: 0x89, payload: Vec::new() }),
        ("pongs that nobody asked for", RawFrame { first: 0x8a, payload: Vec::new() }),
    ] {
        for credential in [Some(ada.as_str()), None] {
            let mut flooding = raw(&server, credential).await;
            flooding.send_bytes(&frame.bytes().repeat(FLOOD)).await;
            let codes = flooding.close_codes().await;
            assert_eq!(codes.last(), Some(&4429), "{what} with {credential:?}: {codes:?}");
        }
    }
    assert!(server.metric("tidings_rate_limited_total", "connection").await >= 10.0 * 256.0);
    neighbour.send(json!({"ping": {"c": 7}})).await;
    assert_eq!(neighbour.expect("pong").await["c"], 7);
}

#[tokio::test]
async fn texts_that_are_no_commands_are_refused_beyond_the_rate_and_the_connection_goes_on() {
    let server = server(FEW).await;
    let mut socket = socket(&server, &token("ada")).await;
    let mut codes = Vec::new();
    for n in 0..20 {
        codes.push(socket.refused(json!({"id": n, "nothing": {}})).await);
    }
    let answered = codes.iter().take_while(|code| *code == "unknown_command").count();
    assert!((10..=15).contains(&answered), "{codes:?}");
    assert!(codes[answered..].iter().all(|code| code == "rate_limited"), "{codes:?}");
}

#[tokio::test]
async fn a_command_counts_by_the_tags_that_it_names() {
    let limits =
        "[limits]\nrate_burst = \"100s\"\nuser_commands_per_second = 1\nconnection_commands_per_second = 0";
    let server = server(limits).await;
    let tags = |count: usize| (0..count).map(|n| format!("t:{n}")).collect::<Vec<_>>();
    let watch = |count: usize| json!({"watch": {"groups": [{"tags": tags(count)}]}});
    let mut eve = socket(&server, &token("eve")).await;
    // 9,000 tags are as much as 90 commands of the 100.
    eve.ask(watch(9_000)).await;
    assert_eq!(eve.refused(watch(9_000)).await, "rate_limited");
    eve.ask(watch(10)).await;

    let items =
        (0..200).map(|n| json!({"since": "7-k3v9q.12", "tags": [format!("t:{n}"), "a", "b", "c", "d"]}));
    let body = json!({"items": items.collect::<Vec<_>>()}).to_string();
    let check = |user: &str| server.post("/v1/check", &body).bearer(&token(user)).send();
    let mut accepted = 0;
    while check("mallory").await.status == 200 {
        accepted += 1;
        assert!(accepted < 50);
    }
    assert!((8..=12).contains(&accepted), "{accepted} checks of 1,000 tags each");
    assert_eq!(check("ada").await.status, 200, "a neighbour is not counted to her");
}

#[tokio::test]
async fn a_stream_counts_as_a_command_and_too_many_names_are_refused_unread() {
    let server = server("[limits]\nrate_burst = \"100s\"\nuser_commands_per_second = 1").await;
    let names = |count: usize| (0..count).map(|n| json!({"channel": format!("c{n}")})).collect::<Vec<_>>();
    let stream = |user: &str, count: usize| {
        let token = Token::of(user).subscribe("*").sign();
        server.post("/sse", json!({"subscribe": names(count)}).to_string()).bearer(&token).send()
    };
    let (mut looked_into, begun) = (0, std::time::Instant::now());
    let refused = loop {
        match stream("eve", 40_000).await.code().as_str() {
            "too_many_items" => looked_into += 1,
            other => break other.to_owned(),
        }
    };
    // A body of a megabyte counts as some more requests.
    assert!(refused == "rate_limited" && (1..=15).contains(&looked_into), "{refused} after {looked_into}");
    println!("{looked_into} streams of 40,000 names: {:?}", begun.elapsed());
    assert_eq!(stream("ada", 129).await.code(), "too_many_items");
}
