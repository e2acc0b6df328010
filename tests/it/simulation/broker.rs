//! The model of a Redis that instances share: a primary, a replica that lags behind, and a line to each instance.
//!
//! A publish is one atomic step: the fence, the key, the append, the announcement to every line that listens. The replica
//! hears of each step later, and as a whole. Whoever writes or reads compares the server's replication id with the one
//! that the channel's epoch is bound to: under another id the channel has another epoch there, which the first write stores.

mod line;
mod logs;
mod outages;
mod server;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tidings::ablation::{Safeguard, ablated};
use tidings::broker::{BrokerError, Interest};
use tidings::hub::{Page, PageLimit, Published, Stream, Time};
use tidings_protocol::{Ack, Beacon, Epoch, Offset, Payload, Position, Publication};

use super::bugs::Bug;
use super::context::{Context, INSTANCES, Plan};
use super::faults::Fault;
use crate::history::{ChannelId, Event, PublishId};
pub(crate) use line::Announcement;
use line::Line;
pub(crate) use logs::Wait;
use outages::Outages;
pub(crate) use outages::Promotion;
use server::{Coming, Remembered, Server, Write};

/// When a replica that is cut off hears of something.
const NEVER: Time = Time(std::time::Duration::MAX);

/// A publish on its way to Redis.
#[derive(Clone, Debug)]
pub(crate) struct Append {
    pub(crate) publish: PublishId,
    pub(crate) channel: ChannelId,
    pub(crate) payload: Payload,
    /// What makes a retry the same publication.
    pub(crate) key: Option<Arc<str>>,
    /// What the key stands for.
    pub(crate) said: Bytes,
}

/// Redis, and the lines to it, by instance.
pub(crate) struct Redis {
    primary: Server,
    replica: Server,
    /// What the replica has not heard yet, and when it will.
    backlog: VecDeque<(Time, Vec<Write>)>,
    /// The replica hears nothing more, until it becomes the primary.
    replica_is_cut: bool,
    /// A primary that was deposed and does not know it.
    deposed: Option<Server>,
    lines: [Line; INSTANCES],
    outages: Outages,
    ids: u64,
    seeds: u64,
    /// Epochs that continue another one, and were told of.
    forks: BTreeSet<(ChannelId, String)>,
    /// Scripts that changed something, and how many of them the replica heard of.
    scripts: u64,
    replicated: u64,
    /// Channels that lost their stream while nobody's line was lost, and got nothing since.
    vanished: BTreeSet<ChannelId>,
}

/// Which of the two servers that take writes in a split brain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Primary,
    Deposed,
}

/// What a script may compare.
#[derive(Clone, Copy, PartialEq)]
enum Script {
    Write,
    Read,
}

impl Redis {
    /// Holds nothing, and nobody is connected to it.
    pub(crate) fn new() -> Self {
        Redis {
            primary: Server::empty(1),
            replica: Server::empty(1),
            backlog: VecDeque::new(),
            replica_is_cut: false,
            deposed: None,
            lines: Default::default(),
            outages: Outages::default(),
            ids: 1,
            seeds: 0,
            forks: BTreeSet::new(),
            scripts: 0,
            replicated: 0,
            vanished: BTreeSet::new(),
        }
    }

    /// Stores and announces for an instance; a repeated publish gets the first answer again.
    pub(crate) fn publish(
        &mut self,
        slot: usize,
        append: Append,
        context: &mut Context,
    ) -> Result<Published, BrokerError> {
        if let Some(until) = self.outages.stalled(context.now()) {
            // It lies in Redis' socket, and is done after all.
            let id = self.server(self.side(slot)).replication_id;
            context.schedule.at(until, Plan::LatePublish { slot, append, replication_id: id });
            return Err(BrokerError::OutcomeUnknown);
        }
        if self.outages.is_partitioned(slot, context.now()) {
            let unknown = context.random.chance(500);
            return Err(if unknown { BrokerError::OutcomeUnknown } else { BrokerError::Unavailable });
        }
        let refused = context.inject(Fault::PublishRefused, context.profile.refusal);
        let is_full = self.outages.is_out_of_memory(context.now());
        if is_full {
            context.count(Fault::OutOfMemory, None);
        }
        if refused || is_full || self.outages.is_down(context.now()) {
            if context.has_bug(Bug::RefusedButStored) {
                self.write(self.side(slot), append, context).ok();
            }
            return Err(BrokerError::Unavailable);
        }
        let position = self.write(self.side(slot), append, context)?;
        match context.inject(Fault::AnswerTimedOut, context.profile.late) {
            true => Err(BrokerError::OutcomeUnknown),
            false => Ok(Published { position, ack: Ack::Stored, duplicate: false }),
        }
    }

