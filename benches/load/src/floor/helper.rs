//! The floor's own processes, spoken to by lines.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use crate::child::{OTHER_CPU, Running, SERVER_CPU};
use crate::cli::Host;
use crate::error::LoadError;

/// For any answer; the longest is "10,000 connections are open", some seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

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
        let input = running.child().stdin.take().expect("piped above");
        let lines = lines_of(running.child().stdout.take().expect("piped above"));
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
