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
mod interest;
mod keys;
mod links;
mod monitor;
mod presence;
mod receiver;
mod replicated;
mod script;
mod store;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fred::prelude::*;
use futures::future::{BoxFuture, FutureExt};
use tidings_protocol::{
    Ack, Channel, ClusterMessage, Position, PresenceMember, PresenceMembers, PublishCommand,
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::{Broker, BrokerError, BrokerEvent, InstanceCard, Intake, IntakeLimits, Peer, Peers};
use crate::broker::memory::retention;
use crate::clock::Clock;
use crate::config::Config;
use crate::hub::{BrokerState, Page, PageLimit, Published};
use beacon::{Advanced, Beacons};
use interest::{INTERESTS_MAX, Interests};
use keys::Keys;
use links::Links;
use monitor::{Monitor, Reach};
use presence::Presence;
use receiver::{REQUESTS_MAX, Receiver, Request};
use replicated::Replicated;
use store::{Lives, RedisStore};

/// How long somebody waits until a channel is listened to.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the others may take to be told that this instance leaves.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads of the intake at once.
const READS_MAX: usize = 64;

/// Channels that linger at once.
const LINGERING_MAX: usize = 10_000;

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
    links: Links,
    store: Arc<RedisStore>,
    config: Config,
    requests: mpsc::Sender<Request>,
    replicated: Option<Replicated>,
    advanced: Arc<Advanced>,
    presence: Presence,
    reach: Arc<Reach>,
    peers: Arc<Mutex<Peers>>,
    /// The bytes of publishes on their way; a permit is a KiB.
    room: Arc<Semaphore>,
    farewell: mpsc::Sender<oneshot::Sender<()>>,
    /// Everything that runs for it, and ends with it.
    _tasks: JoinSet<()>,
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
        let masked = || url.masked();
        let announcements_max = config.limits.broker_announcements_max;
        let links = Links::connect(url.expose(), config.redis.replicas, announcements_max).await;
        let links =
            links.map_err(|error| RedisRefused::Unreachable { url: masked(), reason: error.to_string() })?;
        let fit = checks::check(&links.commands, config.redis.replicas).await;
        fit.map_err(|reason| RedisRefused::Unfit { url: masked(), reason })?;
        Ok(Self::run(config, links, events, clock, card))
    }

    fn run(
        config: &Config,
        links: Links,
        events: mpsc::Sender<BrokerEvent>,
        clock: Clock,
        card: Arc<InstanceCard>,
    ) -> RedisBroker {
        let keys = Keys::new(&config.redis.prefix);
        let lives = Lives { key: config.limits.idempotency_window, meta: config.redis.forget_after };
        let store = Arc::new(RedisStore::new(keys, lives, card.id(), links.is_cluster()));
        let (reach, advanced) = (Arc::new(Reach::default()), Arc::new(Advanced::default()));
        let mut tasks = JoinSet::new();

        let (requests, peers) =
            receive(config, &links, store.clone(), reach.clone(), clock, events.clone(), &mut tasks);
        let (client, name) = (links.commands.clone(), store.keys.cluster());
        let (farewell, leaving) = mpsc::channel(1);
        tasks.spawn(Beacons { client, name, card, advanced: advanced.clone(), leaving, number: 0 }.run());
        let clients = vec![links.commands.clone(), links.subscriber.clone()];
        tasks.spawn(Monitor { clients, clock, reach: reach.clone(), events }.run());
        let replicated = links.replicated.as_ref().map(|client| {
            Replicated::start(client.clone(), store.clone(), config.redis.replicas, &mut tasks)
        });
        let presence = Presence::start(&links, &store.keys, config, clock, reach.clone(), &mut tasks);
        let room = Arc::new(Semaphore::new(config.limits.broker_pending_bytes.div_ceil(1_024)));
        let config = config.clone();
        RedisBroker {
            links,
            store,
            config,
            requests,
            replicated,
            advanced,
            presence,
            reach,
            peers,
            room,
            farewell,
            _tasks: tasks,
        }
    }

    async fn store(&self, command: PublishCommand) -> Result<Published, BrokerError> {
        let wants_replicas = command.ack == Ack::Replicated;
        if wants_replicas && self.replicated.is_none() {
            return Err(BrokerError::AckNotPossible);
        }
        if self.reach.is_down() {
            return Err(BrokerError::Unavailable);
        }
        let kib = command.payload.as_bytes().len().div_ceil(1_024).max(1) as u32;
        let _room = self.room.try_acquire_many(kib).map_err(|_| BrokerError::Overloaded)?;
        let retention = retention(&self.config.namespaces, &command.channel);
        let channel = command.channel.clone();
        let published = match self.replicated.as_ref().filter(|_| wants_replicas) {
            Some(replicated) => replicated.publish(command, retention).await,
            None => self.store.publish(&self.links.commands, &command, &retention).await,
        };
        match &published {
            Ok(published) => {
                if let Some(position) = &published.position {
                    self.advanced.note(&channel, Some(position.clone()));
                }
            }
            Err(BrokerError::OutcomeUnknown | BrokerError::ReplicationUnconfirmed(_)) => {
                self.advanced.note(&channel, None);
            }
            Err(_) => {}
        }
        published
    }

    async fn read(
        &self,
        channel: Channel,
        since: Option<Position>,
        limit: PageLimit,
    ) -> Result<Option<Page>, BrokerError> {
        if self.is_volatile(&channel) {
            return Ok(None);
        }
        if self.reach.is_down() {
            return Err(BrokerError::Unavailable);
        }
        self.store.read(&self.links.commands, &channel, since.as_ref(), limit).await.map(Some)
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
            None => self.read(channel, since, limit).await,
        }
    }

    async fn announce(&self, message: ClusterMessage) -> Result<(), BrokerError> {
        if self.reach.is_down() {
            return Err(BrokerError::Unavailable);
        }
        let (name, bytes) = (self.store.keys.cluster(), Bytes::from(message.encode()));
        let told: FredResult<()> = self.links.commands.publish(name, bytes).await;
        told.map_err(|error| answer::write_failed(&error))
    }

    fn is_volatile(&self, channel: &Channel) -> bool {
        self.config.namespaces.of(channel.as_str()).history_size == 0
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, BrokerError> {
        let (done, answer) = oneshot::channel();
        self.requests.send(request(done)).await.map_err(|_| BrokerError::Unavailable)?;
        answer.await.map_err(|_| BrokerError::Unavailable)
    }
}

