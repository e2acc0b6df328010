//! An instance's side of Redis: the real intake and peers, fed by a line that comes and goes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings::broker::{
    BrokerError, BrokerEvent, Heard, Intake, IntakeLimits, IntakeRead, Interest, Peers, Wanted,
};
use tidings::hub::{Page, PageLimit, Published, Time};
use tidings_protocol::{Ack, Beacon, Channel, InstanceInfo, MutateCommand, Position, PublishCommand};

use crate::history::PublishId;
use crate::simulation::broker::{Announcement, Append, Redis};
use crate::simulation::context::{Context, Plan, Start};
use crate::simulation::faults::Fault;

/// A line on which the instance's own beacon did not come for this long is dead.
const DEAD_AFTER: Duration = Duration::from_millis(2_500);

/// How long a command waits for a line.
const COMMAND_TIMEOUT_MS: u64 = 1_500;

/// How far an instance reads at once.
const PAGE: PageLimit = PageLimit { publications: 20, bytes: 4_000 };

/// Everything between an instance and Redis.
pub(crate) struct Uplink {
    pub(crate) intake: Intake,
    pub(crate) wanted: Wanted,
    is_take_planned: bool,
    of: Start,
    name: Arc<str>,
    peers: Peers,
    /// The line's number, while there is one.
    line: Option<u64>,
    /// The number of the last one there was; 0 before the first.
    last_line: u64,
    /// When the line was opened, or the own beacon came by it.
    heard: Time,
    reconnect_at: Time,
    beacons: u64,
    /// What this instance published since the last beacon that was sent.
    heads: Vec<(Channel, Option<Position>)>,
}

impl Uplink {
    /// An instance that has just started, without a line.
    pub(crate) fn new(of: Start, now: Time) -> Self {
        let limits = IntakeLimits {
            linger: Duration::from_secs(1),
            lingering_max: 3,
            tail_bytes_max: 40_000,
            reads_max: 3,
            refresh: Duration::from_secs(23),
        };
        Uplink {
            intake: Intake::new(limits),
            wanted: Wanted::default(),
            is_take_planned: false,
            of,
            name: format!("i{}-{}", of.slot, of.generation).into(),
            peers: Peers::default(),
            line: None,
            last_line: 0,
            heard: now,
            reconnect_at: now,
            beacons: 0,
            heads: Vec::new(),
        }
    }

    /// What its beacons call it, once it has heard one.
    pub(crate) fn name_heard(&self) -> Option<Arc<str>> {
        self.peers.hears(&self.name).then(|| self.name.clone())
    }

    /// Something is due that was planned for this instance's side, or for its line.
    pub(crate) fn handle(&mut self, plan: Plan, redis: &mut Redis, context: &mut Context) {
        match plan {
            Plan::Announcement { slot, serial } => {
                let announcement = redis.next_announcement(slot, serial, context);
                announcement.into_iter().for_each(|came| self.handle_announcement(came, context));
            }
            Plan::LineCommand { slot, serial } => redis.handle_command(slot, serial, context),
            Plan::LineClosed { serial, .. } => self.handle_closed(serial, context),
            // Of an earlier line nothing counts any more.
            Plan::Unheeded { line, channel, .. } if line == self.last_line => {
                self.intake.handle_not_listening(&channel, context.now());
            }
            Plan::Unheeded { .. } => {}
            Plan::TakeWanted(_) => self.take_wanted(context),
            Plan::IntakeRead { read, .. } => self.read_for_all(read, redis, context),
            Plan::IntakePage { read, page, .. } => self.intake.handle_page(&read, page, context.now()),
            Plan::Beacon(of) => {
                self.beacon(redis, context);
                context.soon(900, 1_100, Plan::Beacon(of));
            }
            Plan::Tick(of) => {
                self.tick(redis, context);
                context.soon(100, 100, Plan::Tick(of));
            }
            plan => unreachable!("{plan:?} is none of an uplink"),
        }
    }

    /// The receiver hears what is wanted.
    fn take_wanted(&mut self, context: &Context) {
        self.is_take_planned = false;
        for (channel, number) in self.wanted.take() {
            match number {
                Some(number) => {
                    let retention = &context.spec(context.id(&channel)).retention;
                    self.intake.listen(&channel, number, retention);
                }
                None => self.intake.unlisten(&channel, context.now()),
            }
        }
    }

    fn handle_announcement(&mut self, announcement: Announcement, context: &Context) {
        let now = context.now();
        match announcement {
            Announcement::Publication { channel, epoch, publication } => {
                self.intake.handle_publication(&context.spec(channel).channel, epoch, publication, now);
            }
            Announcement::Listening(channel) => self.intake.handle_listening(&context.spec(channel).channel),
            Announcement::Unlistened(channel) => {
                self.intake.handle_unlistened(&context.spec(channel).channel);
            }
            Announcement::Lag => self.intake.handle_lag(),
            Announcement::Beacon(beacon) => self.handle_beacon(&beacon, now),
        }
    }

    fn handle_beacon(&mut self, beacon: &Beacon, now: Time) {
        if beacon.instance.id == self.name {
            self.heard = now;
        }
        if self.peers.handle_beacon(beacon, now) == Heard::Missed {
            self.intake.handle_lag();
        }
        for (channel, head) in &beacon.heads {
            self.intake.handle_head(channel, head.clone(), now);
        }
    }

    /// Redis has closed the line of that number. The intake is told once there is another one.
    fn handle_closed(&mut self, serial: u64, context: &mut Context) {
        if self.line == Some(serial) {
            self.line = None;
            self.reconnect_at = context.now().after(context.random.between(20, 300));
        }
    }

