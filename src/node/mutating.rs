//! Writing into mutation logs.

use std::sync::Arc;

use tidings_protocol::{Ack, Code, LogName, MutateCommand, Problem, Tag};

use super::Node;
use super::event_loop::NodeCommand;
use super::keys::Settled;
use super::log_names::Place;
use crate::hub::Published;
use crate::limits::Caller;

impl Node {
    /// Writes a mutation for a caller, unless this instance is about to end.
    pub async fn mutate(&self, mut command: MutateCommand, caller: &Caller) -> Result<Published, Problem> {
        let _on_its_way = self.publishing.token();
        if self.publishing.is_closed() {
            return Err(Code::Draining.into());
        }
        let place = self.log_names.admit(&command.log, caller)?;
        let (log, tags, asked) = (command.log.clone(), Arc::from(command.tags.as_slice()), command.ack);
        command.idempotency_key = command.idempotency_key.map(|key| caller.own_key(&key));
        let key = command.idempotency_key.as_deref();
        let counted = self.keys.count(caller, &log.channel(), key, self.clock.now());
        let counted = counted.inspect_err(|_| {
            if place == Place::New {
                self.log_names.give_back(&log);
            }
        })?;
        let published = self.broker.mutate(command, caller.clone()).await;
        if self.keys.settle(counted, &published) == Settled::NotStored && place == Place::New {
            self.log_names.give_back(&log);
        }
        let published = published?;
        self.remember(log, &published, tags).await?;
        Ok(match asked {
            Ack::None => Published { position: None, ack: Ack::None, duplicate: false },
            Ack::Stored | Ack::Replicated => published,
        })
    }

    /// Before anybody is told of it: should the log lose the mutation, this instance writes it again.
    async fn remember(&self, log: LogName, published: &Published, tags: Arc<[Tag]>) -> Result<(), Problem> {
        let Some(position) = published.position.clone() else { return Ok(()) };
        let acknowledged = NodeCommand::Acknowledged { log, position, tags };
        // Without an event loop nobody would write it again: whether it will be there is then not known.
        self.commands.send(acknowledged).await.map_err(|_| Code::OutcomeUnknown.into())
    }
}
