//! Who is in a channel: on one instance over both transports, and across instances that live, end and die.

mod cluster;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::{EventStream, Request, TestServer, Token, WebSocket, auth_config, eventually};

/// Presence in every channel but those of the namespace `off`.
const ON: &str = "[namespace.default]\npresence = true\n[namespace.off]\npresence = false\n";

/// A client that listed the members of `room` and hears of every change since.
struct Watcher {
    socket: WebSocket,
    session: String,
    /// Users by session.
    known: BTreeMap<String, String>,
    lost: usize,
}

impl Watcher {
    async fn join(address: SocketAddr, headers: &[(&str, &str)]) -> Watcher {
        let mut socket = WebSocket::connect(address, headers).await;
        let session = socket.expect("hello").await["session"].as_str().expect("it has a name").to_owned();
        let mut watcher = Watcher { socket, session, known: BTreeMap::new(), lost: 0 };
        watcher.ask(json!({"subscribe": {"channel": "room", "presence": true}})).await;
        watcher.list().await;
        watcher
    }

    /// The answer to a command, and the changes that came before it.
    async fn ask(&mut self, mut command: Value) -> (Value, Vec<Value>) {
        command["id"] = json!(77);
        self.socket.send(command).await;
        let mut early = Vec::new();
        loop {
            let frame = self.socket.next_frame().await;
            if frame["id"] == 77 {
                return (frame, early);
            }
            early.push(frame);
        }
    }

    /// Asks who is there. What changed meanwhile may be newer than the answer.
    async fn list(&mut self) {
        let (list, early) = self.ask(json!({"presence": {"channel": "room"}})).await;
        let members = list["presence"]["members"].as_array().expect("a list");
        assert_eq!(list["presence"]["count"], members.len());
        self.known = members.iter().map(named).collect();
        early.iter().for_each(|frame| self.take(frame));
    }

    fn take(&mut self, frame: &Value) {
        let changes = &frame["presence"];
        assert_eq!(changes["channel"], "room", "{frame}");
        self.lost += usize::from(changes["lost"] == true);
        self.known.extend(changes["joined"].as_array().expect("a list").iter().map(named));
        for member in changes["left"].as_array().expect("a list") {
            self.known.remove(&named(member).0);
        }
    }

    /// Reads changes until so many members are there.
    async fn sees(&mut self, count: usize) {
        while self.known.len() != count {
            let frame = self.socket.next_frame().await;
            self.take(&frame);
        }
    }
}

fn named(member: &Value) -> (String, String) {
    let text = |field: &str| member[field].as_str().expect("a text").to_owned();
    assert!(member["since"].as_u64() > Some(1_600_000_000_000), "{member}");
    (text("session"), text("user"))
}

