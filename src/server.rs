//! A server: the parts of an instance, built and joined; then the socket; then the orderly end.

mod steward;

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use tidings_protocol::{CloseCode, Problem};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::api;
use crate::auth::{Authenticator, Origins, keep_fetching};
use crate::broker::{
    Broker, BrokerEvent, InstanceCard, MemoryBroker, RedisBroker, RedisRefused, Retentions, StoreLimits,
    alike,
};
use crate::clock::Clock;
use crate::config::{Config, Limits};
use crate::freshness::Rules;
use crate::hub::Close;
use crate::instance::{
    Answers, Instance, Resource, answers_bytes, bodies_bytes, sse_sessions, websocket_sessions,
};
use crate::limits::{Arrivals, Memory, Rates, Sockets};
use crate::node::{EVENTS_MAX, Node, keep_revocations};
use crate::observe::{Health, Metrics, Phase, memory_budget};
use crate::transport;

/// How long after the last close connections and requests may still take to end. With the defaults of `drain_delay` and
/// `drain_spread` an instance ends within 25 s: Kubernetes waits 30 s.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client should wait before it comes back is spread over this.
const COME_BACK_SPREAD: Duration = Duration::from_secs(2);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// The machine gives no random bytes.
    #[error("the machine gives no random bytes: {0}")]
    Random(String),
    /// The configured Redis cannot be used.
    #[error(transparent)]
    Redis(#[from] RedisRefused),
    /// The broker does not say what is revoked: nobody can be let in.
    #[error("the broker does not say which tokens are revoked: {0}")]
    Revocations(Problem),
    /// An API key has a pattern outside the grammar.
    #[error("[[api_key]]: {0:?}")]
    Pattern(crate::hub::PatternInvalid),
}

/// A server that listens.
pub struct Server {
    instance: Arc<Instance>,
    address: SocketAddr,
}

impl Server {
    /// Builds the parts and listens. `dev` lets everybody of this machine in.
    pub async fn start(config: Config, dev: bool) -> Result<Server, StartError> {
        Server::start_with(config, dev, configured_broker).await
    }

    /// As [`Server::start`], with a broker of the caller's own.
    pub async fn start_with(
        config: Config,
        dev: bool,
        broker: impl AsyncFnOnce(&Config, BrokerParts) -> Result<Arc<dyn Broker>, StartError>,
    ) -> Result<Server, StartError> {
        let address = config.server.listen;
        let listener =
            TcpListener::bind(address).await.map_err(|error| StartError::Listen { address, error })?;
        let address = listener.local_addr().map_err(|error| StartError::Listen { address, error })?;
        let built = tokio::select! {
            built = build(config, address, dev, broker) => built?,
            never = transport::answer_while_starting(&listener) => match never {},
        };
        let instance = Arc::new(built);
        warn_of_few_descriptors(&instance);
        let accept = transport::accept(listener, api::router(instance.clone()), instance.clone());
        tokio::spawn(accept);
        keep_credentials(&instance).await.map_err(StartError::Revocations)?;
        tokio::spawn(steward::look_after(instance.clone()));
        instance.health.set(Phase::Ready);
        info!(%address, broker = instance.node.broker_name(), "ready");
        Ok(Server { instance, address })
    }

    /// What it keeps its channels in.
    pub fn broker_name(&self) -> &'static str {
        self.instance.node.broker_name()
    }

    /// What runs, to be reloaded.
    pub fn instance(&self) -> Arc<Instance> {
        self.instance.clone()
    }

    /// Its routes, without a socket. Test builds only.
    #[cfg(feature = "ablation")]
    pub fn router(&self) -> axum::Router {
        api::router(self.instance.clone())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends in good order: says so, lets balancers notice, delivers what was accepted, then closes connections one by
    /// one. Returns when everything has ended or its time is over. Whoever drops the future ends at once.
    pub async fn drain(self) {
        let Server { instance, .. } = self;
        let server = &instance.config.server;
        instance.health.set(Phase::Draining);
        info!(delay = ?server.drain_delay, connections = instance.node.connections(), "draining");
        tokio::time::sleep(server.drain_delay).await;
        instance.health.set(Phase::Closing);
        if let Err(problem) = instance.node.stop_publishing().await {
            warn!(%problem, "not everything accepted could be delivered");
        }
        close_connections(&instance).await;
        instance.node.leave().await;
        instance.stopping.cancel();
        instance.tasks.close();
        let ended = async {
            instance.tasks.wait().await;
            instance.node.all_parted().await;
        };
        match tokio::time::timeout(END_TIMEOUT, ended).await {
            Ok(()) => info!("drained"),
            Err(_) => warn!(left = instance.tasks.len(), "ended with connections still open"),
        }
    }
}

/// A bound of connections that the process cannot reach is met as sockets that wait, and not as a refusal.
fn warn_of_few_descriptors(instance: &Instance) {
    let (most, wanted) = (instance.sockets.most(), instance.limits.load().connections_max);
    if !instance.dev && most < wanted {
        warn!(
            most,
            connections_max = wanted,
            "this process may open fewer files than limits.connections_max needs: raise its limit (ulimit -n, LimitNOFILE)"
        );
    }
}

