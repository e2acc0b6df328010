//! What one instance takes in from a broker that it shares with others: announcements, in the order of each channel.
//!
//! For the broker, an instance is a subscriber like any other: each channel it listens to has a [`Subscription`] here,
//! which finds holes, and a tail of what came last. A hole is filled from history before anything after it is passed on,
//! so that thousands of sessions see none; only what history does not have is passed on as [`BrokerEvent::Lost`].
//! Sessions that resume within the tail are answered from it, and do not reach the broker.
//!
//! ```text
//!   listen ─▶ to be listened to ──confirmed──▶ read where it stands ─▶ live ─▶ nobody listens ──linger──▶ forgotten
//!                     ▲                                                 │
//!                     └── link new, announcements lost, a head missed ◀─┘
//! ```
//!
//! Pure: time comes in, what must be done comes out of the `poll_*` functions.

mod expected;
mod feed;
mod tails;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use indexmap::{IndexMap, IndexSet};
use tidings_protocol::{Channel, Epoch, Position, Publication};

use super::BrokerEvent;
use crate::ablation::{Safeguard, ablated};
use crate::hub::{Page, Retention, Time};
use expected::ExpectedHead;
use feed::{Feed, Took};

/// How long a head that another instance told of may take to arrive here: its announcement may be on its way still.
const HEAD_GRACE: Duration = Duration::from_millis(250);

/// How long after a failed read, or a failed attempt to listen, the next one is made.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The bounds of an intake.
#[derive(Clone, Debug)]
pub struct IntakeLimits {
    /// How long a channel that nobody needs is still listened to: those who come back find their tail.
    pub linger: Duration,
    /// The most channels that linger; above, the one that waited longest is forgotten.
    pub lingering_max: usize,
    /// The most bytes of all tails together; above, a tenth is dropped, from the channels listened to longest.
    pub tail_bytes_max: usize,
    /// The most reads at once.
    pub reads_max: usize,
    /// A channel that was not read for this long is read again: what nobody reads or writes expires in the broker.
    pub refresh: Duration,
}

/// What must be changed about what the broker announces here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Announce this channel, and say when that is certain.
    Listen(Channel),
    /// Announce it no more.
    Unlisten(Channel),
}

/// History to be read; the answer goes to [`Intake::handle_page`] with the same ticket.
#[derive(Clone, Debug)]
pub struct IntakeRead {
    /// Where.
    pub channel: Channel,
    /// What the instance has; without it only where the channel stands is asked.
    pub since: Option<Position>,
    /// Tells this read from those that were asked before.
    pub ticket: u64,
}

/// The channels that an instance listens to. See the module.
#[derive(Debug)]
pub struct Intake {
    limits: IntakeLimits,
    feeds: IndexMap<Channel, Feed>,
    interests: VecDeque<Interest>,
    /// Channels to be read, each once.
    reads: VecDeque<Channel>,
    reading: usize,
    last_ticket: u64,
    retries: VecDeque<(Time, Channel)>,
    /// Channels that the broker must be asked for again.
    unheeded: VecDeque<(Time, Channel)>,
    lingering: VecDeque<(Time, Channel)>,
    /// Channels that the broker announces though nobody needs them, and when it is told so again.
    unneeded: IndexSet<Channel>,
    unneeded_at: Time,
    expected: IndexMap<Channel, ExpectedHead>,
    refresh_at: Time,
    tail_bytes: usize,
    /// Announcements of instances that keep a channel's history otherwise.
    foreign: u64,
    events: VecDeque<BrokerEvent>,
}

impl Intake {
    /// An intake that listens to nothing.
    pub fn new(limits: IntakeLimits) -> Self {
        Intake {
            refresh_at: Time(limits.refresh),
            limits,
            feeds: IndexMap::new(),
            interests: VecDeque::new(),
            reads: VecDeque::new(),
            reading: 0,
            last_ticket: 0,
            retries: VecDeque::new(),
            unheeded: VecDeque::new(),
            lingering: VecDeque::new(),
            unneeded: IndexSet::new(),
            unneeded_at: Time::ZERO,
            expected: IndexMap::new(),
            tail_bytes: 0,
            foreign: 0,
            events: VecDeque::new(),
        }
    }

    /// The channel is needed. [`BrokerEvent::Listening`] with this number says when it is listened to for certain, and what
    /// is announced from then on is passed on: a session that read history while this instance still asks where the channel
    /// stands would miss what lies between the two answers.
    pub fn listen(&mut self, channel: &Channel, number: u64, retention: &Retention) {
        let feed = self.feeds.entry(channel.clone()).or_insert_with(|| {
            self.unneeded.swap_remove(channel);
            self.interests.push_back(Interest::Listen(channel.clone()));
            Feed::new(retention.clone())
        });
        feed.want(number);
        self.answer(channel);
    }

    /// Nobody needs the channel any more.
    pub fn unlisten(&mut self, channel: &Channel, now: Time) {
        let is_idle = self.feeds.get_mut(channel).is_some_and(|feed| feed.unwant(now));
        self.lingering.extend(is_idle.then(|| (now, channel.clone())));
    }

