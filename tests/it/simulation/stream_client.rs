//! A client of an event stream, as simple as a browser's: it shows what comes and comes back with the last cursor.

use tidings_protocol::{Channel, ContinuedFrame, Frame, GapReason, Position, Publication};

use super::context::Context;
use crate::history::{ChannelId, ClientId, Event, PublishId};

/// A client with its cursor.
pub(crate) struct StreamClient {
    id: ClientId,
    channels: Vec<ChannelId>,
    cursor: Option<Vec<(Channel, Position)>>,
    cursor_lost: bool,
    begun: Vec<ChannelId>,
}

impl StreamClient {
    /// A client of some channels.
    pub(crate) fn new(id: ClientId, channels: Vec<ChannelId>) -> Self {
        StreamClient { id, channels, cursor: None, cursor_lost: false, begun: Vec::new() }
    }

    /// The next request carries a cursor that cannot be read. False if there is none to spoil.
    pub(crate) fn lose_cursor(&mut self) -> bool {
        self.cursor_lost = self.cursor.is_some();
        self.cursor_lost
    }

    /// The request: each channel with the cursor's position, and whether the cursor cannot be read.
    pub(crate) fn connect(&mut self, context: &mut Context) -> (Vec<(Channel, Option<Position>)>, bool) {
        let cursor_lost = std::mem::take(&mut self.cursor_lost);
        let request = self.channels.iter().map(|channel| {
            let since = self.position(*channel, context).filter(|_| !cursor_lost);
            if let Some(position) = since.clone() {
                context.record(Event::Resumed { client: self.id, channel: *channel, position });
            }
            (context.spec(*channel).channel.clone(), since)
        });
        (request.collect(), cursor_lost)
    }

    fn position(&self, channel: ChannelId, context: &Context) -> Option<Position> {
        let name = &context.spec(channel).channel;
        let mut places = self.cursor.iter().flatten();
        places.find(|(place, _)| place == name).map(|(_, position)| position.clone())
    }

    /// A named event came.
    pub(crate) fn handle_frame(&mut self, frame: Frame, context: &mut Context) {
        let client = self.id;
        match frame {
            Frame::Hello(_) => self.greeted(context),
            Frame::Gap(gap) => {
                let channel = context.id(&gap.channel);
                context.record(Event::Gap { client, channel, reason: gap.reason, position: gap.position });
            }
            Frame::Continued(ContinuedFrame { channel: Some(channel), from, position, .. }) => {
                let channel = context.id(&channel);
                context.record(Event::Continued { client, channel, from, position });
            }
            other => unreachable!("a stream that cannot be asked does not answer {other:?}"),
        }
    }

    /// Channels without history lose what is published between two connections: the greeting tells of it.
    fn greeted(&mut self, context: &mut Context) {
        let client = self.id;
        let volatile = |channel: &&ChannelId| context.spec(**channel).is_volatile();
        let volatile: Vec<ChannelId> = self.channels.iter().filter(volatile).copied().collect();
        for channel in volatile {
            let event = match self.begins(channel) {
                true => Event::Began { client, channel, position: None },
                false => Event::Gap { client, channel, reason: GapReason::Lost, position: None },
            };
            context.record(event);
        }
    }

    fn begins(&mut self, channel: ChannelId) -> bool {
        let begins = !self.begun.contains(&channel);
        if begins {
            self.begun.push(channel);
        }
        begins
    }

    /// A publication came.
    pub(crate) fn handle_event(
        &mut self,
        channel: &Channel,
        position: Option<Position>,
        publication: &Publication,
        context: &mut Context,
    ) {
        let (client, channel) = (self.id, context.id(channel));
        let publish = PublishId::of(&publication.payload);
        context.record(Event::Delivered { client, channel, position, publish });
    }

    /// The cursor moved; the first one says where the stream begins.
    pub(crate) fn handle_cursor(&mut self, cursor: Vec<(Channel, Position)>, context: &mut Context) {
        for (channel, position) in &cursor {
            let channel = context.id(channel);
            if self.begins(channel) {
                let position = Some(position.clone());
                context.record(Event::Began { client: self.id, channel, position });
            }
        }
        self.cursor = Some(cursor);
    }

    /// How far each channel got.
    pub(crate) fn positions(&self, context: &Context) -> Vec<(ChannelId, Option<Position>)> {
        self.channels.iter().map(|channel| (*channel, self.position(*channel, context))).collect()
    }
}
