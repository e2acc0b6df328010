//! A mailbox holds what others want a connection to write: batches, within a bound of bytes.
//!
//! What does not fit is not queued but *forgotten by name*: the set of channels that missed something. The session reads
//! those from history once it has caught up, or declares a gap. A set of held subscriptions cannot overflow.
//!
//! The mailbox also decides when its connection is woken: once per window for ticks, and at most once for leading edges.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use smallvec::SmallVec;
use tidings_protocol::{Channel, GapReason, LogName, Position};

use super::{Batch, BrokerState, Close, LogNews, Time, Urgency};
use crate::ablation::{Safeguard, ablated};

/// Batches of one connection. Few windows bring it more than four: those take no memory of their own.
pub type Batches = SmallVec<[Arc<Batch>; 4]>;

/// What waits for one connection.
#[derive(Debug)]
pub struct Mailbox {
    waiting: Batches,
    /// When the first of them came.
    waiting_since: Time,
    bytes: usize,
    bytes_max: usize,
    forgotten: IndexMap<Channel, GapReason>,
    /// By log.
    news: IndexMap<LogName, LogNews>,
    /// The last state of the broker that was not taken yet. A place for one, not a queue: an outage that began and ended
    /// since is told to nobody who knew nothing of it, and its end to whoever did; the session keeps apart which.
    broker: Option<BrokerState>,
    close: Option<Close>,
    /// Credentials were revoked since the connection looked at its own.
    revoked: bool,
    /// The connection had its leading write of the window that ends here.
    leading_until: Time,
    /// Held leading batches will be called for at this moment.
    owed_at: Option<Time>,
    /// The connection was told to look.
    called: bool,
}

/// What the connection takes out.
#[derive(Debug, Default)]
pub struct Mail {
    /// Batches in the order in which they were sealed.
    pub batches: Batches,
    /// Channels that missed something after those batches, and why.
    pub forgotten: IndexMap<Channel, GapReason>,
    /// What mutation logs have to tell.
    pub news: IndexMap<LogName, LogNews>,
    /// The broker's state, where it may have changed.
    pub broker: Option<BrokerState>,
    /// The connection is to end, after all of the above.
    pub close: Option<Close>,
    /// Credentials were revoked, its own perhaps: to be looked at before all of the above.
    pub revoked: bool,
}

/// What the one who put something in has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Wake the connection once everything of this moment is in.
    Now,
    /// Call for it at this moment.
    At(Time),
    /// Nothing: that is on its way already.
    No,
}

impl Mailbox {
    /// An empty mailbox for at most `bytes_max` bytes; while empty it accepts any one batch.
    pub fn new(bytes_max: usize) -> Self {
        Mailbox {
            waiting: Batches::new(),
            waiting_since: Time::ZERO,
            bytes: 0,
            bytes_max,
            forgotten: IndexMap::new(),
            news: IndexMap::new(),
            broker: None,
            close: None,
            revoked: false,
            leading_until: Time::ZERO,
            owed_at: None,
            called: false,
        }
    }

    /// Puts a batch in, or remembers that its channel missed something.
    pub fn offer(&mut self, batch: &Arc<Batch>, urgency: Urgency, now: Time) -> Wake {
        let fits = self.waiting.is_empty() || self.bytes + batch.bytes <= self.bytes_max;
        if !fits || self.forgotten.contains_key(&batch.channel) {
            if !ablated(Safeguard::GapOnOverflow) {
                self.forgotten.entry(batch.channel.clone()).or_insert(GapReason::Overflow);
            }
        } else {
            if self.waiting.is_empty() {
                self.waiting_since = now;
            }
            self.bytes += batch.bytes;
            self.waiting.push(batch.clone());
        }
        self.call_by(urgency, now)
    }

    fn call_by(&mut self, urgency: Urgency, now: Time) -> Wake {
        match urgency {
            Urgency::Leading { until } if now < self.leading_until => self.owe(until),
            Urgency::Leading { until } => {
                self.leading_until = until;
                self.call()
            }
            Urgency::Now | Urgency::Tick => self.call(),
        }
    }

    /// The channel missed something on its way here.
    pub fn forget(&mut self, channel: &Channel) -> Wake {
        self.forgotten.entry(channel.clone()).or_insert(GapReason::Lost);
        self.call()
    }

