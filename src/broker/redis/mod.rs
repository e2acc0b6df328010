//! The broker that several instances share: streams, numberings and idempotency keys in Redis, announcements by pub/sub.
//!
//! ```text
//!   publish ──script──▶ Redis ──pub/sub──▶ receiver ─▶ intake ─▶ node          every instance
//!   resume ──▶ intake's tail, or else ──script──▶ Redis
//!   beacons, once a second: who is there, which heads advanced
//! ```
//!
//! Every script compares Redis's replication id with the one that the channel's numbering is bound to: after a failover,
//! which may have lost what came last, another numbering continues what is left (see [`crate::hub::Lineage`]).

mod answer;
mod beacon;
mod checks;
mod directory;
mod inputs;
mod interest;
mod keys;
mod line;
mod links;
mod log;
mod monitor;
mod numbering;
mod pace;
mod presence;
mod probe;
mod receiver;
mod replicated;
mod revocations;
mod script;
mod sentinels;
mod shard;
mod shards;
mod store;
mod survey;
mod tls;
mod window;
mod write;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fred::error::Error;
use fred::prelude::{Config as RedisClientConfig, PubsubInterface};
use futures::future::{BoxFuture, FutureExt};
use tidings_protocol::{
    Channel, ClusterMessage, LogName, MutateCommand, Position, PresenceMember, PresenceMembers,
    PublishCommand, Revocation,
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::{
    Broker, BrokerError, BrokerEvent, ChannelHeads, InstanceCard, Peer, Peers, Retentions, RevokedSince,
};
use crate::clock::Clock;
use crate::config::Config;
use crate::freshness::Snapshot;
use crate::hub::{BrokerServers, BrokerState, Page, PageLimit, Published};
use crate::limits::Caller;
use answer::Failed;
#[cfg(feature = "ablation")]
pub use answer::read_redis_answers;
use beacon::{Advanced, Beacons, Unlike};
use interest::WantedHere;
use keys::Keys;
use monitor::{Monitor, Standing};
use presence::Presence;
use receiver::Request;
use revocations::RevocationStore;
use shard::Reach;
use shards::Shards;
use store::{Lives, Reader, RedisStore};
use write::Write;

/// How long the others may take to be told that this instance leaves.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why an instance cannot use a Redis.
#[derive(Debug, thiserror::Error)]
pub enum RedisRefused {
    /// It cannot be reached, or does not let us in.
    #[error("redis at {url} cannot be used: {reason}")]
    Unreachable {
        /// Where, without the password.
        url: String,
        /// The library's words.
        reason: String,
    },
    /// It lacks something without which positions could not be kept.
    #[error("redis at {url} cannot be used: {reason}")]
    Unfit {
        /// Where, without the password.
        url: String,
        /// What, and what to do.
        reason: String,
    },
}

/// Shares channels with the other instances on the same Redis and prefix.
pub struct RedisBroker {
    shards: Arc<Shards>,
    store: Arc<RedisStore>,
    config: Config,
    requests: mpsc::Sender<Request>,
    wanted: Arc<WantedHere>,
    advanced: Arc<Advanced>,
    standing: Arc<Standing>,
    presence: Presence,
    revocations: RevocationStore,
    peers: Arc<Mutex<Peers>>,
    /// The bytes of publishes on their way; a permit is a KiB.
    room: Arc<Semaphore>,
    farewell: mpsc::Sender<oneshot::Sender<()>>,
    /// Everything that runs for it, and ends with it.
    _tasks: JoinSet<()>,
}

/// What a broker is started with, beside its configuration.
struct Surroundings {
    events: mpsc::Sender<BrokerEvent>,
    clock: Clock,
    card: Arc<InstanceCard>,
}

impl RedisBroker {
    /// Connects to the Redis of `config`, which names one, and announces on `events`.
    pub async fn start(
        config: &Config,
        events: mpsc::Sender<BrokerEvent>,
        clock: Clock,
        card: Arc<InstanceCard>,
    ) -> Result<RedisBroker, RedisRefused> {
        let url = config.redis.url.as_ref().expect("a Redis is configured");
        let unreachable =
            |error: Error| RedisRefused::Unreachable { url: url.masked(), reason: error.to_string() };
        let mut connection = RedisClientConfig::from_url(url.expose()).map_err(unreachable)?;
        let unfit = |reason| RedisRefused::Unfit { url: url.masked(), reason };
        if let Some(tls) = tls::tls(&config.redis).map_err(unfit)? {
            connection.tls = Some(tls);
        }
        let lives = Lives { key: config.limits.idempotency_window, meta: config.redis.forget_after };
        let is_cluster = connection.server.is_clustered();
        let keys = Keys::new(&config.redis.prefix, connection.database.unwrap_or(0), is_cluster);
        let store = RedisStore::new(keys, Retentions::new(config), lives, card.id(), is_cluster);
        let store = Arc::new(store);
        let replicas = config.redis.replicas;
        let announcements_max = config.limits.broker_announcements_max;
        let reach = Reach {
            config: connection.clone(),
            store: store.clone(),
            replicas,
            announcements_max,
            pending_bytes: config.limits.broker_pending_bytes,
            clock,
        };
        let shards = match is_cluster {
            true => {
                let ranges = survey::first(&connection).await.map_err(unreachable)?;
                Shards::cluster(reach, ranges)
            }
            false => Shards::single(reach),
        };
        let shards = Arc::new(shards.map_err(unreachable)?);
        let mut tasks = JoinSet::new();
        if is_cluster {
            tasks.spawn(survey::keep(shards.clone(), connection));
        } else if connection.server.is_sentinel() {
            tasks.spawn(sentinels::keep(shards.clone(), connection));
        }
        let (mut reached, mut refused) = (0, None);
        let map = shards.map();
        for shard in &map.shards {
            if let Err(error) = shard.connected().await {
                refused = Some(unreachable(error));
                continue;
            }
            reached += 1;
            let fit = checks::check(shard, &map, &store, replicas).await;
            fit.map_err(unfit)?;
        }
        // What some primary of a cluster holds can wait until that one is back, or followed by another.
        if let Some(refused) = refused.filter(|_| reached == 0) {
            return Err(refused);
        }
        Ok(Self::run(config, shards, store, tasks, Surroundings { events, clock, card }))
    }

    fn run(
        config: &Config,
        shards: Arc<Shards>,
        store: Arc<RedisStore>,
        mut tasks: JoinSet<()>,
        Surroundings { events, clock, card }: Surroundings,
    ) -> RedisBroker {
        let (standing, advanced) = (Arc::new(Standing::default()), Arc::new(Advanced::default()));
        tasks.spawn(Monitor::new(&shards, clock, &standing, events.clone()).run());
        let (requests, wanted, peers) =
            receiver::start(config, &shards, store.clone(), clock, events, &mut tasks);
        let (farewell, leaving) = mpsc::channel(1);
        let beacons = Beacons {
            shards: shards.clone(),
            sender: 0,
            name: store.keys.cluster(),
            card,
            advanced: advanced.clone(),
            leaving,
            number: 0,
            peers: peers.clone(),
            unlike: Unlike::default(),
        };
        tasks.spawn(beacons.run());
        let presence = Presence::start(shards.clone(), &store.keys, config, clock, &mut tasks);
        let room = Arc::new(Semaphore::new(config.limits.broker_pending_bytes.div_ceil(1_024)));
        let revocations = RevocationStore::new(&store, config, clock);
        let config = config.clone();
        RedisBroker {
            shards,
            store,
            config,
            requests,
            wanted,
            advanced,
            standing,
            presence,
            revocations,
            peers,
            room,
            farewell,
            _tasks: tasks,
        }
    }

    async fn read(
        &self,
        channel: Channel,
        since: Option<Position>,
        limit: PageLimit,
        reader: Reader,
    ) -> Result<Option<Page>, BrokerError> {
        if self.is_volatile(&channel) {
            return Ok(None);
        }
        self.store.read_at(&self.shards, &channel, since.as_ref(), limit, reader).await.map(Some)
    }

    async fn resume_or_read(
        &self,
        channel: Channel,
        since: Option<Position>,
        limit: PageLimit,
    ) -> Result<Option<Page>, BrokerError> {
        if self.is_volatile(&channel) {
            return Ok(None);
        }
        let resume = |done| Request::Resume { channel: channel.clone(), since: since.clone(), limit, done };
        match self.ask(resume).await? {
            Some(page) => Ok(Some(page)),
            None => self.read(channel, since, limit, Reader::Subscriber).await,
        }
    }

    async fn announce(&self, message: ClusterMessage) -> Result<(), BrokerError> {
        // Any server of a cluster reaches the subscribers of all.
        let map = self.shards.map();
        let shard =
            map.shards.iter().find(|shard| shard.trouble().is_none()).ok_or(BrokerError::Unavailable)?;
        let (name, bytes) = (self.store.keys.cluster(), Bytes::from(message.encode()));
        shard.commands.publish::<(), _, _>(name, bytes).await.map_err(|error| {
            match answer::write_failed(&error) {
                Failed::Elsewhere | Failed::MovedTo(_) => BrokerError::Unavailable,
                Failed::Broker(error) => error,
            }
        })
    }

    fn is_volatile(&self, channel: &Channel) -> bool {
        self.store.retentions.of(channel).publications_max == 0
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, BrokerError> {
        let (done, answer) = oneshot::channel();
        self.requests.send(request(done)).await.map_err(|_| BrokerError::Unavailable)?;
        answer.await.map_err(|_| BrokerError::Unavailable)
    }
}

impl Broker for RedisBroker {
    fn publish(&self, command: PublishCommand, _: Caller) -> BoxFuture<'_, Result<Published, BrokerError>> {
        let retention = self.store.retentions.of(&command.channel);
        self.store(Write::Publish(command, retention)).boxed()
    }

    fn history(
        &self,
        channel: Channel,
        since: Option<Position>,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Option<Page>, BrokerError>> {
        self.read(channel, since, limit, Reader::OfHistory).boxed()
    }

    fn resume(
        &self,
        channel: Channel,
        since: Option<Position>,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Option<Page>, BrokerError>> {
        self.resume_or_read(channel, since, limit).boxed()
    }

    fn set_interest(&self, channel: &Channel, wanted: bool) -> Option<u64> {
        self.wanted.set(channel, wanted)
    }

    fn channels(&self, limit: usize) -> BoxFuture<'_, Result<ChannelHeads, BrokerError>> {
        async move { directory::channels(&self.shards.map(), &self.store.keys, limit).await }.boxed()
    }

    fn mutate(&self, command: MutateCommand, _: Caller) -> BoxFuture<'_, Result<Published, BrokerError>> {
        self.write_mutation(command).boxed()
    }

    fn snapshot(&self, log: &LogName) -> BoxFuture<'_, Result<Snapshot, BrokerError>> {
        self.read_log(log.clone()).boxed()
    }

    fn confirm(&self, log: &LogName) -> BoxFuture<'_, Result<Position, BrokerError>> {
        self.confirm_log(log.clone()).boxed()
    }

    fn enter(&self, channel: &Channel, member: PresenceMember) -> BoxFuture<'_, ()> {
        self.presence.enter(channel.clone(), member).boxed()
    }

    fn exit(&self, channel: &Channel, session: &Arc<str>) -> BoxFuture<'_, ()> {
        self.presence.exit(channel.clone(), session.clone()).boxed()
    }

    fn members(
        &self,
        channel: &Channel,
        limit: usize,
    ) -> BoxFuture<'_, Result<PresenceMembers, BrokerError>> {
        self.presence.members(channel.clone(), limit).boxed()
    }

    fn tell(&self, message: ClusterMessage) -> BoxFuture<'_, Result<(), BrokerError>> {
        self.announce(message).boxed()
    }

    fn peers(&self) -> Vec<Peer> {
        self.peers.lock().expect("nobody panics with the peers").iter().cloned().collect()
    }

    fn revoke(&self, revocations: Vec<Revocation>) -> BoxFuture<'_, Result<(), BrokerError>> {
        self.keep_revocations(revocations).boxed()
    }

    fn revoked(&self, known: Option<&str>) -> BoxFuture<'_, Result<Option<RevokedSince>, BrokerError>> {
        self.read_revocations(known.map(str::to_owned)).boxed()
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        async move {
            let (done, told) = oneshot::channel();
            // Without beacons, or without Redis, there is nobody to tell; and they notice the silence.
            let BrokerServers { lost, of } = self.servers();
            if lost < of && self.farewell.send(done).await.is_ok() {
                tokio::time::timeout(LEAVE_TIMEOUT, told).await.ok();
            }
        }
        .boxed()
    }

    fn state(&self) -> BrokerState {
        self.standing.state()
    }

    fn servers(&self) -> BrokerServers {
        self.standing.servers()
    }

    fn refusal(&self) -> Option<String> {
        self.shards.map().shards.iter().find_map(|shard| shard.refusal())
    }

    fn name(&self) -> &'static str {
        "redis"
    }
}
