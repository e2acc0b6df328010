//! CPU of each process for one kind of publication, under as much load as the publishers can make.

use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use super::Pair;
use super::lanes::{Lanes, Script};
use super::witness::Witness;
use crate::error::LoadError;
use crate::http::Target;
use crate::process::Process;

/// The kind of publication, and how many.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) publishers: u32,
    pub(super) publications: u64,
    pub(super) warm_up: u64,
    pub(super) channels: u32,
    pub(super) bytes: usize,
    /// What idempotency keys begin with; `None` for publications without.
    pub(super) keys: Option<String>,
}

/// What one publication cost, in CPU microseconds, and how many there were in a second.
#[derive(Debug)]
pub(super) struct Cost {
    pub(super) publishing_us: f64,
    pub(super) receiving_us: f64,
    pub(super) redis_us: Option<f64>,
    pub(super) per_second: f64,
}

/// The processes whose CPU is read.
struct Meter {
    publishing: Process,
    receiving: Process,
    redis: Option<Process>,
}

/// CPU time of each so far.
struct Reading {
    publishing: Duration,
    receiving: Duration,
    redis: Option<Duration>,
}

/// Publishes at one instance while a subscriber of all channels listens at the other. An error if a publication was not
/// acknowledged, or did not arrive.
pub(super) fn cost(pair: &Pair, redis: Option<Process>, load: &Load) -> Result<Cost, LoadError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LoadError::io("start the runtime"))?;
    LocalSet::new().block_on(&runtime, measure(pair, redis, load))
}

async fn measure(pair: &Pair, redis: Option<Process>, load: &Load) -> Result<Cost, LoadError> {
    let meter = Meter { publishing: pair.publishing.process()?, receiving: pair.receiving.process()?, redis };
    let channels: Vec<String> = (0..load.channels).map(|number| format!("cost-{number}")).collect();
    let mut witness = Witness::join(&Target::parse(&pair.receiving.url(), None)?, &channels).await?;
    let script = Script {
        target: Target::parse(&pair.publishing.url(), None)?,
        channels,
        bytes: load.bytes,
        keys: load.keys.clone(),
    };
    let mut lanes = Lanes::open(script, load.publishers).await?;
    lanes.publish(load.warm_up).await?;
    witness.wait_for(load.warm_up).await?;
    let before = meter.read()?;
    let start = Instant::now();
    lanes.publish(load.publications).await?;
    let elapsed = start.elapsed();
    witness.wait_for(load.warm_up + load.publications).await?;
    let after = meter.read()?;
    let each = |after: Duration, before: Duration| {
        after.saturating_sub(before).as_secs_f64() * 1e6 / load.publications as f64
    };
    Ok(Cost {
        publishing_us: each(after.publishing, before.publishing),
        receiving_us: each(after.receiving, before.receiving),
        redis_us: after.redis.zip(before.redis).map(|(after, before)| each(after, before)),
        per_second: load.publications as f64 / elapsed.as_secs_f64(),
    })
}

impl Meter {
    fn read(&self) -> Result<Reading, LoadError> {
        Ok(Reading {
            publishing: self.publishing.cpu_time_exact()?,
            receiving: self.receiving.cpu_time_exact()?,
            redis: self.redis.map(Process::cpu_time_exact).transpose()?,
        })
    }
}
