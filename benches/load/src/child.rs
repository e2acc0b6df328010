//! The processes of a measurement: each on its CPU, and ended with the value that stands for it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::error::LoadError;
use crate::process::{Process, pin_to_cpu};

/// Where the measured servers run.
pub(crate) const SERVER_CPU: usize = 0;
/// Where everything else runs: sinks, Redis, and this process.
pub(crate) const OTHER_CPU: usize = 1;
/// For a process to say that it is ready, on a machine that is busy otherwise.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs `measure` where the servers do not: in a thread of its own, since that moves between processors.
pub(crate) fn beside_servers<T: Send>(
    measure: impl FnOnce() -> Result<T, LoadError> + Send,
) -> Result<T, LoadError> {
    let pinned = || {
        pin_to_cpu(OTHER_CPU)?;
        measure()
    };
    thread::scope(|scope| {
        scope.spawn(pinned).join().expect("a measurement reports its errors, it does not panic")
    })
}

/// A started process, killed when dropped.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Running {
    /// Starts `command` so that all its threads stay on `cpu`: they inherit it from this thread.
    pub(crate) fn start(command: &mut Command, cpu: usize) -> Result<Running, LoadError> {
        pin_to_cpu(cpu)?;
        let started = command.spawn();
        pin_to_cpu(OTHER_CPU)?;
        started.map(Running).map_err(LoadError::io(format!("start {}", command.get_program().display())))
    }

    /// The process, to be measured.
    pub(crate) fn process(&self) -> Result<Process, LoadError> {
        Process::of(self.0.id())
    }

    /// Its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only where it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The real server, in dev mode on a port of its choice.
#[derive(Debug)]
pub(crate) struct Server {
    port: u16,
    running: Running,
}

impl Server {
    /// Starts `program` with further arguments, and these variables in its environment.
    pub(crate) fn start(
        program: &Path,
        arguments: &[String],
        environment: &[(&str, String)],
    ) -> Result<Server, LoadError> {
        let mut command = Command::new(program);
        command.args(["dev", "--listen", "127.0.0.1:0"]).args(arguments);
        // A Redis that the shell exports for a server of its own is not for one that is measured.
        command.env_remove("TIDINGS__REDIS__URL").envs(environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut running = Running::start(&mut command, SERVER_CPU)?;
        let log = running.0.stderr.take().expect("piped above");
        let port = awaited(log, port_in).map_err(|last| {
            LoadError::Peer(format!(
                "{} dev did not announce \"Live page   http://127.0.0.1:PORT/\" on stderr; it ended with: {last}",
                program.display()
            ))
        })?;
        Ok(Server { port, running })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn process(&self) -> Result<Process, LoadError> {
        self.running.process()
    }
}

/// What `meaning` finds in the first line that means something to it; else the last line of a process that ended.
/// The log is read on and forgotten, so that the process never waits for it.
pub(crate) fn awaited<T: Send + 'static>(
    log: impl Read + Send + 'static,
    meaning: impl Fn(&str) -> Option<T> + Send + 'static,
) -> Result<T, String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let (mut sender, mut last) = (Some(sender), String::new());
        // A receiver that is gone has timed out and reported that.
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            if let Some(found) = sender.as_ref().and_then(|_| meaning(&line)) {
                let _ = sender.take().map(|sender| sender.send(Ok(found)));
            }
            last = line;
        }
        let _ = sender.map(|sender| sender.send(Err(last)));
    });
    let in_time = receiver.recv_timeout(READY_TIMEOUT);
    in_time.unwrap_or_else(|_| Err(format!("(nothing of the kind for {READY_TIMEOUT:?})")))
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
