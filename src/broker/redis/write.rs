//! What is written into Redis, and how its answer may wait for replicas.

use std::sync::Arc;

use tidings_protocol::{Ack, Channel, LogName, MutateCommand, PublishCommand};

use super::RedisBroker;
use super::answer::Failed;
use super::shard::Shard;
use super::window::Fate;
use crate::broker::BrokerError;
use crate::hub::{Published, Retention};

/// Each is one script.
#[derive(Clone, Debug)]
pub(super) enum Write {
    /// A publication, and what its channel keeps.
    Publish(PublishCommand, Retention),
    /// A mutation, and what its log keeps.
    Mutate(MutateCommand, Retention),
    /// Where the log stands, which is read, and written again where replicas are to confirm it.
    Confirm(LogName),
}

impl Write {
    fn channel(&self) -> Channel {
        match self {
            Write::Publish(command, _) => command.channel.clone(),
            Write::Mutate(command, _) => command.log.channel(),
            Write::Confirm(log) => log.channel(),
        }
    }

    fn ack(&self) -> Ack {
        match self {
            Write::Publish(command, _) => command.ack,
            Write::Mutate(command, _) => command.ack,
            Write::Confirm(_) => Ack::Replicated,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Write::Publish(command, _) => command.payload.as_bytes().len(),
            Write::Mutate(command, _) => command.tags.iter().map(|tag| tag.as_str().len() + 1).sum(),
            Write::Confirm(_) => 0,
        }
    }
}

impl RedisBroker {
    /// Stores and announces, and tells the others of the new head.
    pub(super) async fn store(&self, write: Write) -> Result<Published, BrokerError> {
        let wants_replicas = write.ack() == Ack::Replicated;
        if wants_replicas && self.config.redis.replicas == 0 {
            return Err(BrokerError::AckNotPossible);
        }
        let kib = write.bytes().div_ceil(1_024).max(1) as u32;
        let _room = self.room.try_acquire_many(kib).map_err(|_| BrokerError::Overloaded)?;
        let published = self.put(&write, wants_replicas).await;
        match &published {
            Ok(published) => {
                if let Some(position) = &published.position {
                    self.advanced.note(&write.channel(), Some(position.clone()));
                }
            }
            Err(BrokerError::OutcomeUnknown | BrokerError::ReplicationUnconfirmed(_)) => {
                self.advanced.note(&write.channel(), None);
            }
            Err(_) => {}
        }
        published
    }

    /// Writes where the channel is; where `waits`, until replicas have it.
    pub(super) async fn put(&self, write: &Write, waits: bool) -> Result<Published, BrokerError> {
        let put = |shard: Arc<Shard>| async move {
            // What is read or confirmed needs no announcement.
            if shard.is_deaf() && !matches!(write, Write::Confirm(_)) {
                return Err(Failed::Broker(BrokerError::Unavailable));
            }
            match shard.replicated.as_ref().filter(|_| waits) {
                Some(replicated) => replicated.put(write.clone()).await,
                None => {
                    let turn = shard.pace.turn(write.bytes()).await?;
                    let outcome = self.store.put(&shard.commands, write, false).await;
                    let is_unknown = outcome == Err(Failed::Broker(BrokerError::OutcomeUnknown));
                    shard.pace.end(turn, if is_unknown { Fate::Unknown } else { Fate::Answered });
                    if outcome.is_ok() {
                        shard.note_answer();
                    }
                    outcome
                }
            }
        };
        self.shards.at(&write.channel(), put).await
    }
}
