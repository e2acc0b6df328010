//! Mutation logs in Redis: channels with a version table beside them.

use std::sync::Arc;

use tidings_protocol::{LogName, MutateCommand, Position};

use super::RedisBroker;
use super::shard::Shard;
use super::write::Write;
use crate::broker::BrokerError;
use crate::freshness::Snapshot;
use crate::hub::Published;

impl RedisBroker {
    pub(super) async fn write_mutation(&self, command: MutateCommand) -> Result<Published, BrokerError> {
        let retention = self.store.retentions.of(&command.log.channel());
        self.store(Write::Mutate(command, retention)).await
    }

    pub(super) async fn read_log(&self, log: LogName) -> Result<Snapshot, BrokerError> {
        let channel = &log.channel();
        let read = |shard: Arc<Shard>| async move { self.store.snapshot(&shard.commands, channel).await };
        self.shards.at(channel, read).await
    }

    /// Where replicas are configured, they confirm it: a primary that was cut off from them, while another one took over, does
    /// not know of what that one acknowledged.
    pub(super) async fn confirm_log(&self, log: LogName) -> Result<Position, BrokerError> {
        let confirmed = self.put(&Write::Confirm(log), self.config.redis.replicas > 0).await;
        match confirmed {
            Ok(stands) => stands.position.ok_or(BrokerError::Unavailable),
            Err(unconfirmed @ BrokerError::ReplicationUnconfirmed(_)) => Err(unconfirmed),
            Err(_) => Err(BrokerError::Unavailable),
        }
    }
}