    /// What lay in the socket while Redis stood still; nothing, if that Redis is gone.
    pub(crate) fn publish_late(
        &mut self,
        slot: usize,
        append: Append,
        replication_id: u64,
        context: &mut Context,
    ) {
        let side = self.side(slot);
        if self.server(side).replication_id == replication_id {
            // Whoever sent it has given up waiting for the answer.
            self.write(side, append, context).ok();
        }
    }

    fn write(
        &mut self,
        side: Side,
        append: Append,
        context: &mut Context,
    ) -> Result<Option<Position>, BrokerError> {
        let Append { publish, channel, payload, key, said } = append;
        let mut script = self.fence(side, channel, Script::Write, context);
        let known = key.as_ref().and_then(|key| self.server(side).remembered(channel, key)).cloned();
        if let Some(first) = known.filter(|_| !context.has_bug(Bug::DuplicateOnRetry)) {
            self.replicate(side, script, context);
            return if first.said == said {
                Ok(first.position)
            } else {
                Err(BrokerError::IdempotencyMismatch)
            };
        }
        let mut publication = Publication { offset: None, time: 0, id: None, key: None, payload };
        let head = self.server(side).standing(channel);
        if let Some(head) = &head {
            if context.has_bug(Bug::AckBeforeStore) && context.random.chance(20) {
                self.replicate(side, script, context);
                return Ok(Some(head.epoch.at(head.offset.next())));
            }
            let (at, stored) = (context.now(), publication.clone());
            script.extend(self.apply(side, Write::Append { channel, publication: stored, at }, context));
            publication.offset = Some(head.offset.next());
            if context.has_bug(Bug::OffsetReused) && context.random.chance(20) {
                publication.offset = publication.offset.map(Offset::previous);
            }
            self.vanished.remove(&channel);
        }
        let epoch = head.map(|head| head.epoch);
        let position = epoch.as_ref().zip(publication.offset).map(|(epoch, offset)| epoch.at(offset));
        if let Some(key) = key {
            let first = Remembered { said, position: position.clone() };
            script.extend(self.apply(side, Write::Remember { channel, key, first }, context));
        }
        self.replicate(side, script, context);
        context.record(Event::Stored { publish, channel, position: position.clone() });
        if side == Side::Deposed {
            context.record(Event::Doomed { publish, channel });
        }
        self.announce(side, channel, epoch, publication.into(), context);
        Ok(position)
    }

    /// Compares the replication id, and stores a new epoch where it is another one, or where there is no stream.
    fn fence(&mut self, side: Side, channel: ChannelId, script: Script, context: &mut Context) -> Vec<Write> {
        match self.coming(side, channel, script, context) {
            Some(coming) => self.apply(side, Write::Begin { channel, coming: Box::new(coming) }, context),
            None => Vec::new(),
        }
    }

    /// What a script finds that is not stored yet; `None` where all is, and for a volatile channel.
    fn coming(
        &mut self,
        side: Side,
        channel: ChannelId,
        script: Script,
        context: &mut Context,
    ) -> Option<Coming> {
        if context.spec(channel).is_volatile() {
            return None;
        }
        if self.server(side).standing(channel).is_some() {
            let off = if script == Script::Write { Safeguard::Fence } else { Safeguard::ReadFence };
            let coming = self.server(side).forked(channel).filter(|_| !ablated(off))?;
            let position = coming.kept.stream.head();
            if self.forks.insert((channel, position.epoch.to_string()))
                && let Some(from) = coming.from.clone()
            {
                context.record(Event::Forked { channel, from, position });
            }
            return Some(coming);
        }
        self.seeds += 1;
        let seed = self.seeds;
        // A read has a seed stored where there is none; if that is refused, its answer is good for nothing later.
        if script == Script::Read
            && !self.server(side).has_seed()
            && !self.outages.is_out_of_memory(context.now())
        {
            let bound_to = self.server(side).replication_id;
            let script = self.apply(side, Write::Seed { seed, bound_to }, context);
            self.replicate(side, script, context);
        }
        let is_log = context.spec(channel).channel.is_log();
        let mut coming = self.server(side).unborn(channel, is_log, seed);
        if ablated(Safeguard::EpochOnRestart) || context.has_bug(Bug::EpochForgotten) {
            coming.kept.stream = Stream::new(Epoch::parse("e0").expect("a letter and a digit are an epoch"));
        }
        Some(coming)
    }

