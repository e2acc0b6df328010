//! Lets no more be on its way to a server than its link takes in in time. The rest waits here for a moment, and is refused while
//! it is still certain that nothing of it was stored.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::answer::Failed;
use super::window::{Fate, Window};
use crate::broker::BrokerError;
use crate::clock::Clock;
use crate::hub::Time;

/// How long something waits for its turn. With the time that answers may take then, it is answered within 2 s.
const TURN_TIMEOUT: Duration = Duration::from_millis(500);

/// What is no larger does not wait behind what is.
const SMALL_BYTES: usize = 16 << 10;

/// The part of the window that is for what is small: one in so many.
const SMALL_PART: usize = 4;

/// The pace of one connection.
pub(super) struct Pace {
    window: Mutex<Window>,
    small: Pot,
    large: Pot,
    clock: Clock,
}

/// The permits of a part of the window; each is a KiB.
struct Pot {
    free: Semaphore,
    all: Mutex<usize>,
}

/// A place on the way.
pub(super) struct Turn<'a> {
    pot: &'a Pot,
    bytes: usize,
    since: Time,
    _permit: SemaphorePermit<'a>,
}

impl Pace {
    pub(super) fn new(bytes_max: usize, clock: Clock) -> Self {
        let window = Window::new(bytes_max, clock.now());
        let (small, large) = parts(&window);
        Pace { window: Mutex::new(window), small: Pot::new(small), large: Pot::new(large), clock }
    }

    /// Waits until something of this size may be sent.
    pub(super) async fn turn(&self, bytes: usize) -> Result<Turn<'_>, Failed> {
        let pot = if bytes <= SMALL_BYTES { &self.small } else { &self.large };
        // What is larger than the window is sent alone.
        let kib = bytes.div_ceil(1_024).clamp(1, pot.all());
        let permit = timeout(TURN_TIMEOUT, pot.free.acquire_many(kib as u32)).await;
        match permit {
            Ok(Ok(permit)) => Ok(Turn { pot, bytes, since: self.clock.now(), _permit: permit }),
            Ok(Err(_)) | Err(_) => Err(Failed::Broker(BrokerError::Overloaded)),
        }
    }

    /// It was answered, or not.
    pub(super) fn end(&self, turn: Turn<'_>, fate: Fate) {
        let mut window = self.window.lock().expect("nobody panics with the window");
        window.handle(fate, turn.bytes.max(1_024), turn.since, turn.pot.is_used(), self.clock.now());
        let (small, large) = parts(&window);
        self.small.set(small);
        self.large.set(large);
    }
}

/// What of the window is for what is small, and for what is large, in KiB.
fn parts(window: &Window) -> (usize, usize) {
    let all = window.bytes() / 1_024;
    (all / SMALL_PART, all - all / SMALL_PART)
}

impl Pot {
    fn new(all: usize) -> Self {
        Pot { free: Semaphore::new(all), all: Mutex::new(all) }
    }

    fn all(&self) -> usize {
        *self.all.lock().expect("nobody panics with it")
    }

    /// Whether half of it is taken at least.
    fn is_used(&self) -> bool {
        self.free.available_permits() * 2 <= self.all()
    }

    /// From now on there are so many; those that are taken go when they come back, one answer later.
    fn set(&self, wanted: usize) {
        let mut all = self.all.lock().expect("nobody panics with it");
        if wanted > *all {
            self.free.add_permits(wanted - *all);
            *all = wanted;
        } else {
            *all -= self.free.forget_permits(*all - wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_small_does_not_wait_behind_what_is_large_and_what_waits_too_long_is_refused() {
        let pace = Pace::new(1 << 20, Clock::start());
        let large = pace.turn(600 << 10).await.expect("there is room");
        let refused = pace.turn(600 << 10).await.err();
        assert_eq!(refused, Some(Failed::Broker(BrokerError::Overloaded)));
        let small = pace.turn(10).await.expect("it has its own room");
        pace.end(large, Fate::Answered);
        let alone = pace.turn(8 << 20).await.expect("what is larger than the window is sent alone");
        assert!(pace.turn(600 << 10).await.is_err());
        drop(alone);
        pace.turn(600 << 10).await.expect("who gives up gives its place back");
        pace.end(small, Fate::Unknown);
        // The first answer was late: seven tenths of it. The second did not come: half of that.
        assert_eq!((pace.small.all(), pace.large.all()), (89, 269));
        pace.turn(200 << 10).await.expect("what was taken came back");
    }
}
