//! Looks after what the process uses: memory is measured, slow readers are given up where there is none left, and what is
//! known of quiet peers is forgotten.

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};

use crate::instance::{HeldAnswer, Instance};
use crate::limits::{Pressure, Relief, most};
use crate::node::{SLOW_AFTER, SharedMailbox};
use crate::observe::resident_bytes;

/// How often memory is measured. A gigabit brings 12 MB meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How often quiet names are forgotten, in looks.
const FORGET_EVERY: u64 = 10;

/// Runs until the instance stops.
pub(super) async fn look_after(instance: Arc<Instance>) {
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut before, mut relief) = (Pressure::None, Relief::default());
    for look in 1_u64.. {
        tokio::select! {
            _ = ticks.tick() => {}
            () = instance.stopping.cancelled() => return,
        }
        if look.is_multiple_of(FORGET_EVERY) {
            instance.rates.load().retain_recent();
            let stalled = instance.answers.hang_up_on_stalled(instance.config.server.write_timeout);
            if stalled > 0 {
                debug!(stalled, "hung up on peers that take nothing of their answers");
            }
            instance.attempts().forget(instance.clock.now().0);
        }
        let Some(used) = resident_bytes() else { continue };
        instance.memory.measured(used);
        let pressure = instance.memory.pressure();
        relieve(&instance, &mut relief);
        tell(&instance, before, pressure);
        before = pressure;
    }
}

/// Whoever holds memory because it is slow.
enum Slow {
    Connection(Arc<SharedMailbox>),
    Answer(Arc<HeldAnswer>),
}

fn relieve(instance: &Instance, relief: &mut Relief) {
    let now = instance.clock.now().0;
    let bytes = relief.needed(instance.memory.used(), instance.memory.budget(), now);
    if bytes == 0 {
        return;
    }
    let connections = instance.node.slow().into_iter().map(|(held, slow)| (held, Slow::Connection(slow)));
    let answers =
        instance.answers.slow(SLOW_AFTER).into_iter().map(|(held, slow)| (held, Slow::Answer(slow)));
    let slowest = most(connections.chain(answers).collect(), bytes);
    let freed: usize = slowest.iter().map(|(held, _)| held).sum();
    if !slowest.is_empty() {
        warn!(readers = slowest.len(), bytes, freed, "given up for want of memory: the slowest readers");
    }
    relief.note(freed, now);
    for (_, slow) in slowest {
        match slow {
            Slow::Connection(mailbox) => mailbox.give_up(),
            Slow::Answer(answer) => {
                instance.metrics.shed();
                answer.hang_up();
            }
        }
    }
}

fn tell(instance: &Instance, before: Pressure, pressure: Pressure) {
    let (used, budget) = (instance.memory.used(), instance.memory.budget());
    match (before, pressure) {
        (Pressure::None, Pressure::Refusing | Pressure::Shedding(_)) => {
            warn!(used, budget, "memory is short: new connections are refused");
        }
        (Pressure::Refusing | Pressure::Shedding(_), Pressure::None) => {
            info!(used, budget, "there is memory again: new connections are admitted");
        }
        _ => {}
    }
}
