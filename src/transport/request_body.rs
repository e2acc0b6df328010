//! A request's body as it comes from the socket, whether a handler reads it or not.
//!
//! A sender that is refused may still be sending: a server that closes at once resets the connection, and the sender sees a
//! broken pipe in place of the reason. So what a handler leaves unread is read on for a bounded while. A body that does not
//! move when the server stops holds nothing up.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Unread bytes of a body that are taken after its request was answered.
const READ_ON_BYTES_MAX: usize = 16 << 20;

/// How long they are taken, as long as they come.
const READ_ON_TIME: Duration = Duration::from_secs(5);

/// How long the next of them may take.
const READ_ON_PAUSE: Duration = Duration::from_secs(1);

/// How long the next bytes of a request may take once the server stops.
pub(super) const STOPPING_PATIENCE: Duration = Duration::from_secs(1);

/// Why no more comes of a body.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    #[error("it does not go on, and the server stops")]
    Stopping,
}

/// The body of one request.
pub(super) struct RequestBody {
    /// `None` once it ended, or where nobody may read on.
    incoming: Option<Incoming>,
    /// Whether the client sends the body only when it is asked to.
    waits_to_be_asked: bool,
    was_asked: bool,
    stopping: CancellationToken,
    /// Set while the body makes its reader wait.
    stops: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    gives_up: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(super) fn new(
        incoming: Incoming,
        waits_to_be_asked: bool,
        stopping: CancellationToken,
    ) -> RequestBody {
        let incoming = Some(incoming).filter(|body| !body.is_end_stream());
        RequestBody { incoming, waits_to_be_asked, was_asked: false, stopping, stops: None, gives_up: None }
    }

    /// Ready when the server stops and nothing came for a while since.
    fn poll_given_up(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let stopping = &self.stopping;
        let stops = self.stops.get_or_insert_with(|| Box::pin(stopping.clone().cancelled_owned()));
        ready!(stops.as_mut().poll(context));
        self.gives_up
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(STOPPING_PATIENCE)))
            .as_mut()
            .poll(context)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.was_asked = true;
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        match Pin::new(incoming).poll_frame(context) {
            Poll::Ready(frame) => {
                (self.stops, self.gives_up) = (None, None);
                if !matches!(frame, Some(Ok(_))) {
                    self.incoming = None;
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
            }
            Poll::Pending => {
                ready!(self.poll_given_up(context));
                self.incoming = None;
                Poll::Ready(Some(Err(BodyError::Stopping)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        // To read a body that the client holds back would ask for it.
        let is_on_its_way = self.was_asked || !self.waits_to_be_asked;
        if let Some(incoming) = self.incoming.take().filter(|body| is_on_its_way && !body.is_end_stream()) {
            let stopping = self.stopping.clone();
            tokio::spawn(async move { stopping.run_until_cancelled(read_on(incoming)).await });
        }
    }
}

async fn read_on(mut body: Incoming) {
    let discarded = async {
        let mut left = READ_ON_BYTES_MAX;
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(READ_ON_PAUSE, body.frame()).await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    // Who still sends then sees the connection end.
    tokio::time::timeout(READ_ON_TIME, discarded).await.ok();
}
