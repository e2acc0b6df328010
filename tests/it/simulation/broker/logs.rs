//! Mutation logs: their snapshots, where they stand, and what replicas have of them.

use tidings::broker::BrokerError;
use tidings::freshness::Snapshot;
use tidings_protocol::Position;

use super::server::Coming;
use super::{Redis, Script, Side};
use crate::history::ChannelId;
use crate::simulation::context::Context;
use crate::simulation::faults::Fault;

/// What a connection wrote, of which it waits to hear that the replica has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    side: Side,
    replication_id: u64,
    scripts: u64,
}

impl Redis {
    /// The log as it stands.
    pub(crate) fn snapshot(
        &mut self,
        slot: usize,
        log: ChannelId,
        context: &mut Context,
    ) -> Result<Snapshot, BrokerError> {
        let (side, coming) = self.look(slot, log, context)?;
        let snapshot = match coming {
            Some(coming) => coming.kept.snapshot(),
            None => self.server(side).snapshot(log),
        };
        snapshot.ok_or(BrokerError::Unavailable)
    }

    /// Where the log stands: proof of nothing until the replica has confirmed it.
    pub(crate) fn confirm(
        &mut self,
        slot: usize,
        log: ChannelId,
        context: &mut Context,
    ) -> Result<Position, BrokerError> {
        let (side, coming) = self.look(slot, log, context)?;
        let head = match coming {
            Some(coming) => Some(coming.kept.stream.head()),
            None => self.server(side).standing(log),
        };
        head.ok_or(BrokerError::Unavailable)
    }

    /// A script that only reads runs, if it can: what it finds that is not stored.
    fn look(
        &mut self,
        slot: usize,
        channel: ChannelId,
        context: &mut Context,
    ) -> Result<(Side, Option<Coming>), BrokerError> {
        let now = context.now();
        let is_away = self.held_up(slot, now).is_some() || self.outages.is_down(now);
        if context.inject(Fault::ReadFailed, context.profile.refusal) || is_away {
            return Err(BrokerError::Unavailable);
        }
        let side = self.side(slot);
        let coming = self.coming(side, channel, Script::Read, context);
        Ok((side, coming))
    }

    /// The instance begins to wait for the replica to have all that was written so far.
    pub(crate) fn begin_wait(&mut self, slot: usize) -> Wait {
        let side = self.side(slot);
        Wait { side, replication_id: self.server(side).replication_id, scripts: self.scripts }
    }

    /// Whether the replica has it; an error where nobody will say so any more.
    pub(crate) fn is_replicated(
        &mut self,
        slot: usize,
        wait: Wait,
        context: &Context,
    ) -> Result<bool, BrokerError> {
        let (now, side) = (context.now(), self.side(slot));
        let is_lost = wait.side != side || self.server(side).replication_id != wait.replication_id;
        if is_lost || self.held_up(slot, now).is_some() || self.outages.is_down(now) {
            return Err(BrokerError::ReplicationUnconfirmed(None));
        }
        self.catch_up(now, context);
        Ok(side == Side::Primary && !self.replica_is_cut && self.replicated >= wait.scripts)
    }
}
