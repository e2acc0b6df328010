//! The Redis between the instances: one of our own without persistence, or one that was named.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};

use crate::child::{OTHER_CPU, Running, awaited};
use crate::error::LoadError;
use crate::process::Process;

/// Somebody else may take the port between our finding it free and Redis's taking it; five times in a row nobody does.
const STARTS_MAX: usize = 5;

/// A Redis that answers; one of our own ends with this value.
pub(crate) struct Redis {
    url: String,
    process: Option<Process>,
    _running: Option<Running>,
}

impl Redis {
    /// The one that was named, else one of our own.
    pub(crate) fn of(url: Option<&str>, pid: Option<u32>) -> Result<Redis, LoadError> {
        let Some(url) = url else { return Redis::start() };
        let process = pid.map(Process::of).transpose()?;
        Ok(Redis { url: url.to_owned(), process, _running: None })
    }

    fn start() -> Result<Redis, LoadError> {
        let mut starts = 1;
        loop {
            match Redis::start_on(free_port()?) {
                Err(LoadError::Peer(_)) if starts < STARTS_MAX => starts += 1,
                outcome => return outcome,
            }
        }
    }

    /// An error of the peer if it ended before it was ready: the port was taken, mostly.
    fn start_on(port: u16) -> Result<Redis, LoadError> {
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut running = Running::start(&mut command, OTHER_CPU).map_err(|error| {
            LoadError::Usage(format!(
                "{error}: install it (apt-get install redis-server), or name a running one with --redis URL"
            ))
        })?;
        let log = running.child().stdout.take().expect("piped above");
        awaited(log, |line| line.contains("Ready to accept connections").then_some(())).map_err(|last| {
            LoadError::Peer(format!("redis-server did not get ready; it ended with: {last}"))
        })?;
        Ok(Redis {
            url: format!("redis://127.0.0.1:{port}"),
            process: Some(running.process()?),
            _running: Some(running),
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What its CPU is read from; `None` if it was named without its process.
    pub(crate) fn process(&self) -> Option<Process> {
        self.process
    }
}

fn free_port() -> Result<u16, LoadError> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).map_err(LoadError::io("find a free port"))
}
