//! Errors as RFC 9457 has them.

use axum::http::StatusCode;
use axum::http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tidings_protocol::{Code, Position, Problem};

/// Seconds after which a refused request may be worth another try.
const RETRY_AFTER_SECONDS: &str = "1";

/// A problem on its way to becoming a response.
#[derive(Debug)]
pub struct ApiError(pub Problem);

/// The body of an error.
#[derive(Debug, Serialize)]
pub(super) struct ProblemBody {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    code: Code,
    detail: String,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
}

impl From<&Problem> for ProblemBody {
    fn from(problem: &Problem) -> Self {
        let Problem { code, message, position } = problem;
        ProblemBody {
            kind: format!("urn:tidings:error:{code}"),
            title: code.meaning(),
            status: code.status(),
            code: *code,
            detail: message.to_string(),
            retryable: code.retryable(),
            position: position.as_deref().cloned(),
        }
    }
}

impl<T: Into<Problem>> From<T> for ApiError {
    fn from(problem: T) -> Self {
        ApiError(problem.into())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body =
            serde_json::to_vec(&ProblemBody::from(&self.0)).expect("a problem is strings and a number");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        // The middleware counts by code.
        response.extensions_mut().insert(self.0.code);
        response
    }
}
