//! Which channels Redis holds.

use std::collections::BTreeSet;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::prelude::FredResult;
use fred::types::{ClusterHash, CustomCommand, Key, Value};
use futures::StreamExt;
use tidings_protocol::{Channel, Position};
use tracing::debug;

use super::keys::Keys;
use super::shards::Map;
use crate::broker::{BrokerError, ChannelHeads};

/// Steps of one listing on one server: so many times [`NAMES_PER_STEP`] names at most, of which most are of channels that are there.
const STEPS_MAX: usize = 100;

/// Names that a step looks at, so that each is short.
const NAMES_PER_STEP: &str = "1000";

/// Commands under way at once.
const COMMANDS_MAX: usize = 256;

/// Channels with their heads, at most `limit`, in no order.
pub(super) async fn channels(map: &Map, keys: &Keys, limit: usize) -> Result<ChannelHeads, BrokerError> {
    let mut found = ChannelHeads::default();
    for shard in &map.shards {
        let indexes: BTreeSet<Key> =
            map.slots_of(shard).into_iter().map(|slot| keys.index_of_slot(slot)).collect();
        let listing = Listing { client: &shard.commands, keys, limit, found: &mut found };
        listing.list(indexes).await.map_err(|error| {
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

/// What is listed of one server.
struct Listing<'a> {
    client: &'a Client,
    keys: &'a Keys,
    limit: usize,
    found: &'a mut ChannelHeads,
}

impl Listing<'_> {
    async fn list(mut self, indexes: BTreeSet<Key>) -> FredResult<()> {
        let mut open: Vec<(Key, String)> = indexes.into_iter().map(|key| (key, "0".to_owned())).collect();
        for _ in 0..STEPS_MAX {
            let steps = open.drain(..).map(|(key, cursor)| step(self.client, key, cursor));
            let steps: Vec<_> = futures::stream::iter(steps).buffered(COMMANDS_MAX).collect().await;
            for next in steps {
                let (key, cursor, names) = next?;
                self.take(names).await?;
                if cursor != "0" && !cursor.is_empty() {
                    open.push((key, cursor));
                }
            }
            if open.is_empty() || self.found.more {
                return Ok(());
            }
        }
        self.found.more = true;
        Ok(())
    }

    async fn take(&mut self, names: Vec<String>) -> FredResult<()> {
        // Those of the server's own are not listed.
        let channels: Vec<Channel> = names.iter().flat_map(|name| Channel::parse(name)).collect();
        let heads = channels.into_iter().map(|channel| known(self.client, self.keys, channel));
        let mut heads = futures::stream::iter(heads).buffered(COMMANDS_MAX);
        while let Some(head) = heads.next().await {
            let Some(known) = head? else { continue };
            if self.found.heads.len() == self.limit {
                self.found.more = true;
                break;
            }
            self.found.heads.push(known);
        }
        Ok(())
    }
}

/// Some names of an index after a cursor, with the cursor after them.
async fn step(client: &Client, index: Key, cursor: String) -> FredResult<(Key, String, Vec<String>)> {
    let args = vec![index.clone().into(), cursor.into(), "COUNT".into(), NAMES_PER_STEP.into()];
    let mut step = run(client, "SSCAN", args).await?.into_array();
    let names = step.pop().map(Value::into_array).unwrap_or_default();
    let cursor = step.pop().and_then(Value::into_string).unwrap_or_default();
    Ok((index, cursor, names.into_iter().filter_map(Value::into_string).collect()))
}

async fn known(client: &Client, keys: &Keys, channel: Channel) -> FredResult<Option<(Channel, Position)>> {
    let head = head(client, keys.meta(&channel)).await?;
    Ok(head.map(|head| (channel, head)))
}

async fn head(client: &Client, meta: Key) -> FredResult<Option<Position>> {
    let kept = run(client, "HMGET", vec![meta.into(), "epoch".into(), "offset".into()]).await?;
    let kept: Vec<String> = kept.into_array().into_iter().filter_map(Value::into_string).collect();
    Ok(kept.join(".").parse().ok())
}
