//! The judge of a history: what publishers and clients saw must never contradict what was promised (P1 to P4).
//!
//! It knows nothing of hubs, sessions or frames. A publish whose outcome nobody learned may have happened or not. Where an
//! epoch continues another one, both hold the same publications up to the fork, and everything is judged across both.

mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tidings::hub::Time;
use tidings_protocol::{Ack, GapReason, Offset, Position};

use super::{ChannelId, ClientId, Event, Lineage, PublishId, Record};
use view::View;

/// What can be wrong with a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Delivered, but its author was told that it is surely not stored.
    FailedButDelivered,
    /// Two payloads at one position.
    TwoPayloads,
    /// One publish at two offsets of one epoch, or of one and another that continues it.
    TwoOffsets,
    /// Acknowledged, and at the end its epoch does not reach so far.
    Forgotten,
    /// Acknowledged as replicated, and the epoch that continues its own has another publication in its place.
    ReplicaForgot,
    /// Something published was neither delivered nor covered by a gap.
    Missed,
    /// An offset that does not grow.
    StepBack,
    /// An offset, or an epoch, that does not continue the one before, without a gap between them.
    Jump,
    /// An author's publications in another order than published.
    OrderInverted,
    /// A gap because of another epoch, which continues the client's place.
    Needless,
    /// After the calm at the end a client does not stand at the head.
    Behind,
    /// An instance listened to something else than what its sessions are attached to.
    Astray,
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
    let mut checker = Checker { lineage: Lineage::of(history), ..Checker::default() };
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
    lineage: Lineage,
    failed: BTreeSet<PublishId>,
    /// How often the broker stored it.
    stored: BTreeMap<PublishId, u32>,
    /// What was stored where it was given up.
    doomed: BTreeSet<PublishId>,
    /// What is known to be where, by deliveries and acknowledgements alike.
    places: BTreeMap<Numbering, BTreeMap<Offset, PublishId>>,
    /// Where each publish is known to be.
    offsets: BTreeMap<(PublishId, ChannelId), Vec<(String, Offset)>>,
    acked: BTreeMap<Numbering, BTreeMap<Offset, (PublishId, Ack)>>,
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
            Event::Stored { publish, channel, position } => {
                *self.stored.entry(*publish).or_default() += 1;
                if position.is_none() {
                    self.carried.entry(*channel).or_default().push((*publish, self.time));
                }
            }
            Event::Doomed { publish, .. } => drop(self.doomed.insert(*publish)),
            Event::Forked { .. } | Event::Injected { .. } => {}
            Event::Astray { what } => self.report(Kind::Astray, None, ChannelId(0), what.clone()),
            Event::Acked { publish, channel, position, ack } => {
                let Some(position) = position else { return };
                self.place(*publish, *channel, position, None);
                let numbering = (*channel, position.epoch.to_string());
                self.acked.entry(numbering).or_default().insert(position.offset, (*publish, *ack));
            }
            Event::Failed { publish, .. } => drop(self.failed.insert(*publish)),
            Event::Began { client, channel, position } => {
                self.views.insert((*client, *channel), View::begin(self.time, position.clone()));
            }
            Event::Resumed { client, channel, position } => {
                self.step(*client, *channel, |view| view.resume(position));
            }
            Event::Continued { client, channel, from, position } => {
                self.step(*client, *channel, |view| view.continue_as(from, position));
            }
            Event::Delivered { client, channel, position, publish } => {
                self.delivered(*client, *channel, position.as_ref(), *publish);
            }
            Event::Gap { client, channel, reason, position } => {
                self.gap(*client, *channel, *reason, position.as_ref());
            }
            Event::Left { client, channel } => {
                if let Some(view) = self.views.remove(&(*client, *channel)) {
                    self.look_for_missed(*client, *channel, &view);
                }
            }
            Event::Ended { client, channel, position, head } => {
                self.ended(*client, *channel, position.as_ref(), head.as_ref());
            }
        }
    }

    /// One client's view changes, if it has begun.
    fn step(
        &mut self,
        client: ClientId,
        channel: ChannelId,
        step: impl FnOnce(&mut View) -> Result<(), (Kind, String)>,
    ) {
        if let Some(Err((kind, what))) = self.views.get_mut(&(client, channel)).map(step) {
            self.report(kind, Some(client), channel, what);
        }
    }

    fn gap(&mut self, client: ClientId, channel: ChannelId, reason: GapReason, position: Option<&Position>) {
        let Some(view) = self.views.get_mut(&(client, channel)) else { return };
        let before = view.position().cloned();
        view.gap(self.time, reason, position);
        if let (GapReason::Epoch, Some(before), Some(position)) = (reason, before, position)
            && self
                .lineage
                .later(channel, before.epoch.as_str())
                .any(|later| later == position.epoch.as_str())
            && self.lineage.shared(channel, before.epoch.as_str(), position.epoch.as_str()) >= before.offset
        {
            let what = format!("{before} is still what it was in the epoch of {position}");
            self.report(Kind::Needless, Some(client), channel, what);
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
        // What came again after the broker forgot its keys has lost its place in the order.
        let again = self.stored.get(&publish).is_some_and(|times| *times > 1);
        let ordered = if again { Ok(()) } else { view.keep_order(publish) };
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
        let (epoch, offset) = (position.epoch.as_str(), position.offset);
        if let Some(there) = self.known_at(channel, epoch, offset).filter(|there| *there != publish) {
            let what = format!("{there} and {publish} are both at {position}");
            self.report(Kind::TwoPayloads, client, channel, what);
        }
        self.places.entry((channel, epoch.to_owned())).or_default().entry(offset).or_insert(publish);
        let known = self.offsets.entry((publish, channel)).or_default();
        // The lower of two places, if both epochs have it, lies below the higher one in its own epoch.
        let lineage = &self.lineage;
        let is_elsewhere = |(other, before): &&(String, Offset)| {
            *before != offset && lineage.shared(channel, other, epoch) >= offset.min(*before)
        };
        let elsewhere = known.iter().find(is_elsewhere).cloned();
        if !known.iter().any(|(other, before)| other == epoch && *before == offset) {
            known.push((epoch.to_owned(), offset));
        }
        if let Some((other, before)) = elsewhere {
            let what = format!("{publish} is at {other}.{before} and at {position}");
            self.report(Kind::TwoOffsets, client, channel, what);
        }
    }

    /// What is known to be at a place, under whatever epoch it was seen.
    fn known_at(&self, channel: ChannelId, epoch: &str, offset: Offset) -> Option<PublishId> {
        let at = |epoch: &str| self.places.get(&(channel, epoch.to_owned()))?.get(&offset).copied();
        at(epoch).or_else(|| {
            let kin = self.lineage.kin(channel, epoch).filter(|(_, shared)| *shared >= offset);
            kin.filter_map(|(other, _)| at(other)).next()
        })
    }

    /// What was acknowledged at or below the highest offset seen, and neither seen nor covered by a gap.
    fn look_for_missed(&mut self, client: ClientId, channel: ChannelId, view: &View) {
        let mut missed = Vec::new();
        for (epoch, seen) in view.epochs() {
            let itself = (epoch.as_str(), seen.highest());
            for (other, shared) in std::iter::once(itself).chain(self.lineage.kin(channel, epoch)) {
                let Some(acked) = self.acked.get(&(channel, other.to_owned())) else { continue };
                let before = acked.range(..=seen.highest().min(shared));
                missed.extend(before.filter(|(offset, _)| !seen.has(**offset)).map(
                    |(offset, (publish, _))| {
                        let highest = seen.highest();
                        format!("{publish} was acknowledged at {other}.{offset}, {epoch}.{highest} was seen")
                    },
                ));
            }
        }
        for what in missed {
            self.report(Kind::Missed, Some(client), channel, what);
        }
    }

    /// A client stands where the channel ends, and the channel reaches as far as was acknowledged.
    fn ended(
        &mut self,
        client: ClientId,
        channel: ChannelId,
        position: Option<&Position>,
        head: Option<&Position>,
    ) {
        let Some(head) = head else { return };
        let is_there = |position: &Position| {
            let shared = self.lineage.shared(channel, position.epoch.as_str(), head.epoch.as_str());
            position.offset == head.offset && shared >= head.offset
        };
        if !position.is_some_and(is_there) {
            let place = position.map_or("nowhere".to_owned(), Position::to_string);
            let what = format!("it stands at {place}, the head is {head}");
            self.report(Kind::Behind, Some(client), channel, what);
        }
        let acked = self.acked.get(&(channel, head.epoch.to_string()));
        if let Some((offset, (publish, _))) = acked.and_then(|acked| acked.range(head.offset.next()..).next())
        {
            let what = format!("{publish} was acknowledged at {}.{offset}, the head is {head}", head.epoch);
            self.report(Kind::Forgotten, None, channel, what);
        }
    }

    /// What was acknowledged as replicated is still there in the epochs that continue its own.
    fn look_for_forgotten_replicas(&mut self) {
        let mut forgotten = Vec::new();
        for ((channel, epoch), acked) in &self.acked {
            let replicated = acked.iter().filter(|(_, (_, ack))| *ack == Ack::Replicated);
            for (offset, (publish, _)) in replicated {
                let later = self.lineage.later(*channel, epoch);
                let there = later.filter_map(|later| Some((later, self.known_at(*channel, later, *offset)?)));
                forgotten.extend(there.filter(|(_, there)| there != publish).map(|(later, there)| {
                    let what = format!(
                        "{publish} was replicated at {epoch}.{offset}, {there} is at {later}.{offset}"
                    );
                    (*channel, what)
                }));
            }
        }
        for (channel, what) in forgotten {
            self.report(Kind::ReplicaForgot, None, channel, what);
        }
    }

    fn finish(&mut self) {
        let views = std::mem::take(&mut self.views);
        for ((client, channel), view) in &views {
            self.look_for_missed(*client, *channel, view);
            let carried = self.carried.get(channel).map_or(&[][..], Vec::as_slice);
            if let Some(what) = view.missed_volatile(carried, &self.doomed) {
                self.report(Kind::Missed, Some(*client), *channel, what);
            }
        }
        self.look_for_forgotten_replicas();
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
