//! A WebSocket client that speaks JSON frames.

use std::net::SocketAddr;
use std::panic::Location;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::within;

/// One connection, of the client's side.
pub(crate) struct WebSocket {
    stream: WebSocketStream<TcpStream>,
    next_id: u64,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Closed {
    pub(crate) code: u16,
    pub(crate) reason: String,
}

impl WebSocket {
    /// Connects with further headers; the handshake must succeed.
    pub(crate) async fn connect(address: SocketAddr, headers: &[(&str, &str)]) -> WebSocket {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        WebSocket::over(stream, headers).await
    }

    /// Shakes hands over a socket that the test made.
    pub(crate) async fn over(stream: TcpStream, headers: &[(&str, &str)]) -> WebSocket {
        let address = stream.peer_addr().expect("it is connected");
        let mut request = format!("ws://{address}/ws").into_client_request().expect("a URL");
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a name");
            request.headers_mut().insert(name, HeaderValue::from_str(value).expect("a value"));
        }
        let config = WebSocketConfig::default().max_frame_size(None).max_message_size(None);
        let shaken = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
        let (stream, _) = within("a handshake", shaken).await.expect("the handshake succeeds");
        WebSocket { stream, next_id: 1 }
    }

    /// Sends a command as it is.
    pub(crate) async fn send(&mut self, command: Value) {
        self.send_text(command.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: impl Into<String>) {
        self.send_message(Message::text(text.into())).await;
    }

    pub(crate) async fn send_message(&mut self, message: Message) {
        within("room to send", self.stream.send(message)).await.expect("the server reads");
    }

    /// Sends a command; false if the connection has ended.
    pub(crate) async fn try_send(&mut self, command: Value) -> bool {
        within("room to send", self.stream.send(Message::text(command.to_string()))).await.is_ok()
    }

    /// Sends a command and returns what answers it; other frames on the way fail the test.
    #[track_caller]
    pub(crate) fn ask(&mut self, mut command: Value) -> impl Future<Output = Value> {
        let caller = Location::caller();
        async move {
            let id = self.next_id;
            self.next_id += 1;
            command["id"] = id.into();
            self.send(command).await;
            let frame = self.frame(caller).await;
            assert_eq!(frame["id"], id, "{caller}: {frame}");
            frame
        }
    }

    /// Subscribes from now on; returns the body of `subscribed`.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, channel: &str) -> impl Future<Output = Value> {
        let answer = self.ask(json!({"subscribe": {"channel": channel}}));
        async move { body(answer.await, "subscribed") }
    }

    /// Subscribes from a position on; returns the body of `subscribed`.
    #[track_caller]
    pub(crate) fn resume(&mut self, channel: &str, since: &Value) -> impl Future<Output = Value> {
        let answer = self.ask(json!({"subscribe": {"channel": channel, "since": since}}));
        async move { body(answer.await, "subscribed") }
    }

    /// The code of the error that answers a command.
    #[track_caller]
    pub(crate) fn refused(&mut self, command: Value) -> impl Future<Output = String> {
        let answer = self.ask(command);
        async move {
            let error = body(answer.await, "error");
            error["code"].as_str().expect("an error has a code").to_owned()
        }
    }

    /// The next frame, which must have this name; returns its body.
    #[track_caller]
    pub(crate) fn expect(&mut self, name: &str) -> impl Future<Output = Value> {
        let caller = Location::caller();
        async move {
            let frame = self.frame(caller).await;
            assert!(frame.get(name).is_some(), "{caller}: expected {name}, got {frame}");
            frame[name].clone()
        }
    }

    /// The next frame, whatever it is.
    #[track_caller]
    pub(crate) fn next_frame(&mut self) -> impl Future<Output = Value> {
        self.frame(Location::caller())
    }

    /// The next frame, or how the connection ended.
    #[track_caller]
    pub(crate) fn next_or_closed(&mut self) -> impl Future<Output = Result<Value, Closed>> {
        self.next_message(Location::caller())
    }

    async fn frame(&mut self, caller: &Location<'_>) -> Value {
        match self.next_message(caller).await {
            Ok(frame) => frame,
            Err(closed) => panic!("{caller}: closed with {closed:?}"),
        }
    }

    /// The data of publications of a channel, in order, until there are `count`.
    #[track_caller]
    pub(crate) fn data(&mut self, channel: &str, count: usize) -> impl Future<Output = Vec<Value>> {
        let caller = Location::caller();
        async move {
            let mut data = Vec::new();
            while data.len() < count {
                let frame = self.frame(caller).await;
                let batch = &frame["batch"];
                assert_eq!(batch["channel"], channel, "{caller}: {frame}");
                let publications = batch["publications"].as_array().expect("a list");
                data.extend(publications.iter().map(|publication| publication["data"].clone()));
            }
            assert_eq!(data.len(), count, "{caller}");
            data
        }
    }

    /// Reads to the end; returns the frames on the way and how the connection ended.
    pub(crate) async fn closed(&mut self) -> (Vec<Value>, Closed) {
        let mut frames = Vec::new();
        loop {
            match self.next_message(Location::caller()).await {
                Ok(frame) => frames.push(frame),
                Err(closed) => return (frames, closed),
            }
        }
    }

    /// Closes from this side.
    pub(crate) async fn close(mut self) {
        self.stream.close(None).await.ok();
        while let Some(Ok(_)) = within("the end", self.stream.next()).await {}
    }

    async fn next_message(&mut self, caller: &Location<'_>) -> Result<Value, Closed> {
        loop {
            match within(&format!("a frame ({caller})"), self.stream.next()).await {
                Some(Ok(Message::Text(text))) => {
                    let frame = serde_json::from_str(&text);
                    return Ok(frame.unwrap_or_else(|e| panic!("{caller}: {e}: {text}")));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(Some(close)))) => {
                    return Err(Closed { code: close.code.into(), reason: close.reason.to_string() });
                }
                Some(Ok(other)) => panic!("{caller}: {other:?}"),
                Some(Err(Error::ConnectionClosed)) | None => {
                    return Err(Closed { code: 1005, reason: String::new() });
                }
                Some(Err(error)) => return Err(Closed { code: 1006, reason: error.to_string() }),
            }
        }
    }
}

fn body(frame: Value, name: &str) -> Value {
    assert!(frame.get(name).is_some(), "expected {name}, got {frame}");
    frame[name].clone()
}
