//! The vectors of event streams (`protocol/vectors/sse.json`), read by this project's own reader. A reader of others and a browser's
//! run them under `protocol/js/test`.

use std::fs;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tidings::cli::event_stream::{Event, EventStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{TestServer, read_head, within};

/// Longer than any of them.
const BYTES_MAX: usize = 1 << 16;

fn vectors() -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("protocol/vectors/sse.json");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("the vectors are a list")
}

async fn publish(server: &TestServer, vector: &Value) {
    let option = |name: &str| {
        let value = vector.get(name)?.as_str().expect("options are text");
        Some(format!("{name}={}", form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>()))
    };
    let options: Vec<String> = ["id", "key"].into_iter().filter_map(option).collect();
    let body = match vector.get("b64").and_then(Value::as_str) {
        Some(b64) => STANDARD.decode(b64).expect("base64"),
        None => vector["body"].as_str().expect("text").as_bytes().to_vec(),
    };
    let request = server.post(&format!("/v1/publish/c?{}", options.join("&")), body);
    let answer = request.header("content-type", vector["type"].as_str().expect("a type")).send().await;
    assert_eq!(answer.status, 200, "{vector}: {}", answer.text());
}

/// A stream as bytes: HTTP/1.0 knows no chunks.
async fn open(server: &TestServer, query: &str) -> (TcpStream, Vec<u8>) {
    let mut stream = TcpStream::connect(server.address).await.expect("it listens");
    let request = format!("GET /sse?channel=c{query} HTTP/1.0\r\nhost: {}\r\n\r\n", server.address);
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let (head, rest) = within("a stream", read_head(&mut stream)).await;
    assert_eq!((head.status, head.header("transfer-encoding")), (200, None));
    (stream, rest)
}

/// Reads until there are so many events; returns them, and how the reader stands.
async fn read((mut stream, mut unread): (TcpStream, Vec<u8>), count: usize) -> (Vec<Event>, EventStream) {
    let mut reader = EventStream::new(BYTES_MAX);
    let mut events = Vec::new();
    loop {
        events.extend(reader.feed(&unread).expect("they are short"));
        if events.len() >= count {
            return (events, reader);
        }
        unread.clear();
        assert_ne!(within("more events", stream.read_buf(&mut unread)).await.unwrap_or_default(), 0);
    }
}

fn is_whole(event: &Event, vector: &Value) {
    let said: Value = serde_json::from_str(&event.data).expect("an event is JSON");
    let body = || vector["body"].as_str().expect("text");
    let data = match vector["type"].as_str() {
        Some("application/json") => serde_json::from_str(body()).expect("JSON"),
        Some("text/plain") => Value::from(body()),
        _ => Value::Null,
    };
    assert_eq!(said["data"], data, "{vector}");
    for name in ["b64", "id", "key"] {
        assert_eq!(said.get(name), vector.get(name), "{vector}");
    }
}

#[tokio::test]
async fn our_reader_gives_exactly_what_was_published() {
    let (server, vectors) = (TestServer::dev("").await, vectors());
    assert!(vectors.len() >= 30, "{} vectors", vectors.len());
    let (whole, raw) = (open(&server, "").await, open(&server, "&raw=1").await);
    for vector in &vectors {
        publish(&server, vector).await;
    }
    for (stream, is_raw) in [(whole, false), (raw, true)] {
        let (events, reader) = read(stream, vectors.len() + 1).await;
        let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
        assert_eq!(names[0], "hello");
        assert!(names[1..].iter().all(|name| *name == "message") && names.len() == vectors.len() + 1);
        for (event, vector) in events[1..].iter().zip(&vectors) {
            match is_raw {
                true => assert_eq!(Some(event.data.as_str()), vector["raw"].as_str(), "{vector}"),
                false => is_whole(event, vector),
            }
        }
        assert_eq!(reader.retry(), None);
        let is_cursor = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        assert!(reader.last_event_id().bytes().all(is_cursor), "{}", reader.last_event_id());
    }
}
