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
//! the tags and the *basis*, the log's position before the value was read. What the answer to an own mutation shows has a
//! basis too, the position before the transaction, and the position of that mutation as its *exception*: the value reflects
//! it. The ledger has no values, sends nothing and has no clock.
//!
//! A client
//! - says [`connected`](Ledger::connected) and [`disconnected`](Ledger::disconnected), hands in every frame of the log, and
//!   what it pings ([`pinged`](Ledger::pinged)), at once and then three times in a lease;
//! - asks [`begin`](Ledger::begin) before it reads a value, and says what it read ([`stored`](Ledger::stored));
//! - says what its own mutations touched ([`mutated`](Ledger::mutated)), and what it holds no more ([`forget`](Ledger::forget));
//! - asks [`check`](Ledger::check) before it serves;
//! - after each of these, or after several at once, carries out what [`effects`](Ledger::effects) gives.
//!
//! `now` is in milliseconds on the client's own clock, a [`LeaseClock`]. What is held is bounded by the entries that the
//! client stores and does not forget.

mod escalated;
mod held;
mod lease;
mod numbering;
mod questions;
mod reading;
mod told;
mod watch;

pub use lease::LeaseClock;
pub use reading::Reading;
pub use watch::Watch;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::escalated::Escalated;
use self::held::Held;
use self::lease::Lease;
use self::numbering::Numbering;
use self::questions::Questions;
use crate::{Offset, Position, Tag};

/// Touched tags that are remembered although nobody may hold them, for reads that were on their way. A read that sees more
/// of them go by is refused.
const RECENT_MAX: usize = 256;

/// What a client may serve without asking.
#[derive(Clone, Debug)]
pub struct Ledger<K> {
    numbering: Numbering,
    /// The last position told, in the present epoch.
    horizon: Offset,
    /// The last position told on this connection, in the present epoch.
    told: Offset,
    /// Whatever was read before this is stale.
    floor: Offset,
    lease: Lease,
    is_connected: bool,
    entries: BTreeMap<K, Entry>,
    held: Held<K>,
    /// Tags that were touched without the log saying so: by own mutations and resets.
    recent: VecDeque<Recent>,
    escalated: Escalated,
    questions: Questions<K>,
    /// Entries whose answers did not reach their exception yet.
    early: BTreeSet<K>,
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
    /// A mutation after the basis that the value reflects.
    except: Option<Position>,
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
    /// Nobody said on what it depends. The books are as they were.
    NoTags,
}

