//! What every part of the world shares: time, chance, the record of what happened.

use std::sync::Arc;
use std::time::Duration;

use tidings::broker::IntakeRead;
use tidings::freshness::Need;
use tidings::hub::{Page, SessionId, Time};
use tidings_protocol::{Beacon, Channel};

use super::broker::{Append, Promotion};
use super::bugs::Bug;
use super::channels::{self, ChannelSpec};
use super::faults::{Fault, FaultCounts, Moment, Profile};
use super::instance::{LogAnswer, Question};
use super::publisher::Request;
use super::random::Random;
use super::schedule::Schedule;
use crate::freshness::CachePlan;
use crate::history::{ChannelId, ClientId, Event, PublishId, Record};

/// How many instances share Redis.
pub(crate) const INSTANCES: usize = 3;

/// How long a history is.
pub(crate) const END: Time = Time(Duration::from_secs(60));

/// From here on nothing goes wrong any more, and everybody has 10 s to catch up.
pub(crate) const CALM: Time = Time(Duration::from_secs(50));

/// From here on what quiet channels publish may be the last of it.
const LAST_MESSAGES: Time = Time(Duration::from_secs(47));

/// While clients that were cut together come back together.
const CROWDED: std::ops::Range<Time> =
    Time(Duration::from_millis(48_500))..Time(Duration::from_millis(51_500));

/// What can be planned.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    /// A publisher thinks of something to publish, or tries again.
    PublisherTurn(usize),
    /// A publish over HTTP reaches an instance.
    RequestArrives(Request),
    /// The answer to it reaches the publisher: stored or refused.
    RequestAnswered { publish: PublishId, attempt: u32, outcome: Outcome },
    /// A publisher has waited long enough for the answer.
    RequestTimedOut { publish: PublishId, attempt: u32 },
    /// An announcement reaches an instance.
    Announcement { slot: usize, serial: u64 },
    /// What an instance asks of its line reaches Redis.
    LineCommand { slot: usize, serial: u64 },
    /// What an instance asked for without a line has waited long enough; `line` was its last one.
    Unheeded { of: Start, line: u64, channel: Channel },
    /// An instance hears that its line is gone.
    LineClosed { slot: usize, serial: u64 },
    /// The library of an instance says what it dropped.
    LagTold { slot: usize, serial: u64 },
    /// What an instance read for all its sessions has reached Redis.
    IntakeRead { of: Start, read: IntakeRead },
    /// The answer to that.
    IntakePage { of: Start, read: IntakeRead, page: Result<Option<Page>, ()> },
    /// An instance says that it lives.
    Beacon(Start),
    /// A while later, for Redis stood still.
    LateBeacon { slot: usize, beacon: Arc<Beacon> },
    /// So does a publish.
    LatePublish { slot: usize, append: Append, replication_id: u64 },
    /// An instance looks at the time.
    Tick(Start),
    /// Something goes wrong with the line of an instance.
    LineFault(usize),
    /// Something goes wrong with Redis.
    Outage,
    /// The libraries of all instances drop announcements.
    LagAll,
    /// The primary is about to die.
    Failover,
    /// The replica becomes the primary.
    Promote(Promotion),
    /// The deposed primary is ended.
    SplitEnds,
    /// A window of some channel ends.
    WindowEnds(Start),
    /// A mailbox is called for.
    Call(SessionId),
    /// The next step of a connection's action is done.
    ActionStep(SessionId),
    /// A session wants to know that time has passed.
    SessionTimeout(SessionId),
    /// The instance looks whether a connection could write something.
    WriteDeadline(SessionId, u64),
    /// A connection is dropped, if it is still there.
    Drop(SessionId, Moment),
    /// The event loop of an instance looks at the next thing that it was asked.
    NodeCommand(Start),
    /// Somebody has waited long enough until their channel is listened to.
    AttachTimeout(Start),
    /// An instance's receiver looks at what is wanted.
    TakeWanted(Start),
    /// The instance notices that a connection is gone.
    HangUp(SessionId),
    /// Something of the client reaches the instance.
    UpArrives(SessionId),
    /// Something of the instance reaches the client.
    DownArrives(SessionId),
    /// A mutation log of an instance may have something to do.
    LogDue(Start),
    /// What a mutation log needs reaches Redis.
    LogNeed { of: Start, need: Need },
    /// An instance looks whether the replica has confirmed where a log stands.
    LogWait { of: Start, question: Question },
    /// An answer comes back to a mutation log.
    LogDone { of: Start, answer: LogAnswer },
    /// Something of the world of caches.
    OfCaches(CachePlan),
    /// An instance ends.
    Stop,
    /// Another starts in its place.
    Start(usize),
    /// A client tries to connect.
    Connect(ClientId),
    /// A client reads again.
    ReadOn(ClientId),
    /// A client reads at its usual speed again.
    ReadFast(ClientId),
    /// A client wants a channel again, or asks again for what was refused.
    AskAgain(ClientId),
    /// A client's application publishes.
    ClientPublishes(ClientId),
    /// Something goes wrong with a client.
    ClientFault(ClientId),
    /// All connections are cut.
    CutAll,
    /// Several clients stop reading.
    StallMany,
}

