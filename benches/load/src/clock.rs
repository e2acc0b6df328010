//! The run's clock: what stamps in payloads and latencies are measured by.

use std::time::Instant;

/// Monotonic nanoseconds since the run began; copies agree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Clock { start: Instant::now() }
    }

    /// Nanoseconds since the start; 2^64 of them are 584 years.
    pub(crate) fn now(self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}
