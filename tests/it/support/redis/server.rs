//! One `redis-server` process, ended with its handle.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::Reply;
use crate::support::process::stopped;
use crate::support::{eventually, free_port};

/// A test demands nothing of the disk, and replicas join without the pause in which Redis waits for others.
const DEFAULTS: &str = "bind 127.0.0.1\nsave \"\"\nappendonly no\nrepl-diskless-sync-delay 0\n";

/// Another process may take a free port before Redis does.
const STARTS_MAX: usize = 5;

/// A server on a port of its own. Dead or alive, the port and the directory stay its own until it is dropped.
pub(crate) struct RedisServer {
    port: u16,
    config: String,
    arguments: &'static [&'static str],
    directory: tempfile::TempDir,
    child: Option<Child>,
}

/// What a restart leaves of the data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Data {
    Kept,
    Gone,
}

impl RedisServer {
    /// Starts a server with further lines of configuration, which win over the defaults.
    pub(crate) async fn start(lines: &str) -> RedisServer {
        RedisServer::start_as(&[], |_| format!("{DEFAULTS}{lines}\n")).await
    }

    /// Starts `redis-server` with these arguments after its file, whose further lines may depend on the port.
    pub(super) async fn start_as(
        arguments: &'static [&'static str],
        lines: impl Fn(u16) -> String,
    ) -> RedisServer {
        for _ in 0..STARTS_MAX {
            let port = free_port();
            let directory = tempfile::tempdir().expect("a directory can be made");
            let config = format!("port {port}\ndir {}\n{}", directory.path().display(), lines(port));
            let mut server = RedisServer { port, config, arguments, directory, child: None };
            if server.start_again().await {
                return server;
            }
        }
        panic!("redis-server ended {STARTS_MAX} times while it started");
    }

    /// Starts it again on its port, with what its directory holds. False if it ended at once.
    pub(crate) async fn start_again(&mut self) -> bool {
        assert!(self.child.is_none(), "it still runs");
        let file = self.directory.path().join("redis.conf");
        // Sentinels and cluster nodes write into their files: a file that is there is theirs.
        if !file.exists() {
            std::fs::write(&file, &self.config).expect("a file can be written");
        }
        let mut command = Command::new("redis-server");
        command.arg(&file).args(self.arguments).stdin(Stdio::null()).stdout(Stdio::null());
        self.child = Some(command.spawn().expect("redis-server starts: apt-get install redis-server"));
        let up = eventually("redis-server to answer or end", async || {
            let answer = self.try_command(&["PING"]).await;
            let answers = answer.is_ok_and(|answer| match answer {
                Reply::Text(text) => text == "PONG",
                // It wants a password, and listens therefore.
                Reply::Error(why) => why.starts_with("NOAUTH"),
                _ => false,
            });
            let ended = self.child.as_mut()?.try_wait().expect("it can be waited for").is_some();
            (answers || ended).then_some(!ended)
        })
        .await;
        if !up {
            self.child = None;
        }
        up
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// `redis://…`, for the configuration of an instance.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Whether it was started and not killed since; it may be paused.
    pub(crate) fn is_alive(&self) -> bool {
        self.child.is_some()
    }

    /// Ends it without a chance to say or save anything.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
        }
    }

    /// Kills it and starts it again; what it had is saved before, or forgotten.
    pub(crate) async fn restart(&mut self, data: Data) {
        if data == Data::Kept {
            assert_eq!(self.command(&["SAVE"]).await.text(), "OK");
        }
        self.kill9();
        if data == Data::Gone {
            let dump = self.directory.path().join("dump.rdb");
            assert!(std::fs::remove_file(&dump).is_ok() || !dump.exists(), "the data cannot be removed");
        }
        assert!(self.start_again().await, "it starts a second time");
    }

    /// Stops the process where it is: connections stay open, and nobody answers.
    pub(crate) async fn pause(&self) {
        self.signal(Signal::STOP);
        stopped(self.pid()).await;
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid() as i32).expect("no process has number 0");
        kill_process(pid, signal).expect("a child can be signalled");
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Its answer, which must come.
    pub(crate) async fn command(&self, words: &[&str]) -> Reply {
        self.try_command(words).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Its answer, or why there is none.
    pub(crate) async fn try_command(&self, words: &[&str]) -> io::Result<Reply> {
        Reply::ask(self.address(), words).await
    }

    /// A line of `INFO`, empty where there is none.
    pub(crate) async fn info(&self, section: &str, name: &str) -> String {
        field(self.command(&["INFO", section]).await.text(), name)
    }

    /// What its numbering of writes is called: every promotion and every start gives another one.
    pub(crate) async fn replid(&self) -> String {
        self.info("replication", "master_replid").await
    }

    /// `master` or `slave`.
    pub(crate) async fn role(&self) -> String {
        self.info("replication", "role").await
    }

    /// Forgets all keys.
    pub(crate) async fn flush_all(&self) {
        assert_eq!(self.command(&["FLUSHALL"]).await.text(), "OK");
    }

    /// Forgets all scripts.
    pub(crate) async fn script_flush(&self) {
        assert_eq!(self.command(&["SCRIPT", "FLUSH"]).await.text(), "OK");
    }

    /// Cuts all connections that subscribe to something; returns how many there were.
    pub(crate) async fn kill_pubsub(&self) -> i64 {
        self.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.integer()
    }

    /// Makes it follow another server, and waits until it has all of it.
    pub(crate) async fn replica_of(&self, primary: &RedisServer) {
        let port = primary.port.to_string();
        assert_eq!(self.command(&["REPLICAOF", "127.0.0.1", &port]).await.text(), "OK");
        self.wait_in_sync(primary).await;
    }

    /// Waits until it has all that `primary` had when this was called.
    pub(crate) async fn wait_in_sync(&self, primary: &RedisServer) {
        let offset = |text: &str| field(text, "master_repl_offset").parse().unwrap_or(0_u64);
        let wanted = offset(primary.command(&["INFO", "replication"]).await.text());
        eventually("a replica in sync", async || {
            let reply = self.command(&["INFO", "replication"]).await;
            let linked = field(reply.text(), "master_link_status") == "up";
            (linked && offset(reply.text()) >= wanted).then_some(())
        })
        .await;
    }

    /// Makes a replica a primary.
    pub(crate) async fn promote(&self) {
        assert_eq!(self.command(&["REPLICAOF", "NO", "ONE"]).await.text(), "OK");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// The value of `name:value` among lines, empty where there is none.
pub(super) fn field(text: &str, name: &str) -> String {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().trim().to_owned()
}
