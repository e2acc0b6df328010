//! The head of a stream's answer comes after its joins: who reads a snapshot then, misses nothing.

use serde_json::json;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{EventStream, FaultProxy, RedisServer, TestServer, Way, within};

/// A server that is far from its Redis, and one that is near it.
async fn far_and_near(redis: &RedisServer) -> (FaultProxy, TestServer, TestServer) {
    let proxy = FaultProxy::start(redis.address()).await;
    let server = async |url: String| TestServer::dev(&format!("[redis]\nurl = \"{url}\"")).await;
    let (far, near) = (server(proxy.url()).await, server(redis.url()).await);
    (proxy, far, near)
}

fn query(channels: usize) -> String {
    (0..channels).map(|n| format!("channel=c{n}")).collect::<Vec<_>>().join("&")
}

#[tokio::test]
async fn what_is_published_after_the_head_of_the_answer_comes_as_an_event() {
    const CHANNELS: usize = 10;
    let redis = RedisServer::start("").await;
    let (proxy, far, near) = far_and_near(&redis).await;
    proxy.delay(Way::Down, Duration::from_millis(20));
    for round in 0..3 {
        let mut stream = far.sse(&query(CHANNELS)).await;
        assert_eq!(stream.head.status, 200);
        let last = format!("c{}", CHANNELS - 1);
        near.publish(&last, &round.to_string()).await;
        stream.expect("hello").await;
        assert_eq!(stream.expect("message").await["data"], round, "the last channel has joined");
    }
}

#[tokio::test]
async fn a_request_that_is_given_up_before_its_head_gives_everything_back() {
    let redis = RedisServer::start("").await;
    let (proxy, far, _near) = far_and_near(&redis).await;
    proxy.stall(Way::Down);
    let mut socket = TcpStream::connect(far.address).await.expect("it listens");
    let request = far.get(&format!("/sse?{}", query(3)));
    socket.write_all(&request.bytes()).await.expect("it reads");
    far.metric_reaches("tidings_connections", "Sse", 1.0).await;
    drop(socket);
    far.metric_reaches("tidings_connections", "Sse", 0.0).await;
    proxy.flow();
    let mut stream = far.sse(&query(3)).await;
    stream.expect("hello").await;
}

#[tokio::test]
async fn a_stream_of_as_many_channels_as_there_may_be_resumes_in_all_of_them() {
    const CHANNELS: usize = 128;
    let redis = RedisServer::start("").await;
    let (_proxy, far, near) = far_and_near(&redis).await;
    let names: Vec<String> = (0..CHANNELS).map(|n| format!("{n:x>255}")).collect();
    let publish = async |data: usize| {
        let items = names.iter().map(|name| json!({"channel": name, "data": data}).to_string());
        let answer = near.post("/v1/batch", items.collect::<Vec<_>>().join("\n")).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let body = json!({"subscribe": names.iter().map(|name| json!({"channel": name})).collect::<Vec<_>>()});
    let open = async |cursor: &str| {
        let request = far.post("/sse", body.to_string()).header("last-event-id", cursor);
        let mut stream = EventStream::open(request).await;
        stream.expect("hello").await;
        stream
    };
    publish(1).await;
    let cursor = open("").await.cursor();
    assert!(cursor.len() <= 4_096, "{} bytes", cursor.len());
    publish(2).await;
    let mut stream = open(&cursor).await;
    let mut seen = 0;
    while seen < CHANNELS {
        let event = within("an event", stream.next()).await.expect("the stream goes on");
        assert_eq!((event.name.as_str(), &event.json()["data"]), ("message", &json!(2)));
        seen += 1;
    }
}
