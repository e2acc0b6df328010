//! The real binary as a child process, ended with the test.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::{eventually, within};

/// The program that is tested: what was built with the tests, or what `TIDINGS_PROGRAM` names.
pub(crate) fn program() -> std::ffi::OsString {
    std::env::var_os("TIDINGS_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_tidings").into())
}

/// What its configuration is called.
const CONFIG_FILE: &str = "tidings.toml";

/// A running child.
pub(crate) struct Process {
    child: Child,
    stderr: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
    directory: tempfile::TempDir,
}

impl Process {
    /// Starts the binary with these arguments; `toml` becomes its `--config`, if there is any.
    pub(crate) fn start(arguments: &[&str], toml: &str) -> Process {
        Process::run(Command::new(program()), arguments, toml)
    }

    /// As [`Process::start`], once a shell has run `prelude`: for limits that a process is born with.
    pub(crate) fn start_after(prelude: &str, arguments: &[&str], toml: &str) -> Process {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("{prelude} && exec \"$0\" \"$@\"")).arg(program());
        Process::run(shell, arguments, toml)
    }

    fn run(mut command: Command, arguments: &[&str], toml: &str) -> Process {
        let directory = tempfile::tempdir().expect("a directory can be made");
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        if !toml.is_empty() {
            let file = directory.path().join(CONFIG_FILE);
            std::fs::write(&file, toml).expect("a file can be written");
            command.arg("--config").arg(file);
        }
        let mut child = command.kill_on_drop(true).spawn().expect("the binary starts");
        let stderr = Arc::new(Mutex::new(String::new()));
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let said = stderr.clone();
        let reader = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                *said.lock().expect("nobody panics here") += &(line + "\n");
            }
        });
        Process { child, stderr, reader, directory }
    }

    /// Writes its configuration anew, as an editor does: the whole file at once.
    pub(crate) fn configure(&self, toml: &str) {
        let (file, new) = (self.directory.path().join(CONFIG_FILE), self.directory.path().join("new"));
        std::fs::write(&new, toml).expect("a file can be written");
        std::fs::rename(&new, &file).expect("a file can be renamed");
    }

    /// A number of its own, summed over all series with labels that contain `label`.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> f64 {
        let address = self.address().await;
        super::Request::new(address, "GET", "/metrics").send().await.metric(name, label)
    }

    /// All that it said so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().expect("nobody panics here").clone()
    }

    /// Where it listens, as soon as it says so.
    pub(crate) async fn address(&self) -> SocketAddr {
        eventually("an address on stderr", async || {
            let said = self.stderr();
            said.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))
                .filter_map(|word| word.parse::<SocketAddr>().ok())
                .find(|address| address.port() != 0)
        })
        .await
    }

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it still runs")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.id() as i32).expect("no process has number 0");
        kill_process(pid, signal).expect("it can be signalled");
    }

    /// Stops it where it is: connections stay open, and nobody answers.
    pub(crate) async fn pause(&self) {
        self.signal(Signal::STOP);
        stopped(self.id()).await;
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// What it has in memory.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib * 1_024
    }

    /// Waits for its end; returns how it ended and all that it said.
    pub(crate) async fn ended(mut self) -> (ExitStatus, String) {
        let status = within("the process to end", self.child.wait()).await.expect("it can be waited for");
        within("its last words", self.reader).await.expect("the reader does not panic");
        let said = self.stderr.lock().expect("nobody panics here").clone();
        (status, said)
    }
}

/// Waits until the process of this number does nothing any more.
pub(super) async fn stopped(id: u32) {
    eventually("a process to stop", async || {
        let text = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("the process is there");
        text.rsplit(") ").next()?.starts_with('T').then_some(())
    })
    .await;
}
