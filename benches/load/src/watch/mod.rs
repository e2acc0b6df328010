//! How soon clients that watch tags know that one was touched, and what that costs the server: while it is quiet, and at
//! 1,000 mutations a second, where each client is told once a window; on one instance, and through Redis on the other one.
//! Budget: while it is quiet half of the clients know within 5 ms; at full pace 99 % know within the window and 20 ms.
//! Instances run on CPU 0; Redis, mutators and clients on CPU 1. The pings of clients that keep a lease are in the cost.

mod mutator;
mod report;
mod touches;
mod watchers;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

pub use report::{WatchBudget, WatchReport, WatchRow};

use self::mutator::Mutator;
use self::touches::{Told, Touches};
use crate::child::{Server, beside_servers};
use crate::cli::{Host, WatchArgs};
use crate::error::LoadError;
use crate::http::Target;
use crate::measurement::Measurement;
use crate::process::{Process, raise_descriptor_limit};
use crate::redis::Redis;

/// Between two mutations while it is quiet: longer than a window, so that each is told at once.
const QUIET_PAUSE: Duration = Duration::from_millis(300);
/// While it is quiet, and at full pace: the window of a server that is configured as it comes, and what may come on top.
const BUDGETS: [WatchBudget; 2] = [WatchBudget::P50Ms(5.0), WatchBudget::P99Ms(100.0 + 20.0)];
/// For all clients to watch.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_PAUSE: Duration = Duration::from_millis(5);

/// What is measured in a round: where, and the servers for mutations and for clients.
struct Place {
    name: &'static str,
    mutated: String,
    watched: String,
    processes: Vec<Process>,
    _servers: Vec<Server>,
    _redis: Option<Redis>,
}

/// What one pace came to.
struct Outcome {
    told: Told,
    mutations: u64,
    elapsed: Duration,
    cpu: Option<Duration>,
}

/// Measures everything `rounds` times. Blocks, for about half a minute a round with the defaults, twice that with Redis.
///
/// # Errors
/// When a process could not do its part, a mutation was not acknowledged, or a client was told what it should not.
pub fn watch(args: &WatchArgs, host: &Host) -> Result<WatchReport, LoadError> {
    raise_descriptor_limit(args.clients as usize)?;
    if args.tags_per_client > args.tags || args.tags < args.rate {
        return Err(LoadError::Usage(format!(
            "--tags is {}: at least as many as --tags-per-client and --rate, so that no tag is touched twice in a second",
            args.tags
        )));
    }
    let rounds =
        beside_servers(|| (0..args.rounds).map(|_| round(args, host)).collect::<Result<Vec<_>, _>>())?;
    Ok(report(args, &rounds))
}

