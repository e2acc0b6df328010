//! The client's share of caches that are never stale: which of its values it may serve without asking (R60-R69).
//!
//! ```text
//!              stored                         a tag was touched above its basis, reset
//!   (nothing) ────────▶ Unproven ──────────────────────────────────────────────▶ Stale
//!                        ▲    │ watched                                           ▲ │ stored
//!              connected │    ▼                                                   │ ▼
//!                       Valid ────────────────────────────────────────────────────┘ Unproven, Valid
//! ```
//!
//! A [`Ledger`] keeps the books of one mutation log for one client, across its connections: of each cached value the key,
//! the tags and the *basis*, the log's position before the value was read. It has no values, sends nothing and has no clock.
//!
//! A client
//! - says [`connected`](Ledger::connected) and [`disconnected`](Ledger::disconnected), hands in every frame of the log, and
//!   what it pings ([`pinged`](Ledger::pinged)), at once and then three times in a lease;
//! - asks [`begin`](Ledger::begin) before it reads a value, and hands the basis to [`stored`](Ledger::stored) with what it read;
//! - says what its own mutations touched ([`mutated`](Ledger::mutated)), and what it holds no more ([`forget`](Ledger::forget));
//! - asks [`check`](Ledger::check) before it serves;
//! - after each of these carries out what [`effects`](Ledger::effects) gives.
//!
//! `now` is in milliseconds on the client's own clock, a [`LeaseClock`]. What is held is bounded by the entries that the
//! client stores and does not forget.

mod held;
mod lease;
mod numbering;
mod told;
mod watch;

pub use lease::LeaseClock;
pub use watch::Watch;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::held::Held;
use self::lease::Lease;
use self::numbering::Numbering;
use crate::{Offset, Position, Tag, WatchGroup};

/// Touched tags that are remembered although nobody may hold them, for reads that were on their way. A read that sees more
/// of them go by is refused.
const RECENT_MAX: usize = 256;

/// What a client may serve without asking.
#[derive(Clone, Debug)]
pub struct Ledger<K> {
    numbering: Numbering,
    /// The last position told, in the present epoch.
    horizon: Offset,
    /// Whatever was read before this is stale.
    floor: Offset,
    lease: Lease,
    connected: bool,
    entries: BTreeMap<K, Entry>,
    held: Held<K>,
    /// Tags that were touched without the log saying so: by own mutations and resets.
    recent: VecDeque<Recent>,
    /// Subtrees that the server names in place of the tags in them.
    escalated: BTreeSet<Tag>,
    /// Watches without an answer.
    asked: BTreeMap<u64, Vec<WatchGroup>>,
    watches: u64,
    effects: Vec<Effect<K>>,
}

/// A tag that was touched.
#[derive(Clone, Debug)]
struct Recent {
    position: Position,
    tag: Tag,
    /// The `c` of the last ping that was sent before this was known.
    last_ping: Option<u64>,
}

#[derive(Clone, Debug)]
struct Entry {
    tags: BTreeSet<Tag>,
    basis: Position,
    is_stale: bool,
    /// The tags of which no answer says that they were untouched since the basis.
    unproven: BTreeSet<Tag>,
    /// Where the log stood at the oldest answer that counts; 0 where no answer speaks of all tags.
    proven_at: Option<Offset>,
}

/// What may be done with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Serve it.
    Fresh,
    /// It does not reflect a mutation: read it again.
    Stale,
    /// Nobody knows: it is not proven, or the lease is over.
    Unknown,
}

/// What became of a value that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is in the books, and replaces what was held under the key.
    Kept,
    /// One of its tags was touched after its basis: read again. The books are as they were.
    Touched,
    /// What is held under the key is newer. The books are as they were.
    Older,
    /// Nobody knows when it was read. The books are as they were.
    NoBasis,
}

/// What a client has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<K> {
    /// Send this `watch`; after a retryable error send it again.
    Watch(Watch),
    /// Send `unwatch` with these tags.
    Unwatch(Vec<Tag>),
    /// The value became stale.
    Stale(K),
    /// The value is valid as long as there is a lease.
    Proven(K),
    /// The value may not be shown any more; the books have forgotten it.
    Forget(K),
}

