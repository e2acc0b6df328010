//! One server that holds channels: the only one there is, or a primary of a cluster.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, EventInterface};
use fred::prelude::{Config, FredResult};
use fred::types::ClientState;
use fred::types::config::{Server, ServerConfig};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::directory::run;
use super::links::{CONFIRM_TIMEOUT, Purpose, client};
use super::pace::Pace;
use super::replicated::Replicated;
use super::store::RedisStore;
use crate::clock::Clock;
use crate::hub::Time;

/// The pause between two probes of a connection.
const PAUSE: Duration = Duration::from_millis(250);

/// How long a new connection may lead to a replica before it is given up in turn.
const ASTRAY_PAUSE: Duration = Duration::from_secs(1);

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
        let patience = [Duration::ZERO, Duration::ZERO, CONFIRM_TIMEOUT];
        let all = clients.iter().zip(patience);
        let all = all.map(|(client, patience)| Arc::new(Pulse::new(client.clone(), patience, reach.clock)));
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
    /// How much longer than others it may take to answer.
    patience: Duration,
    clock: Clock,
}

impl Pulse {
    fn new(client: Client, patience: Duration, clock: Clock) -> Self {
        let last = AtomicU64::new(clock.now().0.as_millis() as u64);
        Pulse { client, last, trouble: Mutex::default(), patience, clock }
    }

    async fn feel(self: Arc<Self>) {
        let within = PROBE_TIMEOUT + self.patience;
        loop {
            let is_primary = tokio::time::timeout(within, is_primary(&self.client)).await;
            let trouble = match is_primary {
                Ok(Ok(true)) => {
                    self.note_answer();
                    None
                }
                Ok(Ok(false)) => Some("it is a replica".to_owned()),
                Ok(Err(ref error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer within {within:?}")),
            };
            let is_replica = matches!(is_primary, Ok(Ok(false)));
            *self.trouble.lock().expect("nobody panics with it") = trouble;
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

/// Whether the server answers as a primary. One that was demoted answers pings too, and passes announcements on.
async fn is_primary(client: &Client) -> FredResult<bool> {
    let info = run(client, "EVAL", vec![PROBE.into(), "0".into()]).await?;
    Ok(info.as_str().is_some_and(|info| info.contains("role:master")))
}
