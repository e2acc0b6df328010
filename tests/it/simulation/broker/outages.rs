//! What goes wrong with Redis as a whole, and with the way to it.

use std::sync::Arc;

use tidings::hub::Time;

use super::server::{Server, Write};
use super::{Announcement, NEVER, Redis};
use crate::simulation::context::{CALM, Context, INSTANCES, Plan};
use crate::simulation::faults::Fault;

/// Until when what is wrong is wrong.
#[derive(Default)]
pub(super) struct Outages {
    stalled: Time,
    down: Time,
    out_of_memory: Time,
    partitioned: [Time; INSTANCES],
    /// Instances that still talk to the deposed primary.
    left_behind: [bool; INSTANCES],
}

/// Why the replica becomes the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promotion {
    /// The primary died while its replica lagged.
    Death,
    /// Somebody asked for it: the replica has everything first.
    Planned,
    /// The primary is cut off from its replica, but not from all instances.
    Split,
}

impl Outages {
    /// Until when Redis stands still, if it does.
    pub(super) fn stalled(&self, now: Time) -> Option<Time> {
        (self.stalled > now).then_some(self.stalled)
    }

    /// Whether Redis refuses connections.
    pub(super) fn is_down(&self, now: Time) -> bool {
        self.down > now
    }

    /// Whether Redis has no memory left for what is written.
    pub(super) fn is_out_of_memory(&self, now: Time) -> bool {
        self.out_of_memory > now
    }

    /// Until when the instance's packets get lost, if they do.
    pub(super) fn partitioned(&self, slot: usize, now: Time) -> Option<Time> {
        Some(self.partitioned[slot]).filter(|until| *until > now)
    }

    pub(super) fn is_partitioned(&self, slot: usize, now: Time) -> bool {
        self.partitioned(slot, now).is_some()
    }

    pub(super) fn is_left_behind(&self, slot: usize) -> bool {
        self.left_behind[slot]
    }
}

/// A moment so many milliseconds from now, by chance, but not in the calm.
fn until(from_ms: u64, to_ms: u64, context: &mut Context) -> Time {
    context.now().after(context.random.between(from_ms, to_ms)).min(CALM)
}

impl Redis {
    /// Opens a line for an instance, where Redis can be reached.
    pub(crate) fn connect(&mut self, slot: usize, now: Time) -> Option<u64> {
        let is_reachable = self.held_up(slot, now).is_none() && !self.outages.is_down(now);
        is_reachable.then(|| self.lines[slot].open(now))
    }

    /// The instance has given its line up, or is gone.
    pub(crate) fn disconnect(&mut self, slot: usize) {
        self.lines[slot].close();
    }

    /// Redis closes a line; the instance hears of it soon.
    fn close(&mut self, slot: usize, context: &mut Context) {
        let line = &mut self.lines[slot];
        if line.is_open {
            let serial = line.serial;
            line.close();
            context.soon(0, 200, Plan::LineClosed { slot, serial });
        }
    }

    /// Something goes wrong between Redis and one instance. `own` is what its beacons call it, once it has heard one: the
    /// first number that comes cannot tell of those before it.
    pub(crate) fn fail_line(&mut self, slot: usize, own: Option<Arc<str>>, context: &mut Context) {
        match context.random.below(10) {
            0..=2 if self.lines[slot].is_open => {
                context.count(Fault::LinkLost, None);
                self.close(slot, context);
            }
            3..=5 => self.begin_lag(slot, context),
            6..=7 if own.is_some_and(|own| self.lines[slot].begin_run(own)) => {
                context.count(Fault::RunLost, None);
            }
            8..=9 => {
                context.count(Fault::Partition, None);
                self.outages.partitioned[slot] = until(100, 5_000, context);
            }
            _ => {}
        }
    }

    /// The library of an instance drops announcements for a while.
    fn begin_lag(&mut self, slot: usize, context: &mut Context) {
        if self.lines[slot].begin_lag() {
            let serial = self.lines[slot].serial;
            context.soon(20, 400, Plan::LagTold { slot, serial });
        }
    }

    /// The libraries of all instances do.
    pub(crate) fn lag_all(&mut self, context: &mut Context) {
        (0..INSTANCES).for_each(|slot| self.begin_lag(slot, context));
    }

    /// The library says that it dropped something.
    pub(crate) fn tell_lag(&mut self, slot: usize, serial: u64, context: &mut Context) {
        if self.lines[slot].serial == serial && self.lines[slot].end_lag() > 0 {
            context.count(Fault::Lag, None);
            self.send(slot, Announcement::Lag, context);
        }
    }

    /// Something goes wrong with Redis itself.
    pub(crate) fn fail(&mut self, context: &mut Context) {
        match context.random.below(9) {
            0 => self.stall(context),
            1 => self.outages.out_of_memory = until(200, 2_000, context),
            2 => self.restart_empty(context),
            3 => self.evict(context),
            4 => self.flush(context),
            5 => self.promote(Promotion::Planned, context),
            6 => self.change_id(context),
            7 => self.fall_behind(Promotion::Death, context),
            _ => self.fall_behind(Promotion::Split, context),
        }
    }

    /// This goes wrong with Redis itself.
    pub(crate) fn fail_as(&mut self, fault: Fault, context: &mut Context) {
        match fault {
            Fault::RedisStall => self.stall(context),
            Fault::RestartEmpty => self.restart_empty(context),
            Fault::Evicted | Fault::EventsEvicted => self.evict(context),
            Fault::Flushed => self.flush(context),
            Fault::IdChanged => self.change_id(context),
            Fault::SplitBrain => self.fall_behind(Promotion::Split, context),
            other => unreachable!("{other:?} is planned otherwise"),
        }
    }

