//! The counts of a run. What each of them means is decided in check.rs.

/// What was counted for one subscriber, or for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Publications received for the first time.
    pub(crate) delivered: u64,
    /// Publications missing without a word.
    pub(crate) lost: u64,
    /// Gaps declared by the server.
    pub(crate) gaps: u64,
    /// Publications missing inside declared gaps.
    pub(crate) declared: u64,
    /// Publications received again without a right to.
    pub(crate) duplicates: u64,
    /// Publications received again after an SSE reconnect, between the last cursor and the cut: at-least-once as promised.
    pub(crate) repeats: u64,
    /// Publications received after a later one.
    pub(crate) disorder: u64,
    /// Payloads that the publisher did not send, or not at that position.
    pub(crate) foreign: u64,
    /// Positions that do not follow from the one before: a jump, an epoch change without a word, a batch while catching up.
    pub(crate) discontinuities: u64,
    /// Reconnects answered by a recovery without a gap.
    pub(crate) resumed: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Tally) {
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.gaps += other.gaps;
        self.declared += other.declared;
        self.duplicates += other.duplicates;
        self.repeats += other.repeats;
        self.disorder += other.disorder;
        self.foreign += other.foreign;
        self.discontinuities += other.discontinuities;
        self.resumed += other.resumed;
    }
}
