//! What all requests and connections of one running instance share.

mod answers;
mod reload;
mod resource;

pub use answers::{Answers, COUNTED_FROM_BYTES, Hangup, HeldAnswer};
pub use reload::{ReloadError, Reloaded};
pub use resource::Resource;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use tidings_protocol::{Code, HelloFrame, Problem};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{Authenticator, Now, Origins, is_api_key, refused};
use crate::clock::Clock;
use crate::config::{Config, Limits};
use crate::freshness::Rules;
use crate::hub::{CatchUp, ChannelGrant, Credential, Grant, Heartbeat, PageLimit, SessionConfig};
use crate::limits::{
    Arrivals, AttemptLimits, Attempts, Caller, Count, Limited, Memory, Name, Rates, Scope, Seats, Sockets,
    Standings,
};
use crate::node::Node;
use crate::observe::{Health, Metrics};

/// How long a session waits before it asks for history again that could not be read.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a recovery or history frame may have around its publications, in bytes.
const PAGE_OVERHEAD_BYTES: usize = 2_048;

/// How much longer a page can be as JSON in HTTP than it is counted: it holds one publication in any case.
const PAGE_FACTOR: usize = 2;

/// What a publish may have around its data, in a JSON body.
const ENVELOPE_BYTES: usize = 4 * 1024;

/// How much longer data can be as base64 or with every character escaped, in a JSON body.
const ESCAPED_FACTOR: usize = 6;

/// Items, tags or events that one command or request may ask for; as many more count as another one.
pub const ITEMS_OF_A_COMMAND: usize = 100;

/// One running instance.
pub struct Instance {
    /// The configuration that it was started with.
    pub config: Config,
    /// The same with what was reloaded.
    pub effective: ArcSwap<Config>,
    /// Let in whoever comes, from this machine.
    pub dev: bool,
    /// The limits in effect; others take their place when the configuration is read again, as with all that is swapped.
    pub limits: ArcSwap<Limits>,
    /// What may come per second.
    pub rates: ArcSwap<Rates>,
    /// Credentials that failed, by address.
    pub attempts: Mutex<Attempts>,
    /// New connections per second, by address.
    pub(crate) arrivals: Mutex<Arrivals>,
    /// Connections at once, by who they are.
    pub seats: Arc<Seats>,
    /// HTTP sockets at once, by address.
    pub sockets: Arc<Sockets>,
    /// What the process may use, and uses.
    pub memory: Memory,
    /// Bytes of request bodies, from when they come until the request is answered.
    pub bodies: Resource,
    /// Bytes of answers that are not read.
    pub answers: Arc<Answers>,
    /// Hub and broker.
    pub node: Arc<Node>,
    /// Who may do what.
    pub authenticator: ArcSwap<Authenticator>,
    /// Whose pages may talk to us.
    pub origins: ArcSwap<Origins>,
    /// The clock.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where the server is in its life.
    pub health: Health,
    /// Which tags mutations touch; another set takes the place of this one when the configuration is read again.
    pub rules: watch::Sender<Arc<Rules>>,
    /// How WebSocket sessions behave.
    pub websocket: ArcSwap<SessionConfig>,
    /// How SSE sessions behave.
    pub sse: ArcSwap<SessionConfig>,
    /// Every task that serves a peer.
    pub tasks: TaskTracker,
    /// Cancelled when requests must come to their end.
    pub stopping: CancellationToken,
    /// Feeds `jitter`.
    pub dice: AtomicU64,
}

impl Instance {
    /// The moment, for credentials.
    pub fn now(&self) -> Now {
        Now { time: self.clock.now(), unix: self.clock.unix_ms() / 1_000 }
    }

    /// Counts `n` events of the caller, at each level that counts them; a refusal is in the metrics.
    pub fn admit(&self, caller: &Caller, count: Count, n: usize) -> Result<Standings, Limited> {
        let admitted = self.rates.load().admit(caller, count, n);
        if let Err(limited) = &admitted {
            self.metrics.rate_limited(limited.standing.scope);
        }
        admitted
    }

