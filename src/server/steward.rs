//! Looks after what the process uses: memory is measured, slow readers are given up where there is none left, and what is
//! known of quiet peers is forgotten.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::instance::Instance;
use crate::limits::Pressure;
use crate::observe::resident_bytes;

/// How often memory is measured. A gigabit brings 12 MB meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How often quiet names are forgotten, in looks.
const FORGET_EVERY: u64 = 10;

/// Runs until the instance stops.
pub(super) async fn look_after(instance: Arc<Instance>) {
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before = Pressure::None;
    for look in 1_u64.. {
        tokio::select! {
            _ = ticks.tick() => {}
            () = instance.stopping.cancelled() => return,
        }
        if look.is_multiple_of(FORGET_EVERY) {
            instance.rates.load().retain_recent();
            instance.attempts().forget(instance.clock.now().0);
        }
        let Some(used) = resident_bytes() else { continue };
        instance.memory.measured(used);
        let pressure = instance.memory.pressure();
        relieve(&instance, pressure);
        tell(&instance, before, pressure);
        before = pressure;
    }
}

fn relieve(instance: &Instance, pressure: Pressure) {
    if let Pressure::Shedding(bytes) = pressure {
        let readers = instance.node.shed(bytes);
        if readers > 0 {
            warn!(readers, bytes, "given up for want of memory: the slowest readers");
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
