//! Mutations at a fixed rate, several under way at a time where one takes longer than the pause between them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::touches::Touches;
use super::watchers::tag_name;
use crate::error::LoadError;
use crate::http::Target;
use crate::lane::Lane;

/// Enough for 1,000 a second, each of which takes 64 ms.
const UNDER_WAY_MAX: usize = 64;
/// Servers close connections on which nothing was asked for 5 s.
const IDLE_MAX: Duration = Duration::from_secs(2);

/// What sends mutations, each of which touches the next tag.
#[derive(Debug)]
pub(super) struct Mutator {
    target: Target,
    tags: u64,
    touches: Rc<RefCell<Touches>>,
    /// Connections on which nothing is under way, and since when; the last one used is taken first.
    idle: Vec<(Instant, Lane)>,
    /// Number of the next mutation.
    next: u64,
}

impl Mutator {
    pub(super) fn new(target: Target, tags: u64, touches: Rc<RefCell<Touches>>) -> Mutator {
        Mutator { target, tags, touches, idle: Vec::new(), next: 0 }
    }

    /// Sends so many more, one every `pause`; returns how long that took. An error if one is not acknowledged. Needs a
    /// `LocalSet`.
    pub(super) async fn send(&mut self, count: u64, pause: Duration) -> Result<Duration, LoadError> {
        let start = Instant::now();
        let mut under_way = JoinSet::new();
        for index in 0..count {
            sleep_until(start + pause.mul_f64(index as f64)).await;
            while let Some(lane) = match under_way.len() {
                UNDER_WAY_MAX => under_way.join_next().await,
                _ => under_way.try_join_next(),
            } {
                self.keep(lane.expect("a mutator reports its errors, it does not panic")?);
            }
            let mut lane = self.lane().await?;
            let (request, number) = (self.request(), self.next);
            self.touches.borrow_mut().sent(self.tag());
            self.next += 1;
            under_way.spawn_local(async move {
                lane.demand(&request, || format!("mutation {number}")).await?;
                Ok::<Lane, LoadError>(lane)
            });
        }
        while let Some(lane) = under_way.join_next().await {
            self.keep(lane.expect("a mutator reports its errors, it does not panic")?);
        }
        Ok(start.elapsed())
    }

    /// The tag that the next mutation touches.
    fn tag(&self) -> usize {
        (self.next % self.tags) as usize
    }

    fn request(&self) -> Vec<u8> {
        let body = serde_json::json!({"tags": [tag_name(self.tag())]}).to_string();
        self.target.request("POST", "/v1/invalidate", "content-type: application/json\r\n", body.as_bytes())
    }

    /// A connection that is free.
    async fn lane(&mut self) -> Result<Lane, LoadError> {
        match self.idle.pop().filter(|(since, _)| since.elapsed() < IDLE_MAX) {
            Some((_, lane)) => Ok(lane),
            None => Lane::open(&self.target).await,
        }
    }

    fn keep(&mut self, lane: Lane) {
        self.idle.push((Instant::now(), lane));
    }
}
