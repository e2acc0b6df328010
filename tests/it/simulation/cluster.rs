//! Instances that share a Redis, and the wires between them and those who connect to them.

use std::time::Duration;

use tidings::hub::SessionId;

use super::broker::{Promotion, Redis};
use super::context::{Context, INSTANCES, Plan, Start};
use super::instance::Instance;
use super::link::{Down, Wire, Wires};

/// What the clients of every world connect to.
pub(crate) struct Cluster {
    pub(crate) context: Context,
    pub(crate) redis: Redis,
    pub(crate) instances: Vec<Instance>,
    pub(crate) wires: Wires,
    next_session: u64,
}

impl Cluster {
    /// Instances that have just started, and what goes wrong with them and with Redis by plan.
    pub(crate) fn new(mut context: Context) -> Self {
        let instance = |slot| Instance::new(context.start_of(slot), context.now());
        let instances = (0..INSTANCES).map(instance).collect();
        for slot in 0..INSTANCES {
            let start = context.start_of(slot);
            context.soon(0, 100, Plan::Tick(start));
            context.soon(0, 1_000, Plan::Beacon(start));
            if context.profile.line_pause < Duration::MAX {
                context.soon(1_000, 5_000, Plan::LineFault(slot));
            }
        }
        for _ in 0..context.profile.crashes {
            context.soon(1_000, 49_900, Plan::Stop);
        }
        for _ in 0..context.profile.outages {
            context.soon(1_000, 49_900, Plan::Outage);
        }
        if context.profile.ends_in_lag {
            context.soon(49_000, 49_500, Plan::LagAll);
        }
        if context.profile.ends_in_failover {
            context.soon(48_000, 49_900, Plan::Failover);
        }
        Cluster { context, redis: Redis::new(), instances, wires: Wires::new(), next_session: 0 }
    }

    /// Lets every instance do what follows from what has happened.
    pub(crate) fn settle(&mut self) {
        for instance in &mut self.instances {
            instance.settle(&mut self.redis, &mut self.wires, &mut self.context);
            instance.look_for_strays(&mut self.context);
        }
    }

    /// Something is due; what is none of its own is given back.
    pub(crate) fn handle(&mut self, plan: Plan) -> Option<Plan> {
        match plan {
            Plan::Call(id)
            | Plan::ActionStep(id)
            | Plan::SessionTimeout(id)
            | Plan::WriteDeadline(id, _)
            | Plan::HangUp(id)
            | Plan::UpArrives(id) => self.handle_connection(id, plan),
            Plan::NodeCommand(of) => {
                self.with_start(of, |instance, _, context| instance.handle_command(context));
            }
            Plan::AttachTimeout(of) => {
                self.with_start(of, |instance, _, context| instance.handle_attach_timeout(context.now()));
            }
            Plan::WindowEnds(of) => self.with_start(of, |instance, _, context| {
                instance.handle_window_end(context);
            }),
            Plan::LogDue(of)
            | Plan::LogNeed { of, .. }
            | Plan::LogWait { of, .. }
            | Plan::LogDone { of, .. } => {
                self.with_start(of, |instance, redis, context| instance.handle_log(plan, redis, context));
            }
            Plan::Start(slot) => self.start(slot),
            Plan::LineFault(slot) => self.line_fault(slot),
            plan => return self.handle_redis(plan),
        }
        None
    }

    fn handle_connection(&mut self, id: SessionId, plan: Plan) {
        let Cluster { context, instances, redis, wires, .. } = self;
        let Some(instance) = instances.iter_mut().find(|instance| instance.holds(id)) else { return };
        match plan {
            Plan::Call(_) => instance.handle_call(id),
            Plan::ActionStep(_) => instance.handle_action_step(id, redis, context),
            Plan::SessionTimeout(_) => instance.handle_session_timeout(id, context),
            Plan::WriteDeadline(_, reads) => instance.handle_write_deadline(id, reads, wires, context),
            Plan::HangUp(_) => instance.hang_up(id, wires, context),
            _ => instance.handle_ready(id),
        }
    }

