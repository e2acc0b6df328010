//! Connections are listed and ended, on one instance, over every transport.

use serde_json::{Value, json};

use super::{server, socket, token};
use crate::support::{API_KEY, EventStream, TestServer, WebSocket, eventually};

async fn stream(server: &TestServer, user: &str) -> EventStream {
    let request = server.get("/sse?channel=room:1").bearer(&token(user));
    let mut stream = EventStream::open(request).await;
    stream.expect("hello").await;
    stream
}

/// Ends connections; returns how many, of an instance that must have answered.
async fn disconnect(server: &TestServer, body: Value) -> u64 {
    let answer = server.post("/v1/disconnect", body.to_string()).bearer(API_KEY).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!((&answer["complete"], &answer["missing"]), (&json!(true), &json!([])), "{answer}");
    assert_eq!(answer["answered"].as_array().map(Vec::len), Some(1), "{answer}");
    answer["disconnected"].as_u64().expect("a number")
}

async fn list(server: &TestServer, query: &str) -> Value {
    let answer = server.get(&format!("/v1/connections?{query}")).bearer(API_KEY).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn a_user_is_disconnected_everywhere_and_nobody_else_is() {
    let server = server().await;
    let (mut one, _) = socket(&server, "ada").await;
    let mut other = WebSocket::connect(server.address, &[]).await;
    other.send(json!({"connect": {"token": token("ada")}})).await;
    other.expect("hello").await;
    let mut events = stream(&server, "ada").await;
    let (mut bob, _) = socket(&server, "bob").await;
    let mut bobs_events = stream(&server, "bob").await;
    bob.subscribe("room:1").await;
    assert_eq!(disconnect(&server, json!({"user": "ada", "reason": "moved out"})).await, 3);
    for socket in [&mut one, &mut other] {
        let (frames, closed) = socket.closed().await;
        assert_eq!((frames.len(), closed.code, closed.reason.as_str()), (0, 4503, "disconnected: moved out"));
    }
    let why = events.expect("disconnect").await;
    let said = json!({"code": 4503, "reason": "disconnected: moved out", "reconnect": false});
    assert_eq!((why, events.rest().await), (said, vec![]));
    let published = server.post("/v1/publish/room:1", "7").bearer(API_KEY).send().await;
    assert_eq!(published.status, 200);
    assert_eq!(bob.data("room:1", 1).await, [json!(7)]);
    assert_eq!(bobs_events.expect("message").await["data"], 7);
    assert_eq!(disconnect(&server, json!({"user": "ada"})).await, 0, "nobody is left");
}

#[tokio::test]
async fn a_session_is_disconnected_by_its_name_alone() {
    let server = server().await;
    let (mut one, name) = socket(&server, "ada").await;
    let (mut other, _) = socket(&server, "ada").await;
    for nobody in [format!("{name}0"), format!("x{name}"), "ada".to_owned(), String::new()] {
        assert_eq!(disconnect(&server, json!({"session": nobody})).await, 0, "{nobody}");
    }
    assert_eq!(disconnect(&server, json!({"session": name, "reconnect": true})).await, 1);
    let (_, closed) = one.closed().await;
    assert_eq!((closed.code, closed.reason.as_str()), (4001, "reconnect: an operator ended the connection"));
    other.subscribe("room:1").await;
}

#[tokio::test]
async fn connections_are_listed_with_what_is_known_of_them() {
    let server = server().await;
    let (mut ada, name) = socket(&server, "ada").await;
    let _events = stream(&server, "bob").await;
    let _stranger = WebSocket::connect(server.address, &[]).await;
    ada.subscribe("room:1").await;
    ada.subscribe("room:2").await;
    let all = eventually("all to be there", async || {
        let all = list(&server, "").await;
        (all["connections"].as_array().map(Vec::len) == Some(3)).then_some(all)
    })
    .await;
    let of = |user: Value| {
        let mut listed = all["connections"].as_array().expect("a list").iter();
        listed.find(|connection| connection["user"] == user).unwrap_or_else(|| panic!("{user} in {all}"))
    };
    let adas = of(json!("ada"));
    assert_eq!((&adas["session"], &adas["channels"]), (&json!(name), &json!(2)));
    assert!(adas["since"].as_u64().is_some_and(|since| since > 1_700_000_000_000), "{adas}");
    assert_eq!((&adas["instance"], &adas["transport"]), (&all["answered"][0], &json!("websocket")));
    assert_eq!((&of(json!("bob"))["transport"], &of(json!("bob"))["channels"]), (&json!("sse"), &json!(1)));
    assert_eq!(of(Value::Null)["transport"], "websocket", "it did not say who it is");
    assert_eq!((&all["left_off"], &all["complete"]), (&json!(0), &json!(true)));

    let some = list(&server, "limit=2").await;
    assert_eq!((some["connections"].as_array().map(Vec::len), &some["left_off"]), (Some(2), &json!(1)));
    let adas = list(&server, "user=ada").await;
    assert_eq!((adas["connections"].as_array().map(Vec::len), &adas["left_off"]), (Some(1), &json!(0)));
    assert_eq!(list(&server, "user=eve").await["connections"], json!([]));
    ada.ask(json!({"unsubscribe": {"channel": "room:2"}})).await;
    eventually("one channel to be left", async || {
        (list(&server, "user=ada").await["connections"][0]["channels"] == 1).then_some(())
    })
    .await;
}
