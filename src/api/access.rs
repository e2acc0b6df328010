//! Who calls the API, and what for.

use axum::http::HeaderMap;
use tidings_protocol::{Code, Problem};

use super::quota;
use crate::auth::refused;
use crate::hub::Grant;
use crate::instance::{Instance, caller_of};
use crate::limits::Count;
use crate::transport::bearer;

/// What the caller of the API may do. Its request is counted.
pub(super) async fn authenticate(instance: &Instance, headers: &HeaderMap) -> Result<Grant, Problem> {
    let grant = match bearer(headers) {
        Some(token) => instance.authenticate(token).await?,
        None => instance.authenticator.load().anonymous().ok_or_else(refused)?,
    };
    quota::note(instance.admit(&caller_of(&grant), Count::Commands, 1))?;
    Ok(grant)
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
