//! A pipe from a connection into a response body: room for one write, and the knowledge of the other end's going.
//!
//! A channel of the usual kind would wake and allocate more than this needs: one side fills the slot when it is empty,
//! the other empties it, and each wakes the other.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::task::AtomicWaker;
use hyper::body::{Body, Frame};

use super::outbox::Frames;

/// What the two ends share.
#[derive(Default)]
struct Slot {
    chunks: Mutex<Frames>,
    /// Something was written that the reader has not passed on.
    full: AtomicBool,
    bytes: AtomicUsize,
    writer_gone: AtomicBool,
    reader_gone: AtomicBool,
    writer: AtomicWaker,
    reader: AtomicWaker,
}

/// The end that is written to.
pub(super) struct PipeWriter(Arc<Slot>);

/// The end that hyper reads.
pub(super) struct PipeBody {
    slot: Arc<Slot>,
    reading: smallvec::IntoIter<[Bytes; 2]>,
    /// The slot's content is what is being read.
    took: bool,
}

/// A pipe.
pub(super) fn pipe() -> (PipeWriter, PipeBody) {
    let slot = Arc::<Slot>::default();
    (PipeWriter(slot.clone()), PipeBody { slot, reading: Frames::new().into_iter(), took: false })
}

impl PipeWriter {
    /// Ready when the slot is empty or the reader is gone.
    pub(super) fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        self.0.writer.register(context.waker());
        match self.is_abandoned() || !self.0.full.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Ready when the reader is gone.
    pub(super) fn poll_abandoned(&self, context: &mut Context<'_>) -> Poll<()> {
        self.0.writer.register(context.waker());
        if self.is_abandoned() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether the reader is gone.
    pub(super) fn is_abandoned(&self) -> bool {
        self.0.reader_gone.load(Ordering::Acquire)
    }

    /// Bytes that were written and that the reader has not passed on.
    pub(super) fn unread_bytes(&self) -> usize {
        match self.0.full.load(Ordering::Acquire) {
            true => self.0.bytes.load(Ordering::Relaxed),
            false => 0,
        }
    }

    /// Fills the slot by `fill`, if it is empty; true if it was.
    pub(super) fn write(&self, fill: impl FnOnce(&mut Frames)) -> bool {
        if self.0.full.load(Ordering::Acquire) {
            return false;
        }
        let mut chunks = self.0.chunks.lock().expect("nothing panics while it moves chunks");
        fill(&mut chunks);
        self.0.bytes.store(chunks.iter().map(Bytes::len).sum(), Ordering::Relaxed);
        drop(chunks);
        self.0.full.store(true, Ordering::Release);
        self.0.reader.wake();
        true
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.0.writer_gone.store(true, Ordering::Release);
        self.0.reader.wake();
    }
}

impl PipeBody {
    /// Waits until there is something to read, be it the end.
    pub(super) async fn filled(&mut self) {
        poll_fn(|context| {
            self.slot.reader.register(context.waker());
            let is_filled =
                self.slot.full.load(Ordering::Acquire) || self.slot.writer_gone.load(Ordering::Acquire);
            if is_filled { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Makes room once what was taken is passed on: hyper asks for more when its own buffer has room, not before. Then takes the
    /// slot's content, if it has any.
    fn refill(&mut self) -> bool {
        if std::mem::take(&mut self.took) {
            self.slot.full.store(false, Ordering::Release);
            self.slot.writer.wake();
        }
        if !self.slot.full.load(Ordering::Acquire) {
            return false;
        }
        let mut chunks = self.slot.chunks.lock().expect("nothing panics while it moves chunks");
        self.reading = std::mem::take(&mut *chunks).into_iter();
        self.took = true;
        true
    }
}

impl Body for PipeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(chunk) = self.reading.next() {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            self.slot.reader.register(context.waker());
            // Asked in this order: what was written before the writer went is read before the end.
            let ended = self.slot.writer_gone.load(Ordering::Acquire);
            match self.refill() {
                true => {}
                false if ended => return Poll::Ready(None),
                false => return Poll::Pending,
            }
        }
    }
}

impl Drop for PipeBody {
    fn drop(&mut self) {
        self.slot.reader_gone.store(true, Ordering::Release);
        self.slot.writer.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use futures::executor::block_on;
    use http_body_util::BodyExt;
    use std::task::Waker;

    #[test]
    fn what_was_written_is_read_to_the_end() {
        let (writer, mut body) = pipe();
        let write =
            |text: &'static str| writer.write(|chunks| chunks.push(Bytes::from_static(text.as_bytes())));
        assert!(write("a"));
        assert!(!write("b"), "there is room for one");
        assert_eq!(block_on(body.frame()).unwrap().unwrap().into_data().unwrap(), "a");
        assert!(
            (!write("c"), writer.unread_bytes()) == (true, 1),
            "nobody asked for more: the reader has it still"
        );
        assert!(body.frame().now_or_never().is_none());
        assert!((write("c"), writer.unread_bytes()) == (true, 1));
        drop(writer);
        assert_eq!(block_on(body.frame()).unwrap().unwrap().into_data().unwrap(), "c");
        assert!(block_on(body.frame()).is_none());
    }

    #[test]
    fn a_body_is_filled_by_the_first_write_or_by_the_end() {
        let (writer, mut body) = pipe();
        let mut filled = Box::pin(body.filled());
        let context = &mut Context::from_waker(Waker::noop());
        assert!(filled.as_mut().poll(context).is_pending());
        writer.write(|chunks| chunks.push(Bytes::from_static(b"a")));
        assert!(filled.as_mut().poll(context).is_ready());
        drop(filled);
        assert_eq!(block_on(body.frame()).unwrap().unwrap().into_data().unwrap(), "a", "it is read later");
        drop(writer);
        block_on(body.filled());
        assert!(block_on(body.frame()).is_none());
    }

    #[test]
    fn the_writer_learns_that_the_reader_is_gone() {
        let (writer, body) = pipe();
        let context = &mut Context::from_waker(Waker::noop());
        assert!(writer.poll_abandoned(context).is_pending());
        assert!(writer.poll_room(context).is_ready());
        writer.write(|chunks| chunks.push(Bytes::from_static(b"a")));
        assert!(writer.poll_room(context).is_pending());
        drop(body);
        assert!(writer.poll_abandoned(context).is_ready() && writer.poll_room(context).is_ready());
    }
}
