//! From sending a publish to its receipt: a fan-out whose publisher may talk to another instance.

use super::IMMEDIATE;
use crate::child::Server;
use crate::cli::{ClusterArgs, FanoutArgs};
use crate::error::LoadError;
use crate::fanout::fanout;
use crate::latency::LatencySummary;
use crate::link::Transport;

/// Half of these bytes say who sent the publication and when.
const PAYLOAD_BYTES: u32 = 128;
const JOIN_TIMEOUT_S: u32 = 60;
const SETTLE_S: u32 = 15;

/// Latencies of the subscribers of `server`; the publisher is at `publishing` where that is another. An error if anything was
/// lost on the way.
pub(super) fn latency(
    args: &ClusterArgs,
    server: &Server,
    publishing: Option<&Server>,
) -> Result<LatencySummary, LoadError> {
    let report = fanout(&FanoutArgs {
        url: vec![server.url()],
        publish_url: publishing.map(Server::url).into_iter().collect(),
        clients: args.clients,
        rate: args.rate,
        seconds: args.seconds,
        transport: Transport::Ws,
        cut_percent: 0,
        channel: format!("{IMMEDIATE}:latency"),
        channels: 1,
        payload: PAYLOAD_BYTES,
        seed: 1,
        join_timeout: JOIN_TIMEOUT_S,
        settle: SETTLE_S,
        token: None,
        api_key: None,
        pid: None,
        json: false,
    })?;
    if !report.has_passed() || report.delivered != report.expected {
        return Err(LoadError::Peer(format!("deliveries went wrong while latency was measured\n{report}")));
    }
    Ok(report.steady)
}
