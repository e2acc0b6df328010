//! A server in this process, on a free port.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use tidings::broker::{Broker, BrokerEvent};
use tidings::config::{Config, FlagValue, Sources};
use tidings::server::{BrokerParts, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::{EventStream, Request, WebSocket, eventually, read_head, within};

/// A running server. It ends with the test's runtime.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    server: Server,
}

impl TestServer {
    /// A server in dev mode, configured by TOML.
    pub(crate) async fn dev(toml: &str) -> TestServer {
        TestServer::start(toml, true).await
    }

    /// A server as `tidings serve` starts it, configured by TOML.
    pub(crate) async fn serve(toml: &str) -> TestServer {
        TestServer::start(toml, false).await
    }

    /// A server in dev mode with a broker of the test's own, which `broker` makes of the way for its announcements.
    pub(crate) async fn with_broker(
        broker: impl FnOnce(mpsc::Sender<BrokerEvent>) -> Arc<dyn Broker>,
    ) -> TestServer {
        let broker = async |_: &Config, parts: BrokerParts| Ok(broker(parts.events));
        let server = Server::start_with(config("", true), true, broker).await.expect("the server starts");
        TestServer { address: server.address(), server }
    }

    async fn start(toml: &str, dev: bool) -> TestServer {
        let server = Server::start(config(toml, dev), dev).await.expect("the server starts");
        TestServer { address: server.address(), server }
    }

    /// Ends the server in good order.
    pub(crate) async fn drain(self) {
        self.server.drain().await;
    }

    /// Tasks that serve peers.
    pub(crate) fn tasks(&self) -> usize {
        self.server.instance().tasks.len()
    }

    pub(crate) fn get(&self, path: &str) -> Request {
        Request::new(self.address, "GET", path)
    }

    pub(crate) fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Request {
        Request::new(self.address, "POST", path).body(body)
    }

    /// Publishes JSON text, which must succeed; returns the answer's body.
    pub(crate) async fn publish(&self, channel: &str, json: &str) -> Value {
        let path = format!("/v1/publish/{channel}");
        let answer = self.post(&path, json).header("content-type", "application/json").send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// The status and body that answer a WebSocket handshake with these headers.
    pub(crate) async fn handshake(&self, headers: &[(&str, &str)]) -> (u16, String) {
        let upgrade = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let all = upgrade.iter().chain(headers);
        let request = all.fold(self.get("/ws"), |request, (name, value)| request.header(name, value));
        let mut stream = TcpStream::connect(self.address).await.expect("it listens");
        stream.write_all(&request.bytes()).await.expect("it reads");
        let (head, mut rest) = within("a handshake", read_head(&mut stream)).await;
        let length = head.header("content-length").map_or(0, |length| length.parse().expect("a number"));
        while rest.len() < length {
            let read = within("the answer's body", stream.read_buf(&mut rest)).await;
            assert_ne!(read.unwrap_or_default(), 0, "the body broke off");
        }
        (head.status, String::from_utf8_lossy(&rest).into_owned())
    }

    /// A WebSocket that was greeted.
    pub(crate) async fn websocket(&self) -> WebSocket {
        let mut socket = WebSocket::connect(self.address, &[]).await;
        socket.expect("hello").await;
        socket
    }

    /// A WebSocket that subscribed to a channel.
    pub(crate) async fn subscriber(&self, channel: &str) -> WebSocket {
        let mut socket = self.websocket().await;
        socket.subscribe(channel).await;
        socket
    }

    /// A stream of events, from its first byte.
    pub(crate) async fn sse(&self, query: &str) -> EventStream {
        EventStream::open(self.get(&format!("/sse?{query}"))).await
    }

    /// The sum of all series of a metric, with whatever labels contain `label`.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> f64 {
        self.get("/metrics").send().await.metric(name, label)
    }

    /// Waits until a metric has a value.
    pub(crate) async fn metric_reaches(&self, name: &str, label: &str, value: f64) {
        let what = format!("{name}{{{label}}} to be {value}");
        eventually(&what, async || (self.metric(name, label).await == value).then_some(())).await;
    }

    /// Subscribers of a channel, as `/v1/channels` has it.
    pub(crate) async fn subscribers(&self, channel: &str) -> u64 {
        let list = self.get("/v1/channels").send().await.json();
        let channels = list["channels"].as_array().expect("a list").iter();
        channels.filter(|c| c["channel"] == channel).filter_map(|c| c["subscribers"].as_u64()).sum()
    }
}

/// A configuration in TOML, on a free port.
pub(crate) fn config(toml: &str, dev: bool) -> Config {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = directory.path().join("tidings.toml");
    std::fs::write(&file, toml).expect("a file can be written");
    let listen = FlagValue { key: "server.listen", value: "127.0.0.1:0".to_owned(), name: "--listen" };
    let sources = Sources { file: Some(file), flags: vec![listen], dev, ..Sources::default() };
    Config::load(&sources).unwrap_or_else(|problems| panic!("{problems}")).config
}
