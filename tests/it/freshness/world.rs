//! The world of one seed: clients with caches, where their values come from, who changes them, and the instances between.

use std::collections::BTreeMap;
use std::time::Duration;

use tidings::hub::{Grant, Retention, SessionId, Time};
use tidings_protocol::{LogName, Position};

use super::client::CacheClient;
use super::closing::Closing;
use super::judge::{Judge, Violation};
use super::mishaps;
use super::origin::{Body, Fetch, Origin, Read};
use super::writers::{AUTHOR, Attempt, Mutated, Pending, Writers};
use crate::history::{ClientId, Event};
use crate::simulation::channels::ChannelSpec;
use crate::simulation::cluster::Cluster;
use crate::simulation::context::{Context, END, INSTANCES, Plan};
use crate::simulation::faults::{Fault, FaultCounts, Profile};
use crate::simulation::link::Distance;
use crate::simulation::random::Random;

/// How many clients there are.
pub(super) const CLIENTS: usize = 10;

/// Values that a client wants to see at once.
const VALUES_SHOWN: usize = 4;

/// What can be planned, beside what instances and Redis do.
#[derive(Clone, Debug)]
pub(crate) enum CachePlan {
    /// A client wants to see a value.
    Turn(ClientId),
    /// A client's ping is due on this connection.
    Ping(ClientId, SessionId),
    /// A client reads from its connection again.
    ReadOn(ClientId),
    /// Something goes wrong with a client.
    Fault(ClientId),
    /// Something goes wrong with Redis.
    OfRedis(Fault),
    /// Only one instance reaches the primary.
    Strand,
    /// The primary dies.
    StrandEnds(usize),
    /// A client mutates something.
    Mutate(ClientId),
    /// A client hears of its own mutation.
    Mutated(Mutated),
    /// A request reaches the origin.
    Fetch(Fetch),
    /// The database is read.
    Read(Read),
    /// What was read is put into caches.
    Fill(Read),
    /// An answer reaches a client.
    Answer(Body),
    /// The replica of the database applies one more commit.
    Applied,
    /// Somebody changes something.
    Write,
    /// A change is committed that is published already.
    Commit,
    /// A mutation is published, or tried again.
    Publish(u64),
    /// It reaches an instance.
    Arrives(Attempt),
    /// The instance looks whether the replica has it.
    Look(Pending),
    /// The writer hears that it is acknowledged.
    Acknowledged(Attempt, Position),
    /// The writer hears that it is not.
    Refused(Attempt),
    /// The writer has waited long enough.
    TimedOut(u64, u32),
}

/// What all parts need.
pub(crate) struct Lab {
    pub(crate) cluster: Cluster,
    pub(crate) judge: Judge,
    off: Option<Closing>,
    is_told: bool,
}

impl Lab {
    /// The time.
    pub(crate) fn now(&self) -> Time {
        self.cluster.context.now()
    }

    /// Whether this way is closed.
    pub(crate) fn keeps(&self, closing: Closing) -> bool {
        self.off != Some(closing)
    }

    /// Writes down what happens, where somebody reads it.
    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            println!("{:>10.3} {}", self.now().0.as_secs_f64() * 1e3, what());
        }
    }

    /// Plans for later, by chance between two numbers of milliseconds.
    pub(crate) fn soon(&mut self, from_ms: u64, to_ms: u64, plan: CachePlan) {
        self.cluster.context.soon(from_ms, to_ms, Plan::OfCaches(plan));
    }

    /// The place of one of the instances.
    pub(crate) fn some_slot(&mut self) -> usize {
        self.cluster.context.random.below(INSTANCES)
    }

    /// Where the log stands, as far as one of the instances knows.
    pub(crate) fn known_position(&mut self) -> Option<Position> {
        let slot = self.some_slot();
        self.cluster.instances[slot].keeper.log.position()
    }
}

/// What one seed gives.
pub(crate) struct Outcomes {
    pub(crate) violations: Vec<Violation>,
    pub(crate) faults: FaultCounts,
    pub(crate) serves: u64,
    pub(crate) events: u64,
}

/// How a world is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) seed: u64,
    /// The way that is left open.
    pub(crate) off: Option<Closing>,
    /// Nothing goes wrong.
    pub(crate) is_calm: bool,
    /// Everything is printed.
    pub(crate) is_told: bool,
}

pub(super) struct World {
    pub(super) lab: Lab,
    origin: Origin,
    writers: Writers,
    pub(super) clients: Vec<CacheClient>,
    /// Sessions that are gone and watch something, by their instance, and since when.
    gone: BTreeMap<(usize, SessionId), Time>,
}

