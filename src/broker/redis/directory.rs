//! Which channels Redis holds.

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::prelude::FredResult;
use fred::types::{ClusterHash, CustomCommand, Key, Value};
use tidings_protocol::{Channel, Position};
use tracing::debug;

use super::keys::Keys;
use super::shards::Map;
use crate::broker::BrokerError;

/// Steps of one listing on one server: it ends early on a Redis that is full of other things.
const STEPS_MAX: usize = 1_000;

/// Keys that a step looks at, so that each is short.
const KEYS_PER_STEP: &str = "1000";

/// Channels with their heads, at most `limit`, in no order.
pub(super) async fn channels(
    map: &Map,
    keys: &Keys,
    limit: usize,
) -> Result<Vec<(Channel, Position)>, BrokerError> {
    let mut found = Vec::new();
    for shard in &map.shards {
        scan(&shard.commands, keys, limit, &mut found).await.map_err(|error| {
            debug!(%error, "channels cannot be listed");
            BrokerError::Unavailable
        })?;
    }
    Ok(found)
}

/// Runs a command that the library has no function for.
pub(super) async fn run(client: &Client, command: &'static str, args: Vec<Value>) -> FredResult<Value> {
    client.custom(CustomCommand::new_static(command, ClusterHash::Random, false), args).await
}

async fn scan(
    client: &Client,
    keys: &Keys,
    limit: usize,
    found: &mut Vec<(Channel, Position)>,
) -> FredResult<()> {
    let mut cursor = "0".to_owned();
    for _ in 0..STEPS_MAX {
        let args = [cursor.as_str(), "MATCH", &keys.all_metas(), "COUNT", KEYS_PER_STEP].map(Value::from);
        let mut step = run(client, "SCAN", args.to_vec()).await?.into_array();
        let metas = step.pop().map(Value::into_array);
        for meta in metas.into_iter().flatten() {
            let Some(channel) = meta.as_str().and_then(|name| keys.channel_of_meta(&name)) else { continue };
            if found.len() < limit
                && let Some(head) = head(client, keys.meta(&channel)).await?
            {
                found.push((channel, head));
            }
        }
        cursor = step.pop().and_then(Value::into_string).unwrap_or_default();
        if found.len() >= limit || cursor == "0" || cursor.is_empty() {
            break;
        }
    }
    Ok(())
}

async fn head(client: &Client, meta: Key) -> FredResult<Option<Position>> {
    let kept = run(client, "HMGET", vec![meta.into(), "epoch".into(), "offset".into()]).await?;
    let kept: Vec<String> = kept.into_array().into_iter().filter_map(Value::into_string).collect();
    Ok(kept.join(".").parse().ok())
}
