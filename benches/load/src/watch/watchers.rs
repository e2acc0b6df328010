//! Clients that watch tags by WebSocket and renew their leases, as clients with a cache do.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};

use super::touches::Touches;
use crate::error::LoadError;
use crate::http::Target;
use crate::upgrade::upgraded;
use crate::websocket::{Decoder, Message, Opcode, client_frame};

/// A third of the lease of a server that is configured as it comes.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 16 * 1024;
const MASK: [u8; 4] = [4, 3, 2, 1];
/// What a tag's name begins with; its number follows.
const PREFIX: &str = "bench:";

/// The name of a tag.
pub(super) fn tag_name(tag: usize) -> String {
    format!("{PREFIX}{tag}")
}

/// Connects a client for each of `wanted`, the numbers of the tags that it watches. They end with the set. Needs a
/// `LocalSet`.
pub(super) async fn connect(
    target: &Target,
    wanted: Vec<Vec<usize>>,
    touches: &Rc<RefCell<Touches>>,
) -> Result<JoinSet<()>, LoadError> {
    let mut clients = JoinSet::new();
    for tags in wanted {
        let opened = open(target, &tags).await.map_err(LoadError::io("connect a client that watches"))?;
        tags.iter().for_each(|tag| touches.borrow_mut().watched(*tag));
        clients.spawn_local(run(opened.0, opened.1, touches.clone()));
    }
    Ok(clients)
}

async fn open(target: &Target, tags: &[usize]) -> io::Result<(TcpStream, Vec<u8>)> {
    let (mut stream, rest) = upgraded(target).await?;
    let names: Vec<String> = tags.iter().map(|tag| tag_name(*tag)).collect();
    let command = serde_json::json!({"id": 1, "watch": {"groups": [{ "tags": names }]}}).to_string();
    stream.write_all(&client_frame(Opcode::Text, command.as_bytes(), MASK)).await?;
    Ok((stream, rest))
}

/// Reads until the connection ends, which it must not.
async fn run(mut stream: TcpStream, rest: Vec<u8>, touches: Rc<RefCell<Touches>>) {
    let ended = read(&mut stream, rest, &touches).await;
    touches.borrow_mut().complain(ended.expect_err("it reads to the end"));
}

async fn read(
    stream: &mut TcpStream,
    rest: Vec<u8>,
    touches: &RefCell<Touches>,
) -> Result<std::convert::Infallible, String> {
    let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    let mut decoder = Decoder::default();
    let (mut buffer, mut c) = (rest, 0_u64);
    loop {
        let mut reply = Vec::new();
        let mut taken = Ok(());
        let decoded = decoder.feed(&buffer, |message| {
            if taken.is_ok() {
                taken = take(&message, &mut reply, &mut touches.borrow_mut());
            }
        });
        decoded.map_err(|error| error.to_string())?;
        taken?;
        stream.write_all(&reply).await.map_err(|error| error.to_string())?;
        buffer.clear();
        buffer.reserve(READ_BYTES);
        tokio::select! {
            biased;
            received = stream.read_buf(&mut buffer) => {
                if received.map_err(|error| error.to_string())? == 0 {
                    return Err("the server closed the connection of a client that watches".to_owned());
                }
            }
            _ = pings.tick() => {
                c += 1;
                let ping = client_frame(Opcode::Text, format!(r#"{{"ping":{{"c":{c}}}}}"#).as_bytes(), MASK);
                stream.write_all(&ping).await.map_err(|error| error.to_string())?;
            }
        }
    }
}

fn take(message: &Message<'_>, reply: &mut Vec<u8>, touches: &mut Touches) -> Result<(), String> {
    match message {
        Message::Text(text) => frame(text, touches),
        Message::Ping(payload) => {
            reply.extend_from_slice(&client_frame(Opcode::Pong, payload, MASK));
            Ok(())
        }
        Message::Pong => Ok(()),
        Message::Binary(_) => Err("a binary frame on a JSON session".to_owned()),
        Message::Close(code, reason) => Err(format!("closed: {code} {}", String::from_utf8_lossy(reason))),
    }
}

/// The server's frames for a client that watches.
#[derive(Deserialize)]
struct WireFrame<'a> {
    #[serde(borrow)]
    watched: Option<WireWatched<'a>>,
    #[serde(borrow)]
    invalidated: Option<WireInvalidated<'a>>,
    hello: Option<IgnoredAny>,
    at: Option<IgnoredAny>,
    pong: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct WireWatched<'a> {
    #[serde(borrow)]
    denied: Vec<&'a str>,
    #[serde(borrow)]
    escalated: Vec<&'a str>,
}

#[derive(Deserialize)]
struct WireInvalidated<'a> {
    #[serde(borrow)]
    tags: HashMap<&'a str, u64>,
}

/// Takes a frame in; an error for one that no healthy server sends here.
fn frame(text: &[u8], touches: &mut Touches) -> Result<(), String> {
    let unexpected = || Err(format!("unexpected: {:.200}", String::from_utf8_lossy(text)));
    let Ok(frame) = serde_json::from_slice::<WireFrame<'_>>(text) else { return unexpected() };
    match frame {
        WireFrame { invalidated: Some(invalidated), .. } => {
            for tag in invalidated.tags.keys() {
                let number = tag.strip_prefix(PREFIX).and_then(|number| number.parse().ok());
                let Some(number) = number else { return unexpected() };
                touches.told(number);
            }
            Ok(())
        }
        WireFrame { watched: Some(watched), .. } => {
            touches.ready += 1;
            if watched.denied.is_empty() && watched.escalated.is_empty() { Ok(()) } else { unexpected() }
        }
        WireFrame { hello: Some(_), .. }
        | WireFrame { at: Some(_), .. }
        | WireFrame { pong: Some(_), .. } => Ok(()),
        _ => unexpected(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_counted_and_anything_else_is_refused() {
        let mut touches = Touches::new(2);
        touches.watched(1);
        let mut read = |text: &str| frame(text.as_bytes(), &mut touches);
        read(r#"{"hello":{}}"#).unwrap();
        read(r#"{"id":1,"watched":{"at":{"epoch":"e","offset":1},"stale":[],"denied":[],"escalated":[]}}"#)
            .unwrap();
        read(r#"{"at":{"position":{"epoch":"e","offset":1},"c":1}}"#).unwrap();
        for text in [
            r#"{"watched":{"at":{},"stale":[],"denied":["bench:1"],"escalated":[]}}"#,
            r#"{"reset":{"scope":"all","at":{"epoch":"e","offset":1},"reason":"epoch"}}"#,
            r#"{"invalidated":{"at":{},"tags":{"other":1}}}"#,
            "{",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        touches.sent(1);
        frame(br#"{"invalidated":{"at":{"epoch":"e","offset":2},"tags":{"bench:1":2}}}"#, &mut touches)
            .unwrap();
        let told = touches.finish();
        assert_eq!((touches.ready, told.latency.count, told.lost), (2, 1, 0));
    }
}
