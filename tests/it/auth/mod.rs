//! Credentials of every kind: keys that tokens are signed with, keys of issuers, tokens for single channels, what ends them, and
//! what of them is seen by whom.

mod anonymous;
mod canary;
mod channel_tokens;
mod expiry;
mod issuer;
mod jwks;
mod keys;
mod names;
mod revocation;
mod revocation_cluster;
mod unknown;

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{API_KEY, Answer, Request, TestServer, WebSocket, auth_config, read_head, within};

async fn server(toml: &str) -> TestServer {
    TestServer::serve(&format!("{}\n{toml}", auth_config())).await
}

/// A socket that was let in with this token.
async fn socket(server: &TestServer, token: &str) -> WebSocket {
    let mut socket =
        WebSocket::connect(server.address, &[("authorization", &format!("Bearer {token}"))]).await;
    socket.expect("hello").await;
    socket
}

/// Says something with a good credential, whatever the server makes of it.
async fn publish(server: &TestServer, channel: &str, json: &str) -> Value {
    let answer = server.post(&format!("/v1/publish/{channel}"), json).bearer(API_KEY).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// The head of what answers a WebSocket handshake with these headers.
async fn knock(address: SocketAddr, headers: &[(&str, &str)]) -> Answer {
    let upgrade = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let all = upgrade.iter().chain(headers);
    let request = Request::new(address, "GET", "/ws");
    let request = all.fold(request, |request, (name, value)| request.header(name, value));
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(&request.bytes()).await.expect("it reads");
    within("a handshake", read_head(&mut stream)).await.0
}