/// What a client has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<K> {
    /// Send this `watch`; after a retryable error send it again.
    Watch(Watch),
    /// Send `unwatch` with these tags.
    Unwatch(Vec<Tag>),
    /// Send `unwatch` with these subtrees as `escalated`.
    UnwatchEscalated(Vec<Tag>),
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
            told: Offset(0),
            floor: Offset(0),
            lease: Lease::default(),
            is_connected: false,
            entries: BTreeMap::new(),
            held: Held::default(),
            recent: VecDeque::new(),
            escalated: Escalated::default(),
            questions: Questions::default(),
            early: BTreeSet::new(),
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
        let mut effects = std::mem::take(&mut self.effects);
        if self.is_connected {
            effects.extend(self.questions.commands(&mut self.held, &self.entries));
        }
        effects
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
        self.is_connected = true;
        self.lease = Lease::new(lease_ms);
        self.told = Offset(0);
        self.escalated.clear();
        self.held.values_mut().for_each(|knowledge| knowledge.uncover());
        let numbering = &self.numbering;
        let means =
            |position: &Position| numbering.epoch().is_none() || numbering.offset_of(position).is_some();
        self.recent.retain(|recent| means(&recent.position));
        self.doubt(|_| true);
        // Whoever has nothing yet learns where the log stands: the basis of its first read.
        self.questions.ask_head();
    }

    /// The connection is lost. What is valid stays so until the lease is over.
    pub fn disconnected(&mut self) {
        self.is_connected = false;
        self.questions.disconnected();
        self.early.clear();
    }

    /// A `ping` with this `c` was sent on the present connection.
    pub fn pinged(&mut self, c: u64) {
        self.lease.pinged(c);
    }

    /// The basis of a read that starts now; `None` where nobody can tell one.
    pub fn begin(&self, now: u64) -> Option<Position> {
        self.horizon().filter(|_| now < self.lease.until())
    }

    /// A value was read.
    pub fn stored(&mut self, key: K, reading: Reading) -> Stored {
        let Reading { tags, begun, told, except } = reading;
        let Some(basis) = told.or(begun) else { return Stored::NoBasis };
        let Some(tags) = tags else { return Stored::NoTags };
        if self.is_touched(&tags, &basis, except.as_ref()) {
            return Stored::Touched;
        }
        let is_newer = |held: &Entry| self.is_newer(held, &basis, except.as_ref());
        if self.entries.get(&key).is_some_and(is_newer) {
            return Stored::Older;
        }
        let before = self.entries.remove(&key).map(|entry| entry.tags).unwrap_or_default();
        self.escalated.hold(&self.held.hold(&key, &tags));
        self.release(&key, &before.difference(&tags).cloned().collect());
        let mut entry =
            Entry { tags, basis, except, is_stale: false, unproven: BTreeSet::new(), proven_at: None };
        entry.settle(&self.numbering);
        entry.unproven = self.uncovered(&entry);
        // An answer about some of the tags may overtake what is told of the others.
        entry.proven_at = (entry.unproven.len() < entry.tags.len()).then_some(Offset(0));
        self.entries.insert(key.clone(), entry);
        self.questions.ask(key);
        Stored::Kept
    }

    /// Whether a mutation is known, other than `except`, that a value with these tags and this basis does not reflect: a read
    /// that began so is in vain.
    pub fn is_touched(&self, tags: &BTreeSet<Tag>, basis: &Position, except: Option<&Position>) -> bool {
        let offset = self.numbering.offset_of(basis);
        let own = except.and_then(|except| self.numbering.offset_of(except));
        let is_before = |version: Offset| offset.is_none_or(|offset| offset < version);
        let by_others = |tag| {
            let version = self.held.get(tag).and_then(|knowledge| knowledge.version);
            version.is_some_and(is_before) && version != own
        };
        let by_recent = |recent: &Recent| {
            tags.iter().any(|tag| overlap(tag, &recent.tag))
                && self.numbering.misses(basis, except, &recent.position)
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
        let Some(entry) = self.entries.get(key).filter(|entry| self.is_connected && !entry.is_stale) else {
            return false;
        };
        let means = |except: &Position| self.numbering.offset_of(except).is_some();
        entry.except.as_ref().is_none_or(means)
            && !entry.unproven.is_empty()
            && !entry.unproven.iter().any(|tag| self.is_denied(tag))
    }

    /// A mutation of this client's own was acknowledged at a position. That is no basis of what its answer shows: see
    /// [`Reading::except`].
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

    /// Whether what is held must not be replaced: its basis is above the other one, or it reflects an own mutation that the other
    /// one may not reflect, or it is good in the present epoch while nobody knows what the other basis means.
    fn is_newer(&self, held: &Entry, basis: &Position, except: Option<&Position>) -> bool {
        let is_known = |position| self.numbering.offset_of(position).is_some();
        let is_after = |position: &Position| self.numbering.order(position, basis) == Some(Ordering::Greater);
        match self.numbering.order(&held.basis, basis) {
            Some(Ordering::Greater) => true,
            Some(_) => {
                let own = held.except.as_ref();
                own.is_some_and(is_after) && !self.numbering.is_same(own, except)
            }
            None => !held.is_stale && is_known(&held.basis) && !is_known(basis),
        }
    }

    /// The tags of which nobody said that they were untouched since the basis. Of an exception nobody did without being asked.
    fn uncovered(&self, entry: &Entry) -> BTreeSet<Tag> {
        let basis = self.numbering.offset_of(&entry.basis).filter(|_| entry.except.is_none());
        let is_covered = |tag: &Tag| {
            let covered = self.held.get(tag).and_then(|knowledge| knowledge.covered);
            covered.zip(basis).is_some_and(|(covered, basis)| covered <= basis)
        };
        entry.tags.iter().filter(|tag| !is_covered(tag)).cloned().collect()
    }

    fn release(&mut self, key: &K, tags: &BTreeSet<Tag>) {
        self.early.remove(key);
        let released = self.held.release(key, tags);
        let left: Vec<Tag> = released.iter().map(|(tag, _)| tag.clone()).collect();
        self.questions.leave(released.into_iter().filter(|(_, watched)| *watched).map(|(tag, _)| tag));
        for subtree in self.escalated.leave(&left) {
            self.descend(subtree);
        }
    }

    /// What the subtree stood for is asked for again, tag by tag.
    fn descend(&mut self, subtree: Tag) {
        for tag in self.held.matching(|held| subtree.covers(held)) {
            let Some(knowledge) = self.held.get_mut(&tag) else { continue };
            knowledge.covered = None;
            knowledge.asked.clear();
            for key in &knowledge.keys {
                if let Some(entry) = self.entries.get_mut(key) {
                    entry.unproven.insert(tag.clone());
                    self.questions.ask(key.clone());
                }
            }
        }
        self.questions.leave_subtree(subtree);
    }
}

impl Entry {
    /// The value is as good as read at this position, if that is later than its basis.
    fn raise(&mut self, position: Position, numbering: &Numbering) {
        if numbering.precedes(&self.basis, &position) {
            self.basis = position;
        }
        self.settle(numbering);
    }

    /// An own mutation right after the basis is in the value; one at the basis or before it is no exception.
    fn settle(&mut self, numbering: &Numbering) {
        let is_next = |except: &&Position| {
            except.epoch == self.basis.epoch && except.offset == self.basis.offset.next()
        };
        if let Some(except) = self.except.as_ref().filter(is_next) {
            self.basis = except.clone();
        }
        let is_in = |except: &mut Position| numbering.order(&self.basis, except).is_some_and(Ordering::is_ge);
        self.except.take_if(is_in);
    }
}

/// Whether a mutation of one touches what has the other.
fn overlap(one: &Tag, other: &Tag) -> bool {
    one.covers(other) || other.covers(one)
}
