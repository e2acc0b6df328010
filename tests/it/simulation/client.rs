//! A client's line: whether it is connected, how it reads, and what is at the end of it.

use tidings::hub::SessionId;
use tidings_protocol::Position;

use super::context::{Context, INSTANCES, Plan};
use super::link::{Down, Up, Wire};
use super::socket_client::SocketClient;
use super::stream_client::StreamClient;
use crate::history::{ChannelId, ClientId};

/// One client.
pub(crate) struct Client {
    pub(crate) id: ClientId,
    pub(crate) kind: Kind,
    /// The connection, while there is one.
    pub(crate) session: Option<SessionId>,
    /// The instance that it connects to next: another after each connection.
    pub(crate) next_instance: usize,
    is_stalled: bool,
    is_slow: bool,
    /// A slow reader's next look is planned.
    looks_later: bool,
}

/// How it talks.
pub(crate) enum Kind {
    Socket(SocketClient),
    Stream(StreamClient),
}

/// Where reading left off.
#[derive(Debug, PartialEq)]
pub(crate) enum Read {
    /// At what has not arrived yet, or what it does not want to read yet.
    Open,
    /// At the end of the connection.
    Ended,
}

impl Client {
    /// A client that is not connected.
    pub(crate) fn new(id: ClientId, kind: Kind) -> Self {
        Client {
            id,
            kind,
            session: None,
            next_instance: id.0 % INSTANCES,
            is_stalled: false,
            is_slow: false,
            looks_later: false,
        }
    }

    /// Whether it does not read at the moment.
    pub(crate) fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// Reads nothing for a while.
    pub(crate) fn stall(&mut self, from_ms: u64, to_ms: u64, context: &mut Context) {
        self.is_stalled = true;
        context.soon(from_ms, to_ms, Plan::ReadOn(self.id));
    }

    /// Reads slowly for a while.
    pub(crate) fn slow_down(&mut self, context: &mut Context) {
        self.is_slow = true;
        context.soon(500, 3_000, Plan::ReadFast(self.id));
    }

    /// The pause is over.
    pub(crate) fn read_on(&mut self) {
        (self.is_stalled, self.looks_later) = (false, false);
    }

    /// Reads as fast as it can.
    pub(crate) fn read_fast(&mut self) {
        self.is_slow = false;
    }

    /// Reads what has arrived, as far as it wants to.
    pub(crate) fn read(&mut self, wire: &mut Wire, context: &mut Context) -> Read {
        while !self.is_stalled && !self.looks_later {
            let Some(down) = wire.down.receive(context.now()) else { break };
            wire.reads += 1;
            if self.handle(down, context) == Read::Ended {
                return Read::Ended;
            }
            if self.is_slow {
                self.looks_later = true;
                context.soon(20, 120, Plan::ReadOn(self.id));
            }
        }
        Read::Open
    }

    /// One thing came.
    pub(crate) fn handle(&mut self, down: Down, context: &mut Context) -> Read {
        match (down, &mut self.kind) {
            (Down::End, _) => return Read::Ended,
            (Down::Frame(envelope), Kind::Socket(client)) => client.handle_frame(envelope, context),
            (Down::Ping, Kind::Socket(client)) => client.handle_ping(),
            (Down::Frame(envelope), Kind::Stream(client)) => client.handle_frame(envelope.frame, context),
            (Down::StreamEvent(channel, position, publication), Kind::Stream(client)) => {
                client.handle_event(&channel, position, &publication, context);
            }
            (Down::Cursor(cursor), Kind::Stream(client)) => client.handle_cursor(cursor, context),
            (Down::Ping, Kind::Stream(_)) => {}
            (down, Kind::Socket(_)) => unreachable!("{down:?} is not said over a WebSocket"),
        }
        Read::Open
    }

    /// What is to be sent.
    pub(crate) fn take_out(&mut self) -> Vec<Up> {
        match &mut self.kind {
            Kind::Socket(client) => client.take_out(),
            Kind::Stream(_) => Vec::new(),
        }
    }

    /// The connection is gone; another is tried soon.
    pub(crate) fn handle_gone(&mut self, context: &mut Context) {
        self.session = None;
        self.next_instance = context.random.below(INSTANCES);
        if let Kind::Socket(client) = &mut self.kind {
            client.handle_gone(context);
        }
        context.soon(0, 1_000, Plan::Connect(self.id));
    }

    /// How far each subscription got; nowhere without a connection.
    pub(crate) fn positions(&self, context: &Context) -> Vec<(ChannelId, Option<Position>)> {
        let mut positions = match &self.kind {
            Kind::Socket(client) => client.positions(),
            Kind::Stream(client) => client.positions(context),
        };
        if self.session.is_none() {
            positions.iter_mut().for_each(|(_, position)| *position = None);
        }
        positions
    }
}
