//! What happens to connections and to the instance, by chance and by plan.

use std::time::Duration;

use tidings::hub::SessionId;

use super::{CLIENTS, World};
use crate::history::ClientId;
use crate::simulation::client::Kind;
use crate::simulation::cluster::Cluster;
use crate::simulation::context::{INSTANCES, Plan};
use crate::simulation::faults::{Fault, Moment};

impl World {
    /// Cuts a connection: what is on its way arrives in part, to a client that reads.
    pub(super) fn cut(&mut self, id: ClientId) {
        let client = &mut self.clients[id.0];
        let Some(session) = client.session else { return };
        self.cluster.context.count(Fault::Cut, Some(id));
        let reads = !client.is_stalled();
        let is_midway = self.cluster.cut(session, reads, |down, context| {
            client.handle(down, context);
        });
        if is_midway {
            self.cluster.context.count(Fault::CutMidway, Some(id));
        }
        client.handle_gone(&mut self.cluster.context);
    }

    /// Drops a connection that is still at this step of what it asked for, with all that it waits for.
    pub(super) fn drop_at(&mut self, session: SessionId, moment: Moment) {
        let Cluster { context, instances, wires, .. } = &mut self.cluster;
        let Some(instance) = instances.iter_mut().find(|instance| instance.has_at(session, moment)) else {
            return;
        };
        let client = self.clients.iter_mut().find(|client| client.session == Some(session));
        let Some((client, wire)) = client.zip(wires.get_mut(&session)) else { return };
        (wire.is_cut, wire.reads) = (true, wire.reads + 1);
        context.count(moment.fault(), Some(client.id));
        instance.hang_up(session, wires, context);
        client.handle_gone(context);
    }

    /// The client is gone without a word: the instance has to find out.
    pub(super) fn vanish(&mut self, id: ClientId) {
        let Cluster { context, wires, .. } = &mut self.cluster;
        let client = &mut self.clients[id.0];
        let Some(wire) = client.session.and_then(|session| wires.get_mut(&session)) else { return };
        wire.is_cut = true;
        context.count(Fault::Vanish, Some(id));
        client.handle_gone(context);
    }

    /// An instance ends with its connections; another starts in its place.
    pub(super) fn stop(&mut self) {
        let slot = self.cluster.context.random.below(INSTANCES);
        if !self.cluster.instances[slot].is_up {
            return;
        }
        self.cluster.context.count(Fault::Crash, None);
        for id in 0..CLIENTS {
            let session = self.clients[id].session;
            if session.is_some_and(|session| self.cluster.instances[slot].holds(session)) {
                self.cut(ClientId(id));
            }
        }
        self.cluster.stop(slot);
    }

    pub(super) fn client_fault(&mut self, id: ClientId) {
        if self.cluster.context.now() >= self.cluster.context.profile.clients_calm {
            return;
        }
        let pause = self.cluster.context.profile.client_pause;
        let pause = pause.mul_f64(2.0 * self.cluster.context.random.fraction()) + Duration::from_millis(1);
        self.cluster.context.schedule.after(pause, Plan::ClientFault(id));
        match self.cluster.context.random.below(12) {
            0..=2 => self.cut(id),
            3 => self.vanish(id),
            4..=6 => self.stall(id, 100, 5_000),
            7..=8 => {
                self.cluster.context.count(Fault::SlowReading, Some(id));
                self.clients[id.0].slow_down(&mut self.cluster.context);
            }
            9..=10 => self.unsubscribe(id),
            _ => self.lose_cursor(id),
        }
    }

    pub(super) fn stall(&mut self, id: ClientId, from_ms: u64, to_ms: u64) {
        if !self.clients[id.0].is_stalled() {
            self.cluster.context.count(Fault::Stall, Some(id));
            self.clients[id.0].stall(from_ms, to_ms, &mut self.cluster.context);
        }
    }

    pub(super) fn stall_many(&mut self) {
        for id in (0..CLIENTS).filter(|id| id % 2 == 0) {
            self.stall(ClientId(id), 1_000, 4_000);
        }
    }

    pub(super) fn unsubscribe(&mut self, id: ClientId) {
        let mut left = false;
        self.with_socket(id, |client, context| left = client.leave_one(context));
        if left {
            self.cluster.context.count(Fault::Unsubscribe, Some(id));
        }
    }

    pub(super) fn lose_cursor(&mut self, id: ClientId) {
        if let Kind::Stream(client) = &mut self.clients[id.0].kind
            && client.lose_cursor()
        {
            self.cluster.context.count(Fault::CursorLost, Some(id));
            self.cut(id);
        }
    }
}