/// Runs the world of a seed to its end.
pub(crate) fn run(setting: Setting) -> Outcomes {
    let mut world = World::new(setting);
    while let Some(plan) = world.lab.cluster.context.schedule.next(END) {
        world.lab.cluster.context.events += 1;
        world.handle(plan);
        world.lab.cluster.settle();
        world.note_places();
        world.look_for_leaks();
    }
    let Lab { cluster, judge, .. } = world.lab;
    let Context { faults, events, .. } = cluster.context;
    Outcomes { violations: judge.violations, faults, serves: judge.serves, events }
}

/// A round trip of up to 300 ms, with what is sent arriving together or not.
fn far_away(context: &mut Context) -> Distance {
    let one_way = context.random.between(0, 150);
    let together_ms = if context.random.chance(500) { 20 } else { 0 };
    Distance { one_way, together_ms }
}

/// After this long nothing is left of a session that is gone.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(2);

/// The log that all is about: it keeps little, so that some of what is missed is not there any more.
fn log() -> ChannelSpec {
    let retention = Retention { publications_max: 40, bytes_max: 1 << 20, age_max: Duration::from_secs(120) };
    ChannelSpec::keeping(LogName::default().channel(), retention)
}

impl World {
    fn new(setting: Setting) -> Self {
        let Setting { seed, off, is_calm, is_told } = setting;
        let mut random = Random::new(seed);
        let profile =
            if is_calm { Profile::calm() } else { Profile { strays: 20, ..Profile::new(&mut random) } };
        let mut context = Context::over(vec![log()], profile, random);
        for id in (0..CLIENTS).map(ClientId) {
            context.soon(0, 1_000, Plan::Connect(id));
            context.soon(0, 100, Plan::OfCaches(CachePlan::Turn(id)));
            context.soon(2_000, 10_000, Plan::OfCaches(CachePlan::Mutate(id)));
            if !is_calm {
                context.soon(1_000, 9_000, Plan::OfCaches(CachePlan::Fault(id)));
            }
        }
        context.soon(0, 100, Plan::OfCaches(CachePlan::Write));
        if !is_calm {
            mishaps::plan(&mut context);
        }
        let lab = Lab { cluster: Cluster::new(context), judge: Judge::new(is_calm), off, is_told };
        let clients = (0..CLIENTS).map(|id| CacheClient::new(ClientId(id))).collect();
        World { lab, origin: Origin::default(), writers: Writers::default(), clients, gone: BTreeMap::new() }
    }

    /// Only sessions that an instance holds watch anything there, but for the moment until it hears that one is gone.
    fn look_for_leaks(&mut self) {
        let World { lab, gone, .. } = self;
        let now = lab.now();
        let mut watching = BTreeMap::new();
        for (slot, instance) in lab.cluster.instances.iter().enumerate() {
            for session in instance.keeper.log.watchers().filter(|session| !instance.holds(**session)) {
                let since = gone.get(&(slot, *session)).copied().unwrap_or(now);
                watching.insert((slot, *session), since);
                lab.judge.watched_by(
                    slot,
                    Some(*session).filter(|_| now.since(since) > FORGOTTEN_AFTER),
                    now,
                );
            }
        }
        *gone = watching;
    }

    /// The judge hears where the log has what.
    fn note_places(&mut self) {
        for record in std::mem::take(&mut self.lab.cluster.context.history) {
            self.lab.note(|| record.to_string());
            if let Event::Stored { publish, position: Some(position), .. } = &record.event
                && publish.author == AUTHOR
            {
                self.lab.judge.placed(u64::from(publish.number), position.clone());
            }
        }
    }

    fn handle(&mut self, plan: Plan) {
        match plan {
            Plan::OfCaches(plan) => self.handle_own(plan),
            Plan::Connect(id) => self.connect(id),
            Plan::DownArrives(session) => {
                let id = self.clients.iter().find(|client| client.session == Some(session)).map(|of| of.id);
                id.into_iter().for_each(|id| self.read(id));
            }
            Plan::Stop => self.stop(),
            plan => {
                let foreign = self.lab.cluster.handle(plan);
                assert!(foreign.is_none(), "{foreign:?} is none of this world");
            }
        }
    }