    /// Redis stands still for a while.
    fn stall(&mut self, context: &mut Context) {
        context.count(Fault::RedisStall, None);
        self.outages.stalled = until(100, 4_000, context);
    }

    /// Up to then only this instance reaches Redis.
    pub(crate) fn isolate_all_but(&mut self, slot: usize, until: Time) {
        for other in (0..INSTANCES).filter(|other| *other != slot) {
            self.outages.partitioned[other] = self.outages.partitioned[other].max(until);
        }
    }

    /// Redis begins again with nothing.
    pub(crate) fn restart_empty(&mut self, context: &mut Context) {
        context.count(Fault::RestartEmpty, None);
        self.ids += 1;
        self.primary = Server::empty(self.ids);
        self.refuse_all(context);
        self.resynchronize();
    }

    /// One stream goes, for lack of memory.
    fn evict(&mut self, context: &mut Context) {
        let channels = self.primary.channels();
        if channels.is_empty() {
            return;
        }
        let channel = context.random.pick(&channels);
        if context.spec(channel).channel.is_log() && context.random.chance(500) {
            context.count(Fault::EventsEvicted, None);
            self.primary.apply(&Write::ForgetPublications(channel), &context.channels);
            return self.push(context.now(), vec![Write::ForgetPublications(channel)]);
        }
        context.count(Fault::Evicted, None);
        self.primary.apply(&Write::Forget(channel), &context.channels);
        self.push(context.now(), vec![Write::Forget(channel)]);
        self.vanished.insert(channel);
    }

    /// Somebody said FLUSHALL.
    pub(crate) fn flush(&mut self, context: &mut Context) {
        context.count(Fault::Flushed, None);
        let channels = self.primary.channels();
        self.vanished.extend(&channels);
        let all = channels.into_iter().map(Write::Forget).chain([Write::ForgetTheRest]);
        let script: Vec<Write> = all.collect();
        script.iter().for_each(|write| self.primary.apply(write, &context.channels));
        self.push(context.now(), script);
    }

    /// The replication id changes, and nothing else: the first replica came, or the last one left.
    fn change_id(&mut self, context: &mut Context) {
        context.count(Fault::IdChanged, None);
        self.ids += 1;
        self.primary.replication_id = self.ids;
    }

    /// The replica hears nothing more; some time later it becomes the primary.
    pub(crate) fn fall_behind(&mut self, promotion: Promotion, context: &mut Context) {
        self.cut_replica(context);
        context.soon(50, 1_500, Plan::Promote(promotion));
    }

    /// The replica hears nothing more.
    pub(crate) fn cut_replica(&mut self, context: &Context) {
        self.catch_up(context.now(), context);
        self.backlog.iter_mut().for_each(|(due, _)| *due = NEVER);
        self.replica_is_cut = true;
    }

    /// The replica hears of what is due.
    pub(super) fn catch_up(&mut self, until: Time, context: &Context) {
        while self.backlog.front().is_some_and(|(due, _)| *due <= until) {
            let (_, script) = self.backlog.pop_front().expect("there is a first one");
            script.iter().for_each(|write| self.replica.apply(write, &context.channels));
            self.replicated += 1;
        }
    }

    /// The replica becomes the primary.
    pub(crate) fn promote(&mut self, promotion: Promotion, context: &mut Context) {
        let is_planned = promotion == Promotion::Planned;
        self.catch_up(if is_planned { NEVER } else { context.now() }, context);
        let lost = self.backlog.iter().flat_map(|(_, script)| script);
        let loses = lost.filter(|write| matches!(write, Write::Append { .. })).count() > 0;
        context.count(if loses { Fault::FailoverLostTail } else { Fault::FailoverClean }, None);
        self.ids += 1;
        let mut promoted = self.replica.clone();
        promoted.replication_id = self.ids;
        let before = std::mem::replace(&mut self.primary, promoted);
        self.resynchronize();
        if promotion == Promotion::Split && !context.is_calm() {
            self.split(before, context);
        } else {
            self.refuse_all(context);
        }
    }

    /// Some instances go on with the primary that was deposed.
    fn split(&mut self, deposed: Server, context: &mut Context) {
        if self.deposed.is_some() {
            return self.refuse_all(context);
        }
        context.count(Fault::SplitBrain, None);
        self.deposed = Some(deposed);
        let left_behind = 1 + context.random.below((1 << INSTANCES) - 2);
        for slot in 0..INSTANCES {
            self.outages.left_behind[slot] = left_behind & (1 << slot) != 0;
            if !self.outages.left_behind[slot] {
                self.close(slot, context);
            }
        }
        let end = until(300, 3_000, context);
        context.schedule.at(end, Plan::SplitEnds);
    }

    /// The deposed primary is found and ended, with all that it took.
    pub(crate) fn end_split(&mut self, context: &mut Context) {
        self.deposed = None;
        for slot in 0..INSTANCES {
            if std::mem::take(&mut self.outages.left_behind[slot]) {
                self.close(slot, context);
            }
        }
    }

    /// Redis is away for a while, and all lines with it.
    fn refuse_all(&mut self, context: &mut Context) {
        self.outages.down = until(50, 800, context);
        self.vanished.clear();
        (0..INSTANCES).for_each(|slot| self.close(slot, context));
    }

    /// The replica begins again with all that the primary has.
    fn resynchronize(&mut self) {
        self.replica = self.primary.clone();
        self.backlog.clear();
        (self.replica_is_cut, self.replicated) = (false, self.scripts);
    }
}
