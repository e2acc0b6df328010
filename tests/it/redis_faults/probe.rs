//! Single publishes, and connections that wait for what they are told, beside the traffic.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};

use super::ANSWERED_WITHIN;
use crate::support::{Answer, EventStream, Fleet, Request, WebSocket, eventually};

/// A channel that the traffic does not use.
pub(super) struct Probe {
    channel: String,
    addresses: Vec<SocketAddr>,
    number: u64,
}

impl Probe {
    pub(super) fn new(channel: &str, fleet: &Fleet) -> Probe {
        Probe { channel: channel.to_owned(), addresses: fleet.addresses(), number: 0 }
    }

    fn request(&self, address: SocketAddr, key: &str) -> Request {
        let path = format!("/v1/publish/{}", self.channel);
        let request = Request::new(address, "POST", &path).header("content-type", "application/json");
        request.header("idempotency-key", key).body(json!(key).to_string())
    }

    /// Publishes something new at every instance at once; returns its key, the answer, and how long each took.
    pub(super) async fn publish(&mut self) -> Vec<(String, Answer, Duration)> {
        let number = self.number;
        self.number += 1;
        let this = &*self;
        join_all(this.addresses.iter().enumerate().map(|(index, address)| async move {
            let (key, begun) = (format!("{number}-{index}"), Instant::now());
            let answer = this.request(*address, &key).send().await;
            (key, answer, begun.elapsed())
        }))
        .await
    }

    /// The same where all must be stored.
    pub(super) async fn stored(&mut self) {
        for (key, answer, _) in self.publish().await {
            assert_eq!(answer.status, 200, "{key}: {}", answer.text());
        }
    }

    /// The same while nothing can be stored: each answers soon and honestly. Returns the keys.
    pub(super) async fn refused(&mut self) -> Vec<String> {
        let answers = self.publish().await;
        let keys = answers.into_iter().map(|(key, answer, took)| {
            assert!(took <= ANSWERED_WITHIN, "{took:?}: {}", answer.text());
            let is_honest = matches!(
                (answer.status, &*answer.code()),
                (503, "broker_unavailable") | (504, "outcome_unknown")
            );
            assert!(is_honest, "{}", answer.text());
            key
        });
        keys.collect()
    }

    /// Publishes under this key at every instance until it is stored.
    pub(super) async fn retry(&self, key: &str) {
        for address in &self.addresses {
            eventually("a publish", async || {
                let answer = self.request(*address, key).send().await;
                (answer.status == 200).then_some(())
            })
            .await;
        }
    }

    async fn ask_history(&self) -> Answer {
        let path = format!("/v1/channels/{}/history?limit=1000", self.channel);
        Request::new(self.addresses[0], "GET", &path).send().await
    }

    /// Whether the first instance can read what the channel holds.
    pub(super) async fn history_status(&self) -> u16 {
        self.ask_history().await.status
    }

    /// All that the channel holds, as the first instance tells it.
    pub(super) async fn history(&self) -> Vec<Value> {
        let answer = self.ask_history().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let list = answer.json()["publications"].as_array().expect("a list").clone();
        list.into_iter().map(|publication| publication["data"].clone()).collect()
    }
}

/// Of every instance an idle WebSocket, one that subscribed, and an event stream.
pub(super) struct Watchers {
    idle: Vec<WebSocket>,
    sockets: Vec<WebSocket>,
    streams: Vec<EventStream>,
}

impl Watchers {
    /// Watches these instances, and a channel of the traffic.
    pub(super) async fn at(addresses: &[SocketAddr]) -> Watchers {
        let mut watchers = Watchers { idle: Vec::new(), sockets: Vec::new(), streams: Vec::new() };
        for address in addresses {
            let [mut idle, mut socket] =
                [WebSocket::connect(*address, &[]).await, WebSocket::connect(*address, &[]).await];
            idle.expect("hello").await;
            socket.expect("hello").await;
            socket.subscribe("a").await;
            let mut stream = EventStream::open(Request::new(*address, "GET", "/sse?channel=a")).await;
            stream.expect("hello").await;
            watchers.idle.push(idle);
            watchers.sockets.push(socket);
            watchers.streams.push(stream);
        }
        watchers
    }

    /// Waits until everybody was told this of the broker; returns how long the last one took.
    pub(super) async fn told(&mut self, name: &str) -> Duration {
        let begun = Instant::now();
        let idle = self.idle.iter_mut().map(|socket| hears(socket, vec![name]));
        let sockets = self.sockets.iter_mut().map(|socket| hears(socket, vec![name]));
        let streams = self.streams.iter_mut().map(|stream| reads(stream, vec![name]));
        futures::join!(join_all(idle), join_all(sockets), join_all(streams));
        begun.elapsed()
    }

    /// Waits until everybody was told that the broker is back, and who subscribed, in whatever order, of a gap.
    pub(super) async fn told_of_a_loss(&mut self) {
        let idle = self.idle.iter_mut().map(|socket| hears(socket, vec!["restored"]));
        let sockets = self.sockets.iter_mut().map(|socket| hears(socket, vec!["restored", "gap"]));
        let streams = self.streams.iter_mut().map(|stream| reads(stream, vec!["restored", "gap"]));
        futures::join!(join_all(idle), join_all(sockets), join_all(streams));
    }
}

/// Reads until all these frames have come.
async fn hears(socket: &mut WebSocket, mut names: Vec<&str>) {
    while !names.is_empty() {
        let frame = socket.next_frame().await;
        names.retain(|name| frame.get(name).is_none());
    }
}

/// Reads until all these events have come.
async fn reads(stream: &mut EventStream, mut names: Vec<&str>) {
    while !names.is_empty() {
        let event = stream.next().await.expect("the stream stays");
        names.retain(|name| *name != event.name);
    }
}
