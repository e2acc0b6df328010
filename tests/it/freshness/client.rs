//! A client with a cache: the real ledger, driven as a cache in a browser drives it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidings::hub::{SessionId, Time};
use tidings_protocol::{
    Command, Effect, Envelope, Frame, Freshness, LeaseClock, Ledger, LogName, Position, Reading, Stored, Tag,
    UnwatchCommand, Watch, WatchCommand, WatchedFrame,
};

use super::closing::Closing;
use super::judge::Serving;
use super::origin::{Body, Fetch};
use super::values::Key;
use super::world::{CachePlan, Lab};
use super::writers::Mutated;
use crate::history::ClientId;
use crate::simulation::context::{INSTANCES, Plan, Start};
use crate::simulation::faults::Fault;
use crate::simulation::link::{Down, Up};
use crate::simulation::session_rules::LEASE;

/// A connection on which nothing came for this long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(4);

/// Reads of a value before a client gives up for now.
const TRIES_MAX: u32 = 3;

/// The wall clock at the beginning of time, in milliseconds.
const WALL_MS: u64 = 1_000_000;

/// See the module.
pub(crate) struct CacheClient {
    pub(crate) id: ClientId,
    pub(crate) session: Option<SessionId>,
    pub(crate) next_instance: usize,
    /// Its timers stand still, and it reads nothing.
    pub(crate) asleep_until: Time,
    /// It does not read from its connection.
    pub(crate) stalled_until: Time,
    slept: Duration,
    set_back: Duration,
    clock: LeaseClock,
    ledger: Ledger<Key>,
    /// The commits that each value reflects.
    shelf: BTreeMap<Key, u64>,
    reading: BTreeMap<Key, Fetching>,
    fetches: u64,
    /// Commands that ask to watch.
    watches: BTreeMap<u64, Watch>,
    commands: u64,
    /// Up to where this connection told everything that was watched.
    told: Option<Position>,
    /// Up to where it told what touched the tags of a key, when they were watched.
    watched: BTreeMap<Key, Position>,
    /// Mutations of its own that were answered.
    own: Vec<u64>,
    /// The instance at the other end, and the last one that greeted.
    connected_to: Option<Start>,
    lessor: Option<Start>,
    heard: Time,
    out: Vec<Up>,
}

/// A read of a value on its way.
struct Fetching {
    number: u64,
    begun: Option<Position>,
    tries: u32,
    /// When it was asked for, and when somebody demanded that it is read anew.
    asked: Time,
    forced: Option<Time>,
}

impl CacheClient {
    /// A client that holds nothing and is not connected.
    pub(crate) fn new(id: ClientId) -> Self {
        CacheClient {
            id,
            session: None,
            next_instance: id.0 % INSTANCES,
            asleep_until: Time::ZERO,
            stalled_until: Time::ZERO,
            slept: Duration::ZERO,
            set_back: Duration::ZERO,
            clock: LeaseClock::default(),
            ledger: Ledger::new(),
            shelf: BTreeMap::new(),
            reading: BTreeMap::new(),
            fetches: 0,
            watches: BTreeMap::new(),
            commands: 0,
            told: None,
            watched: BTreeMap::new(),
            own: Vec::new(),
            connected_to: None,
            lessor: None,
            heard: Time::ZERO,
            out: Vec::new(),
        }
    }

    /// What is to be sent.
    pub(crate) fn take_out(&mut self) -> Vec<Up> {
        std::mem::take(&mut self.out)
    }

    /// The machine sleeps for a while.
    pub(crate) fn sleep(&mut self, pause: Duration, now: Time) {
        self.slept += pause;
        self.asleep_until = now.after(pause);
    }

    /// Somebody sets the wall clock back. That the machine sleeps before it has looked at its clocks again is assumed not to
    /// happen: then both would have stood still.
    pub(crate) fn set_back(&mut self, by: Duration, lab: &Lab) {
        self.set_back += by;
        self.look_at_clock(lab);
    }

    /// The client's clock runs on.
    pub(crate) fn look_at_clock(&mut self, lab: &Lab) {
        self.now_ms(lab);
    }

