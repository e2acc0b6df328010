//! What must hold in every moment of who is attached, what is wanted of Redis, and what Redis announces.

use std::collections::BTreeSet;

use tidings_protocol::Channel;

use super::Instance;
use crate::history::Event;
use crate::simulation::broker::Redis;
use crate::simulation::context::Context;

impl Instance {
    /// Writes down what is not as it must be: the instance wants what somebody is attached to, it listens to what it wants, and
    /// nobody is attached whose connection is gone for good.
    pub(crate) fn look_for_strays(&mut self, context: &mut Context) {
        let Some(what) = self.stray().filter(|_| !self.is_astray) else { return };
        self.is_astray = true;
        context.record(Event::Astray { what: format!("{:?}: {what}", self.of) });
    }

    fn stray(&self) -> Option<String> {
        let (hub, uplink) = (&self.attachments.hub, &self.uplink);
        let wanted = uplink.wanted.channels().filter(|channel| !channel.is_log());
        let wanted: BTreeSet<&Channel> = wanted.collect();
        let attached: BTreeSet<&Channel> = hub.channels().map(|(channel, _)| channel).collect();
        if wanted != attached {
            return Some(format!("{wanted:?} are wanted, and {attached:?} have subscribers"));
        }
        let needed = uplink.intake.channels().filter(|(channel, wanted)| *wanted && !channel.is_log());
        let needed: BTreeSet<&Channel> = needed.map(|(channel, _)| channel).collect();
        if !uplink.wanted.has_changes() && needed != wanted {
            return Some(format!("{needed:?} are listened to, and {wanted:?} are wanted"));
        }
        let mut sessions = hub.sessions();
        let gone = sessions
            .find(|id| !self.connections.contains_key(id) && !self.commands.will_hear_of_the_end_of(*id))?;
        Some(format!("{gone:?} is gone, and attached to {:?}", hub.channels_of(gone)))
    }

    /// Writes down where Redis announces to the instance what it does not want, or does not announce what it wants: once all has
    /// come to rest.
    pub(crate) fn look_for_strays_at_rest(&self, redis: &Redis, context: &mut Context) {
        let announced = redis.announced_to(self.of.slot).map(|id| &context.spec(id).channel);
        let announced: BTreeSet<&Channel> = announced.collect();
        let wanted: BTreeSet<&Channel> = self.uplink.wanted.channels().collect();
        if self.is_up && announced != wanted {
            let what = format!("{:?}: {announced:?} are announced, and {wanted:?} are wanted", self.of);
            context.record(Event::Astray { what });
        }
    }
}
