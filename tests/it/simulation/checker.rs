//! The judge of a history: what publishers and clients saw must never contradict what was promised (P1 to P4).
//!
//! It knows nothing of hubs, sessions or frames. A publish whose outcome nobody learned may have happened or not.

mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tidings::hub::Time;
use tidings_protocol::{Offset, Position};

use super::channels::ChannelId;
use super::history::{ClientId, Event, PublishId, Record};
use view::View;

/// What can be wrong with a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Delivered, but its author was told that it is surely not stored.
    FailedButDelivered,
    /// Two payloads at one position.
    TwoPayloads,
    /// One publish at two offsets of one epoch.
    TwoOffsets,
    /// Something published was neither delivered nor covered by a gap.
    Missed,
    /// An offset that does not grow.
    StepBack,
    /// An offset, or an epoch, that does not continue the one before, without a gap between them.
    Jump,
    /// An author's publications in another order than published.
    OrderInverted,
    /// After the calm at the end a client does not stand at the head.
    Behind,
}

/// One thing wrong with a history.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) kind: Kind,
    pub(crate) client: Option<ClientId>,
    pub(crate) channel: ChannelId,
    pub(crate) time: Time,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { kind, client, channel, time, what } = self;
        write!(f, "{kind:?} at {:.3} ms in channel {}", time.0.as_secs_f64() * 1e3, channel.0)?;
        client.map_or(Ok(()), |client| write!(f, " of client {}", client.0))?;
        write!(f, ": {what}")
    }
}

/// A channel and an epoch of it.
type Numbering = (ChannelId, String);

/// Everything that is wrong with a history.
pub(crate) fn check(history: &[Record]) -> Vec<Violation> {
    let mut checker = Checker::default();
    for record in history {
        checker.time = record.time;
        checker.handle(&record.event);
    }
    checker.finish();
    checker.violations
}

#[derive(Default)]
struct Checker {
    time: Time,
    violations: Vec<Violation>,
    failed: BTreeSet<PublishId>,
    /// What is known to be where, by deliveries and acknowledgements alike.
    places: BTreeMap<Numbering, BTreeMap<Offset, PublishId>>,
    offsets: BTreeMap<(PublishId, Numbering), Offset>,
    acked: BTreeMap<Numbering, BTreeMap<Offset, PublishId>>,
    /// What volatile channels carried, in order.
    carried: BTreeMap<ChannelId, Vec<(PublishId, Time)>>,
    views: BTreeMap<(ClientId, ChannelId), View>,
    delivered: BTreeMap<PublishId, (ClientId, ChannelId, Time)>,
}

impl Checker {
    fn report(&mut self, kind: Kind, client: Option<ClientId>, channel: ChannelId, what: String) {
        self.violations.push(Violation { kind, client, channel, time: self.time, what });
    }

    fn handle(&mut self, event: &Event) {
        match event {
            Event::Stored { publish, channel, position: None } => {
                self.carried.entry(*channel).or_default().push((*publish, self.time));
            }
            Event::Stored { .. } | Event::Injected { .. } => {}
            Event::Acked { publish, channel, position } => {
                let Some(position) = position else { return };
                self.place(*publish, *channel, position, None);
                let numbering = (*channel, position.epoch.to_string());
                self.acked.entry(numbering).or_default().insert(position.offset, *publish);
            }
            Event::Failed { publish, .. } => drop(self.failed.insert(*publish)),
            Event::Began { client, channel, position } => {
                self.views.insert((*client, *channel), View::begin(self.time, position.clone()));
            }
            Event::Resumed { client, channel, position } => {
                let resumed = self.views.get_mut(&(*client, *channel)).map(|view| view.resume(position));
                if let Some(Err((kind, what))) = resumed {
                    self.report(kind, Some(*client), *channel, what);
                }
            }
            Event::Delivered { client, channel, position, publish } => {
                self.delivered(*client, *channel, position.as_ref(), *publish);
            }
            Event::Gap { client, channel, position, .. } => {
                let time = self.time;
                if let Some(view) = self.views.get_mut(&(*client, *channel)) {
                    view.gap(time, position.as_ref());
                }
            }
            Event::Left { client, channel } => {
                if let Some(view) = self.views.remove(&(*client, *channel)) {
                    self.look_for_missed(*client, *channel, &view);
                }
            }
            Event::Ended { client, channel, position, head } => {
                if head.is_some() && position != head {
                    let show =
                        |p: &Option<Position>| p.as_ref().map_or("nowhere".into(), Position::to_string);
                    let what = format!("it stands at {}, the head is {}", show(position), show(head));
                    self.report(Kind::Behind, Some(*client), *channel, what);
                }
            }
        }
    }