/// Learns what was revoked before this instance was there, and goes on learning it, and the keys of issuers of tokens.
async fn keep_credentials(instance: &Arc<Instance>) -> Result<(), Problem> {
    let known = instance.node.learn_revocations(None).await?;
    if known.is_some() {
        tokio::spawn(keep_revocations(Arc::downgrade(&instance.node), known));
    }
    let (keeper, clock) = (instance.clone(), instance.clock);
    let fetching = keep_fetching(move || keeper.authenticator.load_full(), clock);
    let stopping = instance.stopping.clone();
    tokio::spawn(async move { stopping.run_until_cancelled(fetching).await });
    Ok(())
}

/// Closes evenly over the configured time, so that those who come back elsewhere do not come together.
async fn close_connections(instance: &Instance) {
    let sessions = instance.node.sessions();
    let spread = instance.config.server.drain_spread;
    let spacing = spread.checked_div(sessions.len() as u32).unwrap_or_default();
    let mut ticks = tokio::time::interval(spacing.max(Duration::from_nanos(1)));
    for session in sessions {
        ticks.tick().await;
        let after = COME_BACK_SPREAD.mul_f64(instance.jitter());
        let close =
            Close { code: CloseCode::Restart, message: "the server restarts".to_owned(), after: Some(after) };
        instance.node.close(session, close);
    }
}

/// What every broker is made with.
pub struct BrokerParts {
    /// Where it announces.
    pub events: mpsc::Sender<BrokerEvent>,
    /// The clock.
    pub clock: Clock,
    /// What this instance says of itself; its id tells this start from any other.
    pub card: Arc<InstanceCard>,
}

/// Redis where one is configured, else the memory of an instance that shares its channels with nobody.
async fn configured_broker(config: &Config, parts: BrokerParts) -> Result<Arc<dyn Broker>, StartError> {
    let BrokerParts { events, clock, card } = parts;
    if config.redis.url.is_some() {
        return Ok(Arc::new(RedisBroker::start(config, events, clock, card).await?));
    }
    let limits = StoreLimits {
        channels_max: config.limits.channels_max,
        bytes_max: config.limits.history_total_bytes,
        key_age: config.limits.idempotency_window,
    };
    Ok(Arc::new(MemoryBroker::start(limits, Retentions::new(config), events, clock, card)))
}

async fn build(
    mut config: Config,
    address: SocketAddr,
    dev: bool,
    broker: impl AsyncFnOnce(&Config, BrokerParts) -> Result<Arc<dyn Broker>, StartError>,
) -> Result<Instance, StartError> {
    let memory_bytes = memory_budget(config.limits.memory_bytes);
    keep_history_within(memory_bytes, &mut config.limits);
    let clock = Clock::start();
    let address = config.server.advertise.clone().unwrap_or_else(|| address.to_string());
    let card = Arc::new(InstanceCard::new(&seed()?, address, clock.unix_ms()));
    card.set_alike(alike(&config));
    let metrics = Arc::new(Metrics::new());
    let (events, announced) = mpsc::channel(EVENTS_MAX);
    let broker = broker(&config, BrokerParts { events, clock, card: card.clone() }).await?;
    let broker_name = broker.name();
    let node = Node::start(card, broker, announced, &config, clock, metrics.clone());
    let allowed = config.server.allowed_origins.iter().map(|origin| origin.as_str().to_owned());
    Ok(Instance {
        node,
        dev,
        effective: ArcSwap::from_pointee(config.clone()),
        limits: ArcSwap::from_pointee(config.limits.clone()),
        rates: ArcSwap::from_pointee(Rates::new(&config.limits)),
        answers: Arc::new(Answers::new(answers_bytes(&config.limits), clock)),
        attempts: Mutex::default(),
        arrivals: Mutex::new(Arrivals::new(&config.limits)),
        seats: Arc::default(),
        sockets: Sockets::new(usize::try_from(transport::connection_descriptors_max()).unwrap_or(usize::MAX)),
        memory: Memory::new(memory_bytes),
        bodies: Resource::new("bodies_bytes", "bytes of request bodies", bodies_bytes(&config.limits)),
        authenticator: ArcSwap::from_pointee(Authenticator::new(&config, dev).map_err(StartError::Pattern)?),
        origins: ArcSwap::from_pointee(Origins::new(allowed.collect(), dev)),
        clock,
        metrics,
        health: Health::default(),
        rules: watch::Sender::new(Arc::new(Rules::new(config.rules.clone()))),
        websocket: ArcSwap::from_pointee(websocket_sessions(&config, broker_name)),
        sse: ArcSwap::from_pointee(sse_sessions(&config, broker_name)),
        tasks: TaskTracker::new(),
        stopping: CancellationToken::new(),
        dice: AtomicU64::new(1),
        config,
    })
}

/// History, which nobody waits for, leaves half of the memory to those who are connected.
fn keep_history_within(memory_bytes: usize, limits: &mut Limits) {
    let most = memory_bytes / 2;
    if limits.history_total_bytes > most {
        info!(configured = limits.history_total_bytes, most, "history is kept within half of the memory");
        limits.history_total_bytes = most;
    }
}

/// Eight characters that tell this start of this instance from any other of any: 40 bits.
fn seed() -> Result<String, StartError> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz2345678";
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| StartError::Random(error.to_string()))?;
    Ok(random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
}