    /// Counts what a command or a request asks for beyond itself: so many items, tags or events.
    pub fn admit_items(&self, caller: &Caller, items: usize) -> Result<Standings, Limited> {
        match items / ITEMS_OF_A_COMMAND {
            0 => Ok(Standings::new()),
            commands => self.admit(caller, Count::Commands, commands),
        }
    }

    /// Whether one more connection may come from the caller's address: when everybody comes back at once, handshakes must
    /// not take the time of those who are here. It is counted then.
    pub fn admit_arrival(&self, caller: &Caller) -> bool {
        let mut arrivals = self.arrivals.lock().expect("nobody panics with the arrivals");
        self.dev || arrivals.admit(caller.name(Scope::Address), self.clock.now().0)
    }

    /// New connections that still count, whole ones.
    pub fn arrivals(&self) -> usize {
        let mut arrivals = self.arrivals.lock().expect("nobody panics with the arrivals");
        arrivals.level(self.clock.now().0).ceil() as usize
    }

    /// Counts a publication with so many bytes of data.
    pub fn admit_publish(&self, caller: &Caller, bytes: usize) -> Result<Standings, Limited> {
        let mut standings = self.admit(caller, Count::Publishes, 1)?;
        standings.extend(self.admit(caller, Count::Bytes, bytes)?);
        Ok(standings)
    }

    /// What the holder of a credential may do now. It came from this address.
    pub async fn authenticate(&self, token: &str, address: Option<IpAddr>) -> Result<Grant, Problem> {
        let grant =
            self.checked(token, address, |authenticator, now| authenticator.authenticate(token, now)).await?;
        match self.node.is_revoked(&grant.user, &grant.credential) {
            true => Err(refused()),
            false => Ok(grant),
        }
    }

    /// The one channel that a token grants which came with a `subscribe`.
    pub async fn admit_to_channel(
        &self,
        token: &str,
        address: Option<IpAddr>,
    ) -> Result<ChannelGrant, Problem> {
        let pass = self.checked(token, address, |authenticator, now| authenticator.admit(token, now)).await?;
        match self.node.is_revoked(&pass.user, &pass.credential) {
            true => Err(refused()),
            false => Ok(pass),
        }
    }

    /// Whether what was granted a while ago still holds: a request's body may take its time.
    pub fn recheck(&self, grant: &Grant) -> Result<(), Problem> {
        if grant.expires.is_some_and(|expiry| expiry.at <= self.clock.now()) {
            return Err(Code::TokenExpired.into());
        }
        if self.node.is_revoked(&grant.user, &grant.credential) {
            return Err(refused());
        }
        match self.authenticator.load().grant_now(grant) {
            None => Err(refused()),
            Some(now) if now != grant => {
                let message = "the rights of the credential changed while the request came: send it again";
                Err(Problem::new(Code::Overloaded, message))
            }
            Some(_) => Ok(()),
        }
    }

    /// Has the token checked; one that names a key which nobody knows yet is checked again once keys were fetched.
    async fn checked<T>(
        &self,
        token: &str,
        address: Option<IpAddr>,
        check: impl Fn(&Authenticator, Now) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        self.admit_attempt(token, address)?;
        let authenticator = self.authenticator.load_full();
        let is_refused = |checked: &Result<T, Problem>| matches!(checked, Err(problem) if problem.code == Code::Unauthorized);
        let mut checked = check(&authenticator, self.now());
        if is_refused(&checked) && authenticator.may_know_more_of(token, self.now()).await {
            checked = check(&authenticator, self.now());
        }
        let limits = AttemptLimits::from(&**self.limits.load());
        match (address, &checked) {
            (Some(address), Err(_)) => {
                self.attempts().fail(&Name::of_address(address), token, limits, self.clock.now().0);
            }
            (Some(_), Ok(_)) if limits.per_second > 0 && !is_api_key(token) => self.attempts().hold(token),
            _ => {}
        }
        checked
    }

    /// Refuses to look into a token from where too many came that did not hold.
    fn admit_attempt(&self, token: &str, address: Option<IpAddr>) -> Result<(), Problem> {
        let Some(address) = address.filter(|_| !is_api_key(token)) else { return Ok(()) };
        let limits = AttemptLimits::from(&**self.limits.load());
        let admitted = self.attempts().admit(&Name::of_address(address), token, limits, self.clock.now().0);
        admitted.map_err(|limited| {
            self.metrics.rate_limited(limited.standing.scope);
            limited.problem()
        })
    }

