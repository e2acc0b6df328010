//! Which mutations are on their way to whom, and how long each took.

use crate::clock::Clock;
use crate::latency::{Latency, LatencySummary};

/// Of wrong things so many are told in words.
const FINDINGS_MAX: usize = 10;

/// The tags, by number: who has to be told of the last mutation of each.
#[derive(Debug)]
pub(super) struct Touches {
    clock: Clock,
    tags: Vec<Touch>,
    phase: Phase,
    /// Clients that watch all that they want.
    pub(super) ready: usize,
    /// What was wrong, in words.
    findings: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Touch {
    watchers: u32,
    /// When the last mutation was sent.
    sent: u64,
    /// Clients that were not told of it yet.
    owed: u32,
}

#[derive(Debug)]
struct Phase {
    latency: Latency,
    lost: u64,
}

/// What became of the mutations of one phase.
#[derive(Debug)]
pub(super) struct Told {
    /// From sending a mutation to its receipt by a client.
    pub(super) latency: LatencySummary,
    /// Clients that were not told in time.
    pub(super) lost: u64,
}

impl Phase {
    fn new() -> Phase {
        Phase { latency: Latency::new(), lost: 0 }
    }
}

impl Touches {
    /// So many tags that nobody watches.
    pub(super) fn new(count: usize) -> Touches {
        let tags = vec![Touch::default(); count];
        Touches { clock: Clock::start(), tags, phase: Phase::new(), ready: 0, findings: Vec::new() }
    }

    /// A client is going to watch a tag.
    pub(super) fn watched(&mut self, tag: usize) {
        self.tags[tag].watchers += 1;
    }

    /// A mutation that touches the tag is sent now.
    pub(super) fn sent(&mut self, tag: usize) {
        let touch = &mut self.tags[tag];
        self.phase.lost += u64::from(touch.owed);
        (touch.sent, touch.owed) = (self.clock.now(), touch.watchers);
    }

    /// A client is told that the tag was touched.
    pub(super) fn told(&mut self, tag: usize) {
        let now = self.clock.now();
        match self.tags.get_mut(tag).filter(|touch| touch.owed > 0) {
            Some(touch) => {
                touch.owed -= 1;
                self.phase.latency.record(now - touch.sent);
            }
            None => self.complain(format!("tag {tag} was touched by nobody")),
        }
    }

    pub(super) fn complain(&mut self, finding: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    /// Whether everybody was told everything, or something went wrong.
    pub(super) fn is_settled(&self) -> bool {
        !self.findings.is_empty() || self.tags.iter().all(|touch| touch.owed == 0)
    }

    /// Ends a phase.
    pub(super) fn finish(&mut self) -> Told {
        let phase = std::mem::replace(&mut self.phase, Phase::new());
        let owed: u64 = self.tags.iter_mut().map(|touch| u64::from(std::mem::take(&mut touch.owed))).sum();
        Told { latency: phase.latency.summary(), lost: phase.lost + owed }
    }

    /// What was wrong so far, in words.
    pub(super) fn findings(&self) -> &[String] {
        &self.findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_who_watches_a_tag_is_owed_each_touch() {
        let mut touches = Touches::new(2);
        touches.watched(0);
        touches.watched(0);
        touches.sent(1);
        assert!(touches.is_settled(), "nobody watches it");
        touches.sent(0);
        touches.told(0);
        assert!(!touches.is_settled());
        touches.told(0);
        assert!(touches.is_settled());
        let told = touches.finish();
        assert_eq!((told.latency.count, told.lost), (2, 0));
    }

    #[test]
    fn who_is_not_told_before_the_next_touch_or_the_end_is_lost() {
        let mut touches = Touches::new(1);
        touches.watched(0);
        touches.sent(0);
        touches.sent(0);
        let told = touches.finish();
        assert_eq!((told.latency.count, told.lost), (0, 2));
        touches.told(0);
        assert_eq!(touches.findings(), ["tag 0 was touched by nobody"]);
    }
}