    fn apply(&mut self, side: Side, write: Write, context: &Context) -> Vec<Write> {
        self.server(side).apply(&write, &context.channels);
        vec![write]
    }

    /// The replica hears of a script later; of one that a deposed primary ran never.
    fn replicate(&mut self, side: Side, script: Vec<Write>, context: &mut Context) {
        if side == Side::Primary && !script.is_empty() {
            let due = match self.replica_is_cut {
                true => NEVER,
                false => context.now().after(context.random.between(0, 100)),
            };
            self.push(due, script);
            self.catch_up(context.now(), context);
        }
    }

    fn push(&mut self, due: Time, script: Vec<Write>) {
        self.scripts += 1;
        self.backlog.push_back((due, script));
    }

    fn announce(
        &mut self,
        side: Side,
        channel: ChannelId,
        epoch: Option<Epoch>,
        publication: Arc<Publication>,
        context: &mut Context,
    ) {
        for slot in 0..INSTANCES {
            if self.side(slot) != side || !self.lines[slot].listens_to.contains(&channel) {
                continue;
            }
            let (epoch, publication) = (epoch.clone(), publication.clone());
            let announcement = Announcement::Publication { channel, epoch, publication };
            // Without positions nobody can see a hole: only what a beacon shares is lost there.
            let can_be_lost = !context.spec(channel).is_volatile();
            let loss = context.loss(channel);
            if !can_be_lost || !context.inject(Fault::LossSilent, loss) {
                self.send_astray(slot, announcement, context);
            }
        }
    }

    /// Sends, perhaps twice, and perhaps late.
    fn send_astray(&mut self, slot: usize, announcement: Announcement, context: &mut Context) {
        let strays = context.profile.strays;
        if strays > 0 && context.inject(Fault::Delayed, strays) {
            let line = &mut self.lines[slot];
            line.last_arrival = line.last_arrival.max(context.now().after(context.random.between(50, 500)));
        }
        if strays > 0 && context.inject(Fault::Duplicated, strays) {
            self.send(slot, announcement.clone(), context);
        }
        self.send(slot, announcement, context);
    }

    fn send(&mut self, slot: usize, announcement: Announcement, context: &mut Context) {
        let line = &mut self.lines[slot];
        if !line.is_open || line.drops(&announcement) {
            return;
        }
        line.under_way.push_back(announcement);
        line.last_arrival = line.last_arrival.max(context.now().after(context.random.between(0, 15)));
        context.schedule.at(line.last_arrival, Plan::Announcement { slot, serial: line.serial });
    }

    /// What reaches the instance now; nothing, where it was sent on a line that is gone.
    pub(crate) fn next_announcement(
        &mut self,
        slot: usize,
        serial: u64,
        context: &mut Context,
    ) -> Option<Announcement> {
        if let Some(until) = self.held_up(slot, context.now()) {
            context.schedule.at(until, Plan::Announcement { slot, serial });
            return None;
        }
        let line = &mut self.lines[slot];
        if line.serial == serial { line.under_way.pop_front() } else { None }
    }

    /// An instance says that it lives. False where it does not hear that this was said.
    pub(crate) fn beacon(&mut self, slot: usize, beacon: Arc<Beacon>, context: &mut Context) -> bool {
        let now = context.now();
        if let Some(until) = self.outages.stalled(now) {
            context.schedule.at(until, Plan::LateBeacon { slot, beacon });
            return false;
        }
        if self.outages.is_partitioned(slot, now) || self.outages.is_down(now) {
            return false;
        }
        for other in (0..INSTANCES).filter(|other| self.side(*other) == self.side(slot)).collect::<Vec<_>>() {
            self.send(other, Announcement::Beacon(beacon.clone()), context);
        }
        true
    }

