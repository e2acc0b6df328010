//! Where values come from: a database with a replica that lags, a shared cache in front of it, and an HTTP cache in front of
//! all.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tidings::hub::Time;
use tidings_protocol::{Position, WatchGroup};

use super::closing::Closing;
use super::values::Key;
use super::world::{CachePlan, Lab};
use crate::history::ClientId;
use crate::simulation::context::Plan;
use crate::simulation::faults::Fault;

/// How long the HTTP cache keeps an answer.
const HTTP_AGE: Duration = Duration::from_secs(4);

/// A client's request.
#[derive(Clone, Debug)]
pub(crate) struct Fetch {
    pub(crate) client: ClientId,
    pub(crate) key: Key,
    /// Tells it from the client's others.
    pub(crate) number: u64,
    /// The client wants no cached answer.
    pub(crate) is_again: bool,
}

/// A read of the database on its way.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    fetch: Fetch,
    basis: Option<Position>,
    /// The commits that it reflects, once it was done.
    reflects: u64,
}

/// What a client gets.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) fetch: Fetch,
    pub(crate) reflects: u64,
    /// The header `Tidings-Basis`.
    pub(crate) basis: Option<Position>,
    /// It comes from the HTTP cache.
    pub(crate) is_cached: bool,
    /// Somebody on the way has dropped the names of the tags.
    pub(crate) no_tags: bool,
}

/// A value with its basis.
#[derive(Clone, Debug)]
struct Kept {
    reflects: u64,
    basis: Position,
    at: Time,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Origin {
    /// Commits so far.
    committed: u64,
    /// Of each commit that the replica has not applied, where the log stood before it, if anybody knew.
    unapplied: VecDeque<Option<Position>>,
    last_applied: Time,
    shared: BTreeMap<Key, Kept>,
    http: BTreeMap<Key, Kept>,
}

impl Origin {
    /// The next change is committed.
    pub(crate) fn commit(&mut self, lab: &mut Lab) {
        self.committed += 1;
        self.unapplied.push_back(lab.known_position());
        let lags = lab.cluster.context.inject(Fault::ReplicaLags, 15);
        let lag = lab.cluster.context.random.between(5, if lags { 3_000 } else { 400 });
        self.last_applied = self.last_applied.max(lab.now().after(lag));
        lab.cluster.context.schedule.at(self.last_applied, Plan::OfCaches(CachePlan::Applied));
    }

    /// The replica has applied one more.
    pub(crate) fn apply(&mut self) {
        self.unapplied.pop_front();
    }

    /// A request came.
    pub(crate) fn fetch(&mut self, fetch: Fetch, lab: &mut Lab) {
        if let Some(kept) = self.in_http_cache(&fetch, lab) {
            let (reflects, basis) = (kept.reflects, Some(kept.basis));
            return answer(Body { fetch, reflects, basis, is_cached: true, no_tags: false }, lab);
        }
        if let Some((kept, at)) = self.in_shared_cache(&fetch, lab) {
            let reflects = kept.reflects;
            lab.judge.kept("the shared cache", fetch.key, reflects, &at, lab.cluster.context.now());
            return answer(Body { fetch, reflects, basis: Some(at), is_cached: false, no_tags: false }, lab);
        }
        let read = Read { basis: lab.known_position(), fetch, reflects: 0 };
        lab.soon(1, 20, CachePlan::Read(read));
    }

    fn in_http_cache(&self, fetch: &Fetch, lab: &mut Lab) -> Option<Kept> {
        let now = lab.now();
        let kept = self.http.get(&fetch.key).filter(|kept| kept.at.after(HTTP_AGE) > now)?;
        let context = &mut lab.cluster.context;
        let answers =
            if fetch.is_again { context.inject(Fault::OldBody, 100) } else { context.random.chance(400) };
        answers.then(|| kept.clone())
    }

    /// What the shared cache has, if an instance says that it is valid, and as of where.
    fn in_shared_cache(&self, fetch: &Fetch, lab: &mut Lab) -> Option<(Kept, Position)> {
        let kept = self.shared.get(&fetch.key)?;
        let slot = lab.some_slot();
        let log = &lab.cluster.instances[slot].keeper.log;
        let (since, tags) = (Some(kept.basis.clone()), fetch.key.tags().to_vec());
        let is_stale = log.is_stale(&WatchGroup { since, except: None, tags })?;
        (!is_stale).then(|| log.position().map(|at| (kept.clone(), at)))?
    }

    /// The database is read.
    pub(crate) fn read(&mut self, mut read: Read, lab: &mut Lab) {
        let behind = self.unapplied.front().cloned();
        read.reflects = self.committed;
        if read.basis.is_some() && lab.cluster.context.random.chance(400) {
            read.reflects -= self.unapplied.len() as u64;
            if lab.keeps(Closing::ReplicaBasis)
                && let Some(watermark) = behind
            {
                read.basis = watermark;
            }
            if read.basis.is_none() {
                read.reflects = self.committed;
            }
        }
        match lab.cluster.context.inject(Fault::SlowFiller, 60) {
            true => lab.soon(500, 2_000, CachePlan::Fill(read)),
            false => lab.soon(1, 80, CachePlan::Fill(read)),
        }
    }

    /// What was read is put into the caches, and answered.
    pub(crate) fn fill(&mut self, read: Read, lab: &mut Lab) {
        let Read { fetch, basis, reflects } = read;
        let (key, at) = (fetch.key, lab.now());
        let after = lab.known_position();
        let told = if lab.keeps(Closing::BasisBefore) { basis.clone() } else { after.clone() };
        let shared = if lab.keeps(Closing::SharedBasis) { told.clone() } else { after };
        if let Some(basis) = shared {
            lab.judge.kept("the shared cache", key, reflects, &basis, at);
            self.shared.insert(key, Kept { reflects, basis, at });
        }
        if let Some(basis) = told.clone() {
            self.http.insert(key, Kept { reflects, basis, at });
        }
        // Some origins say no basis, of what they have read themselves: it is the client's own.
        let is_own = basis.is_some() && reflects == self.committed && lab.cluster.context.random.chance(200);
        answer(
            Body { fetch, reflects, basis: told.filter(|_| !is_own), is_cached: false, no_tags: false },
            lab,
        );
    }
}

fn answer(mut body: Body, lab: &mut Lab) {
    body.no_tags = lab.cluster.context.inject(Fault::NoTags, 15);
    lab.soon(5, 150, CachePlan::Answer(body));
}
