//! Who calls the API, and what for.

use axum::http::HeaderMap;
use tidings_protocol::{Code, Problem};

use crate::auth::refused;
use crate::hub::Grant;
use crate::instance::Instance;
use crate::transport::bearer;

/// What the caller of the API may do.
pub(super) async fn authenticate(instance: &Instance, headers: &HeaderMap) -> Result<Grant, Problem> {
    match bearer(headers) {
        Some(token) => instance.authenticate(token).await,
        None => instance.authenticator.load().anonymous().ok_or_else(refused),
    }
}

/// Refuses whoever may not look at the server itself, or touch its connections.
pub(super) async fn demand_admin(instance: &Instance, headers: &HeaderMap) -> Result<(), Problem> {
    match authenticate(instance, headers).await?.admin {
        true => Ok(()),
        false => {
            let message = "this is for operators: use an API key that has `admin = true`";
            Err(Problem::new(Code::OperationNotAllowed, message))
        }
    }
}
