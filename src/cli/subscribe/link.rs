//! The way to the server: opened, lost, and opened again after a pause.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};

use super::step::End;
use crate::cli::backoff::Backoff;
use crate::cli::http;
use crate::cli::random;
use crate::cli::target::Target;

/// The longest pause that a server may ask for: twice what it takes to drain one.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The way to one server.
pub(super) struct Link {
    pub(super) target: Target,
    backoff: Backoff,
    was_up: bool,
}

impl Link {
    pub(super) fn new(target: Target) -> Self {
        Link { target, backoff: Backoff::default(), was_up: false }
    }

    /// The server is there and took the subscriptions: the next cut is the first again.
    pub(super) fn up(&mut self) {
        self.was_up = true;
        self.backoff = Backoff::default();
    }

    /// How long to wait before the next attempt: what the server asked for, else longer each time.
    pub(super) fn pause(&mut self, asked: Option<Duration>) -> Duration {
        let own = self.backoff.next(random::unit());
        asked.map_or(own, |asked| asked.min(PAUSE_MAX))
    }

    /// Sends a request and gives the answer if it has the status that was hoped for.
    ///
    /// A server that was never reached is more likely a wrong address than a restart, so that is final; so is what the
    /// server calls the client's mistake. Everything else may pass.
    pub(super) async fn open(
        &self,
        request: Request<Full<Bytes>>,
        hoped: StatusCode,
    ) -> Result<Response<Incoming>, End> {
        let lost = |error: http::HttpError| match self.was_up {
            true => End::cut(error),
            false => End::Refused(error.to_string()),
        };
        let response = http::send(&self.target, request).await.map_err(lost)?;
        let status = response.status();
        if status == hoped {
            return Ok(response);
        }
        let answer = http::read(response).await.map_err(lost)?;
        let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        Err(match passing {
            true => {
                End::Cut { why: answer.problem(), after: answer.retry_after.map(|after| self.spread(after)) }
            }
            false => End::Refused(answer.problem()),
        })
    }

    /// `Retry-After` tells every client the same: up to as long again keeps them from coming back together.
    fn spread(&self, after: Duration) -> Duration {
        after.min(PAUSE_MAX).mul_f64(1.0 + random::unit())
    }
}
