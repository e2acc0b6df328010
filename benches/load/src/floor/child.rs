//! The processes of a measurement: each on its CPU, spoken to by lines, and ended with the value that stands for it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use crate::cli::Host;
use crate::error::LoadError;
use crate::process::{Process, pin_to_cpu};

/// Where the measured servers run.
const SERVER_CPU: usize = 0;
/// Where everything else runs: the sink, and this process.
pub(super) const OTHER_CPU: usize = 1;
/// For any answer; the longest is "10,000 connections are open", some seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// A started process, killed when dropped.
#[derive(Debug)]
struct Running(Child);

impl Running {
    /// Starts `command` so that all its threads stay on `cpu`: they inherit it from this thread.
    fn start(command: &mut Command, cpu: usize) -> Result<Running, LoadError> {
        pin_to_cpu(cpu)?;
        let started = command.spawn();
        pin_to_cpu(OTHER_CPU)?;
        started.map(Running).map_err(LoadError::io(format!("start {}", command.get_program().display())))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only where it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One of this program's own helpers: `raw-server` or `raw-sink`.
#[derive(Debug)]
pub(super) struct Helper {
    // Dropped first: the helper sees the end of its input and closes its sockets itself.
    input: ChildStdin,
    lines: Receiver<String>,
    _running: Running,
}

impl Helper {
    pub(super) fn raw_server(host: &Host, arguments: &[String]) -> Result<Helper, LoadError> {
        Helper::start(host, "raw-server", arguments, SERVER_CPU)
    }

    pub(super) fn raw_sink(host: &Host, arguments: &[String]) -> Result<Helper, LoadError> {
        Helper::start(host, "raw-sink", arguments, OTHER_CPU)
    }

    fn start(host: &Host, name: &str, arguments: &[String], cpu: usize) -> Result<Helper, LoadError> {
        let program = std::env::current_exe().map_err(LoadError::io("find this program"))?;
        let mut command = Command::new(program);
        command.args(&host.prefix).arg(name).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Running::start(&mut command, cpu)?;
        let input = running.0.stdin.take().expect("piped above");
        let lines = lines_of(running.0.stdout.take().expect("piped above"));
        Ok(Helper { input, lines, _running: running })
    }

    /// The helper's next line.
    pub(super) fn line(&self) -> Result<String, LoadError> {
        self.lines.recv_timeout(ANSWER_TIMEOUT).map_err(|_| {
            LoadError::Peer("a helper process ended or fell silent; its message stands above".to_owned())
        })
    }

    /// Sends a line and returns the line that answers it.
    pub(super) fn ask(&mut self, question: &str) -> Result<String, LoadError> {
        writeln!(self.input, "{question}").map_err(LoadError::io("write to a helper process"))?;
        self.line()
    }
}

fn lines_of(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(16);
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The real server, in dev mode on a port of its choice.
#[derive(Debug)]
pub(super) struct Server {
    port: u16,
    running: Running,
}

impl Server {
    pub(super) fn start(program: &std::path::Path, arguments: &[String]) -> Result<Server, LoadError> {
        let mut command = Command::new(program);
        command.args(["dev", "--listen", "127.0.0.1:0"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut running = Running::start(&mut command, SERVER_CPU)?;
        let announced = announced_port(running.0.stderr.take().expect("piped above"));
        let port = announced.recv_timeout(ANSWER_TIMEOUT).map_err(|_| {
            LoadError::Peer(format!(
                "{} dev did not announce \"Live page   http://127.0.0.1:PORT/\" on stderr",
                program.display()
            ))
        })?;
        Ok(Server { port, running })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn process(&self) -> Result<Process, LoadError> {
        Process::of(self.running.0.id())
    }
}

/// Reads the banner for the port, then reads on and forgets, so that the server never waits for its log.
fn announced_port(log: ChildStderr) -> Receiver<u16> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut sender = Some(sender);
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            if let Some(port) = port_in(&line)
                && let Some(sender) = sender.take()
            {
                // A receiver that is gone has timed out and reported that.
                let _ = sender.send(port);
            }
        }
    });
    receiver
}

/// The port in a banner line such as `├─ Live page   http://127.0.0.1:8080/   connections, …`.
fn port_in(line: &str) -> Option<u16> {
    let (_, after) = line.split_once("Live page")?;
    let (_, authority) = after.split_once("http://")?;
    let (_, port) = authority.split('/').next()?.rsplit_once(':')?;
    port.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_stands_in_the_banners_live_page_line() {
        let line = "  ├─ Live page   http://127.0.0.1:43210/           connections, channels";
        assert_eq!(port_in(line), Some(43210));
        assert_eq!(port_in("  ├─ WebSocket   ws://127.0.0.1:43210/ws"), None);
        assert_eq!(port_in("Live page http://localhost/"), None);
    }
}