/// The body of `GET /v1/channels/{channel}/presence`.
async fn presence_of(address: SocketAddr, channel: &str) -> Value {
    let answer = Request::new(address, "GET", &format!("/v1/channels/{channel}/presence")).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn whoever_subscribes_is_a_member_for_as_long_as_it_does() {
    let server = TestServer::dev(ON).await;
    let mut watcher = Watcher::join(server.address, &[]).await;
    assert_eq!(watcher.known.keys().collect::<Vec<_>>(), [&watcher.session], "it is there itself");
    let mut leaves = server.subscriber("room").await;
    let closes = server.subscriber("room").await;
    let is_cut = server.subscriber("room").await;
    let elsewhere = server.subscriber("hall").await;
    watcher.sees(4).await;
    assert_eq!(presence_of(server.address, "room").await["count"], 4);
    leaves.ask(json!({"unsubscribe": {"channel": "room"}})).await;
    watcher.sees(3).await;
    closes.close().await;
    watcher.sees(2).await;
    drop(is_cut);
    watcher.sees(1).await;
    assert_eq!((presence_of(server.address, "hall").await["count"].clone(), watcher.lost), (json!(1), 0));
    drop(elsewhere);
    eventually("an empty hall", async || {
        (presence_of(server.address, "hall").await == json!({"members": [], "count": 0, "more": false}))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn two_tabs_of_a_user_are_two_members() {
    let server = TestServer::serve(&format!("{}\n{ON}", auth_config())).await;
    let bearer = |user: &str| format!("Bearer {}", Token::of(user).subscribe("*").sign());
    let (ada, bob) = (bearer("ada"), bearer("bob"));
    let mut watcher = Watcher::join(server.address, &[("authorization", &bob)]).await;
    let first = Watcher::join(server.address, &[("authorization", &ada)]).await;
    let second = Watcher::join(server.address, &[("authorization", &ada)]).await;
    watcher.sees(3).await;
    let mut users: Vec<&String> = watcher.known.values().collect();
    users.sort();
    assert_eq!(users, ["ada", "ada", "bob"]);
    drop(first);
    watcher.sees(2).await;
    assert_eq!(watcher.known[&second.session], "ada", "the other tab is still there");
}

#[tokio::test]
async fn a_stream_is_a_member_and_hears_who_comes_and_goes() {
    let server = TestServer::dev(ON).await;
    let mut watcher = Watcher::join(server.address, &[]).await;
    let mut stream = server.sse("channel=room&channel=hall&presence=1").await;
    let session = stream.expect("hello").await["session"].clone();
    watcher.sees(2).await;
    assert!(watcher.known.contains_key(session.as_str().unwrap()));
    let body = r#"{"subscribe":[{"channel":"room","presence":true},{"channel":"hall"}]}"#;
    let mut posted = EventStream::open(server.post("/sse", body)).await;
    let posted_session = posted.expect("hello").await["session"].clone();
    let guest = server.subscriber("room").await;
    watcher.sees(4).await;
    drop(guest);
    watcher.sees(3).await;
    drop(server.subscriber("hall").await);
    let left = async |stream: &mut EventStream, channel: &str| loop {
        let changes = stream.expect("presence").await;
        if changes["channel"] == channel && changes["left"] != json!([]) {
            return changes["left"][0]["session"].clone();
        }
    };
    assert_ne!(left(&mut stream, "room").await, posted_session);
    left(&mut posted, "room").await;
    left(&mut stream, "hall").await;
    drop(posted);
    assert_eq!(left(&mut stream, "room").await, posted_session);
    drop(stream);
    watcher.sees(1).await;
}

#[tokio::test]
async fn presence_is_for_those_who_may_see_it() {
    let server = TestServer::serve(&format!("{}\n{ON}", auth_config())).await;
    let mut watcher = Watcher::join(
        server.address,
        &[("authorization", &format!("Bearer {}", Token::of("ada").subscribe("*").sign()))],
    )
    .await;
    for token in [
        Token::of("bob").subscribe("room").presence(&[]).sign(),
        Token::of("bob").subscribe("room").presence(&["hall"]).sign(),
    ] {
        let mut socket =
            WebSocket::connect(server.address, &[("authorization", &format!("Bearer {token}"))]).await;
        socket.expect("hello").await;
        for command in [
            json!({"presence": {"channel": "room"}}),
            json!({"presence": {"channel": "unknown"}}),
            json!({"subscribe": {"channel": "room", "presence": true}}),
        ] {
            assert_eq!(socket.refused(command.clone()).await, "channel_not_allowed", "{command}");
        }
        for path in
            ["/v1/channels/room/presence", "/v1/channels/unknown/presence", "/sse?channel=room&presence=1"]
        {
            assert_eq!(server.get(path).bearer(&token).send().await.code(), "channel_not_allowed", "{path}");
        }
        socket.subscribe("room").await;
        watcher.sees(2).await;
        drop(socket);
        watcher.sees(1).await;
    }
    assert_eq!(server.get("/v1/channels/room/presence").send().await.code(), "unauthorized");
}

#[tokio::test]
async fn a_namespace_without_presence_says_so() {
    let server = TestServer::dev(ON).await;
    let mut socket = server.websocket().await;
    for command in [
        json!({"presence": {"channel": "off:1"}}),
        json!({"subscribe": {"channel": "off:1", "presence": true}}),
    ] {
        assert_eq!(socket.refused(command.clone()).await, "presence_disabled", "{command}");
    }
    socket.subscribe("off:1").await;
    for path in ["/v1/channels/off:1/presence", "/sse?channel=room&channel=off:1&presence=1"] {
        let answer = server.get(path).send().await;
        assert_eq!((answer.status, answer.code().as_str()), (409, "presence_disabled"), "{path}");
    }
    assert_eq!(server.get("/v1/channels/$presence:room/presence").send().await.code(), "channel_invalid");
}

#[tokio::test]
async fn a_list_is_bounded_and_counts_all() {
    let server = TestServer::dev(&format!("{ON}[limits]\npresence_members_max = 2\n")).await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(server.subscriber("room").await);
    }
    let shown = |list: &Value| {
        (list["members"].as_array().map(Vec::len), list["count"].clone(), list["more"].clone())
    };
    for (query, listed) in [("", 2), ("?limit=1", 1), ("?limit=0", 0), ("?limit=9", 2)] {
        let list = server.get(&format!("/v1/channels/room/presence{query}")).send().await.json();
        assert_eq!(shown(&list), (Some(listed), json!(3), json!(true)), "{query}");
    }
    let list = sockets[0].ask(json!({"presence": {"channel": "room", "limit": 1}})).await;
    assert_eq!(shown(&list["presence"]), (Some(1), json!(3), json!(true)));
    let bad = server.get("/v1/channels/room/presence?limit=x").send().await;
    assert_eq!(bad.code(), "bad_request");
}

#[tokio::test]
async fn companions_are_not_listed_as_channels() {
    let server = TestServer::dev(ON).await;
    let _watcher = Watcher::join(server.address, &[]).await;
    let list = server.get("/v1/channels").send().await.json();
    let names: Vec<&Value> = list["channels"].as_array().unwrap().iter().map(|c| &c["channel"]).collect();
    assert_eq!(names, ["room"]);
}