    /// Time has passed.
    fn tick(&mut self, redis: &mut Redis, context: &mut Context) {
        let now = context.now();
        self.intake.handle_timeout(now);
        if self.peers.handle_timeout(now) {
            self.intake.handle_doubt();
        }
        if let Some(serial) = self.line.filter(|_| self.heard.after(DEAD_AFTER) <= now) {
            redis.disconnect(self.of.slot);
            self.handle_closed(serial, context);
        }
        if self.line.is_none() && self.reconnect_at <= now {
            self.line = redis.connect(self.of.slot, now);
            if let Some(serial) = self.line {
                (self.last_line, self.heard) = (serial, now);
                self.intake.handle_server_lost(|_| true);
            }
        }
    }

    /// Says that the instance lives, and what it published; once more with the next beacon, where this one fails.
    fn beacon(&mut self, redis: &mut Redis, context: &mut Context) {
        self.beacons += 1;
        let instance = InstanceInfo { id: self.name.clone(), ..InstanceInfo::default() };
        let beacon = Beacon { instance, number: self.beacons, heads: self.heads.clone(), leaving: false };
        if redis.beacon(self.of.slot, Arc::new(beacon), context) {
            self.heads.clear();
        }
    }

    /// Publishes for a client or a backend. The history calls it `publish`.
    pub(crate) fn publish(
        &mut self,
        publish: PublishId,
        command: PublishCommand,
        redis: &mut Redis,
        context: &mut Context,
    ) -> Result<Published, BrokerError> {
        // The model's replica confirms nothing.
        if command.ack == Ack::Replicated {
            return Err(BrokerError::AckNotPossible);
        }
        let said = Bytes::copy_from_slice(command.payload.as_bytes());
        self.append(publish, command, said, redis, context)
    }

    /// Writes a mutation, without waiting for replicas. The history calls it `publish`.
    pub(crate) fn mutate(
        &mut self,
        publish: PublishId,
        command: &MutateCommand,
        redis: &mut Redis,
        context: &mut Context,
    ) -> Result<Published, BrokerError> {
        let said = Bytes::copy_from_slice(command.said.as_bytes());
        self.append(publish, command.publication(), said, redis, context)
    }

    fn append(
        &mut self,
        publish: PublishId,
        command: PublishCommand,
        said: Bytes,
        redis: &mut Redis,
        context: &mut Context,
    ) -> Result<Published, BrokerError> {
        let PublishCommand { channel, payload, idempotency_key: key, .. } = command;
        let append = Append { publish, channel: context.id(&channel), payload, key, said };
        let published = redis.publish(self.of.slot, append, context);
        match &published {
            Ok(Published { position: None, .. }) => {}
            Ok(Published { position, .. }) => self.heads.push((channel, position.clone())),
            Err(BrokerError::OutcomeUnknown) => self.heads.push((channel, None)),
            Err(_) => {}
        }
        published
    }

    /// What the channel holds after `since`, for a session that listens: from what came last, or else from Redis.
    pub(crate) fn resume(
        &mut self,
        channel: &Channel,
        since: Option<&Position>,
        limit: PageLimit,
        redis: &mut Redis,
        context: &mut Context,
    ) -> Result<Option<Page>, BrokerError> {
        let Some(page) = self.intake.resume(channel, since, limit, context.now()) else {
            return self.read(channel, since, limit, redis, context);
        };
        if self.line.is_none() {
            context.count(Fault::TailWithoutLine, None);
        }
        Ok(Some(page))
    }

    /// What the channel holds in Redis after `since`.
    pub(crate) fn read(
        &mut self,
        channel: &Channel,
        since: Option<&Position>,
        limit: PageLimit,
        redis: &mut Redis,
        context: &mut Context,
    ) -> Result<Option<Page>, BrokerError> {
        redis.read(self.of.slot, context.id(channel), since, limit, context)
    }

    /// What was to be read for all sessions has reached Redis.
    fn read_for_all(&mut self, read: IntakeRead, redis: &mut Redis, context: &mut Context) {
        let limit =
            PageLimit { publications: if read.since.is_some() { PAGE.publications } else { 0 }, ..PAGE };
        let page = self.read(&read.channel, read.since.as_ref(), limit, redis, context).map_err(drop);
        context.step(Plan::IntakePage { of: self.of, read, page });
    }

    /// Whether the channel is to be announced to the instance, as a broker is told.
    pub(crate) fn set_interest(&mut self, channel: &Channel, wanted: bool) -> Option<u64> {
        self.wanted.set(channel, wanted)
    }

    /// Sends what the intake asks for; returns what it tells the instance.
    pub(crate) fn pump(&mut self, redis: &mut Redis, context: &mut Context) -> Vec<BrokerEvent> {
        if self.wanted.has_changes() && !std::mem::replace(&mut self.is_take_planned, true) {
            context.soon(0, 5, Plan::TakeWanted(self.of));
        }
        while let Some(interest) = self.intake.poll_interest() {
            match (self.line, interest) {
                (Some(serial), interest) => redis.ask(self.of.slot, serial, interest, context),
                // It waits for a connection, and fails if there is none in time.
                (None, Interest::Listen(channel)) => {
                    let unheeded = Plan::Unheeded { of: self.of, line: self.last_line, channel };
                    context.soon(0, COMMAND_TIMEOUT_MS, unheeded);
                }
                (None, Interest::Unlisten(_)) => {}
            }
        }
        while let Some(read) = self.intake.poll_read() {
            context.step(Plan::IntakeRead { of: self.of, read });
        }
        std::iter::from_fn(|| self.intake.poll_event()).collect()
    }
}
