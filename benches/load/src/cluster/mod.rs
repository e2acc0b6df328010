//! What a publish costs the instance that takes it, an instance that delivers it and the Redis between them, how many of
//! them a core can do, and what latency the way through Redis adds over one instance.
//! Budget: of 1,000 subscribers on the other instance half have a publication within 8 ms, 99 % within 20 ms.
//! Instances run on CPU 0; Redis, publishers and subscribers on CPU 1.

mod cost;
mod lanes;
mod latency;
mod report;
mod witness;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

pub use report::{Budget, ClusterReport, CostRow, LatencyRow};

use self::cost::{Cost, Load, cost};
use self::latency::latency;
use crate::child::{Server, beside_servers};
use crate::cli::{ClusterArgs, Host};
use crate::error::LoadError;
use crate::latency::LatencySummary;
use crate::measurement::Measurement;
use crate::process::raise_descriptor_limit;
use crate::redis::Redis;

/// Bytes of a payload, and whether it has an idempotency key.
const KINDS: [(usize, bool); 4] = [(64, false), (64, true), (1024, false), (1024, true)];
/// Where latency is measured, in the order of a round.
const WAYS: [&str; 3] = ["one instance, memory broker", "the publishing instance", "the other instance"];
/// The budget is for the last of them.
const BUDGET: Budget = Budget { p50_ms: 8.0, p99_ms: 20.0 };

/// Channels called so are delivered without waiting for a window.
const IMMEDIATE: &str = "immediate";
/// One subscriber gets what thousands publish: nothing of it may have to be read from history.
const MAILBOX: &str = "64MiB";
/// The shortest life of a numbering that is legal beside the default history: a Redis that was lent is soon clean again.
const FORGET_AFTER: &str = "10m";

/// Two instances on one Redis.
struct Pair {
    publishing: Server,
    receiving: Server,
}

/// One round's figures, in the order of [`KINDS`] and [`WAYS`].
struct Round {
    costs: Vec<Cost>,
    latencies: Vec<LatencySummary>,
}

/// A run and what its rounds share.
struct Run<'a> {
    args: &'a ClusterArgs,
    server: &'a Path,
    redis: Redis,
    /// Tells its keys and channels from those of other runs.
    name: String,
}

/// Measures everything `rounds` times. Blocks, for about a minute a round with the defaults.
///
/// # Errors
/// When a process could not do its part, a publication was not acknowledged, or a subscriber did not get everything.
pub fn cluster(args: &ClusterArgs, host: &Host) -> Result<ClusterReport, LoadError> {
    let server = host.server(args.server.as_deref())?;
    raise_descriptor_limit(args.clients.max(args.publishers) as usize)?;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = format!("bench-{:x}-{:x}", since_epoch.as_micros(), std::process::id());
    let rounds = beside_servers(|| {
        let run = Run { args, server, redis: Redis::of(args.redis.as_deref(), args.redis_pid)?, name };
        (0..args.rounds).map(|number| run.round(number)).collect::<Result<Vec<_>, _>>()
    })?;
    Ok(report(args, &rounds))
}

impl Run<'_> {
    fn round(&self, number: u32) -> Result<Round, LoadError> {
        let single = latency(self.args, &self.start(false)?, None)?;
        let pair = Pair { publishing: self.start(true)?, receiving: self.start(true)? };
        let costs = KINDS.iter().map(|(bytes, with_keys)| {
            let load = Load {
                publishers: self.args.publishers,
                publications: self.args.publications.into(),
                warm_up: self.args.warm_up.into(),
                channels: self.args.channels,
                bytes: *bytes,
                keys: with_keys.then(|| format!("{}-{number}-{bytes}", self.name)),
            };
            cost(&pair, self.redis.process(), &load)
        });
        Ok(Round {
            costs: costs.collect::<Result<_, _>>()?,
            latencies: vec![
                single,
                latency(self.args, &pair.publishing, None)?,
                latency(self.args, &pair.receiving, Some(&pair.publishing))?,
            ],
        })
    }

    fn start(&self, is_shared: bool) -> Result<Server, LoadError> {
        let mut environment = vec![
            ("TIDINGS__NAMESPACE__IMMEDIATE__BATCH_MODE", "immediate".to_owned()),
            ("TIDINGS__LIMITS__MAILBOX_BYTES", MAILBOX.to_owned()),
        ];
        if is_shared {
            environment.extend([
                ("TIDINGS__REDIS__URL", self.redis.url().to_owned()),
                ("TIDINGS__REDIS__PREFIX", format!("tidings-{}", self.name)),
                ("TIDINGS__REDIS__FORGET_AFTER", FORGET_AFTER.to_owned()),
            ]);
        }
        Server::start(self.server, &self.args.server_args, &environment)
    }
}

fn report(args: &ClusterArgs, rounds: &[Round]) -> ClusterReport {
    let over = |value: &dyn Fn(&Round) -> f64| {
        Measurement::of(rounds.iter().map(value).collect())
            .expect("at least one round, as the options demand")
    };
    let costs = KINDS.iter().enumerate().map(|(kind, (bytes, has_key))| CostRow {
        bytes: *bytes,
        has_key: *has_key,
        publishing_us: over(&|round| round.costs[kind].publishing_us),
        receiving_us: over(&|round| round.costs[kind].receiving_us),
        redis_us: rounds[0].costs[kind]
            .redis_us
            .map(|_| over(&|round| round.costs[kind].redis_us.unwrap_or_default())),
        per_second: over(&|round| round.costs[kind].per_second),
        per_cpu_second: over(&|round| 1e6 / round.costs[kind].publishing_us),
    });
    let latencies = WAYS.iter().enumerate().map(|(way, name)| LatencyRow {
        subscribers_on: (*name).to_owned(),
        p50_ms: over(&|round| round.latencies[way].p50_ms),
        p99_ms: over(&|round| round.latencies[way].p99_ms),
        budget: (way + 1 == WAYS.len()).then_some(BUDGET),
    });
    ClusterReport {
        rounds: args.rounds,
        publishers: args.publishers,
        publications: args.publications,
        channels: args.channels,
        costs: costs.collect(),
        clients: args.clients,
        rate: args.rate,
        seconds: args.seconds,
        latencies: latencies.collect(),
    }
}
