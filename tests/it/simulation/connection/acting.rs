//! What a session asked for, on its way through hub and broker: a step at a time, with time between the steps.

use std::collections::VecDeque;

use tidings::ablation::{Safeguard, ablated};
use tidings::broker::BrokerError;
use tidings::freshness::{Allowance, Log};
use tidings::hub::{Action, Answer, Attached, Grant, Page, PageLimit, Published, SessionId};
use tidings_protocol::{Channel, Code, Position, Problem};

use crate::history::PublishId;
use crate::simulation::broker::Redis;
use crate::simulation::bugs::Bug;
use crate::simulation::context::Context;
use crate::simulation::faults::Moment;
use crate::simulation::instance::{Commands, NodeCommand, Uplink};

/// The most tags that one session watches: few enough that some are watched by the subtree around them.
const TAGS_MAX: usize = 12;

/// An action on its way.
pub(super) struct Acting {
    action: Action,
    steps: VecDeque<Step>,
    /// Where it is, of the moments at which connections are dropped.
    moment: Option<Moment>,
    /// It waits for the event loop.
    waits: bool,
    read: Option<Result<Option<Page>, BrokerError>>,
    published: Option<Result<Published, BrokerError>>,
    /// What the log said to the rest.
    told: Option<Answer>,
}

/// Where steps are done, and for whom.
pub(super) struct Place<'a> {
    pub(super) id: SessionId,
    pub(super) commands: &'a mut Commands,
    pub(super) uplink: &'a mut Uplink,
    pub(super) log: &'a mut Log<SessionId>,
    pub(super) redis: &'a mut Redis,
}

/// How an action stands after a step.
#[derive(Debug, PartialEq)]
pub(super) enum Progress {
    /// Another step follows.
    On,
    /// The event loop has to answer first.
    Waits,
    /// All steps were done before: it is time for the answer.
    Done,
}

#[derive(Clone, Copy)]
enum Step {
    Attach,
    Detach,
    Read,
    Publish,
    AskLog,
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
        Acting { steps, action, moment: None, waits: false, read: None, published: None, told: None }
    }

    /// Whether it is just there.
    pub(super) fn is_at(&self, moment: Moment) -> bool {
        self.moment == Some(moment)
    }

    /// The event loop has attached the session, and waits for the broker.
    pub(super) fn handle_waiting(&mut self) {
        if self.is_at(Moment::Attaching) {
            self.moment = Some(Moment::Listening);
        }
    }

    /// The event loop has answered; `attached` is `None` where it has detached. False if nothing waits for that.
    pub(super) fn handle_answered(&mut self, attached: Option<Attached>) -> bool {
        if attached == Some(Attached::TimedOut) && self.waits {
            self.fail(BrokerError::Unavailable);
        }
        self.moment = attached.is_some().then_some(Moment::Reading);
        std::mem::take(&mut self.waits)
    }

    /// Whoever cannot join leaves the channel before it says so.
    fn fail(&mut self, error: BrokerError) {
        self.steps = [Step::Detach].into();
        self.read = Some(Err(error));
    }

    /// Has the event loop do something, and waits for that.
    fn ask(
        &mut self,
        command: NodeCommand,
        moment: Moment,
        place: &mut Place<'_>,
        context: &mut Context,
    ) -> Progress {
        (self.moment, self.waits) = (Some(moment), true);
        context.may_drop(place.id, moment);
        place.commands.send(command, context);
        Progress::Waits
    }

    /// Does the next step.
    pub(super) fn step(&mut self, place: &mut Place<'_>, context: &mut Context) -> Progress {
        let Some(step) = self.steps.pop_front() else { return Progress::Done };
        let session = place.id;
        match (step, &self.action) {
            (Step::Attach, Action::Join { channel, .. }) => {
                let attach = NodeCommand::Attach { channel: channel.clone(), session };
                let waits = self.ask(attach, Moment::Attaching, place, context);
                self.waits = !context.has_bug(Bug::ListenUnconfirmed);
                return if self.waits { waits } else { Progress::On };
            }
            (Step::Detach, Action::Join { channel, .. } | Action::Leave { channel }) => {
                let detach = NodeCommand::Detach { channel: channel.clone(), session };
                return self.ask(detach, Moment::Leaving, place, context);
            }
            (Step::Read, Action::Join { channel, since, limit, .. }) => {
                let read = place.resume(channel, since.as_ref(), *limit, context);
                self.moment = None;
                match read {
                    Ok(page) => self.read = Some(Ok(page)),
                    Err(error) => self.fail(error),
                }
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
        Progress::On
    }

    /// What came of it.
    pub(super) fn answer(self) -> Answer {
        match self.action {
            Action::Authenticate { .. } => Answer::Authenticated(Ok(Grant::open())),
            // Nobody in a simulation has a token.
            Action::Admit { .. } => Answer::Admitted(Err(Code::Unauthorized.into())),
            Action::Join { .. } => Answer::Joined(self.read.expect("a join reads").map_err(Problem::from)),
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
    /// What the mutation log says; `None` before it knows anything.
    fn ask_log(&mut self, action: &Action) -> Option<Answer> {
        let (id, log) = (self.id, &mut *self.log);
        log.position()?;
        Some(match action {
            Action::Watch { groups, granted, .. } => {
                Answer::Watched(Ok(log.watch(id, &id, groups, Allowance { granted, tags_max: TAGS_MAX })?))
            }
            Action::Unwatch { tags, escalated, .. } => {
                log.unwatch(id, tags, escalated);
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
