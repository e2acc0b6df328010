//! What connections ask of the event loop of their instance: a queue, as a node's.

use std::collections::VecDeque;

use tidings::hub::{SessionId, Time};
use tidings_protocol::Channel;

use crate::simulation::context::{Context, Plan, Start};

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum NodeCommand {
    /// Attach the session.
    Attach { channel: Channel, session: SessionId },
    /// Detach it.
    Detach { channel: Channel, session: SessionId },
    /// Its connection ended.
    Gone { session: SessionId },
}

/// The queue, in the order in which it was asked.
pub(crate) struct Commands {
    of: Start,
    under_way: VecDeque<NodeCommand>,
    last_arrival: Time,
}

impl Commands {
    /// An empty queue.
    pub(super) fn new(of: Start) -> Self {
        Commands { of, under_way: VecDeque::new(), last_arrival: Time::ZERO }
    }

    /// Asks something.
    pub(crate) fn send(&mut self, command: NodeCommand, context: &mut Context) {
        self.last_arrival = self.last_arrival.max(context.now().after(context.random.between(0, 5)));
        self.under_way.push_back(command);
        context.schedule.at(self.last_arrival, Plan::NodeCommand(self.of));
    }

    /// What the event loop looks at next.
    pub(super) fn next(&mut self) -> Option<NodeCommand> {
        self.under_way.pop_front()
    }

    /// Whether the event loop is about to hear that the session is gone.
    pub(super) fn will_hear_of_the_end_of(&self, gone: SessionId) -> bool {
        let ends =
            |command: &NodeCommand| matches!(command, NodeCommand::Gone { session } if *session == gone);
        self.under_way.iter().any(ends)
    }
}
