//! The clock: the one place that asks the machine what time it is. Below `node.rs` time is an argument.

use std::time::{Instant, SystemTime};

use crate::hub::Time;

/// Moments since the process started, and the wall clock's milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Clock { start: Instant::now() }
    }

    /// The moment that it is.
    pub fn now(&self) -> Time {
        Time(self.start.elapsed())
    }

    /// When `time` is, for the runtime's timers.
    pub fn instant(&self, time: Time) -> tokio::time::Instant {
        (self.start + time.0).into()
    }

    /// Milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since_1970.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
