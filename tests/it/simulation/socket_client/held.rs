//! One channel that a client is interested in.

use tidings_protocol::Position;

use crate::history::{ChannelId, ClientId, Witness};

/// How a channel stands with its client.
pub(super) struct Held {
    pub(super) witness: Witness,
    pub(super) phase: Phase,
    /// The history command that is out.
    pub(super) history: Option<u64>,
}

/// What was asked of the channel last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phase {
    /// Not wanted for now.
    Away,
    /// To be subscribed to as soon as possible.
    Wanted,
    /// The subscribe is out.
    Subscribing(u64),
    /// Subscribed.
    On,
    /// The unsubscribe is out.
    Leaving(u64),
}

impl Held {
    /// A channel that nothing was asked of yet.
    pub(super) fn new(client: ClientId, channel: ChannelId) -> Self {
        Held { witness: Witness::new(client, channel), phase: Phase::Wanted, history: None }
    }

    pub(super) fn channel(&self) -> ChannelId {
        self.witness.channel()
    }

    /// The connection is gone, with all that was asked on it.
    pub(super) fn handle_gone(&mut self) {
        self.history = None;
        self.phase = match self.phase {
            Phase::Away | Phase::Leaving(_) => Phase::Away,
            Phase::Wanted | Phase::Subscribing(_) | Phase::On => Phase::Wanted,
        };
    }

    /// Whether `id` is of the subscribe that is out.
    pub(super) fn subscribes_by(&self, id: Option<u64>) -> bool {
        id.is_some_and(|id| self.phase == Phase::Subscribing(id))
    }

    /// Whether `id` is of the history command that is out.
    pub(super) fn reads_by(&self, id: Option<u64>) -> bool {
        id.is_some() && self.history == id
    }

    /// How far the subscription got, if there is one and nothing is missing.
    pub(super) fn position(&self) -> Option<Position> {
        let is_live = self.phase == Phase::On && self.witness.outstanding().is_none();
        self.witness.position().filter(|_| is_live).cloned()
    }
}
