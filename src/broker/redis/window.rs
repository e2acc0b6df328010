//! How many bytes may be on their way to a server at once: as many as it takes in within a fraction of a second. Measured by
//! how long answers take, since a slow link shows itself by nothing else before it is too late: what is sent into it beyond
//! that waits in buffers, and its time is over before it arrives.
//!
//! ```text
//!   answers soon, and all of the window was used ──▶ it doubles with each round
//!   answers late ──▶ it shrinks, once in a round       (D. Chiu and R. Jain, 1989: additive increase, multiplicative decrease;
//!   long not used ──▶ what it says is old: it halves     L. Brakmo and L. Peterson, 1995: delay tells before loss does)
//! ```
//!
//! Pure: the moments come in.

use std::time::Duration;

use crate::hub::Time;

/// Answers that take longer tell of a queue on the way: less than a third of the time after which one is given up.
pub(super) const LATE_AFTER: Duration = Duration::from_millis(400);

/// At the start, and again after a long pause: 100 ms of a link of 10 MB/s.
const BYTES_AT_START: usize = 1 << 20;

/// The least: something must be on its way to be measured.
const BYTES_MIN: usize = 256 << 10;

/// What was not needed for so long is no longer relied on.
const UNUSED_AFTER: Duration = Duration::from_secs(10);

/// The window of one connection.
#[derive(Debug)]
pub(super) struct Window {
    bytes: usize,
    bytes_max: usize,
    /// When it was last made smaller.
    shrunk: Time,
    /// When all of it was last used.
    used: Time,
}

/// What became of something that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Answered,
    /// No answer came in time.
    Unknown,
}

impl Window {
    pub(super) fn new(bytes_max: usize, now: Time) -> Self {
        let bytes_max = bytes_max.max(BYTES_MIN);
        Window { bytes: BYTES_AT_START.min(bytes_max), bytes_max, shrunk: now, used: now }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Something of this size, sent at that moment, met its fate; `is_used` tells whether the window was used by half at least.
    pub(super) fn handle(&mut self, fate: Fate, bytes: usize, sent: Time, is_used: bool, now: Time) {
        let took = now.0.saturating_sub(sent.0);
        if fate == Fate::Unknown || took > LATE_AFTER {
            // What was sent before tells nothing of how it is since, but that it goes on.
            if sent >= self.shrunk || self.shrunk.after(LATE_AFTER) <= now {
                self.shrunk = now;
                self.set(if fate == Fate::Unknown { self.bytes / 2 } else { self.bytes / 10 * 7 });
            }
        } else if is_used {
            self.used = now;
            let more = if took < LATE_AFTER / 2 { bytes } else { bytes.saturating_mul(bytes) / self.bytes };
            self.set(self.bytes.saturating_add(more));
        }
        if self.used.after(UNUSED_AFTER) <= now {
            self.used = now;
            self.set((self.bytes / 2).max(self.bytes.min(BYTES_AT_START)));
        }
    }

    fn set(&mut self, bytes: usize) {
        self.bytes = bytes.clamp(BYTES_MIN, self.bytes_max);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const MAX: usize = 64 << 20;
    const MB: f64 = 1e6;

    /// A link that takes in so many bytes a second, one thing after the other, and senders that always have more.
    struct Link {
        window: Window,
        now: f64,
        /// When the link is done with all that was sent.
        free_at: f64,
        /// Size, when it was sent, when it is done.
        sent: VecDeque<(usize, f64, f64)>,
        in_flight: usize,
        slowest: f64,
        done: usize,
    }

    fn time(seconds: f64) -> Time {
        Time(Duration::from_secs_f64(seconds))
    }

    impl Link {
        fn new() -> Link {
            let window = Window::new(MAX, Time::ZERO);
            let sent = VecDeque::new();
            Link { window, now: 0.0, free_at: 0.0, sent, in_flight: 0, slowest: 0.0, done: 0 }
        }

        /// Sends things of one size for so long; returns the bytes a second that came through, and the slowest answer.
        fn run(&mut self, seconds: f64, rate: f64, size: usize) -> (f64, f64) {
            let until = self.now + seconds;
            (self.slowest, self.done) = (0.0, 0);
            while self.now < until {
                while self.in_flight + size <= self.window.bytes() || self.sent.is_empty() {
                    self.in_flight += size;
                    self.free_at = self.free_at.max(self.now) + size as f64 / rate;
                    self.sent.push_back((size, self.now, self.free_at + 0.001));
                }
                let is_used = self.in_flight * 2 >= self.window.bytes();
                let (size, sent, done) = self.sent.pop_front().expect("something is on its way");
                self.in_flight -= size;
                self.now = done;
                self.slowest = self.slowest.max(done - sent);
                self.done += size;
                self.window.handle(Fate::Answered, size, time(sent), is_used, time(done));
            }
            (self.done as f64 / seconds, self.slowest)
        }
    }

    #[test]
    fn a_slow_link_is_used_fully_and_answers_in_time() {
        for (rate, size) in
            [(20.0 * MB, 500_000), (4.0 * MB, 200_000), (4.0 * MB, 1_024), (1_000.0 * MB, 1_000_000)]
        {
            let mut link = Link::new();
            link.run(2.0, rate, size);
            let (came, slowest) = link.run(20.0, rate, size);
            assert!(came > 0.9 * rate, "{came} of {rate} bytes a second, {size} each");
            assert!(slowest < 0.75, "{slowest} s at {rate}, {size} each");
        }
    }

    #[test]
    fn a_link_that_becomes_slower_or_faster_is_followed() {
        let mut link = Link::new();
        link.run(10.0, 20.0 * MB, 100_000);
        link.run(6.0, 2.0 * MB, 100_000);
        let (came, slowest) = link.run(10.0, 2.0 * MB, 100_000);
        assert!(came > 1.8 * MB && slowest < 0.75, "{came} bytes a second, {slowest} s");
        let (came, _) = link.run(10.0, 50.0 * MB, 100_000);
        assert!(came > 45.0 * MB, "{came} bytes a second");
    }

    #[test]
    fn what_was_not_needed_for_long_and_what_got_no_answer_makes_it_smaller_within_bounds() {
        let mut window = Window::new(MAX, Time::ZERO);
        for round in 0..200 {
            window.handle(
                Fate::Answered,
                1 << 20,
                time(f64::from(round)),
                true,
                time(f64::from(round) + 0.01),
            );
        }
        assert_eq!(window.bytes(), MAX);
        window.handle(Fate::Answered, 100, time(220.0), false, time(220.0));
        assert_eq!(window.bytes(), MAX / 2);
        for _ in 0..5 {
            window.handle(Fate::Unknown, 100, time(220.0), true, time(221.5));
        }
        assert_eq!(window.bytes(), MAX / 4, "once for all that were under way together");
        for second in 0..100 {
            window.handle(
                Fate::Unknown,
                100,
                time(222.0 + f64::from(second)),
                true,
                time(222.5 + f64::from(second)),
            );
        }
        assert_eq!(window.bytes(), BYTES_MIN);
        assert_eq!(Window::new(1, Time::ZERO).bytes(), BYTES_MIN, "one thing is always on its way");
    }
}
