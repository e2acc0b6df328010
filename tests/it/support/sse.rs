//! A reader of event streams that follows the WHATWG's rules to the letter.

use std::io;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::http::try_read_head;
use super::{Answer, Request, within};

/// One dispatched event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: String,
}

/// An open stream.
pub(crate) struct EventStream {
    pub(crate) head: Answer,
    /// What the browser would send as `Last-Event-ID`.
    pub(crate) last_event_id: String,
    /// The pause that the server asked for, in milliseconds.
    pub(crate) retry: Option<u64>,
    /// Lines that began with a colon.
    comments: usize,
    stream: TcpStream,
    chunked: Vec<u8>,
    text: Vec<u8>,
    name: String,
    data: Vec<String>,
    /// Of the event that is being read.
    id: Option<String>,
    /// Whether the last event had an id of its own.
    has_id: bool,
    ended: bool,
}

impl Event {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("{e}: {:?}", self.data))
    }
}

impl EventStream {
    /// Sends the request and reads the answer's head, which may be a refusal.
    pub(crate) async fn open(request: Request) -> EventStream {
        let opened = within("the stream's head", EventStream::try_open(request)).await;
        opened.unwrap_or_else(|error| panic!("the server does not answer: {error}"))
    }

    /// The same with a server that may be dead, silent, or end before its answer.
    pub(crate) async fn try_open(request: Request) -> io::Result<EventStream> {
        let mut stream = TcpStream::connect(request.address).await?;
        stream.write_all(&request.bytes()).await?;
        let (head, chunked) = try_read_head(&mut stream).await?;
        Ok(EventStream {
            head,
            last_event_id: String::new(),
            retry: None,
            comments: 0,
            stream,
            chunked,
            text: Vec::new(),
            name: String::new(),
            data: Vec::new(),
            id: None,
            has_id: false,
            ended: false,
        })
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        within("an event", self.read_event()).await
    }

    /// The next event, which must have this name (`message` where the stream gives none).
    #[track_caller]
    pub(crate) fn expect(&mut self, name: &str) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let event = self.next().await.unwrap_or_else(|| panic!("{caller}: the stream ended"));
            assert_eq!(event.name, name, "{caller}: {event:?}");
            event.json()
        }
    }

    /// The cursor of the write that ended with the last event read.
    #[track_caller]
    pub(crate) fn cursor(&self) -> String {
        assert!(self.has_id, "the last event read was not the last one of its write");
        self.last_event_id.clone()
    }

    /// What a server without room answers: a stream that ends at once, and says when to come back.
    pub(crate) async fn is_turned_away(&mut self) {
        assert_eq!(self.head.status, 200, "a browser gives up on anything else");
        let disconnect = self.expect("disconnect").await;
        assert_eq!((&disconnect["code"], &disconnect["reconnect"]), (&Value::from(1013), &Value::from(true)));
        assert_eq!((self.rest().await, self.last_event_id.as_str()), (vec![], ""));
        assert!(self.retry >= Some(1_000) && self.retry == disconnect["after_ms"].as_u64(), "{disconnect}");
    }

    /// Reads until a comment, which must come before any event.
    pub(crate) async fn heartbeat(&mut self) {
        let before = self.comments;
        while self.comments == before {
            let line = within("a comment", self.read_line()).await.expect("the stream goes on");
            assert_eq!(self.take_line(&line), None, "an event before a comment");
        }
    }

    /// The socket alone, for whoever reads it in a way of their own.
    pub(crate) fn into_socket(self) -> TcpStream {
        self.stream
    }

    /// Sends further bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        within("room to send", self.stream.write_all(bytes)).await.ok();
    }

    /// Whether the server has cut the connection, unread bytes or not.
    pub(crate) async fn is_reset(&mut self) -> bool {
        self.stream.write_all(b"\r\n").await.is_err()
    }

    /// Reads to the end of the stream; returns the events on the way.
    pub(crate) async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// The next event, however long it takes; `None` at the end of the stream. May be given up and called again.
    pub(crate) async fn read_event(&mut self) -> Option<Event> {
        while let Some(line) = self.read_line().await {
            if let Some(event) = self.take_line(&line) {
                return Some(event);
            }
        }
        None
    }

    fn take_line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            let data = std::mem::take(&mut self.data);
            let id = self.id.take();
            if !data.is_empty() {
                self.has_id = id.is_some();
            } else {
                // Several libraries ignore such an id, or show an event without data.
                assert_eq!(id, None, "an id stands with data");
            }
            if let Some(id) = id {
                self.last_event_id = id;
            }
            let name = if name.is_empty() { "message".to_owned() } else { name };
            return (!data.is_empty()).then(|| Event { name, data: data.join("\n") });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.comments += 1,
            "event" => self.name = value.to_owned(),
            "data" => self.data.push(value.to_owned()),
            "id" => self.id = Some(value.to_owned()),
            "retry" => self.retry = value.parse().ok(),
            other => panic!("an unknown field {other:?}"),
        }
        None
    }

    /// A line without its end, which is CR, LF or both.
    async fn read_line(&mut self) -> Option<String> {
        loop {
            let end = self.text.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            // A CR at the very end may be half of a CRLF.
            if let Some(end) = end.filter(|end| self.text[*end] == b'\n' || *end + 1 < self.text.len()) {
                let crlf = self.text[end..].starts_with(b"\r\n");
                let line = String::from_utf8(self.text[..end].to_vec()).expect("streams are UTF-8");
                self.text.drain(..end + 1 + usize::from(crlf));
                return Some(line);
            }
            if !self.read_chunk().await {
                return None;
            }
        }
    }

    /// Moves one chunk from the wire to the text; false at the end.
    async fn read_chunk(&mut self) -> bool {
        loop {
            if let Some((size, begin)) = chunk_head(&self.chunked)
                && self.chunked.len() >= begin + size + 2
            {
                self.text.extend_from_slice(&self.chunked[begin..begin + size]);
                self.chunked.drain(..begin + size + 2);
                self.ended |= size == 0;
                return !self.ended;
            }
            let closed = self.head.header("transfer-encoding") != Some("chunked");
            if closed && !self.chunked.is_empty() {
                self.text.append(&mut self.chunked);
                return true;
            }
            if self.ended || self.stream.read_buf(&mut self.chunked).await.unwrap_or_default() == 0 {
                self.ended = true;
                return false;
            }
        }
    }
}

fn chunk_head(bytes: &[u8]) -> Option<(usize, usize)> {
    let end = bytes.windows(2).position(|window| window == b"\r\n")?;
    let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).ok()?, 16).ok()?;
    Some((size, end + 2))
}
