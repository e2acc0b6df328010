//! One server that holds channels: the only one there is, or a primary of a cluster.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, EventInterface};
use fred::prelude::Config;
use fred::types::ClientState;
use fred::types::config::{Server, ServerConfig};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::links::{CONFIRM_TIMEOUT, Purpose, client};
use super::pace::Pace;
use super::probe::Probed;
use super::replicated::Replicated;
use super::store::RedisStore;
use crate::clock::Clock;
use crate::hub::Time;

/// The pause between two probes of a connection.
const PAUSE: Duration = Duration::from_millis(250);

/// How long a new connection may lead to a replica before it is given up in turn.
const ASTRAY_PAUSE: Duration = Duration::from_secs(1);

/// The pause before a client that has ended is connected again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);

/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Without an answer for so long, a server counts as out of reach: subscribers are to know within 2.5 s, and publishes fail by
/// themselves until then.
const LOST_AFTER: Duration = Duration::from_secs(2);

/// A server, and the connections to it.
pub(super) struct Shard {
    /// Tells it from all others, those that had its address before among them.
    pub(super) number: u64,
    /// Its address, in a cluster.
    pub(super) server: Option<Server>,
    /// For scripts and probes.
    pub(super) commands: Client,
    /// For announcements.
    pub(super) subscriber: Client,
    /// How much may be on its way by `commands`.
    pub(super) pace: Pace,
    /// Where a publish can wait for replicas.
    pub(super) replicated: Option<Replicated>,
    /// All of these.
    pub(super) clients: Vec<Client>,
    /// Of those whose answers say whether the server is well; one on which replicas are waited for is slow on purpose.
    pulses: Vec<Arc<Pulse>>,
    /// Whether what it announces does not arrive, not even by another connection.
    is_deaf: AtomicBool,
    /// What runs for it, its connections among that, ends with it.
    _tasks: JoinSet<()>,
}

/// What all servers are reached with.
pub(super) struct Reach {
    pub(super) config: Config,
    pub(super) store: Arc<RedisStore>,
    pub(super) replicas: usize,
    /// Announcements of one server that may wait for the receiver.
    pub(super) announcements_max: usize,
    /// The most bytes that may be on their way to one server.
    pub(super) pending_bytes: usize,
    pub(super) clock: Clock,
}

impl Shard {
    /// Begins to connect to `server` of a cluster, or to where the configuration leads.
    pub(super) fn connect(reach: &Reach, number: u64, server: Option<Server>) -> Result<Shard, Error> {
        let mut config = reach.config.clone();
        if let Some(server) = &server {
            config.server = ServerConfig::Centralized { server: server.clone() };
        }
        let mut tasks = JoinSet::new();
        let mut connected = |purpose| {
            let client = client(&config, purpose)?;
            tasks.spawn(keep_connected(client.clone(), AbortOnDrop(client.connect())));
            Ok::<_, Error>(client)
        };
        let announcements_max = reach.announcements_max;
        let commands = connected(Purpose::Commands)?;
        let subscriber = connected(Purpose::Subscriber { announcements_max })?;
        let mut clients = vec![commands.clone(), subscriber.clone()];
        if reach.replicas > 0 {
            clients.push(connected(Purpose::Replicated)?);
        }
        let patience = [Duration::ZERO, Duration::ZERO, CONFIRM_TIMEOUT];
        let all = clients.iter().zip(patience);
        let all = all.map(|(client, patience)| {
            Arc::new(Pulse::new(client.clone(), reach.store.clone(), patience, reach.clock))
        });
        let mut pulses: Vec<_> = all.collect();
        for pulse in &pulses {
            tasks.spawn(pulse.clone().feel());
        }
        pulses.truncate(2);
        let replicated = clients.get(2).cloned().map(|client| {
            Replicated::start(client, reach.store.clone(), reach.replicas, reach.clock, &mut tasks)
        });
        Ok(Shard {
            number,
            server,
            commands,
            subscriber,
            pace: Pace::new(reach.pending_bytes, reach.clock),
            replicated,
            clients,
            pulses,
            is_deaf: AtomicBool::new(false),
            _tasks: tasks,
        })
    }

