//! The commands and their options, for this program and for any that takes them over as subcommands.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::cluster::cluster;
use crate::error::LoadError;
use crate::fanout::fanout;
use crate::floor::{self, floor};
use crate::http::Target;
use crate::link::Transport;
use crate::watch::watch;

/// What can be measured.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Hold subscribers, publish at a fixed rate, cut some of them, and count every loss, gap and repetition
    Fanout(FanoutArgs),
    /// Measure CPU per delivery and memory per connection beside what the kernel alone costs
    Floor(FloorArgs),
    /// Measure what a publish costs instances that share a Redis, and what latency the way through it adds
    Cluster(ClusterArgs),
    /// Measure how soon clients that watch tags are told what was touched, and what that costs
    Watch(WatchArgs),
    /// The floor's server: one send per socket and tick (started by `floor`)
    #[command(hide = true)]
    RawServer(RawServerArgs),
    /// The floor's subscribers: receive and discard (started by `floor`)
    #[command(hide = true)]
    RawSink(RawSinkArgs),
}

/// The program that carries these commands.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// What stands between the program's name and `raw-server` on its command line: `["bench"]` for `tidings bench`.
    pub prefix: Vec<String>,
    /// The server to measure where `floor`, `cluster` and `watch` are not told: the program itself, if it is one.
    pub server: Option<PathBuf>,
}

impl Host {
    /// The server's program: the one that was asked for, else our own.
    pub(crate) fn server<'a>(&'a self, asked: Option<&'a Path>) -> Result<&'a Path, LoadError> {
        asked.or(self.server.as_deref()).ok_or_else(|| {
            LoadError::Usage("which server? Give its program: --server target/release/tidings".to_owned())
        })
    }
}

/// Options of `fanout`.
#[derive(Args, Clone, Debug)]
pub struct FanoutArgs {
    /// Server under load; loopback only. Given several times: subscribers spread over them, and go on at the next one when
    /// they lose theirs; the publisher begins at the first
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub url: Vec<String>,
    /// Server to publish to, where it is another than the subscribers'; may be given several times
    #[arg(long)]
    pub publish_url: Vec<String>,
    /// Subscribers
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub clients: u32,
    /// Publications a second, over all channels together
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// How long to publish, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,
    /// How the subscribers are connected
    #[arg(long, value_enum, default_value_t = Transport::Ws)]
    pub transport: Transport,
    /// Per cent of the subscribers that are cut once, at a random moment, and resume
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub cut_percent: u32,
    /// Channel; with --channels its name is followed by -0, -1, …
    #[arg(long, default_value = "bench")]
    pub channel: String,
    /// Channels; subscriber i holds number i modulo this
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub channels: u32,
    /// Bytes of a payload; at least some 90 are used
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub payload: u32,
    /// Which subscribers are cut, and when
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Seconds for all subscribers to get in
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub join_timeout: u32,
    /// Seconds to wait for the last deliveries after the last publication
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(0..=600))]
    pub settle: u32,
    /// JWT that subscribers present
    #[arg(long)]
    pub token: Option<String>,
    /// API key that the publisher presents
    #[arg(long)]
    pub api_key: Option<String>,
    /// Process id of the server, to measure its CPU and memory
    #[arg(long)]
    pub pid: Option<u32>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `floor`.
#[derive(Args, Clone, Debug)]
pub struct FloorArgs {
    /// The server's program; started as `SERVER dev --listen 127.0.0.1:0`
    #[arg(long)]
    pub server: Option<PathBuf>,
    /// Rounds, each of which measures everything once
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Subscribers while CPU is measured
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub clients: u32,
    /// Bytes of a payload
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=65_536))]
    pub payload: u32,
    /// Windows of 100 ms measured
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub ticks: u32,
    /// Windows before the measured ones. The kernel acknowledges the first 16 segments of a connection at once, which
    /// costs the sender a third more; with 20 windows nobody is measured in that phase, with 3 everybody is
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub warm_up: u32,
    /// Connections at which memory is measured, against a tenth of them; 0 leaves memory out
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    pub connections: u32,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// More arguments for the server, after `--`
    #[arg(last = true)]
    pub server_args: Vec<String>,
}

/// Options of `cluster`.
#[derive(Args, Clone, Debug)]
pub struct ClusterArgs {
    /// The server's program; started as `SERVER dev --listen 127.0.0.1:0`
    #[arg(long)]
    pub server: Option<PathBuf>,
    /// The Redis to share, such as redis://127.0.0.1:6379; without it a redis-server is started
    #[arg(long)]
    pub redis: Option<String>,
    /// Process id of that Redis, to measure its CPU
    #[arg(long, requires = "redis")]
    pub redis_pid: Option<u32>,
    /// Rounds, each of which measures everything once
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Publishers, each with a connection that has one publish under way
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub publishers: u32,
    /// Publications measured
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub publications: u32,
    /// Publications before the measured ones
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub warm_up: u32,
    /// Channels published to in turn
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub channels: u32,
    /// Subscribers while latency is measured
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub clients: u32,
    /// Publications a second while latency is measured
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,
    /// Seconds for which latency is measured
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// More arguments for the servers, after `--`
    #[arg(last = true)]
    pub server_args: Vec<String>,
}

