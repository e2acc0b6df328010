//! Which instances there are.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::ApiError;
use super::access::Operator;
use crate::instance::Instance;

/// `GET /v1/cluster`
#[derive(Debug, Serialize)]
pub(super) struct ClusterView {
    instances: Vec<InstanceView>,
}

#[derive(Debug, Serialize)]
struct InstanceView {
    id: Arc<str>,
    address: String,
    version: String,
    uptime_ms: u64,
    connections: u64,
    silent: bool,
    silent_ms: u64,
    /// What it has otherwise than the instance that answers: `format`, `namespaces`, `secrets`.
    differences: Vec<&'static str>,
}

/// The instances that were heard of within a minute, in the order of their ids; at most 1,024.
pub(super) async fn view(
    State(instance): State<Arc<Instance>>,
    _: Operator,
) -> Result<Json<ClusterView>, ApiError> {
    let (now, unix_ms) = (instance.clock.now(), instance.clock.unix_ms());
    let mut instances = instance.node.instances();
    instances.sort_by(|a, b| a.info.id.cmp(&b.info.id));
    let here = instance.node.card().info().alike;
    let views = instances.into_iter().map(|peer| InstanceView {
        id: peer.info.id,
        address: peer.info.address,
        version: peer.info.version,
        // Clocks of two machines may differ.
        uptime_ms: unix_ms.saturating_sub(peer.info.started),
        connections: peer.info.connections,
        silent: peer.is_silent,
        silent_ms: now.since(peer.heard).as_millis() as u64,
        differences: here.differences(&peer.info.alike),
    });
    Ok(Json(ClusterView { instances: views.collect() }))
}