impl<K> Default for Ledger<K> {
    fn default() -> Self {
        Ledger {
            numbering: Numbering::default(),
            horizon: Offset(0),
            floor: Offset(0),
            lease: Lease::default(),
            connected: false,
            entries: BTreeMap::new(),
            held: Held::default(),
            recent: VecDeque::new(),
            escalated: BTreeSet::new(),
            asked: BTreeMap::new(),
            watches: 0,
            effects: Vec::new(),
        }
    }
}

impl<K: Ord + Clone> Ledger<K> {
    /// Empty books.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is to be done since this was asked last, in order.
    pub fn effects(&mut self) -> Vec<Effect<K>> {
        std::mem::take(&mut self.effects)
    }

    /// The last position that was told; `None` before the first.
    pub fn horizon(&self) -> Option<Position> {
        Some(self.numbering.epoch()?.at(self.horizon))
    }

    /// When the lease ends, on the client's clock; 0 where there is none.
    pub fn lease_until(&self) -> u64 {
        self.lease.until()
    }

    /// A connection whose `hello` gave this `lease_ms`. Everything is to be proven anew, and there is no lease yet: this
    /// server may know less than the last one (R61).
    pub fn connected(&mut self, lease_ms: u64) {
        self.disconnected();
        self.connected = true;
        self.lease = Lease::new(lease_ms);
        self.escalated.clear();
        self.held.values_mut().for_each(|knowledge| knowledge.uncover());
        let numbering = &self.numbering;
        let means =
            |position: &Position| numbering.epoch().is_none() || numbering.offset_of(position).is_some();
        self.recent.retain(|recent| means(&recent.position));
        self.doubt(|_| true);
        if self.asked.is_empty() {
            // Whoever has nothing yet learns where the log stands: the basis of its first read.
            self.send(Vec::new());
        }
    }

    /// The connection is lost. What is valid stays so until the lease is over.
    pub fn disconnected(&mut self) {
        self.connected = false;
        self.asked.clear();
    }

    /// A `ping` with this `c` was sent on the present connection.
    pub fn pinged(&mut self, c: u64) {
        self.lease.pinged(c);
    }

    /// The basis of a read that starts now; `None` where nobody can tell one.
    pub fn begin(&self, now: u64) -> Option<Position> {
        self.horizon().filter(|_| now < self.lease.until())
    }

    /// A value was read, with these tags. Its basis is the one that came with it, or else that of [`begin`](Ledger::begin).
    pub fn stored(
        &mut self,
        key: K,
        tags: impl IntoIterator<Item = Tag>,
        begun: Option<Position>,
        told: Option<Position>,
    ) -> Stored {
        let Some(basis) = told.or(begun) else { return Stored::NoBasis };
        let tags: BTreeSet<Tag> = tags.into_iter().collect();
        if self.is_touched(&tags, &basis) {
            return Stored::Touched;
        }
        if self.entries.get(&key).is_some_and(|held| self.is_newer(held, &basis)) {
            return Stored::Older;
        }
        let before = self.entries.remove(&key).map(|entry| entry.tags).unwrap_or_default();
        self.held.hold(&key, &tags);
        self.release(&key, &before.difference(&tags).cloned().collect());
        let unproven = self.uncovered(&tags, &basis);
        // An answer about some of the tags may overtake what is told of the others.
        let proven_at = (unproven.len() < tags.len()).then_some(Offset(0));
        let entry = Entry { tags, basis, is_stale: false, unproven, proven_at };
        self.entries.insert(key.clone(), entry);
        self.ask(std::slice::from_ref(&key));
        Stored::Kept
    }

