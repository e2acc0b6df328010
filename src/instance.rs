//! What all requests and connections of one running instance share.

mod reload;

pub use reload::{ReloadError, Reloaded};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tidings_protocol::{Code, HelloFrame, Problem};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{Authenticator, Now, Origins, refused};
use crate::clock::Clock;
use crate::config::{Config, Limits};
use crate::freshness::Rules;
use crate::hub::{CatchUp, ChannelGrant, Credential, Grant, Heartbeat, PageLimit, SessionConfig};
use crate::limits::{Caller, Count, Limited, Memory, Rates, Seats, Standings};
use crate::node::Node;
use crate::observe::{Health, Metrics};

/// How long a session waits before it asks for history again that could not be read.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a recovery or history frame may have around its publications, in bytes.
const PAGE_OVERHEAD_BYTES: usize = 2_048;

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
    /// Connections at once, by who they are.
    pub seats: Arc<Seats>,
    /// What the process may use, and uses.
    pub memory: Memory,
    /// Bytes of request bodies that are being received.
    pub bodies: AtomicUsize,
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

    /// Counts a publication with so many bytes of data.
    pub fn admit_publish(&self, caller: &Caller, bytes: usize) -> Result<Standings, Limited> {
        let mut standings = self.admit(caller, Count::Publishes, 1)?;
        standings.extend(self.admit(caller, Count::Bytes, bytes)?);
        Ok(standings)
    }

    /// What the holder of a credential may do now.
    pub async fn authenticate(&self, token: &str) -> Result<Grant, Problem> {
        let grant = self.checked(token, |authenticator, now| authenticator.authenticate(token, now)).await?;
        match self.node.is_revoked(&grant.user, &grant.credential) {
            true => Err(refused()),
            false => Ok(grant),
        }
    }

    /// The one channel that a token grants which came with a `subscribe`.
    pub async fn admit_to_channel(&self, token: &str) -> Result<ChannelGrant, Problem> {
        let pass = self.checked(token, |authenticator, now| authenticator.admit(token, now)).await?;
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
        match self.node.is_revoked(&grant.user, &grant.credential) {
            true => Err(refused()),
            false => Ok(()),
        }
    }

    /// Has the token checked; one that names a key which nobody knows yet is checked again once keys were fetched.
    async fn checked<T>(
        &self,
        token: &str,
        check: impl Fn(&Authenticator, Now) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let authenticator = self.authenticator.load_full();
        let checked = check(&authenticator, self.now());
        let is_refused = matches!(&checked, Err(problem) if problem.code == Code::Unauthorized);
        match is_refused && authenticator.may_know_more_of(token, self.now()).await {
            true => check(&authenticator, self.now()),
            false => checked,
        }
    }

    /// A number from 0 to 1, evenly spread over successive calls: for pauses that must not coincide. It is no secret.
    pub fn jitter(&self) -> f64 {
        // The golden ratio's multiples fill the unit interval evenly (Weyl's equidistribution).
        (self.dice.fetch_add(1, Ordering::Relaxed) as f64 * 0.618_033_988_749_895).fract()
    }
}

/// Whom limits count what is done with the grant to.
pub fn caller_of(grant: &Grant) -> Caller {
    let key = match &grant.credential {
        Credential::ApiKey(name) => Some(name.clone()),
        Credential::Token { .. } | Credential::Anonymous | Credential::None => None,
    };
    // A key's user is the key; an anonymous user is many.
    let user = (key.is_none() && !grant.user.is_empty()).then(|| grant.user.clone());
    Caller { address: None, user, tenant: grant.tenant.clone(), key }
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
