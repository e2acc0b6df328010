//! Probes and numbers for operators.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use tidings_protocol::{Code, Problem};

use super::ApiError;
use crate::instance::Instance;
use crate::limits::Pressure;
use crate::observe::{BrokerHealth, Phase, descriptors_used};

/// `GET /livez`: the runtime answers, and nothing else is asked of it.
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: whether new work should come here.
///
/// A lost broker does not count: connections are kept and told, and all instances lose it together. Taking all of them out
/// of service, or restarting them, would turn its blip into an outage of everything, and bring nothing back.
pub(super) async fn readyz(State(instance): State<Arc<Instance>>) -> Result<&'static str, ApiError> {
    let short = instance.memory.pressure() >= Pressure::Refusing;
    let full = short || instance.node.connections() >= instance.limits.load().connections_max;
    match instance.health.phase() {
        Phase::Ready if full => Err(Code::Overloaded.into()),
        Phase::Ready => Ok("ok\n"),
        Phase::Starting => Err(Problem::new(Code::Overloaded, "the server is starting").into()),
        Phase::Draining | Phase::Closing => Err(Code::Draining.into()),
    }
}

/// `GET /health`: every component; 503 if any of them is degraded.
pub(super) async fn health(State(instance): State<Arc<Instance>>) -> Response {
    let connections_max = instance.limits.load().connections_max;
    let (connections, unix_ms) = (instance.node.connections(), instance.clock.unix_ms());
    let issuers = instance.authenticator.load().issuers(instance.now());
    let report = instance.health.report(
        broker(&instance),
        connections,
        connections_max,
        &instance.memory,
        issuers,
        unix_ms,
    );
    let status = if report.status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

/// `GET /metrics`
pub(super) async fn metrics(State(instance): State<Arc<Instance>>) -> impl IntoResponse {
    let instances = instance.node.instances();
    let silent = instances.iter().filter(|peer| peer.is_silent).count();
    instance.metrics.clustered(instances.len() - silent, silent);
    instance.metrics.memory(instance.memory.used(), instance.memory.budget());
    instance.bodies.show(&instance.metrics);
    instance.answers.shares.show(&instance.metrics);
    for usage in instance.node.usage() {
        instance.metrics.limit(usage.limit, usage.used, usage.total);
    }
    let sockets = &instance.sockets;
    instance.metrics.limit("sockets", sockets.taken(), sockets.most());
    instance.metrics.limit("descriptors", descriptors_used().unwrap_or_default(), sockets.most());
    let burst = instance.limits.load().connections_burst;
    instance.metrics.limit("connections_burst", instance.arrivals(), burst);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], instance.metrics.encode(broker(&instance).is_up()))
}

fn broker(instance: &Instance) -> BrokerHealth {
    let node = &instance.node;
    BrokerHealth {
        name: node.broker_name(),
        state: node.broker_state(),
        servers: node.broker_servers(),
        refusal: node.broker_refusal(),
        is_delivering: node.is_delivering(),
    }
}
