//! What a connection may still send: each command is counted, and bytes that come too fast are read later.

use std::net::IpAddr;
use std::sync::Arc;

use tidings_protocol::{Command, Problem};

use crate::hub::{Close, Grant, Time};
use crate::instance::{ITEMS_OF_A_COMMAND, Instance, caller_of};
use crate::limits::{ConnectionRates, Count, Flood, Limited};

/// What is counted of one connection. Most of them only listen: the meters are made when something comes.
pub(super) struct Inbound {
    instance: Arc<Instance>,
    address: Option<IpAddr>,
    meters: Option<Box<Meters>>,
}

struct Meters {
    rates: ConnectionRates,
    flood: Flood,
    paused_until: Option<Time>,
}

/// Tags that a command names: each costs.
fn items(command: &Command) -> usize {
    match command {
        Command::Watch(watch) => watch.groups.iter().map(|group| group.tags.len()).sum(),
        Command::Unwatch(unwatch) => unwatch.tags.len(),
        Command::Connect { .. }
        | Command::Refresh { .. }
        | Command::Subscribe(_)
        | Command::Unsubscribe { .. }
        | Command::Publish(_)
        | Command::History(_)
        | Command::Presence { .. }
        | Command::Ping { .. } => 0,
    }
}

/// What becomes of a command.
pub(super) enum Verdict {
    /// It is handled.
    Take,
    /// It is refused.
    Refuse(Problem),
    /// The connection ends.
    End(Close),
}

impl Inbound {
    pub(super) fn new(instance: Arc<Instance>, address: Option<IpAddr>) -> Inbound {
        Inbound { instance, address, meters: None }
    }

    /// What a credential grants by the keys and rights of now; `None` where nothing vouches for it any more.
    pub(super) fn grant_now(&self, grant: &Grant) -> Option<Grant> {
        self.instance.authenticator.load().grant_now(grant).cloned()
    }

    /// A command came, of a session with this grant.
    pub(super) fn judge(&mut self, grant: &Grant, command: &Command) -> Verdict {
        self.judge_text(grant, 1 + items(command) / ITEMS_OF_A_COMMAND)
    }

    /// A text came that is no command: to say so costs as much.
    pub(super) fn judge_refused(&mut self, grant: &Grant) -> Verdict {
        self.judge_text(grant, 1)
    }

    fn judge_text(&mut self, grant: &Grant, cost: usize) -> Verdict {
        let admitted = self.admit_on_connection(cost).and_then(|()| {
            self.instance.admit(&caller_of(grant, self.address), Count::Commands, cost).map(|_| ())
        });
        self.weigh(admitted)
    }

    /// A ping or a pong came. It counts on this connection alone, and is answered already: with what the connection ends if
    /// there are too many.
    pub(super) fn judge_sign(&mut self) -> Option<Close> {
        let admitted = self.admit_on_connection(1);
        match self.weigh(admitted) {
            Verdict::Take | Verdict::Refuse(_) => None,
            Verdict::End(close) => Some(close),
        }
    }

    fn admit_on_connection(&mut self, cost: usize) -> Result<(), Limited> {
        let admitted = self.meters().rates.admit_command(cost);
        if let Err(limited) = &admitted {
            self.instance.metrics.rate_limited(limited.standing.scope);
        }
        admitted
    }

    fn weigh(&mut self, admitted: Result<(), Limited>) -> Verdict {
        let jitter = self.instance.jitter();
        let flood = &mut self.meters().flood;
        match admitted {
            Ok(()) => {
                flood.grant();
                Verdict::Take
            }
            Err(limited) if flood.refuse() => {
                Verdict::End(Close::for_flood(Limited::problem(&limited).message, jitter))
            }
            Err(limited) => Verdict::Refuse(limited.problem()),
        }
    }

    /// So many bytes came.
    pub(super) fn count_bytes(&mut self, bytes: usize, now: Time) {
        if bytes > 0 {
            let meters = self.meters();
            meters.paused_until = meters.rates.take_bytes(bytes).map(|pause| now.after(pause));
        }
    }

    /// Until when nothing more is read.
    pub(super) fn paused_until(&self) -> Option<Time> {
        self.meters.as_ref()?.paused_until
    }

    /// Time has passed; true if a pause is over.
    pub(super) fn handle_timeout(&mut self, now: Time) -> bool {
        let is_over = self.paused_until().is_some_and(|until| until <= now);
        if is_over {
            let meters = self.meters();
            meters.paused_until = meters.rates.take_bytes(0).map(|pause| now.after(pause));
        }
        is_over
    }

    fn meters(&mut self) -> &mut Meters {
        let Inbound { instance, meters, .. } = self;
        let made = || Meters {
            rates: instance.rates.load().connection(),
            flood: Flood::default(),
            paused_until: None,
        };
        meters.get_or_insert_with(|| Box::new(made()))
    }
}