    /// Whether a mutation is known that a value with these tags and this basis does not reflect: a read that began so is in
    /// vain.
    pub fn is_touched(&self, tags: &BTreeSet<Tag>, basis: &Position) -> bool {
        let offset = self.numbering.offset_of(basis);
        let is_before = |version: Offset| offset.is_none_or(|offset| offset < version);
        let by_others =
            |tag| self.held.get(tag).and_then(|knowledge| knowledge.version).is_some_and(is_before);
        let by_recent = |recent: &Recent| {
            tags.iter().any(|tag| overlap(tag, &recent.tag)) && self.precedes(basis, &recent.position)
        };
        (self.floor > Offset(0) && is_before(self.floor))
            || tags.iter().any(by_others)
            || self.recent.iter().any(by_recent)
    }

    /// A value is held no more.
    pub fn forget(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.release(key, &entry.tags);
        }
    }

    /// What may be done with a value at `now`.
    pub fn check(&self, key: &K, now: u64) -> Freshness {
        match self.entries.get(key) {
            Some(entry) if entry.is_stale => Freshness::Stale,
            Some(entry) if entry.unproven.is_empty() && now < self.lease.until() => Freshness::Fresh,
            Some(_) | None => Freshness::Unknown,
        }
    }

    /// Whether an answer is on its way that decides about the value.
    pub fn is_asked(&self, key: &K) -> bool {
        let Some(entry) = self.entries.get(key).filter(|entry| self.connected && !entry.is_stale) else {
            return false;
        };
        !entry.unproven.is_empty() && !entry.unproven.iter().any(|tag| self.is_denied(tag))
    }

    /// A mutation of this client's own was acknowledged at a position. What its answer shows may be stored with that basis.
    pub fn mutated(&mut self, position: &Position, tags: impl IntoIterator<Item = Tag>) {
        let offset = self.numbering.offset_of(position).unwrap_or_default();
        self.horizon = self.horizon.max(offset);
        for tag in tags {
            for held in self.held.matching(|held| overlap(held, &tag)) {
                self.touch(&held, position);
            }
            self.remember(position, tag);
        }
    }

    fn remember(&mut self, position: &Position, tag: Tag) {
        let last_ping = self.lease.last_ping();
        self.recent.push_back(Recent { position: position.clone(), tag, last_ping });
        if self.recent.len() > RECENT_MAX {
            let gone = self.recent.pop_front().and_then(|recent| self.numbering.offset_of(&recent.position));
            self.floor = self.floor.max(gone.unwrap_or_default());
        }
    }

    /// Whether `one` is before `other`, or nobody can tell.
    fn precedes(&self, one: &Position, other: &Position) -> bool {
        self.numbering.order(one, other).is_none_or(Ordering::is_lt)
    }

    /// Whether what is held must not be replaced: its basis is above the other one, or it is good in the present epoch while nobody
    /// knows what the other one means.
    fn is_newer(&self, held: &Entry, other: &Position) -> bool {
        let is_known = |position| self.numbering.offset_of(position).is_some();
        let alone = || !held.is_stale && is_known(&held.basis) && !is_known(other);
        self.numbering.order(&held.basis, other).map_or_else(alone, Ordering::is_gt)
    }

    /// The tags of which nobody said that they were untouched since the basis.
    fn uncovered(&self, tags: &BTreeSet<Tag>, basis: &Position) -> BTreeSet<Tag> {
        let basis = self.numbering.offset_of(basis);
        let is_covered = |tag: &Tag| {
            let covered = self.held.get(tag).and_then(|knowledge| knowledge.covered);
            covered.zip(basis).is_some_and(|(covered, basis)| covered <= basis)
        };
        tags.iter().filter(|tag| !is_covered(tag)).cloned().collect()
    }

    fn release(&mut self, key: &K, tags: &BTreeSet<Tag>) {
        let left = self.held.release(key, tags);
        if self.connected && !left.is_empty() {
            // An answer that is still to come says nothing of what is taken back after the question.
            for group in self.asked.values_mut().flatten() {
                group.tags.retain(|tag| !left.contains(tag));
            }
            self.effects.push(Effect::Unwatch(left));
        }
    }
}

/// Whether a mutation of one touches what has the other.
fn overlap(one: &Tag, other: &Tag) -> bool {
    one.covers(other) || other.covers(one)
}
