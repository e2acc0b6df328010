//! What every request passes: the origin is judged, pages of allowed origins may read the answer, and all is counted.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    VARY,
};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use tidings_protocol::Code;
use tracing::error;

use super::held::Asked;
use super::{ApiError, quota};
use crate::instance::Instance;

/// Runs around every request.
pub(super) async fn guard(State(instance): State<Arc<Instance>>, request: Request, next: Next) -> Response {
    let begun = instance.clock.now();
    let method = known_method(request.method());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let origin = request.headers().get(ORIGIN).cloned();
    // A browser that is refused here tells its page nothing; refused with the request itself, it hands the reason on.
    let asks_first = request.method() == Method::OPTIONS && origin.is_some();
    let page = text(request.headers(), ORIGIN).filter(|_| !asks_first);
    let judged = instance.origins.load().check(page, text(request.headers(), HOST));
    let mut response = match judged {
        Err(problem) => ApiError(problem).into_response(),
        Ok(()) if asks_first => preflight(),
        Ok(()) => {
            let asked = Asked::new(request.method(), request.extensions());
            let (response, caller) = quota::told(run(&instance, request, next), || instance.jitter()).await;
            asked.held(&instance, caller, response).await
        }
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.append(VARY, HeaderValue::from_static("Origin"));
        // A page that is refused may still read why: the answer holds nothing else.
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
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
            "authorization, content-type, idempotency-key, last-event-id, tidings-ack, tidings-id, tidings-key",
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
