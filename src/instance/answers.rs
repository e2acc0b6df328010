//! Answers that are not read yet: each caller has its share of them, and whoever takes nothing of one is hung up on.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use slab::Slab;
use tidings_protocol::Problem;
use tokio::sync::Notify;

use super::{Instance, Resource};
use crate::clock::Clock;
use crate::hub::Time;
use crate::limits::{Caller, Taken};

/// Answers below this are not counted: a connection that reads none holds no more than it costs anyhow.
pub const COUNTED_FROM_BYTES: usize = 16 * 1024;

/// What hyper gets of an answer at once. It asks for more when the socket took this.
const PIECE_BYTES: usize = 16 * 1024;

/// Ends an HTTP connection from outside, whatever it waits for.
#[derive(Clone, Debug, Default)]
pub struct Hangup(Arc<Notify>);

impl From<Arc<Notify>> for Hangup {
    fn from(notify: Arc<Notify>) -> Hangup {
        Hangup(notify)
    }
}

impl Hangup {
    /// Ends the connection.
    pub fn hang_up(&self) {
        // Also one that looks for it later.
        self.0.notify_one();
    }

    /// Returns when the connection is to end.
    pub async fn hung_up(&self) {
        self.0.notified().await;
    }
}

/// What the answers of an instance hold.
pub struct Answers {
    /// Who holds how much, answers on sockets included.
    pub shares: Resource,
    /// Answers over HTTP that are under way.
    held: Mutex<Slab<Arc<HeldAnswer>>>,
    clock: Clock,
}

/// An answer over HTTP that is not read to its end.
#[derive(Debug)]
pub struct HeldAnswer {
    bytes: usize,
    since: Time,
    /// When the socket last took a piece, in milliseconds since the start.
    moved_ms: AtomicU64,
    hangup: Hangup,
}

/// The body of an answer, counted to a caller until its last piece is handed over.
pub struct HeldBody {
    rest: Bytes,
    /// `None` once the last piece is gone.
    held: Option<(Taken, usize, Arc<HeldAnswer>)>,
    answers: Arc<Answers>,
}

impl Answers {
    /// Nothing is held of `total` bytes.
    pub fn new(total: usize, clock: Clock) -> Answers {
        let shares = Resource::new("answers_bytes", "bytes of answers that are not read", total);
        Answers { shares, held: Mutex::default(), clock }
    }

    /// A body for an answer, if its caller has its share left.
    pub fn body(
        self: &Arc<Self>,
        instance: &Instance,
        caller: &Caller,
        bytes: Bytes,
        hangup: Hangup,
    ) -> Result<HeldBody, Problem> {
        let taken = self.shares.take(instance, caller, bytes.len())?;
        let now = self.clock.now();
        let moved_ms = AtomicU64::new(now.0.as_millis() as u64);
        let answer = Arc::new(HeldAnswer { bytes: bytes.len(), since: now, moved_ms, hangup });
        let key = self.held().insert(answer.clone());
        Ok(HeldBody { rest: bytes, held: Some((taken, key, answer)), answers: self.clone() })
    }

    /// Answers that are under way for longer than `patience`, with what they hold.
    pub fn slow(&self, patience: Duration) -> Vec<(usize, Arc<HeldAnswer>)> {
        let now = self.clock.now();
        let held = self.held();
        let slow = held.iter().filter(|(_, answer)| now.since(answer.since) >= patience);
        slow.map(|(_, answer)| (answer.bytes, answer.clone())).collect()
    }

    /// Hangs up on those who took nothing for so long; how many.
    pub fn hang_up_on_stalled(&self, timeout: Duration) -> usize {
        let now = self.clock.now();
        let held = self.held();
        let stalled = held.iter().filter(|(_, answer)| now.since(answer.moved()) >= timeout);
        stalled.map(|(_, answer)| answer.hang_up()).count()
    }

    fn held(&self) -> MutexGuard<'_, Slab<Arc<HeldAnswer>>> {
        self.held.lock().expect("nothing panics while it lists answers")
    }
}

impl HeldAnswer {
    fn moved(&self) -> Time {
        Time(Duration::from_millis(self.moved_ms.load(Ordering::Relaxed)))
    }

    /// Ends the connection that does not take it.
    pub fn hang_up(&self) {
        self.hangup.hang_up();
    }
}

impl HeldBody {
    fn release(&mut self) {
        if let Some((_, key, _)) = self.held.take() {
            self.answers.held().remove(key);
        }
    }
}

impl Drop for HeldBody {
    fn drop(&mut self) {
        self.release();
    }
}

impl Body for HeldBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let length = self.rest.len().min(PIECE_BYTES);
        if length == 0 {
            return Poll::Ready(None);
        }
        let mut piece = self.rest.split_to(length);
        if let Some((_, _, answer)) = &self.held {
            answer.moved_ms.store(self.answers.clock.now().0.as_millis() as u64, Ordering::Relaxed);
        }
        if self.rest.is_empty() {
            // The last piece is a copy: as part of the whole it would hold all of it.
            piece = Bytes::copy_from_slice(&piece);
            self.rest = Bytes::new();
            self.release();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
