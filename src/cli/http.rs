//! A small HTTP/1.1 client: one request on a connection of its own, everything bounded in time and size.
//!
//! It follows no redirects and knows no proxies.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, RETRY_AFTER, USER_AGENT};
use hyper::http::request::Builder;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::target::Target;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take once connected, the request's own way included.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest answer that is read whole. A list of 1,000 connections takes a fifth of it, all others less than 1 %.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The most bytes of an unknown server's words that are shown.
const SHOWN_BYTES_MAX: usize = 200;

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// How long the server asks to wait.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum HttpError {
    /// Nobody took the connection.
    Unreachable { target: String, error: io::Error },
    /// The connection broke, or carried what is not HTTP.
    Broken(hyper::Error),
    /// Nothing came in time.
    Silent,
    /// More came than is read.
    TooLarge,
}

/// A request to the server, with its name and the credential.
pub(super) fn request(target: &Target, method: Method, path_and_query: &str) -> Builder {
    let request = Request::builder()
        .method(method)
        .uri(target.path(path_and_query))
        .header(HOST, target.authority())
        .header(USER_AGENT, concat!("tidings/", env!("CARGO_PKG_VERSION")));
    match target.authorization() {
        Some(authorization) => request.header(AUTHORIZATION, authorization),
        None => request,
    }
}

/// Sends a request and reads the answer's head.
pub(super) async fn send(
    target: &Target,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, HttpError> {
    let stream = connect(target).await?;
    let exchange = async {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(HttpError::Broken)?;
        // The task ends with the exchange: when `sender` and the answer's body are dropped.
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.map_err(HttpError::Broken)
    };
    timeout(ANSWER_TIMEOUT, exchange).await.map_err(|_| HttpError::Silent)?
}

/// Sends a request and reads the whole answer.
pub(super) async fn fetch(target: &Target, request: Request<Full<Bytes>>) -> Result<Answer, HttpError> {
    read(send(target, request).await?).await
}

/// Reads the rest of an answer.
pub(super) async fn read(response: Response<Incoming>) -> Result<Answer, HttpError> {
    let (head, body) = response.into_parts();
    let body = timeout(ANSWER_TIMEOUT, Limited::new(body, ANSWER_BYTES_MAX).collect());
    let body = body.await.map_err(|_| HttpError::Silent)?;
    let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(error) => HttpError::Broken(*error),
        Err(other) => {
            debug_assert!(other.is::<LengthLimitError>(), "a limited body fails as its body or by its limit");
            HttpError::TooLarge
        }
    })?;
    let seconds = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Ok(Answer { status: head.status, retry_after: seconds.map(Duration::from_secs), body: body.to_bytes() })
}

async fn connect(target: &Target) -> Result<TcpStream, HttpError> {
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(target.address())).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let stream = connected.map_err(|error| HttpError::Unreachable { target: target.to_string(), error })?;
    // Small requests must not wait for more to come; where the option is missing they still arrive.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

impl Answer {
    /// What the server says went wrong: `channel_invalid: a channel name …`, or the status and the first of its words
    /// where the answer is no problem of tidings.
    pub(super) fn problem(&self) -> String {
        #[derive(Deserialize)]
        struct Problem {
            code: String,
            detail: String,
        }
        if let Ok(Problem { code, detail }) = serde_json::from_slice(&self.body) {
            return format!("{code}: {detail}");
        }
        let shown = String::from_utf8_lossy(&self.body[..self.body.len().min(SHOWN_BYTES_MAX)]);
        match shown.trim() {
            "" => format!("the server answered {}", self.status),
            words => format!("the server answered {}: {words}", self.status),
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpError::Unreachable { target, error } => {
                write!(f, "cannot reach {target}: {error}; is the server running, and is --url right?")
            }
            HttpError::Broken(error) => write!(f, "the connection broke: {error}"),
            HttpError::Silent => write!(f, "the server did not answer within {} s", ANSWER_TIMEOUT.as_secs()),
            HttpError::TooLarge => write!(f, "the server's answer has more than {ANSWER_BYTES_MAX} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(body: &'static [u8]) -> String {
        let status = StatusCode::BAD_GATEWAY;
        Answer { status, retry_after: None, body: Bytes::from_static(body) }.problem()
    }

    #[test]
    fn problems_are_shown_in_the_servers_words() {
        assert_eq!(problem(br#"{"code":"a_code","detail":"the words","status":1}"#), "a_code: the words");
        assert_eq!(problem(b"<h1>nginx</h1>\n"), "the server answered 502 Bad Gateway: <h1>nginx</h1>");
        assert_eq!(problem(b""), "the server answered 502 Bad Gateway");
    }
}
