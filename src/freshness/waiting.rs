//! Requests that wait until enough is known of a log: a session's until anything is, others until it has reached a position.
//!
//! A session waits with one request at a time, and not beyond its end. All together are bounded by the tags that they name.

use indexmap::IndexMap;
use tidings_protocol::Position;

use crate::hub::SessionId;

/// The most tags of all requests that wait, with one more for each: about 100 MB of the longest that are usual.
const TAGS_MAX: usize = 1 << 20;

/// See the module. `R` is a request.
#[derive(Debug)]
pub struct Waiting<R> {
    of_sessions: IndexMap<SessionId, (usize, R)>,
    others: Vec<Other<R>>,
    tags: usize,
}

#[derive(Debug)]
struct Other<R> {
    until: Position,
    tags: usize,
    request: R,
}

impl<R> Default for Waiting<R> {
    fn default() -> Self {
        Waiting { of_sessions: IndexMap::new(), others: Vec::new(), tags: 0 }
    }
}

impl<R> Waiting<R> {
    /// A session waits until anything is known. `Err` with the request where too many wait.
    pub fn wait(&mut self, session: SessionId, tags: usize, request: R) -> Result<(), R> {
        let before = self.of_sessions.get(&session).map_or(0, |(tags, _)| *tags);
        if self.tags - before + tags >= TAGS_MAX {
            return Err(request);
        }
        self.tags += tags + 1 - before;
        self.of_sessions.insert(session, (tags + 1, request));
        Ok(())
    }

    /// Somebody waits until the log has reached a position. `Err` with the request where too many wait.
    pub fn wait_until(&mut self, until: Position, tags: usize, request: R) -> Result<(), R> {
        if self.tags + tags >= TAGS_MAX {
            return Err(request);
        }
        self.tags += tags + 1;
        self.others.push(Other { until, tags: tags + 1, request });
        Ok(())
    }

    /// The session is gone.
    pub fn forget(&mut self, session: SessionId) {
        if let Some((tags, _)) = self.of_sessions.swap_remove(&session) {
            self.tags -= tags;
        }
    }

    /// Forgets the requests that nobody waits for any more.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(&R) -> bool) {
        let (others, tags) = (&mut self.others, &mut self.tags);
        others.retain(|other| {
            let is_wanted = is_wanted(&other.request);
            *tags -= if is_wanted { 0 } else { other.tags };
            is_wanted
        });
    }

    /// The log is known to be there: the requests that can be answered now.
    pub fn take_ready(&mut self, at: &Position) -> Vec<R> {
        if self.of_sessions.is_empty() && self.others.is_empty() {
            return Vec::new();
        }
        let is_ready = |other: &mut Other<R>| has_reached(at, &other.until);
        let others: Vec<Other<R>> = self.others.extract_if(.., is_ready).collect();
        let others = others.into_iter().map(|other| (other.tags, other.request));
        let ready = self.of_sessions.drain(..).map(|(_, of)| of).chain(others);
        let tags = &mut self.tags;
        ready
            .map(|(of, request)| {
                *tags -= of;
                request
            })
            .collect()
    }
}

/// Whether a log that stands at `at` has every mutation up to the other position. Another numbering is one that ended, or that
/// began since.
pub fn has_reached(at: &Position, until: &Position) -> bool {
    at.epoch == until.epoch && at.offset >= until.offset
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: &str) -> Position {
        position.parse().unwrap()
    }

    #[test]
    fn a_session_waits_with_its_last_request_and_not_beyond_its_end() {
        let mut waiting = Waiting::default();
        for (session, request) in [(1, "a"), (2, "b"), (1, "c")] {
            waiting.wait(SessionId(session), 10, request).unwrap();
        }
        waiting.forget(SessionId(2));
        waiting.forget(SessionId(7));
        assert_eq!(waiting.take_ready(&at("e.1")), ["c"]);
        assert_eq!(waiting.tags, 0);
    }

    #[test]
    fn others_wait_until_the_log_has_reached_their_position_in_its_numbering() {
        let mut waiting = Waiting::default();
        for (until, request) in [("e.5", 1), ("e.6", 2), ("f.1", 3), ("e.4", 4)] {
            waiting.wait_until(at(until), 1, request).unwrap();
        }
        assert_eq!(waiting.take_ready(&at("e.5")), [1, 4]);
        assert!(waiting.take_ready(&at("e.5")).is_empty());
        waiting.retain(|request| *request != 3);
        assert!(waiting.take_ready(&at("f.9")).is_empty());
        assert_eq!(waiting.take_ready(&at("e.9")), [2]);
        assert_eq!(waiting.tags, 0);
    }

    #[test]
    fn too_many_tags_do_not_wait_and_what_ends_makes_room() {
        let mut waiting = Waiting::default();
        waiting.wait(SessionId(1), TAGS_MAX / 2, ()).unwrap();
        waiting.wait_until(at("e.1"), TAGS_MAX / 2 - 2, ()).unwrap();
        assert!(waiting.wait(SessionId(2), 0, ()).is_err());
        assert!(waiting.wait_until(at("e.1"), 0, ()).is_err());
        waiting.forget(SessionId(1));
        waiting.wait(SessionId(2), TAGS_MAX / 2, ()).unwrap();
        assert_eq!(waiting.take_ready(&at("e.1")).len(), 2);
    }
}
