//! Connections at once, by address, user and tenant: a place for each, given back when it is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tidings_protocol::{Code, Problem};

use super::{Caller, Name, Scope};
use crate::config::Limits;

/// How many connections there may be at once at each level; 0 where they are not counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeatLimits {
    /// Of everybody.
    pub instance: usize,
    /// Of one address.
    pub address: usize,
    /// Of one user.
    pub user: usize,
    /// Of one tenant.
    pub tenant: usize,
}

impl From<&Limits> for SeatLimits {
    fn from(limits: &Limits) -> SeatLimits {
        SeatLimits {
            instance: limits.connections_max,
            address: limits.address_connections_max,
            user: limits.user_connections_max,
            tenant: limits.tenant_connections_max,
        }
    }
}

/// The places that are taken. There are at most three entries for each connection.
#[derive(Debug, Default)]
pub struct Seats {
    taken: Mutex<HashMap<(Scope, Name), usize>>,
}

/// The places of one connection.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    /// Most have none or one: no room is kept for more, in each of thousands of connections.
    places: Vec<(Scope, Name)>,
}

impl Seats {
    /// A place at each level at which the caller is known, or none at all.
    pub fn take(self: &Arc<Self>, caller: &Caller, limits: SeatLimits) -> Result<Seat, (Scope, Problem)> {
        let mut seat = Seat { seats: self.clone(), places: Vec::new() };
        let levels = [
            (Scope::Address, limits.address),
            (Scope::User, limits.user),
            (Scope::Tenant, limits.tenant),
            (Scope::Instance, limits.instance),
        ];
        for (scope, most) in levels.into_iter().filter(|(_, most)| *most > 0) {
            let Some(name) = caller.name(scope) else { continue };
            // What was taken before is given back with the seat.
            if !self.enter((scope, name.clone()), most) {
                let problem = match scope {
                    Scope::Instance => {
                        let message = "this instance has limits.connections_max connections: try again later or elsewhere";
                        Problem::new(Code::Overloaded, message)
                    }
                    scope => {
                        let message =
                            format!("limits.{}_connections_max is {most}: close one first", scope.as_str());
                        Problem::new(Code::LimitReached, message)
                    }
                };
                return Err((scope, problem));
            }
            seat.places.push((scope, name));
        }
        Ok(seat)
    }

    fn enter(&self, place: (Scope, Name), most: usize) -> bool {
        let mut taken = self.taken.lock().expect("nothing panics while it counts");
        let count = taken.entry(place).or_default();
        let has_room = *count < most;
        *count += usize::from(has_room);
        has_room
    }

    fn leave(&self, place: &(Scope, Name)) {
        let mut taken = self.taken.lock().expect("nothing panics while it counts");
        if let Some(count) = taken.get_mut(place) {
            *count -= 1;
            if *count == 0 {
                taken.remove(place);
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.places.iter().for_each(|place| self.seats.leave(place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_of_the_instance_is_taken_when_it_is_given_and_not_when_the_connection_is_there() {
        let seats = Arc::new(Seats::default());
        let limits = SeatLimits { instance: 2, ..SeatLimits::default() };
        let take =
            || seats.take(&Caller::default(), limits).map_err(|(scope, problem)| (scope, problem.code));
        let (first, second) = (take().unwrap(), take().unwrap());
        assert_eq!(take().unwrap_err(), (Scope::Instance, Code::Overloaded), "two handshakes are under way");
        drop(first);
        assert!(take().is_ok());
        drop(second);
        assert!(seats.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn a_place_is_taken_at_every_level_or_at_none_and_given_back() {
        let seats = Arc::new(Seats::default());
        let limits = SeatLimits { instance: 0, address: 0, user: 2, tenant: 3 };
        let of = |user: &str| Caller {
            user: Some(user.into()),
            tenant: Some("acme".into()),
            address: Some([127, 0, 0, 1].into()),
            ..Caller::default()
        };
        let take =
            |user: &str| seats.take(&of(user), limits).map_err(|(scope, problem)| (scope, problem.code));
        let (first, _second) = (take("ada").unwrap(), take("ada").unwrap());
        assert_eq!(take("ada").unwrap_err(), (Scope::User, Code::LimitReached));
        let _third = take("bob").unwrap();
        assert_eq!(take("bob").unwrap_err().0, Scope::Tenant);
        drop(first);
        let fourth = take("bob").expect("what was refused took no place");
        assert_eq!(seats.taken.lock().unwrap().len(), 3);
        drop((fourth, _second, _third));
        assert!(seats.taken.lock().unwrap().is_empty(), "nothing is left of whoever is gone");
        assert!(seats.take(&of("ada"), SeatLimits::default()).unwrap().places.is_empty());
    }
}
