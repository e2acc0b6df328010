//! The real server under the same load as the floor's: the same sink, the same windows, measured from outside.

use std::path::Path;
use std::time::{Duration, Instant};

use super::helper::Helper;
use super::{Load, WINDOW};
use crate::child::Server;
use crate::cli::Host;
use crate::error::LoadError;
use crate::http::{Connection, Target, escape};
use crate::link::Transport;
use crate::process::Process;

/// A subscriber's share is all there within some windows; a server that needs longer is not at a fixed pace.
const QUIET_TIMEOUT: Duration = Duration::from_secs(20);
/// The large message after which memory is measured again.
const LARGE_BYTES: usize = 16 * 1024;

/// A running server.
pub(super) struct Subject<'a> {
    host: &'a Host,
    server: Server,
    process: Process,
    target: Target,
}

/// Resident memory per connection, in KiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) idle_kib: f64,
    pub(super) after_large_kib: f64,
}

impl<'a> Subject<'a> {
    pub(super) fn start(host: &'a Host, program: &Path, arguments: &[String]) -> Result<Self, LoadError> {
        let server = Server::start(program, arguments, &[])?;
        let target = Target::parse(&server.url(), None)?;
        Ok(Subject { host, process: server.process()?, server, target })
    }

    /// CPU microseconds per delivery with `channels` messages a window, each on a channel of its own.
    ///
    /// Windows follow each other without a pause from the first to the last: after a pause longer than the retransmission
    /// timeout (200 ms) the kernel acknowledges 16 segments at once again, which costs the sender a third more.
    pub(super) fn cpu(&self, load: &Load, transport: Transport, channels: u32) -> Result<f64, LoadError> {
        let names: Vec<String> = (0..channels).map(|number| format!("floor-{number}")).collect();
        let mut sink = self.sink(load.clients, transport, &names)?;
        let mut publisher = self.connection()?;
        let start = Instant::now();
        let mut cpu_before = Duration::ZERO;
        for number in 0..load.warm_up + load.ticks {
            wait_until(start, number);
            if number == load.warm_up {
                cpu_before = self.process.cpu_time_exact()?;
            }
            for channel in &names {
                self.publish(&mut publisher, channel, load.payload)?;
            }
        }
        // The last window has to pass too: what was published in it may leave at its end.
        wait_until(start, load.warm_up + load.ticks + 1);
        let cpu = self.process.cpu_time_exact()?.saturating_sub(cpu_before);
        let per_window = u64::from(load.clients) * u64::from(channels);
        let windows = u64::from(load.warm_up + load.ticks);
        demand(quiet(&mut sink)?, per_window * windows * load.payload as u64)?;
        Ok(cpu.as_secs_f64() * 1e6 / (per_window * u64::from(load.ticks)) as f64)
    }

    /// Memory per connection: the slope from a tenth of `connections` to all of them.
    pub(super) fn memory(&self, connections: u32, transport: Transport) -> Result<Memory, LoadError> {
        let names = ["floor-0".to_owned()];
        let first = connections / 10;
        let added = connections - first;
        let mut first_sink = self.sink(first, transport, &names)?;
        self.publish(&mut self.connection()?, &names[0], LARGE_BYTES)?;
        demand(quiet(&mut first_sink)?, u64::from(first) * LARGE_BYTES as u64)?;
        let base = self.process.resident_kib()?;
        let mut second_sink = self.sink(added, transport, &names)?;
        quiet(&mut second_sink)?;
        let idle = self.process.resident_kib()?;
        self.publish(&mut self.connection()?, &names[0], LARGE_BYTES)?;
        demand(quiet(&mut second_sink)?, u64::from(added) * LARGE_BYTES as u64)?;
        let after = self.process.resident_kib()?;
        let slope = |kib: u64| (kib as f64 - base as f64) / f64::from(added);
        Ok(Memory { idle_kib: slope(idle), after_large_kib: slope(after) })
    }

    fn sink(&self, clients: u32, transport: Transport, channels: &[String]) -> Result<Helper, LoadError> {
        let mut arguments = sink_arguments(clients, self.server.port(), transport);
        for channel in channels {
            arguments.extend(["--channel".to_owned(), channel.clone()]);
        }
        let sink = Helper::raw_sink(self.host, &arguments)?;
        sink.line().map(|_| sink)
    }

    /// A connection to publish on. Made when it is needed: a server closes one that says nothing while a sink connects.
    fn connection(&self) -> Result<Connection, LoadError> {
        Connection::open(&self.target).map_err(LoadError::io("connect the publisher"))
    }

    /// Publishes a JSON text of `bytes` bytes, quotes included.
    fn publish(&self, connection: &mut Connection, channel: &str, bytes: usize) -> Result<(), LoadError> {
        let body = format!("\"{}\"", "a".repeat(bytes.saturating_sub(2)));
        let path = format!("/v1/publish/{}", escape(channel));
        let request =
            self.target.request("POST", &path, "content-type: application/json\r\n", body.as_bytes());
        let response = connection.exchange(&request).map_err(LoadError::io("publish"))?;
        match response.status {
            200 => Ok(()),
            status => Err(LoadError::Peer(format!(
                "publish was answered by {status}: {}",
                String::from_utf8_lossy(&response.body)
            ))),
        }
    }
}

/// Sleeps until window `number` begins, counted from `start`.
fn wait_until(start: Instant, number: u32) {
    std::thread::sleep((WINDOW * number).saturating_sub(start.elapsed()));
}

/// The arguments that every sink needs.
pub(super) fn sink_arguments(clients: u32, port: u16, transport: Transport) -> Vec<String> {
    let transport = match transport {
        Transport::Ws => "ws",
        Transport::Sse => "sse",
    };
    ["--clients", &clients.to_string(), "--port", &port.to_string(), "--transport", transport]
        .map(str::to_owned)
        .into()
}

/// Waits until nothing more arrives for three sweeps; returns the bytes that the sink has discarded.
fn quiet(sink: &mut Helper) -> Result<u64, LoadError> {
    let deadline = Instant::now() + QUIET_TIMEOUT;
    let (mut last, mut unchanged) = (None, 0);
    while Instant::now() < deadline {
        let answer = sink.ask("bytes")?;
        let bytes: u64 =
            answer.parse().map_err(|_| LoadError::Peer(format!("the sink said {answer:?} for a number")))?;
        unchanged = if last == Some(bytes) { unchanged + 1 } else { 0 };
        // Three sweeps outlast a window.
        if unchanged == 3 {
            return Ok(bytes);
        }
        last = Some(bytes);
    }
    Err(LoadError::Peer(format!("deliveries did not come to an end within {QUIET_TIMEOUT:?}")))
}

fn demand(bytes: u64, least: u64) -> Result<(), LoadError> {
    if bytes >= least {
        return Ok(());
    }
    Err(LoadError::Peer(format!(
        "the sink received {bytes} bytes, the payloads alone are {least}: deliveries are missing"
    )))
}
