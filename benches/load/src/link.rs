//! The protocol of one subscriber's connection, WebSocket or SSE, without its socket: which request opens it, what its
//! bytes are, what has to be answered, and from where it resumes.

use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;

use crate::book::Position;
use crate::check::Judge;
use crate::chunked::Chunked;
use crate::crowd::{Crowd, Reaction};
use crate::http::{Head, Target, escape};
use crate::sse::Splitter;
use crate::websocket::{self, Decoder, Message, Opcode, client_frame};

/// Publications asked for at once; the server gives no more.
const HISTORY_PAGE: u64 = 1000;
/// A constant mask: masking guards proxies against hostile pages, and here are neither.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// How subscribers are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// WebSocket, JSON frames.
    Ws,
    /// Server-sent events.
    Sse,
}

/// Why a connection is over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// We cut it, as planned.
    Cut,
    /// Anything else, as a line to print.
    Otherwise(String),
}

/// One subscriber's side of the protocol, across its connections.
#[derive(Debug)]
pub(crate) struct Link {
    member: usize,
    channel: String,
    wire: Wire,
    joins: u64,
}

#[derive(Debug)]
enum Wire {
    WebSocket { decoder: Decoder },
    EventStream { chunked: Option<Chunked>, splitter: Splitter, cursor: Option<String> },
}

impl Wire {
    fn new(transport: Transport, cursor: Option<String>) -> Wire {
        match transport {
            Transport::Ws => Wire::WebSocket { decoder: Decoder::default() },
            Transport::Sse => Wire::EventStream { chunked: None, splitter: Splitter::default(), cursor },
        }
    }
}

impl Link {
    pub(crate) fn new(transport: Transport, member: usize, channel: &str) -> Self {
        Link { member, channel: channel.to_owned(), wire: Wire::new(transport, None), joins: 0 }
    }

    /// How often a handshake was accepted.
    pub(crate) fn joins(&self) -> u64 {
        self.joins
    }

    /// The request that opens a connection; an event stream resumes by it.
    pub(crate) fn request(&self, target: &Target) -> Vec<u8> {
        match &self.wire {
            Wire::WebSocket { .. } => target.request("GET", "/ws", &websocket::upgrade_headers(), b""),
            Wire::EventStream { cursor, .. } => {
                let mut headers = "accept: text/event-stream\r\n".to_owned();
                if let Some(cursor) = cursor {
                    headers += &format!("last-event-id: {cursor}\r\n");
                }
                target.request("GET", &format!("/sse?channel={}", escape(&self.channel)), &headers, b"")
            }
        }
    }

    /// Takes the response head, or says what is wrong with it.
    pub(crate) fn accept(&mut self, head: &Head) -> Result<(), Ended> {
        let wrong =
            |what: &str| Err(Ended::Otherwise(format!("handshake answered by {}: {what}", head.status)));
        match &mut self.wire {
            Wire::WebSocket { .. } => match (head.status, head.header("sec-websocket-accept")) {
                (101, Some(websocket::ACCEPT)) => {}
                (101, _) => return wrong("sec-websocket-accept is not that of the key sent"),
                _ => return wrong("101 was expected"),
            },
            Wire::EventStream { chunked, .. } => {
                let content_type = head.header("content-type").unwrap_or_default();
                match head.status {
                    200 if content_type.starts_with("text/event-stream") => {}
                    200 => return wrong("content-type is not text/event-stream"),
                    _ => return wrong("200 was expected"),
                }
                *chunked = head.is_chunked().then(Chunked::new);
            }
        }
        self.joins += 1;
        Ok(())
    }

    /// The command that subscribes on a WebSocket; an event stream's request was enough.
    pub(crate) fn subscribe_command(&self, since: Option<&Position>) -> Option<Vec<u8>> {
        match self.wire {
            Wire::WebSocket { .. } => {
                let mut subscribe = json!({ "channel": self.channel });
                if let Some(since) = since {
                    subscribe["since"] = position_json(since);
                }
                Some(command(&json!({ "id": 1, "subscribe": subscribe })))
            }
            Wire::EventStream { .. } => None,
        }
    }

