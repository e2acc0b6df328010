//! The two directions of a connection: things arrive in order, later than they were sent, and some never.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tidings::hub::{SessionId, Time};
use tidings_protocol::{Command, Envelope, Position, Publication};

use super::context::{Context, Plan};
use super::faults::Fault;

/// What the socket buffers of a slow client hold before the instance has to wait.
const ROOM_BYTES: usize = 2_000;

/// What a client says.
#[derive(Clone, Debug)]
pub(crate) enum Up {
    /// A command with its id.
    Command(u64, Command),
    /// The answer to a ping.
    Pong,
}

/// What an instance says: a frame of a WebSocket, or what a parser of event streams makes of its bytes.
#[derive(Clone, Debug)]
pub(crate) enum Down {
    /// A frame.
    Frame(Envelope),
    /// One event of a stream, with its place.
    StreamEvent(tidings_protocol::Channel, Option<Position>, std::sync::Arc<Publication>),
    /// The id that the client comes back with.
    Cursor(Vec<(tidings_protocol::Channel, Position)>),
    /// A sign of life.
    Ping,
    /// The connection is closed.
    End,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Pipe<T> {
    under_way: VecDeque<(Time, usize, T)>,
    bytes: usize,
    last_arrival: Time,
}

/// Both directions of one connection.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) up: Pipe<Up>,
    pub(crate) down: Pipe<Down>,
    /// Nothing passes any more, whether the ends know or not.
    pub(crate) is_cut: bool,
    /// How often the client read something.
    pub(crate) reads: u64,
    /// How far the ends are from each other.
    pub(crate) distance: Distance,
}

/// How long things are under way, beside a few milliseconds of chance.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Distance {
    pub(crate) one_way: Duration,
    /// Things arrive together, once in so many milliseconds; one by one where it is 0.
    pub(crate) together_ms: u64,
}

impl Distance {
    /// When something arrives that is sent now.
    fn arrives(self, context: &mut Context) -> Time {
        let arrives = context.now().after(context.random.between(0, 8)).after(self.one_way);
        match self.together_ms {
            0 => arrives,
            every => Time(Duration::from_millis((arrives.0.as_millis() as u64).div_ceil(every) * every)),
        }
    }
}

/// All connections that somebody still believes in.
pub(crate) type Wires = BTreeMap<SessionId, Wire>;

impl<T> Pipe<T> {
    fn new() -> Self {
        Pipe { under_way: VecDeque::new(), bytes: 0, last_arrival: Time::ZERO }
    }

    /// Sends something; returns when it arrives.
    fn send(&mut self, item: T, bytes: usize, arrives: Time) -> Time {
        self.last_arrival = self.last_arrival.max(arrives);
        self.bytes += bytes;
        self.under_way.push_back((self.last_arrival, bytes, item));
        self.last_arrival
    }

    /// What has arrived and was not read yet.
    pub(crate) fn receive(&mut self, now: Time) -> Option<T> {
        self.under_way.front().filter(|(arrives, ..)| *arrives <= now)?;
        self.take_next()
    }

    /// What comes next, arrived or not.
    pub(crate) fn take_next(&mut self) -> Option<T> {
        let (_, bytes, item) = self.under_way.pop_front()?;
        self.bytes -= bytes;
        Some(item)
    }

    /// How many things are under way.
    pub(crate) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Whether more can be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes < ROOM_BYTES
    }

    /// Loses everything that is under way.
    pub(crate) fn clear(&mut self) {
        self.under_way.clear();
        self.bytes = 0;
    }
}

impl Wire {
    /// A connection that just opened.
    pub(crate) fn new() -> Self {
        let distance = Distance::default();
        Wire { up: Pipe::new(), down: Pipe::new(), is_cut: false, reads: 0, distance }
    }

    /// The client says something.
    pub(crate) fn send_up(&mut self, session: SessionId, up: Up, context: &mut Context) {
        let arrives = self.distance.arrives(context);
        if self.distance.together_ms > 0 && self.up.last_arrival >= arrives {
            context.count(Fault::Together, None);
        }
        let arrives = self.up.send(up, 0, arrives);
        context.schedule.at(arrives, Plan::UpArrives(session));
    }

    /// The instance says something.
    pub(crate) fn send_down(&mut self, session: SessionId, down: Down, bytes: usize, context: &mut Context) {
        let arrives = self.distance.arrives(context);
        let arrives = self.down.send(down, bytes, arrives);
        context.schedule.at(arrives, Plan::DownArrives(session));
    }
}