    fn handle_own(&mut self, plan: CachePlan) {
        let World { lab, origin, writers, .. } = self;
        match plan {
            CachePlan::Turn(id)
            | CachePlan::Ping(id, _)
            | CachePlan::ReadOn(id)
            | CachePlan::Fault(id)
            | CachePlan::Mutate(id)
            | CachePlan::Mutated(Mutated { client: id, .. })
            | CachePlan::Answer(Body { fetch: Fetch { client: id, .. }, .. }) => self.handle_client(id, plan),
            CachePlan::Fetch(fetch) => origin.fetch(fetch, lab),
            CachePlan::Read(read) => origin.read(read, lab),
            CachePlan::Fill(read) => origin.fill(read, lab),
            CachePlan::Applied => origin.apply(),
            CachePlan::Write => writers.turn(origin, lab),
            CachePlan::Commit => origin.commit(lab),
            CachePlan::Publish(number) => writers.publish(number, lab),
            CachePlan::Arrives(attempt) => writers.arrives(attempt, lab),
            CachePlan::Look(pending) => writers.look(pending, lab),
            CachePlan::Acknowledged(attempt, at) => writers.acknowledged(&attempt, at, lab),
            CachePlan::Refused(attempt) => writers.refused(&attempt, lab),
            CachePlan::TimedOut(number, attempt) => writers.timed_out(number, attempt, lab),
            CachePlan::OfRedis(fault) => lab.cluster.redis.fail_as(fault, &mut lab.cluster.context),
            CachePlan::Strand => self.strand(),
            CachePlan::StrandEnds(slot) => self.strand_ends(slot),
        }
    }

    /// Something is due at a client; where its machine sleeps, when it wakes.
    fn handle_client(&mut self, id: ClientId, plan: CachePlan) {
        let World { lab, clients, origin, writers, .. } = self;
        let client = &mut clients[id.0];
        if client.asleep_until > lab.now() {
            return lab.cluster.context.schedule.at(client.asleep_until, Plan::OfCaches(plan));
        }
        match plan {
            CachePlan::Turn(_) => {
                (0..VALUES_SHOWN).for_each(|_| client.look(lab));
                lab.soon(30, 100, CachePlan::Turn(id));
            }
            CachePlan::Ping(_, session) if client.session == Some(session) => {
                let is_heard = client.ping(lab);
                if !is_heard {
                    client.handle_gone(lab);
                }
            }
            CachePlan::Mutate(_) => {
                writers.write(Some(id), origin, lab);
                lab.soon(2_000, 10_000, CachePlan::Mutate(id));
            }
            CachePlan::Mutated(mutated) => {
                client.handle_mutated(&mutated, lab);
            }
            CachePlan::Answer(body) => client.handle_body(body, lab),
            CachePlan::ReadOn(_) => {
                // The first thing that a machine does when it wakes, before anybody sets a clock.
                client.look_at_clock(lab);
                self.read(id);
            }
            CachePlan::Fault(_) => self.client_fault(id),
            _ => {}
        }
        self.send(id);
    }

    fn connect(&mut self, id: ClientId) {
        let World { lab, clients, .. } = self;
        let client = &mut clients[id.0];
        if client.session.is_some() {
            return;
        }
        if client.asleep_until > lab.now() {
            return lab.cluster.context.schedule.at(client.asleep_until, Plan::Connect(id));
        }
        let slot = client.next_instance;
        let Some(session) = lab.cluster.open(slot) else {
            client.next_instance = (slot + 1) % INSTANCES;
            return lab.cluster.context.soon(50, 500, Plan::Connect(id));
        };
        client.handle_open(session, lab.cluster.context.start_of(slot), lab.now());
        let is_calm = lab.judge.is_calm();
        let Cluster { context, instances, wires, .. } = &mut lab.cluster;
        instances[slot].accept_socket(session, id, Some(Grant::open()), context);
        if !is_calm && let Some(wire) = wires.get_mut(&session) {
            wire.distance = far_away(context);
        }
        context.schedule.after(Duration::from_secs(1), Plan::OfCaches(CachePlan::Ping(id, session)));
    }

    /// The client reads what has arrived, if it reads at all.
    fn read(&mut self, id: ClientId) {
        let World { lab, clients, .. } = self;
        let (client, now) = (&mut clients[id.0], lab.now());
        let Some(session) = client.session else { return };
        if client.asleep_until > now || client.stalled_until > now {
            return;
        }
        while let Some(wire) = lab.cluster.wires.get_mut(&session).filter(|wire| !wire.is_cut)
            && let Some(down) = wire.down.receive(now)
        {
            wire.reads += 1;
            if !client.handle(down, lab) {
                lab.cluster.wires.remove(&session);
                return client.handle_gone(lab);
            }
        }
        self.send(id);
        let instances = &mut self.lab.cluster.instances;
        let holder = instances.iter_mut().find(|instance| instance.holds(session));
        holder.into_iter().for_each(|instance| instance.handle_ready(session));
    }

    /// Sends what the client has to say.
    fn send(&mut self, id: ClientId) {
        let client = &mut self.clients[id.0];
        let out = client.take_out();
        let Cluster { context, wires, .. } = &mut self.lab.cluster;
        let wire = client.session.and_then(|session| Some((session, wires.get_mut(&session)?)));
        let Some((session, wire)) = wire.filter(|(_, wire)| !wire.is_cut) else { return };
        out.into_iter().for_each(|up| wire.send_up(session, up, context));
    }
}
