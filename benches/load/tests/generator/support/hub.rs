//! One channel's history and subscribers, and the fault.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Mutex;

/// What goes wrong, once, for every subscriber that is connected at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The publication at this offset is not sent.
    Drop(u64),
    /// It is sent twice.
    Repeat(u64),
    /// Its payload is another.
    Alter(u64),
    /// It is not sent, but a gap is declared.
    Declare(u64),
    /// It is sent under another epoch.
    ChangeEpoch(u64),
}

/// How a subscriber is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    WebSocket,
    EventStream,
}

#[derive(Debug)]
pub(crate) struct Hub {
    fault: Fault,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    history: Vec<String>,
    subscribers: Vec<(Wire, TcpStream)>,
}

/// Publications in one answer; few, so that every longer absence has to page.
const PAGE: usize = 3;

impl Hub {
    pub(crate) fn new(fault: Fault) -> Self {
        Hub { fault, state: Mutex::default() }
    }

    /// Stores `data`, sends it to everybody, and returns its offset.
    pub(crate) fn publish(&self, data: String) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.history.push(data.clone());
        let offset = state.history.len() as u64;
        let publication = |epoch: &str, data: &str| live(epoch, offset, data);
        let frames = match self.fault {
            Fault::Drop(at) if at == offset => vec![],
            Fault::Repeat(at) if at == offset => vec![publication("e1", &data); 2],
            Fault::Alter(at) if at == offset => vec![publication("e1", &data.replace('x', "y"))],
            Fault::ChangeEpoch(at) if at == offset => vec![publication("e2", &data)],
            Fault::Declare(at) if at == offset => vec![gap(offset)],
            _ => vec![publication("e1", &data)],
        };
        state
            .subscribers
            .retain(|(wire, socket)| frames.iter().all(|frame| frame.send(*wire, socket, offset).is_ok()));
        offset
    }

    /// Answers a subscribe or history command after `since`; who has everything then gets what comes live.
    pub(crate) fn resume(
        &self,
        since: Option<u64>,
        name: &str,
        id: u64,
        socket: &TcpStream,
    ) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let head = state.history.len();
        let from = since.map_or(head, |since| since as usize);
        let page: Vec<String> = (from..head.min(from + PAGE))
            .map(|index| format!(r#"{{"data":{},"time":1,"offset":{}}}"#, state.history[index], index + 1))
            .collect();
        let more = from + PAGE < head;
        let recovered = if since.is_some() { r#""recovered":true,"# } else { "" };
        let answer = format!(
            r#"{{"id":{id},"{name}":{{"channel":"bench","position":{{"epoch":"e1","offset":{head}}},{recovered}"more":{more},"publications":[{}]}}}}"#,
            page.join(",")
        );
        (&*socket).write_all(&text_frame(&answer))?;
        if !more {
            state.subscribers.push((Wire::WebSocket, socket.try_clone()?));
        }
        Ok(())
    }

    /// Greets an event stream, replays what came after `cursor`, and sends it what comes live.
    pub(crate) fn stream(&self, cursor: Option<u64>, socket: &TcpStream) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let head = state.history.len() as u64;
        let from = cursor.unwrap_or(head);
        let mut stream = chunk(&format!("event: hello\ndata: {{}}\nid: {from}\n\n"));
        for offset in from + 1..=head {
            stream += &chunk(&event("e1", offset, &state.history[offset as usize - 1]));
            stream += &chunk(&format!("id: {offset}\n\n"));
        }
        (&*socket).write_all(stream.as_bytes())?;
        state.subscribers.push((Wire::EventStream, socket.try_clone()?));
        Ok(())
    }
}

/// One thing to tell, in both forms.
#[derive(Clone, Debug)]
struct Frame {
    json: String,
    event: String,
}

impl Frame {
    fn send(&self, wire: Wire, mut socket: &TcpStream, offset: u64) -> io::Result<()> {
        match wire {
            Wire::WebSocket => socket.write_all(&text_frame(&self.json)),
            Wire::EventStream => {
                socket.write_all((chunk(&self.event) + &chunk(&format!("id: {offset}\n\n"))).as_bytes())
            }
        }
    }
}

fn live(epoch: &str, offset: u64, data: &str) -> Frame {
    let json = format!(
        r#"{{"batch":{{"channel":"bench","epoch":"{epoch}","first":{offset},"last":{offset},"publications":[{{"data":{data},"time":1}}]}}}}"#
    );
    Frame { json, event: event(epoch, offset, data) }
}

fn gap(offset: u64) -> Frame {
    let body =
        format!(r#"{{"channel":"bench","reason":"lost","position":{{"epoch":"e1","offset":{offset}}}}}"#);
    Frame { json: format!(r#"{{"gap":{body}}}"#), event: format!("event: gap\ndata: {body}\n\n") }
}

fn event(epoch: &str, offset: u64, data: &str) -> String {
    format!("data: {{\"channel\":\"bench\",\"epoch\":\"{epoch}\",\"offset\":{offset},\"data\":{data}}}\n\n")
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// A frame of a WebSocket.
pub(super) fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 126];
    let length = u16::try_from(text.len()).expect("test frames are short");
    match length {
        0..126 => frame = vec![0x81, length as u8],
        _ => frame.extend_from_slice(&length.to_be_bytes()),
    }
    frame.extend_from_slice(text.as_bytes());
    frame
}