    /// The client's clock. While it sleeps, its monotonic clock stands still.
    fn now_ms(&mut self, lab: &Lab) -> u64 {
        let now = lab.now();
        let asleep = self.asleep_until.since(now);
        let monotonic = now.0.saturating_sub(self.slept.saturating_sub(asleep)).as_millis() as u64;
        let wall = (WALL_MS + now.0.as_millis() as u64).saturating_sub(self.set_back.as_millis() as u64);
        match lab.keeps(Closing::WallClock) {
            true => self.clock.read(monotonic, wall),
            false => self.clock.read(monotonic, 0),
        }
    }

    /// A new connection: the instance is about to greet.
    pub(crate) fn handle_open(&mut self, session: SessionId, to: Start, now: Time) {
        self.session = Some(session);
        (self.connected_to, self.heard) = (Some(to), now);
    }

    /// The connection is gone; another is tried soon.
    pub(crate) fn handle_gone(&mut self, lab: &mut Lab) {
        self.session = None;
        self.ledger.disconnected();
        self.watches.clear();
        self.out.clear();
        self.next_instance = lab.some_slot();
        lab.cluster.context.soon(0, 1_000, Plan::Connect(self.id));
    }

    /// Somebody wants to see a value.
    pub(crate) fn look(&mut self, lab: &mut Lab) {
        let key = Key::any(&mut lab.cluster.context.random);
        let now_ms = self.now_ms(lab);
        let now = lab.now();
        lab.judge.looked(self.id, now_ms < self.ledger.lease_until(), now);
        // Without the closing a lease never ends.
        let at = if lab.keeps(Closing::Lease) { now_ms } else { 0 };
        if lab.cluster.context.inject(Fault::ForcedRead, 3) {
            return self.force(key, now_ms, lab);
        }
        match self.ledger.check(&key, at) {
            Freshness::Fresh => self.serve(key, lab),
            Freshness::Unknown if self.ledger.is_asked(&key) && now_ms < self.ledger.lease_until() => {}
            Freshness::Stale | Freshness::Unknown => self.begin(key, now_ms, lab),
        }
        if lab.cluster.context.inject(Fault::CacheDropped, 3) {
            self.drop_value(key);
            self.act(lab);
        }
    }

    fn serve(&mut self, key: Key, lab: &mut Lab) {
        let told = [self.told.as_ref(), self.watched.get(&key)];
        let serving = Serving {
            client: self.id,
            key,
            reflects: self.shelf[&key],
            told,
            own: &self.own,
            lessor: self.lessor,
        };
        lab.judge.served(&serving, lab.cluster.context.now());
    }

    fn drop_value(&mut self, key: Key) {
        self.ledger.forget(&key);
        self.shelf.remove(&key);
    }

    /// Reads a value, unless it is being read.
    fn begin(&mut self, key: Key, now_ms: u64, lab: &mut Lab) {
        if !self.reading.contains_key(&key) {
            let begun = self.ledger.begin(now_ms);
            let asked = lab.now();
            self.reading.insert(key, Fetching { number: 0, begun, tries: 0, asked, forced: None });
            self.fetch(key, lab);
        }
    }

    /// Reads a value, whether it is being read or not: what is on its way may be from before.
    fn force(&mut self, key: Key, now_ms: u64, lab: &mut Lab) {
        if lab.keeps(Closing::ForcedJoins) {
            self.reading.remove(&key);
        }
        self.begin(key, now_ms, lab);
        if let Some(reading) = self.reading.get_mut(&key) {
            reading.forced = Some(lab.now());
        }
    }

    fn fetch(&mut self, key: Key, lab: &mut Lab) {
        let Some(reading) = self.reading.get_mut(&key) else { return };
        self.fetches += 1;
        reading.number = self.fetches;
        let is_again = reading.tries > 0;
        let fetch = Fetch { client: self.id, key, number: self.fetches, is_again };
        lab.soon(5, 50, CachePlan::Fetch(fetch));
    }

