//! An instance's mutation log, run against the model as a node runs it: what it needs is asked, and what comes back is given
//! to it.

use std::time::Duration;

use tidings::freshness::{Event, Log, Need, Snapshot, Tell};
use tidings::hub::{SessionId, Time};
use tidings_protocol::{Ack, Epoch, LogName, MutateCommand, Position, Publication, decode_tags};

use super::Uplink;
use crate::history::PublishId;
use crate::simulation::broker::{Redis, Wait};
use crate::simulation::context::{Context, Plan, Start};

/// How long an instance waits for the replica to confirm something.
pub(crate) const CONFIRM_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two looks at whether the replica has confirmed.
const LOOK: Duration = Duration::from_millis(10);

/// Mutations that an instance holds word for word.
const EVENTS_MAX: usize = 200;

/// Who writes lost mutations again, as the history calls it.
const REWRITER: u32 = 99;

/// The log, and how far it is known here.
pub(crate) struct LogKeeper {
    pub(crate) log: Log<SessionId>,
    of: Start,
    is_asked_for: bool,
    /// Mutations are announced here: before that nothing is asked of the log.
    pub(super) is_listening: bool,
    due_planned: Option<Time>,
    rewrites: u32,
}

/// What the log asked the broker, until the replica has confirmed it too.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    ticket: u64,
    head: Position,
    wait: Wait,
    until: Time,
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) enum LogAnswer {
    Snapshot(Result<Snapshot, ()>),
    Confirmed(u64, Result<Position, ()>),
    Rewritten(Result<Position, ()>),
}

impl LogKeeper {
    /// A log of which nothing is known.
    pub(super) fn new(of: Start) -> Self {
        LogKeeper {
            log: Log::new(EVENTS_MAX),
            of,
            is_asked_for: false,
            is_listening: false,
            due_planned: None,
            rewrites: 0,
        }
    }

    /// Has done what the log needs, in worlds that have one.
    pub(super) fn pursue(&mut self, uplink: &mut Uplink, context: &mut Context) {
        if !self.is_listening && !self.listen(uplink, context) {
            return;
        }
        while let Some(need) = self.log.poll_need(context.now()) {
            context.step(Plan::LogNeed { of: self.of, need });
        }
        if let Some(due) = self.log.poll_timeout()
            && self.due_planned.is_none_or(|planned| due < planned)
        {
            self.due_planned = Some(due);
            context.schedule.at(due, Plan::LogDue(self.of));
        }
    }

    /// Whether mutations are announced here; asks for it, in worlds that have any.
    fn listen(&mut self, uplink: &mut Uplink, context: &Context) -> bool {
        let Some(spec) = context.channels.iter().find(|spec| spec.channel.is_log()) else { return false };
        if !std::mem::replace(&mut self.is_asked_for, true) {
            uplink.set_interest(&spec.channel, true);
        }
        self.is_listening
    }

    /// Something is due. Returns what is to be given to the log, if anything is.
    pub(super) fn handle(
        &mut self,
        plan: Plan,
        uplink: &mut Uplink,
        redis: &mut Redis,
        context: &mut Context,
    ) -> Option<LogAnswer> {
        match plan {
            Plan::LogDue(_) => {
                self.due_planned = None;
                self.log.handle_timeout(context.now());
            }
            Plan::LogNeed { need, .. } => self.ask(need, uplink, redis, context),
            Plan::LogWait { question, .. } => self.look(question, redis, context),
            Plan::LogDone { answer, .. } => return Some(answer),
            plan => unreachable!("{plan:?} is none of a log"),
        }
        None
    }

    fn ask(&mut self, need: Need, uplink: &mut Uplink, redis: &mut Redis, context: &mut Context) {
        let id = context.id(&LogName::default().channel());
        let slot = self.of.slot;
        let answer = match need {
            Need::Snapshot => LogAnswer::Snapshot(redis.snapshot(slot, id, context).map_err(drop)),
            Need::Confirm(ticket) => match redis.confirm(slot, id, context) {
                Ok(head) => {
                    let (wait, until) = (redis.begin_wait(slot), context.now().after(CONFIRM_TIMEOUT));
                    return self.look(Question { ticket, head, wait, until }, redis, context);
                }
                Err(_) => LogAnswer::Confirmed(ticket, Err(())),
            },
            Need::Write(rewrite) => {
                self.rewrites += 1;
                let number = self.rewrites * 1_000 + self.of.generation * 10 + slot as u32;
                let command = MutateCommand {
                    log: LogName::default(),
                    tags: rewrite.tags.to_vec(),
                    idempotency_key: Some(rewrite.key.clone()),
                    said: rewrite.key,
                    ack: Ack::Stored,
                };
                let publish = PublishId { author: REWRITER, number };
                let written = uplink.mutate(publish, &command, redis, context);
                LogAnswer::Rewritten(written.ok().and_then(|written| written.position).ok_or(()))
            }
        };
        context.step(Plan::LogDone { of: self.of, answer });
    }

    /// Looks whether the replica has confirmed where the log stands.
    fn look(&mut self, question: Question, redis: &mut Redis, context: &mut Context) {
        let (of, ticket) = (self.of, question.ticket);
        let confirmed = match redis.is_replicated(of.slot, question.wait, context) {
            Ok(true) => Ok(question.head),
            Ok(false) if context.now() < question.until => {
                return context.schedule.after(LOOK, Plan::LogWait { of, question });
            }
            Ok(false) | Err(_) => Err(()),
        };
        context.step(Plan::LogDone { of, answer: LogAnswer::Confirmed(ticket, confirmed) });
    }
}

impl LogAnswer {
    /// Gives it to the log that asked.
    pub(super) fn give(self, log: &mut Log<SessionId>, now: Time, tell: Tell<'_, SessionId>) {
        match self {
            LogAnswer::Snapshot(snapshot) => log.handle_snapshot(snapshot, now, tell),
            LogAnswer::Confirmed(ticket, head) => log.handle_confirmed(ticket, head, now, tell),
            LogAnswer::Rewritten(written) => log.handle_rewritten(written, now),
        }
    }
}

/// A publication on the log's channel is a mutation.
pub(super) fn take(
    log: &mut Log<SessionId>,
    epoch: Option<Epoch>,
    publication: &Publication,
    tell: Tell<'_, SessionId>,
) {
    let epoch = epoch.expect("a log has positions");
    let offset = publication.offset.expect("a log has positions");
    let tags = decode_tags(&publication.payload).expect("only mutations are written to a log").into();
    log.handle_event(epoch, Event { offset, tags, key: publication.id.clone() }, tell);
}
