//! The channels that the memory broker holds, and who made them and their history. Pure.
//!
//! What only reads creates nothing (R83): a channel that nobody has published to is answered as an empty stream. Channels and
//! bytes of history are shared by the rule of [`Shares`]: whoever made as many channels as are free makes no further one;
//! when the history is full, those lose theirs that have most.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use tidings_protocol::{Channel, Epoch, Position, Publication};

use super::BrokerError;
use super::epochs::Epochs;
use crate::hub::{Page, PageLimit, Retention, Stream, Time};
use crate::limits::{Account, Caller, Refused, Scope, Shares};

/// How often idle channels are looked for at most: each look is at all channels.
const FORGET_INTERVAL: Duration = Duration::from_secs(1);

/// All channels with a stream.
#[derive(Debug)]
pub(super) struct Streams {
    streams: IndexMap<Channel, Kept>,
    /// Channels that somebody is attached to: they are not forgotten.
    attached: HashSet<Channel>,
    epochs: Epochs,
    channels: Shares,
    history: Shares,
    next_forgetting: Time,
}

#[derive(Debug)]
struct Kept {
    stream: Stream,
    /// When it was last published to.
    used: Time,
    /// Until when what was published last could be resumed at; before that it is not forgotten.
    needed_until: Time,
    /// Who made the channel; `None` for a log, which counts as no channel.
    maker: Option<Account>,
    /// Who published what the stream keeps, oldest first, and its bytes.
    publishers: VecDeque<(Account, usize)>,
}

impl Streams {
    /// No channels, with epochs of this seed.
    pub(super) fn new(seed: &str, channels_max: usize, bytes_max: usize) -> Streams {
        Streams {
            streams: IndexMap::new(),
            attached: HashSet::new(),
            epochs: Epochs::new(seed, channels_max),
            channels: Shares::new(channels_max),
            history: Shares::new(bytes_max),
            next_forgetting: Time::ZERO,
        }
    }

    /// Appends a publication, which the caller made. Returns the numbering that it belongs to.
    pub(super) fn append(
        &mut self,
        channel: &Channel,
        publication: Publication,
        retention: &Retention,
        caller: &Caller,
        now: Time,
    ) -> Result<(Epoch, Arc<Publication>), BrokerError> {
        let index = match self.streams.get_index_of(channel) {
            Some(index) => index,
            None => self.create(channel, caller, now)?,
        };
        let publisher = self.history.open(caller);
        let kept = &mut self.streams[index];
        kept.used = now;
        kept.needed_until = now.after(retention.age_max);
        let publication = kept.stream.append(publication, retention, now);
        let bytes = publication.memory();
        kept.publishers.push_back((publisher, bytes));
        let epoch = kept.stream.epoch().clone();
        self.history.grow_anyway(publisher, bytes);
        self.settle(index);
        if self.history.used() > self.history.total() {
            self.make_room();
        }
        Ok((epoch, publication))
    }

    /// What the channel holds after `since`.
    pub(super) fn read(
        &mut self,
        channel: &Channel,
        since: Option<&Position>,
        limit: PageLimit,
        now: Time,
    ) -> Page {
        match self.streams.get_index_of(channel) {
            Some(index) => {
                self.expire_at(index, now);
                self.streams[index].stream.read(since, limit)
            }
            None => Stream::new(self.epochs.of(channel)).read(since, limit),
        }
    }

    /// The position of the channel's last publication.
    pub(super) fn head(&self, channel: &Channel) -> Position {
        match self.streams.get(channel) {
            Some(kept) => kept.stream.head(),
            None => Stream::new(self.epochs.of(channel)).head(),
        }
    }

    /// Whether somebody is attached to the channel from now on.
    pub(super) fn set_attached(&mut self, channel: &Channel, attached: bool) {
        match attached {
            true => self.attached.insert(channel.clone()),
            false => self.attached.remove(channel),
        };
    }

    /// Drops the publications that are too old.
    pub(super) fn expire(&mut self, now: Time) {
        (0..self.streams.len()).for_each(|index| self.expire_at(index, now));
    }

