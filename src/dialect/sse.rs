//! Server-sent events: one event per publication, named events for the rest. The last event of a write has the cursor.

use bytes::Bytes;
use serde::Serialize;
use tidings_protocol::{Channel, DisconnectFrame, Envelope, Epoch, Frame, Offset, Payload, encode_frame};

use super::presence;
use crate::hub::{Batch, Close};

/// The data of one event.
#[derive(Serialize)]
struct Event<'a> {
    channel: &'a Channel,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<&'a Epoch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<Offset>,
    #[serde(flatten)]
    publication: Plain<'a>,
}

/// A publication without its offset, which the event has already.
#[derive(Serialize)]
struct Plain<'a> {
    time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(flatten)]
    data: Data<'a>,
}

#[derive(Serialize)]
enum Data<'a> {
    #[serde(rename = "data")]
    Json(&'a serde_json::value::RawValue),
    #[serde(rename = "data")]
    Text(&'a str),
    #[serde(rename = "b64")]
    Base64(String),
}

/// A batch as one event per publication. `raw` gives the data alone, bytes as base64.
pub fn batch(batch: &Batch, raw: bool) -> Bytes {
    if let Some(event) = presence::changes(batch).and_then(|changes| frame(&changes)) {
        return event;
    }
    let mut out = Vec::with_capacity(batch.bytes + 64 * batch.publications.len());
    for publication in &batch.publications {
        let data = match &publication.payload {
            Payload::Json(raw) => Data::Json(raw),
            Payload::Text(text) => Data::Text(text),
            Payload::Binary(bytes) => Data::Base64(base64(bytes)),
        };
        match (raw, &data) {
            (true, Data::Json(json)) => write_data(&mut out, json.get().as_bytes()),
            (true, Data::Text(text)) => write_data(&mut out, text.as_bytes()),
            (true, Data::Base64(text)) => write_data(&mut out, text.as_bytes()),
            (false, _) => {
                let (id, key) = (publication.id.as_deref(), publication.key.as_deref());
                let event = Event {
                    channel: &batch.channel,
                    epoch: batch.span.as_ref().map(|span| &span.epoch),
                    offset: publication.offset,
                    publication: Plain { time: publication.time, id, key, data },
                };
                let json = serde_json::to_vec(&event).expect("an event holds only what JSON can say");
                write_data(&mut out, &json);
            }
        }
        out.push(b'\n');
    }
    out.into()
}

/// A frame as a named event; `None` for frames that have no meaning on a stream.
pub fn frame(envelope: &Envelope) -> Option<Bytes> {
    let name = match &envelope.frame {
        Frame::Hello(_) => "hello",
        Frame::Gap(_) => "gap",
        Frame::Continued(_) => "continued",
        Frame::Degraded(_) => "degraded",
        Frame::Restored(_) => "restored",
        Frame::Unsubscribed(_) => "unsubscribed",
        Frame::Presence(_) => "presence",
        Frame::Watched(_) => "watched",
        Frame::Invalidated(_) => "invalidated",
        Frame::At(_) => "at",
        Frame::Reset(_) => "reset",
        Frame::Disconnect(_) => "disconnect",
        Frame::Subscribed(_)
        | Frame::Batch(_)
        | Frame::Published(_)
        | Frame::History(_)
        | Frame::Refreshed(_)
        | Frame::Unwatched {}
        | Frame::Error(_)
        | Frame::Pong { .. } => return None,
    };
    let mut out = format!("event: {name}\n").into_bytes();
    // The event's name says what the frame's one key says: the data is the body alone.
    let frame = encode_frame(&Envelope { id: None, frame: envelope.frame.clone() });
    let body = &frame[name.len() + 4..frame.len() - 1];
    write_data(&mut out, body);
    out.push(b'\n');
    Some(out.into())
}

/// The end of an event, in place of its blank line: the line `id:` with what `write` appends, then the blank line.
pub fn end_of_event(write: impl FnOnce(&mut String)) -> Bytes {
    let mut end = String::with_capacity(64);
    end.push_str("id: ");
    write(&mut end);
    end.push_str("\n\n");
    end.into()
}

/// The end of a stream: the event `disconnect` says why, with `retry:` where the server knows when to come back.
pub fn close(close: &Close) -> Bytes {
    let after = close.after.filter(|_| close.code.reconnect()).map(|after| after.as_millis() as u64);
    let disconnect = DisconnectFrame {
        code: close.code.number(),
        reason: close.reason(),
        reconnect: close.code.reconnect(),
        after_ms: after,
    };
    let event = frame(&Envelope { id: None, frame: Frame::Disconnect(disconnect) });
    let event = event.expect("a disconnect is an event");
    // In one block: a reader may take a block without data for an empty event.
    after.map_or(event.clone(), |after| [format!("retry: {after}\n").as_bytes(), &event[..]].concat().into())
}

/// A comment: shows proxies and clients that the stream lives. No blank line follows it: several readers show an empty event
/// for each that comes after the first `id`.
pub fn heartbeat() -> Bytes {
    Bytes::from_static(b":\n")
}

/// `data:` lines. A line break of any kind inside the data begins a new one: nothing can end an event but its end.
fn write_data(out: &mut Vec<u8>, data: &[u8]) {
    let mut rest = data;
    loop {
        let end = rest.iter().position(|b| *b == b'\n' || *b == b'\r').unwrap_or(rest.len());
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&rest[..end]);
        out.push(b'\n');
        if end == rest.len() {
            return;
        }
        let crlf = rest[end..].starts_with(b"\r\n");
        rest = &rest[end + 1 + usize::from(crlf)..];
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tidings_protocol::{CloseCode, DegradedFrame, GapFrame, GapReason, Publication, UnsubscribedFrame};

    fn events(payload: Payload, raw: bool) -> String {
        let publication = Publication { offset: Some(Offset(7)), time: 5, id: None, key: None, payload };
        let epoch = Epoch::parse("a").unwrap();
        let channel = Channel::parse("c").unwrap();
        let bytes = batch(&Batch::new(channel, Some(epoch), vec![Arc::new(publication)]), raw);
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn an_event_names_its_place() {
        assert_eq!(
            events(Payload::json(b"{\"x\": 1}").unwrap(), false),
            "data: {\"channel\":\"c\",\"epoch\":\"a\",\"offset\":7,\"time\":5,\"data\":{\"x\": 1}}\n\n"
        );
        assert_eq!(
            events(Payload::Binary(Bytes::from_static(&[0])), false),
            "data: {\"channel\":\"c\",\"epoch\":\"a\",\"offset\":7,\"time\":5,\"b64\":\"AA==\"}\n\n"
        );
    }

    #[test]
    fn nothing_in_the_data_ends_an_event() {
        let text = |text: &str| events(Payload::text(text.as_bytes()).unwrap(), true);
        assert_eq!(
            text("a\n\nevent: x\r\nid: 1\rb"),
            "data: a\ndata: \ndata: event: x\ndata: id: 1\ndata: b\n\n"
        );
        assert_eq!(text(""), "data: \n\n");
        assert_eq!(text("\n"), "data: \ndata: \n\n");
        assert_eq!(events(Payload::json(b"[1,\n2]").unwrap(), true), "data: [1,\ndata: 2]\n\n");
        assert_eq!(events(Payload::Binary(Bytes::from_static(&[0])), true), "data: AA==\n\n");
    }

    #[test]
    fn frames_become_named_events() {
        let gap = GapFrame { channel: Channel::parse("c").unwrap(), reason: GapReason::Lost, position: None };
        let event = frame(&Envelope { id: None, frame: Frame::Gap(gap) }).unwrap();
        assert_eq!(
            &event[..],
            b"event: gap\ndata: {\"channel\":\"c\",\"reason\":\"lost\",\"position\":null}\n\n"
        );
        let degraded = DegradedFrame { component: "redis".to_owned(), since: 5 };
        let event = frame(&Envelope { id: None, frame: Frame::Degraded(degraded) }).unwrap();
        assert_eq!(&event[..], b"event: degraded\ndata: {\"component\":\"redis\",\"since\":5}\n\n");
        assert!(frame(&Envelope { id: None, frame: Frame::Pong { c: 1 } }).is_none());
    }

    #[test]
    fn a_stream_says_in_one_block_why_it_ends_and_when_to_come_back() {
        let text = |closing: &Close| String::from_utf8(close(closing).to_vec()).unwrap();
        let expired = Close::new(CloseCode::TokenExpired, "a\nb");
        assert_eq!(
            text(&expired),
            "event: disconnect\ndata: {\"code\":4401,\"reason\":\"token_expired: a\\nb\",\"reconnect\":true}\n\n"
        );
        let full = Close::for_now("full", 0.0);
        assert_eq!(
            text(&full),
            "retry: 1000\nevent: disconnect\ndata: {\"code\":1013,\"reason\":\"overloaded: full\",\"reconnect\":true,\"after_ms\":1000}\n\n"
        );
        let ended = Close { after: full.after, ..Close::new(CloseCode::Disconnected, "") };
        assert!(!text(&ended).contains("retry"), "who must not come back is not told when");
    }

    #[test]
    fn a_cursor_is_a_line_of_the_event_before_it() {
        let mut event =
            frame(&Envelope { id: None, frame: Frame::Unsubscribed(unsubscribed()) }).unwrap().to_vec();
        event.pop();
        event.extend_from_slice(&end_of_event(|line| line.push_str("abc")));
        assert_eq!(event, b"event: unsubscribed\ndata: {\"channel\":\"c\"}\nid: abc\n\n");
    }

    fn unsubscribed() -> UnsubscribedFrame {
        UnsubscribedFrame { channel: Channel::parse("c").unwrap(), code: None }
    }
}
