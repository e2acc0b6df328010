//! A broker that is lost and comes back: every connection stays and is told, and operators see it.

use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use serde_json::{Value, json};
use tidings::broker::{Broker, BrokerError, BrokerEvent, ChannelHeads, Peer};
use tidings::freshness::{Snapshot, VersionTable};
use tidings::hub::{BrokerState, Lineage, Page, PageLimit, Published};
use tidings::limits::Caller;
use tidings_protocol::{
    Ack, Channel, ClusterMessage, Epoch, LogName, MutateCommand, Offset, Position, PresenceMember,
    PresenceMembers, PublishCommand,
};
use tokio::sync::mpsc;

use crate::support::{EventStream, RawFrame, RawWebSocket, TestServer, WebSocket, eventually};

/// When all outages of these tests began.
const SINCE: u64 = 1_767_225_600_123;

const DOWN: BrokerState = BrokerState::Down { since_ms: SINCE };

/// A broker that keeps nothing and can be switched off.
struct Switch {
    state: Mutex<BrokerState>,
    events: mpsc::Sender<BrokerEvent>,
}

impl Switch {
    fn new(events: mpsc::Sender<BrokerEvent>, state: BrokerState) -> Arc<Switch> {
        Arc::new(Switch { state: Mutex::new(state), events })
    }

    async fn set(&self, state: BrokerState) {
        *self.state.lock().expect("nothing panics here") = state;
        self.events.send(BrokerEvent::State(state)).await.expect("the node runs");
    }

    /// What every request comes to while the broker is lost.
    fn reach(&self) -> Result<(), BrokerError> {
        self.state().is_up().then_some(()).ok_or(BrokerError::Unavailable)
    }
}

impl Broker for Switch {
    fn publish(&self, _: PublishCommand, _: Caller) -> BoxFuture<'_, Result<Published, BrokerError>> {
        ready(self.reach().map(|()| Published { position: None, ack: Ack::Stored, duplicate: false })).boxed()
    }

    /// Whoever reads finds the channel empty; also during an outage, as from a copy of it.
    fn history(
        &self,
        _: Channel,
        _: Option<Position>,
        _: PageLimit,
    ) -> BoxFuture<'_, Result<Option<Page>, BrokerError>> {
        let from = Epoch::parse("a").expect("a letter is an epoch").at(Offset(0));
        ready(Ok(Some(Page { publications: Vec::new(), head: from.offset, from, gap: None }))).boxed()
    }

    fn resume(
        &self,
        channel: Channel,
        since: Option<Position>,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Option<Page>, BrokerError>> {
        self.history(channel, since, limit)
    }

    fn set_interest(&self, _: &Channel, _: bool) -> Option<u64> {
        None
    }

    fn channels(&self, _: usize) -> BoxFuture<'_, Result<ChannelHeads, BrokerError>> {
        ready(self.reach().map(|()| ChannelHeads::default())).boxed()
    }

    fn mutate(&self, _: MutateCommand, _: Caller) -> BoxFuture<'_, Result<Published, BrokerError>> {
        ready(self.reach().map(|()| Published { position: None, ack: Ack::Stored, duplicate: false })).boxed()
    }

    fn snapshot(&self, log: &LogName) -> BoxFuture<'_, Result<Snapshot, BrokerError>> {
        let confirmed = self.confirm(log);
        async move {
            let position = confirmed.await?;
            Ok(Snapshot { position, lineage: Lineage::default(), table: VersionTable::new(1) })
        }
        .boxed()
    }

    fn confirm(&self, _: &LogName) -> BoxFuture<'_, Result<Position, BrokerError>> {
        let head = Epoch::parse("a").expect("a letter is an epoch").at(Offset(0));
        ready(self.reach().map(|()| head)).boxed()
    }

    fn enter(&self, _: &Channel, _: PresenceMember) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }

    fn exit(&self, _: &Channel, _: &Arc<str>) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }

    fn members(&self, _: &Channel, _: usize) -> BoxFuture<'_, Result<PresenceMembers, BrokerError>> {
        ready(self.reach().map(|()| PresenceMembers::default())).boxed()
    }

    fn tell(&self, _: ClusterMessage) -> BoxFuture<'_, Result<(), BrokerError>> {
        ready(self.reach()).boxed()
    }

    fn peers(&self) -> Vec<Peer> {
        Vec::new()
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }

    fn state(&self) -> BrokerState {
        *self.state.lock().expect("nothing panics here")
    }

    fn name(&self) -> &'static str {
        "redis"
    }
}

