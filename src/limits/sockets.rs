//! HTTP sockets, by the address that they come from: one address holds at most as many as are still free, and gives up those
//! that it left idle longest before it is refused another.
//!
//! WebSockets and event streams are no longer counted here: they are connections, which have bounds of their own.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::{Caller, Name, Scope};

/// The sockets of all addresses.
#[derive(Debug)]
pub struct Sockets {
    /// Descriptors that sockets of all kinds may take.
    most: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// Places that were taken and not left.
    taken: usize,
    addresses: HashMap<Name, Held>,
    /// When a socket became idle, as a number that grows.
    moment: u64,
}

/// What one address holds.
#[derive(Debug, Default)]
struct Held {
    sockets: usize,
    /// Those without a request, the longest idle first.
    idle: BTreeMap<u64, Arc<Notify>>,
}

/// One HTTP socket's place.
#[derive(Debug)]
pub struct Place {
    sockets: Arc<Sockets>,
    state: Mutex<State>,
    evicted: Arc<Notify>,
}

/// Where a place stands. An address without a share, as a trusted proxy's, has no name.
#[derive(Debug)]
struct State {
    has_left: bool,
    name: Option<Name>,
    idle_since: Option<u64>,
}

impl Sockets {
    /// Nobody holds any of `most`.
    pub fn new(most: usize) -> Arc<Sockets> {
        Arc::new(Sockets { most, table: Mutex::default() })
    }

    /// Descriptors that sockets of all kinds may take.
    pub fn most(&self) -> usize {
        self.most
    }

    /// The number of places that are taken.
    pub fn taken(&self) -> usize {
        self.table.lock().expect("nobody panics with the table").taken
    }

    /// A place for one more socket, beside so many connections. `None` where its address holds as many as are free and none
    /// of them is idle.
    pub fn enter(self: &Arc<Sockets>, address: Option<IpAddr>, connections: usize) -> Option<Place> {
        let name = Caller::at(address).name(Scope::Address);
        let mut table = self.table.lock().expect("nobody panics with the table");
        if let Some(name) = &name {
            let free = self.most.saturating_sub(table.taken + connections);
            let held = table.addresses.entry(name.clone()).or_default();
            if held.sockets >= free.max(1) {
                let (_, evicted) = held.idle.pop_first()?;
                evicted.notify_one();
                held.sockets -= 1;
            }
            held.sockets += 1;
        }
        table.taken += 1;
        drop(table);
        let state = Mutex::new(State { has_left: false, name, idle_since: None });
        let place = Place { sockets: self.clone(), state, evicted: Arc::default() };
        place.rest();
        Some(place)
    }
}

impl Place {
    /// The socket has no request.
    pub fn rest(&self) {
        let mut state = self.state.lock().expect("nobody panics with a place");
        let Some(name) = &state.name else { return };
        let mut table = self.sockets.table.lock().expect("nobody panics with the table");
        table.moment += 1;
        let moment = table.moment;
        if let Some(held) = table.addresses.get_mut(name) {
            held.idle.insert(moment, self.evicted.clone());
            state.idle_since = Some(moment);
        }
    }

    /// The socket has a request.
    pub fn work(&self) {
        let mut state = self.state.lock().expect("nobody panics with a place");
        let (Some(name), Some(moment)) = (&state.name, state.idle_since) else { return };
        let mut table = self.sockets.table.lock().expect("nobody panics with the table");
        let was_there = table.addresses.get_mut(name).is_some_and(|held| held.idle.remove(&moment).is_some());
        drop(table);
        state.idle_since = None;
        if !was_there {
            // It was evicted, and is not counted any more.
            state.name = None;
        }
    }

    /// Notified when the place is another socket's.
    pub fn evicted(&self) -> Arc<Notify> {
        self.evicted.clone()
    }

    /// Stops counting the socket, which is a connection now.
    pub fn leave(&self) {
        self.work();
        let mut state = self.state.lock().expect("nobody panics with a place");
        let mut table = self.sockets.table.lock().expect("nobody panics with the table");
        table.taken -= usize::from(!std::mem::replace(&mut state.has_left, true));
        let Some(name) = state.name.take() else { return };
        if let Some(held) = table.addresses.get_mut(&name) {
            held.sockets -= 1;
            if held.sockets == 0 {
                table.addresses.remove(&name);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn is_evicted(place: &Place) -> bool {
        place.evicted().notified().now_or_never().is_some()
    }

    fn at(address: &str) -> Option<IpAddr> {
        Some(address.parse().unwrap())
    }

    #[test]
    fn one_address_holds_as_many_as_are_free_and_gives_up_its_idle_ones() {
        let sockets = Sockets::new(13);
        let places: Vec<_> =
            (0..5).map(|_| sockets.enter(at("10.0.0.1"), 3).expect("as many are free")).collect();
        places.iter().for_each(Place::work);
        assert!(sockets.enter(at("10.0.0.1"), 3).is_none(), "all of its five are at work, and five are free");
        let neighbour = sockets.enter(at("10.0.0.2"), 3).expect("another address has its own share");
        places[3].rest();
        places[1].rest();
        let next = sockets.enter(at("10.0.0.1"), 3).expect("in place of the one that was idle longest");
        assert!(is_evicted(&places[3]) && !is_evicted(&places[1]));
        assert_eq!(sockets.taken(), 7, "the one that must go has not gone yet");
        drop((places, neighbour, next));
        assert_eq!(
            (sockets.taken(), sockets.table.lock().unwrap().addresses.len()),
            (0, 0),
            "nothing is left"
        );
    }

    #[test]
    fn a_connection_or_a_proxy_does_not_count_to_an_address() {
        let sockets = Sockets::new(3);
        let proxies: Vec<_> = (0..2).map(|_| sockets.enter(None, 0).expect("a proxy has no share")).collect();
        let stream = sockets.enter(at("10.0.0.1"), 0).expect("the first");
        stream.work();
        assert!(sockets.enter(at("10.0.0.1"), 0).is_none());
        stream.leave();
        let next = sockets.enter(at("10.0.0.1"), 1).expect("what became a connection is counted as one");
        assert_eq!(sockets.taken(), 3);
        drop((proxies, stream, next));
        assert_eq!(sockets.taken(), 0);
    }
}
