//! What happens to connections and to the instance, by chance and by plan.

use std::time::Duration;

use super::{CLIENTS, World};
use crate::history::ClientId;
use crate::simulation::client::Kind;
use crate::simulation::context::{INSTANCES, Plan};
use crate::simulation::faults::Fault;
use crate::simulation::instance::Instance;

impl World {
    /// Cuts a connection: what is on its way arrives in part, to a client that reads.
    pub(super) fn cut(&mut self, id: ClientId) {
        let (client, context) = (&mut self.clients[id.0], &mut self.context);
        let Some(session) = client.session else { return };
        context.count(Fault::Cut, Some(id));
        if let Some(wire) = self.wires.get_mut(&session) {
            let arrives = if client.is_stalled() { 0 } else { context.random.below(wire.down.len() + 1) };
            if arrives < wire.down.len() {
                context.count(Fault::CutMidway, Some(id));
            }
            for _ in 0..arrives {
                let Some(down) = wire.down.take_next() else { break };
                client.handle(down, context);
            }
            // Of what the client says to this, nothing is heard any more; of what it said before, some is.
            let heard = context.random.below(wire.up.len() + 1);
            let heard = (0..heard).map_while(|_| wire.up.take_next());
            if let Some(instance) = self.instances.iter_mut().find(|instance| instance.holds(session)) {
                instance.hear(session, heard, context.now());
            }
            (wire.is_cut, wire.reads) = (true, wire.reads + 1);
            wire.down.clear();
            wire.up.clear();
        }
        context.soon(0, 300, Plan::HangUp(session));
        client.handle_gone(context);
    }

    /// The client is gone without a word: the instance has to find out.
    pub(super) fn vanish(&mut self, id: ClientId) {
        let (client, context) = (&mut self.clients[id.0], &mut self.context);
        let Some(wire) = client.session.and_then(|session| self.wires.get_mut(&session)) else { return };
        wire.is_cut = true;
        context.count(Fault::Vanish, Some(id));
        client.handle_gone(context);
    }

    /// An instance ends with its connections; another starts in its place.
    pub(super) fn stop(&mut self) {
        let slot = self.context.random.below(INSTANCES);
        if !self.instances[slot].is_up {
            return;
        }
        self.context.count(Fault::Crash, None);
        for id in 0..CLIENTS {
            let session = self.clients[id].session;
            if session.is_some_and(|session| self.instances[slot].holds(session)) {
                self.cut(ClientId(id));
            }
        }
        self.wires.retain(|session, _| !self.instances[slot].holds(*session));
        self.context.generations[slot] += 1;
        self.instances[slot] = Instance::new(self.context.start_of(slot), self.context.now());
        self.instances[slot].is_up = false;
        self.redis.disconnect(slot);
        self.context.soon(50, 800, Plan::Start(slot));
    }

    /// The one that starts.
    pub(super) fn start(&mut self, slot: usize) {
        self.instances[slot].is_up = true;
        let start = self.context.start_of(slot);
        self.context.soon(0, 50, Plan::Tick(start));
        self.context.soon(0, 1_000, Plan::Beacon(start));
    }

    /// Something goes wrong between Redis and an instance.
    pub(super) fn line_fault(&mut self, slot: usize) {
        if self.context.is_calm() {
            return;
        }
        let pause = self.context.profile.line_pause.mul_f64(2.0 * self.context.random.fraction());
        self.context.schedule.after(pause + Duration::from_millis(1), Plan::LineFault(slot));
        let name = self.instances[slot].uplink.name_heard();
        self.redis.fail_line(slot, name, &mut self.context);
    }

    pub(super) fn client_fault(&mut self, id: ClientId) {
        if self.context.now() >= self.context.profile.clients_calm {
            return;
        }
        let pause = self.context.profile.client_pause;
        let pause = pause.mul_f64(2.0 * self.context.random.fraction()) + Duration::from_millis(1);
        self.context.schedule.after(pause, Plan::ClientFault(id));
        match self.context.random.below(12) {
            0..=2 => self.cut(id),
            3 => self.vanish(id),
            4..=6 => self.stall(id, 100, 5_000),
            7..=8 => {
                self.context.count(Fault::SlowReading, Some(id));
                self.clients[id.0].slow_down(&mut self.context);
            }
            9..=10 => self.unsubscribe(id),
            _ => self.lose_cursor(id),
        }
    }

    pub(super) fn stall(&mut self, id: ClientId, from_ms: u64, to_ms: u64) {
        if !self.clients[id.0].is_stalled() {
            self.context.count(Fault::Stall, Some(id));
            self.clients[id.0].stall(from_ms, to_ms, &mut self.context);
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
            self.context.count(Fault::Unsubscribe, Some(id));
        }
    }

    pub(super) fn lose_cursor(&mut self, id: ClientId) {
        if let Kind::Stream(client) = &mut self.clients[id.0].kind
            && client.lose_cursor()
        {
            self.context.count(Fault::CursorLost, Some(id));
            self.cut(id);
        }
    }
}
