//! CPU per delivery and memory per connection of the real server, beside what the kernel alone costs, measured in turns in
//! the same run: on a shared machine only figures of the same minute may be compared.
//! Servers run on CPU 0, sinks and this process on CPU 1.

mod helper;
mod raw_server;
mod report;
mod sink;
mod tidings;

use std::path::Path;
use std::time::Duration;

pub(crate) use raw_server::raw_server;
pub use report::{CpuRow, FloorReport, MemoryRow};
pub(crate) use sink::raw_sink;

use self::helper::Helper;
use self::raw_server::RawCost;
use self::tidings::{Memory, Subject, sink_arguments};
use crate::child::beside_servers;
use crate::cli::{FloorArgs, Host};
use crate::error::LoadError;
use crate::link::Transport;
use crate::measurement::Measurement;
use crate::process::raise_descriptor_limit;

/// The server's default window.
const WINDOW: Duration = Duration::from_millis(100);
/// Messages a window: one, and ten on different channels.
const MESSAGES: [u32; 2] = [1, 10];
const TRANSPORTS: [(Transport, &str); 2] = [(Transport::Ws, "WebSocket"), (Transport::Sse, "SSE")];

/// What is asked of every server.
#[derive(Clone, Copy, Debug)]
struct Load {
    clients: u32,
    payload: usize,
    ticks: u32,
    warm_up: u32,
}

/// One round's figures, in the order of [`TRANSPORTS`] and [`MESSAGES`].
#[derive(Debug, Default)]
struct Round {
    floor: Vec<f64>,
    ours: Vec<f64>,
    memory: Vec<Memory>,
}

/// Measures everything `rounds` times. Blocks, for about a minute a round with the defaults.
///
/// # Errors
/// When a server or a sink could not do its part, or deliveries are missing.
pub fn floor(args: &FloorArgs, host: &Host) -> Result<FloorReport, LoadError> {
    let server = host.server(args.server.as_deref())?;
    raise_descriptor_limit(args.clients.max(args.connections) as usize)?;
    let rounds = beside_servers(|| {
        (0..args.rounds).map(|_| round(args, host, server)).collect::<Result<Vec<_>, _>>()
    })?;
    Ok(report(args, &rounds))
}

fn round(args: &FloorArgs, host: &Host, server: &Path) -> Result<Round, LoadError> {
    let load = Load {
        clients: args.clients,
        payload: args.payload as usize,
        ticks: args.ticks,
        warm_up: args.warm_up,
    };
    let subject = || Subject::start(host, server, &args.server_args);
    let mut round = Round::default();
    for messages in MESSAGES {
        round.floor.push(raw(&load, host, messages)?);
        for (transport, _) in TRANSPORTS {
            round.ours.push(subject()?.cpu(&load, transport, messages)?);
        }
    }
    if args.connections > 0 {
        for (transport, _) in TRANSPORTS {
            round.memory.push(subject()?.memory(args.connections, transport)?);
        }
    }
    Ok(round)
}

/// CPU microseconds per delivery of the floor.
fn raw(load: &Load, host: &Host, messages: u32) -> Result<f64, LoadError> {
    let options = [
        ("--clients", load.clients),
        ("--payload", load.payload as u32),
        ("--batch", messages),
        ("--ticks", load.ticks),
        ("--warm-up", load.warm_up),
    ];
    let arguments: Vec<String> =
        options.iter().flat_map(|(name, value)| [(*name).to_owned(), value.to_string()]).collect();
    let mut server = Helper::raw_server(host, &arguments)?;
    let port = server.line()?;
    let port =
        port.parse().map_err(|_| LoadError::Peer(format!("the raw server said {port:?} for its port")))?;
    let sink = Helper::raw_sink(host, &sink_arguments(load.clients, port, Transport::Ws))?;
    sink.line()?;
    let answer = server.ask("run")?;
    let cost: RawCost = serde_json::from_str(&answer)
        .map_err(|error| LoadError::Peer(format!("the raw server said {answer:?} for its cost: {error}")))?;
    // One socket in a hundred may be late now and then; more, and the sink was the bottleneck.
    if cost.full * 100 > u64::from(load.clients) * u64::from(load.ticks) {
        return Err(LoadError::Peer(format!(
            "{} sends met full sockets: CPU 1 is too busy to measure",
            cost.full
        )));
    }
    Ok(cost.us_per_delivery)
}

fn report(args: &FloorArgs, rounds: &[Round]) -> FloorReport {
    let over = |value: &dyn Fn(&Round) -> f64| {
        Measurement::of(rounds.iter().map(value).collect())
            .expect("at least one round, as the options demand")
    };
    let mut cpu = Vec::new();
    for (load, messages) in MESSAGES.iter().enumerate() {
        for (place, (_, name)) in TRANSPORTS.iter().enumerate() {
            let ours = load * TRANSPORTS.len() + place;
            cpu.push(CpuRow {
                what: format!("{name}, {messages} message(s) a window"),
                floor_us: over(&|round| round.floor[load]),
                ours_us: over(&|round| round.ours[ours]),
                ratio: over(&|round| round.ours[ours] / round.floor[load]),
            });
        }
    }
    let transports = if args.connections > 0 { &TRANSPORTS[..] } else { &[] };
    let memory = transports.iter().enumerate().map(|(place, (_, name))| MemoryRow {
        what: (*name).to_owned(),
        idle_kib: over(&|round| round.memory[place].idle_kib),
        after_large_kib: over(&|round| round.memory[place].after_large_kib),
    });
    FloorReport {
        rounds: args.rounds,
        clients: args.clients,
        payload: args.payload as usize,
        cpu,
        connections: args.connections,
        memory: memory.collect(),
    }
}
