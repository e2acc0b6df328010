//! Request bodies, within bounds of size and time.

use std::sync::atomic::Ordering;

use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, TRANSFER_ENCODING};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use tidings_protocol::{Code, Problem};

use crate::instance::Instance;

/// The whole body, at most `bytes_max` of it.
pub async fn read_body(instance: &Instance, request: Request, bytes_max: usize) -> Result<Bytes, Problem> {
    if request.headers().contains_key(CONTENT_ENCODING) {
        return Err(Problem::new(
            Code::UnsupportedMediaType,
            "a body is sent as it is, without Content-Encoding",
        ));
    }
    if request
        .headers()
        .get_all(TRANSFER_ENCODING)
        .iter()
        .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(Problem::new(
            Code::UnsupportedMediaType,
            "a body is sent as it is, with no Transfer-Encoding but chunked",
        ));
    }
    let _room = Room::take(instance, &request, bytes_max)?;
    let body = Limited::new(request.into_body(), bytes_max).collect();
    let patience = instance.config.server.timeout;
    let too_slow = |_| Problem::new(Code::BadRequest, format!("the body did not come within {patience:?}"));
    match tokio::time::timeout(patience, body).await.map_err(too_slow)? {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Problem::new(Code::TooLarge, format!("the body has more than {bytes_max} bytes")))
        }
        Err(error) => Err(Problem::new(Code::BadRequest, format!("the body broke off: {error}"))),
    }
}

/// Room for a body while it is received: a thousand large ones at once must not take the memory of all others.
struct Room<'a> {
    instance: &'a Instance,
    bytes: usize,
}

impl<'a> Room<'a> {
    fn take(instance: &'a Instance, request: &Request, bytes_max: usize) -> Result<Room<'a>, Problem> {
        // One that does not say how long it is may be as long as any.
        let bytes = request.body().size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
        let bytes = bytes.unwrap_or(bytes_max).min(bytes_max);
        let room = Room { instance, bytes };
        let before = instance.bodies.fetch_add(bytes, Ordering::Relaxed);
        // Alone every body has room.
        if before > 0 && before + bytes > instance.limits.load().bodies_bytes {
            let message = "limits.bodies_bytes of request bodies are being received: try again later";
            return Err(Problem::new(Code::Overloaded, message));
        }
        Ok(room)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.instance.bodies.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The body as text.
pub(super) fn utf8(body: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(body).map_err(|e| {
        Problem::new(Code::InvalidUtf8, format!("the body is not UTF-8 at byte {}", e.valid_up_to()))
    })
}
