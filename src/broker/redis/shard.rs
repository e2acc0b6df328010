//! One server that holds channels: the only one there is, or a primary of a cluster.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, EventInterface};
use fred::prelude::{Config, FredResult};
use fred::types::config::{Server, ServerConfig};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::directory::run;
use super::links::{Purpose, client};
use super::replicated::Replicated;
use super::store::RedisStore;
use crate::clock::Clock;
use crate::hub::Time;

/// The pause between two probes of a connection.
const PAUSE: Duration = Duration::from_millis(250);

/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// What every script begins with. Where this is not allowed (any more), nothing can be published or read, though a PING
/// would be answered.
const PROBE: &str = "return redis.call('INFO', 'replication')";

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
    /// Where a publish can wait for replicas.
    pub(super) replicated: Option<Replicated>,
    /// All of these.
    pub(super) clients: Vec<Client>,
    /// Of those whose answers say whether the server is well; one on which replicas are waited for is slow on purpose.
    pulses: Vec<Arc<Pulse>>,
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
            let connection = AbortOnDrop(client.connect());
            tasks.spawn(connection.ended());
            Ok::<_, Error>(client)
        };
        let announcements_max = reach.announcements_max;
        let commands = connected(Purpose::Commands)?;
        let subscriber = connected(Purpose::Subscriber { announcements_max })?;
        let mut clients = vec![commands.clone(), subscriber.clone()];
        if reach.replicas > 0 {
            clients.push(connected(Purpose::Replicated)?);
        }
        let all = clients.iter().map(|client| Arc::new(Pulse::new(client.clone(), reach.clock)));
        let mut pulses: Vec<_> = all.collect();
        for pulse in &pulses {
            tasks.spawn(pulse.clone().feel());
        }
        pulses.truncate(2);
        let replicated = clients
            .get(2)
            .cloned()
            .map(|client| Replicated::start(client, reach.store.clone(), reach.replicas, &mut tasks));
        Ok(Shard { number, server, commands, subscriber, replicated, clients, pulses, _tasks: tasks })
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

    /// Why it does not answer as it should, if it does not.
    pub(super) fn trouble(&self) -> Option<String> {
        self.pulses.iter().find_map(|pulse| pulse.trouble())
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
    last: AtomicU64,
    /// Why the last probe failed, if it did.
    trouble: Mutex<Option<String>>,
    clock: Clock,
}

impl Pulse {
    fn new(client: Client, clock: Clock) -> Self {
        let last = AtomicU64::new(clock.now().0.as_millis() as u64);
        Pulse { client, last, trouble: Mutex::default(), clock }
    }

    async fn feel(self: Arc<Self>) {
        loop {
            let is_primary = tokio::time::timeout(PROBE_TIMEOUT, is_primary(&self.client)).await;
            let trouble = match is_primary {
                Ok(Ok(true)) => {
                    self.last.store(self.clock.now().0.as_millis() as u64, Ordering::Release);
                    None
                }
                Ok(Ok(false)) => Some("it is a replica".to_owned()),
                Ok(Err(ref error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer within {PROBE_TIMEOUT:?}")),
            };
            let is_replica = matches!(is_primary, Ok(Ok(false)));
            *self.trouble.lock().expect("nobody panics with it") = trouble;
            if is_replica {
                warn!("a redis connection leads to a replica, and is given up");
                if let Err(error) = self.client.force_reconnection().await {
                    debug!(%error, "no new connection");
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().expect("nobody panics with it").clone()
    }

    fn is_lost(&self) -> bool {
        let last = Time(Duration::from_millis(self.last.load(Ordering::Acquire)));
        last.after(LOST_AFTER) <= self.clock.now()
    }
}

/// Whether the server answers as a primary. One that was demoted answers pings too, and passes announcements on.
async fn is_primary(client: &Client) -> FredResult<bool> {
    let info = run(client, "EVAL", vec![PROBE.into(), "0".into()]).await?;
    Ok(info.as_str().is_some_and(|info| info.contains("role:master")))
}
