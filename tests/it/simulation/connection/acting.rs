//! What a session asked for, on its way through hub and broker: a step at a time, with time between the steps.

use std::collections::{BTreeSet, VecDeque};

use tidings::ablation::{Safeguard, ablated};
use tidings::hub::{Action, Answer, Grant, Hub, Page, Published, SessionId};
use tidings_protocol::{Ack, Channel, Code, Problem};

use crate::history::PublishId;
use crate::simulation::broker::Broker;
use crate::simulation::context::Context;

/// An action on its way.
pub(super) struct Acting {
    action: Action,
    steps: VecDeque<Step>,
    read: Option<Result<Option<Page>, Problem>>,
    published: Option<Result<Published, Problem>>,
}

/// Where steps are done, and for whom.
pub(super) struct Place<'a> {
    pub(super) id: SessionId,
    pub(super) hub: &'a mut Hub<SessionId>,
    pub(super) broker: &'a mut Broker,
    pub(super) attached: &'a mut BTreeSet<Channel>,
}

#[derive(Clone, Copy)]
enum Step {
    Attach,
    Detach,
    Read,
    Publish,
}

/// The steps of a join. Listen before reading history: a publication between the two is then seen twice, never missed.
fn join_steps() -> [Step; 2] {
    match ablated(Safeguard::ListenBeforeRead) {
        true => [Step::Read, Step::Attach],
        false => [Step::Attach, Step::Read],
    }
}

impl Acting {
    /// An action of which nothing is done yet.
    pub(super) fn begin(action: Action) -> Self {
        let steps: &[Step] = match action {
            Action::Authenticate { .. } => &[],
            Action::Join { .. } => &join_steps(),
            Action::Leave { .. } => &[Step::Detach],
            Action::Read { .. } | Action::Resume { .. } => &[Step::Read],
            Action::Publish(_) => &[Step::Publish],
            Action::Members { .. } => unreachable!("no client asks who is there"),
        };
        Acting { steps: steps.iter().copied().collect(), action, read: None, published: None }
    }

    /// Does the next step. True once all were done before: then it is time for the answer.
    pub(super) fn step(&mut self, place: &mut Place<'_>, context: &mut Context) -> bool {
        let Some(step) = self.steps.pop_front() else { return true };
        match (step, &self.action) {
            (Step::Attach, Action::Join { channel, .. }) => {
                let rules = &context.spec(context.id(channel)).rules;
                place.hub.attach(channel, place.id, place.id, rules);
                place.attached.insert(channel.clone());
            }
            (Step::Detach, Action::Leave { channel }) => place.detach(channel),
            (
                Step::Read,
                Action::Join { channel, since, limit, .. } | Action::Read { channel, since, limit },
            ) => {
                let channel = context.id(channel);
                self.read = Some(place.broker.read(channel, since.as_ref(), *limit, context));
            }
            (Step::Read, Action::Resume { channel, since, limit }) => {
                let channel = context.id(channel);
                self.read = Some(place.broker.read(channel, Some(since), *limit, context));
            }
            (Step::Publish, Action::Publish(command)) => {
                let (publish, channel) = (PublishId::of(&command.payload), context.id(&command.channel));
                let stored = place.broker.publish(publish, channel, command.payload.clone(), context);
                self.published = Some(stored.map(|position| Published { position, ack: Ack::Stored }));
            }
            _ => unreachable!("steps are chosen by their action"),
        }
        false
    }

    /// What came of it.
    pub(super) fn answer(self, place: &mut Place<'_>) -> Answer {
        match self.action {
            Action::Authenticate { .. } => Answer::Authenticated(Ok(Grant::open())),
            Action::Join { channel, .. } => {
                let read = self.read.expect("a join reads");
                if read.is_err() {
                    place.detach(&channel);
                }
                Answer::Joined(read)
            }
            Action::Leave { .. } => Answer::Left,
            Action::Read { .. } | Action::Resume { .. } => {
                let page = self.read.expect("a read reads");
                Answer::Read(page.and_then(|page| page.ok_or_else(|| Code::HistoryDisabled.into())))
            }
            Action::Members { .. } => unreachable!("no client asks who is there"),
            Action::Publish(_) => Answer::Published(self.published.expect("a publish publishes")),
        }
    }
}

impl Place<'_> {
    fn detach(&mut self, channel: &Channel) {
        self.hub.detach(channel, self.id);
        self.attached.remove(channel);
    }
}
