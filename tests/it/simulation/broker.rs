//! The model of a memory broker: publishing is one atomic step, announcements may get lost on their way to the node.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tidings::ablation::{Safeguard, ablated};
use tidings::hub::{Page, PageLimit, Stream, Time};
use tidings_protocol::{Code, Epoch, Offset, Payload, Position, Problem, Publication};

use super::bugs::Bug;
use super::context::{Context, Plan};
use super::faults::Fault;
use crate::history::{ChannelId, Event, PublishId};

/// What reaches the node.
#[derive(Clone, Debug)]
pub(crate) enum Announcement {
    /// A publication, in the order of its channel.
    Publication { channel: ChannelId, epoch: Option<Epoch>, publication: Arc<Publication> },
    /// Announcements of this channel were lost.
    Lost(ChannelId),
    /// Where the channels stood when this was sent.
    Heads(Vec<(ChannelId, Position)>),
}

/// Keeps everything until the instance ends.
pub(crate) struct Broker {
    generation: u32,
    streams: BTreeMap<ChannelId, Stream>,
    keys: BTreeMap<PublishId, Option<Position>>,
    under_way: VecDeque<Announcement>,
    last_arrival: Time,
}

impl Broker {
    /// An empty broker: the `generation`-th of this history.
    pub(crate) fn new(generation: u32, context: &Context) -> Self {
        let forgets = ablated(Safeguard::EpochOnRestart) || context.has_bug(Bug::EpochForgotten);
        let epoch = Epoch::parse(&format!("e{}", if forgets { 0 } else { generation }));
        let epoch = epoch.expect("a letter and digits are an epoch");
        let stream = |(id, spec): (usize, &super::channels::ChannelSpec)| {
            (!spec.is_volatile()).then(|| (ChannelId(id), Stream::new(epoch.clone())))
        };
        let streams = context.channels.iter().enumerate().filter_map(stream).collect();
        let under_way = VecDeque::new();
        Broker { generation, streams, keys: BTreeMap::new(), under_way, last_arrival: context.now() }
    }

    /// Stores and announces; a repeated publish gets the first answer again.
    pub(crate) fn publish(
        &mut self,
        publish: PublishId,
        channel: ChannelId,
        payload: Payload,
        context: &mut Context,
    ) -> Result<Option<Position>, Problem> {
        if context.inject(Fault::PublishRefused, context.profile.refusal) {
            if context.has_bug(Bug::RefusedButStored) {
                self.store(publish, channel, payload, context);
            }
            return Err(Code::BrokerUnavailable.into());
        }
        if let Some(known) = self.keys.get(&publish)
            && !context.has_bug(Bug::DuplicateOnRetry)
        {
            return Ok(known.clone());
        }
        let stored = self.store(publish, channel, payload, context);
        self.keys.insert(publish, stored.clone());
        Ok(stored)
    }

    fn store(
        &mut self,
        publish: PublishId,
        channel: ChannelId,
        payload: Payload,
        context: &mut Context,
    ) -> Option<Position> {
        let now = context.now();
        let mut publication = Publication { offset: None, time: 0, id: None, key: None, payload };
        if let Some(stream) = self.streams.get_mut(&channel) {
            if context.has_bug(Bug::AckBeforeStore) && context.random.chance(20) {
                return Some(stream.epoch().at(stream.head().offset.next()));
            }
            let stored = stream.append(publication, &context.channels[channel.0].retention, now);
            publication = Publication::clone(&stored);
            if context.has_bug(Bug::OffsetReused) && context.random.chance(20) {
                publication.offset = publication.offset.map(Offset::previous);
            }
        }
        let epoch = self.streams.get(&channel).map(|stream| stream.epoch().clone());
        let position = epoch.clone().zip(publication.offset).map(|(epoch, offset)| epoch.at(offset));
        context.record(Event::Stored { publish, channel, position: position.clone() });
        self.announce(Announcement::Publication { channel, epoch, publication: publication.into() }, context);
        position
    }

    fn announce(&mut self, announcement: Announcement, context: &mut Context) {
        let Announcement::Publication { channel, .. } = announcement else {
            return self.send(announcement, context);
        };
        let loss = context.loss(channel);
        // Without positions nobody can see a hole: such a loss is always noticed.
        let can_be_silent = !context.spec(channel).is_volatile();
        if context.inject(Fault::LossNoticed, loss) {
            self.send(Announcement::Lost(channel), context);
        } else if !can_be_silent || !context.inject(Fault::LossSilent, loss) {
            self.send(announcement, context);
        }
    }

    fn send(&mut self, announcement: Announcement, context: &mut Context) {
        self.under_way.push_back(announcement);
        self.last_arrival = self.last_arrival.max(context.now().after(context.random.between(0, 15)));
        context.schedule.at(self.last_arrival, Plan::Announcement { generation: self.generation });
    }

    /// What reaches the node now; nothing, where it was sent by a broker that is gone.
    pub(crate) fn next_announcement(&mut self, generation: u32) -> Option<Announcement> {
        if generation == self.generation { self.under_way.pop_front() } else { None }
    }

    /// Tells the node where everything stands.
    pub(crate) fn beacon(&mut self, context: &mut Context) {
        let heads = self.streams.iter().map(|(channel, stream)| (*channel, stream.head())).collect();
        self.announce(Announcement::Heads(heads), context);
    }

    /// What the channel holds after `since`; `None` for a volatile channel.
    pub(crate) fn read(
        &mut self,
        channel: ChannelId,
        since: Option<&Position>,
        limit: PageLimit,
        context: &mut Context,
    ) -> Result<Option<Page>, Problem> {
        if context.inject(Fault::ReadFailed, context.profile.refusal) {
            return Err(Code::BrokerUnavailable.into());
        }
        let now = context.now();
        let Some(stream) = self.streams.get_mut(&channel) else { return Ok(None) };
        stream.expire(now);
        let mut page = stream.read(since, limit);
        if context.has_bug(Bug::OffByOneAtResume) && page.gap.is_none() && page.publications.len() > 1 {
            page.publications.remove(0);
        }
        Ok(Some(page))
    }

    /// Where the channel stands; `None` for a volatile one.
    pub(crate) fn head(&self, channel: ChannelId) -> Option<Position> {
        self.streams.get(&channel).map(Stream::head)
    }
}
