//! The connections to Redis, each of them for one kind of work.
//!
//! The library's own defaults lose messages without a word (a buffer of 32 announcements), wait for ever on a server that
//! does not answer, and send a write again that may have been done. So: a buffer that is drained by a task that does
//! nothing else, time limits everywhere, one attempt, and connections that are given up after two seconds of silence. Its own way
//! of following a cluster holds all servers up until the last one can be reached: so each has clients of its own.

use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::prelude::*;
use fred::types::RespVersion;
use fred::types::config::{TcpConfig, UnresponsiveConfig};

/// How long a command may take, until its outcome is unknown.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long replicas may take to confirm a write.
pub(super) const CONFIRM_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a new connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause between two attempts to connect.
const RECONNECT_PAUSE_MS: u32 = 200;

/// Commands that wait for a connection; above, they fail at once.
const COMMANDS_MAX: usize = 16_384;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Scripts and probes.
    Commands,
    /// Announcements, of which so many may wait for the receiving task; more are lag.
    Subscriber { announcements_max: usize },
    /// Publishes that wait for replicas, and the waiting.
    Replicated,
}

/// A client that is not connected yet, and which tries again for ever once it is told to be.
pub(super) fn client(config: &Config, purpose: Purpose) -> Result<Client, Error> {
    let mut config = config.clone();
    config.version = RespVersion::RESP3;
    config.fail_fast = false;
    let (patience, announcements_max) = match purpose {
        Purpose::Commands => (Duration::ZERO, 1),
        Purpose::Subscriber { announcements_max } => (Duration::ZERO, announcements_max),
        // A wait for replicas is an answer that is owed on purpose.
        Purpose::Replicated => (CONFIRM_TIMEOUT, 1),
    };
    Builder::from_config(config)
        .with_performance_config(|performance| {
            performance.default_command_timeout = COMMAND_TIMEOUT + patience;
            performance.broadcast_channel_capacity = announcements_max;
        })
        .with_connection_config(|connection| {
            connection.connection_timeout = CONNECT_TIMEOUT;
            connection.internal_command_timeout = CONNECT_TIMEOUT;
            connection.max_command_attempts = 1;
            connection.max_command_buffer_len = COMMANDS_MAX;
            // Who probes the connection decides when it is given up: the library would count from the last write.
            connection.unresponsive =
                UnresponsiveConfig { max_timeout: None, ..UnresponsiveConfig::default() };
            connection.tcp = TcpConfig { nodelay: Some(true), ..TcpConfig::default() };
            // The library would end a connection at such an answer, and give it to all that were under way: some of them
            // may have been done.
            connection.reconnect_errors = Vec::new();
        })
        .set_policy(ReconnectPolicy::new_constant(0, RECONNECT_PAUSE_MS))
        .build()
}
