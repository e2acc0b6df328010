//! The judge: what was committed and acknowledged when, and whether what clients serve reflects it (S1 to S6).
//!
//! A value is the number of commits that it reflects, so that it misses exactly the mutations of its tags that were
//! committed later.

use std::fmt;
use std::time::Duration;

use tidings::hub::{SessionId, Time};
use tidings_protocol::Position;

use super::values::{Change, Key};
use crate::history::ClientId;
use crate::simulation::context::{CALM, Start};
use crate::simulation::session_rules::LEASE;

/// After the faults everybody is well again within the lease and so much for reconnects and retries.
const BACKOFF: Duration = Duration::from_millis(5_500);

/// Without faults what is told takes a window, and so much on its way.
const WINDOW_AND_DELAYS: Duration = Duration::from_millis(100 + 60);

/// Where clients are far away, it takes so much longer.
const FAR: Duration = Duration::from_millis(150 + 20);

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Promise {
    /// S1: a lease after its acknowledgement, a mutation is reflected by everything that is served without asking.
    Lease,
    /// S2: without faults, a window after it.
    Window,
    /// S3: what was told to be known up to somewhere reflects every mutation up to there.
    Told,
    /// S4: nothing that was read before a mutation is stored with a basis at or above it.
    Basis,
    /// S5: whose mutation was acknowledged sees it.
    Own,
    /// S6: after the faults everybody holds a lease.
    Recovery,
    /// Nobody watches whose session is gone.
    Gone,
    /// What a forced read gives was asked for after it was forced.
    Forced,
    /// S1, too, of what was acknowledged as stored only, where the lease comes from the instance that acknowledged it.
    Stored,
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) promise: Promise,
    pub(crate) time: Time,
    pub(crate) what: String,
}

/// What is known of one mutation. Its number counts commits, from 1.
struct Mutation {
    touches: u32,
    /// When its author was told that it is acknowledged, as replicated.
    acknowledged: Option<Time>,
    /// When, and by whom, it was acknowledged as stored.
    stored: Option<(Time, Start)>,
    /// Its places in the log: more than one where the log has lost it.
    places: Vec<Position>,
}