/// Options of `watch`.
#[derive(Args, Clone, Debug)]
pub struct WatchArgs {
    /// The server's program; started as `SERVER dev --listen 127.0.0.1:0`
    #[arg(long)]
    pub server: Option<PathBuf>,
    /// A server that runs, to be measured in place of one that is started; loopback only
    #[arg(long, conflicts_with = "server")]
    pub url: Option<String>,
    /// Process id of that server, to measure its CPU
    #[arg(long, requires = "url")]
    pub pid: Option<u32>,
    /// Measure the way through a redis-server, which is started, to clients of another instance, too
    #[arg(long, conflicts_with = "url")]
    pub redis: bool,
    /// Rounds, each of which measures everything once
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Clients, connected by WebSocket
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub clients: u32,
    /// Tags; each mutation touches the next one of them
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub tags: u32,
    /// Tags that each client watches
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub tags_per_client: u32,
    /// Mutations while it is quiet, one every 300 ms
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub quiet: u32,
    /// Mutations a second after that
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Seconds of them
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// Seconds to wait for the last clients to be told after the last mutation
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(0..=600))]
    pub settle: u32,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// More arguments for the servers, after `--`
    #[arg(last = true)]
    pub server_args: Vec<String>,
}

/// Options of `raw-server`.
#[derive(Args, Clone, Debug)]
pub struct RawServerArgs {
    /// Connections to accept
    #[arg(long)]
    pub clients: u32,
    /// Bytes of a message
    #[arg(long)]
    pub payload: u32,
    /// Messages joined in one send
    #[arg(long)]
    pub batch: u32,
    /// Ticks of 100 ms to measure
    #[arg(long)]
    pub ticks: u32,
    /// Ticks before those
    #[arg(long)]
    pub warm_up: u32,
}

/// Options of `raw-sink`.
#[derive(Args, Clone, Debug)]
pub struct RawSinkArgs {
    /// Connections to open
    #[arg(long)]
    pub clients: u32,
    /// Port on 127.0.0.1
    #[arg(long)]
    pub port: u16,
    /// How to connect
    #[arg(long, value_enum)]
    pub transport: Transport,
    /// Channels that each connection subscribes; none for a raw server
    #[arg(long)]
    pub channel: Vec<String>,
}

/// Runs a command and prints its report to stdout, its error to stderr.
/// Exit code 0: done, and nothing wrong was seen; 1: something was lost or failed; 2: the options are wrong.
pub fn run(command: &Command, host: &Host) -> ExitCode {
    let outcome = match command {
        Command::Fanout(args) => fanout(args).map(|report| {
            print(&report, args.json);
            report.has_passed()
        }),
        Command::Floor(args) => floor(args, host).map(|report| {
            print(&report, args.json);
            true
        }),
        Command::Cluster(args) => cluster(args, host).map(|report| {
            print(&report, args.json);
            true
        }),
        Command::Watch(args) => watch(args, host).map(|report| {
            print(&report, args.json);
            report.has_passed()
        }),
        Command::RawServer(args) => floor::raw_server(args).map(|()| true),
        Command::RawSink(args) => floor::raw_sink(args).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            error.exit_code().into()
        }
    }
}

fn print(report: &(impl Display + Serialize), as_json: bool) {
    if as_json {
        println!("{}", serde_json::to_string_pretty(report).expect("reports hold text and finite numbers"));
    } else {
        print!("{report}");
    }
}

impl FanoutArgs {
    /// Names of the channels.
    pub(crate) fn channel_names(&self) -> Vec<String> {
        match self.channels {
            1 => vec![self.channel.clone()],
            count => (0..count).map(|number| format!("{}-{number}", self.channel)).collect(),
        }
    }

    /// The servers that subscribers connect to.
    pub(crate) fn subscriber_targets(&self) -> Result<Vec<Target>, LoadError> {
        targets(&self.url, self.token.as_deref().or(self.api_key.as_deref()))
    }

    /// The servers that the publisher publishes to.
    pub(crate) fn publisher_targets(&self) -> Result<Vec<Target>, LoadError> {
        let urls = if self.publish_url.is_empty() { &self.url } else { &self.publish_url };
        targets(urls, self.api_key.as_deref().or(self.token.as_deref()))
    }

    /// Publications of the whole run; an error if the book would not hold them.
    pub(crate) fn publication_count(&self) -> Result<u64, LoadError> {
        /// The book keeps some 150 bytes of each: 3 GB.
        const PUBLICATIONS_MAX: u64 = 20_000_000;
        let count = u64::from(self.rate) * u64::from(self.seconds);
        if count > PUBLICATIONS_MAX {
            return Err(LoadError::Usage(format!(
                "--rate times --seconds is {count}, at most {PUBLICATIONS_MAX} can be kept in mind: ask for less"
            )));
        }
        Ok(count)
    }
}

fn targets(urls: &[String], credential: Option<&str>) -> Result<Vec<Target>, LoadError> {
    urls.iter().map(|url| Target::parse(url, credential)).collect()
}
