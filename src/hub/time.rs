//! Time as the pure layers know it.

use std::time::Duration;

/// A moment, counted from the start of the process (or of a simulation). Whoever calls a machine says what time it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

impl Time {
    /// The start.
    pub const ZERO: Time = Time(Duration::ZERO);

    /// The moment `duration` later.
    pub fn after(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(duration))
    }

    /// How long ago `earlier` was; zero if it is still to come.
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The end of the window that holds this moment. Windows of equal length end together, whoever counts them.
    pub fn window_end(self, window: Duration) -> Time {
        let window = window.as_nanos().max(1);
        let end = (self.0.as_nanos() / window + 1) * window;
        Time(Duration::from_nanos(u64::try_from(end).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_equal_length_end_together() {
        let ms = |ms| Time(Duration::from_millis(ms));
        let window = Duration::from_millis(100);
        for (now, end) in [(0, 100), (1, 100), (99, 100), (100, 200), (250, 300)] {
            assert_eq!(ms(now).window_end(window), ms(end), "at {now} ms");
        }
    }
}
