//! An inquiry: one question to all instances, and what is known of the answers.
//!
//! ```text
//!   open ──── every instance that was heard of lately has answered ────▶ over
//!     └──────────────────────────── 2 s ──────────────────────────────────▲
//! ```
//!
//! An instance that fell silent is not waited for, and yet it is missing until it answers: nobody knows what it still
//! serves. It does not know how questions and answers travel.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidings_protocol::{ClusterAnswer, ConnectionInfo};

use crate::hub::Time;

/// How long instances have for their answers: what an operator waits for, and a broker's slow second.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most instances whose answers are taken in: twice as many as are ever listed.
const INSTANCES_MAX: usize = 2_048;

/// One question that is out.
#[derive(Debug)]
pub(super) struct Inquiry {
    instances: BTreeMap<Arc<str>, Standing>,
    until: Time,
    limit: usize,
    count: u64,
    connections: Vec<(Arc<str>, ConnectionInfo)>,
}

/// How one instance stands to the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Its answer is waited for.
    Owed,
    /// Its answer would be a surprise.
    Silent,
    /// It has answered.
    Answered,
}

/// What the instances have answered together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The connections that were asked for.
    pub count: u64,
    /// Some of them, each with its instance; whoever answered first comes first.
    pub connections: Vec<(Arc<str>, ConnectionInfo)>,
    /// The instances that answered.
    pub answered: Vec<Arc<str>>,
    /// The instances that did not: what they have is in none of the above.
    pub missing: Vec<Arc<str>>,
}

impl Inquiry {
    /// A question of the instance `asker`, at most `limit` connections of whose answers are kept. The others are named
    /// with whether they are silent.
    pub(super) fn new(
        asker: &Arc<str>,
        others: impl IntoIterator<Item = (Arc<str>, bool)>,
        limit: usize,
        now: Time,
    ) -> Self {
        let standing = |silent| if silent { Standing::Silent } else { Standing::Owed };
        let mut instances: BTreeMap<_, _> =
            others.into_iter().take(INSTANCES_MAX).map(|(id, silent)| (id, standing(silent))).collect();
        // It is here, whatever others have heard of it.
        instances.insert(asker.clone(), Standing::Owed);
        Inquiry { instances, until: now.after(PATIENCE), limit, count: 0, connections: Vec::new() }
    }

    /// An instance answered. Its second answer, if one comes, counts for nothing.
    pub(super) fn handle_answer(&mut self, from: &Arc<str>, answer: ClusterAnswer) {
        let is_known = self.instances.contains_key(from);
        if !is_known && self.instances.len() >= INSTANCES_MAX {
            return;
        }
        if self.instances.insert(from.clone(), Standing::Answered) == Some(Standing::Answered) {
            return;
        }
        self.count = self.count.saturating_add(answer.count);
        let room = self.limit.saturating_sub(self.connections.len());
        let listed = answer.connections.into_iter().take(room);
        self.connections.extend(listed.map(|connection| (from.clone(), connection)));
    }

    /// Whether there is nothing more to wait for.
    pub(super) fn is_over(&self, now: Time) -> bool {
        self.until <= now || !self.instances.values().any(|standing| *standing == Standing::Owed)
    }

    /// When it is over at the latest.
    pub(super) fn until(&self) -> Time {
        self.until
    }

    /// What came of it.
    pub(super) fn finish(self) -> Findings {
        let mut findings =
            Findings { count: self.count, connections: self.connections, ..Findings::default() };
        for (id, standing) in self.instances {
            match standing {
                Standing::Answered => findings.answered.push(id),
                Standing::Owed | Standing::Silent => findings.missing.push(id),
            }
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_protocol::Transport;

    const NOW: Time = Time::ZERO;

    fn inquiry(others: &[(&str, bool)]) -> Inquiry {
        Inquiry::new(&"me".into(), others.iter().map(|(id, silent)| (Arc::from(*id), *silent)), 3, NOW)
    }

    fn answer(count: u64, listed: usize) -> ClusterAnswer {
        let connection = ConnectionInfo {
            session: "s-1".to_owned(),
            user: None,
            transport: Transport::Sse,
            since: 0,
            channels: 0,
        };
        ClusterAnswer { count, connections: vec![connection; listed] }
    }

    fn hear(inquiry: &mut Inquiry, from: &str) {
        inquiry.handle_answer(&from.into(), answer(1, 0));
    }

    fn names(ids: &[Arc<str>]) -> Vec<&str> {
        ids.iter().map(|id| &**id).collect()
    }

    #[test]
    fn it_is_over_when_all_who_were_heard_of_have_answered() {
        let mut inquiry = inquiry(&[("a", false), ("b", false), ("me", false)]);
        for from in ["b", "me"] {
            hear(&mut inquiry, from);
            assert!(!inquiry.is_over(NOW), "after {from}");
        }
        hear(&mut inquiry, "a");
        assert!(inquiry.is_over(NOW));
        let findings = inquiry.finish();
        assert_eq!((findings.count, names(&findings.answered)), (3, vec!["a", "b", "me"]));
        assert_eq!(names(&findings.missing), Vec::<&str>::new());
    }

    #[test]
    fn whoever_does_not_answer_in_time_is_missing() {
        let mut inquiry = inquiry(&[("a", false), ("b", false)]);
        hear(&mut inquiry, "a");
        assert!(!inquiry.is_over(Time(PATIENCE - Duration::from_millis(1))));
        assert!(inquiry.is_over(inquiry.until()));
        let findings = inquiry.finish();
        assert_eq!((names(&findings.answered), names(&findings.missing)), (vec!["a"], vec!["b", "me"]));
    }

    #[test]
    fn a_silent_instance_is_not_waited_for_and_is_missing_unless_it_answers() {
        let mut silent = inquiry(&[("a", true)]);
        hear(&mut silent, "me");
        assert!(silent.is_over(NOW));
        assert_eq!(names(&silent.finish().missing), ["a"]);
        let mut speaks = inquiry(&[("a", true)]);
        hear(&mut speaks, "a");
        assert!(!speaks.is_over(NOW), "this instance is still owed");
        hear(&mut speaks, "me");
        assert_eq!(names(&speaks.finish().answered), ["a", "me"]);
    }

    #[test]
    fn an_instance_counts_once_and_one_that_nobody_had_heard_of_counts_too() {
        let mut inquiry = inquiry(&[]);
        for from in ["me", "me", "new", "new"] {
            hear(&mut inquiry, from);
        }
        let findings = inquiry.finish();
        assert_eq!((findings.count, names(&findings.answered)), (2, vec!["me", "new"]));
    }

    #[test]
    fn no_more_is_kept_than_was_asked_for_and_all_is_counted() {
        let mut inquiry = inquiry(&[("a", false)]);
        inquiry.handle_answer(&"a".into(), answer(70, 2));
        inquiry.handle_answer(&"me".into(), answer(5, 2));
        let findings = inquiry.finish();
        let of: Vec<&str> = findings.connections.iter().map(|(id, _)| &**id).collect();
        assert_eq!((findings.count, of), (75, vec!["a", "a", "me"]));
    }

    #[test]
    fn instances_without_end_take_no_memory_without_end() {
        let mut inquiry = inquiry(&[]);
        for number in 0..2 * INSTANCES_MAX {
            hear(&mut inquiry, &number.to_string());
        }
        assert_eq!(inquiry.finish().answered.len(), INSTANCES_MAX - 1, "this instance has its place");
    }
}