    fn handle_redis(&mut self, plan: Plan) -> Option<Plan> {
        let Cluster { context, instances, redis, .. } = self;
        match plan {
            Plan::Announcement { slot, .. }
            | Plan::LineCommand { slot, .. }
            | Plan::LineClosed { slot, .. } => instances[slot].uplink.handle(plan, redis, context),
            Plan::Unheeded { of, .. }
            | Plan::TakeWanted(of)
            | Plan::IntakeRead { of, .. }
            | Plan::IntakePage { of, .. }
            | Plan::Beacon(of)
            | Plan::Tick(of) => self.with_start(of, |instance, redis, context| {
                instance.uplink.handle(plan, redis, context);
            }),
            Plan::LagTold { slot, serial } => redis.tell_lag(slot, serial, context),
            Plan::LateBeacon { slot, beacon } => drop(redis.beacon(slot, beacon, context)),
            Plan::LatePublish { slot, append, replication_id } => {
                redis.publish_late(slot, append, replication_id, context);
            }
            Plan::Outage => redis.fail(context),
            Plan::LagAll => redis.lag_all(context),
            Plan::Failover => redis.fall_behind(Promotion::Death, context),
            Plan::Promote(promotion) => redis.promote(promotion, context),
            Plan::SplitEnds => redis.end_split(context),
            plan => return Some(plan),
        }
        None
    }

    /// Does something with an instance, if it has not ended since.
    pub(crate) fn with_start(
        &mut self,
        of: Start,
        act: impl FnOnce(&mut Instance, &mut Redis, &mut Context),
    ) {
        let instance = &mut self.instances[of.slot];
        if instance.is_up && self.context.start_of(of.slot) == of {
            act(instance, &mut self.redis, &mut self.context);
        }
    }

    /// A wire to the instance, which has to accept it; `None` where nobody is there.
    pub(crate) fn open(&mut self, slot: usize) -> Option<SessionId> {
        self.instances[slot].is_up.then(|| {
            self.next_session += 1;
            let session = SessionId(self.next_session);
            self.wires.insert(session, Wire::new());
            session
        })
    }

    /// Cuts a wire: of what is on its way to the instance some is heard, and some arrives at the other end, if that reads.
    /// `arrive` gets it.
    pub(crate) fn cut(
        &mut self,
        session: SessionId,
        reads: bool,
        mut arrive: impl FnMut(Down, &mut Context),
    ) -> bool {
        let Cluster { context, instances, wires, .. } = self;
        let mut is_midway = false;
        if let Some(wire) = wires.get_mut(&session) {
            let arrives = if reads { context.random.below(wire.down.len() + 1) } else { 0 };
            is_midway = arrives < wire.down.len();
            for _ in 0..arrives {
                let Some(down) = wire.down.take_next() else { break };
                arrive(down, context);
            }
            // Of what the client says to this, nothing is heard any more; of what it said before, some is.
            let heard = context.random.below(wire.up.len() + 1);
            let heard = (0..heard).map_while(|_| wire.up.take_next());
            if let Some(instance) = instances.iter_mut().find(|instance| instance.holds(session)) {
                instance.hear(session, heard, context.now());
            }
            (wire.is_cut, wire.reads) = (true, wire.reads + 1);
            wire.down.clear();
            wire.up.clear();
        }
        context.soon(0, 300, Plan::HangUp(session));
        is_midway
    }

    /// The instance ends with its connections; another starts in its place.
    pub(crate) fn stop(&mut self, slot: usize) {
        self.wires.retain(|session, _| !self.instances[slot].holds(*session));
        self.context.generations[slot] += 1;
        self.instances[slot] = Instance::new(self.context.start_of(slot), self.context.now());
        self.instances[slot].is_up = false;
        self.redis.disconnect(slot);
        self.context.soon(50, 800, Plan::Start(slot));
    }

    /// The one that starts.
    fn start(&mut self, slot: usize) {
        self.instances[slot].is_up = true;
        let start = self.context.start_of(slot);
        self.context.soon(0, 50, Plan::Tick(start));
        self.context.soon(0, 1_000, Plan::Beacon(start));
    }

    /// Something goes wrong between Redis and an instance.
    fn line_fault(&mut self, slot: usize) {
        if self.context.is_calm() {
            return;
        }
        let pause = self.context.profile.line_pause.mul_f64(2.0 * self.context.random.fraction());
        self.context.schedule.after(pause + Duration::from_millis(1), Plan::LineFault(slot));
        let name = self.instances[slot].uplink.name_heard();
        self.redis.fail_line(slot, name, &mut self.context);
    }
}
