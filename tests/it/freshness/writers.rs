//! Those who change the database and publish what that touched: commit first, publish until it is acknowledged; what somebody
//! who died left unpublished, an outbox publishes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidings::hub::Time;
use tidings_protocol::{Ack, LogName, MutateCommand, Position};

use super::closing::Closing;
use super::origin::Origin;
use super::values::Change;
use super::world::{CachePlan, Lab};
use crate::history::{ClientId, PublishId};
use crate::simulation::broker::Wait;
use crate::simulation::context::{END, Plan, Start};
use crate::simulation::faults::Fault;
use crate::simulation::instance::CONFIRM_TIMEOUT;

/// Who mutates, as the history calls it.
pub(crate) const AUTHOR: u32 = 50;

/// Between two looks at whether the replica has confirmed.
const LOOK: Duration = Duration::from_millis(10);

/// Of a thousand writers so many die before they publish.
const CRASHES: usize = 50;

/// Of a thousand mutations so many are published late.
const OVERTAKEN: usize = 80;

/// Of a thousand mutations so many want no replica.
const STORED: usize = 500;

/// A mutation that is not acknowledged yet.
#[derive(Clone, Debug)]
struct Job {
    change: Change,
    /// Where the log stood before the change began, if anybody knew.
    before: Option<Position>,
    ack: Ack,
    attempt: u32,
    /// The client that waits for it.
    client: Option<ClientId>,
}

/// A try to publish one, on its way.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    number: u64,
    attempt: u32,
    to: Start,
}

/// What an instance has written, until the replica has it.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    attempt: Attempt,
    position: Position,
    wait: Wait,
    until: Time,
}

/// The end of a client's own mutation.
#[derive(Clone, Debug)]
pub(crate) struct Mutated {
    pub(crate) client: ClientId,
    pub(crate) number: u64,
    pub(crate) change: Change,
    pub(crate) reflects: u64,
    /// The headers `Tidings-Basis` and `Tidings-Mutation`.
    pub(crate) before: Option<Position>,
    pub(crate) at: Position,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Writers {
    jobs: BTreeMap<u64, Job>,
    last_commit: Time,
}

impl Writers {
    /// Somebody changes something; and the next one is planned.
    pub(crate) fn turn(&mut self, origin: &mut Origin, lab: &mut Lab) {
        self.write(None, origin, lab);
        if lab.now().after(Duration::from_secs(1)) < END {
            lab.soon(20, 250, CachePlan::Write);
        }
    }

    /// Somebody changes something, for a client or by himself.
    pub(crate) fn write(&mut self, client: Option<ClientId>, origin: &mut Origin, lab: &mut Lab) {
        let before = lab.known_position();
        let context = &mut lab.cluster.context;
        let change = Change::any(&mut context.random);
        let ack = if context.random.chance(STORED) { Ack::Stored } else { Ack::Replicated };
        let number = lab.judge.mutation(&change);
        self.jobs.insert(number, Job { change, before, ack, attempt: 0, client });
        if !lab.keeps(Closing::CommitFirst) {
            let pause = lab.cluster.context.random.between(5, 120);
            self.last_commit = self.last_commit.max(lab.now().after(pause));
            lab.cluster.context.schedule.at(self.last_commit, Plan::OfCaches(CachePlan::Commit));
            return self.publish(number, lab);
        }
        origin.commit(lab);
        if !lab.cluster.context.inject(Fault::WriterCrash, CRASHES) {
            let (from, to) =
                if lab.cluster.context.inject(Fault::Overtaken, OVERTAKEN) { (100, 600) } else { (0, 5) };
            lab.soon(from, to, CachePlan::Publish(number));
        } else if lab.keeps(Closing::Outbox) {
            lab.soon(500, 1_500, CachePlan::Publish(number));
        } else {
            // Whoever asked for it saw the commit.
            let now = lab.now();
            lab.judge.acknowledged(number, now);
        }
    }

    /// Tries to publish, with any instance.
    pub(crate) fn publish(&mut self, number: u64, lab: &mut Lab) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.attempt += 1;
        let context = &mut lab.cluster.context;
        let attempt = Attempt { number, attempt: job.attempt, to: context.some_instance() };
        let late = context.inject(Fault::RequestLate, context.profile.late);
        let (from, to) = if late { (300, 900) } else { (1, 10) };
        lab.soon(from, to, CachePlan::Arrives(attempt));
        lab.soon(1_300, 1_500, CachePlan::TimedOut(number, job.attempt));
    }

