//! The world of one seed: an instance with its broker, clients, publishers, and all that goes wrong between them.

mod mishaps;

use tidings::hub::{Grant, SessionId};

use super::broker::Broker;
use super::bugs::Bug;
use super::client::{Client, Kind, Read};
use super::context::{Context, END, Outcome, Plan};
use super::faults::{Fault, FaultCounts};
use super::instance::Instance;
use super::link::{Wire, Wires};
use super::publisher::{Publisher, Request};
use super::socket_client::SocketClient;
use super::stream_client::StreamClient;
use crate::history::{ChannelId, ClientId, Event, Record};

/// How many clients there are, and how many of them use event streams.
const CLIENTS: usize = 10;
const STREAMS: usize = 3;

/// All of it.
pub(crate) struct World {
    context: Context,
    broker: Broker,
    instance: Instance,
    /// The number of the instance's start.
    generation: u32,
    is_up: bool,
    next_session: u64,
    wires: Wires,
    clients: Vec<Client>,
    publishers: Vec<Publisher>,
}

/// What one seed gives.
pub(crate) struct Outcomes {
    pub(crate) history: Vec<Record>,
    pub(crate) faults: FaultCounts,
    pub(crate) events: u64,
}

/// Runs the world of a seed to its end, with a defect or without.
pub(crate) fn run(seed: u64, bug: Option<Bug>) -> Outcomes {
    let mut world = World::new(seed, bug);
    while let Some(plan) = world.context.schedule.next(END) {
        world.context.events += 1;
        world.handle(plan);
        world.instance.settle(&mut world.wires, &mut world.context);
    }
    world.end();
    Outcomes { history: world.context.history, faults: world.context.faults, events: world.context.events }
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut context = Context::new(seed, bug);
        let broker = Broker::new(0, &context);
        let clients = (0..CLIENTS).map(|id| client(ClientId(id), &mut context)).collect();
        let publishers = vec![
            Publisher::new(0, false),
            Publisher::new(1, false),
            Publisher::new(2, true),
            Publisher::new(3, true),
        ];
        let mut world = World {
            broker,
            instance: Instance::new(),
            generation: 0,
            is_up: true,
            next_session: 0,
            wires: Wires::new(),
            clients,
            publishers,
            context,
        };
        world.plan();
        world
    }

    /// What is known from the beginning.
    fn plan(&mut self) {
        let context = &mut self.context;
        for client in 0..CLIENTS {
            let id = ClientId(client);
            context.soon(0, 2_000, Plan::Connect(id));
            context.soon(2_000, 5_000, Plan::ClientFault(id));
            context.soon(1_000, 3_000, Plan::ClientPublishes(id));
        }
        for publisher in 0..self.publishers.len() {
            context.soon(0, 1_000, Plan::PublisherTurn(publisher));
        }
        for _ in 0..context.profile.restarts {
            context.soon(1_000, 49_000, Plan::Stop);
        }
        context.soon(0, 1_000, Plan::Beacon);
        if context.profile.ends_in_cuts {
            context.soon(48_500, 49_900, Plan::CutAll);
        }
        if context.profile.ends_in_stalls {
            context.soon(46_000, 48_000, Plan::StallMany);
        }
    }

    fn handle(&mut self, plan: Plan) {
        let World { context, instance, broker, wires, .. } = self;
        match plan {
            Plan::PublisherTurn(index) => self.publishers[index].turn(self.generation, context),
            Plan::RequestArrives(request) => self.handle_request(request),
            Plan::RequestAnswered { publish, attempt, outcome } => {
                let publisher = &mut self.publishers[publish.author as usize];
                publisher.handle_answer(publish, attempt, outcome, context);
            }
            Plan::RequestTimedOut { publish, attempt } => {
                let publisher = &mut self.publishers[publish.author as usize];
                publisher.handle_timeout(publish, attempt, self.generation, context);
            }
            Plan::Announcement { generation } => {
                if let Some(announcement) = broker.next_announcement(generation) {
                    instance.handle_announcement(announcement, context);
                }
            }
            Plan::Beacon => {
                broker.beacon(context);
                context.soon(900, 1_100, Plan::Beacon);
            }
            Plan::WindowEnds => instance.handle_window_end(context),
            Plan::Call(id) => instance.handle_call(id),
            Plan::ActionStep(id) => instance.handle_action_step(id, broker, context),
            Plan::SessionTimeout(id) => instance.handle_session_timeout(id, context),
            Plan::WriteDeadline(id, reads) => instance.handle_write_deadline(id, reads, wires, context),
            Plan::HangUp(id) => instance.hang_up(id, wires, context),
            Plan::UpArrives(id) => instance.handle_ready(id),
            Plan::DownArrives(id) => self.read_as(id),
            Plan::Stop => self.stop(),
            Plan::Start => self.is_up = true,
            Plan::Connect(id) => self.connect(id),
            Plan::ReadOn(id) => {
                self.clients[id.0].read_on();
                self.read(id);
            }
            Plan::ReadFast(id) => self.clients[id.0].read_fast(),
            Plan::AskAgain(id) => self.with_socket(id, SocketClient::ask_again),
            Plan::ClientPublishes(id) => self.client_publishes(id),
            Plan::ClientFault(id) => self.client_fault(id),
            Plan::CutAll => (0..CLIENTS).for_each(|id| self.cut(ClientId(id))),
            Plan::StallMany => self.stall_many(),
        }
    }

    /// A publish over HTTP came; where nobody listens, or on the way back, the answer gets lost.
    fn handle_request(&mut self, request: Request) {
        let Request { publish, channel, bytes, attempt, generation } = request;
        let context = &mut self.context;
        if !self.is_up || generation != self.generation {
            return;
        }
        let stored = self.broker.publish(publish, channel, publish.payload(bytes), context);
        if context.inject(Fault::AnswerLost, context.profile.late) {
            return;
        }
        let outcome = stored.map_or(Outcome::Refused, Outcome::Stored);
        context.soon(1, 10, Plan::RequestAnswered { publish, attempt, outcome });
    }

    fn connect(&mut self, id: ClientId) {
        let context = &mut self.context;
        if self.clients[id.0].session.is_some() {
            return;
        }
        if !self.is_up {
            return context.soon(50, 500, Plan::Connect(id));
        }
        self.next_session += 1;
        let session = SessionId(self.next_session);
        self.wires.insert(session, Wire::new());
        let client = &mut self.clients[id.0];
        client.session = Some(session);
        match &mut client.kind {
            Kind::Socket(socket) => {
                socket.handle_open();
                let grant = (!socket.sends_connect()).then(Grant::open);
                self.instance.accept_socket(session, id, grant, context);
            }
            Kind::Stream(stream) => {
                let (channels, cursor_lost) = stream.connect(context);
                self.instance.accept_stream(session, id, channels, cursor_lost, context);
            }
        }
        self.send(id);
    }

    fn read_as(&mut self, session: SessionId) {
        if let Some(client) = self.clients.iter().find(|client| client.session == Some(session)) {
            self.read(client.id);
        }
    }

    fn read(&mut self, id: ClientId) {
        let client = &mut self.clients[id.0];
        let Some(session) = client.session else { return };
        let Some(wire) = self.wires.get_mut(&session) else { return };
        if client.read(wire, &mut self.context) == Read::Ended {
            self.wires.remove(&session);
            return client.handle_gone(&mut self.context);
        }
        self.send(id);
        self.instance.handle_ready(session);
    }

    /// Sends what the client has to say.
    fn send(&mut self, id: ClientId) {
        let client = &mut self.clients[id.0];
        let out = client.take_out();
        let wire = client.session.and_then(|session| Some((session, self.wires.get_mut(&session)?)));
        let Some((session, wire)) = wire else { return };
        for up in out {
            wire.send_up(session, up, &mut self.context);
        }
    }

    fn with_socket(&mut self, id: ClientId, act: impl FnOnce(&mut SocketClient, &mut Context)) {
        if let Kind::Socket(client) = &mut self.clients[id.0].kind {
            act(client, &mut self.context);
            self.send(id);
        }
    }

    fn client_publishes(&mut self, id: ClientId) {
        if !self.context.is_calm() {
            self.with_socket(id, SocketClient::publish_something);
            self.context.soon(1_000, 6_000, Plan::ClientPublishes(id));
        }
    }

    /// Writes down where everybody stands.
    fn end(&mut self) {
        for client in &self.clients {
            for (channel, position) in client.positions(&self.context) {
                let head = self.broker.head(channel);
                self.context.record(Event::Ended { client: client.id, channel, position, head });
            }
        }
    }
}

/// A client of some channels, the quiet ones among them.
fn client(id: ClientId, context: &mut Context) -> Client {
    let wanted = |spec: &super::channels::ChannelSpec, random: &mut super::random::Random| {
        random.chance(if spec.is_quiet { 900 } else { 600 })
    };
    let mut channels = Vec::new();
    for index in 0..context.channels.len() {
        if wanted(&context.channels[index], &mut context.random) || index == context.channels.len() - 2 {
            channels.push(ChannelId(index));
        }
    }
    let kind = match id.0 < STREAMS {
        true => Kind::Stream(StreamClient::new(id, channels)),
        false => Kind::Socket(SocketClient::new(id, channels, id.0.is_multiple_of(2))),
    };
    Client::new(id, kind)
}
