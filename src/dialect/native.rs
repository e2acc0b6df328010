//! The native dialect: JSON frames of `tidings-protocol` in WebSocket text frames.

use bytes::Bytes;
use tidings_protocol::{BatchFrame, DisconnectFrame, Envelope, Frame, encode_frame};

use super::presence;
use crate::hub::{Batch, Close};

/// Opcodes of RFC 6455, section 5.2, with the FIN bit.
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;

/// One frame, ready for the wire.
pub fn frame(envelope: &Envelope) -> Bytes {
    websocket_frame(TEXT, &encode_frame(envelope))
}

/// A batch, ready for the wire.
pub fn batch(batch: &Batch) -> Bytes {
    if let Some(changes) = presence::changes(batch) {
        return frame(&changes);
    }
    let span = batch.span.clone();
    let frame_of_batch = BatchFrame {
        channel: batch.channel.clone(),
        first: span.as_ref().map(|span| span.first),
        last: span.as_ref().map(|span| span.last),
        epoch: span.map(|span| span.epoch),
        publications: batch.publications.clone(),
    };
    frame(&Envelope { id: None, frame: Frame::Batch(frame_of_batch) })
}

/// A ping without payload.
pub fn ping() -> Bytes {
    Bytes::from_static(&[PING, 0])
}

/// A close frame.
pub fn close(code: u16, reason: &str) -> Bytes {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    websocket_frame(CLOSE, &payload)
}

/// What precedes a close frame where the client is to come back: how long it should wait first.
pub fn disconnect(close: &Close) -> Option<Bytes> {
    let disconnect = DisconnectFrame {
        code: close.code.number(),
        reason: close.reason(),
        reconnect: close.code.reconnect(),
        after_ms: Some(close.after?.as_millis() as u64),
    };
    Some(frame(&Envelope { id: None, frame: Frame::Disconnect(disconnect) }))
}

/// An unmasked frame, as servers send them: the same bytes for every client.
fn websocket_frame(opcode: u8, payload: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.push(opcode);
    match payload.len() {
        length @ 0..=125 => frame.push(length as u8),
        length @ 126..=0xffff => {
            frame.push(126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        for (length, header) in [
            (0, vec![TEXT, 0]),
            (125, vec![TEXT, 125]),
            (126, vec![TEXT, 126, 0, 126]),
            (65_535, vec![TEXT, 126, 255, 255]),
            (65_536, vec![TEXT, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = websocket_frame(TEXT, &vec![b'x'; length]);
            assert_eq!(frame[..header.len()], header, "{length}");
            assert_eq!(frame.len(), header.len() + length);
        }
    }
}