    /// Waits until all is connected, or says why something cannot be.
    pub(super) async fn connected(&self) -> Result<(), Error> {
        for client in &self.clients {
            let mut errors = client.error_rx();
            tokio::select! {
                biased;
                connected = client.wait_for_connect() => connected?,
                Ok((error, _)) = errors.recv() => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether it has not answered for too long.
    pub(super) fn is_lost(&self) -> bool {
        self.pulses.iter().any(|pulse| pulse.is_lost())
    }

    /// Whether the connection for announcements answers at the moment: what does not come by it then was not announced.
    pub(super) fn answers_subscriber(&self) -> bool {
        self.pulses.get(1).is_some_and(|pulse| pulse.has_answered_lately())
    }

    /// Something else than a probe was done there: a probe behind large publications on a slow link comes late.
    pub(super) fn note_answer(&self) {
        self.pulses.iter().take(1).for_each(|pulse| pulse.note_answer());
    }

    /// Whether announcements arrive, as the receiver knows.
    pub(super) fn set_deaf(&self, is_deaf: bool) {
        self.is_deaf.store(is_deaf, Ordering::Release);
    }

    /// Whether nobody here would hear of what is stored there.
    pub(super) fn is_deaf(&self) -> bool {
        self.is_deaf.load(Ordering::Acquire)
    }

    /// Why it does not answer as it should, if it does not.
    pub(super) fn trouble(&self) -> Option<String> {
        self.pulses.iter().find_map(|pulse| pulse.trouble())
    }

    /// Why it takes no writes, where it can be read.
    pub(super) fn refusal(&self) -> Option<String> {
        self.pulses.iter().find_map(|pulse| pulse.refusal())
    }
}

/// The library tries again by itself, but not after an answer that is none: then it ends the client.
async fn keep_connected(client: Client, mut connection: AbortOnDrop) {
    loop {
        connection.ended().await;
        debug!("a redis client has ended: it is connected again");
        tokio::time::sleep(RECONNECT_PAUSE).await;
        connection = AbortOnDrop(client.connect());
    }
}

/// The library's task of one connection, which would go on without anybody who needs it.
pub(super) struct AbortOnDrop(pub(super) fred::types::ConnectHandle);

impl AbortOnDrop {
    async fn ended(mut self) {
        let ended = (&mut self.0).await;
        debug!(?ended, "a connection to redis has ended");
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// When a connection last answered, in milliseconds since the process started.
struct Pulse {
    client: Client,
    store: Arc<RedisStore>,
    last: AtomicU64,
    /// Why the last probe failed, if it did.
    trouble: Mutex<Option<String>>,
    /// How much longer than others it may take to answer.
    patience: Duration,
    /// Why writes are refused, if they are.
    refusal: Mutex<Option<String>>,
    clock: Clock,
}

impl Pulse {
    fn new(client: Client, store: Arc<RedisStore>, patience: Duration, clock: Clock) -> Self {
        let last = AtomicU64::new(clock.now().0.as_millis() as u64);
        Pulse { client, store, last, trouble: Mutex::default(), refusal: Mutex::default(), patience, clock }
    }

    async fn feel(self: Arc<Self>) {
        let within = PROBE_TIMEOUT + self.patience;
        loop {
            let probed = tokio::time::timeout(within, self.store.probe(&self.client)).await;
            let is_replica = matches!(probed, Ok(Ok(Probed::Replica)));
            let (trouble, refusal) = match probed {
                Ok(Ok(Probed::Well)) => (None, None),
                Ok(Ok(Probed::RefusesWrites(reason))) => (None, Some(reason)),
                Ok(Ok(Probed::Replica)) => (Some("it is a replica".to_owned()), None),
                Ok(Err(error)) => (Some(error.to_string()), None),
                Err(_) => (Some(format!("no answer within {within:?}")), None),
            };
            if trouble.is_none() {
                self.note_answer();
            }
            *self.trouble.lock().expect("nobody panics with it") = trouble;
            self.note_refusal(refusal);
            if is_replica {
                self.give_up("it leads to a replica").await;
                tokio::time::sleep(ASTRAY_PAUSE).await;
            } else if self.is_silent_for(LOST_AFTER + self.patience) {
                // Not before: a stall that ends sooner costs nothing, and everything that comes by the connection is whole.
                self.give_up("it does not answer").await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Makes another connection; one that is being made is left alone.
    async fn give_up(&self, reason: &str) {
        if self.client.state() != ClientState::Connected {
            return;
        }
        warn!(reason, "a redis connection is given up");
        if let Err(error) = self.client.force_reconnection().await {
            debug!(%error, "no new connection");
        }
    }

    /// It answers: whatever was asked, it is alive.
    fn note_answer(&self) {
        self.last.store(self.clock.now().0.as_millis() as u64, Ordering::Release);
    }

    fn note_refusal(&self, refusal: Option<String>) {
        let mut known = self.refusal.lock().expect("nobody panics with it");
        if let Some(reason) = refusal.as_ref().filter(|_| known.is_none()) {
            warn!(reason, "redis refuses writes: what it holds can be read, and not be published to");
        }
        *known = refusal;
    }

    fn refusal(&self) -> Option<String> {
        self.refusal.lock().expect("nobody panics with it").clone()
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().expect("nobody panics with it").clone()
    }

    fn is_lost(&self) -> bool {
        self.is_silent_for(LOST_AFTER)
    }

    fn has_answered_lately(&self) -> bool {
        !self.is_silent_for(PROBE_TIMEOUT)
    }

    fn is_silent_for(&self, time: Duration) -> bool {
        let last = Time(Duration::from_millis(self.last.load(Ordering::Acquire)));
        last.after(time) <= self.clock.now()
    }
}
