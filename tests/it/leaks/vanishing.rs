//! Peers that vanish before they are answered, on a shared Redis: they leave nothing behind, and take nothing from those who
//! stay.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{
    Fleet, Instance, Link, RawFrame, RawWebSocket, RedisServer, Request, WebSocket, eventually, sized,
};

/// Rooms that one subscriber is in for good.
const ROOMS: usize = 40;

/// Rooms that each of those who vanish asks for.
const ASKED: usize = 8;

/// Those who vanish between two publications in each room.
const VISITORS_PER_ROUND: usize = 200;

/// Peers that are there at once.
const AT_ONCE: usize = 20;

/// Nobody waits long until what nobody needs is forgotten; and nobody is refused for coming too often.
const LIMITS: &str = "[limits]\nconnections_per_second = 1000000\nconnections_burst = 1000000\n";
const LINGER: &str = "linger = \"100ms\"";

/// How a visitor comes.
#[derive(Clone, Copy, Debug)]
enum By {
    WebSocket,
    EventStream,
}

fn room(number: usize) -> String {
    format!("room:{}", number % ROOMS)
}

/// Comes, asks for rooms, and is gone after 0 to 25 ms, whatever was answered until then.
async fn vanish(address: SocketAddr, by: By, number: usize) {
    let rooms = (0..ASKED).map(|place| room(number * 11 + place * 5));
    match by {
        By::WebSocket => {
            let Ok(mut socket) = RawWebSocket::try_handshake(address, &[]).await else { return };
            let ask =
                |room| RawFrame::text(&json!({"id": 1, "subscribe": {"channel": room}}).to_string()).bytes();
            socket.send_bytes(&rooms.map(ask).collect::<Vec<_>>().concat()).await;
            stay(number).await;
        }
        By::EventStream => {
            let Ok(mut stream) = TcpStream::connect(address).await else { return };
            let query: Vec<String> = rooms.map(|room| format!("channel={room}")).collect();
            let request = Request::new(address, "GET", &format!("/sse?{}", query.join("&")));
            // A server that closed already is no failure here.
            stream.write_all(&request.bytes()).await.ok();
            stay(number).await;
        }
    }
}

/// The time until a visitor is gone is what is tested: it ends in the middle of whatever the server does for it.
async fn stay(number: usize) {
    tokio::time::sleep(Duration::from_micros(number as u64 * 7_919 % 25_000)).await;
}

/// A subscriber of every room, who counts what it hears.
struct Steady {
    socket: WebSocket,
    address: SocketAddr,
    rounds: usize,
}

impl Steady {
    async fn arrive(address: SocketAddr) -> Steady {
        let mut socket = WebSocket::connect(address, &[]).await;
        socket.expect("hello").await;
        for number in 0..ROOMS {
            socket.subscribe(&room(number)).await;
        }
        Steady { socket, address, rounds: 0 }
    }

    /// One publication in each room is heard once, without a gap.
    async fn hears_every_room(&mut self) {
        self.rounds += 1;
        for number in 0..ROOMS {
            let path = format!("/v1/publish/{}", room(number));
            let publish = Request::new(self.address, "POST", &path).body(self.rounds.to_string());
            let answer = publish.header("content-type", "application/json").send().await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        let mut silent: BTreeSet<String> = (0..ROOMS).map(room).collect();
        while !silent.is_empty() {
            let frame = self.socket.next_frame().await;
            let Some(batch) = frame.get("batch") else {
                panic!("{silent:?} are silent, and there is {frame}")
            };
            assert_eq!(batch["publications"][0]["data"], json!(self.rounds), "{frame}");
            let room = batch["channel"].as_str().expect("a batch names its channel");
            assert!(silent.remove(room), "twice: {frame}");
        }
    }
}

/// The subscribers that an instance has in each of its channels.
async fn attached(instance: &Instance) -> BTreeSet<(String, u64)> {
    let list = Request::new(instance.address, "GET", "/v1/channels").send().await.json();
    let channels = list["channels"].as_array().expect("a list").iter();
    let subscribers = |channel: &serde_json::Value| {
        let count = channel["subscribers"].as_u64().filter(|count| *count > 0)?;
        Some((channel["channel"].as_str()?.to_owned(), count))
    };
    channels.filter_map(subscribers).collect()
}

/// What Redis announces to anybody, of the channels that clients can name.
async fn announced(redis: &RedisServer) -> BTreeSet<String> {
    let reply = redis.command(&["PUBSUB", "CHANNELS", "*{*"]).await;
    reply.list().iter().map(|name| name.text().to_owned()).collect()
}

async fn whoever_vanishes_takes_nothing_along(by: By) {
    let redis = RedisServer::start("").await;
    let fleet = Fleet::start(1, &Link::Direct(redis.url()), LIMITS, LINGER).await;
    let instance = &fleet.instances[0];
    let mut steady = Steady::arrive(instance.address).await;
    let rounds = sized(100, 15);
    let mut warm = 0;
    for round in 0..rounds {
        let visitors = (0..VISITORS_PER_ROUND).map(|number| round * VISITORS_PER_ROUND + number);
        let vanish = |number| vanish(instance.address, by, number);
        futures::stream::iter(visitors).for_each_concurrent(AT_ONCE, vanish).await;
        steady.hears_every_room().await;
        if round == rounds / 3 {
            warm = instance.process().resident_bytes();
        }
    }
    eventually("the visitors to be gone", async || {
        (instance.metric("tidings_connections", "").await == 1.0).then_some(())
    })
    .await;
    let expected: BTreeSet<(String, u64)> = (0..ROOMS).map(|number| (room(number), 1)).collect();
    eventually("one subscriber in each room", async || (attached(instance).await == expected).then_some(()))
        .await;
    // Whatever was wanted before lingers no longer than this.
    let mut last = WebSocket::connect(instance.address, &[]).await;
    last.expect("hello").await;
    last.subscribe("last").await;
    last.close().await;
    let expected: BTreeSet<String> =
        (0..ROOMS).map(|number| format!("tidings:{{{}}}", room(number))).collect();
    eventually("Redis to announce the rooms, and nothing else", async || {
        (announced(&redis).await == expected).then_some(())
    })
    .await;
    steady.hears_every_room().await;
    let after = instance.process().resident_bytes();
    println!(
        "{by:?}: {} vanished; {} MiB before, {} MiB after",
        rounds * VISITORS_PER_ROUND,
        warm >> 20,
        after >> 20
    );
    assert!(after < warm + (8 << 20), "{after} bytes, {warm} after the first");
    assert_eq!(instance.metric("tidings_panics_total", "").await, 0.0);
}

#[tokio::test]
async fn sockets_that_vanish_before_they_are_answered_silence_nobody() {
    whoever_vanishes_takes_nothing_along(By::WebSocket).await;
}

#[tokio::test]
async fn streams_that_vanish_before_they_are_answered_silence_nobody() {
    whoever_vanishes_takes_nothing_along(By::EventStream).await;
}
