//! Streams of events: what peers choose reaches others as data and as nothing else, and a cursor is a place and no right.

use serde_json::json;
use tidings::dialect::cursor::encode;
use tidings_protocol::{Channel, Position};

use crate::support::{API_KEY, EventStream, TestServer, Token, auth_config};

/// Everything that ends a line, a field or an event somewhere.
const EVIL: &str = "a\n\nevent: hello\r\ndata: {}\r\rid: forged\n\nretry: 1\u{2028}\u{85}\0\u{feff}: b";

#[tokio::test]
async fn a_name_of_a_user_cannot_end_an_event() {
    let server = TestServer::serve(&format!("{}[namespace.room]\npresence = true", auth_config())).await;
    let watcher = Token::of("ada").subscribe("room:*").sign();
    let evil = Token::of(EVIL).subscribe("room:*").sign();
    let open = async |token: &str| {
        EventStream::open(server.get("/sse?channel=room:7&presence=1").bearer(token)).await
    };
    let mut stream = open(&watcher).await;
    stream.expect("hello").await;
    assert_eq!(stream.expect("presence").await["joined"][0]["user"], "ada");
    let other = open(&evil).await;
    assert_eq!(stream.expect("presence").await["joined"][0]["user"], EVIL);
    drop(other);
    assert_eq!(stream.expect("presence").await["left"][0]["user"], EVIL);
    assert_eq!(stream.retry, None);
    assert_ne!(stream.cursor(), "forged");
}

#[tokio::test]
async fn a_reason_for_a_disconnect_cannot_end_an_event() {
    let server = TestServer::serve(&auth_config()).await;
    let token = Token::of("ada").subscribe("c").sign();
    let mut stream = EventStream::open(server.get("/sse?channel=c").bearer(&token)).await;
    stream.expect("hello").await;
    let cursor = stream.cursor();
    let body = json!({"user": "ada", "reason": EVIL, "reconnect": true}).to_string();
    assert_eq!(server.post("/v1/disconnect", body).bearer(API_KEY).send().await.status, 200);
    let events = stream.rest().await;
    assert_eq!(events.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(), ["disconnect"]);
    let reason = events[0].json()["reason"].as_str().map(str::to_owned);
    assert!(reason.is_some_and(|reason| reason.starts_with("reconnect: a\n\nevent: hello")), "{events:?}");
    assert_eq!(stream.last_event_id, cursor);
}

#[tokio::test]
async fn what_a_request_names_is_said_back_as_data_alone() {
    let server = TestServer::dev("").await;
    // Tags and channels have grammars; whatever is outside of them is refused before there is a stream.
    for query in [
        "channel=a%0A%0Adata:x",
        "watch=a%0Adata:x",
        "channel=c&watch=t&ns=%0Aid:1",
        "channel=c&since=a.1%0A",
    ] {
        let stream = server.sse(query).await;
        assert!((400..500).contains(&stream.head.status), "{query}: {:?}", stream.head);
        assert_eq!(stream.head.header("content-type"), Some("application/problem+json"), "{query}");
    }
    // What is printable may stand in a tag, and looks like fields.
    let tag = "data::id:[event]:{x}";
    let mut stream = server.sse(&format!("watch={tag}")).await;
    stream.expect("hello").await;
    stream.expect("watched").await;
    stream.expect("at").await;
    let path = "/v1/invalidate/data%3A%3Aid%3A%5Bevent%5D%3A%7Bx%7D";
    assert_eq!(server.post(path, "").send().await.status, 200);
    assert!(stream.expect("invalidated").await["tags"].get(tag).is_some());
}

#[tokio::test]
async fn a_forged_cursor_gives_no_right_and_skips_nothing_without_a_word() {
    let server = TestServer::serve(&auth_config()).await;
    let publish = async |channel: &str| {
        let request = server.post(&format!("/v1/publish/{channel}"), "1").bearer(API_KEY);
        request.send().await.json()["position"].clone()
    };
    let place: Position = serde_json::from_value(publish("mine").await).expect("a position");
    publish("secret").await;
    let forged = |channel: &str, offset: u64| {
        let position = place.epoch.at(tidings_protocol::Offset(offset));
        encode([(&Channel::parse(channel).expect("a name"), &position)].into_iter())
    };
    let token = Token::of("eve").subscribe("mine").sign();
    let open = async |query: &str, cursor: &str| {
        let request = server.get(&format!("/sse?{query}")).bearer(&token);
        EventStream::open(request.header("last-event-id", cursor)).await
    };
    // A place in a channel is no way into it.
    let stream = open("channel=secret", &forged("secret", 0)).await;
    assert_eq!(stream.head.status, 403);
    // One in a channel that was not asked for is passed over.
    let mut stream = open("channel=mine", &forged("secret", 0)).await;
    stream.expect("hello").await;
    assert_eq!(publish("mine").await["offset"], 2);
    let event = stream.expect("message").await;
    assert_eq!((&event["channel"], &event["offset"]), (&json!("mine"), &json!(2)));
    // One that is ahead is a gap.
    let mut stream = open("channel=mine", &forged("mine", 1_000_000)).await;
    stream.expect("hello").await;
    assert_eq!(stream.expect("gap").await["reason"], "lost");
}