/// Starts what takes announcements in; returns where it is asked, and whom it hears of.
fn receive(
    config: &Config,
    links: &Links,
    store: Arc<RedisStore>,
    reach: Arc<Reach>,
    clock: Clock,
    events: mpsc::Sender<BrokerEvent>,
    tasks: &mut JoinSet<()>,
) -> (mpsc::Sender<Request>, Arc<Mutex<Peers>>) {
    let (asker, requests) = mpsc::channel(REQUESTS_MAX);
    let peers = Arc::new(Mutex::new(Peers::default()));
    let (changes, changed) = mpsc::channel(INTERESTS_MAX);
    let (reporter, reports) = mpsc::channel(REQUESTS_MAX);
    let (client, keys) = (links.subscriber.clone(), store.keys.clone());
    tasks.spawn(Interests { client, keys, changes: changed, reports: reporter.clone() }.run());
    let receiver = Receiver {
        intake: Intake::new(intake_limits(config)),
        peers: peers.clone(),
        store,
        commands: links.commands.clone(),
        subscriber: links.subscriber.clone(),
        namespaces: config.namespaces.clone(),
        clock,
        events,
        changes,
        reporter,
        reports,
        requests,
        messages: links.subscriber.message_rx(),
        reconnects: links.subscriber.reconnect_rx(),
        waiting: HashMap::new(),
        told: Vec::new(),
        link: 0,
        heard_self: clock.now(),
        giving_up: None,
        suspects_link: false,
        reach,
        interruptions: Vec::new(),
    };
    tasks.spawn(receiver.run());
    (asker, peers)
}

fn intake_limits(config: &Config) -> IntakeLimits {
    IntakeLimits {
        linger: config.redis.linger,
        lingering_max: LINGERING_MAX,
        tail_bytes_max: config.limits.history_total_bytes,
        reads_max: READS_MAX,
        refresh: config.redis.forget_after / 3,
    }
}

impl Broker for RedisBroker {
    fn publish(&self, command: PublishCommand) -> BoxFuture<'_, Result<Published, BrokerError>> {
        self.store(command).boxed()
    }

    fn history(
        &self,
        channel: Channel,
        since: Option<Position>,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Option<Page>, BrokerError>> {
        self.read(channel, since, limit).boxed()
    }

    fn resume(
        &self,
        channel: Channel,
        since: Option<Position>,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Option<Page>, BrokerError>> {
        self.resume_or_read(channel, since, limit).boxed()
    }

    fn listen(&self, channel: &Channel) -> BoxFuture<'_, Result<(), BrokerError>> {
        let channel = channel.clone();
        let listening = self.ask(|done| Request::Listen { channel, done });
        let within = tokio::time::timeout(LISTEN_TIMEOUT, listening);
        within.map(|listening| listening.unwrap_or(Err(BrokerError::Unavailable))).boxed()
    }

    fn unlisten(&self, channel: &Channel) -> BoxFuture<'_, ()> {
        let channel = channel.clone();
        async move {
            // Without a receiver nothing is listened to.
            self.requests.send(Request::Unlisten { channel }).await.ok();
        }
        .boxed()
    }

    fn channels(&self, limit: usize) -> BoxFuture<'_, Result<Vec<(Channel, Position)>, BrokerError>> {
        directory::channels(&self.links.commands, &self.store.keys, limit).boxed()
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

    fn leave(&self) -> BoxFuture<'_, ()> {
        async move {
            let (done, told) = oneshot::channel();
            // Without beacons, or without Redis, there is nobody to tell; and they notice the silence.
            if !self.reach.is_down() && self.farewell.send(done).await.is_ok() {
                tokio::time::timeout(LEAVE_TIMEOUT, told).await.ok();
            }
        }
        .boxed()
    }

    fn state(&self) -> BrokerState {
        self.reach.state()
    }

    fn name(&self) -> &'static str {
        "redis"
    }
}
