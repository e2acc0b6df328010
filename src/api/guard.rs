//! What every request passes: the origin is judged, pages of allowed origins may read the answer, and all is counted.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, CONTENT_LENGTH, HOST,
    HeaderMap, HeaderName, HeaderValue, ORIGIN, TRANSFER_ENCODING, VARY,
};
use axum::http::{Method, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use tidings_protocol::{Code, Problem};
use tracing::error;

use super::held::Asked;
use super::{ApiError, quota};
use crate::instance::Instance;
use crate::observe::Phase;

/// Fields of answers that a page of another origin may read, beside those that it always may.
const EXPOSED_HEADERS: &str =
    "keep-alive, ratelimit, ratelimit-policy, retry-after, tidings-basis, www-authenticate";

/// Runs around every request.
pub(super) async fn guard(State(instance): State<Arc<Instance>>, request: Request, next: Next) -> Response {
    let begun = instance.clock.now();
    let method = known_method(request.method());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let origin = request.headers().get(ORIGIN).cloned();
    // A browser that is refused here tells its page nothing; refused with the request itself, it hands the reason on.
    let asks_first = request.method() == Method::OPTIONS && origin.is_some();
    let (page, host) = (text(request.headers(), ORIGIN), text(request.headers(), HOST));
    let is_allowed = page.is_some_and(|page| instance.origins.load().allows(page, host));
    let judged = instance.origins.load().check(page.filter(|_| !asks_first), host);
    let judged = judged.and_then(|()| understood(&request)).and_then(|()| started(&instance, &request));
    let mut response = match judged {
        Err(problem) => ApiError(problem).into_response(),
        Ok(()) if asks_first => preflight(),
        Ok(()) => {
            let asked = Asked::new(request.method(), request.extensions());
            let (response, caller) = quota::told(run(&instance, request, next), || instance.jitter()).await;
            asked.held(&instance, caller, response).await
        }
    };
    let headers = response.headers_mut();
    // Without an Origin the answer has fewer fields: a cache in between must not give that one to a page.
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        // A page that is refused may still read why: the answer holds nothing else. Its credentials are not asked for.
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if is_allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
        }
    }
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    if let Some(code) = response.extensions().get::<Code>() {
        instance.metrics.refused(*code);
    }
    let took = instance.clock.now().since(begun);
    let route = route.as_deref().unwrap_or("none");
    instance.metrics.answered(method, route, response.status().as_u16(), took);
    response
}

/// Whether two readers of the request would understand the same by it (RFC 9112, sections 3.2 and 6.3).
fn understood(request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let fields = |name: HeaderName| headers.get_all(name).iter().count();
    let mistake = match fields(HOST) {
        0 if request.version() >= Version::HTTP_11 => "a request has a Host field",
        0 | 1 if fields(TRANSFER_ENCODING) > 1 => "a request names its transfer coding once",
        0 | 1 if fields(TRANSFER_ENCODING) == 1 && headers.contains_key(CONTENT_LENGTH) => {
            "a request has either a length or a transfer coding"
        }
        0 | 1 => return Ok(()),
        _ => "a request has one Host field",
    };
    Err(Problem::new(Code::BadRequest, mistake))
}

/// Whether the instance serves already: until it knows what was revoked it lets nobody in. Probes are answered from the first
/// moment.
fn started(instance: &Instance, request: &Request) -> Result<(), Problem> {
    const PROBES: [&str; 4] = ["/livez", "/readyz", "/health", "/metrics"];
    match instance.health.phase() {
        Phase::Starting if !PROBES.contains(&request.uri().path()) => {
            Err(Problem::new(Code::Overloaded, "the server is starting: try again in a moment"))
        }
        _ => Ok(()),
    }
}

/// Answers the request. A defect is the answer to this request alone.
async fn run(instance: &Instance, request: Request, next: Next) -> Response {
    AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
        error!("a request met a defect");
        instance.metrics.panicked();
        ApiError(Code::Internal.into()).into_response()
    })
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    // What is not even text matches nothing that is allowed.
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

fn preflight() -> Response {
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (
            ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, idempotency-key, last-event-id, tidings-ack, tidings-id, tidings-key, \
             ce-specversion, ce-id, ce-source, ce-type, ce-subject, ce-time, ce-datacontenttype, ce-tags, ce-ns",
        ),
        (ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// A label must not be the peer's to choose.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
