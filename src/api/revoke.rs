//! Taking credentials back before they end by themselves.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde::{Deserialize, Serialize};
use tidings_protocol::{Code, Problem, Revoked};
use tracing::info;

use super::access::Operator;
use super::connections::Reach;
use super::{ApiError, read_body};
use crate::instance::Instance;
use crate::node::Revoking;

/// The body: a user's or a token's name.
const REVOKE_BYTES_MAX: usize = 4 * 1024;

/// The longest name of a user or a token that can be revoked: each is remembered, by every instance.
const NAME_BYTES_MAX: usize = 1_024;

/// `POST /v1/revoke`
#[derive(Debug, Serialize)]
pub(super) struct RevokeAnswer {
    revoked_at: u64,
    disconnected: u64,
    kept: bool,
    #[serde(flatten)]
    reach: Reach,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeRequest {
    user: Option<Arc<str>>,
    token_id: Option<Arc<str>>,
}

/// `POST /v1/revoke`: tokens of a user that were issued until now, or one token, hold no more, at every instance.
pub(super) async fn revoke(
    State(instance): State<Arc<Instance>>,
    Operator(asker): Operator,
    request: Request,
) -> Result<Json<RevokeAnswer>, ApiError> {
    let body = read_body(&instance, &asker.caller, request, REVOKE_BYTES_MAX).await?;
    let revoked = RevokeRequest::read(&body)?.into_revoked()?;
    let Revoking { at, is_kept, findings } = instance.node.revoke(revoked).await?;
    info!(
        disconnected = findings.count,
        missing = findings.missing.len(),
        kept = is_kept,
        "an operator revoked credentials"
    );
    let mut reach = Reach::of(findings.answered, findings.missing);
    reach.complete &= is_kept;
    Ok(Json(RevokeAnswer { revoked_at: at, disconnected: findings.count, kept: is_kept, reach }))
}

impl RevokeRequest {
    fn read(body: &[u8]) -> Result<RevokeRequest, Problem> {
        serde_json::from_slice(body).map_err(|error| {
            let code = if error.is_data() { Code::BadRequest } else { Code::InvalidJson };
            let message = format!(
                "the body is no revocation: {error}; write {{\"user\":\"ada\"}} or {{\"token_id\":\"…\"}}"
            );
            Problem::new(code, message)
        })
    }

    fn into_revoked(self) -> Result<Revoked, Problem> {
        let bad = |why: &str| Err(Problem::new(Code::BadRequest, why.to_owned()));
        let (revoked, length) = match (self.user, self.token_id) {
            (Some(name), None) => (Revoked::User(name.clone()), name.len()),
            (None, Some(name)) => (Revoked::Token(name.clone()), name.len()),
            (Some(_), Some(_)) => return bad("both `user` and `token_id` are given: leave one of them out"),
            (None, None) => return bad("neither `user` nor `token_id` is given: say what is revoked"),
        };
        match length {
            0 => bad("the name is empty: tokens of nobody in particular are revoked by their `token_id`"),
            1..=NAME_BYTES_MAX => Ok(revoked),
            _ => bad("the name has more than 1024 bytes"),
        }
    }
}
