//! The SSE wire: chunks of a response body that hyper writes. Nothing comes back but the end.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;

use super::outbox::Outbox;
use super::wire::{Ready, Received, Wire};
use crate::dialect::{cursor, sse};
use crate::hub::{Format, Session, Transmit};
use crate::observe::TransportKind;

/// A stream of events.
pub(super) struct SseWire {
    chunks: mpsc::Sender<VecDeque<Bytes>>,
    raw: bool,
    /// The write in the making moves the cursor.
    moves_cursor: bool,
}

/// The response body that a stream is read from.
pub(super) struct SseBody {
    chunks: mpsc::Receiver<VecDeque<Bytes>>,
    writing: VecDeque<Bytes>,
}

/// A stream and the body that it fills. One write waits in between: the next is made only when hyper took it.
pub(super) fn channel(raw: bool) -> (SseWire, axum::body::Body) {
    let (sender, receiver) = mpsc::channel(1);
    let body = SseBody { chunks: receiver, writing: VecDeque::new() };
    (SseWire { chunks: sender, raw, moves_cursor: false }, axum::body::Body::new(body.boxed_unsync()))
}

impl Body for SseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(chunk) = self.writing.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            match std::task::ready!(self.chunks.poll_recv(context)) {
                Some(chunks) => self.writing = chunks,
                None => return Poll::Ready(None),
            }
        }
    }
}

fn gone() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl Wire for SseWire {
    const KIND: TransportKind = TransportKind::Sse;

    async fn ready(&mut self, _: bool, write: bool) -> io::Result<Ready> {
        if !write {
            self.chunks.closed().await;
            return Ok(Ready::Read);
        }
        match self.chunks.reserve().await {
            Ok(_) => Ok(Ready::Write),
            Err(_) => Err(gone()),
        }
    }

    fn receive(&mut self, _: &mut Outbox) -> io::Result<Option<Received>> {
        Ok(self.chunks.is_closed().then_some(Received::Gone))
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
        match self.chunks.try_reserve() {
            Ok(room) => {
                let chunks = outbox.take();
                let bytes = chunks.iter().map(Bytes::len).sum();
                room.send(chunks);
                Ok(bytes)
            }
            Err(mpsc::error::TrySendError::Full(())) => Ok(0),
            Err(mpsc::error::TrySendError::Closed(())) => Err(gone()),
        }
    }

    /// Dropping the sender ends the body.
    async fn end(self) {}
}
