//! The world of one seed: instances that share a Redis, clients, publishers, and all that goes wrong between them.

mod mishaps;

use tidings::broker::BrokerError;
use tidings::hub::{Grant, SessionId};
use tidings_protocol::{Ack, PublishCommand};

use super::bugs::Bug;
use super::client::{Client, Kind, Read};
use super::cluster::Cluster;
use super::context::{Context, END, INSTANCES, Outcome, Plan};
use super::faults::{Fault, FaultCounts};
use super::publisher::{Publisher, Request};
use super::socket_client::SocketClient;
use super::stream_client::StreamClient;
use crate::history::{ChannelId, ClientId, Event, Record};

/// How many clients there are, and how many of them use event streams.
const CLIENTS: usize = 10;
const STREAMS: usize = 3;

/// All of it.
pub(crate) struct World {
    cluster: Cluster,
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
    while let Some(plan) = world.cluster.context.schedule.next(END) {
        world.cluster.context.events += 1;
        world.handle(plan);
        world.cluster.settle();
    }
    world.end();
    let Context { history, faults, events, .. } = world.cluster.context;
    Outcomes { history, faults, events }
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut context = Context::new(seed, bug);
        let clients = (0..CLIENTS).map(|id| client(ClientId(id), &mut context)).collect();
        let publishers = vec![
            Publisher::new(0, false),
            Publisher::new(1, false),
            Publisher::new(2, true),
            Publisher::new(3, true),
        ];
        plan(&mut context, publishers.len());
        World { cluster: Cluster::new(context), clients, publishers }
    }

    fn handle(&mut self, plan: Plan) {
        match plan {
            Plan::PublisherTurn(_)
            | Plan::RequestArrives(_)
            | Plan::RequestAnswered { .. }
            | Plan::RequestTimedOut { .. } => self.handle_backend(plan),
            Plan::DownArrives(id) => self.read_as(id),
            Plan::Stop => self.stop(),
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
            Plan::Drop(session, moment) => self.drop_at(session, moment),
            plan => {
                let foreign = self.cluster.handle(plan);
                assert!(foreign.is_none(), "{foreign:?} is none of this world");
            }
        }
    }

    fn handle_backend(&mut self, plan: Plan) {
        let context = &mut self.cluster.context;
        match plan {
            Plan::PublisherTurn(index) => self.publishers[index].turn(context),
            Plan::RequestArrives(request) => self.handle_request(request),
            Plan::RequestAnswered { publish, attempt, outcome } => {
                let publisher = &mut self.publishers[publish.author as usize];
                publisher.handle_answer(publish, attempt, outcome, context);
            }
            Plan::RequestTimedOut { publish, attempt } => {
                let publisher = &mut self.publishers[publish.author as usize];
                publisher.handle_timeout(publish, attempt, context);
            }
            plan => unreachable!("{plan:?} is none of a backend"),
        }
    }

    /// A publish over HTTP came; where nobody listens, or on the way back, the answer gets lost.
    fn handle_request(&mut self, request: Request) {
        let Request { publish, channel, bytes, attempt, to } = request;
        let Cluster { context, instances, redis, .. } = &mut self.cluster;
        let instance = &mut instances[to.slot];
        if !instance.is_up || context.start_of(to.slot) != to {
            return;
        }
        let command = PublishCommand {
            channel: context.spec(channel).channel.clone(),
            payload: publish.payload(bytes),
            key: None,
            id: None,
            idempotency_key: Some(publish.key()),
            ack: Ack::Stored,
        };
        let published = instance.uplink.publish(publish, command, redis, context);
        if context.inject(Fault::AnswerLost, context.profile.late) {
            return;
        }
        let outcome = match published {
            Ok(published) => Outcome::Stored(published.position),
            Err(BrokerError::OutcomeUnknown) => Outcome::Unknown,
            Err(_) => Outcome::Refused,
        };
        context.soon(1, 10, Plan::RequestAnswered { publish, attempt, outcome });
    }

    fn connect(&mut self, id: ClientId) {
        if self.clients[id.0].session.is_some() {
            return;
        }
        let slot = self.clients[id.0].next_instance;
        let Some(session) = self.cluster.open(slot) else {
            self.clients[id.0].next_instance = (slot + 1) % INSTANCES;
            return self.cluster.context.soon(50, 500, Plan::Connect(id));
        };
        let Cluster { context, instances, .. } = &mut self.cluster;
        let (client, instance) = (&mut self.clients[id.0], &mut instances[slot]);
        client.session = Some(session);
        match &mut client.kind {
            Kind::Socket(socket) => {
                socket.handle_open();
                let grant = (!socket.sends_connect()).then(Grant::open);
                instance.accept_socket(session, id, grant, context);
            }
            Kind::Stream(stream) => {
                let (channels, cursor_lost) = stream.connect(context);
                instance.accept_stream(session, id, channels, cursor_lost, context);
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
        let Some(wire) = self.cluster.wires.get_mut(&session) else { return };
        if client.read(wire, &mut self.cluster.context) == Read::Ended {
            self.cluster.wires.remove(&session);
            return client.handle_gone(&mut self.cluster.context);
        }
        self.send(id);
        let holder = self.cluster.instances.iter_mut().find(|instance| instance.holds(session));
        holder.into_iter().for_each(|instance| instance.handle_ready(session));
    }

    /// Sends what the client has to say.
    fn send(&mut self, id: ClientId) {
        let client = &mut self.clients[id.0];
        let out = client.take_out();
        let wire = client.session.and_then(|session| Some((session, self.cluster.wires.get_mut(&session)?)));
        let Some((session, wire)) = wire else { return };
        for up in out {
            wire.send_up(session, up, &mut self.cluster.context);
        }
    }

    fn with_socket(&mut self, id: ClientId, act: impl FnOnce(&mut SocketClient, &mut Context)) {
        if let Kind::Socket(client) = &mut self.clients[id.0].kind {
            act(client, &mut self.cluster.context);
            self.send(id);
        }
    }

    fn client_publishes(&mut self, id: ClientId) {
        if !self.cluster.context.is_calm() {
            self.with_socket(id, SocketClient::publish_something);
            self.cluster.context.soon(1_000, 6_000, Plan::ClientPublishes(id));
        }
    }

    /// Writes down where everybody stands.
    fn end(&mut self) {
        let Cluster { context, instances, redis, .. } = &mut self.cluster;
        instances.iter().for_each(|instance| instance.look_for_strays_at_rest(redis, context));
        for client in &self.clients {
            for (channel, position) in client.positions(&self.cluster.context) {
                let head = self.cluster.redis.head(channel);
                self.cluster.context.record(Event::Ended { client: client.id, channel, position, head });
            }
        }
    }
}

/// What is known from the beginning.
fn plan(context: &mut Context, publishers: usize) {
    for client in 0..CLIENTS {
        let id = ClientId(client);
        context.soon(0, 2_000, Plan::Connect(id));
        context.soon(2_000, 5_000, Plan::ClientFault(id));
        context.soon(1_000, 3_000, Plan::ClientPublishes(id));
    }
    for publisher in 0..publishers {
        context.soon(0, 1_000, Plan::PublisherTurn(publisher));
    }
    if context.profile.ends_in_cuts {
        context.soon(48_500, 49_900, Plan::CutAll);
    }
    if context.profile.ends_in_stalls {
        context.soon(46_000, 48_000, Plan::StallMany);
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
