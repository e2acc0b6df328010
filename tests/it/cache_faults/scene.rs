//! Instances on one Redis, clients that cache, backends that change things, and what is known of all of them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::database::{Database, Thing};
use super::judge::Judge;
use super::mutator::Mutator;
use super::watcher::Watcher;
use super::{INSTANCES, LEASE, MUTATORS, RETRY_PAUSE, Size};
use crate::support::{Fleet, Link, Request, eventually};

/// Serves as fresh after each fault without which nothing was tested, and mutations.
const SERVED_MIN: u64 = 1_000;
const MUTATIONS_MIN: u64 = 60;

/// A thousand clients that read everything again take a small machine longer than anything else that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What clients and backends share.
pub(super) struct Stage {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) database: Database,
    pub(super) judge: Judge,
    begun: Instant,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Until when each client may serve, and whether all that it wants was fresh when it looked.
    standing: BTreeMap<usize, (u64, bool)>,
    disconnects: u64,
    complaints: Vec<String>,
}

/// A stage on which something is going on.
pub(super) struct Scene {
    pub(super) fleet: Fleet,
    pub(super) stage: Arc<Stage>,
    watchers: JoinSet<()>,
    mutators: JoinSet<()>,
    change_no_more: CancellationToken,
    size: Size,
    proofs: Vec<String>,
}

impl Stage {
    /// The clock of everybody.
    pub(super) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How a client stands.
    pub(super) fn stands(&self, number: usize, lease_until: u64, is_whole: bool) {
        self.known.lock().expect("nobody panics here").standing.insert(number, (lease_until, is_whole));
    }

    /// A client lost its connection.
    pub(super) fn disconnected(&self) {
        self.known.lock().expect("nobody panics here").disconnects += 1;
    }

    /// No correct server lets this happen.
    pub(super) fn complain(&self, what: String) {
        self.known.lock().expect("nobody panics here").complaints.push(what);
    }

    fn disconnects(&self) -> u64 {
        self.known.lock().expect("nobody panics here").disconnects
    }

    /// How many clients have a lease up to this moment, with all that they want fresh if `whole`.
    fn leased(&self, until: Duration, whole: bool) -> usize {
        let until = until.as_millis() as u64;
        let known = self.known.lock().expect("nobody panics here");
        let is_leased = |(lease, is_whole): &&(u64, bool)| *lease >= until && (*is_whole || !whole);
        known.standing.values().filter(is_leased).count()
    }
}

impl Scene {
    /// Starts everything, and waits until every client has all that it wants.
    pub(super) async fn start(link: &Link, redis: &str, ack: &'static str) -> Scene {
        let size = Size::asked();
        let toml = format!("[fresh]\nlease = \"{}s\"", LEASE.as_secs());
        let fleet = Fleet::start(INSTANCES, link, &toml, redis).await;
        let stage = Arc::new(Stage {
            addresses: fleet.addresses(),
            database: Database::new(size.rows, size.lists),
            judge: Judge::new(LEASE),
            begun: Instant::now(),
            known: Mutex::default(),
        });
        let mut watchers = JoinSet::new();
        for number in 0..size.watchers {
            let watcher = Watcher::new(number, wanted(number, &size), size.serve_pause, stage.clone());
            watchers.spawn(watcher.run());
        }
        let (mutators, change_no_more) = (JoinSet::new(), CancellationToken::new());
        let mut scene = Scene { fleet, stage, watchers, mutators, change_no_more, size, proofs: Vec::new() };
        scene.everybody_leased(LEASE, true).await;
        for author in 0..MUTATORS {
            let mutator = Mutator::new(author, &scene.size, ack, scene.stage.clone());
            scene.mutators.spawn(mutator.run(scene.change_no_more.clone()));
        }
        scene.everybody_serves().await;
        scene
    }

    /// What the log's numbering is called.
    pub(super) async fn epoch(&self) -> Value {
        eventually("the position of the log", async || {
            let request = Request::new(*self.stage.addresses.last()?, "GET", "/v1/position");
            let answer = request.try_send().await.ok().filter(|answer| answer.status == 200)?;
            Some(answer.json()["position"]["epoch"].clone())
        })
        .await
    }

    /// Waits until the log's numbering is called otherwise.
    pub(super) async fn other_epoch_than(&self, before: &Value) {
        eventually("another epoch", async || (self.epoch().await != *before).then_some(())).await;
    }

    /// Connections that clients lost so far.
    pub(super) fn disconnects(&self) -> u64 {
        self.stage.disconnects()
    }

    /// A fault happened, as this shows. Waits until everybody has a lease that was confirmed since, and serves.
    pub(super) async fn survived(&mut self, proof: impl Display) {
        let begun = Instant::now();
        self.everybody_serves().await;
        self.proofs.push(format!("{proof}; everybody served after {:?}", begun.elapsed()));
    }

    async fn everybody_serves(&self) {
        let before = self.stage.judge.verdict();
        self.everybody_leased(self.stage.now() + LEASE, false).await;
        patiently("serves and mutations", || {
            let verdict = self.stage.judge.verdict();
            verdict.served >= before.served + SERVED_MIN
                && verdict.acknowledged >= before.acknowledged + MUTATIONS_MIN
        })
        .await;
    }

    /// Waits until everybody may serve up to this moment.
    async fn everybody_leased(&self, until: Duration, whole: bool) {
        let what = format!("all of {} clients to have a lease", self.size.watchers);
        patiently(&what, || self.stage.leased(until, whole) == self.size.watchers).await;
    }

    /// Ends the changes, waits until everybody is up to date, and demands that nothing stale was served.
    pub(super) async fn end(mut self) {
        self.change_no_more.cancel();
        while let Some(ended) = self.mutators.join_next().await {
            ended.expect("a mutator does not panic");
        }
        // Who serves for a whole lease more is judged by everything that was ever acknowledged.
        self.everybody_leased(self.stage.now() + LEASE * 2, true).await;
        while let Some(ended) = self.watchers.try_join_next() {
            ended.expect("a watcher does not panic");
        }
        self.watchers.shutdown().await;
        let verdict = self.stage.judge.verdict();
        println!(
            "{} clients with {} tags each: {} mutations, {} values served as fresh, {} of them stale",
            self.size.watchers, self.size.tags, verdict.acknowledged, verdict.served, verdict.stale
        );
        self.proofs.iter().for_each(|proof| println!("    {proof}"));
        for instance in &self.fleet.instances {
            let said = instance.process().stderr();
            assert!(!said.contains("panicked"), "{said}");
        }
        let known = self.stage.known.lock().expect("nobody panics here");
        assert!(known.complaints.is_empty(), "{:#?}", known.complaints);
        assert_eq!(verdict.stale, 0, "{:#?}", verdict.words);
    }
}

/// Waits for what many do.
async fn patiently(what: &str, is_done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_done() {
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// What a client wants to show: rows, and lists with one of the rows in each.
fn wanted(number: usize, size: &Size) -> Vec<Vec<Thing>> {
    // Steps that have no factor in common with the counts: everything is different.
    let row = |index: usize| Thing::Row((number * 37 + index * 13) % size.rows);
    let list = |index: usize| Thing::List((number * 17 + index * 7) % size.lists);
    let lists = size.tags / 5;
    let rows = (0..size.tags - lists).map(|index| vec![row(index)]);
    rows.chain((0..lists).map(|index| vec![list(index), row(index)])).collect()
}
