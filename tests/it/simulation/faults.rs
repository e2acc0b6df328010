//! What goes wrong, how often, and how often it did.

use std::time::Duration;

use tidings::hub::Time;

use super::random::Random;

/// A kind of fault. Each is injected, or forced by what is injected, and counted when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// An announcement of the broker is lost on its way to the node, and the node is told.
    LossNoticed,
    /// An announcement is lost, and nobody says so.
    LossSilent,
    /// History cannot be read.
    ReadFailed,
    /// The broker refuses a publish: surely not stored.
    PublishRefused,
    /// The answer to a publish is lost: perhaps stored.
    AnswerLost,
    /// A publish is overtaken by its own retry.
    RequestLate,
    /// The instance ends, its broker with it, and starts anew.
    Restart,
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
}

impl Fault {
    /// Every kind.
    pub(crate) const ALL: [Fault; 16] = [
        Fault::LossNoticed,
        Fault::LossSilent,
        Fault::ReadFailed,
        Fault::PublishRefused,
        Fault::AnswerLost,
        Fault::RequestLate,
        Fault::Restart,
        Fault::Cut,
        Fault::CutMidway,
        Fault::Vanish,
        Fault::Stall,
        Fault::SlowReading,
        Fault::Unsubscribe,
        Fault::MailboxOverflow,
        Fault::SlowConsumer,
        Fault::CursorLost,
    ];
}

/// How often each fault happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FaultCounts([u64; Fault::ALL.len()]);

impl FaultCounts {
    /// Counts one.
    pub(crate) fn count(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    /// Adds the counts of another history.
    pub(crate) fn add(&mut self, other: &FaultCounts) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }

    /// Every kind with its count.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        Fault::ALL.into_iter().map(|fault| (fault, self.0[fault as usize]))
    }
}

/// How hard one seed's world is. Seeds differ: what happens all the time hides what happens seldom.
pub(crate) struct Profile {
    /// Of a thousand announcements, so many are lost.
    pub(crate) loss: usize,
    /// Of a thousand requests to the broker, so many are refused.
    pub(crate) refusal: usize,
    /// Of a thousand publishes over HTTP, so many are late, and so many answers are lost.
    pub(crate) late: usize,
    /// The mean time between two faults of one client.
    pub(crate) client_pause: Duration,
    /// From here on clients are left in peace: they do not find by a reconnect what they should have been told.
    pub(crate) clients_calm: Time,
    /// How many times the instance restarts.
    pub(crate) restarts: usize,
    /// All connections are cut when the faults end, while quiet channels get their last messages.
    pub(crate) ends_in_cuts: bool,
    /// Clients stall when the faults end.
    pub(crate) ends_in_stalls: bool,
}

impl Profile {
    /// The profile of a seed.
    pub(crate) fn new(random: &mut Random) -> Self {
        Profile {
            loss: random.pick(&[0, 10, 30, 100]),
            refusal: random.pick(&[0, 20, 60]),
            late: random.pick(&[0, 20, 60]),
            client_pause: Duration::from_millis(random.pick(&[1_000, 2_500, 6_000])),
            clients_calm: Time(Duration::from_secs(random.pick(&[44, 47, 50]))),
            restarts: random.pick(&[0, 3, 5, 10]),
            ends_in_cuts: random.chance(500),
            ends_in_stalls: random.chance(500),
        }
    }
}