    /// Asks on a line for a channel, or for no more of it.
    pub(crate) fn ask(&mut self, slot: usize, serial: u64, interest: Interest, context: &mut Context) {
        let line = &mut self.lines[slot];
        let pause = if context.random.chance(250) { (50, 400) } else { (0, 12) };
        line.commands.push_back(interest);
        line.last_command =
            line.last_command.max(context.now().after(context.random.between(pause.0, pause.1)));
        context.schedule.at(line.last_command, Plan::LineCommand { slot, serial });
    }

    /// What was asked for reaches Redis, which confirms it.
    pub(crate) fn handle_command(&mut self, slot: usize, serial: u64, context: &mut Context) {
        if let Some(until) = self.held_up(slot, context.now()) {
            return context.schedule.at(until, Plan::LineCommand { slot, serial });
        }
        let line = &mut self.lines[slot];
        let command = if line.serial == serial { line.commands.pop_front() } else { None };
        match command {
            Some(Interest::Listen(channel)) => {
                let channel = context.id(&channel);
                line.listens_to.insert(channel);
                self.send(slot, Announcement::Listening(channel), context);
            }
            Some(Interest::Unlisten(channel)) => {
                let channel = context.id(&channel);
                line.listens_to.remove(&channel);
                self.send(slot, Announcement::Unlistened(channel), context);
            }
            None => {}
        }
    }

    /// What the channel holds after `since`; `None` for a volatile channel.
    pub(crate) fn read(
        &mut self,
        slot: usize,
        channel: ChannelId,
        since: Option<&Position>,
        limit: PageLimit,
        context: &mut Context,
    ) -> Result<Option<Page>, BrokerError> {
        let now = context.now();
        let is_away = self.held_up(slot, now).is_some() || self.outages.is_down(now);
        if context.inject(Fault::ReadFailed, context.profile.refusal) || is_away {
            return Err(BrokerError::Unavailable);
        }
        let side = self.side(slot);
        let mut coming = self.coming(side, channel, Script::Read, context);
        let stream = match &mut coming {
            Some(coming) => Some(&mut coming.kept.stream),
            None => self.server(side).stream(channel),
        };
        let Some(stream) = stream else { return Ok(None) };
        stream.expire(now);
        Ok(Some(stream.read(since, limit)))
    }

    /// The channels that have a stream, with their heads.
    pub(crate) fn channels(&self) -> impl Iterator<Item = (ChannelId, Position)> {
        let heads = self.primary.channels().into_iter();
        heads.filter_map(|channel| Some((channel, self.primary.standing(channel)?)))
    }

    /// What is announced to an instance.
    pub(crate) fn announced_to(&self, slot: usize) -> impl Iterator<Item = ChannelId> {
        self.lines[slot].listens_to.iter().copied()
    }

    /// Where the channel stands; `None` for a volatile one, and for one that lost its stream and got nothing since.
    pub(crate) fn head(&self, channel: ChannelId) -> Option<Position> {
        let known = !self.vanished.contains(&channel);
        let forked = || self.primary.forked(channel).map(|coming| coming.kept.stream.head());
        self.primary.standing(channel).map(|head| forked().unwrap_or(head)).filter(|_| known)
    }

    /// Until when nothing passes between Redis and the instance, where that is so.
    fn held_up(&self, slot: usize, now: Time) -> Option<Time> {
        self.outages.stalled(now).max(self.outages.partitioned(slot, now))
    }

    fn side(&self, slot: usize) -> Side {
        if self.deposed.is_some() && self.outages.is_left_behind(slot) {
            Side::Deposed
        } else {
            Side::Primary
        }
    }

    fn server(&mut self, side: Side) -> &mut Server {
        match (side, &mut self.deposed) {
            (Side::Deposed, Some(deposed)) => deposed,
            _ => &mut self.primary,
        }
    }
}
