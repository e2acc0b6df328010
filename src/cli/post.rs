//! A request that writes, sent again where that is safe, and its answer: a position.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, StatusCode};
use tidings_protocol::PublishedFrame;

use super::backoff::Backoff;
use super::exit::{Exit, complain};
use super::http::{self, Answer};
use super::random;
use super::target::Target;

/// How often a request is sent again. With pauses of up to 300, 600 and 1,200 ms that outlasts a broker's failover
/// now and then, and never keeps a script waiting for long.
const RETRIES_MAX: u32 = 3;

/// The longest pause that a server may ask for with `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(20);

/// What is sent, as often as needed: the same each time, its idempotency key included.
pub(super) struct Post {
    pub(super) path_and_query: String,
    /// `None` leaves it to the server: JSON if it parses, else text.
    pub(super) content_type: Option<&'static str>,
    pub(super) body: Bytes,
}

impl Post {
    /// Sends it and prints the position, or the whole answer where `json`.
    pub(super) async fn run(
        &self,
        target: &Target,
        json: bool,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> io::Result<Exit> {
        match self.send(target, err).await? {
            Err(words) => Exit::Runtime.because(words, err),
            Ok(answer) if json => {
                out.write_all(answer.body.trim_ascii_end())?;
                writeln!(out)?;
                Ok(Exit::Ok)
            }
            Ok(answer) => match serde_json::from_slice::<PublishedFrame>(&answer.body) {
                Ok(PublishedFrame { position: Some(position), .. }) => {
                    writeln!(out, "{position}")?;
                    Ok(Exit::Ok)
                }
                Ok(PublishedFrame { position: None, .. }) => Ok(Exit::Ok),
                Err(error) => {
                    Exit::Runtime.because(format_args!("the server's answer cannot be read: {error}"), err)
                }
            },
        }
    }

    /// The answer, or what went wrong in the end.
    async fn send(&self, target: &Target, err: &mut dyn Write) -> io::Result<Result<Answer, String>> {
        let mut backoff = Backoff::default();
        for left in (0..=RETRIES_MAX).rev() {
            let (words, retry_after) = match http::fetch(target, self.request(target)).await {
                Ok(answer) if answer.status.is_success() => return Ok(Ok(answer)),
                Ok(answer) if is_worth_another(answer.status) => (answer.problem(), answer.retry_after),
                Ok(answer) => return Ok(Err(answer.problem())),
                Err(error) => (error.to_string(), None),
            };
            if left == 0 {
                return Ok(Err(words));
            }
            let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
            let pause = backoff.next(random::unit()).max(asked);
            complain(format_args!("{words}; trying again in {} ms", pause.as_millis()), err)?;
            tokio::time::sleep(pause).await;
        }
        unreachable!("the last attempt returns")
    }

    fn request(&self, target: &Target) -> Request<Full<Bytes>> {
        let mut request = http::request(target, Method::POST, &self.path_and_query);
        if let Some(content_type) = self.content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        request.body(Full::new(self.body.clone())).expect("path, query and headers were encoded")
    }
}

/// Nothing or nobody knows what was stored: the idempotency key makes another attempt safe.
fn is_worth_another(status: StatusCode) -> bool {
    matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}
