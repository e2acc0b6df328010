//! What a session says of the broker's outages: the last of them, once, and never before its greeting.

use tidings_protocol::{DegradedFrame, Envelope, Frame, RestoredFrame};

use super::{Session, State};
use crate::hub::{BrokerState, Transmit};

impl Session {
    /// The broker is in this state. Each change is said once; before the greeting it is only remembered.
    ///
    /// Whoever hands in states may leave some out: what counts is the difference to what the client was told. One that
    /// was told nothing of an outage need not hear of its end.
    pub fn handle_broker_state(&mut self, state: BrokerState) {
        let known = std::mem::replace(&mut self.broker, state);
        if known != state && self.is_greeted() {
            self.say(None, self.broker_frame());
        }
    }

    /// Puts what the greeting says of the broker before what is to be said already: nothing, while it is there.
    pub(super) fn say_outage_first(&mut self) {
        if !self.broker.is_up() {
            let envelope = Envelope { id: None, frame: self.broker_frame() };
            self.transmits.push_front(Transmit::Frame(Box::new(envelope)));
        }
    }

    fn is_greeted(&self) -> bool {
        self.state == State::Open && self.greet_after == 0
    }

    fn broker_frame(&self) -> Frame {
        let component = self.config.broker.to_owned();
        match self.broker {
            BrokerState::Up => Frame::Restored(RestoredFrame { component }),
            BrokerState::Down { since_ms } => Frame::Degraded(DegradedFrame { component, since: since_ms }),
        }
    }
}
