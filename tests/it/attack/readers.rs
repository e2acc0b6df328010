//! Peers that take little or nothing of what they asked for, and peers that are gone without a word.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use tokio::io::AsyncReadExt;

use super::siege::{Siege, greeted};
use crate::support::{EventStream, FaultProxy, RawFrame, RawWebSocket, Request, Way};

const READERS: usize = 20;

/// How long each attack goes on, and the flood that its readers asked for.
const TIME: Duration = Duration::from_secs(3);

const TOML: &str = "[server]\nping_interval = \"500ms\"\ntimeout = \"2s\"\nwrite_timeout = \"2s\"\n[namespace.default]\nbatch_window = \"20ms\"";

#[derive(Clone, Copy)]
enum Reader {
    /// Has a small window, and never makes room in it.
    Never,
    /// Makes room for a byte now and then.
    Byte,
    /// A stream of events likewise.
    Stream,
}

/// Publishes a few megabytes a second.
async fn flood(address: SocketAddr) {
    let mut publisher = greeted(address).await;
    let begun = Instant::now();
    while begun.elapsed() < TIME {
        publisher.send(json!({"publish": {"channel": "flood", "data": "x".repeat(50_000)}})).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    publisher.close().await;
}

async fn read(address: SocketAddr, reader: Reader) {
    let mut stream = match reader {
        Reader::Never | Reader::Byte => {
            let mut socket = RawWebSocket::handshake(address, Some(4_096), &[]).await;
            socket.send(&RawFrame::text(r#"{"subscribe":{"channel":"flood"}}"#)).await;
            socket.stream
        }
        Reader::Stream => {
            let stream = EventStream::open(Request::new(address, "GET", "/sse?channel=flood")).await;
            stream.into_socket()
        }
    };
    let begun = Instant::now();
    while begun.elapsed() < TIME {
        if !matches!(reader, Reader::Never) && stream.read_u8().await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_take_little_or_nothing_harm_themselves_alone() {
    let mut siege = Siege::begin(TOML).await;
    let address = siege.address;
    for (what, reader) in [
        ("readers that never make room", Reader::Never),
        ("readers of a byte now and then", Reader::Byte),
        ("streams read a byte now and then", Reader::Stream),
    ] {
        let attack = async move {
            let readers = join_all((0..READERS).map(|_| read(address, reader)));
            futures::join!(flood(address), readers);
        };
        siege.endure(what, 64 << 20, attack).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_are_gone_without_a_word_are_forgotten_and_hold_up_nobody() {
    let mut siege = Siege::begin(TOML).await;
    let address = siege.address;
    let proxy = FaultProxy::start(address).await;
    let attack = async move {
        let mut held = Vec::new();
        for _ in 0..READERS {
            let mut socket = RawWebSocket::connect(proxy.address).await;
            socket.send(&RawFrame::text(r#"{"subscribe":{"channel":"flood"}}"#)).await;
            held.push(socket);
        }
        // From now on nothing is acknowledged by them, and nothing comes of them.
        proxy.stall(Way::Down);
        proxy.stall(Way::Up);
        flood(address).await;
        drop(held);
    };
    siege.endure("half-open connections", 64 << 20, attack).await;
    let closed = siege.metrics().await.metric("tidings_connections_closed_total", "");
    assert!(closed >= READERS as f64, "{closed} connections were closed");
}