    /// Says that the channel is listened to, if it is and somebody waits for that.
    fn answer(&mut self, channel: &Channel) {
        let number = self.feeds.get_mut(channel).and_then(Feed::answer);
        self.events.extend(number.map(|number| BrokerEvent::Listening { channel: channel.clone(), number }));
    }

    /// The broker announces the channel from now on.
    pub fn handle_listening(&mut self, channel: &Channel) {
        let Some(feed) = self.feeds.get_mut(channel) else {
            self.unneeded.insert(channel.clone());
            return self.interests.push_back(Interest::Unlisten(channel.clone()));
        };
        self.events.extend(feed.confirm().then(|| BrokerEvent::Lost(channel.clone())));
        self.reads.extend(feed.queues().then(|| channel.clone()));
        self.answer(channel);
    }

    /// The broker announces the channel no more.
    pub fn handle_unlistened(&mut self, channel: &Channel) {
        self.unneeded.swap_remove(channel);
    }

    /// The broker could not be told to announce the channel: it is told again after a while.
    pub fn handle_not_listening(&mut self, channel: &Channel, now: Time) {
        self.unheeded.push_back((now.after(RETRY_AFTER), channel.clone()));
    }

    /// Something was announced.
    pub fn handle_publication(
        &mut self,
        channel: &Channel,
        epoch: Option<Epoch>,
        publication: Arc<Publication>,
        now: Time,
    ) {
        let Some((_, name, feed)) = self.feeds.get_full_mut(channel) else { return };
        let before = feed.tail_bytes();
        match feed.take(epoch.as_ref(), &publication, now) {
            Took::Next => {
                self.tail_bytes = self.tail_bytes - before + feed.tail_bytes();
                let channel = name.clone();
                self.events.push_back(BrokerEvent::Publication { channel, epoch, publication });
                self.bound_tails();
            }
            Took::Nothing => {}
            Took::Hole => self.reads.extend(feed.queues().then(|| channel.clone())),
            Took::Foreign => {
                self.foreign += 1;
                let channel = name.clone();
                self.events.push_back(match channel.is_log() {
                    true => BrokerEvent::Lost(channel),
                    // Each session tells a gap where it stands.
                    false => BrokerEvent::Publication { channel, epoch, publication },
                });
            }
        }
    }

    /// Something was announced that cannot be read: whatever it was, it is lost.
    pub fn handle_unreadable(&mut self, channel: &Channel) {
        let Some(feed) = self.feeds.get_mut(channel) else { return };
        self.events.extend(feed.lose().then(|| BrokerEvent::Lost(channel.clone())));
        self.reads.extend(feed.queues().then(|| channel.clone()));
    }

    /// How many announcements there were of instances that keep the history of a channel otherwise than this one.
    pub fn foreign(&self) -> u64 {
        self.foreign
    }

    /// A server is announcing by another connection than before, or its channels are on other servers now: they must be
    /// listened to anew. Until somebody says so, the tails go on answering: of what was announced meanwhile, sessions are
    /// told afterwards.
    pub fn handle_server_lost(&mut self, is_of_it: impl Fn(&Channel) -> bool) {
        let is_asked_for = |interest: &Interest| matches!(interest, Interest::Listen(of) if is_of_it(of));
        self.interests.retain(|interest| !is_asked_for(interest));
        self.unneeded.retain(|channel| !is_of_it(channel));
        for (channel, feed) in self.feeds.iter_mut().filter(|(channel, _)| is_of_it(channel)) {
            feed.is_confirmed = false;
            // Of a channel without history the loss is told once it is listened to again.
            feed.lose();
            self.interests.push_back(Interest::Listen(channel.clone()));
        }
    }

    /// Announcements were dropped on their way here, of whichever channels.
    pub fn handle_lag(&mut self) {
        if ablated(Safeguard::Lag) {
            return;
        }
        for (channel, feed) in &mut self.feeds {
            let is_told_now = feed.lose() && !feed.tells_later();
            self.events.extend(is_told_now.then(|| BrokerEvent::Lost(channel.clone())));
            self.reads.extend(feed.queues().then(|| channel.clone()));
        }
    }

    /// Somebody who advanced heads may have died before all heard of it: compares those of all channels once.
    pub fn handle_doubt(&mut self) {
        for (channel, feed) in &mut self.feeds {
            let must_read = feed.doubt() && feed.queues();
            self.reads.extend(must_read.then(|| channel.clone()));
        }
    }

    /// Another instance, or this one, advanced the channel to `head`, or to an unknown place.
    pub fn handle_head(&mut self, channel: &Channel, head: Option<Position>, now: Time) {
        if let Some(feed) = self.feeds.get(channel).filter(|_| !ablated(Safeguard::Beacon))
            && !feed.has_reached(head.as_ref())
        {
            let by = now.after(HEAD_GRACE);
            match self.expected.get_mut(channel) {
                Some(expected) => expected.follow(head, by),
                None => drop(self.expected.insert(channel.clone(), ExpectedHead::new(head, by))),
            }
        }
    }

