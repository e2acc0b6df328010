//! The SSE wire: chunks of a response body that hyper writes. Nothing comes back but the end.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::outbox::Outbox;
use super::pipe::{PipeWriter, pipe};
use super::wire::{Ready, Received, Wire};
use crate::dialect::{cursor, sse};
use crate::hub::{Format, Session, Transmit};
use crate::observe::TransportKind;

/// A write this small goes out as one chunk: copying it costs less than the frames that hyper puts around each.
const JOINED_BYTES_MAX: usize = 4 * 1024;

/// A stream of events.
pub(super) struct SseWire {
    pipe: PipeWriter,
    raw: bool,
    /// The write in the making moves the cursor.
    moves_cursor: bool,
}

/// A stream and the body that it fills. One write waits in between: the next is made only when hyper took it.
pub(super) fn stream(raw: bool) -> (SseWire, axum::body::Body) {
    let (writer, body) = pipe();
    (SseWire { pipe: writer, raw, moves_cursor: false }, axum::body::Body::new(body))
}

impl Wire for SseWire {
    const KIND: TransportKind = TransportKind::Sse;

    fn poll_ready(&mut self, context: &mut Context<'_>, _: bool, write: bool) -> Poll<io::Result<Ready>> {
        if write {
            ready!(self.pipe.poll_room(context));
            return Poll::Ready(Ok(Ready::Write));
        }
        ready!(self.pipe.poll_abandoned(context));
        Poll::Ready(Ok(Ready::Read))
    }

    fn receive(&mut self, _: &mut Outbox) -> io::Result<Option<Received>> {
        Ok(self.pipe.is_abandoned().then_some(Received::Gone))
    }

    fn take_read_bytes(&mut self) -> usize {
        0
    }

    fn encode(&mut self, transmit: Transmit, outbox: &mut Outbox) {
        let format = if self.raw { Format::SseRaw } else { Format::Sse };
        match transmit {
            Transmit::Frame(envelope) => {
                if let Some(event) = sse::frame(&envelope) {
                    self.moves_cursor = true;
                    outbox.push(event);
                }
            }
            Transmit::Batch { batch, from } => {
                self.moves_cursor = true;
                outbox.push(match from {
                    None => batch.encoded(format, || sse::batch(&batch, self.raw)).clone(),
                    Some(offset) => sse::batch(&batch.from_offset(offset), self.raw),
                });
            }
            Transmit::Ping => outbox.push(sse::heartbeat()),
            Transmit::Close(close) => {
                if let (true, Some(after)) = (close.code.reconnect(), close.after) {
                    outbox.push(sse::retry(after.as_millis() as u64));
                }
            }
        }
    }

    /// The cursor comes last: a cut before it repeats this write, and loses nothing.
    fn finish(&mut self, session: &Session, outbox: &mut Outbox) {
        if std::mem::take(&mut self.moves_cursor) {
            outbox.push(sse::cursor(&cursor::encode(session.positions())));
        }
    }

    fn write(&mut self, outbox: &mut Outbox) -> io::Result<usize> {
        if outbox.is_empty() {
            return Ok(0);
        }
        if self.pipe.is_abandoned() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut bytes = 0;
        self.pipe.write(|chunks| {
            outbox.swap(chunks);
            bytes = chunks.iter().map(Bytes::len).sum();
            if chunks.len() > 1 && bytes <= JOINED_BYTES_MAX {
                let joined = chunks.concat();
                chunks.clear();
                chunks.push(joined.into());
            }
        });
        Ok(bytes)
    }

    /// Dropping the wire ends the body.
    async fn end(&mut self) {}
}