/// A server whose broker is in this state, and the switch.
async fn server(state: BrokerState) -> (TestServer, Arc<Switch>) {
    let mut made = None;
    let server = TestServer::with_broker(|events| {
        let switch = Switch::new(events, state);
        made = Some(switch.clone());
        switch
    });
    (server.await, made.expect("a server starts a broker"))
}

async fn stream(server: &TestServer) -> EventStream {
    let mut stream = server.sse("channel=a").await;
    stream.expect("hello").await;
    stream
}

fn degraded() -> Value {
    json!({"component": "redis", "since": SINCE})
}

fn restored() -> Value {
    json!({"component": "redis"})
}

async fn assert_alive(socket: &mut WebSocket) {
    assert!(socket.ask(json!({"ping": {"c": 1}})).await.get("pong").is_some());
}

#[tokio::test]
async fn every_connection_stays_and_is_told_of_an_outage_and_of_its_end() {
    let (server, switch) = server(BrokerState::Up).await;
    let mut idle = server.websocket().await;
    let mut subscriber = server.subscriber("a").await;
    let mut stream = stream(&server).await;
    for _ in 0..2 {
        switch.set(DOWN).await;
        for socket in [&mut idle, &mut subscriber] {
            assert_eq!(socket.expect("degraded").await, degraded());
            assert_alive(socket).await;
        }
        assert_eq!(stream.expect("degraded").await, degraded());
        assert_eq!(server.post("/v1/publish/a", "1").send().await.code(), "broker_unavailable");
        switch.set(BrokerState::Up).await;
        for socket in [&mut idle, &mut subscriber] {
            assert_eq!(socket.expect("restored").await, restored());
            assert_alive(socket).await;
        }
        assert_eq!(stream.expect("restored").await, restored());
        assert_eq!(server.post("/v1/publish/a", "1").send().await.status, 200);
    }
}

#[tokio::test]
async fn whoever_comes_during_an_outage_is_told_right_after_the_greeting() {
    let (server, switch) = server(DOWN).await;
    let mut socket = server.websocket().await;
    assert_eq!(socket.expect("degraded").await, degraded());
    socket.subscribe("a").await;
    let mut stream = stream(&server).await;
    assert_eq!(stream.expect("degraded").await, degraded());
    switch.set(BrokerState::Up).await;
    assert_eq!(socket.expect("restored").await, restored());
    assert_eq!(stream.expect("restored").await, restored());
    let mut late = server.websocket().await;
    assert_alive(&mut late).await;
}

#[tokio::test]
async fn nothing_comes_between_the_greeting_and_the_outage() {
    let (server, _switch) = server(DOWN).await;
    // A probe is answered at once, and this one is there before the connection is.
    let mut socket = RawWebSocket::hasty(server.address, &RawFrame::text(r#"{"ping":{"c":1}}"#)).await;
    for name in ["hello", "degraded", "pong"] {
        let frame = socket.frame().await.expect("the connection stays");
        assert!(frame.payload.starts_with(format!("{{\"{name}\"").as_bytes()), "{name}: {frame:?}");
    }
}

#[tokio::test]
async fn operators_see_an_outage_and_the_instance_stays_in_service() {
    let (server, switch) = server(BrokerState::Up).await;
    let broker = async || {
        let answer = server.get("/health").send().await;
        let components = answer.json()["components"].clone();
        let broker = components.as_array().expect("a list").iter().find(|part| part["component"] == "redis");
        (answer.status, broker.expect("it is listed")["status"].clone())
    };
    assert_eq!(broker().await, (200, json!("ok")));
    server.metric_reaches("tidings_broker_up", "", 1.0).await;
    switch.set(DOWN).await;
    assert_eq!(broker().await, (503, json!("degraded")));
    server.metric_reaches("tidings_broker_up", "", 0.0).await;
    let detail = server.get("/health").send().await.text();
    assert!(detail.contains("unreachable for "), "{detail}");
    assert_eq!(server.get("/readyz").send().await.status, 200, "a restart would bring nothing back");
    let refused = server.post("/v1/publish/a", "1").send().await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "broker_unavailable"));
    assert!(refused.header("retry-after").is_some());
    switch.set(BrokerState::Up).await;
    eventually("the broker to be well", async || (broker().await == (200, json!("ok"))).then_some(())).await;
}
