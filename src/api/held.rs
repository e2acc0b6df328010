//! Large answers count to their caller until they are read.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{Extensions, Method};
use axum::response::{IntoResponse, Response};
use hyper::body::Body as _;
use tidings_protocol::{Code, Problem};

use super::ApiError;
use crate::instance::{COUNTED_FROM_BYTES, Hangup, Instance};
use crate::limits::Caller;
use crate::transport::address_of;

/// What is known of a request before it is handled, for its answer.
pub(super) struct Asked {
    hangup: Option<Hangup>,
    address: Caller,
    is_read_only: bool,
}

impl Asked {
    pub(super) fn new(method: &Method, extensions: &Extensions) -> Asked {
        Asked {
            hangup: extensions.get::<Hangup>().cloned(),
            address: Caller::at(address_of(extensions)),
            is_read_only: *method == Method::GET || *method == Method::HEAD,
        }
    }

    /// The answer, counted to its caller if it is large. Whoever has its share in answers already is refused; where something
    /// was done, it learns that nobody says what.
    pub(super) async fn held(
        self,
        instance: &Arc<Instance>,
        caller: Option<Caller>,
        response: Response,
    ) -> Response {
        let length = response.body().size_hint().exact().and_then(|length| usize::try_from(length).ok());
        let (Some(length), Some(hangup)) =
            (length.filter(|length| *length >= COUNTED_FROM_BYTES), self.hangup)
        else {
            return response;
        };
        let (parts, body) = response.into_parts();
        let bytes = match to_bytes(body, length).await {
            Ok(bytes) => bytes,
            Err(error) => return ApiError(Problem::new(Code::Internal, error.to_string())).into_response(),
        };
        let caller = caller.unwrap_or(self.address);
        match instance.answers.body(instance, &caller, bytes, hangup) {
            Ok(body) => Response::from_parts(parts, Body::new(body)),
            Err(problem) if self.is_read_only => ApiError(problem).into_response(),
            Err(problem) => ApiError(Problem::new(Code::OutcomeUnknown, problem.message)).into_response(),
        }
    }
}