    /// Takes bytes from the server; returns the bytes to answer, mostly none.
    pub(crate) fn receive(&mut self, bytes: &[u8], crowd: &mut Crowd) -> Result<Vec<u8>, Ended> {
        let (member, channel) = (self.member, &self.channel);
        let mut reply = Vec::new();
        let mut ended = None;
        let outcome = match &mut self.wire {
            Wire::WebSocket { decoder } => decoder
                .feed(bytes, |message| match answer(crowd, member, channel, &message) {
                    Ok(answer) => reply.extend_from_slice(&answer),
                    Err(reason) => ended = ended.take().or(Some(reason)),
                })
                .map_err(|error| error.to_string()),
            Wire::EventStream { chunked, splitter, cursor } => {
                let mut on_block = |block: &[u8]| match take_block(crowd, member, block, cursor) {
                    Ok(()) => {}
                    Err(reason) => ended = ended.take().or(Some(reason)),
                };
                unchunk(chunked, splitter, bytes, &mut on_block)
            }
        };
        match outcome.err().or(ended) {
            Some(reason) => Err(Ended::Otherwise(reason)),
            None => Ok(reply),
        }
    }

    /// Forgets what belonged to the ended connection, and tells the judge from where the next one resumes.
    pub(crate) fn reset(&mut self, judge: &mut Judge) {
        self.wire = match &mut self.wire {
            Wire::WebSocket { .. } => {
                judge.cut();
                Wire::new(Transport::Ws, None)
            }
            Wire::EventStream { cursor, .. } => {
                judge.cut_to_cursor();
                Wire::new(Transport::Sse, cursor.take())
            }
        };
    }
}

/// What to answer to a WebSocket message, or why to leave.
fn answer(crowd: &mut Crowd, member: usize, channel: &str, message: &Message<'_>) -> Result<Vec<u8>, String> {
    match message {
        Message::Text(text) => match crowd.message(member, text).map_err(|error| error.to_string())? {
            Reaction::Nothing => Ok(Vec::new()),
            Reaction::AskOn(since) => {
                let history =
                    json!({ "channel": channel, "since": position_json(&since), "limit": HISTORY_PAGE });
                Ok(command(&json!({ "id": 2, "history": history })))
            }
            Reaction::Leave(reason) => Err(reason),
        },
        Message::Ping(payload) => Ok(client_frame(Opcode::Pong, payload, MASK)),
        Message::Pong => Ok(Vec::new()),
        Message::Binary(_) => Err("a binary frame on a JSON session".to_owned()),
        Message::Close(code, reason) => Err(format!("closed: {code} {}", String::from_utf8_lossy(reason))),
    }
}

fn unchunk(
    chunked: &mut Option<Chunked>,
    splitter: &mut Splitter,
    bytes: &[u8],
    on_block: &mut impl FnMut(&[u8]),
) -> Result<(), String> {
    let Some(chunked) = chunked else {
        return splitter.feed(bytes, on_block).map_err(|error| error.to_string());
    };
    let mut split = Ok(());
    chunked
        .feed(bytes, |data| {
            if split.is_ok() {
                split = splitter.feed(data, &mut *on_block);
            }
        })
        .map_err(|error| error.to_string())?;
    split.map_err(|error| error.to_string())?;
    if chunked.is_done() { Err("the server ended the stream".to_owned()) } else { Ok(()) }
}

/// Has a block judged and keeps its cursor.
fn take_block(
    crowd: &mut Crowd,
    member: usize,
    block: &[u8],
    cursor: &mut Option<String>,
) -> Result<(), String> {
    let (reaction, moved) = crowd.block(member, block).map_err(|error| error.to_string())?;
    if moved.is_some() {
        *cursor = moved;
    }
    match reaction {
        Reaction::Nothing | Reaction::AskOn(_) => Ok(()),
        Reaction::Leave(reason) => Err(reason),
    }
}

fn position_json(position: &Position) -> serde_json::Value {
    json!({ "epoch": &*position.epoch, "offset": position.offset })
}

fn command(command: &serde_json::Value) -> Vec<u8> {
    client_frame(Opcode::Text, command.to_string().as_bytes(), MASK)
}
