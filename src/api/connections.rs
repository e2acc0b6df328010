//! Who is connected, on all instances, and how to end that.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use serde::{Deserialize, Serialize};
use tidings_protocol::{ClusterAsk, Code, ConnectionInfo, Problem, Transport, Which};
use tracing::info;

use super::access::Operator;
use super::{ApiError, read_body};
use crate::instance::Instance;
use crate::node::Findings;

/// Connections that one answer lists at most.
const CONNECTIONS_LISTED_MAX: usize = 1_000;

/// The body of a disconnect: a user's or a session's name, and a reason.
const DISCONNECT_BYTES_MAX: usize = 4 * 1024;

/// What a close frame has room for, behind its word.
const REASON_BYTES_MAX: usize = 100;

/// Which instances an answer speaks for.
#[derive(Debug, Serialize)]
pub(super) struct Reach {
    pub(super) complete: bool,
    answered: Vec<Arc<str>>,
    missing: Vec<Arc<str>>,
}

/// `GET /v1/connections`
#[derive(Debug, Serialize)]
pub(super) struct ConnectionList {
    connections: Vec<ConnectionView>,
    left_off: u64,
    #[serde(flatten)]
    reach: Reach,
}

#[derive(Debug, Serialize)]
struct ConnectionView {
    session: String,
    instance: Arc<str>,
    user: Option<Arc<str>>,
    transport: Transport,
    since: u64,
    channels: u32,
}

/// The options of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    user: Option<Arc<str>>,
    limit: Option<usize>,
}

/// `GET /v1/connections?user=&limit=`: the oldest first, of those that are listed.
pub(super) async fn list(
    State(instance): State<Arc<Instance>>,
    _: Operator,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<ConnectionList>, ApiError> {
    let Query(query) = query.map_err(|rejection| {
        let message = format!("{}: the options are `user` and `limit`", rejection.body_text());
        Problem::new(Code::BadRequest, message)
    })?;
    let which = query.user.map_or(Which::Every, Which::OfUser);
    let limit = query.limit.unwrap_or(CONNECTIONS_LISTED_MAX).min(CONNECTIONS_LISTED_MAX);
    let findings = instance.node.ask_all(ClusterAsk::List { which, limit }).await?;
    Ok(Json(ConnectionList::new(findings)))
}

/// `POST /v1/disconnect`
#[derive(Debug, Serialize)]
pub(super) struct Disconnected {
    disconnected: u64,
    #[serde(flatten)]
    reach: Reach,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DisconnectRequest {
    user: Option<Arc<str>>,
    session: Option<Arc<str>>,
    #[serde(default)]
    reconnect: bool,
    reason: Option<Arc<str>>,
}

/// `POST /v1/disconnect`: ends a user's connections, or one session, wherever they are.
pub(super) async fn disconnect(
    State(instance): State<Arc<Instance>>,
    Operator(asker): Operator,
    request: Request,
) -> Result<Json<Disconnected>, ApiError> {
    let body = read_body(&instance, &asker.caller, request, DISCONNECT_BYTES_MAX).await?;
    let ask = DisconnectRequest::read(&body)?.into_ask()?;
    let findings = instance.node.ask_all(ask).await?;
    info!(disconnected = findings.count, missing = findings.missing.len(), "an operator ended connections");
    Ok(Json(Disconnected {
        disconnected: findings.count,
        reach: Reach::of(findings.answered, findings.missing),
    }))
}

impl DisconnectRequest {
    fn read(body: &[u8]) -> Result<DisconnectRequest, Problem> {
        serde_json::from_slice(body).map_err(|error| {
            let code = if error.is_data() { Code::BadRequest } else { Code::InvalidJson };
            let message = format!(
                "the body is no disconnect: {error}; write {{\"user\":\"ada\"}} or {{\"session\":\"…\"}}, \
                 with `reconnect` and `reason` if you like"
            );
            Problem::new(code, message)
        })
    }

    fn into_ask(self) -> Result<ClusterAsk, Problem> {
        let bad = |why: &str| Err(Problem::new(Code::BadRequest, why.to_owned()));
        let which = match (self.user, self.session) {
            (Some(user), None) if user.is_empty() => {
                return bad("`user` is empty, as for all who are anonymous: name a `session` instead");
            }
            (Some(user), None) => Which::OfUser(user),
            (None, Some(session)) => Which::Session(session),
            (Some(_), Some(_)) => return bad("both `user` and `session` are given: leave one of them out"),
            (None, None) => return bad("neither `user` nor `session` is given: say who is meant"),
        };
        let reason = self.reason.unwrap_or_else(|| "an operator ended the connection".into());
        if reason.len() > REASON_BYTES_MAX {
            let message =
                format!("`reason` has {} bytes: a close frame has room for {REASON_BYTES_MAX}", reason.len());
            return bad(&message);
        }
        Ok(ClusterAsk::Disconnect { which, reconnect: self.reconnect, reason })
    }
}

impl ConnectionList {
    fn new(findings: Findings) -> ConnectionList {
        let left_off = findings.count.saturating_sub(findings.connections.len() as u64);
        let view = |(instance, connection): (Arc<str>, ConnectionInfo)| ConnectionView {
            session: connection.session,
            instance,
            user: connection.user,
            transport: connection.transport,
            since: connection.since,
            channels: connection.channels,
        };
        let mut connections: Vec<ConnectionView> = findings.connections.into_iter().map(view).collect();
        connections.sort_by(|a, b| (a.since, &a.session).cmp(&(b.since, &b.session)));
        ConnectionList { connections, left_off, reach: Reach::of(findings.answered, findings.missing) }
    }
}

impl Reach {
    pub(super) fn of(answered: Vec<Arc<str>>, missing: Vec<Arc<str>>) -> Reach {
        Reach { complete: missing.is_empty(), answered, missing }
    }
}