    /// A mutation log that stands at `at` has something to tell, in the manner of a leading batch.
    pub fn tell(
        &mut self,
        log: &LogName,
        at: &Position,
        until: Time,
        now: Time,
        tell: impl FnOnce(&mut LogNews),
    ) -> Wake {
        let news = match self.news.get_mut(log) {
            Some(news) => news,
            None => self.news.entry(log.clone()).or_insert_with(|| LogNews::new(at.clone())),
        };
        tell(news);
        news.at.clone_from(at);
        self.call_by(Urgency::Leading { until }, now)
    }

    /// The broker is in this state, whatever it was before.
    pub fn set_broker_state(&mut self, state: BrokerState) -> Wake {
        self.broker = Some(state);
        self.call()
    }

    /// The connection is to end once it wrote what is here.
    pub fn close(&mut self, close: Close) -> Wake {
        self.close.get_or_insert(close);
        self.call()
    }

    /// Credentials were revoked: the connection is to look at its own.
    pub fn recheck(&mut self) -> Wake {
        self.revoked = true;
        self.call()
    }

    /// The moment of a `Wake::At` has come.
    pub fn call(&mut self) -> Wake {
        match std::mem::replace(&mut self.called, true) {
            true => Wake::No,
            false => Wake::Now,
        }
    }

    fn owe(&mut self, until: Time) -> Wake {
        if self.called || self.owed_at.is_some_and(|at| at <= until) {
            return Wake::No;
        }
        self.owed_at = Some(until);
        Wake::At(until)
    }

    /// Whether the connection was told to look.
    pub fn is_called(&self) -> bool {
        self.called
    }

    /// Bytes that wait though the connection was told to look, and were there `patience` ago: what a slow reader holds.
    pub fn stuck_bytes(&self, patience: Duration, now: Time) -> usize {
        let is_stuck = self.called && now.since(self.waiting_since) >= patience;
        if is_stuck { self.bytes } else { 0 }
    }

    /// Throws away what waits. Only for a connection that is given up: it is told nothing more.
    pub fn clear(&mut self) {
        self.waiting = Batches::new();
        self.bytes = 0;
    }

    /// Whether something waits, called for or not.
    pub fn is_empty(&self) -> bool {
        let is_nothing_said = self.broker.is_none() && self.close.is_none() && !self.revoked;
        self.waiting.is_empty() && self.forgotten.is_empty() && self.news.is_empty() && is_nothing_said
    }

