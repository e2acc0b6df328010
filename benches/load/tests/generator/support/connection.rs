//! The test server's connections: heads, bodies, and the commands of a WebSocket.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::hub::Hub;
use super::log::Log;

/// The answer to the nonce of RFC 6455, 1.3, which the generator sends.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

struct Request {
    line: String,
    headers: HashMap<String, String>,
}

pub(crate) fn serve(socket: TcpStream, hub: &Hub, log: &Log) -> io::Result<()> {
    // Answers go out in several small writes, each of which would wait for the last one's acknowledgement.
    socket.set_nodelay(true)?;
    let mut reader = BufReader::new(socket.try_clone()?);
    loop {
        let request = read_request(&mut reader)?;
        if request.line.starts_with("GET /ws ") {
            return websocket(&mut reader, &socket, hub, log);
        }
        if request.line.starts_with("GET /sse?channel=bench ") {
            return event_stream(&request, &socket, hub);
        }
        let length = request.headers["content-length"].parse().map_err(io::Error::other)?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let offset = if request.line.starts_with("POST /v1/invalidate ") {
            let touched: Value = serde_json::from_slice(&body).map_err(io::Error::other)?;
            log.touch(&texts(&touched["tags"]))
        } else {
            hub.publish(String::from_utf8(body).map_err(io::Error::other)?)
        };
        let answer = format!(r#"{{"position":{{"epoch":"e1","offset":{offset}}},"ack":"stored"}}"#);
        write!(&socket, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len())?;
    }
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Request> {
    let mut lines = reader.lines();
    let mut next = || lines.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
    let line = next()?;
    let mut headers = HashMap::new();
    loop {
        let header = next()?;
        let Some((name, value)) = header.split_once(": ") else { return Ok(Request { line, headers }) };
        headers.insert(name.to_owned(), value.to_owned());
    }
}

fn event_stream(request: &Request, mut socket: &TcpStream, hub: &Hub) -> io::Result<()> {
    write!(
        socket,
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )?;
    let cursor = request.headers.get("last-event-id").map(|cursor| cursor.parse().map_err(io::Error::other));
    hub.stream(cursor.transpose()?, socket)
}

/// The texts of a list of them.
fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn websocket(reader: &mut impl Read, mut socket: &TcpStream, hub: &Hub, log: &Log) -> io::Result<()> {
    write!(
        socket,
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {ACCEPT}\r\n\r\n"
    )?;
    loop {
        let command: Value = serde_json::from_slice(&read_frame(reader)?).map_err(io::Error::other)?;
        let id = command["id"].as_u64().unwrap_or(0);
        if let Some(subscribe) = command.get("subscribe") {
            hub.resume(subscribe["since"]["offset"].as_u64(), "subscribed", id, socket)?;
        } else if let Some(history) = command.get("history") {
            hub.resume(history["since"]["offset"].as_u64(), "history", id, socket)?;
        } else if let Some(watch) = command.get("watch") {
            log.watch(texts(&watch["groups"][0]["tags"]), id, socket)?;
        }
    }
}

/// The payload of a masked frame below 64 KiB.
fn read_frame(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = [0; 2];
    reader.read_exact(&mut head)?;
    let length = match head[1] & 0x7f {
        126 => {
            let mut length = [0; 2];
            reader.read_exact(&mut length)?;
            u16::from_be_bytes(length).into()
        }
        length => usize::from(length),
    };
    let mut mask = [0; 4];
    reader.read_exact(&mut mask)?;
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload)?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok(payload)
}