    /// It reaches the instance.
    pub(crate) fn arrives(&mut self, attempt: Attempt, lab: &mut Lab) {
        let Some(job) = self.jobs.get(&attempt.number) else { return };
        let name: Arc<str> = format!("m{}", attempt.number).into();
        let command = MutateCommand {
            log: LogName::default(),
            tags: job.change.tags.clone(),
            idempotency_key: Some(name.clone()),
            said: name,
            ack: job.ack,
        };
        let publish = PublishId { author: AUTHOR, number: attempt.number as u32 };
        let (is_stored_enough, to) = (job.ack == Ack::Stored || !lab.keeps(Closing::Wait), attempt.to);
        let mut written = None;
        lab.cluster.with_start(to, |instance, redis, context| {
            let answer = instance.uplink.mutate(publish, &command, redis, context);
            written = Some(answer.map(|published| {
                let position = published.position.expect("a log has positions");
                let until = context.now().after(CONFIRM_TIMEOUT);
                Pending { attempt: attempt.clone(), position, wait: redis.begin_wait(to.slot), until }
            }));
        });
        match written {
            Some(Ok(pending)) if is_stored_enough => self.confirmed(pending, lab),
            Some(Ok(pending)) => self.look(pending, lab),
            Some(Err(_)) => lab.soon(1, 10, CachePlan::Refused(attempt)),
            None => {}
        }
    }

    /// Looks whether the replica has it.
    pub(crate) fn look(&mut self, pending: Pending, lab: &mut Lab) {
        let to = pending.attempt.to;
        let mut is_replicated = None;
        lab.cluster.with_start(to, |_, redis, context| {
            is_replicated = Some(redis.is_replicated(to.slot, pending.wait, context));
        });
        match is_replicated {
            Some(Ok(true)) => self.confirmed(pending, lab),
            Some(Ok(false)) if lab.now() < pending.until => {
                lab.cluster.context.schedule.after(LOOK, Plan::OfCaches(CachePlan::Look(pending)));
            }
            Some(_) => lab.soon(1, 10, CachePlan::Refused(pending.attempt)),
            None => {}
        }
    }

    /// The instance acknowledges it; the answer may be lost.
    fn confirmed(&mut self, pending: Pending, lab: &mut Lab) {
        let Pending { attempt, position, .. } = pending;
        let Some(job) = self.jobs.get(&attempt.number) else { return };
        let tags = job.change.tags.clone().into();
        lab.cluster.with_start(attempt.to, |instance, _, _| {
            instance.keeper.log.handle_acknowledged(&position, tags);
        });
        let context = &mut lab.cluster.context;
        if !context.inject(Fault::AnswerLost, context.profile.late) {
            lab.soon(1, 10, CachePlan::Acknowledged(attempt, position));
        }
    }

    /// The writer hears that it is acknowledged.
    pub(crate) fn acknowledged(&mut self, attempt: &Attempt, at: Position, lab: &mut Lab) {
        let Some(job) = self.jobs.remove(&attempt.number) else { return };
        let now = lab.now().max(self.last_commit);
        match job.ack {
            Ack::Stored if lab.keeps(Closing::Wait) => lab.judge.stored(attempt.number, attempt.to, now),
            _ => lab.judge.acknowledged(attempt.number, now),
        }
        if let Some(client) = job.client {
            // The row as the transaction returned it: what was committed later is not in it.
            let (number, reflects) = (attempt.number, attempt.number);
            let Job { change, before, .. } = job;
            lab.soon(5, 50, CachePlan::Mutated(Mutated { client, number, change, reflects, before, at }));
        }
    }

    /// It was refused, or may be: tried again.
    pub(crate) fn refused(&mut self, attempt: &Attempt, lab: &mut Lab) {
        let is_last = |job: &Job| job.attempt == attempt.attempt;
        if self.jobs.get(&attempt.number).is_some_and(is_last) {
            lab.soon(50, 150, CachePlan::Publish(attempt.number));
        }
    }

    /// No answer came: tried again with the same key.
    pub(crate) fn timed_out(&mut self, number: u64, attempt: u32, lab: &mut Lab) {
        if self.jobs.get(&number).is_some_and(|job| job.attempt == attempt) {
            self.publish(number, lab);
        }
    }
}