/// What a client is about to serve without asking.
pub(crate) struct Serving<'a> {
    pub(crate) client: ClientId,
    pub(crate) key: Key,
    /// The commits that the value reflects.
    pub(crate) reflects: u64,
    /// Up to where it was told, by this connection, what touched the tags.
    pub(crate) told: [Option<&'a Position>; 2],
    /// The mutations of its own that were answered.
    pub(crate) own: &'a [u64],
    /// The instance that it has its lease from.
    pub(crate) lessor: Option<Start>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Judge {
    mutations: Vec<Mutation>,
    /// Nothing goes wrong in this world.
    is_calm: bool,
    pub(crate) serves: u64,
    pub(crate) violations: Vec<Violation>,
}

impl Judge {
    /// A judge of a world in which things go wrong, or do not.
    pub(crate) fn new(is_calm: bool) -> Self {
        Judge { is_calm, ..Judge::default() }
    }

    /// Whether nothing goes wrong.
    pub(crate) fn is_calm(&self) -> bool {
        self.is_calm
    }

    /// A mutation is about to be committed, or is; returns its number.
    pub(crate) fn mutation(&mut self, change: &Change) -> u64 {
        let touches = change.touches();
        self.mutations.push(Mutation { touches, acknowledged: None, stored: None, places: Vec::new() });
        self.mutations.len() as u64
    }

    fn of(&mut self, number: u64) -> &mut Mutation {
        &mut self.mutations[number as usize - 1]
    }

    /// The log has it there.
    pub(crate) fn placed(&mut self, number: u64, position: Position) {
        self.of(number).places.push(position);
    }

    /// Its author knows that replicas have it.
    pub(crate) fn acknowledged(&mut self, number: u64, now: Time) {
        self.of(number).acknowledged.get_or_insert(now);
    }

    /// Its author knows that it is stored, from this instance.
    pub(crate) fn stored(&mut self, number: u64, by: Start, now: Time) {
        self.of(number).stored.get_or_insert((now, by));
    }

    fn break_promise(&mut self, promise: Promise, time: Time, what: String) {
        self.violations.push(Violation { promise, time, what });
    }

    /// Mutations of the key that the value does not reflect.
    fn missed(&self, key: Key, reflects: u64) -> impl Iterator<Item = (u64, &Mutation)> {
        let later = self.mutations.iter().enumerate().skip(reflects as usize);
        later.filter(move |(_, of)| of.touches & 1 << key.0 != 0).map(|(index, of)| (index as u64 + 1, of))
    }

    /// Something is served without asking.
    pub(crate) fn served(&mut self, serving: &Serving<'_>, now: Time) {
        self.serves += 1;
        let broken = self.missed(serving.key, serving.reflects).find_map(|(number, mutation)| {
            let promise = self.broken_by(serving, number, mutation, now)?;
            let Serving { client, key, reflects, .. } = serving;
            let Mutation { acknowledged, stored, places, .. } = mutation;
            Some((promise, format!(
                "client {} serves key {} of commit {reflects} without {number}, acknowledged {acknowledged:?}, stored {stored:?}, at {places:?}; told {:?}",
                client.0, key.0, serving.told,
            )))
        });
        if let Some((promise, what)) = broken {
            self.break_promise(promise, now, what);
        }
    }

    fn broken_by(
        &self,
        serving: &Serving<'_>,
        number: u64,
        mutation: &Mutation,
        now: Time,
    ) -> Option<Promise> {
        let is_past = |since: Option<Time>, limit| since.is_some_and(|since| since.after(limit) <= now);
        let told = serving.told.iter().flatten();
        let is_told = |place: &Position| {
            told.clone().any(|told| told.epoch == place.epoch && place.offset <= told.offset)
        };
        let by_lessor = mutation.stored.filter(|(_, by)| serving.lessor == Some(*by));
        let window = WINDOW_AND_DELAYS + if self.is_calm { Duration::ZERO } else { FAR };
        let is_quiet = self.is_calm || now >= CALM.after(LEASE + BACKOFF);
        if is_past(mutation.acknowledged, LEASE) {
            Some(Promise::Lease)
        } else if is_quiet && is_past(mutation.acknowledged, window) {
            Some(Promise::Window)
        } else if mutation.places.iter().any(is_told) {
            Some(Promise::Told)
        } else if mutation.acknowledged.is_some() && serving.own.contains(&number) {
            Some(Promise::Own)
        } else if is_past(by_lessor.map(|(at, _)| at), LEASE) {
            Some(Promise::Stored)
        } else {
            None
        }
    }

    /// A value is stored somewhere as valid.
    pub(crate) fn kept(&mut self, place: &str, key: Key, reflects: u64, basis: &Position, now: Time) {
        let is_covered = |of: &Position| of.epoch == basis.epoch && of.offset <= basis.offset;
        let missed = self.missed(key, reflects).find(|(_, of)| of.places.iter().any(is_covered));
        if let Some((number, mutation)) = missed {
            let places = &mutation.places;
            let what = format!(
                "{place} keeps key {} of commit {reflects} with basis {basis}, without {number} at {places:?}",
                key.0
            );
            self.break_promise(Promise::Basis, now, what);
        }
    }

    /// A read that was forced then is answered by a request of that time.
    pub(crate) fn forced(&mut self, client: ClientId, key: Key, [forced, asked]: [Time; 2], now: Time) {
        if asked < forced {
            let what = format!("client {} has key {} read that it asked for before", client.0, key.0);
            self.break_promise(Promise::Forced, now, what);
        }
    }

    /// Sessions that are gone watch nothing.
    pub(crate) fn watched_by(&mut self, slot: usize, gone: Option<SessionId>, now: Time) {
        if let Some(session) = gone {
            let what = format!("instance {slot} still has watches of session {}, which is gone", session.0);
            self.break_promise(Promise::Gone, now, what);
        }
    }

    /// A client looks at a value, with a lease or without.
    pub(crate) fn looked(&mut self, client: ClientId, has_lease: bool, now: Time) {
        if !has_lease && now >= CALM.after(LEASE + BACKOFF) {
            let what = format!("client {} has no lease", client.0);
            self.break_promise(Promise::Recovery, now, what);
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { promise, time, what } = self;
        write!(f, "{promise:?} at {:.3} ms: {what}", time.0.as_secs_f64() * 1e3)
    }
}
