//! A peer that is no Redis, or not any more: what it sends costs the instance the connection and nothing else.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::{Process, RedisServer, Request, eventually};

/// What a web server answers to a client that it does not understand.
const FOREIGN: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";

/// Passes everything on between an instance and Redis, and once it is told to, answers as a web server instead.
struct Gateway {
    address: SocketAddr,
    is_hostile: watch::Sender<bool>,
    hits: watch::Receiver<usize>,
}

impl Gateway {
    async fn start(redis: SocketAddr) -> Gateway {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let (is_hostile, hostile) = watch::channel(false);
        let (hit, hits) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((peer, _)) = listener.accept().await {
                tokio::spawn(pass(peer, redis, hostile.clone(), hit.clone()));
            }
        });
        Gateway { address, is_hostile, hits }
    }
}

/// One connection, until either end closes it.
async fn pass(
    peer: TcpStream,
    redis: SocketAddr,
    mut hostile: watch::Receiver<bool>,
    hit: watch::Sender<usize>,
) {
    let Ok(server) = TcpStream::connect(redis).await else { return };
    let ((mut from_peer, mut to_peer), (mut from_server, mut to_server)) =
        (peer.into_split(), server.into_split());
    tokio::spawn(async move { tokio::io::copy(&mut from_peer, &mut to_server).await });
    let mut bytes = vec![0; 1 << 16];
    while !*hostile.borrow_and_update() {
        let count = tokio::select! {
            read = from_server.read(&mut bytes) => read.unwrap_or(0),
            changed = hostile.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        if count == 0 || to_peer.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
    let foreign = FOREIGN.repeat(1_000);
    // Until the instance closes it.
    while to_peer.write_all(foreign.as_bytes()).await.is_ok() {}
    hit.send_modify(|hits| *hits += 1);
}

#[tokio::test]
async fn answers_of_something_else_cost_the_connection_and_not_the_process() {
    let redis = RedisServer::start("").await;
    let gateway = Gateway::start(redis.address()).await;
    let toml = format!("[redis]\nurl = \"redis://{}\"\n", gateway.address);
    let process = Process::start(&["dev", "--listen", "127.0.0.1:0"], &toml);
    let address = process.address().await;
    let publish = async || Request::new(address, "POST", "/v1/publish/a").body("1").send().await.status;
    assert_eq!(publish().await, 200);
    gateway.is_hostile.send_replace(true);
    let mut hits = gateway.hits.clone();
    eventually("the connections to be given up", async || (*hits.borrow_and_update() >= 2).then_some(()))
        .await;
    gateway.is_hostile.send_replace(false);
    eventually("a publish", async || (publish().await == 200).then_some(())).await;
    assert!(process.stderr().contains("ready"), "it is the same process");
}