    /// The answer to a read came.
    pub(crate) fn handle_body(&mut self, body: Body, lab: &mut Lab) {
        let key = body.fetch.key;
        let now_ms = self.now_ms(lab);
        let Some(mut reading) = self.reading.remove(&key).filter(|of| of.number == body.fetch.number) else {
            return;
        };
        if let Some(forced) = reading.forced {
            lab.judge.forced(self.id, key, [forced, reading.asked], lab.cluster.context.now());
        }
        let heeds = !body.is_cached || lab.keeps(Closing::HeaderBasis);
        let mut told = body.basis.filter(|_| heeds);
        if !lab.keeps(Closing::BasisBefore) {
            (reading.begun, told) = (self.ledger.begin(now_ms), None);
        }
        let tags = match body.no_tags {
            true => (!lab.keeps(Closing::NoTags)).then(BTreeSet::new),
            false => Some(key.tags().iter().cloned().collect()),
        };
        let read = Reading { tags, begun: reading.begun.clone(), told, except: None };
        let mut stored = self.store(key, body.reflects, read.clone(), lab);
        if stored == Stored::Touched && !lab.keeps(Closing::InFlight) {
            let read = Reading { begun: self.ledger.horizon(), told: None, ..read };
            stored = self.store(key, body.reflects, read, lab);
        }
        if stored == Stored::Touched && reading.tries < TRIES_MAX {
            let begun = self.ledger.begin(now_ms);
            let (number, asked) = (reading.number, lab.now());
            let forced = reading.forced;
            self.reading.insert(key, Fetching { number, begun, tries: reading.tries + 1, asked, forced });
            self.fetch(key, lab);
        }
        self.act(lab);
    }

    fn store(&mut self, key: Key, reflects: u64, read: Reading, lab: &mut Lab) -> Stored {
        let (basis, except) = (read.told.clone().or(read.begun.clone()), read.except.clone());
        let stored = self.ledger.stored(key, read);
        lab.note(|| {
            format!(
                "client {} stores key {} of commit {reflects} with basis {basis:?} but for {except:?}: {stored:?}",
                self.id.0, key.0
            )
        });
        if stored == Stored::Kept
            && let Some(basis) = basis
        {
            self.shelf.insert(key, reflects);
            self.watched.remove(&key);
            lab.judge.kept("a client", key, reflects, &basis, lab.cluster.context.now());
        }
        if stored == Stored::NoTags {
            // It may be shown as what it is; what was held is older.
            self.drop_value(key);
        }
        stored
    }

    /// The answer to a mutation of its own came, with what the row was at its end.
    pub(crate) fn handle_mutated(&mut self, mutated: &Mutated, lab: &mut Lab) {
        let Mutated { number, change, reflects, before, at, .. } = mutated;
        self.ledger.mutated(at, change.tags.iter().cloned());
        self.own.push(*number);
        if let Some(key) = change.row {
            let tags = Some(key.tags().iter().cloned().collect());
            let (told, except) = match lab.keeps(Closing::AnswerBasis) {
                true => (before.clone(), Some(at.clone())),
                false => (Some(at.clone()), None),
            };
            let stored = self.store(key, *reflects, Reading { tags, begun: None, told, except }, lab);
            if stored == Stored::Kept {
                lab.cluster.context.count(Fault::OwnKept, Some(self.id));
            }
        }
        self.act(lab);
    }

    /// Time for a ping; the connection is given up where nothing came for long. False then.
    pub(crate) fn ping(&mut self, lab: &mut Lab) -> bool {
        let Some(session) = self.session else { return true };
        if self.heard.after(SILENCE_MAX) <= lab.now() {
            return false;
        }
        let c = self.now_ms(lab);
        self.ledger.pinged(c);
        self.send(Command::Ping { c });
        lab.cluster.context.schedule.after(LEASE / 3, Plan::OfCaches(CachePlan::Ping(self.id, session)));
        true
    }

    fn send(&mut self, command: Command) -> u64 {
        self.commands += 1;
        self.out.push(Up::Command(self.commands, command));
        self.commands
    }

