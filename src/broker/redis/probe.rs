//! Tries out a server: at the start all that is done with it, and later, time after time, whether it still takes writes.

use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::prelude::FredResult;
use fred::types::Value;
use tidings_protocol::{Ack, Channel, Payload, PublishCommand};
use tracing::warn;

use super::answer;
use super::directory::run;
use super::shard::Shard;
use super::shards::Map;
use super::store::{Reader, RedisStore};
use crate::hub::{PageLimit, Retention};

/// How long an announcement may take at the start.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long what the trial published is kept, should nobody remove it.
const KEPT: Retention =
    Retention { publications_max: 1, bytes_max: 1 << 10, age_max: Duration::from_secs(10) };

/// What a server is good for at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Probed {
    /// It is a primary, and takes writes.
    Well,
    /// It is a primary that can be read and refuses writes, for this reason.
    RefusesWrites(String),
    /// It is a replica, or does not say its replication id.
    Replica,
}

impl RedisStore {
    /// Whether a publish and a read would be done. Writes nothing.
    pub(super) async fn probe(&self, client: &Client) -> FredResult<Probed> {
        let keys = self.keys.probes().into_iter().map(Value::from).collect();
        let answer = self.scripts.probe.run(client, Vec::new(), keys).await;
        match answer {
            Ok(answer) => Ok(match answer.as_str() {
                Some(refused) if !refused.is_empty() => Probed::RefusesWrites(refused.into_owned()),
                _ => Probed::Well,
            }),
            Err(error) if error.details().starts_with("NOTPRIMARY") => Ok(Probed::Replica),
            Err(error) => Err(error),
        }
    }

    /// Publishes on a channel that is nobody's, listens to it and reads it, with what publishing, listening and reading is
    /// done with later; or says what did not work.
    pub(super) async fn try_out(&self, shard: &Shard, map: &Map) -> Result<(), String> {
        let channel =
            (0..10_000).map(Channel::probe).find(|probe| map.number_of(probe) == Some(shard.number));
        // One that holds hardly any slots is like the others.
        let Some(channel) = channel else { return Ok(()) };
        if let Probed::RefusesWrites(reason) =
            self.probe(&shard.commands).await.map_err(|error| error.to_string())?
        {
            // Whoever starts now can read, and publish as soon as the others can.
            warn!(reason, "redis refuses writes at the moment");
            return Ok(());
        }
        self.try_announcing(shard, &channel).await?;
        let limit = PageLimit { publications: 1, bytes: 1 << 10 };
        let page = self.read(&shard.commands, &channel, None, limit, Reader::OfHistory).await;
        page.map_err(|_| "what is stored cannot be read".to_owned())?;
        let keys = vec![self.keys.meta(&channel).into(), self.keys.stream(&channel).into()];
        run(&shard.commands, "DEL", keys).await.map(drop).map_err(|error| error.to_string())
    }

    /// Publishes, and hears it.
    async fn try_announcing(&self, shard: &Shard, channel: &Channel) -> Result<(), String> {
        let name = self.keys.announcements(channel);
        let is_sharded = shard.server.is_some();
        let mut announced = shard.subscriber.message_rx();
        let listening = match is_sharded {
            true => shard.subscriber.ssubscribe(name.as_str()).await,
            false => shard.subscriber.subscribe(name.as_str()).await,
        };
        listening.map_err(|error| format!("it does not let us subscribe: {error}"))?;
        shard
            .subscriber
            .ping::<()>(None)
            .await
            .map_err(|error| format!("it does not answer a subscriber: {error}"))?;
        let payload = Payload::text(self.seed.as_bytes()).map_err(|error| error.to_string())?;
        let command = PublishCommand {
            channel: channel.clone(),
            payload,
            key: None,
            id: None,
            idempotency_key: None,
            ack: Ack::Stored,
        };
        let answer = self.append(&shard.commands, &command, b"", &KEPT, Vec::new()).await;
        let answer = answer.map_err(|error| format!("publishing does not work: {error}"))?;
        answer::published(answer).map_err(|_| "publishing gives no answer that is understood".to_owned())?;
        let arrival = async {
            while let Ok(message) = announced.recv().await {
                let is_ours = message.value.as_bytes().and_then(|bytes| answer::announcement(bytes).ok());
                let is_ours = is_ours
                    .is_some_and(|(_, publication)| publication.payload.as_bytes() == self.seed.as_bytes());
                if *message.channel == *name && is_ours {
                    return true;
                }
            }
            false
        };
        let arrived = tokio::time::timeout(ARRIVAL_TIMEOUT, arrival).await.unwrap_or(false);
        let unlistening = match is_sharded {
            true => shard.subscriber.sunsubscribe(name.as_str()).await,
            false => shard.subscriber.unsubscribe(name.as_str()).await,
        };
        unlistening.map_err(|error| format!("it does not let us unsubscribe: {error}"))?;
        match arrived {
            true => Ok(()),
            false => Err(format!("what is published is not announced within {ARRIVAL_TIMEOUT:?}")),
        }
    }
}
