//! What the receiver takes in, in the order in which it does where several things are there.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::interest::WantedHere;
use super::line::FromLine;
use super::receiver::{Report, Request};
use super::shards::Map;

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(100);

/// The next thing.
pub(super) enum Input {
    /// Time has passed.
    Tick,
    /// Channels are on other servers than before.
    Map(Arc<Map>),
    /// Something was done for the receiver.
    Report(Report),
    /// Something is asked of it.
    Request(Request),
    /// The node wants to hear of other channels than before.
    Wanted,
    /// Something came by a line.
    Heard(FromLine),
}

/// Where they come from.
pub(super) struct Inputs {
    tick: Interval,
    maps: watch::Receiver<Arc<Map>>,
    reports: mpsc::Receiver<Report>,
    requests: mpsc::Receiver<Request>,
    wanted: Arc<WantedHere>,
    heard: mpsc::Receiver<FromLine>,
}

impl Inputs {
    pub(super) fn new(
        maps: watch::Receiver<Arc<Map>>,
        reports: mpsc::Receiver<Report>,
        requests: mpsc::Receiver<Request>,
        wanted: Arc<WantedHere>,
        heard: mpsc::Receiver<FromLine>,
    ) -> Self {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Inputs { tick, maps, reports, requests, wanted, heard }
    }

    /// The next input; `None` once the node or the broker is gone.
    pub(super) async fn next(&mut self) -> Option<Input> {
        tokio::select! {
            biased;
            // First, for it comes ten times a second at most: what is always there must not keep failed reads from being
            // tried again, heads from being compared, and lines that are silent from being given up.
            _ = self.tick.tick() => Some(Input::Tick),
            changed = self.maps.changed() => {
                changed.ok()?;
                Some(Input::Map(self.maps.borrow_and_update().clone()))
            }
            Some(report) = self.reports.recv() => Some(Input::Report(report)),
            request = self.requests.recv() => request.map(Input::Request),
            () = self.wanted.changed() => Some(Input::Wanted),
            Some(heard) = self.heard.recv() => Some(Input::Heard(heard)),
        }
    }

    /// What came by a line, if something is there.
    pub(super) fn try_heard(&mut self) -> Option<FromLine> {
        self.heard.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::broker::redis::line::Heard;

    /// Far more than three ticks take.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn announcements_that_are_always_there_do_not_stop_the_clock() {
        let (speaker, heard) = mpsc::channel(8);
        let (_maps, maps) = watch::channel(Arc::new(Map::default()));
        let (_reporter, reports) = mpsc::channel(1);
        let (_asker, requests) = mpsc::channel(1);
        let mut inputs = Inputs::new(maps, reports, requests, Arc::default(), heard);
        let (begun, mut ticks, mut announcements) = (Instant::now(), 0, 0);
        while ticks < 3 {
            assert!(begun.elapsed() < PATIENCE, "{ticks} ticks and {announcements} announcements");
            while speaker.try_send((1, Heard::Dropped(1))).is_ok() {}
            match inputs.next().await.expect("everybody is there") {
                Input::Tick => ticks += 1,
                Input::Heard(_) => announcements += 1,
                _ => unreachable!("nothing else comes"),
            }
        }
        assert!(announcements > ticks, "they are taken in between");
    }
}
