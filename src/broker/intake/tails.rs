//! What came last of all channels, for those who resume.

use tidings_protocol::{Channel, Position};

use super::Intake;
use crate::hub::{Page, PageLimit, Time};

impl Intake {
    /// What the channel holds after `since`, or where it stands; `None` where only the broker can tell.
    pub fn resume(
        &mut self,
        channel: &Channel,
        since: Option<&Position>,
        limit: PageLimit,
        now: Time,
    ) -> Option<Page> {
        let feed = self.feeds.get_mut(channel)?;
        let before = feed.tail_bytes();
        let page = feed.resume(since, limit, now);
        self.tail_bytes = self.tail_bytes - before + feed.tail_bytes();
        page
    }

    /// Drops what is oldest where all of them together hold too much.
    pub(super) fn bound_tails(&mut self) {
        if self.tail_bytes <= self.limits.tail_bytes_max {
            return;
        }
        let enough = self.limits.tail_bytes_max / 10 * 9;
        for feed in self.feeds.values_mut() {
            while self.tail_bytes > enough {
                match feed.drop_oldest() {
                    0 => break,
                    bytes => self.tail_bytes -= bytes,
                }
            }
        }
    }
}
