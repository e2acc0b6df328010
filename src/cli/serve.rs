//! `tidings dev` and `tidings serve`: a server in the foreground.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, reload};

use super::config::report;
use super::exit::Exit;
use super::reload::{Reload, SetFilter};
use crate::config::{Config, Loaded, LogConfig, LogFormat, Sources};
use crate::server::{Server, StartError};

/// How a server starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Open to this machine, closed to everything else.
    Dev,
    /// As configured, and only with credentials.
    Serve,
}

/// Runs a server until it is told to end.
pub async fn run(mode: Mode, sources: &Sources, err: &mut dyn Write) -> io::Result<Exit> {
    let Loaded { config, files, .. } = match Config::load(sources) {
        Ok(loaded) => loaded,
        Err(problems) => return report(&problems, err),
    };
    let (problems, exit) = match mode {
        Mode::Dev => (config.problems_for_dev(), Exit::Usage),
        Mode::Serve => (config.problems_for_serve(), Exit::Config),
    };
    if !problems.is_empty() {
        writeln!(err, "{problems}")?;
        return Ok(exit);
    }
    let set_filter = start_log(&config.log);
    raise_descriptor_limit();
    let mut signals = Signals::new()?;
    match Server::start(config, mode == Mode::Dev).await {
        Ok(server) => {
            if mode == Mode::Dev {
                write!(
                    err,
                    "{}",
                    banner(server.address(), server.broker_name(), io::stderr().is_terminal())
                )?;
            }
            let mut reload = Reload::new(sources.clone(), files, server.instance(), set_filter);
            serve(server, &mut signals, &mut reload).await;
            Ok(Exit::Ok)
        }
        Err(error) => refuse(&error, err),
    }
}

fn refuse(error: &StartError, err: &mut dyn Write) -> io::Result<Exit> {
    writeln!(err, "tidings: {error}")?;
    if let StartError::Listen { error, .. } = error
        && error.kind() == io::ErrorKind::AddrInUse
    {
        writeln!(
            err,
            "another program listens there: choose another with --listen, or port 0 for any free one"
        )?;
    }
    Ok(Exit::Runtime)
}

/// Until the first signal to end the server serves, until the second it drains. Its configuration is reloaded as long as it serves.
async fn serve(server: Server, signals: &mut Signals, reload: &mut Reload) {
    loop {
        tokio::select! {
            told = signals.next() => match told {
                Told::End => break,
                Told::Reload => reload.read(),
            },
            () = reload.file_changed() => reload.read(),
        }
    }
    tokio::select! {
        () = server.drain() => {}
        () = signals.end() => info!("second signal: ending at once"),
    }
}

/// What a signal asks for.
enum Told {
    End,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// Whether a terminal was there to begin with.
    had_terminal: bool,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            had_terminal: io::stderr().is_terminal(),
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::End,
            _ = self.interrupt.recv() => Told::End,
            // A terminal that was closed says so by the same signal; what runs in it ends with it.
            _ = self.hang_up.recv() => match self.had_terminal && !io::stderr().is_terminal() {
                true => Told::End,
                false => Told::Reload,
            },
        }
    }

    async fn end(&mut self) {
        while !matches!(self.next().await, Told::End) {}
    }
}

/// How much is logged.
fn filter_of(directives: &str) -> EnvFilter {
    // What peers send is logged by this library as it comes, byte for byte: tokens, and lines that look like others.
    let silent = "tungstenite=info".parse().expect("it is a directive");
    EnvFilter::new(directives).add_directive(silent)
}

/// Returns what changes the filter.
fn start_log(config: &LogConfig) -> SetFilter {
    let (filter, handle) = reload::Layer::new(filter_of(&config.filter));
    // Nobody can be told that standard error is gone, as it is with its terminal; trying to would end the program.
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).log_internal_errors(false);
    let is_terminal = io::stderr().is_terminal();
    let lines = lines.with_ansi(is_terminal);
    let text = match config.format {
        LogFormat::Auto => is_terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let lines = if text { lines.compact().boxed() } else { lines.json().boxed() };
    // A test that runs two servers in one process keeps its first log.
    tracing_subscriber::registry().with(filter).with(lines).try_init().ok();
    Box::new(move |filter| {
        // The log is gone only with the process.
        handle.reload(filter_of(filter)).ok();
    })
}

/// A descriptor for every connection: the soft limit is for programs that use select(2), which this one does not.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open descriptors stays as it is");
    }
}

/// What a newcomer sees first: where everything is, and what to try.
fn banner(address: SocketAddr, broker: &str, colour: bool) -> String {
    let (bold, dim, end) = if colour { ("\x1b[1m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
    let version = env!("CARGO_PKG_VERSION");
    // The client commands look at port 8080 where nothing else is said.
    let url = if address.port() == 8080 { String::new() } else { format!(" --url http://{address}") };
    format!(
        "\n  {bold}tidings {version}{end} · dev mode · {broker} broker · {dim}loopback only, open access, NOT for production{end}
  ├─ Live page   {bold}http://{address}/{end}           subscribe, publish, watch it arrive
  ├─ WebSocket   ws://{address}/ws
  ├─ SSE         http://{address}/sse?channel=tickets
  ├─ HTTP API    http://{address}/v1/publish/{{channel}}
  └─ Metrics     http://{address}/metrics    health /livez /readyz /health
  Try it:  tidings sub tickets{url}        curl -d '{{\"id\":42}}' http://{address}/v1/publish/tickets\n\n"
    )
}
