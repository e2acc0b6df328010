//! The HTTP API: what backends and operators ask of an instance.

mod access;
mod body;
mod channels;
mod check;
mod cloud_event;
mod cluster;
mod connections;
mod guard;
mod health;
mod held;
mod mutate;
mod options;
mod problem;
mod publish;
mod quota;
mod revoke;

pub use body::read_body;
pub use problem::ApiError;
pub use quota::note;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tidings_protocol::{Code, Problem};

use crate::console;
use crate::instance::Instance;
use crate::transport;

/// Every route of an instance.
pub fn router(instance: Arc<Instance>) -> Router {
    Router::new()
        .route("/ws", get(transport::websocket))
        .route("/sse", get(transport::sse_get).post(transport::sse_post))
        .route("/v1/publish", post(publish::publish_json))
        .route("/v1/publish/{channel}", post(publish::publish_body))
        .route("/v1/batch", post(publish::publish_batch))
        .route("/v1/mutations", post(mutate::mutations))
        .route("/v1/invalidate", post(mutate::invalidate))
        .route("/v1/invalidate/{tag}", post(mutate::invalidate_one))
        .route("/v1/check", post(check::check))
        .route("/v1/position", get(check::position))
        .route("/v1/channels", get(channels::list))
        .route("/v1/channels/{channel}/history", get(channels::history))
        .route("/v1/channels/{channel}/presence", get(channels::presence))
        .route("/v1/cluster", get(cluster::view))
        .route("/v1/connections", get(connections::list))
        .route("/v1/disconnect", post(connections::disconnect))
        .route("/v1/revoke", post(revoke::revoke))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/health", get(health::health))
        .route("/metrics", get(health::metrics))
        .merge(console::router())
        .fallback(async || ApiError(Problem::new(Code::NotFound, "there is nothing at this path")))
        .method_not_allowed_fallback(async || ApiError(Code::MethodNotAllowed.into()))
        .layer(from_fn_with_state(instance.clone(), guard::guard))
        .with_state(instance)
}
