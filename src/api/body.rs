//! Request bodies, within bounds of size and time.

use std::ops::Deref;
use std::pin::pin;
use std::time::Duration;

use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, TRANSFER_ENCODING};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use tidings_protocol::{Code, Problem};

use super::quota;
use crate::hub::Time;
use crate::instance::Instance;
use crate::limits::{Caller, Count, Taken};

/// A body must bring this many bytes in each `server.body_timeout`, or end in it: with the default of 5 s that is 0.8 KiB/s.
const MOVING_BYTES: usize = 4 * 1024;

/// As much of a body may come with the request's head: what hyper reads at once.
const WITH_THE_HEAD_BYTES: usize = 8 * 1024;

/// Bytes of a body that count as another request: to read them costs as much.
const BYTES_OF_A_REQUEST: usize = 64 * 1024;

/// A whole body. Its bytes count to the caller's share of `limits.bodies_bytes` until it is dropped.
pub struct ReceivedBody {
    bytes: Bytes,
    /// `None` for what came with the request's head: that is in the connection's own buffer.
    _taken: Option<Taken>,
}

impl Deref for ReceivedBody {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

/// The whole body, at most `bytes_max` of it. The caller's credential was looked at before.
pub async fn read_body(
    instance: &Instance,
    caller: &Caller,
    request: Request,
    bytes_max: usize,
) -> Result<ReceivedBody, Problem> {
    demand_plain(&request)?;
    let announced = request.body().size_hint().lower();
    if announced > bytes_max as u64 {
        return Err(too_large(bytes_max));
    }
    let (timeout, patience) = (instance.config.server.timeout, instance.config.server.body_timeout);
    let begun = instance.clock.now();
    let mut progress = Progress::new(begun, patience);
    let mut taken = None;
    let mut received = Received::Nothing;
    let mut body = pin!(request.into_body());
    loop {
        let until = progress.until.min(begun.after(timeout));
        let frame = tokio::time::timeout_at(instance.clock.instant(until), body.frame()).await;
        let Some(frame) = frame.map_err(|_| too_slow(until.since(begun)))? else { break };
        let frame =
            frame.map_err(|error| Problem::new(Code::BadRequest, format!("the body broke off: {error}")))?;
        // Trailers say nothing.
        let Ok(data) = frame.into_data() else { continue };
        if received.len() + data.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        if matches!(received, Received::Nothing) && body.is_end_stream() && data.len() <= WITH_THE_HEAD_BYTES
        {
            return Ok(ReceivedBody { bytes: data, _taken: None });
        }
        instance.bodies.take_more(instance, caller, &mut taken, data.len())?;
        progress.note(data.len(), instance.clock.now());
        received.add(data);
    }
    if let requests @ 1.. = received.len() / BYTES_OF_A_REQUEST {
        quota::note(instance.admit(caller, Count::Commands, requests))?;
    }
    Ok(ReceivedBody { bytes: received.into_bytes(), _taken: taken })
}

/// What came of a body. One piece is kept as it is; several are copied together as they come, so that a body in pieces of a
/// byte costs no more than its bytes.
enum Received {
    Nothing,
    Piece(Bytes),
    Pieces(BytesMut),
}

impl Received {
    fn len(&self) -> usize {
        match self {
            Received::Nothing => 0,
            Received::Piece(bytes) => bytes.len(),
            Received::Pieces(bytes) => bytes.len(),
        }
    }

    fn add(&mut self, data: Bytes) {
        match self {
            Received::Nothing => *self = Received::Piece(data),
            Received::Piece(first) => {
                *self = Received::Pieces([first.as_ref(), &data].concat().as_slice().into())
            }
            Received::Pieces(bytes) => bytes.extend_from_slice(&data),
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Received::Nothing => Bytes::new(),
            Received::Piece(bytes) => bytes,
            Received::Pieces(bytes) => bytes.freeze(),
        }
    }
}

fn demand_plain(request: &Request) -> Result<(), Problem> {
    let refused = |message| Err(Problem::new(Code::UnsupportedMediaType, message));
    let is_other = |coding: &axum::http::HeaderValue| !coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if request.headers().contains_key(CONTENT_ENCODING) {
        return refused("a body is sent as it is, without Content-Encoding");
    }
    if request.headers().get_all(TRANSFER_ENCODING).iter().any(is_other) {
        return refused("a body is sent as it is, with no Transfer-Encoding but chunked");
    }
    Ok(())
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(Code::TooLarge, format!("the body has more than {bytes_max} bytes"))
}

fn too_slow(took: Duration) -> Problem {
    Problem::new(Code::BadRequest, format!("the body did not come within {took:?}, or too slowly"))
}

/// Whether a body moves.
struct Progress {
    patience: Duration,
    /// When the body is given up, unless enough of it comes before.
    until: Time,
    /// Bytes that came since that moment was set.
    came: usize,
}

impl Progress {
    fn new(now: Time, patience: Duration) -> Progress {
        Progress { patience, until: now.after(patience), came: 0 }
    }

    /// So many bytes came.
    fn note(&mut self, bytes: usize, now: Time) {
        self.came += bytes;
        if self.came >= MOVING_BYTES {
            *self = Progress::new(now, self.patience);
        }
    }
}

/// The body as text.
pub(super) fn utf8(body: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(body).map_err(|e| {
        Problem::new(Code::InvalidUtf8, format!("the body is not UTF-8 at byte {}", e.valid_up_to()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_given_up_when_4_kib_did_not_come_in_its_time() {
        let seconds = |s| Time(Duration::from_secs(s));
        let mut progress = Progress::new(seconds(10), Duration::from_secs(5));
        for second in 11..14 {
            progress.note(1_365, seconds(second));
            assert_eq!(progress.until, seconds(15), "3 x 1,365 are less than 4 KiB");
        }
        progress.note(1, seconds(14));
        assert_eq!(progress.until, seconds(19));
        progress.note(1_000_000, seconds(15));
        assert_eq!(progress.until, seconds(20));
        progress.note(0, seconds(16));
        assert_eq!(progress.until, seconds(20), "nothing is no progress");
    }
}