/// What a publisher is told.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// It is stored there.
    Stored(Option<tidings_protocol::Position>),
    /// It is surely not stored.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// One start of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// Which of the instances.
    pub(crate) slot: usize,
    /// The number of its start.
    pub(crate) generation: u32,
}

/// Shared by all parts.
pub(crate) struct Context {
    pub(crate) schedule: Schedule<Plan>,
    pub(crate) random: Random,
    pub(crate) channels: Vec<ChannelSpec>,
    pub(crate) profile: Profile,
    pub(crate) history: Vec<Record>,
    pub(crate) faults: FaultCounts,
    /// How often each instance was started.
    pub(crate) generations: [u32; INSTANCES],
    pub(crate) bug: Option<Bug>,
    pub(crate) events: u64,
}

impl Context {
    /// A world's beginning.
    pub(crate) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut random = Random::new(seed);
        let profile = Profile::new(&mut random);
        Context { channels: channels::all(), ..Context::of(profile, random, bug) }
    }

    /// The beginning of a world of these channels, as hard as `profile` makes it.
    pub(crate) fn over(channels: Vec<ChannelSpec>, profile: Profile, random: Random) -> Self {
        Context { channels, ..Context::of(profile, random, None) }
    }

    /// The beginning of a world without channels, in which nothing goes wrong by chance.
    pub(crate) fn calm(seed: u64, bug: Option<Bug>) -> Self {
        Context::of(Profile::calm(), Random::new(seed), bug)
    }

    fn of(profile: Profile, random: Random, bug: Option<Bug>) -> Self {
        Context {
            schedule: Schedule::new(),
            profile,
            random,
            channels: Vec::new(),
            history: Vec::new(),
            faults: FaultCounts::default(),
            generations: [0; INSTANCES],
            bug,
            events: 0,
        }
    }

    /// The time.
    pub(crate) fn now(&self) -> Time {
        self.schedule.now()
    }

    /// One of the instances, as it is now.
    pub(crate) fn some_instance(&mut self) -> Start {
        let slot = self.random.below(INSTANCES);
        self.start_of(slot)
    }

    /// The instance in that place, as it is now.
    pub(crate) fn start_of(&self, slot: usize) -> Start {
        Start { slot, generation: self.generations[slot] }
    }

    /// Whether nothing goes wrong any more.
    pub(crate) fn is_calm(&self) -> bool {
        self.now() >= CALM
    }

    /// Whether the defect is in, in this one of a few places or moments.
    pub(crate) fn has_bug(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Of a thousand announcements of the channel, so many are lost; more where the next one is too far to tell of it.
    pub(crate) fn loss(&self, channel: ChannelId) -> usize {
        let is_last = self.spec(channel).is_quiet && self.now() >= LAST_MESSAGES;
        if is_last { self.profile.loss * 10 } else { self.profile.loss }
    }

    /// How a channel behaves.
    pub(crate) fn spec(&self, channel: ChannelId) -> &ChannelSpec {
        &self.channels[channel.0]
    }

    /// The channel of that name.
    pub(crate) fn id(&self, channel: &Channel) -> ChannelId {
        let index = self.channels.iter().position(|spec| spec.channel == *channel);
        ChannelId(index.expect("only channels of the world have subscribers"))
    }

    /// Remembers what happened.
    pub(crate) fn record(&mut self, event: Event) {
        self.history.push(Record { time: self.now(), event });
    }

    /// Counts a fault that happened.
    pub(crate) fn count(&mut self, fault: Fault, client: Option<ClientId>) {
        self.faults.count(fault);
        self.record(Event::Injected { fault: format!("{fault:?}"), client });
    }

    /// Whether a fault happens here and now; it is counted if so. Never in the calm at the end.
    pub(crate) fn inject(&mut self, fault: Fault, per_mille: usize) -> bool {
        // Chance is asked in any case, so that a calm world draws the same numbers.
        let happens = self.random.chance(per_mille) && !self.is_calm();
        if happens {
            self.count(fault, None);
        }
        happens
    }

    /// A connection comes to a moment at which it may be dropped: perhaps it is, a little later.
    pub(crate) fn may_drop(&mut self, session: SessionId, moment: Moment) {
        if self.profile.drops && self.random.chance(moment.per_mille()) && !self.is_calm() {
            self.soon(0, 4, Plan::Drop(session, moment));
        }
    }

    /// Plans the end of a step that usually takes some milliseconds; sometimes many, and always so while everybody
    /// comes back at once.
    pub(crate) fn step(&mut self, plan: Plan) {
        let is_crowded = self.profile.ends_in_cuts && CROWDED.contains(&self.now());
        match self.random.chance(100) || is_crowded {
            true => self.soon(10, 120, plan),
            false => self.soon(0, 12, plan),
        }
    }

    /// Plans for later, by chance between two numbers of milliseconds.
    pub(crate) fn soon(&mut self, from_ms: u64, to_ms: u64, plan: Plan) {
        let pause = self.random.between(from_ms, to_ms);
        self.schedule.after(pause, plan);
    }
}
