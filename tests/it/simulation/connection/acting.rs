//! What a session asked for, on its way through hub and broker: a step at a time, with time between the steps.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use tidings::ablation::{Safeguard, ablated};
use tidings::broker::BrokerError;
use tidings::freshness::{Allowance, Log};
use tidings::hub::{Action, Answer, Grant, Hub, Page, PageLimit, Published, SessionId, Time};
use tidings_protocol::{Channel, Code, Position, Problem};

use crate::history::PublishId;
use crate::simulation::broker::Redis;
use crate::simulation::bugs::Bug;
use crate::simulation::context::Context;
use crate::simulation::instance::Uplink;

/// How long a session waits until its channel is announced for certain.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(2);

/// The most tags that one session watches: few enough that some are watched by the subtree around them.
const TAGS_MAX: usize = 12;

/// An action on its way.
pub(super) struct Acting {
    action: Action,
    steps: VecDeque<Step>,
    /// The number under which its channel was asked for.
    number: u64,
    /// Until when it waits for its channel to be announced.
    until: Option<Time>,
    read: Option<Result<Option<Page>, BrokerError>>,
    published: Option<Result<Published, BrokerError>>,
    /// What the log said to the rest.
    told: Option<Answer>,
}

/// Where steps are done, and for whom.
pub(super) struct Place<'a> {
    pub(super) id: SessionId,
    pub(super) hub: &'a mut Hub<SessionId>,
    pub(super) uplink: &'a mut Uplink,
    pub(super) log: &'a mut Log<SessionId>,
    pub(super) redis: &'a mut Redis,
    pub(super) attached: &'a mut BTreeSet<Channel>,
}

#[derive(Clone, Copy)]
enum Step {
    Attach,
    Listen,
    Detach,
    Read,
    Publish,
    AskLog,
}

/// The steps of a join. Listen before reading history: a publication between the two is then seen twice, never missed.
fn join_steps() -> [Step; 3] {
    match ablated(Safeguard::ListenBeforeRead) {
        true => [Step::Read, Step::Attach, Step::Listen],
        false => [Step::Attach, Step::Listen, Step::Read],
    }
}

impl Acting {
    /// An action of which nothing is done yet.
    pub(super) fn begin(action: Action) -> Self {
        let steps: &[Step] = match action {
            Action::Authenticate { .. } | Action::Admit { .. } => &[],
            Action::Join { .. } => &join_steps(),
            Action::Leave { .. } => &[Step::Detach],
            Action::Read { .. } | Action::Resume { .. } => &[Step::Read],
            Action::Publish(_) => &[Step::Publish],
            Action::Members { .. } => unreachable!("no client asks who is there"),
            Action::Watch { .. }
            | Action::Unwatch { .. }
            | Action::Narrow { .. }
            | Action::Confirm { .. } => &[Step::AskLog],
        };
        let steps = steps.iter().copied().collect();
        Acting { steps, action, number: 0, until: None, read: None, published: None, told: None }
    }

    /// Does the next step. True once all were done before: then it is time for the answer.
    pub(super) fn step(&mut self, place: &mut Place<'_>, context: &mut Context) -> bool {
        let Some(step) = self.steps.pop_front() else { return true };
        match (step, &self.action) {
            (Step::Attach, Action::Join { channel, .. }) => self.number = place.attach(channel, context),
            (Step::Listen, Action::Join { channel, .. }) => {
                let until = *self.until.get_or_insert(context.now().after(LISTEN_TIMEOUT));
                if place.uplink.is_listening(channel, self.number) || context.has_bug(Bug::ListenUnconfirmed)
                {
                    return false;
                }
                match context.now() < until {
                    true => self.steps.push_front(Step::Listen),
                    false => {
                        self.steps.clear();
                        self.read = Some(Err(BrokerError::Unavailable));
                    }
                }
            }
            (Step::Detach, Action::Leave { channel }) => place.detach(channel),
            (Step::Read, Action::Join { channel, since, limit, .. }) => {
                self.read = Some(place.resume(channel, since.as_ref(), *limit, context));
            }
            (Step::Read, Action::Resume { channel, since, limit }) => {
                self.read = Some(place.resume(channel, Some(since), *limit, context));
            }
            (Step::Read, Action::Read { channel, since, limit }) => {
                let page = place.uplink.read(channel, since.as_ref(), *limit, place.redis, context);
                self.read = Some(page.map(|page| spoilt(page, context)));
            }
            (Step::Publish, Action::Publish(command)) => {
                let publish = PublishId::of(&command.payload);
                let published = place.uplink.publish(publish, command.clone(), place.redis, context);
                self.published = Some(published);
            }
            // What is asked before anything is known of the log waits for its first snapshot.
            (Step::AskLog, action) => match place.ask_log(action) {
                Some(told) => self.told = Some(told),
                None => self.steps.push_front(Step::AskLog),
            },
            _ => unreachable!("steps are chosen by their action"),
        }
        false
    }

