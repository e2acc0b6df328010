//! How sessions behave in the simulated world: as configured in earnest, but with small bounds, so that each is reached.

use std::sync::Arc;
use std::time::Duration;

use tidings::hub::{CatchUp, CursorState, Grant, Heartbeat, PageLimit, Session, SessionConfig, SessionId};
use tidings_protocol::{Channel, HelloFrame, Position, SubscribeCommand};

use super::context::Context;

/// The most bytes in a mailbox: some seconds of a stalled client fill it.
pub(crate) const MAILBOX_BYTES_MAX: usize = 1_500;

/// How long a client may serve what it holds without asking.
pub(crate) const LEASE: Duration = Duration::from_secs(3);

/// A connection that could write nothing for this long is closed.
pub(crate) const WRITE_DEADLINE: Duration = Duration::from_secs(3);

/// The configurations of both transports.
pub(crate) struct SessionRules {
    socket: Arc<SessionConfig>,
    stream: Arc<SessionConfig>,
}

impl SessionRules {
    pub(crate) fn new() -> Self {
        let seconds = Duration::from_secs;
        let socket = SessionConfig {
            hello: HelloFrame {
                session: String::new(),
                ping_interval_ms: 2_000,
                timeout_ms: 7_000,
                batch_ms: 100,
                lease_ms: LEASE.as_millis() as u64,
                message_bytes_max: 1_000,
                command_bytes_max: 65_536,
            },
            broker: "model",
            catch_up: CatchUp::ByClient,
            heartbeat: Heartbeat { interval: seconds(2), timeout: Some(seconds(7)) },
            age_max: None,
            hello_timeout: seconds(5),
            retry_after: Duration::from_millis(200),
            channels_max: 16,
            members_max: 16,
            tags_per_command_max: 100,
            lease: LEASE,
            commands_max: 4,
            message_bytes_max: 1_000,
            waiting_bytes_max: 1_000,
            page: PageLimit { publications: 6, bytes: 1_500 },
        };
        // The peer of an event stream never speaks.
        let heartbeat = Heartbeat { interval: seconds(2), timeout: None };
        let stream = SessionConfig { catch_up: CatchUp::ByServer, heartbeat, ..socket.clone() };
        SessionRules { socket: Arc::new(socket), stream: Arc::new(stream) }
    }

    /// A session over a WebSocket.
    pub(crate) fn socket(&self, id: SessionId, grant: Option<Grant>, context: &mut Context) -> Session {
        let (jitter, now) = (context.random.fraction(), context.now());
        Session::new(self.socket.clone(), id.0.to_string(), grant, jitter, now)
    }

    /// A session over an event stream.
    pub(crate) fn stream(
        &self,
        id: SessionId,
        channels: Vec<(Channel, Option<Position>)>,
        cursor_lost: bool,
        context: &mut Context,
    ) -> Session {
        let (jitter, now) = (context.random.fraction(), context.now());
        let session = Session::new(self.stream.clone(), id.0.to_string(), Some(Grant::open()), jitter, now);
        // Its channels all keep history, so a readable cursor changes nothing beside the positions.
        let cursor = if cursor_lost { CursorState::Unreadable } else { CursorState::None };
        let subscribe = |(channel, since)| SubscribeCommand::new(channel, since);
        session.with_channels(channels.into_iter().map(subscribe).collect(), Vec::new(), cursor)
    }
}