    /// Something came. False at the end of the connection.
    pub(crate) fn handle(&mut self, down: Down, lab: &mut Lab) -> bool {
        self.heard = lab.now();
        match down {
            Down::Frame(envelope) => self.handle_frame(envelope, lab),
            Down::Ping => self.out.push(Up::Pong),
            Down::End => return false,
            other => unreachable!("{other:?} is not said to a client that only watches"),
        }
        self.act(lab);
        true
    }

    fn handle_frame(&mut self, envelope: Envelope, lab: &mut Lab) {
        lab.note(|| format!("client {} gets {:?} {:?}", self.id.0, envelope.id, envelope.frame));
        match envelope.frame {
            Frame::Hello(hello) => {
                (self.told, self.watched, self.lessor) = (None, BTreeMap::new(), self.connected_to);
                self.ledger.connected(hello.lease_ms);
                self.ping(lab);
            }
            Frame::Watched(mut frame) => {
                let Some(watch) = envelope.id.and_then(|id| self.watches.remove(&id)) else { return };
                believe(&watch, &mut frame, lab);
                self.ledger.watched(watch.id, &frame);
                // Where it speaks of all tags of a key, nothing of them is left to be told.
                let tags: Vec<&Tag> = watch.groups.iter().flat_map(|group| &group.tags).collect();
                for key in self.shelf.keys().filter(|key| key.tags().iter().all(|tag| tags.contains(&tag))) {
                    self.watched.insert(*key, frame.at.clone());
                }
            }
            Frame::Invalidated(frame) => {
                self.ledger.invalidated(&frame);
                self.told = Some(frame.at);
            }
            Frame::At(frame) => {
                self.ledger.at(&frame);
                self.told = Some(frame.position);
            }
            Frame::Reset(frame) => {
                self.ledger.reset(&frame);
                self.told = Some(frame.at);
            }
            Frame::Continued(frame) => {
                self.ledger.continued(&frame);
                self.told = Some(frame.position);
            }
            Frame::Error(error) if error.retryable => {
                let watch = envelope.id.and_then(|id| self.watches.remove(&id));
                watch.into_iter().for_each(|watch| self.watch(watch));
            }
            Frame::Pong { .. } | Frame::Unwatched {} => {}
            other => unreachable!("{other:?} is not said to a client that only watches"),
        }
    }

    fn watch(&mut self, watch: Watch) {
        let command = WatchCommand { log: LogName::default(), groups: watch.groups.clone() };
        let id = self.send(Command::Watch(command));
        self.watches.insert(id, watch);
    }

    /// Does what the ledger wants done.
    fn act(&mut self, lab: &mut Lab) {
        for effect in self.ledger.effects() {
            lab.note(|| format!("client {} does {effect:?}", self.id.0));
            match effect {
                Effect::Watch(watch) => self.watch(watch),
                Effect::Unwatch(tags) => {
                    let (log, escalated) = (LogName::default(), Vec::new());
                    self.send(Command::Unwatch(UnwatchCommand { log, tags, escalated }));
                }
                Effect::UnwatchEscalated(escalated) => {
                    let (log, tags) = (LogName::default(), Vec::new());
                    self.send(Command::Unwatch(UnwatchCommand { log, tags, escalated }));
                }
                Effect::Forget(key) => drop(self.shelf.remove(&key)),
                Effect::Stale(_) | Effect::Proven(_) => {}
            }
        }
    }
}

/// Makes of an answer what a client takes it for that leaves a way open.
fn believe(watch: &Watch, frame: &mut WatchedFrame, lab: &Lab) {
    for group in watch.groups.iter().filter(|group| group.except.is_some()) {
        if !lab.keeps(Closing::ExceptUnproven) {
            frame.stale.retain(|tag| !group.tags.contains(tag));
        }
        let except = group.except.as_ref().filter(|except| except.epoch == frame.at.epoch);
        if let Some(except) = except.filter(|_| !lab.keeps(Closing::ExceptEarly)) {
            frame.at.offset = frame.at.offset.max(except.offset);
        }
    }
}
