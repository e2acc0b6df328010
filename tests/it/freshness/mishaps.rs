//! What happens to clients, to instances and to Redis, by chance and by plan.

use std::time::Duration;

use super::world::{CLIENTS, CachePlan, World};
use crate::history::ClientId;
use crate::simulation::broker::Promotion;
use crate::simulation::cluster::Cluster;
use crate::simulation::context::{CALM, Context, INSTANCES, Plan};
use crate::simulation::faults::Fault;

/// What goes wrong with Redis as a whole.
const OF_REDIS: [Fault; 9] = [
    Fault::RedisStall,
    Fault::RestartEmpty,
    Fault::Evicted,
    Fault::EventsEvicted,
    Fault::EventsEvicted,
    Fault::Flushed,
    Fault::IdChanged,
    Fault::SplitBrain,
    Fault::SplitBrain,
];

/// Plans what goes wrong with Redis. In half of the worlds it only ever loses what came last: where logs begin anew all the
/// time, nothing stays in a cache for long enough to be missed.
pub(super) fn plan(context: &mut Context) {
    let only_tails = context.random.chance(500);
    let mut plan = |times: [usize; 3], what: Plan| {
        let times = context.random.pick(&times);
        (0..times).for_each(|_| context.soon(1_000, 49_900, what.clone()));
    };
    plan([0, 4, 12], Plan::Failover);
    plan([8, 12, 16], Plan::OfCaches(CachePlan::Strand));
    if only_tails {
        context.profile.outages = 0;
    } else {
        OF_REDIS.into_iter().for_each(|fault| plan([4, 6, 8], Plan::OfCaches(CachePlan::OfRedis(fault))));
    }
}

impl World {
    /// A connection is cut.
    pub(super) fn cut(&mut self, id: ClientId) {
        let World { lab, clients, .. } = self;
        let client = &mut clients[id.0];
        let Some(session) = client.session else { return };
        lab.cluster.context.count(Fault::Cut, Some(id));
        // What still arrives is read by nobody: a client that is cut off knows no more than before.
        lab.cluster.cut(session, false, |_, _| {});
        client.handle_gone(lab);
    }

    /// One of the instances ends with its connections.
    pub(super) fn stop(&mut self) {
        let slot = self.lab.some_slot();
        if self.lab.cluster.instances[slot].is_up {
            self.stop_at(slot);
        }
    }

    fn stop_at(&mut self, slot: usize) {
        self.lab.cluster.context.count(Fault::Crash, None);
        for id in 0..CLIENTS {
            let session = self.clients[id].session;
            if session.is_some_and(|session| self.lab.cluster.instances[slot].holds(session)) {
                self.cut(ClientId(id));
            }
        }
        self.lab.cluster.stop(slot);
    }

    /// Something goes wrong with a client, and will again.
    pub(super) fn client_fault(&mut self, id: ClientId) {
        let World { lab, clients, .. } = self;
        let (client, context) = (&mut clients[id.0], &mut lab.cluster.context);
        let now = context.now();
        if now >= context.profile.clients_calm {
            return;
        }
        let pause = context.profile.client_pause.mul_f64(3.5 * context.random.fraction());
        let again = Plan::OfCaches(CachePlan::Fault(id));
        context.schedule.after(pause + Duration::from_millis(1), again);
        let wire = client.session.and_then(|session| lab.cluster.wires.get_mut(&session));
        match context.random.below(13) {
            0..=2 => self.cut(id),
            3..=4 => {
                if let Some(wire) = wire.filter(|wire| !wire.is_cut) {
                    context.count(Fault::HalfOpen, Some(id));
                    wire.is_cut = true;
                }
            }
            5..=6 => {
                context.count(Fault::Asleep, Some(id));
                let pause = context.random.between(500, 8_000).min(CALM.since(now));
                client.sleep(pause, now);
                context.schedule.at(client.asleep_until, Plan::OfCaches(CachePlan::ReadOn(id)));
            }
            7 => {
                context.count(Fault::WallClockBack, Some(id));
                let by = context.random.between(1_000, 60_000);
                client.set_back(by, lab);
            }
            _ => {
                context.count(Fault::Stall, Some(id));
                client.stalled_until = now.after(context.random.between(3_000, 12_000)).min(CALM);
                context.schedule.at(client.stalled_until, Plan::OfCaches(CachePlan::ReadOn(id)));
            }
        }
    }

    /// Only one instance reaches the primary, and no replica does: what it acknowledges from now on nobody else hears of.
    pub(super) fn strand(&mut self) {
        let slot = self.lab.some_slot();
        let Cluster { context, redis, .. } = &mut self.lab.cluster;
        let end = context.now().after(context.random.between(500, 2_000)).min(CALM);
        redis.isolate_all_but(slot, end.after(Duration::from_millis(1)));
        redis.cut_replica(context);
        context.schedule.at(end, Plan::OfCaches(CachePlan::StrandEnds(slot)));
    }

    /// The primary dies, and that instance with it, or all the others: then their clients come to the one that knows.
    pub(super) fn strand_ends(&mut self, slot: usize) {
        let Cluster { context, redis, .. } = &mut self.lab.cluster;
        context.count(Fault::Stranded, None);
        redis.promote(Promotion::Death, context);
        let host_dies = context.random.chance(500);
        for other in (0..INSTANCES).filter(|other| (*other == slot) == host_dies) {
            if self.lab.cluster.instances[other].is_up {
                if host_dies {
                    self.lab.cluster.context.count(Fault::HostDies, None);
                }
                self.stop_at(other);
            }
        }
    }
}