    /// What came of it.
    pub(super) fn answer(self, place: &mut Place<'_>) -> Answer {
        match self.action {
            Action::Authenticate { .. } => Answer::Authenticated(Ok(Grant::open())),
            // Nobody in a simulation has a token.
            Action::Admit { .. } => Answer::Admitted(Err(Code::Unauthorized.into())),
            Action::Join { channel, .. } => {
                let read = self.read.expect("a join reads");
                if read.is_err() {
                    place.detach(&channel);
                }
                Answer::Joined(read.map_err(Problem::from))
            }
            Action::Leave { .. } => Answer::Left,
            Action::Read { .. } | Action::Resume { .. } => {
                let page = self.read.expect("a read reads").map_err(Problem::from);
                Answer::Read(page.and_then(|page| page.ok_or_else(|| Code::HistoryDisabled.into())))
            }
            Action::Members { .. } => unreachable!("no client asks who is there"),
            Action::Watch { .. }
            | Action::Unwatch { .. }
            | Action::Narrow { .. }
            | Action::Confirm { .. } => self.told.expect("a log is asked"),
            Action::Publish(_) => {
                let published = self.published.expect("a publish publishes");
                Answer::Published(published.map_err(Problem::from))
            }
        }
    }
}

impl Place<'_> {
    fn attach(&mut self, channel: &Channel, context: &Context) -> u64 {
        let spec = context.spec(context.id(channel));
        self.hub.attach(channel, self.id, self.id, &spec.rules);
        self.attached.insert(channel.clone());
        self.uplink.set_interest(channel, true).expect("the model does not announce everything")
    }

    fn detach(&mut self, channel: &Channel) {
        if self.attached.remove(channel) && self.hub.detach(channel, self.id) {
            self.uplink.set_interest(channel, false);
        }
    }

    /// What the mutation log says; `None` before it knows anything.
    fn ask_log(&mut self, action: &Action) -> Option<Answer> {
        let (id, log) = (self.id, &mut *self.log);
        log.position()?;
        Some(match action {
            Action::Watch { groups, granted, .. } => {
                Answer::Watched(Ok(log.watch(id, &id, groups, Allowance { granted, tags_max: TAGS_MAX })?))
            }
            Action::Unwatch { tags, .. } => {
                log.unwatch(id, tags);
                Answer::Unwatched
            }
            Action::Narrow { granted, .. } => Answer::Narrowed(log.narrow(id, granted)),
            Action::Confirm { ping, .. } => {
                log.handle_ping(id, id, *ping);
                Answer::Asked
            }
            action => unreachable!("{action:?} is none of a log"),
        })
    }

    fn resume(
        &mut self,
        channel: &Channel,
        since: Option<&Position>,
        limit: PageLimit,
        context: &mut Context,
    ) -> Result<Option<Page>, BrokerError> {
        let page = self.uplink.resume(channel, since, limit, self.redis, context);
        page.map(|page| spoilt(page, context))
    }
}

/// What a session gets of a page, where one is read from one publication too late.
fn spoilt(mut page: Option<Page>, context: &Context) -> Option<Page> {
    if context.has_bug(Bug::OffByOneAtResume)
        && let Some(page) = &mut page
        && page.gap.is_none()
        && page.publications.len() > 1
    {
        page.publications.remove(0);
    }
    page
}
