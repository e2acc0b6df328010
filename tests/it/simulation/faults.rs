//! What goes wrong, how often, and how often it did.

use std::collections::BTreeMap;
use std::time::Duration;

use tidings::hub::Time;

use super::random::Random;

/// A kind of fault. Each is injected, or forced by what is injected, and counted when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// An announcement is lost on its way to an instance, and nobody says so.
    LossSilent,
    /// All announcements to an instance are lost up to its own next beacon.
    RunLost,
    /// The library of an instance drops announcements, and says so.
    Lag,
    /// The line between Redis and an instance is cut.
    LinkLost,
    /// Nothing passes between Redis and an instance.
    Partition,
    /// History cannot be read.
    ReadFailed,
    /// Redis cannot be reached for a publish: surely not stored.
    PublishRefused,
    /// Redis refuses what it would have to store.
    OutOfMemory,
    /// The instance does not hear that Redis stored its publish.
    AnswerTimedOut,
    /// The answer to a publish is lost: perhaps stored.
    AnswerLost,
    /// A publish is overtaken by its own retry.
    RequestLate,
    /// An instance ends with its connections, and another starts in its place.
    Crash,
    /// A connection is cut.
    Cut,
    /// A connection is cut with something on its way, which arrives in part.
    CutMidway,
    /// A client vanishes without a word.
    Vanish,
    /// A client does not read for a while.
    Stall,
    /// A client reads slowly for a while.
    SlowReading,
    /// A client unsubscribes and comes back, with or without its position.
    Unsubscribe,
    /// A mailbox was full.
    MailboxOverflow,
    /// A connection could write nothing for too long.
    SlowConsumer,
    /// A stream comes back with a cursor that cannot be read.
    CursorLost,
    /// A session is answered from the tail of an instance that has no line, and hears only afterwards of what came meanwhile.
    TailWithoutLine,
    /// A connection is dropped after it asked to be attached, before its instance has looked at that.
    DroppedAttaching,
    /// A connection is dropped while it is attached and its instance waits for Redis.
    DroppedListening,
    /// A connection is dropped while it reads history.
    DroppedReading,
    /// A connection is dropped while it leaves a channel.
    DroppedLeaving,
    /// The request of an event stream is dropped before it was answered.
    StreamDropped,
    /// An announcement reaches an instance twice.
    Duplicated,
    /// An announcement, and all after it, reach an instance late.
    Delayed,
    /// Nothing passes between a client and its instance, and neither hears of it.
    HalfOpen,
    /// A client's machine sleeps, and its monotonic clock with it.
    Asleep,
    /// Somebody sets a client's wall clock back.
    WallClockBack,
    /// Who changed the database dies before the mutation is published.
    WriterCrash,
    /// The replica of the database lags behind for a while.
    ReplicaLags,
    /// What was read for a shared cache is put into it late.
    SlowFiller,
    /// An HTTP cache answers who asked for a new value with an old one.
    OldBody,
    /// A client forgets a value.
    CacheDropped,
    /// A mutation is published long after its commit: one that was committed later overtakes it.
    Overtaken,
    /// What the answer to an own mutation shows is kept, with its basis and its exception.
    OwnKept,
    /// A value comes without the tags that it depends on.
    NoTags,
    /// A program knows that a value changed, and has it read again while it is being read.
    ForcedRead,
    /// What a client sends arrives together with what it sent before.
    Together,
    /// The primary dies, and what it stored last only one instance has heard of.
    Stranded,
    /// That instance dies with it.
    HostDies,
    /// Redis stands still for a while, and then does all that it was asked.
    RedisStall,
    /// The replica becomes the primary, and lacks what came last.
    FailoverLostTail,
    /// The replica becomes the primary, and has everything.
    FailoverClean,
    /// The replication id changes, and nothing else.
    IdChanged,
    /// Some instances go on with a primary that was deposed.
    SplitBrain,
    /// Redis starts anew with nothing in it.
    RestartEmpty,
    /// One channel's stream is gone.
    Evicted,
    /// All streams and keys are gone.
    Flushed,
    /// One log's events are gone, and nothing else.
    EventsEvicted,
}

impl Fault {
    /// Every kind.
    pub(crate) const ALL: [Fault; 53] = [
        Fault::LossSilent,
        Fault::RunLost,
        Fault::Lag,
        Fault::LinkLost,
        Fault::Partition,
        Fault::ReadFailed,
        Fault::PublishRefused,
        Fault::OutOfMemory,
        Fault::AnswerTimedOut,
        Fault::AnswerLost,
        Fault::RequestLate,
        Fault::Crash,
        Fault::Cut,
        Fault::CutMidway,
        Fault::Vanish,
        Fault::Stall,
        Fault::SlowReading,
        Fault::Unsubscribe,
        Fault::MailboxOverflow,
        Fault::SlowConsumer,
        Fault::CursorLost,
        Fault::TailWithoutLine,
        Fault::DroppedAttaching,
        Fault::DroppedListening,
        Fault::DroppedReading,
        Fault::DroppedLeaving,
        Fault::StreamDropped,
        Fault::Duplicated,
        Fault::Delayed,
        Fault::HalfOpen,
        Fault::Asleep,
        Fault::WallClockBack,
        Fault::WriterCrash,
        Fault::ReplicaLags,
        Fault::SlowFiller,
        Fault::OldBody,
        Fault::CacheDropped,
        Fault::Overtaken,
        Fault::OwnKept,
        Fault::NoTags,
        Fault::ForcedRead,
        Fault::Together,
        Fault::Stranded,
        Fault::HostDies,
        Fault::RedisStall,
        Fault::FailoverLostTail,
        Fault::FailoverClean,
        Fault::IdChanged,
        Fault::SplitBrain,
        Fault::RestartEmpty,
        Fault::Evicted,
        Fault::Flushed,
        Fault::EventsEvicted,
    ];