/// Every place with what each pace came to there.
type Round = Vec<(&'static str, Vec<Outcome>)>;

fn round(args: &WatchArgs, host: &Host) -> Result<Round, LoadError> {
    let mut outcomes = Vec::new();
    for is_shared in [false, true].into_iter().take(if args.redis { 2 } else { 1 }) {
        let place = match &args.url {
            Some(url) => Place::running(url, args.pid)?,
            None => Place::start(host.server(args.server.as_deref())?, args, is_shared)?,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(LoadError::io("start the runtime"))?;
        outcomes.push((place.name, LocalSet::new().block_on(&runtime, measure(args, &place))?));
    }
    Ok(outcomes)
}

impl Place {
    fn running(url: &str, pid: Option<u32>) -> Result<Place, LoadError> {
        let processes = pid.map(Process::of).transpose()?.into_iter().collect();
        let (mutated, watched) = (url.to_owned(), url.to_owned());
        Ok(Place { name: "that server", mutated, watched, processes, _servers: Vec::new(), _redis: None })
    }

    fn start(program: &Path, args: &WatchArgs, is_shared: bool) -> Result<Place, LoadError> {
        let redis = if is_shared { Some(Redis::of(None, None)?) } else { None };
        let mut environment = vec![
            ("TIDINGS__LIMITS__CONNECTIONS_PER_SECOND", "1000000".to_owned()),
            ("TIDINGS__LIMITS__CONNECTIONS_BURST", "1000000".to_owned()),
        ];
        environment.extend(redis.iter().map(|redis| ("TIDINGS__REDIS__URL", redis.url().to_owned())));
        let count = if is_shared { 2 } else { 1 };
        let servers: Vec<Server> = (0..count)
            .map(|_| Server::start(program, &args.server_args, &environment))
            .collect::<Result<_, _>>()?;
        Ok(Place {
            name: if is_shared { "the other instance" } else { "one instance" },
            mutated: servers[0].url(),
            watched: servers[count - 1].url(),
            processes: servers.iter().map(Server::process).collect::<Result<_, _>>()?,
            _servers: servers,
            _redis: redis,
        })
    }

    /// CPU time of all servers so far, where it is known.
    fn cpu(&self) -> Result<Option<Duration>, LoadError> {
        let times = self.processes.iter().map(|process| process.cpu_time_exact());
        let times: Vec<Duration> = times.collect::<Result<_, _>>()?;
        Ok((!times.is_empty()).then(|| times.iter().sum()))
    }
}

async fn measure(args: &WatchArgs, place: &Place) -> Result<Vec<Outcome>, LoadError> {
    let touches = Rc::new(RefCell::new(Touches::new(args.tags as usize)));
    let wanted: Vec<Vec<usize>> = (0..args.clients).map(|client| tags_of(client, args)).collect();
    let clients = watchers::connect(&Target::parse(&place.watched, None)?, wanted, &touches).await?;
    let is_joined = |touches: &Touches| touches.ready >= args.clients as usize;
    if !settled(&touches, JOIN_TIMEOUT, is_joined).await {
        let (ready, seen) = (touches.borrow().ready, touches.borrow().findings().join("; "));
        return Err(LoadError::Peer(format!("{ready} of {} clients watch; seen: {seen}", args.clients)));
    }
    let target = Target::parse(&place.mutated, None)?;
    let mut mutator = Mutator::new(target, args.tags.into(), touches.clone());
    let full = u64::from(args.rate) * u64::from(args.seconds);
    let paces = [(args.quiet.into(), QUIET_PAUSE), (full, Duration::from_secs(1) / args.rate)];
    let mut outcomes = Vec::new();
    for (mutations, pause) in paces {
        let before = place.cpu()?;
        let elapsed = mutator.send(mutations, pause).await?;
        // Who is not told by then is counted as lost.
        settled(&touches, Duration::from_secs(args.settle.into()), Touches::is_settled).await;
        let cpu = place.cpu()?.zip(before).map(|(after, before)| after.saturating_sub(before));
        let mut touches = touches.borrow_mut();
        if let Some(finding) = touches.findings().first() {
            return Err(LoadError::Peer(format!("a client that watches: {finding}")));
        }
        outcomes.push(Outcome { told: touches.finish(), mutations, elapsed, cpu });
    }
    drop(clients);
    Ok(outcomes)
}

/// The tags that a client watches: no two clients the same ones, and neighbours by different clients, as mutations in a row
/// have little to do with each other.
fn tags_of(client: u32, args: &WatchArgs) -> Vec<usize> {
    /// Has no factor in common with a round number of tags.
    const STEP: usize = 7_919;
    let (tags, count) = (args.tags as usize, args.tags_per_client as usize);
    (0..count).map(|index| (client as usize * STEP + index * (tags / count)) % tags).collect()
}

/// Waits until `is_done`; false if that takes longer than `most`.
async fn settled(touches: &RefCell<Touches>, most: Duration, is_done: impl Fn(&Touches) -> bool) -> bool {
    let deadline = Instant::now() + most;
    while !is_done(&touches.borrow()) {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(POLL_PAUSE).await;
    }
    true
}

fn report(args: &WatchArgs, rounds: &[Round]) -> WatchReport {
    let mut rows = Vec::new();
    for (place, (name, _)) in rounds[0].iter().enumerate() {
        let paces = ["quiet".to_owned(), format!("{} a second", args.rate)];
        for (pace, (what, budget)) in paces.into_iter().zip(BUDGETS).enumerate() {
            let outcomes: Vec<&Outcome> = rounds.iter().map(|round| &round[place].1[pace]).collect();
            rows.push(row(name, what, budget, &outcomes));
        }
    }
    WatchReport {
        rounds: args.rounds,
        clients: args.clients,
        tags_per_client: args.tags_per_client,
        tags: args.tags,
        rows,
    }
}

fn row(place: &str, pace: String, budget: WatchBudget, outcomes: &[&Outcome]) -> WatchRow {
    let over = |value: &dyn Fn(&Outcome) -> Option<f64>| {
        Measurement::of(outcomes.iter().filter_map(|outcome| value(outcome)).collect())
    };
    let always = |value: &dyn Fn(&Outcome) -> f64| {
        over(&|outcome| Some(value(outcome))).expect("at least one round, as the options demand")
    };
    let each = |outcome: &Outcome, count: u64| {
        outcome.cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / (count.max(1) as f64))
    };
    WatchRow {
        clients_on: place.to_owned(),
        pace,
        per_second: always(&|outcome| outcome.mutations as f64 / outcome.elapsed.as_secs_f64()),
        p50_ms: always(&|outcome| outcome.told.latency.p50_ms),
        p99_ms: always(&|outcome| outcome.told.latency.p99_ms),
        budget,
        mutation_us: over(&|outcome| each(outcome, outcome.mutations)),
        delivery_us: over(&|outcome| each(outcome, outcome.told.latency.count)),
        delivered: outcomes.iter().map(|outcome| outcome.told.latency.count).sum(),
        lost: outcomes.iter().map(|outcome| outcome.told.lost).sum(),
    }
}