    fn delivered(
        &mut self,
        client: ClientId,
        channel: ChannelId,
        position: Option<&Position>,
        publish: PublishId,
    ) {
        self.delivered.insert(publish, (client, channel, self.time));
        let carried = self.carried.get(&channel).map_or(&[][..], Vec::as_slice);
        let Some(view) = self.views.get_mut(&(client, channel)) else {
            let what = format!("{publish} came before a subscription began");
            return self.report(Kind::StepBack, Some(client), channel, what);
        };
        let continues = match position {
            Some(position) => view.deliver(position),
            None => view.deliver_volatile(publish, carried),
        };
        let ordered = view.keep_order(publish);
        for (kind, what) in [continues, ordered].into_iter().filter_map(Result::err) {
            self.report(kind, Some(client), channel, what);
        }
        if let Some(position) = position {
            self.place(publish, channel, position, Some(client));
        }
    }

    /// One publish, one place; one place, one publish.
    fn place(
        &mut self,
        publish: PublishId,
        channel: ChannelId,
        position: &Position,
        client: Option<ClientId>,
    ) {
        let numbering = (channel, position.epoch.to_string());
        let offset = position.offset;
        let there = *self.places.entry(numbering.clone()).or_default().entry(offset).or_insert(publish);
        if there != publish {
            let what = format!("{there} and {publish} are both at {position}");
            self.report(Kind::TwoPayloads, client, channel, what);
        }
        let before = *self.offsets.entry((publish, numbering)).or_insert(offset);
        if before != offset {
            let what = format!("{publish} is at {before} and at {position}");
            self.report(Kind::TwoOffsets, client, channel, what);
        }
    }

    /// What was acknowledged at or below the highest offset seen, and neither seen nor covered by a gap.
    fn look_for_missed(&mut self, client: ClientId, channel: ChannelId, view: &View) {
        let mut missed = Vec::new();
        for (epoch, seen) in view.epochs() {
            let Some(acked) = self.acked.get(&(channel, epoch.clone())) else { continue };
            let before = acked.range(..=seen.highest());
            missed.extend(before.filter(|(offset, _)| !seen.has(**offset)).map(|(offset, publish)| {
                format!("{publish} was acknowledged at {epoch}.{offset}, {} was seen", seen.highest())
            }));
        }
        for what in missed {
            self.report(Kind::Missed, Some(client), channel, what);
        }
    }

    fn finish(&mut self) {
        let views = std::mem::take(&mut self.views);
        for ((client, channel), view) in &views {
            self.look_for_missed(*client, *channel, view);
            let carried = self.carried.get(channel).map_or(&[][..], Vec::as_slice);
            if let Some(what) = view.missed_volatile(carried) {
                self.report(Kind::Missed, Some(*client), *channel, what);
            }
        }
        let delivered = std::mem::take(&mut self.delivered);
        for publish in std::mem::take(&mut self.failed) {
            if let Some((client, channel, time)) = delivered.get(&publish) {
                self.time = *time;
                let what = format!("{publish} was refused, and came all the same");
                self.report(Kind::FailedButDelivered, Some(*client), *channel, what);
            }
        }
    }
}
