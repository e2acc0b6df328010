//! The SSE wire: chunks of a response body that hyper writes. Nothing comes back but the end.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::outbox::Outbox;
use super::pipe::{PipeBody, PipeWriter, pipe};
use super::wire::{Ready, Received, Wire};
use crate::dialect::{cursor::CursorWriter, sse};
use crate::hub::{Format, Session, Transmit};
use crate::instance::Hangup;
use crate::observe::TransportKind;

/// A write this small goes out as one chunk: copying it costs less than the frames that hyper puts around each.
const JOINED_BYTES_MAX: usize = 4 * 1024;

/// A stream of events.
pub(super) struct SseWire {
    pipe: PipeWriter,
    /// Ends the HTTP connection below.
    hangup: Hangup,
    raw: bool,
    /// The index in the outbox of the last event of the write in the making. The cursor is a line of that event.
    last_event: Option<usize>,
    cursor: CursorWriter,
}

/// A stream and the body that it fills. One write waits in between: the next is made only when hyper took it.
pub(super) fn stream(raw: bool, hangup: Hangup) -> (SseWire, PipeBody) {
    let (writer, body) = pipe();
    let wire = SseWire { pipe: writer, hangup, raw, last_event: None, cursor: CursorWriter::default() };
    (wire, body)
}

impl SseWire {
    fn push_event(&mut self, event: Bytes, outbox: &mut Outbox) {
        self.last_event = Some(outbox.len());
        outbox.push(event);
    }
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
                    self.push_event(event, outbox);
                }
            }
            Transmit::Batch { batch, from } => {
                let event = match from {
                    None => batch.encoded(format, || sse::batch(&batch, self.raw)).clone(),
                    Some(offset) => sse::batch(&batch.from_offset(offset), self.raw),
                };
                self.push_event(event, outbox);
            }
            Transmit::Ping => outbox.push(sse::heartbeat()),
            // Not an event of the write: a stream that ends before its greeting has no cursor to give.
            Transmit::Close(close) => outbox.push(sse::close(&close)),
        }
    }

    /// The last event of a write has the cursor as its `id`. A cut before its end repeats this write, and loses nothing.
    ///
    /// The cursor is no block of its own: several readers ignore an `id` without data, or show an empty event.
    fn finish(&mut self, session: &Session, outbox: &mut Outbox) {
        if let Some(index) = self.last_event.take() {
            outbox.replace_last_byte(
                index,
                sse::end_of_event(|line| self.cursor.write(session.positions(), line)),
            );
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

    fn unread_bytes(&self) -> usize {
        self.pipe.unread_bytes()
    }

    /// hyper holds what its peer does not read, and asks for nothing meanwhile: it would not see the end of the body.
    fn hang_up(&mut self) {
        self.hangup.hang_up();
    }

    /// Dropping the wire ends the body.
    async fn end(&mut self) {}
}