    /// Whether it happens only where there are caches and mutation logs.
    pub(crate) fn is_of_caches(self) -> bool {
        (Fault::Duplicated..Fault::RedisStall).contains(&self) || self == Fault::EventsEvicted
    }

    /// Whether it happens to all instances at once: a history has few of those.
    pub(crate) fn is_of_all(self) -> bool {
        self >= Fault::RedisStall
    }
}

/// Where a connection may be when it is dropped, with what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The event loop has not looked yet at what it asked for.
    Attaching,
    /// It is attached, and the broker does not listen yet.
    Listening,
    /// The broker listens, and history is not read yet.
    Reading,
    /// It is about to be detached.
    Leaving,
    /// An event stream was told nothing yet.
    Unanswered,
}

impl Moment {
    /// What a drop is called there.
    pub(crate) fn fault(self) -> Fault {
        match self {
            Moment::Attaching => Fault::DroppedAttaching,
            Moment::Listening => Fault::DroppedListening,
            Moment::Reading => Fault::DroppedReading,
            Moment::Leaving => Fault::DroppedLeaving,
            Moment::Unanswered => Fault::StreamDropped,
        }
    }

    /// Of a thousand connections that come there, so many are meant to be dropped: more where few come.
    pub(crate) fn per_mille(self) -> usize {
        match self {
            Moment::Attaching | Moment::Listening | Moment::Reading => 15,
            Moment::Leaving | Moment::Unanswered => 300,
        }
    }
}

/// How often each fault happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FaultCounts(BTreeMap<Fault, u64>);

impl FaultCounts {
    /// Counts one.
    pub(crate) fn count(&mut self, fault: Fault) {
        *self.0.entry(fault).or_default() += 1;
    }

    /// Adds the counts of another history.
    pub(crate) fn add(&mut self, other: &FaultCounts) {
        for (fault, count) in &other.0 {
            *self.0.entry(*fault).or_default() += count;
        }
    }

    /// Every kind with its count.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        Fault::ALL.into_iter().map(|fault| (fault, self.0.get(&fault).copied().unwrap_or_default()))
    }
}

/// How hard one seed's world is. Seeds differ: what happens all the time hides what happens seldom.
pub(crate) struct Profile {
    /// Of a thousand announcements, so many are lost.
    pub(crate) loss: usize,
    /// Of a thousand announcements, so many come twice, and so many late. Only mutation logs have these.
    pub(crate) strays: usize,
    /// Of a thousand requests to the broker, so many are refused.
    pub(crate) refusal: usize,
    /// Of a thousand publishes over HTTP, so many are late, and so many answers are lost.
    pub(crate) late: usize,
    /// The mean time between two faults of one client.
    pub(crate) client_pause: Duration,
    /// Connections are dropped at each step of what they ask for.
    pub(crate) drops: bool,
    /// From here on clients are left in peace: they do not find by a reconnect what they should have been told.
    pub(crate) clients_calm: Time,
    /// How many times instances crash.
    pub(crate) crashes: usize,
    /// How many times something goes wrong with Redis itself.
    pub(crate) outages: usize,
    /// All instances lag when the faults end: no later loss tells of theirs.
    pub(crate) ends_in_lag: bool,
    /// The last thing that goes wrong is a failover: nobody may write to a quiet channel after it.
    pub(crate) ends_in_failover: bool,
    /// The mean time between two faults of one instance's line.
    pub(crate) line_pause: Duration,
    /// All connections are cut when the faults end, while quiet channels get their last messages.
    pub(crate) ends_in_cuts: bool,
    /// Clients stall when the faults end.
    pub(crate) ends_in_stalls: bool,
}

impl Profile {
    /// A world in which nothing goes wrong by chance.
    pub(crate) fn calm() -> Self {
        Profile {
            loss: 0,
            strays: 0,
            refusal: 0,
            late: 0,
            client_pause: Duration::MAX,
            drops: false,
            clients_calm: Time::ZERO,
            crashes: 0,
            outages: 0,
            ends_in_failover: false,
            ends_in_lag: false,
            line_pause: Duration::MAX,
            ends_in_cuts: false,
            ends_in_stalls: false,
        }
    }

    /// The profile of a seed.
    pub(crate) fn new(random: &mut Random) -> Self {
        Profile {
            loss: random.pick(&[0, 10, 30, 100]),
            strays: 0,
            refusal: random.pick(&[0, 20, 60]),
            late: random.pick(&[0, 20, 60]),
            client_pause: Duration::from_millis(random.pick(&[1_000, 2_500, 6_000])),
            drops: random.chance(800),
            clients_calm: Time(Duration::from_secs(random.pick(&[44, 47, 50]))),
            crashes: random.pick(&[0, 3, 5, 10]),
            outages: random.pick(&[0, 8, 20, 40]),
            ends_in_failover: random.chance(300),
            ends_in_lag: random.chance(500),
            line_pause: Duration::from_millis(random.pick(&[1_500, 4_000, 10_000])),
            ends_in_cuts: random.chance(500),
            ends_in_stalls: random.chance(500),
        }
    }
}
