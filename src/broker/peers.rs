//! The instances that share a broker, as their beacons tell of them.
//!
//! Each instance sends a numbered beacon every second. A number that is missing means that announcements were lost on the
//! way here; an instance that falls silent may have died between storing a publication and all others hearing of it.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use tidings_protocol::{Beacon, InstanceInfo};

use crate::ablation::{Safeguard, ablated};
use crate::hub::Time;

/// An instance that was not heard of for this long is silent.
const SILENT_AFTER: Duration = Duration::from_millis(2_500);

/// An instance that was silent for this long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// The most instances that are followed; further ones are not listed, and their silence goes unnoticed.
const PEERS_MAX: usize = 1_024;

/// All instances that were heard of, this one among them.
#[derive(Debug, Default)]
pub struct Peers {
    peers: IndexMap<Arc<str>, Peer>,
}

/// One instance.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What it said of itself last.
    pub info: InstanceInfo,
    /// When that was.
    pub heard: Time,
    /// Whether that is too long ago.
    pub is_silent: bool,
    number: u64,
    /// Whether a beacon that is missing next tells of a loss that is known.
    is_excused: bool,
}

/// What a beacon says beside what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It follows the last one.
    InOrder,
    /// One before it is missing: announcements were lost.
    Missed,
}

impl Peer {
    /// An instance that was heard of at this moment.
    pub fn new(info: InstanceInfo, heard: Time) -> Self {
        Peer { info, heard, is_silent: false, number: 0, is_excused: false }
    }
}

impl Peers {
    /// A beacon came.
    pub fn handle_beacon(&mut self, beacon: &Beacon, now: Time) -> Heard {
        let id = &beacon.instance.id;
        let known = self.peers.get(id).map(|peer| peer.number);
        let is_excused = self.peers.get(id).is_some_and(|peer| peer.is_excused);
        if known.is_some_and(|last| beacon.number <= last) {
            // It came by several ways, and this is not the fastest.
            return Heard::InOrder;
        }
        if beacon.leaving {
            self.peers.shift_remove(id);
        } else if known.is_some() || self.peers.len() < PEERS_MAX {
            let (info, number) = (beacon.instance.clone(), beacon.number);
            self.peers
                .insert(id.clone(), Peer { info, heard: now, is_silent: false, number, is_excused: false });
        }
        match known {
            Some(_) if is_excused => Heard::InOrder,
            Some(last) if last + 1 != beacon.number && !ablated(Safeguard::Beacon) => Heard::Missed,
            _ => Heard::InOrder,
        }
    }

    /// Beacons may have been lost with the connection that they come by, and that loss is made good already: the next one of
    /// each instance tells only where it stands.
    pub fn handle_renewed(&mut self) {
        self.peers.values_mut().for_each(|peer| peer.is_excused = true);
    }

    /// Time has passed. True if an instance fell silent.
    pub fn handle_timeout(&mut self, now: Time) -> bool {
        let mut fell_silent = false;
        for peer in self.peers.values_mut().filter(|peer| !peer.is_silent) {
            peer.is_silent = peer.heard.after(SILENT_AFTER) <= now;
            fell_silent |= peer.is_silent;
        }
        self.peers.retain(|_, peer| peer.heard.after(FORGOTTEN_AFTER) > now);
        fell_silent && !ablated(Safeguard::Beacon)
    }

    /// All that are known, in the order in which they were first heard of.
    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// Whether the instance of that id was heard of lately.
    pub fn hears(&self, id: &str) -> bool {
        self.peers.get(id).is_some_and(|peer| !peer.is_silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beacon(id: &str, number: u64) -> Beacon {
        let instance = InstanceInfo { id: id.into(), ..InstanceInfo::default() };
        Beacon { instance, number, heads: Vec::new(), leaving: false }
    }

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    #[test]
    fn a_missing_number_is_a_loss_and_a_first_one_is_not() {
        let mut peers = Peers::default();
        assert_eq!(peers.handle_beacon(&beacon("a", 7), at(0)), Heard::InOrder);
        assert_eq!(peers.handle_beacon(&beacon("a", 8), at(1_000)), Heard::InOrder);
        assert_eq!(peers.handle_beacon(&beacon("b", 1), at(1_000)), Heard::InOrder);
        assert_eq!(peers.handle_beacon(&beacon("a", 10), at(2_000)), Heard::Missed);
        assert_eq!(peers.handle_beacon(&beacon("a", 11), at(3_000)), Heard::InOrder);
    }

    #[test]
    fn a_beacon_that_comes_by_several_ways_is_heard_once() {
        let mut peers = Peers::default();
        for (number, ms, expected) in [
            (1, 0, Heard::InOrder),
            (2, 1_000, Heard::InOrder),
            (1, 1_100, Heard::InOrder),
            (2, 1_100, Heard::InOrder),
            (3, 2_000, Heard::InOrder),
            (5, 3_000, Heard::Missed),
        ] {
            assert_eq!(peers.handle_beacon(&beacon("a", number), at(ms)), expected, "{number} at {ms}");
        }
        peers.handle_beacon(&beacon("a", 4), at(5_000));
        assert!(peers.handle_timeout(at(5_500)), "an old one is no sign of life");
    }

    #[test]
    fn a_beacon_that_was_lost_with_its_connection_is_no_further_loss() {
        let mut peers = Peers::default();
        peers.handle_beacon(&beacon("a", 1), at(0));
        peers.handle_renewed();
        assert_eq!(peers.handle_beacon(&beacon("a", 4), at(3_000)), Heard::InOrder);
        assert_eq!(peers.handle_beacon(&beacon("a", 6), at(5_000)), Heard::Missed, "one, and no more");
    }

    #[test]
    fn silence_is_noticed_once_and_a_farewell_is_none() {
        let mut peers = Peers::default();
        peers.handle_beacon(&beacon("a", 1), at(0));
        peers.handle_beacon(&beacon("b", 1), at(0));
        peers.handle_beacon(&Beacon { leaving: true, ..beacon("b", 2) }, at(10));
        assert!(!peers.handle_timeout(at(2_499)));
        assert!(peers.handle_timeout(at(2_500)));
        assert!(!peers.handle_timeout(at(2_600)), "once");
        assert!(!peers.hears("a"));
        assert_eq!(peers.iter().count(), 1, "b has left");
        peers.handle_timeout(at(60_000));
        assert_eq!(peers.iter().count(), 0);
    }
}
