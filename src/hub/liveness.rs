//! Whether the peer is still there: when to ask, and when to give up.

use std::time::Duration;

use super::Time;

/// How often to ask and how long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    /// A ping goes out this often.
    pub interval: Duration,
    /// Silence this long means that the peer is gone; `None` for a transport on which the peer never speaks.
    pub timeout: Option<Duration>,
}

/// When the peer was last heard, and when to ask again.
#[derive(Debug)]
pub struct Liveness {
    heartbeat: Heartbeat,
    heard: Time,
    next_ping: Time,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Send a ping.
    Ping,
    /// The peer is gone.
    Dead,
    /// Nothing yet.
    Nothing,
}

impl Liveness {
    /// A peer heard just now. `jitter` (0 to 1) spreads the first ping over the interval, so that peers who came
    /// together are not asked together.
    pub fn new(heartbeat: Heartbeat, jitter: f64, now: Time) -> Self {
        let first = heartbeat.interval.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        Liveness { heartbeat, heard: now, next_ping: now.after(first) }
    }

    /// A byte came: any byte is life.
    pub fn hear(&mut self, now: Time) {
        self.heard = now;
    }

    /// When to look again.
    pub fn due_at(&self) -> Time {
        let dead_at = self.heartbeat.timeout.map(|timeout| self.heard.after(timeout));
        dead_at.map_or(self.next_ping, |dead_at| dead_at.min(self.next_ping))
    }

    /// What is due now.
    pub fn check(&mut self, now: Time) -> Due {
        if self.heartbeat.timeout.is_some_and(|timeout| now.since(self.heard) >= timeout) {
            return Due::Dead;
        }
        if now < self.next_ping {
            return Due::Nothing;
        }
        self.next_ping = now.after(self.heartbeat.interval);
        Due::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_peer_is_asked_and_then_given_up() {
        let seconds = |s| Time(Duration::from_secs(s));
        let heartbeat =
            Heartbeat { interval: Duration::from_secs(25), timeout: Some(Duration::from_secs(60)) };
        let mut liveness = Liveness::new(heartbeat, 1.0, Time::ZERO);
        assert_eq!(liveness.check(seconds(24)), Due::Nothing);
        assert_eq!(liveness.check(seconds(25)), Due::Ping);
        liveness.hear(seconds(26));
        assert_eq!(liveness.check(seconds(50)), Due::Ping);
        assert_eq!(liveness.check(seconds(75)), Due::Ping);
        assert_eq!(liveness.due_at(), seconds(86));
        assert_eq!(liveness.check(seconds(86)), Due::Dead);
    }

    #[test]
    fn a_peer_that_never_speaks_is_never_given_up() {
        let heartbeat = Heartbeat { interval: Duration::from_secs(25), timeout: None };
        let mut liveness = Liveness::new(heartbeat, 0.0, Time::ZERO);
        assert_eq!(liveness.check(Time(Duration::from_secs(600))), Due::Ping);
    }
}
