//! Caches of clients over real instances and a real Redis to which everything happens: what is served as fresh reflects every
//! mutation that was acknowledged longer than a lease ago, and when all is well again everybody serves again.
//!
//! ```text
//!   mutators ── commit ─▶ Database ◀── reads ── watchers, each with a Ledger ── what is served ─▶ Judge
//!      └──── POST /v1/mutations ─▶ instances ── WebSockets ─────▲          acknowledgements ──────▲
//! ```
//! A usual run has a hundred clients and injects each fault once. `TIDINGS_FAULTS=3 cargo test --test it -- cache_faults
//! --nocapture --test-threads 1` has a thousand with a hundred tags each, injects each fault so often, and prints what it saw.

mod database;
mod judge;
mod mutator;
mod scene;
mod watcher;

use std::time::Duration;

use scene::Scene;

use crate::support::{Data, Link, RedisServer, SentinelGroup, eventually, faults_asked};

/// How long a client may serve what it was not told to be stale.
const LEASE: Duration = Duration::from_secs(2);

const INSTANCES: usize = 3;

const MUTATORS: usize = 4;

/// A request, or a connection, that takes longer is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);

/// Between two tries of anybody to get through.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How much there is of everything.
struct Size {
    watchers: usize,
    /// That one of them holds.
    tags: usize,
    rows: usize,
    lists: usize,
    /// Between two changes of one mutator.
    mutation_pause: Duration,
    /// Between two times that a client serves all that it has.
    serve_pause: Duration,
}

impl Size {
    /// The full one where faults are asked for.
    fn asked() -> Size {
        match faults_asked() {
            Some(_) => Size {
                watchers: 1_000,
                tags: 100,
                rows: 8_000,
                lists: 800,
                mutation_pause: Duration::from_millis(50),
                serve_pause: Duration::from_secs(1),
            },
            None => Size {
                watchers: 100,
                tags: 20,
                rows: 400,
                lists: 40,
                mutation_pause: Duration::from_millis(50),
                serve_pause: Duration::from_millis(100),
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stale_is_served_though_redis_forgets_everything_and_instances_die() {
    let mut redis = RedisServer::start("").await;
    let mut scene = Scene::start(&Link::Direct(redis.url()), "", "stored").await;
    for round in 0..faults_asked().unwrap_or(1) {
        let before = scene.epoch().await;
        redis.restart(Data::Gone).await;
        scene.other_epoch_than(&before).await;
        scene.survived("redis was killed and began anew, the epoch changed").await;

        let before = scene.epoch().await;
        redis.flush_all().await;
        scene.other_epoch_than(&before).await;
        scene.survived("FLUSHALL, the epoch changed").await;

        let killed = redis.kill_pubsub().await;
        assert!(killed >= INSTANCES as i64, "every instance listens: {killed}");
        scene.survived(format!("{killed} links that listened were killed")).await;

        let before = scene.disconnects();
        // Not the last one, which is asked for positions.
        let victim = round % (INSTANCES - 1);
        scene.fleet.instances[victim].kill9().await;
        let lost = eventually("its clients to notice", async || {
            let lost = scene.disconnects() - before;
            (lost > 0).then_some(lost)
        })
        .await;
        scene.survived(format!("instance {victim} was killed, {lost} clients noticed at once")).await;
        scene.fleet.instances[victim].start_again().await;
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stale_is_served_though_a_primary_dies_with_what_no_replica_had() {
    let mut group = SentinelGroup::start("").await;
    let mut scene = Scene::start(&Link::Direct(group.url()), "replicas = 1", "replicated").await;
    for _ in 0..faults_asked().unwrap_or(1) {
        let epoch = scene.epoch().await;
        let before = group.primary().await;
        group.cut_replicas_off().await;
        let follower = (before + 1) % group.servers.len();
        let (tail, kept) = eventually("a tail that no replica has", async || {
            let (tail, kept) = (head(&group.servers[before]).await, head(&group.servers[follower]).await);
            (tail > kept).then_some((tail, kept))
        })
        .await;
        group.servers[before].kill9();
        let after = group.other_primary_than(before).await;
        scene.other_epoch_than(&epoch).await;
        group.revive(before).await;
        group.wait_until_complete().await;
        let lost = tail - kept;
        scene.survived(format!("server {before} died with a tail of {lost}, {after} followed it")).await;
    }
    scene.end().await;
}

/// The offset at which the log stands on a server.
async fn head(server: &RedisServer) -> u64 {
    let reply = server.command(&["HGET", "tidings:{$log:default}:m", "offset"]).await;
    reply.text().parse().expect("the log has an offset")
}
