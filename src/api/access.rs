//! Who calls the API, and what for: known before anything else of a request is looked at.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tidings_protocol::{Code, Problem};

use super::{ApiError, quota};
use crate::auth::refused;
use crate::hub::Grant;
use crate::instance::{Instance, caller_of};
use crate::limits::{Caller, Count};
use crate::transport::{address_of, bearer};

/// Who calls the API. A handler that takes one is run for nobody else, and the request is counted.
pub(super) struct Asker {
    /// What it may do.
    pub(super) grant: Grant,
    /// Whom it is counted to.
    pub(super) caller: Caller,
}

/// An [`Asker`] that may look at the server itself, and touch its connections.
pub(super) struct Operator(pub(super) Asker);

impl Asker {
    /// Counts what the request asks for, beyond the request itself: so many items, tags or events.
    pub(super) fn charge(&self, instance: &Instance, items: usize) -> Result<(), Problem> {
        quota::note(instance.admit_items(&self.caller, items))
    }
}

impl FromRequestParts<Arc<Instance>> for Asker {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, instance: &Arc<Instance>) -> Result<Asker, ApiError> {
        let address = address_of(&parts.extensions);
        let grant = match bearer(&parts.headers) {
            Some(token) => instance.authenticate(token, address).await?,
            None => instance.authenticator.load().anonymous().ok_or_else(refused)?,
        };
        let caller = caller_of(&grant, address);
        quota::note_caller(&caller);
        quota::note(instance.admit(&caller, Count::Commands, 1))?;
        Ok(Asker { grant, caller })
    }
}

impl FromRequestParts<Arc<Instance>> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, instance: &Arc<Instance>) -> Result<Operator, ApiError> {
        let asker = Asker::from_request_parts(parts, instance).await?;
        match asker.grant.admin {
            true => Ok(Operator(asker)),
            false => {
                let message = "this is for operators: use an API key that has `admin = true`";
                Err(Problem::new(Code::OperationNotAllowed, message).into())
            }
        }
    }
}