    /// Moves everything into `mail`, which is empty, once the connection was told to look; nothing before, so that held
    /// batches wait for their tick.
    pub fn take(&mut self, mail: &mut Mail) -> bool {
        if !std::mem::take(&mut self.called) {
            return false;
        }
        self.owed_at = None;
        self.bytes = 0;
        std::mem::swap(&mut self.waiting, &mut mail.batches);
        std::mem::swap(&mut self.forgotten, &mut mail.forgotten);
        std::mem::swap(&mut self.news, &mut mail.news);
        mail.broker = self.broker.take();
        mail.close = self.close.take();
        mail.revoked = std::mem::take(&mut self.revoked);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_protocol::{Payload, Publication};

    fn ms(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    fn take(mailbox: &mut Mailbox) -> Option<Mail> {
        let mut mail = Mail::default();
        mailbox.take(&mut mail).then_some(mail)
    }

    fn batch(channel: &str, bytes: usize) -> Arc<Batch> {
        let payload = Payload::text("x".repeat(bytes).as_bytes()).unwrap();
        let publication = Publication { offset: None, time: 0, id: None, key: None, payload };
        Arc::new(Batch::new(Channel::parse(channel).unwrap(), None, vec![Arc::new(publication)]))
    }

    #[test]
    fn an_empty_mailbox_accepts_any_batch_and_a_full_one_remembers_the_channel() {
        let mut mailbox = Mailbox::new(1_000);
        mailbox.offer(&batch("big", 5_000), Urgency::Tick, ms(0));
        mailbox.offer(&batch("small", 1), Urgency::Tick, ms(0));
        let mail = take(&mut mailbox).unwrap();
        assert_eq!(mail.batches.len(), 1);
        assert_eq!(mail.forgotten.keys().map(Channel::as_str).collect::<Vec<_>>(), ["small"]);
        mailbox.offer(&batch("small", 1), Urgency::Tick, ms(0));
        assert_eq!(take(&mut mailbox).unwrap().batches.len(), 1, "what was taken no longer counts");
    }

    #[test]
    fn what_waits_for_a_slow_reader_counts_and_what_is_on_its_way_does_not() {
        let mut mailbox = Mailbox::new(1_000);
        let patience = Duration::from_millis(100);
        mailbox.offer(&batch("a", 10), Urgency::Tick, ms(50));
        let bytes = mailbox.bytes;
        assert_eq!(mailbox.stuck_bytes(patience, ms(149)), 0);
        mailbox.offer(&batch("a", 10), Urgency::Tick, ms(149));
        assert_eq!(mailbox.stuck_bytes(patience, ms(150)), 2 * bytes);
        take(&mut mailbox);
        assert_eq!(mailbox.stuck_bytes(patience, ms(999)), 0, "it was taken");
        let held = Urgency::Leading { until: ms(10_000) };
        mailbox.offer(&batch("a", 10), held, ms(1_000));
        take(&mut mailbox);
        mailbox.offer(&batch("b", 10), held, ms(1_001));
        assert_eq!(mailbox.stuck_bytes(patience, ms(9_000)), 0, "it waits for its tick");
        mailbox.call();
        mailbox.clear();
        assert_eq!(mailbox.stuck_bytes(patience, ms(20_000)), 0);
    }

    #[test]
    fn a_forgotten_channel_gets_nothing_more_until_its_session_knows() {
        let mut mailbox = Mailbox::new(300);
        for _ in 0..10 {
            mailbox.offer(&batch("a", 100), Urgency::Tick, ms(0));
            mailbox.offer(&batch("b", 1), Urgency::Tick, ms(0));
        }
        let mail = take(&mut mailbox).unwrap();
        assert!(mail.forgotten.contains_key("a"));
        let after_loss = mail.batches.iter().filter(|batch| batch.channel.as_str() == "a").count();
        assert_eq!(after_loss, 1, "a hole is never followed by what came after it");
    }

    #[test]
    fn a_connection_has_one_leading_write_in_a_window() {
        let mut mailbox = Mailbox::new(1_000);
        let leading = Urgency::Leading { until: ms(100) };
        assert_eq!(mailbox.offer(&batch("a", 1), leading, ms(10)), Wake::Now);
        assert!(take(&mut mailbox).is_some());
        assert_eq!(mailbox.offer(&batch("b", 1), leading, ms(20)), Wake::At(ms(100)));
        assert_eq!(mailbox.offer(&batch("c", 1), leading, ms(30)), Wake::No, "it is owed already");
        assert!(take(&mut mailbox).is_none(), "held batches wait for their tick");
        assert_eq!(mailbox.call(), Wake::Now);
        assert_eq!(take(&mut mailbox).unwrap().batches.len(), 2);
        let next = Urgency::Leading { until: ms(200) };
        assert_eq!(mailbox.offer(&batch("d", 1), next, ms(110)), Wake::Now);
    }

    #[test]
    fn of_the_brokers_states_the_last_is_handed_out_and_only_once() {
        let mut mailbox = Mailbox::new(1_000);
        assert_eq!(mailbox.set_broker_state(BrokerState::Down { since_ms: 5 }), Wake::Now);
        assert_eq!(mailbox.set_broker_state(BrokerState::Up), Wake::No, "one wake-up is for all that is in");
        assert!(!mailbox.is_empty());
        assert_eq!(take(&mut mailbox).unwrap().broker, Some(BrokerState::Up));
        assert!(mailbox.is_empty());
        mailbox.offer(&batch("a", 1), Urgency::Tick, ms(0));
        assert_eq!(take(&mut mailbox).unwrap().broker, None);
    }

    #[test]
    fn a_tick_wakes_a_connection_once() {
        let mut mailbox = Mailbox::new(1_000);
        assert_eq!(mailbox.offer(&batch("a", 1), Urgency::Tick, ms(100)), Wake::Now);
        assert_eq!(mailbox.offer(&batch("b", 1), Urgency::Tick, ms(100)), Wake::No);
    }
}