    /// What a read gave: `None` in it for a volatile channel, `Err` where nothing could be read.
    pub fn handle_page(&mut self, read: &IntakeRead, page: Result<Option<Page>, ()>, now: Time) {
        self.reading -= 1;
        let Some(feed) = self.feeds.get_mut(&read.channel) else { return };
        if !feed.is_answered_by(read.ticket) {
            return;
        }
        let channel = &read.channel;
        let Ok(page) = page else {
            return self.retries.push_back((now.after(RETRY_AFTER), channel.clone()));
        };
        let before = feed.tail_bytes();
        let (publications, lost) = feed.take_page(page, now);
        let epoch = feed.epoch();
        self.events.extend(publications.into_iter().map(|publication| {
            let (channel, epoch) = (channel.clone(), epoch.clone());
            BrokerEvent::Publication { channel, epoch, publication }
        }));
        self.events.extend(lost.then(|| BrokerEvent::Lost(channel.clone())));
        self.reads.extend(feed.queues().then(|| channel.clone()));
        self.tail_bytes = self.tail_bytes - before + feed.tail_bytes();
        self.answer(channel);
        self.bound_tails();
    }

    /// Time has passed; to be called a few times a second.
    pub fn handle_timeout(&mut self, now: Time) {
        while self.retries.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, channel)) = self.retries.pop_front() else { break };
            let must_read = self.feeds.get_mut(&channel).is_some_and(Feed::queues);
            self.reads.extend(must_read.then_some(channel));
        }
        while self.unheeded.front().is_some_and(|(at, _)| *at <= now) {
            let unheeded = self.unheeded.pop_front().map(|(_, channel)| channel);
            let wanted =
                unheeded.filter(|channel| self.feeds.get(channel).is_some_and(|feed| !feed.is_confirmed));
            self.interests.extend(wanted.map(Interest::Listen));
        }
        self.handle_expected(now);
        self.forget_idle(now);
        if !self.unneeded.is_empty() && self.unneeded_at <= now {
            self.unneeded_at = now.after(RETRY_AFTER);
            self.interests.extend(self.unneeded.iter().cloned().map(Interest::Unlisten));
        }
        if self.refresh_at <= now {
            self.refresh_at = now.after(self.limits.refresh);
            self.handle_doubt();
        }
    }

    fn handle_expected(&mut self, now: Time) {
        let due = self.expected.iter().filter(|(_, expected)| expected.is_due(now));
        for channel in due.map(|(channel, _)| channel.clone()).collect::<Vec<_>>() {
            let Some(expected) = self.expected.swap_remove(&channel) else { continue };
            let Some(feed) = self.feeds.get_mut(&channel).filter(|feed| feed.is_confirmed) else { continue };
            if feed.has_reached(expected.head()) {
                let next = expected.next().filter(|next| !feed.has_reached(next.head()));
                self.expected.extend(next.map(|next| (channel, next)));
                continue;
            }
            // Perhaps nothing of this channel arrives any more: the broker is asked for it again, and then read.
            feed.is_confirmed = false;
            self.events.extend(feed.lose().then(|| BrokerEvent::Lost(channel.clone())));
            self.interests.push_back(Interest::Listen(channel));
        }
    }

    fn forget_idle(&mut self, now: Time) {
        let linger = self.limits.linger;
        while let Some((since, channel)) = self.lingering.front() {
            if since.after(linger) > now && self.lingering.len() <= self.limits.lingering_max {
                return;
            }
            let idle = self.feeds.get(channel).is_some_and(|feed| feed.is_idle_since(*since));
            if idle && let Some(feed) = self.feeds.swap_remove(channel) {
                self.tail_bytes -= feed.tail_bytes();
                if feed.may_be_announced() {
                    self.unneeded.insert(channel.clone());
                    self.unneeded_at = now.after(RETRY_AFTER);
                }
                self.interests.push_back(Interest::Unlisten(channel.clone()));
            }
            self.lingering.pop_front();
        }
    }

    /// The channels listened to, those that linger among them, each with whether it is needed.
    pub fn channels(&self) -> impl ExactSizeIterator<Item = (&Channel, bool)> {
        self.feeds.iter().map(|(channel, feed)| (channel, feed.is_wanted))
    }

    /// The next change of what is to be announced here.
    pub fn poll_interest(&mut self) -> Option<Interest> {
        self.interests.pop_front()
    }

    /// The next history to be read.
    pub fn poll_read(&mut self) -> Option<IntakeRead> {
        while self.reading < self.limits.reads_max {
            let channel = self.reads.pop_front()?;
            let Some(feed) = self.feeds.get_mut(&channel) else { continue };
            feed.leave_queue();
            if !feed.is_confirmed || !feed.needs_read() {
                continue;
            }
            self.reading += 1;
            self.last_ticket += 1;
            let since = feed.ask(self.last_ticket);
            return Some(IntakeRead { channel, since, ticket: self.last_ticket });
        }
        None
    }

    /// The next thing that the instance is told.
    pub fn poll_event(&mut self) -> Option<BrokerEvent> {
        self.events.pop_front()
    }
}

#[cfg(test)]
mod tests;