    /// Credentials that failed, and those that held.
    pub fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().expect("nothing panics while it looks at attempts")
    }

    /// A number from 0 to 1, evenly spread over successive calls: for pauses that must not coincide. It is no secret.
    pub fn jitter(&self) -> f64 {
        // The golden ratio's multiples fill the unit interval evenly (Weyl's equidistribution).
        (self.dice.fetch_add(1, Ordering::Relaxed) as f64 * 0.618_033_988_749_895).fract()
    }
}

/// Bytes that bodies of requests may have at once: room for two of the largest, so that one always has its share.
pub fn bodies_bytes(limits: &Limits) -> usize {
    limits.bodies_bytes.max(2 * limits.request_bytes_max).max(2 * publish_bytes_max(limits))
}

/// Bytes that answers may have at once: room for two of the largest pages, so that one always has its share.
pub fn answers_bytes(limits: &Limits) -> usize {
    limits.answers_bytes.max(2 * (limits.message_bytes_max + PAGE_OVERHEAD_BYTES) * PAGE_FACTOR)
}

/// Bytes that the body of a publish may have, as JSON: data as base64 or with every character escaped, and what is around it.
pub fn publish_bytes_max(limits: &Limits) -> usize {
    limits.message_bytes_max * ESCAPED_FACTOR + ENVELOPE_BYTES
}

/// Whom limits count what is done with the grant to. Its address counts for nobody who has a name.
pub fn caller_of(grant: &Grant, address: Option<IpAddr>) -> Caller {
    let key = match &grant.credential {
        Credential::ApiKey(name) => Some(name.clone()),
        Credential::Token { .. } | Credential::Anonymous | Credential::None => None,
    };
    // A key's user is the key; an anonymous user is many.
    let user = (key.is_none() && !grant.user.is_empty()).then(|| grant.user.clone());
    let address = address.filter(|_| key.is_none() && user.is_none());
    Caller { address, user, tenant: grant.tenant.clone(), key }
}

/// How the sessions of WebSockets behave, with a broker of this name.
pub fn websocket_sessions(config: &Config, broker: &'static str) -> SessionConfig {
    let server = &config.server;
    let limits = &config.limits;
    SessionConfig {
        hello: HelloFrame {
            session: String::new(),
            ping_interval_ms: server.ping_interval.as_millis() as u64,
            timeout_ms: server.timeout.as_millis() as u64,
            batch_ms: config.namespaces.of("").batch_window.as_millis() as u64,
            lease_ms: config.fresh.lease.as_millis() as u64,
            message_bytes_max: limits.message_bytes_max,
            command_bytes_max: limits.command_bytes_max(),
        },
        broker,
        catch_up: CatchUp::ByClient,
        heartbeat: Heartbeat { interval: server.ping_interval, timeout: Some(server.timeout) },
        hello_timeout: server.hello_timeout,
        age_max: Some(server.connection_age_max).filter(|age| !age.is_zero()),
        retry_after: RETRY_AFTER,
        channels_max: limits.channels_per_connection,
        members_max: limits.presence_members_max,
        tags_per_command_max: limits.tags_per_connection,
        lease: config.fresh.lease,
        commands_max: limits.commands_pending_max,
        message_bytes_max: limits.message_bytes_max,
        waiting_bytes_max: limits.mailbox_bytes,
        page: PageLimit {
            publications: limits.history_page_max,
            bytes: limits.message_bytes_max + PAGE_OVERHEAD_BYTES,
        },
    }
}

/// How the sessions of SSE streams behave: as those of WebSockets, but that their clients never speak.
pub fn sse_sessions(config: &Config, broker: &'static str) -> SessionConfig {
    let heartbeat = Heartbeat { interval: config.server.ping_interval, timeout: None };
    SessionConfig { catch_up: CatchUp::ByServer, heartbeat, ..websocket_sessions(config, broker) }
}