    /// The channels with a stream that clients can name, and their heads.
    pub(super) fn heads(&self) -> impl Iterator<Item = (&Channel, Position)> {
        let named = self.streams.iter().filter(|(channel, _)| !channel.is_log());
        named.map(|(channel, kept)| (channel, kept.stream.head()))
    }

    /// Who made how many channels.
    pub(super) fn channels(&self) -> &Shares {
        &self.channels
    }

    /// Who has how many bytes of history.
    pub(super) fn history(&self) -> &Shares {
        &self.history
    }

    fn create(&mut self, channel: &Channel, caller: &Caller, now: Time) -> Result<usize, BrokerError> {
        let maker = match channel.is_log() {
            true => None,
            false => Some(self.take_channel(caller, now)?),
        };
        let stream = Stream::new(self.epochs.of(channel));
        let kept = Kept { stream, used: now, needed_until: now, maker, publishers: VecDeque::new() };
        Ok(self.streams.insert_full(channel.clone(), kept).0)
    }

    fn take_channel(&mut self, caller: &Caller, now: Time) -> Result<Account, BrokerError> {
        let refused = match self.channels.take(caller, 1) {
            Ok(account) => return Ok(account),
            Err(refused) => refused,
        };
        if now < self.next_forgetting {
            return Err(BrokerError::TooManyChannels(refused));
        }
        self.next_forgetting = now.after(FORGET_INTERVAL);
        self.forget_idle(caller, &refused, now);
        self.channels.take(caller, 1).map_err(BrokerError::TooManyChannels)
    }

    /// Forgets the channels of which nobody needs the numbering: nobody is attached, and nothing was published for as long as
    /// it would be kept. Only those of the caller, where it has as many as it may; others are not made to pay for it.
    fn forget_idle(&mut self, caller: &Caller, refused: &Refused, now: Time) {
        self.expire(now);
        let account = self.channels.open(caller);
        let Streams { streams, attached, epochs, channels, .. } = self;
        let mut forgotten = Vec::new();
        streams.retain(|channel, kept| {
            let Some(maker) = kept.maker else { return true };
            let is_needed = !kept.stream.is_empty() || now < kept.needed_until || attached.contains(channel);
            if is_needed || !(refused.scope == Scope::Instance || channels.is_counted_with(maker, account)) {
                return true;
            }
            channels.close(maker, 1);
            forgotten.push(channel.clone());
            false
        });
        channels.close(account, 0);
        for channel in forgotten {
            epochs.forget(&channel, attached.iter().filter(|attached| !streams.contains_key(*attached)));
        }
    }

    fn expire_at(&mut self, index: usize, now: Time) {
        self.streams[index].stream.expire(now);
        self.settle(index);
    }

    /// Gives back what the stream keeps no more.
    fn settle(&mut self, index: usize) {
        let kept = &mut self.streams[index];
        while kept.publishers.len() > kept.stream.len() {
            if let Some((publisher, bytes)) = kept.publishers.pop_front() {
                self.history.close(publisher, bytes);
            }
        }
        if kept.publishers.is_empty() {
            kept.publishers = VecDeque::new();
        }
    }

    /// Frees a tenth of the bytes, of those who have most, from the channels that were published to longest ago. A tenth, so
    /// that the walk over all channels is paid by many publishes.
    fn make_room(&mut self) {
        let enough = self.history.total() / 10 * 9;
        let excess = self.history.excess(enough);
        let mut by_age: Vec<usize> = (0..self.streams.len()).collect();
        by_age.sort_by_key(|index| self.streams[*index].used);
        // A stream loses its oldest publications first, so what is to go may stand behind what others published: those
        // channels are left for the second walk.
        for is_buried in [false, true] {
            for index in by_age.iter().copied() {
                while self.history.used() > enough && self.must_shrink(index, is_buried, &excess) {
                    self.streams[index].stream.drop_oldest();
                    self.settle(index);
                }
            }
        }
    }

    fn must_shrink(&self, index: usize, is_buried: bool, excess: &crate::limits::Excess) -> bool {
        let mut publishers = self.streams[index].publishers.iter();
        let mut exceeds = |(publisher, _): &(Account, usize)| self.history.exceeds(*publisher, excess);
        match is_buried {
            false => publishers.next().is_some_and(exceeds),
            true => publishers.any(&mut exceeds),
        }
    }
}
