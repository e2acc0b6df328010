//! One instance over the model, driven by hand: what a suite asks that other brokers are asked, too. Nothing goes wrong here
//! but what is called for.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tidings::broker::{BrokerError, BrokerEvent};
use tidings::freshness::Snapshot;
use tidings::hub::{Page, PageLimit, Published, Retention};
use tidings_protocol::{Ack, Channel, MutateCommand, Position, PublishCommand};

use super::broker::{Promotion, Redis};
use super::bugs::Bug;
use super::channels::ChannelSpec;
use super::context::{Context, Plan};
use super::instance::Uplink;
use crate::history::PublishId;

/// The place of the one instance.
const SLOT: usize = 0;

/// What asking takes. Little, against the ages that are tested; and so much that asking again and again lets time pass.
const STEP: Duration = Duration::from_millis(20);

/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Until then a replica has heard of everything, and Redis is back from what ended it.
const SETTLED: Duration = Duration::from_secs(1);

/// The instance, the model, and their time.
pub(crate) struct Alone {
    context: Context,
    redis: Redis,
    uplink: Uplink,
    heard: VecDeque<BrokerEvent>,
    /// The number under which each channel was last said to be listened to.
    listening: BTreeMap<Channel, u64>,
    published: u32,
}

impl Alone {
    /// An instance that has just started over a model that holds nothing, with a defect or without.
    pub(crate) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut context = Context::calm(seed, bug);
        let start = context.start_of(SLOT);
        let uplink = Uplink::new(start, context.now());
        for plan in [Plan::Tick(start), Plan::Beacon(start)] {
            context.schedule.at(context.now(), plan);
        }
        Alone {
            context,
            redis: Redis::new(),
            uplink,
            heard: VecDeque::new(),
            listening: BTreeMap::new(),
            published: 0,
        }
    }

    /// Makes the channel one of the world's. Every other call needs that.
    pub(crate) fn add(&mut self, channel: &Channel, retention: Retention) {
        if !self.context.channels.iter().any(|spec| spec.channel == *channel) {
            self.context.channels.push(ChannelSpec::keeping(channel.clone(), retention));
        }
    }

    pub(crate) fn publish(&mut self, command: PublishCommand) -> Result<Published, BrokerError> {
        self.pass(STEP);
        self.published += 1;
        let publish = PublishId { author: 0, number: self.published };
        self.uplink.publish(publish, command, &mut self.redis, &mut self.context)
    }

    /// Writes a mutation, which touches the replica no more than any publish does.
    pub(crate) fn mutate(&mut self, command: &MutateCommand) -> Result<Published, BrokerError> {
        self.pass(STEP);
        if command.ack == Ack::Replicated {
            return Err(BrokerError::AckNotPossible);
        }
        self.published += 1;
        let publish = PublishId { author: 0, number: self.published };
        self.uplink.mutate(publish, command, &mut self.redis, &mut self.context)
    }

    pub(crate) fn snapshot(&mut self, log: &Channel) -> Result<Snapshot, BrokerError> {
        self.pass(STEP);
        self.redis.snapshot(SLOT, self.context.id(log), &mut self.context)
    }

    pub(crate) fn confirm(&mut self, log: &Channel) -> Result<Position, BrokerError> {
        self.pass(STEP);
        self.redis.confirm(SLOT, self.context.id(log), &mut self.context)
    }

    pub(crate) fn history(
        &mut self,
        channel: &Channel,
        since: Option<&Position>,
        limit: PageLimit,
    ) -> Result<Option<Page>, BrokerError> {
        self.pass(STEP);
        self.uplink.read(channel, since, limit, &mut self.redis, &mut self.context)
    }

    pub(crate) fn resume(
        &mut self,
        channel: &Channel,
        since: Option<&Position>,
        limit: PageLimit,
    ) -> Result<Option<Page>, BrokerError> {
        self.pass(STEP);
        self.uplink.resume(channel, since, limit, &mut self.redis, &mut self.context)
    }

    /// Returns when the channel is listened to for certain.
    pub(crate) fn listen(&mut self, channel: &Channel) {
        let number = self.uplink.set_interest(channel, true).expect("the model does not announce everything");
        self.wait("a listening", |alone| (alone.listening.get(channel) >= Some(&number)).then_some(()));
    }

    pub(crate) fn unlisten(&mut self, channel: &Channel) {
        self.uplink.set_interest(channel, false);
    }

    /// What the instance is told next.
    pub(crate) fn heard(&mut self) -> BrokerEvent {
        self.wait("an announcement", |alone| alone.heard.pop_front())
    }

    /// The channels that the model holds, with their heads.
    pub(crate) fn channels(&mut self) -> impl Iterator<Item = (&Channel, Position)> {
        self.pass(STEP);
        self.redis.channels().map(|(id, head)| (&self.context.spec(id).channel, head))
    }

    /// The channels that the model announces to the instance.
    pub(crate) fn announced(&mut self) -> impl Iterator<Item = &Channel> {
        self.pass(STEP);
        self.redis.announced_to(SLOT).map(|id| &self.context.spec(id).channel)
    }

    /// The model loses all that it holds.
    pub(crate) fn forget_everything(&mut self) {
        self.redis.flush(&mut self.context);
    }

    /// Once the model's replica has all, it gets nothing any more.
    pub(crate) fn cut_replica(&mut self) {
        self.pass(SETTLED);
        self.redis.cut_replica(&self.context);
    }

    /// The primary dies, and its replica takes over.
    pub(crate) fn take_over(&mut self) {
        self.redis.promote(Promotion::Death, &mut self.context);
        self.pass(SETTLED);
    }

    /// A restart with all data is to others what a planned failover is.
    pub(crate) fn restart_with_data(&mut self) {
        self.redis.promote(Promotion::Planned, &mut self.context);
        self.pass(SETTLED);
    }

    /// A restart without data.
    pub(crate) fn restart_empty(&mut self) {
        self.redis.restart_empty(&mut self.context);
        self.pass(SETTLED);
    }

    fn wait<T>(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Option<T>) -> T {
        let until = self.context.now().after(PATIENCE);
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(self.context.now() < until, "waited {PATIENCE:?} of simulated time for {what}");
            self.pass(STEP);
        }
    }

    /// Lets time pass, and all happen that happens in it.
    fn pass(&mut self, time: Duration) {
        let end = self.context.now().after(time);
        self.pump();
        while let Some(plan) = self.context.schedule.next(end) {
            self.uplink.handle(plan, &mut self.redis, &mut self.context);
            self.pump();
        }
        self.context.schedule.pass_to(end);
    }

    fn pump(&mut self) {
        for event in self.uplink.pump(&mut self.redis, &mut self.context) {
            match event {
                BrokerEvent::Listening { channel, number } => drop(self.listening.insert(channel, number)),
                event => self.heard.push_back(event),
            }
        }
    }
}
